/* SPDX-License-Identifier: BSD-2-Clause
 *
 * splice.c - moving bytes from socket to socket without touching them, see sock.h.
 *
 * 1. Nothing else may take bytes from the source (an io_uring receive is called back).
 * 2. What was held of the source is queued on the target, and the queue goes out first.
 * 3. Then in turns: source to pipe until the source is dry or the pipe is full, pipe to target
 *    until the pipe is empty.  The pipe is only filled when it is empty, so EAGAIN is never
 *    ambiguous: on the way in it is the source that has nothing, on the way out the target is full.
 *
 * Pipes are kept for the next transfer, but only empty ones: what an interrupted transfer left in
 * its pipe must not reach anybody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "io/engine.h"

#define PIPE_BYTES   (1 << 20) /* the default limit for users, /proc/sys/fs/pipe-max-size */
#define MAX_SPLICES  256       /* per loop, two descriptors each; who gets none copies instead */
#define MAX_IDLE     32
#define MAX_ROUNDS   8 /* in or out, before others have their turn */

#define SPLICE_MAGIC 0x73706c69u

struct splice {
    unsigned magic;
    bool begun;          /* step 2 is done */
    bool ended;          /* the source has sent FIN */
    int in, out;         /* write end, read end of the pipe */
    struct splice *next; /* idle list */
    struct sock *from, *to;
    uint64_t left; /* still to be taken from the source */
    uint64_t moved;
    size_t in_pipe, cap;
    splice_done_f *done;
    void *arg;
};

/* --- pool ------------------------------------------------------------------------------------ */

static struct splice *
splice_new(struct loop *l)
{
    struct splice *sp;
    int p[2], cap;

    /* splice(2) knows no MSG_NOSIGNAL */
    if (l->n_splices == 0)
        (void)signal(SIGPIPE, SIG_IGN);
    if (l->n_splices >= MAX_SPLICES || pipe2(p, O_NONBLOCK | O_CLOEXEC) < 0)
        return NULL;
    /* EPERM when this user has too much in pipes already: the default size is good enough. */
    (void)fcntl(p[1], F_SETPIPE_SZ, PIPE_BYTES);
    cap = fcntl(p[1], F_GETPIPE_SZ);
    sp = mc_alloc(sizeof(*sp));
    sp->out = p[0];
    sp->in = p[1];
    sp->cap = cap > 0 ? (size_t)cap : 65536;
    l->n_splices++;
    return sp;
}

static void
splice_free(struct loop *l, struct splice *sp)
{
    close(sp->in);
    close(sp->out);
    l->n_splices--;
    free(sp);
}

static struct splice *
splice_take(struct loop *l)
{
    struct splice *sp = l->splices;

    if (sp == NULL)
        return splice_new(l);
    l->splices = sp->next;
    l->n_splices_idle--;
    return sp;
}

static void
splice_give(struct loop *l, struct splice *sp)
{
    sp->magic = 0;
    sp->from->source_of = sp->to->sink_of = NULL;
    if (sp->in_pipe > 0 || l->n_splices_idle >= MAX_IDLE) {
        splice_free(l, sp);
        return;
    }
    sp->next = l->splices;
    l->splices = sp;
    l->n_splices_idle++;
}

void
splice_free_idle(struct loop *l)
{
    while (l->splices) {
        struct splice *sp = l->splices;

        l->splices = sp->next;
        l->n_splices_idle--;
        splice_free(l, sp);
    }
}

/* --- a transfer ------------------------------------------------------------------------------ */

bool
sock_splice(struct sock *from, struct sock *to, uint64_t n, splice_done_f *done, void *arg)
{
    struct splice *sp;

    MC_CHECK(from, SOCK_MAGIC);
    MC_CHECK(to, SOCK_MAGIC);
    MC_ASSERT(from->source_of == NULL && to->sink_of == NULL && from->loop == to->loop);
    MC_ASSERT(!(from->flags & (SF_RECV | SF_CLOSED)) && !(to->flags & (SF_SHUT | SF_CLOSED)));
    sp = splice_take(from->loop);
    if (sp == NULL)
        return false;
    sp->magic = SPLICE_MAGIC;
    sp->from = from;
    sp->to = to;
    sp->left = n;
    sp->done = done;
    sp->arg = arg;
    sp->moved = 0;
    sp->in_pipe = 0;
    sp->begun = sp->ended = false;
    from->source_of = to->sink_of = sp;
    sock_queue(from);
    return true;
}

