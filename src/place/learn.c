/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learn.c - factors of servers, and costs of classes from sums, see learn.h.  Windows of owned
 * servers are learn_window.c's.
 */
#include "place/learn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Everything learned weighs half after 42 s: a new release of a service is known in a minute. */
#define FADE_S         60.0
#define FACTOR_GAIN    0.3
#define FACTOR_TRUST   10.0 /* samples in 100 ms that count half */
#define FACTOR_LEAST   0.1
#define FACTOR_MOST    30.0
#define SLOW_MOST      10.0 /* times slower than foreseen that one request may say */
#define FACTOR_IDLE_NS MC_SEC
/* Nothing heard: tried again as if it had become better in this time. */
#define FACTOR_IDLE_S  30.0
#define SWEEPS         30
/* Weight of the prior, in squared requests per server and window: decides where little is seen. */
#define LAMBDA         0.2
/* MB per request change little from one to the next; idle noise of memory is large. */
#define LAMBDA_MEM     4.0
#define ENDED_LEAST    3.0 /* requests before a cost is believed */
/* And until what is left of them it is: half of 42 s each, so a quarter of an hour after many. */
#define ENDED_KEPT     0.01
#define REMEMBERED     50.0 /* requests that a cost from before the restart counts for */

void
learn_sums_init(struct learn_sums *s, unsigned n_classes)
{
    regress_init(&s->cpu, n_classes);
    regress_init(&s->mem, n_classes);
    s->cpu_s = mc_alloc(n_classes * sizeof(double));
    s->ended = mc_alloc(n_classes * sizeof(double));
}

void
learn_sums_fini(struct learn_sums *s)
{
    regress_fini(&s->cpu);
    regress_fini(&s->mem);
    free(s->cpu_s);
    free(s->ended);
}

void
learn_init(struct learn *l, unsigned n_servers, unsigned n_classes, mc_ns window_ns, mc_ns now)
{
    *l = (struct learn){.n_servers = n_servers,
                        .n_classes = n_classes,
                        .n_members = 1,
                        .window_ns = window_ns,
                        .faded_at = now};
    l->server = mc_alloc((n_servers + 1) * sizeof(*l->server));
    l->class = mc_alloc(n_classes * sizeof(*l->class));
    l->x = mc_alloc(n_classes * sizeof(double));
    l->prior = mc_alloc(n_classes * sizeof(double));
    learn_sums_init(&l->own, n_classes);
    learn_sums_init(&l->all, n_classes);
    for (unsigned s = 0; s < n_servers; s++)
        l->server[s].factor = 1;
    for (unsigned k = 0; k < n_classes; k++)
        l->class[k] = (struct learn_class){.phi = 1, .phi_prior = 1};
}

void
learn_fini(struct learn *l)
{
    for (unsigned s = 0; s < l->n_servers; s++)
        for (unsigned i = 0; i < LEARN_SLOTS; i++)
            free(l->server[s].slot[i].row);
    free(l->server);
    free(l->class);
    free(l->x);
    free(l->prior);
    learn_sums_fini(&l->own);
    learn_sums_fini(&l->all);
}

/* --- factor ------------------------------------------------------------------------------------
 */

/* For want of reports the latency itself, crowd and server taken off, must do as the cost. */
static void
note_latency(struct learn *l, uint32_t server, unsigned class, double alone_s)
{
    struct learn_class *k = &l->class[class];

    k->latency_s += alone_s / l->server[server].factor;
    k->latency_n++;
}

void
learn_latency(struct learn *l, uint32_t server, unsigned class, const struct place_cost *c,
              double latency_s, double crowd, mc_ns now)
{
    double alone_s = fmax(latency_s, 1e-6) / crowd, slow;

    class = class < l->n_classes ? class : 0;
    note_latency(l, server, class, alone_s);
    if (!c->known || c->phi * 2 <= COST_ONE || c->cpu_s <= 0)
        return; /* a request that waits says little of the server's CPU */
    slow = alone_s / (double)c->cpu_s;
    learn_slow(l, server, fmin(slow, SLOW_MOST * l->server[server].factor), 1, now);
}

