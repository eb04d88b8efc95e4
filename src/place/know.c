/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know.c - one balancer's knowledge of a pool, see know.h: events, learning, publishing.
 */
#include "place/know.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/know_priv.h"

/* Events and shares of a window may come so much after its end. */
#define GRACE_NS       (6 * MC_MS)
#define SOLVE_NS       (200 * MC_MS)
#define HOME_NS        (500 * MC_MS)
#define SUMS_NS        MC_SEC
#define SLOW_NS        (100 * MC_MS)
/* Agents speak at whole multiples of their interval, and a burst of reports takes a moment: what
 * comes too late for one message is not to wait for the next burst. */
#define REPORTS_NS     (20 * MC_MS)
#define HOLD_FAILED_NS MC_SEC
/* What control wrote is good for so long: a control thread that hangs longer must not send all to
 * the server that was idle when it last looked. */
#define GOOD_NS        (2 * MC_SEC)
#define RATE_BLEND     0.5
/* Memory that a server may come to: beyond it the kernel begins to take pages away, or kills. */
#define MEM_FILL       0.92
/* A request cannot take more CPU than its server's cores have in its time.  Nobody builds machines
 * with more than: */
#define CORES_MOST     1024.0
/* What servers count CPU in may be as coarse as a tick of 100 Hz, and ours begins a turn early. */
#define CPU_GRAIN_S    0.02

/* --- beginning and ending ------------------------------------------------------------------------
 */

static void
alloc_servers(struct know *k, unsigned n)
{
    k->mine = mc_alloc((n + 1) * sizeof(*k->mine));
    k->host = mc_alloc((n + 1) * sizeof(*k->host));
    k->word = mc_alloc((n + 1) * sizeof(*k->word));
    k->lean = mc_alloc((n + 1) * sizeof(*k->lean));
    k->eject = mc_alloc((n + 1) * sizeof(*k->eject));
    k->owner = mc_alloc((n + 1) * sizeof(*k->owner));
    k->by_owner = mc_alloc((n + 1) * sizeof(*k->by_owner));
    k->dirty = mc_alloc((n + 1) * sizeof(*k->dirty));
    k->late = mc_alloc((n + 1) * sizeof(*k->late));
    k->capacity = mc_alloc((n + 1) * sizeof(*k->capacity));
}

static mc_ns
next_multiple(mc_ns now, mc_ns step)
{
    return (now / step + 1) * step;
}

struct know *
know_new(const struct know_conf *conf, const struct place_view *view, struct load_table *table,
         mc_ns now)
{
    struct know *k = mc_alloc(sizeof(*k));
    unsigned n = view->n, classes = conf->n_classes;

    MC_ASSERT(classes > 0 && classes <= KNOW_ALL_CLASSES && table->n == n);
    k->conf = *conf;
    k->view = view;
    k->table = table;
    k->costs = cost_table_new(classes);
    k->class_key = mc_alloc(classes * sizeof(*k->class_key));
    k->class_key[0] = SHARE_CLASS_OTHER; /* "other" means the same to all */
    alloc_servers(k, n);
    learn_init(&k->learn, n, classes, conf->window_ns, now);
    k->learn.no_phi = know_lacks(k, KNOW_PHI);
    k->learn.no_factor = know_lacks(k, KNOW_FACTOR);
    k->learn.no_presence = know_lacks(k, KNOW_REPORTS);
    presence_init(&k->presence, n, classes, conf->window_ns, now);
    k->map = share_map_new(conf->pool, view->id_hash, n);
    share_init(&k->share, k->map, classes);
    k->seq = conf->boot << 32;
    k->told_at = now;
    k->purse_at = now - MC_SEC;
    know_fill_purse(k, now);
    for (unsigned s = 0; s < n; s++)
        k->mine[s].area_at = now;
    k->next_window = (k->presence.window + 1) * conf->window_ns + GRACE_NS;
    k->next_solve = next_multiple(now, SOLVE_NS);
    k->next_home = next_multiple(now, HOME_NS);
    k->next_slow = next_multiple(now, SLOW_NS) + GRACE_NS;
    k->next_reports = next_multiple(now, REPORTS_NS) + GRACE_NS;
    k->next_sums = next_multiple(now, SUMS_NS);
    know_set_members(k, NULL, 0);
    return k;
}

