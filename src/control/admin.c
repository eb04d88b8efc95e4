/* SPDX-License-Identifier: BSD-2-Clause
 *
 * admin.c - what can be asked of a balancer and told to it.
 */
#include "control/admin.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "control/explained.h"
#include "control/heritage.h"
#include "control/learned.h"
#include "control/member.h"
#include "control/metrics.h"
#include "control/upgrade.h"
#include "control/view.h"
#include "control/vip.h"
#include "httpd/httpd.h"

struct admin {
    struct httpd *httpd;
    char *socket;      /* file to remove; NULL: none was made */
    struct addr at[2]; /* [n_at] where it listens, in the order of httpd_fd() */
    unsigned n_at;
};

/* --- reading ------------------------------------------------------------------------------------
 */

/* Dumps and releases j. */
static void
reply_json(struct httpd_response *r, json_t *j)
{
    char *s = json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(9));

    MC_ASSERT(s != NULL);
    buf_printf(&r->body, "%s\n", s);
    free(s);
    json_decref(j);
}

#define VIEW(name)                                                                             \
    static void get_##name(void *arg, const struct httpd_request *q, struct httpd_response *r) \
    {                                                                                          \
        vip_busy(arg, true);                                                                   \
        reply_json(r, view_##name(arg));                                                       \
        vip_busy(arg, false);                                                                  \
    }
VIEW(status)
VIEW(servers)
VIEW(pools)
VIEW(listeners)
VIEW(routes)
VIEW(config)
#undef VIEW

static void
get_costs(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    reply_json(r, learned_costs(arg));
}

static void
get_explain(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct explained_ask ask;
    struct errbuf e;

    if (explained_read(&ask, q->query, &e) == MC_OK)
        reply_json(r, explained(arg, &ask.head));
    else
        httpd_fail(r, 400, "%s", e.text);
    explained_free(&ask);
}

static void
get_vips(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    reply_json(r, vip_view(arg));
}

/* For programs that ask often whether traffic should come here. */
static void
get_fit(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct buf why = {0};
    bool fit = fit_now(arg, &why);

    r->type = "text/plain; charset=utf-8";
    r->status = fit ? 200 : 503;
    buf_printf(&r->body, "%s\n", fit ? "fit" : why.p);
    buf_free(&why);
}

static void
get_members(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    reply_json(r, member_view(arg));
}

static void
get_healthz(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    const struct node *n = arg;

    r->type = "text/plain; charset=utf-8";
    r->status = n->ending ? 503 : 200;
    buf_printf(&r->body, "%s\n", n->ending ? "ending" : "ok");
}

static void
get_metrics(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    r->type = "text/plain; version=0.0.4; charset=utf-8"; /* the text format of Prometheus */
    vip_busy(arg, true);
    metrics_text(arg, &r->body);
    vip_busy(arg, false);
}

/* POOL/NAME behind /v1/servers/. */
static bool
cut_server(struct str rest, struct str *pool, struct str *server)
{
    *server = rest;
    *pool = str_cut(server, '/');
    return pool->n > 0 && server->n > 0 && memchr(server->p, '/', server->n) == NULL;
}

static void
get_server(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct str pool, server;
    json_t *j = NULL;

    if (cut_server(q->rest, &pool, &server))
        j = view_server(arg, pool, server);
    if (j == NULL)
        httpd_fail(r, 404, "no server " STR_FMT, STR_ARG(q->rest));
    else
        reply_json(r, j);
}

/* --- orders -------------------------------------------------------------------------------------
 */

/* What a browser on this machine can be made to send must change nothing, so the address for
 * reading takes no orders, not even from loopback. */
static bool
may_order(const struct node *n, const struct httpd_request *q, struct httpd_response *r)
{
    if (!q->by_unix)
        httpd_fail(r, 403, "orders are taken from the unix socket only");
    else if (upgrade_is_over(n))
        httpd_fail(r, 503, "process %ld has just taken over", (long)n->upgrade.pid);
    return r->status == 200;
}

struct order {
    bool has_state, has_weight, unset;
    enum health_admin state;
    unsigned weight;
    char who[64]; /* a user, or empty */
};

static bool
read_state(const json_t *j, struct order *o, struct httpd_response *r)
{
    static const char *const words[] = {[HEALTH_ADMIN_READY] = "ready",
                                        [HEALTH_ADMIN_DRAIN] = "drain",
                                        [HEALTH_ADMIN_MAINT] = "maint"};
    const char *word = json_string_value(j);

    if (word != NULL && strcmp(word, "configured") == 0) {
        o->unset = o->has_state = true;
        return true;
    }
    for (size_t i = 0; i < MC_COUNT(words) && word != NULL; i++)
        if (strcmp(word, words[i]) == 0) {
            o->state = (enum health_admin)i;
            o->has_state = true;
            return true;
        }
    httpd_fail(r, 400, "state: expected ready, drain, maint or configured");
    return false;
}

static bool
read_weight(const json_t *j, struct order *o, struct httpd_response *r)
{
    json_int_t w = json_integer_value(j);

    if (!json_is_integer(j) || w < 0 || w > FLEET_WEIGHT_MAX) {
        httpd_fail(r, 400, "weight: expected 0 to %d", FLEET_WEIGHT_MAX);
        return false;
    }
    o->weight = (unsigned)w;
    o->has_weight = true;
    return true;
}

static bool
read_who(const json_t *j, struct order *o, struct httpd_response *r)
{
    const char *who = json_string_value(j);

    if (who == NULL || strlen(who) >= sizeof(o->who)) {
        httpd_fail(r, 400, "who: expected a name of at most %zu bytes", sizeof(o->who) - 1);
        return false;
    }
    strcpy(o->who, who);
    return true;
}

static bool
read_members(json_t *j, struct order *o, struct httpd_response *r)
{
    const char *key;
    json_t *value;

    json_object_foreach(j, key, value)
    {
        bool ok;

        if (strcmp(key, "state") == 0)
            ok = read_state(value, o, r);
        else if (strcmp(key, "weight") == 0)
            ok = read_weight(value, o, r);
        else if (strcmp(key, "who") == 0)
            ok = read_who(value, o, r);
        else
            ok = false;
        if (!ok && r->body.n == 0)
            httpd_fail(r, 400, "%s: expected state, weight or who", key);
        if (!ok)
            return false;
    }
    if (o->has_state || o->has_weight)
        return true;
    httpd_fail(r, 400, "expected {\"state\": ...} or {\"weight\": ...}");
    return false;
}

static bool
read_order(struct str body, struct order *o, struct httpd_response *r)
{
    json_error_t why;
    json_t *j = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &why);
    bool ok;

    *o = (struct order){.has_state = false};
    if (!json_is_object(j)) {
        httpd_fail(r, 400, "body: %s, expected a JSON object", j ? "no object" : why.text);
        json_decref(j);
        return false;
    }
    ok = read_members(j, o, r);
    json_decref(j);
    return ok;
}

