/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c - active checks, on the control thread's loop.
 *
 * A new connection for each check: a kept one would find a server well that accepts no others.  The
 * result is a result of the server only when it was: a lack of descriptors here, or a loop that was
 * held up past the time limit, counts for nothing.
 *
 * One timer does for all: in WAITING it begins the next check, in ASKING it is the time limit. What
 * is freed while its socket is open goes to CLOSING without an owner and ends in on_closed.
 */
#include "fleet/probe.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "http/grpc_check.h"
#include "http/h1.h"
#include "io/proxy_header.h"
#include "io/stream.h"

#define DEFAULT_INTERVAL_NS (2 * MC_SEC)
#define DEFAULT_TIMEOUT_NS  MC_SEC
#define DEFAULT_STATUS_MIN  200
#define DEFAULT_STATUS_MAX  399
/* Of the interval to either side, so that balancers that began together drift apart. */
#define JITTER              0.1
#define HEAD_MAX            16384 /* as h1_default_limits */
/* When our loop comes to the time limit this late, the answer may lie unread: read on so long. */
#define LOOP_LATE_NS        (100 * MC_MS)

enum phase { WAITING, ASKING, CLOSING };

struct probe {
    struct stream stream;
    struct timer timer;
    enum phase phase;
    bool late; /* more time was given */
    struct loop *loop;
    struct tls_turns *turns; /* the loop's */
    struct server *server;
    struct rng *rng;
    probe_f *fn; /* NULL: freed */
    void *arg;
    struct pool_check_conf conf; /* texts are its own */
    uint16_t port;
    uint32_t turn; /* through the addresses of a name */
    mc_ns began_ns;
    struct buf in;
    size_t scanned; /* of `in`, for h1_head_end() */
    struct grpc_check *grpc;
};

/* --- the end of a check --------------------------------------------------------------------------
 */

static void
probe_destroy(struct probe *p)
{
    free(p->conf.path);
    free(p->conf.host);
    free(p->conf.service);
    free(p->conf.method);
    free(p->conf.tls_name);
    tls_client_unref(&p->conf.tls_client);
    buf_free(&p->in);
    server_unref(&p->server);
    free(p);
}

static void
wait_for_next(struct probe *p)
{
    double factor = 1 - JITTER + 2 * JITTER * rng_unit(p->rng);

    p->phase = WAITING;
    loop_timer_set(p->loop, &p->timer, p->began_ns + (mc_ns)((double)p->conf.interval_ns * factor));
}

static void
close_sock(struct probe *p)
{
    p->phase = CLOSING;
    grpc_check_free(&p->grpc);
    loop_timer_clear(p->loop, &p->timer);
    stream_close(&p->stream, false);
}

static void
on_closed(struct sock *s)
{
    struct probe *p = container_of(s, struct probe, stream.sock);

    if (p->fn)
        wait_for_next(p);
    else
        probe_destroy(p);
}

/* The callback may free the probe: nothing is touched after it. */
static void __attribute__((format(printf, 3, 4)))
finish(struct probe *p, bool ok, const char *fmt, ...)
{
    char why[96];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    close_sock(p);
    p->fn(p->arg, ok, why);
}

/* "Connection refused" as the middle of a sentence. */
static void
finish_errno(struct probe *p, int err)
{
    const struct tls_fault *tls = stream_fault(&p->stream);
    const char *text = strerrordesc_np(err);

    if (tls)
        finish(p, false, "TLS: %s", tls->text);
    else if (!text)
        finish(p, false, "error %d", err);
    else
        finish(p, false, "%c%s", tolower((unsigned char)text[0]), text + 1);
}

/* --- the answer ----------------------------------------------------------------------------------
 */

static void
judge_status(struct probe *p, unsigned status)
{
    unsigned min = p->conf.status_min, max = p->conf.status_max;

    if (status >= min && status <= max)
        finish(p, true, "status %u", status);
    else if (min == max)
        finish(p, false, "status %u, expected %u", status, min);
    else
        finish(p, false, "status %u, expected %u-%u", status, min, max);
}

/* True when a final head was judged and the check is over; interim ones are passed over. */
static bool
read_head(struct probe *p, size_t head_len)
{
    enum http_method method = http_method_lookup(str_of(p->conf.method));
    struct http_head head;
    enum h1_fault fault;
    struct arena arena;

    arena_init(&arena, NULL);
    fault = h1_parse_response(&head, p->in.p, head_len, method, &h1_default_limits, &arena);
    arena_drop(&arena);
    if (fault != H1_NONE) {
        finish(p, false, "malformed response: %s", h1_fault_text(fault));
        return true;
    }
    if (head.status >= 200) {
        judge_status(p, head.status);
        return true;
    }
    buf_skip(&p->in, head_len);
    p->scanned = 0;
    return false;
}

