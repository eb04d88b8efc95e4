/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts_hear.c - what is received, whatever it is; see facts.h.
 */
#include "cluster/facts_priv.h"

#include <string.h>

#include "base/check.h"

#define RECORDS_MAX 255

/* The next record of a message; false when the message ends before. */
static bool
next_record(struct pack_in *in, struct pack_in *record)
{
    size_t n = unpack_u16(in);
    const uint8_t *p = unpack_bytes(in, n);

    *record = (struct pack_in){.p = p, .n = n};
    return !in->bad;
}

/* --- digests and questions ----------------------------------------------------------------------
 */

struct digest {
    uint64_t owner, epoch;
    uint64_t upto[FACTS_N_URGENCIES], swept[FACTS_N_URGENCIES];
};

static bool
read_digest(struct pack_in *in, struct digest *d)
{
    struct pack_in r;

    if (!next_record(in, &r))
        return false;
    d->owner = unpack_u64(&r);
    d->epoch = unpack_u64(&r);
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++) {
        d->upto[u] = unpack_u64(&r);
        d->swept[u] = unpack_u64(&r);
    }
    return !r.bad;
}

static void
follow_epoch(struct facts *f, struct owner *o, uint64_t epoch, uint64_t upto, mc_ns now)
{
    if (o == f->self) {
        if (epoch > o->epoch || (epoch == o->epoch && upto > f->version))
            facts_raise(f, epoch, now);
    } else if (epoch > o->epoch) {
        facts_restart(f, o, epoch);
    }
}

static bool
is_behind(const struct owner *o, const struct digest *d)
{
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
        if (o->epoch == d->epoch && o->stream[u].upto < d->upto[u])
            return true;
    return false;
}

/* Facts of the dead are not passed on. */
static unsigned
want(struct facts *f, unsigned n, const struct owner *o, const struct digest *d)
{
    struct want *w = &f->want[n];
    bool any;

    if (o->gone || o->epoch == 0 || n == f->conf.owners_max)
        return n;
    *w = (struct want){.owner = o, .epoch = d->epoch < o->epoch};
    any = w->epoch;
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++) {
        w->base[u] = w->epoch ? 0 : d->upto[u];
        w->swept[u] = w->epoch ? 0 : d->swept[u];
        any |= w->base[u] < o->stream[u].upto;
    }
    return any ? n + 1 : n;
}

/* What the sender did not name, it does not know. */
static unsigned
want_unnamed(struct facts *f, unsigned n, uint64_t first, uint64_t last, const uint64_t *named,
             unsigned n_named)
{
    for (unsigned i = 0; i < f->n_owners; i++) {
        const struct owner *o = f->owner[i];
        bool is_named = o->id < first || o->id > last;

        for (unsigned k = 0; k < n_named && !is_named; k++)
            is_named = named[k] == o->id;
        if (!is_named)
            n = want(f, n, o, &(struct digest){.owner = o->id});
    }
    return n;
}

static bool
hear_digest(struct facts *f, uint64_t from, struct pack_in *in, mc_ns now)
{
    uint64_t first = unpack_u64(in), last = unpack_u64(in), named[RECORDS_MAX];
    struct owner *lacks[RECORDS_MAX];
    unsigned n = unpack_u8(in), n_lacks = 0, n_want = 0;
    struct digest d;

    for (unsigned i = 0; i < n; i++) {
        struct owner *o;

        if (!read_digest(in, &d))
            return false;
        named[i] = d.owner;
        o = facts_owner(f, d.owner);
        if (!o) {
            f->counters.strangers++;
            continue;
        }
        for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
            follow_epoch(f, o, d.epoch, d.upto[u], now);
        if (o != f->self && !o->gone && is_behind(o, &d))
            lacks[n_lacks++] = o;
        n_want = want(f, n_want, o, &d);
    }
    if (in->bad)
        return false;
    n_want = want_unnamed(f, n_want, first, last, named, n);
    facts_ask_all(f, from, lacks, n_lacks, now);
    facts_answer(f, from, n_want, now);
    return true;
}

static bool
hear_ask(struct facts *f, uint64_t from, struct pack_in *in, mc_ns now)
{
    unsigned n = unpack_u8(in), n_want = 0;
    bool whole = !in->bad;
    struct digest d;

    for (unsigned i = 0; i < n && whole; i++) {
        const struct owner *o;

        whole = read_digest(in, &d);
        o = whole ? facts_owner(f, d.owner) : NULL;
        if (o)
            n_want = want(f, n_want, o, &d);
        else
            f->counters.strangers += whole;
    }
    facts_answer(f, from, n_want, now);
    return whole;
}

/* --- deltas -------------------------------------------------------------------------------------
 */

struct section {
    uint64_t owner, epoch, base, upto, swept, known;
    unsigned urgency, n;
};

/* Puts an item where its version belongs: nearly always at the end. */
static void
place_item(struct stream *s, struct item *i)
{
    struct list *at = s->items.prev;

    while (at != &s->items && LIST_ENTRY(at, struct item, link)->version > i->version)
        at = at->prev;
    list_push_front(at, &i->link);
}

/* The sender may not have heard of a deletion that we have forgotten. */
static bool
is_outdated(const struct stream *s, const struct section *sec)
{
    return sec->known < s->swept;
}

