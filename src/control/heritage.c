/* SPDX-License-Identifier: BSD-2-Clause
 *
 * heritage.c - see heritage.h.
 */
#include "control/heritage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "control/admin.h"
#include "control/member_priv.h"
#include "control/node.h"
#include "control/takeover_node.h"
#include "control/vip.h"
#include "fleet/carry.h"
#include "place/policy.h"
#include "takeover/takeover.h"

/* --- writing ------------------------------------------------------------------------------------
 */

struct out {
    json_t *root;
    int *fds;
    unsigned n;
};

/* The number by which the JSON names it. */
static json_t *
put_fd(struct out *o, int fd)
{
    o->fds = mc_realloc(o->fds, (o->n + 1) * sizeof(*o->fds));
    o->fds[o->n] = fd;
    return json_integer(o->n++);
}

static void
put_listeners(struct out *o, const struct binds *b)
{
    json_t *list = json_array();
    char text[ADDR_TEXT];
    const int *fds;
    struct addr a;
    unsigned n;

    for (unsigned i = 0; (n = binds_show(b, i, &a, &fds)) > 0; i++) {
        json_t *sockets = json_array();

        for (unsigned k = 0; k < n; k++)
            json_array_append_new(sockets, put_fd(o, fds[k]));
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "address", addr_text(&a, text), "sockets", sockets));
    }
    json_object_set_new(o->root, "listeners", list);
}

static void
put_admin(struct out *o, const struct node *n)
{
    json_t *list = json_array();
    char text[ADDR_TEXT];
    struct addr a;
    int fd;

    for (unsigned i = 0; (fd = admin_socket(n, i, &a)) >= 0; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "address", addr_text(&a, text), "socket", put_fd(o, fd)));
    json_object_set_new(o->root, "admin", list);
}

static void
put_vips(struct out *o, const struct node *n)
{
    json_t *list = json_array();
    char text[ADDR_TEXT];
    const char *interface;
    struct addr_net a;

    for (unsigned i = 0; vip_show(n, i, &a, &interface); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:s}", "address", addr_ip_text(&a.base, text),
                                        "prefix", (int)a.prefix_bits, "interface", interface));
    json_object_set_new(o->root, "vips", list);
}

static void
put_access_log(struct out *o, const struct access_log *l)
{
    if (l != NULL)
        json_object_set_new(
            o->root, "access_log",
            json_pack("{s:s, s:o}", "file", access_log_path(l), "fd", put_fd(o, access_log_fd(l))));
}

/* Lines that are no UTF-8 (a client's paths may be anything) are left out. */
static json_t *
lines_of(struct str text)
{
    json_t *list = json_array();

    while (text.p) {
        struct str line = str_cut(&text, '\n');
        json_t *j = line.n > 0 ? json_stringn(line.p, line.n) : NULL;

        if (j != NULL)
            json_array_append_new(list, j);
    }
    return list;
}

static json_t *
live_members(const struct swim *s)
{
    json_t *list = json_array();
    char text[ADDR_TEXT];

    for (size_t i = 0; i < swim_count(s); i++) {
        const struct swim_member *m = swim_at(s, i);

        if (!m->self && (m->state == SWIM_ALIVE || m->state == SWIM_SUSPECT))
            json_array_append_new(list, json_string(addr_text(&m->addr, text)));
    }
    return list;
}

static void
put_cluster(struct out *o, const struct node *n)
{
    struct cluster_heritage h;
    struct buf words = {0};
    char text[ADDR_TEXT];
    json_t *j;

    if (n->member == NULL)
        return;
    cluster_bequeath(n->member->cluster, &h);
    words_save(cluster_words(n->member->cluster), &words);
    j = json_pack("{s:s, s:o, s:o, s:I, s:o, s:o}", "bind", addr_text(&n->conf->cluster.bind, text),
                  "udp", put_fd(o, h.udp), "tcp", put_fd(o, h.tcp), "incarnation",
                  (json_int_t)h.incarnation, "members",
                  live_members(cluster_swim(n->member->cluster)), "words",
                  lines_of((struct str){words.p, words.n}));
    json_object_set_new(o->root, "cluster", j);
    buf_free(&words);
}

