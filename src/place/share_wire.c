/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_wire.c - messages between balancers into bytes, see share_wire.h.
 *
 * A piece is built as a body beside a list of the classes that it names, which goes before it. What
 * does not fit any more is taken back, the piece leaves, and the next begins with it.
 */
#include "place/share_wire.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/pack.h"
#include "place/share_wire_priv.h"

struct piece {
    const struct share_msg *m;
    const struct share_map *map;
    share_wire_out *out;
    void *arg;
    size_t max;
    unsigned n_out;
    uint32_t first, last, col_first, col_last; /* keys that this piece speaks of */
    unsigned n, n_classes;                     /* entries, classes */
    uint32_t class_key[SHARE_WIRE_CLASSES];
    struct pack_out body;
    uint8_t bytes[SHARE_WIRE_MOST];
};

/* Where a piece stood before an entry that did not fit. */
struct mark {
    unsigned n, n_classes;
    size_t n_body;
};

static bool
has_classes(enum share_kind kind)
{
    return kind == SHARE_ROWS || kind == SHARE_SUMS;
}

/* What stands before the body. */
static void
pack_head(const struct piece *p, struct pack_out *o)
{
    const struct share_msg *m = p->m;

    pack_u8(o, SHARE_WIRE_VERSION);
    pack_u8(o, (uint8_t)m->kind);
    pack_u32(o, p->map->pool);
    pack_u64(o, m->seq + p->n_out);
    if (m->kind == SHARE_SLOW)
        pack_f32(o, (float)m->rate);
    if (m->kind == SHARE_ROWS)
        pack_u64(o, (uint64_t)m->window);
    if (m->kind == SHARE_SLOW || m->kind == SHARE_SUMS) {
        pack_u32(o, p->first);
        pack_u32(o, p->last);
    }
    if (m->kind == SHARE_SUMS) {
        pack_u32(o, p->col_first);
        pack_u32(o, p->col_last);
    }
    if (has_classes(m->kind))
        pack_u16(o, (uint16_t)p->n_classes);
    for (unsigned i = 0; i < p->n_classes; i++)
        pack_u32(o, p->class_key[i]);
    pack_u16(o, (uint16_t)p->n);
}

static void
piece_begin(struct piece *p)
{
    p->n = p->n_classes = 0;
    p->body = (struct pack_out){.p = p->bytes, .cap = p->max};
}

static void
piece_end(struct piece *p)
{
    uint8_t whole[SHARE_WIRE_MOST];
    struct pack_out o = {.p = whole, .cap = p->max};

    pack_head(p, &o);
    pack_bytes(&o, p->body.p, p->body.n);
    MC_ASSERT(!o.bad);
    if (p->n_out < SHARE_PIECES) {
        p->out(p->arg, whole, o.n);
        p->n_out++;
    }
    piece_begin(p);
}

static size_t
head_bytes(const struct piece *p)
{
    static const uint8_t fixed[SHARE_N_KINDS] = {
        [SHARE_FAST] = 16, [SHARE_HEAVY] = 16,  [SHARE_SLOW] = 28,
        [SHARE_ROWS] = 26, [SHARE_REPORT] = 16, [SHARE_SUMS] = 34,
    };

    return fixed[p->m->kind] + 4 * (size_t)p->n_classes;
}

static bool
piece_fits(const struct piece *p)
{
    return !p->body.bad && head_bytes(p) + p->body.n <= p->max;
}

static struct mark
piece_mark(const struct piece *p)
{
    return (struct mark){p->n, p->n_classes, p->body.n};
}

static void
piece_back(struct piece *p, struct mark at)
{
    p->n = at.n;
    p->n_classes = at.n_classes;
    p->body.n = at.n_body;
    p->body.bad = false;
}

/* The number of a class in this piece. */
static uint8_t
number_of(struct piece *p, uint32_t key)
{
    for (unsigned i = p->n_classes; i-- > 0;)
        if (p->class_key[i] == key)
            return (uint8_t)i;
    if (p->n_classes == SHARE_WIRE_CLASSES) {
        p->body.bad = true;
        return 0;
    }
    p->class_key[p->n_classes] = key;
    return (uint8_t)p->n_classes++;
}