void
know_free(struct know **kp)
{
    struct know *k = *kp;

    if (!k)
        return;
    *kp = NULL;
    home_cut_free(&k->cut);
    learn_fini(&k->learn);
    presence_fini(&k->presence);
    share_fini(&k->share);
    share_map_free(&k->map);
    free(k->costs);
    free(k->mine);
    free(k->host);
    free(k->word);
    free(k->lean);
    free(k->eject);
    free(k->owner);
    free(k->by_owner);
    free(k->dirty);
    free(k->late);
    free(k->member);
    free(k->rates);
    free(k->capacity);
    free(k->class_key);
    free(k->held);
    free(k->scratch);
    free(k);
}

static int
by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void
find_owners(struct know *k)
{
    unsigned n = 0;

    for (uint32_t s = 0; s < k->view->n; s++) {
        k->owner[s] = home_owner(k->member, k->n_members, k->view->id_hash[s], 0);
        learn_own(&k->learn, s, k->owner[s] == k->me);
    }
    for (unsigned m = 0; m < k->n_members; m++)
        for (uint32_t s = 0; s < k->view->n; s++)
            if (k->owner[s] == m)
                k->by_owner[n++] = s;
}

static void
cut_homes(struct know *k)
{
    struct home_span span = {0, k->view->n};

    for (unsigned p = 0; p < k->view->n; p++) {
        struct load_hot *h = &k->table->hot[p];
        bool usable = (load_flags(h) & (LOAD_OPEN | LOAD_EJECTED)) == LOAD_OPEN;

        k->capacity[p] = usable ? 1 / (double)(load_per_core(h) * load_factor(h)) : 0;
    }
    for (unsigned m = 0; m < k->n_members; m++)
        k->rates[m] = m == k->me ? k->rate : k->share.peer[m - (m > k->me)].rate;
    home_cut_make(k->cut, k->capacity, k->rates);
    if (k->n_members > 1 && !know_lacks(k, KNOW_HOMES))
        span = k->cut->span[k->me];
    atomic_store_explicit(&k->table->home, (uint64_t)span.first << 32 | span.n,
                          memory_order_relaxed);
}

void
know_set_members(struct know *k, const uint64_t *others, unsigned n)
{
    free(k->member);
    free(k->rates);
    home_cut_free(&k->cut);
    k->n_members = n + 1;
    k->member = mc_alloc((n + 1) * sizeof(*k->member));
    k->rates = mc_alloc((n + 1) * sizeof(*k->rates));
    if (n > 0)
        memcpy(k->member, others, n * sizeof(*others));
    qsort(k->member, n, sizeof(*k->member), by_id);
    share_set_peers(&k->share, k->member, n);
    for (uint32_t s = 0; s < k->view->n; s++)
        know_publish_peers(k, s);
    k->member[n] = k->conf.id;
    qsort(k->member, n + 1, sizeof(*k->member), by_id);
    for (k->me = 0; k->member[k->me] != k->conf.id;)
        k->me++;
    k->learn.n_members = n + 1;
    k->cut = home_cut_new(n + 1, k->view->n);
    find_owners(k);
    cut_homes(k);
}

void
know_set_class(struct know *k, unsigned class, uint64_t key)
{
    MC_ASSERT(class > 0 && class < k->conf.n_classes);
    if (k->class_key[class] == key)
        return;
    k->class_key[class] = key;
    learn_forget_class(&k->learn, class);
    for (unsigned i = 0; i < k->share.n_peers; i++) {
        struct learn_sums *s = &k->share.peer[i].sums;

        regress_drop(&s->cpu, class);
        regress_drop(&s->mem, class);
        s->cpu_s[class] = s->ended[class] = 0;
    }
    cost_publish(k->costs, class, &COST_UNKNOWN);
}

bool
know_in_home(const struct know *k, unsigned member, uint32_t server)
{
    const struct home_span *span = &k->cut->span[member];

    return k->table->pos[server] - span->first < span->n;
}

/* --- publishing ---------------------------------------------------------------------------------
 */

void
know_publish_peers(struct know *k, uint32_t server)
{
    uint32_t pos = k->table->pos[server];
    int32_t phi = know_lacks(k, KNOW_PEERS) ? 0 : k->share.total[server].phi;
    int32_t mem = know_lacks(k, KNOW_PEERS) ? 0 : k->share.total[server].mem;
    int32_t other = know_lacks(k, KNOW_OTHER) ? 0 : k->host[server].other;

    atomic_store_explicit(&k->table->hot[pos].peers, phi + other, memory_order_relaxed);
    atomic_store_explicit(&k->table->mem[pos].peers, mem, memory_order_relaxed);
}

