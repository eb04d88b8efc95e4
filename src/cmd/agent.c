/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agent.c - `meercat agent`: tells balancers how busy this server is, in the foreground.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/slim.h"
#include "base/check.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "control/notify.h"

#define DEFAULT_BIND         "*:7708"
#define DEFAULT_INTERVAL_NS  (100 * MC_MS)
#define DEFAULT_MAX_WATCHERS 64
#define MAX_WATCHERS_MAX     4096

/* --- options ------------------------------------------------------------------------------------
 */

enum option_id {
    O_INTERVAL = 256,
    O_BIND,
    O_ALLOW,
    O_TLS_CERTIFICATE,
    O_TLS_CLIENT_CA,
    O_MAX_WATCHERS,
    O_CHECK_BIND,
    O_ROOT,
    O_CAPACITY,
    O_FLEET,
    O_STATE_FILE,
    O_ONCE,
    O_HOST,
    O_CGROUP,
    O_UNIT,
    O_PID,
    O_PID_FILE,
    O_LISTEN_PORT,
};

static const struct option options[] = {
    {"interval", required_argument, NULL, O_INTERVAL},
    {"bind", required_argument, NULL, O_BIND},
    {"allow", required_argument, NULL, O_ALLOW},
    {"tls-certificate", required_argument, NULL, O_TLS_CERTIFICATE},
    {"tls-client-ca", required_argument, NULL, O_TLS_CLIENT_CA},
    {"max-watchers", required_argument, NULL, O_MAX_WATCHERS},
    {"agent-check-bind", required_argument, NULL, O_CHECK_BIND},
    {"sysfs-root", required_argument, NULL, O_ROOT},
    {"capacity", required_argument, NULL, O_CAPACITY},
    {"fleet", required_argument, NULL, O_FLEET},
    {"state-file", required_argument, NULL, O_STATE_FILE},
    {"once", no_argument, NULL, O_ONCE},
    {"host", no_argument, NULL, O_HOST},
    {"cgroup", optional_argument, NULL, O_CGROUP},
    {"unit", required_argument, NULL, O_UNIT},
    {"pid", required_argument, NULL, O_PID},
    {"pid-file", required_argument, NULL, O_PID_FILE},
    {"listen-port", required_argument, NULL, O_LISTEN_PORT},
    {0},
};

struct agent_options {
    struct agent_conf conf;
    struct agent_tls {
        const char *certificate, *client_ca; /* files; NULL: plain, and nobody is asked for one */
    } tls;
    bool once;
    int target; /* the option that named it, 0: none */
};

static bool
bad(const char *option, const char *value, const char *why)
{
    fprintf(stderr, "meercat agent: --%s %s: %s\n", option, value, why);
    return false;
}

static bool
parse_number(const char *option, const char *value, uint64_t min, uint64_t max, uint64_t *out)
{
    char why[80];

    if (str_u64(str_of(value), out) && *out >= min && *out <= max)
        return true;
    snprintf(why, sizeof(why), "a number from %llu to %llu is wanted", (unsigned long long)min,
             (unsigned long long)max);
    return bad(option, value, why);
}

static bool
parse_interval(const char *value, mc_ns *out)
{
    if (units_parse_duration(str_of(value), out) && *out >= AGENT_INTERVAL_MIN &&
        *out <= AGENT_INTERVAL_MAX)
        return true;
    return bad("interval", value, "a duration from 20ms to 30s is wanted");
}

/* ":7710" is every address, as people write it elsewhere. */
static bool
parse_bind(const char *option, const char *value, struct addr *list, unsigned *n)
{
    char *text = mc_printf("%s%s", value[0] == ':' ? "*" : "", value);
    struct errbuf e = {"a numeric address and port are wanted"};
    struct str host;
    uint16_t port;
    bool ok = false;

    if (*n == AGENT_BINDS_MAX)
        bad(option, value, "too many of them");
    else if (addr_parse(str_of(text), &list[*n], &host, &port, &e) != MC_OK)
        bad(option, value, e.text);
    else {
        (*n)++;
        ok = true;
    }
    free(text);
    return ok;
}

