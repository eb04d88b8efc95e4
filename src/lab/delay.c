/* SPDX-License-Identifier: BSD-2-Clause
 *
 * delay.c - a wire that takes its time, see delay.h.
 */
#include "lab/delay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

#define FRAME_BYTES_MAX   (1u << 17) /* what offloading joins, and its header */
/* What is on its way in one direction: 400 Mbit/s for a second, the longest delay at a quarter of
 * that.  What is more is lost, as in any queue. */
#define WAITING_BYTES_MAX (48u << 20)
#define TURN_FRAMES_MAX   64 /* taken from one end before the other has its turn */

struct frame {
    struct frame *next;
    mc_ns due;
    size_t n;
    char bytes[];
};

/* One direction. */
struct way {
    int from, to;
    struct frame *first, **last;
    size_t waiting_bytes;
};

struct wire {
    struct way ways[2];
    int control;
    mc_ns delay;
    char chunk[FRAME_BYTES_MAX];
};

/* --- sockets -----------------------------------------------------------------------------------
 */

static int
open_end(const char *interface, struct errbuf *e)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(interface)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, room = 8 << 20;

    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        err_sys(e, interface);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    return fd;
}

/* --- the wire ----------------------------------------------------------------------------------
 */

/* A frame that finds no room is lost. */
static void
keep(struct wire *w, struct way *way, size_t n, mc_ns now)
{
    struct frame *f;

    if (way->waiting_bytes + n > WAITING_BYTES_MAX)
        return;
    f = malloc(sizeof(*f) + n);
    if (f == NULL)
        return;
    *f = (struct frame){.due = now + w->delay, .n = n};
    memcpy(f->bytes, w->chunk, n);
    *way->last = f;
    way->last = &f->next;
    way->waiting_bytes += n;
}

static void
take_in(struct wire *w, struct way *way, mc_ns now)
{
    for (unsigned i = 0; i < TURN_FRAMES_MAX; i++) {
        ssize_t n = recv(way->from, w->chunk, sizeof(w->chunk), 0);

        if (n <= 0)
            return;
        keep(w, way, (size_t)n, now);
    }
}

static void
give_out(struct way *way, mc_ns now)
{
    struct frame *f;

    while ((f = way->first) != NULL && f->due <= now) {
        /* an interface that takes none at the moment loses it, as a card would */
        (void)!send(way->to, f->bytes, f->n, MSG_NOSIGNAL);
        way->first = f->next;
        if (way->first == NULL)
            way->last = &way->first;
        way->waiting_bytes -= f->n;
        free(f);
    }
}

/* When the next frame is due. */
static struct timespec *
until_due(const struct wire *w, mc_ns now, struct timespec *ts)
{
    mc_ns due = MC_NEVER_NS, left;

    for (unsigned i = 0; i < MC_COUNT(w->ways); i++)
        if (w->ways[i].first != NULL && w->ways[i].first->due < due)
            due = w->ways[i].first->due;
    if (due == MC_NEVER_NS)
        return NULL;
    left = due > now ? due - now : 0;
    *ts = (struct timespec){left / MC_SEC, left % MC_SEC};
    return ts;
}

static _Noreturn void
run(struct wire *w)
{
    struct pollfd p[] = {{.fd = w->control, .events = POLLIN},
                         {.fd = w->ways[0].from, .events = POLLIN},
                         {.fd = w->ways[1].from, .events = POLLIN}};
    struct timespec ts;

    while (true) {
        mc_ns now;

        ppoll(p, MC_COUNT(p), until_due(w, units_clock_ns(), &ts), NULL);
        /* whole or not at all: eight bytes fit into a pipe */
        if (p[0].revents != 0 && read(w->control, &w->delay, sizeof(w->delay)) <= 0)
            _exit(0);
        now = units_clock_ns();
        for (unsigned i = 0; i < MC_COUNT(w->ways); i++) {
            if (p[1 + i].revents & POLLIN)
                take_in(w, &w->ways[i], now);
            give_out(&w->ways[i], now);
        }
    }
}

/* --- the process -------------------------------------------------------------------------------
 */

enum { CONTROL_FD = 3, INNER_FD, OUTER_FD };

static _Noreturn void
be_relay(int inner, int outer, int control, mc_ns delay)
{
    struct wire *w = mc_alloc(sizeof(*w));
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, "lab-relay");
    /* a wire waits for no processor */
    setpriority(PRIO_PROCESS, 0, -20);
    /* the warden's descriptors are none of its business: whoever waits for their end waits for us
     */
    control = fcntl(control, F_DUPFD, 16);
    inner = fcntl(inner, F_DUPFD, 16);
    outer = fcntl(outer, F_DUPFD, 16);
    dup2(control, CONTROL_FD);
    dup2(inner, INNER_FD);
    dup2(outer, OUTER_FD);
    close_range(OUTER_FD + 1, ~0U, 0);
    w->control = CONTROL_FD;
    w->ways[0].from = w->ways[1].to = INNER_FD;
    w->ways[1].from = w->ways[0].to = OUTER_FD;
    w->delay = delay;
    for (unsigned i = 0; i < MC_COUNT(w->ways); i++)
        w->ways[i].last = &w->ways[i].first;
    run(w);
}

enum mc_err
delay_start(struct delay *r, const char *inner, const char *outer, mc_ns delay, struct errbuf *e)
{
    int in = open_end(inner, e), out = in >= 0 ? open_end(outer, e) : -1, control[2];
    enum mc_err rv = MC_OK;

    *r = (struct delay){0, -1};
    if (out < 0) {
        rv = MC_ESYS;
    } else if (pipe2(control, O_CLOEXEC) < 0) {
        rv = err_sys(e, "relay");
    } else if ((r->pid = fork()) == 0) {
        close(control[1]);
        be_relay(in, out, control[0], delay);
    } else {
        close(control[0]);
        r->control = control[1];
        if (r->pid < 0) {
            rv = err_sys(e, "relay");
            close(control[1]);
            *r = (struct delay){0, -1};
        }
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return rv;
}

enum mc_err
delay_change(struct delay *r, mc_ns delay, struct errbuf *e)
{
    if (write(r->control, &delay, sizeof(delay)) != sizeof(delay))
        return err_sys(e, "relay");
    return MC_OK;
}

void
delay_stop(struct delay *r)
{
    if (r->pid == 0)
        return;
    close(r->control);
    kill(r->pid, SIGKILL);
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *r = (struct delay){0, -1};
}
