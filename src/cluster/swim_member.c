/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_member.c - the table of members and what is believed of each.
 *
 * A claim of a higher incarnation beats all of a lower one; of the same incarnation, alive <
 * suspect < dead < left.  Only a member itself raises its incarnation.  A name that is claimed from
 * another address while its holder may live is contested: the holder is probed, and keeps the name
 * if it answers.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/swim_priv.h"

#define CONTEST_PAUSE_NS MC_SEC /* between two probes of a holder: a newcomer claims on and on */

static void hear_doubt(struct swim *s, struct member *m, const struct claim *c, mc_ns now);

/* --- table -------------------------------------------------------------------------------------
 */

struct member *
swim_member_find(const struct swim *s, struct str name)
{
    return map_get(&s->by_name, name);
}

void
swim_member_free(struct member *m)
{
    free(m->contest);
    free(m);
}

static void
drop_contest(struct member *m)
{
    free(m->contest);
    m->contest = NULL;
}

static void
forget(struct swim *s, size_t at)
{
    struct member *m = s->all[at];
    enum swim_state was = m->pub.state;

    MC_ASSERT(m != s->self && !swim_is_live(m));
    swim_probe_cancel(s, m);
    swim_ring_remove(s, m);
    swim_news_drop(m);
    map_remove(&s->by_name, str_of(m->pub.name));
    s->all[at] = s->all[--s->n_all];
    m->pub.state = SWIM_NONE;
    if (s->hooks.on_member)
        s->hooks.on_member(s->hooks.arg, &m->pub, was);
    swim_member_free(m);
}

void
swim_forget_old(struct swim *s, mc_ns now)
{
    for (size_t i = s->n_all; i-- > 0;)
        if (!swim_is_live(s->all[i]) && s->all[i] != s->self &&
            now - s->all[i]->pub.since > s->times.remember_ns)
            forget(s, i);
}

/* Makes room by forgetting who is dead for longest. */
static bool
make_room(struct swim *s)
{
    size_t oldest = SIZE_MAX;

    if (s->n_all < SWIM_MEMBERS_MAX)
        return true;
    for (size_t i = 0; i < s->n_all; i++)
        if (!swim_is_live(s->all[i]) && s->all[i] != s->self &&
            (oldest == SIZE_MAX || s->all[i]->pub.since < s->all[oldest]->pub.since))
            oldest = i;
    if (oldest == SIZE_MAX)
        return false;
    forget(s, oldest);
    return true;
}

struct member *
swim_member_new(struct swim *s, struct str name)
{
    struct member *m;

    if (swim_find_id(s, swim_name_id(name)) || !make_room(s))
        return NULL;
    m = mc_alloc(sizeof(*m));
    memcpy(m->pub.name, name.p, name.n);
    m->pub.id = swim_name_id(name);
    list_init(&m->news);
    list_init(&m->suspects);
    if (s->n_all == s->cap_all) {
        s->cap_all = s->cap_all ? 2 * s->cap_all : 16;
        s->all = mc_realloc(s->all, s->cap_all * sizeof(struct member *));
        s->ring = mc_realloc(s->ring, s->cap_all * sizeof(struct member *));
    }
    s->all[s->n_all++] = m;
    map_put(&s->by_name, name, m);
    return m;
}

/* --- states ------------------------------------------------------------------------------------
 */

#define TO(state) (1u << SWIM_##state)

/* Which may follow which; a state may also be entered again under a higher incarnation. */
static const unsigned next_states[] = {
    [SWIM_NONE] = TO(ALIVE) | TO(DEAD) | TO(LEFT),
    [SWIM_ALIVE] = TO(ALIVE) | TO(SUSPECT) | TO(DEAD) | TO(LEFT),
    [SWIM_SUSPECT] = TO(ALIVE) | TO(SUSPECT) | TO(DEAD) | TO(LEFT),
    [SWIM_DEAD] = TO(ALIVE) | TO(LEFT),
    [SWIM_LEFT] = TO(ALIVE),
};