/* --- loads --------------------------------------------------------------------------------------
 */

static uint32_t
bounded(int32_t v, uint32_t most)
{
    return v < 0 ? 0 : (uint32_t)v > most ? most : (uint32_t)v;
}

/* Rounded, since many small ones add up. */
static uint32_t
coarse(int32_t phi)
{
    return (bounded(phi, SHARE_PHI_MOST) + WIRE_PHI / 2) / WIRE_PHI;
}

/* A number that is not negative in 16 bits: 8 of its exponent and the 8 first of its fraction. */
static void
pack_short(struct pack_out *o, float v)
{
    uint32_t u;

    v = v > 0 ? fminf(v, WIRE_SHORT_MOST) : 0;
    memcpy(&u, &v, sizeof(u));
    pack_u16(o, (uint16_t)((u + 0x4000) >> 15));
}

static void
pack_load(struct piece *p, const struct share_load *e)
{
    uint32_t now = coarse(e->now), mean = coarse(e->mean), heavy = coarse(e->heavy);
    uint32_t mem = bounded(e->mem, SHARE_MEM_MOST);
    bool slow = e->slow_n > 0 && e->slow_sum > 0;

    pack_u32(&p->body, p->map->key[e->server]);
    pack_u8(&p->body,
            (uint8_t)((now ? HAS_NOW : 0) | (mean ? HAS_MEAN : 0) | (heavy ? HAS_HEAVY : 0) |
                      (mem ? HAS_MEM : 0) | (slow ? HAS_SLOW : 0) | (e->eject_ms ? HAS_EJECT : 0)));
    if (now)
        pack_varint(&p->body, now);
    if (mean)
        pack_varint(&p->body, mean);
    if (heavy)
        pack_varint(&p->body, heavy);
    if (mem)
        pack_varint(&p->body, mem);
    if (slow) {
        pack_short(&p->body, e->slow_sum);
        pack_short(&p->body, e->slow_n);
    }
    if (e->eject_ms)
        pack_varint(&p->body, e->eject_ms);
    p->n++;
}

/* A piece of a SLOW message speaks of the keys up to its last entry, the next of those behind. */
static void
cut_keys(struct piece *p, uint32_t upto)
{
    p->last = upto < p->m->last ? upto : p->m->last;
    piece_end(p);
    if (upto >= p->first && upto < UINT32_MAX)
        p->first = upto + 1;
}

static void
put_loads(struct piece *p)
{
    const struct share_msg *m = p->m;
    bool slow = m->kind == SHARE_SLOW;
    uint32_t upto = 0;

    p->first = m->first;
    for (unsigned i = 0; i < m->n; i++) {
        uint32_t key = p->map->key[m->load[i].server];
        struct mark at = piece_mark(p);

        if (key == 0)
            continue;
        MC_ASSERT(!slow || key > upto);
        pack_load(p, &m->load[i]);
        if (!piece_fits(p)) {
            piece_back(p, at);
            cut_keys(p, upto);
            pack_load(p, &m->load[i]);
        }
        upto = key;
    }
    p->last = m->last;
    /* a SLOW message without entries tells the rate, and that there is nothing */
    if (p->n > 0 || (slow && (p->n_out == 0 || p->first <= p->last)))
        piece_end(p);
}

/* --- presence ------------------------------------------------------------------------------------
 */

static void
pack_row(struct piece *p, const struct share_row *r)
{
    double us = r->seconds > 0 ? fmin((double)r->seconds * 1e6, WIRE_US_MOST) : 0;
    double ended = r->ended > 0 ? fmin((double)r->ended, WIRE_ENDED_MOST) : 0;

    pack_u8(&p->body, number_of(p, r->class_key));
    pack_varint(&p->body, (uint64_t)llrint(us));
    pack_varint(&p->body, (uint64_t)llrint(ended));
    pack_svarint(&p->body, r->level);
}

