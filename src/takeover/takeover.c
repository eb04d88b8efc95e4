/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover.c - see takeover.h: the life of the thread, and what it does without being asked.
 */
#include <ifaddrs.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/pack.h"
#include "base/rand.h"
#include "takeover/takeover_priv.h"

#define SLOW_NS          (200 * MC_MS)
/* What was taken from a peer is told again if it asks again; it does within a beat or two. */
#define CLAIMS_NS        MC_SEC
/* Peers are found within some tenths of a second: one contact to the cluster, some beats. */
#define SETTLE_NS        (400 * MC_MS)
#define ALONE_NS         MC_SEC
/* How often we look where we are though nothing was heard of changes. */
#define PLACE_NS         (10 * MC_SEC)
#define PACKETS_PER_TURN 64 /* each may be a connection to rebuild, and beats must not wait */
/* A thread that waits for a core for 80 ms is found dead by its peers, wherever workers and
 * whatever else keep all cores busy. */
#define THREAD_NICE      (-10)

struct link_roster *
takeover_roster(struct takeover *t)
{
    MC_CHECK(t, TAKEOVER_MAGIC);
    return &t->roster;
}

struct guard *
takeover_guard(const struct takeover *t)
{
    MC_CHECK(t, TAKEOVER_MAGIC);
    return t->guard;
}

void
takeover_mend(struct takeover *t)
{
    struct errbuf e;
    unsigned n = guard_mend(t->guard, &e);

    if (n > 0) {
        atomic_store(&t->mended, true);
        takeover_count(&t->stats.mended);
        log_warn("takeover: somebody has removed the guard from %u of its interfaces, where "
                 "connections were not protected: it is back",
                 n);
    }
    if (e.text[0] != '\0' && strcmp(e.text, t->unguarded.text) != 0)
        log_error("takeover: %s; connections are not protected there", e.text);
    t->unguarded = e;
}

/* --- what has no hurry --------------------------------------------------------------------------
 */

static void
forget_claims(struct takeover *t, mc_ns now)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct member *m = &t->member[i];

        if (m->claims_told_ns == 0 || now < m->claims_told_ns + CLAIMS_NS)
            continue;
        m->claims_told_ns = 0;
        replica_claims_forget(t->store, m->life);
    }
}

/* A balancer that has just begun knows nobody whose connections it may be brought: it attracts no
 * traffic before it has found who does, or nobody. */
static void
look_whether_settled(struct takeover *t, mc_ns now)
{
    bool found = false;

    if (t->settled)
        return;
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        found |= t->member[i].alive && t->member[i].placed;
    t->settled = now >= t->started_ns + (found ? SETTLE_NS : ALONE_NS);
    if (t->settled)
        pulse_say_fit(t);
}

/* A host may have very many addresses: all of them are read when some have changed, and while the
 * guard is missing somewhere. */
static void
look_where_we_are(struct takeover *t, mc_ns now)
{
    bool news = netlink_has_news(&t->news), mended = atomic_exchange(&t->mended, false);

    if (!news && !mended && t->where.n == t->n_interfaces && now < t->placed_ns + PLACE_NS)
        return;
    t->placed_ns = now;
    dial_tell_where(t);
}

static void
on_slow(struct timer *timer)
{
    struct takeover *t = container_of(timer, struct takeover, slow);
    mc_ns now = loop_now(t->loop);

    pulse_catch_up(t);
    replica_tick(t->store, now);
    forget_claims(t, now);
    look_whether_settled(t, now);
    look_where_we_are(t, now);
    view_refresh(t);
    loop_timer_set(t->loop, timer, now + SLOW_NS);
}

/* --- what comes from elsewhere ------------------------------------------------------------------
 */

static void
on_held(struct watch *w, unsigned revents)
{
    struct takeover *t = container_of(w, struct takeover, held);

    pulse_catch_up(t);
    guard_poll(t->guard, ask_packet, t, PACKETS_PER_TURN);
    watch_arm(w, POLLIN);
}

enum mc_err
takeover_keys_read(const char *file, struct keyfile *out, struct errbuf *e)
{
    enum mc_err rv = keyfile_load(file, out, e);

    if (rv == MC_OK)
        keyring_separate(out, "meercat takeover 1");
    return rv;
}

static void
on_news(void *arg)
{
    struct takeover *t = arg;

    loop_wake(t->loop);
}

static enum owner_word
owner_of(void *arg, struct life owner, uint32_t epoch)
{
    struct takeover *t = arg;

    return peers_owner(t->peers, owner, epoch);
}

/* --- birth --------------------------------------------------------------------------------------
 */

static enum mc_err
load_keys(struct takeover *t, const char *file, struct errbuf *e)
{
    uint8_t boot[KEYRING_BOOT_BYTES];
    enum mc_err rv = takeover_keys_read(file, &t->roster.keys, e);

    if (rv != MC_OK)
        return rv;
    MC_ASSERT(RAND_bytes(boot, sizeof(boot)) == 1);
    t->keys = keyring_new(&t->roster.keys, boot);
    t->key_file = mc_strdup(file);
    return MC_OK;
}

