/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster_sync.c - whole states of the membership, both ways over a sealed connection.
 *
 * Each end sends its state as one record, the last one, and closes when it has the other's.  Until
 * the other end has proved that it holds the key it may send a hello and no more, and has little
 * time for it: what strangers can make us keep is small.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cluster/cluster_priv.h"
#include "cluster/seal_stream.h"

#define SYNCS_MAX       64           /* each way: who connects takes no place of our own */
#define SYNC_NS         (5 * MC_SEC) /* for all of it */
#define STRANGER_MAX    512          /* bytes before the other end is known */
#define ACCEPT_PAUSE_NS (100 * MC_MS)

struct sync {
    struct sock sock;
    struct list link;
    struct cluster *c; /* NULL: that is gone */
    struct seal_stream *stream;
    struct timer deadline;
    struct addr peer;
    struct buf in;
    bool opener, sent, done;
};

/* Where the others connect to; outlives the cluster until its socket is closed. */
struct sync_door {
    struct sock sock;
    struct timer timer;
    struct cluster *c; /* NULL: that is gone */
};

static const struct sock_ops sync_ops;

/* --- the end ------------------------------------------------------------------------------------
 */

static unsigned *
sync_count(struct cluster *c, bool opener)
{
    return opener ? &c->n_opened : &c->n_accepted;
}

static void
sync_end(struct sync *s)
{
    struct cluster *c = s->c;

    s->c = NULL;
    (*sync_count(c, s->opener))--;
    list_remove(&s->link);
    if (s->done)
        c->counters.syncs++;
    else
        c->counters.syncs_failed++;
    loop_timer_clear(c->loop, &s->deadline);
    seal_stream_free(&s->stream);
    sock_close(&s->sock, false);
}

static void
on_closed(struct sock *sock)
{
    struct sync *s = container_of(sock, struct sync, sock);

    buf_free(&s->in);
    free(s);
}

static void
on_deadline(struct timer *t)
{
    sync_end(container_of(t, struct sync, deadline));
}

/* --- the exchange -------------------------------------------------------------------------------
 */

static void
send_out(struct sync *s)
{
    struct buf *out = seal_stream_out(s->stream);

    if (out->n == 0)
        return;
    sock_write(&s->sock, out->p, out->n);
    buf_skip(out, out->n);
}

static void
send_state(struct sync *s)
{
    struct buf state = {0};

    swim_state_write(s->c->swim, &state, loop_now(s->c->loop));
    seal_stream_put(s->stream, state.p, state.n, true);
    buf_free(&state);
    s->sent = true;
}

/* False: it has ended. */
static bool
end_when_done(struct sync *s)
{
    if (s->sent && seal_stream_ended(s->stream) && sock_unsent(&s->sock) == 0) {
        s->done = true;
        sync_end(s);
        return false;
    }
    return true;
}

static void
take_state(struct sync *s, struct str plain)
{
    if (swim_state_absorb(s->c->swim, plain.p, plain.n, loop_now(s->c->loop)) != MC_OK)
        cluster_refused(s->c, &s->peer, "a state that cannot be read");
    cluster_plan(s->c);
}

/* False: it has ended. */
static bool
take_records(struct sync *s)
{
    size_t used;
    struct str plain;

    do {
        enum seal_fault f = seal_stream_open(s->stream, loop_now(s->c->loop), (uint8_t *)s->in.p,
                                             s->in.n, &used, &plain);

        if (f != SEAL_F_NONE) {
            cluster_refused(s->c, &s->peer, seal_fault_text(f));
            sync_end(s);
            return false;
        }
        if (plain.p && plain.n > 0)
            take_state(s, plain);
        buf_skip(&s->in, used);
    } while (used > 0 && s->in.n > 0);
    return true;
}

static void
on_recv(struct sock *sock, struct block **b)
{
    struct sync *s = container_of(sock, struct sync, sock);

    if (!s->c)
        return;
    buf_add(&s->in, block_at(*b), (*b)->len);
    if (!seal_stream_ready(s->stream) && s->in.n > STRANGER_MAX) {
        cluster_refused(s->c, &s->peer, "too much before a hello");
        sync_end(s);
        return;
    }
    if (!take_records(s))
        return;
    if (seal_stream_ready(s->stream) && !s->sent)
        send_state(s);
    send_out(s);
    end_when_done(s);
}

static void
on_drained(struct sock *sock)
{
    struct sync *s = container_of(sock, struct sync, sock);

    if (s->c)
        end_when_done(s);
}

static void
on_eof(struct sock *sock)
{
    struct sync *s = container_of(sock, struct sync, sock);

    if (s->c && end_when_done(s) && seal_stream_eof(s->stream) != SEAL_F_NONE)
        sync_end(s);
}

