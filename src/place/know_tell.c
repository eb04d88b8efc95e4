/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_tell.c - what one balancer tells the others, and when: see share.h for the kinds.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/know_priv.h"

/* New over old in the mean of light requests: halves of 100 ms. */
#define MEAN_BLEND   0.5f
/* What is not used of the budget may be for so long, then it is lost. */
#define PURSE_S      0.2
/* Bytes on the wire, about: of an entry, and a pair of classes. */
#define FAST_BYTES   8
#define SLOW_BYTES   13
#define REPORT_BYTES 20
#define PAIR_BYTES   7
#define CLASS_BYTES  24
/* Pairs of classes whose correlation is smaller are told as 0: it is no more than chance, and most
 * pairs are like that. */
#define PAIR_LEAST   (1 / 128.0)
/* A light request whose slowness was not told yet is worth so much of a change. */
#define SLOW_CHANGE  (COST_ONE / 8.0f)
/* 20 MB, from where on a request is heavy, are worth a core. */
#define MEM_CHANGE   (COST_ONE / 320)

/* Parts of the budget. */
static const double part[SHARE_N_KINDS] = {
    [SHARE_FAST] = .30, [SHARE_HEAVY] = .20,  [SHARE_SLOW] = .25,
    [SHARE_ROWS] = 0,   [SHARE_REPORT] = .10, [SHARE_SUMS] = .15,
};
/* Who gets what others leave. */
static const enum share_kind first_served[] = {SHARE_HEAVY, SHARE_FAST, SHARE_SLOW, SHARE_REPORT,
                                               SHARE_SUMS};

/* Room for a message under way; what was in it is gone. */
static void *
scratch(struct know *k, size_t bytes)
{
    if (bytes > k->scratch_bytes) {
        k->scratch_bytes = bytes + bytes / 2;
        k->scratch = mc_realloc(k->scratch, k->scratch_bytes);
    }
    return k->scratch;
}

static void
send(struct know *k, uint64_t to, struct share_msg *m)
{
    size_t bytes;

    m->from = k->conf.id;
    m->seq = k->seq += SHARE_PIECES;
    bytes = k->conf.send(k->conf.arg, to, m);
    k->purse[m->kind] -= (double)bytes;
    k->n_sent[m->kind]++;
    k->n_bytes[m->kind] += bytes;
    k->n_pushed += m->n;
}

/* --- the budget ---------------------------------------------------------------------------------
 *
 * Each kind has a purse that fills with time, and what one does not need goes to the others.  While
 * there is anything in it a message may go, as long as the purse lets expect; one that was longer
 * leaves a debt, and the next waits.
 */

void
know_fill_purse(struct know *k, mc_ns now)
{
    double per_s = k->conf.budget_bytes_per_s > 0 ? k->conf.budget_bytes_per_s : KNOW_BUDGET;
    double length_s = (double)(now - k->purse_at) * 1e-9, spare = 0;

    k->purse_at = now;
    for (unsigned i = 0; i < SHARE_N_KINDS; i++) {
        double most = per_s * part[i] * PURSE_S, had = k->purse[i] + per_s * part[i] * length_s;

        k->purse[i] = fmin(had, most);
        spare += had - k->purse[i];
    }
    for (unsigned i = 0; i < MC_COUNT(first_served); i++) {
        enum share_kind kind = first_served[i];
        double more = fmin(spare, per_s * part[kind] * PURSE_S - k->purse[kind]);

        k->purse[kind] += more;
        spare -= more;
    }
}

/* How many entries of so many bytes may be told to all now; 0: none. */
static unsigned
room_for(const struct know *k, enum share_kind kind, double bytes)
{
    double n = k->purse[kind] / (bytes * (k->n_members - 1));

    return k->purse[kind] <= 0 ? 0 : n < 1 ? 1 : n > 1e9 ? 1000000000 : (unsigned)n;
}

/* Who changed most goes first: changes by their powers of two, and what those of each would take.
 */
#define N_RANKS 33

struct ranks {
    double need[N_RANKS];
};

static unsigned
rank_of(uint32_t change)
{
    return change == 0 ? 0 : 32 - (unsigned)__builtin_clz(change);
}

