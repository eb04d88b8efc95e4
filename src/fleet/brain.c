/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain.c - the control thread's half of a brain, see brain.h: its life, and its time.
 */
#include "fleet/brain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "fleet/brain_priv.h"
#include "fleet/company_priv.h"

/* Events of one tick, and one for each request under way whose begin was told: more are not. */
#define PIPE_EVENTS 32768
/* Shapes that were never seen come in bursts, later hardly ever; losing some costs a moment. */
#define PIPE_SHAPES 512
/* Each worker tells of a server's load once a tick. */
#define PIPE_WORDS  4096
#define TICK_NS     (10 * MC_MS)
#define TICK_IDLE   (50 * MC_MS)
/* What others hear of us is to be younger than a light request lives. */
#define TICK_SHARED (2 * MC_MS)
#define AGENTS_NS   (100 * MC_MS)
#define WINDOW_NS   (100 * MC_MS)
#define SETTLE_NS   (200 * MC_MS)
#define SAVE_NS     (60 * MC_SEC)
#define FADE_NS     MC_SEC
#define FADE_KEEP   0.995 /* of a shape's weight after a second: half of it in two minutes */

/* --- classes -----------------------------------------------------------------------------------
 */

static bool
is_looked_into(const struct mind *m, const struct class_map *map)
{
    for (unsigned i = 0; i < m->of->n_pipes; i++)
        if (atomic_load_explicit(&m->pub.readers[i].map, memory_order_seq_cst) == map)
            return true;
    return false;
}

static void
reap_maps(struct mind *m)
{
    struct old_map **at = &m->old_maps;

    while (*at) {
        struct old_map *o = *at;

        if (is_looked_into(m, o->map)) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        free((void *)o->map);
        free(o);
    }
}

static void
publish_map(struct mind *m)
{
    struct old_map *o = mc_alloc(sizeof(*o));

    o->map =
        atomic_exchange_explicit(&m->pub.map, class_set_map(&m->classes), memory_order_seq_cst);
    o->next = m->old_maps;
    m->old_maps = o;
}

static void
class_changed(void *arg, unsigned class, uint64_t hash)
{
    struct mind *m = arg;

    know_set_class(m->know, class, hash);
    m->requests[class] = 0;
}

void
brain_give_classes(struct mind *m)
{
    if (class_set_settle(&m->classes, class_changed, m) > 0)
        publish_map(m);
}

static void
settle(struct mind *m, mc_ns now)
{
    if (now >= m->next_fade) {
        class_set_fade(&m->classes, FADE_KEEP);
        m->next_fade = now + FADE_NS;
    }
    if (m->news && now >= m->next_settle) {
        brain_give_classes(m);
        m->news = false;
        m->next_settle = now + SETTLE_NS;
    }
    reap_maps(m);
}

/* --- what workers tell -------------------------------------------------------------------------
 */

static void
take_event(const struct brain_event *e)
{
    struct mind *m = mind_of(e->brain);

    if (e->e.kind == PLACE_BEGIN) {
        m->requests[e->e.class]++;
        class_set_add(&m->classes, e->e.class, (double)e->e.cost.cpu_s);
    }
    know_event(m->know, &e->e);
}

static void
take_shape(const struct brain_shape *s)
{
    struct mind *m = mind_of(s->brain);

    class_set_note(&m->classes, s->hash, str_of(s->name), (double)s->weight);
    m->news = true;
}

static void
take_word(const struct brain_word *w)
{
    know_word(mind_of(w->brain)->know, &w->w);
}

unsigned
brains_drain(struct brains *bs)
{
    const void *rec;
    unsigned n = 0;

    for (unsigned i = 0; i < bs->n_pipes; i++) {
        struct brain_pipe *p = &bs->pipes[i];

        for (; (rec = ring_oldest(&p->shapes)); ring_drop(&p->shapes), n++)
            take_shape(rec);
        for (; (rec = ring_oldest(&p->words)); ring_drop(&p->words), n++)
            take_word(rec);
        for (; (rec = ring_oldest(&p->events)); ring_drop(&p->events), n++)
            take_event(rec);
    }
    return n;
}

