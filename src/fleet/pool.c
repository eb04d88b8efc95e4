/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pool.c - choosing a server and claiming a place at it.  Building pools is fleet.c's.
 */
#include "fleet/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "fleet/live.h"
#include "http/msg.h"
#include "place/probed.h"

/* Other workers may fill the chosen server between the look and the claim; each lost claim means
 * that one of them went ahead. */
#define CLAIM_TRIES 8
#define PROBES_MAX  8 /* of one request */

void
pool_worker_init(struct pool_worker *w, const struct pool *p, struct rng *rng)
{
    w->pool = p;
    w->policy_state = p->conf.policy->state_new ? p->conf.policy->state_new(&p->view, rng) : NULL;
    w->probed = p->conf.policy->probe_want ? probed_new(p->view.n) : NULL;
}

void
pool_worker_fini(struct pool_worker *w)
{
    if (w->policy_state && w->pool->conf.policy->state_free)
        w->pool->conf.policy->state_free(w->policy_state);
    w->policy_state = NULL;
    probed_free(&w->probed);
}

/* The servers are not asked: what they would answer is known here, where all of their requests
 * pass. How many are in flight is exact and of this moment; latencies are those of this worker's.
 */
static void
probe(struct pool_worker *w, mc_ns now, struct rng *rng)
{
    const struct policy *policy = w->pool->conf.policy;
    const struct place_view *v = &w->pool->view;
    uint32_t want[PROBES_MAX];
    unsigned n = policy->probe_want(w->policy_state, v, rng, want, PROBES_MAX);

    for (unsigned i = 0; i < n; i++) {
        const struct place_load *l = v->load[want[i]];
        uint32_t in_flight = (uint32_t)atomic_load_explicit(&l->in_flight, memory_order_relaxed);

        if (place_is_open(l)) /* else it would not answer */
            policy->on_probe(w->policy_state, v, want[i], in_flight,
                             probed_latency(w->probed, want[i], in_flight + 1, now), now);
    }
}

void
pool_learn(struct pool_worker *w, uint32_t index, uint32_t crowd, mc_ns latency, bool ok, mc_ns now)
{
    const struct policy *policy = w->pool->conf.policy;

    if (policy->on_end)
        policy->on_end(w->policy_state, &w->pool->view, index, latency, ok, now);
    if (w->probed && ok)
        probed_note(w->probed, index, crowd, latency, now);
}

/* One more, unless that exceeds max (0: no limit).  A limit is kept by compare-and-exchange and not
 * by adding and taking back: a count that is too high for a moment would turn others away from a
 * place that is free, and the last of them would wait for a wake-up that nobody sends. */
static bool
claim(_Atomic int32_t *n, uint32_t max)
{
    int32_t was;

    if (max == 0) {
        atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
        return true;
    }
    was = atomic_load_explicit(n, memory_order_relaxed);
    while (was < (int32_t)max)
        if (atomic_compare_exchange_weak_explicit(n, &was, was + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool
claim_server(struct server *s)
{
    return claim(&s->load.in_flight,
                 atomic_load_explicit(&s->load.max_in_flight, memory_order_relaxed));
}

/* A server with a place claimed, or NULL and why. */
static struct server *
pick_and_claim(struct pool_worker *w, const struct place_ask *ask, struct rng *rng,
               struct place_answer *a)
{
    const struct pool *p = w->pool;

    for (int i = 0; i < CLAIM_TRIES; i++) {
        *a = p->conf.policy->pick(p->policy_shared, w->policy_state, &p->view, ask, rng);
        if (a->index < 0)
            return NULL;
        if (claim_server(p->servers[a->index]))
            return p->servers[a->index];
    }
    *a = (struct place_answer){-1, PLACE_FULL};
    return NULL;
}

bool
pool_pick(struct pool_worker *w, const struct place_ask *ask, struct rng *rng,
          struct pool_pick *out)
{
    struct pool_live *l = w->pool->live;
    struct place_answer a = {-1, PLACE_FULL};
    struct server *s;

    if (!claim(&l->in_flight, w->pool->conf.max_concurrent)) {
        if (atomic_load_explicit(&l->n_open, memory_order_relaxed) == 0)
            a.reason = PLACE_NONE; /* waiting for a place would not help */
        *out = (struct pool_pick){.reason = a.reason};
        return false;
    }
    if (w->probed)
        probe(w, ask->now, rng);
    s = pick_and_claim(w, ask, rng, &a);
    if (!s) {
        atomic_fetch_sub_explicit(&l->in_flight, 1, memory_order_relaxed);
        *out = (struct pool_pick){.reason = a.reason};
        return false;
    }
    *out = (struct pool_pick){
        .server = s,
        .index = (uint32_t)a.index,
        .crowd = (uint32_t)atomic_load_explicit(&s->load.in_flight, memory_order_relaxed),
        .reason = a.reason};
    return true;
}

struct str
pool_hash_key(const struct pool_conf *c, const struct http_head *h, struct str address)
{
    switch (c->hash_by) {
    case POOL_HASH_ADDRESS: return address;
    case POOL_HASH_URI: return h->path;
    case POOL_HASH_HEADER: return http_field_get(h, str_of(c->hash_name));
    case POOL_HASH_COOKIE: return http_cookie_get(h, str_of(c->hash_name));
    }
    MC_NEVER("hash-by");
}

/* hot: once per attempt */
void
pool_end(const struct pool *p, struct server *s)
{
    int32_t was = atomic_fetch_sub_explicit(&p->live->in_flight, 1, memory_order_relaxed);

    MC_ASSERT(was > 0);
    server_end(s);
}

/* --- ending ------------------------------------------------------------------------------------
 */

static void
tls_conf_fini(struct pool_tls_conf *t)
{
    for (unsigned i = 0; i < t->n_cas; i++)
        free(t->cas[i]);
    free(t->cas);
    free(t->crl);
    free(t->certificate);
    free(t->name);
    free(t->ciphers);
    free(t->ciphersuites);
    tls_client_unref(&t->client);
}

void
pool_conf_free(struct pool_conf *c)
{
    tls_conf_fini(&c->tls);
    tls_conf_fini(&c->agent_tls);
    for (unsigned i = 0; i < c->n_servers; i++) {
        free(c->servers[i].name);
        free(c->servers[i].address);
        free(c->servers[i].agent);
        free(c->servers[i].tls_name);
        free(c->servers[i].agent_tls_name);
        tls_client_unref(&c->servers[i].agent_tls);
    }
    free(c->servers);
    class_rules_fini(&c->rules);
    free(c->name);
    free(c->hash_name);
    free(c->upgrade);
    free(c->check.path);
    free(c->check.host);
    free(c->check.service);
    free(c->check.method);
    memset(c, 0, sizeof(*c));
}

void
pool_free(struct pool **pp)
{
    struct pool *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    if (p->policy_shared && p->conf.policy->shared_free)
        p->conf.policy->shared_free(p->policy_shared);
    brain_unref(&p->brain);
    for (unsigned i = 0; i < p->view.n; i++)
        server_unref(&p->servers[i]);
    free(p->servers);
    free((void *)p->view.load);
    free((void *)p->view.id_hash);
    live_unref(live_of(p->live));
    pool_conf_free(&p->conf);
    free(p);
}
