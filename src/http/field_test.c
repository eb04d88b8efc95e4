/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "base/str.h"

static const char *const names[] = {[FIELD_OTHER] = "",
#define X(id, name, hop) [FIELD_##id] = name,
                                    HTTP_FIELDS(X)
#undef X
};

/* What field_lookup() must answer, said slowly. */
static enum field_id
lookup_slowly(const char *name, size_t n)
{
    for (unsigned id = 1; id < FIELD_N; id++)
        if (str_eq_ci(str_of(names[id]), (struct str){name, n}))
            return (enum field_id)id;
    return FIELD_OTHER;
}

static void
every_name_is_found_in_any_case(void **state)
{
    char text[64];
    struct rng r;

    rng_seed(&r, 1);
    for (unsigned id = 1; id < FIELD_N; id++) {
        size_t n = strlen(names[id]);

        assert_string_equal(field_name((enum field_id)id), names[id]);
        assert_int_equal(field_lookup(names[id], n), id);
        for (unsigned round = 0; round < 100; round++) {
            for (size_t i = 0; i < n; i++)
                text[i] = (char)(rng_next(&r) & 1 ? toupper(names[id][i]) : names[id][i]);
            assert_int_equal(field_lookup(text, n), id);
        }
    }
}

static void
a_name_with_one_byte_changed_is_another(void **state)
{
    for (unsigned id = 1; id < FIELD_N; id++) {
        size_t n = strlen(names[id]);
        char text[64];

        for (size_t i = 0; i < n; i++)
            for (unsigned c = 0; c < 256; c++) {
                memcpy(text, names[id], n);
                text[i] = (char)c;
                assert_int_equal(field_lookup(text, n), lookup_slowly(text, n));
            }
    }
}

static void
a_part_of_a_name_is_another(void **state)
{
    for (unsigned id = 1; id < FIELD_N; id++)
        for (size_t n = 0; n < strlen(names[id]); n++) {
            char *part = malloc(n + 1); /* exactly n bytes and one that must not be read */

            memcpy(part, names[id], n);
            part[n] = names[id][n];
            assert_int_equal(field_lookup(part, n), lookup_slowly(part, n));
            free(part);
        }
    assert_int_equal(field_lookup("", 0), FIELD_OTHER);
    assert_int_equal(field_lookup("a-name-longer-than-any-that-is-in-the-table", 43), FIELD_OTHER);
    assert_string_equal(field_name(FIELD_OTHER), "");
    assert_string_equal(field_name(FIELD_N), "");
}

static void
hop_by_hop_fields_are_those_of_the_table(void **state)
{
    assert_true(field_hop_by_hop() & FIELD_BIT(CONNECTION));
    assert_true(field_hop_by_hop() & FIELD_BIT(TRANSFER_ENCODING));
    assert_true(field_hop_by_hop() & FIELD_BIT(UPGRADE));
    assert_false(field_hop_by_hop() & FIELD_BIT(HOST));
    assert_false(field_hop_by_hop() & FIELD_BIT(CONTENT_LENGTH));
    assert_false(field_hop_by_hop() & FIELD_BIT(OTHER));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_found_in_any_case),
        cmocka_unit_test(a_name_with_one_byte_changed_is_another),
        cmocka_unit_test(a_part_of_a_name_is_another),
        cmocka_unit_test(hop_by_hop_fields_are_those_of_the_table),
    };

    return cmocka_run_group_tests_name("http/field", tests, NULL, NULL);
}