uint64_t
brains_lost(const struct brains *bs)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < bs->n_pipes; i++)
        n += stat_get(&bs->pipes[i].events.n_lost) + stat_get(&bs->pipes[i].shapes.n_lost) +
             stat_get(&bs->pipes[i].words.n_lost);
    return n;
}

/* --- time --------------------------------------------------------------------------------------
 */

static void
look_for_silent_agents(struct mind *m, mc_ns now)
{
    for (unsigned i = 0; i < m->view.n; i++)
        if (m->agents[i])
            brain_agent_tick(m->agents[i], now);
}

/* Others wait for what we hear and what is begun here, also when that is seldom. */
static mc_ns
tick_of(const struct brains *bs, bool busy)
{
    if (bs->n_others > 0)
        return busy ? TICK_SHARED : TICK_NS;
    return busy ? TICK_NS : TICK_IDLE;
}

static void
on_timer(struct timer *t)
{
    struct brains *bs = container_of(t, struct brains, timer);
    mc_ns now = loop_now(bs->fleet->loop);
    bool busy = brains_drain(bs) > 0, agents = now >= bs->next_agents;

    LIST_FOREACH (it, &bs->all) {
        struct mind *m = LIST_ENTRY(it, struct mind, link);

        if (agents)
            look_for_silent_agents(m, now);
        know_tick(m->know, now + bs->wall_ns);
        settle(m, now + bs->wall_ns);
    }
    if (agents)
        bs->next_agents = now + AGENTS_NS;
    if (now >= bs->next_save) {
        brains_save(bs);
        bs->next_save = now + SAVE_NS;
    }
    if (!list_empty(&bs->all))
        loop_timer_set(bs->fleet->loop, t, now + tick_of(bs, busy));
}

/* --- birth and death ---------------------------------------------------------------------------
 */

struct brains *
brains_new(struct fleet *f)
{
    struct brains *bs = mc_alloc(sizeof(*bs));

    bs->fleet = f;
    bs->n_pipes = f->n_workers;
    bs->pipes = mc_alloc_lines(bs->n_pipes * sizeof(*bs->pipes));
    for (unsigned i = 0; i < bs->n_pipes; i++) {
        ring_init(&bs->pipes[i].events, PIPE_EVENTS, sizeof(struct brain_event));
        ring_init(&bs->pipes[i].shapes, PIPE_SHAPES, sizeof(struct brain_shape));
        ring_init(&bs->pipes[i].words, PIPE_WORDS, sizeof(struct brain_word));
    }
    list_init(&bs->all);
    bs->timer.fn = on_timer;
    bs->wall_ns = units_wall_ns() - units_clock_ns();
    return bs;
}

void
brains_free(struct brains **bp)
{
    struct brains *bs = *bp;

    if (!bs)
        return;
    *bp = NULL;
    brains_adopt(bs, NULL, 0);
    if (bs->fleet->loop)
        loop_timer_clear(bs->fleet->loop, &bs->timer);
    LIST_FOREACH_SAFE (it, next, &bs->all) {
        LIST_ENTRY(it, struct mind, link)->of = NULL;
        list_remove(it);
    }
    for (unsigned i = 0; i < bs->n_pipes; i++) {
        ring_fini(&bs->pipes[i].events);
        ring_fini(&bs->pipes[i].shapes);
        ring_fini(&bs->pipes[i].words);
    }
    brains_drop_carried(bs);
    free(bs->pipes);
    free(bs->others);
    free(bs->dir);
    free(bs);
}

void
brains_set_dir(struct brains *bs, const char *dir)
{
    free(bs->dir);
    bs->dir = dir ? mc_strdup(dir) : NULL;
    bs->next_save = units_clock_ns() + SAVE_NS;
}

struct brain_pipe *
brains_pipe(struct brains *bs, unsigned worker)
{
    MC_ASSERT(worker < bs->n_pipes);
    return &bs->pipes[worker];
}

/* Windows are as long as the reports that fill them are apart. */
static mc_ns
window_of(const struct pool_conf *c)
{
    mc_ns window = WINDOW_NS;

    for (unsigned i = 0; i < c->n_servers; i++) {
        mc_ns every = brain_agent_interval(&c->servers[i], c->report_interval_ns);

        window = every > window ? every : window;
    }
    return window;
}

