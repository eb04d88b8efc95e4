/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dial.c - our connection to a peer's thread: our questions, its answers; and where on the Ethernet
 * a peer is, so that the guard can send packets on to it.
 *
 * Each thread connects to each peer that lives, and tells it where it is itself.
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

#define OPEN_NS    (100 * MC_MS)
#define REDIAL_NS  (20 * MC_MS)
/* Flows that a peer can have taken from us: as many as it remembers (replica.h). */
#define CLAIMS_MAX 262144

/* --- where --------------------------------------------------------------------------------------
 */

static void
put_net(struct wire_place *p, const struct addr_net *net)
{
    struct wire_net *out = &p->net[p->n_nets];
    const struct addr *a = &net->base;

    if (p->n_nets == WIRE_NETS_MAX)
        return;
    *out = (struct wire_net){0};
    if (a->u.sa.sa_family == AF_INET) {
        out->ip[10] = out->ip[11] = 0xff;
        memcpy(out->ip + 12, &a->u.in.sin_addr, 4);
        out->bits = (uint8_t)(96 + net->prefix_bits);
    } else if (a->u.sa.sa_family == AF_INET6) {
        memcpy(out->ip, &a->u.in6.sin6_addr, 16);
        out->bits = (uint8_t)net->prefix_bits;
    } else {
        return;
    }
    p->n_nets++;
}

static void
where_we_are(struct takeover *t, struct wire_where *out)
{
    struct guard_interface v[WIRE_PLACES_MAX];
    unsigned n = guard_interfaces(t->guard, v, WIRE_PLACES_MAX);

    memset(out, 0, sizeof(*out)); /* it is compared as bytes */
    out->n = n;
    for (unsigned i = 0; i < n; i++) {
        memcpy(out->place[i].mac, v[i].mac, sizeof(v[i].mac));
        for (unsigned k = 0; k < v[i].n_addrs; k++)
            put_net(&out->place[i], &v[i].addr[k]);
    }
}

static void
say_where(struct member *m)
{
    wire_put_where(tube_put_begin(m->call), &m->takeover->where);
    tube_put_end(m->call);
}

/* Where we are is new to it; and how it is reached may be new to us. */
static void
tell_and_look(struct member *m)
{
    const struct wire_where *where = guest_where(m->takeover, m->life);

    if (m->call != NULL && m->call->ready)
        say_where(m);
    if (where != NULL)
        dial_placed(m, where);
}

void
dial_tell_where(struct takeover *t)
{
    struct wire_where now;

    where_we_are(t, &now);
    if (memcmp(&now, &t->where, sizeof(now)) == 0)
        return;
    t->where = now;
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].alive)
            tell_and_look(&t->member[i]);
}

static struct addr
addr_of_net(const struct wire_net *n)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct addr a = {0};

    if (memcmp(n->ip, mapped, sizeof(mapped)) == 0) {
        a.len = sizeof(a.u.in);
        a.u.in.sin_family = AF_INET;
        memcpy(&a.u.in.sin_addr, n->ip + 12, 4);
    } else {
        a.len = sizeof(a.u.in6);
        a.u.in6.sin6_family = AF_INET6;
        memcpy(&a.u.in6.sin6_addr, n->ip, 16);
    }
    return a;
}

/* A host route, as a VIP has, says nothing about who is near. */
static bool
is_network(const struct addr_net *n)
{
    return n->base.u.sa.sa_family == AF_INET ? n->prefix_bits < 32 : n->prefix_bits < 128;
}

static bool
is_near(const struct guard_interface *ours, const struct wire_place *theirs)
{
    for (unsigned i = 0; i < theirs->n_nets; i++) {
        struct addr a = addr_of_net(&theirs->net[i]);

        for (unsigned k = 0; k < ours->n_addrs; k++)
            if (is_network(&ours->addr[k]) && addr_in_net(&a, &ours->addr[k]))
                return true;
    }
    return false;
}

/* Who leaves may be gone the next moment, and its kernel would answer by RST what the guard sends
 * on to it: such packets are held, and sent on when it has said that the flow is still its. */
static void
place(struct member *m)
{
    bool takes = m->alive && !m->leaving;
    struct errbuf e;

    /* what is known of others holds until the next process has its own guard */
    if (m->placed && !m->takeover->handed_over &&
        guard_peer_set(m->takeover->guard, member_place(m), takes, m->ifindex, m->mac, &e) != MC_OK)
        log_warn("takeover: peer: %s", e.text);
}

bool
dial_leaving(struct member *m, bool leaving)
{
    if (m->leaving == leaving)
        return false;
    m->leaving = leaving;
    place(m);
    return true;
}

