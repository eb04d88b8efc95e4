/* SPDX-License-Identifier: BSD-2-Clause
 *
 * world.h - one run of the simulator: what is in it, between its files.  For sim/ only.
 */
#ifndef MC_SIM_WORLD_H
#define MC_SIM_WORLD_H

#include "base/rand.h"
#include "place/eject.h"
#include "place/know.h"
#include "place/policy.h"
#include "place/share_wire.h"
#include "sim/heap.h"
#include "sim/server.h"
#include "sim/sim.h"

#define NO_JOB       UINT32_MAX
/* One way through the network of a rack, and what it varies by. */
#define HOP_NS       (50 * MC_US)
#define RTT_NS       (2 * HOP_NS)
#define FAIL_FAST_NS (200 * MC_US) /* that a server takes to say "error" */
#define WINDOW_NS    (100 * MC_MS)
#define TICK_NS      (1 * MC_MS)
#define RETRY_NS     (2 * MC_MS) /* requests for which there was no place look again */
#define PATIENCE_NS  (5 * MC_SEC)

/* How a policy of this program's list is made. */
struct sim_policy {
    const char *name;
    const char *place;  /* name in place/; NULL: oracle */
    bool full_scan;     /* least-request looks at all */
    bool know;          /* needs all that resource learns */
    bool agent_weights; /* weights by what is idle, as HAProxy's agent-check */
    bool orca_weights;  /* weights by rate over utilization, as gRPC A58 */
};
const struct sim_policy *sim_policy_find(const char *name);

enum sim_event_kind {
    EV_ARRIVE,   /* a client's request */
    EV_REACH,    /* a: job; it comes to its server */
    EV_COMPUTED, /* a: server, b: version; its first job is done computing */
    EV_WAITED,   /* a: job, b: generation */
    EV_ANSWER,   /* a: job; the response is back at the balancer */
    EV_AGENTS,   /* agents read counters */
    EV_REPORTS,  /* and they are at the owners */
    EV_TICK,     /* a: balancer */
    EV_MESSAGE,  /* a: message, b: balancer */
    EV_PROBE,    /* a: server, b: balancer */
    EV_RETRY,    /* a: balancer; its queue */
    EV_TROUBLE,  /* a: index */
};

struct sim_job {
    uint32_t gen; /* of this slot: events of an earlier job do not meet a later one */
    uint32_t server, next, prev;
    uint16_t balancer, class;
    bool counted, failed, second_half, here;
    uint32_t rif; /* found at the server */
    mc_ns arrived, begun, reached;
    double work_s, wait_s;
    struct place_cost cost;
    float crowd;
};

struct sim_message {
    unsigned n_refs, from;
    uint32_t next_free;
    size_t n;
    uint8_t bytes[SIM_PIECE_BYTES];
};

struct sim_balancer {
    struct sim_world *world;
    uint16_t id;
    bool alive;
    double part; /* of the arrivals */
    struct place_load *load;
    struct place_load **at;
    struct place_view view;
    const struct policy *policy;
    void *shared, *state;
    struct rng rng;
    struct know *know;
    struct eject *eject;
    uint32_t *queue; /* jobs without a place */
    unsigned n_queue, queue_cap;
    double *orca_ended; /* [n_servers] answers since the last weights */
};

enum sim_trouble_kind {
    TROUBLE_NEIGHBOUR_COMES,
    TROUBLE_NEIGHBOUR_GOES,
    TROUBLE_FAILING,
    TROUBLE_DOWN,
    TROUBLE_SLOW,
    TROUBLE_OVER, /* a server is well again */
    TROUBLE_DIE,  /* a balancer */
    TROUBLE_GONE, /* the others know */
    TROUBLE_JOIN,
    TROUBLE_SPLIT,
    TROUBLE_HEAL,
    TROUBLE_DRIFT,
};

struct sim_planned {
    mc_ns at;
    enum sim_trouble_kind kind;
    uint32_t who;
};

struct sim_agent {
    double cpu_s, pressure, mem_bytes, last_cpu_s, last_pressure_s;
    double utilization, rate, last_done; /* smoothed, for weights */
};

struct sim_world {
    const struct sim_conf *conf;
    const struct sim_policy *policy;
    struct sim_result *result;
    struct sim_heap heap;
    mc_ns now, end, warm;
    struct rng arrivals, net, chaos;
    struct sim_server *server;
    double *speed; /* as they were made */
    uint64_t *id_hash;
    struct sim_agent *agent;
    mc_ns agents_at;
    struct sim_balancer *balancer;
    struct sim_job *job;
    unsigned n_jobs, jobs_cap;
    uint32_t free_job;
    unsigned n_under_way;
    struct sim_message *message;
    unsigned n_messages, messages_cap;
    uint32_t free_message;
    struct share_wire wire;                  /* of all receivers */
    struct sim_class class[SIM_CLASSES_MAX]; /* as they are now */
    double share_upto[SIM_CLASSES_MAX], part_upto[SIM_BALANCERS_MAX];
    double rate, peak; /* arrivals a second, and at most */
    unsigned log_at;
    struct sim_planned *planned;
    unsigned n_planned, planned_cap;
    bool split;
    bool *blind; /* [n * n]: balancer does not know of balancer */
};

/* balancer.c */
void sim_balancers_make(struct sim_world *);
void sim_balancers_free(struct sim_world *);
void sim_balancers_meet(struct sim_world *); /* who is alive, is told to all */
void sim_balancer_place(struct sim_world *, uint32_t job);
void sim_balancer_end(struct sim_world *, uint32_t job);
void sim_balancer_retry(struct sim_world *, struct sim_balancer *);
void sim_balancer_tick(struct sim_world *, struct sim_balancer *);
void sim_balancer_message(struct sim_world *, uint32_t message, uint32_t to);
void sim_balancer_probe(struct sim_world *, uint32_t server, struct sim_balancer *);
void sim_balancers_report(struct sim_world *);

/* run.c */
void sim_job_free(struct sim_world *, uint32_t job);
void sim_job_fail(struct sim_world *, uint32_t job, mc_ns after);
mc_ns sim_hop(struct sim_world *);

/* jobs.c */
void sim_job_reach(struct sim_world *, uint32_t job);
void sim_job_computed(struct sim_world *, uint32_t server, uint32_t version);
void sim_job_waited(struct sim_world *, uint32_t job, uint32_t gen);
void sim_server_kill(struct sim_world *, uint32_t server);
void sim_server_changed(struct sim_world *, uint32_t server);

/* trouble.c */
void sim_trouble_plan(struct sim_world *);
void sim_trouble_happen(struct sim_world *, uint32_t planned);

#endif
