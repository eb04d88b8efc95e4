/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade.h - a new process takes the place of this one, with the binary and the configuration that
 * are on the disk now, and no connection is lost.  Control thread.
 *
 *   1. We start it with our rights, and send it over a unix socket what is ours (heritage.h).
 *   2. It comes up fully, accepting on the same sockets, and says "ready"; or why not, and we go on
 *      as if nothing had been.  It has COME_UP_NS for it.
 *   3. With takeover: others cease to rely on us, workers let go of their flows, we let go of our
 *      holders; only now nothing of ours is protected (takeover/takeover.h, "An upgrade").  Until
 *      here all can be taken back.
 *   4. We fall silent in the cluster, tell the service manager whom to watch, and say "go".
 *   5. It looks for the cluster and is the balancer.  We stop accepting, pass idle connections on
 *      (proxy/pass.h), and serve the others for upgrade-timeout at most.
 *
 * Messages: a letter, and what belongs to it.
 */
#ifndef MC_CONTROL_UPGRADE_H
#define MC_CONTROL_UPGRADE_H

#include <sys/types.h>

#include "base/err.h"
#include "io/loop.h"
#include "takeover/guard.h"

struct node;
struct heritage;

#define UPGRADE_ENV "MEERCAT_UPGRADE" /* number of the socket to the process before */

enum upgrade_message {
    UPGRADE_SAYS_RIGHTS = 'F', /* to the new process: u8 letter, u8 version, u16 how many in all */
    UPGRADE_SAYS_READY = 'R',  /* from it: u8 letter, u8 n, n times u32 index of an interface that
                                * its guard will be at; a letter alone: n 0 */
    UPGRADE_SAYS_FAILED = 'X', /* from it; text why */
    UPGRADE_SAYS_GO = 'G',     /* to it */
};

/* What became of the last upgrade, as this process sees it. */
enum upgrade_state {
    UPGRADE_NONE,
    UPGRADE_COMING, /* the new process is starting */
    /* with takeover only: it is ready, and */
    UPGRADE_PARTING,   /* others cease to rely on us */
    UPGRADE_RELEASING, /* workers let go of their flows */
    UPGRADE_ALONE,     /* and we of our holders */
    UPGRADE_FAILED,    /* we go on */
    UPGRADE_OVER,      /* it has taken over */
};

struct upgrade {
    enum upgrade_state state;
    /* the process that takes over */
    pid_t pid;
    unsigned ifindex[GUARD_INTERFACES_MAX], n_interfaces; /* where its guard will be */
    struct watch watch;                                   /* its socket; loop NULL: there is none */
    struct timer timer;
    struct errbuf why; /* the last one failed */
    unsigned n_failed;
    int64_t wall_ns; /* of the last attempt */
    /* the process before us */
    pid_t before;      /* 0: there was none */
    struct watch from; /* its socket; loop NULL: there is none, or it has ended */
    bool went;         /* it said "go", or is gone */
    unsigned next;     /* worker for the next connection that it passes on */
};

/* Starts the new process.  MC_EEXIST, or another error: nothing has changed. */
enum mc_err upgrade_begin(struct node *, struct errbuf *);
/* Something ends while the new process is coming up: it is stopped. */
void upgrade_abort(struct node *, const char *why);
bool upgrade_is_over(const struct node *);
/* One has begun, and is neither over nor failed. */
bool upgrade_is_under_way(const struct node *);
/* No process before this one passes connections on to it any more, for it or the next one. */
bool upgrade_is_last(const struct node *);
/* Workers or the takeover have told something. */
void upgrade_look(struct node *);
/* The other process is gone, nobody waits in it any more: workers look whether it has left somebody
 * in the queues that both waited on (EPOLLEXCLUSIVE wakes one of them). */
void upgrade_look_at_queues(struct node *);
/* At the end of the process. */
void upgrade_stop(struct node *);

/* --- upgrade_new.c: the process that comes --- */

/* Were we started by one that we are to replace?  MC_OK with *fd -1: no.  Else what it left. */
enum mc_err upgrade_inherit(int *fd, struct heritage **, struct errbuf *);
/* We cannot: it is told why. */
void upgrade_fail(int fd, const char *why);
/* Workers accept: it is told, and what follows comes from the loop. */
void upgrade_ready(struct node *, int fd);
/* We end: the process before us, if it still serves, keeps what connections it has from now on;
 * those that it has passed on already are taken. */
void upgrade_refuse(struct node *);

/* Where the binary is that `serve` was called as; NULL when it cannot be found.  To be freed. */
char *upgrade_find_binary(const char *argv0);

#endif
