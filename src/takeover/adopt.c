/* SPDX-License-Identifier: BSD-2-Clause
 *
 * adopt.c - a connection of a dead balancer, rebuilt here: from what was kept of it, and a packet
 * of its client, who knows best.
 *
 * Clients that wait for a response say nothing by themselves; so each client of a dead balancer is
 * sent a keep-alive, and its answer lands at whichever balancer its packets go to now.  First those
 * with a request under way, then the idle ones, which would be forgotten here otherwise before they
 * speak, and may be without an answer that was said and lost; then all that are left, again and
 * again, since packets are lost, and since the network brings them nowhere before it has found out
 * who is dead: so often that an answer arrives soon after it has.
 *
 * A client that had sent something meanwhile has waited longer each time, and would not send it
 * again soon: its answer tells so, for it names the byte that comes next, and then it is nudged
 * (probe.h).
 *
 * So are those whose connections were handed over to us and who do not speak by themselves: the
 * connection is nobody's until then, and who has handed it over will be gone.
 */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

#define PROBE_TICK_NS  (5 * MC_MS)
#define WAIT_TICK_NS   (10 * MC_MS) /* for those that were handed over */
#define PROBES_A_TICK  100          /* 20,000 a second: as many as can be rebuilt */
#define LOOKS_A_TICK   8192         /* at flows, of which most may be somebody else's */

/* Networks that find out by BFD or ARP do so within 0.2 s, BGP alone within 3 s. */
#define GAP_MIN_NS     (30 * MC_MS)
#define GAP_MAX_NS     (100 * MC_MS)
#define GAP_PART       8 /* of the time since the death */
#define PROBING_NS     (10 * MC_SEC)
/* A client's first wait; and how long its balancer was dead when it was found to be. */
#define FIRST_AGAIN_NS (200 * MC_MS)
#define FOUND_NS       (100 * MC_MS)
#define JUST_DEAD_NS   (2 * MC_SEC)
/* An operator wants to see each, but not more of them than anybody reads. */
#define LOST_LINES     100 /* a second */

/* --- rebuilding ---------------------------------------------------------------------------------
 */

void
adopt_tell_lost(struct takeover *t, const struct flow_key *key, const char *whose, const char *why)
{
    char text[FLOW_KEY_TEXT];
    unsigned swallowed;

    if (log_limit_many(&t->lost_lines, LOST_LINES, loop_now(t->loop), &swallowed))
        log_warn("takeover: connection %s%s%s is reset: %s (%u lines left out)",
                 flow_key_text(key, text), whose != NULL ? " of " : "", whose != NULL ? whose : "",
                 why, swallowed);
}

static void
give_up(struct takeover *t, const struct adopted *a, const struct guard_packet *p, const char *why)
{
    const struct replica *r = a->replica;
    uint32_t behind = p->seq + (uint32_t)p->n_payload + ((p->flags & TH_FIN) != 0);

    adopt_tell_lost(t, &r->key, a->from, why);
    probe_reset(t->probe, &r->key, p->ack, behind);
    guard_release(t->guard, &r->key);
    takeover_count(&t->stats.broken);
}

/* What of the packet lies behind all that is kept. */
static void
take_payload(struct repair *to, const struct guard_packet *p)
{
    uint32_t known = to->recv_next - p->seq;

    if (known >= p->n_payload)
        return; /* all of it, or it begins behind a gap */
    to->payload = p->payload + known;
    to->n_payload = p->n_payload - known;
}

/* Where reception goes on. */
static uint32_t
recv_next(const struct adopted *a)
{
    return a->replica->rcv_base + (uint32_t)a->plan.in_pos;
}

/* Bytes that the client has sent before the packet came, and that never came themselves. */
static bool
lacks_bytes(const struct adopted *a, const struct guard_packet *p)
{
    return (int32_t)(p->seq - recv_next(a)) > 0;
}

static enum mc_err
rebuild(struct adopted *a, const struct guard_packet *p, struct errbuf *e)
{
    const struct replica *r = a->replica;
    struct repair conf = {
        .key = r->key,
        .params = r->params,
        .recv_next = recv_next(a),
        .send_next = r->snd_base + (uint32_t)a->plan.out_pos,
        .window = p->window,
        .ts = p->ts,
        .ts_echo = p->ts_echo,
        .ifindex = p->ifindex,
    };
    size_t taken;

    take_payload(&conf, p);
    return repair_rebuild(&conf, &a->fd, &taken, e);
}

