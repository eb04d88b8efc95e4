/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology_read.c - a topology file, read.
 *
 *  1. conf_text.c walks the files: syntax, unknown options, duplicates; it yields one clean text.
 *  2. conf_tree.c has libconfuse read that.  Each value goes into the tree with its place before it
 *     ("FILE LINE text"), so that the next step knows it.
 *  3. The tree is turned into structs by the table of keys.
 *  4. What concerns several sections is checked (topology.c).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "conf/conf_tree.h"
#include "lab/topology_priv.h"

/* One reading. */
struct reading {
    struct conf_text *text;
    struct conf_faults *faults;
    struct topology *out;
    unsigned next[N_PLACES]; /* of the sections of a place, in their order */
    char *placed;            /* the value that libconfuse is about to copy */
};

/* --- 2. values ---------------------------------------------------------------------------------
 */

static const char *
on_value(void *arg, cfg_t *cfg, const char *name, const char *value, struct conf_at at)
{
    struct reading *r = arg;

    free(r->placed);
    r->placed = mc_printf("%u %u %s", at.file, at.line, value);
    return r->placed;
}

/* --- 3. structs --------------------------------------------------------------------------------
 */

/* Takes the place off a value. */
static struct topology_line
unplace(struct reading *r, const char *placed)
{
    unsigned file = 0, line = 1;
    int n = 0;

    MC_ASSERT(sscanf(placed, "%u %u%n", &file, &line, &n) == 2 && placed[n] == ' ');
    MC_ASSERT(file < r->out->n_files);
    return (struct topology_line){(char *)placed + n + 1, r->out->files[file], line};
}

static void
store(struct reading *r, const struct topology_key *k, const char *placed, void *object)
{
    struct topology_line at = unplace(r, placed);
    struct errbuf e = {""};

    if (k->value(&at, (char *)object + k->offset, &e))
        return;
    conf_fault_add(r->faults, false, at.file, at.line, "%s: %s", k->name, e.text);
}

static void
missing(struct reading *r, const struct topology_key *k, const char *title,
        const struct topology_line *at)
{
    conf_fault_add(r->faults, false, at->file, at->line, "%s \"%s\": no %s, expected %s",
                   topology_grammar.place_name(k->place), title, k->name, k->expected);
}

/* Stores the values of a section. */
static void
fill(struct reading *r, cfg_t *cfg, enum topology_place place, const struct topology_line *at,
     void *object)
{
    for (const struct topology_key *k = topology_keys; k->name != NULL; k++) {
        unsigned n;

        if (k->place != place || k->value == NULL)
            continue;
        n = cfg_size(cfg, k->name);
        if (n == 0 && k->required)
            missing(r, k, cfg_title(cfg), at);
        for (unsigned i = 0; i < n; i++)
            store(r, k, cfg_getnstr(cfg, k->name, i), object);
    }
}

/* Where the next section of a place begins. */
static struct topology_line
next_at(struct reading *r, enum topology_place place)
{
    struct conf_at at;

    MC_ASSERT(r->next[place] < r->text->n_sections[place]);
    at = r->text->sections[place][r->next[place]++];
    return (struct topology_line){NULL, r->out->files[at.file], at.line};
}

static void
unsaid(struct topology_weather *w)
{
    *w = (struct topology_weather){-1, UINT32_MAX, UINT64_MAX};
}

static void
fill_links(struct reading *r, cfg_t *cfg, struct topology_host *h)
{
    h->n_links = cfg_size(cfg, "link");
    h->links = mc_alloc((h->n_links + 1) * sizeof(*h->links));
    for (unsigned i = 0; i < h->n_links; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "link", i);
        struct topology_link *l = &h->links[i];

        l->name = mc_strdup(cfg_title(sec));
        l->at = next_at(r, PLACE_LINK);
        unsaid(&l->weather);
        fill(r, sec, PLACE_LINK, &l->at, l);
    }
}

static void
fill_files(struct reading *r, cfg_t *cfg, struct topology_host *h)
{
    h->n_files = cfg_size(cfg, "file");
    h->files = mc_alloc((h->n_files + 1) * sizeof(*h->files));
    for (unsigned i = 0; i < h->n_files; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "file", i);
        struct topology_file *f = &h->files[i];

        f->name = mc_strdup(cfg_title(sec));
        f->at = next_at(r, PLACE_FILE);
        f->mode = 0644;
        fill(r, sec, PLACE_FILE, &f->at, f);
    }
}

static void
fill_starts(struct reading *r, cfg_t *cfg, struct topology_host *h)
{
    h->n_starts = cfg_size(cfg, "start");
    h->starts = mc_alloc((h->n_starts + 1) * sizeof(*h->starts));
    for (unsigned i = 0; i < h->n_starts; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "start", i);
        struct topology_start *s = &h->starts[i];

        s->name = mc_strdup(cfg_title(sec));
        s->at = next_at(r, PLACE_START);
        s->within_ns = 10 * MC_SEC;
        fill(r, sec, PLACE_START, &s->at, s);
    }
}

