/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_net.c - words between members: news, and the search for what differs; see words.h.
 */
#include "cluster/words_priv.h"

#include <string.h>

#include "base/check.h"

#define TO_ALL           0
#define PARTS_ONCE       8 /* differing parts that one message leads to a look into */
#define RETELL_MAX       16
#define TOP              255
#define ASK_PART         0x4000 /* in ASK: + part, for all of its leaves */
#define EXCHANGE_SOON_NS (100 * MC_MS)

enum kind { TELL = 1, GIVE, ROOT, HASHES, ASK };

/* --- letters ------------------------------------------------------------------------------------
 */

struct letter {
    struct pack_out o;
    uint64_t to[RETELL_MAX];
    unsigned n_to; /* TO_ALL: all members */
    uint8_t room[WORDS_DATAGRAM];
};

#define N_AT 2 /* where a letter's number of records stands */

static void
letter_start(struct letter *l, enum kind kind)
{
    l->o = (struct pack_out){.p = l->room, .cap = sizeof(l->room)};
    pack_u8(&l->o, WORDS_FORMAT);
    pack_u8(&l->o, (uint8_t)kind);
}

static void
letter_send(struct words *w, struct letter *l, mc_ns now)
{
    unsigned n = l->n_to == TO_ALL ? w->n_members : l->n_to;

    MC_ASSERT(!l->o.bad);
    for (unsigned i = 0; i < n; i++) {
        w->counters.sent++;
        w->counters.sent_bytes += l->o.n;
        rate_owe(&w->rate, (double)l->o.n, now);
        w->conf.send(w->conf.arg, l->n_to == TO_ALL ? w->member[i] : l->to[i], l->room, l->o.n);
    }
}

static void
letter_to(struct letter *l, uint64_t to)
{
    l->to[0] = to;
    l->n_to = 1;
}

static bool
may_go_on(struct words *w, mc_ns now)
{
    if (rate_left(&w->rate, now) > 0)
        return true;
    w->counters.held_back++;
    return false;
}

/* --- words --------------------------------------------------------------------------------------
 */

void
words_pack(struct pack_out *o, const struct word *w)
{
    pack_u8(o, (uint8_t)w->say);
    pack_varint(o, w->weight);
    pack_varint(o, w->stamp.wall_ms);
    pack_varint(o, w->stamp.counter);
    pack_u64(o, w->stamp.node);
    pack_svarint(o, w->when_ms);
    pack_str(o, w->name);
    pack_str(o, w->who);
    pack_str(o, w->where);
}

/* False: not a word.  Texts point into what is read. */
static bool
unpack_word(struct pack_in *in, struct word *w)
{
    uint64_t weight, counter;

    w->say = unpack_u8(in);
    weight = unpack_varint(in);
    w->stamp.wall_ms = unpack_varint(in);
    counter = unpack_varint(in);
    w->stamp.node = unpack_u64(in);
    w->when_ms = unpack_svarint(in);
    w->name = unpack_str(in, WORDS_NAME_MAX);
    w->who = unpack_str(in, WORDS_WHO_MAX);
    w->where = unpack_str(in, WORDS_WHO_MAX);
    if (in->bad || weight > WORDS_WEIGHT_MAX || counter > UINT32_MAX ||
        w->stamp.wall_ms > WORDS_WALL_MAX || w->stamp.node == 0 || w->when_ms < 0)
        return false;
    w->weight = (uint32_t)weight;
    w->stamp.counter = (uint32_t)counter;
    return words_valid(w);
}

/* TELL and GIVE: a number of words, each behind its length. */
static void
start_words(struct letter *l, enum kind kind)
{
    letter_start(l, kind);
    pack_u8(&l->o, 0);
}

static bool
add_word(struct letter *l, const struct word *word)
{
    size_t at = l->o.n;

    pack_u16(&l->o, 0);
    words_pack(&l->o, word);
    if (l->o.bad || l->room[N_AT] == UINT8_MAX) {
        l->o.n = at;
        l->o.bad = false;
        return false;
    }
    l->room[at] = (uint8_t)((l->o.n - at - 2) >> 8);
    l->room[at + 1] = (uint8_t)(l->o.n - at - 2);
    l->room[N_AT]++;
    return true;
}

/* False: the bandwidth is used up, and the word did not go along. */
static bool
put_word(struct words *w, struct letter *l, const struct word *word, mc_ns now)
{
    if (add_word(l, word))
        return true;
    letter_send(w, l, now);
    start_words(l, (enum kind)l->room[1]);
    return may_go_on(w, now) && add_word(l, word);
}

static void
end_words(struct words *w, struct letter *l, mc_ns now)
{
    if (l->room[N_AT] > 0)
        letter_send(w, l, now);
}

/* --- news ---------------------------------------------------------------------------------------
 */