static void
on_error(struct sock *sock, int err)
{
    struct sync *s = container_of(sock, struct sync, sock);

    (void)err;
    if (s->c)
        sync_end(s);
}

static struct sync *
sync_new(struct cluster *c, const struct addr *peer, bool opener)
{
    struct sync *s = mc_alloc(sizeof(*s));

    s->c = c;
    s->peer = *peer;
    s->opener = opener;
    s->stream = seal_stream_new(c->keys, opener, SWIM_STATE_MAX);
    s->deadline.fn = on_deadline;
    loop_timer_set(c->loop, &s->deadline, loop_now(c->loop) + SYNC_NS);
    list_push_back(&c->syncs, &s->link);
    (*sync_count(c, opener))++;
    return s;
}

/* --- opening ------------------------------------------------------------------------------------
 */

static void
on_connect(struct sock *sock, int err)
{
    struct sync *s = container_of(sock, struct sync, sock);

    if (!s->c)
        return;
    if (err) {
        sync_end(s);
        return;
    }
    sock_recv(sock, true);
    send_out(s);
}

void
sync_open(struct cluster *c, const struct addr *to)
{
    struct sync *s;

    if (c->n_opened >= SYNCS_MAX) {
        c->counters.syncs_refused++;
        return;
    }
    s = sync_new(c, to, true);
    if (sock_connect(&s->sock, c->loop, to, &sync_ops) == MC_OK)
        return;
    c->counters.syncs_failed++;
    loop_timer_clear(c->loop, &s->deadline);
    list_remove(&s->link);
    c->n_opened--;
    seal_stream_free(&s->stream);
    free(s);
}

/* --- accepting ----------------------------------------------------------------------------------
 */

/* Who has not shown the key for longest goes first, so that strangers who only connect keep nobody
 * out.  False: all places are taken by members. */
static bool
make_room(struct cluster *c)
{
    if (c->n_accepted < SYNCS_MAX)
        return true;
    LIST_FOREACH (it, &c->syncs) {
        struct sync *s = LIST_ENTRY(it, struct sync, link);

        if (s->opener || seal_stream_ready(s->stream))
            continue;
        sync_end(s);
        return true;
    }
    return false;
}

static void
on_accept(struct sock *sock, int fd)
{
    struct sync_door *d = container_of(sock, struct sync_door, sock);
    struct addr peer = {.len = sizeof(peer.u)};
    struct sync *s;

    if (!d->c || d->c->left || getpeername(fd, &peer.u.sa, &peer.len) != 0 || !make_room(d->c)) {
        if (d->c)
            d->c->counters.syncs_refused++;
        close(fd);
        return;
    }
    s = sync_new(d->c, &peer, false);
    sock_open(&s->sock, d->c->loop, fd, &sync_ops);
    sock_recv(&s->sock, true);
}

/* Out of descriptors: later. */
static void
on_door_error(struct sock *sock, int err)
{
    struct sync_door *d = container_of(sock, struct sync_door, sock);

    log_warn("cluster: cannot accept connections: %s", strerror(err));
    loop_timer_set(sock->loop, &d->timer, loop_now(sock->loop) + ACCEPT_PAUSE_NS);
}

static void
on_door_timer(struct timer *t)
{
    sock_accept(&container_of(t, struct sync_door, timer)->sock, true);
}

static void
on_door_closed(struct sock *sock)
{
    free(container_of(sock, struct sync_door, sock));
}

static const struct sock_ops sync_ops = {.on_recv = on_recv,
                                         .on_eof = on_eof,
                                         .on_drained = on_drained,
                                         .on_connect = on_connect,
                                         .on_error = on_error,
                                         .on_closed = on_closed};
static const struct sock_ops door_ops = {
    .on_accept = on_accept, .on_error = on_door_error, .on_closed = on_door_closed};

enum mc_err
sync_listen(struct cluster *c, const struct addr *addr, int fd, struct errbuf *e)
{
    struct sock_listen_opts opts = {0};

    if (fd < 0)
        fd = sock_listen_fd(addr, &opts, e);
    if (fd < 0)
        return MC_ESYS;
    c->door = mc_alloc(sizeof(*c->door));
    c->door->c = c;
    c->door->timer.fn = on_door_timer;
    sock_open(&c->door->sock, c->loop, fd, &door_ops);
    return MC_OK;
}

int
sync_fd(const struct cluster *c)
{
    return c->door->sock.fd;
}

void
sync_accept(struct cluster *c)
{
    sock_accept(&c->door->sock, true);
}

void
sync_stop(struct cluster *c)
{
    if (c->door) {
        c->door->c = NULL;
        loop_timer_clear(c->loop, &c->door->timer);
        sock_close(&c->door->sock, false);
        c->door = NULL;
    }
    LIST_FOREACH_SAFE (it, next, &c->syncs)
        sync_end(LIST_ENTRY(it, struct sync, link));
}
