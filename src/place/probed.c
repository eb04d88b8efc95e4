/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probed.c - what a server would answer to a probe, see probed.h.
 *
 * Crowds are put into bins, one each up to 8 and four to a doubling above, since a server with 40
 * requests in flight is about as slow as one with 41.  A bin holds the last few latencies.
 */
#include "place/probed.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define EXACT     8  /* crowds 1..8 have a bin of their own */
#define BINS      40 /* up to 2048 in flight; the last one holds what is above, too */
#define KEPT      8  /* latencies of a bin: the median then stands against three that are odd */
/* What is older tells little: Prequal's own answers are old after a second, but a bin is filled by
 * the requests of one crowd alone. */
#define RECENT_NS (10 * MC_SEC)

struct bin {
    mc_ns at; /* of the last one; 0: none yet */
    uint32_t n;
    uint32_t latency_us[KEPT];
};

struct probed {
    unsigned n;
    struct bin bin[][BINS];
};

struct probed *
probed_new(unsigned n)
{
    struct probed *r = mc_alloc(sizeof(*r) + n * sizeof(r->bin[0]));

    r->n = n;
    return r;
}

void
probed_free(struct probed **rp)
{
    free(*rp);
    *rp = NULL;
}

static unsigned
bin_of(uint32_t crowd)
{
    unsigned doublings, bin;

    if (crowd <= EXACT)
        return crowd > 0 ? crowd - 1 : 0;
    /* 9 and 10 are the first of four bins from 8 to 16, and so on */
    doublings = 31 - (unsigned)__builtin_clz(crowd - 1);
    bin = EXACT + (doublings - 3) * 4 + ((crowd - 1) >> (doublings - 2) & 3);
    return bin < BINS ? bin : BINS - 1;
}

void
probed_note(struct probed *r, uint32_t server, uint32_t crowd, mc_ns latency, mc_ns now)
{
    struct bin *b = &r->bin[server][bin_of(crowd)];
    mc_ns us = latency / MC_US;

    if (b->at != 0 && now - b->at > RECENT_NS)
        b->n = 0; /* of another time */
    b->latency_us[b->n++ % KEPT] = us < 1 ? 1 : us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    b->at = now;
}

static uint32_t
median(const struct bin *b)
{
    uint32_t sorted[KEPT] = {0};
    unsigned n = b->n < KEPT ? b->n : KEPT;

    for (unsigned i = 0; i < n; i++) {
        unsigned k = i;

        for (; k > 0 && sorted[k - 1] > b->latency_us[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = b->latency_us[i];
    }
    return n > 0 ? sorted[(n - 1) / 2] : 0;
}

static bool
is_recent(const struct bin *b, mc_ns now)
{
    return b->n > 0 && now - b->at <= RECENT_NS;
}

mc_ns
probed_latency(const struct probed *r, uint32_t server, uint32_t crowd, mc_ns now)
{
    const struct bin *bin = r->bin[server];
    unsigned at = bin_of(crowd);

    /* the nearest bin that knows; of two that are as near the one with the greater crowd, which
     * rather makes the server look slower than it is */
    for (unsigned away = 0; away < BINS; away++) {
        if (at + away < BINS && is_recent(&bin[at + away], now))
            return median(&bin[at + away]) * MC_US;
        if (away <= at && is_recent(&bin[at - away], now))
            return median(&bin[at - away]) * MC_US;
    }
    return 0;
}
