/* SPDX-License-Identifier: BSD-2-Clause
 *
 * worker_priv.h - a worker as its own room sees it.
 */
#ifndef MC_PROXY_WORKER_PRIV_H
#define MC_PROXY_WORKER_PRIV_H

#include <pthread.h>

#include "base/rand.h"
#include "base/slab.h"
#include "fleet/idle.h"
#include "io/tls.h"
#include "io/turns.h"
#include "proxy/worker.h"

#define WORKER_MAX 64

struct txn;

/* Those of one worker who wait for a free server of a pool; lives as long as the worker. */
struct wait_queue {
    struct list link; /* worker's queues */
    struct pool_live *live;
    struct list waiters; /* oldest first */
    unsigned n;
};

/* Embedded in who waits. */
struct waiter {
    struct list link;
    struct wait_queue *queue;      /* NULL: not queued */
    void (*turn)(struct waiter *); /* may try again: leaves the queue, or stays where it is */
};

/* Tokens for attempts after the first (a budget keeps retries from becoming an avalanche). */
struct retry_budget {
    double tokens;
    mc_ns filled_ns;
};

#define TRIES_AVOIDED_MAX 8

/* What was tried for a request, or for a connection that is passed through. */
struct tries {
    unsigned n; /* attempts after the first that count against the pool's retries */
    uint32_t avoided[TRIES_AVOIDED_MAX]; /* servers, by their index in the pool */
    unsigned n_avoided;
};

/* A worker's own part of a pool of one snapshot. */
struct pool_rt {
    const struct pool *pool;
    struct pool_worker pick;
    struct wait_queue *queue;
    struct retry_budget budget;
};

/* A snapshot as pinned by this worker; freed when it is not current and nothing counts on it. */
struct gen {
    struct list link; /* worker's generations, newest last */
    struct snapshot *snap;
    struct pool_rt *pools; /* [snap->n_pools] */
    unsigned n_txns;
};

struct h2_memory;   /* down_h2.c */
struct listen_port; /* listen.c */

struct worker {
    struct worker_conf conf;
    struct loop *loop;
    pthread_t thread;
    enum { WORKER_STARTING, WORKER_RUNNING, WORKER_FAILED } phase; /* under inbox_lock */
    struct errbuf failure;
    pthread_cond_t started;
    struct rng rng;

    struct gen *current;
    struct list gens;
    struct list queues;
    struct timer queue_timer; /* looks at the queues again while one is not empty */

    struct list ports;   /* struct listen_port */
    struct list conns;   /* struct conn */
    struct list upconns; /* struct upconn that are open */
    struct list tcp_ups; /* struct tcp_up that are open */
    unsigned n_conns, n_closing;

    struct slab conn_slab, up_slab, txn_slab, tcp_slab, tcp_up_slab;
    struct slab h2_slab, h2_stream_slab;
    struct h2_memory *h2_memory; /* of the sessions; NULL until there is one */
    struct arena_cache arenas;
    struct arena scratch; /* dropped after each use */
    struct idle *idle;
    struct h2_ups *h2_ups; /* connections to servers that are shared */
    struct timer idle_timer;

    struct tls_turns tls_turns;
    struct turns turns;  /* of the listeners */
    struct flows *flows; /* NULL: connections are not protected */

    struct buf log_buf;
    struct task log_task;

    bool parting; /* clients are told to come back by other connections */
    bool draining, drained_told;
    mc_ns drain_idle_ns; /* how long a connection may be idle while draining */
    int heir; /* unix socket of the process that gets idle connections, control's; -1: none */
    struct timer drain_timer;

    char date[40]; /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    int64_t date_s;
    char id_prefix[17];
    uint64_t id_count;

    pthread_mutex_t inbox_lock;
    struct {
        struct snapshot *adopt;
        bool part, drain, stop, look;
        bool release, keep; /* what was said last */
        mc_ns drain_deadline_ns, drain_idle_ns;
        int heir;
        struct list passed; /* struct passed: connections of the process before */
    } inbox;

    atomic_bool released;    /* no other balancer knows anything of its connections */
    _Atomic mc_ns called_ns; /* by worker_lag(); 0: it has come */

    struct worker_stats stats __attribute__((aligned(64)));
};

static inline mc_ns
worker_now(const struct worker *w)
{
    return loop_now(w->loop);
}

/* The Date of now, in the form of RFC 9110 5.6.7; made once a second. */
struct str worker_date(struct worker *);

/* gen.c */
void gen_pin(struct gen *);
void gen_unpin(struct worker *, struct gen *); /* may free it and tell control */
void gen_make_current(struct worker *, struct snapshot *);
void gen_free_all(struct worker *);

/* listen.c */
void listen_update(struct worker *); /* ports follow the current snapshot */
void listen_stop(struct worker *);   /* takes in what is queued, then closes all ports */
void listen_close(struct worker *);  /* closes all ports at once */
void listen_room(struct worker *);   /* a connection ended: paused ports may go on */
void listen_leave(struct worker *);  /* lets go of all ports: others accept on these sockets */
void listen_look(struct worker *);   /* takes in who is queued, whoever was woken for them */
/* A connection that did not come by a port. */
void listen_claim(struct listener_live *);
void listen_conn_closed(struct listener_live *);
/* Whose connections arrive at this address; one more is counted.  NULL: nobody's. */
struct listener_live *listen_adopt(struct worker *, const struct addr *local);

/* wait.c */
struct wait_queue *wait_queue_of(struct worker *, struct pool_live *);
void wait_init(struct waiter *, void (*turn)(struct waiter *));
/* False: the queue is full. */
bool wait_enter(struct worker *, struct pool_rt *, struct waiter *);
void wait_leave(struct worker *, struct waiter *);
/* A slot of the pool came free here: whoever waits may try again. */
void wait_kick(struct worker *, const struct pool *);
/* Lets all queues try again. */
void wait_wake(struct worker *);
void wait_free_all(struct worker *);

/* budget.c */
void budget_earn(struct retry_budget *, const struct pool_conf *, mc_ns now);
bool budget_spend(struct retry_budget *);
/* The pool's settings and budget allow an attempt after one at `s`, its `index`th, that failed: it
 * is counted, and that server avoided. */
bool budget_retry(struct worker *, struct pool_rt *, const struct server *s, uint32_t index,
                  struct tries *);
void tries_avoid(struct tries *, uint32_t index);

/* upconn.c */
void upconn_idle_evict(void *worker, struct idle_conn *);

/* conn.c */
/* A connection that has not begun: no stream yet. */
struct conn *conn_make(struct worker *, struct listener_live *, int fd, uint16_t local_port);
/* tls NULL: plain.  n_read: bytes of it that were read already, and are given to it next. */
struct conn *conn_accept(struct worker *, struct listener_live *, struct tls_domain *tls, int fd,
                         uint16_t local_port, size_t n_read);
/* The worker is parting, or draining. */
void conn_part_all(struct worker *);
void conn_drain_all(struct worker *);
void conn_cut_all(struct worker *);

/* worker.c */
/* All holders have forgotten its flows. */
void worker_tell_released(struct worker *);
void worker_wake_other(unsigned index); /* any thread; nothing when it does not run */
void worker_check_drained(struct worker *);

#endif
