/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts.c - what is known, and whose it is; see facts.h.
 */
#include "cluster/facts_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/among.h"
#include "base/check.h"

#define SWEEP_NS   MC_SEC
/* A second of bandwidth may go out at once in a quarter of a second's bursts, a few messages at
 * least. */
#define BURST_S    0.25

/* What others hold of an owner may be more than it holds itself: their tombstones differ in age. */
#define SLACK(max) ((max) + (max) / 4)

/* --- items --------------------------------------------------------------------------------------
 */

static bool
is_live(const struct item *i)
{
    return i->value != NULL;
}

static void
report(struct facts *f, const struct owner *o, const struct item *i, mc_ns age_ns)
{
    if (f->conf.on_fact && o != f->self)
        f->conf.on_fact(f->conf.arg, o->id, (struct str){i->key, i->key_n}, i->value, i->n, age_ns);
}

static void
set_value(struct owner *o, struct item *i, const void *value, size_t n)
{
    o->n_live += (value != NULL) - is_live(i);
    o->bytes += n - i->n;
    i->n = n;
    if (!value || n > i->cap || !i->value) {
        free(i->value);
        i->value = value ? mc_alloc(n + 1) : NULL;
        i->cap = value ? n + 1 : 0;
    }
    if (n > 0)
        memcpy(i->value, value, n);
}

static bool
has_room(struct facts *f, const struct owner *o, const struct item *old, struct str key, size_t n)
{
    bool ours = o == f->self;
    size_t items = ours ? f->conf.facts_max : SLACK((size_t)f->conf.facts_max);
    size_t bytes = ours ? f->conf.bytes_max : SLACK(f->conf.bytes_max);
    size_t grows = old ? (n > old->n ? n - old->n : 0) : key.n + n;

    /* what does not grow is always taken: a deletion makes room */
    return (old || o->items.n < items) && (grows == 0 || o->bytes + grows <= bytes);
}

struct item *
facts_store(struct facts *f, struct owner *o, struct str key, const void *value, size_t n)
{
    struct item *i = map_get(&o->items, key);

    if (!has_room(f, o, i, key, n)) {
        f->counters.refused++;
        return NULL;
    }
    if (!i) {
        i = mc_alloc(sizeof(*i) + key.n + 1);
        list_init(&i->link);
        memcpy(i->key, key.p, key.n);
        i->key_n = key.n;
        o->bytes += key.n;
        map_put(&o->items, key, i);
    }
    set_value(o, i, value, n);
    i->doubt_ns = 0;
    return i;
}

static void
drop_item(struct facts *f, struct owner *o, struct item *i)
{
    bool was_live = is_live(i);

    set_value(o, i, NULL, 0);
    if (was_live)
        report(f, o, i, 0);
    o->bytes -= i->key_n;
    map_remove(&o->items, (struct str){i->key, i->key_n});
    list_remove(&i->link);
    free(i);
}

/* --- owners -------------------------------------------------------------------------------------
 */

struct owner *
facts_owner(const struct facts *f, uint64_t id)
{
    for (unsigned i = 0; i < f->n_owners; i++)
        if (f->owner[i]->id == id)
            return f->owner[i];
    return NULL;
}

static struct owner *
add_owner(struct facts *f, uint64_t id)
{
    struct owner *o;
    unsigned at = f->n_owners;

    if (f->n_owners == f->conf.owners_max) {
        f->counters.refused++;
        return NULL;
    }
    o = mc_alloc(sizeof(*o));
    o->id = id;
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
        list_init(&o->stream[u].items);
    for (; at > 0 && f->owner[at - 1]->id > id; at--)
        f->owner[at] = f->owner[at - 1];
    f->owner[at] = o;
    f->n_owners++;
    return o;
}

static void
forget_all(struct facts *f, struct owner *o)
{
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++) {
        LIST_FOREACH_SAFE (l, next, &o->stream[u].items)
            drop_item(f, o, LIST_ENTRY(l, struct item, link));
        o->stream[u].upto = o->stream[u].swept = 0;
    }
}

static void
free_owner(struct owner *o)
{
    map_free(&o->items);
    free(o);
}

static void
remove_owner(struct facts *f, unsigned at)
{
    struct owner *o = f->owner[at];

    forget_all(f, o);
    free_owner(o);
    memmove(&f->owner[at], &f->owner[at + 1], (--f->n_owners - at) * sizeof(f->owner[0]));
}

void
facts_restart(struct facts *f, struct owner *o, uint64_t epoch)
{
    f->counters.restarts += o->epoch != 0;
    forget_all(f, o);
    o->epoch = epoch;
}

