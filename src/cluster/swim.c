/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim.c - the life of one member, see swim.h: its clock, joining and leaving.
 */
#include "cluster/swim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/swim_priv.h"

#define JOIN_RETRY_NS MC_SEC /* until somebody answers */
#define JOIN_AT_ONCE  3      /* addresses that are tried together */
#define LEAVE_NS      MC_SEC /* a goodbye takes no longer */
#define LEAVE_KNOWN   3      /* members that confirm it */
#define SYNC_UNSCALED 32     /* members up to which whole states go round every sync_ns */
#define RETRY_PART    2      /* live members that try one dead one at a time, in the mean */

const char *
swim_state_word(enum swim_state state)
{
    static const char *const words[] = {
#define X(id, word) [SWIM_##id] = word,
        SWIM_STATES(X)
#undef X
    };

    return words[state];
}

/* --- names --------------------------------------------------------------------------------------
 */

static bool
is_name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool
swim_name_ok(struct str name)
{
    if (name.n == 0 || name.n > SWIM_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!is_name_char(name.p[i]))
            return false;
    return true;
}

uint64_t
swim_name_id(struct str name)
{
    uint64_t id = str_hash(name, 0);

    return id < UINT64_MAX ? id : UINT64_MAX - 1; /* the last one means everybody (place/share.h) */
}

/* --- life ---------------------------------------------------------------------------------------
 */

static mc_ns
or_else_ns(mc_ns set, mc_ns by_default)
{
    return set ? set : by_default;
}

static unsigned
or_else(unsigned set, unsigned by_default)
{
    return set ? set : by_default;
}

static struct swim_times
with_defaults(const struct swim_times *t)
{
    return (struct swim_times){
        .probe_ns = or_else_ns(t->probe_ns, 500 * MC_MS),
        .timeout_ns = or_else_ns(t->timeout_ns, 150 * MC_MS),
        .gossip_ns = or_else_ns(t->gossip_ns, 100 * MC_MS),
        .sync_ns = or_else_ns(t->sync_ns, 30 * MC_SEC),
        .retry_ns = or_else_ns(t->retry_ns, 5 * MC_SEC),
        .remember_ns = or_else_ns(t->remember_ns, 24 * 3600 * MC_SEC),
        .indirect = or_else(t->indirect, 3),
        .fanout = or_else(t->fanout, 3),
        .retransmit_mult = or_else(t->retransmit_mult, 4),
        .suspicion_mult = or_else(t->suspicion_mult, 1),
        .suspicion_max_mult = or_else(t->suspicion_max_mult, 6),
    };
}

static enum mc_err
check_conf(const struct swim_conf *conf, struct errbuf *eb)
{
    char text[ADDR_TEXT];

    if (!swim_name_ok(conf->name)) {
        err_set(eb, "\"" STR_FMT "\" is not a name of 1 to %d letters, digits, \".\", \"_\", \"-\"",
                STR_ARG(conf->name), SWIM_NAME_MAX);
        return MC_EINVAL;
    }
    if (!swim_addr_ok(&conf->addr)) {
        err_set(eb, "%s is not an address that others can reach", addr_text(&conf->addr, text));
        return MC_EINVAL;
    }
    if (conf->meta_n > SWIM_META_MAX) {
        err_set(eb, "meta of %zu bytes is above %d", conf->meta_n, SWIM_META_MAX);
        return MC_EINVAL;
    }
    return MC_OK;
}

static void
make_self(struct swim *s, const struct swim_conf *conf, mc_ns now)
{
    struct member *me = swim_member_new(s, conf->name);
    struct swim_member *pub = &me->pub;

    s->self = me;
    pub->self = true;
    pub->addr = conf->addr;
    memcpy(pub->boot, conf->boot, SWIM_BOOT_BYTES);
    pub->incarnation = conf->incarnation < INCARNATION_MAX ? conf->incarnation : INCARNATION_MAX;
    pub->meta_n = conf->meta_n;
    if (conf->meta_n > 0)
        memcpy(pub->meta, conf->meta, conf->meta_n);
    swim_member_enter(s, me, SWIM_ALIVE, now);
}

