/* SPDX-License-Identifier: BSD-2-Clause
 *
 * follow.c - where the agent of one server is, see follow.h.
 *
 * A name is looked up as a server's is; a question cannot be taken back, so it has a struct of its
 * own that waits for the answer when nobody does any more.
 */
#include "fleet/follow.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "io/dns.h"

#define TTL_MIN_NS MC_SEC
#define TTL_MAX_NS (300 * MC_SEC)
#define RETRY_NS   (5 * MC_SEC)

struct follow {
    struct fleet *fleet;
    const char *pool, *server; /* the caller's, as long as we live */
    char *text;                /* as configured */
    struct watch_conf conf;
    watcher_f *fn;
    void *arg;
    struct watch_sub *sub; /* NULL: its name has no address yet */
    char *host;            /* of a name; NULL */
    uint16_t port;
    struct timer timer;
    struct follow_lookup *lookup; /* under way */
    bool failed;                  /* the last lookup */
};

struct follow_lookup {
    struct list link; /* fleet.agent_lookups */
    struct follow *w; /* NULL: nobody waits */
};

static void
listen_to(struct follow *w, const struct addr *addr)
{
    if (w->sub && addr_eq(&w->conf.addr, addr))
        return;
    watch_sub_leave(&w->sub);
    w->conf.addr = *addr;
    w->sub = watches_join(w->fleet->watches, &w->conf, w->fn, w->arg);
}

/* --- names -------------------------------------------------------------------------------------
 */

static void
ask_again(struct follow *w, mc_ns in_ns)
{
    loop_timer_set(w->fleet->loop, &w->timer, loop_now(w->fleet->loop) + in_ns);
}

static void
good_answer(struct follow *w, const struct dns_answer *d)
{
    mc_ns ttl = (mc_ns)d->ttl_s * MC_SEC;

    w->failed = false;
    listen_to(w, &d->addrs[0]);
    ask_again(w, ttl < TTL_MIN_NS ? TTL_MIN_NS : ttl > TTL_MAX_NS ? TTL_MAX_NS : ttl);
}

static void
bad_answer(struct follow *w, const struct dns_answer *d)
{
    if (!w->failed)
        log_warn("pool %s: server %s: cannot resolve %s of its agent: %s", w->pool, w->server,
                 w->host, d->status ? d->text : "the answer holds no address");
    w->failed = true;
    ask_again(w, RETRY_NS);
}

static void
on_answer(void *arg, const struct dns_answer *d)
{
    struct follow_lookup *q = arg;
    struct follow *w = q->w;

    list_remove(&q->link);
    free(q);
    if (!w)
        return;
    w->lookup = NULL;
    if (d->status == 0 && d->n_addrs > 0)
        good_answer(w, d);
    else
        bad_answer(w, d);
}

static void
ask(struct timer *t)
{
    struct follow *w = container_of(t, struct follow, timer);

    w->lookup = mc_alloc(sizeof(*w->lookup));
    w->lookup->w = w;
    list_push_back(&w->fleet->agent_lookups, &w->lookup->link);
    dns_query(w->fleet->dns, w->host, w->port, on_answer, w->lookup);
}

void
follow_forget_all(struct fleet *f)
{
    LIST_FOREACH_SAFE (it, next, &f->agent_lookups) {
        list_remove(it);
        free(LIST_ENTRY(it, struct follow_lookup, link));
    }
}

/* --- birth and death ---------------------------------------------------------------------------
 */

struct follow *
follow_new(struct fleet *f, const char *pool, const char *server, const struct server_conf *c,
           mc_ns interval, watcher_f *fn, void *arg)
{
    struct follow *w = mc_alloc(sizeof(*w));
    struct addr addr;
    struct str host;

    w->fleet = f;
    w->pool = pool;
    w->server = server;
    w->text = mc_strdup(c->agent);
    w->conf = (struct watch_conf){
        .kind = c->agent_kind,
        .interval = interval,
        .tls_client = tls_client_ref(c->agent_tls),
        .tls_name = c->agent_tls_name ? mc_strdup(c->agent_tls_name) : NULL,
    };
    w->fn = fn;
    w->arg = arg;
    w->timer.fn = ask;
    if (addr_parse(str_of(w->text), &addr, &host, &w->port, NULL) == MC_OK) {
        listen_to(w, &addr);
    } else if (f->dns) {
        w->host = str_dup(host);
        ask(&w->timer);
    }
    return w;
}

void
follow_free(struct follow **wp)
{
    struct follow *w = *wp;

    if (!w)
        return;
    *wp = NULL;
    watch_sub_leave(&w->sub);
    if (w->lookup)
        w->lookup->w = NULL;
    loop_timer_clear(w->fleet->loop, &w->timer);
    tls_client_unref(&w->conf.tls_client);
    free((char *)w->conf.tls_name);
    free(w->text);
    free(w->host);
    free(w);
}

bool
follow_is_same(const struct follow *w, const struct server_conf *c, mc_ns interval)
{
    return c->agent && strcmp(w->text, c->agent) == 0 && w->conf.kind == c->agent_kind &&
           w->conf.interval == interval &&
           tls_client_id(w->conf.tls_client) == tls_client_id(c->agent_tls) &&
           str_eq(str_of(w->conf.tls_name), str_of(c->agent_tls_name));
}

const char *
follow_text(const struct follow *w)
{
    return w->text;
}

/* --- what is known of it -----------------------------------------------------------------------
 */

const struct watcher *
follow_watcher(const struct follow *w)
{
    return w->sub ? watch_sub_watcher(w->sub) : NULL;
}

void
follow_show(const struct follow *w, mc_ns now, struct brain_server *out)
{
    const struct watch_stats *s;

    out->has_agent = true;
    if (!w->sub) {
        out->why = w->failed ? "its name cannot be resolved" : "";
        return;
    }
    s = watcher_stats(watch_sub_watcher(w->sub));
    out->age = watcher_age(watch_sub_watcher(w->sub), now);
    out->reports = s->reports;
    for (unsigned i = 0; i < REPORT_N_FAULTS; i++)
        out->refused += s->refused[i];
    out->failures = s->failures + s->stalls;
    out->why = s->why;
}
