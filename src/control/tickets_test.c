/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The keys of session tickets: what balancers have in common, and for how long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "control/tickets.h"

static const uint8_t no_boot[KEYRING_BOOT_BYTES];

static struct keyring *
ring(unsigned n, ...)
{
    struct keyfile f = {.n = n};
    va_list ap;

    va_start(ap, n);
    for (unsigned i = 0; i < n; i++)
        memset(f.key[i], va_arg(ap, int), KEYFILE_KEY_BYTES);
    va_end(ap);
    return keyring_new(&f, no_boot);
}

/* Can b open what a seals? */
static bool
opens(const struct keyring *a, int64_t hour_a, const struct keyring *b, int64_t hour_b)
{
    struct tls_ticket_key ka[TLS_TICKET_KEYS_MAX], kb[TLS_TICKET_KEYS_MAX];
    unsigned n = tickets_derive(b, hour_b, kb);

    tickets_derive(a, hour_a, ka);
    for (unsigned i = 0; i < n; i++)
        if (memcmp(&ka[0], &kb[i], sizeof(ka[0])) == 0)
            return true;
    return false;
}

static void
the_hour_before_and_the_next_are_known(void **state)
{
    struct keyring *a = ring(1, 7), *b = ring(1, 7);

    assert_true(opens(a, 1000, b, 1000));
    assert_true(opens(a, 1000, b, 1001));
    assert_true(opens(a, 1000, b, 999));
    assert_false(opens(a, 1000, b, 1002));
    assert_false(opens(a, 1000, b, 998));
    keyring_free(&a);
    keyring_free(&b);
}

static void
another_clusters_tickets_are_not_opened(void **state)
{
    struct keyring *a = ring(1, 7), *b = ring(1, 8);

    assert_false(opens(a, 1000, b, 1000));
    keyring_free(&a);
    keyring_free(&b);
}

static void
a_rotation_of_keys_loses_no_session(void **state)
{
    struct keyring *old = ring(1, 7), *both = ring(2, 7, 8), *turned = ring(2, 8, 7);

    assert_true(opens(old, 1000, both, 1000));
    assert_true(opens(both, 1000, old, 1000));
    assert_true(opens(both, 1000, turned, 1001));
    assert_true(opens(turned, 1000, both, 1000));
    assert_false(opens(turned, 1000, old, 1000)); /* it has to learn the new key first */
    keyring_free(&old);
    keyring_free(&both);
    keyring_free(&turned);
}

static void
all_keys_differ(void **state)
{
    struct keyring *a = ring(2, 7, 8);
    struct tls_ticket_key k[TLS_TICKET_KEYS_MAX];
    unsigned n = tickets_derive(a, 1000, k);

    assert_int_equal(n, 6);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < i; j++) {
            assert_memory_not_equal(k[i].name, k[j].name, sizeof(k[i].name));
            assert_memory_not_equal(k[i].cipher, k[j].cipher, sizeof(k[i].cipher));
            assert_memory_not_equal(k[i].mac, k[j].mac, sizeof(k[i].mac));
        }
    keyring_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hour_before_and_the_next_are_known),
        cmocka_unit_test(another_clusters_tickets_are_not_opened),
        cmocka_unit_test(a_rotation_of_keys_loses_no_session),
        cmocka_unit_test(all_keys_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