/* A server of which nobody tells is taken for one like its fellows; if it is not, its factor will
 * show.  0: nothing is known of any. */
static float
cores_of(const struct know *k, uint32_t server)
{
    return k->host[server].cores > 0 ? k->host[server].cores : k->typical_cores;
}

static void
find_typical_cores(struct know *k)
{
    float sum = 0;
    unsigned n = 0;

    for (uint32_t s = 0; s < k->view->n; s++) {
        sum += k->host[s].cores;
        n += k->host[s].cores > 0;
    }
    k->typical_cores = n > 0 ? sum / (float)n : 0;
}

void
know_publish_flags(struct know *k, uint32_t server, mc_ns now)
{
    unsigned flags = place_is_open(k->view->load[server]) ? LOAD_OPEN : 0;

    if (eject_is_out(&k->eject[server], now) && !know_lacks(k, KNOW_EJECT))
        flags |= LOAD_EJECTED;
    if (cores_of(k, server) > 0)
        flags |= LOAD_CORES;
    atomic_store_explicit(&know_hot(k, server)->flags, (uint16_t)flags, memory_order_relaxed);
}

static void
publish_cores(struct know *k, uint32_t server)
{
    float cores = cores_of(k, server);
    uint32_t per_core = load_bits(cores > 0 ? 1 / cores : 1.0f);

    atomic_store_explicit(&know_hot(k, server)->per_core, (uint16_t)((per_core + 0x8000) >> 16),
                          memory_order_relaxed);
}

static uint32_t
weight_of(const struct know *k, uint32_t server)
{
    return atomic_load_explicit(&k->view->load[server]->weight, memory_order_relaxed);
}

/* Weights are what somebody believed of the servers; where cores and factor are measured they only
 * matter as far as one is below its fellows for a time, as in a slow start or when its agent says
 * so. */
static float
weighed_factor(const struct know *k, uint32_t server, uint32_t heaviest, mc_ns now)
{
    uint32_t weight = weight_of(k, server);
    double f = learn_factor(&k->learn, server, now) * lean_price(&k->lean[server]);

    return (float)(weight > 0 ? f * heaviest / weight : f);
}

static void
publish_servers(struct know *k, mc_ns now)
{
    uint32_t heaviest = 1;

    find_typical_cores(k);
    for (uint32_t s = 0; s < k->view->n; s++)
        heaviest = weight_of(k, s) > heaviest ? weight_of(k, s) : heaviest;
    for (uint32_t s = 0; s < k->view->n; s++) {
        uint32_t f = load_bits(weighed_factor(k, s, heaviest, now));

        atomic_store_explicit(&know_hot(k, s)->factor, f, memory_order_relaxed);
        publish_cores(k, s);
        know_publish_flags(k, s, now);
    }
}

void
know_publish_host(struct know *k, uint32_t server)
{
    const struct know_host *h = &k->host[server];
    uint32_t pos = k->table->pos[server];
    atomic_store_explicit(&k->table->mem[pos].base, h->mem_base, memory_order_relaxed);
    atomic_store_explicit(&k->table->mem[pos].limit, (uint32_t)(h->mem_limit * MEM_FILL),
                          memory_order_relaxed);
    publish_cores(k, server);
    know_publish_peers(k, server);
}

void
know_publish_costs(struct know *k)
{
    for (unsigned c = 0; c < k->conf.n_classes; c++) {
        struct place_cost cost = learn_cost(&k->learn, c);

        if (know_lacks(k, KNOW_MEMORY))
            cost.mem_units = 0;
        cost_publish(k->costs, c, &cost);
    }
}

/* --- events -------------------------------------------------------------------------------------
 */

static void
count(struct know *k, uint32_t server, const struct place_cost *c, int sign, mc_ns now)
{
    struct know_mine *m = &k->mine[server];

    m->mem += sign * (int32_t)c->mem_units;
    if (cost_is_heavy(c)) {
        m->heavy += sign * c->phi;
        if (k->conf.send && k->n_members > 1 && !know_lacks(k, KNOW_ANNOUNCE))
            know_tell_heavy(k, server, now);
        return;
    }
    m->area += (double)m->light * (double)(now - m->area_at);
    m->area_at = now;
    m->light += sign * c->phi;
    if (!m->changed) {
        m->changed = true;
        k->dirty[k->n_dirty++] = server;
    }
}

