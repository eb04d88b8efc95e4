/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers_harness.h - takeover peers in virtual time, for tests: ways between them are cut in either
 * direction, beats are lost, processes are killed, frozen, slow and started again.  A run depends
 * on nothing but its seed.
 *
 * Around each `struct peers` is what the takeover thread and the guard would be: lines to holders,
 * questions about what was taken, a witness, and the word in memory that says until when the host
 * may speak.  A holder gives flows away as soon as it may.  What is promised is checked after each
 * event:
 *
 *   - While flows of a life may be given away, and while it does not know of some that were, the
 *     word in memory is past.
 *   - Nothing is given away from a line that its owner has gone on without.
 */
#ifndef MC_TAKEOVER_PEERS_HARNESS_H
#define MC_TAKEOVER_PEERS_HARNESS_H

#include "cluster/mesh.h"
#include "takeover/peers.h"

#define NODES_MAX 6
#define LINES_MAX 8            /* of an owner, to holders of now and before */
#define HELD_MAX  400          /* datagrams that the socket of a frozen process holds */
#define BROKEN_NS (80 * MC_MS) /* a line to a peer out of reach is given up */
#define LIVES_MAX 64

/* A choice of an owner, and what came of it. */
struct line {
    struct life holder;
    unsigned at; /* node */
    uint32_t epoch;
    bool synced, lost;
    mc_ns retry_at, broken_since;
};

/* What was let go, for ever. */
struct gone {
    struct life owner, holder;
    uint32_t epoch;
    bool went_on; /* the owner had a lease after that */
};

/* Flows of `owner` that a node gave away. */
struct given {
    struct life owner;
    unsigned n, n_told;
};

/* What a holder has of an owner. */
struct held_line {
    struct life owner;
    uint32_t epoch;
};

struct world;

struct node {
    struct world *w;
    unsigned i;
    struct peers *p; /* NULL: it does not run */
    struct life life;
    bool frozen, has_witness, sees_witness;
    mc_ns tick_at, slow_ns, witness_at, voided_at;
    mc_ns word; /* in the memory that the guard's program reads */
    bool fit;
    struct line line[LINES_MAX];
    unsigned n_lines;
    struct held_line held[LIVES_MAX];
    unsigned n_held;
    struct given given[LIVES_MAX];
    unsigned n_given;
    struct mesh_mail mail[HELD_MAX];
    unsigned n_mail;
    bool spared; /* nothing ever happened to it */
    uint64_t lapses, voids, fences, chosen, lives;
};

struct world {
    struct mesh mesh;
    unsigned n;
    struct node node[NODES_MAX];
    bool cut[NODES_MAX][NODES_MAX]; /* from, to */
    struct gone gone[1024];
    unsigned n_gone;
    unsigned n_gives, n_resyncs, n_restarts;
    uint64_t boots;
    uint64_t seed;
    unsigned replicas;
    bool split; /* some do not hear each other by any way: the promises do not hold */
};

enum mail_kind { MAIL_BEAT, MAIL_ASK, MAIL_ANSWER };

struct mail {
    enum mail_kind kind;
    struct life to;
    union {
        struct wire_beat beat;
        struct {
            struct life who;
            uint64_t nonce, seq;
            unsigned n_told;
        } talk;
    } u;
};

/* --- ways ---------------------------------------------------------------------------------------
 */

static bool
world_reaches(const struct world *w, unsigned from, unsigned to)
{
    return !w->cut[from][to] && w->node[to].p && !w->node[to].frozen;
}

static bool
world_talks(const struct world *w, unsigned a, unsigned b)
{
    return world_reaches(w, a, b) && world_reaches(w, b, a);
}

static void
world_send(struct world *w, unsigned from, unsigned to, const struct mail *m)
{
    if (!w->cut[from][to])
        mesh_send(&w->mesh, from, to, m, sizeof(*m));
}