/* At a random part of the period, or members that start together would act together. */
static mc_ns
some_part(struct swim *s, mc_ns period)
{
    return (mc_ns)(rng_unit(&s->rng) * (double)period);
}

enum mc_err
swim_new(const struct swim_conf *conf, mc_ns now, struct swim **out, struct errbuf *eb)
{
    enum mc_err err = check_conf(conf, eb);
    struct swim *s;

    if (err != MC_OK)
        return err;
    s = mc_alloc(sizeof(*s));
    s->hooks = conf->hooks;
    s->times = with_defaults(&conf->times);
    s->began = now;
    rng_seed(&s->rng, conf->seed);
    s->seq = (uint32_t)rng_next(&s->rng);
    for (unsigned i = 0; i < NEWS_TOLD_MAX; i++)
        list_init(&s->news[i]);
    list_init(&s->suspects);
    make_self(s, conf, now);
    s->next_probe = now + some_part(s, s->times.probe_ns);
    s->next_sync = now + some_part(s, s->times.sync_ns);
    s->next_retry = now + some_part(s, s->times.retry_ns);
    s->next_join = MC_NEVER_NS;
    s->next_leave = MC_NEVER_NS;
    s->next_gossip = now;
    s->next_challenge = now;
    *out = s;
    return MC_OK;
}

void
swim_free(struct swim **sp)
{
    struct swim *s = *sp;

    if (!s)
        return;
    *sp = NULL;
    for (size_t i = 0; i < s->n_all; i++)
        swim_member_free(s->all[i]);
    map_free(&s->by_name);
    free(s->all);
    free(s->ring);
    free(s);
}

void
swim_yield(struct swim *s, const struct addr *holder)
{
    if (s->silent)
        return;
    s->silent = true;
    if (s->hooks.on_conflict)
        s->hooks.on_conflict(s->hooks.arg, holder);
}

/* --- joining and whole states -------------------------------------------------------------------
 */

void
swim_join(struct swim *s, const struct addr *at, size_t n, mc_ns now)
{
    s->n_join = 0;
    for (size_t i = 0; i < n && s->n_join < SWIM_JOIN_MAX; i++)
        if (swim_addr_ok(&at[i]) && !addr_eq(&at[i], &s->self->pub.addr))
            s->join[s->n_join++] = at[i];
    s->join_at = 0;
    s->next_join = s->n_join > 0 ? now : MC_NEVER_NS;
}

bool
swim_joined(const struct swim *s)
{
    return s->joined;
}

static bool
is_anybody_at(const struct swim *s, const struct addr *at)
{
    for (size_t i = 0; i < s->n_all; i++)
        if (swim_is_live(s->all[i]) && addr_eq(&s->all[i]->pub.addr, at))
            return true;
    return false;
}

/* Addresses where a live member is need not be joined: what is left is who has not been met. */
static void
join_some(struct swim *s, mc_ns now)
{
    unsigned n = s->joined ? 1 : JOIN_AT_ONCE;

    for (size_t i = 0; i < s->n_join && n > 0; i++) {
        const struct addr *at = &s->join[s->join_at++ % s->n_join];

        if (is_anybody_at(s, at))
            continue;
        s->hooks.sync(s->hooks.arg, at);
        n--;
    }
    s->next_join = now + (s->joined ? s->times.retry_ns : JOIN_RETRY_NS);
}

/* As memberlist does: half as often for each doubling above some size. */
static mc_ns
sync_period(const struct swim *s)
{
    double over = (double)s->n_live / SYNC_UNSCALED;

    return over <= 1 ? s->times.sync_ns : s->times.sync_ns * (mc_ns)(ceil(log2(over)) + 1);
}

static void
sync_one(struct swim *s, mc_ns now)
{
    struct member *to;

    if (swim_pick(s, &to, 1, NULL) == 1)
        s->hooks.sync(s->hooks.arg, &to->pub.addr);
    s->next_sync = now + sync_period(s);
}

