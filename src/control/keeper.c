/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keeper.c - see keeper.h.
 *
 * A slot of the shared list is written while it is empty and then marked as held, so that whatever
 * moment the balancer is stopped at, the keeper reads whole addresses only.
 */
#include "control/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "io/netlink.h"

#define TICKS_A_STALL 5
#define LOOKS_A_STALL 10
/* What a balancer that said it is busy may take: the largest configurations load in seconds. */
#define BUSY_NS       (60 * MC_SEC)
#define PIPE_FD       3 /* in the child, which keeps standard error and these two */
#define NETLINK_FD    4

/* TAKING: the keeper is at it; TAKEN: it has done so. */
enum { SLOT_EMPTY, SLOT_HELD, SLOT_TAKING, SLOT_TAKEN };

struct slot {
    _Atomic int state;
    unsigned ifindex;
    struct addr_net addr;
};

struct shared {
    _Atomic uint64_t tick;
    _Atomic bool busy;
    _Atomic bool done; /* nothing is to be removed any more */
    struct slot slots[KEEPER_SLOTS];
    struct {
        _Atomic bool held;
        struct addr_net addr;
    } locals[KEEPER_SLOTS];
};

struct keeper {
    struct shared *shared;
    mc_ns stall_ns;
    pid_t pid; /* 0: it has ended, which was said */
    int fd;    /* the pipe's end that nobody else has */
};

/* --- the child ---------------------------------------------------------------------------------
 */

mc_ns
keeper_look(struct keeper_silence *s, mc_ns now, uint64_t tick, mc_ns every_ns)
{
    mc_ns gap = now - s->looked_ns;

    s->silent_ns += gap < 2 * every_ns ? gap : 2 * every_ns;
    if (tick != s->tick)
        s->silent_ns = 0;
    s->tick = tick;
    s->looked_ns = now;
    return s->silent_ns;
}

static mc_ns
monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (mc_ns)t.tv_sec * MC_SEC + t.tv_nsec;
}

/* Not if the balancer has ticked since it was silent, as it does before it holds anything. */
static bool
may_take(struct shared *sh, struct slot *s, uint64_t tick)
{
    int held = SLOT_HELD, taking = SLOT_TAKING;

    if (!atomic_compare_exchange_strong(&s->state, &held, SLOT_TAKING))
        return false;
    if (atomic_load(&sh->tick) == tick)
        return true;
    atomic_compare_exchange_strong(&s->state, &taking, SLOT_HELD);
    return false;
}

/* Removes one address, and says so: the balancer cannot. */
static void
take(struct netlink *nl, struct slot *s, const char *why)
{
    char text[ADDR_TEXT];
    struct errbuf e;
    enum mc_err rv;

    rv = netlink_addr_del(nl, s->ifindex, &s->addr, &e);
    atomic_store(&s->state, SLOT_TAKEN);
    addr_ip_text(&s->addr.base, text);
    if (rv == MC_OK)
        log_warn("keeper: %s removed: %s", text, why);
    else if (rv != MC_ENOENT)
        log_error("keeper: %s: %s", text, e.text);
}

static void
take_all(struct netlink *nl, struct shared *sh, uint64_t tick, const char *why)
{
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        if (may_take(sh, &sh->slots[i], tick))
            take(nl, &sh->slots[i], why);
}

static void
take_locals(struct netlink *nl, struct shared *sh)
{
    for (unsigned i = 0; i < KEEPER_SLOTS; i++)
        if (atomic_load(&sh->locals[i].held))
            netlink_local_del(nl, &sh->locals[i].addr, NULL);
}

/* Until the balancer is dead, or done. */
static void
keep(struct netlink *nl, struct shared *sh, mc_ns stall_ns)
{
    mc_ns every_ns = stall_ns / LOOKS_A_STALL;
    struct timespec wait = {.tv_sec = every_ns / MC_SEC, .tv_nsec = every_ns % MC_SEC};
    struct keeper_silence s = {.looked_ns = monotonic_ns()};
    struct pollfd p = {.fd = PIPE_FD, .events = POLLIN};

    while (ppoll(&p, 1, &wait, NULL) <= 0) {
        mc_ns silent_ns = keeper_look(&s, monotonic_ns(), atomic_load(&sh->tick), every_ns);

        if (silent_ns >= (atomic_load(&sh->busy) ? BUSY_NS : stall_ns))
            take_all(nl, sh, s.tick, "the balancer is hung or stopped");
    }
    if (atomic_load(&sh->done))
        return;
    take_all(nl, sh, atomic_load(&sh->tick), "the balancer has died");
    take_locals(nl, sh);
}

/* Nothing of the balancer's may live on in the child, its sockets least of all. */
static bool
keep_only(int pipe_fd, int netlink_fd)
{
    int high_pipe = fcntl(pipe_fd, F_DUPFD, 10), high_netlink = fcntl(netlink_fd, F_DUPFD, 10);

    return high_pipe >= 0 && high_netlink >= 0 && dup2(high_pipe, PIPE_FD) >= 0 &&
           dup2(high_netlink, NETLINK_FD) >= 0 && close_range(NETLINK_FD + 1, ~0U, 0) == 0;
}

/* Whoever ends a group of processes means the balancer; the child ends with it, and not before. */
static void
ignore_signals(void)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE};

    for (size_t i = 0; i < MC_COUNT(signals); i++)
        signal(signals[i], SIG_IGN);
    setsid(); /* a terminal's stop and a stop of the balancer's group are not ours */
}