static enum mc_err
open_keys(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    struct pack_in boot;
    enum mc_err rv = MC_OK;

    if (c->key_file != NULL) {
        rv = load_keys(t, c->key_file, e);
    } else if (addr_is_loopback(&c->bind)) {
        t->keys = keyring_new_null();
    } else {
        err_set(e, "without a key only on loopback");
        rv = MC_EINVAL;
    }
    if (rv != MC_OK)
        return rv;
    boot = (struct pack_in){.p = keyring_boot(t->keys), .n = KEYRING_BOOT_BYTES};
    t->self = (struct life){.id = c->id, .boot = unpack_u64(&boot)};
    return MC_OK;
}

static bool
has_ip(const struct ifaddrs *i, const struct addr *a)
{
    struct addr own = {.len = a->len};

    if (i->ifa_addr == NULL || i->ifa_addr->sa_family != a->u.sa.sa_family)
        return false;
    memcpy(&own.u, i->ifa_addr, a->len);
    addr_set_port(&own, addr_port(a));
    return addr_eq(&own, a);
}

/* The one that has the address that we bind to. */
static enum mc_err
find_interface(struct takeover *t, const struct addr *bind, struct errbuf *e)
{
    struct ifaddrs *all;
    char at[ADDR_TEXT];

    if (getifaddrs(&all) != 0)
        return err_sys(e, "getifaddrs");
    for (struct ifaddrs *i = all; i != NULL && t->n_interfaces == 0; i = i->ifa_next)
        if (has_ip(i, bind))
            t->interfaces[t->n_interfaces++] = mc_strdup(i->ifa_name);
    freeifaddrs(all);
    if (t->n_interfaces > 0)
        return MC_OK;
    err_set(e, "no interface has the address %s: say which ones clients come in by",
            addr_ip_text(bind, at));
    return MC_EINVAL;
}

static enum mc_err
open_interfaces(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    if (c->n_interfaces == 0)
        return find_interface(t, &c->bind, e);
    if (c->n_interfaces > GUARD_INTERFACES_MAX) {
        err_set(e, "more than %d interfaces", GUARD_INTERFACES_MAX);
        return MC_EINVAL;
    }
    while (t->n_interfaces < c->n_interfaces) {
        t->interfaces[t->n_interfaces] = mc_strdup(c->interfaces[t->n_interfaces]);
        t->n_interfaces++;
    }
    return MC_OK;
}

static enum mc_err
open_guard(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    struct guard_conf conf = {.interfaces = (const char *const *)t->interfaces,
                              .n_interfaces = t->n_interfaces,
                              .ports = c->ports,
                              .n_ports = c->n_ports,
                              .later = c->before != NULL};
    enum mc_err rv = repair_probe(e);

    if (rv == MC_OK)
        rv = guard_open(&conf, &t->guard, e);
    if (rv != MC_OK)
        return rv;
    t->roster.guard = t->guard;
    t->probe = probe_open(e);
    t->forward = t->probe != NULL ? forward_open(e) : NULL;
    return t->forward != NULL ? MC_OK : MC_ENOTSUP;
}

static void
open_store(struct takeover *t)
{
    struct replica_conf conf = {.self = t->self, .arg = t, .owner = owner_of};
    struct rng rng;

    rng_seed_os(&rng);
    conf.seed = rng_next(&rng);
    t->store = replica_store_new(&conf);
}

/* With root's rights, so that the thread may do it afterwards. */
static void
allow_haste(void)
{
    struct rlimit r = {20 - THREAD_NICE, 20 - THREAD_NICE};

    if (setrlimit(RLIMIT_NICE, &r) != 0)
        log_debug("takeover: the thread has the priority of all others");
}

static enum mc_err
open_all(struct takeover *t, const struct takeover_conf *c, struct errbuf *e)
{
    enum mc_err rv = open_keys(t, c, e);

    if (rv == MC_OK)
        rv = open_interfaces(t, c, e);
    if (rv != MC_OK)
        return rv;
    t->roster.self = t->self;
    t->loop = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, e);
    if (t->loop == NULL)
        return MC_ESYS;
    allow_haste();
    rv = netlink_open(&t->nl, e);
    if (rv == MC_OK)
        rv = netlink_listen(&t->news, e);
    if (rv == MC_OK)
        rv = open_guard(t, c, e);
    if (rv != MC_OK)
        return rv;
    open_store(t);
    ask_open(t);
    adopt_open(t);
    rv = pulse_open(t, c, e);
    return rv == MC_OK ? door_open(t, &c->bind, e) : rv;
}

/* What served before goes on in this process: it attracts traffic as it did. */
static void
inherit(struct takeover *t, const struct takeover_conf *c)
{
    t->succeeds = t->settled = true;
    atomic_store(&t->elder, true);
    t->udp = c->before->udp;
    t->tcp = c->before->tcp;
    t->n_ports = c->n_ports;
    t->ports = mc_alloc((c->n_ports + 1) * sizeof(*t->ports));
    memcpy(t->ports, c->ports, c->n_ports * sizeof(*t->ports));
}

