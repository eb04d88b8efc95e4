/* SPDX-License-Identifier: BSD-2-Clause
 *
 * server.h - a simulated server: cores under processor sharing, memory, neighbours and faults.
 */
#ifndef MC_SIM_SERVER_H
#define MC_SIM_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

enum sim_health { SIM_UP, SIM_FAILING /* errors at once */, SIM_DOWN /* refuses */ };

#define SIM_RIFS 64

/* A job that is computing. */
struct sim_running {
    double done_v; /* virtual time at which its work is done */
    uint32_t job;
};

struct sim_server {
    double speed, cores, neighbour; /* threads of others that compute on the same cores */
    enum sim_health health;
    /* Virtual time: the work that each computing job has got.  Processor sharing needs no more. */
    double v, rate;
    mc_ns v_at;
    struct sim_running *run; /* heap by done_v */
    unsigned n_run, run_cap;
    uint32_t version;   /* of the event that is due next */
    uint32_t first_job; /* list of all jobs here, computing or waiting; UINT32_MAX: none */
    unsigned n_jobs;
    double cpu_s, pressure_s;   /* used by the service; time in which somebody waited for a core */
    double mem_bytes;           /* of requests; the base comes on top */
    double mem_base, mem_limit; /* limit 0: none */
    double true_phi;            /* cores wanted by all requests on their way or here */
    double true_mem;
    uint64_t n_done;
    double rif_latency[SIM_RIFS]; /* as a server tells Prequal: by requests in flight, seconds */
};

/* Brings work and counters up to now. */
void sim_server_advance(struct sim_server *, mc_ns now);
/* After advance: jobs come and go, or something about the server changed. */
void sim_server_rerate(struct sim_server *);
void sim_server_push(struct sim_server *, uint32_t job, double work_s);
/* When the next job is done; MC_NEVER_NS: none computes. */
mc_ns sim_server_next(const struct sim_server *);
/* Takes out the job that is done first. */
uint32_t sim_server_pop(struct sim_server *);
double sim_server_latency_at(const struct sim_server *, unsigned in_flight);

#endif
