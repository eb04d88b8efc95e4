/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tcp_relay.c - the bytes of a connection that is passed through, both ways.
 *
 * What one side cannot take yet stops reception on the other: at most RELAY_HIGH bytes and one read
 * wait here for each direction.  A direction that moves many bytes gets a pipe, and its bytes do
 * not pass through here any more; when they are few again the pipe goes back.  Where none can be
 * had, or a side has TLS, bytes are copied.
 */
#include "proxy/tcp.h"
#include "proxy/untaken.h"

/* A pipe is worth its two descriptors and its system calls for bursts only: this many bytes within
 * this time; and it goes back when a whole tick has brought fewer. */
#define BURST_BYTES 65536u
#define BURST_NS    (100 * MC_MS)
#define TICK_NS     MC_SEC

/* hot: once per read */
static void
count(struct tcp *t, struct tcp_way *y, uint64_t n)
{
    struct worker *w = t->worker;
    struct server_counters *c = &t->server->counters[w->conf.index];

    if (y == &t->out && y->bytes == 0) { /* it serves */
        t->at.first_byte = worker_now(w);
        server_note(t->server, SERVER_OK, t->at.first_byte);
    }
    y->bytes += n;
    y->moved_ns = worker_now(w);
    stat_add(y == &t->in ? &w->stats.bytes_in : &w->stats.bytes_out, n);
    stat_add(y == &t->in ? &c->bytes_out : &c->bytes_in, n);
}

/* --- splice -------------------------------------------------------------------------------------
 */

static void
count_spliced(struct tcp *t, struct tcp_way *y, uint64_t moved)
{
    if (moved == y->spliced)
        return;
    stat_add(&t->worker->stats.spliced_bytes, moved - y->spliced);
    count(t, y, moved - y->spliced);
    y->spliced = moved;
}

static void
spliced(struct tcp *t, struct tcp_way *y, uint64_t moved, int err, bool from_failed)
{
    MC_CHECK(t, TCP_MAGIC);
    count_spliced(t, y, moved);
    y->splicing = false;
    if (err == 0)
        tcp_relay_end(t, y);
    else if (from_failed == (y == &t->in))
        tcp_client_gone(t, END_CLIENT_GONE);
    else
        tcp_server_failed(t, END_SERVER_RESET);
}

static void
in_spliced(void *arg, uint64_t moved, int err, bool from_failed)
{
    spliced(arg, &((struct tcp *)arg)->in, moved, err, from_failed);
}

static void
out_spliced(void *arg, uint64_t moved, int err, bool from_failed)
{
    spliced(arg, &((struct tcp *)arg)->out, moved, err, from_failed);
}

static void
try_splice(struct tcp *t, struct tcp_way *y)
{
    struct sock *from = stream_raw(y->from), *to = stream_raw(y->to);
    const mc_ns now = worker_now(t->worker);

    y->burst = 0;
    if (t->gen->snap->splice_bytes == 0 || from == NULL || to == NULL)
        return;
    sock_recv(from, false);
    if (!sock_splice(from, to, SPLICE_ALL, y == &t->in ? in_spliced : out_spliced, t)) {
        sock_recv(from, true);
        return;
    }
    y->splicing = true;
    y->spliced = 0;
    if (t->timer.at_ns > now + TICK_NS)
        tcp_set_timer(t, now + TICK_NS);
}

/* hot: once per read.  Has more come than blocks are good for? */
static bool
is_burst(struct tcp_way *y, uint32_t n)
{
    if (y->moved_ns - y->burst_ns > BURST_NS) {
        y->burst = 0;
        y->burst_ns = y->moved_ns;
    }
    y->burst += n;
    return y->burst > BURST_BYTES;
}

static void
give_pipe_back(struct tcp_way *y)
{
    if (!sock_splice_stop(stream_raw(y->from)))
        return;
    y->splicing = false;
    stream_recv(y->from, true);
}

void
tcp_relay_settle(struct tcp *t)
{
    struct tcp_way *ways[] = {&t->in, &t->out};

    for (unsigned i = 0; i < MC_COUNT(ways); i++)
        if (ways[i]->splicing)
            count_spliced(t, ways[i], sock_splice_moved(stream_raw(ways[i]->from)));
}

/* --- both ways ----------------------------------------------------------------------------------
 */

