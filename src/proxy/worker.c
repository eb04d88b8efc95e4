/* SPDX-License-Identifier: BSD-2-Clause
 *
 * worker.c - a thread that serves: its birth, what control tells it, its end.
 *
 * Control and worker meet in the inbox: control writes under its lock and wakes the loop; the
 * worker takes what is there between two turns.  Everything else here is the worker's alone.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "proxy/down_h2_priv.h"
#include "proxy/flow.h"
#include "proxy/pass.h"
#include "proxy/tcp.h"
#include "proxy/txn.h"
#include "proxy/up_h2.h"
#include "proxy/upconn.h"
#include "proxy/worker_priv.h"

#define IDLE_SWEEP_NS MC_SEC

/* Who runs.  Workers wake each other by it, and one that ends must not be woken any more. */
static struct worker *all_workers[WORKER_MAX];
static pthread_mutex_t roster_lock = PTHREAD_MUTEX_INITIALIZER;

static void
enlist(unsigned index, struct worker *w)
{
    pthread_mutex_lock(&roster_lock);
    all_workers[index] = w;
    pthread_mutex_unlock(&roster_lock);
}

void
worker_wake_other(unsigned index)
{
    pthread_mutex_lock(&roster_lock);
    worker_wake(all_workers[index]);
    pthread_mutex_unlock(&roster_lock);
}

