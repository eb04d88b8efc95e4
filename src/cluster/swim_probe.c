/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_probe.c - who answers.
 *
 * A probe is a ping, then pings by some others when there is no answer in time, then a verdict.
 * Others answer that they got none either (Lifeguard's nack): who does not even hear that has
 * reason to doubt itself, and becomes slower to doubt others.
 */
#include <string.h>

#include "cluster/swim_priv.h"

/* A helper tells that it heard nothing when this part of the timeout is over, so that the word
 * arrives before the verdict. */
#define NACK_PART      0.8
#define RELAY_TIMEOUTS 4 /* an answer later than so many timeouts is of no use to anybody */
#define RTT_WEIGHT     8 /* new value's part in the mean: 1/8, as in TCP (RFC 6298) */
#define LOSS_WEIGHT    16
#define RIVAL_PAUSE_NS MC_SEC
/* Ages are told over a network: a difference below is none, and the boot decides. */
#define AGE_TIE_NS     MC_SEC

/* --- order --------------------------------------------------------------------------------------
 */

void
swim_ring_add(struct swim *s, struct member *m)
{
    size_t at = rng_below(&s->rng, (uint32_t)s->n_ring + 1);

    s->ring[s->n_ring++] = s->ring[at];
    s->ring[at] = m;
}

void
swim_ring_remove(struct swim *s, const struct member *m)
{
    size_t at = 0;

    while (at < s->n_ring && s->ring[at] != m)
        at++;
    MC_ASSERT(at < s->n_ring);
    memmove(s->ring + at, s->ring + at + 1, (s->n_ring - at - 1) * sizeof(struct member *));
    s->n_ring--;
    s->ring_at -= at < s->ring_at;
}

/* Mixes within quarters, whose borders move by half a quarter from round to round: the longest
 * wait for a turn is a round and a half, where a new order of all would make it two. */
static void
shuffle(struct swim *s)
{
    size_t part = s->n_ring / 4, from = s->ring_odd ? part / 2 : 0;

    s->ring_odd = !s->ring_odd;
    for (; part > 1 && from < s->n_ring; from += part) {
        size_t n = s->n_ring - from < part ? s->n_ring - from : part;

        for (size_t i = n; i > 1; i--) {
            size_t j = from + rng_below(&s->rng, (uint32_t)i);
            struct member *m = s->ring[j];

            s->ring[j] = s->ring[from + i - 1];
            s->ring[from + i - 1] = m;
        }
    }
}

static struct member *
next_in_turn(struct swim *s)
{
    for (size_t i = 0; i < s->n_ring; i++) {
        struct member *m;

        if (s->ring_at >= s->n_ring) {
            s->ring_at = 0;
            shuffle(s);
        }
        m = s->ring[s->ring_at++];
        if (swim_is_live(m))
            return m;
    }
    return NULL;
}

/* --- sending -----------------------------------------------------------------------------------
 */

static mc_ns
timeout_of(const struct swim *s)
{
    return s->times.timeout_ns * (s->health + 1);
}

/* A little irregular, so that members do not stay in step. */
static mc_ns
period(struct swim *s)
{
    double part = 0.95 + 0.1 * rng_unit(&s->rng);

    return (mc_ns)((double)s->times.probe_ns * (s->health + 1) * part);
}

static uint32_t
next_seq(struct swim *s)
{
    if (++s->seq == 0)
        s->seq = 1;
    return s->seq;
}

static struct str
probe_name(const struct swim *s, const struct probe *p)
{
    return str_of(p->m ? p->m->pub.name : s->self->pub.name);
}

/* What the one that is probed should hear of itself. */
static struct member *
probe_about(struct swim *s, const struct probe *p)
{
    if (p->use == PROBE_LEAVE || p->use == PROBE_RIVAL)
        return s->self;
    return p->m->pub.state == SWIM_ALIVE ? NULL : p->m;
}

static void
send_ping(struct swim *s, const struct addr *to, uint32_t seq, struct str name,
          struct member *about, mc_ns now)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    pack_u32(&body, seq);
    pack_str(&body, name);
    swim_say(s, to, MSG_PING, &body, about, now);
}

