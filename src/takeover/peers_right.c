/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers_right.c - who holds our flows, and whether we may speak: choices, lease and fence, see
 * peers.h.
 */
#include "base/check.h"
#include "takeover/peers_priv.h"

#define AVOID_NS  (500 * MC_MS) /* after a line to it broke it is not chosen */
#define ANSWER_NS MC_SEC        /* who does not tell what it took in this time cannot be asked */
#define STEADY    3             /* beats after which all that live have been heard */

/* --- words --------------------------------------------------------------------------------------
 */

/* It does not find us dead before; 0: long ago. */
static mc_ns
hearing_of(const struct peers *p, const struct peer *l)
{
    uint64_t echo = l->word.echo;

    if (echo == 0 || echo + PEERS_SENT_MAX <= p->seq)
        return 0;
    return p->sent_at[echo % PEERS_SENT_MAX] + p->conf.dead_ns - p->conf.margin_ns;
}

/* Until then it gives nothing away; 0: it does not say so. */
static mc_ns
grant_of(const struct peers *p, const struct peer *l)
{
    return l->owes || l->word.taken || l->word.echo < p->floor ? 0 : hearing_of(p, l);
}

static bool
any_fresh(const struct peers *p, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++)
        if (peers_is_fresh(p, &p->peer[i], now))
            return true;
    return false;
}

/* Somebody is heard that hears us. */
static bool
has_company(const struct peers *p, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++)
        if (peers_is_fresh(p, &p->peer[i], now) && grant_of(p, &p->peer[i]) >= now)
            return true;
    return false;
}

/* --- the witness --------------------------------------------------------------------------------
 */

static bool
is_witnessed(const struct peers *p, mc_ns now)
{
    return !p->conf.has_witness || (p->ever_witnessed && now - p->witnessed <= p->conf.witness_ns);
}

/* One beat is missing of everybody that grants us so much; 0: of everybody. */
static bool
is_silent(const struct peers *p, mc_ns granted, mc_ns now)
{
    mc_ns last = 0;

    for (unsigned i = 0; i < p->n_peers; i++)
        if (p->peer[i].heard > last && grant_of(p, &p->peer[i]) >= granted)
            last = p->peer[i].heard;
    return now - last > p->conf.beat_ns + p->conf.beat_ns / 4;
}

/* It is asked early, so that the answer is there when it matters. */
static bool
wants_witness(const struct peers *p, mc_ns now)
{
    if (!p->conf.has_witness || !p->had_company)
        return false;
    if (p->ever_witnessed && now - p->witnessed < p->conf.witness_ns / 3)
        return false;
    return is_silent(p, now, now);
}

void
peers_witness(struct peers *p, mc_ns now)
{
    p->witnessed = now;
    p->ever_witnessed = true;
    peers_settle(p, now);
}

/* It says that it is cut off, and does not hear us, though we beat. */
static bool
is_deaf(const struct peers *p, const struct peer *l, mc_ns now)
{
    uint64_t next = l->word.echo + 1;

    return (l->flags & (LIFE_FENCED | LIFE_ALONE)) && hearing_of(p, l) <= now + p->conf.margin_ns &&
           next <= p->seq && p->sent_at[next % PEERS_SENT_MAX] + 2 * p->conf.beat_ns <= now;
}

/* It is silent, or cut off; but is it us that hear nothing?  When a cable is pulled all fall silent
 * within a beat: somebody must have been heard later than that. */
static bool
may_let_go(const struct peers *p, const struct peer *but, mc_ns now)
{
    if (now < p->steady_at)
        return false;
    for (unsigned i = 0; i < p->n_peers; i++) {
        const struct peer *l = &p->peer[i];

        if (l != but && peers_is_fresh(p, l, now) && now >= l->met_at + STEADY * p->conf.beat_ns &&
            (is_deaf(p, but, now) ||
             l->heard_at > but->heard_at + p->conf.beat_ns + p->conf.beat_ns / 2))
            return true;
    }
    return is_witnessed(p, now);
}

void
peers_unsteady(struct peers *p, mc_ns now)
{
    p->steady_at = now + STEADY * p->conf.beat_ns;
}