struct str
worker_date(struct worker *w)
{
    const time_t now = (time_t)(units_wall_ns() / MC_SEC);
    struct tm tm;

    if (now != w->date_s) {
        w->date_s = now;
        gmtime_r(&now, &tm);
        strftime(w->date, sizeof(w->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return (struct str){w->date, 29};
}

static void
sweep_idle(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, idle_timer);
    const mc_ns now = worker_now(w);
    mc_ns next = idle_sweep(w->idle, now);

    if (next > now + IDLE_SWEEP_NS)
        next = now + IDLE_SWEEP_NS;
    loop_timer_set(w->loop, t, next);
}

/* --- draining ------------------------------------------------------------------------------------
 */

static bool
is_empty(const struct worker *w)
{
    return w->n_conns == 0 && list_empty(&w->ports);
}

void
worker_check_drained(struct worker *w)
{
    if (!w->draining || !is_empty(w) || w->drained_told)
        return;
    w->drained_told = true;
    idle_free(&w->idle);
    w->idle = idle_new(upconn_idle_evict, w);
    if (w->conf.on_drained != NULL)
        w->conf.on_drained(w->conf.arg, w->conf.index);
}

static void
cut(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, drain_timer);

    if (w->flows != NULL && w->heir < 0)
        flows_hand_over_rest(w->flows);
    if (w->n_conns > 0)
        log_warn("worker %u: drain time is over, cutting %u connections", w->conf.index,
                 w->n_conns);
    conn_cut_all(w);
    worker_check_drained(w);
}

static void
begin_parting(struct worker *w)
{
    w->parting = true;
    conn_part_all(w);
    if (w->flows != NULL && w->heir < 0)
        flows_hand_over(w->flows);
}

void
worker_tell_released(struct worker *w)
{
    atomic_store(&w->released, true);
    if (w->conf.on_flows_released != NULL)
        w->conf.on_flows_released(w->conf.arg, w->conf.index);
}

static void
release(struct worker *w, bool on)
{
    atomic_store(&w->released, false);
    if (w->flows != NULL)
        flows_release(w->flows, on);
    else if (on)
        worker_tell_released(w);
}

static void
begin_drain(struct worker *w, mc_ns deadline_ns, mc_ns idle_ns, int heir)
{
    w->heir = heir;
    if (!w->parting)
        begin_parting(w);
    w->draining = true;
    w->drain_idle_ns = idle_ns;
    if (heir >= 0)
        listen_leave(w);
    else
        listen_stop(w);
    conn_drain_all(w);
    if (heir >= 0)
        pass_all(w);
    w->drain_timer.fn = cut;
    loop_timer_set(w->loop, &w->drain_timer, deadline_ns);
    worker_check_drained(w);
}

/* --- the inbox -----------------------------------------------------------------------------------
 */

static void
adopt(struct worker *w, struct snapshot *s)
{
    gen_make_current(w, s);
    if (!w->draining)
        listen_update(w);
}

static void
take_passed(struct worker *w, struct list *passed)
{
    while (!list_empty(passed)) {
        struct passed *p = LIST_ENTRY(passed->next, struct passed, link);

        list_remove(&p->link);
        pass_take(w, &p);
    }
}

static void
on_wake(void *arg)
{
    struct worker *w = arg;
    struct snapshot *s;
    struct list passed;
    bool part, drain, stop, look, go, keep;
    mc_ns deadline_ns, idle_ns;
    int heir;

    atomic_store(&w->called_ns, 0);
    pthread_mutex_lock(&w->inbox_lock);
    s = w->inbox.adopt;
    part = w->inbox.part;
    drain = w->inbox.drain;
    deadline_ns = w->inbox.drain_deadline_ns;
    idle_ns = w->inbox.drain_idle_ns;
    heir = w->inbox.heir;
    list_init(&passed);
    list_splice(&passed, &w->inbox.passed);
    stop = w->inbox.stop;
    look = w->inbox.look;
    go = w->inbox.release;
    keep = w->inbox.keep;
    w->inbox.adopt = NULL;
    w->inbox.part = w->inbox.drain = w->inbox.look = w->inbox.release = w->inbox.keep = false;
    pthread_mutex_unlock(&w->inbox_lock);

    if (s != NULL)
        adopt(w, s);
    if (go || keep)
        release(w, go);
    if (part && !w->parting)
        begin_parting(w);
    if (drain && !w->draining)
        begin_drain(w, deadline_ns, idle_ns, heir);
    if (look)
        listen_look(w);
    take_passed(w, &passed);
    if (stop) {
        loop_stop(w->loop);
        return;
    }
    wait_wake(w);
}

/* --- control's side ------------------------------------------------------------------------------
 */

struct worker *
worker_new(const struct worker_conf *conf, struct errbuf *err)
{
    struct worker *w;

    if (conf->index >= WORKER_MAX) {
        err_set(err, "more than %d workers", WORKER_MAX);
        return NULL;
    }
    w = mc_alloc_lines(sizeof(*w));
    w->conf = *conf;
    w->heir = w->inbox.heir = -1;
    list_init(&w->inbox.passed);
    list_init(&w->gens);
    list_init(&w->queues);
    list_init(&w->ports);
    list_init(&w->conns);
    list_init(&w->upconns);
    list_init(&w->tcp_ups);
    slab_init(&w->conn_slab, sizeof(struct conn));
    slab_init(&w->up_slab, sizeof(struct upconn));
    slab_init(&w->txn_slab, sizeof(struct txn));
    slab_init(&w->h2_slab, sizeof(struct h2_down));
    slab_init(&w->h2_stream_slab, sizeof(struct h2_stream));
    slab_init(&w->tcp_slab, sizeof(struct tcp));
    slab_init(&w->tcp_up_slab, sizeof(struct tcp_up));
    pthread_mutex_init(&w->inbox_lock, NULL);
    pthread_cond_init(&w->started, NULL);
    rng_seed_os(&w->rng);
    snprintf(w->id_prefix, sizeof(w->id_prefix), "%016llx", (unsigned long long)rng_next(&w->rng));
    w->id_count = rng_next(&w->rng);
    return w;
}

static void
pin_to_cpu(const struct worker *w)
{
    cpu_set_t set;

    if (w->conf.cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)w->conf.cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
        log_warn("worker %u: cannot run on cpu %d only", w->conf.index, w->conf.cpu);
}

/* What a panic prints: the transactions that were under way. */
static void
panic_text(int fd, void *arg)
{
    const struct worker *w = arg;

    dprintf(fd, "worker %u: %u connections, engine %s\n", w->conf.index, w->n_conns,
            loop_engine_name(w->loop));
    LIST_FOREACH (it, &w->conns) {
        const struct conn *c = LIST_ENTRY(it, struct conn, link);

        if (c->txn != NULL)
            dprintf(fd, "  " STR_FMT " " STR_FMT ": %s\n", STR_ARG(c->txn->client_ip),
                    STR_ARG(c->txn->req.method_text), txn_state_text(c->txn->state));
        if (c->tcp != NULL)
            dprintf(fd, "  connection on %s: %s\n", c->tcp->listener->conf.name,
                    tcp_state_text(c->tcp->state));
    }
}

/* On the worker's own thread, since an io_uring belongs to the thread that makes it. */
static bool
make_loop(struct worker *w)
{
    struct loop_conf lc = {.engine = w->conf.engine};
    struct errbuf note = {.text = ""};

    w->loop = loop_new(&lc, &note);
    if (w->loop == NULL) {
        err_set(&w->failure, "worker %u: %s", w->conf.index, note.text);
        return false;
    }
    if (w->conf.index == 0 && note.text[0] != '\0')
        log_warn("%s", note.text);
    w->idle = idle_new(upconn_idle_evict, w);
    h2_ups_init(w);
    w->idle_timer.fn = sweep_idle;
    tls_turns_init(&w->tls_turns, w->loop);
    turns_init(&w->turns, w->loop, &w->stats.turns_deferred);
    loop_on_wake(w->loop, on_wake, w);
    loop_timer_set(w->loop, &w->idle_timer, worker_now(w) + IDLE_SWEEP_NS);
    return true;
}

/* A worker serves without, too. */
static void
make_flows(struct worker *w)
{
    struct errbuf e;

    if (w->conf.takeover == NULL)
        return;
    w->flows = flows_new(w, w->conf.takeover, &e);
    if (w->flows == NULL)
        log_error("worker %u: its connections are not protected: %s", w->conf.index, e.text);
}

static void
end_flows(struct worker *w)
{
    if (w->flows == NULL)
        return;
    flows_close(w->flows);
    while (!flows_are_gone(w->flows))
        loop_turn(w->loop, 10 * MC_MS);
    flows_free(&w->flows);
}

/* Everything that is left goes, by the same paths as ever; ports first, so that nothing new comes
 * in, and the pool of kept connections when nobody can ask for one any more. */
static void
tear_down(struct worker *w)
{
    w->parting = w->draining = w->drained_told = true;
    w->heir = -1;
    loop_timer_clear(w->loop, &w->idle_timer);
    loop_timer_clear(w->loop, &w->drain_timer);
    listen_close(w);
    conn_cut_all(w);
    idle_free(&w->idle);
    h2_ups_stop(w);
    while (w->n_conns > 0 || !list_empty(&w->ports) || !list_empty(&w->upconns) ||
           !list_empty(&w->tcp_ups))
        loop_turn(w->loop, 10 * MC_MS);
    end_flows(w);
    loop_timer_clear(w->loop, &w->queue_timer);
    if (w->current != NULL && w->current->snap->access_log != NULL)
        access_log_flush(w->current->snap->access_log, &w->log_buf);
    loop_undefer(w->loop, &w->log_task);
    h2_ups_fini(w);
    tls_turns_fini(&w->tls_turns);
    turns_fini(&w->turns);
    gen_free_all(w);
    wait_free_all(w);
}

static void *
worker_main(void *arg)
{
    struct worker *w = arg;
    char name[16];
    bool ok;

    snprintf(name, sizeof(name), "worker-%u", w->conf.index);
    pthread_setname_np(pthread_self(), name);
    mc_panic_context(panic_text, w);
    pin_to_cpu(w);
    ok = make_loop(w);
    if (ok)
        make_flows(w);
    if (ok)
        on_wake(w); /* listens before worker_start() returns */
    pthread_mutex_lock(&w->inbox_lock);
    w->phase = ok ? WORKER_RUNNING : WORKER_FAILED;
    pthread_cond_signal(&w->started);
    pthread_mutex_unlock(&w->inbox_lock);
    if (!ok)
        return NULL;
    loop_run(w->loop);
    tear_down(w);
    return NULL;
}

enum mc_err
worker_start(struct worker *w, struct snapshot *s, struct errbuf *err)
{
    w->inbox.adopt = s;
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
        return err_sys(err, "pthread_create");
    pthread_mutex_lock(&w->inbox_lock);
    while (w->phase == WORKER_STARTING)
        pthread_cond_wait(&w->started, &w->inbox_lock);
    pthread_mutex_unlock(&w->inbox_lock);
    if (w->phase == WORKER_RUNNING) {
        enlist(w->conf.index, w);
        return MC_OK;
    }
    err_set(err, "%s", w->failure.text);
    pthread_join(w->thread, NULL);
    return MC_ESYS;
}

void
worker_adopt(struct worker *w, struct snapshot *s)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.adopt =
        s; /* one that was not picked up yet is passed over, and released with this one */
    pthread_mutex_unlock(&w->inbox_lock);
    loop_wake(w->loop);
}

