/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster.c - birth and death of a cluster's end, and the clock of all that is due, see cluster.h.
 */
#include "cluster/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/cluster_priv.h"

/* Several members' bursts, each as large as its queue. */
#define RECV_BUF    (4u << 20)
#define QUEUE       1024
/* Of each owner: a verdict on each of 10,000 servers, and as many limits. */
#define FACTS_MAX   32768
#define FACTS_BYTES (8u << 20)

struct words_time
cluster_clocks(const struct cluster *c)
{
    return (struct words_time){.now = loop_now(c->loop), .wall_ms = units_wall_ns() / MC_MS};
}

void
cluster_refused(struct cluster *c, const struct addr *from, const char *why)
{
    char text[ADDR_TEXT];
    unsigned swallowed;

    if (log_limit_ok(&c->refusals, loop_now(c->loop), &swallowed))
        log_warn("cluster: what comes from %s is refused: %s (and %u before)",
                 addr_text(from, text), why, swallowed);
}

/* --- time ---------------------------------------------------------------------------------------
 */

static mc_ns
next_due(const struct cluster *c)
{
    mc_ns due = swim_due(c->swim), at = facts_due(c->facts);

    due = at < due ? at : due;
    at = words_due(c->words);
    return at < due ? at : due;
}

static void
tell_restarts(struct cluster *c)
{
    for (unsigned i = 0; i < c->n_peers; i++) {
        if (c->peers[i]->restarted)
            c->hooks.on_restart(c->hooks.arg, c->peers[i]->id);
        c->peers[i]->restarted = false;
    }
}

static void
tell_members(struct cluster *c)
{
    if (!c->members_changed)
        return;
    c->members_changed = false;
    frames_settle(c);
    tell_restarts(c);
    c->hooks.on_members(c->hooks.arg);
}

static void
end_leaving(struct cluster *c)
{
    void (*done)(void *arg) = c->on_left;

    c->left = true;
    c->on_left = NULL;
    loop_timer_clear(c->loop, &c->timer);
    if (done)
        done(c->on_left_arg);
}

static void
be_alone(struct cluster *c)
{
    if (c->alone)
        return;
    c->alone = true;
    frames_forget_peers(c);
    c->hooks.on_members(c->hooks.arg);
    end_leaving(c);
}

static void
on_plan(struct task *t)
{
    struct cluster *c = container_of(t, struct cluster, plan);

    if (c->conflict) {
        be_alone(c);
        return;
    }
    if (!c->started || c->left)
        return;
    tell_members(c);
    frames_flush(c);
    loop_timer_set(c->loop, &c->timer, next_due(c));
}

void
cluster_plan(struct cluster *c)
{
    loop_defer(c->loop, &c->plan);
}

static void
on_timer(struct timer *t)
{
    struct cluster *c = container_of(t, struct cluster, timer);
    mc_ns now = loop_now(c->loop);

    if (swim_due(c->swim) <= now)
        swim_tick(c->swim, now);
    if (facts_due(c->facts) <= now)
        facts_tick(c->facts, now);
    if (words_due(c->words) <= now)
        words_tick(c->words, cluster_clocks(c));
    if (c->leaving && !c->left && swim_has_left(c->swim))
        end_leaving(c);
    else
        cluster_plan(c);
}

/* --- what membership says -----------------------------------------------------------------------
 */

static void
log_member(const struct swim_member *m, enum swim_state was)
{
    char text[ADDR_TEXT];

    if (m->self || m->state == was)
        return;
    addr_text(&m->addr, text);
    switch (m->state) {
    case SWIM_ALIVE:
        if (was == SWIM_SUSPECT)
            log_info("cluster: %s (%s) is alive after all", m->name, text);
        else
            log_info("cluster: %s (%s) is %s", m->name, text, was == SWIM_NONE ? "here" : "back");
        break;
    case SWIM_SUSPECT: log_info("cluster: %s (%s) does not answer", m->name, text); break;
    case SWIM_DEAD: log_warn("cluster: %s (%s) is dead", m->name, text); break;
    case SWIM_LEFT: log_info("cluster: %s (%s) has left", m->name, text); break;
    case SWIM_NONE: break;
    }
}

static void
on_member(void *arg, const struct swim_member *m, enum swim_state was)
{
    struct cluster *c = arg;

    log_member(m, was);
    c->members_changed = true;
    cluster_plan(c);
}

