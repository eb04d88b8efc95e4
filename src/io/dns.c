/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dns.c - see dns.h.
 *
 * c-ares speaks DNS; here it gets its readiness from watches and its clock from a timer.  Its
 * callback may come from inside ares_getaddrinfo() (literals, the hosts file) or in the middle of
 * its own work, where it must not be destroyed: so an answer is always put down first and told by a
 * task at the end of the turn.
 */
#include "io/dns.h"

#include <ares.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The caller's time-out is for the whole query: a second try starts after a third of it, and c-ares
 * gives that twice the time. */
#define TRIES         2
#define TRY_FRACTION  3

#define LITERAL_TTL_S 3600 /* it will not change; but whoever looks again may as well */

#define DNS_MAGIC     0x646e7300u

struct dns {
    unsigned magic;
    bool freeing; /* callbacks of c-ares are ignored */
    struct loop *loop;
    ares_channel channel;
    mc_ns timeout;
    struct timer timer; /* of c-ares */
    struct list sockets;
    struct list queries;
};

/* A socket of c-ares. */
struct dns_socket {
    struct list link;
    struct dns *dns;
    struct watch watch;
    unsigned events;
};

struct query {
    struct list link;
    struct dns *dns;
    dns_f *fn; /* NULL: told already (time-out), c-ares still works on it */
    void *arg;
    bool running; /* c-ares has a pointer to it */
    uint16_t port;
    struct timer deadline;
    struct task tell;
    struct dns_answer answer;
    struct addr addrs[DNS_MAX_ADDRS];
};

/* --- sockets and time of c-ares -------------------------------------------------------------- */

static void
set_timer(struct dns *d)
{
    struct timeval tv;

    if (ares_timeout(d->channel, NULL, &tv) == NULL) {
        loop_timer_clear(d->loop, &d->timer);
        return;
    }
    loop_timer_set(d->loop, &d->timer,
                   loop_now_exact(d->loop) + tv.tv_sec * MC_SEC + tv.tv_usec * MC_US);
}

static void
on_timer(struct timer *t)
{
    struct dns *d = container_of(t, struct dns, timer);

    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(d);
}

static struct dns_socket *
find_socket(struct dns *d, int fd)
{
    LIST_FOREACH (it, &d->sockets) {
        struct dns_socket *s = LIST_ENTRY(it, struct dns_socket, link);

        if (s->watch.fd == fd)
            return s;
    }
    return NULL;
}

static void
on_ready(struct watch *w, unsigned revents)
{
    struct dns_socket *s = container_of(w, struct dns_socket, watch);
    struct dns *d = s->dns;
    int fd = w->fd;
    bool in = revents & (POLLIN | POLLERR | POLLHUP), out = revents & (POLLOUT | POLLERR);

    ares_process_fd(d->channel, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
    s = find_socket(d, fd); /* may have been closed meanwhile */
    if (s)
        watch_arm(&s->watch, s->events);
    set_timer(d);
}

static void
close_socket(struct dns_socket *s)
{
    watch_drop(&s->watch);
    list_remove(&s->link);
    free(s);
}

/* c-ares has opened a socket, waits for something else on it, or is about to close it. */
static void
on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct dns *d = arg;
    struct dns_socket *s = find_socket(d, fd);

    if (!readable && !writable) {
        if (s)
            close_socket(s);
        return;
    }
    if (s == NULL) {
        s = mc_alloc(sizeof(*s));
        s->dns = d;
        watch_init(&s->watch, d->loop, fd, on_ready);
        list_push_back(&d->sockets, &s->link);
    }
    s->events = (readable ? POLLIN : 0u) | (writable ? POLLOUT : 0u);
    watch_arm(&s->watch, s->events);
}

/* --- answers --------------------------------------------------------------------------------- */

static void
query_free(struct query *q)
{
    loop_timer_clear(q->dns->loop, &q->deadline);
    loop_undefer(q->dns->loop, &q->tell);
    list_remove(&q->link);
    free(q);
}

static void
tell(struct task *t)
{
    struct query *q = container_of(t, struct query, tell);
    struct dns_answer answer = q->answer;
    dns_f *fn = q->fn;
    void *arg = q->arg;

    q->fn = NULL;
    loop_timer_clear(q->dns->loop, &q->deadline);
    if (q->running) { /* timed out: c-ares comes back later, and nobody listens */
        fn(arg, &answer);
        return;
    }
    list_remove(&q->link); /* out of the reach of dns_free() in fn */
    fn(arg, &answer);
    free(q);
}

static void
answer_with(struct query *q, int status)
{
    q->answer.status = status;
    q->answer.text = ares_strerror(status);
    loop_defer(q->dns->loop, &q->tell);
}

static void
on_deadline(struct timer *t)
{
    answer_with(container_of(t, struct query, deadline), ARES_ETIMEOUT);
}

static int
compare(const void *a, const void *b)
{
    const struct addr *x = a, *y = b;

    if (x->u.sa.sa_family != y->u.sa.sa_family)
        return x->u.sa.sa_family < y->u.sa.sa_family ? -1 : 1;
    if (x->u.sa.sa_family == AF_INET)
        return memcmp(&x->u.in.sin_addr, &y->u.in.sin_addr, 4);
    return memcmp(&x->u.in6.sin6_addr, &y->u.in6.sin6_addr, 16);
}

