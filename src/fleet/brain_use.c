/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_use.c - the workers' half of a brain, see brain.h.
 */
#include "base/check.h"
#include "fleet/brain_priv.h"
#include "fleet/pool.h"
#include "http/msg.h"
#include "place/report.h"

/* A server's load is of its last second or so: more often it has nothing new to say. */
#define WORD_NS (10 * MC_MS)

/* The map is replaced while workers look into it.  Each shows which one it looks into before it
 * makes sure that this is still the present one; control looks at what is shown after it has put
 * another one in place, both in one total order, so that one of the two sees the other (hazard
 * pointers, Michael 2004). */
static uint16_t
look_up(struct brain *b, struct brain_reader *r, uint64_t hash)
{
    const struct class_map *m = atomic_load_explicit(&b->map, memory_order_acquire), *again;
    uint16_t class;

    for (;; m = again) {
        atomic_store_explicit(&r->map, m, memory_order_seq_cst);
        again = atomic_load_explicit(&b->map, memory_order_seq_cst);
        if (again == m)
            break;
    }
    class = class_map_find(m, hash);
    atomic_store_explicit(&r->map, NULL, memory_order_release);
    return class;
}

/* "GET /users/{}", or "api GET /users/{}" of the route api. */
static struct str
shape_of(struct str route, const struct http_head *h, char out[BRAIN_NAME_MAX])
{
    size_t n = 0;

    if (route.n > 0) {
        n = route.n < CLASS_NAME_MAX / 2 ? route.n : CLASS_NAME_MAX / 2;
        memcpy(out, route.p, n);
        out[n++] = ' ';
    }
    n += class_fold(h->method_text, h->path, out + n);
    return (struct str){out, n < CLASS_NAME_MAX ? n : CLASS_NAME_MAX - 1};
}

static struct str
field_of(const void *head, struct str name, unsigned i)
{
    const struct http_head *h = head;

    for (unsigned k = 0; k < h->n_fields; k++) {
        const struct http_field *f = &h->fields[k];

        if (str_eq_ci((struct str){f->name, f->name_len}, name) && i-- == 0)
            return http_field_value(f);
    }
    return STR_NONE;
}

static const struct class_rule *__attribute__((noinline))
rule_for(const struct class_rules *rules, const struct http_head *h)
{
    const struct class_ask ask = {h->method_text, h->path, field_of, h};

    return class_rule_find(rules, &ask);
}

struct str
brain_name(const struct pool *p, struct str route, const struct http_head *h,
           char text[BRAIN_NAME_MAX], bool *rule)
{
    const struct class_rule *r = p->conf.rules.n > 0 ? rule_for(&p->conf.rules, h) : NULL;

    *rule = r != NULL;
    return r ? str_of(r->name) : shape_of(route, h, text);
}

static void
tell_shape(struct brain *b, struct brain_pipe *p, uint64_t hash, struct str name, float weight)
{
    struct brain_shape *s = ring_slot(&p->shapes);

    if (!s)
        return;
    s->brain = b;
    s->hash = hash;
    s->weight = weight;
    memcpy(s->name, name.p, name.n);
    s->name[name.n] = '\0';
    ring_send(&p->shapes);
}

/* Control gives a rule its class before workers get the pool, so that there is nothing to tell. */
struct str
brain_look(const struct pool *pool, struct brain_pipe *p, unsigned worker, struct str route,
           const struct http_head *h, char text[BRAIN_NAME_MAX], struct brain_use *u)
{
    struct brain *b = pool->brain;
    bool rule;
    struct str name = brain_name(pool, route, h, text, &rule);
    uint64_t hash = class_hash(name);

    u->class = look_up(b, &b->readers[worker], hash);
    u->cost = cost_read(b->costs, u->class);
    if (u->class != 0)
        return name;
    if (p && !rule)
        tell_shape(b, p, hash, name, u->cost.cpu_s);
    return STR(CLASS_OTHER);
}

