/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip.c - the addresses that clients know, see vip.h.
 *
 * Whatever happens (fitness, a claim of another member, a second that has passed, a reload),
 * vip_settle() compares what should be carried with what is.  So a step that failed is taken again
 * by the next one, and nothing has to be remembered about it.
 *
 * The keeper hears of an address before the kernel does, and forgets it after the kernel has: at
 * whatever moment we die, it knows all that may be on an interface.
 */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "control/heritage.h"
#include "control/member_priv.h"
#include "control/view.h"
#include "control/vip_priv.h"

/* How often interfaces are looked at: whether what we put there is still there, and whether what
 * could not be put there can be. */
#define CHECK_NS (1 * MC_SEC)

static const char *const state_texts[] = {
#define X(name, text) text,
    VIP_STATES(X)
#undef X
};

/* --- one address -------------------------------------------------------------------------------
 */

static void
set_state(struct vip_addr *a, enum vip_state to, const char *why)
{
    bool same = a->state == to && (to != VIP_FAILED || strcmp(a->why, why) == 0);

    snprintf(a->why, sizeof(a->why), "%s", why);
    if (a->state != to)
        a->since_wall_ns = units_wall_ns();
    a->n_carried += to == VIP_CARRIED && a->state != to;
    a->state = to;
    if (!same)
        log_line(to == VIP_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "vip %s: %s on %s: %s%s%s",
                 a->name, a->text, a->interface, state_texts[to], why[0] ? ": " : "", why);
}

/* The address is on the interface already. */
static void
take_over(struct vip *v, struct vip_addr *a)
{
    enum netlink_owner owner;
    struct errbuf e;

    if (netlink_addr_owner(&v->nl, a->ifindex, &a->addr, &owner, &e) != MC_OK) {
        keeper_drop(v->keeper, a->slot);
        set_state(a, VIP_FAILED, e.text);
    } else if (owner == NETLINK_OURS) {
        set_state(a, VIP_CARRIED, "left behind by an earlier process");
    } else {
        keeper_drop(v->keeper, a->slot);
        set_state(a, VIP_FOREIGN, "put there by somebody else");
    }
}

static void
carry(struct vip *v, struct vip_addr *a)
{
    struct errbuf e;
    enum mc_err rv;

    a->ifindex = if_nametoindex(a->interface);
    if (a->ifindex == 0) {
        set_state(a, VIP_FAILED, "there is no such interface");
        return;
    }
    keeper_hold(v->keeper, a->slot, a->ifindex, &a->addr);
    rv = netlink_addr_add(&v->nl, a->ifindex, &a->addr, &e);
    if (rv == MC_OK) {
        set_state(a, VIP_CARRIED, "");
    } else if (rv == MC_EEXIST) {
        take_over(v, a);
    } else {
        keeper_drop(v->keeper, a->slot);
        set_state(a, VIP_FAILED, e.text);
    }
}

/* What cannot be removed is still carried, and shown so. */
static void
put_away(struct vip *v, struct vip_addr *a, const char *why)
{
    struct errbuf e;
    bool carried = a->state == VIP_CARRIED;
    enum mc_err rv = carried ? netlink_addr_del(&v->nl, a->ifindex, &a->addr, &e) : MC_OK;

    if (rv != MC_OK && rv != MC_ENOENT) {
        set_state(a, VIP_CARRIED, e.text);
        return;
    }
    if (carried)
        keeper_drop(v->keeper, a->slot);
    set_state(a, VIP_AWAY, why);
}

void
vip_take_in(struct vip_addr *a)
{
    struct vip *v = a->vip;
    struct errbuf e;
    enum mc_err rv;

    if (a->local)
        return;
    keeper_hold_local(v->keeper, a->slot, &a->addr);
    rv = netlink_local_add(&v->nl, &a->addr, &e);
    a->local = rv == MC_OK || rv == MC_EEXIST;
    if (a->local)
        return;
    keeper_drop_local(v->keeper, a->slot);
    log_warn("vip %s: %s: %s; connections break when it is not carried", a->name, a->text, e.text);
}

