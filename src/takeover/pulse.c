/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pulse.c - the beats: what peers.h decides, put into the world.
 *
 * Beats are sealed datagrams.  Whatever changes the lease is followed by pulse_settle(), which
 * tells the guard.
 */
#include "base/check.h"
#include "base/log.h"
#include "cluster/seal.h"
#include "takeover/takeover_priv.h"

#define REASON_MAX 128

/* --- what peers.h wants -------------------------------------------------------------------------
 */

static void
send_beat(void *arg, uint64_t to, const struct wire_beat *beat)
{
    struct takeover *t = arg;
    struct member *m = member_of(t, to);
    struct buf plain = {0};
    uint8_t sealed[SEAL_DATAGRAM_MAX];

    if (m == NULL)
        return;
    wire_put_beat(&plain, beat);
    dgram_send(t->beats, &m->addr, sealed, seal_datagram(t->keys, plain.p, plain.n, sealed));
    buf_free(&plain);
}

static void
ask_witness(void *arg)
{
    struct takeover *t = arg;

    witness_ask(t->witness);
}

/* Who leaves is not sent beats any more at the end: that says nothing of those who sent them. */
static void
tell_peer(struct takeover *t, uint64_t id, bool alive)
{
    if (t->on_peer != NULL && (alive || !t->leaving))
        t->on_peer(t->arg, id, alive);
}

static void
on_life(void *arg, struct life who, bool alive)
{
    struct takeover *t = arg;
    struct member *m = member_of(t, who.id);
    char at[ADDR_TEXT];

    if (m == NULL)
        return;
    if (alive) {
        if (m->alive) { /* it was not found dead before it began anew */
            m->alive = false;
            dial_end(m);
        }
        m->life = who;
        m->alive = true;
        adopt_forget(t, who);
        dial_begin(m);
        log_info("takeover: peer %s is there", addr_text(&m->addr, at));
        tell_peer(t, who.id, true);
        return;
    }
    if (!t->parting && replica_count(t->store, who) > 0)
        adopt_probe(t, who);
    if (!life_eq(m->life, who))
        return;
    m->alive = false;
    m->lost_ns = loop_now(t->loop);
    m->claims_told_ns = 0;
    dial_end(m);
    if (!t->parting) /* else it may have heard that we are gone */
        log_warn("takeover: peer %s is dead or cut off; we know %u of its connections",
                 addr_text(&m->addr, at), replica_count(t->store, who));
    tell_peer(t, who.id, false);
}

static void
post_holders(struct takeover *t)
{
    struct link_holders hs = {.n = t->n_holders};

    for (unsigned i = 0; i < t->n_holders; i++) {
        hs.v[i] = t->holder[i].peer;
        hs.v[i].leaving = peers_is_leaving(t->peers, hs.v[i].who);
    }
    link_post_holders(&t->roster, &hs);
}

static void
choose_holder(struct takeover *t, struct life who, uint32_t epoch)
{
    struct member *m = member_of(t, who.id);

    MC_ASSERT(t->n_holders < PEERS_HOLDERS_MAX);
    if (m == NULL)
        return;
    t->holder[t->n_holders++] = (struct takeover_holder){
        .peer = {.who = who, .epoch = epoch, .guard_peer = member_place(m), .addr = m->addr}};
}

static void
drop_holder(struct takeover *t, uint32_t epoch)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < t->n_holders; i++)
        if (t->holder[i].peer.epoch != epoch)
            t->holder[kept++] = t->holder[i];
    t->n_holders = kept;
}

static void
on_holder(void *arg, struct life who, uint32_t epoch, bool chosen)
{
    struct takeover *t = arg;

    if (chosen)
        choose_holder(t, who, epoch);
    else
        drop_holder(t, epoch);
    post_holders(t);
}

static void
on_resync(void *arg, struct life who, uint64_t nonce)
{
    struct takeover *t = arg;
    struct member *m = member_of(t, who.id);
    struct wire_frame f = {.kind = WIRE_RESYNC, .u.resync = {.nonce = nonce, .who = t->self}};

    if (m == NULL || (m->resync.nonce == nonce && m->resync.answered))
        return;
    if (!life_eq(m->life, who))
        return; /* who is there now knows nothing of it */
    if (m->resync.nonce != nonce)
        m->resync = (struct resync){.nonce = nonce};
    dial_put(m, &f);
}