static json_t *
takeover_peers(const struct takeover_heritage *h)
{
    json_t *list = json_array();
    char text[ADDR_TEXT];

    for (unsigned i = 0; i < h->n_peers; i++)
        json_array_append_new(list, json_pack("{s:I, s:s}", "id", (json_int_t)h->peer[i].id,
                                              "address", addr_text(&h->peer[i].addr, text)));
    return list;
}

static void
put_takeover(struct out *o, const struct node *n)
{
    struct takeover_heritage h;
    char card[TAKEOVER_NODE_TEXT];

    if (n->takeover == NULL)
        return;
    takeover_bequeath(n->takeover, &h);
    json_object_set_new(o->root, "takeover",
                        json_pack("{s:s, s:o, s:o, s:o}", "bind", takeover_node_card(n, card),
                                  "udp", put_fd(o, h.udp), "tcp", put_fd(o, h.tcp), "peers",
                                  takeover_peers(&h)));
}

static void
put_tickets(struct out *o, const struct keyfile *secret)
{
    char line[KEYFILE_LINE];

    json_object_set_new(o->root, "tickets", json_string(keyfile_text(secret, 0, line)));
    explicit_bzero(line, sizeof(line));
}

static void
put_costs_of(void *arg, const char *pool, struct str text)
{
    json_object_set_new(arg, pool, lines_of(text));
}

static void
put_costs(struct out *o, struct fleet *f)
{
    json_t *costs = json_object();

    carry_costs(fleet_brains(f), put_costs_of, costs);
    json_object_set_new(o->root, "costs", costs);
}

static json_t *
server_json(const struct carried *c)
{
    const struct health *h = &c->health;
    json_t *j =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "pool", c->pool, "server", c->server,
                  "address", c->address, "weight", (int)c->weight, "conf_weight",
                  (int)c->conf_weight, "conf_state", (int)c->conf_state, "state", (int)h->state);

#define X(how, type, member) json_object_set_new(j, #member, json_##how((type)h->member));
    CARRIED_HEALTH(X)
#undef X
#define X(member) json_object_set_new(j, #member, json_string(h->member));
    CARRIED_TEXTS(X)
#undef X
    return j;
}

static void
put_servers(struct out *o, const struct fleet *f)
{
    json_t *list = json_array();
    struct carried c;

    for (unsigned i = 0; carry_next(f, i, &c); i++)
        json_array_append_new(list, server_json(&c));
    json_object_set_new(o->root, "servers", list);
}