/* Who sent the datagram in hand may be a peer still: they go at the end of the turn. */
static void
on_conflict(void *arg, const struct addr *holder)
{
    struct cluster *c = arg;
    char text[ADDR_TEXT];

    log_error("cluster: the name %s belongs to a live member at %s: this balancer works alone "
              "until it is restarted with another name",
              swim_self(c->swim)->name, addr_text(holder, text));
    c->conflict = c->left = true;
    loop_timer_clear(c->loop, &c->timer);
    cluster_plan(c);
}

static void
on_fact(void *arg, uint64_t owner, struct str key, const void *value, size_t n, mc_ns age_ns)
{
    struct cluster *c = arg;

    c->hooks.on_fact(c->hooks.arg, owner, key, value, n, age_ns);
}

static void
on_word(void *arg, const struct word *w)
{
    struct cluster *c = arg;

    c->hooks.on_word(c->hooks.arg, w);
}

static void
on_sync(void *arg, const struct addr *to)
{
    sync_open(arg, to);
}

/* --- what the owner says ------------------------------------------------------------------------
 */

enum mc_err
cluster_fact_set(struct cluster *c, struct str key, enum facts_urgency u, const void *value,
                 size_t n)
{
    enum mc_err rv = facts_set(c->facts, key, u, value, n, loop_now(c->loop));

    cluster_plan(c);
    return rv;
}

void
cluster_fact_del(struct cluster *c, struct str key)
{
    if (facts_del(c->facts, key, loop_now(c->loop)) == MC_OK)
        cluster_plan(c);
}

enum mc_err
cluster_say(struct cluster *c, const struct word *w)
{
    enum mc_err rv = words_say(c->words, w, cluster_clocks(c));

    cluster_plan(c);
    return rv;
}

unsigned
cluster_load_words(struct cluster *c, struct str text)
{
    return words_load(c->words, text, cluster_clocks(c));
}

void
cluster_set_meta(struct cluster *c, const void *meta, size_t n)
{
    MC_ASSERT(swim_set_meta(c->swim, meta, n, loop_now(c->loop)) == MC_OK);
    cluster_plan(c);
}

void
cluster_set_join(struct cluster *c, char *const *join, unsigned n)
{
    join_set(c, join, n);
}

enum mc_err
cluster_reload_keys(struct cluster *c, struct errbuf *e)
{
    return c->key_file ? keyring_reload(c->keys, c->key_file, e) : MC_OK;
}

void
cluster_hush(struct cluster *c)
{
    c->left = true;
    loop_timer_clear(c->loop, &c->timer);
    dgram_listen(c->dgram, false);
    sync_stop(c);
}

void
cluster_bequeath(const struct cluster *c, struct cluster_heritage *out)
{
    *out = (struct cluster_heritage){
        .udp = dgram_fd(c->dgram),
        .tcp = sync_fd(c),
        .incarnation = swim_self(c->swim)->incarnation,
    };
}

void
cluster_leave(struct cluster *c, void (*done)(void *arg), void *arg)
{
    c->on_left = done;
    c->on_left_arg = arg;
    if (c->left || !c->started) {
        end_leaving(c);
        return;
    }
    c->leaving = true;
    swim_leave(c->swim, loop_now(c->loop));
    cluster_plan(c);
}

/* --- birth and death ----------------------------------------------------------------------------
 */

static enum mc_err
get_keys(struct cluster *c, const struct cluster_conf *conf, struct errbuf *e)
{
    char text[ADDR_TEXT];

    if (conf->key_file) {
        c->key_file = mc_strdup(conf->key_file);
        return keyring_load(conf->key_file, &c->keys, e);
    }
    if (!addr_is_loopback(&conf->bind)) {
        err_set(e,
                "without key-file, bind must be an address of this host alone (127.0.0.1), not %s",
                addr_text(&conf->bind, text));
        return MC_EINVAL;
    }
    c->keys = keyring_new_null();
    return MC_OK;
}

/* What we say must beat what was said before, also when clocks were set back. */
static uint64_t
first_incarnation(const struct cluster_heritage *h)
{
    uint64_t now = (uint64_t)(units_wall_ns() / MC_SEC);

    return h != NULL && h->incarnation >= now ? h->incarnation + 1 : now;
}

