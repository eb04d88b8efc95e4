/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster_join.c - the addresses to join by: numbers as they are, names looked up again and again,
 * since what stands behind them changes as the cluster does.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/cluster_priv.h"

/* Names are asked for often until somebody was found, and seldom afterwards. */
#define ASK_JOINING_NS (2 * MC_SEC)
#define ASK_NS         (30 * MC_SEC)

struct join_name {
    struct list link;
    struct cluster *c;
    char *host; /* NULL: the address is a number */
    uint16_t port;
    struct timer timer;
    bool asking, failed;
    bool dropped; /* but asking still: a question cannot be taken back */
    struct addr addrs[DNS_MAX_ADDRS];
    unsigned n_addrs;
};

static void
tell_swim(struct cluster *c)
{
    struct addr all[SWIM_JOIN_MAX];
    size_t n = 0;

    if (c->leaving || c->left)
        return; /* nobody is looked for any more */
    LIST_FOREACH (it, &c->join_names) {
        const struct join_name *j = LIST_ENTRY(it, struct join_name, link);

        for (unsigned k = 0; k < j->n_addrs && n < MC_COUNT(all); k++)
            all[n++] = j->addrs[k];
    }
    swim_join(c->swim, all, n, loop_now(c->loop));
    cluster_plan(c);
}

static void
name_free(struct join_name *j)
{
    loop_timer_clear(j->c->loop, &j->timer);
    list_remove(&j->link);
    free(j->host);
    free(j);
}

static void
take_answer(struct join_name *j, const struct dns_answer *d)
{
    if (d->status != 0 || d->n_addrs == 0) {
        if (!j->failed)
            log_warn("cluster: cannot resolve %s: %s", j->host,
                     d->status ? d->text : "the answer holds no address");
        j->failed = true;
        return;
    }
    j->failed = false;
    j->n_addrs = d->n_addrs < DNS_MAX_ADDRS ? d->n_addrs : DNS_MAX_ADDRS;
    memcpy(j->addrs, d->addrs, j->n_addrs * sizeof(*j->addrs));
    tell_swim(j->c);
}

static void
on_answer(void *arg, const struct dns_answer *d)
{
    struct join_name *j = arg;
    struct cluster *c = j->c;

    j->asking = false;
    if (j->dropped) {
        name_free(j);
        return;
    }
    take_answer(j, d);
    loop_timer_set(c->loop, &j->timer,
                   loop_now(c->loop) + (swim_joined(c->swim) ? ASK_NS : ASK_JOINING_NS));
}

static void
ask(struct timer *t)
{
    struct join_name *j = container_of(t, struct join_name, timer);

    j->asking = true;
    dns_query(j->c->dns, j->host, j->port, on_answer, j);
}

static void
name_new(struct cluster *c, const char *text)
{
    struct join_name *j = mc_alloc(sizeof(*j));
    struct str host;

    j->c = c;
    j->timer.fn = ask;
    list_push_back(&c->join_names, &j->link);
    if (addr_parse(str_of(text), &j->addrs[0], &host, &j->port, NULL) == MC_OK) {
        j->n_addrs = 1;
    } else if (c->dns) {
        j->host = str_dup(host);
        ask(&j->timer);
    }
}

void
join_set(struct cluster *c, char *const *join, unsigned n)
{
    LIST_FOREACH_SAFE (it, next, &c->join_names) {
        struct join_name *j = LIST_ENTRY(it, struct join_name, link);

        j->dropped = true;
        j->n_addrs = 0;
        if (!j->asking)
            name_free(j);
    }
    for (unsigned i = 0; i < n; i++)
        name_new(c, join[i]);
    tell_swim(c);
}

void
join_stop(struct cluster *c)
{
    LIST_FOREACH_SAFE (it, next, &c->join_names)
        name_free(LIST_ENTRY(it, struct join_name, link));
}
