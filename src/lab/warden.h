/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warden.h - the process that is a laboratory while it is up.  For lab/ only.
 *
 * It has one thread, is the first process of the laboratory's PID namespace, and lives in the
 * network namespace that has the bridges.  What it runs (ip, nft, the commands of the topology) it
 * waits for: orders are carried out one after the other.
 */
#ifndef MC_LAB_WARDEN_H
#define MC_LAB_WARDEN_H

#include <sys/types.h>

#include "lab/expand.h"
#include "lab/faults.h"
#include "lab/group.h"
#include "lab/lab.h"
#include "lab/procs.h"
#include "lab/delay.h"
#include "lab/space.h"
#include "lab/topology.h"

struct warden_proc {
    const struct topology_start *conf;
    pid_t session; /* of its processes, and the first of them; 0: never started */
    bool ended;    /* the first has */
    int status;    /* of it, as waitpid(2) has it */
};

struct warden_host {
    const struct topology_host *conf;
    struct space space;
    char net[PROC_NS_TEXT];
    char *dir, *group; /* the name of its control groups */
    struct warden_proc *procs;
    uint32_t cpu_ppm;
    bool is_frozen; /* by its control group */
};

/* A link; index + 1 is its number in the names of interfaces. */
struct warden_port {
    char name[16];    /* at the switch: pN */
    char bridged[16]; /* what the bridge has: pN, or bN behind a relay */
    unsigned host, network;
    const struct topology_link *link;
    uint32_t loss_ppm;
    mc_ns delay_ns;
    struct delay relay; /* when it is delayed */
};

struct warden {
    const struct topology *topology;
    const char *name, *dir, *here, *meercat;
    pid_t outer_pid; /* its own, as those outside see it */
    int outer_proc;  /* a descriptor of their /proc */
    char pid_ns[PROC_NS_TEXT];
    struct space home;
    struct groups groups;
    struct warden_host *hosts;
    struct warden_port *ports;
    unsigned n_ports;
    struct faults faults;
    bool has_rules; /* nft(8) was needed */
    int report;     /* to whoever brings it up; -1 when it is */
    int signals, socket;
};

/* --- warden.c --- */

/* Never returns.  report: gets "ok" when all is up, or what went wrong. */
_Noreturn void warden_main(struct warden *, const char *socket_path);
/* Waits a moment, takes note of processes that end; MC_ESYS when nobody waits for us any more. */
enum mc_err warden_pause(struct warden *, int ms, struct errbuf *);
struct expand warden_expand(const struct warden *, const struct warden_host *);
/* A line of the topology with its placeholders replaced; malloc'd. */
char *warden_line(const struct warden *, const struct warden_host *, const struct topology_line *);

/* --- build.c: hosts and networks --- */

enum mc_err build_networks(struct warden *, struct errbuf *);
enum mc_err build_files(struct warden *, struct errbuf *);
/* Loads what faults.h says. */
enum mc_err build_rules(struct warden *, struct errbuf *);
/* Puts a longer or shorter wire into a link, or takes it out (0). */
enum mc_err build_delay(struct warden *, struct warden_port *, mc_ns delay, struct errbuf *);

/* --- work.c: what runs on hosts --- */

enum mc_err work_prepare(struct warden *, struct errbuf *);
/* name NULL: all that does not wait to be started by hand.  Returns when they are up. */
enum mc_err work_start(struct warden *, struct warden_host *, const char *name, struct errbuf *);
enum mc_err work_start_all(struct warden *, struct errbuf *);
/* Signals a program of a host, or (name NULL) all that is on it; returns when it has ended if
 * `ends`. */
enum mc_err work_signal(struct warden *, struct warden_host *, const char *name, int sig, bool ends,
                        struct errbuf *);
/* Stops the time of a host by its control group, or lets it go on. */
enum mc_err work_freeze(struct warden *, struct warden_host *, bool frozen, struct errbuf *);
/* How much CPU it has, of one core; 0: as much as there is. */
enum mc_err work_slow(struct warden *, struct warden_host *, uint32_t ppm, struct errbuf *);
/* Is a process with the session of this program among them? */
bool work_runs(const struct warden_host *, const struct warden_proc *, const struct proc *,
               unsigned n);
/* Called for each child that has ended. */
void work_ended(struct warden *, pid_t, int status);

/* --- orders.c: what the warden can be asked --- */

struct order_reply {
    struct buf text;
    int fds[LAB_FDS_MAX]; /* sent, and closed then */
    unsigned n_fds;
};

/* words[n] is NULL. */
enum mc_err order_run(struct warden *, unsigned n, char *const words[], struct order_reply *,
                      struct errbuf *);

#endif