/* --- holders ------------------------------------------------------------------------------------
 */

static struct choice *
find_choice(const struct peers *p, struct life who)
{
    for (unsigned i = 0; i < p->n_choices; i++)
        if (life_eq(p->choice[i].who, who))
            return (struct choice *)&p->choice[i];
    return NULL;
}

bool
peers_is_chosen(const struct peers *p, struct life who)
{
    return find_choice(p, who) != NULL;
}

void
peers_say_holders(const struct peers *p, struct wire_life *e)
{
    e->n_holders = 0;
    for (unsigned i = 0; i < p->n_choices; i++)
        if (!p->choice[i].dropped)
            e->holder[e->n_holders++] =
                (struct wire_holding){p->choice[i].who.id, p->choice[i].epoch};
}

static void
void_flows(struct peers *p)
{
    if (p->voiding)
        return;
    p->voiding = true;
    p->lease = 0;
    p->stats.voids++;
    p->conf.on_void(p->conf.arg);
}

void
peers_voided(struct peers *p, mc_ns now)
{
    p->voiding = false;
    peers_settle(p, now);
}

static void
let_go(struct peers *p, struct choice *c)
{
    struct choice gone = *c;

    p->n_choices--;
    memmove(c, c + 1, (size_t)(&p->choice[p->n_choices] - c) * sizeof(*c));
    p->urgent = true;
    p->stats.let_go++;
    p->conf.on_holder(p->conf.arg, gone.who, gone.epoch, false);
}

static void
drop(struct peers *p, struct choice *c)
{
    if (c->dropped)
        return;
    c->dropped = true;
    c->dropped_seq = p->seq + 1;
    p->urgent = true;
}

/* It knows that it holds nothing of ours any more. */
static bool
has_consented(const struct choice *c, const struct peer *l)
{
    return c->dropped && l->word.echo >= c->dropped_seq;
}

/* It will not come to give anything away: as far as anybody knows it is dead, or it is cut off. */
static bool
is_out(const struct peers *p, const struct peer *l, mc_ns now)
{
    return !peers_is_fresh(p, l, now) || is_deaf(p, l, now);
}

/* Before it was out it may have given something away, without our hearing of it: it lived when its
 * grant had run out.  Who lives still would say so. */
static bool
is_unsure(const struct peers *p, const struct choice *c, const struct peer *l, mc_ns now)
{
    return c->licensed || (!peers_is_fresh(p, l, now) && l->heard_at > grant_of(p, l));
}

static void
look_at_choice(struct peers *p, struct choice *c, mc_ns now)
{
    const struct peer *l = peers_find(p, c->who);
    mc_ns grant = grant_of(p, l);

    if (grant >= now && !p->fenced)
        c->licensed = false;
    if (l->owes)
        return; /* it has to be asked first */
    if (has_consented(c, l)) {
        let_go(p, c);
    } else if (is_out(p, l, now) && grant <= now + p->conf.margin_ns && may_let_go(p, l, now)) {
        if (is_unsure(p, c, l, now))
            void_flows(p);
        let_go(p, c);
    }
}

/* A holder that took flows and is dead, or does not answer, cannot be asked what they were. */
static void
look_at_taker(struct peers *p, struct peer *l, mc_ns now)
{
    bool unanswered = l->nonce != 0 && now - l->asked_at >= ANSWER_NS;

    if (!l->owes || (l->alive && !unanswered) || !may_let_go(p, l, now))
        return;
    void_flows(p);
    l->word_least = l->word.seq;
    l->nonce = 0;
    l->owes = false;
}

static void
look_at_choices(struct peers *p, mc_ns now)
{
    for (unsigned i = p->n_choices; i-- > 0;) {
        look_at_taker(p, peers_find(p, p->choice[i].who), now);
        look_at_choice(p, &p->choice[i], now);
    }
}

static bool
is_leaving(const struct peers *p, const struct choice *c)
{
    return peers_find(p, c->who)->flags & (LIFE_LEAVING | LIFE_PASSING);
}

static bool
is_passing(const struct peers *p, const struct choice *c)
{
    return peers_find(p, c->who)->flags & LIFE_PASSING;
}