static uint64_t
id_of(unsigned i)
{
    return 100 + i;
}

/* --- hooks --------------------------------------------------------------------------------------
 */

static void
node_send(void *arg, uint64_t to, const struct wire_beat *b)
{
    struct node *n = arg;
    struct mail m = {.kind = MAIL_BEAT};

    m.u.beat = *b;
    world_send(n->w, n->i, (unsigned)(to - 100), &m);
}

static void
node_ask_witness(void *arg)
{
    struct node *n = arg;

    if (n->sees_witness && n->witness_at == MC_NEVER_NS)
        n->witness_at = n->w->mesh.now + MC_MS;
}

static void
node_on_life(void *arg, struct life who, bool alive)
{
    struct node *n = arg;

    n->lives++;
}

static struct line *
line_of(struct node *n, struct life holder, uint32_t epoch)
{
    for (unsigned i = 0; i < n->n_lines; i++)
        if (life_eq(n->line[i].holder, holder) && n->line[i].epoch == epoch)
            return &n->line[i];
    return NULL;
}

static void
node_on_holder(void *arg, struct life who, uint32_t epoch, bool chosen)
{
    struct node *n = arg;
    struct world *w = n->w;
    struct line *l;

    if (chosen) {
        MC_ASSERT(n->n_lines < LINES_MAX);
        n->chosen++;
        n->line[n->n_lines++] = (struct line){
            .holder = who,
            .at = (unsigned)(who.id - 100),
            .epoch = epoch,
            .retry_at = w->mesh.now + MC_MS + rng_below(&w->mesh.rng, 5 * MC_MS),
        };
        return;
    }
    l = line_of(n, who, epoch);
    MC_ASSERT(l && w->n_gone < MC_COUNT(w->gone));
    w->gone[w->n_gone++] = (struct gone){n->life, who, epoch, false};
    *l = n->line[--n->n_lines];
}

static void
node_on_resync(void *arg, struct life who, uint64_t nonce)
{
    struct node *n = arg;
    struct mail m = {.kind = MAIL_ASK, .to = who};

    m.u.talk.who = n->life;
    m.u.talk.nonce = nonce;
    n->w->n_resyncs++;
    world_send(n->w, n->i, (unsigned)(who.id - 100), &m);
}

static struct given *
given_of(struct node *n, struct life owner)
{
    for (unsigned i = 0; i < n->n_given; i++)
        if (life_eq(n->given[i].owner, owner))
            return &n->given[i];
    MC_ASSERT(n->n_given < LIVES_MAX);
    n->given[n->n_given] = (struct given){.owner = owner};
    return &n->given[n->n_given++];
}

static void
node_on_void(void *arg)
{
    struct node *n = arg;

    /* its flows are dropped: whoever has them */
    for (unsigned i = 0; i < n->w->n; i++) {
        struct given *g = given_of(&n->w->node[i], n->life);

        g->n_told = g->n;
    }
    n->voided_at = n->w->mesh.now + 5 * MC_MS;
    n->voids++;
}

static void
node_on_fit(void *arg, bool fit)
{
    struct node *n = arg;

    n->fit = fit;
}

/* --- what is promised ---------------------------------------------------------------------------
 */

#define world_require(w, what) mesh_require((w)->seed, what)

static bool
runs(const struct world *w, struct life who)
{
    const struct node *n = &w->node[who.id - 100];

    return n->p && life_eq(n->life, who);
}

static void
check_may_give(struct node *h, const struct held_line *l)
{
    struct world *w = h->w;
    const struct node *owner = &w->node[l->owner.id - 100];

    if (w->split)
        return;
    if (runs(w, l->owner))
        world_require(w, owner->word < w->mesh.now);
    for (unsigned i = 0; i < w->n_gone; i++)
        if (life_eq(w->gone[i].owner, l->owner) && life_eq(w->gone[i].holder, h->life) &&
            w->gone[i].epoch == l->epoch)
            world_require(w, !w->gone[i].went_on);
}

