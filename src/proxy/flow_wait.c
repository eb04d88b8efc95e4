/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_wait.c - what waits until holders of a connection have what they were told: acknowledgements
 * to its client, its send queue, a request that may not be repeated.
 *
 * Order within a turn: frames are put as things happen, the link sends them in a task, and only
 * then are queues of clients let go.  So a process that is killed has told more than it has said,
 * never less.
 */
#include "proxy/flow_priv.h"
#include "takeover/repair.h"

/* How often it is looked whether this host may speak again: beats come each 20 ms. */
#define MUTE_NS (5 * MC_MS)

/* --- the queue of all that wait ------------------------------------------------------------------
 *
 * Who begins to wait does so for what was put last, so what is put at the end stands in order.
 */

void
flow_init_waits(struct flow *f)
{
    for (unsigned i = 0; i < FLOW_N_WAITING; i++) {
        f->wait[i] = (struct flow_wait){.what = (uint8_t)i};
        list_init(&f->wait[i].link);
    }
    list_init(&f->mute);
}

static struct flow_wait *
wait_at(struct list *link)
{
    return LIST_ENTRY(link, struct flow_wait, link);
}

static struct flow *
waiter(struct flow_wait *w)
{
    return container_of(w - w->what, struct flow, wait[0]);
}

/* hot: some times a request */
void
flow_wait(struct flow *f, enum flow_waiting what, uint64_t ticket)
{
    struct list *all = &f->flows->waiting;
    struct flow_wait *w = &f->wait[what];

    list_remove(&w->link);
    MC_ASSERT(list_empty(all) || wait_at(all->prev)->ticket <= ticket);
    w->ticket = ticket;
    list_push_back(all, &w->link);
}

void
flow_unwait(struct flow *f, enum flow_waiting what)
{
    f->wait[what].ticket = 0;
    list_remove(&f->wait[what].link);
    if (what == FLOW_TELL)
        list_remove(&f->mute);
}

/* Nothing of it waits any more. */
void
flow_stop_waiting(struct flow *f)
{
    for (unsigned i = 0; i < FLOW_N_WAITING; i++)
        flow_unwait(f, (enum flow_waiting)i);
}

/* --- what is done then ---------------------------------------------------------------------------
 */

static void
acknowledge(struct flow *f)
{
    struct guard *g = f->flows->guard;

    guard_ack_begin(g, f->slot);
    repair_ack(f->conn->stream.sock.fd);
    guard_ack_end(g, f->slot);
}

/* The kernel may acknowledge to the client what came before in_pos. */
void
flow_open_gate(struct flow *f, uint64_t in_pos)
{
    const struct conn *c = f->conn;
    const uint32_t fin = f->eof && in_pos == f->in_pos;
    const bool held = guard_gate(f->flows->guard, f->slot, f->rcv_base + (uint32_t)in_pos + fin);

    if ((held || f->ack_due) && stream_unsent(&c->stream) == 0 && c->state != CONN_CLOSED)
        acknowledge(f);
    f->ack_due = false;
}

void
flow_gate_after(struct flow *f, uint64_t ticket, uint64_t in_pos)
{
    if (ticket <= link_acked(f->flows->link)) {
        flow_open_gate(f, in_pos);
    } else if (!flow_waits(f, FLOW_GATE)) {
        f->gate_pos = in_pos;
        flow_wait(f, FLOW_GATE, ticket);
    } else {
        f->next_gate_pos = in_pos;
        flow_wait(f, FLOW_NEXT_GATE, ticket);
    }
}

static void
open_gate(struct flow *f)
{
    flow_open_gate(f, f->gate_pos);
    if (!flow_waits(f, FLOW_NEXT_GATE))
        return;
    /* in the other's place in the queue, which may not be at its end */
    f->gate_pos = f->next_gate_pos;
    f->wait[FLOW_GATE].ticket = f->wait[FLOW_NEXT_GATE].ticket;
    list_push_back(&f->wait[FLOW_NEXT_GATE].link, &f->wait[FLOW_GATE].link);
    flow_unwait(f, FLOW_NEXT_GATE);
}

/* Runs behind the link's own task of this turn. */
void
flows_let_go(struct task *task)
{
    struct flows *fs = container_of(task, struct flows, let_go);

    while (!list_empty(&fs->letting)) {
        struct flow *f = LIST_ENTRY(fs->letting.next, struct flow, letting);
        struct conn *c = f->conn;

        list_remove(&f->letting);
        if (c->state == CONN_CLOSED)
            continue;
        if (f->broken) {
            stat_add(&fs->stats.broken, 1);
            if (c->txn != NULL)
                txn_down_gone(c->txn, END_TAKEOVER_BROKEN);
            else
                conn_close(c, true);
        } else if (!flow_waits(f, FLOW_HOLD)) {
            sock_hold(&c->stream.sock, false);
        }
    }
}