/* hot: once per read */
void
tcp_relay_data(struct tcp *t, struct tcp_way *y, struct block **b)
{
    const uint32_t n = (*b)->len;

    count(t, y, n);
    stream_send(y->to, b);
    if (is_burst(y, n))
        try_splice(t, y);
    if (!y->splicing && stream_unsent(y->to) > RELAY_HIGH)
        stream_recv(y->from, false);
}

/* Both have said their last, and the server has got all; what the client has not taken yet, its
 * connection sends before it closes. */
static bool
is_over(const struct tcp *t)
{
    return t->in.ended && t->out.ended && stream_unsent(t->in.to) == 0;
}

void
tcp_relay_end(struct tcp *t, struct tcp_way *y)
{
    y->ended = true;
    stream_shutdown(y->to);
    if (is_over(t))
        tcp_end(t, END_OK);
}

void
tcp_relay_drained(struct tcp *t, struct tcp_way *y)
{
    y->moved_ns = worker_now(t->worker);
    if (y->ended && is_over(t))
        tcp_end(t, END_OK);
    else if (!y->ended && !y->splicing)
        stream_recv(y->from, true);
}

/* What the client said while a server was looked for. */
static void
send_hold(struct tcp *t)
{
    while (t->hold != NULL) {
        struct block *b = t->hold;

        t->hold = b->next;
        count(t, &t->in, b->len);
        stream_send(t->in.to, &b);
    }
}

void
tcp_relay_start(struct tcp *t)
{
    const mc_ns now = t->at.connected = worker_now(t->worker);

    t->state = TCP_RELAY;
    t->in = (struct tcp_way){
        .from = &t->conn->stream, .to = &t->up->stream, .moved_ns = now, .burst_ns = now};
    t->out = (struct tcp_way){
        .from = &t->up->stream, .to = &t->conn->stream, .moved_ns = now, .burst_ns = now};
    stream_recv(t->out.from, true);
    send_hold(t);
    tcp_relay_tick(t);
    if (t->early_end)
        tcp_relay_end(t, &t->in);
    else
        stream_recv(t->in.from, true);
}

/* --- time limits --------------------------------------------------------------------------------
 */

static bool
is_blocked(const struct tcp_way *y)
{
    return y->splicing ? sock_splice_blocked(stream_raw(y->from)) : stream_unsent(y->to) > 0;
}

/* What its target has taken without making room for more yet counts as progress. */
static void
look(struct tcp *t, struct tcp_way *y)
{
    const uint64_t untaken = is_blocked(y) ? untaken_bytes(y->to) : 0;

    if (untaken != 0 && untaken != y->untaken_seen)
        y->moved_ns = worker_now(t->worker);
    y->untaken_seen = untaken;
    if (y->splicing && y->bytes - y->bytes_seen < BURST_BYTES)
        give_pipe_back(y);
    y->bytes_seen = y->bytes;
}

/* When this direction's target will have taken nothing for too long. */
static mc_ns
blocked_until(const struct tcp_way *y, mc_ns limit_ns)
{
    return is_blocked(y) ? y->moved_ns + limit_ns : MC_NEVER_NS;
}

/* Events move no timer: it fires as often as the shortest limit says, and looks. */
void
tcp_relay_tick(struct tcp *t)
{
    const struct pool_conf *p = &t->pool->pool->conf;
    const mc_ns now = worker_now(t->worker);
    mc_ns client, server, idle, next;

    tcp_relay_settle(t);
    look(t, &t->in);
    look(t, &t->out);
    client = blocked_until(&t->out, t->listener->conf.send_timeout_ns);
    server = blocked_until(&t->in, p->idle_timeout_ns);
    idle = mc_later(t->in.moved_ns, t->out.moved_ns) + p->tunnel_timeout_ns;
    if (client <= now) {
        tcp_client_gone(t, END_SEND_TIMEOUT);
        return;
    }
    if (server <= now || idle <= now) {
        tcp_end(t, server <= now ? END_SERVER_WRITE_TIMEOUT : END_TUNNEL_TIMEOUT);
        return;
    }
    next = mc_sooner(mc_sooner(client, server), mc_sooner(idle, t->deadline_total_ns));
    next = mc_sooner(next, now + mc_sooner(t->listener->conf.send_timeout_ns, p->idle_timeout_ns));
    tcp_set_timer(t, t->in.splicing || t->out.splicing ? mc_sooner(next, now + TICK_NS) : next);
}
