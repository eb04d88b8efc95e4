/* SPDX-License-Identifier: BSD-2-Clause
 *
 * listen.c - where connections come in.
 *
 * A port is this worker's socket of a bound address.  The descriptor belongs to control, which
 * keeps it over reloads; the worker listens on a duplicate, so that closing it loses nobody's
 * queue.  Who is over a limit waits in the kernel's queue: accepting pauses, and goes on when a
 * connection ends here or, for connections that end elsewhere, when a timer looks again.  A
 * listener to which more connect than it may take in in a turn (turns.h) is asked for a few of them
 * each turn, until the kernel's queue is empty.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/worker_priv.h"

#define PAUSE_NS     (50 * MC_MS)
#define CLOSING_NS   (50 * MC_MS) /* a guess: handshakes of near clients end in it */
#define RESERVED_FDS 256          /* for files, listeners, checks, admin and pipes */
#define PORT_MAGIC   0x504f5254u

struct listen_port {
    struct sock sock;
    uint32_t magic;
    struct worker *worker;
    struct list link; /* worker's ports */
    uint64_t bind_id;
    unsigned slot; /* of the fds of that bind */
    struct listener_live *live;
    struct tls_domain *tls;   /* a reference; NULL: plain */
    uint32_t max_connections; /* of the listener; 0: no limit */
    uint16_t port;
    bool paused, closing;
    bool leaving; /* closing, and another process goes on accepting */
    struct timer timer;
    int *held; /* accepted, but not taken in yet: from at_held on */
    unsigned at_held, n_held, cap_held;
};

/* Connections of all workers: descriptors are the process's. */
static _Atomic int32_t process_connections;

static struct listen_port *
port_of(struct sock *s)
{
    struct listen_port *p = container_of(s, struct listen_port, sock);

    MC_CHECK(p, PORT_MAGIC);
    return p;
}

/* Half of the descriptors: each client may need a connection to a server as well. */
int32_t
listen_connections_max(const struct snapshot *s)
{
    static _Atomic int32_t from_rlimit;
    int32_t limit = atomic_load_explicit(&from_rlimit, memory_order_relaxed);
    struct rlimit r;

    if (s->max_connections != 0)
        return (int32_t)s->max_connections;
    if (limit == 0) {
        limit = 512;
        if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > 2 * RESERVED_FDS)
            limit = (int32_t)((r.rlim_cur < 2000000 ? r.rlim_cur : 2000000) - RESERVED_FDS) / 2;
        else if (r.rlim_cur > 64)
            limit = (int32_t)(r.rlim_cur - 32) / 2;
        atomic_store_explicit(&from_rlimit, limit, memory_order_relaxed);
    }
    return limit;
}

/* Is there room for one more of the connections that all listeners share, of which `mine` are this
 * one's?  The last quarter is for those that have less than their part of all, so that a listener
 * whose clients only sit there leaves room for the others'. */
static bool
has_room(int32_t total, int32_t limit, int32_t mine, unsigned n_listeners)
{
    if (total >= limit)
        return false;
    if (n_listeners < 2 || total < limit - limit / 4)
        return true;
    return mine < limit / (int32_t)n_listeners;
}

/* Counts a connection in, or says that there is no room for it. */
static bool
claim(const struct listen_port *p)
{
    const struct snapshot *s = p->worker->current->snap;
    const int32_t max = (int32_t)p->max_connections;
    const int32_t total = atomic_fetch_add_explicit(&process_connections, 1, memory_order_relaxed);
    const int32_t mine = atomic_fetch_add_explicit(&p->live->connections, 1, memory_order_relaxed);

    if (has_room(total, listen_connections_max(s), mine, s->n_listeners) &&
        (max == 0 || mine < max))
        return true;
    listen_conn_closed(p->live);
    return false;
}

void
listen_claim(struct listener_live *live)
{
    atomic_fetch_add_explicit(&live->connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&process_connections, 1, memory_order_relaxed);
}

void
listen_conn_closed(struct listener_live *live)
{
    atomic_fetch_sub_explicit(&live->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&process_connections, 1, memory_order_relaxed);
}

/* An address of its own is stronger than every address. */
static const struct bind_fd *
bind_of(const struct snapshot *s, const struct addr *local)
{
    const struct bind_fd *found = NULL;

    for (unsigned i = 0; i < s->n_binds; i++) {
        const struct bind_fd *b = &s->binds[i];

        if (b->addr.u.sa.sa_family != local->u.sa.sa_family ||
            addr_port(&b->addr) != addr_port(local))
            continue;
        if (addr_eq(&b->addr, local))
            return b;
        if (addr_is_any(&b->addr))
            found = b;
    }
    return found;
}