void
flow_let_go(struct flow *f)
{
    struct flows *fs = f->flows;

    list_remove(&f->letting);
    list_push_back(&fs->letting, &f->letting);
    loop_undefer(fs->worker->loop, &fs->let_go);
    loop_defer(fs->worker->loop, &fs->let_go);
}

void
flow_hold_until(struct flow *f, uint64_t ticket)
{
    if (ticket <= link_acked(f->flows->link))
        return;
    stat_add(&f->flows->stats.acks_waited, 1);
    sock_hold(&f->conn->stream.sock, true);
    flow_wait(f, FLOW_HOLD, ticket);
}

/* --- requests that may not be repeated -----------------------------------------------------------
 *
 * A holder also acknowledges what it hears of a flow that it gave away while this process slept,
 * and then its adopter sends the request.  A valid lease says that nothing of ours was given
 * away: who has one when the acknowledgement is there sends it, and nobody else.  Without one it
 * waits.  The lease comes back when we have heard what was taken, and that is dropped by then.
 */

static bool
may_speak(const struct flows *fs)
{
    return guard_may_speak(fs->guard, loop_now_exact(fs->worker->loop));
}

static void
look_again(struct flows *fs)
{
    struct loop *l = fs->worker->loop;

    if (!timer_is_set(&fs->mute_timer))
        loop_timer_set(l, &fs->mute_timer, loop_now(l) + MUTE_NS);
}

/* What is told to nobody any more is protected by nobody: the process that follows has the lease.
 */
bool
flow_may_send(struct flow *f, uint64_t ticket)
{
    struct flows *fs = f->flows;

    if (flow_waits(f, FLOW_TELL) || !list_empty(&f->mute))
        return false;
    if (ticket > link_acked(fs->link)) {
        stat_add(&fs->stats.acks_waited, 1);
        flow_wait(f, FLOW_TELL, ticket);
        return false;
    }
    if (f->untold || may_speak(fs))
        return true;
    stat_add(&fs->stats.muted, 1);
    list_push_back(&fs->mute, &f->mute);
    look_again(fs);
    return false;
}

void
flows_on_mute_timer(struct timer *timer)
{
    struct flows *fs = container_of(timer, struct flows, mute_timer);

    while (!list_empty(&fs->mute)) {
        struct flow *f = LIST_ENTRY(fs->mute.next, struct flow, mute);

        if (!may_speak(fs)) {
            look_again(fs);
            return;
        }
        list_remove(&f->mute);
        txn_told(f->conn->txn);
    }
}

static void
send_request(struct flow *f)
{
    if (flow_may_send(f, 0))
        txn_told(f->conn->txn);
}

/* --- what is acknowledged ------------------------------------------------------------------------
 */

void
flows_on_acked(void *arg, uint64_t acked)
{
    /* each may end the connection, whose memory stays until the end of the turn; the next gate is
     * the first before its turn comes */
    static void (*const done[])(struct flow *) = {
        [FLOW_GATE] = open_gate,
        [FLOW_HOLD] = flow_let_go,
        [FLOW_LEAVE] = flow_complete_leave,
        [FLOW_TELL] = send_request,
    };
    struct flows *fs = arg;
    struct list *all = &fs->waiting;

    if (fs->release_ticket != 0 && fs->release_ticket <= acked) {
        fs->release_ticket = 0;
        worker_tell_released(fs->worker);
    }
    while (!list_empty(all) && wait_at(all->next)->ticket <= acked) {
        struct flow_wait *w = wait_at(all->next);
        struct flow *f = waiter(w);

        MC_ASSERT(w->what != FLOW_NEXT_GATE);
        flow_unwait(f, (enum flow_waiting)w->what);
        done[w->what](f);
    }
}

void
flow_wait_no_more(struct flow *f, uint64_t ticket)
{
    const bool held = flow_waits(f, FLOW_HOLD);
    const bool told = flow_waits(f, FLOW_TELL) || !list_empty(&f->mute);

    flow_stop_waiting(f);
    if (held)
        flow_let_go(f);
    if (told && flow_may_send(f, ticket))
        txn_told(f->conn->txn);
}
