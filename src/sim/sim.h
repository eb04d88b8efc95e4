/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sim.h - plays a workload against the placement code that serves: a discrete-event simulator.
 *
 * Balancers here are instances of the very objects of place/ that a real one runs: policies, the
 * load table, what is known and learned (know.h), and the messages between them (share.h).  Only
 * clients, the network, servers and agents are made up.  Everything comes from the seed: a run
 * repeats exactly, and each policy meets the same requests at the same times.
 */
#ifndef MC_SIM_SIM_H
#define MC_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/units.h"
#include "place/class.h"
#include "place/share.h"
#include "sim/tally.h"

#define SIM_CLASSES_MAX    64
#define SIM_POLICIES_MAX   16
#define SIM_BALANCERS_MAX  250
/* A datagram between balancers: what fits behind the headers everywhere, and what those come to
 * (Ethernet aside: IPv6, UDP, the seal). */
#define SIM_PIECE_BYTES    1150
#define SIM_DATAGRAM_BYTES 90

struct sim_class {
    char name[CLASS_NAME_MAX];
    double share;  /* of the requests */
    double cpu_s;  /* mean work on a server of speed 1 */
    double sigma;  /* of its logarithm: lognormal inside the class */
    double wait_s; /* mean time it waits for something else, half of the work before and after */
    double mem_bytes;
};

/* What befalls the world beside requests. */
struct sim_trouble {
    double noisy;       /* share of servers with a neighbour that comes and goes */
    double burst;       /* arrivals are so many times more often for a fifth of each second */
    bool skew;          /* balancers get unequal parts of the traffic: 1, 1/2, 1/3, ... */
    bool memory;        /* servers have a limit, and are killed beyond it */
    bool faults;        /* servers fail fast, refuse, or become slow, and recover */
    double loss;        /* share of the messages between balancers that are lost */
    mc_ns delay_ns;     /* of these, up to so much more: they overtake each other */
    double views;       /* probability that a balancer does not know of another */
    double no_agent;    /* share of servers without an agent */
    unsigned die, join; /* percent of the balancers that die, or join, on the way */
    bool partition;     /* two halves of the balancers do not hear each other for a third */
    bool drift;         /* costs of classes change on the way */
    bool cold;          /* counted from the first request on */
};

struct sim_scenario {
    const char *name, *help;
    double load; /* that it is shown at, share of the capacity */
    unsigned n_classes;
    struct sim_class class[8];
    struct sim_trouble trouble;
};

const struct sim_scenario *sim_scenario_at(unsigned); /* NULL at the end */
const struct sim_scenario *sim_scenario_find(const char *name);

/* One request of a log. */
struct sim_logged {
    mc_ns at;
    uint16_t class;
    float work_s; /* on a server of speed 1 */
};

struct sim_log {
    struct sim_logged *request;
    unsigned n;
    mc_ns length_ns;
    uint64_t n_bad; /* lines that were not understood */
};

struct sim_conf {
    const struct sim_scenario *scenario;
    unsigned n_classes;
    struct sim_class class[SIM_CLASSES_MAX];
    unsigned n_balancers, n_servers, cores;
    double load;    /* share of the capacity */
    double seconds; /* simulated, those before counting begins included */
    uint64_t seed;
    unsigned without;          /* parts of resource left out, 1 << enum know_part */
    bool one_speed;            /* all servers alike, instead of 0.5, 1 and 2 */
    const struct sim_log *log; /* replayed instead of the scenario's arrivals; NULL: none */
    unsigned lose;             /* servers taken away at the begin */
    double traffic;            /* times the log's */
    double budget_bytes_per_s; /* know_conf; 0: as it is there */
};

struct sim_cost {
    double cpu_s, phi, mem_mb;             /* learned */
    double true_cpu_s, true_phi, true_mem; /* as it is */
};

struct sim_result {
    const char *policy;
    unsigned n_classes;
    struct sim_tally class[SIM_CLASSES_MAX], all;
    struct sim_cost cost[SIM_CLASSES_MAX]; /* of the first balancer; resource only */
    double cost_error, phi_error;          /* mean over classes, as a share */
    double cost_error_by_work;             /* the same, each class by the work it makes */
    double busy;                           /* share of the CPU that was used */
    uint64_t n_events, n_messages, n_entries;
    uint64_t n_bytes[SHARE_N_KINDS], n_datagrams[SHARE_N_KINDS]; /* between balancers, of all */
    double wall_s;
};

/* Names that policies have here: those of place/, and what is only a simulator's. */
const char *sim_policy_at(unsigned); /* NULL at the end */
bool sim_policy_known(const char *name);

/* Fills the defaults of a scenario. */
void sim_conf_init(struct sim_conf *, const struct sim_scenario *);
/* The result is malloc'd. */
struct sim_result *sim_run(const struct sim_conf *, const char *policy);

/* --- what people get to see ----------------------------------------------------------------------
 */

void sim_print_csv_head(FILE *);
void sim_print_csv(FILE *, const struct sim_conf *, const struct sim_result *);
void sim_print_table(FILE *, const struct sim_conf *, struct sim_result *const *, unsigned n);
void sim_print_costs(FILE *, const struct sim_conf *, const struct sim_result *);

/* Curves of latency against load, one a policy. */
struct sim_curve {
    const char *name;
    unsigned n;
    double x[64], y[64];
};
void sim_plot(FILE *, const char *title, const struct sim_curve *, unsigned n);

/* Reads an access log: JSON lines as Meercat writes them, or the combined format.  Classes are made
 * of the requests' shapes and written to conf.  load: scales the work to this share of the
 * capacity; 0: as logged. */
enum mc_err sim_log_read(const char *path, struct sim_conf *, double load, struct sim_log *out,
                         struct errbuf *);
void sim_log_free(struct sim_log *);

/* Bytes and datagrams between balancers, by kind of message. */
void sim_print_bytes(FILE *, const struct sim_conf *, const struct sim_result *);

/* The tables of docs/placement.md, as Markdown. */
void sim_tables(FILE *, double seconds);
/* n classes of costs that go apart, instead of the scenario's. */
void sim_classes_many(struct sim_conf *, unsigned n);
/* That of docs/cluster.md; budget: of a balancer, 0 for what is usual. */
void sim_wire_table(FILE *, double budget_bytes_per_s);

#endif