/* Some members at random, none twice. */
static void
draw_members(struct words *w, struct letter *l)
{
    unsigned want = w->conf.retell < RETELL_MAX ? w->conf.retell : RETELL_MAX;

    l->n_to = 0;
    for (unsigned i = 0; i < w->n_members && l->n_to < want; i++)
        /* each of the rest as likely as the others (Knuth, algorithm S) */
        if (rng_below(&w->rng, w->n_members - i) < want - l->n_to)
            l->to[l->n_to++] = w->member[i];
}

/* News that are due, ours or others', to whom the letter is for; false: the bandwidth is used up.
 */
static bool
tell_due(struct words *w, struct letter *l, bool ours, mc_ns now)
{
    start_words(l, TELL);
    LIST_FOREACH_SAFE (it, next, &w->news) {
        struct entry *e = LIST_ENTRY(it, struct entry, in_news);

        if (e->ours != ours || e->tell_at > now)
            continue;
        if (!put_word(w, l, &e->word, now))
            return false;
        e->tell_at = now + w->conf.again_ns;
        if (--e->tells == 0)
            list_remove(&e->in_news);
    }
    end_words(w, l, now);
    return true;
}

static mc_ns
next_news(const struct words *w)
{
    mc_ns at = MC_NEVER_NS;

    LIST_FOREACH (it, &w->news) {
        const struct entry *e = LIST_ENTRY(it, struct entry, in_news);

        if (e->tell_at < at)
            at = e->tell_at;
    }
    return at;
}

void
words_tell_news(struct words *w, mc_ns now)
{
    struct letter l = {.n_to = TO_ALL};

    if (may_go_on(w, now) && tell_due(w, &l, true, now)) {
        draw_members(w, &l);
        if (l.n_to > 0) /* 0 would be all */
            tell_due(w, &l, false, now);
    }
    w->news_at = next_news(w);
    if (w->news_at <= now) /* the bandwidth was used up, or there is nobody yet */
        w->news_at = now + w->conf.batch_ns;
}

/* --- what differs -------------------------------------------------------------------------------
 */

void
words_exchange(struct words *w, mc_ns now)
{
    double part = 0.9 + 0.2 * rng_unit(&w->rng); /* so that members do not fall into step */
    struct letter l;

    w->exchange_at = now + (mc_ns)((double)w->conf.exchange_ns * part);
    if (w->n_members == 0)
        return;
    letter_to(&l, w->member[rng_below(&w->rng, w->n_members)]);
    letter_start(&l, ROOT);
    pack_u64(&l.o, w->hash);
    letter_send(w, &l, now);
}

static void
send_hashes(struct words *w, uint64_t to, unsigned part, mc_ns now)
{
    const uint64_t *hash = part == TOP ? w->part_hash : &w->leaf_hash[part * WORDS_PARTS];
    struct letter l;

    letter_to(&l, to);
    letter_start(&l, HASHES);
    pack_u8(&l.o, (uint8_t)part);
    for (unsigned i = 0; i < WORDS_PARTS; i++)
        pack_u64(&l.o, hash[i]);
    letter_send(w, &l, now);
}

/* What is wanted of another: leaves and whole parts. */
struct wish {
    uint16_t leaf[WORDS_PARTS];
    unsigned n;
};

static void
send_wish(struct words *w, uint64_t to, const struct wish *wish, mc_ns now)
{
    struct letter l;

    if (wish->n == 0)
        return;
    letter_to(&l, to);
    letter_start(&l, ASK);
    pack_u8(&l.o, (uint8_t)wish->n);
    for (unsigned i = 0; i < wish->n; i++)
        pack_u16(&l.o, wish->leaf[i]);
    letter_send(w, &l, now);
}

/* Words of a leaf, or of a part. */
static bool
give(struct words *w, struct letter *l, unsigned leaf, mc_ns now)
{
    bool whole = leaf >= ASK_PART;
    unsigned part = whole ? leaf - ASK_PART : leaf / WORDS_PARTS;

    LIST_FOREACH (it, &w->part[part]) {
        const struct entry *e = LIST_ENTRY(it, struct entry, in_part);

        if ((whole || e->leaf == leaf) && !put_word(w, l, &e->word, now))
            return false;
    }
    return true;
}

/* Either has what the other has not, or both and neither knows which is newer: give ours and ask
 * for theirs. */
static void
mend_leaves(struct words *w, uint64_t from, unsigned part, const uint64_t *theirs, mc_ns now)
{
    struct wish wish = {.n = 0};
    struct letter l;
    bool more = may_go_on(w, now);

    letter_to(&l, from);
    start_words(&l, GIVE);
    for (unsigned i = 0; i < WORDS_PARTS; i++) {
        unsigned leaf = part * WORDS_PARTS + i;

        if (theirs[i] == w->leaf_hash[leaf])
            continue;
        if (theirs[i] != 0)
            wish.leaf[wish.n++] = (uint16_t)leaf;
        more = more && give(w, &l, leaf, now);
    }
    end_words(w, &l, now);
    send_wish(w, from, &wish, now);
}