static void
take_fact(struct facts *f, struct owner *o, const struct section *sec, uint64_t version,
          mc_ns age_ns, struct str key, const void *value, size_t n, mc_ns now)
{
    struct stream *s = &o->stream[sec->urgency];
    struct item *i = map_get(&o->items, key);
    bool was_live = i && i->value;

    if ((i && i->version >= version) || (is_outdated(s, sec) && version <= s->swept)) {
        f->counters.stale++;
        if (i && i->version == version && !is_outdated(s, sec))
            i->doubt_ns = 0;
        return;
    }
    i = facts_store(f, o, key, value, n);
    if (!i)
        return;
    f->counters.applied++;
    list_remove(&i->link);
    i->version = version;
    i->urgency = sec->urgency;
    i->set_ns = now - age_ns;
    place_item(s, i);
    if (f->conf.on_fact && (value || was_live))
        f->conf.on_fact(f->conf.arg, o->id, key, value, n, age_ns);
}

/* False: it cannot be read. */
static bool
read_fact(struct facts *f, struct owner *o, const struct section *s, struct pack_in *in,
          uint64_t *version, mc_ns now)
{
    struct pack_in r;
    uint64_t step, age_ms;
    unsigned flags;
    struct str key, value;

    if (!next_record(in, &r))
        return false;
    step = unpack_varint(&r);
    flags = unpack_u8(&r);
    age_ms = unpack_varint(&r);
    key = unpack_str(&r, FACTS_KEY_MAX);
    value = unpack_str(&r, FACTS_VALUE_MAX);
    if (r.bad || key.n == 0 || step == 0 || step > s->upto - *version || age_ms > UINT32_MAX)
        return false;
    *version += step;
    if (o)
        take_fact(f, o, s, *version, (mc_ns)age_ms * MC_MS, key,
                  flags & FACTS_F_DELETED ? NULL : value.p, flags & FACTS_F_DELETED ? 0 : value.n,
                  now);
    return true;
}

/* Deletions may have been forgotten that we never heard of. */
static bool
missed_deletions(const struct stream *s, const struct section *sec)
{
    return sec->swept > s->upto && sec->swept > s->swept;
}

/* The stream is told from its beginning.  What we have of it and is not named again is dead. */
static void
start_over(struct stream *s, const struct section *sec, mc_ns now)
{
    LIST_FOREACH (l, &s->items) {
        struct item *i = LIST_ENTRY(l, struct item, link);

        if (i->doubt_ns == 0)
            i->doubt_ns = now;
    }
    s->upto = 0;
    s->swept = sec->known;
}

/* False: there is something missing before it. */
static bool
advance(struct stream *s, const struct section *sec)
{
    if (is_outdated(s, sec))
        return true;
    if (missed_deletions(s, sec) || sec->base > s->upto)
        return false;
    if (s->upto < sec->upto)
        s->upto = sec->upto;
    if (s->swept < sec->swept)
        s->swept = sec->swept;
    return true;
}

/* Whose section it is, if we take it. */
static struct owner *
section_owner(struct facts *f, const struct section *s, mc_ns now)
{
    struct owner *o = facts_owner(f, s->owner);

    if (!o) {
        f->counters.strangers++;
        return NULL;
    }
    follow_epoch(f, o, s->epoch, s->upto, now);
    return o != f->self && s->epoch == o->epoch && s->urgency < FACTS_N_URGENCIES ? o : NULL;
}

static struct section
read_section(struct pack_in *in)
{
    struct section s;

    s.owner = unpack_u64(in);
    s.epoch = unpack_u64(in);
    s.urgency = unpack_u8(in);
    s.base = unpack_u64(in);
    s.upto = unpack_u64(in);
    s.swept = unpack_u64(in);
    s.known = unpack_u64(in);
    s.n = unpack_u16(in);
    return s;
}

/* A section of an owner that we do not follow is read all the same, for its form. */
static bool
hear_section(struct facts *f, uint64_t from, struct pack_in *in, mc_ns now)
{
    struct section s = read_section(in);
    uint64_t version = s.base;
    struct owner *o;

    if (in->bad || s.upto < s.base)
        return false;
    o = section_owner(f, &s, now);
    if (o && s.base == 0 && missed_deletions(&o->stream[s.urgency], &s))
        start_over(&o->stream[s.urgency], &s, now);
    for (unsigned i = 0; i < s.n; i++)
        if (!read_fact(f, o, &s, in, &version, now))
            return false;
    if (o && !advance(&o->stream[s.urgency], &s)) {
        f->counters.gaps++;
        facts_ask_all(f, from, &o, 1, now);
    }
    return true;
}

static bool
hear_delta(struct facts *f, uint64_t from, struct pack_in *in, mc_ns now)
{
    unsigned n = unpack_u8(in);

    for (unsigned i = 0; i < n; i++) {
        struct pack_in r;

        if (!next_record(in, &r) || !hear_section(f, from, &r, now))
            return false;
    }
    return !in->bad;
}

/* --- any ----------------------------------------------------------------------------------------
 */

static bool (*const hear[])(struct facts *, uint64_t from, struct pack_in *, mc_ns now) = {
    [FACTS_DIGEST] = hear_digest,
    [FACTS_ASK] = hear_ask,
    [FACTS_DELTA] = hear_delta,
};

void
facts_recv(struct facts *f, uint64_t from, const void *bytes, size_t n, mc_ns now)
{
    struct pack_in in = {.p = bytes, .n = n};
    unsigned format = unpack_u8(&in), kind = unpack_u8(&in);
    const struct owner *o = facts_owner(f, from);

    MC_CHECK(f, FACTS_MAGIC);
    if (!o || o->gone || o == f->self) {
        f->counters.strangers++;
        return;
    }
    f->counters.received++;
    if (format != FACTS_FORMAT || kind >= MC_COUNT(hear) || !hear[kind] ||
        !hear[kind](f, from, &in, now))
        f->counters.malformed++;
}