static void
give(struct node *h, struct life owner)
{
    struct given *g = given_of(h, owner);

    if (runs(h->w, owner))
        g->n++;
    h->w->n_gives++;
    peers_gave(h->p, owner, h->w->mesh.now);
}

static void
look_at_held(struct node *h)
{
    for (unsigned i = 0; i < h->n_held; i++) {
        const struct held_line *l = &h->held[i];

        if (peers_owner(h->p, l->owner, l->epoch) != OWNER_DEAD)
            continue;
        check_may_give(h, l);
        if (rng_below(&h->w->mesh.rng, 4) == 0)
            give(h, l->owner);
    }
}

static void
check_speaks(struct node *n)
{
    struct world *w = n->w;

    if (n->word < w->mesh.now)
        return;
    for (unsigned i = 0; i < w->n_gone; i++)
        w->gone[i].went_on |= life_eq(w->gone[i].owner, n->life);
    for (unsigned i = 0; i < w->n && !w->split; i++) {
        struct given *g = given_of(&w->node[i], n->life);

        world_require(w, g->n == g->n_told);
    }
}

static void
node_after(struct node *n)
{
    n->word = peers_lease(n->p);
    check_speaks(n);
    look_at_held(n);
}

/* --- events of a node ---------------------------------------------------------------------------
 */

static void
node_tick(struct node *n)
{
    struct world *w = n->w;

    n->tick_at = peers_tick(n->p, w->mesh.now);
    world_require(w, n->tick_at > w->mesh.now);
    if (n->slow_ns > 0)
        n->tick_at += (mc_ns)(rng_unit(&w->mesh.rng) * (double)n->slow_ns);
    node_after(n);
}

/* As the thread does: what is late is done before what has come. */
static void
node_catch_up(struct node *n)
{
    if (n->w->mesh.now >= n->tick_at)
        node_tick(n);
}

static void
node_hold(struct node *h, struct life owner, uint32_t epoch)
{
    unsigned i = 0;

    while (i < h->n_held && !life_eq(h->held[i].owner, owner))
        i++;
    if (i == LIVES_MAX) { /* the oldest is forgotten, as its flows would be */
        memmove(h->held, h->held + 1, (LIVES_MAX - 1) * sizeof(h->held[0]));
        i--;
    }
    if (i >= h->n_held)
        h->n_held = i + 1;
    h->held[i] = (struct held_line){owner, epoch};
}

static void
line_event(struct node *n, struct line *l)
{
    struct world *w = n->w;
    bool up = world_talks(w, n->i, l->at) && life_eq(w->node[l->at].life, l->holder);

    l->retry_at = w->mesh.now + 10 * MC_MS;
    l->broken_since = up ? 0 : l->broken_since ? l->broken_since : w->mesh.now;
    if (l->lost)
        return;
    if (!up && w->mesh.now - l->broken_since >= BROKEN_NS) {
        l->lost = true;
        peers_line_lost(n->p, l->holder, l->epoch, w->mesh.now);
    } else if (up && !l->synced) {
        l->synced = true;
        node_hold(&w->node[l->at], n->life, l->epoch);
        peers_line_synced(n->p, l->holder, l->epoch, w->mesh.now);
    }
}

static void
node_lines(struct node *n)
{
    for (unsigned i = 0; i < n->n_lines; i++)
        if (n->line[i].retry_at <= n->w->mesh.now) {
            node_catch_up(n);
            if (i < n->n_lines)
                line_event(n, &n->line[i]);
            node_after(n);
            return; /* the list may have changed */
        }
}

static void
hear_ask(struct node *n, unsigned from, const struct mail *m)
{
    struct mail answer = {.kind = MAIL_ANSWER, .to = m->u.talk.who};

    answer.u.talk.who = n->life;
    answer.u.talk.nonce = m->u.talk.nonce;
    answer.u.talk.seq = peers_asked(n->p, m->u.talk.who, n->w->mesh.now);
    answer.u.talk.n_told = given_of(n, m->u.talk.who)->n;
    world_send(n->w, n->i, from, &answer);
}

