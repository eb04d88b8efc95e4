/* SPDX-License-Identifier: BSD-2-Clause
 *
 * company.c - who of the members looks after a server, and what comes of what they say, see
 * company.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "fleet/brain_priv.h"
#include "fleet/care.h"
#include "fleet/company_priv.h"
#include "fleet/open.h"
#include "place/home.h"

/* How often our own traffic is looked at, and for how long it says something. */
#define SWEEP_NS  MC_SEC
#define RECENT_NS (3 * MC_SEC)
/* A failure keeps an owner's word company for so long; then requests may try again. */
#define FAILED_NS (10 * MC_SEC)

static struct company *
company_of(const struct entry *e)
{
    return e->live->fleet->company;
}

static mc_ns
now_of(const struct company *c)
{
    return loop_now(c->fleet->loop);
}

uint64_t
company_server_key(const struct server *s)
{
    return str_hash(str_of(s->name), str_hash(str_of(s->pool_name), 0) + 1);
}

/* --- owners -------------------------------------------------------------------------------------
 */

unsigned
company_owners(const struct server *s, uint64_t owner[AGREE_OWNERS])
{
    const struct regard *r = &entry_of((struct server *)s)->regard;

    memcpy(owner, r->owner, r->n_owners * sizeof(*owner));
    return r->n_owners;
}

static bool
is_owner(const struct regard *r, uint64_t member)
{
    for (unsigned i = 0; i < r->n_owners; i++)
        if (r->owner[i] == member)
            return true;
    return false;
}

/* Kept, since a verdict is made far more often than members come and go. */
static void
choose_owners(const struct company *c, struct entry *e)
{
    struct regard *r = &e->regard;

    r->n_owners = c->n_members < AGREE_OWNERS ? c->n_members : AGREE_OWNERS;
    for (unsigned rank = 0; rank < r->n_owners; rank++)
        r->owner[rank] = c->member[home_owner(c->member, c->n_members, e->s.name_hash, rank)];
}

bool
company_is_mine(const struct entry *e)
{
    return !company_of(e) || e->regard.mine;
}

bool
company_is_first(const struct entry *e)
{
    const struct company *c = company_of(e);

    return !c || (e->regard.n_owners > 0 && e->regard.owner[0] == c->id);
}

/* --- the verdict --------------------------------------------------------------------------------
 */

static enum agree_word
word_of(const struct company *c, const struct entry *e, uint64_t member, const char **why)
{
    const struct regard *r = &e->regard;

    if (member == c->id) {
        *why = e->s.health.down_why;
        return r->own;
    }
    for (unsigned i = 0; i < REGARD_HEARD; i++)
        if (r->heard[i].word != AGREE_UNKNOWN && r->heard[i].member == member) {
            *why = r->heard[i].why;
            return r->heard[i].word;
        }
    return AGREE_UNKNOWN;
}

static struct agree
what_is_said(const struct company *c, const struct entry *e, const char **why)
{
    const struct regard *r = &e->regard;
    struct agree a = {.n_owners = r->n_owners, .own = r->own == AGREE_DOWN};
    mc_ns now = now_of(c);

    for (unsigned i = 0; i < a.n_owners; i++) {
        const char *said = NULL;

        a.owner[i] = word_of(c, e, r->owner[i], &said);
        if (a.owner[i] == AGREE_DOWN)
            *why = said;
    }
    a.succeeds = r->success_at > 0 && now - r->success_at < RECENT_NS;
    a.fails = r->failure_at > 0 && now - r->failure_at < FAILED_NS;
    return a;
}

/* A verdict of others that our own requests speak against. */
static void
count_refusal(struct company *c, struct entry *e, const struct agree *a, bool down)
{
    bool refused = false;

    for (unsigned i = 0; i < a->n_owners && !down && !a->own && a->succeeds; i++)
        refused |= a->owner[i] == AGREE_DOWN;
    c->counts.hearsay_refused += refused && !e->regard.refused;
    e->regard.refused = refused;
}

static void
judge(struct company *c, struct entry *e)
{
    char why[sizeof(e->s.health.down_why)];
    const char *said = "";
    struct agree a = what_is_said(c, e, &said);
    bool down = agree_is_down(&a), changed;
    mc_ns now = now_of(c);
    struct health *h;

    count_refusal(c, e, &a, down);
    snprintf(why, sizeof(why), "%s", down ? said : "checks succeed");
    h = open_begin(e);
    changed = health_set_agreed(h, !down, why, now, units_wall_ns());
    open_end(e, changed, now);
}