void
facts_raise(struct facts *f, uint64_t epoch, mc_ns now)
{
    struct owner *o = f->self;

    f->counters.raised++;
    o->epoch = epoch + 1;
    f->version = 0;
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++) {
        LIST_FOREACH_SAFE (l, next, &o->stream[u].items) {
            struct item *i = LIST_ENTRY(l, struct item, link);

            i->version = 0;
            if (!is_live(i))
                drop_item(f, o, i);
        }
        list_splice(&f->untold[u], &o->stream[u].items);
        o->stream[u].upto = o->stream[u].swept = 0;
    }
    f->batch_at = now;
    f->echoes = FACTS_ECHOES;
    f->echo_at = now;
}

/* --- ours ---------------------------------------------------------------------------------------
 */

/* What waits already keeps its place. */
static void
make_untold(struct facts *f, struct item *i, enum facts_urgency u, mc_ns now)
{
    bool waits = i->version == 0 && !list_empty(&i->link);

    i->set_ns = now;
    i->urgency = u;
    i->version = 0;
    if (!waits) {
        list_remove(&i->link);
        list_push_back(&f->untold[u], &i->link);
    }
    if (f->batch_at == MC_NEVER_NS)
        f->batch_at = now + f->conf.batch_ns;
}

enum mc_err
facts_set(struct facts *f, struct str key, enum facts_urgency u, const void *value, size_t n,
          mc_ns now)
{
    struct item *i;

    MC_CHECK(f, FACTS_MAGIC);
    MC_ASSERT(u < FACTS_N_URGENCIES);
    if (key.n == 0 || key.n > FACTS_KEY_MAX || n > FACTS_VALUE_MAX)
        return MC_ERANGE;
    i = map_get(&f->self->items, key);
    if (i && i->urgency != u)
        return MC_EINVAL;
    if (i && is_live(i) && i->n == n && (n == 0 || memcmp(i->value, value, n) == 0))
        return MC_OK;
    i = facts_store(f, f->self, key, value ? value : "", n);
    if (!i)
        return MC_EFULL;
    make_untold(f, i, u, now);
    return MC_OK;
}

enum mc_err
facts_del(struct facts *f, struct str key, mc_ns now)
{
    struct item *i = map_get(&f->self->items, key);

    if (!i || !is_live(i))
        return MC_ENOENT;
    facts_store(f, f->self, key, NULL, 0);
    make_untold(f, i, i->urgency, now);
    return MC_OK;
}

/* --- reading ------------------------------------------------------------------------------------
 */

static void
show(const struct owner *o, const struct item *i, mc_ns now, struct fact *out)
{
    *out = (struct fact){.owner = o->id,
                         .key = {i->key, i->key_n},
                         .value = i->value,
                         .n = i->n,
                         .urgency = i->urgency,
                         .age_ns = now - i->set_ns,
                         .dead = o->gone};
}

bool
facts_get(const struct facts *f, uint64_t owner, struct str key, mc_ns now, struct fact *out)
{
    const struct owner *o = facts_owner(f, owner);
    const struct item *i = o ? map_get(&o->items, key) : NULL;

    if (!i || !is_live(i))
        return false;
    show(o, i, now, out);
    return true;
}

bool
facts_next(const struct facts *f, struct facts_at *at, mc_ns now, struct fact *out)
{
    for (; at->owner < f->n_owners; at->owner++, at->slot = 0) {
        const struct owner *o = f->owner[at->owner];
        void *i;

        while (map_next(&o->items, &at->slot, NULL, &i)) {
            if (!is_live(i))
                continue;
            show(o, i, now, out);
            return true;
        }
    }
    return false;
}

unsigned
facts_count(const struct facts *f)
{
    unsigned n = 0;

    for (unsigned i = 0; i < f->n_owners; i++)
        n += f->owner[i]->n_live;
    return n;
}

/* --- members ------------------------------------------------------------------------------------
 */

static void
set_gone(struct owner *o, mc_ns now)
{
    if (!o->gone)
        o->gone_ns = now;
    o->gone = true;
}

/* Who is new is told what we have by the next exchange, and learns by the echo that we are there.
 */
static void
greet(struct facts *f, mc_ns now)
{
    f->echoes = FACTS_ECHOES;
    f->echo_at = now;
    if (f->exchange_at > now + f->conf.batch_ns)
        f->exchange_at = now + f->conf.batch_ns;
}

void
facts_set_members(struct facts *f, const uint64_t *ids, unsigned n, mc_ns now)
{
    bool grew = false;

    free(f->member);
    f->member = mc_alloc((n + 1) * sizeof(*f->member));
    f->n_members = 0;
    for (unsigned i = 0; i < n; i++) {
        struct owner *o = facts_owner(f, ids[i]);

        grew |= !o || o->gone;
        if (!o)
            o = add_owner(f, ids[i]);
        if (!o || o == f->self)
            continue;
        o->gone = false;
        f->member[f->n_members++] = ids[i];
    }
    for (unsigned i = 0; i < f->n_owners; i++)
        if (f->owner[i] != f->self && !is_among(f->owner[i]->id, ids, n))
            set_gone(f->owner[i], now);
    if (grew)
        greet(f, now);
}

