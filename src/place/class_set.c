/* SPDX-License-Identifier: BSD-2-Clause
 *
 * class_set.c - which shapes become classes, see class.h.
 */
#include <stdlib.h>

#include "base/check.h"
#include "place/class.h"

/* Counters for each class: those that have none yet must be able to show what they weigh. */
#define COUNTERS_PER_CLASS 3
/* So much heavier must a newcomer be than the lightest that has a class. */
#define CLEARLY            1.5
#define NONE               UINT16_MAX

void
class_set_init(struct class_set *s, unsigned n_classes)
{
    MC_ASSERT(n_classes > 0 && n_classes < NONE / COUNTERS_PER_CLASS);
    s->n_classes = n_classes;
    s->n_counters = n_classes * COUNTERS_PER_CLASS;
    s->counter = mc_alloc(s->n_counters * sizeof(*s->counter));
    s->of_class = mc_alloc(n_classes * sizeof(*s->of_class));
    for (unsigned k = 0; k < n_classes; k++)
        s->of_class[k] = NONE;
}

void
class_set_fini(struct class_set *s)
{
    free(s->counter);
    free(s->of_class);
}

/* The shape's counter, else the lightest that has no class: a class is taken away in the open, by
 * class_set_settle(), and never by one request of another shape. */
static struct class_counter *
counter_of(struct class_set *s, uint64_t hash)
{
    struct class_counter *lightest = NULL;

    for (unsigned i = 0; i < s->n_counters; i++) {
        struct class_counter *c = &s->counter[i];

        if (c->hash == hash)
            return c;
        if (c->class == 0 && (!lightest || c->weight < lightest->weight))
            lightest = c;
    }
    MC_ASSERT(lightest != NULL);
    return lightest;
}

void
class_set_note(struct class_set *s, uint64_t hash, struct str name, double weight)
{
    struct class_counter *c = counter_of(s, hash);

    if (c->hash != hash) {
        size_t n = name.n < sizeof(c->name) - 1 ? name.n : sizeof(c->name) - 1;

        c->error = c->hash ? c->weight : 0;
        c->hash = hash;
        memcpy(c->name, name.p, n);
        c->name[n] = '\0';
    }
    c->weight += weight;
}

void
class_set_add(struct class_set *s, unsigned class, double weight)
{
    if (class > 0 && class < s->n_classes && s->of_class[class] != NONE)
        s->counter[s->of_class[class]].weight += weight;
}

void
class_set_fade(struct class_set *s, double keep)
{
    for (unsigned i = 0; i < s->n_counters; i++) {
        s->counter[i].weight *= keep;
        s->counter[i].error *= keep;
    }
}

/* What a shape weighs at least. */
static double
sure(const struct class_counter *c)
{
    return c->weight - c->error;
}

static struct class_counter *
heaviest_without(struct class_set *s)
{
    struct class_counter *best = NULL;

    for (unsigned i = 0; i < s->n_counters; i++) {
        struct class_counter *c = &s->counter[i];

        if (c->hash && c->class == 0 && sure(c) > 0 && (!best || sure(c) > sure(best)))
            best = c;
    }
    return best;
}

/* A free class, or the lightest; 0: all are pinned. */
static unsigned
class_to_give(const struct class_set *s)
{
    unsigned lightest = 0;

    for (unsigned k = 1; k < s->n_classes; k++) {
        if (s->of_class[k] == NONE)
            return k;
        if (s->counter[s->of_class[k]].pinned)
            continue;
        if (lightest == 0 ||
            s->counter[s->of_class[k]].weight < s->counter[s->of_class[lightest]].weight)
            lightest = k;
    }
    return lightest;
}

static void
give_class(struct class_set *s, unsigned k, struct class_counter *c)
{
    if (s->of_class[k] != NONE)
        s->counter[s->of_class[k]].class = 0;
    c->class = (uint16_t)k;
    s->of_class[k] = (uint16_t)(c - s->counter);
}

unsigned
class_set_settle(struct class_set *s, void (*changed)(void *arg, unsigned class, uint64_t hash),
                 void *arg)
{
    unsigned n = 0;

    for (; n < s->n_classes; n++) {
        struct class_counter *c = heaviest_without(s);
        unsigned k = class_to_give(s);

        if (!c || k == 0)
            break;
        if (s->of_class[k] != NONE && sure(c) < CLEARLY * s->counter[s->of_class[k]].weight)
            break;
        give_class(s, k, c);
        changed(arg, k, c->hash);
    }
    return n;
}

/* --- rules ------------------------------------------------------------------------------------
 */

static bool
is_among(const struct class_rules *rules, uint64_t hash)
{
    for (unsigned i = 0; i < rules->n; i++)
        if (class_hash(str_of(rules->v[i].name)) == hash)
            return true;
    return false;
}

unsigned
class_set_pin(struct class_set *s, const struct class_rules *rules,
              void (*changed)(void *arg, unsigned class, uint64_t hash), void *arg)
{
    unsigned n = 0;

    MC_ASSERT(rules->n < s->n_classes);
    for (unsigned k = 1; k < s->n_classes; k++)
        if (class_set_is_pinned(s, k) && !is_among(rules, s->counter[s->of_class[k]].hash)) {
            s->counter[s->of_class[k]] = (struct class_counter){0};
            s->of_class[k] = NONE;
            changed(arg, k, 0);
            n++;
        }
    for (unsigned i = 0; i < rules->n; i++) {
        struct str name = str_of(rules->v[i].name);
        uint64_t hash = class_hash(name);
        struct class_counter *c;

        class_set_note(s, hash, name, 0);
        c = counter_of(s, hash);
        c->pinned = true;
        if (c->class != 0)
            continue;
        give_class(s, class_to_give(s), c);
        changed(arg, c->class, hash);
        n++;
    }
    return n;
}

bool
class_set_is_pinned(const struct class_set *s, unsigned class)
{
    return class > 0 && class < s->n_classes && s->of_class[class] != NONE &&
           s->counter[s->of_class[class]].pinned;
}

unsigned
class_set_find(const struct class_set *s, uint64_t hash)
{
    for (unsigned k = 1; k < s->n_classes; k++)
        if (s->of_class[k] != NONE && s->counter[s->of_class[k]].hash == hash)
            return k;
    return 0;
}

/* --- in and out -------------------------------------------------------------------------------
 */

struct class_map *
class_set_map(const struct class_set *s)
{
    uint32_t cap = 8;
    struct class_map *m;

    while (cap < 2 * s->n_classes)
        cap *= 2;
    m = mc_alloc(sizeof(*m) + cap * sizeof(m->slot[0]));
    m->mask = cap - 1;
    for (unsigned k = 1; k < s->n_classes; k++) {
        uint32_t i;

        if (s->of_class[k] == NONE)
            continue;
        i = (uint32_t)s->counter[s->of_class[k]].hash & m->mask;
        while (m->slot[i].hash)
            i = (i + 1) & m->mask;
        m->slot[i] = (struct class_map_slot){s->counter[s->of_class[k]].hash, (uint16_t)k};
    }
    return m;
}

struct str
class_set_name(const struct class_set *s, unsigned class)
{
    if (class == 0)
        return STR(CLASS_OTHER);
    if (class >= s->n_classes || s->of_class[class] == NONE)
        return STR_NONE;
    return str_of(s->counter[s->of_class[class]].name);
}