void
vip_take_in_no_more(struct vip_addr *a)
{
    if (a->local) {
        a->local = false;
        netlink_local_del(&a->vip->nl, &a->addr, NULL);
        keeper_drop_local(a->vip->keeper, a->slot);
    }
    vip_share_speak(a);
}

static bool
left_behind(struct vip *v, const struct vip_addr *a, unsigned ifindex)
{
    enum netlink_owner owner;

    return ifindex != 0 && netlink_addr_owner(&v->nl, ifindex, &a->addr, &owner, NULL) == MC_OK &&
           owner == NETLINK_OURS;
}

/* What a process of ours left behind that had no time to remove it, and should not be there. */
static void
sweep(struct vip *v, const struct vip_addr *a, const char *interface)
{
    unsigned ifindex = if_nametoindex(interface);

    if (left_behind(v, a, ifindex) && netlink_addr_del(&v->nl, ifindex, &a->addr, NULL) == MC_OK)
        log_warn("vip %s: %s on %s was left behind by an earlier process: removed", a->name,
                 a->text, interface);
}

static bool
is_wanted_on(const struct vip *v, const struct addr *addr, const char *interface)
{
    for (unsigned i = 0; i < v->n; i++)
        if (addr_eq(&v->v[i]->addr.base, addr) && strcmp(v->v[i]->interface, interface) == 0)
            return true;
    return false;
}

/* The one before us may have had it elsewhere. */
static void
sweep_elsewhere(struct vip *v, const struct vip_addr *a)
{
    struct if_nameindex *all = if_nameindex();

    for (struct if_nameindex *i = all; i != NULL && i->if_index != 0; i++)
        if (!is_wanted_on(v, &a->addr.base, i->if_name))
            sweep(v, a, i->if_name);
    if (all != NULL)
        if_freenameindex(all);
}

/* In a cluster a process goes on with what the one before it carried, which has handed it over. */
static void
inherit(struct vip *v, struct vip_addr *a)
{
    if (a->mode == VIP_CLUSTER && left_behind(v, a, if_nametoindex(a->interface)))
        carry(v, a);
}

/* --- all of them -------------------------------------------------------------------------------
 */

/* Also when only the reason is another: it is what people are shown. */
static void
settle_one(struct vip *v, struct vip_addr *a, bool fit, const char *why)
{
    if (!fit && (a->state != VIP_AWAY || strcmp(a->why, why) != 0))
        put_away(v, a, why);
    else if (fit && a->state != VIP_CARRIED)
        carry(v, a);
}

static void
settle_route(struct vip *v, bool fit, const char *why)
{
    for (unsigned i = 0; i < v->n; i++)
        if (v->v[i]->mode == VIP_ROUTE) {
            vip_take_in(v->v[i]);
            settle_one(v, v->v[i], fit, why);
        }
}

static void
settle_shares(struct vip *v)
{
    mc_ns due = MC_NEVER_NS;

    for (unsigned i = 0; i < v->n; i++) {
        struct vip_addr *a = v->v[i];
        mc_ns next;

        if (a->share.assign == NULL)
            continue;
        settle_one(v, a, vip_share_wants(a, &due), "another member's");
        vip_share_settled(a);
        next = vip_share_run(a);
        due = next < due ? next : due;
    }
    if (due != MC_NEVER_NS)
        loop_timer_set(v->node->loop, &v->share_timer, due);
}

/* What the keeper took while this thread did not run is carried again, if it still should be.  To
 * be known before anything is announced. */
static bool
note_taken(struct vip *v)
{
    bool any = false;

    for (unsigned i = 0; i < v->n; i++) {
        struct vip_addr *a = v->v[i];

        if (!keeper_took(v->keeper, a->slot))
            continue;
        a->n_taken++;
        any = true;
        set_state(a, VIP_AWAY, "removed by the keeper: this balancer was stopped or hung");
        vip_share_slept(a);
    }
    return any;
}