static enum mc_err
give_order(struct node *n, const struct order *o, const char *pool, const char *server,
           struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    if (o->unset)
        rv = member_unset(n, pool, server, o->who, e);
    else if (o->has_state)
        rv = member_set_state(n, pool, server, o->state, o->who, e);
    if (rv == MC_OK && o->has_weight)
        rv = member_set_weight(n, pool, server, o->weight, o->who, e);
    return rv;
}

static void
post_server(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct str pool, server;
    struct order o;
    struct errbuf e;
    char *pool_z, *server_z;

    if (!may_order(arg, q, r))
        return;
    if (!cut_server(q->rest, &pool, &server)) {
        httpd_fail(r, 404, "no server " STR_FMT, STR_ARG(q->rest));
        return;
    }
    if (!read_order(q->body, &o, r))
        return;
    pool_z = str_dup(pool);
    server_z = str_dup(server);
    if (give_order(arg, &o, pool_z, server_z, &e) == MC_OK) {
        reply_json(r, view_server(arg, pool, server));
    } else {
        httpd_fail(r, 404, "%s", e.text);
    }
    free(pool_z);
    free(server_z);
}

/* Text, since it is for people: faults as FILE:LINE. */
static void
post_reload(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    if (!may_order(arg, q, r))
        return;
    r->type = "text/plain; charset=utf-8";
    r->status = node_reload(arg, &r->body) ? 200 : 409;
}

/* The operator's word on this balancer; a restart forgets it. */
static void
order_traffic(struct node *n, const struct httpd_request *q, struct httpd_response *r, bool wanted)
{
    if (!may_order(n, q, r))
        return;
    log_info("operator: traffic is %s", wanted ? "wanted again" : "not wanted");
    fit_say(n, FIT_OPERATOR, wanted, "withdrawn");
    reply_json(r, json_pack("{s:b}", "wanted", (int)wanted));
}

static void
post_withdraw(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    order_traffic(arg, q, r, false);
}

static void
post_resume(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    order_traffic(arg, q, r, true);
}

/* Answers before it begins. */
static void
post_leave(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct node *n = arg;

    if (!may_order(arg, q, r))
        return;
    reply_json(r, json_pack("{s:b}", "leaving", 1));
    if (!n->ending)
        leave_begin(n);
}

/* Answers before the new process is there; the status tells what becomes of it. */
static void
post_upgrade(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    struct node *n = arg;
    struct errbuf e;

    if (!may_order(arg, q, r))
        return;
    if (upgrade_begin(n, &e) == MC_OK)
        reply_json(r, json_pack("{s:b, s:i}", "upgrading", 1, "pid", (int)n->upgrade.pid));
    else
        httpd_fail(r, 409, "%s", e.text);
}

