/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_tell.c - what one balancer tells the others, and when: see share.h for the kinds.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/know_priv.h"

/* New over old in the mean of light requests: halves of 100 ms. */
#define MEAN_BLEND 0.5f

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
    m->from = k->conf.id;
    m->seq = ++k->seq;
    k->n_sent[m->kind]++;
    k->n_pushed += m->n;
    k->conf.send(k->conf.arg, to, m);
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

void
know_tell_heavy(struct know *k, uint32_t server, mc_ns now)
{
    struct share_load e = load_of(k, server, now);

    send(k, SHARE_TO_ALL, &(struct share_msg){.kind = SHARE_HEAVY, .n = 1, .load = &e});
}

/* --- FAST
 * ------------------------------------------------------------------------------------------- */

/* Members whose homes hold a changed server stand side by side (home.h); each gets one message with
 * what concerns it. */
static unsigned
collect_fast(struct know *k, unsigned member, mc_ns now, struct share_load *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < k->n_dirty; i++)
        if (know_in_home(k, member, k->dirty[i]))
            out[n++] = load_of(k, k->dirty[i], now);
    return n;
}

static void
mark_concerned(struct know *k, uint64_t *set)
{
    for (unsigned i = 0; i < k->n_dirty; i++) {
        uint32_t pos = k->table->pos[k->dirty[i]];
        unsigned first = k->cut->cover_first[pos];

        for (unsigned m = first; m < first + k->cut->cover_n[pos]; m++)
            set[m / 64] |= 1ull << (m % 64);
    }
}

void
know_tell_fast(struct know *k, mc_ns now)
{
    unsigned n_words = (k->n_members + 63) / 64;
    uint64_t *set = scratch(k, n_words * 8 + k->n_dirty * sizeof(struct share_load));
    struct share_load *out = (struct share_load *)(set + n_words);

    memset(set, 0, n_words * 8);
    mark_concerned(k, set);
    for (unsigned m = 0; m < k->n_members; m++) {
        unsigned n;

        if (m == k->me || !(set[m / 64] & (1ull << (m % 64))))
            continue;
        n = collect_fast(k, m, now, out);
        if (n > 0)
            send(k, k->member[m], &(struct share_msg){.kind = SHARE_FAST, .n = n, .load = out});
    }
    for (unsigned i = 0; i < k->n_dirty; i++)
        k->mine[k->dirty[i]].changed = false;
    k->n_dirty = 0;
}

/* --- the window
 * --------------------------------------------------------------------------------------- */

/* Light requests in flight, mean since the last window was told.  By what was counted at their
 * begins, as are `now` and `heavy`: a class that becomes heavy must not be counted twice. */
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

static unsigned
tell_rows(const struct know *k, uint32_t server, const struct presence_row *row, unsigned n,
          struct share_row *out)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (struct share_row){.server = server,
                                    .class_key = (uint32_t)k->class_key[row[i].class],
                                    .seconds = row[i].seconds,
                                    .ended = row[i].ended,
                                    .level = row[i].level};
    if (n == 0) /* "nothing" is not the same as "not told" */
        out[n++] = (struct share_row){.server = server};
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
    }
    if (owner != k->me && at > first && k->conf.send)
        send(k, k->member[owner],
             &(struct share_msg){
                 .kind = SHARE_ROWS, .window = k->presence.window, .n = n, .row = out});
    return at;
}

static bool
has_anything(const struct share_load *e)
{
    return e->now || e->mean || e->heavy || e->mem || e->slow_n > 0 || e->eject_ms;
}

static void
tell_slow(struct know *k, mc_ns now)
{
    struct share_load *out = scratch(k, (k->view->n + 1) * sizeof(*out));
    unsigned n = 0;

    for (uint32_t s = 0; s < k->view->n; s++) {
        struct know_mine *m = &k->mine[s];

        take_mean(k, m, now);
        out[n] = load_of(k, s, now);
        out[n].slow_sum = m->slow_sum;
        out[n].slow_n = m->slow_n;
        m->slow_sum = m->slow_n = 0;
        n += has_anything(&out[n]);
    }
    send(k, SHARE_TO_ALL,
         &(struct share_msg){.kind = SHARE_SLOW, .n = n, .load = out, .rate = k->rate});
}

static void
tell_reports(struct know *k)
{
    struct share_report *out = scratch(k, (k->view->n + 1) * sizeof(*out));
    unsigned n = 0;

    for (uint32_t s = 0; s < k->view->n; s++) {
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
know_tell_window(struct know *k, mc_ns now)
{
    unsigned at = 0;

    for (unsigned m = 0; m < k->n_members; m++)
        at = tell_owner(k, m, at);
    if (!k->conf.send || k->n_members == 1)
        return;
    tell_slow(k, now);
    k->told_at = now;
    tell_reports(k);
}

/* --- SUMS
 * -----------------------------------------------------------------------------------------------
 */

/* Classes of which there is anything to tell. */
static unsigned
classes_in_use(const struct know *k, uint16_t *out)
{
    unsigned n = 0;

    for (unsigned c = 0; c < k->conf.n_classes; c++)
        if (k->class_key[c] && k->learn.own.ended[c] > 0)
            out[n++] = (uint16_t)c;
    return n;
}

static void
put_half(const struct regress *r, const uint16_t *class, unsigned n, float *aa, float *ay)
{
    for (unsigned i = 0; i < n; i++) {
        ay[i] = (float)r->ay[class[i]];
        for (unsigned j = 0; j <= i; j++)
            *aa++ = (float)r->aa[(size_t) class[i] * r -> k + class[j]];
    }
}

void
know_tell_sums(struct know *k)
{
    const struct learn_sums *own = &k->learn.own;
    uint16_t class[KNOW_ALL_CLASSES];
    unsigned n = classes_in_use(k, class);
    size_t half = (size_t)n * (n + 1) / 2;
    uint32_t *key = scratch(k, (5 * (size_t)n + 2 * half) * 4);
    float *cpu_s = (float *)key + n, *ended = cpu_s + n, *cpu_ay = ended + n, *mem_ay = cpu_ay + n,
          *cpu_aa = mem_ay + n, *mem_aa = cpu_aa + half;

    if (n == 0)
        return;
    for (unsigned i = 0; i < n; i++) {
        key[i] = (uint32_t)k->class_key[class[i]];
        cpu_s[i] = (float)own->cpu_s[class[i]];
        ended[i] = (float)own->ended[class[i]];
    }
    put_half(&own->cpu, class, n, cpu_aa, cpu_ay);
    put_half(&own->mem, class, n, mem_aa, mem_ay);
    send(k, SHARE_TO_ALL,
         &(struct share_msg){
             .kind = SHARE_SUMS,
             .n = n,
             .sums = {n, key, cpu_s, ended, cpu_ay, cpu_aa, mem_ay, mem_aa},
         });
}