void
swim_member_enter(struct swim *s, struct member *m, enum swim_state to, mc_ns since)
{
    enum swim_state was = m->pub.state;

    MC_ASSERT(next_states[was] & (1u << to));
    if (was != to)
        m->pub.since = since;
    s->n_live -= swim_is_live(m);
    m->pub.state = to;
    s->n_live += swim_is_live(m);
    if (to != SWIM_SUSPECT) {
        list_remove(&m->suspects);
        m->challenged = false;
    }
    if (!swim_is_live(m))
        drop_contest(m);
    swim_news(s, m);
    if (s->hooks.on_member)
        s->hooks.on_member(s->hooks.arg, &m->pub, was);
}

static void
set_by(struct member *m, struct str by)
{
    if (by.n > 0)
        memcpy(m->by, by.p, by.n);
    m->by[by.n] = '\0';
}

/* --- suspicion ---------------------------------------------------------------------------------
 */

static void
begin_doubt(struct swim *s, struct member *m, struct str by, mc_ns now)
{
    double digits = fmax(1, log10((double)s->n_live));

    m->doubt_began = now;
    m->doubt_least = (mc_ns)(s->times.suspicion_mult * digits * (double)s->times.probe_ns);
    m->doubt_most = m->doubt_least * s->times.suspicion_max_mult;
    /* who is left to confirm: all but the suspect and who doubted first */
    m->doubt_wanted = s->n_live >= CONFIRMATIONS + 2 ? CONFIRMATIONS : 0;
    m->n_doubters = 0;
    if (by.n > 0)
        m->doubter[m->n_doubters++] = swim_name_id(by);
    set_by(m, by);
    list_remove(&m->suspects);
    list_push_back(&s->suspects, &m->suspects);
    m->challenged = false;
    swim_member_enter(s, m, SWIM_SUSPECT, now);
}

/* True when it is one more who found out for itself. */
static bool
confirm_doubt(struct swim *s, struct member *m, struct str by)
{
    uint64_t id = swim_name_id(by);

    if (by.n == 0 || m->n_doubters > m->doubt_wanted)
        return false;
    for (unsigned i = 0; i < m->n_doubters; i++)
        if (m->doubter[i] == id)
            return false;
    m->doubter[m->n_doubters++] = id;
    set_by(m, by);
    swim_news(s, m);
    return true;
}

/* Lifeguard's: the time shrinks with the logarithm of the confirmations. */
mc_ns
swim_doubt_ends(const struct member *m)
{
    unsigned confirmed = m->n_doubters > 1 ? m->n_doubters - 1 : 0;
    double part, span = (double)(m->doubt_most - m->doubt_least);

    if (m->doubt_wanted == 0)
        return m->doubt_began + m->doubt_least;
    part = log(confirmed + 1.0) / log(m->doubt_wanted + 1.0);
    return m->doubt_began + m->doubt_most - (mc_ns)(span * part);
}

/* Who hears of a suspicion may see for itself at once, so that those who are to confirm it need not
 * wait for their turn; about twice as many as are wanted do. */
static void
check_suspect(struct swim *s, struct member *m, mc_ns now)
{
    if (s->n_live > 2 && rng_below(&s->rng, (uint32_t)s->n_live - 2) < 2 * CONFIRMATIONS)
        swim_probe_start(s, PROBE_ALIVE, m, &m->pub.addr, now);
}

void
swim_doubt(struct swim *s, struct member *m, mc_ns now)
{
    struct str me = str_of(s->self->pub.name);

    if (m->pub.state == SWIM_ALIVE)
        begin_doubt(s, m, me, now);
    else if (m->pub.state == SWIM_SUSPECT)
        confirm_doubt(s, m, me);
    else
        return;
    s->n.suspicions++;
    m->challenged = true;
    s->next_challenge = s->next_challenge < now ? now : s->next_challenge;
}

/* --- names claimed twice -----------------------------------------------------------------------
 */