static bool
parse_allow(const char *value, struct agent_conf *c)
{
    struct errbuf e;

    if (c->n_allow == AGENT_ALLOW_MAX)
        return bad("allow", value, "too many of them");
    if (addr_parse_net(str_of(value), &c->allow[c->n_allow], &e) != MC_OK)
        return bad("allow", value, e.text);
    c->n_allow++;
    return true;
}

static bool
parse_pid(const char *value, struct procs_conf *p)
{
    uint64_t pid;

    if (p->n_pids == PROCS_GIVEN_MAX)
        return bad("pid", value, "too many of them");
    if (!parse_number("pid", value, 1, 1 << 22, &pid)) /* PID_MAX_LIMIT */
        return false;
    p->pids[p->n_pids++] = (int)pid;
    return true;
}

/* What is measured is one thing; several --pid are one. */
static bool
set_target(struct agent_options *o, int option, enum sample_target target)
{
    if (o->target != 0 && (o->target != option || option != O_PID)) {
        fprintf(stderr, "meercat agent: only one of --host, --cgroup, --unit, --pid, --pid-file "
                        "and --listen-port\n");
        return false;
    }
    o->target = option;
    o->conf.sample.target = target;
    return true;
}

static bool
take_target(struct agent_options *o, int option, const char *value)
{
    struct sample_conf *s = &o->conf.sample;
    uint64_t n;

    switch (option) {
    case O_HOST: return set_target(o, option, SAMPLE_HOST);
    case O_CGROUP: s->cgroup = value; return set_target(o, option, SAMPLE_CGROUP);
    case O_UNIT: s->unit = value; return set_target(o, option, SAMPLE_UNIT);
    case O_PID: return parse_pid(value, &s->procs) && set_target(o, option, SAMPLE_PROCS);
    case O_PID_FILE: s->procs.pid_file = value; return set_target(o, option, SAMPLE_PROCS);
    case O_LISTEN_PORT:
        if (!parse_number("listen-port", value, 1, 65535, &n))
            return false;
        s->procs.port = (uint16_t)n;
        return set_target(o, option, SAMPLE_PROCS);
    }
    return false; /* getopt_long() has said it */
}

static bool
take_option(struct agent_options *o, int option, const char *value)
{
    struct agent_conf *c = &o->conf;
    uint64_t n;

    switch (option) {
    case O_INTERVAL: return parse_interval(value, &c->interval);
    case O_BIND: return parse_bind("bind", value, c->bind, &c->n_bind);
    case O_CHECK_BIND:
        return parse_bind("agent-check-bind", value, c->check_bind, &c->n_check_bind);
    case O_TLS_CERTIFICATE: o->tls.certificate = value; return true;
    case O_TLS_CLIENT_CA: o->tls.client_ca = value; return true;
    case O_ALLOW: return parse_allow(value, c);
    case O_MAX_WATCHERS:
        if (!parse_number("max-watchers", value, 1, MAX_WATCHERS_MAX, &n))
            return false;
        c->max_watchers = (unsigned)n;
        return true;
    case O_ROOT: c->sample.root = value; return true;
    case O_CAPACITY: return parse_number("capacity", value, 1, 100000000, &c->capacity);
    case O_FLEET: return parse_number("fleet", value, 1, 100000, &c->fleet);
    case O_STATE_FILE: c->state_file = value; return true;
    case O_ONCE: o->once = true; return true;
    default: return take_target(o, option, value);
    }
}

/* --- TLS ----------------------------------------------------------------------------------------
 */

static void
on_note(void *arg, bool warning, const char *text)
{
    if (warning)
        log_warn("agent: --tls-certificate: %s", text);
    else
        log_error("agent: --tls-certificate: %s", text);
}

/* NULL: it was said why. */
static struct tls_domain *
read_tls(const struct agent_tls *t)
{
    struct tls_domain *d = tls_domain_new("agent");
    struct errbuf e;

    if (!tls_domain_add(d, t->certificate, false, on_note, NULL)) {
        tls_domain_unref(&d);
        return NULL;
    }
    if (t->client_ca != NULL && !tls_domain_add_client_ca(d, t->client_ca, &e)) {
        log_error("agent: --tls-client-ca: %s", e.text);
        tls_domain_unref(&d);
        return NULL;
    }
    tls_domain_set_verify(d, t->client_ca != NULL ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE);
    tls_domain_seal(d, NULL); /* connections stay for days: nothing is won by resuming */
    return d;
}

