/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology.c - a topology as a whole: what its parts take from each other, and whether they fit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/near.h"
#include "lab/expand.h"
#include "lab/topology_priv.h"

#define TEMPLATE_BYTES_MAX (1u << 20)

/* --- looking up --------------------------------------------------------------------------------
 */

const struct topology_host *
topology_host_find(const struct topology *t, struct str name)
{
    for (unsigned i = 0; i < t->n_hosts; i++)
        if (str_eq(str_of(t->hosts[i].name), name))
            return &t->hosts[i];
    return NULL;
}

unsigned
topology_network_find(const struct topology *t, struct str name)
{
    for (unsigned i = 0; i < t->n_networks && i < TOPOLOGY_NETWORKS_MAX; i++)
        if (str_eq(str_of(t->networks[i].name), name))
            return i;
    return TOPOLOGY_NETWORKS_MAX;
}

const struct topology_link *
topology_link_find(const struct topology_host *h, unsigned network)
{
    for (unsigned i = 0; i < h->n_links && network < TOPOLOGY_NETWORKS_MAX; i++)
        if (h->links[i].network == network)
            return &h->links[i];
    return NULL;
}

/* --- inheriting --------------------------------------------------------------------------------
 */

void
topology_lines_add(struct topology_lines *ls, const struct topology_line *at)
{
    ls->v = mc_realloc(ls->v, (ls->n + 1) * sizeof(*ls->v));
    ls->v[ls->n] = *at;
    ls->v[ls->n++].text = mc_strdup(at->text);
}

static void
free_lines(struct topology_lines *ls)
{
    for (unsigned i = 0; i < ls->n; i++)
        free(ls->v[i].text);
    free(ls->v);
    *ls = (struct topology_lines){0};
}

static void
copy_line(struct topology_line *to, const struct topology_line *from)
{
    *to = *from;
    to->text = from->text ? mc_strdup(from->text) : NULL;
}

/* What the role says comes first. */
static void
inherit_lines(struct topology_lines *own, const struct topology_lines *role)
{
    struct topology_lines both = {0};

    for (unsigned i = 0; i < role->n; i++)
        topology_lines_add(&both, &role->v[i]);
    for (unsigned i = 0; i < own->n; i++)
        topology_lines_add(&both, &own->v[i]);
    free_lines(own);
    *own = both;
}

static void
inherit_files(struct topology_host *h, const struct topology_host *role)
{
    unsigned n_own = h->n_files;

    h->files = mc_realloc(h->files, (h->n_files + role->n_files + 1) * sizeof(*h->files));
    for (unsigned i = 0; i < role->n_files; i++) {
        const struct topology_file *from = &role->files[i];
        unsigned k = 0;

        while (k < n_own && strcmp(h->files[k].name, from->name) != 0)
            k++;
        if (k < n_own)
            continue; /* its own stands in its place */
        h->files[h->n_files] = *from;
        h->files[h->n_files].name = mc_strdup(from->name);
        copy_line(&h->files[h->n_files++].from, &from->from);
    }
}

static void
inherit_starts(struct topology_host *h, const struct topology_host *role)
{
    unsigned n_own = h->n_starts;

    h->starts = mc_realloc(h->starts, (h->n_starts + role->n_starts + 1) * sizeof(*h->starts));
    for (unsigned i = 0; i < role->n_starts; i++) {
        const struct topology_start *from = &role->starts[i];
        unsigned k = 0;

        while (k < n_own && strcmp(h->starts[k].name, from->name) != 0)
            k++;
        if (k < n_own)
            continue;
        h->starts[h->n_starts] = *from;
        h->starts[h->n_starts].name = mc_strdup(from->name);
        copy_line(&h->starts[h->n_starts].command, &from->command);
        copy_line(&h->starts[h->n_starts++].ready, &from->ready);
    }
}

static void
inherit_role(struct topology_host *h, const struct topology_host *role)
{
    inherit_lines(&h->addresses, &role->addresses);
    inherit_lines(&h->sysctls, &role->sysctls);
    inherit_lines(&h->nexthops, &role->nexthops);
    inherit_lines(&h->routes, &role->routes);
    inherit_lines(&h->prepare, &role->prepare);
    inherit_files(h, role);
    inherit_starts(h, role);
    if (h->cpu_ppm == 0)
        h->cpu_ppm = role->cpu_ppm;
    if (h->memory_bytes == 0)
        h->memory_bytes = role->memory_bytes;
}

/* What neither the link nor its network says is that of a good cable. */
static void
inherit_weather(struct topology_weather *w, const struct topology_weather *network)
{
    if (w->delay_ns < 0)
        w->delay_ns = network->delay_ns < 0 ? 0 : network->delay_ns;
    if (w->loss_ppm == UINT32_MAX)
        w->loss_ppm = network->loss_ppm == UINT32_MAX ? 0 : network->loss_ppm;
    if (w->bits_per_s == UINT64_MAX)
        w->bits_per_s = network->bits_per_s == UINT64_MAX ? 0 : network->bits_per_s;
}

