/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check_port.c - the TCP port on which HAProxy asks.
 *
 * The reply does not depend on what was asked (agent-send), so it is sent at once; what comes in is
 * thrown away until the peer closes, since a close with bytes unread would reset the connection and
 * might take the reply with it.
 */
#include "agent/check_port.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "io/sock.h"

#define CONNS_MAX       64
#define LINGER_NS       (2 * MC_SEC)
#define ACCEPT_PAUSE_NS MC_SEC /* after descriptors ran out */

struct check_port {
    struct sock sock;
    struct loop *loop;
    struct words *words;
    check_port_admit_f *admit;
    void *arg;
    struct timer timer;
    struct list conns;
    unsigned n_conns;
    uint64_t n_replies;
    bool dying, closed; /* the listener is */
};

struct conn {
    struct sock sock;
    struct timer timer;
    struct list link;
    struct check_port *port;
};

static void
maybe_free(struct check_port *p)
{
    if (p->dying && p->closed && list_empty(&p->conns))
        free(p);
}

/* --- connections --------------------------------------------------------------------------------
 */

static void
conn_close(struct conn *c)
{
    loop_timer_clear(c->port->loop, &c->timer);
    sock_close(&c->sock, false);
}

static void
on_recv(struct sock *s, struct block **b)
{
}

static void
on_eof(struct sock *s)
{
    conn_close(container_of(s, struct conn, sock));
}

static void
on_error(struct sock *s, int err)
{
    conn_close(container_of(s, struct conn, sock));
}

static void
on_conn_closed(struct sock *s)
{
    struct conn *c = container_of(s, struct conn, sock);
    struct check_port *p = c->port;

    p->n_conns--;
    list_remove(&c->link);
    free(c);
    maybe_free(p);
}

static void
on_timer(struct timer *t)
{
    conn_close(container_of(t, struct conn, timer));
}

static const struct sock_ops conn_ops = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_closed = on_conn_closed,
};

static void
answer(struct check_port *p, int fd)
{
    struct conn *c = mc_alloc(sizeof(*c));
    char line[WORDS_MAX];
    size_t n = words_reply(p->words, line);

    p->n_conns++;
    p->n_replies++;
    c->port = p;
    c->timer.fn = on_timer;
    list_push_back(&p->conns, &c->link);
    sock_open(&c->sock, p->loop, fd, &conn_ops);
    sock_write(&c->sock, line, n);
    sock_shutdown(&c->sock);
    sock_recv(&c->sock, true);
    loop_timer_set(p->loop, &c->timer, loop_now(p->loop) + LINGER_NS);
}

/* --- the listener -------------------------------------------------------------------------------
 */

static void
on_accept(struct sock *s, int fd)
{
    struct check_port *p = container_of(s, struct check_port, sock);
    struct addr peer = {.len = sizeof(peer.u)};

    if (p->n_conns >= CONNS_MAX || getpeername(fd, &peer.u.sa, &peer.len) != 0 ||
        !p->admit(p->arg, &peer))
        close(fd);
    else
        answer(p, fd);
}

static void
on_accept_timer(struct timer *t)
{
    sock_accept(&container_of(t, struct check_port, timer)->sock, true);
}

static void
on_accept_error(struct sock *s, int err)
{
    struct check_port *p = container_of(s, struct check_port, sock);

    loop_timer_set(p->loop, &p->timer, loop_now(p->loop) + ACCEPT_PAUSE_NS);
}

static void
on_port_closed(struct sock *s)
{
    struct check_port *p = container_of(s, struct check_port, sock);

    p->closed = true;
    maybe_free(p);
}

static const struct sock_ops port_ops = {
    .on_accept = on_accept,
    .on_error = on_accept_error,
    .on_closed = on_port_closed,
};

enum mc_err
check_port_new(struct loop *loop, const struct addr *a, struct words *words,
               check_port_admit_f *admit, void *arg, struct check_port **out, struct errbuf *e)
{
    struct sock_listen_opts opts = {0};
    int fd = sock_listen_fd(a, &opts, e);
    struct check_port *p;

    if (fd < 0)
        return MC_ESYS;
    p = mc_alloc(sizeof(*p));
    p->loop = loop;
    p->words = words;
    p->admit = admit;
    p->arg = arg;
    p->timer.fn = on_accept_timer;
    list_init(&p->conns);
    sock_open(&p->sock, loop, fd, &port_ops);
    sock_accept(&p->sock, true);
    *out = p;
    return MC_OK;
}

void
check_port_free(struct check_port **pp)
{
    struct check_port *p = *pp;

    if (p == NULL)
        return;
    *pp = NULL;
    p->dying = true;
    loop_timer_clear(p->loop, &p->timer);
    sock_close(&p->sock, false);
    LIST_FOREACH (it, &p->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, link);

        if (sock_is_open(&c->sock))
            conn_close(c);
    }
}

uint64_t
check_port_replies(const struct check_port *p)
{
    return p->n_replies;
}
