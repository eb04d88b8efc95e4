/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agent.h - what runs beside a service and tells balancers how busy it is.  One loop, one thread.
 *
 *   GET /load                 one line of ORCA's TEXT grammar
 *   GET /load?interval=1s     a line for each interval, until the reader leaves
 *   GET /metrics              Prometheus
 *   a TCP port of its own     HAProxy's agent-check
 */
#ifndef MC_AGENT_AGENT_H
#define MC_AGENT_AGENT_H

#include "agent/sample.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/tls.h"

#define AGENT_BINDS_MAX    8
#define AGENT_ALLOW_MAX    64

/* Limits of --interval and of ?interval=.  A sample and its lines cost some 200 us here: 20 ms are
 * 1 % of a core.  A stream that is silent for a minute would be taken for dead by httpd. */
#define AGENT_INTERVAL_MIN (20 * MC_MS)
#define AGENT_INTERVAL_MAX (30 * MC_SEC)

struct agent_conf {
    struct sample_conf sample;
    mc_ns interval;
    struct addr bind[AGENT_BINDS_MAX], check_bind[AGENT_BINDS_MAX];
    unsigned n_bind, n_check_bind;
    struct addr_net allow[AGENT_ALLOW_MAX]; /* none: private and loopback networks */
    unsigned n_allow;
    struct tls_domain *tls; /* as agent_set_tls(); the caller's */
    unsigned max_watchers;  /* streams of /load at a time */
    const char *state_file; /* words for agent-check, read at each reply; NULL: none */
    uint64_t capacity;      /* requests the server takes at a time, 0: not said */
    uint64_t fleet;         /* balancers that share them, at least 1 */
};

struct agent;

enum mc_err agent_new(struct loop *, const struct agent_conf *, struct agent **out,
                      struct errbuf *);
void agent_free(struct agent **); /* the loop brings the connections home */
/* The operator's word for agent-check; one in the state file goes before it. */
void agent_set_admin(struct agent *, enum report_admin);
/* Who connects from now on speaks TLS, but for agent-check; NULL: not. */
void agent_set_tls(struct agent *, struct tls_domain *);
/* "host, every 100ms": for the log. */
const char *agent_text(const struct agent *);

/* Samples twice, an interval apart, and writes the report as one line. */
enum mc_err agent_once(const struct agent_conf *, char line[REPORT_TEXT_MAX], struct errbuf *);

#endif
