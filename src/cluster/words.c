/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.c - the words that hold, and the clock that orders them; see words.h.
 */
#include "cluster/words_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define FORGET_EVERY_NS (60 * MC_SEC)
#define DAY_MS          ((int64_t)24 * 3600 * 1000)
#define BURST_S         0.25 /* so much of a second's bandwidth may go out at once */
#define KEY_MAX         (1 + WORDS_NAME_MAX)

static const struct {
    const char *text;
    enum word_about about;
} says[] = {
#define X(name, what, text) [WORD_##name] = {text, WORD_ABOUT_##what},
    WORDS_SAYS(X)
#undef X
};

const char *
word_say_text(enum word_say say)
{
    return says[say].text;
}

enum word_about
word_about(enum word_say say)
{
    return says[say].about;
}

static bool
is_as_configured(const struct word *w)
{
    return w->say == WORD_STATE_CONF || w->say == WORD_WEIGHT_CONF;
}

/* --- clock --------------------------------------------------------------------------------------
 */

static int
cmp_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Below 0: a is older than b. */
static int
stamp_cmp(const struct word_stamp *a, const struct word_stamp *b)
{
    int c = cmp_u64(a->wall_ms, b->wall_ms);

    if (c == 0)
        c = cmp_u64(a->counter, b->counter);
    return c ? c : cmp_u64(a->node, b->node);
}

static uint64_t
wall_of(struct words_time t)
{
    return t.wall_ms > 0 ? (uint64_t)t.wall_ms : 0;
}

static struct word_stamp
stamp_after(struct word_stamp s, uint64_t node)
{
    s.node = node;
    if (++s.counter == 0)
        s.wall_ms++;
    return s;
}

static struct word_stamp
later(struct word_stamp a, struct word_stamp b)
{
    return stamp_cmp(&a, &b) < 0 ? b : a;
}

/* A stamp for a new word: above our clock, and above what it replaces (NULL: nothing). */
static struct word_stamp
next_stamp(struct words *w, const struct word_stamp *replaced, struct words_time t)
{
    uint64_t wall = wall_of(t);

    w->clock = wall > w->clock.wall_ms ? (struct word_stamp){wall, 0, w->conf.id}
                                       : stamp_after(w->clock, w->conf.id);
    if (replaced && stamp_cmp(&w->clock, replaced) <= 0)
        return stamp_after(*replaced, w->conf.id);
    return w->clock;
}

/* Our clock follows what is heard, not further than the bound. */
static void
follow(struct words *w, const struct word_stamp *heard, struct words_time t)
{
    struct word_stamp most = {wall_of(t) + WORDS_DRIFT_MS, 0, w->conf.id};
    bool ahead = stamp_cmp(heard, &most) > 0;

    w->counters.ahead += ahead;
    w->clock = later(w->clock, ahead ? most : *heard);
}

/* --- keeping ------------------------------------------------------------------------------------
 */

static struct str
key_of(struct str name, enum word_about about, char room[KEY_MAX])
{
    room[0] = (char)about;
    memcpy(room + 1, name.p, name.n);
    return (struct str){room, 1 + name.n};
}

static struct entry *
find(const struct words *w, struct str name, enum word_about about)
{
    char room[KEY_MAX];

    return name.n <= WORDS_NAME_MAX ? map_get(&w->entries, key_of(name, about, room)) : NULL;
}

static struct entry *
add_entry(struct words *w, struct str name, enum word_about about)
{
    struct entry *e = mc_alloc(sizeof(*e) + KEY_MAX);
    struct str key = key_of(name, about, e->key);

    e->key_n = key.n;
    e->leaf = (unsigned)(str_hash(key, 0) % WORDS_LEAVES);
    e->word.name = (struct str){e->key + 1, name.n};
    list_init(&e->in_news);
    list_push_back(&w->part[e->leaf / WORDS_PARTS], &e->in_part);
    map_put(&w->entries, key, e);
    return e;
}