/* The highest random weight of owner and holder (rendezvous: Thaler, Ravishankar 1998), so that
 * the flows of those that are left spread evenly. */
static uint64_t
rank_of(const struct peers *p, const struct peer *l)
{
    uint64_t pair[2] = {p->conf.self.id, l->who.id};

    return str_hash((struct str){(const char *)pair, sizeof(pair)}, 0);
}

static bool
has_choice_of(const struct peers *p, uint64_t id)
{
    for (unsigned i = 0; i < p->n_choices; i++)
        if (p->choice[i].who.id == id)
            return true;
    return false;
}

static bool
is_eligible(const struct peers *p, const struct peer *l, mc_ns now)
{
    return peers_is_fresh(p, l, now) && (l->flags & LIFE_RECORD) == 0 &&
           grant_of(p, l) >= now + p->conf.beat_ns && l->avoid_until <= now &&
           l->who.id != p->conf.self.id && !has_choice_of(p, l->who.id) &&
           life_eq(peers_life(p, l->who.id), l->who);
}

static const struct peer *
best_holder(const struct peers *p, mc_ns now)
{
    const struct peer *best = NULL;

    for (unsigned i = 0; i < p->n_peers; i++) {
        const struct peer *l = &p->peer[i];

        if (is_eligible(p, l, now) && (!best || rank_of(p, l) > rank_of(p, best)))
            best = l;
    }
    return best;
}

/* A holder that leaves is dropped when others are ready.  One that passes is silent soon, and there
 * again the next moment: it is not waited for when there is nobody else. */
static void
drop_leaving(struct peers *p, mc_ns now)
{
    unsigned n_ready = 0, n_lasting = 0;
    bool ready, last;

    for (unsigned i = 0; i < p->n_choices; i++) {
        const struct choice *c = &p->choice[i];
        bool lasts = !c->dropped && !is_leaving(p, c);

        n_lasting += lasts;
        n_ready += lasts && c->synced;
    }
    ready = n_ready >= p->conf.replicas;
    last = n_lasting == n_ready && best_holder(p, now) == NULL;
    for (unsigned i = 0; i < p->n_choices; i++)
        if (is_leaving(p, &p->choice[i]) && (ready || (last && is_passing(p, &p->choice[i]))))
            drop(p, &p->choice[i]);
}

void
peers_drop_all(struct peers *p)
{
    for (unsigned i = 0; i < p->n_choices; i++)
        drop(p, &p->choice[i]);
}

static void
choose(struct peers *p, const struct peer *l)
{
    struct choice *c = &p->choice[p->n_choices++];

    *c = (struct choice){.who = l->who, .epoch = ++p->epoch};
    p->urgent = true;
    p->stats.chosen++;
    p->conf.on_holder(p->conf.arg, c->who, c->epoch, true);
}

/* Of those named in beats are never more than fit: one that leaves is named until it is dropped,
 * beside the one in its place. */
static bool
wants_more(const struct peers *p)
{
    unsigned n_named = 0, n_lasting = 0;

    for (unsigned i = 0; i < p->n_choices; i++) {
        n_named += !p->choice[i].dropped;
        n_lasting += !p->choice[i].dropped && !is_leaving(p, &p->choice[i]);
    }
    return n_lasting < p->conf.replicas && n_named < WIRE_HOLDERS_MAX &&
           p->n_choices < PEERS_HOLDERS_MAX;
}

/* Not before all that live have been heard: who came first would hold everything. */
static void
choose_more(struct peers *p, mc_ns now)
{
    if (now < p->first_at + STEADY * p->conf.beat_ns)
        return;
    while (!p->fenced && p->pass != PEERS_ALONE && wants_more(p)) {
        const struct peer *l = best_holder(p, now);

        if (!l)
            return;
        choose(p, l);
    }
}

void
peers_line_lost(struct peers *p, struct life who, uint32_t epoch, mc_ns now)
{
    struct choice *c = find_choice(p, who);

    if (!c || c->epoch != epoch)
        return;
    peers_find(p, who)->avoid_until = now + AVOID_NS;
    drop(p, c);
    peers_settle(p, now);
}

