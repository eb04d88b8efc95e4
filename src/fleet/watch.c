/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch.c - the life of a watcher: connect, read, wait, and again.
 *
 * One timer does for all: while WAITING it begins the next connection, else it is the time limit.
 * A stream's limit is five intervals from the last report that was believed: neither silence nor
 * garbage holds a connection.  Failures in a row are answered by waiting longer, and a little
 * differently each time, so that balancers do not knock together.
 */
#include "fleet/watch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/watch_priv.h"

#define BACKOFF_MIN_NS   (100 * MC_MS)
#define BACKOFF_MAX_NS   (10 * MC_SEC) /* of a stream; a poll waits at least its interval */
#define JITTER           0.25          /* of a wait, to either side */
#define STREAM_INTERVALS 5
#define STREAM_MIN_NS    (500 * MC_MS) /* a shorter limit would meet our own scheduling */
#define CONNECT_LIMIT_NS (2 * MC_SEC)
#define LOOP_LATE_NS     (100 * MC_MS) /* as in probe.c: the answer may lie unread */

/* Asked so often, unless told otherwise. */
static const mc_ns intervals[] = {
    [WATCH_AGENT] = 100 * MC_MS,
    [WATCH_NODE] = MC_SEC,
    [WATCH_CHECK] = 2 * MC_SEC,
};

/* --- waiting ------------------------------------------------------------------------------------
 */

static mc_ns
jittered(struct watcher *w, mc_ns d)
{
    return (mc_ns)((double)d * (1 - JITTER + 2 * JITTER * rng_unit(w->rng)));
}

static mc_ns
backoff(const struct watcher *w, mc_ns from)
{
    unsigned doublings = w->n_failed > 1 ? w->n_failed - 1 : 0;
    mc_ns d = from << (doublings < 10 ? doublings : 10);

    return d < BACKOFF_MAX_NS ? d : BACKOFF_MAX_NS;
}

/* A poll keeps its rhythm, counted from its beginning. */
static mc_ns
next_at(struct watcher *w)
{
    mc_ns now = loop_now(w->loop), wait;

    if (w->ops->time_limit_ns == 0)
        return now + jittered(w, backoff(w, BACKOFF_MIN_NS));
    if (w->n_failed == 0)
        return w->began_ns + w->conf.interval;
    wait = backoff(w, w->conf.interval);
    return w->began_ns + jittered(w, wait > w->conf.interval ? wait : w->conf.interval);
}

static void
wait_for_next(struct watcher *w)
{
    w->phase = WATCH_WAITING;
    loop_timer_set(w->loop, &w->timer, next_at(w));
}

static void
close_sock(struct watcher *w)
{
    w->phase = WATCH_CLOSING;
    loop_timer_clear(w->loop, &w->timer);
    stream_close(&w->stream, false);
}

static void
set_limit(struct watcher *w)
{
    mc_ns limit = w->ops->time_limit_ns;

    if (limit == 0) {
        limit = STREAM_INTERVALS * w->conf.interval;
        limit = limit > STREAM_MIN_NS ? limit : STREAM_MIN_NS;
    }
    w->late = false;
    loop_timer_set(w->loop, &w->timer, loop_now(w->loop) + limit);
}

enum watch_step
watch_fail(struct watcher *w, const char *fmt, ...)
{
    char address[ADDR_TEXT];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(w->stats.why, sizeof(w->stats.why), fmt, ap);
    va_end(ap);
    w->stats.failures++;
    if (w->n_failed++ == 0) /* the others in a row would tell nothing new */
        log_warn("agent %s: %s", addr_text(&w->conf.addr, address), w->stats.why);
    close_sock(w);
    return WATCH_FAILED;
}

/* --- reports ------------------------------------------------------------------------------------
 */

void
watch_refuse(struct watcher *w, enum report_fault f)
{
    char address[ADDR_TEXT];

    if (w->stats.refused[f]++ == 0)
        log_warn("agent %s: a report was refused: %s", addr_text(&w->conf.addr, address),
                 report_fault_text(f));
}

bool
watch_take(struct watcher *w, enum report_fault f, const struct place_report *r)
{
    char address[ADDR_TEXT];
    mc_ns now = loop_now(w->loop), age = 0;

    if (f == REPORT_F_NONE)
        f = report_admit(&w->order, r, now, &age);
    if (f != REPORT_F_NONE) {
        watch_refuse(w, f);
        return true;
    }
    if (w->n_failed > 0)
        log_info("agent %s: reports come in again", addr_text(&w->conf.addr, address));
    w->n_failed = 0;
    w->stats.why[0] = '\0';
    w->stats.reports++;
    w->stats.last_ns = now - age;
    if (w->ops->time_limit_ns == 0)
        set_limit(w);
    w->fn(w->arg, r, age);
    return w->fn != NULL;
}

/* --- a connection -------------------------------------------------------------------------------
 */

static void
destroy(struct watcher *w)
{
    free((char *)w->conf.path);
    free((char *)w->conf.send);
    free((char *)w->conf.tls_name);
    tls_client_unref(&w->conf.tls_client);
    buf_free(&w->in);
    arena_drop(&w->http.arena);
    free(w);
}

static void
on_closed(struct sock *s)
{
    struct watcher *w = container_of(s, struct watcher, stream.sock);

    if (w->fn != NULL)
        wait_for_next(w);
    else
        destroy(w);
}