/* Sends what the check has to say, and ends with what it has found. */
static void
go_on_grpc(struct probe *p)
{
    struct str out;

    while ((out = grpc_check_send(p->grpc)).n > 0)
        stream_write(&p->stream, out.p, out.n);
    if (grpc_check_state(p->grpc) != GRPC_CHECK_MORE)
        finish(p, grpc_check_state(p->grpc) == GRPC_CHECK_SERVING, "%s", grpc_check_why(p->grpc));
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct probe *p = container_of(s, struct probe, stream.sock);
    size_t head_len;

    if (p->phase != ASKING)
        return;
    if (p->grpc != NULL) {
        grpc_check_recv(p->grpc, (struct str){block_at(*b), (*b)->len});
        go_on_grpc(p);
        return;
    }
    buf_add(&p->in, block_at(*b), (*b)->len);
    while (h1_head_end(p->in.p, p->in.n, &p->scanned, &head_len))
        if (read_head(p, head_len))
            return;
    if (p->in.n > HEAD_MAX)
        finish(p, false, "malformed response: head too large");
}

static void
on_eof(struct sock *s)
{
    struct probe *p = container_of(s, struct probe, stream.sock);

    if (p->phase == ASKING)
        finish(p, false, "closed without a response");
}

static void
on_error(struct sock *s, int err)
{
    struct probe *p = container_of(s, struct probe, stream.sock);

    if (p->phase == ASKING)
        finish_errno(p, err);
}

static void
on_timeout(struct probe *p)
{
    char text[UNITS_TEXT];

    if (!p->late && loop_now(p->loop) > p->began_ns + p->conf.timeout_ns + LOOP_LATE_NS) {
        p->late = true;
        loop_timer_set(p->loop, &p->timer, loop_now(p->loop) + LOOP_LATE_NS);
        return;
    }
    finish(p, false, "%stimed out after %s", stream_is_shaking(&p->stream) ? "TLS handshake " : "",
           units_duration_text(p->conf.timeout_ns, text));
}

/* --- the question --------------------------------------------------------------------------------
 */

static const char *
host_of(const struct probe *p)
{
    if (p->conf.host)
        return p->conf.host;
    /* RFC 9110 7.2 wants a Host; a path of a socket is none */
    return strncmp(p->server->address_text, "unix:", 5) == 0 ? "localhost"
                                                             : p->server->address_text;
}

static void
send_request(struct probe *p)
{
    struct buf out = {0};

    buf_printf(&out,
               "%s %s HTTP/1.1\r\n"
               "Host: %s\r\n"
               "User-Agent: meercat/" MEERCAT_VERSION " (health check)\r\n"
               "Accept: */*\r\n"
               "Connection: close\r\n\r\n",
               p->conf.method, p->conf.path, host_of(p));
    stream_write(&p->stream, out.p, out.n);
    buf_free(&out);
}

/* The check is nobody's but ours. */
static void
send_header(struct probe *p)
{
    struct proxy_header h = {.version = p->conf.send_proxy == PROXY_OUT_V1 ? 1 : 2, .local = true};
    uint8_t bytes[PROXY_HEADER_MAX];

    if (p->conf.send_proxy != PROXY_OUT_OFF)
        stream_preface(&p->stream, bytes, proxy_header_write(&h, bytes));
}

/* It goes before a handshake, and so before on_connect. */
static bool
header_has_gone(struct probe *p)
{
    return stream_raw(&p->stream) == NULL || stream_unsent(&p->stream) == 0;
}

static void
begin_grpc(struct probe *p)
{
    const struct str scheme = p->conf.tls_client != NULL ? STR("https") : STR("http");

    p->grpc = grpc_check_new(str_of(p->conf.service), str_of(host_of(p)), scheme);
    go_on_grpc(p);
}

static void
on_connect(struct sock *s, int err)
{
    struct probe *p = container_of(s, struct probe, stream.sock);

    if (p->phase != ASKING)
        return;
    if (err)
        finish_errno(p, err);
    else if (p->conf.kind == POOL_CHECK_TCP && header_has_gone(p))
        finish(p, true, "connected");
    else if (p->conf.kind != POOL_CHECK_TCP) {
        if (p->conf.kind == POOL_CHECK_GRPC)
            begin_grpc(p);
        else
            send_request(p);
        stream_recv(&p->stream, true);
    }
}

/* A check that only connects ends when its header has gone. */
static void
on_drained(struct sock *s)
{
    struct probe *p = container_of(s, struct probe, stream.sock);

    if (p->phase == ASKING && p->conf.kind == POOL_CHECK_TCP)
        finish(p, true, "connected");
}