static enum mc_err
make_swim(struct cluster *c, const struct cluster_conf *conf, struct errbuf *e)
{
    struct swim_conf sc = {
        .name = conf->name,
        .addr = conf->advertise.len > 0 ? conf->advertise : conf->bind,
        .incarnation = first_incarnation(conf->heritage),
        .meta = conf->meta,
        .meta_n = conf->meta_n,
        .seed = rng_next(&c->rng),
        .hooks = {.arg = c,
                  .send = frames_send_swim,
                  .sync = on_sync,
                  .on_member = on_member,
                  .on_conflict = on_conflict},
    };

    memcpy(sc.boot, keyring_boot(c->keys), sizeof(sc.boot));
    return swim_new(&sc, loop_now(c->loop), &c->swim, e);
}

static void
make_cores(struct cluster *c, const struct cluster_conf *conf)
{
    uint64_t id = swim_self(c->swim)->id;
    struct facts_conf fc = {
        .id = id,
        .epoch = (uint64_t)(units_wall_ns() / MC_MS),
        .facts_max = FACTS_MAX,
        .bytes_max = FACTS_BYTES,
        .bytes_per_s = conf->bytes_per_s * 3 / 4,
        .seed = rng_next(&c->rng),
        .send = frames_send_facts,
        .on_fact = on_fact,
        .arg = c,
    };
    struct words_conf wc = {
        .id = id,
        .bytes_per_s = conf->bytes_per_s / 4,
        .seed = rng_next(&c->rng),
        .send = frames_send_words,
        .on_word = on_word,
        .arg = c,
    };

    c->facts = facts_new(&fc, loop_now(c->loop));
    c->words = words_new(&wc, cluster_clocks(c));
}

static enum mc_err
make_sockets(struct cluster *c, const struct cluster_conf *conf, struct errbuf *e)
{
    const struct cluster_heritage *h = conf->heritage;
    struct dgram_conf dc = {.bind = conf->bind,
                            .inherited = h != NULL ? &h->udp : NULL,
                            .deaf = true,
                            .queue = QUEUE,
                            .recv_buf_bytes = RECV_BUF,
                            .fn = frames_recv,
                            .arg = c};

    c->dgram = dgram_new(c->loop, &dc, e);
    return c->dgram ? sync_listen(c, &conf->bind, h != NULL ? h->tcp : -1, e) : MC_ESYS;
}

enum mc_err
cluster_new(const struct cluster_conf *conf, struct cluster **out, struct errbuf *e)
{
    struct cluster *c = mc_alloc(sizeof(*c));
    enum mc_err rv;

    c->loop = conf->loop;
    c->dns = conf->dns;
    c->hooks = conf->hooks;
    c->timer.fn = on_timer;
    c->plan.fn = on_plan;
    list_init(&c->syncs);
    list_init(&c->join_names);
    rng_seed_os(&c->rng);
    rv = get_keys(c, conf, e);
    if (rv == MC_OK)
        rv = make_swim(c, conf, e);
    if (rv == MC_OK) {
        make_cores(c, conf);
        rv = make_sockets(c, conf, e);
    }
    if (rv != MC_OK) {
        cluster_free(&c);
        return rv;
    }
    join_set(c, conf->join, conf->n_join);
    *out = c;
    return MC_OK;
}

void
cluster_start(struct cluster *c)
{
    c->started = true;
    c->members_changed = true;
    dgram_listen(c->dgram, true);
    sync_accept(c);
    cluster_plan(c);
}

void
cluster_free(struct cluster **cp)
{
    struct cluster *c = *cp;

    if (!c)
        return;
    *cp = NULL;
    loop_timer_clear(c->loop, &c->timer);
    loop_undefer(c->loop, &c->plan);
    join_stop(c);
    sync_stop(c);
    dgram_free(&c->dgram);
    words_free(&c->words);
    facts_free(&c->facts);
    swim_free(&c->swim);
    keyring_free(&c->keys);
    frames_forget_peers(c);
    free(c->peers);
    free(c->ids);
    free(c->key_file);
    free(c);
}

/* --- for reading --------------------------------------------------------------------------------
 */

const struct swim *
cluster_swim(const struct cluster *c)
{
    return c->swim;
}

const struct facts *
cluster_facts(const struct cluster *c)
{
    return c->facts;
}

const struct words *
cluster_words(const struct cluster *c)
{
    return c->words;
}

const struct keyring *
cluster_keyring(const struct cluster *c)
{
    return c->keys;
}

const struct cluster_counters *
cluster_counters(const struct cluster *c)
{
    return &c->counters;
}

uint64_t
cluster_id(const struct cluster *c)
{
    return swim_self(c->swim)->id;
}

bool
cluster_conflict(const struct cluster *c)
{
    return c->conflict;
}
