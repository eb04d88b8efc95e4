/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_wire_read.c - bytes of another balancer into a message, see share_wire.h.
 *
 * Who sent them holds the cluster's key and may be broken all the same.  Each number is bounded
 * here, so that sums over all balancers stay within their types; what lies beyond spoils its piece.
 */
#include <math.h>
#include <string.h>

#include "base/pack.h"
#include "place/share_wire.h"
#include "place/share_wire_priv.h"

struct reader {
    struct share_wire *w;
    const struct share_map *map;
    struct pack_in in;
    bool absurd; /* a number was out of its bounds */
    unsigned n_entries, n_classes, n_unknown;
    uint32_t class_key[SHARE_WIRE_CLASSES];
};

/* --- numbers ------------------------------------------------------------------------------------
 */

static uint64_t
get_upto(struct reader *r, uint64_t most)
{
    uint64_t v = unpack_varint(&r->in);

    r->absurd |= v > most;
    return v > most ? 0 : v;
}

static int32_t
get_phi(struct reader *r)
{
    return (int32_t)(get_upto(r, SHARE_PHI_MOST / WIRE_PHI) * WIRE_PHI);
}

static float
of_bits(uint32_t u)
{
    float v;

    memcpy(&v, &u, sizeof(v));
    return v;
}

static float
get_bounded(struct reader *r, float v, float least, float most)
{
    bool good = v >= least && v <= most * 1.01f; /* it was rounded */

    r->absurd |= !good;
    return good ? v : 0;
}

static float
get_short(struct reader *r)
{
    return get_bounded(r, of_bits((uint32_t)unpack_u16(&r->in) << 15), 0, WIRE_SHORT_MOST);
}

static float
get_middle(struct reader *r, float least)
{
    uint32_t high = unpack_u8(&r->in);

    return get_bounded(r, of_bits((high << 16 | unpack_u16(&r->in)) << 8), least, WIRE_SUM_MOST);
}

static float
get_f32(struct reader *r, float least, float most)
{
    return get_bounded(r, of_bits(unpack_u32(&r->in)), least, most);
}

/* SHARE_NO_SERVER: not ours, which happens while balancers have different configurations. */
static uint32_t
get_server(struct reader *r)
{
    uint32_t server = share_map_find(r->map, unpack_u32(&r->in));

    r->n_unknown += server == SHARE_NO_SERVER;
    return server;
}

static unsigned
get_class(struct reader *r)
{
    unsigned i = unpack_u8(&r->in);

    r->absurd |= i >= r->n_classes;
    return i < r->n_classes ? i : 0;
}

static bool
is_bad(const struct reader *r)
{
    return r->in.bad || r->absurd;
}

/* --- entries: each reads all of its kind --------------------------------------------------------
 */

static void
get_loads(struct reader *r, struct share_msg *m)
{
    for (unsigned i = 0; i < r->n_entries && !is_bad(r); i++) {
        struct share_load e = {.server = get_server(r)};
        uint8_t has = unpack_u8(&r->in);

        r->absurd |= (has & ~HAS_ALL) != 0;
        if (has & HAS_NOW)
            e.now = get_phi(r);
        if (has & HAS_MEAN)
            e.mean = get_phi(r);
        if (has & HAS_HEAVY)
            e.heavy = get_phi(r);
        if (has & HAS_MEM)
            e.mem = (int32_t)get_upto(r, SHARE_MEM_MOST);
        if (has & HAS_SLOW) {
            e.slow_sum = get_short(r);
            e.slow_n = get_short(r);
        }
        if (has & HAS_EJECT)
            e.eject_ms = (uint32_t)get_upto(r, WIRE_EJECT_MOST);
        if (e.server != SHARE_NO_SERVER && !is_bad(r))
            r->w->room.load[m->n++] = e;
    }
    m->load = r->w->room.load;
}

