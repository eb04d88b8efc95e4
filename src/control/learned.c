/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learned.c - what was learned of requests and servers, see learned.h.
 */
#include "control/learned.h"

#include <inttypes.h>

#include "base/check.h"

/* --- as JSON -----------------------------------------------------------------------------------
 */

static json_t *
known(bool is, double value)
{
    return is ? json_real(value) : json_null();
}

static json_t *
one_class(const struct pool *p, const struct brain_class *c)
{
    bool is = c->cost.known;

    return json_pack("{s:s, s:s%, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:I}", "pool",
                     p->conf.name, "class", c->name.p, c->name.n, "rule", (int)c->rule, "known",
                     (int)is, "told", (int)c->told, "cpu_ms",
                     known(is, (double)c->cost.cpu_s * 1e3), "doubt", known(is, c->doubt.cpu),
                     "phi", known(is, c->phi), "phi_doubt", known(is, c->doubt.phi), "memory_bytes",
                     known(is, c->mem_bytes), "memory_doubt", known(is, c->doubt.mem * 1e6),
                     "share", c->share, "requests", (json_int_t)c->requests);
}

json_t *
learned_costs(const struct node *n)
{
    json_t *list = json_array();
    struct brain_class c;

    for (unsigned i = 0; i < n->current->n_pools; i++) {
        const struct pool *p = n->current->pools[i];

        for (unsigned k = 0; p->brain != NULL && k < brain_n_classes(p->brain); k++)
            if (brain_class_at(p->brain, k, &c))
                json_array_append_new(list, one_class(p, &c));
    }
    return json_pack("{s:o, s:I}", "classes", list, "untold",
                     (json_int_t)brains_lost(fleet_brains(n->build.fleet)));
}

static json_t *
one_agent(const struct brain_server *s)
{
    bool heard = s->age != MC_NEVER_NS;

    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:s}", "age_ms",
                     known(heard, (double)s->age / (double)MC_MS), "cores",
                     known(s->cores >= 0, s->cores), "cpu", known(s->cpu >= 0, s->cpu), "pressure",
                     known(s->pressure >= 0, s->pressure), "reports", (json_int_t)s->reports,
                     "refused", (json_int_t)s->refused, "failures", (json_int_t)s->failures, "why",
                     s->why);
}

/* What its responses say; null when that is nothing. */
static json_t *
responses_say(const struct brain_said *s)
{
    bool heard = s->age != MC_NEVER_NS;

    if (s->reports == 0 && s->refused == 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:f, s:I, s:I, s:s}", "age_ms",
                     known(heard, (double)s->age / (double)MC_MS), "cpu",
                     known(s->cpu >= 0, s->cpu), "application",
                     known(s->application >= 0, s->application), "memory",
                     known(s->memory >= 0, s->memory), "price", s->price, "reports",
                     (json_int_t)s->reports, "refused", (json_int_t)s->refused, "why", s->why);
}

json_t *
learned_server(const struct pool *p, unsigned index)
{
    struct brain_server s;
    bool any;

    if (p->brain == NULL)
        return NULL;
    brain_server_at(p->brain, index, &s);
    any = s.report_age != MC_NEVER_NS;
    return json_pack("{s:f, s:f, s:o, s:o, s:o, s:o}", "factor", s.factor, "other_load", s.other,
                     "agent", s.has_agent ? one_agent(&s) : json_null(), "report_seq",
                     any ? json_integer((json_int_t)s.report_seq) : json_null(), "report_age_ms",
                     known(any, (double)s.report_age / (double)MC_MS), "orca",
                     responses_say(&s.said));
}

json_t *
learned_words(const struct pool *p, unsigned index)
{
    struct brain_server s;
    json_t *j;

    if (!pool_words_at(p, index, &s))
        return NULL;
    j = one_agent(&s);
    json_object_set_new(j, "weight_share", json_real(s.share));
    json_object_set_new(j, "max_concurrent", json_integer(s.max_in_flight));
    return j;
}

/* --- for Prometheus ----------------------------------------------------------------------------
 */

struct class_metric {
    const char *name, *type, *help;
    double (*value)(const struct brain_class *);
};

static double
class_cpu(const struct brain_class *c)
{
    return (double)c->cost.cpu_s;
}

static double
class_phi(const struct brain_class *c)
{
    return c->phi;
}

static double
class_mem(const struct brain_class *c)
{
    return c->mem_bytes;
}

static double
class_doubt(const struct brain_class *c)
{
    return c->doubt.cpu;
}

static double
class_share(const struct brain_class *c)
{
    return c->share;
}

static double
class_requests(const struct brain_class *c)
{
    return (double)c->requests;
}

static const struct class_metric class_metrics[] = {
    {"cpu_seconds", "gauge", "CPU that a request needs on the average server", class_cpu},
    {"phi", "gauge", "cores that a request keeps busy while it is under way", class_phi},
    {"memory_bytes", "gauge", "memory that a request holds while it is under way", class_mem},
    {"doubt", "gauge", "standard error of the CPU cost, as a share of it", class_doubt},
    {"share", "gauge", "share of the CPU that the servers spent lately", class_share},
    {"requests_total", "counter", "attempts that were begun", class_requests},
};

struct server_metric {
    const char *name, *type, *help;
    double (*value)(const struct brain_server *); /* negative: not known */
};

static double
agent_age(const struct brain_server *s)
{
    return s->age == MC_NEVER_NS ? -1 : (double)s->age / (double)MC_SEC;
}

static double
agent_cpu(const struct brain_server *s)
{
    return s->cpu;
}

static double
agent_pressure(const struct brain_server *s)
{
    return s->pressure;
}