enum mc_err
takeover_new(const struct takeover_conf *c, struct takeover **out, struct errbuf *e)
{
    struct takeover *t = mc_alloc(sizeof(*t));
    enum mc_err rv;

    t->magic = TAKEOVER_MAGIC;
    t->nl.fd = t->news.fd = -1;
    t->arg = c->arg;
    t->on_fit = c->on_fit;
    t->on_peer = c->on_peer;
    t->on_passed = c->on_passed;
    t->udp = t->tcp = -1;
    if (c->before != NULL)
        inherit(t, c);
    t->on_parted = c->on_parted;
    list_init(&t->guests);
    pthread_mutex_init(&t->lock, NULL);
    t->roster.on_news = on_news;
    t->roster.arg = t;
    link_roster_init(&t->roster);
    rv = open_all(t, c, e);
    if (rv != MC_OK) {
        takeover_stop(&t);
        return rv;
    }
    t->slow.fn = on_slow;
    *out = t;
    return MC_OK;
}

static void *
run(void *arg)
{
    struct takeover *t = arg;

    pthread_setname_np(pthread_self(), "takeover");
    setpriority(PRIO_PROCESS, (id_t)gettid(), THREAD_NICE);
    loop_on_wake(t->loop, inbox_read, t);
    loop_turn(t->loop, 0); /* reads the clock */
    t->started_ns = loop_now(t->loop);
    watch_init(&t->held, t->loop, guard_fd(t->guard), on_held);
    watch_arm(&t->held, POLLIN);
    door_start(t);
    pulse_start(t);
    pulse_say_fit(t);
    on_slow(&t->slow);
    inbox_read(t); /* what was told before there was anybody to wake */
    loop_run(t->loop);
    return NULL;
}

enum mc_err
takeover_succeed(struct takeover *t, bool orphaned, struct errbuf *e)
{
    enum mc_err rv = guard_attach(t->guard, t->ports, t->n_ports, orphaned, e);

    MC_ASSERT(t->succeeds && !t->running);
    return rv == MC_OK ? takeover_start(t, e) : rv;
}

enum mc_err
takeover_start(struct takeover *t, struct errbuf *e)
{
    if (pthread_create(&t->thread, NULL, run, t) != 0)
        return err_sys(e, "pthread_create");
    t->running = true;
    return MC_OK;
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void
tear_down(struct takeover *t)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0)
            member_drop(&t->member[i]);
    door_close(t);
    loop_timer_clear(t->loop, &t->slow);
    loop_timer_clear(t->loop, &t->part);
    if (t->held.loop != NULL)
        watch_drop(&t->held);
    if (t->asking.place != NULL)
        ask_close(t);
    adopt_close(t);
    pulse_close(t);
    while (t->n_tubes > 0)
        loop_turn(t->loop, 10 * MC_MS);
    loop_free(&t->loop);
}

static void
end_thread(struct takeover *t)
{
    if (!t->running)
        return;
    inbox_stop(t);
    pthread_join(t->thread, NULL);
    t->running = false;
}

static void
nobody_hears(void *arg)
{
}

void
takeover_hand_over(struct takeover *t, const unsigned *ifindex, unsigned n)
{
    static const struct link_holders none = {.n = 0};

    MC_CHECK(t, TAKEOVER_MAGIC);
    end_thread(t);
    guard_yield(t->guard, loop_now_exact(t->loop) + PEERS_PASSING_NS, ifindex, n);
    t->handed_over = true;
    pthread_mutex_lock(&t->roster.lock);
    t->roster.on_news = nobody_hears;
    pthread_mutex_unlock(&t->roster.lock);
    link_post_holders(&t->roster, &none);
    tear_down(t);
}

void
takeover_stop(struct takeover **tp)
{
    struct takeover *t = *tp;

    *tp = NULL;
    if (t == NULL)
        return;
    MC_CHECK(t, TAKEOVER_MAGIC);
    end_thread(t);
    if (t->loop != NULL)
        tear_down(t);
    if (t->udp >= 0)
        close(t->udp);
    if (t->tcp >= 0)
        close(t->tcp);
    replica_store_free(&t->store);
    probe_close(&t->probe);
    forward_close(&t->forward);
    if (t->nl.fd >= 0)
        netlink_close(&t->nl);
    if (t->news.fd >= 0)
        netlink_close(&t->news);
    if (t->guard != NULL)
        guard_close(&t->guard, true);
    keyring_free(&t->keys);
    link_roster_fini(&t->roster);
    for (unsigned i = 0; i < t->n_interfaces; i++)
        free(t->interfaces[i]);
    free(t->ports);
    free(t->key_file);
    pthread_mutex_destroy(&t->lock);
    t->magic = 0;
    free(t);
}