static const struct sock_ops ops = {
    .on_drained = on_drained,
    .on_connect = on_connect,
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void
begin(struct probe *p)
{
    const struct tls_target to = {
        .client = p->conf.tls_client,
        .name = p->conf.tls_name,
        .server = p->server->name_hash,
        .turns = p->turns,
    };
    struct addr a;
    uint32_t generation;

    p->began_ns = loop_now(p->loop);
    p->late = false;
    p->in.n = p->scanned = 0;
    if (!server_address(p->server, p->turn++, &a, &generation)) {
        wait_for_next(p); /* the resolver speaks for the server's health until then */
        return;
    }
    if (p->port)
        addr_set_port(&a, p->port);
    if (stream_connect(&p->stream, p->loop, &a, &ops, &to) != MC_OK) {
        log_error("pool %s: server %s: cannot check: %s", p->server->pool_name, p->server->name,
                  strerror(errno));
        wait_for_next(p);
        return;
    }
    send_header(p);
    p->phase = ASKING;
    loop_timer_set(p->loop, &p->timer, p->began_ns + p->conf.timeout_ns);
}

static void
on_timer(struct timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);

    if (p->phase == WAITING)
        begin(p);
    else
        on_timeout(p);
}

/* --- birth and death ----------------------------------------------------------------------------
 */

static const char *
path_or_default(const struct pool_check_conf *c)
{
    return c->path ? c->path : "/";
}

static const char *
method_or_default(const struct pool_check_conf *c)
{
    return c->method ? c->method : "GET";
}

/* Numbers of c with the defaults for zeros; texts are not copied. */
static struct pool_check_conf
with_defaults(const struct pool_check_conf *c)
{
    struct pool_check_conf d = *c;

    if (d.interval_ns <= 0)
        d.interval_ns = DEFAULT_INTERVAL_NS;
    if (d.timeout_ns <= 0)
        d.timeout_ns = DEFAULT_TIMEOUT_NS;
    if (d.status_min == 0)
        d.status_min = DEFAULT_STATUS_MIN;
    if (d.status_max == 0)
        d.status_max = d.status_min > DEFAULT_STATUS_MAX ? d.status_min : DEFAULT_STATUS_MAX;
    return d;
}

struct probe *
probe_new(struct loop *loop, struct tls_turns *turns, struct server *s,
          const struct pool_check_conf *conf, uint16_t port, mc_ns first_ns, struct rng *rng,
          probe_f *fn, void *arg)
{
    struct probe *p = mc_alloc(sizeof(*p));

    p->loop = loop;
    p->turns = turns;
    p->server = server_ref(s);
    p->rng = rng;
    p->fn = fn;
    p->arg = arg;
    p->port = port;
    p->conf = with_defaults(conf);
    p->conf.path = mc_strdup(path_or_default(conf));
    p->conf.method = mc_strdup(method_or_default(conf));
    p->conf.host = conf->host ? mc_strdup(conf->host) : NULL;
    p->conf.service = conf->service ? mc_strdup(conf->service) : NULL;
    p->conf.tls_name = conf->tls_name ? mc_strdup(conf->tls_name) : NULL;
    tls_client_ref(conf->tls_client);
    p->phase = WAITING;
    p->timer.fn = on_timer;
    loop_timer_set(loop, &p->timer, loop_now(loop) + first_ns);
    return p;
}

void
probe_free(struct probe **pp)
{
    struct probe *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    p->fn = NULL;
    loop_timer_clear(p->loop, &p->timer);
    if (p->phase == WAITING)
        probe_destroy(p);
    else if (p->phase == ASKING)
        close_sock(p);
}

static bool
is_same_text(const char *a, const char *b)
{
    return str_eq(str_of(a), str_of(b));
}

bool
probe_is_same(const struct probe *p, const struct pool_check_conf *conf, uint16_t port)
{
    struct pool_check_conf c = with_defaults(conf);

    return p->conf.kind == c.kind && p->conf.send_proxy == c.send_proxy && p->port == port &&
           p->conf.status_min == c.status_min && p->conf.status_max == c.status_max &&
           p->conf.interval_ns == c.interval_ns && p->conf.timeout_ns == c.timeout_ns &&
           tls_client_id(p->conf.tls_client) == tls_client_id(c.tls_client) &&
           is_same_text(p->conf.tls_name, c.tls_name) && is_same_text(p->conf.host, c.host) &&
           is_same_text(p->conf.service, c.service) &&
           is_same_text(p->conf.path, path_or_default(conf)) &&
           is_same_text(p->conf.method, method_or_default(conf));
}
