/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts_tell.c - what is sent: changes, echoes, digests, questions and answers; see facts.h.
 */
#include "cluster/facts_priv.h"

#include <string.h>

#include "base/check.h"

#define ECHO_NS     (100 * MC_MS)
#define ASK_NS      (50 * MC_MS) /* between questions about one owner */
#define RECORDS_MAX 127
#define AGE_MS_MAX  UINT32_MAX

/* The largest fact fits a letter of its own: head, section and fact with the longest varints. */
static_assert(3 + 53 + 2 + 10 + 1 + 5 + 1 + FACTS_KEY_MAX + 2 + FACTS_VALUE_MAX <= FACTS_DATAGRAM,
              "a fact fits a message");

/* --- letters ------------------------------------------------------------------------------------
 */

static struct letter *
letter_start(struct facts *f, enum facts_kind kind, uint64_t to, struct rate *rate)
{
    struct letter *l = &f->letter;

    l->o = (struct pack_out){.p = l->room, .cap = sizeof(l->room)};
    l->to = to;
    l->rate = rate;
    pack_u8(&l->o, FACTS_FORMAT);
    pack_u8(&l->o, (uint8_t)kind);
    return l;
}

/* Ends the head: records follow. */
static void
letter_head_done(struct letter *l)
{
    l->at_n = l->o.n;
    pack_u8(&l->o, 0);
}

static bool
is_empty(const struct letter *l)
{
    return l->room[l->at_n] == 0;
}

static void
send_to(struct facts *f, uint64_t to, const struct letter *l, mc_ns now)
{
    f->counters.sent++;
    f->counters.sent_bytes += l->o.n;
    rate_owe(l->rate, (double)l->o.n, now);
    f->conf.send(f->conf.arg, to, l->room, l->o.n);
}

/* Sends it and makes room behind the head. */
static void
letter_send(struct facts *f, struct letter *l, mc_ns now)
{
    if (l->to != 0)
        send_to(f, l->to, l, now);
    else
        for (unsigned i = 0; i < f->n_members; i++)
            send_to(f, f->member[i], l, now);
    l->o.n = l->at_n;
    pack_u8(&l->o, 0);
}

/* Opens a record; where its length stands. */
static size_t
record_open(struct letter *l)
{
    size_t at = l->o.n;

    pack_u16(&l->o, 0);
    return at;
}

static void
patch_u16(struct letter *l, size_t at, size_t v)
{
    l->room[at] = (uint8_t)(v >> 8);
    l->room[at + 1] = (uint8_t)v;
}

static void
patch_u64(struct letter *l, size_t at, uint64_t v)
{
    struct pack_out o = {.p = l->room + at, .cap = 8};

    pack_u64(&o, v);
}

static void
undo_to(struct letter *l, size_t at)
{
    l->o.n = at;
    l->o.bad = false;
}

/* False: no room, and nothing of it is left. */
static bool
record_close(struct letter *l, size_t at)
{
    if (l->o.bad) {
        undo_to(l, at);
        return false;
    }
    patch_u16(l, at, l->o.n - at - 2);
    return true;
}

/* The same for a record of the letter itself, which counts. */
static bool
letter_close(struct letter *l, size_t at)
{
    if (l->room[l->at_n] == RECORDS_MAX)
        l->o.bad = true;
    if (!record_close(l, at))
        return false;
    l->room[l->at_n]++;
    return true;
}

/* --- sections -----------------------------------------------------------------------------------
 */

struct section {
    size_t at, at_upto, at_n;
    unsigned n;
    uint64_t last; /* version of its last fact, or base */
};

/* False: no room. */
static bool
section_open(struct letter *l, struct section *s, const struct owner *o, unsigned u, uint64_t base)
{
    s->at = record_open(l);
    pack_u64(&l->o, o->id);
    pack_u64(&l->o, o->epoch);
    pack_u8(&l->o, (uint8_t)u);
    pack_u64(&l->o, base);
    s->at_upto = l->o.n;
    pack_u64(&l->o, base);
    pack_u64(&l->o, o->stream[u].swept);
    pack_u64(&l->o, facts_known(&o->stream[u]));
    s->at_n = l->o.n;
    pack_u16(&l->o, 0);
    s->n = 0;
    s->last = base;
    if (l->o.bad || l->room[l->at_n] == RECORDS_MAX) {
        undo_to(l, s->at);
        return false;
    }
    return true;
}

