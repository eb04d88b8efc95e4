/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_harness.h - a network of members in virtual time, for tests and measurements: packets are
 * late or lost, ways are cut, processes die, stop and come back.
 *
 * Everything follows from the seed.
 */
#ifndef MC_CLUSTER_SWIM_HARNESS_H
#define MC_CLUSTER_SWIM_HARNESS_H

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rand.h"
#include "cluster/swim.h"

#define UNUSED       __attribute__((unused))
#define NET_HOSTS    1024 /* addresses */
#define NET_HELD_MAX 200  /* packets that the socket of a stopped process holds */
#define NET_NONE     UINT32_MAX

struct net;

struct net_node {
    struct net *net;
    unsigned host; /* its address */
    char name[SWIM_NAME_MAX + 1];
    struct swim *s; /* NULL: it does not run */
    bool frozen;
    unsigned life; /* how often it was started */
    mc_ns tick_at; /* the event that stands for its timer */
    mc_ns began;
    unsigned n_held;
    struct net_event *held[NET_HELD_MAX];
    struct addr conflict; /* len > 0: it was told that its name is taken */
    unsigned n_events, n_false_dead;
};

enum net_kind { NET_PACKET, NET_SYNC, NET_TICK };

struct net_event {
    mc_ns at;
    uint64_t order; /* of those at one time */
    enum net_kind kind;
    unsigned from, to; /* hosts; TICK and SYNC: from is the node */
    size_t n;
    uint8_t bytes[];
};

struct net {
    struct rng rng;
    mc_ns now;
    double loss;
    mc_ns delay_least, delay_most;
    unsigned n;
    struct net_node *node;
    uint32_t at_host[NET_HOSTS]; /* node, or NET_NONE */
    uint8_t side[NET_HOSTS];     /* hosts of different sides do not hear each other */
    bool cut[NET_HOSTS];         /* packets of this host get nowhere, others reach it */
    struct swim_times times;
    uint64_t order;
    struct net_event **heap;
    size_t n_heap, cap_heap;
    /* for who measures; on_member of every member */
    void (*watch)(struct net *, struct net_node *, const struct swim_member *, enum swim_state was);
    void *watch_arg;
    uint64_t n_packets, n_bytes;
};

/* --- events ------------------------------------------------------------------------------------
 */

