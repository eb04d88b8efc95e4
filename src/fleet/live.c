/* SPDX-License-Identifier: BSD-2-Clause
 *
 * live.c - making, finding and ending what lives across snapshots, see live.h.
 *
 * The registry does not hold what it lists.  Whoever finds an object takes a reference unless the
 * last one is gone already, in which case the object is on its way out on another thread, and a new
 * one takes its place in the registry.
 */
#include "fleet/live.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

#define ID_BITS 64 /* ids per word */

static bool
ref_unless_gone(_Atomic uint32_t *refs)
{
    uint32_t n = atomic_load_explicit(refs, memory_order_relaxed);

    while (n > 0)
        if (atomic_compare_exchange_weak_explicit(refs, &n, n + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool
unref_was_last(_Atomic uint32_t *refs)
{
    uint32_t was = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);

    MC_ASSERT(was > 0);
    return was == 1;
}

/* --- fleet -------------------------------------------------------------------------------------
 */

static struct fleet *
fleet_ref(struct fleet *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void
fleet_unref(struct fleet *f)
{
    if (!unref_was_last(&f->refs))
        return;
    map_free(&f->pools);
    map_free(&f->servers);
    free(f->ids);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->events_lock);
    free(f);
}

/* --- ids; under fleet.lock ----------------------------------------------------------------------
 */

static uint32_t
id_take(struct fleet *f)
{
    unsigned w = 0;
    int bit;

    while (w < f->n_id_words && f->ids[w] == UINT64_MAX)
        w++;
    if (w == f->n_id_words) {
        f->ids = mc_realloc(f->ids, (w + 1) * sizeof(*f->ids));
        f->ids[w] = 0;
        f->n_id_words++;
    }
    bit = __builtin_ctzll(~f->ids[w]);
    f->ids[w] |= (uint64_t)1 << bit;
    return w * ID_BITS + (unsigned)bit;
}

static void
id_give(struct fleet *f, uint32_t id)
{
    f->ids[id / ID_BITS] &= ~((uint64_t)1 << id % ID_BITS);
}

/* --- pools --------------------------------------------------------------------------------------
 */

static struct live *
live_new(struct fleet *f, const char *name)
{
    struct live *l = mc_alloc_lines(sizeof(*l));

    l->fleet = fleet_ref(f);
    l->pub.name = mc_strdup(name);
    atomic_init(&l->pub.refs, 1);
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

struct live *
live_get(struct fleet *f, const char *name)
{
    struct live *l;

    pthread_mutex_lock(&f->lock);
    l = map_get(&f->pools, str_of(name));
    if (!l || !ref_unless_gone(&l->pub.refs)) {
        l = live_new(f, name);
        map_put(&f->pools, str_of(name), l);
    }
    pthread_mutex_unlock(&f->lock);
    return l;
}

struct live *
live_ref(struct live *l)
{
    atomic_fetch_add_explicit(&l->pub.refs, 1, memory_order_relaxed);
    return l;
}

void
live_unref(struct live *l)
{
    struct fleet *f = l->fleet;

    if (!unref_was_last(&l->pub.refs))
        return;
    MC_ASSERT(l->n_members == 0);
    pthread_mutex_lock(&f->lock);
    if (map_get(&f->pools, str_of(l->pub.name)) == l)
        map_remove(&f->pools, str_of(l->pub.name));
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_destroy(&l->lock);
    free(l->pub.name);
    free(l->members);
    free(l);
    fleet_unref(f);
}

/* --- servers ------------------------------------------------------------------------------------
 */

/* Pool, name and address with NUL between them, which none of them holds. */
static struct str
identity(const struct live *l, const char *name, const char *address_text)
{
    size_t a = strlen(l->pub.name) + 1, b = strlen(name) + 1, c = strlen(address_text);
    char *p = mc_alloc(a + b + c);

    memcpy(p, l->pub.name, a);
    memcpy(p + a, name, b);
    memcpy(p + a + b, address_text, c);
    return (struct str){p, a + b + c};
}

struct entry *
entry_find(struct live *l, const char *name, const char *address_text)
{
    struct str key = identity(l, name, address_text);
    struct entry *e;

    pthread_mutex_lock(&l->fleet->lock);
    e = map_get(&l->fleet->servers, key);
    if (e && !ref_unless_gone(&e->s.refs))
        e = NULL;
    pthread_mutex_unlock(&l->fleet->lock);
    free((char *)key.p);
    return e;
}

static void
entry_register(struct entry *e)
{
    struct fleet *f = e->live->fleet;
    struct str key = identity(e->live, e->s.name, e->s.address_text);

    pthread_mutex_lock(&f->lock);
    e->s.id = id_take(f);
    map_put(&f->servers, key, e);
    pthread_mutex_unlock(&f->lock);
    free((char *)key.p);
}

static void
entry_unregister(struct entry *e)
{
    struct fleet *f = e->live->fleet;
    struct str key = identity(e->live, e->s.name, e->s.address_text);

    pthread_mutex_lock(&f->lock);
    if (map_get(&f->servers, key) == e)
        map_remove(&f->servers, key);
    id_give(f, e->s.id);
    pthread_mutex_unlock(&f->lock);
    free((char *)key.p);
}

struct entry *
entry_new(struct live *l, const char *name, const char *address_text)
{
    struct entry *e = mc_alloc_lines(sizeof(*e));
    struct server *s = &e->s;

    e->live = live_ref(l);
    s->magic = SERVER_MAGIC;
    s->pool_name = mc_strdup(l->pub.name);
    s->name = mc_strdup(name);
    s->address_text = mc_strdup(address_text);
    s->name_hash = str_hash(str_of(name), 0);
    s->owner = e;
    e->share = 1;
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->refs, 1);
    if (l->fleet->n_workers > 0)
        s->counters = mc_alloc_lines(l->fleet->n_workers * sizeof(*s->counters));
    entry_register(e);
    return e;
}

void
entry_destroy(struct entry *e)
{
    struct live *l = e->live;
    struct server *s = &e->s;

    MC_ASSERT(!e->member && !e->probe && !e->resolve && !e->words && !timer_is_set(&e->tick));
    entry_unregister(e);
    free(atomic_load(&s->addrs));
    for (struct old_addrs *o = e->old_addrs, *next; o; o = next) {
        next = o->next;
        free(o->addrs);
        free(o);
    }
    free(s->counters);
    free(s->pool_name);
    free(s->name);
    free(s->address_text);
    pthread_mutex_destroy(&s->lock);
    s->magic = 0;
    free(e);
    live_unref(l);
}

/* Frees former addresses, unless a worker is just reading: then the next call does. */
static void
old_addrs_reap(struct entry *e)
{
    struct old_addrs *next;

    if (atomic_load_explicit(&e->s.addr_readers, memory_order_seq_cst) != 0)
        return;
    for (; e->old_addrs; e->old_addrs = next) {
        next = e->old_addrs->next;
        free(e->old_addrs->addrs);
        free(e->old_addrs);
    }
}

void
entry_set_addrs(struct entry *e, const struct addr *addr, unsigned n)
{
    struct server_addrs *a = mc_alloc(sizeof(*a) + n * sizeof(*addr)), *was;
    struct old_addrs *old;

    MC_ASSERT(n > 0);
    a->generation = server_addr_generation(&e->s) + 1;
    a->n = n;
    memcpy(a->addr, addr, n * sizeof(*addr));
    was = atomic_exchange_explicit(&e->s.addrs, a, memory_order_seq_cst);
    atomic_store_explicit(&e->s.addr_generation, a->generation, memory_order_relaxed);
    if (was) {
        old = mc_alloc(sizeof(*old));
        *old = (struct old_addrs){.next = e->old_addrs, .addrs = was};
        e->old_addrs = old;
    }
    old_addrs_reap(e);
}