static void
begin_contest(struct swim *s, struct member *m, const struct claim *c, mc_ns now)
{
    if (m->contest || now < m->contest_after)
        return;
    if (!swim_probe_start(s, PROBE_CONTEST, m, &m->pub.addr, now))
        return;
    s->n.contests++;
    m->contest_after = now + CONTEST_PAUSE_NS;
    m->contest = mc_alloc(sizeof(*m->contest));
    memcpy(m->contest->boot, c->boot, SWIM_BOOT_BYTES);
    m->contest->incarnation = c->incarnation;
    m->contest->addr = c->addr;
    m->contest->meta_n = c->meta.n;
    if (c->meta.n > 0)
        memcpy(m->contest->meta, c->meta.p, c->meta.n);
}

/* What a member says of itself. */
static void
take_claim(struct member *m, const struct claim *c)
{
    memcpy(m->pub.boot, c->boot, SWIM_BOOT_BYTES);
    m->pub.addr = c->addr;
    m->pub.incarnation = c->incarnation;
    m->pub.meta_n = c->meta.n;
    if (c->meta.n > 0)
        memcpy(m->pub.meta, c->meta.p, c->meta.n);
}

static void
take_alive(struct swim *s, struct member *m, const struct claim *c, mc_ns now)
{
    if (memcmp(m->pub.boot, c->boot, SWIM_BOOT_BYTES) != 0)
        m->pub.rtt_ns = 0, m->pub.probe_loss = 0;
    take_claim(m, c);
    drop_contest(m); /* it has spoken: a probe from before tells nothing more */
    swim_member_enter(s, m, SWIM_ALIVE, now);
}

static void
tell_taken(struct swim *s, struct member *m, const uint8_t *holder, mc_ns age, mc_ns now)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

    pack_bytes(&body, m->contest->boot, SWIM_BOOT_BYTES);
    pack_bytes(&body, holder, SWIM_BOOT_BYTES);
    pack_varint(&body, (uint64_t)(age / MC_MS));
    pack_addr(&body, &m->pub.addr);
    swim_say(s, &m->contest->addr, MSG_TAKEN, &body, m, now);
}

/* answered: by the process `boot` of that age. */
void
swim_contest_decide(struct swim *s, struct member *m, bool answered, const uint8_t *boot, mc_ns age,
                    mc_ns now)
{
    struct contest *k = m->contest;
    struct claim c;

    if (!k)
        return;
    if (answered && memcmp(boot, k->boot, SWIM_BOOT_BYTES) != 0) {
        tell_taken(s, m, boot, age, now);
    } else if (k->incarnation > m->pub.incarnation) {
        c = (struct claim){
            .state = SWIM_ALIVE,
            .incarnation = k->incarnation,
            .boot = k->boot,
            .addr = k->addr,
            .meta = {(const char *)k->meta, k->meta_n},
        };
        take_alive(s, m, &c, now);
    }
    drop_contest(m);
}

/* --- claims ------------------------------------------------------------------------------------
 */

/* Goes above it, and tells everybody. */
static void
refute(struct swim *s, uint64_t incarnation)
{
    struct swim_member *me = &s->self->pub;

    if (me->incarnation < INCARNATION_MAX)
        me->incarnation = incarnation < INCARNATION_MAX ? incarnation + 1 : INCARNATION_MAX;
    s->n.refutations++;
    swim_news(s, s->self);
}

/* Counts each of our incarnations that was called dead once; what is above ours was of a process
 * that had the name before. */
static void
count_false_death(struct swim *s, const struct claim *c)
{
    if (c->state != SWIM_DEAD || c->incarnation > s->self->pub.incarnation ||
        c->incarnation < s->blame_from)
        return;
    s->n.false_deaths++;
    s->blame_from = c->incarnation + 1;
}