static void
send_nack(struct swim *s, const struct addr *to, uint32_t seq, mc_ns now)
{
    uint8_t bytes[4];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    pack_u32(&body, seq);
    swim_say(s, to, MSG_NACK, &body, NULL, now);
}

bool
swim_probe_start(struct swim *s, enum probe_use use, struct member *m, const struct addr *to,
                 mc_ns now)
{
    struct probe *free_slot = NULL;
    bool may_ask = use == PROBE_ALIVE || use == PROBE_CONTEST;

    for (unsigned i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &s->probe[i];

        if (p->use == use && p->m == m)
            return true; /* under way */
        if (p->use == PROBE_NONE)
            free_slot = p;
    }
    if (!free_slot)
        return false;
    *free_slot = (struct probe){
        .use = use,
        .seq = next_seq(s),
        .m = m,
        .to = *to,
        .sent = now,
        .ask_at = may_ask ? now + timeout_of(s) : MC_NEVER_NS,
        .until = now + 2 * timeout_of(s),
    };
    s->n.probes += use == PROBE_ALIVE;
    send_ping(s, to, free_slot->seq, probe_name(s, free_slot), probe_about(s, free_slot), now);
    return true;
}

void
swim_probe_next(struct swim *s, mc_ns now)
{
    struct member *m = next_in_turn(s);

    s->next_probe = now + period(s);
    if (m)
        swim_probe_start(s, PROBE_ALIVE, m, &m->pub.addr, now);
}

void
swim_rival(struct swim *s, const struct addr *at, mc_ns now)
{
    if (now < s->rival_after)
        return;
    s->rival_after = now + RIVAL_PAUSE_NS;
    swim_probe_start(s, PROBE_RIVAL, NULL, at, now);
}

/* --- verdicts ----------------------------------------------------------------------------------
 */

static void
ask_others(struct swim *s, struct probe *p, mc_ns now)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};
    struct member *helper[16];
    unsigned n = s->times.indirect < MC_COUNT(helper) ? s->times.indirect : MC_COUNT(helper);

    p->ask_at = MC_NEVER_NS;
    p->m->pub.probe_loss += (1 - p->m->pub.probe_loss) / LOSS_WEIGHT;
    pack_u32(&body, p->seq);
    pack_str(&body, probe_name(s, p));
    pack_addr(&body, &p->to);
    p->n_asked = swim_pick(s, helper, n, p->m);
    for (unsigned i = 0; i < p->n_asked; i++)
        swim_say(s, &helper[i]->pub.addr, MSG_PING_REQ, &body, NULL, now);
    s->n.indirect += p->n_asked;
}

static void
worsen(struct swim *s, unsigned by)
{
    s->health = s->health + by < HEALTH_MAX ? s->health + by : HEALTH_MAX;
}

static void
probe_failed(struct swim *s, struct probe *p, mc_ns now)
{
    struct probe was = *p;

    p->use = PROBE_NONE;
    if (was.use == PROBE_CONTEST)
        swim_contest_decide(s, was.m, false, NULL, 0, now);
    if (was.use != PROBE_ALIVE || !addr_eq(&was.to, &was.m->pub.addr))
        return; /* it has moved meanwhile */
    s->n.failed++;
    worsen(s, was.n_asked ? was.n_asked - was.n_nacks : 1);
    swim_doubt(s, was.m, now);
}

static void
relay_tick(struct swim *s, struct relay *r, mc_ns now)
{
    if (now >= r->nack_at) {
        send_nack(s, &r->from, r->from_seq, now);
        r->nack_at = MC_NEVER_NS;
    }
    if (now >= r->until)
        r->seq = 0;
}

void
swim_probe_tick(struct swim *s, mc_ns now)
{
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &s->probe[i];

        if (p->use != PROBE_NONE && now >= p->until)
            probe_failed(s, p, now);
        else if (p->use != PROBE_NONE && now >= p->ask_at)
            ask_others(s, p, now);
    }
    for (unsigned i = 0; i < RELAYS_MAX; i++)
        if (s->relay[i].seq)
            relay_tick(s, &s->relay[i], now);
}