static void
fill_host(struct reading *r, cfg_t *cfg, enum topology_place place, struct topology_host *h)
{
    h->name = mc_strdup(cfg_title(cfg));
    h->at = next_at(r, place);
    fill(r, cfg, place, &h->at, h);
    if (place == PLACE_HOST)
        fill_links(r, cfg, h);
    fill_files(r, cfg, h);
    fill_starts(r, cfg, h);
}

static void
fill_next_host(struct reading *r, cfg_t *cfg, unsigned i)
{
    fill_host(r, cfg_getnsec(cfg, "host", i), PLACE_HOST, &r->out->hosts[i]);
}

static void
fill_role(struct reading *r, cfg_t *cfg)
{
    struct topology_host spare = {0}, *to = &spare;

    for (unsigned i = 0; i < TOPOLOGY_N_ROLES; i++)
        if (strcmp(cfg_title(cfg), topology_role_name(i)) == 0)
            to = &r->out->roles[i];
    fill_host(r, cfg, PLACE_ROLE, to);
    if (to == &spare)
        conf_fault_add(r->faults, false, to->at.file, to->at.line,
                       "role \"%s\", expected client, router, balancer or server", to->name);
    topology_host_fini(&spare);
}

/* Roles and hosts in the order of the text, in which files and starts are numbered: libconfuse
 * leaves the line of its end in each section. */
static bool
is_role_next(cfg_t *cfg, unsigned roles, unsigned hosts)
{
    if (roles == cfg_size(cfg, "role") || hosts == cfg_size(cfg, "host"))
        return roles < cfg_size(cfg, "role");
    return cfg_getnsec(cfg, "role", roles)->line <= cfg_getnsec(cfg, "host", hosts)->line;
}

static void
build(struct reading *r, cfg_t *cfg)
{
    struct topology *t = r->out;
    struct topology_line top = {NULL, t->files[0], 1};

    fill(r, cfg, PLACE_TOP, &top, t);
    t->n_networks = cfg_size(cfg, "network");
    t->networks = mc_alloc((t->n_networks + 1) * sizeof(*t->networks));
    for (unsigned i = 0; i < t->n_networks; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "network", i);
        struct topology_network *n = &t->networks[i];

        n->name = mc_strdup(cfg_title(sec));
        n->at = next_at(r, PLACE_NETWORK);
        unsaid(&n->weather);
        fill(r, sec, PLACE_NETWORK, &n->at, n);
    }
    t->n_hosts = cfg_size(cfg, "host");
    t->hosts = mc_alloc((t->n_hosts + 1) * sizeof(*t->hosts));
    for (unsigned roles = 0, hosts = 0; roles < cfg_size(cfg, "role") || hosts < t->n_hosts;) {
        if (is_role_next(cfg, roles, hosts))
            fill_role(r, cfg_getnsec(cfg, "role", roles++));
        else
            fill_next_host(r, cfg, hosts++);
    }
}

/* --- in and out --------------------------------------------------------------------------------
 */

static enum mc_err
finish(struct conf_text *text, bool walked, bool with_files, const char *path,
       struct topology **out, struct conf_faults *faults)
{
    struct topology *t = mc_alloc(sizeof(*t));
    struct reading r = {.text = text, .faults = faults, .out = t};
    cfg_t *cfg;

    t->path = mc_strdup(path);
    t->files = text->files;
    t->n_files = text->n_files;
    cfg = walked ? conf_tree_read(text, &topology_grammar, on_value, &r, faults) : NULL;
    free(r.placed);
    if (cfg != NULL) {
        build(&r, cfg);
        cfg_free(cfg);
        topology_check(t, with_files, faults);
    }
    text->files = NULL;
    text->n_files = 0;
    conf_text_free(text);
    conf_faults_sort(faults);
    *out = NULL;
    if (faults->n_errors > 0) {
        topology_free(&t);
        return MC_ESYNTAX;
    }
    *out = t;
    return MC_OK;
}

enum mc_err
topology_load(const char *path, struct topology **out, struct conf_faults *faults)
{
    struct conf_text text = {0};
    bool walked = conf_text_load(&text, &topology_grammar, path, faults);

    return finish(&text, walked, true, path, out, faults);
}

enum mc_err
topology_parse(const char *name, struct str s, struct topology **out, struct conf_faults *faults)
{
    struct conf_text text = {0};
    bool walked = conf_text_parse(&text, &topology_grammar, name, s, faults);

    return finish(&text, walked, false, name, out, faults);
}
