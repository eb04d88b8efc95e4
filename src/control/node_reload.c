/* SPDX-License-Identifier: BSD-2-Clause
 *
 * node_reload.c - another configuration put in force, but for what is made once at the start: that
 * stays as it was, and is told.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/member.h"
#include "control/node_priv.h"
#include "control/notify.h"
#include "control/takeover_node.h"
#include "control/vip.h"

static bool
differs(const char *a, const char *b)
{
    return (a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0);
}

static void
note_restart(struct buf *text, bool changed, const char *what)
{
    if (!changed)
        return;
    log_warn("reload: %s has changed and needs a restart", what);
    buf_printf(text, "%s has changed and needs a restart\n", what);
}

static bool
cluster_differs(const struct conf *old, const struct conf *new)
{
    const struct conf_cluster *a = &old->cluster, *b = &new->cluster;

    if (a->given != b->given)
        return true;
    return a->given && (!addr_eq(&a->bind, &b->bind) || !addr_eq(&a->advertise, &b->advertise) ||
                        differs(a->key_file, b->key_file) || a->bytes_per_s != b->bytes_per_s ||
                        differs(old->node, new->node));
}

static bool
takeover_differs(const struct conf_takeover *a, const struct conf_takeover *b)
{
    if (a->given != b->given || a->replicas != b->replicas || !addr_eq(&a->bind, &b->bind) ||
        a->n_interfaces != b->n_interfaces || a->n_witnesses != b->n_witnesses)
        return true;
    for (unsigned i = 0; i < a->n_interfaces; i++)
        if (differs(a->interfaces[i], b->interfaces[i]))
            return true;
    for (unsigned i = 0; i < a->n_witnesses; i++)
        if (!addr_eq(&a->witnesses[i], &b->witnesses[i]))
            return true;
    return false;
}

/* What is made once, at the start. */
static void
note_restarts(const struct conf *old, const struct conf *new, struct buf *text)
{
    bool admin = differs(old->admin.socket, new->admin.socket) ||
                 old->admin.socket_mode != new->admin.socket_mode ||
                 !addr_eq(&old->admin.http, &new->admin.http);

    note_restart(text, old->workers != new->workers, "workers");
    note_restart(text, old->engine != new->engine, "engine");
    note_restart(text, differs(old->user, new->user), "user");
    note_restart(text, differs(old->group, new->group), "group");
    note_restart(text, differs(old->pid_file, new->pid_file), "pid-file");
    note_restart(text, differs(old->state_dir, new->state_dir), "state-dir");
    note_restart(text, differs(old->resolvers, new->resolvers), "resolvers");
    note_restart(text,
                 differs(old->access_log.file, new->access_log.file) ||
                     old->access_log.format != new->access_log.format,
                 "access-log");
    note_restart(text, admin, "admin");
    note_restart(text, cluster_differs(old, new),
                 "cluster, but for join and the keys in key-file,");
    note_restart(text, takeover_differs(&old->takeover, &new->takeover), "takeover");
    note_restart(text, old->fit.stall_ns != new->fit.stall_ns, "stall of fit");
}

#define SWAP(a, b)                \
    do {                          \
        __typeof__(a) held = (a); \
        (a) = (b);                \
        (b) = held;               \
    } while (0)

/* All but where to look for others. */
static void
keep_cluster(struct conf_cluster *old, struct conf_cluster *new)
{
    SWAP(*old, *new);
    SWAP(old->join, new->join);
    SWAP(old->n_join, new->n_join);
}

/* Who started without a vip has no keeper, and no right to change addresses any more. */
static void
keep_vips(const struct node *n, struct conf *old, struct conf *new)
{
    SWAP(old->fit.stall_ns, new->fit.stall_ns);
    if (n->vip != NULL)
        return;
    SWAP(old->vips, new->vips);
    SWAP(old->n_vips, new->n_vips);
}

/* These stay what they were, so that the next reload still tells that they differ. */
static void
keep_restart_parts(const struct node *n, struct conf *old, struct conf *new)
{
    SWAP(old->workers, new->workers);
    SWAP(old->engine, new->engine);
    SWAP(old->user, new->user);
    SWAP(old->group, new->group);
    SWAP(old->pid_file, new->pid_file);
    SWAP(old->state_dir, new->state_dir);
    SWAP(old->resolvers, new->resolvers);
    SWAP(old->access_log, new->access_log);
    SWAP(old->admin, new->admin);
    keep_cluster(&old->cluster, &new->cluster);
    SWAP(old->takeover, new->takeover);
    keep_vips(n, old, new);
}

static void
log_faults(const struct conf_faults *faults)
{
    for (unsigned i = 0; i < faults->n; i++) {
        const struct conf_fault *f = &faults->v[i];

        log_line(f->warning ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR, "%s:%u: %s", f->file, f->line,
                 f->text);
    }
}

static bool
reload(struct node *n, struct buf *text)
{
    struct conf_faults faults = {0};
    struct snapshot *s;
    struct errbuf e;
    struct conf *c;
    bool read;

    read = conf_load(n->options.conf_file, &c, &faults) == MC_OK;
    log_faults(&faults);
    conf_faults_text(&faults, text);
    conf_faults_free(&faults);
    if (!read)
        return false;
    if (build_snapshot(&n->build, c, &s, &e) != MC_OK) {
        log_error("%s", e.text);
        buf_printf(text, "%s\n", e.text);
        conf_free(&c);
        return false;
    }
    note_restarts(n->conf, c, text);
    note_restart(text, n->vip == NULL && c->n_vips > 0, "the first vip");
    keep_restart_parts(n, n->conf, c);
    conf_free(&n->conf);
    n->conf = c;
    log_setup(c->log_level, notify_has_journal());
    node_put_in_force(n, s);
    member_reloaded(n, text);
    takeover_node_reloaded(n, text);
    vip_reloaded(n);
    tickets_refresh(n); /* the cluster's keys may be others */
    return true;
}

bool
node_reload(struct node *n, struct buf *text)
{
    if (n->ending) {
        buf_printf(text, "the balancer is ending\n");
        return false;
    }
    if (upgrade_is_under_way(n)) {
        buf_printf(text, "an upgrade is under way\n");
        return false;
    }
    notify_reloading();
    vip_busy(n, true);
    n->reload.ok = reload(n, text);
    n->reload.wall_ns = units_wall_ns();
    n->reload.n_good += n->reload.ok;
    n->reload.n_bad += !n->reload.ok;
    if (n->reload.ok)
        log_info("reloaded %s: generation %llu", n->options.conf_file,
                 (unsigned long long)n->current->generation);
    else
        log_error("%s is not good: everything stays as it was", n->options.conf_file);
    vip_busy(n, false);
    notify_ready();
    return n->reload.ok;
}
