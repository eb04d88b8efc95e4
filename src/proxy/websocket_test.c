/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/websocket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
the_example_of_the_rfc_is_answered_as_it_says(void **state)
{
    char accept[WEBSOCKET_ACCEPT];

    websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept); /* RFC 6455 1.3 */
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
no_key_is_asked_with_twice(void **state)
{
    struct rng rng;
    char one[WEBSOCKET_KEY], two[WEBSOCKET_KEY];

    rng_seed(&rng, 1);
    websocket_key(&rng, one);
    websocket_key(&rng, two);
    assert_int_equal(strlen(one), WEBSOCKET_KEY - 1);
    assert_string_equal(one + WEBSOCKET_KEY - 3, "=="); /* 16 bytes */
    assert_string_not_equal(one, two);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc_is_answered_as_it_says),
        cmocka_unit_test(no_key_is_asked_with_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
