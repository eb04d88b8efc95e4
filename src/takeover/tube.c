/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tube.c - see tube.h.
 *
 * Frames wait as plain bytes for the end of the turn, so that it costs one seal and one send
 * however many there were; those for an end that has not proved itself wait for that.
 */
#include "takeover/tube.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cluster/seal_stream.h"

#define STRANGER_MAX 512 /* bytes before the other end is known */

static const struct sock_ops tube_sock_ops;

/* --- the end ------------------------------------------------------------------------------------
 */

static void
broke(struct tube *t, const char *why)
{
    if (!t->closed)
        t->ops->on_broken(t, why);
}

void
tube_close(struct tube **tp)
{
    struct tube *t = *tp;

    *tp = NULL;
    if (t == NULL || t->closed)
        return;
    t->closed = true;
    loop_timer_clear(t->loop, &t->deadline);
    loop_undefer(t->loop, &t->flush);
    sock_close(&t->sock, false);
}

static void
free_tube(struct tube *t)
{
    (*t->n_alive)--;
    seal_stream_free(&t->stream);
    buf_free(&t->in);
    buf_free(&t->out);
    free(t);
}

static void
on_closed(struct sock *s)
{
    free_tube(container_of(s, struct tube, sock));
}

static void
on_deadline(struct timer *timer)
{
    broke(container_of(timer, struct tube, deadline), "it takes too long to connect");
}

static void
on_eof(struct sock *s)
{
    broke(container_of(s, struct tube, sock), "closed by the other end");
}

static void
on_error(struct sock *s, int err)
{
    broke(container_of(s, struct tube, sock), strerror(err));
}

/* --- out ----------------------------------------------------------------------------------------
 */

static void
send_out(struct tube *t)
{
    struct buf *out = seal_stream_out(t->stream);

    if (out->n == 0)
        return;
    t->bytes_out += out->n;
    sock_write(&t->sock, out->p, out->n);
    buf_skip(out, out->n);
}

static void
seal_record(struct tube *t)
{
    if (t->out.n == 0 || !t->ready)
        return;
    MC_ASSERT(t->out.n <= TUBE_RECORD_MAX);
    seal_stream_put(t->stream, t->out.p, t->out.n, false);
    t->records_out++;
    buf_skip(&t->out, t->out.n);
    send_out(t);
}

/* Before responses leave: a holder is to know their heads when a client does. */
static void
on_flush(struct task *task)
{
    struct tube *t = container_of(task, struct tube, flush);

    if (t->closed)
        return;
    seal_record(t);
    sock_flush(&t->sock);
}

size_t
tube_waiting(const struct tube *t)
{
    return t->out.n + sock_unsent(&t->sock);
}

static void
on_late(struct timer *timer)
{
    broke(container_of(timer, struct tube, deadline), "it does not read what it is sent");
}

void
tube_put_end(struct tube *t)
{
    if (t->closed)
        return;
    if (tube_waiting(t) > TUBE_WAITING_MAX) {
        /* from the loop, since the caller does not expect its hook now */
        buf_skip(&t->out, t->out.n);
        t->deadline.fn = on_late;
        loop_timer_set(t->loop, &t->deadline, loop_now(t->loop));
        return;
    }
    if (t->out.n >= TUBE_RECORD_BYTES)
        seal_record(t);
    loop_defer_first(t->loop, &t->flush);
}

/* --- in -----------------------------------------------------------------------------------------
 */

static void
become_ready(struct tube *t)
{
    t->ready = true;
    loop_timer_clear(t->loop, &t->deadline);
    t->ops->on_ready(t);
    if (!t->closed)
        seal_record(t);
}

/* How many bytes of p were used; what is left waits for more. */
static size_t
take_records(struct tube *t, uint8_t *p, size_t n)
{
    size_t done = 0, used;
    struct str plain;

    do {
        enum seal_fault f =
            seal_stream_open(t->stream, loop_now(t->loop), p + done, n - done, &used, &plain);

        if (f != SEAL_F_NONE) {
            broke(t, seal_fault_text(f));
            return n;
        }
        done += used;
        if (!t->ready && seal_stream_ready(t->stream))
            become_ready(t);
        if (!t->closed && plain.p != NULL && plain.n > 0)
            t->ops->on_record(t, (const uint8_t *)plain.p, plain.n);
    } while (!t->closed && used > 0 && done < n);
    return done;
}

/* Hot: once an event.  Records that are whole are opened where they are. */
static void
on_recv(struct sock *s, struct block **b)
{
    struct tube *t = container_of(s, struct tube, sock);
    uint8_t *p = (uint8_t *)block_at(*b);
    size_t n = (*b)->len, done;

    if (t->closed)
        return;
    if (t->in.n > 0) {
        buf_add(&t->in, p, n);
        p = (uint8_t *)t->in.p;
        n = t->in.n;
    }
    done = take_records(t, p, n);
    if (t->closed)
        return;
    if (t->in.n > 0)
        buf_skip(&t->in, done);
    else
        buf_add(&t->in, p + done, n - done);
    if (!t->ready && t->in.n > STRANGER_MAX)
        broke(t, "too much before a hello");
    else
        send_out(t); /* a hello, perhaps */
}

/* --- the beginning ------------------------------------------------------------------------------
 */

static void
on_connect(struct sock *s, int err)
{
    struct tube *t = container_of(s, struct tube, sock);

    if (t->closed)
        return;
    if (err != 0) {
        broke(t, strerror(err));
        return;
    }
    sock_recv(s, true);
    send_out(t);
}

static const struct sock_ops tube_sock_ops = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_connect = on_connect,
    .on_error = on_error,
    .on_closed = on_closed,
};

static struct tube *
tube_new(struct loop *l, struct keyring *k, bool opener, mc_ns within_ns,
         const struct tube_ops *ops, void *owner, unsigned *n_alive)
{
    struct tube *t = mc_alloc(sizeof(*t));

    t->ops = ops;
    t->owner = owner;
    t->loop = l;
    t->stream = seal_stream_new(k, opener, TUBE_RECORD_MAX);
    t->flush.fn = on_flush;
    t->deadline.fn = on_deadline;
    t->n_alive = n_alive;
    (*n_alive)++;
    loop_timer_set(l, &t->deadline, loop_now(l) + within_ns);
    return t;
}

struct tube *
tube_open(struct loop *l, struct keyring *k, const struct addr *to, mc_ns within_ns,
          const struct tube_ops *ops, void *owner, unsigned *n_alive)
{
    struct tube *t = tube_new(l, k, true, within_ns, ops, owner, n_alive);

    t->peer = *to;
    if (sock_connect(&t->sock, l, to, &tube_sock_ops) == MC_OK)
        return t;
    loop_timer_clear(l, &t->deadline);
    free_tube(t);
    return NULL;
}

struct tube *
tube_accept(struct loop *l, struct keyring *k, int fd, mc_ns within_ns, const struct tube_ops *ops,
            void *owner, unsigned *n_alive)
{
    struct tube *t = tube_new(l, k, false, within_ns, ops, owner, n_alive);
    int one = 1;

    t->peer.len = sizeof(t->peer.u);
    if (getpeername(fd, &t->peer.u.sa, &t->peer.len) != 0)
        t->peer.len = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    sock_open(&t->sock, l, fd, &tube_sock_ops);
    sock_recv(&t->sock, true);
    return t;
}
