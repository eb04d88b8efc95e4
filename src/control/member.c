/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member.c - between the cluster, which carries bytes, and the fleet, which knows servers.
 *
 *   fact    "h" and the key of a server: what its owner's checks say (u8 word, text why)
 *           "c" and the key of a limit: demand and claim (cluster/caps.h)
 *   word    "POOL/SERVER": the operator's
 *   load    pieces of place/share_wire.h
 */
#include "control/member.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pack.h"
#include "control/heritage.h"
#include "control/member_priv.h"
#include "control/takeover_node.h"
#include "control/vip.h"
#include "fleet/company.h"
#include "place/share_wire.h"

#define WHY_MAX        90
#define WORDS_FILE_MAX ((size_t)16 << 20)
/* Several words in a row are written down once. */
#define WORDS_SAVE_NS  (200 * MC_MS)
/* Of the bandwidth: the rest is for the load of servers, of all pools together. */
#define FACTS_PART     8

/* --- health -------------------------------------------------------------------------------------
 */

struct str
member_key(char kind, uint64_t about, uint8_t room[MEMBER_KEY_N])
{
    struct pack_out o = {.p = room, .cap = MEMBER_KEY_N};

    pack_u8(&o, (uint8_t)kind);
    pack_u64(&o, about);
    return (struct str){(const char *)room, o.n};
}

static void
on_tell(void *arg, const struct server *s, enum agree_word word, const char *why)
{
    struct member *m = arg;
    uint8_t key[MEMBER_KEY_N], value[WHY_MAX + 4];
    struct pack_out o = {.p = value, .cap = sizeof(value)};
    struct str k = member_key(MEMBER_FACT_HEALTH, company_server_key(s), key);
    unsigned swallowed;

    if (word == AGREE_UNKNOWN) {
        cluster_fact_del(m->cluster, k);
        return;
    }
    pack_u8(&o, (uint8_t)word);
    pack_str(&o, (struct str){why, strnlen(why, WHY_MAX)});
    if (cluster_fact_set(m->cluster, k, FACTS_NOW, value, o.n) != MC_OK &&
        log_limit_ok(&m->no_room, loop_now(m->node->loop), &swallowed))
        log_warn("cluster: no room to tell that server %s/%s is %s (and %u before)", s->pool_name,
                 s->name, word == AGREE_UP ? "up" : "down", swallowed);
}

static void
hear_health(struct member *m, uint64_t owner, struct str key, const void *value, size_t n)
{
    struct pack_in k = {.p = (const uint8_t *)key.p + 1, .n = key.n - 1};
    struct pack_in v = {.p = value, .n = value ? n : 0};
    uint64_t server = unpack_u64(&k);
    enum agree_word word = AGREE_UNKNOWN;
    struct str why = STR_NONE;

    if (value) {
        uint8_t said = unpack_u8(&v);

        why = unpack_str(&v, WHY_MAX);
        if (v.bad || (said != AGREE_UP && said != AGREE_DOWN))
            return;
        word = said;
    }
    company_hear(m->node->build.fleet, owner, server, word, why);
}

static void
hear_vip(struct member *m, uint64_t owner, struct str key, const void *value, size_t n)
{
    struct pack_in k = {.p = (const uint8_t *)key.p + 1, .n = key.n - 1};

    vip_hear(m->node, owner, unpack_u64(&k), value, n);
}

static void
on_fact(void *arg, uint64_t owner, struct str key, const void *value, size_t n, mc_ns age_ns)
{
    struct member *m = arg;

    if (key.n != MEMBER_KEY_N)
        return; /* of another release */
    if (key.p[0] == MEMBER_FACT_HEALTH)
        hear_health(m, owner, key, value, n);
    else if (key.p[0] == MEMBER_FACT_CAP)
        member_caps_hear(m, owner, value, n);
    else if (key.p[0] == MEMBER_FACT_VIP)
        hear_vip(m, owner, key, value, n);
}

