/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fit.h - whether this balancer should attract traffic.
 *
 * Several voices have a say, each about what it alone knows; the balancer is fit while none of them
 * objects.  What follows from it (addresses, `meercat status --quiet`) belongs to vip.c and view.c.
 */
#ifndef MC_CONTROL_FIT_H
#define MC_CONTROL_FIT_H

#include <pthread.h>
#include <stdbool.h>

#include "base/buf.h"
#include "control/overload.h"
#include "io/loop.h"

/*  name        in words       who says it */
#define FIT_VOICES(X)                                                   \
    X(STARTING, "starting")     /* node.c: workers accept */            \
    X(SERVERS, "no server")     /* fit.c, where it is asked for */      \
    X(STOPPING, "stopping")     /* drain, leave, the end */             \
    X(OVERLOADED, "overloaded") /* fit.c by overload.h */               \
    X(FENCED, "fenced")         /* takeover: cut off from the others */ \
    X(OPERATOR, "operator")     /* a person */

enum fit_voice {
#define X(name, text) FIT_##name,
    FIT_VOICES(X)
#undef X
        FIT_N_VOICES
};

struct fit_said {
    bool objects;
    char why[96];
};

struct fit {
    pthread_mutex_t lock;
    struct fit_said said[FIT_N_VOICES];
    /* control thread */
    bool was; /* when fit_settle() looked last */
    struct overload overload;
    struct timer timer; /* when to look at servers and load again */
};

struct node;

/* A voice has changed its mind, or says the same again.  why: in a few words, copied, for people;
 * may be NULL.  Any thread, from node_start() to node_stop(); it takes effect in the next turn of
 * the control loop. */
void fit_say(struct node *, enum fit_voice, bool fit, const char *why);

/* Whether no voice objects, now.  why (may be NULL) gets the objections: "stopping; overloaded:
 * 1000 of 1000 connections".  Any thread. */
bool fit_now(const struct node *, struct buf *why);

/* 1 << voice for each that objects, now. */
unsigned fit_objections(const struct node *);
/* meercat_fit, and what objects. */
void fit_metrics(const struct node *, struct buf *);

/* --- for node.c, control thread --- */

/* Not fit, since it is starting. */
void fit_open(struct fit *);
void fit_close(struct fit *);
/* Workers accept: begins to look at servers and load. */
void fit_start(struct node *);
/* Acts on what was said since the last time. */
void fit_settle(struct node *);

/* --- without a node --- */

void fit_put(struct fit *, enum fit_voice, bool fit, const char *why);
bool fit_is(const struct fit *, struct buf *why);

#endif
