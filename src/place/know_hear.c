/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_hear.c - what one balancer makes of the words of the others.
 *
 * Nothing in a message is trusted to be in range: a balancer of another release or a broken one
 * must not bring this one down.
 */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "place/know_priv.h"

/* No server is set aside on hearsay for longer, and none that answered us well just now: what we
 * see ourselves counts for more.  It is on probation then, so that one failure is enough. */
#define EJECT_HEARSAY_MOST_MS 40000
#define EJECT_SEEN_GOOD_NS    (5 * MC_MS)
/* Who found the fault tries again first; the others hear how that went before they try. */
#define EJECT_HEARSAY_MORE_NS (300 * MC_MS)

static bool
in_my_home(void *arg, uint32_t server)
{
    const struct know *k = arg;

    return know_in_home(k, k->me, server);
}

static void
touched(void *arg, uint32_t server)
{
    know_publish_peers(arg, server);
}

const struct share_hooks know_share_hooks = {in_my_home, touched, NULL};

static void
hear_eject(struct know *k, const struct share_load *e, mc_ns now)
{
    struct eject *mine = &k->eject[e->server];

    mc_ns until = now + (mc_ns)e->eject_ms * MC_MS + EJECT_HEARSAY_MORE_NS;

    if (e->eject_ms == 0 || e->eject_ms > EJECT_HEARSAY_MOST_MS || know_lacks(k, KNOW_EJECT) ||
        now < mine->deaf_until_ns)
        return;
    if (eject_is_out(mine, now)) {
        mine->until_ns = until > mine->until_ns + MC_SEC ? until : mine->until_ns;
        return; /* the same word again, or a longer one */
    }
    if (mine->good_ns > 0 && now - mine->good_ns < EJECT_SEEN_GOOD_NS) {
        mine->probation = true;
        mine->until_ns = now;
        return;
    }
    eject_for(mine, now, (mc_ns)e->eject_ms * MC_MS + EJECT_HEARSAY_MORE_NS);
    mine->hearsay = true;
    know_publish_flags(k, e->server, now);
}

static void
hear_loads(struct know *k, const struct share_msg *m, mc_ns now)
{
    struct share_hooks h = {know_share_hooks.in_home, know_share_hooks.touched, k};

    if (!share_merge(&k->share, m, now, &h))
        return;
    for (unsigned i = 0; i < m->n; i++) {
        const struct share_load *e = &m->load[i];

        if (e->server >= k->view->n)
            continue;
        if (m->kind != SHARE_FAST)
            hear_eject(k, e, now);
        if (m->kind == SHARE_SLOW && e->slow_n > 0 && e->slow_sum > 0 && isfinite(e->slow_sum))
            learn_slow(&k->learn, e->server, (double)e->slow_sum, (double)e->slow_n, now);
    }
}

/* -1: a class that we do not follow. */
static int
class_of(const struct know *k, uint32_t key)
{
    for (unsigned c = 0; c < k->conf.n_classes; c++)
        if (k->class_key[c] && (uint32_t)k->class_key[c] == key)
            return (int)c;
    return -1;
}

/* The rows of the server that stands at *at; moves *at behind them. */
static unsigned
rows_of_server(const struct know *k, const struct share_msg *m, unsigned *at,
               struct presence_row *out)
{
    uint32_t server = m->row[*at].server;
    unsigned n = 0;

    for (; *at < m->n && m->row[*at].server == server; (*at)++) {
        const struct share_row *r = &m->row[*at];
        int class = class_of(k, r->class_key);

        if (n == KNOW_ALL_CLASSES || r->class_key == 0 || !(r->seconds >= 0) || !(r->ended >= 0))
            continue;
        out[n++] = (struct presence_row){(uint16_t)(class < 0 ? 0 : class), r->seconds, r->ended,
                                         r->level};
    }
    return n;
}

/* learn_presence() passes over servers that are not ours to follow: balancers may disagree for a
 * moment on who is there, and so on who owns what. */
static void
hear_rows(struct know *k, const struct share_msg *m)
{
    struct presence_row row[KNOW_ALL_CLASSES];

    struct share_peer *p = share_peer(&k->share, m->from);

    if (!p || share_heard(p, m->seq))
        return;
    for (unsigned at = 0; at < m->n;) {
        uint32_t server = m->row[at].server;
        bool failed = m->row[at].failed;
        unsigned n = rows_of_server(k, m, &at, row);

        if (server >= k->view->n)
            continue;
        if (failed)
            learn_failed(&k->learn, server);
        learn_presence(&k->learn, server, m->window, row, n);
    }
}