bool
sock_splice_stop(struct sock *from)
{
    struct splice *sp = from->source_of;

    MC_CHECK(sp, SPLICE_MAGIC);
    if (sp->in_pipe > 0 || sp->ended || ((from->flags | sp->to->flags) & SF_DEAD))
        return false;
    splice_give(from->loop, sp);
    return true;
}

uint64_t
sock_splice_moved(const struct sock *s)
{
    const struct splice *sp = s->source_of ? s->source_of : s->sink_of;

    return sp ? sp->moved : 0;
}

bool
sock_splice_blocked(const struct sock *s)
{
    const struct splice *sp = s->source_of ? s->source_of : s->sink_of;

    return sp && (sp->in_pipe > 0 || sp->to->unsent_bytes > 0);
}

void
splice_abandon(struct splice *sp)
{
    MC_CHECK(sp, SPLICE_MAGIC);
    splice_give(sp->from->loop, sp);
}

static void
finish(struct splice *sp, int err, bool from_failed)
{
    splice_done_f *done = sp->done;
    uint64_t moved = sp->moved;
    void *arg = sp->arg;

    splice_give(sp->from->loop, sp);
    done(arg, moved, err, from_failed);
}

void
splice_failed(struct splice *sp, int err, bool from_failed)
{
    MC_CHECK(sp, SPLICE_MAGIC);
    finish(sp, err, from_failed);
}

static void
queue_held(struct splice *sp)
{
    struct sock *from = sp->from;

    while (from->held && sp->left > 0) {
        struct block *b = from->held;

        if (b->len > sp->left) {
            struct block *part = block_take(from->loop->blocks, sp->left);

            memcpy(block_at(part), block_at(b), sp->left);
            part->len = (uint32_t)sp->left;
            block_skip(b, sp->left);
            b = part;
        } else {
            from->held = b->next;
        }
        sp->left -= b->len;
        sp->moved += b->len;
        sock_queue_block(sp->to, b);
    }
}

/* hot: once per pipe-full.  False: wait, or the source is broken. */
static bool
fill(struct splice *sp)
{
    const struct engine *e = sp->from->loop->engine;
    size_t want = sp->left < sp->cap ? sp->left : sp->cap;
    ssize_t n = -1;

    errno = EAGAIN;
    if (e->ready(sp->from, POLLIN))
        n = splice(sp->from->fd, NULL, sp->in, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n >= 0) {
        sp->ended = n == 0;
        sp->in_pipe = (size_t)n;
        sp->left -= (uint64_t)n;
        return true;
    }
    if (errno == EINTR)
        return true;
    if (errno == EAGAIN)
        e->await(sp->from, POLLIN);
    else
        sock_broken(sp->from, errno);
    return false;
}

/* hot: the other half */
static bool
drain(struct splice *sp)
{
    const struct engine *e = sp->to->loop->engine;
    ssize_t n = -1;

    errno = EAGAIN;
    if (e->ready(sp->to, POLLOUT))
        n = splice(sp->out, NULL, sp->to->fd, NULL, sp->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n >= 0) {
        sp->in_pipe -= (size_t)n;
        sp->moved += (uint64_t)n;
        return true;
    }
    if (errno == EINTR)
        return true;
    if (errno == EAGAIN)
        e->await(sp->to, POLLOUT);
    else
        sock_broken(sp->to, errno);
    return false;
}

static void
pump(struct splice *sp)
{
    for (unsigned i = 0; i < MAX_ROUNDS; i++) {
        bool in = sp->in_pipe == 0;

        if (in && (sp->left == 0 || sp->ended)) {
            finish(sp, 0, false);
            return;
        }
        if (!(in ? fill(sp) : drain(sp)))
            return;
    }
    sock_queue(sp->from); /* others first */
}

/* A broken socket is left to sock_run(): what the sink had sent before it broke comes first. */
void
splice_run(struct splice *sp)
{
    MC_CHECK(sp, SPLICE_MAGIC);
    if ((sp->from->flags | sp->to->flags) & SF_DEAD)
        return;
    if (!sp->begun) {
        if (!sp->from->loop->engine->quiesce(sp->from))
            return;
        queue_held(sp);
        sp->begun = true;
    }
    if (sp->to->unsent_bytes > 0 || (sp->to->flags & SF_HELD))
        return; /* sock_tell_drained() or sock_hold() comes back here */
    if (sp->from->flags & SF_RECV_ERROR)
        sock_broken(sp->from, sp->from->err);
    else
        pump(sp);
}