static void
add_hash(struct words *w, const struct entry *e)
{
    w->leaf_hash[e->leaf] ^= e->hash;
    w->part_hash[e->leaf / WORDS_PARTS] ^= e->hash;
    w->hash ^= e->hash;
}

static uint64_t
hash_of(const struct word *word)
{
    uint8_t room[WORDS_DATAGRAM];
    struct pack_out o = {.p = room, .cap = sizeof(room)};

    words_pack(&o, word);
    return str_hash((struct str){(const char *)room, o.n}, 1);
}

static struct str
keep_text(char room[WORDS_WHO_MAX + 1], struct str s)
{
    if (s.n > 0)
        memcpy(room, s.p, s.n);
    room[s.n] = '\0';
    return (struct str){room, s.n};
}

static void
hold(struct words *w, struct entry *e, const struct word *word)
{
    struct str name = e->word.name;

    if (e->hash != 0)
        add_hash(w, e); /* takes the old one out */
    e->word = *word;
    e->word.name = name;
    e->word.who = keep_text(e->who, word->who);
    e->word.where = keep_text(e->where, word->where);
    e->hash = hash_of(&e->word);
    add_hash(w, e);
    if (w->conf.on_word)
        w->conf.on_word(w->conf.arg, &e->word);
}

static void
forget(struct words *w, struct entry *e)
{
    add_hash(w, e);
    list_remove(&e->in_part);
    list_remove(&e->in_news);
    map_remove(&w->entries, (struct str){e->key, e->key_n});
    free(e);
}

/* --- saying and hearing -------------------------------------------------------------------------
 */

bool
words_valid(const struct word *w)
{
    return w->say < WORD_N_SAYS && w->name.n > 0 && w->name.n <= WORDS_NAME_MAX &&
           w->who.n <= WORDS_WHO_MAX && w->where.n <= WORDS_WHO_MAX &&
           w->weight <= (w->say == WORD_WEIGHT ? WORDS_WEIGHT_MAX : 0);
}

void
words_spread(struct words *w, struct entry *e, bool ours, mc_ns now)
{
    e->ours = ours;
    e->tells = WORDS_TELLS;
    e->tell_at = now + w->conf.batch_ns;
    list_remove(&e->in_news);
    list_push_back(&w->news, &e->in_news);
    if (w->news_at > e->tell_at)
        w->news_at = e->tell_at;
}

enum mc_err
words_say(struct words *w, const struct word *said, struct words_time t)
{
    struct word word = *said;
    struct entry *e;

    MC_CHECK(w, WORDS_MAGIC);
    if (!words_valid(&word))
        return MC_ERANGE;
    e = find(w, word.name, word_about(word.say));
    if (!e && w->entries.n >= WORDS_MAX) {
        w->counters.refused++;
        return MC_EFULL;
    }
    word.stamp = next_stamp(w, e ? &e->word.stamp : NULL, t);
    word.when_ms = (int64_t)wall_of(t);
    if (!e)
        e = add_entry(w, word.name, word_about(word.say));
    hold(w, e, &word);
    words_spread(w, e, true, t.now);
    return MC_OK;
}

/* Words that we have forgotten, or are about to. */
static bool
is_forgettable(const struct words *w, const struct word *word, struct words_time t)
{
    return is_as_configured(word) && (int64_t)word->stamp.wall_ms + w->conf.forget_ms < t.wall_ms;
}

struct entry *
words_merge(struct words *w, const struct word *word, struct words_time t)
{
    struct entry *e = find(w, word->name, word_about(word->say));

    if ((e && stamp_cmp(&word->stamp, &e->word.stamp) <= 0) || is_forgettable(w, word, t)) {
        w->counters.stale++;
        return NULL;
    }
    if (!e && w->entries.n >= WORDS_MAX) {
        w->counters.refused++;
        return NULL;
    }
    follow(w, &word->stamp, t);
    w->counters.applied++;
    if (!e)
        e = add_entry(w, word->name, word_about(word->say));
    hold(w, e, word);
    return e;
}

/* --- reading ------------------------------------------------------------------------------------
 */