struct listener_live *
listen_adopt(struct worker *w, const struct addr *local)
{
    const struct snapshot *s = w->current->snap;
    const struct bind_fd *b = bind_of(s, local);
    struct listener_live *live = b != NULL ? s->listeners[b->listener].live : NULL;

    if (live == NULL)
        return NULL;
    atomic_fetch_add_explicit(&process_connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&live->connections, 1, memory_order_relaxed);
    return live;
}

static void
hold(struct listen_port *p, int fd)
{
    if (p->n_held == p->cap_held) {
        p->cap_held = p->cap_held ? 2 * p->cap_held : 16;
        p->held = mc_realloc(p->held, p->cap_held * sizeof(*p->held));
    }
    p->held[p->n_held++] = fd;
}

/* The oldest of those that are held. */
static int
next_held(struct listen_port *p)
{
    const int fd = p->held[p->at_held++];

    if (p->at_held == p->n_held)
        p->at_held = p->n_held = 0;
    return fd;
}

/* Another look follows in a while. */
static void
pause_port(struct listen_port *p)
{
    p->paused = true;
    sock_accept(&p->sock, false);
    loop_timer_set(p->worker->loop, &p->timer, worker_now(p->worker) + PAUSE_NS);
}

/* Takes in who was accepted before.  False: there is no room for all, or it is others' turn; and
 * accepting is off until there is, or it is ours.  hurry: the port closes, there is no other turn.
 */
static bool
take_held(struct listen_port *p, bool hurry)
{
    while (p->n_held > 0) {
        if (!hurry && !turns_may(p->sock.line)) {
            sock_accept(&p->sock, false);
            sock_await_turn(&p->sock);
            return false;
        }
        if (!claim(p)) {
            if (!hurry)
                pause_port(p);
            return false;
        }
        turns_did(p->sock.line);
        conn_accept(p->worker, p->live, p->tls, next_held(p), p->port, 0);
    }
    return true;
}

/* The same for those who wait in the kernel's queue: a turn's part of them, where the engine would
 * bring all that are there. */