void
vip_settle(struct node *n)
{
    struct vip *v = n->vip;
    struct buf why = {0};
    bool fit;

    if (v == NULL || !v->started)
        return;
    note_taken(v);
    vip_share_hear_news(v);
    fit = fit_now(n, &why);
    settle_route(v, fit, why.p != NULL ? why.p : "");
    settle_shares(v);
    buf_free(&why);
}

static void
on_share_timer(struct timer *t)
{
    vip_settle(container_of(t, struct vip, share_timer)->node);
}

static void
on_settle_task(struct task *t)
{
    struct node *n = container_of(t, struct vip, settle_task)->node;

    vip_settle(n);
    leave_look(n); /* it may wait for another member to have an address */
}

static void
on_tick(struct timer *t)
{
    struct vip *v = container_of(t, struct vip, tick_timer);

    v->keeper_alive = keeper_tick(v->keeper);
    if (note_taken(v))
        vip_settle(v->node);
    loop_timer_set(v->node->loop, t, loop_now(v->node->loop) + keeper_tick_every(v->keeper));
}

/* Somebody may have removed what we carry, or the kernel with an interface that went down. */
static void
check_carried(struct vip *v, struct vip_addr *a)
{
    enum netlink_owner owner;

    if (a->state != VIP_CARRIED ||
        netlink_addr_owner(&v->nl, a->ifindex, &a->addr, &owner, NULL) != MC_OK ||
        owner == NETLINK_OURS)
        return;
    keeper_drop(v->keeper, a->slot);
    set_state(a, VIP_AWAY, "somebody else has removed it");
}

static void
on_check(struct timer *t)
{
    struct vip *v = container_of(t, struct vip, check_timer);

    for (unsigned i = 0; i < v->n; i++) {
        check_carried(v, v->v[i]);
        vip_share_check(v->v[i]);
    }
    vip_settle(v->node);
    loop_timer_set(v->node->loop, t, loop_now(v->node->loop) + CHECK_NS);
}

/* --- configuration -----------------------------------------------------------------------------
 */

static void
addr_free(struct vip_addr *a)
{
    vip_share_close(a);
    free(a->name);
    free(a->interface);
    free(a);
}

static unsigned
free_slot(const struct vip *v)
{
    bool used[KEEPER_SLOTS] = {false};
    unsigned slot = 0;

    for (unsigned i = 0; i < v->n; i++)
        used[v->v[i]->slot] = true;
    while (used[slot])
        slot++;
    MC_ASSERT(slot < KEEPER_SLOTS);
    return slot;
}

static void
add_addr(struct vip *v, const struct vip_conf *c, const struct addr_net *addr)
{
    struct vip_addr *a = mc_alloc(sizeof(*a));

    *a = (struct vip_addr){
        .vip = v,
        .name = mc_strdup(c->name),
        .interface = mc_strdup(c->interface),
        .addr = *addr,
        .slot = free_slot(v),
        .mode = c->mode,
        .return_after_ns = c->return_after_ns,
        .why = "starting",
        .since_wall_ns = units_wall_ns(),
        .share.fd = -1,
    };
    addr_ip_text(&addr->base, a->text);
    v->v = mc_realloc(v->v, (v->n + 1) * sizeof(struct vip_addr *));
    v->v[v->n++] = a;
}

static bool
is_in_section(const struct vip_addr *a, const struct vip_conf *c)
{
    for (unsigned i = 0; i < c->n_addrs; i++)
        if (addr_eq(&a->addr.base, &c->addrs[i].base) &&
            a->addr.prefix_bits == c->addrs[i].prefix_bits && a->mode == c->mode &&
            a->return_after_ns == c->return_after_ns && strcmp(a->interface, c->interface) == 0 &&
            strcmp(a->name, c->name) == 0)
            return true;
    return false;
}

static bool
is_in_conf(const struct vip_addr *a, const struct conf *c)
{
    for (unsigned i = 0; i < c->n_vips; i++)
        if (is_in_section(a, &c->vips[i]))
            return true;
    return false;
}

static bool
has_addr(const struct vip *v, const struct vip_conf *c, const struct addr_net *addr)
{
    for (unsigned i = 0; i < v->n; i++)
        if (addr_eq(&v->v[i]->addr.base, &addr->base) && is_in_section(v->v[i], c))
            return true;
    return false;
}