void
company_checked(struct entry *e)
{
    struct company *c = company_of(e);
    enum agree_word word = e->s.health.checked_up ? AGREE_UP : AGREE_DOWN;

    if (!c || !e->regard.mine)
        return;
    if (word != e->regard.own) {
        e->regard.own = word;
        c->hooks.tell(c->hooks.arg, &e->s, word, e->s.health.down_why);
    }
    judge(c, e);
}

/* --- what others say ----------------------------------------------------------------------------
 */

static int
by_key(const void *a, const void *b)
{
    const struct company_name *x = a, *y = b;

    return (x->key > y->key) - (x->key < y->key);
}

static struct entry *
find(const struct company *c, uint64_t key)
{
    struct company_name k = {.key = key}, *found;

    found = c->n_names ? bsearch(&k, c->names, c->n_names, sizeof(k), by_key) : NULL;
    return found ? found->entry : NULL;
}

bool
company_knows(const struct fleet *f, uint64_t server_key)
{
    return f->company && find(f->company, server_key);
}

/* The place of a member's word; else a free one, else that of who is no owner: there are more
 * places than owners. */
static unsigned
place_of(const struct regard *r, uint64_t member)
{
    unsigned best = REGARD_HEARD;

    for (unsigned i = 0; i < REGARD_HEARD; i++)
        if (r->heard[i].word != AGREE_UNKNOWN && r->heard[i].member == member)
            return i;
    for (unsigned i = 0; i < REGARD_HEARD; i++) {
        if (r->heard[i].word == AGREE_UNKNOWN)
            return i;
        best = is_owner(r, r->heard[i].member) ? best : i;
    }
    MC_ASSERT(best < REGARD_HEARD);
    return best;
}

void
company_hear(struct fleet *f, uint64_t member, uint64_t server_key, enum agree_word word,
             struct str why)
{
    struct company *c = f->company;
    struct entry *e = c ? find(c, server_key) : NULL;
    unsigned at;

    if (!e) {
        if (c)
            c->counts.unknown_servers++;
        return;
    }
    at = place_of(&e->regard, member);
    if (word == AGREE_UNKNOWN && e->regard.heard[at].member != member)
        return; /* what is taken back was not kept */
    e->regard.heard[at].member = member;
    e->regard.heard[at].word = word;
    snprintf(e->regard.heard[at].why, sizeof(e->regard.heard[at].why), STR_FMT, STR_ARG(why));
    judge(c, e);
}

/* --- our own traffic ----------------------------------------------------------------------------
 */

static uint64_t
responses_of(const struct entry *e)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < e->live->fleet->n_workers; i++) {
        const struct server_counters *n = &e->s.counters[i];

        sum +=
            stat_get(&n->responses_2xx) + stat_get(&n->responses_3xx) + stat_get(&n->responses_4xx);
    }
    return sum;
}

static void
look_at_traffic(struct entry *e, mc_ns now)
{
    struct regard *r = &e->regard;
    uint64_t responses = responses_of(e);
    uint32_t fails = atomic_load_explicit(&e->s.fails, memory_order_relaxed);

    if (responses != r->responses)
        r->success_at = now;
    if (fails != r->fails)
        r->failure_at = fails > 0 ? now : 0;
    else if (responses != r->responses && fails == 0)
        r->failure_at = 0;
    r->responses = responses;
    r->fails = fails;
}

/* Somebody says that it is down: what follows may change as time passes. */
static bool
is_spoken_of(const struct entry *e)
{
    const struct regard *r = &e->regard;

    for (unsigned i = 0; i < REGARD_HEARD; i++)
        if (r->heard[i].word == AGREE_DOWN)
            return true;
    return r->own == AGREE_DOWN;
}

static void
on_sweep(struct timer *t)
{
    struct company *c = container_of(t, struct company, sweep);
    mc_ns now = now_of(c);

    for (unsigned i = 0; i < c->n_names; i++) {
        look_at_traffic(c->names[i].entry, now);
        if (is_spoken_of(c->names[i].entry))
            judge(c, c->names[i].entry);
    }
    loop_timer_set(c->fleet->loop, t, now + SWEEP_NS);
}

/* --- members and servers ------------------------------------------------------------------------
 */

static void
take_word_back(struct company *c, struct entry *e)
{
    if (e->regard.own != AGREE_UNKNOWN)
        c->hooks.tell(c->hooks.arg, &e->s, AGREE_UNKNOWN, "");
    e->regard.own = AGREE_UNKNOWN;
}

