/* SPDX-License-Identifier: BSD-2-Clause
 *
 * server.c - what workers do with a live server.  Making and ending one is live.c's.
 */
#include "fleet/server.h"

#include "base/check.h"
#include "fleet/live.h"
#include "fleet/open.h"

const char *
server_outcome_text(enum server_outcome o)
{
    static const char *const texts[] = {
#define X(name, text) [SERVER_##name] = text,
        SERVER_OUTCOMES(X)
#undef X
    };

    MC_ASSERT(o < MC_COUNT(texts));
    return texts[o];
}

struct server *
server_ref(struct server *s)
{
    MC_CHECK(s, SERVER_MAGIC);
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void
server_unref(struct server **sp)
{
    struct server *s = *sp;

    if (!s)
        return;
    MC_CHECK(s, SERVER_MAGIC);
    *sp = NULL;
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        entry_destroy(entry_of(s));
}

/* hot: once per attempt */
void
server_end(struct server *s)
{
    int32_t was = atomic_fetch_sub_explicit(&s->load.in_flight, 1, memory_order_relaxed);

    MC_ASSERT(was > 0);
}

static void __attribute__((cold, noinline))
note_failure(struct server *s, enum server_outcome o, mc_ns now)
{
    uint32_t limit = atomic_load_explicit(&s->eject_limit, memory_order_relaxed);
    uint32_t fails = atomic_fetch_add_explicit(&s->fails, 1, memory_order_relaxed) + 1;

    if (limit == 0 || fails < limit)
        return;
    if (!atomic_load_explicit(&s->load.open, memory_order_relaxed))
        return; /* is set aside already: the rest of what was sent before fails too */
    open_eject(entry_of(s), fails, o, now);
}

/* hot: once per attempt */
void
server_note(struct server *s, enum server_outcome o, mc_ns now)
{
    if (o != SERVER_OK) {
        note_failure(s, o, now);
        return;
    }
    /* a write only after failures, so that the line stays shared between workers */
    if (atomic_load_explicit(&s->fails, memory_order_relaxed) != 0)
        atomic_store_explicit(&s->fails, 0, memory_order_relaxed);
}

/* Once per connection.  The count of readers keeps the answer from being freed under the copy: it
 * is raised before the pointer is read, and the control thread looks at it after the pointer was
 * changed, both in one total order, so one of the two sees the other (entry_set_addrs). */
bool
server_address(struct server *s, uint32_t turn, struct addr *out, uint32_t *generation)
{
    const struct server_addrs *a;

    atomic_fetch_add_explicit(&s->addr_readers, 1, memory_order_seq_cst);
    a = atomic_load_explicit(&s->addrs, memory_order_seq_cst);
    if (a) {
        *out = a->addr[turn % a->n];
        *generation = a->generation;
    }
    atomic_fetch_sub_explicit(&s->addr_readers, 1, memory_order_release);
    return a != NULL;
}

uint32_t
server_addr_generation(const struct server *s)
{
    return atomic_load_explicit(&((struct server *)s)->addr_generation, memory_order_relaxed);
}

void
server_health_copy(struct server *s, struct health *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->health;
    pthread_mutex_unlock(&s->lock);
}