static void
hear_reports(struct know *k, const struct share_msg *m, mc_ns now)
{
    for (unsigned i = 0; i < m->n; i++) {
        const struct share_report *r = &m->report[i];
        struct know_host *h;

        if (r->server >= k->view->n || !isfinite(r->cores) || r->cores < 0)
            continue;
        h = &k->host[r->server];
        if (k->owner[r->server] == k->me || (r->boot == h->boot && r->seq <= h->seq))
            continue;
        *h = (struct know_host){.boot = r->boot,
                                .seq = r->seq,
                                .at_ns = now,
                                .cores = r->cores,
                                .mem_base = r->mem_base,
                                .mem_limit = r->mem_limit,
                                .other = r->other > 0 ? r->other : 0};
        know_publish_host(k, r->server);
    }
}

/* All that a piece speaks of becomes 0, and then what it names. */
static void
clear_row(struct know *k, struct learn_sums *s, const struct share_sums *in, unsigned row)
{
    s->cpu_s[row] = s->ended[row] = s->cpu.ay[row] = s->mem.ay[row] = 0;
    for (unsigned col = 0; col < k->conf.n_classes; col++) {
        uint32_t key = (uint32_t)k->class_key[col];
        size_t at = (size_t)row * s->cpu.k + col, mirror = (size_t)col * s->cpu.k + row;

        if (key == 0 || key > (uint32_t)k->class_key[row] || key < in->col_first ||
            key > in->col_last)
            continue;
        s->cpu.aa[at] = s->cpu.aa[mirror] = s->mem.aa[at] = s->mem.aa[mirror] = 0;
    }
}

/* Marks our classes whose rows this piece tells and no later one told. */
static void
clear_rows(struct know *k, struct share_peer *p, const struct share_msg *m, bool *fresh)
{
    uint64_t of = m->seq / SHARE_PIECES; /* pieces of one message come in any order */

    for (unsigned c = 0; c < k->conf.n_classes; c++) {
        uint32_t key = (uint32_t)k->class_key[c];

        fresh[c] = key != 0 && key >= m->first && key <= m->last && of >= p->sums_of[c];
        if (!fresh[c])
            continue;
        p->sums_of[c] = of;
        clear_row(k, &p->sums, &m->sums, c);
    }
}

static bool
sum_is_sane(const struct share_sum *s)
{
    return isfinite(s->cpu_s) && isfinite(s->ended) && isfinite(s->cpu_ay) && isfinite(s->mem_ay);
}

static void
take_sum(struct learn_sums *s, unsigned class, const struct share_sum *in)
{
    if (!sum_is_sane(in))
        return;
    s->cpu_s[class] = fmax((double)in->cpu_s, 0);
    s->ended[class] = fmax((double)in->ended, 0);
    s->cpu.ay[class] = (double)in->cpu_ay;
    s->mem.ay[class] = (double)in->mem_ay;
}

static void
take_pair(struct learn_sums *s, unsigned row, unsigned col, const struct share_pair *in)
{
    size_t at = (size_t)row * s->cpu.k + col, mirror = (size_t)col * s->cpu.k + row;

    if (!isfinite(in->cpu) || !isfinite(in->mem))
        return;
    s->cpu.aa[at] = s->cpu.aa[mirror] = (double)in->cpu;
    s->mem.aa[at] = s->mem.aa[mirror] = (double)in->mem;
}

static void
hear_sums(struct know *k, const struct share_msg *m)
{
    struct share_peer *p = share_peer(&k->share, m->from);
    const struct share_sums *in = &m->sums;
    int class[KNOW_ALL_CLASSES];
    bool fresh[KNOW_ALL_CLASSES];

    if (!p || in->k > KNOW_ALL_CLASSES)
        return;
    p->any_sums = true;
    clear_rows(k, p, m, fresh);
    for (unsigned i = 0; i < in->k; i++) {
        class[i] = class_of(k, in->class_key[i]);
        if (class[i] >= 0 && fresh[class[i]])
            take_sum(&p->sums, (unsigned)class[i], &in -> sum[i]);
    }
    for (unsigned i = 0; i < in->n_pairs; i++) {
        const struct share_pair *pair = &in->pair[i];

        if (pair->row >= in->k || pair->col >= in->k || class[pair->row] < 0 ||
            class[pair->col] < 0 || !fresh[class[pair->row]])
            continue;
        take_pair(&p->sums, (unsigned)class[pair->row], (unsigned)class[pair->col], pair);
    }
}

void
know_recv(struct know *k, const struct share_msg *m, mc_ns now)
{
    switch (m->kind) {
    case SHARE_FAST:
    case SHARE_HEAVY:
    case SHARE_SLOW: hear_loads(k, m, now); break;
    case SHARE_ROWS: hear_rows(k, m); break;
    case SHARE_REPORT: hear_reports(k, m, now); break;
    case SHARE_SUMS: hear_sums(k, m); break;
    case SHARE_N_KINDS: break;
    }
}
