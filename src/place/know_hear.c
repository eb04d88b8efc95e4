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

    if (!share_peer(&k->share, m->from))
        return;
    for (unsigned at = 0; at < m->n;) {
        uint32_t server = m->row[at].server;
        unsigned n = rows_of_server(k, m, &at, row);

        if (server < k->view->n)
            learn_presence(&k->learn, server, m->window, row, n);
    }
}

static void
hear_reports(struct know *k, const struct share_msg *m)
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
                                .cores = r->cores,
                                .mem_base = r->mem_base,
                                .mem_limit = r->mem_limit,
                                .other = r->other > 0 ? r->other : 0};
        know_publish_host(k, r->server);
    }
}

static void
take_half(struct regress *r, const int *class, unsigned n, const float *aa, const float *ay)
{
    regress_fade(r, 0);
    for (unsigned i = 0; i < n; i++) {
        const float *row = aa + (size_t)i * (i + 1) / 2;

        if (class[i] < 0)
            continue;
        r->ay[class[i]] = (double)ay[i];
        for (unsigned j = 0; j <= i; j++) {
            if (class[j] < 0)
                continue;
            r->aa[(size_t) class[i] * r -> k + (unsigned)class[j]] = (double)row[j];
            r->aa[(size_t) class[j] * r -> k + (unsigned)class[i]] = (double)row[j];
        }
    }
}

static bool
all_finite(const float *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(f[i]))
            return false;
    return true;
}

static bool
sums_are_sane(const struct share_sums *s)
{
    size_t half = (size_t)s->k * (s->k + 1) / 2;

    return s->k <= KNOW_ALL_CLASSES && all_finite(s->cpu_s, s->k) && all_finite(s->ended, s->k) &&
           all_finite(s->cpu_ay, s->k) && all_finite(s->mem_ay, s->k) &&
           all_finite(s->cpu_aa, half) && all_finite(s->mem_aa, half);
}

static void
hear_sums(struct know *k, const struct share_msg *m)
{
    struct share_peer *p = share_peer(&k->share, m->from);
    const struct share_sums *in = &m->sums;
    int class[KNOW_ALL_CLASSES];

    if (!p || m->seq <= p->sums_seq || !sums_are_sane(in))
        return;
    p->sums_seq = m->seq;
    memset(p->sums.cpu_s, 0, k->conf.n_classes * sizeof(double));
    memset(p->sums.ended, 0, k->conf.n_classes * sizeof(double));
    for (unsigned i = 0; i < in->k; i++) {
        class[i] = class_of(k, in->class_key[i]);
        if (class[i] < 0)
            continue;
        p->sums.cpu_s[class[i]] = fmax((double)in->cpu_s[i], 0);
        p->sums.ended[class[i]] = fmax((double)in->ended[i], 0);
    }
    take_half(&p->sums.cpu, class, in->k, in->cpu_aa, in->cpu_ay);
    take_half(&p->sums.mem, class, in->k, in->mem_aa, in->mem_ay);
}

void
know_recv(struct know *k, const struct share_msg *m, mc_ns now)
{
    switch (m->kind) {
    case SHARE_FAST:
    case SHARE_HEAVY:
    case SHARE_SLOW: hear_loads(k, m, now); break;
    case SHARE_ROWS: hear_rows(k, m); break;
    case SHARE_REPORT: hear_reports(k, m); break;
    case SHARE_SUMS: hear_sums(k, m); break;
    case SHARE_N_KINDS: break;
    }
}
