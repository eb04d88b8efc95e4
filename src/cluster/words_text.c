/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_text.c - words as lines of text, for disk; see words.h.
 */
#include "cluster/words_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"

/* --- out ----------------------------------------------------------------------------------------
 */

static bool
is_plain(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '%' && c != '=';
}

static void
escape(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (is_plain(c))
            buf_add(b, &c, 1);
        else
            buf_printf(b, "%%%02X", c);
    }
}

static void
save_text(struct buf *b, const char *field, struct str s)
{
    if (s.n == 0)
        return;
    buf_printf(b, " %s=", field);
    escape(b, s);
}

void
words_save(const struct words *w, struct buf *b)
{
    const struct word *word;
    size_t at = 0;

    while ((word = words_next(w, &at))) {
        buf_printf(b, "%s ", word_say_text(word->say));
        escape(b, word->name);
        if (word->say == WORD_WEIGHT)
            buf_printf(b, " to=%u", word->weight);
        buf_printf(b, " at=%" PRIu64 ".%u.%" PRIu64 " when=%" PRId64, word->stamp.wall_ms,
                   word->stamp.counter, word->stamp.node, word->when_ms);
        save_text(b, "who", word->who);
        save_text(b, "where", word->where);
        buf_str(b, STR("\n"));
    }
}

/* --- in -----------------------------------------------------------------------------------------
 */

/* A line being read, and room for its texts. */
struct line {
    struct word word;
    bool has_stamp;
    char name[WORDS_NAME_MAX], who[WORDS_WHO_MAX], where[WORDS_WHO_MAX];
};

static int
hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
unescape(struct str s, char *room, size_t cap, struct str *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        int c = (unsigned char)s.p[i];

        if (c == '%') {
            if (s.n - i < 3 || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
                return false;
            c = hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]);
            i += 2;
        }
        if (n == cap)
            return false;
        room[n++] = (char)c;
    }
    *out = (struct str){room, n};
    return true;
}

static bool
read_stamp(struct str s, struct line *l)
{
    struct word_stamp *st = &l->word.stamp;
    uint64_t counter;

    l->has_stamp = str_u64(str_cut(&s, '.'), &st->wall_ms) && str_u64(str_cut(&s, '.'), &counter) &&
                   str_u64(s, &st->node) && st->wall_ms <= WORDS_WALL_MAX &&
                   counter <= UINT32_MAX && st->node != 0;
    st->counter = l->has_stamp ? (uint32_t)counter : 0;
    return l->has_stamp;
}

static bool
read_when(struct str s, struct line *l)
{
    uint64_t ms;

    if (!str_u64(s, &ms) || ms > INT64_MAX)
        return false;
    l->word.when_ms = (int64_t)ms;
    return true;
}

static bool
read_to(struct str s, struct line *l)
{
    uint64_t weight;

    if (!str_u64(s, &weight) || weight > WORDS_WEIGHT_MAX)
        return false;
    l->word.weight = (uint32_t)weight;
    return true;
}

static bool
read_who(struct str s, struct line *l)
{
    return unescape(s, l->who, sizeof(l->who), &l->word.who);
}

static bool
read_where(struct str s, struct line *l)
{
    return unescape(s, l->where, sizeof(l->where), &l->word.where);
}

static const struct {
    const char *name;
    bool (*read)(struct str, struct line *);
} fields[] = {
    {"at", read_stamp}, {"when", read_when},   {"to", read_to},
    {"who", read_who},  {"where", read_where},
};

static bool
read_field(struct str field, struct line *l)
{
    struct str name = str_cut(&field, '=');

    for (unsigned i = 0; i < MC_COUNT(fields); i++)
        if (str_eq(name, str_of(fields[i].name)))
            return fields[i].read(field, l);
    return true; /* of a later release */
}

static bool
read_line(struct str s, struct line *l)
{
    struct str say = str_cut(&s, ' ');

    *l = (struct line){.word.say = 0};
    while (l->word.say < WORD_N_SAYS && !str_eq(say, str_of(word_say_text(l->word.say))))
        l->word.say++;
    if (l->word.say == WORD_N_SAYS ||
        !unescape(str_cut(&s, ' '), l->name, sizeof(l->name), &l->word.name))
        return false;
    while (s.p)
        if (!read_field(str_cut(&s, ' '), l))
            return false;
    return l->has_stamp && words_valid(&l->word);
}

unsigned
words_load(struct words *w, struct str text, struct words_time t)
{
    struct line l;
    unsigned bad = 0;

    while (text.p) {
        struct str s = str_cut(&text, '\n');

        if (s.n == 0)
            continue;
        if (read_line(s, &l))
            words_merge(w, &l.word, t);
        else
            bad++;
    }
    return bad;
}