static void
count_broken(struct takeover *t, enum replica_broken why)
{
    takeover_count(&t->stats.broken_by[why]);
}

/* False: `why` says why. */
static bool
carry_on(struct takeover *t, struct adopted *a, const struct guard_packet *p, struct errbuf *why)
{
    replica_plan(a->replica, p->ack, p->seq, &a->plan);
    count_broken(t, a->plan.broken);
    if (a->plan.broken != REPLICA_BROKEN_NONE) {
        err_set(why, "%s", replica_broken_text(a->plan.broken));
        return false;
    }
    if (guard_flow_add(t->guard, &a->key, recv_next(a), &a->slot) != MC_OK) {
        err_set(why, "the guard has no place for it");
        takeover_count(&t->stats.rebuild_failed);
        return false;
    }
    if (rebuild(a, p, why) == MC_OK)
        return true;
    guard_flow_del(t->guard, &a->key, a->slot);
    takeover_count(&t->stats.rebuild_failed);
    return false;
}

/* It sends again after 0.2 s, 0.4 s more, 0.8 s more (RFC 6298 5.5). */
unsigned
adopt_nudges(mc_ns since)
{
    unsigned n = 0;

    for (mc_ns at = FIRST_AGAIN_NS, wait = at; n < PROBE_NUDGES && since + FOUND_NS >= at; n++)
        at += wait *= 2;
    return n;
}

/* Of who is not known any more nobody can say when it died. */
static unsigned
steps_taken(struct takeover *t, struct life owner)
{
    const struct member *m = member_of(t, owner.id);

    if (m == NULL || !life_eq(m->life, owner))
        return PROBE_NUDGES;
    return m->alive ? 0 : adopt_nudges(loop_now(t->loop) - m->lost_ns);
}

/* They are sent again a round trip later, not when the client would by itself.  What was replicated
 * and not acknowledged yet comes first there: the client is told of it as well. */
static void
ask_for_bytes(struct takeover *t, struct adopted *a)
{
    unsigned n = steps_taken(t, a->replica->owner);

    if (n == 0)
        return;
    a->ack_due = true;
    for (unsigned i = 0; i < n; i++)
        probe_nudge(t->probe, &a->key, recv_next(a));
    takeover_count(&t->stats.nudged);
}

void
adopt_flow(struct takeover *t, struct replica **r, const struct guard_packet *p, mc_ns begun_ns)
{
    struct adopted *a = mc_alloc(sizeof(*a));
    struct flow_key key = (*r)->key;
    char name[TAKEOVER_NAME];
    uint32_t slot;
    struct errbuf why;

    a->key = key;
    a->from = mc_strdup(member_name(t, (*r)->owner, name));
    a->fd = -1;
    a->replica = *r;
    a->ack_due = p->n_payload > 0;
    *r = NULL;
    /* other holders have it as it was: theirs would be given away the next time that it is asked
     * for */
    dial_tell_taken(t, &key, a->replica->owner);
    if (!carry_on(t, a, p, &why)) {
        give_up(t, a, p, why.text);
        adopted_free(&a);
        return;
    }
    slot = a->slot;
    takeover_count(&t->stats.adopted);
    stat_hist_add(&t->stats.rebuild, loop_now_exact(t->loop) - begun_ns);
    if (lacks_bytes(a, p))
        ask_for_bytes(t, a);
    if (link_post_adopted(&t->roster, &a))
        return;
    adopted_free(&a); /* all workers have ended */
    guard_flow_del(t->guard, &key, slot);
}

/* --- probing ------------------------------------------------------------------------------------
 */

static void
probe(struct takeover *t, const struct replica *r)
{
    /* a timestamp from the past is answered as well (RFC 7323 5.3, R1) */
    if (probe_alive(t->probe, &r->key, &r->params, replica_snd_next(r), replica_rcv_next(r),
                    r->params.ts))
        takeover_count(&t->stats.probes);
}

