/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster.c - datagrams in and out, and the clock of all that is due, see cluster.h.
 */
#include "cluster/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/pack.h"
#include "cluster/cluster_priv.h"

#define HEAD_BYTES    16
#define FRAME_BYTES   3
/* Several members' bursts, each as large as its queue. */
#define RECV_BUF      (4u << 20)
#define QUEUE         1024
/* What the network delays makes a clock seem behind: the greatest of what was seen in the last one
 * or two spans is the truth.  Not of all time, since clocks are set. */
#define SKEW_SPAN_NS  (10 * MC_SEC)
#define SKEW_TELL_NS  MC_SEC /* beyond it a person should know */
#define SKEW_AGAIN_NS (60 * MC_SEC)
/* Of each owner: a verdict on each of 10,000 servers, and as many limits. */
#define FACTS_MAX     32768
#define FACTS_BYTES   (8u << 20)

enum frame_kind { FRAME_SWIM = 1, FRAME_FACTS, FRAME_WORDS, FRAME_LOAD };

static struct words_time
both_clocks(const struct cluster *c)
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

/* --- peers --------------------------------------------------------------------------------------
 */

static int
by_id(const void *a, const void *b)
{
    const struct peer *const *x = a, *const *y = b;

    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static struct peer *
peer_find(const struct cluster *c, uint64_t id)
{
    struct peer key = {.id = id}, *at = &key, **found;

    found = c->n_peers ? bsearch(&at, c->peers, c->n_peers, sizeof(*c->peers), by_id) : NULL;
    return found ? *found : NULL;
}

static bool
is_live(const struct swim_member *m)
{
    return m->state == SWIM_ALIVE || m->state == SWIM_SUSPECT;
}

static struct peer *
peer_of(const struct cluster *c, const struct swim_member *m)
{
    struct peer *p = peer_find(c, m->id);
    bool known = p != NULL;

    if (!known) {
        p = mc_alloc(sizeof(*p));
        p->id = m->id;
    }
    if (memcmp(p->boot, m->boot, sizeof(p->boot)) != 0) {
        memcpy(p->boot, m->boot, sizeof(p->boot));
        p->heard_at = 0;
        p->skew[0].since = p->skew[1].since = 0;
        p->restarted = known;
    }
    p->addr = m->addr;
    return p;
}

/* The live members as they are now; who stays keeps what is known of it. */
static void
settle_peers(struct cluster *c)
{
    size_t all = swim_count(c->swim);
    struct peer **now = mc_alloc((all + 1) * sizeof(struct peer *));
    unsigned n = 0;

    for (size_t i = 0; i < all; i++) {
        const struct swim_member *m = swim_at(c->swim, i);

        if (!m->self && is_live(m))
            now[n++] = peer_of(c, m);
    }
    qsort(now, n, sizeof(*now), by_id);
    for (unsigned i = 0; i < c->n_peers; i++)
        if (!bsearch(&c->peers[i], now, n, sizeof(*now), by_id))
            free(c->peers[i]);
    free(c->peers);
    c->peers = now;
    c->n_peers = n;
    c->ids = mc_realloc(c->ids, (n + 1) * sizeof(*c->ids));
    for (unsigned i = 0; i < n; i++)
        c->ids[i] = now[i]->id;
    facts_set_members(c->facts, c->ids, n, loop_now(c->loop));
    words_set_members(c->words, c->ids, n, loop_now(c->loop));
}

/* --- out ----------------------------------------------------------------------------------------
 */

static void
put_head(const struct cluster *c, struct pack_out *o)
{
    pack_u64(o, swim_self(c->swim)->id);
    pack_u64(o, (uint64_t)(units_wall_ns() / MC_MS));
}

static void
put_frame(struct pack_out *o, enum frame_kind kind, const void *bytes, size_t n)
{
    pack_u8(o, (uint8_t)kind);
    pack_u16(o, (uint16_t)n);
    pack_bytes(o, bytes, n);
    MC_ASSERT(!o->bad);
}

static void
seal_and_send(struct cluster *c, const struct addr *to, const uint8_t *plain, size_t n)
{
    uint8_t sealed[DGRAM_BYTES_MAX];
    size_t bytes = seal_datagram(c->keys, plain, n, sealed);

    dgram_send(c->dgram, to, sealed, bytes);
    c->counters.sealed++;
    c->counters.sealed_bytes += bytes;
}

static void
flush_peer(struct cluster *c, struct peer *p)
{
    if (p->n == 0)
        return;
    seal_and_send(c, &p->addr, p->out, p->n);
    p->bytes_out += p->n + SEAL_OVERHEAD;
    p->n = 0;
}

static void
send_frame(struct cluster *c, struct peer *p, enum frame_kind kind, const void *bytes, size_t n)
{
    struct pack_out o;

    MC_ASSERT(HEAD_BYTES + FRAME_BYTES + n <= PLAIN_MAX);
    if (p->n + FRAME_BYTES + n > PLAIN_MAX)
        flush_peer(c, p);
    o = (struct pack_out){.p = p->out, .n = p->n, .cap = PLAIN_MAX};
    if (p->n == 0)
        put_head(c, &o);
    put_frame(&o, kind, bytes, n);
    p->n = (unsigned)o.n;
    cluster_plan(c);
}

void
cluster_send(struct cluster *c, uint64_t to, const void *bytes, size_t n)
{
    struct peer *p = peer_find(c, to);

    MC_ASSERT(n <= CLUSTER_LOAD_MAX);
    if (!p || c->left)
        return;
    c->counters.load_bytes_out += n;
    send_frame(c, p, FRAME_LOAD, bytes, n);
}

void
cluster_send_all(struct cluster *c, const void *bytes, size_t n)
{
    for (unsigned i = 0; i < c->n_peers; i++)
        cluster_send(c, c->peers[i]->id, bytes, n);
}

/* Membership does not wait for company: its clocks are short, and it speaks to strangers, too. */
static void
on_swim_send(void *arg, const struct addr *to, const void *bytes, size_t n)
{
    struct cluster *c = arg;
    uint8_t plain[PLAIN_MAX];
    struct pack_out o = {.p = plain, .cap = sizeof(plain)};

    put_head(c, &o);
    put_frame(&o, FRAME_SWIM, bytes, n);
    seal_and_send(c, to, plain, o.n);
}

static void
on_facts_send(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct cluster *c = arg;
    struct peer *p = peer_find(c, to);

    if (p)
        send_frame(c, p, FRAME_FACTS, bytes, n);
}

static void
on_words_send(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct cluster *c = arg;
    struct peer *p = peer_find(c, to);

    if (p)
        send_frame(c, p, FRAME_WORDS, bytes, n);
}

/* --- in -----------------------------------------------------------------------------------------
 */

static mc_ns
skew_of(const struct peer *p)
{
    bool before = p->skew[1].since != 0 && p->skew[1].ns > p->skew[0].ns;

    return p->skew[0].since == 0 ? 0 : p->skew[before].ns;
}

static void
note_clock(struct cluster *c, struct peer *p, uint64_t wall_ms)
{
    mc_ns now = loop_now(c->loop), span = now - p->skew[0].since, seen;
    const struct swim_member *m;

    if (wall_ms > INT64_MAX / MC_MS)
        return;
    seen = ((int64_t)wall_ms - units_wall_ns() / MC_MS) * MC_MS;
    if (p->skew[0].since == 0 || span >= SKEW_SPAN_NS) {
        p->skew[1] = p->skew[0];
        if (span >= 2 * SKEW_SPAN_NS)
            p->skew[1].since = 0;
        p->skew[0].ns = seen;
        p->skew[0].since = now;
    } else if (seen > p->skew[0].ns)
        p->skew[0].ns = seen;
    if (llabs(skew_of(p)) < SKEW_TELL_NS || now < c->told_skew_at)
        return;
    c->told_skew_at = now + SKEW_AGAIN_NS;
    m = swim_find_id(c->swim, p->id); /* NULL: it was forgotten in this turn */
    log_warn("cluster: the clock of %s is %+.1f s from ours", m ? m->name : "a member",
             (double)skew_of(p) / (double)MC_SEC);
}

static void
take_load(struct cluster *c, const struct peer *p, const void *bytes, size_t n)
{
    c->counters.load_bytes_in += n;
    c->hooks.on_load(c->hooks.arg, p->id, bytes, n);
}

/* p NULL: from who is no live member, and may become one. */
static void
take_frame(struct cluster *c, const struct peer *p, const struct addr *from, unsigned kind,
           const uint8_t *bytes, size_t n)
{
    mc_ns now = loop_now(c->loop);

    if (kind == FRAME_SWIM) {
        swim_recv(c->swim, from, bytes, n, now);
        return;
    }
    if (!p) {
        c->counters.strangers++;
        return;
    }
    switch (kind) {
    case FRAME_FACTS: facts_recv(c->facts, p->id, bytes, n, now); break;
    case FRAME_WORDS: words_recv(c->words, p->id, bytes, n, both_clocks(c)); break;
    case FRAME_LOAD: take_load(c, p, bytes, n); break;
    default: c->counters.unknown++; break;
    }
}

static void
take_frames(struct cluster *c, const struct addr *from, struct str plain, const uint8_t *boot)
{
    struct pack_in in = {.p = (const uint8_t *)plain.p, .n = plain.n};
    uint64_t id = unpack_u64(&in), wall_ms = unpack_u64(&in);
    struct peer *p = peer_find(c, id);

    if (p && memcmp(p->boot, boot, sizeof(p->boot)) != 0)
        p = NULL; /* another process of that name */
    if (p && !in.bad) {
        p->heard_at = loop_now(c->loop);
        p->bytes_in += plain.n + SEAL_OVERHEAD;
        note_clock(c, p, wall_ms);
    }
    while (in.n > 0 && !in.bad) {
        unsigned kind = unpack_u8(&in), n = unpack_u16(&in);
        const uint8_t *bytes = unpack_bytes(&in, n);

        if (bytes)
            take_frame(c, p, from, kind, bytes, n);
    }
    c->counters.malformed += in.bad;
}

static void
on_datagram(void *arg, const struct addr *from, uint8_t *bytes, size_t n)
{
    struct cluster *c = arg;
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct str plain;
    enum seal_fault f;

    if (c->left || !c->started)
        return;
    f = seal_open_datagram(c->keys, loop_now(c->loop), bytes, n, &plain, boot);
    if (f != SEAL_F_NONE) {
        cluster_refused(c, from, seal_fault_text(f));
        return;
    }
    c->counters.opened++;
    c->counters.opened_bytes += n;
    take_frames(c, from, plain, boot);
    cluster_plan(c);
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
    settle_peers(c);
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
    for (unsigned i = 0; i < c->n_peers; i++)
        free(c->peers[i]);
    c->n_peers = 0;
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
    for (unsigned i = 0; i < c->n_peers; i++)
        flush_peer(c, c->peers[i]);
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
        words_tick(c->words, both_clocks(c));
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
    enum mc_err rv = words_say(c->words, w, both_clocks(c));

    cluster_plan(c);
    return rv;
}

unsigned
cluster_load_words(struct cluster *c, struct str text)
{
    return words_load(c->words, text, both_clocks(c));
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

static bool
is_loopback(const struct addr *a)
{
    static const struct in6_addr one = IN6ADDR_LOOPBACK_INIT;

    if (a->u.sa.sa_family == AF_INET)
        return ntohl(a->u.in.sin_addr.s_addr) >> 24 == 127;
    return a->u.sa.sa_family == AF_INET6 && memcmp(&a->u.in6.sin6_addr, &one, sizeof(one)) == 0;
}

static enum mc_err
get_keys(struct cluster *c, const struct cluster_conf *conf, struct errbuf *e)
{
    char text[ADDR_TEXT];

    if (conf->key_file) {
        c->key_file = mc_strdup(conf->key_file);
        return keyring_load(conf->key_file, &c->keys, e);
    }
    if (!is_loopback(&conf->bind)) {
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
                  .send = on_swim_send,
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
        .send = on_facts_send,
        .on_fact = on_fact,
        .arg = c,
    };
    struct words_conf wc = {
        .id = id,
        .bytes_per_s = conf->bytes_per_s / 4,
        .seed = rng_next(&c->rng),
        .send = on_words_send,
        .on_word = on_word,
        .arg = c,
    };

    c->facts = facts_new(&fc, loop_now(c->loop));
    c->words = words_new(&wc, both_clocks(c));
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
                            .fn = on_datagram,
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
    for (unsigned i = 0; i < c->n_peers; i++)
        free(c->peers[i]);
    free(c->peers);
    free(c->ids);
    free(c->key_file);
    free(c);
}

/* --- for reading --------------------------------------------------------------------------------
 */

mc_ns
cluster_skew(const struct cluster *c, uint64_t member)
{
    const struct peer *p = peer_find(c, member);

    return p ? skew_of(p) : 0;
}

bool
cluster_traffic(const struct cluster *c, uint64_t member, struct cluster_traffic *out)
{
    const struct peer *p = peer_find(c, member);

    if (!p)
        return false;
    *out = (struct cluster_traffic){
        .heard_ns = p->heard_at ? loop_now(c->loop) - p->heard_at : MC_NEVER_NS,
        .bytes_in = p->bytes_in,
        .bytes_out = p->bytes_out,
        .skew_ns = skew_of(p),
    };
    return true;
}

const uint64_t *
cluster_others(const struct cluster *c, unsigned *n)
{
    *n = c->n_peers;
    return c->ids;
}

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

const struct dgram_stats *
cluster_dgram_stats(const struct cluster *c)
{
    return dgram_stats(c->dgram);
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