/* The least rank all of which may go; what has changed most goes in any case. */
static unsigned
least_rank(const struct ranks *r, double room)
{
    double sum = 0;
    bool any = false;

    for (unsigned i = N_RANKS; i-- > 0;) {
        sum += r->need[i];
        if (any && sum > room)
            return i + 1;
        any |= r->need[i] > 0;
    }
    return 0;
}

static struct share_load
load_of(const struct know *k, uint32_t server, mc_ns now)
{
    const struct know_mine *m = &k->mine[server];
    const struct eject *e = &k->eject[server];

    return (struct share_load){
        .server = server,
        .now = m->light,
        .mean = (int32_t)m->mean,
        .heavy = m->heavy,
        .mem = m->mem,
        /* what we only heard we do not repeat: two would keep each other's word alive for ever */
        .eject_ms =
            eject_is_out(e, now) && !e->hearsay ? (uint32_t)((e->until_ns - now) / MC_MS) : 0,
    };
}

static void
note_told(struct know *k, const struct share_load *e)
{
    struct know_mine *m = &k->mine[e->server];

    m->told_heavy = e->heavy;
    m->told_mem = e->mem;
}

void
know_tell_heavy(struct know *k, uint32_t server, mc_ns now)
{
    struct share_load e = load_of(k, server, now);

    if (k->purse[SHARE_HEAVY] > 0) {
        note_told(k, &e);
        send(k, SHARE_TO_ALL, &(struct share_msg){.kind = SHARE_HEAVY, .n = 1, .load = &e});
    } else if (!k->mine[server].late) {
        k->mine[server].late = true;
        k->late[k->n_late++] = server;
    }
}

void
know_tell_late(struct know *k, mc_ns now)
{
    unsigned room = room_for(k, SHARE_HEAVY, FAST_BYTES), n = 0;
    struct share_load *out;

    if (k->n_late == 0 || room == 0)
        return;
    out = scratch(k, k->n_late * sizeof(*out));
    while (n < k->n_late && n < room) {
        out[n] = load_of(k, k->late[n], now);
        k->mine[k->late[n]].late = false;
        note_told(k, &out[n++]);
    }
    k->n_late -= n;
    memmove(k->late, k->late + n, k->n_late * sizeof(*k->late));
    send(k, SHARE_TO_ALL, &(struct share_msg){.kind = SHARE_HEAVY, .n = n, .load = out});
}

/* --- FAST ---------------------------------------------------------------------------------------
 */

static uint32_t
distance(int32_t a, int32_t b)
{
    return a > b ? (uint32_t)a - (uint32_t)b : (uint32_t)b - (uint32_t)a;
}

static uint32_t
fast_change(const struct know *k, uint32_t server)
{
    return distance(k->mine[server].light, k->mine[server].told_light);
}

/* Leaves in `dirty` first those that may be told now; returns how many. */
static unsigned
choose_fast(struct know *k)
{
    struct ranks ranks = {{0}};
    unsigned least, n = 0;

    for (unsigned i = 0; i < k->n_dirty; i++)
        ranks.need[rank_of(fast_change(k, k->dirty[i]))] +=
            FAST_BYTES * k->cut->cover_n[k->table->pos[k->dirty[i]]];
    least = least_rank(&ranks, k->purse[SHARE_FAST]);
    for (unsigned i = 0; i < k->n_dirty; i++) {
        uint32_t s = k->dirty[i];

        if (rank_of(fast_change(k, s)) < least)
            continue;
        k->dirty[i] = k->dirty[n];
        k->dirty[n++] = s;
    }
    return n;
}

/* Members whose homes hold a changed server stand side by side (home.h); each gets one message with
 * what concerns it. */
static unsigned
collect_fast(struct know *k, unsigned n_told, unsigned member, mc_ns now, struct share_load *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_told; i++)
        if (know_in_home(k, member, k->dirty[i]))
            out[n++] = load_of(k, k->dirty[i], now);
    for (unsigned i = 0; i < n; i++)
        out[i].mean = 0; /* who hears FAST does not look at it */
    return n;
}