static bool
section_add(struct letter *l, struct section *s, const struct item *i, uint64_t version, mc_ns now)
{
    size_t at = record_open(l);
    uint64_t age_ms = now > i->set_ns ? (uint64_t)((now - i->set_ns) / MC_MS) : 0;

    pack_varint(&l->o, version - s->last);
    pack_u8(&l->o, i->value ? 0 : FACTS_F_DELETED);
    pack_varint(&l->o, age_ms < AGE_MS_MAX ? age_ms : AGE_MS_MAX);
    pack_str(&l->o, (struct str){i->key, i->key_n});
    pack_str(&l->o, (struct str){(const char *)i->value, i->n});
    if (!record_close(l, at))
        return false;
    s->last = version;
    s->n++;
    return true;
}

static void
section_close(struct letter *l, struct section *s, uint64_t upto)
{
    patch_u64(l, s->at_upto, upto);
    patch_u16(l, s->at_n, s->n);
    letter_close(l, s->at); /* cannot fail: section_open() saw to it */
}

/* --- changes ------------------------------------------------------------------------------------
 */

/* A version each, in the order of waiting, for as many as fit into one section.  What gets a
 * version here is known to whoever knows all before it. */
static void
tell_section(struct facts *f, struct letter *l, struct section *s, unsigned u, mc_ns now)
{
    struct stream *stream = &f->self->stream[u];

    while (!list_empty(&f->untold[u])) {
        struct item *i = LIST_ENTRY(f->untold[u].next, struct item, link);

        if (!section_add(l, s, i, f->version + 1, now))
            break;
        i->version = ++f->version;
        stream->upto = i->version;
        list_remove(&i->link);
        list_push_back(&stream->items, &i->link);
    }
    if (s->n > 0)
        section_close(l, s, stream->upto);
    else
        undo_to(l, s->at);
}

static bool
may_go_on(struct facts *f, struct rate *rate, mc_ns now)
{
    if (rate_left(rate, now) > 0)
        return true;
    f->counters.held_back++;
    return false;
}

/* False: the bandwidth is used up. */
static bool
tell_stream_changes(struct facts *f, struct letter *l, unsigned u, mc_ns now)
{
    const struct stream *stream = &f->self->stream[u];

    while (!list_empty(&f->untold[u])) {
        struct section s;

        if (section_open(l, &s, f->self, u, stream->upto))
            tell_section(f, l, &s, u, now);
        if (list_empty(&f->untold[u]))
            break;
        letter_send(f, l, now);
        if (!may_go_on(f, &f->changes, now))
            return false;
    }
    return true;
}

void
facts_tell_changes(struct facts *f, mc_ns now)
{
    struct letter *l = letter_start(f, FACTS_DELTA, 0, &f->changes);
    bool all = may_go_on(f, &f->changes, now);

    letter_head_done(l);
    for (unsigned u = 0; u < FACTS_N_URGENCIES && all; u++)
        all = tell_stream_changes(f, l, u, now);
    if (!is_empty(l))
        letter_send(f, l, now);
    if (f->echoes == 0)
        f->echo_at = now + ECHO_NS;
    f->echoes = FACTS_ECHOES;
    f->batch_at = MC_NEVER_NS;
    if (!all) {
        mc_ns due = rate_due(&f->changes, 1, now);

        f->batch_at = due > now + f->conf.batch_ns ? due : now + f->conf.batch_ns;
    }
}

/* --- digests and questions ----------------------------------------------------------------------
 */

static bool
add_digest(struct letter *l, const struct owner *o)
{
    size_t at = record_open(l);

    pack_u64(&l->o, o->id);
    pack_u64(&l->o, o->epoch);
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++) {
        pack_u64(&l->o, o->stream[u].upto);
        pack_u64(&l->o, o->stream[u].swept);
    }
    return letter_close(l, at);
}

/* All owners known from the index `at` on, as many as fit; the index behind them.  `last`: the
 * greatest id it speaks for when it can speak for all. */
static unsigned
send_digest(struct facts *f, uint64_t to, uint64_t first, unsigned at, unsigned end, uint64_t last,
            mc_ns now)
{
    struct letter *l = letter_start(f, FACTS_DIGEST, to, &f->answers);
    size_t at_last;

    pack_u64(&l->o, first);
    at_last = l->o.n;
    pack_u64(&l->o, last);
    letter_head_done(l);
    while (at < end && add_digest(l, f->owner[at]))
        at++;
    if (at < end)
        patch_u64(l, at_last, f->owner[at]->id - 1);
    letter_send(f, l, now);
    return at;
}