/* A server that fails fast must not look idle: what failed counts for a while. */
static void
hold(struct know *k, const struct place_event *e)
{
    if (k->n_held == k->held_cap) {
        unsigned cap = k->held_cap ? 2 * k->held_cap : 64;
        struct know_held *ring = mc_alloc(cap * sizeof(*ring));

        for (unsigned i = 0; i < k->n_held; i++)
            ring[i] = k->held[(k->held_at + i) % k->held_cap];
        free(k->held);
        k->held = ring;
        k->held_at = 0;
        k->held_cap = cap;
    }
    k->held[(k->held_at + k->n_held++) % k->held_cap] =
        (struct know_held){e->at_ns + HOLD_FAILED_NS, e->server, e->cost};
}

static void
release(struct know *k, uint32_t server, const struct place_cost *c, mc_ns now)
{
    load_end(k->table, server, c);
    count(k, server, c, -1, now);
}

static void
release_held(struct know *k, mc_ns now)
{
    while (k->n_held > 0 && k->held[k->held_at].until_ns <= now) {
        struct know_held h = k->held[k->held_at];

        k->held_at = (k->held_at + 1) % k->held_cap;
        k->n_held--;
        release(k, h.server, &h.cost, now);
    }
}

static void
note_failed(struct know *k, const struct place_event *e)
{
    k->mine[e->server].failed = true;
    learn_failed(&k->learn, e->server);
    if (know_lacks(k, KNOW_FAILFAST))
        release(k, e->server, &e->cost, e->at_ns);
    else
        hold(k, e);
    if (!know_lacks(k, KNOW_EJECT) && eject_failed(&k->eject[e->server], e->at_ns)) {
        know_publish_flags(k, e->server, e->at_ns);
        if (k->conf.send && k->n_members > 1)
            know_tell_heavy(k, e->server, e->at_ns);
    }
}

static void
note_ok(struct know *k, const struct place_event *e)
{
    double rtt_s = e->rtt_us * 1e-6, latency_s = (double)(e->at_ns - e->begin_ns) * 1e-9 - rtt_s;
    struct know_mine *m = &k->mine[e->server];
    struct learn_server *s = &k->learn.server[e->server];
    double sum = s->slow_sum, n = s->slow_n;

    eject_succeeded(&k->eject[e->server], e->at_ns);
    learn_latency(&k->learn, e->server, e->class, &e->cost, latency_s, (double)e->crowd, e->at_ns);
    m->slow_sum += (float)(s->slow_sum - sum);
    m->slow_n += (float)(s->slow_n - n);
}

/* What a failed request took says nothing of the others of its class. */
static void
note_said(struct know *k, const struct place_event *e)
{
    double latency_s = (double)(e->at_ns - e->begin_ns) * 1e-9, alone_s = -1;
    float cores = k->host[e->server].cores;

    if (!(e->said_s > 0) || e->kind == PLACE_END_FAILED)
        return;
    if ((double)e->said_s > (latency_s + CPU_GRAIN_S) * (cores > 0 ? (double)cores : CORES_MOST)) {
        k->word[e->server].n_untrue++;
        return;
    }
    if (e->kind == PLACE_END_OK)
        alone_s = fmax(latency_s - e->rtt_us * 1e-6, 0) / (double)e->crowd;
    learn_told(&k->learn, e->server, e->class, (double)e->said_s, alone_s, e->at_ns);
}

void
know_event(struct know *k, const struct place_event *e)
{
    mc_ns rtt = (mc_ns)e->rtt_us * MC_US;

    MC_ASSERT(e->server < k->view->n);
    if (e->kind == PLACE_BEGIN) {
        k->n_begun++;
        presence_begin(&k->presence, e->server, e->class, e->at_ns);
        count(k, e->server, &e->cost, 1, e->at_ns);
        return;
    }
    presence_end(&k->presence, e->server, e->class, e->at_ns, rtt);
    note_said(k, e);
    if (e->kind == PLACE_END_FAILED) {
        note_failed(k, e);
        return;
    }
    count(k, e->server, &e->cost, -1, e->at_ns);
    if (e->kind == PLACE_END_OK)
        note_ok(k, e);
}

/* --- reports from agents ------------------------------------------------------------------------
 */

static double
said(const struct place_report *r, enum report_field f, double value)
{
    return report_has(r, f) ? value : -1;
}