static void
hear_answer(struct node *n, unsigned from, const struct mail *m)
{
    struct given *g = given_of(&n->w->node[from], n->life);

    if (runs(n->w, m->u.talk.who) && m->u.talk.n_told > g->n_told)
        g->n_told = m->u.talk.n_told;
    peers_resynced(n->p, m->u.talk.who, m->u.talk.nonce, m->u.talk.seq, n->w->mesh.now);
}

static void
node_hear(struct node *n, const struct mesh_mail *mail)
{
    const struct mail *m = (const struct mail *)mail->bytes;

    node_catch_up(n);
    if (m->kind == MAIL_BEAT)
        peers_hear(n->p, &m->u.beat, n->w->mesh.now);
    else if (!life_eq(m->to, n->life))
        return; /* a connection to a process that is no more */
    else if (m->kind == MAIL_ASK)
        hear_ask(n, mail->from, m);
    else
        hear_answer(n, mail->from, m);
    node_after(n);
}

static void
node_mail(struct node *n, struct mesh_mail *mail)
{
    if (n->p && n->frozen && n->n_mail < HELD_MAX) {
        n->mail[n->n_mail++] = *mail;
        return;
    }
    if (n->p && !n->frozen)
        node_hear(n, mail);
    free(mail->bytes);
}

/* --- processes ----------------------------------------------------------------------------------
 */

static void
node_members(struct node *n)
{
    uint64_t ids[NODES_MAX];
    unsigned k = 0;

    for (unsigned i = 0; i < n->w->n; i++)
        if (i != n->i)
            ids[k++] = id_of(i);
    peers_set_members(n->p, ids, k, n->w->mesh.now);
}

static void
node_start(struct node *n)
{
    struct world *w = n->w;
    struct peers_conf conf = {
        .self = {id_of(n->i), ++w->boots},
        .replicas = w->replicas,
        .has_witness = n->has_witness,
        .arg = n,
        .send = node_send,
        .ask_witness = node_ask_witness,
        .on_life = node_on_life,
        .on_holder = node_on_holder,
        .on_resync = node_on_resync,
        .on_void = node_on_void,
        .on_fit = node_on_fit,
    };

    MC_ASSERT(!n->p);
    n->life = conf.self;
    n->fit = true;
    n->frozen = false;
    n->witness_at = n->voided_at = MC_NEVER_NS;
    n->p = peers_new(&conf, w->mesh.now);
    n->n_lines = n->n_held = n->n_given = 0;
    node_members(n);
    node_tick(n);
}

static void
node_kill(struct node *n)
{
    if (!n->p)
        return;
    n->lapses += peers_stats(n->p)->lapses;
    n->fences += peers_stats(n->p)->fences;
    peers_free(&n->p);
    for (unsigned i = 0; i < n->n_mail; i++)
        free(n->mail[i].bytes);
    n->n_mail = n->n_lines = n->n_held = n->n_given = 0;
    n->word = 0;
}

static void
node_freeze(struct node *n, bool frozen)
{
    if (!n->p || n->frozen == frozen)
        return;
    n->frozen = frozen;
    if (frozen)
        return;
    node_catch_up(n);
    for (unsigned i = 0; i < n->n_mail; i++) {
        node_hear(n, &n->mail[i]);
        free(n->mail[i].bytes);
    }
    n->n_mail = 0;
}

/* --- the world ----------------------------------------------------------------------------------
 */

static void
world_init(struct world *w, unsigned n, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    mesh_init(&w->mesh, n, seed);
    w->n = n;
    w->seed = seed;
    w->replicas = 1;
    for (unsigned i = 0; i < n; i++) {
        struct node *node = &w->node[i];

        node->w = w;
        node->i = i;
        node->has_witness = node->sees_witness = node->spared = true;
    }
}