/* --- time ---------------------------------------------------------------------------------------
 */

static void
sweep_stream(struct facts *f, struct owner *o, struct stream *s, mc_ns now)
{
    LIST_FOREACH_SAFE (l, next, &s->items) {
        struct item *i = LIST_ENTRY(l, struct item, link);
        bool old = !is_live(i) && now - i->set_ns >= f->conf.tombstone_ns;
        bool doubted = i->doubt_ns != 0 && now - i->doubt_ns >= f->conf.gone_ns;

        if ((!old && !doubted) || i->version > s->upto)
            continue;
        if (s->swept < i->version)
            s->swept = i->version;
        drop_item(f, o, i);
    }
}

static void
sweep(struct facts *f, mc_ns now)
{
    for (unsigned at = f->n_owners; at-- > 0;) {
        struct owner *o = f->owner[at];

        if (o->gone && now - o->gone_ns >= f->conf.gone_ns) {
            f->counters.aged_out++;
            remove_owner(f, at);
            continue;
        }
        for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
            sweep_stream(f, o, &o->stream[u], now);
    }
}

mc_ns
facts_due(const struct facts *f)
{
    return mc_sooner(mc_sooner(f->batch_at, f->exchange_at),
                     mc_sooner(f->echoes ? f->echo_at : MC_NEVER_NS, f->sweep_at));
}

mc_ns
facts_tick(struct facts *f, mc_ns now)
{
    MC_CHECK(f, FACTS_MAGIC);
    if (now >= f->batch_at)
        facts_tell_changes(f, now);
    if (f->echoes && now >= f->echo_at)
        facts_echo(f, now);
    if (now >= f->exchange_at)
        facts_exchange(f, now);
    if (now >= f->sweep_at) {
        sweep(f, now);
        f->sweep_at = now + mc_sooner(SWEEP_NS, f->conf.gone_ns);
    }
    return facts_due(f);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void
fill_defaults(struct facts_conf *c)
{
#define DEFAULT(field, value) c->field = c->field ? c->field : (value)
    DEFAULT(batch_ns, 10 * MC_MS);
    DEFAULT(exchange_ns, MC_SEC);
    DEFAULT(gone_ns, 10 * MC_SEC);
    DEFAULT(tombstone_ns, 60 * MC_SEC);
    DEFAULT(owners_max, 256);
    DEFAULT(facts_max, 8192);
    DEFAULT(bytes_max, 2 << 20);
    DEFAULT(bytes_per_s, 1000000);
#undef DEFAULT
}

struct facts *
facts_new(const struct facts_conf *conf, mc_ns now)
{
    struct facts *f = mc_alloc(sizeof(*f));
    double per_s;

    MC_ASSERT(conf->id != 0 && conf->epoch != 0 && conf->send);
    f->magic = FACTS_MAGIC;
    f->conf = *conf;
    fill_defaults(&f->conf);
    f->owner = mc_alloc(f->conf.owners_max * sizeof(*f->owner));
    f->want = mc_alloc(f->conf.owners_max * sizeof(*f->want));
    f->self = add_owner(f, conf->id);
    f->self->epoch = conf->epoch;
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
        list_init(&f->untold[u]);
    rng_seed(&f->rng, conf->seed);
    per_s = (double)f->conf.bytes_per_s;
    rate_init(&f->changes, per_s * 3 / 4, per_s * 3 / 4 * BURST_S, now);
    rate_init(&f->answers, per_s / 4, per_s / 4 * BURST_S, now);
    f->batch_at = MC_NEVER_NS;
    f->exchange_at = now + (mc_ns)(rng_unit(&f->rng) * (double)f->conf.exchange_ns);
    f->sweep_at = now + mc_sooner(SWEEP_NS, f->conf.gone_ns);
    return f;
}

void
facts_free(struct facts **fp)
{
    struct facts *f = *fp;

    if (!f)
        return;
    MC_CHECK(f, FACTS_MAGIC);
    f->conf.on_fact = NULL;
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
        LIST_FOREACH_SAFE (l, next, &f->untold[u])
            drop_item(f, f->self, LIST_ENTRY(l, struct item, link));
    while (f->n_owners > 0)
        remove_owner(f, f->n_owners - 1);
    free(f->owner);
    free(f->want);
    free(f->member);
    f->magic = 0;
    free(f);
    *fp = NULL;
}

const struct facts_counters *
facts_counters(const struct facts *f)
{
    return &f->counters;
}
