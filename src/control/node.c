/* SPDX-License-Identifier: BSD-2-Clause
 *
 * node.c - a balancer as a whole: birth, signals, end.  The control thread.
 *
 * Birth, in this order:
 *   1. the configuration is read; a broken one ends it here
 *   2. what needs root: descriptors, sockets, log, pid file; then root is given up
 *   3. servers are looked after, workers start, the service manager is told
 * The end: workers stop accepting and let requests finish; when all have, or time is over, they are
 * stopped, and everything goes in the opposite order.
 */
#include "control/node.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "control/admin.h"
#include "control/heritage.h"
#include "control/member.h"
#include "control/node_priv.h"
#include "control/notify.h"
#include "control/takeover_node.h"
#include "control/vip.h"
#include "fleet/carry.h"

#define DNS_TIMEOUT_NS (2 * MC_SEC)
/* A snapshot was certainly looked at by every worker this long after the next one was handed out:
 * only then may the numbers of descriptors that it names be used for something else. */
#define ADOPTION_NS    (1 * MC_SEC)
#define STATUS_NS      (5 * MC_SEC)

/* --- snapshots ----------------------------------------------------------------------------------
 */

/* Frees what no worker uses any more. */
static void
free_released(struct node *n)
{
    uint64_t released = UINT64_MAX;
    unsigned kept = 0;

    for (unsigned i = 0; i < n->n_workers; i++) {
        uint64_t r = atomic_load(&n->released[i]);

        released = r < released ? r : released;
    }
    for (unsigned i = 0; i < n->n_old; i++) {
        if (n->old[i]->generation <= released)
            build_free_snapshot(&n->old[i]);
        else
            n->old[kept++] = n->old[i];
    }
    n->n_old = kept;
}

static void
on_retire_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, retire_timer);

    binds_close_retired(n->build.binds);
}

/* Workers have been told of what is bound now. */
static void
let_go(struct node *n)
{
    binds_let_go(n->build.binds);
    loop_timer_set(n->loop, &n->retire_timer, loop_now(n->loop) + ADOPTION_NS);
}

void
node_close_binds(struct node *n)
{
    binds_begin(n->build.binds);
    let_go(n);
}

void
node_put_in_force(struct node *n, struct snapshot *s)
{
    build_keep(&n->build, s);
    if (n->current != NULL) {
        n->old = mc_realloc(n->old, (n->n_old + 1) * sizeof(struct snapshot *));
        n->old[n->n_old++] = n->current;
    }
    n->current = s;
    if (!n->started)
        return;
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_adopt(n->workers[i], s);
    let_go(n);
}

/* --- signals ------------------------------------------------------------------------------------
 */

static void
reopen_log(struct node *n)
{
    struct errbuf e;

    if (n->build.access_log == NULL)
        return;
    if (access_log_reopen(n->build.access_log, &e) == MC_OK)
        log_info("access log opened anew");
    else
        log_error("access log: %s; the old file stays in use", e.text);
}

static void
upgrade(struct node *n)
{
    struct errbuf e;

    if (upgrade_begin(n, &e) != MC_OK)
        log_error("upgrade: %s", e.text);
}

static void
on_signal(struct node *n, unsigned signo)
{
    struct buf text = {0};

    switch (signo) {
    case SIGHUP: node_reload(n, &text); break;
    case SIGUSR1: reopen_log(n); break;
    case SIGUSR2: upgrade(n); break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT: leave_begin(n); break;
    }
    buf_free(&text);
}

static void
on_signals(struct watch *w, unsigned revents)
{
    struct node *n = container_of(w, struct node, signals);
    struct signalfd_siginfo info;

    while (read(w->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        on_signal(n, info.ssi_signo);
    watch_arm(w, POLLIN);
}

/* Before any thread exists, so that none of them gets a signal. */
static sigset_t
block_signals(void)
{
    static const int signals[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGQUIT};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < MC_COUNT(signals); i++)
        sigaddset(&set, signals[i]);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return set;
}

static enum mc_err
watch_signals(struct node *n, const sigset_t *set, struct errbuf *e)
{
    int fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);

    if (fd < 0)
        return err_sys(e, "signalfd");
    watch_init(&n->signals, n->loop, fd, on_signals);
    watch_arm(&n->signals, POLLIN);
    return MC_OK;
}

/* --- what workers tell --------------------------------------------------------------------------
 */

/* On a worker's thread. */
static void
on_released(void *arg, unsigned worker, uint64_t generation)
{
    struct node *n = arg;

    atomic_store(&n->released[worker], generation);
    loop_wake(n->loop);
}

