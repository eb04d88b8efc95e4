/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explained.c - what would become of a request now, see explained.h.
 *
 * The question is written as a request and read by the parser of requests, so that it is routed,
 * classed and refused as one; then place/explain.h says what the pool's policy would do.
 */
#include "control/explained.h"

#include <stdlib.h>

#include "base/check.h"
#include "http/h1.h"
#include "place/explain.h"

/* --- the question -------------------------------------------------------------------------------
 */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)str_lower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Adds what the percent-encoded text stands for (RFC 3986 2.1).  A control character could begin
 * another line. */
static bool
add_decoded(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '%') {
            int high = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
            int low = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if ((unsigned char)c < ' ' || c == 0x7f)
            return false;
        buf_add(b, &c, 1);
    }
    return true;
}

struct question {
    struct str method, url;
    struct buf fields; /* lines */
    bool has_host;
};

static bool
take_field(struct question *q, struct str value)
{
    size_t from = q->fields.n;

    /* an empty line would end the head */
    if (!add_decoded(&q->fields, value) || q->fields.n == from)
        return false;
    q->has_host |=
        q->fields.n - from > 4 && str_eq_ci((struct str){q->fields.p + from, 5}, STR("host:"));
    buf_str(&q->fields, STR("\r\n"));
    return true;
}

static bool
take(struct question *q, struct str name, struct str value, struct errbuf *e)
{
    if (str_eq(name, STR("method"))) {
        q->method = value;
    } else if (str_eq(name, STR("url"))) {
        q->url = value;
    } else if (!str_eq(name, STR("field"))) {
        err_set(e, "\"" STR_FMT "\" is not known, expected method, url or field", STR_ARG(name));
        return false;
    } else if (!take_field(q, value)) {
        err_set(e, "field: expected NAME: VALUE, percent-encoded");
        return false;
    }
    return true;
}

static bool
read_question(struct question *q, struct str query, struct errbuf *e)
{
    while (query.p != NULL) {
        struct str value = str_cut(&query, '&'), name = str_cut(&value, '=');

        if ((name.n > 0 || value.p != NULL) && !take(q, name, value, e))
            return false;
    }
    if (q->url.n > 0)
        return true;
    err_set(e, "no url, expected url=");
    return false;
}

/* The host of "http://host/path", empty when the URL is a path. */
static struct str
host_of(struct str url)
{
    const char *slashes = memmem(url.p, url.n, "://", 3);
    size_t n = 0;

    if (url.p[0] == '/' || slashes == NULL)
        return STR("");
    url.n -= (size_t)(slashes + 3 - url.p);
    url.p = slashes + 3;
    while (n < url.n && url.p[n] != '/' && url.p[n] != '?')
        n++;
    return (struct str){url.p, n};
}

static bool
write_request(const struct question *q, struct buf *b, struct errbuf *e)
{
    size_t from, to;

    if (!add_decoded(b, q->method.n > 0 ? q->method : STR("GET"))) {
        err_set(e, "method: expected a word like GET");
        return false;
    }
    buf_str(b, STR(" "));
    from = b->n;
    if (!add_decoded(b, q->url) || (to = b->n) == from) {
        err_set(e, "url: expected a path or http://HOST/PATH, percent-encoded");
        return false;
    }
    buf_str(b, STR(" HTTP/1.1\r\n"));
    if (!q->has_host) {
        struct str host = host_of((struct str){b->p + from, to - from});
        char *copy = str_dup(host); /* the buffer may move */

        buf_printf(b, "Host: %s\r\n", copy);
        free(copy);
    }
    buf_add(b, q->fields.p ? q->fields.p : "", q->fields.n);
    buf_str(b, STR("\r\n"));
    return true;
}

enum mc_err
explained_read(struct explained_ask *a, struct str query, struct errbuf *e)
{
    struct question q = {.method = STR_NONE};
    enum h1_fault fault;
    bool ok;

    *a = (struct explained_ask){.text = {0}};
    arena_init(&a->arena, NULL);
    ok = read_question(&q, query, e) && write_request(&q, &a->text, e);
    buf_free(&q.fields);
    if (!ok)
        return MC_EINVAL;
    fault = h1_parse_request(&a->head, a->text.p, a->text.n, &h1_default_limits, &a->arena);
    if (fault == H1_NONE && a->head.method != HTTP_M_CONNECT)
        return MC_OK;
    err_set(e, "%s", fault != H1_NONE ? h1_fault_text(fault) : "CONNECT is not forwarded");
    return MC_EINVAL;
}

void
explained_free(struct explained_ask *a)
{
    arena_drop(&a->arena);
    buf_free(&a->text);
}

/* --- the answer ---------------------------------------------------------------------------------
 */

static json_t *
text_of(struct str s)
{
    json_t *j = json_stringn(s.p ? s.p : "", s.n);

    return j != NULL ? j : json_string("(not UTF-8)");
}

static json_t *
known(bool is, double value)
{
    return is ? json_real(value) : json_null();
}

