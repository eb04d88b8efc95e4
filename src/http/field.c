/* SPDX-License-Identifier: BSD-2-Clause
 *
 * field.c - from a field's name to its number.
 *
 * A small open-addressed table, filled from HTTP_FIELDS once before main() and only read after
 * that.  The key is what is at hand without reading the name: its length, first and last byte.
 */
#include "http/field.h"

#include <string.h>

#include "base/check.h"

#define NAME_MAX_BYTES 32  /* the longest known name has 25 */
#define N_SLOTS        128 /* a third full: an unknown name mostly meets an empty slot at once */

/* The compiler fills in name and length, fill_slots() the mask. */
struct entry {
    char name[NAME_MAX_BYTES];
    char mask[NAME_MAX_BYTES]; /* 0x20 where the name has a letter: c | mask == name, either case */
    size_t len;
};

static struct entry entries[FIELD_N] = {
#define X(id, text, hop) [FIELD_##id] = {.name = text, .len = sizeof(text) - 1},
    HTTP_FIELDS(X)
#undef X
};

static uint8_t slots[N_SLOTS]; /* enum field_id, FIELD_OTHER where empty */

/* Bit 0x20 makes letters lower and leaves '-' and digits alone; what it makes of other bytes may
 * collide, since same() compares exactly. */
static unsigned
slot_of(const char *name, size_t n)
{
    uint32_t key = (uint8_t)(name[0] | 0x20) | (uint32_t)(uint8_t)(name[n - 1] | 0x20) << 8 |
                   (uint32_t)n << 16;

    return (key * 0x9e3779b1u) >> 25; /* Fibonacci hashing (Knuth 6.4); 7 bits */
}

__attribute__((constructor)) static void
fill_slots(void)
{
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_N; id++) {
        struct entry *e = &entries[id];
        unsigned at = slot_of(e->name, e->len);

        MC_ASSERT(e->len < NAME_MAX_BYTES);
        for (size_t i = 0; i < e->len; i++)
            if (e->name[i] >= 'a' && e->name[i] <= 'z')
                e->mask[i] = 0x20;
        while (slots[at] != FIELD_OTHER)
            at = (at + 1) % N_SLOTS;
        slots[at] = (uint8_t)id;
    }
}

static uint64_t
load64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* Eight bytes from `at`, case ignored where the name has letters. */
static bool
same8(const struct entry *e, const char *name, size_t at)
{
    return (load64(name + at) | load64(e->mask + at)) == load64(e->name + at);
}

static bool
same_short(const struct entry *e, const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((name[i] | e->mask[i]) != e->name[i])
            return false;
    return true;
}

/* Eight bytes at a time; the last eight overlap those before, so there is no tail. */
static bool
same(const struct entry *e, const char *name, size_t n)
{
    if (e->len != n)
        return false;
    if (n < 8)
        return same_short(e, name, n);
    for (size_t at = 0; at + 8 < n; at += 8)
        if (!same8(e, name, at))
            return false;
    return same8(e, name, n - 8);
}

enum field_id
field_lookup(const char *name, size_t n) /* hot: once per field */
{
    unsigned at;

    if (n == 0 || n >= NAME_MAX_BYTES)
        return FIELD_OTHER;
    for (at = slot_of(name, n); slots[at] != FIELD_OTHER; at = (at + 1) % N_SLOTS)
        if (same(&entries[slots[at]], name, n))
            return (enum field_id)slots[at];
    return FIELD_OTHER;
}

const char *
field_name(enum field_id id)
{
    return id < FIELD_N ? entries[id].name : "";
}

field_set
field_hop_by_hop(void)
{
    return 0
#define X(id, name, hop) | ((hop) ? FIELD_BIT(id) : 0)
        HTTP_FIELDS(X)
#undef X
            ;
}