static void
mark_concerned(struct know *k, unsigned n_told, uint64_t *set)
{
    for (unsigned i = 0; i < n_told; i++) {
        uint32_t pos = k->table->pos[k->dirty[i]];
        unsigned first = k->cut->cover_first[pos];

        for (unsigned m = first; m < first + k->cut->cover_n[pos]; m++)
            set[m / 64] |= 1ull << (m % 64);
    }
}

static void
forget_dirty(struct know *k, unsigned n_told)
{
    for (unsigned i = 0; i < n_told; i++) {
        struct know_mine *m = &k->mine[k->dirty[i]];

        m->changed = false;
        m->told_light = m->light;
    }
    k->n_dirty -= n_told;
    memmove(k->dirty, k->dirty + n_told, k->n_dirty * sizeof(*k->dirty));
}

void
know_tell_fast(struct know *k, mc_ns now)
{
    unsigned n_words = (k->n_members + 63) / 64, n_told;
    struct share_load *out;
    uint64_t *set;

    if (k->n_dirty == 0 || k->purse[SHARE_FAST] <= 0)
        return;
    set = scratch(k, n_words * 8 + k->n_dirty * sizeof(*out));
    out = (struct share_load *)(set + n_words);
    n_told = choose_fast(k);
    memset(set, 0, n_words * 8);
    mark_concerned(k, n_told, set);
    for (unsigned m = 0; m < k->n_members; m++) {
        unsigned n;

        if (m == k->me || !(set[m / 64] & (1ull << (m % 64))))
            continue;
        n = collect_fast(k, n_told, m, now, out);
        if (n > 0)
            send(k, k->member[m], &(struct share_msg){.kind = SHARE_FAST, .n = n, .load = out});
    }
    forget_dirty(k, n_told);
}

/* --- SLOW ---------------------------------------------------------------------------------------
 */

/* Light requests in flight, mean since the last time.  By what was counted at their begins, as are
 * `now` and `heavy`: a class that becomes heavy must not be counted twice. */
static void
take_mean(const struct know *k, struct know_mine *m, mc_ns now)
{
    double length = (double)(now - k->told_at);
    double area = m->area + (double)m->light * (double)(now - m->area_at);

    if (length > 0)
        m->mean += MEAN_BLEND * ((float)(area / length) - m->mean);
    m->area = 0;
    m->area_at = now;
}

static bool
has_anything(const struct share_load *e)
{
    return e->now || e->mean || e->heavy || e->mem || e->slow_n > 0 || e->eject_ms;
}

static uint32_t
slow_change(const struct know *k, const struct share_load *e)
{
    const struct know_mine *m = &k->mine[e->server];
    uint64_t change = distance(e->mean, m->told_mean) + (uint64_t)distance(e->heavy, m->told_heavy);

    change += (uint64_t)MEM_CHANGE * distance(e->mem, m->told_mem);
    change += (uint64_t)(SLOW_CHANGE * fminf(m->slow_n, 1e6f));
    return e->eject_ms || change > UINT32_MAX ? UINT32_MAX : (uint32_t)change;
}

/* A run of servers of which all is told: as many as have `room` entries among them.  Returns where
 * it ends. */
static unsigned
slice_end(const struct know *k, const struct share_load *all, unsigned first, unsigned room)
{
    unsigned at = first;

    for (unsigned n = 0; at < k->map->n; at++) {
        n += has_anything(&all[at]);
        if (n > room)
            break;
    }
    return at;
}

/* What is told of all, in the order of the keys. */
static struct share_load *
look_slow(struct know *k, mc_ns now)
{
    struct share_load *all = scratch(k, (k->map->n + 1) * sizeof(*all));

    for (unsigned i = 0; i < k->map->n; i++) {
        uint32_t s = k->map->by_key[i].server;

        take_mean(k, &k->mine[s], now);
        all[i] = load_of(k, s, now);
        all[i].slow_sum = k->mine[s].slow_sum;
        all[i].slow_n = k->mine[s].slow_n;
    }
    k->told_at = now;
    return all;
}

/* Of the others, those that changed most, up to `room`: their least rank. */
static unsigned
least_slow(const struct know *k, const struct share_load *all, unsigned first, unsigned end,
           double room)
{
    struct ranks ranks = {{0}};

    for (unsigned i = 0; i < k->map->n; i++)
        if (i < first || i >= end)
            ranks.need[rank_of(slow_change(k, &all[i]))]++;
    ranks.need[0] = 0;
    return room < 1 ? N_RANKS : least_rank(&ranks, room);
}

