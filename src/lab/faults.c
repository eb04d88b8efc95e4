/* SPDX-License-Identifier: BSD-2-Clause
 *
 * faults.c - faults of networks as rules, see faults.h.
 */
#include "lab/faults.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/near.h"

/* --- targets -----------------------------------------------------------------------------------
 */

static enum mc_err
unknown(const struct topology *t, struct str name, struct errbuf *e)
{
    struct near near = {.asked = name};

    for (unsigned i = 0; i < t->n_hosts; i++)
        near_offer(&near, t->hosts[i].name);
    for (unsigned i = 0; i < t->n_networks; i++)
        near_offer(&near, t->networks[i].name);
    if (near.best != NULL)
        err_set(e, "no host or network \"" STR_FMT "\", expected \"%s\" perhaps", STR_ARG(name),
                near.best);
    else
        err_set(e, "no host or network \"" STR_FMT "\", expected HOST, NETWORK or HOST.NETWORK",
                STR_ARG(name));
    return MC_ENOENT;
}

enum mc_err
fault_target_parse(const struct topology *t, struct str name, struct fault_target *out,
                   struct errbuf *e)
{
    struct str network = name, host = str_cut(&network, '.');
    const struct topology_host *h = topology_host_find(t, host);
    struct fault_target target = {h ? (unsigned)(h - t->hosts) : FAULTS_ANY, FAULTS_ANY};

    if (h == NULL && network.p == NULL)
        network = host;
    else if (h == NULL)
        return unknown(t, host, e);
    if (network.p != NULL) {
        target.network = topology_network_find(t, network);
        if (target.network == TOPOLOGY_NETWORKS_MAX)
            return unknown(t, network, e);
    }
    if (h != NULL && network.p != NULL && topology_link_find(h, target.network) == NULL) {
        err_set(e, "%s has no link to %s", h->name, t->networks[target.network].name);
        return MC_ENOENT;
    }
    *out = target;
    return MC_OK;
}

void
fault_target_text(const struct topology *t, struct fault_target target, struct buf *b)
{
    if (target.host != FAULTS_ANY)
        buf_printf(b, "%s", t->hosts[target.host].name);
    if (target.host != FAULTS_ANY && target.network != FAULTS_ANY)
        buf_printf(b, ".");
    if (target.network != FAULTS_ANY)
        buf_printf(b, "%s", t->networks[target.network].name);
}

static bool
overlap(unsigned a, unsigned b)
{
    return a == FAULTS_ANY || b == FAULTS_ANY || a == b;
}

static bool
concerns(struct fault_target target, struct fault_target other)
{
    return overlap(target.host, other.host) && overlap(target.network, other.network);
}

bool
fault_target_has(struct fault_target target, unsigned host, unsigned network)
{
    return overlap(target.host, host) && overlap(target.network, network);
}

static bool
is_of(struct fault_target target, const struct fault_port *p)
{
    return fault_target_has(target, p->host, p->network);
}

/* --- cutting and healing -----------------------------------------------------------------------
 */

/* Is there a network that both are on? */
static bool
can_meet(const struct topology *t, struct fault_target a, struct fault_target b)
{
    for (unsigned n = 0; n < t->n_networks; n++) {
        bool a_is = overlap(a.network, n), b_is = overlap(b.network, n);

        if (a.host != FAULTS_ANY)
            a_is &= topology_link_find(&t->hosts[a.host], n) != NULL;
        if (b.host != FAULTS_ANY)
            b_is &= topology_link_find(&t->hosts[b.host], n) != NULL;
        if (a_is && b_is)
            return true;
    }
    return false;
}

