/* SPDX-License-Identifier: BSD-2-Clause
 *
 * adopt.c - a connection of a dead balancer, rebuilt here: from what was kept of it, and a packet
 * of its client, who knows best.
 *
 * Clients that wait for a response say nothing by themselves; so each client of a dead balancer is
 * sent a keep-alive, and its answer lands at whichever balancer its packets go to now.  First those
 * with a request under way, then the idle ones, which would be forgotten here otherwise before they
 * speak, and may be without an answer that was said and lost; then all that are left, since packets
 * are lost: at first so often that the answer finds the address soon after it has come to another
 * balancer.
 *
 * So are those whose connections were handed over to us and who do not speak by themselves: the
 * connection is nobody's until then, and who has handed it over will be gone.
 */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

#define PROBE_TICK_NS (5 * MC_MS)
#define WAIT_TICK_NS  (10 * MC_MS) /* for those that were handed over */
#define PROBES_A_TICK 100          /* 20,000 a second: as many as can be rebuilt */

/* X(wait before it, requests only) */
static const struct {
    mc_ns wait_ns;
    bool busy_only;
} passes[] = {{0, true},           {50 * MC_MS, false},  {30 * MC_MS, false},
              {60 * MC_MS, false}, {200 * MC_MS, false}, {2 * MC_SEC, false}};

/* --- rebuilding ---------------------------------------------------------------------------------
 */

static void
give_up(struct takeover *t, const struct replica *r, const struct guard_packet *p, const char *why)
{
    uint32_t behind = p->seq + (uint32_t)p->n_payload + ((p->flags & TH_FIN) != 0);
    char text[FLOW_KEY_TEXT];

    log_debug("takeover: %s cannot be carried on: %s", flow_key_text(&r->key, text), why);
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

static enum mc_err
rebuild(struct adopted *a, const struct guard_packet *p, struct errbuf *e)
{
    const struct replica *r = a->replica;
    struct repair conf = {
        .key = r->key,
        .params = r->params,
        .recv_next = r->rcv_base + (uint32_t)a->plan.in_pos,
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
    if (guard_flow_add(t->guard, &a->key, a->replica->rcv_base + (uint32_t)a->plan.in_pos,
                       &a->slot) != MC_OK) {
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

void
adopt_flow(struct takeover *t, struct replica **r, const struct guard_packet *p, mc_ns begun_ns)
{
    struct adopted *a = mc_alloc(sizeof(*a));
    struct flow_key key = (*r)->key;
    uint32_t slot;
    struct errbuf why;

    a->key = key;
    a->fd = -1;
    a->replica = *r;
    a->ack_due = p->n_payload > 0;
    *r = NULL;
    /* other holders have it as it was: theirs would be given away the next time that it is asked
     * for */
    dial_tell_taken(t, &key, a->replica->owner);
    if (!carry_on(t, a, p, &why)) {
        give_up(t, a->replica, p, why.text);
        adopted_free(&a);
        return;
    }
    slot = a->slot;
    takeover_count(&t->stats.adopted);
    stat_hist_add(&t->stats.rebuild, loop_now_exact(t->loop) - begun_ns);
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

static bool
is_wanted(const struct replica *r, unsigned pass)
{
    return !r->bare && (!passes[pass].busy_only || r->n_requests > 0);
}

static void
next_pass(struct probing *p, mc_ns now)
{
    p->at = 0;
    if (++p->pass == MC_COUNT(passes))
        p->of = (struct life){0};
    else
        p->next_ns = now + passes[p->pass].wait_ns;
}

/* Returns how many it sent. */
static unsigned
probe_some(struct takeover *t, struct probing *p, unsigned max, mc_ns now)
{
    unsigned n = 0;

    while (n < max) {
        const struct replica *r = replica_next(t->store, p->of, &p->at);

        if (r == NULL) {
            next_pass(p, now);
            break;
        }
        if (is_wanted(r, p->pass)) {
            probe(t, r);
            n++;
        }
    }
    return n;
}

static void
on_probe_timer(struct timer *timer)
{
    struct takeover *t = container_of(timer, struct takeover, probe_timer);
    mc_ns now = loop_now(t->loop);
    unsigned left = PROBES_A_TICK;
    bool more = false;

    pulse_catch_up(t);
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct probing *p = &t->probing[i];

        if (life_is_none(p->of))
            continue;
        if (p->next_ns <= now)
            left -= probe_some(t, p, left, now);
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
            t->probing[i] = (struct probing){.of = who, .next_ns = loop_now(t->loop)};
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
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (!life_is_none(t->probing[i].of))
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