static unsigned
index_of(const struct facts *f, const struct owner *o)
{
    unsigned i = 0;

    while (f->owner[i] != o)
        i++;
    return i;
}

void
facts_echo(struct facts *f, mc_ns now)
{
    unsigned at = index_of(f, f->self);

    send_digest(f, 0, f->self->id, at, at + 1, f->self->id, now);
    f->echoes--;
    f->echo_at = now + ECHO_NS;
}

void
facts_exchange(struct facts *f, mc_ns now)
{
    double part = 0.9 + 0.2 * rng_unit(&f->rng); /* so that members do not fall into step */
    uint64_t first = 0, to;

    f->exchange_at = now + (mc_ns)((double)f->conf.exchange_ns * part);
    if (f->n_members == 0)
        return;
    to = f->member[rng_below(&f->rng, f->n_members)];
    for (unsigned at = 0; at < f->n_owners;) {
        at = send_digest(f, to, first, at, f->n_owners, UINT64_MAX, now);
        if (at < f->n_owners)
            first = f->owner[at]->id;
    }
}

void
facts_ask_all(struct facts *f, uint64_t to, struct owner *const *lacks, unsigned n, mc_ns now)
{
    struct letter *l = letter_start(f, FACTS_ASK, to, &f->answers);

    letter_head_done(l);
    for (unsigned i = 0; i < n; i++) {
        if (lacks[i]->asked_ns != 0 && now - lacks[i]->asked_ns < ASK_NS)
            continue;
        if (add_digest(l, lacks[i])) /* what finds no room is asked for another time */
            lacks[i]->asked_ns = now;
    }
    if (is_empty(l))
        return;
    f->counters.asked++;
    letter_send(f, l, now);
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* The first item of a stream beyond base: the end of the list when there is none. */
static const struct list *
find_beyond(const struct stream *s, uint64_t base)
{
    const struct list *l = s->items.prev;

    while (l != &s->items && LIST_ENTRY(l, struct item, link)->version > base)
        l = l->prev;
    return l->next;
}

/* As much of a stream beyond *base as fits into the letter; true: all of it. */
static bool
answer_section(struct letter *l, const struct owner *o, unsigned u, uint64_t *base, mc_ns now)
{
    const struct stream *stream = &o->stream[u];
    const struct list *it = find_beyond(stream, *base);
    struct section s;

    if (!section_open(l, &s, o, u, *base))
        return false;
    for (; it != &stream->items; it = it->next) {
        const struct item *i = LIST_ENTRY(it, struct item, link);

        if (i->version > stream->upto) /* came before what precedes it: not for sure all there is */
            break;
        if (i->doubt_ns != 0 || section_add(l, &s, i, i->version, now))
            continue;
        *base = s.last;
        if (s.n > 0)
            section_close(l, &s, s.last);
        else
            undo_to(l, s.at);
        return false;
    }
    section_close(l, &s, stream->upto);
    return true;
}

/* Who may have missed deletions that we have forgotten is told all from the beginning. */
static bool
answer_stream(struct facts *f, struct letter *l, const struct want *w, unsigned u, mc_ns now)
{
    const struct stream *s = &w->owner->stream[u];
    uint64_t base = w->base[u];

    if ((base >= s->upto && !(w->epoch && u == 0)) || w->swept[u] > facts_known(s))
        return true;
    if (s->swept > base && s->swept > w->swept[u])
        base = 0;
    while (!answer_section(l, w->owner, u, &base, now)) {
        letter_send(f, l, now);
        if (!may_go_on(f, &f->answers, now))
            return false;
    }
    return true;
}

void
facts_answer(struct facts *f, uint64_t to, unsigned n, mc_ns now)
{
    struct letter *l = letter_start(f, FACTS_DELTA, to, &f->answers);
    bool all = n > 0 && may_go_on(f, &f->answers, now);

    letter_head_done(l);
    for (unsigned u = 0; u < FACTS_N_URGENCIES; u++)
        for (unsigned i = 0; i < n && all; i++)
            all = answer_stream(f, l, &f->want[i], u, now);
    if (!is_empty(l))
        letter_send(f, l, now);
}