static int
write_memfd(const json_t *root, struct errbuf *e)
{
    int fd = memfd_create("meercat-heritage", MFD_CLOEXEC);

    if (fd < 0) {
        err_sys(e, "memfd_create");
        return -1;
    }
    if (json_dumpfd(root, fd, JSON_COMPACT) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    err_set(e, "what is known cannot be written down");
    close(fd);
    return -1;
}

enum mc_err
heritage_make(const struct node *n, int **fds, unsigned *n_fds, struct errbuf *e)
{
    struct out o = {
        .root = json_pack("{s:i, s:s}", "version", HERITAGE_VERSION, "release", MEERCAT_VERSION)};

    json_decref(put_fd(&o, -1));
    put_listeners(&o, n->build.binds);
    put_admin(&o, n);
    put_vips(&o, n);
    put_access_log(&o, n->build.access_log);
    put_cluster(&o, n);
    put_takeover(&o, n);
    json_object_set_new(o.root, "withdrawn", json_boolean(n->fit.said[FIT_OPERATOR].objects));
    put_tickets(&o, &n->tickets.secret);
    put_costs(&o, n->build.fleet);
    put_servers(&o, n->build.fleet);
    o.fds[0] = write_memfd(o.root, e);
    json_decref(o.root);
    if (o.fds[0] < 0) {
        free(o.fds);
        return MC_ESYS;
    }
    *fds = o.fds;
    *n_fds = o.n;
    return MC_OK;
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct heritage {
    json_t *root;
    int *fds; /* [n]; -1: taken */
    unsigned n;
};

static enum mc_err
load(struct heritage *h, struct errbuf *e)
{
    json_error_t why;
    json_int_t version;

    h->root = json_loadfd(h->fds[0], JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(h->root)) {
        err_set(e, "what the process before left cannot be read: %s",
                h->root != NULL ? "no object" : why.text);
        return MC_EINVAL;
    }
    version = json_integer_value(json_object_get(h->root, "version"));
    if (version == HERITAGE_VERSION)
        return MC_OK;
    err_set(e, "what the process before left is of version %lld, this release reads %d",
            (long long)version, HERITAGE_VERSION);
    return MC_EINVAL;
}

enum mc_err
heritage_read(const int *fds, unsigned n, struct heritage **out, struct errbuf *e)
{
    struct heritage *h = mc_alloc(sizeof(*h));
    enum mc_err rv;

    MC_ASSERT(n > 0);
    h->fds = mc_alloc(n * sizeof(*fds));
    memcpy(h->fds, fds, n * sizeof(*fds));
    h->n = n;
    rv = load(h, e);
    if (rv == MC_OK)
        *out = h;
    else
        heritage_free(&h);
    return rv;
}

void
heritage_free(struct heritage **hp)
{
    struct heritage *h = *hp;

    if (h == NULL)
        return;
    *hp = NULL;
    for (unsigned i = 0; i < h->n; i++)
        if (h->fds[i] >= 0)
            close(h->fds[i]);
    json_decref(h->root);
    free(h->fds);
    free(h);
}

static const json_t *
part(const struct heritage *h, const char *name)
{
    return h != NULL ? json_object_get(h->root, name) : NULL;
}

static int
take_fd(struct heritage *h, const json_t *number)
{
    json_int_t i = json_integer_value(number);
    int fd;

    if (!json_is_integer(number) || i < 1 || i >= h->n)
        return -1;
    fd = h->fds[i];
    h->fds[i] = -1;
    return fd;
}

static bool
address(const json_t *of, const char *name, struct addr *out)
{
    const char *text = json_string_value(json_object_get(of, name));

    return text != NULL && addr_parse(str_of(text), out, NULL, NULL, &(struct errbuf){""}) == MC_OK;
}

/* As many as there are; in an array to be freed. */
static unsigned
take_fds(struct heritage *h, const json_t *numbers, int **out)
{
    unsigned n = 0;
    json_t *number;
    size_t i;

    *out = mc_alloc((json_array_size(numbers) + 1) * sizeof(**out));
    json_array_foreach(numbers, i, number)
    {
        int fd = take_fd(h, number);

        if (fd >= 0)
            (*out)[n++] = fd;
    }
    return n;
}

void
heritage_binds(struct heritage *h, struct binds *b)
{
    json_t *l;
    size_t i;

    json_array_foreach(part(h, "listeners"), i, l)
    {
        struct addr a;
        unsigned n;
        int *fds;

        if (!address(l, "address", &a))
            continue;
        n = take_fds(h, json_object_get(l, "sockets"), &fds);
        if (n > 0)
            binds_inherit(b, &a, fds, n);
        free(fds);
    }
}

int
heritage_admin(struct heritage *h, const struct addr *a)
{
    json_t *s;
    size_t i;

    json_array_foreach(part(h, "admin"), i, s)
    {
        struct addr at;

        if (address(s, "address", &at) && addr_eq(&at, a))
            return take_fd(h, json_object_get(s, "socket"));
    }
    return -1;
}

bool
heritage_vip(const struct heritage *h, unsigned i, struct addr_net *out, const char **interface)
{
    const json_t *v = json_array_get(part(h, "vips"), i);
    const char *text = json_string_value(json_object_get(v, "address"));
    json_int_t prefix = json_integer_value(json_object_get(v, "prefix"));

    *interface = json_string_value(json_object_get(v, "interface"));
    if (text == NULL || *interface == NULL || prefix < 0 || prefix > 128 ||
        !addr_parse_ip(str_of(text), 0, &out->base))
        return false;
    out->prefix_bits = (unsigned)prefix;
    return true;
}

int
heritage_access_log(struct heritage *h, const char *file)
{
    const json_t *l = part(h, "access_log");
    const char *name = json_string_value(json_object_get(l, "file"));

    return name != NULL && strcmp(name, file) == 0 ? take_fd(h, json_object_get(l, "fd")) : -1;
}

bool
heritage_cluster(struct heritage *h, const struct addr *bind, struct cluster_heritage *out)
{
    const json_t *c = part(h, "cluster");
    struct addr at;

    if (!address(c, "bind", &at) || !addr_eq(&at, bind))
        return false;
    out->udp = take_fd(h, json_object_get(c, "udp"));
    out->tcp = take_fd(h, json_object_get(c, "tcp"));
    out->incarnation = (uint64_t)json_integer_value(json_object_get(c, "incarnation"));
    if (out->udp >= 0 && out->tcp >= 0)
        return true;
    if (out->udp >= 0)
        close(out->udp);
    if (out->tcp >= 0)
        close(out->tcp);
    return false;
}

const char *
heritage_member(const struct heritage *h, unsigned i)
{
    return json_string_value(json_array_get(json_object_get(part(h, "cluster"), "members"), i));
}

static void
take_peers(const json_t *list, struct takeover_heritage *out)
{
    json_t *p;
    size_t i;

    json_array_foreach(list, i, p)
    {
        struct takeover_peer *to = &out->peer[out->n_peers];

        *to = (struct takeover_peer){0};
        to->id = (uint64_t)json_integer_value(json_object_get(p, "id"));
        if (to->id == 0 || !address(p, "address", &to->addr) || to->addr.u.sa.sa_family == AF_UNIX)
            continue;
        if (++out->n_peers == TAKEOVER_PEERS_MAX)
            return;
    }
}

void
heritage_takeover(struct heritage *h, const struct addr *bind, struct takeover_heritage *out)
{
    const json_t *t = part(h, "takeover");
    struct addr at;

    *out = (struct takeover_heritage){.udp = -1, .tcp = -1};
    take_peers(json_object_get(t, "peers"), out);
    if (!address(t, "bind", &at) || !addr_eq(&at, bind))
        return;
    out->udp = take_fd(h, json_object_get(t, "udp"));
    out->tcp = take_fd(h, json_object_get(t, "tcp"));
}

static void
join_lines(const json_t *lines, struct buf *out)
{
    json_t *line;
    size_t i;

    json_array_foreach(lines, i, line)
    {
        buf_printf(out, "%s\n", json_is_string(line) ? json_string_value(line) : "");
    }
}

void
heritage_words(const struct heritage *h, struct buf *out)
{
    join_lines(json_object_get(part(h, "cluster"), "words"), out);
}

bool
heritage_withdrawn(const struct heritage *h)
{
    return json_is_true(part(h, "withdrawn"));
}

bool
heritage_secret(const struct heritage *h, struct keyfile *out)
{
    const char *text = json_string_value(part(h, "tickets"));

    return text != NULL &&
           keyfile_parse(str_of(text), "tickets", out, &(struct errbuf){""}) == MC_OK;
}

void
heritage_costs(const struct heritage *h, struct fleet *f)
{
    const char *pool;
    json_t *lines;

    json_object_foreach((json_t *)part(h, "costs"), pool, lines)
    {
        struct buf text = {0};

        join_lines(lines, &text);
        if (text.n > 0)
            carry_costs_on(fleet_brains(f), pool, (struct str){text.p, text.n});
        buf_free(&text);
    }
}

static void
copy_text(char *to, size_t size, const json_t *j)
{
    snprintf(to, size, "%s", json_is_string(j) ? json_string_value(j) : "");
}

static bool
read_server(const json_t *j, struct carried *c)
{
    struct health *h = &c->health;

    *c = (struct carried){
        .pool = json_string_value(json_object_get(j, "pool")),
        .server = json_string_value(json_object_get(j, "server")),
        .address = json_string_value(json_object_get(j, "address")),
        .weight = (unsigned)json_integer_value(json_object_get(j, "weight")),
        .conf_weight = (unsigned)json_integer_value(json_object_get(j, "conf_weight")),
        .conf_state = (enum health_admin)json_integer_value(json_object_get(j, "conf_state")),
    };
    h->state = (enum health_state)json_integer_value(json_object_get(j, "state"));
#define X(how, type, member) h->member = (type)json_##how##_value(json_object_get(j, #member));
    CARRIED_HEALTH(X)
#undef X
#define X(member) copy_text(h->member, sizeof(h->member), json_object_get(j, #member));
    CARRIED_TEXTS(X)
#undef X
    return c->pool != NULL && c->server != NULL && c->address != NULL &&
           h->admin <= HEALTH_ADMIN_MAINT && h->agent <= HEALTH_ADMIN_MAINT;
}

void
heritage_servers(const struct heritage *h, struct fleet *f)
{
    struct carried c;
    json_t *j;
    size_t i;

    json_array_foreach(part(h, "servers"), i, j)
    {
        if (read_server(j, &c))
            carry_on(f, &c);
    }
}
