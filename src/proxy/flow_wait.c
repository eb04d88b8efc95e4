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

static uint64_t
sooner_ticket(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* The first that it waits for; 0: nothing. */
static uint64_t
first_ticket(const struct flow *f)
{
    uint64_t t = sooner_ticket(f->gate.ticket, f->hold_ticket);

    return sooner_ticket(sooner_ticket(t, f->tell_ticket), f->leave_ticket);
}

/* New tickets are the highest: the place is at the end or near it. */
void
flow_wait(struct flow *f)
{
    const uint64_t ticket = first_ticket(f);
    struct list *at = f->flows->waiting.prev;

    list_remove(&f->waiting);
    if (ticket == 0)
        return;
    for (at = f->flows->waiting.prev;
         at != &f->flows->waiting && first_ticket(LIST_ENTRY(at, struct flow, waiting)) > ticket;
         at = at->prev)
        ;
    list_push_front(at, &f->waiting);
}

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
    const struct flow_gate g = {ticket, in_pos};

    if (ticket <= link_acked(f->flows->link))
        flow_open_gate(f, in_pos);
    else if (f->gate.ticket == 0)
        f->gate = g;
    else
        f->next_gate = g;
    flow_wait(f);
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
        } else if (f->hold_ticket == 0) {
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
    f->hold_ticket = ticket;
    sock_hold(&f->conn->stream.sock, true);
    flow_wait(f);
}

/* May end the connection, whose memory stays until the end of the turn. */
static void
advance(struct flow *f, uint64_t acked)
{
    if (f->gate.ticket != 0 && f->gate.ticket <= acked) {
        flow_open_gate(f, f->gate.in_pos);
        f->gate = f->next_gate;
        f->next_gate = (struct flow_gate){0, 0};
    }
    if (f->hold_ticket != 0 && f->hold_ticket <= acked) {
        f->hold_ticket = 0;
        flow_let_go(f);
    }
    if (f->leave_ticket != 0 && f->leave_ticket <= acked) {
        f->leave_ticket = 0;
        flow_complete_leave(f);
    }
    if (f->tell_ticket != 0 && f->tell_ticket <= acked) {
        f->tell_ticket = 0;
        txn_told(f->conn->txn);
    }
}

void
flows_on_acked(void *arg, uint64_t acked)
{
    struct flows *fs = arg;

    while (!list_empty(&fs->waiting)) {
        struct flow *f = LIST_ENTRY(fs->waiting.next, struct flow, waiting);

        if (first_ticket(f) > acked)
            return;
        list_remove(&f->waiting);
        advance(f, acked);
        if (!f->gone)
            flow_wait(f);
    }
}

/* Nothing of it waits any more. */
void
flow_stop_waiting(struct flow *f)
{
    f->gate = f->next_gate = (struct flow_gate){0, 0};
    f->hold_ticket = f->tell_ticket = f->leave_ticket = 0;
    list_remove(&f->waiting);
}
