/* SPDX-License-Identifier: BSD-2-Clause */
#include "fleet/agree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/check.h"

#define U AGREE_UNKNOWN
#define G AGREE_UP
#define D AGREE_DOWN

static const struct {
    const char *what;
    struct agree a;
    bool down;
} cases[] = {
    {"nobody has looked", {.n_owners = 2, .owner = {U, U}, .own = true}, false},
    {"alone: its word", {1, {D}, .own = true}, true},
    {"alone: its checks go before its traffic", {1, {D}, .own = true, .succeeds = true}, true},
    {"alone and well", {1, {G}, .own = true, .fails = true}, false},
    {"owners agree", {.n_owners = 2, .owner = {D, D}}, true},
    {"owners disagree", {.n_owners = 2, .owner = {D, G}}, false},
    {"they disagree, and requests fail", {.n_owners = 2, .owner = {G, D}, .fails = true}, true},
    {"both say up: failing requests are the ejection's",
     {.n_owners = 2, .owner = {G, G}, .fails = true},
     false},
    {"one of them is new", {.n_owners = 2, .owner = {U, D}}, true},
    {"hearsay against own success", {.n_owners = 2, .owner = {D, D}, .succeeds = true}, false},
    {"an owner's agreement is no hearsay",
     {.n_owners = 2, .owner = {D, D}, .own = true, .succeeds = true},
     true},
    {"an owner whose requests succeed, alone with its word",
     {.n_owners = 2, .owner = {D, G}, .own = true, .succeeds = true},
     false},
    {"an owner that has not looked: hearsay against own success",
     {.n_owners = 2, .owner = {U, D}, .succeeds = true},
     false},
    {"nobody owns it", {.n_owners = 0, .owner = {U, U}, .fails = true}, false},
};

static void
verdicts_follow_the_rules(void **state)
{
    for (size_t i = 0; i < MC_COUNT(cases); i++)
        if (agree_is_down(&cases[i].a) != cases[i].down)
            fail_msg("%s", cases[i].what);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(verdicts_follow_the_rules)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