static unsigned
classes_of(const struct pool_conf *c)
{
    return c->n_classes > 0 ? c->n_classes : CLASS_DEFAULT;
}

static void
make_view(struct mind *m, const struct pool *p)
{
    unsigned n = p->view.n;
    struct place_load **load = mc_alloc((n + 1) * sizeof(struct place_load *));
    uint64_t *id_hash = mc_alloc((n + 1) * sizeof(*id_hash));

    m->servers = mc_alloc((n + 1) * sizeof(struct server *));
    for (unsigned i = 0; i < n; i++) {
        m->servers[i] = server_ref(p->servers[i]);
        load[i] = &p->servers[i]->load;
        id_hash[i] = p->servers[i]->name_hash;
    }
    m->view = (struct place_view){.load = load, .id_hash = id_hash, .n = n};
    m->view.table = m->pub.table = load_table_new(n, id_hash);
}

/* Each worker's on cache lines of its own. */
static void
make_readers(struct mind *m, unsigned n_workers)
{
    m->n_readers = n_workers;
    m->pub.readers = mc_alloc_lines((n_workers + 1) * sizeof(*m->pub.readers));
    for (unsigned i = 0; i < n_workers; i++)
        m->pub.readers[i].ears = mc_alloc_lines(m->view.n * sizeof(struct brain_ear));
}

static struct mind *
mind_new(struct brains *bs, const struct pool *p)
{
    struct mind *m = mc_alloc(sizeof(*m));
    mc_ns now = units_clock_ns() + bs->wall_ns;
    struct company *c = bs->fleet->company;
    struct know_conf kc = {
        .id = c ? c->id : 1,
        /* a later brain of the pool speaks behind this one */
        .boot = c ? c->boot++ : (uint64_t)(units_wall_ns() / MC_SEC),
        .n_classes = classes_of(&p->conf),
        .window_ns = window_of(&p->conf),
        .tick_ns = c ? TICK_SHARED : TICK_NS,
        /* setting aside is fleet's, by rules that the operator knows */
        .without = 1u << KNOW_EJECT,
        .pool = share_pool_key(str_of(p->conf.name)),
        .budget_bytes_per_s = c ? c->bytes_per_s : 0,
        .send = c ? brain_share : NULL,
        .arg = m,
    };

    m->of = bs;
    m->pool_name = mc_strdup(p->conf.name);
    m->window_ns = kc.window_ns;
    make_view(m, p);
    m->know = know_new(&kc, &m->view, m->pub.table, now);
    know_set_members(m->know, bs->others, bs->n_others);
    m->pub.costs = m->know->costs;
    m->pub.wall_ns = bs->wall_ns;
    class_set_init(&m->classes, kc.n_classes);
    m->requests = mc_alloc(kc.n_classes * sizeof(*m->requests));
    m->agents = mc_alloc((m->view.n + 1) * sizeof(struct brain_agent *));
    atomic_init(&m->pub.map, class_set_map(&m->classes));
    make_readers(m, bs->n_pipes);
    list_push_back(&bs->all, &m->link);
    return m;
}

static void
mind_free(struct mind *m)
{
    const struct class_map *map = atomic_load(&m->pub.map);

    for (struct old_map *o = m->old_maps, *next; o; o = next) {
        next = o->next;
        free((void *)o->map);
        free(o);
    }
    free((void *)map);
    know_free(&m->know);
    load_table_free(&m->pub.table);
    class_set_fini(&m->classes);
    for (unsigned i = 0; i < m->view.n; i++)
        server_unref(&m->servers[i]);
    free(m->servers);
    free((void *)m->view.load);
    free((void *)m->view.id_hash);
    for (unsigned i = 0; i < m->n_readers; i++)
        free(m->pub.readers[i].ears);
    free(m->pub.readers);
    free(m->requests);
    free(m->agents);
    free(m->pool_name);
    free(m);
}

