/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster_priv.h - the inside of a cluster's end, for cluster*.c.
 */
#ifndef MC_CLUSTER_CLUSTER_PRIV_H
#define MC_CLUSTER_CLUSTER_PRIV_H

#include "base/list.h"
#include "base/log.h"
#include "base/rand.h"
#include "cluster/cluster.h"
#include "cluster/keyring.h"
#include "io/sock.h"

#define PLAIN_MAX (DGRAM_BYTES_MAX - SEAL_OVERHEAD)

/* A live member besides us. */
struct peer {
    uint64_t id;
    struct addr addr;
    uint8_t boot[SWIM_BOOT_BYTES];
    mc_ns heard_at; /* 0: never */
    struct {
        mc_ns ns, since; /* since 0: nothing was heard */
    } skew[2];           /* the greatest of a span of time, of this one and of the one before */
    bool restarted;      /* another process has taken its place; to be told */
    uint64_t bytes_in, bytes_out;
    unsigned n; /* of out: frames that leave at the end of the turn */
    uint8_t out[PLAIN_MAX];
};

struct sync_door;

struct cluster {
    struct loop *loop;
    struct dns *dns;
    struct cluster_hooks hooks;
    struct keyring *keys;
    char *key_file; /* NULL: none */
    struct dgram *dgram;
    struct swim *swim;
    struct facts *facts;
    struct words *words;
    struct rng rng;
    struct timer timer;
    struct task plan; /* end of the turn: what is gathered leaves, the timer is set */
    struct peer **peers;
    uint64_t *ids; /* [n_peers] the same, in the order of ids */
    unsigned n_peers;
    bool started, members_changed, leaving, left, conflict;
    bool alone; /* after a conflict: that nobody is there any more was said */
    void (*on_left)(void *arg);
    void *on_left_arg;
    struct cluster_counters counters;
    struct log_limit refusals;
    mc_ns told_skew_at;
    /* cluster_sync.c */
    struct sync_door *door;
    struct list syncs;
    unsigned n_opened, n_accepted;
    /* cluster_join.c */
    struct list join_names;
};

/* Something may be due sooner now. */
void cluster_plan(struct cluster *);
/* Limited to one line a second. */
void cluster_refused(struct cluster *, const struct addr *from, const char *why);
struct words_time cluster_clocks(const struct cluster *);

/* cluster_frames.c */
/* The peers are the live members as they are now; who stays keeps what is known of it. */
void frames_settle(struct cluster *);
void frames_forget_peers(struct cluster *);
/* At the end of a turn: what was gathered for each peer leaves. */
void frames_flush(struct cluster *);
/* Of the cluster in arg.  Membership does not wait for company: its clocks are short, and it speaks
 * to strangers, too. */
void frames_send_swim(void *arg, const struct addr *to, const void *bytes, size_t n);
void frames_send_facts(void *arg, uint64_t to, const void *bytes, size_t n);
void frames_send_words(void *arg, uint64_t to, const void *bytes, size_t n);
void frames_recv(void *arg, const struct addr *from, uint8_t *bytes, size_t n);

/* cluster_sync.c */
/* fd: a socket that listens there already; -1: none. */
enum mc_err sync_listen(struct cluster *, const struct addr *, int fd, struct errbuf *);
int sync_fd(const struct cluster *);
void sync_accept(struct cluster *);
void sync_open(struct cluster *, const struct addr *to);
void sync_stop(struct cluster *);

/* cluster_join.c */
void join_set(struct cluster *, char *const *join, unsigned n);
void join_stop(struct cluster *);

#endif