/* Classes for which one piece has no room count as one that is not known. */
static void
pack_rest(struct piece *p, const struct share_row *row, unsigned n)
{
    struct share_row rest = {.class_key = SHARE_CLASS_OTHER};

    for (unsigned i = 0; i < n; i++) {
        rest.seconds += row[i].seconds;
        rest.ended += row[i].ended;
        rest.level += row[i].level;
    }
    pack_row(p, &rest);
}

/* All rows of a server are in one piece: its owner takes them for the whole of the window. */
static void
pack_server(struct piece *p, const struct share_row *row, unsigned n, unsigned n_single)
{
    bool nothing = row->class_key == 0;
    unsigned told = nothing ? 0 : n_single < n ? n_single + 1 : n;

    pack_u32(&p->body, p->map->key[row->server]);
    pack_varint(&p->body, told * 2 + row->failed);
    for (unsigned i = 0; i < n_single && !nothing; i++)
        pack_row(p, &row[i]);
    if (n_single < n)
        pack_rest(p, row + n_single, n - n_single);
    p->n++;
}

static void
put_server(struct piece *p, const struct share_row *row, unsigned n)
{
    struct mark at = piece_mark(p);
    unsigned n_single = n;

    pack_server(p, row, n, n);
    if (piece_fits(p))
        return;
    piece_back(p, at);
    if (p->n > 0)
        piece_end(p);
    for (at = piece_mark(p);; n_single = n_single * 3 / 4) {
        pack_server(p, row, n, n_single);
        if (piece_fits(p))
            return;
        piece_back(p, at);
    }
}

static void
put_rows(struct piece *p)
{
    const struct share_row *row = p->m->row;

    for (unsigned i = 0, end; i < p->m->n; i = end) {
        for (end = i + 1; end < p->m->n && row[end].server == row[i].server;)
            end++;
        if (p->map->key[row[i].server] != 0)
            put_server(p, row + i, end - i);
    }
    if (p->n > 0)
        piece_end(p);
}

/* --- reports -------------------------------------------------------------------------------------
 */

static void
pack_report(struct piece *p, const struct share_report *r)
{
    double cores = r->cores > 0 ? fmin((double)r->cores, WIRE_CORES_MOST) : 0;

    pack_u32(&p->body, p->map->key[r->server]);
    pack_u32(&p->body, (uint32_t)(r->boot ^ r->boot >> 32));
    pack_varint(&p->body, r->seq);
    pack_varint(&p->body, (uint64_t)ceil(cores * WIRE_CORE));
    pack_varint(&p->body, r->mem_base);
    pack_varint(&p->body, r->mem_limit);
    pack_varint(&p->body, coarse(r->other));
    p->n++;
}

static void
put_reports(struct piece *p)
{
    for (unsigned i = 0; i < p->m->n; i++) {
        struct mark at = piece_mark(p);

        if (p->map->key[p->m->report[i].server] == 0)
            continue;
        pack_report(p, &p->m->report[i]);
        if (piece_fits(p))
            continue;
        piece_back(p, at);
        piece_end(p);
        pack_report(p, &p->m->report[i]);
    }
    if (p->n > 0)
        piece_end(p);
}

/* --- sums ----------------------------------------------------------------------------------------
 */

/* 24 bits: sign, 8 of the exponent, 15 of the fraction. */
static void
pack_middle(struct pack_out *o, float v)
{
    uint32_t u;

    v = isfinite(v) ? fmaxf(fminf(v, WIRE_SUM_MOST), -WIRE_SUM_MOST) : 0;
    memcpy(&u, &v, sizeof(u));
    u = (u + 0x80) >> 8;
    pack_u8(o, (uint8_t)(u >> 16));
    pack_u16(o, (uint16_t)u);
}

static void
pack_sum(struct pack_out *o, float v)
{
    pack_f32(o, isfinite(v) ? fmaxf(fminf(v, WIRE_SUM_MOST), -WIRE_SUM_MOST) : 0);
}