void
member_hear_again(struct member *m)
{
    mc_ns now = loop_now(m->node->loop);
    struct facts_at at = {0};
    struct fact f;

    while (facts_next(cluster_facts(m->cluster), &at, now, &f))
        if (f.owner != cluster_id(m->cluster))
            on_fact(m, f.owner, f.key, f.value, f.n, f.age_ns);
}

/* What we said of servers that are in the configuration no more. */
static void
take_back(struct member *m)
{
    mc_ns now = loop_now(m->node->loop);
    uint64_t *gone = NULL;
    unsigned n = 0;
    struct facts_at at = {0};
    struct fact f;

    while (facts_next(cluster_facts(m->cluster), &at, now, &f)) {
        struct pack_in in = {.p = (const uint8_t *)f.key.p + 1, .n = f.key.n - 1};
        uint64_t server = unpack_u64(&in);

        if (f.owner != cluster_id(m->cluster) || f.key.p[0] != MEMBER_FACT_HEALTH ||
            company_knows(m->node->build.fleet, server))
            continue;
        gone = mc_realloc(gone, (n + 1) * sizeof(*gone));
        gone[n++] = server;
    }
    for (unsigned i = 0; i < n; i++) {
        uint8_t room[MEMBER_KEY_N];

        cluster_fact_del(m->cluster, member_key(MEMBER_FACT_HEALTH, gone[i], room));
    }
    free(gone);
}

/* --- load ---------------------------------------------------------------------------------------
 */

struct share_out {
    struct member *m;
    uint64_t to;
    size_t bytes;
};

static void
send_piece(void *arg, const uint8_t *bytes, size_t n)
{
    struct share_out *o = arg;
    unsigned others;

    o->m->n_pieces++;
    if (o->to != SHARE_TO_ALL) {
        cluster_send(o->m->cluster, o->to, bytes, n);
        o->bytes += n;
        return;
    }
    cluster_others(o->m->cluster, &others);
    cluster_send_all(o->m->cluster, bytes, n);
    o->bytes += n * others;
}

static size_t
on_share(void *arg, uint64_t to, const struct share_map *map, const struct share_msg *msg)
{
    struct share_out o = {.m = arg, .to = to};

    share_wire_put(msg, map, CLUSTER_LOAD_MAX, send_piece, &o);
    return o.bytes;
}

static void
on_load(void *arg, uint64_t from, const void *bytes, size_t n)
{
    struct member *m = arg;

    company_recv(m->node->build.fleet, from, cluster_skew(m->cluster, from), bytes, n);
}

/* --- who is there -------------------------------------------------------------------------------
 */

static void
on_restart(void *arg, uint64_t id)
{
    struct member *m = arg;

    company_member_restarted(m->node->build.fleet, id);
}

static void
on_members(void *arg)
{
    struct member *m = arg;
    unsigned n;
    const uint64_t *others = cluster_others(m->cluster, &n);

    company_set_members(m->node->build.fleet, others, n);
    member_caps_members(m, others, n);
    takeover_node_members(m->node);
    vip_members(m->node, others, n);
}

size_t
member_card_write(const struct member_card *c, uint8_t out[MEMBER_CARD_MAX])
{
    struct pack_out o = {.p = out, .cap = MEMBER_CARD_MAX};

    pack_u64(&o, c->digest);
    pack_str(&o, (struct str){c->version.p, c->version.n < 40 ? c->version.n : 40});
    pack_str(&o, c->takeover);
    MC_ASSERT(!o.bad);
    return o.n;
}

bool
member_card_read(const void *p, size_t n, struct member_card *out)
{
    struct pack_in in = {.p = p, .n = n};

    out->digest = unpack_u64(&in);
    out->version = unpack_str(&in, MEMBER_CARD_MAX);
    out->takeover = unpack_str(&in, MEMBER_CARD_MAX);
    return !in.bad;
}

static size_t
own_card(const struct node *n, uint8_t out[MEMBER_CARD_MAX])
{
    char takeover[TAKEOVER_NODE_TEXT];
    struct member_card c = {.digest = n->conf->shared_digest,
                            .version = STR(MEERCAT_VERSION),
                            .takeover = str_of(takeover_node_card(n, takeover))};

    return member_card_write(&c, out);
}