static double
agent_reports(const struct brain_server *s)
{
    return (double)s->reports;
}

static double
agent_refused(const struct brain_server *s)
{
    return (double)s->refused;
}

static double
agent_failures(const struct brain_server *s)
{
    return (double)s->failures;
}

static double
orca_cpu(const struct brain_server *s)
{
    return s->said.cpu;
}

static double
orca_price(const struct brain_server *s)
{
    return s->said.price;
}

static double
orca_reports(const struct brain_server *s)
{
    return (double)s->said.reports;
}

static double
orca_refused(const struct brain_server *s)
{
    return (double)s->said.refused;
}

static const struct server_metric agent_metrics[] = {
    {"age_seconds", "gauge", "since the last report was true", agent_age},
    {"cpu_utilization", "gauge", "CPU in use, of what the service may have", agent_cpu},
    {"cpu_pressure", "gauge", "share of time in which somebody waited for CPU", agent_pressure},
    {"reports_total", "counter", "reports that were believed", agent_reports},
    {"refused_total", "counter", "reports that made no sense", agent_refused},
    {"failures_total", "counter", "connections that broke, failed or stalled", agent_failures},
};

static const struct server_metric orca_metrics[] = {
    {"cpu_utilization", "gauge", "CPU in use, as responses told last", orca_cpu},
    {"price", "gauge", "what the factor is multiplied by for it", orca_price},
    {"reports_total", "counter", "reports in responses that were believed", orca_reports},
    {"refused_total", "counter", "reports in responses that made no sense", orca_refused},
};

/* A shape holds what clients wrote. */
static void
escaped(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_printf(b, "%s%c", s.p[i] == '"' || s.p[i] == '\\' ? "\\" : "", s.p[i]);
}

static void
class_family(const struct node *n, const struct class_metric *m, struct buf *b)
{
    struct brain_class c;

    buf_printf(b, "# HELP meercat_class_%s %s\n# TYPE meercat_class_%s %s\n", m->name, m->help,
               m->name, m->type);
    for (unsigned i = 0; i < n->current->n_pools; i++) {
        const struct pool *p = n->current->pools[i];

        for (unsigned k = 0; p->brain != NULL && k < brain_n_classes(p->brain); k++) {
            if (!brain_class_at(p->brain, k, &c) || !c.cost.known)
                continue;
            buf_printf(b, "meercat_class_%s{proxy=\"%s\",class=\"", m->name, p->conf.name);
            escaped(b, c.name);
            buf_printf(b, "\"} %.9g\n", m->value(&c));
        }
    }
}

static bool
has_agent(const struct pool *p, unsigned server, struct brain_server *out)
{
    if (pool_words_at(p, server, out))
        return true;
    if (p->brain == NULL)
        return false;
    brain_server_at(p->brain, server, out);
    return out->has_agent;
}

static bool
has_brain(const struct pool *p, unsigned server, struct brain_server *out)
{
    if (p->brain == NULL)
        return false;
    brain_server_at(p->brain, server, out);
    return true;
}

/* Fills *out for a server that has it. */
typedef bool has_f(const struct pool *, unsigned server, struct brain_server *out);

/* meercat_TREE_*, of the servers that have it. */
static void
server_family(const struct node *n, const char *tree, has_f *has, const struct server_metric *m,
              struct buf *b)
{
    struct brain_server s;

    buf_printf(b, "# HELP meercat_%s_%s %s\n# TYPE meercat_%s_%s %s\n", tree, m->name, m->help,
               tree, m->name, m->type);
    for (unsigned i = 0; i < n->current->n_pools; i++) {
        const struct pool *p = n->current->pools[i];

        for (unsigned k = 0; k < p->view.n; k++) {
            if (has(p, k, &s) && m->value(&s) >= 0)
                buf_printf(b, "meercat_%s_%s{proxy=\"%s\",server=\"%s\"} %.9g\n", tree, m->name,
                           p->conf.name, p->servers[k]->name, m->value(&s));
        }
    }
}

static void
factor_family(const struct node *n, struct buf *b)
{
    struct brain_server s;

    buf_printf(b, "# HELP meercat_server_factor how much slower than the average server\n"
                  "# TYPE meercat_server_factor gauge\n");
    for (unsigned i = 0; i < n->current->n_pools; i++) {
        const struct pool *p = n->current->pools[i];

        for (unsigned k = 0; p->brain != NULL && k < p->view.n; k++) {
            brain_server_at(p->brain, k, &s);
            buf_printf(b, "meercat_server_factor{proxy=\"%s\",server=\"%s\"} %.6g\n", p->conf.name,
                       p->servers[k]->name, s.factor);
        }
    }
}

void
learned_metrics(const struct node *n, struct buf *b)
{
    bool any_brain = false, any_agent = false;
    struct brain_server s;

    for (unsigned i = 0; i < n->current->n_pools; i++) {
        const struct pool *p = n->current->pools[i];

        any_brain |= p->brain != NULL;
        for (unsigned k = 0; k < p->view.n && !any_agent; k++)
            any_agent = has_agent(p, k, &s);
    }
    for (size_t i = 0; any_brain && i < MC_COUNT(class_metrics); i++)
        class_family(n, &class_metrics[i], b);
    for (size_t i = 0; any_agent && i < MC_COUNT(agent_metrics); i++)
        server_family(n, "agent", has_agent, &agent_metrics[i], b);
    for (size_t i = 0; any_brain && i < MC_COUNT(orca_metrics); i++)
        server_family(n, "orca", has_brain, &orca_metrics[i], b);
    if (any_brain)
        factor_family(n, b);
}