/* Parts that one side has not at all go over whole; into some others we look closer. */
static void
mend_parts(struct words *w, uint64_t from, const uint64_t *theirs, mc_ns now)
{
    unsigned start = rng_below(&w->rng, WORDS_PARTS), looks = 0;
    struct wish wish = {.n = 0};
    struct letter l;
    bool more = may_go_on(w, now);

    letter_to(&l, from);
    start_words(&l, GIVE);
    for (unsigned i = 0; i < WORDS_PARTS; i++) {
        unsigned part = (start + i) % WORDS_PARTS;

        if (theirs[part] == w->part_hash[part])
            continue;
        if (w->part_hash[part] == 0)
            wish.leaf[wish.n++] = (uint16_t)(ASK_PART + part);
        else if (theirs[part] == 0)
            more = more && give(w, &l, ASK_PART + part, now);
        else if (looks++ < PARTS_ONCE)
            send_hashes(w, from, part, now);
    }
    end_words(w, &l, now);
    send_wish(w, from, &wish, now);
}

/* --- hearing ------------------------------------------------------------------------------------
 */

static bool
hear_words(struct words *w, struct pack_in *in, bool news, struct words_time t)
{
    unsigned n = unpack_u8(in);
    bool good = true;

    for (unsigned i = 0; i < n; i++) {
        size_t len = unpack_u16(in);
        struct pack_in r = {.p = unpack_bytes(in, len), .n = len};
        struct word word;
        struct entry *e;

        if (in->bad)
            return false;
        if (!unpack_word(&r, &word)) {
            good = false; /* those after it may be understood */
            continue;
        }
        e = words_merge(w, &word, t);
        if (e && news)
            words_spread(w, e, false, t.now);
        else if (e && w->exchange_at > t.now + EXCHANGE_SOON_NS)
            w->exchange_at = t.now + EXCHANGE_SOON_NS; /* there may be more */
    }
    return good && !in->bad;
}

static bool
hear_tell(struct words *w, uint64_t from, struct pack_in *in, struct words_time t)
{
    (void)from;
    return hear_words(w, in, true, t);
}

static bool
hear_give(struct words *w, uint64_t from, struct pack_in *in, struct words_time t)
{
    (void)from;
    return hear_words(w, in, false, t);
}

static bool
hear_root(struct words *w, uint64_t from, struct pack_in *in, struct words_time t)
{
    uint64_t hash = unpack_u64(in);

    if (in->bad || hash == w->hash)
        return !in->bad;
    w->counters.differences++;
    if (may_go_on(w, t.now))
        send_hashes(w, from, TOP, t.now);
    return true;
}

static bool
hear_hashes(struct words *w, uint64_t from, struct pack_in *in, struct words_time t)
{
    uint64_t theirs[WORDS_PARTS];
    unsigned part = unpack_u8(in);

    for (unsigned i = 0; i < WORDS_PARTS; i++)
        theirs[i] = unpack_u64(in);
    if (in->bad || (part != TOP && part >= WORDS_PARTS))
        return false;
    if (part == TOP)
        mend_parts(w, from, theirs, t.now);
    else
        mend_leaves(w, from, part, theirs, t.now);
    return true;
}

static bool
hear_ask(struct words *w, uint64_t from, struct pack_in *in, struct words_time t)
{
    unsigned n = unpack_u8(in);
    struct letter l;
    bool more = may_go_on(w, t.now);

    letter_to(&l, from);
    start_words(&l, GIVE);
    for (unsigned i = 0; i < n; i++) {
        unsigned leaf = unpack_u16(in);

        if (in->bad || leaf >= ASK_PART + WORDS_PARTS)
            return false;
        more = more && give(w, &l, leaf, t.now);
    }
    end_words(w, &l, t.now);
    return !in->bad;
}

static bool (*const hear[])(struct words *, uint64_t from, struct pack_in *, struct words_time) = {
    [TELL] = hear_tell,     [GIVE] = hear_give, [ROOT] = hear_root,
    [HASHES] = hear_hashes, [ASK] = hear_ask,
};

static bool
is_member(const struct words *w, uint64_t id)
{
    for (unsigned i = 0; i < w->n_members; i++)
        if (w->member[i] == id)
            return true;
    return false;
}

void
words_recv(struct words *w, uint64_t from, const void *bytes, size_t n, struct words_time t)
{
    struct pack_in in = {.p = bytes, .n = n};
    unsigned format = unpack_u8(&in), kind = unpack_u8(&in);

    MC_CHECK(w, WORDS_MAGIC);
    if (!is_member(w, from)) {
        w->counters.strangers++;
        return;
    }
    w->counters.received++;
    if (format != WORDS_FORMAT || kind >= MC_COUNT(hear) || !hear[kind] ||
        !hear[kind](w, from, &in, t))
        w->counters.malformed++;
}