const struct word *
words_get(const struct words *w, struct str name, enum word_about about)
{
    const struct entry *e = find(w, name, about);

    return e ? &e->word : NULL;
}

const struct word *
words_next(const struct words *w, size_t *at)
{
    void *e;

    return map_next(&w->entries, at, NULL, &e) ? &((struct entry *)e)->word : NULL;
}

unsigned
words_count(const struct words *w)
{
    return (unsigned)w->entries.n;
}

uint64_t
words_hash(const struct words *w)
{
    return w->hash;
}

const struct words_counters *
words_counters(const struct words *w)
{
    return &w->counters;
}

/* --- time ---------------------------------------------------------------------------------------
 */

void
words_set_members(struct words *w, const uint64_t *ids, unsigned n, mc_ns now)
{
    bool grew = n > w->n_members;

    w->member = mc_realloc(w->member, (n + 1) * sizeof(*w->member));
    w->n_members = n;
    if (n > 0)
        memcpy(w->member, ids, n * sizeof(*ids));
    if (grew && w->exchange_at > now + w->conf.batch_ns)
        w->exchange_at = now + w->conf.batch_ns;
}

static void
forget_old(struct words *w, struct words_time t)
{
    for (unsigned i = 0; i < WORDS_PARTS; i++)
        LIST_FOREACH_SAFE (l, next, &w->part[i]) {
            struct entry *e = LIST_ENTRY(l, struct entry, in_part);

            if (!is_forgettable(w, &e->word, t))
                continue;
            w->counters.forgotten++;
            forget(w, e);
        }
}

mc_ns
words_due(const struct words *w)
{
    return mc_sooner(w->news_at, mc_sooner(w->exchange_at, w->forget_at));
}

mc_ns
words_tick(struct words *w, struct words_time t)
{
    MC_CHECK(w, WORDS_MAGIC);
    if (t.now >= w->news_at)
        words_tell_news(w, t.now);
    if (t.now >= w->exchange_at)
        words_exchange(w, t.now);
    if (t.now >= w->forget_at) {
        forget_old(w, t);
        w->forget_at = t.now + FORGET_EVERY_NS;
    }
    return words_due(w);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void
fill_defaults(struct words_conf *c)
{
#define DEFAULT(field, value) c->field = c->field ? c->field : (value)
    DEFAULT(batch_ns, 10 * MC_MS);
    DEFAULT(again_ns, 100 * MC_MS);
    DEFAULT(exchange_ns, MC_SEC);
    DEFAULT(retell, 3);
    DEFAULT(forget_ms, 30 * DAY_MS);
    DEFAULT(bytes_per_s, 1000000);
#undef DEFAULT
}

struct words *
words_new(const struct words_conf *conf, struct words_time t)
{
    struct words *w = mc_alloc(sizeof(*w));

    MC_ASSERT(conf->id != 0 && conf->send);
    w->magic = WORDS_MAGIC;
    w->conf = *conf;
    fill_defaults(&w->conf);
    for (unsigned i = 0; i < WORDS_PARTS; i++)
        list_init(&w->part[i]);
    list_init(&w->news);
    rng_seed(&w->rng, conf->seed);
    rate_init(&w->rate, (double)w->conf.bytes_per_s, (double)w->conf.bytes_per_s * BURST_S, t.now);
    w->news_at = MC_NEVER_NS;
    w->exchange_at = t.now + (mc_ns)(rng_unit(&w->rng) * (double)w->conf.exchange_ns);
    w->forget_at = t.now + FORGET_EVERY_NS;
    return w;
}

void
words_free(struct words **wp)
{
    struct words *w = *wp;

    if (!w)
        return;
    MC_CHECK(w, WORDS_MAGIC);
    for (unsigned i = 0; i < WORDS_PARTS; i++)
        LIST_FOREACH_SAFE (l, next, &w->part[i])
            forget(w, LIST_ENTRY(l, struct entry, in_part));
    map_free(&w->entries);
    free(w->member);
    w->magic = 0;
    free(w);
    *wp = NULL;
}