/* --- listening ----------------------------------------------------------------------------------
 */

static const struct httpd_route routes[] = {
    {HTTP_M_GET, "/healthz", get_healthz},    {HTTP_M_GET, "/metrics", get_metrics},
    {HTTP_M_GET, "/v1/status", get_status},   {HTTP_M_GET, "/v1/servers", get_servers},
    {HTTP_M_GET, "/v1/servers/", get_server}, {HTTP_M_POST, "/v1/servers/", post_server},
    {HTTP_M_GET, "/v1/pools", get_pools},     {HTTP_M_GET, "/v1/listeners", get_listeners},
    {HTTP_M_GET, "/v1/routes", get_routes},   {HTTP_M_GET, "/v1/config", get_config},
    {HTTP_M_GET, "/v1/costs", get_costs},     {HTTP_M_GET, "/v1/explain", get_explain},
    {HTTP_M_POST, "/v1/reload", post_reload}, {HTTP_M_GET, "/v1/members", get_members},
    {HTTP_M_POST, "/v1/leave", post_leave},   {HTTP_M_GET, "/v1/vips", get_vips},
    {HTTP_M_GET, "/v1/fit", get_fit},         {HTTP_M_POST, "/v1/withdraw", post_withdraw},
    {HTTP_M_POST, "/v1/resume", post_resume}, {HTTP_M_POST, "/v1/upgrade", post_upgrade},
};

/* /run is empty after each boot; a service manager makes the directory, a shell does not. */
static void
make_default_dir(const struct node *n)
{
    char *dir = mc_strdup(CONF_DEFAULT_SOCKET);

    *strrchr(dir, '/') = '\0';
    if (mkdir(dir, 0755) == 0)
        privs_give_file(&n->privs, dir);
    free(dir);
}

static enum mc_err
listen_at(struct node *n, const struct addr *a, unsigned unix_mode, struct errbuf *e)
{
    struct admin *admin = n->admin;
    int fd = heritage_admin(n->options.heritage, a);
    enum mc_err rv = MC_OK;

    if (fd >= 0)
        httpd_inherit(admin->httpd, fd, a->u.sa.sa_family == AF_UNIX);
    else
        rv = httpd_listen(admin->httpd, a, unix_mode, e);
    if (rv == MC_OK)
        admin->at[admin->n_at++] = *a;
    return rv;
}

void
admin_accept(struct node *n, bool on)
{
    httpd_accept(n->admin->httpd, on);
}

int
admin_socket(const struct node *n, unsigned i, struct addr *a)
{
    if (i >= n->admin->n_at)
        return -1;
    *a = n->admin->at[i];
    return httpd_fd(n->admin->httpd, i);
}

static enum mc_err
listen_unix(struct node *n, struct errbuf *e)
{
    const struct conf_admin *c = &n->conf->admin;
    struct addr a;
    char *text;
    enum mc_err rv;

    if (c->socket_is_default)
        make_default_dir(n);
    text = mc_printf("unix:%s", c->socket);
    rv = addr_parse(str_of(text), &a, NULL, NULL, e);
    free(text);
    if (rv == MC_OK)
        rv = listen_at(n, &a, c->socket_mode, e);
    if (rv != MC_OK)
        return rv;
    n->admin->socket = mc_strdup(c->socket);
    privs_give_file(&n->privs, c->socket);
    return MC_OK;
}

static enum mc_err
listen_all(struct node *n, struct errbuf *e)
{
    const struct conf_admin *c = &n->conf->admin;
    enum mc_err rv = MC_OK;

    if (c->socket != NULL)
        rv = listen_unix(n, e);
    if (rv != MC_OK && c->socket_is_default) {
        log_warn("no admin socket: %s", e->text);
        rv = MC_OK;
    }
    if (rv == MC_OK && c->http.len != 0)
        rv = listen_at(n, &c->http, 0, e);
    if (rv != MC_OK)
        err_wrap(e, "admin");
    return rv;
}

enum mc_err
admin_start(struct node *n, struct errbuf *e)
{
    struct httpd_conf conf = {.routes = routes, .n_routes = MC_COUNT(routes), .arg = n};
    enum mc_err rv;

    n->admin = mc_alloc(sizeof(*n->admin));
    n->admin->httpd = httpd_new(n->loop, &conf);
    rv = listen_all(n, e);
    if (n->options.heritage != NULL)
        admin_accept(n, false);
    return rv;
}

void
admin_stop(struct node *n)
{
    if (n->admin == NULL)
        return;
    httpd_free(&n->admin->httpd);
    if (n->admin->socket != NULL && !upgrade_is_over(n))
        unlink(n->admin->socket);
    free(n->admin->socket);
    free(n->admin);
    n->admin = NULL;
}
