/* SPDX-License-Identifier: BSD-2-Clause
 *
 * repair.c - TCP_REPAIR (tcp(7) has little of it; the kernel's own user is CRIU).
 *
 * A socket in repair can be told what it otherwise learns from the network, and neither sends nor
 * says goodbye.  Leaving it clears SO_REUSEADDR, which we set again: a connection without it keeps
 * the next process from listening on the port.
 */
#include "takeover/repair.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/repair_priv.h"

enum { NO_QUEUE, RECV_QUEUE, SEND_QUEUE }; /* for TCP_REPAIR_QUEUE */

#define STABLE_TRIES 1000 /* a read is unstable only if a packet comes within a microsecond */

#define BUILD_TRIES  20 /* the same for what it takes to build one, some 50 us */

/* The client's highest timestamp of ours may be a packet ahead of its last echo; clocks count
 * milliseconds.  Far below what a client could take for a jump. */
#define TS_AHEAD     10

static bool
set(int fd, int option, int value)
{
    return setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)) == 0;
}

static bool
get(int fd, int option, void *value, socklen_t n)
{
    return getsockopt(fd, IPPROTO_TCP, option, value, &n) == 0;
}

/* Without a word to the client. */
static void
leave_repair(int fd)
{
    static const int yes = 1;

    set(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

static enum mc_err
cannot_repair(struct errbuf *eb)
{
    if (errno == EPERM) {
        err_set(eb, "CAP_NET_ADMIN is missing, for TCP_REPAIR");
        return MC_ENOTSUP;
    }
    if (errno == ENOPROTOOPT) {
        err_set(eb, "the kernel has no TCP_REPAIR");
        return MC_ENOTSUP;
    }
    return err_sys(eb, "TCP_REPAIR");
}

enum mc_err
repair_probe(struct errbuf *eb)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    enum mc_err err = MC_OK;

    if (fd < 0)
        return err_sys(eb, "socket");
    if (!set(fd, TCP_REPAIR, TCP_REPAIR_ON))
        err = cannot_repair(eb);
    close(fd);
    return err;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static bool
read_seq(int fd, int queue, uint32_t *seq)
{
    return set(fd, TCP_REPAIR_QUEUE, queue) && get(fd, TCP_QUEUE_SEQ, seq, sizeof(*seq));
}

/* What has been received less what waits to be read; packets may come meanwhile.  A FIN counts for
 * one, but is nothing to read. */
static bool
read_recv_base(int fd, uint32_t *base, struct tcp_info *info)
{
    uint32_t before, after;
    int waiting;

    if (!read_seq(fd, RECV_QUEUE, &before))
        return false;
    for (int i = 0; i < STABLE_TRIES; i++) {
        if (ioctl(fd, SIOCINQ, &waiting) != 0 || !get(fd, TCP_INFO, info, sizeof(*info)) ||
            !get(fd, TCP_QUEUE_SEQ, &after, sizeof(after)))
            return false;
        if (before == after) {
            *base = after - (uint32_t)waiting - (info->tcpi_state == TCP_CLOSE_WAIT);
            return true;
        }
        before = after;
    }
    errno = EAGAIN;
    return false;
}

static bool
read_params(int fd, const struct tcp_info *info, struct tcp_params *p)
{
    int mss;

    *p = (struct tcp_params){
        .send_scale = info->tcpi_snd_wscale,
        .recv_scale = info->tcpi_rcv_wscale,
        .options = (info->tcpi_options & TCPI_OPT_TIMESTAMPS ? TCP_PARAMS_TIMESTAMPS : 0) |
                   (info->tcpi_options & TCPI_OPT_SACK ? TCP_PARAMS_SACK : 0) |
                   (info->tcpi_options & TCPI_OPT_WSCALE ? TCP_PARAMS_SCALE : 0),
    };
    if (!get(fd, TCP_MAXSEG, &mss, sizeof(mss)))
        return false;
    p->mss = (uint16_t)mss;
    return !(p->options & TCP_PARAMS_TIMESTAMPS) || get(fd, TCP_TIMESTAMP, &p->ts, sizeof(p->ts));
}

enum mc_err
repair_bases(int fd, uint32_t *recv_base, uint32_t *send_base, struct tcp_params *params,
             struct errbuf *eb)
{
    struct tcp_info info;
    uint32_t in, out;
    enum mc_err err = MC_OK;

    if (!set(fd, TCP_REPAIR, TCP_REPAIR_ON))
        return cannot_repair(eb);
    if (read_recv_base(fd, &in, &info) && read_seq(fd, SEND_QUEUE, &out) &&
        read_params(fd, &info, params)) {
        *recv_base = in;
        *send_base = out;
    } else {
        err = err_sys(eb, "TCP_REPAIR");
    }
    leave_repair(fd);
    return err;
}

/* --- rebuilding --------------------------------------------------------------------------------
 */

static bool
set_seqs(int fd, const struct repair *r)
{
    return set(fd, TCP_REPAIR_QUEUE, SEND_QUEUE) && set(fd, TCP_QUEUE_SEQ, (int)r->send_next) &&
           set(fd, TCP_REPAIR_QUEUE, RECV_QUEUE) && set(fd, TCP_QUEUE_SEQ, (int)r->recv_next);
}

/* In repair a connect(2) is done when it returns. */
static bool
join(int fd, const struct repair *r)
{
    struct addr local, remote;

    flow_key_addrs(&r->key, &local, &remote);
    if (local.u.sa.sa_family == AF_INET6) {
        local.u.in6.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&local.u.in6.sin6_addr) ? r->ifindex : 0;
        remote.u.in6.sin6_scope_id =
            IN6_IS_ADDR_LINKLOCAL(&remote.u.in6.sin6_addr) ? r->ifindex : 0;
    }
    return bind(fd, &local.u.sa, local.len) == 0 && connect(fd, &remote.u.sa, remote.len) == 0;
}

/* Shifts also where windows are not scaled, as 0: the kernel has set its own when it connected. */
static bool
set_options(int fd, const struct tcp_params *p)
{
    struct tcp_repair_opt opts[4] = {
        {TCPOPT_MAXSEG, p->mss},
        {TCPOPT_WINDOW, p->send_scale | (uint32_t)p->recv_scale << 16},
    };
    unsigned n = 2;

    if (p->options & TCP_PARAMS_SACK)
        opts[n++] = (struct tcp_repair_opt){.opt_code = TCPOPT_SACK_PERMITTED};
    if (p->options & TCP_PARAMS_TIMESTAMPS)
        opts[n++] = (struct tcp_repair_opt){.opt_code = TCPOPT_TIMESTAMP};
    return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, n * sizeof(opts[0])) == 0;
}