enum mc_err
faults_cut(struct faults *f, const struct topology *t, struct fault_target a,
           const struct fault_target *b, bool one_way, struct errbuf *e)
{
    struct fault_cut c = {.a = a, .has_b = b != NULL, .from = true, .to = !one_way};
    struct buf text = {0};

    if (b != NULL)
        c.b = *b;
    if (b != NULL && !can_meet(t, a, *b)) {
        fault_target_text(t, a, &text);
        buf_printf(&text, " and ");
        fault_target_text(t, *b, &text);
        err_set(e, "%s are on no common network: cut what is between them", text.p);
        buf_free(&text);
        return MC_EINVAL;
    }
    /* a host and a network: the link between the two */
    if (b != NULL && b->host == FAULTS_ANY) {
        c = (struct fault_cut){{a.host, b->network}, {0, 0}, false, true, !one_way};
    } else if (b != NULL && a.host == FAULTS_ANY) {
        c = (struct fault_cut){{b->host, a.network}, {0, 0}, false, !one_way, true};
    }
    f->cuts = mc_realloc(f->cuts, (f->n_cuts + 1) * sizeof(*f->cuts));
    f->cuts[f->n_cuts++] = c;
    return MC_OK;
}

void
faults_heal(struct faults *f, const struct fault_target *target)
{
    unsigned n = 0;

    for (unsigned i = 0; i < f->n_cuts; i++) {
        const struct fault_cut *c = &f->cuts[i];

        if (target != NULL && !concerns(*target, c->a) && !(c->has_b && concerns(*target, c->b)))
            f->cuts[n++] = *c;
    }
    f->n_cuts = n;
}

void
faults_free(struct faults *f)
{
    free(f->cuts);
    *f = (struct faults){0};
}

/* --- rules -------------------------------------------------------------------------------------
 */

/* Drops what comes from (or goes to) every port of the target. */
static void
whole_rule(struct fault_target target, const char *way, const struct fault_port *ports, unsigned n,
           struct buf *b)
{
    for (unsigned i = 0; i < n; i++)
        if (is_of(target, &ports[i]))
            buf_printf(b, "%s \"%s\" drop\n", way, ports[i].name);
}

/* Drops what goes from a port of the one to a port of the other. */
static void
pair_rules(struct fault_target from, struct fault_target to, const struct fault_port *ports,
           unsigned n, struct buf *b)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            if (i != k && is_of(from, &ports[i]) && is_of(to, &ports[k]) &&
                ports[i].network == ports[k].network)
                buf_printf(b, "iifname \"%s\" oifname \"%s\" drop\n", ports[i].name, ports[k].name);
}

static void
cut_rules(const struct fault_cut *c, const struct fault_port *ports, unsigned n, struct buf *b)
{
    if (!c->has_b) {
        if (c->from)
            whole_rule(c->a, "iifname", ports, n, b);
        if (c->to)
            whole_rule(c->a, "oifname", ports, n, b);
        return;
    }
    if (c->from)
        pair_rules(c->a, c->b, ports, n, b);
    if (c->to)
        pair_rules(c->b, c->a, ports, n, b);
}

static void
loss_rules(const struct fault_port *p, struct buf *b)
{
    static const char *const ways[] = {"iifname", "oifname"};

    for (unsigned i = 0; i < MC_COUNT(ways) && p->loss_ppm > 0; i++) {
        /* nft takes no comparison that is always true */
        if (p->loss_ppm >= 1000000)
            buf_printf(b, "%s \"%s\" drop\n", ways[i], p->name);
        else
            buf_printf(b, "%s \"%s\" numgen random mod 1000000 < %u drop\n", ways[i], p->name,
                       p->loss_ppm);
    }
}

void
faults_rules(const struct faults *f, const struct fault_port *ports, unsigned n_ports,
             struct buf *b)
{
    /* made first, so that it can be deleted in the same transaction whether it was there or not */
    buf_printf(b, "table bridge lab\ndelete table bridge lab\ntable bridge lab {\n"
                  "chain forward {\ntype filter hook forward priority 0\n");
    for (unsigned i = 0; i < f->n_cuts; i++)
        cut_rules(&f->cuts[i], ports, n_ports, b);
    for (unsigned i = 0; i < n_ports; i++)
        loss_rules(&ports[i], b);
    buf_printf(b, "}\n}\n");
}