void
worker_part(struct worker *w)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.part = true;
    pthread_mutex_unlock(&w->inbox_lock);
    loop_wake(w->loop);
}

void
worker_drain(struct worker *w, mc_ns deadline_ns, mc_ns idle_ns)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.drain = true;
    w->inbox.drain_deadline_ns = deadline_ns;
    w->inbox.drain_idle_ns = idle_ns;
    pthread_mutex_unlock(&w->inbox_lock);
    loop_wake(w->loop);
}

mc_ns
worker_lag(struct worker *w, mc_ns now)
{
    mc_ns called_ns = atomic_load(&w->called_ns);

    if (called_ns != 0)
        return now - called_ns;
    atomic_store(&w->called_ns, now);
    loop_wake(w->loop);
    return 0;
}

void
worker_release(struct worker *w, bool on)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.release = on;
    w->inbox.keep = !on;
    pthread_mutex_unlock(&w->inbox_lock);
    loop_wake(w->loop);
}

bool
worker_has_released(const struct worker *w)
{
    return atomic_load(&w->released);
}

void
worker_hand_over(struct worker *w, int heir, mc_ns deadline_ns)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.heir = heir;
    pthread_mutex_unlock(&w->inbox_lock);
    worker_drain(w, deadline_ns, MC_NEVER_NS);
}