/* A cluster that was torn apart heals by this: each dead member is tried by about RETRY_PART live
 * ones every retry_ns.  So are those that left, who may have come back to where nobody looks. */
static void
retry_one(struct swim *s, mc_ns now)
{
    struct member *dead = NULL;
    unsigned seen = 0;

    for (size_t i = 0; i < s->n_ring; i++)
        if (!swim_is_live(s->ring[i]) && rng_below(&s->rng, ++seen) == 0)
            dead = s->ring[i];
    if (dead && rng_below(&s->rng, (uint32_t)s->n_live) < RETRY_PART * seen)
        swim_probe_start(s, PROBE_RETRY, dead, &dead->pub.addr, now);
    swim_forget_old(s, now);
    s->next_retry = now + s->times.retry_ns;
}

/* --- what we say of ourselves -------------------------------------------------------------------
 */

enum mc_err
swim_set_meta(struct swim *s, const void *meta, size_t n, mc_ns now)
{
    struct swim_member *me = &s->self->pub;

    if (n > SWIM_META_MAX)
        return MC_EINVAL;
    if (me->meta_n == n && (n == 0 || memcmp(me->meta, meta, n) == 0))
        return MC_OK;
    me->meta_n = n;
    if (n > 0)
        memcpy(me->meta, meta, n);
    me->incarnation += me->incarnation < INCARNATION_MAX;
    if (!s->leaving)
        swim_member_enter(s, s->self, SWIM_ALIVE, now);
    return MC_OK;
}

void
swim_leave(struct swim *s, mc_ns now)
{
    if (s->leaving || s->silent)
        return;
    s->leaving = true;
    memcpy(s->self->by, s->self->pub.name, sizeof(s->self->by));
    swim_member_enter(s, s->self, SWIM_LEFT, now);
    s->leave_until = now + LEAVE_NS;
    s->next_leave = now;
    s->next_sync = s->next_join = s->next_retry = MC_NEVER_NS;
}

bool
swim_has_left(const struct swim *s)
{
    return s->leaving && s->silent;
}

void
swim_leave_known(struct swim *s, struct member *m, mc_ns now)
{
    s->n_know_leave += !m->knows_leave;
    m->knows_leave = true;
    if (s->n_know_leave >= LEAVE_KNOWN)
        s->next_leave = s->leave_until = now;
}

static void
leave_some(struct swim *s, mc_ns now)
{
    bool over = now >= s->leave_until;
    unsigned n = 0;

    for (size_t i = 0; !over && i < s->n_ring && n < LEAVE_KNOWN; i++) {
        struct member *m = s->ring[(s->ring_at + i) % s->n_ring];

        if (m->knows_leave || !swim_is_live(m))
            continue;
        swim_probe_start(s, PROBE_LEAVE, m, &m->pub.addr, now);
        n++;
    }
    s->ring_at = s->n_ring > 0 ? (s->ring_at + n) % s->n_ring : 0;
    s->next_leave = now + s->times.timeout_ns;
    s->silent = n == 0;
}

/* --- time ---------------------------------------------------------------------------------------
 */

bool
swim_is_live(const struct member *m)
{
    return m->pub.state == SWIM_ALIVE || m->pub.state == SWIM_SUSPECT;
}

unsigned
swim_digits(const struct swim *s)
{
    unsigned digits = 1;

    for (size_t reach = 10; reach < s->n_live + 1; reach *= 10)
        digits++;
    return digits;
}

static void
bury_suspects(struct swim *s, mc_ns now)
{
    LIST_FOREACH_SAFE (it, next, &s->suspects) {
        struct member *m = LIST_ENTRY(it, struct member, suspects);

        if (now < swim_doubt_ends(m))
            continue;
        s->n.deaths++;
        memcpy(m->by, s->self->pub.name, sizeof(m->by));
        swim_member_enter(s, m, SWIM_DEAD, now);
        swim_say(s, &m->pub.addr, MSG_GOSSIP, NULL, m, now); /* should it live, it can object */
    }
}

