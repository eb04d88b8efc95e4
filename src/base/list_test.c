/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct cub {
    int n;
    struct list link;
};

static int
sum(struct list *head)
{
    int digits = 0;

    LIST_FOREACH (l, head)
        digits = digits * 10 + LIST_ENTRY(l, struct cub, link)->n;
    return digits;
}

static void
a_list_keeps_the_order_of_its_ends(void **state)
{
    struct cub a = {1, {0}}, b = {2, {0}}, c = {3, {0}};
    struct list head;

    list_init(&head);
    assert_true(list_empty(&head));
    list_push_back(&head, &b.link);
    list_push_back(&head, &c.link);
    list_push_front(&head, &a.link);
    assert_int_equal(sum(&head), 123);
}

static void
removing_twice_does_no_harm(void **state)
{
    struct cub a = {1, {0}}, b = {2, {0}};
    struct list head;

    list_init(&head);
    list_push_back(&head, &a.link);
    list_push_back(&head, &b.link);
    list_remove(&a.link);
    list_remove(&a.link);
    assert_true(list_empty(&a.link));
    assert_int_equal(sum(&head), 2);
}

static void
the_safe_walk_survives_removal(void **state)
{
    struct cub cubs[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    struct list head;

    list_init(&head);
    for (int i = 0; i < 4; i++)
        list_push_back(&head, &cubs[i].link);
    LIST_FOREACH_SAFE (l, next, &head)
        if (LIST_ENTRY(l, struct cub, link)->n % 2)
            list_remove(l);
    assert_int_equal(sum(&head), 24);
}

static void
splicing_moves_all_and_leaves_nothing(void **state)
{
    struct cub a = {1, {0}}, b = {2, {0}}, c = {3, {0}};
    struct list to, from;

    list_init(&to);
    list_init(&from);
    list_splice(&to, &from);
    assert_true(list_empty(&to));
    list_push_back(&to, &a.link);
    list_push_back(&from, &b.link);
    list_push_back(&from, &c.link);
    list_splice(&to, &from);
    assert_int_equal(sum(&to), 123);
    assert_true(list_empty(&from));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_the_order_of_its_ends),
        cmocka_unit_test(removing_twice_does_no_harm),
        cmocka_unit_test(the_safe_walk_survives_removal),
        cmocka_unit_test(splicing_moves_all_and_leaves_nothing),
    };

    return cmocka_run_group_tests_name("base/list", tests, NULL, NULL);
}