static void
settle_owner(struct company *c, struct entry *e)
{
    bool was = e->regard.mine;

    choose_owners(c, e);
    e->regard.mine = is_owner(&e->regard, c->id);
    c->counts.owned += e->regard.mine;
    /* without a check nobody would correct it */
    if (!e->regard.mine || e->check.kind == POOL_CHECK_NONE)
        take_word_back(c, e);
    if (e->regard.mine != was)
        care_owner_changed(e);
    judge(c, e);
}

static void
settle_owners(struct company *c)
{
    c->counts.owned = 0;
    c->fleet->n_checked = 0; /* first checks are spread anew: those taken over come soon */
    for (unsigned i = 0; i < c->n_names; i++)
        settle_owner(c, c->names[i].entry);
}

static int
by_id(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* False: they are who they were. */
static bool
take_members(struct company *c, const uint64_t *others, unsigned n)
{
    uint64_t *member = mc_alloc((n + 1) * sizeof(*member));
    bool same;

    if (n > 0)
        memcpy(member, others, n * sizeof(*member));
    member[n] = c->id;
    qsort(member, n + 1, sizeof(*member), by_id);
    same = n + 1 == c->n_members && memcmp(member, c->member, (n + 1) * sizeof(*member)) == 0;
    free(c->member);
    c->member = member;
    c->n_members = n + 1;
    return !same;
}

void
company_set_members(struct fleet *f, const uint64_t *others, unsigned n)
{
    if (!take_members(f->company, others, n))
        return;
    settle_owners(f->company);
    brains_members(f->brains, others, n);
}

void
company_member_restarted(struct fleet *f, uint64_t member)
{
    brains_forget(f->brains, member);
}

void
company_dropped(struct entry *e)
{
    const struct regard *r = &e->regard;

    /* what it has served was not served since it came back */
    e->regard = (struct regard){.responses = r->responses, .fails = r->fails};
}

static unsigned
count_members(const struct fleet *f)
{
    unsigned n = 0;

    for (unsigned i = 0; i < f->n_adopted; i++)
        n += f->adopted[i]->n_members;
    return n;
}

void
company_adopted(struct fleet *f)
{
    struct company *c = f->company;

    if (!c)
        return;
    c->names = mc_realloc(c->names, (count_members(f) + 1) * sizeof(*c->names));
    c->n_names = 0;
    for (unsigned i = 0; i < f->n_adopted; i++)
        for (unsigned k = 0; k < f->adopted[i]->n_members; k++) {
            struct entry *e = f->adopted[i]->members[k];

            e->regard.key = company_server_key(&e->s);
            c->names[c->n_names++] = (struct company_name){e->regard.key, e};
        }
    qsort(c->names, c->n_names, sizeof(*c->names), by_key);
    settle_owners(c);
}

void
company_limit(struct server *s, uint32_t share)
{
    struct entry *e = entry_of(s);

    if (share != e->conf_max)
        open_limit(e, share, e->agent_max);
}

/* --- load ---------------------------------------------------------------------------------------
 */

void
company_recv(struct fleet *f, uint64_t member, mc_ns skew, const void *bytes, size_t n)
{
    struct company *c = f->company;
    struct mind *m = c ? brains_find(f->brains, share_wire_pool(bytes, n)) : NULL;
    struct share_msg msg;

    if (!m) {
        if (c)
            c->counts.unknown_pools++;
        return;
    }
    if (share_wire_get(&c->wire, m->know->map, member, bytes, n, &msg) != SHARE_WIRE_F_NONE) {
        c->counts.pieces_refused++;
        return;
    }
    mind_hear(m, &msg, skew);
}

void
company_counts(const struct fleet *f, struct company_counts *out)
{
    *out = f->company ? f->company->counts : (struct company_counts){0};
    if (f->company)
        out->unknown_servers += f->company->wire.n_unknown;
}

/* --- birth and death ----------------------------------------------------------------------------
 */

void
company_join(struct fleet *f, const struct company_conf *conf)
{
    struct company *c = mc_alloc(sizeof(*c));

    MC_ASSERT(!f->company && f->n_adopted == 0 && f->loop);
    c->fleet = f;
    c->hooks = conf->hooks;
    c->id = conf->id;
    c->boot = conf->boot;
    c->bytes_per_s = conf->bytes_per_s;
    c->sweep.fn = on_sweep;
    f->company = c;
    company_set_members(f, NULL, 0);
    on_sweep(&c->sweep);
}

void
company_free(struct company **cp)
{
    struct company *c = *cp;

    if (!c)
        return;
    *cp = NULL;
    loop_timer_clear(c->fleet->loop, &c->sweep);
    free(c->member);
    free(c->names);
    free(c);
}