/* On a worker's thread. */
static void
on_drained(void *arg, unsigned worker)
{
    struct node *n = arg;

    atomic_fetch_add(&n->n_drained, 1);
    loop_wake(n->loop);
}

/* On a worker's thread. */
static void
on_flows_released(void *arg, unsigned worker)
{
    struct node *n = arg;

    loop_wake(n->loop);
}

/* On any thread: a server can take requests again. */
static void
on_open(void *arg)
{
    struct node *n = arg;

    pthread_mutex_lock(&n->wake_lock);
    for (unsigned i = 0; i < n->n_workers && n->started; i++)
        worker_wake(n->workers[i]);
    pthread_mutex_unlock(&n->wake_lock);
}

static void
on_wake(void *arg)
{
    struct node *n = arg;

    free_released(n);
    fit_settle(n);
    upgrade_look(n);
    leave_look(n);
}

/* --- periodic -----------------------------------------------------------------------------------
 */

static void
on_alive_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, alive_timer);

    notify_alive();
    loop_timer_set(n->loop, t, loop_now(n->loop) + notify_alive_every());
}

static void
on_status_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, status_timer);
    unsigned open = 0, servers = 0;
    uint64_t active = 0;

    for (unsigned i = 0; i < n->current->n_pools; i++) {
        servers += n->current->pools[i]->view.n;
        open += atomic_load(&n->current->pools[i]->live->n_open);
    }
    for (unsigned i = 0; i < n->n_workers; i++)
        active += stat_get(&worker_stats(n->workers[i])->active_requests);
    notify_status("%u workers, %u of %u servers, %llu requests under way", n->n_workers, open,
                  servers, (unsigned long long)active);
    loop_timer_set(n->loop, t, loop_now(n->loop) + STATUS_NS);
}

static void
start_timers(struct node *n)
{
    n->alive_timer.fn = on_alive_timer;
    n->status_timer.fn = on_status_timer;
    if (notify_alive_every() > 0)
        on_alive_timer(&n->alive_timer);
    if (getenv("NOTIFY_SOCKET") != NULL)
        on_status_timer(&n->status_timer);
}

void
node_stop_timers(struct node *n)
{
    loop_timer_clear(n->loop, &n->alive_timer);
    loop_timer_clear(n->loop, &n->status_timer);
    loop_timer_clear(n->loop, &n->fit.timer);
}

/* --- birth --------------------------------------------------------------------------------------
 */

static unsigned
worker_count(const struct conf *c)
{
    cpu_set_t set;
    unsigned n = 1;

    if (c->workers != 0)
        return c->workers;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    return n < NODE_WORKERS_MAX ? n : NODE_WORKERS_MAX;
}

/* The control thread needs no speed: the engine that is always there. */
static enum mc_err
start_loop(struct node *n, struct errbuf *e)
{
    n->loop = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, e);
    if (n->loop == NULL)
        return MC_ESYS;
    loop_on_wake(n->loop, on_wake, n);
    n->retire_timer.fn = on_retire_timer;
    n->dns = dns_new(n->loop, n->conf->resolvers, DNS_TIMEOUT_NS, e);
    if (n->dns == NULL) {
        err_wrap(e, "resolvers");
        return MC_ESYS;
    }
    return MC_OK;
}

static enum mc_err
open_access_log(struct node *n, struct errbuf *e)
{
    const struct conf_access_log *c = &n->conf->access_log;
    int fd;

    if (c->file == NULL)
        return MC_OK;
    fd = heritage_access_log(n->options.heritage, c->file);
    if (fd >= 0) {
        n->build.access_log = access_log_inherit(c->file, c->format, fd);
        return MC_OK;
    }
    n->build.access_log = access_log_open(c->file, c->format, e);
    if (n->build.access_log == NULL) {
        err_wrap(e, "access-log");
        return MC_ESYS;
    }
    if (c->file[0] == '/')
        privs_give_file(&n->privs, c->file);
    return MC_OK;
}

/* The user's, since the process after an upgrade writes it again. */
static enum mc_err
write_pid_file(struct node *n, struct errbuf *e)
{
    enum mc_err rv = privs_write_pid(n->conf->pid_file, e);

    if (rv == MC_OK)
        privs_give_file(&n->privs, n->conf->pid_file);
    return rv;
}