static unsigned
choose_slow(struct know *k, struct share_load *all, unsigned first, unsigned end, unsigned room)
{
    unsigned least = least_slow(k, all, first, end, room), n = 0;

    for (unsigned i = 0; i < k->map->n; i++) {
        struct know_mine *m = &k->mine[all[i].server];
        bool in_slice = i >= first && i < end;
        unsigned rank = rank_of(slow_change(k, &all[i]));

        if (!in_slice && (rank == 0 || rank < least))
            continue;
        m->slow_sum = m->slow_n = 0;
        m->told_mean = all[i].mean;
        note_told(k, &all[i]);
        if (!in_slice || has_anything(&all[i]))
            all[n++] = all[i];
    }
    return n;
}

/* One half of the room is for a slice in which all is told, the other for the most changed of the
 * rest: of few servers all is told every time. */
void
know_tell_slow(struct know *k, mc_ns now)
{
    struct share_load *all = look_slow(k, now);
    unsigned room = room_for(k, SHARE_SLOW, SLOW_BYTES);
    unsigned first = k->slow_at < k->map->n ? k->slow_at : 0;
    unsigned end = slice_end(k, all, first, (room + 1) / 2);
    struct share_msg m = {.kind = SHARE_SLOW, .load = all, .rate = k->rate};

    if (room == 0)
        return;
    m.first = first == 0 ? 0 : k->map->by_key[first].key;
    m.last = end == k->map->n ? UINT32_MAX : k->map->by_key[end].key - 1;
    m.n = choose_slow(k, all, first, end, room / 2);
    k->slow_at = end == k->map->n ? 0 : end;
    send(k, SHARE_TO_ALL, &m);
}

/* --- the window ---------------------------------------------------------------------------------
 */

static unsigned
tell_rows(const struct know *k, uint32_t server, const struct presence_row *row, unsigned n,
          struct share_row *out)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (struct share_row){.server = server,
                                    .class_key = (uint32_t)k->class_key[row[i].class],
                                    .seconds = row[i].seconds,
                                    .ended = row[i].ended,
                                    .level = row[i].level,
                                    .failed = k->mine[server].failed};
    if (n == 0) /* "nothing" is not the same as "not told" */
        out[n++] = (struct share_row){.server = server, .failed = k->mine[server].failed};
    return n;
}

/* Presence at the servers of one owner; servers of that owner stand side by side in by_owner.
 * Returns where the next owner's begin. */
static unsigned
tell_owner(struct know *k, unsigned owner, unsigned at)
{
    struct presence_row row[KNOW_ALL_CLASSES];
    struct share_row *out;
    unsigned first = at, n = 0;

    while (at < k->view->n && k->owner[k->by_owner[at]] == owner)
        at++;
    out = scratch(k, (size_t)(at - first + 1) * (k->conf.n_classes + 1) * sizeof(*out));
    for (unsigned i = first; i < at; i++) {
        uint32_t s = k->by_owner[i];
        unsigned n_rows = presence_rows(&k->presence, s, row);

        if (owner == k->me)
            learn_presence(&k->learn, s, k->presence.window, row, n_rows);
        else
            n += tell_rows(k, s, row, n_rows, out + n);
        k->mine[s].failed = false;
    }
    if (owner != k->me && at > first && k->conf.send)
        send(k, k->member[owner],
             &(struct share_msg){
                 .kind = SHARE_ROWS, .window = k->presence.window, .n = n, .row = out});
    return at;
}

void
know_tell_reports(struct know *k)
{
    unsigned room = room_for(k, SHARE_REPORT, REPORT_BYTES), n = 0, n_servers = k->view->n;
    struct share_report *out = scratch(k, (n_servers + 1) * sizeof(*out));

    for (unsigned i = 0; i < n_servers && n < room; i++) {
        uint32_t s = k->report_at = (k->report_at + 1) % n_servers;
        struct know_host *h = &k->host[s];

        if (!h->news)
            continue;
        h->news = false;
        out[n++] = (struct share_report){s,           h->boot,      h->seq,  h->cores,
                                         h->mem_base, h->mem_limit, h->other};
    }
    if (n > 0)
        send(k, SHARE_TO_ALL, &(struct share_msg){.kind = SHARE_REPORT, .n = n, .report = out});
}