/* Ours must not fall behind what the client has seen, or it drops what we send (PAWS, RFC 7323 5).
 * Even: an odd one would make it count microseconds (Linux 6.7). */
static bool
set_clock(int fd, const struct repair *r)
{
    if (!(r->params.options & TCP_PARAMS_TIMESTAMPS))
        return true;
    return set(fd, TCP_TIMESTAMP, (int)((r->ts_echo + TS_AHEAD) & ~1u));
}

/* The client's window is as it told it; ours stays what the kernel has chosen.  One before what we
 * expect: the next packet's window counts, whatever it is. */
static bool
set_windows(int fd, const struct repair *r)
{
    struct tcp_repair_window w;

    if (!get(fd, TCP_REPAIR_WINDOW, &w, sizeof(w)))
        return false;
    w.snd_wl1 = r->recv_next - 1;
    w.snd_wnd = (uint32_t)r->window << r->params.send_scale;
    w.max_window = w.max_window > w.snd_wnd ? w.max_window : w.snd_wnd;
    w.rcv_wup = r->recv_next;
    return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) == 0;
}

/* The kernel takes packets in as soon as it has the addresses: the same bytes, sent again, may have
 * been received before they were put.  They would be there twice. */
static bool
is_received_once(int fd, const struct repair *r, size_t n)
{
    uint32_t next;

    if (!get(fd, TCP_QUEUE_SEQ, &next, sizeof(next)))
        return false;
    if (next == r->recv_next + (uint32_t)n)
        return true;
    errno = EAGAIN;
    return false;
}