static bool
knows(const struct mind *m, const struct pool *p)
{
    if (m->view.n != p->view.n || m->window_ns != window_of(&p->conf) ||
        m->classes.n_classes != classes_of(&p->conf) || strcmp(m->pool_name, p->conf.name) != 0)
        return false;
    for (unsigned i = 0; i < m->view.n; i++)
        if (m->servers[i] != p->servers[i])
            return false;
    return true;
}

struct brain *
brain_get(struct brains *bs, const struct pool *p)
{
    struct mind *m = NULL;

    LIST_FOREACH (it, &bs->all)
        if (knows(LIST_ENTRY(it, struct mind, link), p))
            m = LIST_ENTRY(it, struct mind, link);
    if (!m)
        m = mind_new(bs, p);
    m->refs++;
    return &m->pub;
}

void
brain_unref(struct brain **bp)
{
    struct mind *m;

    if (!*bp)
        return;
    m = mind_of(*bp);
    *bp = NULL;
    if (--m->refs > 0)
        return;
    if (m->of) {
        brains_drain(m->of); /* what is on its way may be for this one */
        for (unsigned i = 0; i < m->view.n; i++)
            brain_agent_free(&m->agents[i]);
        list_remove(&m->link);
    }
    mind_free(m);
}

/* --- putting in force --------------------------------------------------------------------------
 */

struct str
brain_class_name(void *arg, unsigned class)
{
    return class_set_name(&((struct mind *)arg)->classes, class);
}

int
brain_class_named(void *arg, struct str name)
{
    struct mind *m = arg;

    for (unsigned c = 0; c < m->classes.n_classes; c++)
        if (str_eq(class_set_name(&m->classes, c), name))
            return (int)c;
    return -1;
}

static void
pin_rules(struct mind *m, const struct class_rules *rules)
{
    if (class_set_pin(&m->classes, rules, class_changed, m) > 0)
        publish_map(m);
}

/* Those of rules that are gone stay behind, as do the lightest when there is room for fewer. */
static void
copy_classes(struct mind *m, const struct mind *from)
{
    for (unsigned c = 1; c < from->classes.n_classes; c++) {
        const struct class_counter *k;

        if (!class_set_name(&from->classes, c).p)
            continue;
        k = &from->classes.counter[from->classes.of_class[c]];
        if (!k->pinned || class_set_find(&m->classes, k->hash) != 0)
            class_set_note(&m->classes, k->hash, str_of(k->name), k->weight);
    }
    brain_give_classes(m);
    for (unsigned c = 0; c < m->classes.n_classes; c++) {
        struct str name = class_set_name(&m->classes, c);
        int was = name.p ? brain_class_named((void *)from, name) : -1;

        m->requests[c] = was < 0 ? 0 : from->requests[was];
    }
}

/* The pool has other servers now, or another number of classes: requests cost what they did, and
 * who stays is as fast as he was.
 */
static void
inherit(struct mind *m, struct mind *from)
{
    struct buf text = {0};

    copy_classes(m, from);
    know_save(from->know, brain_class_name, from, &text);
    know_load(m->know, (struct str){text.p, text.n}, brain_class_named, m);
    buf_free(&text);
    for (unsigned i = 0; i < m->view.n; i++)
        for (unsigned k = 0; k < from->view.n; k++)
            if (m->servers[i] == from->servers[k])
                m->know->learn.server[i].factor = from->know->learn.server[k].factor;
}

static struct mind *
former_of(struct brains *bs, const struct mind *m)
{
    LIST_FOREACH (it, &bs->all) {
        struct mind *o = LIST_ENTRY(it, struct mind, link);

        if (o != m && o->was_in_force && strcmp(o->pool_name, m->pool_name) == 0)
            return o;
    }
    return NULL;
}

static void
begin(struct mind *m, const struct pool *p)
{
    struct mind *former = m->was_in_force ? NULL : former_of(m->of, m);

    m->in_force = true;
    pin_rules(m, &p->conf.rules);
    if (former)
        inherit(m, former);
    else if (!m->was_in_force)
        brain_remember(m);
    m->pool = p;
    brain_follow_agents(m);
}

static void
rest(struct mind *m)
{
    m->pool = NULL;
    for (unsigned i = 0; i < m->view.n; i++)
        brain_agent_free(&m->agents[i]);
}