static bool
net_before(const struct net_event *a, const struct net_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void
net_push(struct net *w, struct net_event *e)
{
    size_t i = w->n_heap++;

    if (i == w->cap_heap) {
        w->cap_heap = w->cap_heap ? 2 * w->cap_heap : 256;
        w->heap = mc_realloc(w->heap, w->cap_heap * sizeof(struct net_event *));
    }
    e->order = w->order++;
    for (; i > 0 && net_before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct net_event *
net_pop(struct net *w)
{
    struct net_event *first = w->heap[0], *last = w->heap[--w->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->n_heap) {
        child += child + 1 < w->n_heap && net_before(w->heap[child + 1], w->heap[child]);
        if (!net_before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static void
net_post(struct net *w, enum net_kind kind, mc_ns at, unsigned from, unsigned to, const void *bytes,
         size_t n)
{
    struct net_event *e = mc_alloc(sizeof(*e) + n);

    e->at = at;
    e->kind = kind;
    e->from = from;
    e->to = to;
    e->n = n;
    if (n > 0)
        memcpy(e->bytes, bytes, n);
    net_push(w, e);
}

/* --- addresses ---------------------------------------------------------------------------------
 */

static struct addr
net_addr(unsigned host)
{
    struct addr a = {.len = sizeof(a.u.in)};

    a.u.in.sin_family = AF_INET;
    a.u.in.sin_addr.s_addr = htonl(0x0a000000u + host + 1);
    a.u.in.sin_port = htons(7707);
    return a;
}

static unsigned
net_host(const struct addr *a)
{
    uint32_t host = ntohl(a->u.in.sin_addr.s_addr) - 0x0a000000u - 1;

    return host < NET_HOSTS ? host : NET_HOSTS - 1; /* the last one is nobody's */
}

static struct net_node *
net_at(struct net *w, unsigned host)
{
    return w->at_host[host] == NET_NONE ? NULL : &w->node[w->at_host[host]];
}

static bool
net_passes(const struct net *w, unsigned from, unsigned to)
{
    return w->side[from] == w->side[to] && !w->cut[from];
}

static mc_ns
net_delay(struct net *w)
{
    return w->delay_least + (mc_ns)(rng_unit(&w->rng) * (double)(w->delay_most - w->delay_least));
}

/* --- hooks of a member -------------------------------------------------------------------------
 */

static void
net_send(void *arg, const struct addr *to, const void *bytes, size_t n)
{
    struct net_node *node = arg;
    struct net *w = node->net;

    MC_ASSERT(n <= SWIM_DATAGRAM_MAX);
    w->n_packets++;
    w->n_bytes += n;
    if (rng_unit(&w->rng) >= w->loss)
        net_post(w, NET_PACKET, w->now + net_delay(w), node->host, net_host(to), bytes, n);
}

static void
net_sync(void *arg, const struct addr *to)
{
    struct net_node *node = arg;
    struct net *w = node->net;

    net_post(w, NET_SYNC, w->now + 3 * net_delay(w), (unsigned)(node - w->node), net_host(to), NULL,
             0);
}

static void
net_on_member(void *arg, const struct swim_member *m, enum swim_state was)
{
    struct net_node *node = arg;

    node->n_events++;
    if (node->net->watch)
        node->net->watch(node->net, node, m, was);
}

static void
net_on_conflict(void *arg, const struct addr *holder)
{
    struct net_node *node = arg;

    node->conflict = *holder;
}

/* --- processes ---------------------------------------------------------------------------------
 */

static void
net_arm(struct net_node *node)
{
    struct net *w = node->net;
    mc_ns due = node->s ? swim_due(node->s) : MC_NEVER_NS;

    if (due >= node->tick_at)
        return;
    node->tick_at = due > w->now ? due : w->now;
    net_post(w, NET_TICK, node->tick_at, (unsigned)(node - w->node), 0, NULL, 0);
}

static void UNUSED
net_start(struct net *w, unsigned i, unsigned host, uint64_t incarnation)
{
    struct net_node *node = &w->node[i];
    struct swim_conf conf = {
        .name = str_of(node->name),
        .addr = net_addr(host),
        .incarnation = incarnation,
        .seed = rng_next(&w->rng),
        .times = w->times,
        .hooks = {node, net_send, net_sync, net_on_member, net_on_conflict},
    };
    struct addr join[3];
    struct errbuf eb;

    MC_ASSERT(!node->s && w->at_host[host] == NET_NONE);
    for (unsigned b = 0; b < SWIM_BOOT_BYTES; b++)
        conf.boot[b] = (uint8_t)rng_next(&w->rng);
    node->host = host;
    node->life++;
    node->frozen = false;
    node->began = w->now;
    node->conflict.len = 0;
    node->tick_at = MC_NEVER_NS;
    w->at_host[host] = i;
    MC_ASSERT(swim_new(&conf, w->now, &node->s, &eb) == MC_OK);
    for (unsigned k = 0; k < 3; k++)
        join[k] = net_addr(k);
    swim_join(node->s, join, w->n < 3 ? w->n : 3, w->now);
    net_arm(node);
}

static void
net_drop_held(struct net_node *node)
{
    for (unsigned i = 0; i < node->n_held; i++)
        free(node->held[i]);
    node->n_held = 0;
}

static void
net_kill(struct net *w, unsigned i)
{
    struct net_node *node = &w->node[i];

    if (!node->s)
        return;
    swim_free(&node->s);
    net_drop_held(node);
    w->at_host[node->host] = NET_NONE;
}

static void
net_receive(struct net *w, struct net_node *node, struct net_event *e)
{
    struct addr from = net_addr(e->from);

    swim_recv(node->s, &from, e->bytes, e->n, w->now);
    free(e);
}

static void UNUSED
net_freeze(struct net *w, unsigned i, bool frozen)
{
    struct net_node *node = &w->node[i];

    if (!node->s || node->frozen == frozen)
        return;
    node->frozen = frozen;
    if (frozen)
        return;
    for (unsigned k = 0; k < node->n_held; k++)
        net_receive(w, node, node->held[k]);
    node->n_held = 0;
    node->tick_at = MC_NEVER_NS;
    net_arm(node);
}

/* Members m0, m1, ... at hosts 0, 1, ..., none of which runs yet. */
static void UNUSED
net_init(struct net *w, unsigned n, uint64_t seed)
{
    *w = (struct net){.n = n, .delay_least = MC_MS / 5, .delay_most = MC_MS};
    MC_ASSERT(n <= NET_HOSTS / 2);
    rng_seed(&w->rng, seed);
    w->now = 1000 * MC_SEC;
    w->node = mc_alloc(n * sizeof(*w->node));
    memset(w->at_host, 0xff, sizeof(w->at_host));
    for (unsigned i = 0; i < n; i++) {
        w->node[i].net = w;
        snprintf(w->node[i].name, sizeof(w->node[i].name), "m%u", i);
    }
}

static void UNUSED
net_fini(struct net *w)
{
    for (unsigned i = 0; i < w->n; i++)
        net_kill(w, i);
    for (size_t i = 0; i < w->n_heap; i++)
        free(w->heap[i]);
    free(w->heap);
    free(w->node);
}

/* --- time --------------------------------------------------------------------------------------
 */

static void
net_exchange(struct net *w, struct net_node *a, struct net_node *b)
{
    struct buf of_a = {0}, of_b = {0};

    swim_state_write(a->s, &of_a, w->now);
    swim_state_write(b->s, &of_b, w->now);
    swim_state_absorb(a->s, of_b.p, of_b.n, w->now);
    swim_state_absorb(b->s, of_a.p, of_a.n, w->now);
    buf_free(&of_a);
    buf_free(&of_b);
    net_arm(b);
}

/* Takes part: it runs, has not left, and keeps its name. */
static bool
net_is_in(const struct net_node *node)
{
    return node && node->s && !swim_has_left(node->s) && node->conflict.len == 0;
}

static bool
net_can_run(const struct net_node *node)
{
    return node && node->s && !node->frozen;
}

static void
net_event(struct net *w, struct net_event *e)
{
    struct net_node *to = net_at(w, e->to), *from = &w->node[e->from];

    if (e->kind == NET_PACKET && to && net_passes(w, e->from, e->to)) {
        if (to->frozen && to->n_held < NET_HELD_MAX) {
            to->held[to->n_held++] = e;
            return;
        }
        if (!to->frozen) {
            net_receive(w, to, e);
            net_arm(to);
            return;
        }
    } else if (e->kind == NET_TICK && from->tick_at == e->at && net_can_run(from)) {
        from->tick_at = MC_NEVER_NS;
        MC_ASSERT(swim_tick(from->s, w->now) > w->now); /* nothing that is due stays undone */
        net_arm(from);
    } else if (e->kind == NET_SYNC && net_is_in(from) && !from->frozen && net_is_in(to) &&
               !to->frozen && to != from && net_passes(w, from->host, e->to) &&
               net_passes(w, e->to, from->host)) {
        net_exchange(w, from, to);
        net_arm(from);
    }
    free(e);
}

static void UNUSED
net_run(struct net *w, mc_ns until)
{
    while (w->n_heap > 0 && w->heap[0]->at <= until) {
        struct net_event *e = net_pop(w);

        w->now = e->at;
        net_event(w, e);
    }
    w->now = until;
}

/* --- what all believe --------------------------------------------------------------------------
 */

/* Does it believe of j what is true? */
static bool
net_knows(const struct net *w, const struct net_node *node, unsigned j)
{
    const struct net_node *other = &w->node[j];
    const struct swim_member *m = swim_find(node->s, str_of(other->name));
    const struct swim_member *true_one;

    if (!other->s || swim_has_left(other->s))
        return !m || m->state == SWIM_DEAD || m->state == SWIM_LEFT;
    true_one = swim_self(other->s);
    return m && m->state == SWIM_ALIVE && m->incarnation == true_one->incarnation &&
           addr_eq(&m->addr, &true_one->addr) &&
           memcmp(m->boot, true_one->boot, SWIM_BOOT_BYTES) == 0 && m->meta_n == true_one->meta_n &&
           memcmp(m->meta, true_one->meta, m->meta_n) == 0;
}

static bool
net_agreed(const struct net *w)
{
    for (unsigned i = 0; i < w->n; i++)
        for (unsigned j = 0; w->node[i].s && !swim_has_left(w->node[i].s) && j < w->n; j++)
            if (!net_knows(w, &w->node[i], j))
                return false;
    return true;
}

/* Runs until all know what is true; false: not before `most` had passed. */
static bool UNUSED
net_settle(struct net *w, mc_ns most)
{
    mc_ns until = w->now + most;

    while (!net_agreed(w)) {
        if (w->now >= until)
            return false;
        net_run(w, w->now + 20 * MC_MS);
    }
    return true;
}

/* What they believe, for who looks for the reason. */
static void UNUSED
net_print(const struct net *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct net_node *node = &w->node[i];

        fprintf(stderr, "%s at host %u%s:", node->name, node->host,
                !node->s                 ? " does not run"
                : swim_has_left(node->s) ? " has left"
                : node->frozen           ? " is stopped"
                                         : "");
        for (size_t k = 0; node->s && k < swim_count(node->s); k++) {
            const struct swim_member *m = swim_at(node->s, k);

            fprintf(stderr, " %s=%s.%llu@%u", m->name, swim_state_word(m->state),
                    (unsigned long long)m->incarnation, net_host(&m->addr));
        }
        fprintf(stderr, "\n");
    }
}

#endif