static void
on_void(void *arg)
{
    struct takeover *t = arg;

    log_warn("takeover: others may serve any of our connections: they are dropped");
    t->voiding = true;
    link_post_claimed(&t->roster, NULL, 0);
}

static void
on_fit(void *arg, bool fit)
{
    struct takeover *t = arg;

    t->fenced = !fit;
    pulse_say_fit(t);
}

void
pulse_say_fit(struct takeover *t)
{
    const char *why = t->fenced ? peers_why(t->peers, loop_now(t->loop)) : "it looks for its peers";
    bool fit = t->settled && !t->fenced;

    if (t->on_fit != NULL)
        t->on_fit(t->arg, fit, fit || why == NULL ? "" : why);
}

/* --- the lease ----------------------------------------------------------------------------------
 */

static unsigned
heir(const struct takeover *t)
{
    struct life who = peers_heir(t->peers, loop_now(t->loop));
    struct member *m = life_is_none(who) ? NULL : member_of((struct takeover *)t, who.id);

    return m != NULL && m->placed ? member_place(m) : GUARD_PEER_NONE;
}

void
pulse_settle(struct takeover *t)
{
    guard_lease(t->guard, peers_lease(t->peers));
    guard_heir(t->guard, heir(t));
}

/* --- succession ---------------------------------------------------------------------------------
 */

/* What we hold of the dead goes with this process: its clients are found first. */
static void
look_whether_passed(struct takeover *t)
{
    enum peers_pass passed = PEERS_STAY;
    bool news;

    if (t->passing != PEERS_STAY && peers_has_passed(t->peers) && !adopt_is_busy(t))
        passed = t->passing;
    pthread_mutex_lock(&t->lock);
    news = passed != t->passed;
    t->passed = passed;
    pthread_mutex_unlock(&t->lock);
    if (news)
        t->on_passed(t->arg);
}

void
pulse_pass(struct takeover *t, enum peers_pass pass)
{
    t->passing = pass;
    pulse_catch_up(t);
    peers_pass(t->peers, pass, loop_now(t->loop));
    pulse_settle(t);
}

/* --- time ---------------------------------------------------------------------------------------
 */

static void
tick(struct takeover *t)
{
    mc_ns now = loop_now(t->loop);

    t->tick_due = peers_tick(t->peers, now);
    pulse_settle(t);
    look_whether_passed(t);
    loop_timer_set(t->loop, &t->tick, t->tick_due);
}

static void
on_tick(struct timer *timer)
{
    tick(container_of(timer, struct takeover, tick));
}

void
pulse_catch_up(struct takeover *t)
{
    if (loop_now(t->loop) >= t->tick_due)
        tick(t);
}

/* --- what comes ---------------------------------------------------------------------------------
 */

/* At once: what is sent on or given to who leaves comes back, or is lost when it has gone. */
static void
look_who_leaves(struct takeover *t)
{
    bool news = false;

    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct member *m = &t->member[i];

        if (m->id != 0 && m->alive && dial_leaving(m, peers_is_leaving(t->peers, m->life)))
            news = true;
    }
    if (news)
        post_holders(t);
}

static void
hear(struct takeover *t, struct str plain)
{
    struct pack_in in = {.p = (const uint8_t *)plain.p, .n = plain.n};
    struct wire_frame f;
    struct wire_beat beat;
    uint64_t unknown = 0;

    if (wire_get(&in, &f, &unknown) != WIRE_FRAME || f.kind != WIRE_BEAT ||
        !wire_get_beat(f.u.table, &beat)) {
        takeover_count(&t->stats.refused);
        return;
    }
    pulse_catch_up(t);
    peers_hear(t->peers, &beat, loop_now(t->loop));
    look_who_leaves(t);
    pulse_settle(t);
}

static void
on_datagram(void *arg, const struct addr *from, uint8_t *p, size_t n)
{
    struct takeover *t = arg;
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct str plain;

    if (seal_open_datagram(t->keys, loop_now(t->loop), p, n, &plain, boot) == SEAL_F_NONE)
        hear(t, plain);
    else
        takeover_count(&t->stats.refused);
}

static void
on_witness(void *arg)
{
    struct takeover *t = arg;

    pulse_catch_up(t);
    peers_witness(t->peers, loop_now(t->loop));
    pulse_settle(t);
}

