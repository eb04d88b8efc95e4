/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_node.c - see takeover_node.h.
 */
#include "control/takeover_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "control/fit.h"
#include "control/heritage.h"
#include "control/member_priv.h"
#include "control/view.h"
#include "control/vip.h"
#include "takeover/takeover.h"

/* A guard that is missing leaves connections unprotected, and unnoticed. */
#define MEND_NS MC_SEC

/* --- what the configuration wants ---------------------------------------------------------------
 */

static bool
is_protected(const struct listener_conf *l)
{
    return l->takeover.given && !l->tls.given && l->proxy == PROXY_IN_OFF &&
           (l->protocol == LISTENER_AUTO || l->protocol == LISTENER_HTTP1);
}

struct ports {
    struct addr *v;
    unsigned n;
};

static void
add_ports(struct ports *p, const struct listener_conf *l)
{
    for (unsigned i = 0; i < l->n_binds; i++) {
        if (l->binds[i].u.sa.sa_family == AF_UNIX)
            continue;
        p->v = mc_realloc(p->v, (p->n + 1) * sizeof(*p->v));
        p->v[p->n++] = l->binds[i];
    }
}

/* The addresses of listeners that want it; to be freed. */
static struct ports
wanted_ports(const struct snapshot *s)
{
    struct ports p = {0};

    for (unsigned i = 0; i < s->n_listeners; i++)
        if (is_protected(&s->listeners[i].conf))
            add_ports(&p, &s->listeners[i].conf);
    return p;
}

/* Where the others of the cluster reach us, unless told otherwise. */
static struct addr
own_addr(const struct conf *c)
{
    struct addr a = c->takeover.bind;

    if (a.len != 0)
        return a;
    a = c->cluster.advertise.len != 0 ? c->cluster.advertise : c->cluster.bind;
    addr_set_port(&a, TAKEOVER_PORT);
    return a;
}

/* --- life ---------------------------------------------------------------------------------------
 */

/* On the takeover's thread. */
static void
on_fit(void *arg, bool fit, const char *why)
{
    fit_say(arg, FIT_FENCED, fit, why);
}

/* On the takeover's thread. */
static void
on_peer(void *arg, uint64_t id, bool alive)
{
    vip_member_lost(arg, id, !alive);
}

/* On the takeover's thread. */
static void
on_passed(void *arg)
{
    struct node *n = arg;

    loop_wake(n->loop);
}

/* On the takeover's thread. */
static void
on_parted(void *arg)
{
    const struct node *n = arg;

    loop_wake(n->loop);
}

/* Beats go to them before the cluster has been found. */
static void
begin_with_peers(struct node *n, const struct takeover_heritage *before)
{
    n->inherited_peers = mc_alloc(sizeof(*before));
    *n->inherited_peers = *before;
    takeover_peers_set(n->takeover, before->peer, before->n_peers);
}

static void
on_mend_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, mend_timer);

    takeover_mend(n->takeover);
    loop_timer_set(n->loop, t, loop_now(n->loop) + MEND_NS);
}

/* Its guard stands, or will. */
static void
begin_to_mend(struct node *n)
{
    n->mend_timer.fn = on_mend_timer;
    loop_timer_set(n->loop, &n->mend_timer, loop_now(n->loop) + MEND_NS);
}

static void
open_with(struct node *n, const struct ports *ports)
{
    static const cap_value_t rights[] = {CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_NET_RAW};
    const struct conf_takeover *c = &n->conf->takeover;
    struct takeover_heritage before;
    struct takeover_conf conf = {
        .id = cluster_id(n->member->cluster),
        .bind = own_addr(n->conf),
        .key_file = n->conf->cluster.key_file,
        .interfaces = (const char *const *)c->interfaces,
        .n_interfaces = c->n_interfaces,
        .ports = ports->v,
        .n_ports = ports->n,
        .witnesses = c->witnesses,
        .n_witnesses = c->n_witnesses,
        .replicas = c->replicas,
        .arg = n,
        .on_fit = on_fit,
        .on_peer = on_peer,
        .on_passed = on_passed,
        .on_parted = on_parted,
    };
    struct errbuf e;
    char at[ADDR_TEXT];

    if (n->options.heritage != NULL) {
        heritage_takeover(n->options.heritage, &conf.bind, &before);
        conf.before = &before;
    }
    if (takeover_new(&conf, &n->takeover, &e) != MC_OK) {
        n->takeover = NULL;
        n->no_takeover = e;
        log_error("takeover: %s; connections are lost with this balancer", e.text);
        return;
    }
    /* all of them: the next process of an upgrade begins with what this one has kept */
    for (size_t i = 0; i < MC_COUNT(rights); i++)
        privs_keep(&n->privs, rights[i]);
    log_info("takeover: at %s", addr_text(&conf.bind, at));
    if (conf.before != NULL)
        begin_with_peers(n, &before);
    else /* before the thread can say so: no traffic is attracted for a moment */
        fit_say(n, FIT_FENCED, false, "it looks for its peers");
    member_tell_card(n);
    begin_to_mend(n);
}