/* --- checking ----------------------------------------------------------------------------------
 */

struct check {
    struct topology *t;
    struct conf_faults *faults;
    bool with_files;
};

#define fault(c, at, ...) conf_fault_add((c)->faults, false, (at)->file, (at)->line, __VA_ARGS__)

static void
check_bounds(struct check *c)
{
    struct topology *t = c->t;
    struct topology_line top = {NULL, t->files[0], 1};

    if (t->n_hosts == 0)
        fault(c, &top, "no host, expected at least one: host \"client\" { role = \"client\" }");
    if (t->n_hosts > TOPOLOGY_HOSTS_MAX)
        fault(c, &t->hosts[TOPOLOGY_HOSTS_MAX].at, "too many hosts, expected at most %d",
              TOPOLOGY_HOSTS_MAX);
    if (t->n_networks > TOPOLOGY_NETWORKS_MAX)
        fault(c, &t->networks[TOPOLOGY_NETWORKS_MAX].at, "too many networks, expected at most %d",
              TOPOLOGY_NETWORKS_MAX);
}

/* Names stand in commands, and as "HOST.NETWORK". */
static void
check_name(struct check *c, const struct topology_line *at, const char *what, const char *name,
           const char *taken)
{
    if (strchr(name, '.') != NULL || name[0] < 'A')
        fault(c, at, "%s \"%s\": expected a name that begins with a letter and has no dot", what,
              name);
    if (strcmp(name, taken) == 0)
        fault(c, at, "%s \"%s\": expected another name, this one has a meaning", what, name);
}

static void
check_names(struct check *c)
{
    for (unsigned i = 0; i < c->t->n_networks; i++) {
        const struct topology_network *n = &c->t->networks[i];

        check_name(c, &n->at, "network", n->name, "lo"); /* an interface */
        if (strlen(n->name) > TOPOLOGY_IFNAME_MAX)
            fault(c, &n->at,
                  "network \"%s\": expected at most %d letters, interfaces have its name", n->name,
                  TOPOLOGY_IFNAME_MAX);
    }
    for (unsigned i = 0; i < c->t->n_hosts; i++) {
        const struct topology_host *h = &c->t->hosts[i];

        check_name(c, &h->at, "host", h->name, "host"); /* {host.front} */
        if (topology_network_find(c->t, str_of(h->name)) < TOPOLOGY_NETWORKS_MAX)
            fault(c, &h->at, "host \"%s\" has the name of a network, expected another", h->name);
    }
}

static void
check_link(struct check *c, struct topology_link *l)
{
    static const struct topology_weather unsaid = {-1, UINT32_MAX, UINT64_MAX};
    struct near near = {.asked = str_of(l->name)};

    l->network = topology_network_find(c->t, str_of(l->name));
    if (l->network < TOPOLOGY_NETWORKS_MAX) {
        inherit_weather(&l->weather, &c->t->networks[l->network].weather);
        return;
    }
    inherit_weather(&l->weather, &unsaid);
    for (unsigned i = 0; i < c->t->n_networks; i++)
        near_offer(&near, c->t->networks[i].name);
    if (near.best != NULL)
        fault(c, &l->at, "link \"%s\": no such network, expected \"%s\" perhaps", l->name,
              near.best);
    else
        fault(c, &l->at, "link \"%s\": no such network, expected one that is in the file", l->name);
}

/* No address twice in one network: a mistake that costs an hour to find. */
static void
check_addresses(struct check *c)
{
    for (unsigned i = 0; i < c->t->n_hosts; i++) {
        for (unsigned k = 0; k < i; k++) {
            for (unsigned l = 0; l < c->t->hosts[i].n_links; l++) {
                const struct topology_link *a = &c->t->hosts[i].links[l];
                const struct topology_link *b = topology_link_find(&c->t->hosts[k], a->network);
                char *ours = expand_address(a), *theirs = b != NULL ? expand_address(b) : NULL;

                if (ours != NULL && theirs != NULL && strcmp(ours, theirs) == 0)
                    fault(c, &a->addresses.v[0],
                          "address \"%s\" is %s's, expected another on network \"%s\"", ours,
                          c->t->hosts[k].name, a->name);
                free(ours);
                free(theirs);
            }
        }
    }
}

static void
check_line(struct check *c, const struct topology_host *h, const struct topology_line *l,
           const char *key)
{
    const struct expand x = {
        .topology = c->t, .host = h, .dir = h ? "" : NULL, .lab = "", .here = "", .meercat = ""};
    struct buf out = {0};
    struct errbuf e;
    size_t offset;

    if (l->text != NULL && expand(&x, str_of(l->text), &out, &offset, &e) != MC_OK)
        fault(c, l, "%s: %s%s", key, e.text, strstr(e.text, "expected") ? "" : ", expected one");
    buf_free(&out);
}

