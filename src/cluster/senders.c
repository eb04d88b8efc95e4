/* SPDX-License-Identifier: BSD-2-Clause
 *
 * senders.c - see senders.h.
 */
#include "cluster/senders.h"

#include <stdlib.h>

#include "base/check.h"
#include "cluster/gcm.h"

static struct str
key_of(const uint8_t name[SENDERS_NAME_BYTES])
{
    return (struct str){(const char *)name, SENDERS_NAME_BYTES};
}

struct sender *
sender_new(void)
{
    struct sender *s = mc_alloc(sizeof(*s));

    list_init(&s->link);
    s->open = gcm_new(GCM_OPEN);
    return s;
}

void
sender_free(struct sender **sp)
{
    if (*sp == NULL)
        return;
    gcm_free(&(*sp)->open);
    free(*sp);
    *sp = NULL;
}

static void
drop(struct senders *ss, struct sender *s)
{
    map_remove(&ss->by_name, key_of(s->name));
    list_remove(&s->link);
    ss->n--;
    sender_free(&s);
}

void
senders_init(struct senders *ss)
{
    *ss = (struct senders){.n = 0};
    list_init(&ss->lru);
}

void
senders_fini(struct senders *ss)
{
    while (!list_empty(&ss->lru))
        drop(ss, LIST_ENTRY(ss->lru.next, struct sender, link));
    map_free(&ss->by_name);
}

/* hot: once per datagram */
struct sender *
senders_find(struct senders *ss, const uint8_t name[SENDERS_NAME_BYTES])
{
    struct sender *s = map_get(&ss->by_name, key_of(name));

    if (s != NULL) {
        list_remove(&s->link);
        list_push_front(&ss->lru, &s->link);
    }
    return s;
}

void
senders_add(struct senders *ss, struct sender **sp)
{
    struct sender *s = *sp;

    if (ss->n == SENDERS_MAX)
        drop(ss, LIST_ENTRY(ss->lru.prev, struct sender, link));
    MC_ASSERT(map_put(&ss->by_name, key_of(s->name), s) == NULL);
    list_push_front(&ss->lru, &s->link);
    ss->n++;
    *sp = NULL;
}

void
senders_drop_key(struct senders *ss, const uint8_t id[SENDERS_ID_BYTES])
{
    LIST_FOREACH_SAFE (it, tmp, &ss->lru) {
        struct sender *s = LIST_ENTRY(it, struct sender, link);

        if (memcmp(s->name, id, SENDERS_ID_BYTES) == 0)
            drop(ss, s);
    }
}
