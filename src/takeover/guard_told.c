/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_told.c - what the guard's programs tell: packets that they hold, and counters.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/check.h"
#include "takeover/guard_priv.h"

/* --- packets -----------------------------------------------------------------------------------
 */

struct polling {
    guard_packet_f *fn;
    void *arg;
    unsigned n, max;
};

static _Thread_local struct polling polling;

/* A value below zero ends ring_buffer__consume(). */
static int
on_record(void *unused, void *data, size_t n)
{
    struct guard_record r;
    struct guard_packet p;

    if (n >= sizeof(r)) {
        memcpy(&r, data, sizeof(r));
        if (r.n_bytes <= n - sizeof(r) &&
            guard_packet_read(&r.key, (uint8_t *)data + sizeof(r), r.n_bytes, r.n_segment, &p)) {
            p.ifindex = r.ifindex;
            p.from_peer = r.from_peer;
            polling.fn(polling.arg, &p);
        }
    }
    return ++polling.n < polling.max ? 0 : -ECANCELED;
}

struct ring_buffer *
guard_ring_new(int fd)
{
    return ring_buffer__new(fd, on_record, NULL, NULL);
}

int
guard_fd(const struct guard *g)
{
    return ring_buffer__epoll_fd(g->inner->ring);
}

unsigned
guard_poll(struct guard *g, guard_packet_f *fn, void *arg, unsigned max)
{
    MC_CHECK(g, GUARD_MAGIC);
    polling = (struct polling){.fn = fn, .arg = arg, .max = max};
    ring_buffer__consume(g->inner->ring);
    return polling.n;
}

/* --- counters ----------------------------------------------------------------------------------
 */

void
guard_counters_read(int fd, struct guard_stats *out)
{
    int n_cpus = libbpf_num_possible_cpus();
    uint64_t *each;

    *out = (struct guard_stats){.n = {0}};
    if (n_cpus <= 0)
        return;
    each = mc_alloc((size_t)n_cpus * sizeof(*each));
    for (uint32_t i = 0; i < GUARD_N_COUNTERS; i++) {
        if (bpf_map_lookup_elem(fd, &i, each) != 0)
            continue;
        for (int cpu = 0; cpu < n_cpus; cpu++)
            out->n[i] += each[cpu];
    }
    free(each);
}

void
guard_stats(const struct guard *g, struct guard_stats *out)
{
    MC_CHECK(g, GUARD_MAGIC);
    guard_counters_read(g->inner->fd[GUARD_MAP_counters], out);
}

#define X(name, text) #name,
static const char *const counter_names[] = {GUARD_COUNTERS(X)};
#undef X
#define X(name, text) text,
static const char *const counter_texts[] = {GUARD_COUNTERS(X)};
#undef X

const char *
guard_counter_name(enum guard_counter c)
{
    MC_ASSERT(c < GUARD_N_COUNTERS);
    return counter_names[c];
}

const char *
guard_counter_text(enum guard_counter c)
{
    MC_ASSERT(c < GUARD_N_COUNTERS);
    return counter_texts[c];
}
