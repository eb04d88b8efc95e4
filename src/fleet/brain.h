/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain.h - what is known of a pool whose policy is `resource`: fed by workers and agents, read by
 * workers.
 *
 * place/know.h is the knowledge itself, pure; here it gets time, threads and a life.  The control
 * thread owns it.  Workers look a request's class and cost up, count what they have dispatched in
 * the load table, and tell by a pipe when each attempt began and ended.  No lock, no allocation.
 *
 * A brain belongs to the servers that it is about.  A reload that keeps these keeps it; else a new
 * one begins with the costs of the last, while requests under way finish with the old one: it lives
 * as long as a snapshot names it.
 */
#ifndef MC_FLEET_BRAIN_H
#define MC_FLEET_BRAIN_H

#include "base/ring.h"
#include "place/class.h"
#include "place/cost.h"
#include "place/learn.h"
#include "place/load.h"

struct fleet;
struct pool;
struct know;
struct http_head;

/* A class's name, with that of a route before it. */
#define BRAIN_NAME_MAX (2 * CLASS_NAME_MAX)

/* What one worker heard of a server in responses.  The worker writes, control reads. */
struct brain_ear {
    mc_ns told_at; /* the worker's: when it last told control of the load */
    stat_u64 reports, refused;
    _Atomic unsigned fault; /* enum report_fault of the last that was refused */
};

/* What one worker has of a brain. */
struct brain_reader {
    /* The map that it looks into at this moment: not to be freed. */
    alignas(64) _Atomic(const struct class_map *) map;
    struct brain_ear *ears; /* [table->n] */
};

/* What workers read. */
struct brain {
    struct load_table *table;
    const struct cost_table *costs;
    mc_ns wall_ns; /* a loop's time plus this is time near the clock on the wall: place's */
    _Atomic(const struct class_map *) map;
    struct brain_reader *readers; /* [n_workers] */
};

/* --- workers -----------------------------------------------------------------------------------
 */

/* From one worker to the control thread. */
struct brain_pipe {
    struct ring events; /* struct brain_event */
    struct ring shapes; /* struct brain_shape */
    struct ring words;  /* struct brain_word */
    uint32_t n_told;    /* attempts whose begin was told, and whose end was not; the worker's */
};

struct brain_event {
    struct brain *brain;
    struct place_event e;
};

/* A request whose shape is no class yet. */
struct brain_shape {
    struct brain *brain;
    uint64_t hash;
    float weight;
    char name[CLASS_NAME_MAX];
};

/* What a response told of its server's load. */
struct brain_word {
    struct brain *brain;
    struct place_word w;
};

/* What a request is to placement, and what of its present attempt is counted. */
struct brain_use {
    struct place_cost cost;
    mc_ns begin_ns;
    float crowd;
    float said_s; /* CPU-seconds that it took by the server's word; 0: none */
    uint16_t class;
    bool told;
};

/* What the request will need, as its class is known to: that of the pool's first rule that fits,
 * else that of its shape.  route: begins the name of a shape, where requests of several routes
 * meet; empty: none.  Returns the name of the class, in `text` or as long-lived as the pool. hot:
 * once per request */
struct str brain_look(const struct pool *, struct brain_pipe *, unsigned worker, struct str route,
                      const struct http_head *, char text[BRAIN_NAME_MAX], struct brain_use *);
/* An attempt begins at a server of the view, and ends.  pipe NULL: nobody listens.  hot: once per
 * attempt */
void brain_begin(struct brain *, struct brain_pipe *, struct brain_use *, uint32_t server,
                 mc_ns now);
void brain_end(struct brain *, struct brain_pipe *, struct brain_use *, uint32_t server,
               enum place_event_kind, mc_ns rtt, mc_ns now);

/* The response to a request under way has these fields (STR_NONE: not this one): what its server
 * says of its load and of what the request took.  The load is told to control every 10 ms at most,
 * the cost with the attempt's end; of two reports the later one counts.  hot: once per response
 * that says anything */
void brain_hear(struct brain *, struct brain_pipe *, unsigned worker, struct brain_use *,
                uint32_t server, struct str metrics, struct str metrics_bin, mc_ns now);

/* --- control thread ----------------------------------------------------------------------------
 */

struct brains; /* all of a fleet's */

struct brains *brains_new(struct fleet *);
/* Brains may outlive it, as long as nobody thinks. */
void brains_free(struct brains **);
/* Where costs are kept over a restart; NULL: nowhere. */
void brains_set_dir(struct brains *, const char *);
/* Keeps those in force; done every minute by itself, and due before the end. */
void brains_save(struct brains *);
/* The pipe of a worker; lives as long as the fleet. */
struct brain_pipe *brains_pipe(struct brains *, unsigned worker);
/* The one that knows the pool's servers already, or a new one; referenced. */
struct brain *brain_get(struct brains *, const struct pool *);
void brain_unref(struct brain **);
/* These pools are in force: their servers' agents are listened to, no others. */
void brains_adopt(struct brains *, struct pool *const *, unsigned n);
/* Takes in what workers have told so far. */
unsigned brains_drain(struct brains *);

/* --- for display; control thread --- */

struct brain_class {
    struct str name;
    bool rule; /* by the operator's word, not learned */
    struct place_cost cost;
    struct learn_doubt doubt;
    bool told; /* the cost is the servers' own word */
    double phi;
    double mem_bytes;
    double share;      /* of the CPU that the pool's servers spent lately */
    uint64_t requests; /* since the class has this name */
};

/* What responses of a server told. */
struct brain_said {
    uint64_t reports, refused;
    mc_ns age;                       /* of the last word on its load; MC_NEVER_NS: none */
    double cpu, application, memory; /* utilizations it told; negative: it did not */
    double price;                    /* what the server's factor is multiplied by for it */
    const char *why;                 /* of the last refusal; "": none */
};

struct brain_server {
    bool has_agent;
    mc_ns age; /* of the last report; MC_NEVER_NS: none */
    uint64_t reports, refused, failures;
    double cores, cpu, pressure; /* as last reported; negative: unknown */
    double factor, other;
    double share;           /* of its weight, where the agent speaks in words */
    uint32_t max_in_flight; /* as it says, too; 0: no limit */
    const char *why;        /* of the last failure; "": none */
    /* The newest report known here, its owner's word where that is another member. */
    uint64_t report_seq;
    mc_ns report_age; /* since it was true, or was heard; MC_NEVER_NS: none */
    struct brain_said said;
};

unsigned brain_n_classes(const struct brain *);
/* The class that a request of the head would be of now, as brain_look() finds it. */
unsigned brain_class_of(const struct pool *, struct str route, const struct http_head *);
/* False: the class is free. */
bool brain_class_at(const struct brain *, unsigned class, struct brain_class *);
void brain_server_at(const struct brain *, unsigned server, struct brain_server *);
/* Begins, shapes and words that found the pipes full. */
uint64_t brains_lost(const struct brains *);

#endif