void
learn_slow(struct learn *l, uint32_t server, double sum, double n, mc_ns now)
{
    struct learn_server *s = &l->server[server];

    s->slow_sum += sum;
    s->slow_n += n;
    s->slow_at = now;
}

/* Returns by how much the logarithm moved. */
static double
step_factor(struct learn_server *s)
{
    double was = s->factor, ratio, trust;

    if (!(s->slow_n > 0) || !(s->slow_sum > 0))
        return 0;
    ratio = s->slow_sum / s->slow_n / s->factor;
    trust = s->slow_n / (s->slow_n + FACTOR_TRUST);
    s->factor *= exp(FACTOR_GAIN * trust * log(ratio));
    s->factor = fmin(fmax(s->factor, FACTOR_LEAST), FACTOR_MOST);
    return log(s->factor / was);
}

/* Only ratios of factors mean anything, so those that were heard of move around a mean that stays.
 * Not around 1: the slow half of the servers falls silent when load is low, and the scale of costs
 * would follow. */
void
learn_factors(struct learn *l, mc_ns now)
{
    double sum = 0;
    unsigned n = 0;

    if (l->no_factor)
        return;
    for (unsigned s = 0; s < l->n_servers; s++) {
        n += l->server[s].slow_n > 0;
        sum += step_factor(&l->server[s]);
    }
    sum = exp(-sum / (n > 0 ? n : 1));
    for (unsigned s = 0; s < l->n_servers; s++) {
        if (l->server[s].slow_n > 0)
            l->server[s].factor *= sum;
        l->server[s].slow_sum = l->server[s].slow_n = 0;
    }
}

double
learn_factor(const struct learn *l, uint32_t server, mc_ns now)
{
    const struct learn_server *s = &l->server[server];
    double idle_s = (double)(now - s->slow_at - FACTOR_IDLE_NS) * 1e-9;

    if (s->factor <= 1 || idle_s <= 0)
        return s->factor;
    return pow(s->factor, exp(-idle_s / FACTOR_IDLE_S));
}

/* --- solving ------------------------------------------------------------------------------------
 */

static void
fade(struct learn *l, mc_ns now)
{
    double keep = exp(-(double)(now - l->faded_at) * 1e-9 / FADE_S);

    l->faded_at = now;
    regress_fade(&l->own.cpu, keep);
    regress_fade(&l->own.mem, keep);
    for (unsigned k = 0; k < l->n_classes; k++) {
        l->own.cpu_s[k] *= keep;
        l->own.ended[k] *= keep;
        l->class[k].latency_s *= keep;
        l->class[k].latency_n *= keep;
    }
    learn_told_fade(l, keep, now);
}

static void
sums_clear(struct learn_sums *s, unsigned n)
{
    regress_fade(&s->cpu, 0);
    regress_fade(&s->mem, 0);
    s->cpu.mean_miss = s->mem.mean_miss = 0;
    memset(s->cpu_s, 0, n * sizeof(double));
    memset(s->ended, 0, n * sizeof(double));
}

static void
sums_join(struct learn_sums *to, const struct learn_sums *from, unsigned n)
{
    regress_join(&to->cpu, &from->cpu);
    regress_join(&to->mem, &from->mem);
    for (unsigned k = 0; k < n; k++) {
        to->cpu_s[k] += from->cpu_s[k];
        to->ended[k] += from->ended[k];
    }
}

static void
solve_phi(struct learn *l)
{
    struct regress_bounds b = {LAMBDA * l->n_servers, COST_PHI_LEAST, COST_PHI_MOST, l->prior};

    for (unsigned k = 0; k < l->n_classes; k++) {
        l->x[k] = l->class[k].phi;
        l->prior[k] = l->class[k].phi_prior;
    }
    if (!l->no_phi && !l->no_presence)
        regress_solve(&l->all.cpu, &b, SWEEPS, l->x);
    for (unsigned k = 0; k < l->n_classes; k++)
        l->class[k].phi = l->x[k];
}

static void
solve_mem(struct learn *l)
{
    struct regress_bounds b = {LAMBDA_MEM, 0, 1e6, l->prior};

    for (unsigned k = 0; k < l->n_classes; k++) {
        l->x[k] = l->class[k].mem_mb;
        l->prior[k] = 0;
    }
    regress_solve(&l->all.mem, &b, SWEEPS, l->x);
    for (unsigned k = 0; k < l->n_classes; k++)
        l->class[k].mem_mb = l->x[k];
}

