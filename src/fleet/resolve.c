/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resolve.c - keeps the addresses of a server that has a name, see resolve.h.
 *
 * A question cannot be taken back, so each has a struct lookup of its own that holds the server
 * until the answer; if the server has left the configuration by then, nobody looks at it.
 */
#include "fleet/resolve.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "fleet/care.h"
#include "fleet/open.h"
#include "io/dns.h"

/* Below a second a busy name would be asked for all the time; above five minutes a move of the
 * server would stay unseen for too long, whatever its zone promises. */
#define TTL_MIN_NS        MC_SEC
#define TTL_MAX_NS        (300 * MC_SEC)
#define RETRY_FIRST_NS    MC_SEC
/* A server without address waits for nothing else; one with an address can wait longer. */
#define RETRY_MAX_NONE_NS (5 * MC_SEC)
#define RETRY_MAX_NS      (60 * MC_SEC)

struct resolve {
    struct entry *e;
    char *host;
    uint16_t port;
    struct timer timer;
    mc_ns retry_ns; /* after the last failure; 0: the last answer was good */
};

struct lookup {
    struct list link; /* fleet.lookups */
    struct entry *e;  /* referenced */
};

static void on_answer(void *arg, const struct dns_answer *);

static void
ask(struct resolve *r)
{
    struct fleet *f = r->e->live->fleet;
    struct lookup *q = mc_alloc(sizeof(*q));

    q->e = r->e;
    server_ref(&r->e->s);
    list_push_back(&f->lookups, &q->link);
    dns_query(f->dns, r->host, r->port, on_answer, q);
}

static void
on_timer(struct timer *t)
{
    ask(container_of(t, struct resolve, timer));
}

static void
ask_again(struct resolve *r, mc_ns in_ns)
{
    struct loop *loop = r->e->live->fleet->loop;

    loop_timer_set(loop, &r->timer, loop_now(loop) + in_ns);
}

/* --- answers -------------------------------------------------------------------------------------
 */

static bool
is_known(const struct entry *e, const struct dns_answer *a)
{
    /* the control thread alone replaces them, so it may read them as they are */
    const struct server_addrs *now = atomic_load(&e->s.addrs);

    if (!now || now->n != a->n_addrs)
        return false;
    for (unsigned i = 0; i < now->n; i++)
        if (!addr_eq(&now->addr[i], &a->addrs[i]))
            return false;
    return true;
}

static void
log_addrs(const struct entry *e, const struct dns_answer *a)
{
    char text[ADDR_TEXT];
    struct buf b = {0};

    for (unsigned i = 0; i < a->n_addrs; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", addr_text(&a->addrs[i], text));
    log_info("pool %s: server %s has address %s", e->s.pool_name, e->s.name, b.p);
    buf_free(&b);
}

static void
set_resolved(struct entry *e, bool resolved, const char *why)
{
    mc_ns now = loop_now(e->live->fleet->loop);
    struct health *h = open_begin(e);
    bool changed = health_set_resolved(h, resolved, why, now, units_wall_ns());

    open_end(e, changed, now);
}

static void
good_answer(struct resolve *r, const struct dns_answer *a)
{
    mc_ns ttl = (mc_ns)a->ttl_s * MC_SEC;

    r->retry_ns = 0;
    if (!is_known(r->e, a)) {
        entry_set_addrs(r->e, a->addrs, a->n_addrs);
        log_addrs(r->e, a);
        set_resolved(r->e, true, "address found");
        care_addr_changed(r->e);
    }
    ask_again(r, ttl < TTL_MIN_NS ? TTL_MIN_NS : ttl > TTL_MAX_NS ? TTL_MAX_NS : ttl);
}

static void
bad_answer(struct resolve *r, const struct dns_answer *a)
{
    bool has_addrs = atomic_load(&r->e->s.addrs) != NULL;
    mc_ns max = has_addrs ? RETRY_MAX_NS : RETRY_MAX_NONE_NS;
    const char *text = a->status ? a->text : "the answer holds no address";
    char why[96];

    if (r->retry_ns == 0) /* once per outage, not per question */
        log_warn("pool %s: server %s: cannot resolve %s: %s%s", r->e->s.pool_name, r->e->s.name,
                 r->host, text, has_addrs ? "; the last addresses stay in use" : "");
    r->retry_ns = r->retry_ns ? r->retry_ns * 2 : RETRY_FIRST_NS;
    r->retry_ns = r->retry_ns < max ? r->retry_ns : max;
    if (!has_addrs) {
        snprintf(why, sizeof(why), "cannot resolve %s: %s", r->host, text);
        set_resolved(r->e, false, why);
    }
    ask_again(r, r->retry_ns);
}

static void
on_answer(void *arg, const struct dns_answer *a)
{
    struct lookup *q = arg;
    struct server *s = &q->e->s;
    struct resolve *r = q->e->resolve;

    list_remove(&q->link);
    free(q);
    if (r && a->status == 0 && a->n_addrs > 0)
        good_answer(r, a);
    else if (r)
        bad_answer(r, a);
    server_unref(&s);
}

/* --- birth and death ----------------------------------------------------------------------------
 */

struct resolve *
resolve_new(struct entry *e, struct str host, uint16_t port)
{
    struct resolve *r = mc_alloc(sizeof(*r));

    r->e = e;
    r->host = str_dup(host);
    r->port = port;
    r->timer.fn = on_timer;
    ask(r);
    return r;
}

void
resolve_free(struct resolve **rp)
{
    struct resolve *r = *rp;

    if (!r)
        return;
    *rp = NULL;
    loop_timer_clear(r->e->live->fleet->loop, &r->timer);
    free(r->host);
    free(r);
}

void
resolve_forget_all(struct fleet *f)
{
    while (!list_empty(&f->lookups)) {
        struct lookup *q = LIST_ENTRY(f->lookups.next, struct lookup, link);
        struct server *s = &q->e->s;

        list_remove(&q->link);
        free(q);
        server_unref(&s);
    }
}