void
brains_adopt(struct brains *bs, struct pool *const *pools, unsigned n)
{
    LIST_FOREACH (it, &bs->all) {
        struct mind *m = LIST_ENTRY(it, struct mind, link);

        m->was_in_force = m->in_force;
        m->in_force = false;
    }
    for (unsigned i = 0; i < n; i++)
        if (pools[i]->brain)
            begin(mind_of(pools[i]->brain), pools[i]);
    LIST_FOREACH (it, &bs->all)
        if (!LIST_ENTRY(it, struct mind, link)->in_force)
            rest(LIST_ENTRY(it, struct mind, link));
    if (bs->fleet->loop && !list_empty(&bs->all) && !timer_is_set(&bs->timer))
        on_timer(&bs->timer);
}

/* --- for display -------------------------------------------------------------------------------
 */

unsigned
brain_n_classes(const struct brain *b)
{
    return mind_of((struct brain *)b)->classes.n_classes;
}

unsigned
brain_class_of(const struct pool *p, struct str route, const struct http_head *h)
{
    char text[BRAIN_NAME_MAX];
    bool rule;

    return class_set_find(&mind_of(p->brain)->classes,
                          class_hash(brain_name(p, route, h, text, &rule)));
}

bool
brain_class_at(const struct brain *b, unsigned class, struct brain_class *out)
{
    const struct mind *m = mind_of((struct brain *)b);
    struct learn *l = &m->know->learn;
    double all = 0;

    *out = (struct brain_class){.name = class_set_name(&m->classes, class)};
    if (!out->name.p)
        return false;
    for (unsigned c = 0; c < m->classes.n_classes; c++)
        all += l->all.cpu_s[c];
    out->rule = class_set_is_pinned(&m->classes, class);
    out->cost = learn_cost(l, class);
    out->doubt = learn_doubt(l, class);
    out->told = l->class[class].told_s > 0;
    out->phi = l->class[class].phi;
    out->mem_bytes = l->class[class].mem_mb * 1e6;
    out->share = all > 0 ? l->all.cpu_s[class] / all : 0;
    out->requests = m->requests[class];
    return true;
}

static void
show_said(const struct mind *m, unsigned server, mc_ns wall, struct brain_said *out)
{
    const struct know_word *w = &m->know->word[server];
    enum report_fault fault = w->n_untrue > 0 ? REPORT_F_RANGE : REPORT_F_NONE;
    bool any = w->last.at_ns > 0;

    *out = (struct brain_said){.refused = w->n_untrue,
                               .age = any ? wall - w->last.at_ns : MC_NEVER_NS,
                               .cpu = any ? (double)w->last.cpu : -1,
                               .application = any ? (double)w->last.application : -1,
                               .memory = any ? (double)w->last.memory : -1,
                               .price = lean_price(&m->know->lean[server])};
    for (unsigned i = 0; i < m->n_readers; i++) {
        struct brain_ear *e = &m->pub.readers[i].ears[server];

        out->reports += stat_get(&e->reports);
        out->refused += stat_get(&e->refused);
        if (stat_get(&e->refused) > 0)
            fault = (enum report_fault)atomic_load_explicit(&e->fault, memory_order_relaxed);
    }
    out->why = fault == REPORT_F_NONE ? "" : report_fault_text(fault);
}

void
brain_server_at(const struct brain *b, unsigned server, struct brain_server *out)
{
    const struct mind *m = mind_of((struct brain *)b);
    const struct know_host *h = &m->know->host[server];
    mc_ns wall = units_clock_ns() + m->pub.wall_ns;

    *out = (struct brain_server){.age = MC_NEVER_NS,
                                 .cores = -1,
                                 .cpu = -1,
                                 .pressure = -1,
                                 .factor = m->know->learn.server[server].factor,
                                 .other = h->other / (double)COST_ONE,
                                 .why = "",
                                 .report_seq = h->seq,
                                 .report_age = h->at_ns > 0 ? wall - h->at_ns : MC_NEVER_NS};
    show_said(m, server, wall, &out->said);
    if (m->agents[server])
        brain_agent_show(m->agents[server], loop_now(m->of->fleet->loop), out);
}