static void
check_lines(struct check *c, const struct topology_host *h, const struct topology_lines *ls,
            const char *key)
{
    for (unsigned i = 0; i < ls->n; i++)
        check_line(c, h, &ls->v[i], key);
}

static unsigned
line_of(struct str text, size_t offset)
{
    unsigned n = 1;

    for (size_t i = 0; i < offset; i++)
        n += text.p[i] == '\n';
    return n;
}

/* The template can be read, and nothing in it is unknown. */
static void
check_file(struct check *c, const struct topology_host *h, const struct topology_file *f)
{
    const struct expand x = {
        .topology = c->t, .host = h, .dir = "", .lab = "", .here = "", .meercat = ""};
    struct buf text = {0}, out = {0};
    struct errbuf e;
    size_t offset;
    char *path;

    if (f->from.text == NULL || !c->with_files)
        return;
    path = topology_template_path(c->t, f);
    if (!file_load(path, TEMPLATE_BYTES_MAX, &text))
        fault(c, &f->from, "from: %s: %s, expected a file that can be read", path, strerror(errno));
    else if (expand(&x, (struct str){text.p, text.n}, &out, &offset, &e) != MC_OK)
        conf_fault_add(c->faults, false, path, line_of((struct str){text.p, text.n}, offset),
                       "%s (for host \"%s\")%s", e.text, h->name,
                       strstr(e.text, "expected") ? "" : ", expected one");
    free(path);
    buf_free(&text);
    buf_free(&out);
}

static void
check_host(struct check *c, const struct topology_host *h)
{
    check_lines(c, h, &h->nexthops, "nexthop");
    check_lines(c, h, &h->routes, "route");
    check_lines(c, h, &h->prepare, "prepare");
    for (unsigned i = 0; i < h->n_starts; i++) {
        check_line(c, h, &h->starts[i].command, "command");
        check_line(c, h, &h->starts[i].ready, "ready");
    }
    for (unsigned i = 0; i < h->n_files; i++)
        check_file(c, h, &h->files[i]);
}

void
topology_check(struct topology *t, bool with_files, struct conf_faults *faults)
{
    struct check c = {t, faults, with_files};
    unsigned n_of_role[TOPOLOGY_N_ROLES] = {0};

    check_bounds(&c);
    if (faults->n_errors > 0 && t->n_hosts > TOPOLOGY_HOSTS_MAX)
        return; /* what follows compares each with each */
    check_names(&c);
    for (unsigned i = 0; i < t->n_hosts; i++) {
        struct topology_host *h = &t->hosts[i];

        h->number = ++n_of_role[h->role];
        inherit_role(h, &t->roles[h->role]);
        for (unsigned l = 0; l < h->n_links; l++)
            check_link(&c, &h->links[l]);
    }
    check_addresses(&c);
    check_lines(&c, NULL, &t->prepare, "prepare");
    for (unsigned i = 0; i < t->n_hosts; i++)
        check_host(&c, &t->hosts[i]);
}

/* --- templates ---------------------------------------------------------------------------------
 */

char *
topology_template_path(const struct topology *t, const struct topology_file *f)
{
    const char *slash = strrchr(t->path, '/');

    if (f->from.text[0] == '/' || slash == NULL)
        return mc_strdup(f->from.text);
    return mc_printf("%.*s/%s", (int)(slash - t->path), t->path, f->from.text);
}

/* --- memory ------------------------------------------------------------------------------------
 */

void
topology_host_fini(struct topology_host *h)
{
    struct topology_lines *lines[] = {&h->addresses, &h->sysctls, &h->nexthops, &h->routes,
                                      &h->prepare};

    for (unsigned i = 0; i < MC_COUNT(lines); i++)
        free_lines(lines[i]);
    for (unsigned i = 0; i < h->n_links; i++) {
        free(h->links[i].name);
        free_lines(&h->links[i].addresses);
    }
    for (unsigned i = 0; i < h->n_files; i++) {
        free(h->files[i].name);
        free(h->files[i].from.text);
    }
    for (unsigned i = 0; i < h->n_starts; i++) {
        free(h->starts[i].name);
        free(h->starts[i].command.text);
        free(h->starts[i].ready.text);
    }
    free(h->links);
    free(h->files);
    free(h->starts);
    free(h->name);
    *h = (struct topology_host){0};
}

void
topology_free(struct topology **tp)
{
    struct topology *t = *tp;

    if (t == NULL)
        return;
    *tp = NULL;
    for (unsigned i = 0; i < t->n_networks; i++)
        free(t->networks[i].name);
    for (unsigned i = 0; i < t->n_hosts; i++)
        topology_host_fini(&t->hosts[i]);
    for (unsigned i = 0; i < TOPOLOGY_N_ROLES; i++)
        topology_host_fini(&t->roles[i]);
    for (unsigned i = 0; i < t->n_files; i++)
        free(t->files[i]);
    free_lines(&t->prepare);
    free(t->networks);
    free(t->hosts);
    free(t->files);
    free(t->path);
    free(t);
}