void
takeover_node_open(struct node *n)
{
    struct ports ports = wanted_ports(n->current);

    if (ports.n > 0 && n->member != NULL)
        open_with(n, &ports);
    free(ports.v);
}

enum mc_err
takeover_node_start(struct node *n, struct errbuf *e)
{
    bool now = n->takeover != NULL && n->options.heritage == NULL;

    return now ? takeover_start(n->takeover, e) : MC_OK;
}

void
takeover_node_succeed(struct node *n, bool orphaned)
{
    struct errbuf e;

    if (n->takeover == NULL)
        return;
    if (takeover_succeed(n->takeover, orphaned, &e) != MC_OK)
        log_error("takeover: %s; connections are lost with this balancer", e.text);
    if (orphaned)
        takeover_be_alone(n->takeover);
}

void
takeover_node_be_alone(struct node *n)
{
    if (n->takeover != NULL)
        takeover_be_alone(n->takeover);
}

void
takeover_node_pass(struct node *n, enum peers_pass how)
{
    takeover_pass(n->takeover, how);
}

bool
takeover_node_has_passed(const struct node *n, enum peers_pass how)
{
    return takeover_has_passed(n->takeover) == how;
}

void
takeover_node_hand_over(struct node *n, const unsigned *ifindex, unsigned n_interfaces)
{
    if (n->takeover != NULL)
        takeover_hand_over(n->takeover, ifindex, n_interfaces);
}

unsigned
takeover_node_interfaces(const struct node *n, unsigned ifindex[GUARD_INTERFACES_MAX])
{
    return n->takeover != NULL ? takeover_interfaces(n->takeover, ifindex) : 0;
}

void
takeover_node_leave(struct node *n)
{
    if (n->takeover != NULL)
        takeover_leave(n->takeover);
}

bool
takeover_node_part(struct node *n)
{
    if (n->takeover == NULL)
        return false;
    takeover_part(n->takeover);
    return true;
}

bool
takeover_node_has_parted(const struct node *n)
{
    return takeover_has_parted(n->takeover);
}

void
takeover_node_stop(struct node *n)
{
    if (n->takeover != NULL)
        loop_timer_clear(n->loop, &n->mend_timer);
    takeover_stop(&n->takeover);
    free(n->inherited_peers);
    n->inherited_peers = NULL;
}

void
takeover_node_reloaded(struct node *n, struct buf *text)
{
    struct ports ports = wanted_ports(n->current);
    struct errbuf e;

    if (n->takeover == NULL) {
        if (ports.n > 0 && n->member != NULL)
            buf_printf(text, "takeover needs a restart to begin\n");
    } else {
        if (takeover_ports_set(n->takeover, ports.v, ports.n, &e) != MC_OK)
            log_error("takeover: %s", e.text);
        takeover_reload_keys(n->takeover);
    }
    free(ports.v);
}

/* --- peers --------------------------------------------------------------------------------------
 */

const char *
takeover_node_card(const struct node *n, char out[TAKEOVER_NODE_TEXT])
{
    struct addr a;
    char text[ADDR_TEXT];

    out[0] = '\0';
    if (n->takeover == NULL)
        return out;
    a = own_addr(n->conf);
    snprintf(out, TAKEOVER_NODE_TEXT, "%s", addr_text(&a, text));
    return out;
}

/* Dead ones stay peers: whether they live is found out by their beats, sooner and where the
 * networks differ better than by the cluster. */
static bool
may_be_peer(const struct swim_member *s, struct takeover_peer *out)
{
    struct member_card card;

    if (s->self || s->state == SWIM_NONE || s->state == SWIM_LEFT ||
        !member_card_read(s->meta, s->meta_n, &card) || card.takeover.n == 0)
        return false;
    out->id = s->id;
    snprintf(out->name, sizeof(out->name), "%s", s->name);
    return addr_parse(card.takeover, &out->addr, NULL, NULL, NULL) == MC_OK &&
           out->addr.u.sa.sa_family != AF_UNIX;
}