/* Why a server is not to be used, in the words of who said so. */
static void
closed_words(const struct pool *p, unsigned i, const char **verdict, const char **why,
             const struct health *h)
{
    if (h->state != HEALTH_UP) {
        *verdict = health_state_text(h->state);
        *why = h->reason;
    } else if (atomic_load(&p->servers[i]->load.weight) == 0) {
        *verdict = "weight";
        *why = "its weight is 0";
    } else if (p->conf.servers[i].backup) {
        *verdict = "backup";
        *why = "it waits until no other server can";
    }
}

static json_t *
one_server(const struct pool *p, unsigned i, const struct explain_server *s)
{
    const char *verdict = explain_name(s->verdict), *why = explain_text(s->verdict);
    struct health h;

    server_health_copy(p->servers[i], &h);
    if (s->verdict == EXPLAIN_CLOSED)
        closed_words(p, i, &verdict, &why, &h);
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "name", p->servers[i]->name,
        "state", health_state_text(h.state), "verdict", verdict, "why", text_of(str_of(why)),
        "in_flight", (int)atomic_load(&p->servers[i]->load.in_flight), "max_concurrent",
        (int)p->conf.servers[i].max_concurrent, "score", known(s->scored, s->score), "price",
        known(s->scored, s->price), "home", s->scored ? json_boolean(s->home) : json_null(),
        "wanted", known(s->scored, s->wanted), "cores", known(s->scored && s->cores >= 0, s->cores),
        "factor", known(s->scored, s->factor));
}

static json_t *
class_json(const struct brain_class *c)
{
    const bool is = c->cost.known;

    return json_pack("{s:o, s:b, s:b, s:b, s:o, s:o, s:o}", "name", text_of(c->name), "rule",
                     (int)c->rule, "known", (int)is, "heavy", (int)cost_is_heavy(&c->cost),
                     "cpu_ms", known(is, (double)c->cost.cpu_s * 1e3), "phi", known(is, c->phi),
                     "memory_bytes", known(is, c->mem_bytes));
}

/* Behind those who wait, or because nothing is free. */
static bool
would_wait(const struct pool *p, const struct explain *e)
{
    const struct pool_live *l = p->live;

    return (p->conf.max_concurrent != 0 &&
            atomic_load(&l->in_flight) >= (int32_t)p->conf.max_concurrent) ||
           atomic_load(&l->queued) > 0 || (e->settled && e->answer.reason == PLACE_FULL);
}

/* What would become of the request in the pool, as words for programs and for people. */
static void
add_outcome(json_t *j, const struct pool *p, const struct explain *e)
{
    const int32_t i = e->answer.index;

    json_object_set_new(j, "server",
                        e->settled && i >= 0 ? json_string(p->servers[i]->name) : json_null());
    json_object_set_new(
        j, "reason", e->settled ? json_string(place_reason_name(e->answer.reason)) : json_null());
    json_object_set_new(j, "text",
                        json_string(e->settled ? place_reason_text(e->answer.reason)
                                               : "one of the eligible, by chance or in turn"));
    json_object_set_new(j, "waits", json_boolean(would_wait(p, e)));
}

static void
add_pool(json_t *j, const struct node *n, const struct pool *p, struct str route,
         const struct http_head *h)
{
    struct explain_server *servers = mc_alloc((p->view.n + 1) * sizeof(*servers));
    struct str key = pool_hash_key(&p->conf, h, STR_NONE); /* nobody asks: there is no address */
    struct place_ask ask = {
        .has_key = key.n > 0, .key = str_hash(key, 0), .now = loop_now(n->loop)};
    struct brain_class class;
    struct place_cost cost;
    json_t *list = json_array();
    struct explain e;
    struct rng rng;

    rng_seed(&rng, (uint64_t)units_clock_ns());
    if (p->brain != NULL) {
        unsigned c = brain_class_of(p, route, h);

        cost = cost_read(p->brain->costs, c);
        ask.cost = &cost;
        ask.now += p->brain->wall_ns;
        if (brain_class_at(p->brain, c, &class))
            json_object_set_new(j, "class", class_json(&class));
    }
    e = explain_pick(p->conf.policy, p->policy_shared, &p->view, &ask, &rng, servers);
    add_outcome(j, p, &e);
    for (unsigned i = 0; i < p->view.n; i++)
        json_array_append_new(list, one_server(p, i, &servers[i]));
    json_object_set_new(j, "servers", list);
    free(servers);
}

json_t *
explained(const struct node *n, const struct http_head *h)
{
    const struct snapshot *s = n->current;
    const struct route *r =
        route_find(s->routes, s->n_routes, http_host_only(h->authority), h->path);
    json_t *j = json_pack(
        "{s:{s:o, s:o, s:o}, s:o, s:o, s:o, s:n}", "request", "method", text_of(h->method_text),
        "host", text_of(h->authority), "path", text_of(h->path), "route",
        r ? text_of(str_of(r->conf.name)) : json_null(), "pool",
        r ? text_of(str_of(r->conf.pool)) : json_null(), "balance",
        r ? text_of(str_of(s->pools[r->pool_index]->conf.policy->name)) : json_null(), "class");

    if (r != NULL)
        add_pool(j, n, s->pools[r->pool_index], r->in_class ? str_of(r->conf.name) : STR_NONE, h);
    return j;
}
