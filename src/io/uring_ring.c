/* SPDX-License-Identifier: BSD-2-Clause
 *
 * uring_ring.c - setting up io_uring, filling its queue, entering the kernel; see uring.h.
 *
 * liburing does the mapping and the barriers.  io_uring_enter(2) is called directly: one call
 * submits, runs what the kernel has deferred to it, and waits.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "io/uring.h"

/* What one turn queues; more is submitted in pieces. */
#define SQ_ENTRIES 1024
/* More completions than this are kept by the kernel in a list of its own (IORING_FEAT_NODROP). */
#define CQ_ENTRIES 4096

#define NEEDED_FEATURES                                                       \
    (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL | \
     IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP)

static const unsigned needed_ops[] = {
    IORING_OP_RECV,    IORING_OP_SEND,     IORING_OP_SENDMSG,      IORING_OP_ACCEPT,
    IORING_OP_CONNECT, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE,
};

/* --- opening --------------------------------------------------------------------------------- */

static bool
has_ops(struct uring_state *u, struct errbuf *note)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    bool all = probe != NULL;

    for (unsigned i = 0; all && i < MC_COUNT(needed_ops); i++)
        all = io_uring_opcode_supported(probe, (int)needed_ops[i]);
    io_uring_free_probe(probe);
    if (!all)
        err_set(note, "io_uring lacks operations that are needed");
    return all;
}

static void
explain_setup(int err, struct errbuf *note)
{
    switch (err) {
    case EPERM:
        err_set(note, "io_uring is forbidden here (seccomp or kernel.io_uring_disabled)");
        break;
    case ENOSYS: err_set(note, "this kernel has no io_uring"); break;
    case EINVAL: err_set(note, "io_uring is too old here (Linux 6.1 is needed)"); break;
    default: err_set(note, "io_uring cannot be set up: %s", strerror(err));
    }
}

/* A profile may allow the other two calls and forbid io_uring_enter(2).  Asked with a ring of its
 * own, since the loop's may only be entered by the thread that is going to turn it. */
static bool
may_enter(struct errbuf *note)
{
    struct io_uring_cqe *cqe;
    struct io_uring ring;
    int rc = io_uring_queue_init(1, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    if (rc < 0) {
        explain_setup(-rc, note);
        return false;
    }
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    rc = io_uring_submit_and_wait(&ring, 1);
    if (rc == 1)
        rc = io_uring_peek_cqe(&ring, &cqe);
    if (rc < 0)
        err_set(note, "io_uring_enter is forbidden here (%s)", strerror(-rc));
    io_uring_queue_exit(&ring);
    return rc >= 0;
}

/* IORING_SETUP_SINGLE_ISSUER ties the ring to the thread that enables it: the one that makes the
 * first turn, which need not be the one that made the loop. */
bool
uring_ring_open(struct uring_state *u, struct errbuf *note)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL,
        .cq_entries = CQ_ENTRIES,
    };
    int rc = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);

    if (rc < 0) {
        explain_setup(-rc, note);
        return false;
    }
    if ((p.features & NEEDED_FEATURES) != NEEDED_FEATURES) {
        explain_setup(EINVAL, note);
    } else if (has_ops(u, note) && may_enter(note)) {
        u->enter_fd = u->ring.ring_fd;
        u->batch = 1;
        return true;
    }
    io_uring_queue_exit(&u->ring);
    return false;
}

void
uring_ring_close(struct uring_state *u)
{
    io_uring_queue_exit(&u->ring);
}

static __attribute__((cold, noinline)) void
begin(struct uring_state *u)
{
    int rc = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

    if (rc < 0)
        mc_panic(__FILE__, __LINE__, __func__, strerror(-rc));
    if (io_uring_register_ring_fd(&u->ring) == 1) {
        u->enter_fd = u->ring.enter_ring_fd;
        u->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
    u->owner = gettid();
    u->begun = true;
}

/* --- entering -------------------------------------------------------------------------------- */

/* As liburing does it before it enters: shows the new entries to the kernel, returns their number.
 */
static unsigned
show_entries(struct uring_state *u)
{
    struct io_uring_sq *sq = &u->ring.sq;

    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    }
    return sq->sqe_tail - *sq->khead;
}

/* hot: once per turn */
static int
enter(struct uring_state *u, unsigned min_complete, unsigned flags, void *arg, size_t arg_bytes)
{
    unsigned n = show_entries(u);
    int rc;

    if (!u->begun)
        begin(u);
    rc = io_uring_enter2((unsigned)u->enter_fd, n, min_complete, flags | u->enter_flags, arg,
                         arg_bytes);
    if (rc >= 0 && (unsigned)rc == n) {
        u->scratch_used = 0;
        u->batch++;
    }
    return rc;
}

void
uring_enter(struct uring_state *u, mc_ns max_wait_ns)
{
    struct __kernel_timespec ts = {.tv_sec = max_wait_ns / MC_SEC, .tv_nsec = max_wait_ns % MC_SEC};
    struct io_uring_getevents_arg arg = {.ts = max_wait_ns < MC_NEVER_NS ? (uintptr_t)&ts : 0};
    unsigned want = max_wait_ns > 0 && io_uring_cq_ready(&u->ring) == 0;
    int rc = enter(u, want, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));

    MC_ASSERT(rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN);
}

void
uring_submit(struct uring_state *u)
{
    if (u->begun && u->owner != gettid())
        return;
    for (unsigned tries = 0; show_entries(u) > 0; tries++) {
        int rc = enter(u, 0, tries ? IORING_ENTER_GETEVENTS : 0, NULL, 0);

        MC_ASSERT(rc >= 0 || tries < 1000);
    }
}

/* hot: once per operation */
struct io_uring_sqe *
uring_sqe(struct uring_state *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (__builtin_expect(sqe == NULL, 0)) {
        uring_submit(u);
        sqe = io_uring_get_sqe(&u->ring);
        MC_ASSERT(sqe != NULL);
    }
    return sqe;
}

void *
uring_scratch(struct uring_state *u, size_t bytes)
{
    void *p;

    bytes = (bytes + 15) & ~(size_t)15;
    MC_ASSERT(bytes <= sizeof(u->scratch));
    if (u->scratch_used + bytes > sizeof(u->scratch) || io_uring_sq_space_left(&u->ring) == 0)
        uring_submit(u);
    p = u->scratch + u->scratch_used;
    u->scratch_used += bytes;
    return p;
}