static struct share_row
get_row(struct reader *r, uint32_t server, bool failed)
{
    struct share_row row = {.server = server, .failed = failed};
    int64_t level;

    row.class_key = r->class_key[get_class(r)];
    row.seconds = (float)get_upto(r, (uint64_t)WIRE_US_MOST) * 1e-6f;
    row.ended = (float)get_upto(r, (uint64_t)WIRE_ENDED_MOST);
    level = unpack_svarint(&r->in);
    r->absurd |= level > WIRE_LEVEL_MOST || level < -WIRE_LEVEL_MOST || row.class_key == 0;
    row.level = r->absurd ? 0 : (int32_t)level;
    return row;
}

static void
get_rows(struct reader *r, struct share_msg *m)
{
    for (unsigned i = 0; i < r->n_entries && !is_bad(r); i++) {
        uint32_t server = get_server(r);
        uint64_t word = get_upto(r, 2 * SHARE_WIRE_ROWS + 1);
        unsigned n = (unsigned)(word / 2), first = m->n;
        bool failed = word & 1;

        if (n == 0)
            r->w->room.row[m->n++] = (struct share_row){.server = server, .failed = failed};
        for (unsigned k = 0; k < n && !is_bad(r); k++)
            r->w->room.row[m->n++] = get_row(r, server, failed);
        if (server == SHARE_NO_SERVER)
            m->n = first;
    }
    m->row = r->w->room.row;
}

static void
get_reports(struct reader *r, struct share_msg *m)
{
    for (unsigned i = 0; i < r->n_entries && !is_bad(r); i++) {
        struct share_report e = {.server = get_server(r)};

        e.boot = unpack_u32(&r->in);
        e.seq = unpack_varint(&r->in);
        e.cores = (float)get_upto(r, (uint64_t)WIRE_CORES_MOST * WIRE_CORE) / WIRE_CORE;
        e.mem_base = (uint32_t)get_upto(r, UINT32_MAX);
        e.mem_limit = (uint32_t)get_upto(r, UINT32_MAX);
        e.other = get_phi(r);
        if (e.server != SHARE_NO_SERVER && !is_bad(r))
            r->w->room.report[m->n++] = e;
    }
    m->report = r->w->room.report;
}

static void
get_pairs(struct reader *r, struct share_msg *m, unsigned row, unsigned n)
{
    for (unsigned k = 0; k < n && !is_bad(r); k++) {
        unsigned col = get_class(r);
        float least = row == col ? 0 : -WIRE_SUM_MOST * 1.01f;
        struct share_pair pair = {(uint16_t)row, (uint16_t)col, 0, 0};

        pair.cpu = get_middle(r, least);
        pair.mem = get_middle(r, least);
        r->absurd |= r->class_key[col] > r->class_key[row];
        if (!is_bad(r))
            r->w->room.sums.pair[m->sums.n_pairs++] = pair;
    }
}

static void
get_sums(struct reader *r, struct share_msg *m)
{
    struct share_sum *sum = r->w->room.sums.sum;

    m->sums.k = r->n_classes;
    m->sums.class_key = r->w->room.sums.class_key;
    m->sums.sum = sum;
    m->sums.pair = r->w->room.sums.pair;
    memcpy(r->w->room.sums.class_key, r->class_key, r->n_classes * sizeof(*r->class_key));
    memset(sum, 0, r->n_classes * sizeof(*sum));
    for (unsigned i = 0; i < r->n_entries && !is_bad(r); i++) {
        unsigned row = get_class(r);
        float any = WIRE_SUM_MOST * 1.01f;

        r->absurd |= r->n_classes == 0;
        if (is_bad(r))
            return;
        sum[row].cpu_s = get_f32(r, 0, WIRE_SUM_MOST);
        sum[row].ended = get_f32(r, 0, WIRE_SUM_MOST);
        sum[row].cpu_ay = get_f32(r, -any, WIRE_SUM_MOST);
        sum[row].mem_ay = get_f32(r, -any, WIRE_SUM_MOST);
        get_pairs(r, m, row, unpack_u16(&r->in));
    }
    m->n = m->sums.k;
}