/* What runs out of memory is the balancer, not who cleans up behind it.  Root's to say. */
static void
survive_shortage(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "-1000", 5) != 5)
        log_debug("keeper: its place among those to end in a shortage of memory stays as it was");
    close(fd);
}

static _Noreturn void
child(const struct privs *privs, struct shared *sh, mc_ns stall_ns, int pipe_fd, int netlink_fd)
{
    struct netlink nl = {.fd = NETLINK_FD};
    struct privs own = *privs;
    struct errbuf e = {""};

    prctl(PR_SET_NAME, "meercat-keeper");
    ignore_signals();
    survive_shortage();
    own.n_caps = 0;
    privs_keep(&own, CAP_NET_ADMIN);
    if (!keep_only(pipe_fd, netlink_fd) || privs_drop(&own, &e) != MC_OK) {
        log_error("keeper: cannot begin: %s", e.text[0] ? e.text : strerror(errno));
        _exit(1);
    }
    keep(&nl, sh, stall_ns);
    _exit(0);
}

/* --- the balancer ------------------------------------------------------------------------------
 */

/* False: k->shared is NULL. */
static bool
map_shared(struct keeper *k, struct errbuf *e)
{
    int fd = memfd_create("meercat-keeper", MFD_CLOEXEC);
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(*k->shared)) == 0)
        p = mmap(NULL, sizeof(*k->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        err_sys(e, "keeper: shared memory");
    if (fd >= 0)
        close(fd);
    k->shared = p != MAP_FAILED ? p : NULL;
    return k->shared != NULL;
}

static enum mc_err
fork_child(struct keeper *k, const struct privs *privs, struct errbuf *e)
{
    struct netlink nl;
    int fds[2];
    enum mc_err rv = netlink_open(&nl, e);

    if (rv != MC_OK)
        return rv;
    if (pipe2(fds, O_CLOEXEC) != 0) {
        netlink_close(&nl);
        return err_sys(e, "keeper: pipe");
    }
    k->pid = fork();
    if (k->pid == 0)
        child(privs, k->shared, k->stall_ns, fds[0], nl.fd);
    if (k->pid < 0)
        rv = err_sys(e, "keeper: fork");
    netlink_close(&nl);
    close(fds[0]);
    k->fd = fds[1];
    return rv;
}

enum mc_err
keeper_start(const struct privs *privs, mc_ns stall_ns, struct keeper **out, struct errbuf *e)
{
    struct keeper *k = mc_alloc(sizeof(*k));
    enum mc_err rv = MC_ESYS;

    *k = (struct keeper){.stall_ns = stall_ns, .fd = -1};
    if (map_shared(k, e))
        rv = fork_child(k, privs, e);
    if (rv == MC_OK) {
        *out = k;
        return MC_OK;
    }
    if (k->fd >= 0)
        close(k->fd);
    if (k->shared != NULL)
        munmap(k->shared, sizeof(*k->shared));
    free(k);
    return rv;
}

void
keeper_stop(struct keeper **kp)
{
    struct keeper *k = *kp;

    if (k == NULL)
        return;
    *kp = NULL;
    atomic_store(&k->shared->done, true);
    close(k->fd);
    if (k->pid > 0)
        waitpid(k->pid, NULL, 0);
    munmap(k->shared, sizeof(*k->shared));
    free(k);
}

mc_ns
keeper_tick_every(const struct keeper *k)
{
    return k->stall_ns / TICKS_A_STALL;
}

bool
keeper_tick(struct keeper *k)
{
    atomic_fetch_add(&k->shared->tick, 1);
    if (k->pid > 0 && waitpid(k->pid, NULL, WNOHANG) == k->pid) {
        log_error("the keeper has ended: should this balancer die, its addresses stay behind; a "
                  "restart brings another");
        k->pid = 0;
    }
    return k->pid > 0;
}

void
keeper_busy(struct keeper *k, bool busy)
{
    atomic_store(&k->shared->busy, busy);
    keeper_tick(k);
}

void
keeper_hold(struct keeper *k, unsigned slot, unsigned ifindex, const struct addr_net *addr)
{
    struct slot *s = &k->shared->slots[slot];

    MC_ASSERT(slot < KEEPER_SLOTS && atomic_load(&s->state) != SLOT_HELD);
    s->ifindex = ifindex;
    s->addr = *addr;
    atomic_fetch_add(&k->shared->tick, 1);
    atomic_store(&s->state, SLOT_HELD);
}

void
keeper_drop(struct keeper *k, unsigned slot)
{
    MC_ASSERT(slot < KEEPER_SLOTS);
    atomic_store(&k->shared->slots[slot].state, SLOT_EMPTY);
}

void
keeper_hold_local(struct keeper *k, unsigned slot, const struct addr_net *addr)
{
    MC_ASSERT(slot < KEEPER_SLOTS && !atomic_load(&k->shared->locals[slot].held));
    k->shared->locals[slot].addr = *addr;
    atomic_store(&k->shared->locals[slot].held, true);
}

void
keeper_drop_local(struct keeper *k, unsigned slot)
{
    MC_ASSERT(slot < KEEPER_SLOTS);
    atomic_store(&k->shared->locals[slot].held, false);
}

bool
keeper_took(struct keeper *k, unsigned slot)
{
    int taken = SLOT_TAKEN;

    MC_ASSERT(slot < KEEPER_SLOTS);
    return atomic_compare_exchange_strong(&k->shared->slots[slot].state, &taken, SLOT_EMPTY);
}