void
dial_placed(struct member *m, const struct wire_where *where)
{
    struct guard_interface v[GUARD_INTERFACES_MAX];
    unsigned n = guard_interfaces(m->takeover->guard, v, GUARD_INTERFACES_MAX);

    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < where->n; k++) {
            if (!is_near(&v[i], &where->place[k]))
                continue;
            m->placed = true;
            m->ifindex = v[i].ifindex;
            memcpy(m->mac, where->place[k].mac, sizeof(m->mac));
            memcpy(m->own_mac, v[i].mac, sizeof(m->own_mac));
            place(m);
            return; /* should it be the heir, the next beat tells */
        }
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* To the question that is open; not to an older one, nor to none. */
static bool
is_answer(const struct member *m, uint64_t nonce)
{
    return nonce != 0 && nonce == m->resync.nonce && !m->resync.answered;
}

static bool
take_claimed(struct member *m, const struct wire_claimed *c)
{
    struct flow_key keys[WIRE_CLAIMS_MAX];

    if (!is_answer(m, c->nonce))
        return true;
    m->resync.n += c->n;
    if (m->resync.n > CLAIMS_MAX)
        return false;
    for (unsigned i = 0; i < c->n; i++) {
        keys[i] = wire_claim(c, i);
        takeover_count(&m->takeover->stats.claimed);
    }
    link_post_claimed(&m->takeover->roster, keys, c->n);
    return true;
}

static bool
take_resynced(struct member *m, const struct wire_resynced *r)
{
    if (!is_answer(m, r->nonce))
        return true;
    m->resync.answered = true;
    m->resync.seq = r->seq;
    if (r->all)
        link_post_claimed(&m->takeover->roster, NULL, 0);
    pulse_news(m->takeover); /* there may be nothing to wait for */
    return true;
}

static bool
take_answer(struct member *m, const struct wire_frame *f)
{
    switch (f->kind) {
    case WIRE_OWNER: ask_owner(m, &f->u.owner); return true;
    case WIRE_GIVE: ask_give(m, &f->u.give); return true;
    case WIRE_NONE: ask_none(m, &f->u.none); return true;
    case WIRE_CLAIMED: return take_claimed(m, &f->u.claimed);
    case WIRE_RESYNCED: return take_resynced(m, &f->u.resynced);
    default: return false;
    }
}

/* --- the connection -----------------------------------------------------------------------------
 */

static void
on_ready(struct tube *tube)
{
    struct member *m = tube->owner;
    struct wire_frame hello = {.kind = WIRE_HELLO,
                               .u.hello = {.owner = m->takeover->self, .worker = HELLO_THREAD}};

    m->resync.n = 0;
    wire_put(tube_put_begin(tube), &hello);
    tube_put_end(tube);
    say_where(m);
}

static void
on_broken(struct tube *tube, const char *why)
{
    struct member *m = tube->owner;
    char at[ADDR_TEXT];

    log_debug("takeover: connection to %s: %s", addr_text(&m->addr, at), why);
    tube_close(&m->call);
    ask_lost(m);
    loop_timer_set(m->takeover->loop, &m->redial, loop_now(m->takeover->loop) + REDIAL_NS);
}

static void
on_record(struct tube *tube, const uint8_t *p, size_t n)
{
    struct member *m = tube->owner;
    struct pack_in in = {.p = p, .n = n};
    struct wire_frame f;
    uint64_t unknown = 0;
    enum wire_next next;

    while ((next = wire_get(&in, &f, &unknown)) == WIRE_FRAME)
        if (!take_answer(m, &f))
            break;
    if (next != WIRE_END && m->call == tube) {
        takeover_count(&m->takeover->stats.refused);
        on_broken(tube, "an answer that makes no sense");
    }
}

static const struct tube_ops call_ops = {on_ready, on_record, on_broken};

static void
connect_to(struct member *m)
{
    struct takeover *t = m->takeover;

    m->call = tube_open(t->loop, t->keys, &m->addr, OPEN_NS, &call_ops, m, &t->n_tubes);
    if (m->call == NULL)
        loop_timer_set(t->loop, &m->redial, loop_now(t->loop) + REDIAL_NS);
}

static void
on_redial(struct timer *timer)
{
    struct member *m = container_of(timer, struct member, redial);

    if (m->alive && m->call == NULL)
        connect_to(m);
}

void
dial_begin(struct member *m)
{
    const struct wire_where *where = guest_where(m->takeover, m->life);

    m->redial.fn = on_redial;
    tube_close(&m->call); /* that was to another life */
    loop_timer_clear(m->takeover->loop, &m->redial);
    connect_to(m);
    if (where != NULL) /* it found us before we found it */
        dial_placed(m, where);
}

void
dial_end(struct member *m)
{
    tube_close(&m->call);
    loop_timer_clear(m->takeover->loop, &m->redial);
    m->leaving = false;
    place(m);
    m->resync = (struct resync){0};
    ask_lost(m);
}

bool
dial_put(struct member *m, const struct wire_frame *f)
{
    if (m->call == NULL || !m->call->ready)
        return false;
    wire_put(tube_put_begin(m->call), f);
    tube_put_end(m->call);
    return true;
}

void
dial_tell_taken(struct takeover *t, const struct flow_key *key, struct life owner)
{
    struct wire_frame f = {.kind = WIRE_TAKEN, .u.taken = {.owner = owner, .key = *key}};

    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0)
            dial_put(&t->member[i], &f);
}
