/* SPDX-License-Identifier: BSD-2-Clause
 *
 * mesh.h - for the tests of this room: a network in virtual time that loses, doubles, delays and
 * reorders messages, and can be cut.  A run depends on nothing but its seed.
 */
#ifndef MC_CLUSTER_MESH_H
#define MC_CLUSTER_MESH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "base/units.h"

#define MESH_MAX 12
#define UNUSED   __attribute__((unused))

struct mesh_mail {
    mc_ns at;
    uint64_t order; /* of sending, for equal times */
    unsigned from, to;
    size_t n;
    uint8_t *bytes; /* malloc'd: a read beyond n is seen by the address sanitizer */
};

struct mesh {
    struct rng rng;
    mc_ns now;
    unsigned n;
    double loss, twice;        /* parts of all messages */
    mc_ns delay_ns, spread_ns; /* at least, and at random on top of it */
    unsigned side[MESH_MAX];   /* only those on the same side hear each other */
    bool down[MESH_MAX];
    struct mesh_mail *mail; /* a binary heap */
    unsigned n_mail, cap;
    uint64_t order;
};

static void UNUSED
mesh_init(struct mesh *m, unsigned n, uint64_t seed)
{
    *m = (struct mesh){.n = n, .now = MC_SEC, .delay_ns = 200 * MC_US, .spread_ns = 300 * MC_US};
    rng_seed(&m->rng, seed);
}

static void UNUSED
mesh_fini(struct mesh *m)
{
    for (unsigned i = 0; i < m->n_mail; i++)
        free(m->mail[i].bytes);
    free(m->mail);
}

static bool
mesh_before(const struct mesh_mail *a, const struct mesh_mail *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void
mesh_swap(struct mesh_mail *a, struct mesh_mail *b)
{
    struct mesh_mail t = *a;

    *a = *b;
    *b = t;
}

static void
mesh_post(struct mesh *m, unsigned from, unsigned to, const void *bytes, size_t n)
{
    unsigned i = m->n_mail++;

    if (m->n_mail > m->cap) {
        m->cap = m->cap ? 2 * m->cap : 64;
        m->mail = mc_realloc(m->mail, m->cap * sizeof(*m->mail));
    }
    m->mail[i] = (struct mesh_mail){
        .at = m->now + m->delay_ns + (mc_ns)(rng_unit(&m->rng) * (double)m->spread_ns),
        .order = m->order++,
        .from = from,
        .to = to,
        .n = n,
        .bytes = malloc(n ? n : 1),
    };
    memcpy(m->mail[i].bytes, bytes, n);
    for (; i > 0 && mesh_before(&m->mail[i], &m->mail[(i - 1) / 2]); i = (i - 1) / 2)
        mesh_swap(&m->mail[i], &m->mail[(i - 1) / 2]);
}

static void UNUSED
mesh_send(struct mesh *m, unsigned from, unsigned to, const void *bytes, size_t n)
{
    MC_ASSERT(from < m->n && to < m->n && from != to);
    if (rng_unit(&m->rng) >= m->loss)
        mesh_post(m, from, to, bytes, n);
    if (rng_unit(&m->rng) < m->twice)
        mesh_post(m, from, to, bytes, n);
}

/* When the next message arrives. */
static mc_ns UNUSED
mesh_due(const struct mesh *m)
{
    return m->n_mail ? m->mail[0].at : MC_NEVER_NS;
}

static bool
mesh_hears(const struct mesh *m, unsigned from, unsigned to)
{
    return !m->down[to] && m->side[from] == m->side[to];
}

/* Members' ids: neither 0 nor their places. */
static uint64_t UNUSED
mesh_id(unsigned at)
{
    return 1000 + 7 * at;
}

static unsigned UNUSED
mesh_at(uint64_t id)
{
    return (unsigned)((id - 1000) / 7);
}

/* Ids of those that are up and on its side. */
static unsigned UNUSED
mesh_others(const struct mesh *m, unsigned at, uint64_t ids[MESH_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n; i++)
        if (i != at && mesh_hears(m, at, i))
            ids[n++] = mesh_id(i);
    return n;
}

/* The next message that has arrived; its bytes are the caller's to free. */
static bool UNUSED
mesh_take(struct mesh *m, struct mesh_mail *out)
{
    while (m->n_mail > 0 && m->mail[0].at <= m->now) {
        *out = m->mail[0];
        m->mail[0] = m->mail[--m->n_mail];
        for (unsigned i = 0;;) {
            unsigned k = 2 * i + 1;

            if (k + 1 < m->n_mail && mesh_before(&m->mail[k + 1], &m->mail[k]))
                k++;
            if (k >= m->n_mail || !mesh_before(&m->mail[k], &m->mail[i]))
                break;
            mesh_swap(&m->mail[i], &m->mail[k]);
            i = k;
        }
        if (mesh_hears(m, out->from, out->to))
            return true;
        free(out->bytes);
    }
    return false;
}

/* How many randomised schedules to play: MC_SCHEDULES, or so many (fewer where a sanitizer makes
 * each slow). */
static unsigned UNUSED
mesh_schedules(unsigned n)
{
    const char *wanted = getenv("MC_SCHEDULES");

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    n /= 10;
#endif
    return wanted ? (unsigned)strtoul(wanted, NULL, 10) : n;
}

/* Of the i-th schedule; SEED=n begins with the n-th. */
static uint64_t UNUSED
mesh_seed(unsigned i)
{
    const char *wanted = getenv("SEED");

    return i + (wanted ? strtoull(wanted, NULL, 10) : 1);
}

#define mesh_require(seed, what)                                                            \
    do {                                                                                    \
        if (!(what)) {                                                                      \
            print_error("%s:%d: %s; SEED=%llu MC_SCHEDULES=1\n", __FILE__, __LINE__, #what, \
                        (unsigned long long)(seed));                                        \
            fail();                                                                         \
        }                                                                                   \
    } while (0)

#endif