/* --- the operator's words -----------------------------------------------------------------------
 */

static void
save_words(struct timer *t)
{
    struct member *m = container_of(t, struct member, words_timer);
    struct buf text = {0};

    words_save(cluster_words(m->cluster), &text);
    if (!file_replace(m->words_file, &text) && !m->words_failed) {
        log_warn("cluster: cannot keep the operator's words in %s: %s", m->words_file,
                 strerror(errno));
        m->words_failed = true;
    }
    buf_free(&text);
}

static void
take_words(struct member *m, struct buf *text, const char *from)
{
    unsigned bad = cluster_load_words(m->cluster, (struct str){text->p, text->n});

    if (bad > 0)
        log_warn("%s: %u lines make no sense and are passed over", from, bad);
    buf_free(text);
}

static void
load_words(struct member *m)
{
    struct buf text = {0};

    if (m->words_file && file_load(m->words_file, WORDS_FILE_MAX, &text))
        take_words(m, &text, m->words_file);
    take_words(m, &m->inherited_words, "words of the process before");
}

/* "ann on lb1" */
static void
said_by(const struct word *w, char out[WORDS_WHO_MAX + SWIM_NAME_MAX + 8])
{
    snprintf(out, WORDS_WHO_MAX + SWIM_NAME_MAX + 8, STR_FMT "%s" STR_FMT,
             STR_ARG(w->who.n > 0 ? w->who : STR("operator")), w->where.n > 0 ? " on " : "",
             STR_ARG(w->where));
}

static enum mc_err
put_state_in_force(struct fleet *f, const char *pool, const char *server, enum health_admin state,
                   bool again, const char *who)
{
    struct server *s = fleet_find(f, pool, server, NULL);
    struct health h;

    if (s == NULL)
        return MC_ENOENT;
    server_health_copy(s, &h);
    /* said once more, it would overrule what the server's agent said after it */
    if (again && h.admin == state)
        return MC_OK;
    return fleet_set_admin(f, pool, server, state, who, NULL);
}

/* again: it was heard before. */
static void
put_word_in_force(struct member *m, const struct word *w, bool again)
{
    static const enum health_admin states[] = {[WORD_READY] = HEALTH_ADMIN_READY,
                                               [WORD_DRAIN] = HEALTH_ADMIN_DRAIN,
                                               [WORD_MAINT] = HEALTH_ADMIN_MAINT};
    struct str server = w->name, pool = str_cut(&server, '/');
    char *pool_z = str_dup(pool), *server_z = str_dup(server);
    char who[WORDS_WHO_MAX + SWIM_NAME_MAX + 8];
    struct fleet *f = m->node->build.fleet;
    enum mc_err rv = MC_ENOENT;

    said_by(w, who);
    switch (w->say) {
    case WORD_READY:
    case WORD_DRAIN:
    case WORD_MAINT:
        rv = put_state_in_force(f, pool_z, server_z, states[w->say], again, who);
        break;
    case WORD_WEIGHT: rv = fleet_set_weight(f, pool_z, server_z, w->weight, NULL); break;
    case WORD_STATE_CONF: rv = fleet_unset_admin(f, pool_z, server_z, who, NULL); break;
    case WORD_WEIGHT_CONF: rv = fleet_unset_weight(f, pool_z, server_z, NULL); break;
    case WORD_N_SAYS: break;
    }
    if (rv == MC_OK && w->say == WORD_WEIGHT &&
        !again) /* a new state is logged where it is settled */
        log_info("pool %s: server %s has weight %u: %s", pool_z, server_z, w->weight, who);
    free(pool_z);
    free(server_z);
}

static void
on_word(void *arg, const struct word *w)
{
    struct member *m = arg;

    put_word_in_force(m, w, false);
    if (m->words_file && !timer_is_set(&m->words_timer))
        loop_timer_set(m->node->loop, &m->words_timer, loop_now(m->node->loop) + WORDS_SAVE_NS);
}