static void
go_on(struct watcher *w, enum watch_step step)
{
    if (step == WATCH_DONE)
        close_sock(w);
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct watcher *w = container_of(s, struct watcher, stream.sock);

    if (w->phase == WATCH_READING)
        go_on(w, w->ops->feed(w, block_at(*b), (*b)->len));
}

static void
on_eof(struct sock *s)
{
    struct watcher *w = container_of(s, struct watcher, stream.sock);

    if (w->phase == WATCH_READING)
        go_on(w, w->ops->eof(w));
}

static void
fail_errno(struct watcher *w, int err)
{
    const struct tls_fault *tls = stream_fault(&w->stream);
    const char *text = strerrordesc_np(err);

    if (tls)
        watch_fail(w, "TLS: %s", tls->text);
    else
        watch_fail(w, "%s", text ? text : "unknown error");
}

static void
on_error(struct sock *s, int err)
{
    struct watcher *w = container_of(s, struct watcher, stream.sock);

    if (w->phase == WATCH_READING)
        fail_errno(w, err);
}

static void
on_connect(struct sock *s, int err)
{
    struct watcher *w = container_of(s, struct watcher, stream.sock);

    if (w->phase != WATCH_CONNECTING)
        return;
    if (err) {
        fail_errno(w, err);
        return;
    }
    w->stats.connects++;
    w->phase = WATCH_READING;
    set_limit(w);
    w->ops->ask(w);
    stream_recv(&w->stream, true);
}

static const struct sock_ops sock_ops = {
    .on_connect = on_connect,
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void
begin(struct watcher *w)
{
    char address[ADDR_TEXT];
    const struct tls_target to = {
        .client = w->conf.tls_client,
        .name = w->conf.tls_name,
        .server = str_hash(str_of(addr_text(&w->conf.addr, address)), 0),
        .turns = w->turns,
    };

    w->began_ns = loop_now(w->loop);
    w->late = false;
    w->in.n = 0;
    arena_drop(&w->http.arena);
    w->http.has_head = false;
    w->http.scanned = 0;
    if (stream_connect(&w->stream, w->loop, &w->conf.addr, &sock_ops, &to) != MC_OK) {
        snprintf(w->stats.why, sizeof(w->stats.why), "%s", strerror(errno));
        w->stats.failures++;
        w->n_failed++;
        wait_for_next(w);
        return;
    }
    w->phase = WATCH_CONNECTING;
    loop_timer_set(w->loop, &w->timer, w->began_ns + CONNECT_LIMIT_NS);
}

static void
on_limit(struct watcher *w)
{
    if (!w->late && loop_now(w->loop) > w->timer.at_ns + LOOP_LATE_NS) {
        w->late = true;
        loop_timer_set(w->loop, &w->timer, loop_now(w->loop) + LOOP_LATE_NS);
        return;
    }
    if (w->phase == WATCH_READING)
        w->stats.stalls++;
    watch_fail(w, "%s", w->phase == WATCH_READING ? "no report in time" : "no connection in time");
}

static void
on_timer(struct timer *t)
{
    struct watcher *w = container_of(t, struct watcher, timer);

    if (w->phase == WATCH_WAITING)
        begin(w);
    else
        on_limit(w);
}

/* --- birth and death ----------------------------------------------------------------------------
 */

struct watcher *
watcher_new(struct loop *loop, struct tls_turns *turns, const struct watch_conf *conf,
            struct rng *rng, watcher_f *fn, void *arg)
{
    static const struct watch_ops *const ops[] = {[WATCH_AGENT] = &watch_ops_agent,
                                                  [WATCH_CHECK] = &watch_ops_check,
                                                  [WATCH_NODE] = &watch_ops_node};
    struct watcher *w = mc_alloc(sizeof(*w));

    w->loop = loop;
    w->turns = turns;
    w->rng = rng;
    w->fn = fn;
    w->arg = arg;
    w->conf = *conf;
    if (w->conf.interval <= 0)
        w->conf.interval = intervals[conf->kind];
    w->conf.path = conf->path ? mc_strdup(conf->path) : NULL;
    w->conf.send = conf->send ? mc_strdup(conf->send) : NULL;
    w->conf.tls_name = conf->tls_name ? mc_strdup(conf->tls_name) : NULL;
    tls_client_ref(conf->tls_client);
    w->ops = ops[conf->kind];
    arena_init(&w->http.arena, NULL);
    w->timer.fn = on_timer;
    w->phase = WATCH_WAITING;
    loop_timer_set(loop, &w->timer,
                   loop_now(loop) + (mc_ns)(rng_unit(rng) * (double)w->conf.interval));
    return w;
}

void
watcher_free(struct watcher **wp)
{
    struct watcher *w = *wp;

    if (w == NULL)
        return;
    *wp = NULL;
    w->fn = NULL;
    loop_timer_clear(w->loop, &w->timer);
    if (w->phase == WATCH_WAITING)
        destroy(w);
    else if (w->phase != WATCH_CLOSING)
        close_sock(w);
}

const struct watch_stats *
watcher_stats(const struct watcher *w)
{
    return &w->stats;
}

const struct watch_conf *
watcher_conf(const struct watcher *w)
{
    return &w->conf;
}

mc_ns
watcher_age(const struct watcher *w, mc_ns now)
{
    return w->stats.reports == 0 ? MC_NEVER_NS : now - w->stats.last_ns;
}