/* The list becomes that of the configuration; what is in both goes on as it is. */
static void
follow_conf(struct vip *v, const struct conf *c)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < v->n; i++) {
        struct vip_addr *a = v->v[i];

        if (is_in_conf(a, c)) {
            v->v[kept++] = a;
            continue;
        }
        put_away(v, a, "not configured any more");
        vip_take_in_no_more(a);
        addr_free(a);
    }
    v->n = kept;
    for (unsigned i = 0; i < c->n_vips; i++)
        for (unsigned k = 0; k < c->vips[i].n_addrs; k++)
            if (!has_addr(v, &c->vips[i], &c->vips[i].addrs[k]))
                add_addr(v, &c->vips[i], &c->vips[i].addrs[k]);
}

void
vip_reloaded(struct node *n)
{
    if (n->vip == NULL)
        return;
    follow_conf(n->vip, n->conf);
    vip_share_open(n->vip);
    vip_settle(n);
}

bool
vip_is_handing_over(const struct node *n)
{
    const struct vip *v = n->vip;
    unsigned n_others = 0;

    if (n->member != NULL)
        (void)cluster_others(n->member->cluster, &n_others);
    for (unsigned i = 0; v != NULL && n_others > 0 && i < v->n; i++)
        if (v->v[i]->share.assign != NULL && !vip_share_is_elsewhere(v->v[i]))
            return true;
    return false;
}

void
vip_busy(struct node *n, bool busy)
{
    if (n->vip != NULL)
        keeper_busy(n->vip->keeper, busy);
}

/* --- life --------------------------------------------------------------------------------------
 */

static bool
any_shared(const struct conf *c)
{
    for (unsigned i = 0; i < c->n_vips; i++)
        if (c->vips[i].mode == VIP_CLUSTER)
            return true;
    return false;
}

static bool
is_needed(const struct node *n)
{
    const char *interface;
    struct addr_net addr;

    return n->conf->n_vips > 0 || heritage_vip(n->options.heritage, 0, &addr, &interface);
}

enum mc_err
vip_open(struct node *n, struct errbuf *e)
{
    struct vip *v;
    enum mc_err rv;

    if (!is_needed(n))
        return MC_OK;
    if (!netlink_allowed(e)) {
        err_wrap(e, "vip");
        return MC_ENOTSUP;
    }
    privs_keep(&n->privs, CAP_NET_ADMIN);
    if (any_shared(n->conf))
        privs_keep(&n->privs, CAP_NET_RAW); /* to announce addresses by ARP and NDP */
    v = mc_alloc(sizeof(*v));
    v->node = n;
    v->tick_timer.fn = on_tick;
    v->check_timer.fn = on_check;
    v->share_timer.fn = on_share_timer;
    v->settle_task.fn = on_settle_task;
    rv = netlink_open(&v->nl, e);
    if (rv != MC_OK) {
        free(v);
        return rv;
    }
    rv = keeper_start(&n->privs, n->conf->fit.stall_ns, &v->keeper, e);
    if (rv != MC_OK) {
        netlink_close(&v->nl);
        free(v);
        return rv;
    }
    v->keeper_alive = true;
    follow_conf(v, n->conf);
    vip_left_note(v, n->options.heritage);
    n->vip = v;
    return MC_OK;
}

/* Nothing is carried before: clients would come to an address behind which nobody accepts. */
void
vip_start(struct node *n)
{
    struct vip *v = n->vip;

    if (v == NULL)
        return;
    v->started = true;
    vip_left_remove(v);
    for (unsigned i = 0; i < v->n; i++) {
        sweep_elsewhere(v, v->v[i]);
        if (fit_now(n, NULL))
            inherit(v, v->v[i]);
        else
            sweep(v, v->v[i], v->v[i]->interface);
    }
    vip_share_open(v);
    on_tick(&v->tick_timer);
    on_check(&v->check_timer);
}

