/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share.c - merging the words of other balancers, see share.h.
 */
#include "place/share.h"

#include <stdlib.h>
#include <string.h>

#include "base/among.h"
#include "base/check.h"

void
share_init(struct share *s, const struct share_map *map, unsigned n_classes)
{
    *s = (struct share){.n_servers = map->n_servers, .n_classes = n_classes, .map = map};
    s->total = mc_alloc((s->n_servers + 1) * sizeof(*s->total));
}

static void
peer_fini(struct share_peer *p)
{
    free(p->cell);
    free(p->sums_of);
    learn_sums_fini(&p->sums);
}

void
share_fini(struct share *s)
{
    for (unsigned i = 0; i < s->n_peers; i++)
        peer_fini(&s->peer[i]);
    free(s->peer);
    free(s->total);
}

struct share_peer *
share_peer(struct share *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n_peers; i++)
        if (s->peer[i].id == id)
            return &s->peer[i];
    return NULL;
}

static void
set_cell(struct share *s, struct share_peer *p, uint32_t server, int32_t light, int32_t heavy,
         int32_t mem)
{
    struct share_cell *c = &p->cell[server];

    s->total[server].phi += light + heavy - c->light - c->heavy;
    s->total[server].mem += mem - c->mem;
    c->light = light;
    c->heavy = heavy;
    c->mem = mem;
}

static void
clear_peer(struct share *s, struct share_peer *p)
{
    for (uint32_t i = 0; i < s->n_servers; i++)
        set_cell(s, p, i, 0, 0, 0);
}

void
share_set_peers(struct share *s, const uint64_t *ids, unsigned n)
{
    struct share_peer *old = s->peer, *new = mc_alloc((n + 1) * sizeof(*new));

    for (unsigned i = 0; i < n; i++) {
        struct share_peer *was = share_peer(s, ids[i]);

        if (was) {
            new[i] = *was;
            continue;
        }
        new[i].id = ids[i];
        new[i].cell = mc_alloc((s->n_servers + 1) * sizeof(*new[i].cell));
        new[i].sums_of = mc_alloc(s->n_classes * sizeof(*new[i].sums_of));
        learn_sums_init(&new[i].sums, s->n_classes);
    }
    for (unsigned i = 0; i < s->n_peers; i++) {
        if (is_among(old[i].id, ids, n))
            continue;
        clear_peer(s, &old[i]);
        peer_fini(&old[i]);
    }
    free(old);
    s->peer = new;
    s->n_peers = n;
}

/* --- loads ---------------------------------------------------------------------------------------
 */

/* An entry of a SLOW message is taken for its slowness even when a later FAST has gone by. */
static void
merge_entry(struct share *s, struct share_peer *p, const struct share_msg *m,
            const struct share_load *e, const struct share_hooks *h)
{
    struct share_cell *c = &p->cell[e->server];
    bool exact = m->kind == SHARE_FAST || h->in_home(h->arg, e->server);
    int32_t light = exact ? e->now : m->kind == SHARE_SLOW ? e->mean : c->light;

    if (m->seq <= c->seq) {
        p->n_stale++;
        return;
    }
    c->seq = m->seq;
    set_cell(s, p, e->server, light, e->heavy, e->mem);
    h->touched(h->arg, e->server);
}

/* Servers that a SLOW message speaks of and does not name have nothing. */
static void
clear_unnamed(struct share *s, struct share_peer *p, const struct share_msg *m,
              const struct share_hooks *h)
{
    const struct share_map *map = s->map;

    for (unsigned i = share_map_from(map, m->first); i < map->n; i++) {
        uint32_t server = map->by_key[i].server;
        struct share_cell *c = &p->cell[server];

        if (map->by_key[i].key > m->last)
            break;
        if (c->seq >= m->seq)
            continue;
        c->seq = m->seq;
        if (c->light == 0 && c->heavy == 0 && c->mem == 0)
            continue;
        set_cell(s, p, server, 0, 0, 0);
        h->touched(h->arg, server);
    }
}

bool
share_heard(struct share_peer *p, uint64_t seq)
{
    uint64_t *seen = &p->seen[(seq ^ seq / SHARE_PIECES) % SHARE_SEEN];

    if (*seen == seq) {
        p->n_stale++;
        return true;
    }
    *seen = seq;
    return false;
}

bool
share_merge(struct share *s, const struct share_msg *m, mc_ns now, const struct share_hooks *h)
{
    struct share_peer *p = share_peer(s, m->from);

    if (!p || (m->kind == SHARE_SLOW && share_heard(p, m->seq)))
        return false;
    p->heard_ns = now;
    if (m->kind == SHARE_SLOW && m->seq > p->rate_seq) {
        p->rate_seq = m->seq;
        p->rate = m->rate;
    }
    for (unsigned i = 0; i < m->n; i++)
        if (m->load[i].server < s->n_servers)
            merge_entry(s, p, m, &m->load[i], h);
    if (m->kind == SHARE_SLOW && m->first <= m->last)
        clear_unnamed(s, p, m, h);
    return true;
}

void
share_expire(struct share *s, mc_ns now, const struct share_hooks *h)
{
    for (unsigned i = 0; i < s->n_peers; i++) {
        struct share_peer *p = &s->peer[i];

        if (p->heard_ns == 0 || now - p->heard_ns < SHARE_SILENT_NS)
            continue;
        clear_peer(s, p);
        p->heard_ns = 0;
        p->rate = 0;
        for (uint32_t k = 0; k < s->n_servers; k++)
            h->touched(h->arg, k);
    }
}