void
worker_look(struct worker *w)
{
    pthread_mutex_lock(&w->inbox_lock);
    w->inbox.look = true;
    pthread_mutex_unlock(&w->inbox_lock);
    loop_wake(w->loop);
}

void
worker_pass(struct worker *w, struct passed **pp)
{
    pthread_mutex_lock(&w->inbox_lock);
    list_push_back(&w->inbox.passed, &(*pp)->link);
    pthread_mutex_unlock(&w->inbox_lock);
    *pp = NULL;
    loop_wake(w->loop);
}

void
worker_wake(struct worker *w)
{
    if (w != NULL)
        loop_wake(w->loop);
}

/* Those that came too late. */
static void
drop_passed(struct worker *w)
{
    while (!list_empty(&w->inbox.passed)) {
        struct passed *p = LIST_ENTRY(w->inbox.passed.next, struct passed, link);

        list_remove(&p->link);
        pass_free(&p);
    }
}

void
worker_stop(struct worker **wp)
{
    struct worker *w = *wp;

    *wp = NULL;
    if (w->phase == WORKER_RUNNING) {
        pthread_mutex_lock(&w->inbox_lock);
        w->inbox.stop = true;
        pthread_mutex_unlock(&w->inbox_lock);
        loop_wake(w->loop);
        pthread_join(w->thread, NULL);
        enlist(w->conf.index, NULL);
        loop_free(&w->loop);
    }
    drop_passed(w);
    slab_fini(&w->conn_slab);
    slab_fini(&w->up_slab);
    slab_fini(&w->txn_slab);
    free(w->h2_memory);
    slab_fini(&w->h2_slab);
    slab_fini(&w->h2_stream_slab);
    slab_fini(&w->tcp_slab);
    slab_fini(&w->tcp_up_slab);
    arena_cache_free(&w->arenas);
    buf_free(&w->log_buf);
    pthread_cond_destroy(&w->started);
    pthread_mutex_destroy(&w->inbox_lock);
    free(w);
}

const struct worker_stats *
worker_stats(const struct worker *w)
{
    return &w->stats;
}

const struct flow_stats *
worker_flow_stats(const struct worker *w)
{
    return w->flows != NULL ? flows_stats(w->flows) : NULL;
}

const struct link_stats *
worker_link_stats(const struct worker *w)
{
    return w->flows != NULL ? flows_link_stats(w->flows) : NULL;
}

const struct tls_stats *
worker_tls_stats(const struct worker *w, bool with_servers)
{
    return with_servers ? &w->tls_turns.up_stats : &w->tls_turns.stats;
}

const char *
worker_engine(const struct worker *w)
{
    return loop_engine_name(w->loop);
}