static bool
take_queued(struct listen_port *p, bool hurry)
{
    int fd;

    while (take_held(p, hurry)) {
        if ((fd = accept4(p->sock.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
            return true;
        hold(p, fd);
    }
    return false;
}

static void
resume_port(struct listen_port *p)
{
    if (!take_queued(p, false))
        return;
    p->paused = false;
    loop_timer_clear(p->worker->loop, &p->timer);
    sock_accept(&p->sock, true);
}

/* Whoever is in the queue came before the others who accept there were woken for it, or may have
 * woken nobody but us. */
static void
leave(struct listen_port *p)
{
    if (take_queued(p, true))
        sock_close(&p->sock, false);
    else /* no room for all */
        loop_timer_set(p->worker->loop, &p->timer, worker_now(p->worker) + PAUSE_NS);
}

static void
on_timer(struct timer *t)
{
    struct listen_port *p = container_of(t, struct listen_port, timer);

    MC_CHECK(p, PORT_MAGIC);
    if (!p->closing) {
        resume_port(p);
    } else if (p->leaving) {
        leave(p);
    } else {
        take_queued(p, true);
        stat_add(&p->worker->stats.connections_refused, p->n_held - p->at_held);
        sock_close(&p->sock, false);
    }
}

static void
on_quiet(struct sock *s)
{
    leave(port_of(s));
}

static void
on_accept(struct sock *s, int fd)
{
    struct listen_port *p = port_of(s);

    hold(p, fd);
    if (p->leaving)
        take_held(p, true);
    else if (!p->paused && !p->closing && !sock_awaits_turn(s))
        take_held(p, false);
}

static void
on_turn(struct sock *s)
{
    struct listen_port *p = port_of(s);

    if (!p->closing)
        resume_port(p);
}

/* Descriptors or memory ran out: a kept connection makes room, and accepting waits a moment. */
static void
on_error(struct sock *s, int err)
{
    struct listen_port *p = port_of(s);
    static _Thread_local struct log_limit limit;
    unsigned swallowed;

    stat_add(&p->worker->stats.accept_pauses, 1);
    if (log_limit_ok(&limit, worker_now(p->worker), &swallowed))
        log_warn("accepting pauses: %s (%u lines left out)", strerror(err), swallowed);
    idle_evict_oldest(p->worker->idle);
    pause_port(p);
}

static void
on_closed(struct sock *s)
{
    struct listen_port *p = port_of(s);
    struct worker *w = p->worker;

    loop_timer_clear(w->loop, &p->timer);
    for (unsigned i = p->at_held; i < p->n_held; i++)
        close(p->held[i]);
    list_remove(&p->link);
    tls_domain_unref(&p->tls);
    free(p->held);
    p->magic = 0;
    free(p);
    worker_check_drained(w);
}

static const struct sock_ops port_ops = {
    .on_accept = on_accept,
    .on_turn = on_turn,
    .on_quiet = on_quiet,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void
port_configure(struct listen_port *p, const struct bind_fd *b)
{
    const struct listener *l = &p->worker->current->snap->listeners[b->listener];

    p->live = l->live;
    sock_take_turns(&p->sock, turns_line(&p->worker->turns, l->live));
    tls_domain_unref(&p->tls);
    p->tls = tls_domain_ref(l->conf.tls.domain);
    p->max_connections = l->conf.max_connections;
}

static void
port_open(struct worker *w, const struct bind_fd *b, unsigned slot)
{
    int fd = fcntl(b->fds[slot], F_DUPFD_CLOEXEC, 3);
    struct listen_port *p;

    if (fd < 0) {
        char text[ADDR_TEXT];

        log_error("worker %u cannot listen on %s: %s", w->conf.index, addr_text(&b->addr, text),
                  strerror(errno));
        return;
    }
    p = mc_alloc(sizeof(*p));
    p->magic = PORT_MAGIC;
    p->worker = w;
    p->bind_id = b->id;
    p->slot = slot;
    p->port = addr_port(&b->addr);
    p->timer.fn = on_timer;
    list_push_back(&w->ports, &p->link);
    sock_open(&p->sock, w->loop, fd, &port_ops);
    port_configure(p, b);
    sock_accept(&p->sock, true);
}

/* From now on the kernel drops new SYNs on this socket (TCP header byte 13: SYN without ACK), while
 * handshakes under way still end: so the queue can be emptied for good before the close, which
 * would reset whoever is in it.  A dropped SYN is sent again after a second and then meets whoever
 * listens on the address, or is refused.  Where the kernel forbids filters, a late client is reset.
 */
static void
stop_syns(int fd)
{
    static struct sock_filter code[] = {
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, 13},    {BPF_ALU | BPF_AND | BPF_K, 0, 0, 0x12},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0x02}, {BPF_RET | BPF_K, 0, 0, 0},
        {BPF_RET | BPF_K, 0, 0, 0xffffffff},
    };
    struct sock_fprog prog = {.len = MC_COUNT(code), .filter = code};

    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

/* Stops accepting, takes in what has connected, whose clients did nothing wrong, and looks once
 * more after a moment: a handshake or an accept that was under way may still deliver a connection.
 */
static void
port_close(struct listen_port *p)
{
    p->closing = true;
    p->paused = false;
    if (p->port != 0) /* 0: a unix socket, where connecting is one step */
        stop_syns(p->sock.fd);
    sock_accept(&p->sock, false);
    take_queued(p, true);
    loop_timer_set(p->worker->loop, &p->timer, worker_now(p->worker) + CLOSING_NS);
}

static const struct bind_fd *
bind_by_id(const struct snapshot *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n_binds; i++)
        if (s->binds[i].id == id)
            return &s->binds[i];
    return NULL;
}

static struct listen_port *
port_of_slot(struct worker *w, uint64_t id, unsigned slot)
{
    LIST_FOREACH (it, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        if (p->bind_id == id && p->slot == slot && !p->closing)
            return p;
    }
    return NULL;
}

static void
open_missing(struct worker *w, const struct bind_fd *b)
{
    for (unsigned i = w->conf.index % b->n_fds; i < b->n_fds; i += b->n_workers)
        if (port_of_slot(w, b->id, i) == NULL)
            port_open(w, b, i);
}

void
listen_update(struct worker *w)
{
    const struct snapshot *s = w->current->snap;

    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);
        const struct bind_fd *b = bind_by_id(s, p->bind_id);

        if (p->closing)
            continue;
        if (b == NULL)
            port_close(p);
        else
            port_configure(p, b);
    }
    for (unsigned i = 0; i < s->n_binds; i++)
        open_missing(w, &s->binds[i]);
}

void
listen_stop(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        if (!p->closing)
            port_close(p);
    }
}

/* Who waits on a queue together with others takes turns with them: the kernel wakes one for a
 * connection, and one that goes without looking leaves it there until the next wakes somebody else.
 */
void
listen_leave(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        if (p->closing)
            continue;
        p->closing = p->leaving = true;
        p->paused = false;
        loop_timer_clear(w->loop, &p->timer);
        take_held(p, true);
        sock_quiet(&p->sock);
    }
}

/* The other way round: who took turns with us is gone, and the kernel tells nobody again of a
 * connection that it has told that one of. */
void
listen_look(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        if (!p->closing && !sock_awaits_turn(&p->sock))
            resume_port(p);
    }
}

void
listen_close(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        loop_timer_clear(w->loop, &p->timer);
        p->closing = true;
        p->paused = false;
        if (sock_is_open(&p->sock))
            sock_close(&p->sock, false);
    }
}

void
listen_room(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->ports) {
        struct listen_port *p = LIST_ENTRY(it, struct listen_port, link);

        if (p->paused)
            resume_port(p);
    }
}