void
peers_line_synced(struct peers *p, struct life who, uint32_t epoch, mc_ns now)
{
    struct choice *c = find_choice(p, who);

    if (!c || c->epoch != epoch)
        return;
    c->synced = true;
    peers_settle(p, now);
}

unsigned
peers_holders(const struct peers *p, struct peers_holder out[PEERS_HOLDERS_MAX])
{
    for (unsigned i = 0; i < p->n_choices; i++) {
        const struct choice *c = &p->choice[i];

        out[i] = (struct peers_holder){c->who, c->epoch, c->synced, c->dropped};
    }
    return p->n_choices;
}

struct life
peers_heir(const struct peers *p, mc_ns now)
{
    if (is_silent(p, 0, now))
        return (struct life){0, 0};
    for (unsigned i = 0; i < p->n_choices; i++)
        if (!p->choice[i].dropped && peers_is_alive(p, p->choice[i].who))
            return p->choice[i].who;
    return (struct life){0, 0};
}

/* --- succession ---------------------------------------------------------------------------------
 */

static bool
has_holding(const struct peer *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n_holders; i++)
        if (l->holder[i].id == id)
            return true;
    return false;
}

/* Who lives and has lost flows to us is to hear of it from us. */
static bool
is_free(const struct peers *p)
{
    if (p->pass == PEERS_ALONE)
        return p->n_choices == 0;
    for (unsigned i = 0; i < p->n_peers; i++) {
        const struct peer *l = &p->peer[i];

        if (l->alive && (l->gave || has_holding(l, p->conf.self.id)))
            return false;
    }
    return true;
}

/* --- what was taken -----------------------------------------------------------------------------
 */

void
peers_ask(struct peers *p, mc_ns now)
{
    if (wants_witness(p, now))
        p->conf.ask_witness(p->conf.arg);
    for (unsigned i = 0; i < p->n_peers; i++) {
        struct peer *l = &p->peer[i];

        if (!l->owes)
            continue;
        if (l->nonce == 0) {
            l->nonce = ++p->nonce;
            l->asked_at = now;
            p->stats.resyncs++;
        }
        p->conf.on_resync(p->conf.arg, l->who, l->nonce);
    }
}

void
peers_resynced(struct peers *p, struct life who, uint64_t nonce, uint64_t seq, mc_ns now)
{
    struct peer *l = peers_find(p, who);

    if (!l || l->nonce == 0 || l->nonce != nonce)
        return;
    l->nonce = 0;
    l->owes = false;
    /* it has no beats that it has not sent yet: a number from beyond would silence it for ever */
    l->word_least = seq < l->seq + PEERS_SENT_MAX ? seq : l->seq;
    peers_settle(p, now);
}

/* Who holds nothing of ours any more can have taken something on the other side of a cut only. When
 * that has healed it is asked, too; before, it waits for nobody. */
static bool
any_taken(const struct peers *p, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++)
        if (p->peer[i].owes && (!is_out(p, &p->peer[i], now) || peers_is_chosen(p, p->peer[i].who)))
            return true;
    return false;
}

/* --- the lease ----------------------------------------------------------------------------------
 */

/* Nobody holds anything of ours. */
static mc_ns
free_lease(const struct peers *p, mc_ns now)
{
    mc_ns most = now + p->conf.dead_ns;

    if (!p->had_company || !p->conf.has_witness || has_company(p, now))
        return most;
    if (!is_witnessed(p, now))
        return p->lease; /* as it was: it runs out */
    return p->witnessed + p->conf.witness_ns < most ? p->witnessed + p->conf.witness_ns : most;
}

static mc_ns
held_lease(const struct peers *p, mc_ns now)
{
    mc_ns least = now + p->conf.dead_ns;

    for (unsigned i = 0; i < p->n_choices; i++) {
        mc_ns grant = grant_of(p, peers_find(p, p->choice[i].who));

        least = grant < least ? grant : least;
    }
    return least;
}

static mc_ns
lease_now(const struct peers *p, mc_ns now)
{
    if (p->voiding || p->fenced || any_taken(p, now))
        return 0;
    /* who was alone listens to all before it speaks again: some may have taken flows of it */
    if (!p->held && now < p->company_at + STEADY * p->conf.beat_ns)
        return 0;
    return p->n_choices > 0 ? held_lease(p, now) : free_lease(p, now);
}