static void
repeat_words(struct member *m)
{
    const struct word *w;
    size_t at = 0;

    while ((w = words_next(cluster_words(m->cluster), &at)) != NULL)
        if (w->say != WORD_STATE_CONF && w->say != WORD_WEIGHT_CONF)
            put_word_in_force(m, w, true);
}

static enum mc_err
say(struct node *n, const char *pool, const char *server, struct word *w, const char *who,
    struct errbuf *e)
{
    char *name = mc_printf("%s/%s", pool, server);
    enum mc_err rv = fleet_find(n->build.fleet, pool, server, e) ? MC_OK : MC_ENOENT;

    w->name = str_of(name);
    w->who = (struct str){who, strnlen(who, WORDS_WHO_MAX)};
    w->where = str_of(n->conf->node);
    if (rv == MC_OK) {
        rv = cluster_say(n->member->cluster, w);
        if (rv != MC_OK)
            err_set(e, "%s: the cluster cannot take this word: %s", name, mc_err_text(rv));
    }
    free(name);
    return rv;
}

enum mc_err
member_set_state(struct node *n, const char *pool, const char *server, enum health_admin state,
                 const char *who, struct errbuf *e)
{
    static const enum word_say says[] = {[HEALTH_ADMIN_READY] = WORD_READY,
                                         [HEALTH_ADMIN_DRAIN] = WORD_DRAIN,
                                         [HEALTH_ADMIN_MAINT] = WORD_MAINT};
    struct word w = {.say = says[state]};

    if (n->member)
        return say(n, pool, server, &w, who, e);
    return fleet_set_admin(n->build.fleet, pool, server, state, who[0] ? who : "operator", e);
}

enum mc_err
member_set_weight(struct node *n, const char *pool, const char *server, unsigned weight,
                  const char *who, struct errbuf *e)
{
    struct word w = {.say = WORD_WEIGHT, .weight = weight};

    enum mc_err rv;

    if (n->member)
        return say(n, pool, server, &w, who, e);
    rv = fleet_set_weight(n->build.fleet, pool, server, weight, e);
    if (rv == MC_OK)
        log_info("pool %s: server %s has weight %u: %s", pool, server, weight,
                 who[0] ? who : "operator");
    return rv;
}

enum mc_err
member_unset(struct node *n, const char *pool, const char *server, const char *who,
             struct errbuf *e)
{
    struct word state = {.say = WORD_STATE_CONF}, weight = {.say = WORD_WEIGHT_CONF};
    enum mc_err rv;

    if (!n->member) {
        rv = fleet_unset_admin(n->build.fleet, pool, server, who[0] ? who : "operator", e);
        return rv == MC_OK ? fleet_unset_weight(n->build.fleet, pool, server, e) : rv;
    }
    rv = say(n, pool, server, &state, who, e);
    return rv == MC_OK ? say(n, pool, server, &weight, who, e) : rv;
}

/* --- the life of a membership -------------------------------------------------------------------
 */

static void
open_company(struct member *m, uint64_t bytes_per_s)
{
    struct company_conf conf = {
        .id = cluster_id(m->cluster),
        .boot = (uint64_t)(units_wall_ns() / MC_SEC),
        .bytes_per_s = (double)(bytes_per_s - bytes_per_s / FACTS_PART),
        .hooks = {.arg = m, .tell = on_tell, .share = on_share},
    };

    company_join(m->node->build.fleet, &conf);
}

/* Those of the configuration, and whom the process before knew: nobody need have us in his own. */
static char **
join_list(const struct node *n, unsigned *n_out)
{
    const struct conf_cluster *cc = &n->conf->cluster;
    char **list = mc_alloc((SWIM_JOIN_MAX + 1) * sizeof(char *));
    const char *member;

    *n_out = 0;
    for (unsigned i = 0; i < cc->n_join && *n_out < SWIM_JOIN_MAX; i++)
        list[(*n_out)++] = cc->join[i];
    for (unsigned i = 0; (member = heritage_member(n->options.heritage, i)) != NULL; i++)
        if (*n_out < SWIM_JOIN_MAX)
            list[(*n_out)++] = (char *)member;
    return list;
}