/* Those that the process before us had, and the cluster has not told of yet. */
static unsigned
add_inherited(const struct node *n, struct takeover_peer *peers, unsigned n_peers)
{
    const struct takeover_heritage *h = n->inherited_peers;

    for (unsigned i = 0; h != NULL && i < h->n_peers; i++)
        if (swim_find_id(cluster_swim(n->member->cluster), h->peer[i].id) == NULL)
            peers[n_peers++] = h->peer[i];
    return n_peers;
}

void
takeover_node_members(struct node *n)
{
    const struct swim *s = cluster_swim(n->member->cluster);
    struct takeover_peer *peers;
    unsigned n_peers = 0;

    if (n->takeover == NULL)
        return;
    peers = mc_alloc((swim_count(s) + TAKEOVER_PEERS_MAX) * sizeof(*peers));
    for (size_t i = 0; i < swim_count(s); i++)
        n_peers += may_be_peer(swim_at(s, i), &peers[n_peers]);
    n_peers = add_inherited(n, peers, n_peers);
    takeover_peers_set(n->takeover, peers, n_peers);
    free(peers);
}

/* --- display ------------------------------------------------------------------------------------
 */

static const char *
peer_name(const struct node *n, uint64_t id)
{
    const struct swim_member *s = swim_find_id(cluster_swim(n->member->cluster), id);

    return s != NULL ? s->name : "";
}

static json_t *
one_peer(const struct node *n, const struct takeover_peer_view *p)
{
    char at[ADDR_TEXT];
    const char *role = !p->holder ? "none" : p->in_step ? "holder" : "becoming holder";

    return json_pack(
        "{s:o, s:s, s:b, s:b, s:b, s:b, s:s, s:i, s:o}", "name", view_text(peer_name(n, p->id)),
        "address", addr_text(&p->addr, at), "alive", (int)p->alive, "leaving", (int)p->leaving,
        "fenced", (int)p->fenced, "reachable", (int)p->placed, "role", role, "flows_held",
        (int)p->flows, "heard_ms",
        p->heard_ns == MC_NEVER_NS ? json_null() : json_real((double)p->heard_ns / (double)MC_MS));
}

static json_t *
counts(const struct takeover_stats *s)
{
    json_t *j = json_object();

#define X(name, text) json_object_set_new(j, #name, json_integer((json_int_t)stat_get(&s->name)));
    TAKEOVER_COUNTERS(X)
#undef X
    return j;
}

static json_t *
beat_counts(const struct peers_stats *s)
{
    json_t *j = json_object();

#define X(name, text) json_object_set_new(j, #name, json_integer((json_int_t)s->name));
    PEERS_COUNTERS(X)
#undef X
    return j;
}

static json_t *
left_out(const struct node *n, const struct takeover_view *v)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < v->n_left_out && i < MC_COUNT(v->left_out); i++)
        json_array_append_new(list, view_text(peer_name(n, v->left_out[i])));
    return json_pack("{s:b, s:i, s:o}", "self", (int)v->alone, "count", (int)v->n_left_out, "names",
                     list);
}

json_t *
takeover_node_view(const struct node *n)
{
    struct takeover_view v;
    json_t *peers = json_array();

    if (n->takeover == NULL) {
        json_decref(peers);
        return n->no_takeover.text[0] != '\0' ? json_pack("{s:s}", "off", n->no_takeover.text)
                                              : json_null();
    }
    takeover_view(n->takeover, &v);
    for (unsigned i = 0; i < v.n_peers; i++)
        json_array_append_new(peers, one_peer(n, &v.peer[i]));
    return json_pack("{s:b, s:s, s:b, s:b, s:o, s:o, s:{s:i, s:i, s:i, s:I}, s:o, s:o}", "lease",
                     (int)v.lease, "why_not", v.why, "fenced", (int)v.fenced, "leaving",
                     (int)v.leaving, "peers", peers, "left_out", left_out(n, &v), "replicas",
                     "lines", (int)v.replicas.lines, "flows", (int)v.replicas.flows, "bare",
                     (int)v.replicas.bare, "bytes", (json_int_t)v.replicas.bytes, "counters",
                     counts(takeover_stats(n->takeover)), "beats", beat_counts(&v.peers));
}