static void
look_at_lease(struct peers *p, mc_ns now)
{
    bool held;

    p->lease = lease_now(p, now);
    held = p->lease >= now;
    if (p->held && !held) {
        p->stats.lapses++;
        p->lost_at = now;
    }
    p->held = held;
}

mc_ns
peers_lease(const struct peers *p)
{
    return p->lease;
}

/* --- the fence ----------------------------------------------------------------------------------
 */

static void
fence(struct peers *p)
{
    p->fenced = p->urgent = true;
    p->lease = 0;
    p->stats.fences++;
    for (unsigned i = 0; i < p->n_choices; i++)
        p->choice[i].licensed = true;
}

/* There would be a lease, if we were not fenced. */
static bool
has_prospect(const struct peers *p, mc_ns now)
{
    if (p->voiding || any_taken(p, now))
        return false;
    for (unsigned i = 0; i < p->n_choices; i++)
        if (grant_of(p, peers_find(p, p->choice[i].who)) < now)
            return false;
    return p->n_choices > 0 || free_lease(p, now) >= now;
}

static void
unfence(struct peers *p, mc_ns now)
{
    p->fenced = false;
    p->urgent = true;
    p->floor = p->seq + 1;
    p->lost_at = now + 2 * p->conf.beat_ns; /* words take a beat there and a beat back */
}

static void
tell_fit(struct peers *p, bool fit)
{
    if (p->fit == fit)
        return;
    p->fit = fit;
    p->conf.on_fit(p->conf.arg, fit);
}

static void
look_at_fence(struct peers *p, mc_ns now)
{
    if (!p->held && !p->fenced && now - p->lost_at >= p->conf.unfit_ns)
        fence(p);
    else if (p->fenced && has_prospect(p, now))
        unfence(p, now);
    if (p->fenced)
        tell_fit(p, false);
    else if (p->held)
        tell_fit(p, true);
}

/* Of those that were there before we were alone. */
static bool
is_back(const struct peers *p, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++)
        if (peers_is_fresh(p, &p->peer[i], now) && p->peer[i].met_at < p->alone_at)
            return true;
    return false;
}

void
peers_decide(struct peers *p, mc_ns now)
{
    bool alone = !any_fresh(p, now);

    if (alone && !p->alone)
        p->alone_at = now;
    if (p->alone && !alone && is_back(p, now)) {
        p->company_at = now;
        peers_unsteady(p, now);
    }
    p->urgent |= alone && !p->alone;
    p->alone = alone;
    if (!p->had_company && has_company(p, now)) {
        p->had_company = true;
        p->first_at = now;
    }
    look_at_choices(p, now);
    drop_leaving(p, now);
    choose_more(p, now);
    look_at_lease(p, now);
    look_at_fence(p, now);
    if (!is_free(p))
        p->pass_seq = p->seq;
}

/* --- for people ---------------------------------------------------------------------------------
 */

const char *
peers_why(const struct peers *p, mc_ns now)
{
    if (p->lease >= now)
        return NULL;
    if (p->voiding)
        return "all connections have to be dropped, since others may have them";
    if (any_taken(p, now))
        return "others took over connections, and have not told yet which";
    if (p->n_choices > 0 && !p->alone)
        return "a balancer that holds connections of this one does not hear it";
    return p->conf.has_witness ? "neither a peer nor a witness is heard" : "no peer is heard";
}

unsigned
peers_view(const struct peers *p, struct peers_view *out, unsigned max)
{
    unsigned n = p->n_peers < max ? p->n_peers : max;

    for (unsigned i = 0; i < n; i++) {
        const struct peer *l = &p->peer[i];

        out[i] = (struct peers_view){
            .who = l->who,
            .alive = l->alive,
            .leaving = l->flags & LIFE_LEAVING,
            .fenced = l->flags & LIFE_FENCED,
            .taken = l->gave,
            .granting = grant_of(p, l) >= p->ticked,
            .heard = l->heard_at,
        };
    }
    return n;
}

bool
peers_is_fenced(const struct peers *p)
{
    return p->fenced;
}