/* --- running ------------------------------------------------------------------------------------
 */

struct running {
    struct loop *loop;
    struct agent *agent;
    const struct agent_tls *tls;
    struct watch signals;
    struct timer alive;
};

/* Bad files change nothing. */
static void
read_again(struct running *r)
{
    struct tls_domain *d = r->tls->certificate != NULL ? read_tls(r->tls) : NULL;

    if (d == NULL)
        return;
    agent_set_tls(r->agent, d);
    tls_domain_unref(&d);
    log_info("agent: read the certificate again");
}

static void
on_signal(struct watch *w, unsigned revents)
{
    struct running *r = container_of(w, struct running, signals);
    struct signalfd_siginfo si;

    while (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
        switch (si.ssi_signo) {
        case SIGUSR1: agent_set_admin(r->agent, REPORT_DRAIN); break;
        case SIGUSR2: agent_set_admin(r->agent, REPORT_READY); break;
        case SIGHUP: read_again(r); break;
        default: notify_stopping(); loop_stop(r->loop);
        }
    }
    watch_arm(w, POLLIN);
}

static void
on_alive(struct timer *t)
{
    struct running *r = container_of(t, struct running, alive);

    notify_alive();
    loop_timer_set(r->loop, t, loop_now(r->loop) + notify_alive_every());
}

static int
take_signals(void)
{
    static const int all[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGHUP};
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    for (unsigned i = 0; i < MC_COUNT(all); i++)
        sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void
run_loop(struct running *r, int signals)
{
    watch_init(&r->signals, r->loop, signals, on_signal);
    watch_arm(&r->signals, POLLIN);
    r->alive.fn = on_alive;
    if (notify_alive_every() > 0)
        loop_timer_set(r->loop, &r->alive, loop_now(r->loop));
    log_info("agent: telling of %s", agent_text(r->agent));
    notify_ready();
    slim_down();
    loop_run(r->loop);
    loop_timer_clear(r->loop, &r->alive);
    watch_drop(&r->signals);
}

static int
run(struct agent_options *o)
{
    /* epoll: ten events a second are not worth a ring and its buffers */
    struct loop_conf lc = {.engine = LOOP_EPOLL};
    struct running r = {.tls = &o->tls};
    struct errbuf e = {"cannot begin"};
    int signals = take_signals();
    bool ok;

    log_setup(LOG_LEVEL_INFO, notify_has_journal());
    if (o->tls.certificate != NULL && (o->conf.tls = read_tls(&o->tls)) == NULL)
        return 1;
    r.loop = loop_new(&lc, &e);
    ok = signals >= 0 && r.loop != NULL && agent_new(r.loop, &o->conf, &r.agent, &e) == MC_OK;
    tls_domain_unref(&o->conf.tls);
    if (ok)
        run_loop(&r, signals);
    else
        log_error("agent: %s", e.text);
    agent_free(&r.agent);
    if (r.loop != NULL)
        loop_free(&r.loop);
    close(signals);
    return ok ? 0 : 1;
}

static int
once(const struct agent_conf *conf)
{
    char line[REPORT_TEXT_MAX];
    struct errbuf e;

    if (agent_once(conf, line, &e) != MC_OK) {
        fprintf(stderr, "meercat agent: %s\n", e.text);
        return 1;
    }
    puts(line);
    return fflush(stdout) == 0 ? 0 : 1;
}

int
cmd_agent(int argc, char **argv)
{
    struct agent_options o = {.conf = {.sample = {.root = ""},
                                       .interval = DEFAULT_INTERVAL_NS,
                                       .max_watchers = DEFAULT_MAX_WATCHERS,
                                       .fleet = 1}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (!take_option(&o, option, optarg))
            return cmd_bad_usage("agent");
    if (optind < argc)
        return cmd_bad_usage("agent");
    if (o.once)
        return once(&o.conf);
    if (o.conf.n_bind == 0 && !parse_bind("bind", DEFAULT_BIND, o.conf.bind, &o.conf.n_bind))
        return 1;
    if (o.tls.client_ca != NULL && o.tls.certificate == NULL) {
        fprintf(stderr, "meercat agent: --tls-client-ca without --tls-certificate\n");
        return cmd_bad_usage("agent");
    }
    return run(&o);
}
