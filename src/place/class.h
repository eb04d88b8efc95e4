/* SPDX-License-Identifier: BSD-2-Clause
 *
 * class.h - which class a request belongs to: requests of one shape are taken to cost about alike.
 *
 * The shape is the method and the path with what is different in each request folded to {}:
 * "GET /users/4711/orders" is of "GET /users/{}/orders".  Nothing is configured; a bounded number
 * of shapes, those that matter most, become classes, the rest is class 0.  Pure.
 *
 * Workers fold, hash and look up in a map that never changes; for a shape that it does not hold
 * they tell control, which keeps count (struct class_set) and makes the next map.
 */
#ifndef MC_PLACE_CLASS_H
#define MC_PLACE_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define CLASS_NAME_MAX 120     /* bytes with the NUL; a longer shape ends in "..." */
#define CLASS_DEFAULT  128     /* classes of a pool */
#define CLASS_MOST     256     /* know.h */
#define CLASS_OTHER    "other" /* class 0 */

/* Writes the shape, NUL-terminated, and returns its length.  The path's query and fragment are left
 * out.  hot: once per request */
unsigned class_fold(struct str method, struct str path, char out[CLASS_NAME_MAX]);
/* What the shape is called in maps and messages; never 0 nor 1 (1 is class 0). */
uint64_t class_hash(struct str shape);

/* --- rules: the operator knows better -----------------------------------------------------------
 */

/* A request is of class `name` when all that is set here fits; NULL: whatever it is. */
struct class_rule {
    char *name;   /* without a space, which every shape has: the two never meet */
    char *method; /* "POST" */
    /* All of it, without query: {} stands for one and more bytes other than '/', a * at the end for
     * whatever follows. */
    char *path;
    char *header, *header_is; /* a field's name, and the value of one of those fields */
    char *query, *query_is;   /* a parameter's name, and its value, as they are written */
    char *grpc;               /* "pkg.Service/Method", or "pkg.Service/" and a * */
};

struct class_rules {
    struct class_rule *v;
    unsigned n;
};

/* Frees what the rules hold, and zeroes them. */
void class_rules_fini(struct class_rules *);

/* What a request shows of itself. */
struct class_ask {
    struct str method, path; /* path: with its query */
    /* The value of the i-th field of that name; {NULL, 0}: there are no more. */
    struct str (*field)(const void *arg, struct str name, unsigned i);
    const void *arg;
};

/* The first rule that fits; NULL: none. */
const struct class_rule *class_rule_find(const struct class_rules *, const struct class_ask *);

/* --- the map: hash to class ---------------------------------------------------------------------
 */

struct class_map_slot {
    uint64_t hash; /* 0: free */
    uint16_t class;
};

struct class_map {
    uint32_t mask;
    struct class_map_slot slot[];
};

/* hot: once per request.  0: of no class of its own. */
static inline uint16_t
class_map_find(const struct class_map *m, uint64_t hash)
{
    for (uint32_t i = (uint32_t)hash & m->mask;; i = (i + 1) & m->mask) {
        if (m->slot[i].hash == hash)
            return m->slot[i].class;
        if (m->slot[i].hash == 0)
            return 0;
    }
}

/* --- the set: which shapes matter; control thread -----------------------------------------------
 */

/* The heaviest of many shapes in bounded memory: space-saving (Metwally, Agrawal, El Abbadi 2005).
 * A shape's weight is too high by at most `error`, which is at most the total over the counters. */
struct class_counter {
    uint64_t hash; /* 0: free */
    double weight, error;
    uint16_t class; /* 0: none */
    bool pinned;
    char name[CLASS_NAME_MAX];
};

struct class_set {
    unsigned n_classes, n_counters;
    struct class_counter *counter; /* [n_counters] */
    uint16_t *of_class;            /* [n_classes] counter that holds it, or UINT16_MAX */
};

/* n_classes: class 0 included. */
void class_set_init(struct class_set *, unsigned n_classes);
void class_set_fini(struct class_set *);
/* Requests of a shape, seen by their name; weight: CPU-seconds, or what is thought of them. */
void class_set_note(struct class_set *, uint64_t hash, struct str name, double weight);
/* The same for one that has a class. */
void class_set_add(struct class_set *, unsigned class, double weight);
/* All weights become `keep` of what they were. */
void class_set_fade(struct class_set *, double keep);
/* Gives classes to the heaviest shapes.  One that has a class keeps it until another is clearly
 * heavier, since with the class goes all that was learned of it.  Calls changed(arg, class, hash)
 * for each class that is another shape's now; returns how many. */
unsigned class_set_settle(struct class_set *,
                          void (*changed)(void *arg, unsigned class, uint64_t hash), void *arg);
/* Each rule has a class, whatever it weighs, and keeps it; a rule of before that is not among these
 * loses its own, which changed() hears with hash 0.  Fewer rules than classes.  Returns how many
 * classes changed. */
unsigned class_set_pin(struct class_set *, const struct class_rules *,
                       void (*changed)(void *arg, unsigned class, uint64_t hash), void *arg);
bool class_set_is_pinned(const struct class_set *, unsigned class);
/* The class of a shape; 0: none of its own. */
unsigned class_set_find(const struct class_set *, uint64_t hash);
/* free() it once no worker reads it. */
struct class_map *class_set_map(const struct class_set *);
struct str class_set_name(const struct class_set *, unsigned class); /* {NULL,0}: free */

#endif