static void
pack_sum_row(struct piece *p, unsigned row, unsigned from, unsigned n)
{
    const struct share_sums *s = &p->m->sums;
    const struct share_sum *sum = &s->sum[row];

    pack_u8(&p->body, number_of(p, s->class_key[row]));
    pack_sum(&p->body, fmaxf(sum->cpu_s, 0));
    pack_sum(&p->body, fmaxf(sum->ended, 0));
    pack_sum(&p->body, sum->cpu_ay);
    pack_sum(&p->body, sum->mem_ay);
    pack_u16(&p->body, (uint16_t)n);
    for (unsigned i = from; i < from + n; i++) {
        pack_u8(&p->body, number_of(p, s->class_key[s->pair[i].col]));
        pack_middle(&p->body, s->pair[i].cpu);
        pack_middle(&p->body, s->pair[i].mem);
    }
    p->n++;
}

/* A piece of whole rows leaves: it speaks of all keys up to that of its last row. */
static void
cut_rows(struct piece *p, uint32_t last)
{
    p->col_first = 0;
    p->col_last = UINT32_MAX;
    p->last = last;
    piece_end(p);
    p->first = last < UINT32_MAX ? last + 1 : last;
}

/* A row that is too long for one piece, in pieces that speak of some columns each. */
static void
put_long_row(struct piece *p, unsigned row, unsigned from, unsigned n)
{
    const struct share_sums *s = &p->m->sums;
    uint32_t key = s->class_key[row];

    if (p->first < key) /* classes before it that have nothing */
        cut_rows(p, key - 1);
    p->col_first = 0;
    for (unsigned take; n > 0; from += take, n -= take) {
        struct mark at = piece_mark(p);

        for (take = n;; take = take * 3 / 4) {
            pack_sum_row(p, row, from, take);
            if (piece_fits(p))
                break;
            piece_back(p, at);
        }
        p->first = p->last = key;
        p->col_last = take < n ? s->class_key[s->pair[from + take - 1].col] : UINT32_MAX;
        piece_end(p);
        p->col_first = p->col_last < UINT32_MAX ? p->col_last + 1 : p->col_last;
    }
    p->first = key < UINT32_MAX ? key + 1 : key;
}

static void
put_sum_row(struct piece *p, unsigned row, unsigned from, unsigned n)
{
    const uint32_t *key = p->m->sums.class_key;
    struct mark at = piece_mark(p);

    pack_sum_row(p, row, from, n);
    if (piece_fits(p))
        return;
    piece_back(p, at);
    if (p->n > 0)
        cut_rows(p, key[row] - 1);
    at = piece_mark(p);
    pack_sum_row(p, row, from, n);
    if (piece_fits(p))
        return;
    piece_back(p, at);
    put_long_row(p, row, from, n);
}

static void
put_sums(struct piece *p)
{
    const struct share_sums *s = &p->m->sums;
    unsigned at = 0;

    p->first = p->m->first;
    for (unsigned row = 0; row < s->k; row++) {
        unsigned from = at;

        while (at < s->n_pairs && s->pair[at].row == row)
            at++;
        if (s->class_key[row] >= p->m->first && s->class_key[row] <= p->m->last)
            put_sum_row(p, row, from, at - from);
    }
    if (p->n > 0 || p->first <= p->m->last)
        cut_rows(p, p->m->last);
}

unsigned
share_wire_put(const struct share_msg *m, const struct share_map *map, size_t max,
               share_wire_out *out, void *arg)
{
    static void (*const put[SHARE_N_KINDS])(struct piece *) = {
        [SHARE_FAST] = put_loads, [SHARE_HEAVY] = put_loads,    [SHARE_SLOW] = put_loads,
        [SHARE_ROWS] = put_rows,  [SHARE_REPORT] = put_reports, [SHARE_SUMS] = put_sums,
    };
    struct piece p;

    MC_ASSERT(m->kind < SHARE_N_KINDS && max >= SHARE_WIRE_LEAST && max <= SHARE_WIRE_MOST);
    p.m = m;
    p.map = map;
    p.out = out;
    p.arg = arg;
    p.max = max;
    p.n_out = 0;
    p.first = p.col_first = p.col_last = UINT32_MAX;
    p.last = 0;
    piece_begin(&p);
    put[m->kind](&p);
    return p.n_out;
}