static void
world_start(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++)
        if (!w->node[i].p)
            node_start(&w->node[i]);
}

static void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++)
        node_kill(&w->node[i]);
    mesh_fini(&w->mesh);
}

static mc_ns
earlier(mc_ns a, mc_ns b)
{
    return a < b ? a : b;
}

static mc_ns
node_due(const struct node *n)
{
    mc_ns due = MC_NEVER_NS;

    if (!n->p || n->frozen)
        return due;
    due = earlier(n->tick_at, earlier(n->witness_at, n->voided_at));
    for (unsigned i = 0; i < n->n_lines; i++)
        due = earlier(due, n->line[i].retry_at);
    return due;
}

static void
node_events(struct node *n)
{
    mc_ns now = n->w->mesh.now;

    if (!n->p || n->frozen)
        return;
    node_catch_up(n);
    if (n->witness_at <= now) {
        n->witness_at = MC_NEVER_NS;
        peers_witness(n->p, now);
        node_after(n);
    }
    if (n->voided_at <= now) {
        n->voided_at = MC_NEVER_NS;
        peers_voided(n->p, now);
        node_after(n);
    }
    node_lines(n);
}

/* Plays until that time. */
static void
world_run(struct world *w, mc_ns until)
{
    struct mesh_mail mail;

    while (w->mesh.now < until) {
        mc_ns due = earlier(until, mesh_due(&w->mesh));

        for (unsigned i = 0; i < w->n; i++)
            due = earlier(due, node_due(&w->node[i]));
        w->mesh.now = due > w->mesh.now ? due : w->mesh.now + 1;
        while (mesh_take(&w->mesh, &mail))
            node_mail(&w->node[mail.to], &mail);
        for (unsigned i = 0; i < w->n; i++)
            node_events(&w->node[i]);
    }
}

static void
world_for(struct world *w, mc_ns ns)
{
    world_run(w, w->mesh.now + ns);
}

static void UNUSED
world_isolate(struct world *w, unsigned i, bool cut)
{
    for (unsigned k = 0; k < w->n; k++)
        if (k != i)
            w->cut[i][k] = w->cut[k][i] = cut;
}

/* All run, hear each other, may speak and have their holders. */
static bool UNUSED
world_is_well(const struct world *w)
{
    unsigned wanted = w->replicas < w->n - 1 ? w->replicas : w->n - 1;

    for (unsigned i = 0; i < w->n; i++) {
        const struct node *n = &w->node[i];
        struct peers_holder h[PEERS_HOLDERS_MAX];
        unsigned n_holders;

        if (!n->p)
            continue;
        n_holders = peers_holders(n->p, h);
        if (n->word < w->mesh.now || !n->fit || peers_is_fenced(n->p) || n_holders != wanted)
            return false;
        for (unsigned k = 0; k < n_holders; k++)
            if (!h[k].synced || h[k].leaving)
                return false;
        for (unsigned k = 0; k < w->n; k++)
            if (k != i && w->node[k].p && !peers_is_alive(n->p, w->node[k].life))
                return false;
    }
    return true;
}

static void UNUSED
world_print(const struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct node *n = &w->node[i];
        struct peers_holder h[PEERS_HOLDERS_MAX];
        const char *why = n->p ? peers_why(n->p, w->mesh.now) : "does not run";

        print_error("%u: %s%s%s", i, why ? why : "well", n->frozen ? ", frozen" : "",
                    n->fit ? "" : ", not fit");
        for (unsigned k = 0; n->p && k < peers_holders(n->p, h); k++)
            print_error(", %u epoch %u%s%s", (unsigned)(h[k].who.id - 100), h[k].epoch,
                        h[k].synced ? " synced" : "", h[k].leaving ? " leaving" : "");
        print_error("\n");
    }
}

#endif