/* --- what workers say ---------------------------------------------------------------------------
 */

/* True: peers.h was told something, by which the list may have changed. */
static bool
look_at_line(struct takeover *t, struct takeover_holder *h, mc_ns now)
{
    const struct link_holder peer = h->peer;

    if (!h->lost && link_is_lost(&t->roster, peer.epoch)) {
        h->lost = true;
        peers_line_lost(t->peers, peer.who, peer.epoch, now);
        return true;
    }
    if (!h->synced && !h->lost && link_is_synced(&t->roster, peer.epoch)) {
        h->synced = true;
        peers_line_synced(t->peers, peer.who, peer.epoch, now);
        return true;
    }
    return false;
}

static void
look_at_lines(struct takeover *t, mc_ns now)
{
    for (unsigned i = 0; i < t->n_holders;)
        i = look_at_line(t, &t->holder[i], now) ? 0 : i + 1;
}

static void
look_at_claims(struct takeover *t, mc_ns now)
{
    if (!link_claims_done(&t->roster))
        return;
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct member *m = &t->member[i];
        struct resync r = m->resync;

        if (m->id == 0 || !r.answered)
            continue;
        m->resync = (struct resync){0};
        peers_resynced(t->peers, m->life, r.nonce, r.seq, now);
    }
    if (t->voiding) {
        t->voiding = false;
        peers_voided(t->peers, now);
    }
}

void
pulse_news(struct takeover *t)
{
    mc_ns now = loop_now(t->loop);

    pulse_catch_up(t);
    look_at_lines(t, now);
    look_at_claims(t, now);
    pulse_settle(t);
}

void
pulse_members(struct takeover *t, const uint64_t *ids, unsigned n)
{
    pulse_catch_up(t);
    peers_set_members(t->peers, ids, n, loop_now(t->loop));
    pulse_settle(t);
}

void
takeover_gave(struct takeover *t, struct life owner)
{
    struct member *m = member_of(t, owner.id);

    if (m != NULL)
        m->claims_told_ns = 0;
    peers_gave(t->peers, owner, loop_now(t->loop));
    pulse_settle(t);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static enum mc_err
open_witness(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    t->witness = witness_open(c->witnesses, c->n_witnesses, (const char *const *)t->interfaces,
                              t->n_interfaces, e);
    return t->witness != NULL ? MC_OK : MC_ENOTSUP;
}

static enum mc_err
open_beats(struct takeover *t, const struct addr *bind, struct errbuf *e)
{
    struct dgram_conf conf = {
        .bind = *bind, .inherited = t->udp >= 0 ? &t->udp : NULL, .fn = on_datagram, .arg = t};

    t->beats = dgram_new(t->loop, &conf, e);
    if (t->beats == NULL)
        return MC_ESYS;
    t->udp = -1;
    return MC_OK;
}

enum mc_err
pulse_open(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    struct peers_conf conf = {
        .self = t->self,
        .replicas = c->replicas < PEERS_REPLICAS_MAX ? c->replicas : PEERS_REPLICAS_MAX,
        .arg = t,
        .send = send_beat,
        .ask_witness = ask_witness,
        .on_life = on_life,
        .on_holder = on_holder,
        .on_resync = on_resync,
        .on_void = on_void,
        .on_fit = on_fit,
    };
    enum mc_err rv = open_witness(t, c, e);

    if (rv == MC_OK)
        rv = open_beats(t, &c->bind, e);
    if (rv != MC_OK)
        return rv;
    conf.has_witness = witness_count(t->witness) > 0;
    if (!conf.has_witness)
        log_warn("takeover: no witness is known: a balancer that is cut off from all others goes "
                 "on, and so do they");
    t->peers = peers_new(&conf, loop_now_exact(t->loop));
    t->tick.fn = on_tick;
    return MC_OK;
}

int
pulse_fd(const struct takeover *t)
{
    return dgram_fd(t->beats);
}

void
pulse_start(struct takeover *t)
{
    witness_start(t->witness, t->loop, on_witness, t);
    tick(t);
}

void
pulse_close(struct takeover *t)
{
    loop_timer_clear(t->loop, &t->tick);
    if (t->witness != NULL)
        witness_stop(t->witness);
    witness_close(&t->witness);
    dgram_free(&t->beats);
    peers_free(&t->peers);
}
