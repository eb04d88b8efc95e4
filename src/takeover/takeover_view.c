/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_view.c - what is displayed of a takeover: put down by its thread, read by any.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "takeover/takeover_priv.h"

static const struct takeover_holder *
holder_at(const struct takeover *t, uint64_t id)
{
    for (unsigned i = 0; i < t->n_holders; i++)
        if (t->holder[i].peer.who.id == id)
            return &t->holder[i];
    return NULL;
}

static void
view_peer(const struct takeover *t, const struct member *m, const struct peers_view *lives,
          unsigned n, struct takeover_peer_view *out)
{
    const struct takeover_holder *h = holder_at(t, m->id);

    *out = (struct takeover_peer_view){
        .id = m->id,
        .addr = m->addr,
        .alive = m->alive,
        .placed = m->placed,
        .holder = h != NULL,
        .in_step = h != NULL && h->synced,
        .heard_ns = MC_NEVER_NS,
        .flows = replica_count(t->store, m->life),
    };
    for (unsigned i = 0; i < n; i++)
        if (life_eq(lives[i].who, m->life)) {
            out->leaving = lives[i].leaving;
            out->fenced = lives[i].fenced;
            out->heard_ns = loop_now(t->loop) - lives[i].heard;
        }
}

void
view_refresh(struct takeover *t)
{
    struct peers_view lives[2 * TAKEOVER_PEERS_MAX];
    unsigned n = peers_view(t->peers, lives, MC_COUNT(lives));
    const char *why = peers_why(t->peers, loop_now(t->loop));
    struct takeover_view v = {.lease = why == NULL,
                              .fenced = peers_is_fenced(t->peers),
                              .leaving = t->leaving,
                              .peers = *peers_stats(t->peers),
                              .replicas = *replica_stats(t->store)};

    snprintf(v.why, sizeof(v.why), "%s", why != NULL ? why : "");
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0)
            view_peer(t, &t->member[i], lives, n, &v.peer[v.n_peers++]);
    pthread_mutex_lock(&t->lock);
    t->view = v;
    pthread_mutex_unlock(&t->lock);
}

void
takeover_view(struct takeover *t, struct takeover_view *out)
{
    pthread_mutex_lock(&t->lock);
    *out = t->view;
    out->alone = t->left_out.self;
    out->n_left_out = t->left_out.n;
    memcpy(out->left_out, t->left_out.id, sizeof(out->left_out));
    pthread_mutex_unlock(&t->lock);
}

const struct takeover_stats *
takeover_stats(const struct takeover *t)
{
    return &t->stats;
}