static void
end(struct node *n)
{
    struct vip *v = n->vip;

    n->vip = NULL;
    loop_timer_clear(n->loop, &v->tick_timer);
    loop_timer_clear(n->loop, &v->check_timer);
    loop_timer_clear(n->loop, &v->share_timer);
    loop_undefer(n->loop, &v->settle_task);
    keeper_stop(&v->keeper);
    netlink_close(&v->nl);
    for (unsigned i = 0; i < v->n; i++)
        addr_free(v->v[i]);
    vip_left_free(v);
    free(v->v);
    free(v);
}

void
vip_hand_over(struct node *n)
{
    if (n->vip != NULL)
        end(n);
}

void
vip_stop(struct node *n)
{
    struct vip *v = n->vip;

    if (v == NULL)
        return;
    for (unsigned i = 0; i < v->n; i++) {
        if (v->v[i]->state == VIP_CARRIED)
            put_away(v, v->v[i], "ended");
        vip_take_in_no_more(v->v[i]);
    }
    end(n);
}

bool
vip_show(const struct node *n, unsigned i, struct addr_net *addr, const char **interface)
{
    if (n->vip == NULL || i >= n->vip->n)
        return false;
    *addr = n->vip->v[i]->addr;
    *interface = n->vip->v[i]->interface;
    return true;
}

/* --- for display -------------------------------------------------------------------------------
 */

static json_t *
one_view(const struct vip_addr *a)
{
    char share[160];
    json_t *j;

    vip_share_why(a, share);
    j = json_pack("{s:o, s:s, s:i, s:o, s:s, s:s, s:o}", "vip", view_text(a->name), "address",
                  a->text, "prefix", (int)a->addr.prefix_bits, "interface", view_text(a->interface),
                  "state", state_texts[a->state], "why", a->why, "since",
                  view_wall_time(a->since_wall_ns));
    json_object_set_new(j, "mode", json_string(a->mode == VIP_ROUTE ? "route" : "cluster"));
    if (share[0] != '\0')
        json_object_set_new(j, "why", json_string(share));
    return j;
}

json_t *
vip_view(const struct node *n)
{
    json_t *list = json_array();

    for (unsigned i = 0; n->vip != NULL && i < n->vip->n; i++)
        json_array_append_new(list, one_view(n->vip->v[i]));
    return json_pack("{s:o, s:b}", "vips", list, "keeper",
                     (int)(n->vip != NULL && n->vip->keeper_alive));
}

static void
metric(const struct vip *v, struct buf *b, const char *name, const char *kind, const char *help,
       uint64_t (*value)(const struct vip_addr *))
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
    for (unsigned i = 0; i < v->n; i++)
        buf_printf(b, "%s{vip=\"%s\",address=\"%s\"} %llu\n", name, v->v[i]->name, v->v[i]->text,
                   (unsigned long long)value(v->v[i]));
}

static uint64_t
is_carried(const struct vip_addr *a)
{
    return a->state == VIP_CARRIED;
}

static uint64_t
conflicts(const struct vip_addr *a)
{
    return a->share.n_conflicts;
}

static uint64_t
times_carried(const struct vip_addr *a)
{
    return a->n_carried;
}

static uint64_t
times_taken(const struct vip_addr *a)
{
    return a->n_taken;
}

void
vip_metrics(const struct node *n, struct buf *b)
{
    const struct vip *v = n->vip;

    if (v == NULL)
        return;
    metric(v, b, "meercat_vip_carried", "gauge", "1 while this balancer carries the address",
           is_carried);
    metric(v, b, "meercat_vip_carried_total", "counter", "times that it was put on its interface",
           times_carried);
    metric(v, b, "meercat_vip_taken_total", "counter",
           "times that the keeper removed it since the balancer was stopped or hung", times_taken);
    metric(v, b, "meercat_vip_conflicts_total", "counter",
           "announcements by others of what this balancer carries", conflicts);
    buf_printf(b,
               "# HELP meercat_vip_keeper 1 while the process is there that removes addresses\n"
               "# TYPE meercat_vip_keeper gauge\nmeercat_vip_keeper %d\n",
               (int)v->keeper_alive);
}