/* We did not run for a while (stopped, starved, or the host slept): answers may lie unread, so that
 * time does not count against others. */
static void
make_up(struct swim *s, mc_ns late, mc_ns now)
{
    s->n.late_ticks++;
    s->health += s->health < HEALTH_MAX;
    swim_probe_later(s, late, now);
    LIST_FOREACH (it, &s->suspects) {
        struct member *m = LIST_ENTRY(it, struct member, suspects);

        /* what came in since we run again may have begun it just now */
        m->doubt_began += late < now - m->doubt_began ? late : now - m->doubt_began;
    }
}

/* When the clock alone wants us to run.  Messages cannot move it into the past, as they can what
 * follows from news and suspicions: so it tells whether we run late. */
static mc_ns
clock_due(const struct swim *s)
{
    mc_ns probe = swim_probe_due(s), turn = s->leaving ? s->next_leave : s->next_probe;

    return probe < turn ? probe : turn;
}

mc_ns
swim_due(const struct swim *s)
{
    mc_ns due[] = {
        clock_due(s),  swim_has_news(s) && s->n_live > 1 ? s->next_gossip : MC_NEVER_NS,
        s->next_join,  s->next_sync,
        s->next_retry,
    };
    mc_ns first = MC_NEVER_NS;

    if (s->silent)
        return MC_NEVER_NS;
    for (unsigned i = 0; i < MC_COUNT(due); i++)
        first = due[i] < first ? due[i] : first;
    LIST_FOREACH (it, &s->suspects) {
        const struct member *m = LIST_ENTRY(it, struct member, suspects);
        mc_ns end = swim_doubt_ends(m);

        first = end < first ? end : first;
        if (m->challenged && !s->leaving && s->next_challenge < first)
            first = s->next_challenge;
    }
    return first;
}

/* What a member does that stays. */
static void
tick_member(struct swim *s, mc_ns now)
{
    if (now >= s->next_probe)
        swim_probe_next(s, now);
    if (now >= s->next_challenge)
        swim_challenge(s, now);
    if (now >= s->next_sync)
        sync_one(s, now);
    if (now >= s->next_join)
        join_some(s, now);
    if (now >= s->next_retry)
        retry_one(s, now);
}

mc_ns
swim_tick(struct swim *s, mc_ns now)
{
    mc_ns late = now - clock_due(s);

    if (s->silent)
        return MC_NEVER_NS;
    if (late > s->times.timeout_ns)
        make_up(s, late, now);
    swim_probe_tick(s, now);
    bury_suspects(s, now);
    if (!s->leaving)
        tick_member(s, now);
    if (now >= s->next_gossip && swim_has_news(s))
        swim_gossip(s, now);
    if (s->leaving && now >= s->next_leave)
        leave_some(s, now);
    return swim_due(s);
}

/* --- what is known ------------------------------------------------------------------------------
 */

size_t
swim_count(const struct swim *s)
{
    return s->n_all;
}

const struct swim_member *
swim_at(const struct swim *s, size_t at)
{
    MC_ASSERT(at < s->n_all);
    return &s->all[at]->pub;
}

const struct swim_member *
swim_self(const struct swim *s)
{
    return &s->self->pub;
}

const struct swim_member *
swim_find(const struct swim *s, struct str name)
{
    const struct member *m = swim_member_find(s, name);

    return m ? &m->pub : NULL;
}

const struct swim_member *
swim_find_id(const struct swim *s, uint64_t id)
{
    for (size_t i = 0; i < s->n_all; i++)
        if (s->all[i]->pub.id == id)
            return &s->all[i]->pub;
    return NULL;
}

size_t
swim_live(const struct swim *s)
{
    return s->n_live;
}

const struct swim_counters *
swim_counters(const struct swim *s)
{
    return &s->n;
}

unsigned
swim_health(const struct swim *s)
{
    return s->health;
}