void
know_tell_window(struct know *k)
{
    unsigned at = 0;

    for (unsigned m = 0; m < k->n_members; m++)
        at = tell_owner(k, m, at);
}

/* --- SUMS ---------------------------------------------------------------------------------------
 */

struct class_place {
    uint32_t key;
    uint16_t class;
};

static int
by_class_key(const void *a, const void *b)
{
    const struct class_place *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

/* Classes of which there is anything to tell, in the order of their keys.  Of two with one key the
 * second is not told. */
static unsigned
classes_in_use(const struct know *k, struct class_place *out)
{
    unsigned n = 0, n_single = 0;

    for (unsigned c = 0; c < k->conf.n_classes; c++)
        if ((uint32_t)k->class_key[c] && k->learn.own.ended[c] > 0)
            out[n++] = (struct class_place){(uint32_t)k->class_key[c], (uint16_t)c};
    if (n > 0)
        qsort(out, n, sizeof(*out), by_class_key);
    for (unsigned i = 0; i < n; i++)
        if (n_single == 0 || out[i].key != out[n_single - 1].key)
            out[n_single++] = out[i];
    return n_single;
}

/* 0 when it is small beside what the two have on the diagonal. */
static float
pair_of(const struct regress *r, unsigned a, unsigned b)
{
    double v = r->aa[(size_t)a * r->k + b];
    double both = r->aa[(size_t)a * r->k + a] * r->aa[(size_t)b * r->k + b];

    return a != b && v * v < PAIR_LEAST * PAIR_LEAST * both ? 0 : (float)v;
}

static unsigned
put_pairs(const struct know *k, const struct class_place *class, unsigned row,
          struct share_pair *out)
{
    const struct learn_sums *own = &k->learn.own;
    unsigned n = 0;

    for (unsigned col = 0; col <= row; col++) {
        float cpu = pair_of(&own->cpu, class[row].class, class[col].class);
        float mem = pair_of(&own->mem, class[row].class, class[col].class);

        if (cpu != 0 || mem != 0)
            out[n++] = (struct share_pair){(uint16_t)row, (uint16_t)col, cpu, mem};
    }
    return n;
}

static struct share_sum
sum_of(const struct learn_sums *own, unsigned class)
{
    return (struct share_sum){(float)own->cpu_s[class], (float)own->ended[class],
                              (float)own->cpu.ay[class], (float)own->mem.ay[class]};
}

/* A slice of rows, from where the last ended. */
bool
know_tell_sums(struct know *k)
{
    struct class_place class[KNOW_ALL_CLASSES];
    unsigned n = classes_in_use(k, class), row = 0;
    struct share_sum *sum =
        scratch(k, n * (sizeof(*sum) + 4 + (n + 1) * sizeof(struct share_pair)));
    struct share_pair *pair = (struct share_pair *)(sum + n);
    uint32_t *key = (uint32_t *)(pair + (size_t)n * (n + 1) / 2);
    double room = k->purse[SHARE_SUMS] / (k->n_members - 1);
    struct share_msg m = {.kind = SHARE_SUMS, .first = k->sums_from, .last = UINT32_MAX};

    if (n == 0)
        return true;
    if (room <= 0)
        return false;
    m.sums = (struct share_sums){n, 0, 0, UINT32_MAX, key, sum, pair};
    for (unsigned i = 0; i < n; i++) {
        key[i] = class[i].key;
        sum[i] = sum_of(&k->learn.own, class[i].class);
    }
    while (row < n && class[row].key < k->sums_from)
        row++;
    for (; row < n && room > 0; row++) {
        unsigned pairs = put_pairs(k, class, row, pair + m.sums.n_pairs);

        m.sums.n_pairs += pairs;
        m.n++;
        room -= CLASS_BYTES + PAIR_BYTES * (double)pairs;
    }
    if (row < n)
        m.last = class[row].key - 1;
    k->sums_from = row < n ? class[row].key : 0;
    send(k, SHARE_TO_ALL, &m);
    return row == n;
}