mc_ns
swim_probe_due(const struct swim *s)
{
    mc_ns due = MC_NEVER_NS;

    for (unsigned i = 0; i < PROBES_MAX; i++)
        if (s->probe[i].use != PROBE_NONE)
            due = mc_sooner(due, mc_sooner(s->probe[i].ask_at, s->probe[i].until));
    for (unsigned i = 0; i < RELAYS_MAX; i++)
        if (s->relay[i].seq)
            due = mc_sooner(due, mc_sooner(s->relay[i].nack_at, s->relay[i].until));
    return due;
}

void
swim_probe_later(struct swim *s, mc_ns slept, mc_ns now)
{
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &s->probe[i];
        mc_ns by = mc_sooner(slept, now - p->sent);

        p->until += by;
        p->ask_at += p->ask_at == MC_NEVER_NS ? 0 : by;
    }
}

void
swim_probe_cancel(struct swim *s, const struct member *m)
{
    for (unsigned i = 0; i < PROBES_MAX; i++)
        if (s->probe[i].m == m)
            s->probe[i] = (struct probe){.use = PROBE_NONE};
}

/* --- answers -----------------------------------------------------------------------------------
 */

void
swim_on_ping(struct swim *s, const struct addr *from, const struct sender *sender,
             struct pack_in *in, mc_ns now)
{
    uint32_t seq = unpack_u32(in);
    struct str name = unpack_str(in, SWIM_NAME_MAX);
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    if (in->bad)
        return;
    if (!str_eq(name, str_of(s->self->pub.name))) {
        s->n.misdirected++; /* for who had our address before us */
        return;
    }
    pack_u32(&body, seq);
    pack_bytes(&body, s->self->pub.boot, SWIM_BOOT_BYTES);
    pack_varint(&body, (uint64_t)((now - s->began) / MC_MS));
    swim_say(s, from, MSG_ACK, &body, swim_unaware(s, sender), now);
}

/* Whoever asks can make us ping only members, and only where we know them to be. */
void
swim_on_ping_req(struct swim *s, const struct addr *from, const struct sender *sender,
                 struct pack_in *in, mc_ns now)
{
    uint32_t seq = unpack_u32(in);
    struct member *m = swim_member_find(s, unpack_str(in, SWIM_NAME_MAX));
    struct relay *r = s->relay;
    struct addr to;

    unpack_addr(in, &to);
    if (in->bad)
        return;
    while (r < s->relay + RELAYS_MAX && r->seq)
        r++;
    if (!m || m == s->self || !addr_eq(&to, &m->pub.addr) || r == s->relay + RELAYS_MAX) {
        send_nack(s, from, seq, now);
        return;
    }
    *r = (struct relay){
        .seq = next_seq(s),
        .from = *from,
        .from_seq = seq,
        .nack_at = now + (mc_ns)(NACK_PART * (double)s->times.timeout_ns),
        .until = now + RELAY_TIMEOUTS * s->times.timeout_ns,
    };
    send_ping(s, &to, r->seq, str_of(m->pub.name), m->pub.state == SWIM_ALIVE ? NULL : m, now);
}

static struct probe *
probe_of(struct swim *s, uint32_t seq)
{
    for (unsigned i = 0; i < PROBES_MAX; i++)
        if (s->probe[i].use != PROBE_NONE && s->probe[i].seq == seq)
            return &s->probe[i];
    return NULL;
}

void
swim_on_nack(struct swim *s, const struct addr *from, const struct sender *sender,
             struct pack_in *in, mc_ns now)
{
    struct probe *p = probe_of(s, unpack_u32(in));

    if (!in->bad && p && p->n_nacks < p->n_asked)
        p->n_nacks++;
}

struct answer {
    const uint8_t *boot;
    mc_ns age;
    bool direct;
};

static void
note_rtt(struct probe *p, mc_ns now)
{
    struct swim_member *m = &p->m->pub;
    mc_ns rtt = now > p->sent ? now - p->sent : 1;

    m->rtt_ns = m->rtt_ns ? m->rtt_ns + (rtt - m->rtt_ns) / RTT_WEIGHT : rtt;
    if (p->ask_at != MC_NEVER_NS)
        m->probe_loss -= m->probe_loss / LOSS_WEIGHT;
}