static void
tell(struct brain *b, struct brain_pipe *p, const struct brain_use *u, uint32_t server,
     enum place_event_kind kind, mc_ns rtt, mc_ns now)
{
    struct brain_event *e = ring_slot(&p->events);

    MC_ASSERT(e != NULL);
    e->brain = b;
    e->e = (struct place_event){
        .at_ns = now + b->wall_ns,
        .begin_ns = u->begin_ns + b->wall_ns,
        .server = server,
        .class = u->class,
        .kind = (uint8_t)kind,
        .crowd = u->crowd,
        .rtt_us = (uint32_t)(rtt / MC_US),
        .said_s = u->said_s,
        .cost = u->cost,
    };
    ring_send(&p->events);
}

/* A begin without its end would count as in flight for ever: it is told only when there is room for
 * the ends of all that were told, too. */
void
brain_begin(struct brain *b, struct brain_pipe *p, struct brain_use *u, uint32_t server, mc_ns now)
{
    u->said_s = 0;
    u->crowd = load_begin(b->table, server, &u->cost);
    u->begin_ns = now;
    u->told = p && ring_has_room(&p->events, p->n_told + 2);
    if (u->told) {
        p->n_told++;
        tell(b, p, u, server, PLACE_BEGIN, 0, now);
    } else if (p) {
        stat_add(&p->events.n_lost, 1);
    }
}

void
brain_end(struct brain *b, struct brain_pipe *p, struct brain_use *u, uint32_t server,
          enum place_event_kind kind, mc_ns rtt, mc_ns now)
{
    /* what failed is given back by know.c, later */
    if (kind != PLACE_END_FAILED || !u->told)
        load_end(b->table, server, &u->cost);
    if (!u->told)
        return;
    u->told = false;
    p->n_told--;
    tell(b, p, u, server, kind, rtt, now);
}

/* --- what responses say ------------------------------------------------------------------------
 */

static float
said(const struct place_report *r, enum report_field f, double value)
{
    return report_has(r, f) ? (float)value : -1;
}

static void
tell_word(struct brain *b, struct brain_pipe *p, uint32_t server, const struct place_report *r,
          mc_ns now)
{
    struct brain_word *w = ring_slot(&p->words);

    if (!w)
        return;
    w->brain = b;
    w->w = (struct place_word){
        .at_ns = now + b->wall_ns,
        .server = server,
        .cpu = said(r, REPORT_CPU_UTILIZATION, r->cpu_utilization),
        .application = said(r, REPORT_APPLICATION_UTILIZATION, r->application_utilization),
        .memory = said(r, REPORT_MEM_UTILIZATION, r->mem_utilization),
        .rps = said(r, REPORT_RPS, r->rps),
        .eps = said(r, REPORT_EPS, r->eps),
    };
    ring_send(&p->words);
}

#define ON_LOAD                                                            \
    (1u << REPORT_CPU_UTILIZATION | 1u << REPORT_APPLICATION_UTILIZATION | \
     1u << REPORT_MEM_UTILIZATION)

void
brain_hear(struct brain *b, struct brain_pipe *p, unsigned worker, struct brain_use *u,
           uint32_t server, struct str metrics, struct str metrics_bin, mc_ns now)
{
    struct brain_ear *ear = &b->readers[worker].ears[server];
    struct place_report r;
    enum report_fault f = report_parse_orca(metrics, metrics_bin, &r);
    double cpu_s = 0;

    if (f == REPORT_F_NONE)
        f = report_cost_cpu(&r, &cpu_s);
    if (f != REPORT_F_NONE) {
        stat_add(&ear->refused, 1);
        atomic_store_explicit(&ear->fault, f, memory_order_relaxed);
        return;
    }
    stat_add(&ear->reports, 1);
    if (cpu_s > 0)
        u->said_s = (float)cpu_s;
    if (!p || !(r.present & ON_LOAD) || (ear->told_at > 0 && now - ear->told_at < WORD_NS))
        return;
    ear->told_at = now;
    tell_word(b, p, server, &r, now);
}