/* All that needs the rights we came with, and then their end. */
static enum mc_err
start_as_root(struct node *n, struct errbuf *e)
{
    struct snapshot *s;
    enum mc_err rv;

    privs_raise_fd_limit();
    rv = privs_find(&n->privs, n->conf->user, n->conf->group, e);
    if (rv == MC_OK)
        rv = vip_open(n, e);
    if (rv == MC_OK)
        rv = open_access_log(n, e);
    if (rv == MC_OK)
        rv = member_open(n, e);
    if (rv == MC_OK)
        tickets_refresh(n);
    if (rv == MC_OK)
        rv = build_snapshot(&n->build, n->conf, &s, e);
    if (rv != MC_OK)
        return rv;
    node_put_in_force(n, s);
    takeover_node_open(n);
    heritage_servers(n->options.heritage, n->build.fleet);
    carry_costs_done(fleet_brains(n->build.fleet));
    if (n->options.heritage != NULL)
        let_go(n); /* what was inherited and is not wanted */
    rv = admin_start(n, e);
    if (rv == MC_OK && n->conf->pid_file != NULL && n->options.heritage == NULL)
        rv = write_pid_file(n, e);
    if (rv == MC_OK && n->privs.wanted)
        binds_give(n->build.binds, n->privs.uid, n->privs.gid);
    if (rv == MC_OK)
        rv = privs_drop(&n->privs, e);
    return rv;
}

static void
set_started(struct node *n, bool started)
{
    pthread_mutex_lock(&n->wake_lock);
    n->started = started;
    pthread_mutex_unlock(&n->wake_lock);
}

static enum mc_err
start_workers(struct node *n, struct errbuf *e)
{
    enum loop_engine engine = n->options.engine_given ? n->options.engine : n->conf->engine;

    for (unsigned i = 0; i < n->n_workers; i++) {
        struct worker_conf wc = {
            .index = i,
            .engine = engine,
            .cpu = -1,
            .on_released = on_released,
            .on_drained = on_drained,
            .on_flows_released = on_flows_released,
            .arg = n,
            .takeover = n->takeover,
            .pipe = brains_pipe(fleet_brains(n->build.fleet), i),
        };
        enum mc_err rv;

        n->workers[i] = worker_new(&wc, e);
        rv = n->workers[i] != NULL ? worker_start(n->workers[i], n->current, e) : MC_ESYS;
        if (rv != MC_OK)
            return rv;
    }
    set_started(n, true);
    on_open(n); /* what became available while nobody could be woken */
    return MC_OK;
}

/* What there can be only one of. */
static void
be_the_balancer(struct node *n)
{
    start_timers(n);
    member_start(n);
    fit_start(n);
    vip_start(n);
}

void
node_take_place(struct node *n, bool orphaned)
{
    struct errbuf e;

    if (n->conf->pid_file != NULL && privs_write_pid(n->conf->pid_file, &e) != MC_OK)
        log_warn("pid-file: %s", e.text);
    takeover_node_succeed(n, orphaned);
    be_the_balancer(n);
    admin_accept(n, true);
    notify_ready();
}

/* What the process before has left, before anything is made anew. */
static void
inherit(struct node *n)
{
    struct heritage *h = n->options.heritage;
    struct keyfile secret;
    bool known = heritage_secret(h, &secret);

    tickets_open(n, known ? &secret : NULL);
    keyfile_wipe(&secret);
    heritage_binds(h, n->build.binds);
    heritage_costs(h, n->build.fleet);
    if (heritage_withdrawn(h))
        fit_put(&n->fit, FIT_OPERATOR, false, "withdrawn");
}

static enum mc_err
start(struct node *n, struct errbuf *e)
{
    enum mc_err rv = start_loop(n, e);

    if (rv != MC_OK)
        return rv;
    n->n_workers = worker_count(n->conf);
    n->build.binds = binds_new(n->n_workers);
    n->build.fleet = fleet_new(n->n_workers, n->loop, n->dns, on_open, n);
    brains_set_dir(fleet_brains(n->build.fleet), n->conf->state_dir);
    inherit(n);
    n->build.tickets = n->tickets.shared;
    rv = start_as_root(n, e);
    if (rv == MC_OK)
        rv = takeover_node_start(n, e);
    if (rv == MC_OK)
        rv = start_workers(n, e);
    if (rv == MC_OK && n->options.heritage == NULL)
        be_the_balancer(n);
    return rv;
}