/* A word about us.  Ours is the last one: what is old hears our present state again. */
static void
hear_self(struct swim *s, const struct claim *c, mc_ns now)
{
    const struct swim_member *me = &s->self->pub;
    bool other = c->boot && memcmp(c->boot, me->boot, SWIM_BOOT_BYTES) != 0;
    bool same = !other && c->state == SWIM_ALIVE && c->incarnation == me->incarnation;

    if (s->leaving || same)
        return;
    count_false_death(s, c);
    if (c->incarnation < me->incarnation) {
        if (s->self->n_told > 0)
            swim_news(s, s->self);
    } else {
        if (c->state == SWIM_SUSPECT && s->health < HEALTH_MAX)
            s->health++;
        if (c->incarnation > me->incarnation)
            s->blame_from = c->incarnation + 1;
        refute(s, c->incarnation);
    }
    if (other && c->state < SWIM_DEAD && !addr_eq(&c->addr, &me->addr))
        swim_rival(s, &c->addr, now);
}

static void
hear_alive(struct swim *s, struct member *m, const struct claim *c, mc_ns now)
{
    bool same =
        memcmp(m->pub.boot, c->boot, SWIM_BOOT_BYTES) == 0 || addr_eq(&m->pub.addr, &c->addr);

    if (c->incarnation <= m->pub.incarnation)
        return;
    if (same || !swim_is_live(m))
        take_alive(s, m, c, now);
    else
        begin_contest(s, m, c, now);
}

/* A member that we did not know, in whatever state: the dead are remembered by all alike, as long
 * after their death. */
static void
hear_new(struct swim *s, const struct claim *c, mc_ns now)
{
    enum swim_state as = c->state == SWIM_SUSPECT ? SWIM_ALIVE : c->state;
    struct member *m;

    if (as != SWIM_ALIVE && c->ago_ns > s->times.remember_ns)
        return;
    m = swim_member_new(s, c->name);
    if (!m) {
        s->n.refused++;
        return;
    }
    take_claim(m, c);
    set_by(m, as == SWIM_LEFT ? c->name : STR_NONE);
    swim_ring_add(s, m);
    swim_member_enter(s, m, as, now - c->ago_ns);
    if (as != SWIM_ALIVE)
        swim_news_drop(m); /* it is no news that somebody was dead */
    if (c->state == SWIM_SUSPECT)
        hear_doubt(s, m, c, now);
}

static void
hear_suspect(struct swim *s, struct member *m, const struct claim *c, mc_ns now)
{
    bool again = c->incarnation > m->pub.incarnation; /* it has refuted what we know of */

    if (!swim_is_live(m))
        return;
    m->pub.incarnation = c->incarnation;
    if (m->pub.state == SWIM_SUSPECT && !again) {
        confirm_doubt(s, m, c->by);
        return;
    }
    begin_doubt(s, m, c->by, now);
    check_suspect(s, m, now);
}

/* A whole state may be old where a datagram is news: who is dead there becomes a suspect that can
 * refute, so that two halves of a cluster that meet again do not bury each other. */
static void
hear_doubt(struct swim *s, struct member *m, const struct claim *c, mc_ns now)
{
    enum swim_state state = c->boot && c->state == SWIM_DEAD ? SWIM_SUSPECT : c->state;

    if (c->incarnation < m->pub.incarnation)
        return;
    if (state == SWIM_SUSPECT) {
        hear_suspect(s, m, c, now);
        return;
    }
    if (m->pub.state >= state)
        return;
    m->pub.incarnation = c->incarnation;
    set_by(m, state == SWIM_LEFT ? c->name : c->by);
    swim_member_enter(s, m, state, now);
}

void
swim_claim(struct swim *s, const struct claim *c, mc_ns now)
{
    struct member *m = swim_member_find(s, c->name);

    if (m == s->self) {
        hear_self(s, c, now);
        return;
    }
    if (!m && !c->boot)
        return; /* a doubt of somebody unknown: nothing to remember it by */
    if (!m) {
        hear_new(s, c, now);
        return;
    }
    if (c->boot && c->state < SWIM_DEAD)
        hear_alive(s, m, c, now);
    if (c->state > SWIM_ALIVE)
        hear_doubt(s, m, c, now);
}