void
know_report(struct know *k, uint32_t server, const struct place_report *r, mc_ns at)
{
    struct know_host *h = &k->host[server];
    struct learn_server *s = &k->learn.server[server];
    struct learn_report lr = {.boot = r->boot, .seq = r->seq, .at_ns = at};

    MC_ASSERT(server < k->view->n);
    lr.cpu_s = said(r, REPORT_CPU_SECONDS, r->cpu_seconds);
    lr.pressure = report_has(r, REPORT_CPU_PRESSURE) ? r->cpu_pressure : 0;
    lr.mem_bytes = said(r, REPORT_MEM_BYTES, r->mem_bytes);
    lr.cores = report_has(r, REPORT_CORES) ? r->cores : 0;
    if (!learn_report(&k->learn, server, &lr)) {
        k->n_refused++;
        return;
    }
    k->lean[server].by_agent = true;
    lean_note(&k->lean[server], said(r, REPORT_CPU_UTILIZATION, fmin(r->cpu_utilization, 1)), at);
    h->boot = r->boot;
    h->seq = r->seq;
    h->at_ns = at;
    h->cores = (float)lr.cores;
    h->mem_limit =
        report_has(r, REPORT_MEM_LIMIT) ? (uint32_t)(r->mem_limit_bytes / COST_MEM_UNIT) : 0;
    h->mem_base = (uint32_t)(s->base_bytes / COST_MEM_UNIT);
    h->other = s->other > 0.25 ? (int32_t)(s->other * COST_ONE) : 0;
    h->news = true;
    know_publish_host(k, server);
}

void
know_silent(struct know *k, uint32_t server)
{
    MC_ASSERT(server < k->view->n);
    k->host[server].other = 0;
    k->learn.server[server].other = 0;
    k->lean[server] = (struct lean){0};
    know_publish_peers(k, server);
}

void
know_word(struct know *k, const struct place_word *w)
{
    MC_ASSERT(w->server < k->view->n);
    if (w->at_ns < k->word[w->server].last.at_ns)
        return;
    k->word[w->server].last = *w;
    if (!k->lean[w->server].by_agent)
        lean_note(&k->lean[w->server], lean_busy(w), w->at_ns);
}

/* --- time ---------------------------------------------------------------------------------------
 */

static void
end_window(struct know *k, mc_ns now)
{
    double seconds = (double)k->conf.window_ns * 1e-9;

    k->rate += RATE_BLEND * ((double)k->n_begun / seconds - k->rate);
    k->n_begun = 0;
    know_tell_window(k);
    presence_next(&k->presence);
    learn_factors(&k->learn, now);
    lean_step(k->lean, k->view->n, seconds, now);
    publish_servers(k, now);
    share_expire(&k->share, now,
                 &(struct share_hooks){know_share_hooks.in_home, know_share_hooks.touched, k});
    k->next_window = (k->presence.window + 1) * k->conf.window_ns + GRACE_NS;
}

static void
solve(struct know *k, mc_ns now)
{
    const struct learn_sums *others[UINT8_MAX + 1];
    unsigned n = 0;

    for (unsigned i = 0; i < k->share.n_peers && n < MC_COUNT(others); i++)
        if (k->share.peer[i].any_sums)
            others[n++] = &k->share.peer[i].sums;
    learn_solve(&k->learn, others, n, now);
    know_publish_costs(k);
}

/* What goes out at its own times. */
static void
tell(struct know *k, mc_ns now)
{
    know_fill_purse(k, now);
    if (!know_lacks(k, KNOW_PEERS))
        know_tell_fast(k, now);
    know_tell_late(k, now);
    if (now >= k->next_slow) {
        know_tell_slow(k, now);
        k->next_slow = next_multiple(now, SLOW_NS) + GRACE_NS;
    }
    if (now >= k->next_reports) {
        know_tell_reports(k);
        k->next_reports = next_multiple(now, REPORTS_NS) + GRACE_NS;
    }
    if (now >= k->next_sums)
        k->next_sums = next_multiple(now, know_tell_sums(k) ? SUMS_NS : SLOW_NS);
}

void
know_tick(struct know *k, mc_ns now)
{
    release_held(k, now);
    if (k->conf.send && k->n_members > 1)
        tell(k, now);
    if (now >= k->next_window)
        end_window(k, now);
    if (now >= k->next_solve) {
        solve(k, now);
        k->next_solve = next_multiple(now, SOLVE_NS);
    }
    if (now >= k->next_home) {
        cut_homes(k);
        k->next_home = next_multiple(now, HOME_NS);
    }
    atomic_store_explicit(&k->table->good_until_ns, now + GOOD_NS, memory_order_relaxed);
}