static unsigned
sort_unique(struct addr *a, unsigned n)
{
    unsigned kept = 0;

    qsort(a, n, sizeof(*a), compare);
    for (unsigned i = 0; i < n; i++)
        if (kept == 0 || !addr_eq(&a[kept - 1], &a[i]))
            a[kept++] = a[i];
    return kept;
}

static void
lower_ttl(struct query *q, int ttl)
{
    unsigned ttl_s = ttl < 1 ? 1 : (unsigned)ttl;

    if (q->answer.ttl_s == 0 || ttl_s < q->answer.ttl_s)
        q->answer.ttl_s = ttl_s;
}

static void
read_answer(struct query *q, const struct ares_addrinfo *info)
{
    unsigned n = 0;

    for (const struct ares_addrinfo_cname *c = info->cnames; c; c = c->next)
        lower_ttl(q, c->ttl);
    for (const struct ares_addrinfo_node *i = info->nodes; i && n < DNS_MAX_ADDRS; i = i->ai_next) {
        struct addr *a = &q->addrs[n];

        if (i->ai_family != AF_INET && i->ai_family != AF_INET6)
            continue;
        memcpy(&a->u, i->ai_addr, (size_t)i->ai_addrlen);
        a->len = (socklen_t)i->ai_addrlen;
        addr_set_port(a, q->port);
        lower_ttl(q, i->ai_ttl);
        n++;
    }
    q->answer.addrs = q->addrs;
    q->answer.n_addrs = sort_unique(q->addrs, n);
}

static void
on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct query *q = arg;

    q->running = false;
    if (q->dns->freeing)
        ; /* dns_free() frees it */
    else if (q->fn == NULL)
        query_free(q);
    else {
        if (status == ARES_SUCCESS)
            read_answer(q, info);
        answer_with(q, status == ARES_SUCCESS && q->answer.n_addrs == 0 ? ARES_ENODATA : status);
    }
    if (info)
        ares_freeaddrinfo(info);
}

/* An address in place of a name; c-ares 1.18 would ask a server for it. */
static bool
is_literal(struct query *q, const char *host)
{
    if (!addr_parse_ip(str_of(host), q->port, &q->addrs[0]))
        return false;
    q->answer.addrs = q->addrs;
    q->answer.n_addrs = 1;
    q->answer.ttl_s = LITERAL_TTL_S;
    answer_with(q, ARES_SUCCESS);
    return true;
}

void
dns_query(struct dns *d, const char *host, uint16_t port, dns_f *fn, void *arg)
{
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    struct query *q = mc_alloc(sizeof(*q));

    MC_CHECK(d, DNS_MAGIC);
    q->dns = d;
    q->fn = fn;
    q->arg = arg;
    q->port = port;
    q->tell.fn = tell;
    q->deadline.fn = on_deadline;
    list_push_back(&d->queries, &q->link);
    if (is_literal(q, host))
        return;
    loop_timer_set(d->loop, &q->deadline, loop_now_exact(d->loop) + d->timeout);
    q->running = true;
    ares_getaddrinfo(d->channel, host, NULL, &hints, on_answer, q);
    set_timer(d);
}

/* --- birth and death ------------------------------------------------------------------------- */

static void
init_library(void)
{
    ares_library_init(ARES_LIB_INIT_ALL);
}

static int
open_channel(struct dns *d, const char *resolvers)
{
    mc_ns try_ms = d->timeout / TRY_FRACTION / MC_MS;
    struct ares_options o = {
        .timeout = try_ms > 0 ? (int)try_ms : 1,
        .tries = TRIES,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = d,
    };
    int rc = ares_init_options(&d->channel, &o,
                               ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);

    if (rc != ARES_SUCCESS)
        return rc;
    if (resolvers != NULL)
        rc = ares_set_servers_ports_csv(d->channel, resolvers);
    if (rc != ARES_SUCCESS)
        ares_destroy(d->channel);
    return rc;
}

struct dns *
dns_new(struct loop *l, const char *resolvers, mc_ns timeout, struct errbuf *eb)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct dns *d = mc_alloc(sizeof(*d));
    int rc;

    pthread_once(&once, init_library);
    d->magic = DNS_MAGIC;
    d->loop = l;
    d->timeout = timeout;
    d->timer.fn = on_timer;
    list_init(&d->sockets);
    list_init(&d->queries);
    rc = open_channel(d, resolvers);
    if (rc == ARES_SUCCESS)
        return d;
    err_set(eb, "DNS: %s", ares_strerror(rc));
    free(d);
    return NULL;
}

void
dns_free(struct dns **dp)
{
    struct dns *d = *dp;

    if (d == NULL)
        return;
    MC_CHECK(d, DNS_MAGIC);
    d->freeing = true;
    ares_destroy(d->channel); /* ends queries and closes sockets by the callbacks above */
    while (!list_empty(&d->sockets))
        close_socket(LIST_ENTRY(d->sockets.next, struct dns_socket, link));
    while (!list_empty(&d->queries))
        query_free(LIST_ENTRY(d->queries.next, struct query, link));
    loop_timer_clear(d->loop, &d->timer);
    d->magic = 0;
    free(d);
    *dp = NULL;
}
