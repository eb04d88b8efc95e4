/* SPDX-License-Identifier: BSD-2-Clause
 *
 * list.h - intrusive doubly linked circular list.  A link that is in no list points to itself.
 */
#ifndef MC_BASE_LIST_H
#define MC_BASE_LIST_H

#include <stdbool.h>

#include "base/check.h"

struct list {
    struct list *next, *prev;
};

static inline void
list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool
list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void
list_push_back(struct list *head, struct list *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void
list_push_front(struct list *head, struct list *l)
{
    list_push_back(head->next, l);
}

/* Removes l from whichever list it is in; harmless when it is in none. */
static inline void
list_remove(struct list *l)
{
    l->next->prev = l->prev;
    l->prev->next = l->next;
    list_init(l);
}

/* Moves all of `from` to the end of `to`; `from` is empty afterwards. */
static inline void
list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_ENTRY(link, type, member) container_of(link, type, member)
#define LIST_FOREACH(it, head)         for (struct list *it = (head)->next; it != (head); it = it->next)
#define LIST_FOREACH_SAFE(it, tmp, head) \
    for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

#endif
