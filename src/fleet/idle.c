/* SPDX-License-Identifier: BSD-2-Clause
 *
 * idle.c - connections to servers, kept for reuse.
 *
 * A list per server, newest first: the newest is the least likely to be closed by the server at
 * this moment, and those at the far end then age and go.  And a list of all in the order in which
 * they were kept.  A server is found by its id; an id can come to a new server while connections of
 * its former bearer are still here, so entries are compared by their server too.
 */
#include "fleet/idle.h"

#include <stdlib.h>

#include "base/check.h"

/* Entries that one sweep looks at, so that a worker with very many is not held up. */
#define SWEEP_MAX  512
#define SWEEP_SOON (5 * MC_MS)

struct kept {
    struct list head; /* of idle_conn.link; {NULL, NULL}: never used */
    unsigned n;
};

struct idle {
    idle_evict_f *evict;
    void *arg;
    struct kept **by_id; /* each on its own, since list heads must not move */
    uint32_t n_by_id;
    struct list lru;
    struct list *sweep_at; /* where the sweep goes on; &lru: a new round */
    mc_ns sweep_next_ns;   /* earliest end seen in this round */
};

struct idle *
idle_new(idle_evict_f *evict, void *arg)
{
    struct idle *p = mc_alloc(sizeof(*p));

    p->evict = evict;
    p->arg = arg;
    list_init(&p->lru);
    p->sweep_at = &p->lru;
    p->sweep_next_ns = MC_NEVER_NS;
    return p;
}

static struct kept *
kept_find(const struct idle *p, const struct server *s)
{
    return s->id < p->n_by_id ? p->by_id[s->id] : NULL;
}

static void __attribute__((cold, noinline)) by_id_grow(struct idle *p, uint32_t id)
{
    uint32_t n = p->n_by_id ? p->n_by_id : 16;

    while (n <= id)
        n *= 2;
    p->by_id = mc_realloc(p->by_id, n * sizeof(*p->by_id));
    while (p->n_by_id < n)
        p->by_id[p->n_by_id++] = NULL;
}

static struct kept *
kept_of(struct idle *p, const struct server *s)
{
    if (s->id >= p->n_by_id)
        by_id_grow(p, s->id);
    if (!p->by_id[s->id]) {
        p->by_id[s->id] = mc_alloc(sizeof(struct kept));
        list_init(&p->by_id[s->id]->head);
    }
    return p->by_id[s->id];
}

/* hot: once per request on a kept connection */
void
idle_drop(struct idle *p, struct idle_conn *c)
{
    struct kept *k = kept_find(p, c->server);

    MC_ASSERT(k != NULL && k->n > 0);
    k->n--;
    list_remove(&c->link);
    if (p->sweep_at == &c->lru)
        p->sweep_at = c->lru.next;
    list_remove(&c->lru);
}

static void
evict(struct idle *p, struct idle_conn *c)
{
    idle_drop(p, c);
    p->evict(p->arg, c);
}

void
idle_free(struct idle **pp)
{
    struct idle *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    while (!list_empty(&p->lru))
        evict(p, LIST_ENTRY(p->lru.next, struct idle_conn, lru));
    for (uint32_t i = 0; i < p->n_by_id; i++)
        free(p->by_id[i]);
    free(p->by_id);
    free(p);
}

/* hot: once per request */
void
idle_put(struct idle *p, struct idle_conn *c, unsigned max_per_server)
{
    struct kept *k = kept_of(p, c->server);

    list_push_front(&k->head, &c->link);
    list_push_back(&p->lru, &c->lru);
    k->n++;
    if (c->until_ns < p->sweep_next_ns)
        p->sweep_next_ns = c->until_ns;
    while (k->n > max_per_server)
        evict(p, LIST_ENTRY(k->head.prev, struct idle_conn, link));
}

/* hot: once per request */
struct idle_conn *
idle_take(struct idle *p, struct server *s, mc_ns now)
{
    struct kept *k = kept_find(p, s);
    uint32_t generation = server_addr_generation(s);

    while (k && !list_empty(&k->head)) {
        struct idle_conn *c = LIST_ENTRY(k->head.next, struct idle_conn, link);

        if (c->server == s && c->addr_generation == generation && now < c->until_ns) {
            idle_drop(p, c);
            return c;
        }
        evict(p, c);
    }
    return NULL;
}

mc_ns
idle_sweep(struct idle *p, mc_ns now)
{
    mc_ns next;

    if (p->sweep_at == &p->lru) {
        p->sweep_at = p->lru.next;
        p->sweep_next_ns = MC_NEVER_NS;
    }
    for (unsigned n = 0; n < SWEEP_MAX && p->sweep_at != &p->lru; n++) {
        struct idle_conn *c = LIST_ENTRY(p->sweep_at, struct idle_conn, lru);

        p->sweep_at = c->lru.next;
        if (c->until_ns <= now)
            evict(p, c);
        else if (c->until_ns < p->sweep_next_ns)
            p->sweep_next_ns = c->until_ns;
    }
    next = p->sweep_next_ns;
    return p->sweep_at != &p->lru ? now + SWEEP_SOON : next;
}

void
idle_retain(struct idle *p, bool (*keep)(void *arg, const struct server *), void *arg)
{
    LIST_FOREACH_SAFE (it, next, &p->lru) {
        struct idle_conn *c = LIST_ENTRY(it, struct idle_conn, lru);

        if (!keep(arg, c->server))
            evict(p, c);
    }
}

bool
idle_evict_oldest(struct idle *p)
{
    if (list_empty(&p->lru))
        return false;
    evict(p, LIST_ENTRY(p->lru.next, struct idle_conn, lru));
    return true;
}