/* --- a piece ------------------------------------------------------------------------------------
 */

uint32_t
share_wire_pool(const void *bytes, size_t n)
{
    struct pack_in in = {.p = bytes, .n = n};
    uint8_t version = unpack_u8(&in);

    unpack_u8(&in);
    return version == SHARE_WIRE_VERSION && n <= SHARE_WIRE_MOST ? unpack_u32(&in) : 0;
}

static enum share_wire_fault
get_start(struct reader *r, struct share_msg *m)
{
    uint8_t version = unpack_u8(&r->in), kind = unpack_u8(&r->in);
    uint32_t pool = unpack_u32(&r->in);

    m->seq = unpack_u64(&r->in);
    if (r->in.bad)
        return SHARE_WIRE_F_SIZE;
    if (version != SHARE_WIRE_VERSION)
        return SHARE_WIRE_F_VERSION;
    if (kind >= SHARE_N_KINDS)
        return SHARE_WIRE_F_KIND;
    if (pool != r->map->pool)
        return SHARE_WIRE_F_POOL;
    m->kind = (enum share_kind)kind;
    return SHARE_WIRE_F_NONE;
}

static void
get_classes(struct reader *r)
{
    unsigned n = unpack_u16(&r->in);

    r->absurd |= n > SHARE_WIRE_CLASSES;
    for (unsigned i = 0; i < n && !is_bad(r); i++)
        r->class_key[r->n_classes++] = unpack_u32(&r->in);
}

static void
get_head(struct reader *r, struct share_msg *m)
{
    if (m->kind == SHARE_SLOW)
        m->rate = (double)get_f32(r, 0, WIRE_RATE_MOST);
    if (m->kind == SHARE_ROWS)
        m->window = (int64_t)unpack_u64(&r->in);
    if (m->kind == SHARE_SLOW || m->kind == SHARE_SUMS) {
        m->first = unpack_u32(&r->in);
        m->last = unpack_u32(&r->in);
    }
    if (m->kind == SHARE_SUMS) {
        m->sums.col_first = unpack_u32(&r->in);
        m->sums.col_last = unpack_u32(&r->in);
    }
    if (m->kind == SHARE_ROWS || m->kind == SHARE_SUMS)
        get_classes(r);
    r->n_entries = unpack_u16(&r->in);
}

static enum share_wire_fault
get_piece(struct reader *r, struct share_msg *m)
{
    static void (*const get[SHARE_N_KINDS])(struct reader *, struct share_msg *) = {
        [SHARE_FAST] = get_loads, [SHARE_HEAVY] = get_loads,    [SHARE_SLOW] = get_loads,
        [SHARE_ROWS] = get_rows,  [SHARE_REPORT] = get_reports, [SHARE_SUMS] = get_sums,
    };
    enum share_wire_fault f = get_start(r, m);

    if (f != SHARE_WIRE_F_NONE)
        return f;
    get_head(r, m);
    if (!is_bad(r))
        get[m->kind](r, m);
    if (r->in.bad)
        return SHARE_WIRE_F_CUT;
    return r->absurd ? SHARE_WIRE_F_NUMBER : SHARE_WIRE_F_NONE;
}

enum share_wire_fault
share_wire_get(struct share_wire *w, const struct share_map *map, uint64_t from, const void *bytes,
               size_t n, struct share_msg *out)
{
    struct reader r;
    struct share_msg m = {.from = from};
    enum share_wire_fault f = SHARE_WIRE_F_SIZE;

    r.w = w;
    r.map = map;
    r.in = (struct pack_in){.p = bytes, .n = n};
    r.absurd = false;
    r.n_entries = r.n_classes = r.n_unknown = 0;
    if (n <= SHARE_WIRE_MOST)
        f = get_piece(&r, &m);
    w->n_fault[f]++;
    if (f != SHARE_WIRE_F_NONE)
        return f;
    w->n_unknown += r.n_unknown;
    *out = m;
    return f;
}