mc_ns
adopt_probe_gap(mc_ns since)
{
    mc_ns gap = since / GAP_PART;

    if (gap < GAP_MIN_NS)
        return GAP_MIN_NS;
    return gap < GAP_MAX_NS ? gap : GAP_MAX_NS;
}

static bool
is_wanted(const struct probing *p, const struct replica *r)
{
    return !r->bare && (p->busy_done || r->n_requests > 0);
}

/* Until the last one has been adopted, somewhere.  That none was free proves nothing: we may have
 * had no right to give any away for a moment (peers_owner()). */
static void
next_pass(struct takeover *t, struct probing *p, mc_ns now)
{
    const unsigned left = replica_count(t->store, p->of);
    char name[TAKEOVER_NAME];

    if (left == 0 || now >= p->begun_ns + PROBING_NS) {
        if (left > 0)
            log_info("takeover: the clients of %u connections of %s have not spoken", left,
                     member_name(t, p->of, name));
        *p = (struct probing){0};
        return;
    }
    p->busy_done = true;
    p->at = 0;
    p->next_ns = now + adopt_probe_gap(now - p->begun_ns);
}

/* What may still be done in this tick. */
struct allowance {
    unsigned probes, looks;
};

static void
probe_some(struct takeover *t, struct probing *p, struct allowance *left, mc_ns now)
{
    while (left->probes > 0) {
        const struct replica *r = replica_next(t->store, p->of, &p->at, &left->looks);

        if (r == NULL) {
            if (left->looks > 0)
                next_pass(t, p, now);
            return;
        }
        if (!is_wanted(p, r))
            continue;
        probe(t, r);
        left->probes--;
    }
}

static void
on_probe_timer(struct timer *timer)
{
    struct takeover *t = container_of(timer, struct takeover, probe_timer);
    mc_ns now = loop_now(t->loop);
    struct allowance left = {PROBES_A_TICK, LOOKS_A_TICK};
    bool more = false;

    pulse_catch_up(t);
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct probing *p = &t->probing[i];

        if (life_is_none(p->of))
            continue;
        if (p->next_ns <= now)
            probe_some(t, p, &left, now);
        more |= !life_is_none(p->of);
    }
    if (more)
        loop_timer_set(t->loop, timer, now + PROBE_TICK_NS);
}

void
adopt_probe(struct takeover *t, struct life who)
{
    adopt_forget(t, who);
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (life_is_none(t->probing[i].of)) {
            t->probing[i] = (struct probing){
                .of = who, .begun_ns = loop_now(t->loop), .next_ns = loop_now(t->loop)};
            /* not now: peers.h calls us, and has not settled yet who is dead */
            loop_timer_set(t->loop, &t->probe_timer, loop_now(t->loop));
            return;
        }
}

void
adopt_forget(struct takeover *t, struct life who)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (life_eq(t->probing[i].of, who))
            t->probing[i] = (struct probing){0};
}

bool
adopt_is_busy(const struct takeover *t)
{
    mc_ns now = loop_now(t->loop);

    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (!life_is_none(t->probing[i].of) && now < t->probing[i].begun_ns + JUST_DEAD_NS)
            return true;
    return false;
}

static void
on_silent_timer(struct timer *timer)
{
    struct takeover *t = container_of(timer, struct takeover, silent_timer);
    mc_ns now = loop_now(t->loop);
    const struct replica *r;

    pulse_catch_up(t);
    for (unsigned n = 0; n < PROBES_A_TICK && (r = replica_silent(t->store, now)) != NULL; n++)
        probe(t, r);
    adopt_wait(t);
}

void
adopt_wait(struct takeover *t)
{
    if (replica_stats(t->store)->waiting > 0 && !timer_is_set(&t->silent_timer))
        loop_timer_set(t->loop, &t->silent_timer, loop_now(t->loop) + WAIT_TICK_NS);
}

void
adopt_open(struct takeover *t)
{
    t->silent_timer.fn = on_silent_timer;
    t->probe_timer.fn = on_probe_timer;
}

void
adopt_close(struct takeover *t)
{
    loop_timer_clear(t->loop, &t->probe_timer);
    loop_timer_clear(t->loop, &t->silent_timer);
}
