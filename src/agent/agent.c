/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agent.c - samples on a timer, and tells whoever asks.
 *
 * A watcher is a reader of a stream.  Each line it gets covers the time since its last one, so a
 * watcher with a long interval sees long averages.  One that does not keep up misses lines; it
 * never gets old ones.
 */
#include "agent/agent.h"

#include <stdlib.h>
#include <time.h>

#include "agent/check_port.h"
#include "agent/metrics.h"
#include "base/check.h"
#include "base/log.h"
#include "base/units.h"
#include "httpd/httpd.h"

/* Connections beside the streams: scrapes, people with curl. */
#define MORE_CONNECTIONS 16
/* Lines that may wait for a slow reader. */
#define UNSENT_MAX       4096

struct watcher {
    struct list link;
    struct agent *agent;
    struct httpd_stream *stream;
    mc_ns interval;
    int64_t period; /* on the wall clock: that of the last line */
    struct sample before;
};

struct agent {
    struct loop *loop;
    struct agent_conf conf;
    struct sampler *sampler;
    struct httpd *httpd;
    struct check_port *check[AGENT_BINDS_MAX];
    struct words words;
    struct timer timer;
    struct list watchers;
    struct agent_counts counts;
    struct sample now, before;
    struct log_limit refusals;
    char *text;
};

/* --- who may ask --------------------------------------------------------------------------------
 */

/* RFC 1918, RFC 6598, RFC 4193, link-local, loopback: where balancers stand, and the world does
 * not. */
static const char *const default_allow[] = {
    "127.0.0.0/8",    "::1",      "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
    "169.254.0.0/16", "fc00::/7", "fe80::/10",  "100.64.0.0/10", "unix",
};

static void
set_default_allow(struct agent_conf *conf)
{
    for (unsigned i = 0; i < MC_COUNT(default_allow); i++)
        MC_ASSERT(addr_parse_net(str_of(default_allow[i]), &conf->allow[i], NULL) == MC_OK);
    conf->n_allow = MC_COUNT(default_allow);
}

static bool
admit(void *arg, const struct addr *peer)
{
    struct agent *a = arg;
    char text[ADDR_TEXT];
    unsigned swallowed;

    for (unsigned i = 0; i < a->conf.n_allow; i++)
        if (addr_in_net(peer, &a->conf.allow[i]))
            return true;
    a->counts.refused_network++;
    if (log_limit_ok(&a->refusals, loop_now(a->loop), &swallowed))
        log_warn("agent: %s is in no allowed network: closed (and %u before)",
                 addr_ip_text(peer, text), swallowed);
    return false;
}

/* --- time ---------------------------------------------------------------------------------------
 */

/* Samples are taken at whole multiples of their interval on the wall clock, and so are lines: that
 * is how balancers cut time, too, and the CPU that a request used then falls into the window in
 * which the balancer saw it. */
static int64_t
period_of(mc_ns interval)
{
    /* half of the grain of timers: one that fires a little early is meant for what comes */
    return (units_wall_ns() + MC_MS / 2) / interval;
}

static mc_ns
next_sample(const struct agent *a)
{
    mc_ns interval = a->conf.interval, wall = units_wall_ns();
    mc_ns wait = interval - wall % interval;

    return loop_now_exact(a->loop) + (wait < interval / 4 ? wait + interval : wait);
}

/* --- lines --------------------------------------------------------------------------------------
 */

static void
add_line(const struct agent *a, const struct sample *before, struct buf *out)
{
    char text[REPORT_TEXT_MAX];
    struct place_report r;

    sampler_report(a->sampler, before, &a->now, &r);
    buf_add(out, text, report_write_text(&r, text));
    buf_add(out, "\n", 1);
}

static void
send_line(struct watcher *w)
{
    struct agent *a = w->agent;
    struct buf line = {0};

    if (httpd_stream_unsent(w->stream) > UNSENT_MAX) {
        a->counts.skipped++;
        return;
    }
    add_line(a, &w->before, &line);
    httpd_stream_write(w->stream, line.p, line.n);
    buf_free(&line);
    w->before = a->now;
    a->counts.reports++;
}

static void
on_timer(struct timer *t)
{
    struct agent *a = container_of(t, struct agent, timer);
    struct place_report r;

    a->before = a->now;
    sampler_take(a->sampler, loop_now_exact(a->loop), &a->now);
    sampler_report(a->sampler, &a->before, &a->now, &r);
    words_learn(&a->words, &r, a->now.at - a->before.at);
    LIST_FOREACH_SAFE (it, tmp, &a->watchers) {
        struct watcher *w = LIST_ENTRY(it, struct watcher, link);
        int64_t period = period_of(w->interval);

        if (period == w->period)
            continue;
        w->period = period;
        send_line(w);
    }
    loop_timer_set(a->loop, t, next_sample(a));
}

/* --- requests -----------------------------------------------------------------------------------
 */

static void
on_gone(void *arg)
{
    struct watcher *w = arg;

    list_remove(&w->link);
    w->agent->counts.watchers--;
    free(w);
}

/* The value of a parameter of the query. */
static bool
query_get(struct str query, struct str name, struct str *out)
{
    while (query.p != NULL && query.n > 0) {
        struct str value = str_cut(&query, '&'), key = str_cut(&value, '=');

        if (str_eq(key, name) && value.p != NULL) {
            *out = value;
            return true;
        }
    }
    return false;
}