enum mc_err
node_start(struct node *n, const struct node_options *o, struct buf *text)
{
    struct conf_faults faults = {0};
    struct errbuf e = {""};
    enum mc_err rv;

    *n = (struct node){
        .options = *o,
        .started_wall_ns = units_wall_ns(),
        .wake_lock = PTHREAD_MUTEX_INITIALIZER,
        .vip_news.lock = PTHREAD_MUTEX_INITIALIZER,
    };
    fit_open(&n->fit);
    rv = conf_load(o->conf_file, &n->conf, &faults);
    conf_faults_text(&faults, text);
    conf_faults_free(&faults);
    if (rv != MC_OK)
        return rv;
    log_setup(n->conf->log_level, notify_has_journal());
    rv = start(n, &e);
    heritage_free(&n->options.heritage);
    if (rv != MC_OK) {
        buf_printf(text, "%s\n", e.text);
        node_stop(n);
    }
    return rv;
}

static void
stop_workers(struct node *n)
{
    set_started(n, false);
    for (unsigned i = 0; i < n->n_workers; i++)
        if (n->workers[i] != NULL)
            worker_stop(&n->workers[i]);
}

static void
stop_loop(struct node *n)
{
    struct timer *timers[] = {&n->retire_timer,        &n->alive_timer,   &n->status_timer,
                              &n->leave.timer,         &n->tickets.timer, &n->fit.timer,
                              &n->leave.withdraw_timer};

    upgrade_stop(n);
    admin_stop(n);
    if (n->dns != NULL)
        dns_free(&n->dns);
    member_stop(n);
    fleet_free(&n->build.fleet);
    if (n->loop == NULL)
        return;
    loop_on_wake(n->loop, NULL, NULL);
    for (size_t i = 0; i < MC_COUNT(timers); i++)
        loop_timer_clear(n->loop, timers[i]);
    if (n->signals.loop != NULL) {
        watch_drop(&n->signals);
        close(n->signals.fd);
    }
    loop_free(&n->loop);
}

void
node_stop(struct node *n)
{
    vip_stop(n);
    stop_workers(n);
    takeover_node_stop(n);
    if (n->build.fleet != NULL && !upgrade_is_over(n))
        brains_save(fleet_brains(n->build.fleet));
    build_free_snapshot(&n->current);
    for (unsigned i = 0; i < n->n_old; i++)
        build_free_snapshot(&n->old[i]);
    free(n->old);
    n->n_old = 0;
    stop_loop(n);
    binds_free(&n->build.binds);
    access_log_close(&n->build.access_log);
    build_fini(&n->build);
    if (n->conf != NULL && n->conf->pid_file != NULL && !upgrade_is_over(n))
        unlink(n->conf->pid_file);
    conf_free(&n->conf);
    tickets_close(n);
    fit_close(&n->fit);
    pthread_mutex_destroy(&n->vip_news.lock);
    pthread_mutex_destroy(&n->wake_lock);
}

/* --- the run ------------------------------------------------------------------------------------
 */

static void
say_serving(const struct node *n)
{
    log_info("%s serves: %u workers, %s, %u listeners, %u pools", n->conf->node, n->n_workers,
             worker_engine(n->workers[0]), n->current->n_listeners, n->current->n_pools);
}

/* Tells whoever started us. */
static int
cannot(int from, const char *why)
{
    fputs(why, stderr);
    if (from >= 0)
        upgrade_fail(from, why);
    return 1;
}

static int
run(struct node *n, int from)
{
    say_serving(n);
    if (from >= 0)
        upgrade_ready(n, from);
    else
        notify_ready();
    loop_run(n->loop);
    node_stop(n);
    log_info("ended");
    return 0;
}

static int
start_and_run(struct node_options *o, int from, const sigset_t *signals)
{
    struct buf text = {0};
    struct errbuf e;
    struct node n;
    bool ok = node_start(&n, o, &text) == MC_OK;

    if (!ok) {
        cannot(from, text.p != NULL ? text.p : "");
    } else if (text.n > 0) {
        fputs(text.p, stderr);
    }
    buf_free(&text);
    if (!ok)
        return 1;
    if (watch_signals(&n, signals, &e) == MC_OK)
        return run(&n, from);
    log_error("%s", e.text);
    node_stop(&n);
    return cannot(from, e.text);
}

int
node_run(const struct node_options *options)
{
    sigset_t signals = block_signals();
    struct node_options o = *options;
    struct errbuf e;
    int from;

    if (upgrade_inherit(&from, &o.heritage, &e) == MC_OK)
        return start_and_run(&o, from, &signals);
    return cannot(from, e.text);
}