/* What finds no room, the client will send again. */
static bool
put_payload(int fd, const struct repair *r, size_t *taken)
{
    ssize_t n = 0;

    if (!set(fd, TCP_REPAIR_QUEUE, RECV_QUEUE))
        return false;
    if (r->n_payload > 0)
        n = send(fd, r->payload, r->n_payload, MSG_NOSIGNAL);
    *taken = n > 0 ? (size_t)n : 0;
    return (*taken == 0 || is_received_once(fd, r, *taken)) && set(fd, TCP_REPAIR_QUEUE, NO_QUEUE);
}

static int
new_socket(const struct repair *r)
{
    int fd = socket(flow_key_is_ip4(&r->key) ? AF_INET : AF_INET6,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && r->mark != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_MARK, &r->mark, sizeof(r->mark)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* *step: what was being done, for the error. */
static bool
build(int fd, const struct repair *r, size_t *taken, const char **step)
{
    *step = "TCP_REPAIR";
    if (!set(fd, TCP_REPAIR, TCP_REPAIR_ON))
        return false;
    *step = "sequence numbers";
    if (!set_seqs(fd, r))
        return false;
    *step = "addresses";
    if (!join(fd, r))
        return false;
    *step = "options";
    if (!set_options(fd, &r->params) || !set_clock(fd, r))
        return false;
    *step = "windows";
    if (!set_windows(fd, r))
        return false;
    *step = "payload";
    return put_payload(fd, r, taken);
}

static enum mc_err
rebuild(const struct repair *r, int *out, size_t *taken, struct errbuf *eb)
{
    const char *step = "socket";
    int fd = new_socket(r), why;

    if (fd >= 0 && build(fd, r, taken, &step)) {
        leave_repair(fd);
        *out = fd;
        return MC_OK;
    }
    why = errno;
    if (fd >= 0)
        close(fd); /* still in repair: silently */
    errno = why;
    if (why == EAGAIN) {
        err_sys(eb, step);
        return MC_ETIME;
    }
    if (why == EADDRNOTAVAIL || why == EADDRINUSE) {
        err_sys(eb, step);
        return MC_EEXIST;
    }
    return why == EPERM ? cannot_repair(eb) : err_sys(eb, step);
}

enum mc_err
repair_rebuild(const struct repair *r, int *fd, size_t *taken, struct errbuf *eb)
{
    enum mc_err err = rebuild(r, fd, taken, eb);

    if (err == MC_EEXIST && orphan_destroy(&r->key))
        err = rebuild(r, fd, taken, eb);
    for (int i = 0; err == MC_ETIME && i < BUILD_TRIES; i++)
        err = rebuild(r, fd, taken, eb);
    return err;
}

/* --- living ones -------------------------------------------------------------------------------
 */

/* The kernel ends a repair with a window probe: a segment with no bytes that acknowledges all that
 * it has. */
void
repair_ack(int fd)
{
    static const int yes = 1;

    if (!set(fd, TCP_REPAIR, TCP_REPAIR_ON))
        return;
    set(fd, TCP_REPAIR, TCP_REPAIR_OFF);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

/* Stays in repair: whatever happens to the descriptor, nothing is said. */
void
repair_drop(int fd)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

    if (set(fd, TCP_REPAIR, TCP_REPAIR_ON))
        connect(fd, &nowhere, sizeof(nowhere));
}
