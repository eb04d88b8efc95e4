/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_priv.h - private to flow*.c: a flow from inside.
 */
#ifndef MC_PROXY_FLOW_PRIV_H
#define MC_PROXY_FLOW_PRIV_H

#include "base/slab.h"
#include "proxy/conn.h"
#include "proxy/flow.h"
#include "proxy/txn.h"
#include "takeover/guard.h"
#include "takeover/link.h"

#define FLOW_MAGIC 0x464c4f57u

struct replay;

/* What waits until a ticket is acknowledged. */
enum flow_waiting {
    FLOW_GATE,      /* the client is told that its bytes before gate_pos have arrived */
    FLOW_NEXT_GATE, /* the same, for what came while that waits */
    FLOW_HOLD,      /* the queue is let go */
    FLOW_LEAVE,     /* HANDOVER is known: it goes */
    FLOW_TELL,      /* its request is sent */
    FLOW_N_WAITING
};

struct flow_wait {
    struct list link; /* flows->waiting, by ticket */
    uint64_t ticket;  /* 0: nothing waits */
    uint8_t what;     /* its place in flow.wait */
};

/* The last request that began, as it was told. */
struct flow_request {
    uint64_t in_start, out_start, in_end, out_end;
    uint32_t n_head; /* of what was said */
    bool begun;      /* and not done */
    bool known;      /* there was one, and the client may lack a part of its response */
    bool pipelined, repeatable, sent, head_whole, close;
};

struct flow {
    uint32_t magic;
    uint32_t id; /* as holders know it */
    struct flows *flows;
    struct conn *conn;
    struct list link;    /* flows->all */
    struct list letting; /* flows->letting: its queue is let go at the end of the turn */
    struct list mute;    /* flows->mute: its request waits until this host may speak */

    struct flow_key key;
    struct tcp_params params;
    uint32_t slot; /* of the guard */
    uint32_t rcv_base, snd_base;
    uint64_t in_pos;     /* bytes received */
    uint64_t out_pos;    /* bytes given to the send queue */
    uint64_t next_start; /* where the next request begins */

    /* for a holder that is new */
    uint64_t kept_at; /* position of the first byte in `kept` */
    struct block *kept;
    struct block *said; /* the head of the last response, and what was logged of it */
    struct flow_request request;

    struct flow_wait wait[FLOW_N_WAITING];
    uint64_t gate_pos, next_gate_pos;
    uint64_t bare_ticket; /* before, others may go on from what they knew */

    uint32_t refused; /* places of holders that keep nothing of it, since it was opened */
    struct life heir; /* to whom it was handed over */
    uint8_t looks;    /* while it is to be handed over */
    bool bare, eof, closing, leaving, gone;
    bool untold;  /* holders know nothing of it; bare */
    bool ack_due; /* adopted.h; sent when the gate is opened, which may keep it back once more */
    bool late;    /* something came since it was handed over, and was told */
    bool ended;   /* the present response is whole */
    bool logging; /* and is told byte by byte */
    bool broken;  /* it cannot be completed as it was begun: reset at the end of the turn */
    struct replay *replay; /* what is left of an adoption */
    char *adopted_from;    /* the balancer that served it before; NULL: none */
    const char *adopted;   /* what is done with a request that came there; NULL: it came here */
};

struct flows {
    struct worker *worker;
    struct takeover *takeover;
    struct guard *guard;
    struct link *link;
    struct list all, waiting, letting, mute;
    struct task let_go;
    struct timer leave_timer; /* while draining: looks who rests */
    struct timer mute_timer;
    struct slab slab;
    uint32_t *free_ids; /* of flows that have ended */
    unsigned n_free, cap_free;
    struct flow **by_id; /* [next_id]; NULL: it has ended */
    uint32_t cap_ids;
    uint32_t next_id;
    bool released;           /* nothing is protected */
    uint64_t release_ticket; /* of the last word about it; 0: it was heard */
    struct flow_stats stats;
};

static inline struct flow *
flow_of(const struct txn *t)
{
    const struct conn *c = t->down_side;

    MC_CHECK(c, CONN_MAGIC);
    MC_CHECK(c->flow, FLOW_MAGIC);
    return c->flow;
}

/* What is handed over is another's: nothing more is told of it, and nothing waits for that. */
static inline uint64_t
flow_put(struct flow *f, struct wire_frame *w)
{
    if (f->untold || f->leaving)
        return 0;
    w->flow = f->id;
    return link_put(f->flows->link, w);
}

