/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_metrics.c - see takeover_metrics.h.
 *
 * What the thread counts is meercat_takeover_*, what the workers count of connections
 * meercat_takeover_flow_*, of their links to other balancers meercat_takeover_link_*, of what is
 * held for those meercat_takeover_replica_*, and what the kernel counts of packets
 * meercat_takeover_guard_*.
 */
#include "control/takeover_metrics.h"

#include <inttypes.h>

#include "base/check.h"
#include "proxy/flow.h"
#include "takeover/guard.h"
#include "takeover/takeover.h"

struct counter {
    const char *name, *help;
    size_t offset;
};

static const struct counter thread_counters[] = {
#define X(field, text) {#field, text, offsetof(struct takeover_stats, field)},
    TAKEOVER_COUNTERS(X)
#undef X
};

static const struct counter peers_counters[] = {
#define X(field, text) {#field, text, offsetof(struct peers_stats, field)},
    PEERS_COUNTERS(X)
#undef X
};

static const struct counter replica_counters[] = {
#define X(field, text) {#field, text, offsetof(struct replica_stats, field)},
    REPLICA_COUNTERS(X)
#undef X
};

static const struct counter flow_counters[] = {
#define X(field, text) {#field, text, offsetof(struct flow_stats, field)},
    FLOW_COUNTERS(X)
#undef X
};

static const struct counter link_counters[] = {
#define X(field, text) {#field, text, offsetof(struct link_stats, field)},
    LINK_COUNTERS(X)
#undef X
};

static void
sample(struct buf *b, const char *tree, const char *name, bool counter, const char *help,
       uint64_t value)
{
    const char *end = counter ? "_total" : "";

    buf_printf(b, "# HELP meercat_takeover_%s%s%s %s\n# TYPE meercat_takeover_%s%s%s %s\n", tree,
               name, end, help, tree, name, end, counter ? "counter" : "gauge");
    buf_printf(b, "meercat_takeover_%s%s%s %" PRIu64 "\n", tree, name, end, value);
}

static uint64_t
at(const void *stats, size_t offset)
{
    return stats != NULL ? stat_get((const stat_u64 *)((const char *)stats + offset)) : 0;
}

static uint64_t
sum_flows(const struct node *n, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->n_workers; i++)
        sum += at(worker_flow_stats(n->workers[i]), offset);
    return sum;
}

static uint64_t
sum_links(const struct node *n, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->n_workers; i++)
        sum += at(worker_link_stats(n->workers[i]), offset);
    return sum;
}

static void
flows(const struct node *n, struct buf *b)
{
    for (size_t i = 0; i < MC_COUNT(flow_counters); i++)
        sample(b, "flow_", flow_counters[i].name, true, flow_counters[i].help,
               sum_flows(n, flow_counters[i].offset));
    sample(b, "flow_", "active", false, "connections that can be taken over, or could be",
           sum_flows(n, offsetof(struct flow_stats, active)));
    sample(b, "flow_", "bare", false, "of these, those that are not protected at present",
           sum_flows(n, offsetof(struct flow_stats, bare)));
}

static void
links(const struct node *n, struct buf *b)
{
    for (size_t i = 0; i < MC_COUNT(link_counters); i++)
        sample(b, "link_", link_counters[i].name, true, link_counters[i].help,
               sum_links(n, link_counters[i].offset));
    sample(b, "link_", "holders", false, "balancers that workers wait for, all workers",
           sum_links(n, offsetof(struct link_stats, holders)));
}

static void
thread(const struct takeover_stats *s, struct buf *b)
{
    for (size_t i = 0; i < MC_COUNT(thread_counters); i++)
        sample(b, "", thread_counters[i].name, true, thread_counters[i].help,
               at(s, thread_counters[i].offset));
}

/* Plain numbers, as the thread told them last. */
static uint64_t
plain(const void *stats, size_t offset)
{
    return *(const uint64_t *)((const char *)stats + offset);
}

static void
peers(const struct takeover_view *v, struct buf *b)
{
    for (size_t i = 0; i < MC_COUNT(peers_counters); i++)
        sample(b, "peers_", peers_counters[i].name, true, peers_counters[i].help,
               plain(&v->peers, peers_counters[i].offset));
    sample(b, "", "lease", false, "1 while this balancer may speak for its connections", v->lease);
    sample(b, "", "fenced", false, "1 while it is cut off from all others", v->fenced);
}

static void
replicas(const struct replica_stats *s, struct buf *b)
{
    for (size_t i = 0; i < MC_COUNT(replica_counters); i++)
        sample(b, "replica_", replica_counters[i].name, true, replica_counters[i].help,
               plain(s, replica_counters[i].offset));
    sample(b, "replica_", "held", false, "connections of other balancers that are held here",
           s->flows);
    sample(b, "replica_", "bytes", false, "memory that they take", s->bytes);
}

static void
broken(const struct takeover_stats *s, struct buf *b)
{
    buf_printf(b, "# HELP meercat_takeover_broken_by_total connections that could not be carried "
                  "on, by what was wrong\n# TYPE meercat_takeover_broken_by_total counter\n");
    for (int i = REPLICA_BROKEN_NONE + 1; i < REPLICA_N_BROKENS; i++)
        buf_printf(b, "meercat_takeover_broken_by_total{reason=\"%s\"} %" PRIu64 "\n",
                   replica_broken_label((enum replica_broken)i), stat_get(&s->broken_by[i]));
}

static void
guard(const struct guard *g, struct buf *b)
{
    struct guard_stats s;

    guard_stats(g, &s);
    for (int i = 0; i < GUARD_N_COUNTERS; i++)
        sample(b, "guard_", guard_counter_name((enum guard_counter)i), true,
               guard_counter_text((enum guard_counter)i), s.n[i]);
}

void
takeover_metrics(const struct node *n, struct buf *b)
{
    struct takeover_view v;

    if (n->takeover == NULL)
        return;
    flows(n, b);
    links(n, b);
    thread(takeover_stats(n->takeover), b);
    takeover_view(n->takeover, &v);
    peers(&v, b);
    replicas(&v.replicas, b);
    broken(takeover_stats(n->takeover), b);
    guard(takeover_guard(n->takeover), b);
}