static bool
is_elder(const struct swim *s, const uint8_t *boot, mc_ns age, mc_ns now)
{
    mc_ns more = age - (now - s->began);

    if (more > AGE_TIE_NS || more < -AGE_TIE_NS)
        return more > 0;
    return memcmp(boot, s->self->pub.boot, SWIM_BOOT_BYTES) < 0;
}

/* Somebody else answers to our name: the younger one goes. */
static void
rival_answered(struct swim *s, const struct addr *from, const struct answer *a, mc_ns now)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    if (is_elder(s, a->boot, a->age, now)) {
        swim_yield(s, from);
        return;
    }
    pack_bytes(&body, a->boot, SWIM_BOOT_BYTES);
    pack_bytes(&body, s->self->pub.boot, SWIM_BOOT_BYTES);
    pack_varint(&body, (uint64_t)((now - s->began) / MC_MS));
    pack_addr(&body, &s->self->pub.addr);
    swim_say(s, from, MSG_TAKEN, &body, s->self, now);
}

static void
probe_answered(struct swim *s, struct probe *p, const struct answer *a, mc_ns now)
{
    struct probe was = *p;

    if (a->direct && was.m)
        note_rtt(p, now);
    p->use = PROBE_NONE;
    switch (was.use) {
    case PROBE_ALIVE:
        s->n.acks++;
        s->health -= s->health > 0;
        break;
    case PROBE_CONTEST: swim_contest_decide(s, was.m, true, a->boot, a->age, now); break;
    case PROBE_RIVAL: rival_answered(s, &was.to, a, now); break;
    /* whole states, since who was away may come from another part of a torn cluster */
    case PROBE_RETRY: s->hooks.sync(s->hooks.arg, &was.to); break;
    case PROBE_LEAVE: swim_leave_known(s, was.m, now); break;
    default: MC_NEVER("probe use");
    }
}

static bool
relay_answer(struct swim *s, uint32_t seq, const struct answer *a, mc_ns now)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    for (unsigned i = 0; i < RELAYS_MAX; i++) {
        struct relay *r = &s->relay[i];

        if (r->seq == 0 || r->seq != seq)
            continue;
        pack_u32(&body, r->from_seq);
        pack_bytes(&body, a->boot, SWIM_BOOT_BYTES);
        pack_varint(&body, (uint64_t)(a->age / MC_MS));
        r->seq = 0;
        swim_say(s, &r->from, MSG_ACK, &body, NULL, now);
        return true;
    }
    return false;
}

static mc_ns
unpack_age(struct pack_in *in)
{
    uint64_t ms = unpack_varint(in);

    if (ms > UINT64_C(3155760000000)) /* a hundred years, so that no sum of times runs over */
        in->bad = true;
    return in->bad ? 0 : (mc_ns)ms * MC_MS;
}

void
swim_on_ack(struct swim *s, const struct addr *from, const struct sender *sender,
            struct pack_in *in, mc_ns now)
{
    uint32_t seq = unpack_u32(in);
    struct answer a = {.boot = unpack_bytes(in, SWIM_BOOT_BYTES)};
    struct probe *p;

    a.age = unpack_age(in);
    if (in->bad || relay_answer(s, seq, &a, now))
        return;
    p = probe_of(s, seq);
    if (!p)
        return; /* too late, or to a challenge */
    a.direct = str_eq(sender->name, probe_name(s, p));
    probe_answered(s, p, &a, now);
}

void
swim_on_taken(struct swim *s, const struct addr *from, const struct sender *sender,
              struct pack_in *in, mc_ns now)
{
    const uint8_t *meant = unpack_bytes(in, SWIM_BOOT_BYTES);
    const uint8_t *holder = unpack_bytes(in, SWIM_BOOT_BYTES);
    mc_ns age = unpack_age(in);
    struct addr at;

    unpack_addr(in, &at);
    if (in->bad)
        return;
    if (memcmp(meant, s->self->pub.boot, SWIM_BOOT_BYTES) != 0) {
        s->n.misdirected++;
        return;
    }
    if (is_elder(s, holder, age, now))
        swim_yield(s, &at);
    else
        swim_rival(s, &at, now);
}
