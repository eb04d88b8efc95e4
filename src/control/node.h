/* SPDX-License-Identifier: BSD-2-Clause
 *
 * node.h - a balancer as a whole: its configuration in force, its workers, its servers.
 *
 * Everything in struct node belongs to the control thread, but for what says otherwise.
 */
#ifndef MC_CONTROL_NODE_H
#define MC_CONTROL_NODE_H

#include <pthread.h>
#include <stdatomic.h>

#include "control/build.h"
#include "control/conf.h"
#include "control/fit.h"
#include "control/leave.h"
#include "control/privs.h"
#include "control/tickets.h"
#include "control/upgrade.h"
#include "control/vip.h"
#include "io/dns.h"
#include "io/loop.h"
#include "proxy/worker.h"

#define NODE_WORKERS_MAX 64

struct admin;
struct member;
struct takeover;
struct takeover_heritage;
struct vip;

struct node_options {
    const char *conf_file;
    char *const *argv;         /* of the process, for the next one */
    const char *binary;        /* what that is started of; NULL: not known */
    struct heritage *heritage; /* of the process before, for node_start(), which frees it */
    bool engine_given;         /* on the command line: goes before the configuration */
    enum loop_engine engine;
};

/* What became of the last reload. */
struct node_reload {
    bool ok;
    unsigned n_good, n_bad;
    int64_t wall_ns;
};

struct node {
    struct node_options options;
    struct conf *conf; /* in force; its listeners, pools and routes are in the snapshot */
    struct privs privs;
    struct fit fit;
    struct loop *loop;
    struct dns *dns;
    struct build build;
    struct worker *workers[NODE_WORKERS_MAX];
    unsigned n_workers;
    pthread_mutex_t wake_lock;
    bool started; /* workers may be woken, by any thread; under wake_lock */
    struct snapshot *current;
    struct snapshot **old; /* still used by some worker */
    unsigned n_old;
    _Atomic uint64_t released[NODE_WORKERS_MAX]; /* written by workers */
    _Atomic unsigned n_drained;                  /* written by workers */
    struct watch signals;
    struct timer retire_timer, alive_timer, status_timer;
    bool ending; /* leave_begin() was called */
    struct leave leave;
    struct upgrade upgrade;
    int64_t started_wall_ns;
    struct node_reload reload;
    struct admin *admin;
    struct tickets tickets;
    struct member *member; /* NULL: this balancer is alone */
    struct vip *vip;       /* NULL: it carries no addresses */
    struct vip_news vip_news;
    struct takeover *takeover;                 /* NULL: its connections are lost with it */
    struct takeover_heritage *inherited_peers; /* of the process before; NULL: none */
    struct timer mend_timer;                   /* when to look at the takeover's guard again */
    struct errbuf no_takeover;                 /* why there is none though it is wanted; or empty */
};

/* Serves until it is told to end; returns the exit status. */
int node_run(const struct node_options *);

/* Reads the configuration again and puts it in force.  False: nothing has changed.  The text says
 * what is wrong, or what is noteworthy. */
bool node_reload(struct node *, struct buf *text);

/* The process before has said that everything is ours now, or has died (orphaned). */
void node_take_place(struct node *, bool orphaned);
/* The service manager hears nothing of us any more. */
void node_stop_timers(struct node *);
/* Nobody new is let in from now on; workers have been told to stop accepting. */
void node_close_binds(struct node *);

/* Born and ended by hand, for tests: node_start() leaves the loop to the caller. */
enum mc_err node_start(struct node *, const struct node_options *, struct buf *faults);
void node_stop(struct node *);

#endif