static void
begin_stream(struct agent *a, const struct httpd_request *q, struct httpd_response *r,
             mc_ns interval)
{
    struct watcher *w;

    if (a->counts.watchers >= a->conf.max_watchers) {
        a->counts.refused_watchers++;
        httpd_fail(r, 503, "too many watchers, at most %u", a->conf.max_watchers);
        return;
    }
    w = mc_alloc(sizeof(*w));
    w->stream = httpd_stream_begin(q, r, on_gone, w);
    if (w->stream == NULL) { /* HEAD */
        free(w);
        return;
    }
    w->agent = a;
    w->interval = interval;
    w->period = period_of(interval);
    w->before = a->now;
    list_push_back(&a->watchers, &w->link);
    a->counts.watchers++;
}

static void
get_load(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct agent *a = arg;
    struct str text;
    mc_ns interval;

    r->type = "text/plain; charset=utf-8";
    a->counts.reports++;
    if (query_get(q->query, STR("interval"), &text)) {
        if (!units_parse_duration(text, &interval) || interval < AGENT_INTERVAL_MIN ||
            interval > AGENT_INTERVAL_MAX) {
            httpd_fail(r, 400, "interval: a duration from 20ms to 30s, as in interval=100ms");
            return;
        }
        if (interval < a->conf.interval)
            interval = a->conf.interval;
        begin_stream(a, q, r, interval);
        if (r->status != 200)
            return;
    }
    add_line(a, &a->before, &r->body);
}

static void
get_metrics(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct agent *a = arg;
    struct place_report report;

    a->counts.check_replies = 0;
    for (unsigned i = 0; i < a->conf.n_check_bind; i++)
        a->counts.check_replies += check_port_replies(a->check[i]);
    sampler_report(a->sampler, &a->before, &a->now, &report);
    r->type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(&r->body, sampler_target(a->sampler), &a->now, &report, &a->counts);
}

static const struct httpd_route routes[] = {
    {HTTP_M_GET, "/load", get_load},
    {HTTP_M_GET, "/metrics", get_metrics},
};

/* --- birth and death ----------------------------------------------------------------------------
 */

static enum mc_err
listen_all(struct agent *a, struct errbuf *e)
{
    char text[ADDR_TEXT];
    enum mc_err err = MC_OK;
    unsigned i;

    for (i = 0; i < a->conf.n_bind && err == MC_OK; i++)
        err = httpd_listen(a->httpd, &a->conf.bind[i], 0666, e);
    if (err != MC_OK) {
        err_wrap(e, "%s", addr_text(&a->conf.bind[i - 1], text));
        return err;
    }
    for (i = 0; i < a->conf.n_check_bind && err == MC_OK; i++)
        err = check_port_new(a->loop, &a->conf.check_bind[i], &a->words, admit, a, &a->check[i], e);
    if (err != MC_OK)
        err_wrap(e, "%s", addr_text(&a->conf.check_bind[i - 1], text));
    return err;
}

void
agent_set_tls(struct agent *a, struct tls_domain *d)
{
    httpd_set_tls(a->httpd, d);
}

enum mc_err
agent_new(struct loop *loop, const struct agent_conf *conf, struct agent **out, struct errbuf *e)
{
    struct agent *a = mc_alloc(sizeof(*a));
    struct httpd_conf http = {.routes = routes,
                              .n_routes = MC_COUNT(routes),
                              .arg = a,
                              .admit = admit,
                              .max_connections = conf->max_watchers + MORE_CONNECTIONS};
    char text[UNITS_TEXT];
    enum mc_err err;

    a->loop = loop;
    a->conf = *conf;
    if (a->conf.n_allow == 0)
        set_default_allow(&a->conf);
    a->words = (struct words){.state_file = conf->state_file,
                              .capacity = conf->capacity,
                              .fleet = conf->fleet ? conf->fleet : 1,
                              .free = -1};
    a->timer.fn = on_timer;
    list_init(&a->watchers);
    a->httpd = httpd_new(loop, &http);
    agent_set_tls(a, conf->tls);
    err = sampler_new(&conf->sample, &a->sampler, e);
    if (err == MC_OK)
        err = listen_all(a, e);
    if (err != MC_OK) {
        agent_free(&a);
        return err;
    }
    a->text = mc_printf("%s, every %s", sampler_target(a->sampler),
                        units_duration_text(conf->interval, text));
    sampler_take(a->sampler, loop_now_exact(loop), &a->now);
    a->before = a->now;
    loop_timer_set(loop, &a->timer, next_sample(a));
    *out = a;
    return MC_OK;
}

void
agent_free(struct agent **ap)
{
    struct agent *a = *ap;

    if (a == NULL)
        return;
    *ap = NULL;
    loop_timer_clear(a->loop, &a->timer);
    httpd_free(&a->httpd); /* ends the streams, and so the watchers */
    for (unsigned i = 0; i < AGENT_BINDS_MAX; i++)
        check_port_free(&a->check[i]);
    sampler_free(&a->sampler);
    free(a->text);
    free(a);
}

void
agent_set_admin(struct agent *a, enum report_admin admin)
{
    a->words.has_admin = true;
    a->words.admin = admin;
}

const char *
agent_text(const struct agent *a)
{
    return a->text;
}

enum mc_err
agent_once(const struct agent_conf *conf, char line[REPORT_TEXT_MAX], struct errbuf *e)
{
    struct timespec pause = {.tv_sec = conf->interval / MC_SEC, .tv_nsec = conf->interval % MC_SEC};
    struct sample before, now;
    struct sampler *s;
    struct place_report r;
    enum mc_err err = sampler_new(&conf->sample, &s, e);

    if (err != MC_OK)
        return err;
    sampler_take(s, units_clock_ns(), &before);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    sampler_take(s, units_clock_ns(), &now);
    sampler_report(s, &before, &now, &r);
    report_write_text(&r, line);
    sampler_free(&s);
    return MC_OK;
}