/* What was known once is better than nothing, for long. */
static double
enough(const struct learn *l, unsigned class)
{
    return l->class[class].known ? ENDED_KEPT : ENDED_LEAST;
}

static bool
has_cpu(const struct learn *l, unsigned class)
{
    return !l->no_presence && l->all.ended[class] >= enough(l, class) && l->all.cpu_s[class] > 0;
}

static bool
has_latency(const struct learn *l, unsigned class)
{
    return l->class[class].latency_n >= enough(l, class) && l->class[class].latency_s > 0;
}

static void
note_known(struct learn *l)
{
    for (unsigned k = 0; k < l->n_classes; k++)
        l->class[k].known = has_cpu(l, k) || has_latency(l, k);
}

void
learn_solve(struct learn *l, const struct learn_sums *const *others, unsigned n_others, mc_ns now)
{
    note_known(l); /* the last that it took must not fade before it has counted */
    fade(l, now);
    sums_clear(&l->all, l->n_classes);
    sums_join(&l->all, &l->own, l->n_classes);
    for (unsigned i = 0; i < n_others; i++)
        if (others[i])
            sums_join(&l->all, others[i], l->n_classes);
    solve_phi(l);
    solve_mem(l);
    note_known(l);
}

struct place_cost
learn_cost(const struct learn *l, unsigned class)
{
    const struct learn_class *k = &l->class[class];
    struct place_cost c = COST_UNKNOWN;

    if (k->told_s > 0)
        c.cpu_s = (float)k->told_s;
    else if (has_cpu(l, class))
        c.cpu_s = (float)(l->all.cpu_s[class] / l->all.ended[class]);
    else if (has_latency(l, class))
        c.cpu_s = (float)(k->latency_s / k->latency_n);
    else
        return c;
    c.known = true;
    c.phi = (int32_t)lround(k->phi * COST_ONE);
    c.mem_units = (uint32_t)(k->mem_mb * 1e6 / COST_MEM_UNIT);
    return c;
}

static void
find_errors(struct learn *l)
{
    l->errors_at = l->faded_at;
    regress_errors(&l->all.cpu, LAMBDA * l->n_servers, l->x);
    for (unsigned k = 0; k < l->n_classes; k++)
        l->class[k].phi_error = l->x[k];
    regress_errors(&l->all.mem, LAMBDA_MEM, l->x);
    for (unsigned k = 0; k < l->n_classes; k++)
        l->class[k].mem_error = l->x[k];
}

struct learn_doubt
learn_doubt(struct learn *l, unsigned class)
{
    const struct learn_class *k = &l->class[class];
    double n = 1, phi;

    if (l->errors_at != l->faded_at)
        find_errors(l);
    phi = has_cpu(l, class) && k->told_s == 0 ? k->phi_error / k->phi : 0;
    if (k->told_s > 0)
        n = k->told.n;
    else if (has_cpu(l, class))
        n = l->all.ended[class];
    else if (has_latency(l, class))
        n = k->latency_n;
    return (struct learn_doubt){
        .cpu = fmin(sqrt(phi * phi + 1 / fmax(n, 1)), 1), .phi = k->phi_error, .mem = k->mem_error};
}

void
learn_forget_class(struct learn *l, unsigned class)
{
    regress_drop(&l->own.cpu, class);
    regress_drop(&l->own.mem, class);
    l->own.cpu_s[class] = l->own.ended[class] = 0;
    l->all.cpu_s[class] = l->all.ended[class] = 0;
    l->class[class] = (struct learn_class){.phi = 1, .phi_prior = 1};
}

void
learn_remember(struct learn *l, unsigned class, double cpu_s, double phi, double mem_mb)
{
    struct learn_class *k = &l->class[class];

    k->phi = k->phi_prior = fmin(fmax(phi, COST_PHI_LEAST), COST_PHI_MOST);
    k->mem_mb = fmax(mem_mb, 0);
    l->own.ended[class] = l->all.ended[class] = REMEMBERED;
    l->own.cpu_s[class] = l->all.cpu_s[class] = REMEMBERED * fmax(cpu_s, 1e-6);
}