enum mc_err
member_open(struct node *n, struct errbuf *e)
{
    const struct conf_cluster *cc = &n->conf->cluster;
    struct member *m;
    uint8_t card[MEMBER_CARD_MAX];
    struct cluster_heritage heritage;
    struct cluster_conf conf = {
        .name = str_of(n->conf->node),
        .bind = cc->bind,
        .advertise = cc->advertise,
        .key_file = cc->key_file,
        .meta = card,
        .meta_n = own_card(n, card),
        .bytes_per_s = cc->bytes_per_s / FACTS_PART,
        .loop = n->loop,
        .dns = n->dns,
        .hooks = {.on_restart = on_restart,
                  .on_members = on_members,
                  .on_fact = on_fact,
                  .on_word = on_word,
                  .on_load = on_load},
    };
    enum mc_err rv;
    char **join;

    if (!cc->given)
        return MC_OK;
    if (heritage_cluster(n->options.heritage, &cc->bind, &heritage))
        conf.heritage = &heritage;
    m = mc_alloc(sizeof(*m));
    m->node = n;
    m->words_timer.fn = save_words;
    conf.hooks.arg = m;
    join = join_list(n, &conf.n_join);
    conf.join = join;
    rv = cluster_new(&conf, &m->cluster, e);
    free(join);
    if (rv != MC_OK) {
        err_wrap(e, "cluster");
        free(m);
        return rv;
    }
    heritage_words(n->options.heritage, &m->inherited_words);
    if (n->conf->state_dir)
        m->words_file = mc_printf("%s/words", n->conf->state_dir);
    n->member = m;
    open_company(m, cc->bytes_per_s);
    member_caps_open(m);
    return MC_OK;
}

void
member_start(struct node *n)
{
    if (!n->member)
        return;
    load_words(n->member);
    member_caps_adopt(n->member);
    cluster_start(n->member->cluster);
}

void
member_tell_card(struct node *n)
{
    uint8_t card[MEMBER_CARD_MAX];

    cluster_set_meta(n->member->cluster, card, own_card(n, card));
}

void
member_reloaded(struct node *n, struct buf *text)
{
    struct member *m = n->member;
    struct errbuf e;

    if (!m)
        return;
    if (cluster_reload_keys(m->cluster, &e) != MC_OK) {
        log_error("cluster: %s; the old keys stay in use", e.text);
        buf_printf(text, "cluster: %s; the old keys stay in use\n", e.text);
    }
    cluster_set_join(m->cluster, n->conf->cluster.join, n->conf->cluster.n_join);
    member_tell_card(n);
    repeat_words(m);
    member_caps_adopt(m);
    take_back(m);
    member_hear_again(m);
}

static void
on_left(void *arg)
{
    struct member *m = arg;

    log_info("cluster: left");
    m->on_left(m->node);
}

void
member_hush(struct node *n)
{
    struct member *m = n->member;

    if (!m)
        return;
    loop_timer_clear(n->loop, &m->words_timer);
    free(m->words_file);
    m->words_file = NULL;
    cluster_hush(m->cluster);
}

void
member_leave(struct node *n, void (*done)(struct node *))
{
    if (!n->member) {
        done(n);
        return;
    }
    n->member->on_left = done;
    cluster_leave(n->member->cluster, on_left, n->member);
}

void
member_stop(struct node *n)
{
    struct member *m = n->member;

    if (!m)
        return;
    if (timer_is_set(&m->words_timer))
        save_words(&m->words_timer);
    loop_timer_clear(n->loop, &m->words_timer);
    member_caps_close(m);
    cluster_free(&m->cluster);
    buf_free(&m->inherited_words);
    free(m->words_file);
    free(m);
    n->member = NULL;
}