/* --- flow_wait.c --------------------------------------------------------------------------------
 */
void flow_init_waits(struct flow *);
/* Until this ticket, which is the last that was put, in place of what it waited for before. */
void flow_wait(struct flow *, enum flow_waiting, uint64_t ticket);
static inline bool
flow_waits(const struct flow *f, enum flow_waiting what)
{
    return f->wait[what].ticket != 0;
}
/* It does not wait for that any more. */
void flow_unwait(struct flow *, enum flow_waiting);
/* The kernel may acknowledge to the client what came before in_pos; after the ticket. */
void flow_open_gate(struct flow *, uint64_t in_pos);
void flow_gate_after(struct flow *, uint64_t ticket, uint64_t in_pos);
/* The queue is held until the ticket is acknowledged, if that is still to come. */
void flow_hold_until(struct flow *, uint64_t ticket);
/* The queue leaves at the end of the turn, unless it is held. */
void flow_let_go(struct flow *);
/* Nothing of it waits any more. */
void flow_stop_waiting(struct flow *);
/* The same; what waited goes on, but a request waits for that ticket instead. */
void flow_wait_no_more(struct flow *, uint64_t ticket);
/* Whether its request, which may not be repeated, may be sent.  False: when the ticket is
 * acknowledged and this host may speak, txn_told(). */
bool flow_may_send(struct flow *, uint64_t ticket);
void flows_on_mute_timer(struct timer *);
void flows_on_acked(void *flows, uint64_t ticket);
void flows_let_go(struct task *);

/* --- flow_tell.c --------------------------------------------------------------------------------
 */
/* OPEN at these positions; what is kept from before is forgotten. */
void flow_tell_open(struct flow *, uint64_t in_pos, uint64_t out_pos);
/* Keeps bytes of the client and tells them. */
void flow_tell_in(struct flow *, const char *, size_t n);
/* Tells that a request begins at next_start, with its response at out_start. */
void flow_tell_request(struct flow *, uint64_t out_start, bool repeatable);
/* Bytes of the client that came when it was handed over already: the heir may still use them. */
void flow_tell_late(struct flow *, const char *, size_t n);
/* Bytes of the head, or of the body behind it. */
uint64_t flow_tell_said(struct flow *, enum wire_kind, const char *, size_t n, bool whole);
/* It is not protected until its client has everything and asks again. */
void flow_bare(struct flow *);
/* Nothing of what was is kept. */
void flow_forget(struct flow *);
/* What came before the next request is of use no more. */
void flow_trim(struct flow *);
bool flows_on_snapshot(void *flows, uint32_t flow);
void flows_on_refused(void *flows, uint32_t flow, unsigned place);
void flows_on_let_go(void *flows, unsigned place);

/* --- flow.c -------------------------------------------------------------------------------------
 */
/* Holders forget it, and nothing of it waits any more.  May end the connection, whose memory stays
 * until the end of the turn. */
void flow_release(struct flow *);
/* The other balancer has it: it goes from here without a word. */
void flow_complete_leave(struct flow *);
/* It was about to go there, and stays. */
void flow_stay(struct flow *);
/* A flow for c under this key; nothing is told yet. */
struct flow *flow_new(struct flows *, struct conn *, const struct flow_key *, uint32_t slot);

/* --- flow_adopt.c -------------------------------------------------------------------------------
 */
void flow_on_adopted(void *flows, struct adopted **);
void replay_free(struct replay **);
/* Bytes that came behind those that are still to be read again; true: they were taken. */
bool replay_queue(struct flow *, const char *, size_t n);
/* Bytes that were received and are not read again yet. */
uint64_t replay_left(const struct flow *);
/* A request begins: tells it, when it is one of those that are read again. */
bool replay_tell(struct flow *, bool repeatable);
/* The same; false: it was answered here. */
bool replay_begin(struct flow *, struct txn *, bool repeatable);
/* Of the present response the client has a part: what is sent of it goes through these. */
bool replay_is_skipping(const struct flow *);
/* It is only interim responses: the head goes as it comes. */
bool replay_end_interims(struct flow *);
void replay_head(struct flow *, struct txn *, const struct down_head *);
void replay_data(struct flow *, struct txn *, struct block **);
/* A response is whole. */
void replay_done(struct flow *);

#endif
