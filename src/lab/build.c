/* SPDX-License-Identifier: BSD-2-Clause
 *
 * build.c - hosts and networks made: namespaces, bridges, links, addresses, routes, files.
 *
 * The network is made by ip(8) and tc(8), which read a whole batch: one process for the switch and
 * one a host, hosts side by side.  What they say against a line is told with the line of the
 * topology that it came from.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "lab/run.h"
#include "lab/warden.h"

#define TEMPLATE_BYTES_MAX (1u << 20)

/* What a token bucket lets through at once: a full segment of TCP with offloading needs 64 KiB, and
 * a kernel that ticks 250 times a second 4 ms of the rate. */
#define BURST_BYTES_MIN    65536u
#define BURST_PER_S        250
#define QUEUE_MS           50

/* Lines for a program, and where each comes from (NULL: from here). */
struct batch {
    struct buf text;
    const struct topology_line **from;
    unsigned n;
};

static void batch_add(struct batch *, const struct topology_line *from, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void
batch_add(struct batch *b, const struct topology_line *from, const char *fmt, ...)
{
    va_list ap;
    char *line;

    va_start(ap, fmt);
    MC_ASSERT(vasprintf(&line, fmt, ap) >= 0);
    va_end(ap);
    /* one line of a file is one line of the batch */
    for (char *c = line; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    buf_printf(&b->text, "%s\n", line);
    free(line);
    b->from = mc_realloc(b->from, (b->n + 1) * sizeof(*b->from));
    b->from[b->n++] = from;
}

static void
batch_free(struct batch *b)
{
    buf_free(&b->text);
    free(b->from);
    *b = (struct batch){0};
}

/* What ip(8) or tc(8) said: the reason stands first, then "Command failed -:LINE". */
static void
batch_fault(const struct batch *b, const char *program, struct str said, struct errbuf *e)
{
    struct str rest = said, reason = str_cut(&rest, '\n');
    const char *at = memmem(said.p, said.n, "-:", 2);
    unsigned line = at != NULL ? (unsigned)strtoul(at + 2, NULL, 10) : 0;
    const struct topology_line *from = line > 0 && line <= b->n ? b->from[line - 1] : NULL;

    if (from != NULL)
        err_set(e, "%s:%u: \"%s\": " STR_FMT, from->file, from->line, from->text ? from->text : "",
                STR_ARG(reason));
    else
        err_set(e, "%s: " STR_FMT, program, STR_ARG(reason));
}

static enum mc_err
batch_finish(struct batch *b, const char *program, struct run *r, struct errbuf *e)
{
    struct buf said = {0};
    int status;

    run_finish(r, &status, &said);
    if (status != 0)
        batch_fault(b, program, (struct str){said.p ? said.p : "", said.n}, e);
    buf_free(&said);
    return status == 0 ? MC_OK : MC_ESYS;
}

static enum mc_err
batch_start(struct batch *b, const struct space *space, const char *program, struct run *r,
            struct errbuf *e)
{
    const char *argv[] = {program, "-batch", "-", NULL};

    return run_start(r, space, NULL, argv, (struct str){b->text.p, b->text.n}, e);
}

static enum mc_err
batch_run(struct batch *b, const struct space *space, const char *program, struct errbuf *e)
{
    struct run r;

    if (b->n == 0)
        return MC_OK;
    if (batch_start(b, space, program, &r, e) != MC_OK)
        return MC_ESYS;
    return batch_finish(b, program, &r, e);
}

/* --- namespaces --------------------------------------------------------------------------------
 */

/* "net.ipv4.ip_forward" as a file; in the network namespace that we are in. */
static enum mc_err
put_sysctl(const char *name, const char *value, struct errbuf *e)
{
    char *path = mc_printf("/proc/sys/%s", name);
    enum mc_err rv = MC_OK;
    int fd;

    for (char *c = path + strlen("/proc/sys/"); *c != '\0'; c++)
        if (*c == '.')
            *c = '/';
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        rv = err_sys(e, name);
    if (fd >= 0)
        close(fd);
    free(path);
    return rv;
}

static enum mc_err
put_sysctl_line(const struct topology_line *l, struct errbuf *e)
{
    char *copy = mc_strdup(l->text), *eq = strchr(copy, '=');
    enum mc_err rv;

    *eq = '\0';
    rv = put_sysctl(copy, eq + 1, e);
    if (rv != MC_OK)
        err_wrap(e, "%s:%u", l->file, l->line);
    free(copy);
    return rv;
}

/* Calls for a host while we are in its network. */
static enum mc_err
within(struct warden *w, struct warden_host *h,
       enum mc_err (*fn)(const struct warden_host *, struct errbuf *), struct errbuf *e)
{
    const struct space net = {h->space.net, -1, -1}, home = {w->home.net, -1, -1};
    struct errbuf lost;
    enum mc_err rv = space_enter(&net, e);

    if (rv == MC_OK)
        rv = fn(h, e);
    if (space_enter(&home, &lost) == MC_OK)
        return rv;
    *e = lost;
    return MC_ESYS;
}

/* Before it has a link: who has just come up asks nobody whether an address is taken, so that
 * nobody waits a second for it. */
static enum mc_err
set_defaults(const struct warden_host *h, struct errbuf *e)
{
    struct errbuf ignored;

    (void)put_sysctl("net.ipv6.conf.all.accept_dad", "0", &ignored); /* where there is no IPv6 */
    (void)put_sysctl("net.ipv6.conf.default.accept_dad", "0", &ignored);
    return MC_OK;
}

/* Before it has addresses: some are looked at when one is given. */
static enum mc_err
set_sysctls(const struct warden_host *h, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < h->conf->sysctls.n && rv == MC_OK; i++)
        rv = put_sysctl_line(&h->conf->sysctls.v[i], e);
    return rv;
}

/* Names for all, so that a person need not know addresses: "lb1" is its first link's. */
static bool
write_hosts(const struct warden *w, const char *path)
{
    struct buf b = {0};
    bool ok;

    buf_printf(&b, "127.0.0.1 localhost\n::1 localhost\n");
    for (unsigned i = 0; i < w->topology->n_hosts; i++) {
        const struct topology_host *h = &w->topology->hosts[i];

        for (unsigned l = 0; l < h->n_links; l++) {
            char *address = expand_address(&h->links[l]);

            if (address != NULL)
                buf_printf(&b, "%s %s.%s%s%s\n", address, h->name, h->links[l].name,
                           l == 0 ? " " : "", l == 0 ? h->name : "");
            free(address);
        }
    }
    ok = file_replace(path, &b);
    buf_free(&b);
    return ok;
}

static enum mc_err
build_spaces(struct warden *w, struct errbuf *e)
{
    char *hosts = mc_printf("%s/hosts", w->dir);
    enum mc_err rv = write_hosts(w, hosts) ? MC_OK : err_sys(e, hosts);

    for (unsigned i = 0; i < w->topology->n_hosts && rv == MC_OK; i++) {
        struct warden_host *h = &w->hosts[i];

        rv = space_new(h->conf->name, w->dir, hosts, &w->home, &h->space, e);
        if (rv == MC_OK)
            rv = within(w, h, set_defaults, e);
        if (rv != MC_OK)
            err_wrap(e, "host %s", h->conf->name);
        procs_ns_text(h->space.net, h->net);
    }
    free(hosts);
    return rv;
}

/* --- the switch --------------------------------------------------------------------------------
 */

static void
add_port(struct warden *w, struct batch *b, unsigned host, const struct topology_link *l)
{
    unsigned n = w->n_ports + 1;
    struct warden_port *p;

    w->ports = mc_realloc(w->ports, n * sizeof(*w->ports));
    p = &w->ports[w->n_ports++];
    *p = (struct warden_port){.host = host, .network = l->network, .link = l};
    snprintf(p->name, sizeof(p->name), "p%u", n);
    snprintf(p->bridged, sizeof(p->bridged), "p%u", n);
    p->loss_ppm = l->weather.loss_ppm;
    /* the address tells host and link to whoever reads a capture */
    batch_add(b, &l->at,
              "link add %s type veth peer name %s address 02:4c:00:00:%02x:%02x netns "
              "/proc/%d/fd/%d",
              p->name, l->name, host + 1, l->network + 1, (int)getpid(), w->hosts[host].space.net);
    batch_add(b, &l->at, "link set %s master n%u up", p->name, l->network + 1);
}

static enum mc_err
build_switch(struct warden *w, struct errbuf *e)
{
    struct batch b = {0};
    enum mc_err rv;

    for (unsigned i = 0; i < w->topology->n_networks; i++) {
        const struct topology_network *n = &w->topology->networks[i];

        batch_add(&b, &n->at, "link add n%u type bridge mcast_snooping 0", i + 1);
        batch_add(&b, &n->at, "link set n%u up", i + 1);
    }
    for (unsigned i = 0; i < w->topology->n_hosts; i++)
        for (unsigned l = 0; l < w->topology->hosts[i].n_links; l++)
            add_port(w, &b, i, &w->topology->hosts[i].links[l]);
    rv = put_sysctl("net.ipv6.conf.default.disable_ipv6", "1", e);
    if (rv == MC_OK)
        rv = batch_run(&b, NULL, "ip", e);
    batch_free(&b);
    return rv;
}

/* --- hosts -------------------------------------------------------------------------------------
 */

static void
add_lines(struct warden *w, struct warden_host *h, struct batch *b, const char *command,
          const struct topology_lines *ls)
{
    for (unsigned i = 0; i < ls->n; i++) {
        char *text = warden_line(w, h, &ls->v[i]);

        batch_add(b, &ls->v[i], "%s %s", command, text);
        free(text);
    }
}

static void
add_addresses(struct batch *b, const char *device, const struct topology_lines *ls)
{
    for (unsigned i = 0; i < ls->n; i++)
        batch_add(b, &ls->v[i], "addr add %s dev %s", ls->v[i].text, device);
}

static void
host_batch(struct warden *w, struct warden_host *h, struct batch *b)
{
    batch_add(b, &h->conf->at, "link set lo up");
    add_addresses(b, "lo", &h->conf->addresses);
    for (unsigned i = 0; i < h->conf->n_links; i++) {
        const struct topology_link *l = &h->conf->links[i];

        batch_add(b, &l->at, "link set %s up", l->name);
        add_addresses(b, l->name, &l->addresses);
    }
    add_lines(w, h, b, "nexthop add", &h->conf->nexthops);
    add_lines(w, h, b, "route add", &h->conf->routes);
}

/* All hosts side by side. */
static enum mc_err
build_hosts(struct warden *w, struct errbuf *e)
{
    struct batch b[TOPOLOGY_HOSTS_MAX] = {0};
    struct run r[TOPOLOGY_HOSTS_MAX] = {0};
    enum mc_err rv = MC_OK;
    unsigned n = 0;

    for (; n < w->topology->n_hosts && rv == MC_OK; n++) {
        struct warden_host *h = &w->hosts[n];

        host_batch(w, h, &b[n]);
        rv = within(w, h, set_sysctls, e);
        if (rv == MC_OK)
            rv = batch_start(&b[n], &h->space, "ip", &r[n], e);
    }
    for (unsigned i = 0; i < n; i++) {
        struct errbuf later;

        if (r[i].pid > 0 && batch_finish(&b[i], "ip", &r[i], rv == MC_OK ? e : &later) != MC_OK &&
            rv == MC_OK) {
            err_wrap(e, "host %s", w->hosts[i].conf->name);
            rv = MC_ESYS;
        }
        batch_free(&b[i]);
    }
    return rv;
}

/* --- bandwidth ---------------------------------------------------------------------------------
 */

static void
add_rate(struct batch *b, const char *device, const struct topology_link *l)
{
    uint64_t burst = l->weather.bits_per_s / 8 / BURST_PER_S;

    batch_add(b, &l->at, "qdisc add dev %s root tbf rate %llubit burst %llu latency %dms", device,
              (unsigned long long)l->weather.bits_per_s,
              (unsigned long long)(burst > BURST_BYTES_MIN ? burst : BURST_BYTES_MIN), QUEUE_MS);
}

/* Each end of a link sends at its rate. */
static enum mc_err
build_rates(struct warden *w, struct errbuf *e)
{
    struct batch b = {0};
    enum mc_err rv;

    for (unsigned i = 0; i < w->n_ports; i++)
        if (w->ports[i].link->weather.bits_per_s > 0)
            add_rate(&b, w->ports[i].name, w->ports[i].link);
    rv = batch_run(&b, NULL, "tc", e);
    batch_free(&b);
    for (unsigned i = 0; i < w->topology->n_hosts && rv == MC_OK; i++) {
        const struct topology_host *h = &w->topology->hosts[i];

        for (unsigned l = 0; l < h->n_links; l++)
            if (h->links[l].weather.bits_per_s > 0)
                add_rate(&b, h->links[l].name, &h->links[l]);
        rv = batch_run(&b, &w->hosts[i].space, "tc", e);
        batch_free(&b);
    }
    return rv;
}

/* --- delay -------------------------------------------------------------------------------------
 */

/* pN leaves the bridge, and a pair qN-bN takes its place; the relay is between pN and qN. */
static enum mc_err
lengthen(struct warden *w, struct warden_port *p, mc_ns delay, struct errbuf *e)
{
    const char *number = p->name + 1;
    char *outer = mc_printf("q%s", number);
    struct batch before = {0}, after = {0};
    enum mc_err rv;

    batch_add(&before, &p->link->at, "link add %s type veth peer name b%s", outer, number);
    batch_add(&before, &p->link->at, "link set %s up", outer);
    batch_add(&after, &p->link->at, "link set %s nomaster", p->name);
    batch_add(&after, &p->link->at, "link set b%s master n%u up", number, p->network + 1);
    rv = batch_run(&before, NULL, "ip", e);
    if (rv == MC_OK)
        rv = delay_start(&p->relay, p->name, outer, delay, e);
    if (rv == MC_OK)
        rv = batch_run(&after, NULL, "ip", e);
    if (rv == MC_OK)
        p->bridged[0] = 'b';
    batch_free(&before);
    batch_free(&after);
    free(outer);
    return rv;
}

static enum mc_err
shorten(struct warden *w, struct warden_port *p, struct errbuf *e)
{
    struct batch b = {0};
    enum mc_err rv;

    delay_stop(&p->relay);
    batch_add(&b, &p->link->at, "link del q%s", p->name + 1);
    batch_add(&b, &p->link->at, "link set %s master n%u", p->name, p->network + 1);
    rv = batch_run(&b, NULL, "ip", e);
    p->bridged[0] = 'p';
    batch_free(&b);
    return rv;
}

enum mc_err
build_delay(struct warden *w, struct warden_port *p, mc_ns delay, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    if (delay == p->delay_ns)
        return MC_OK;
    if (p->delay_ns == 0)
        rv = lengthen(w, p, delay, e);
    else if (delay == 0)
        rv = shorten(w, p, e);
    else
        rv = delay_change(&p->relay, delay, e);
    if (rv == MC_OK)
        p->delay_ns = delay;
    return rv;
}

static enum mc_err
build_delays(struct warden *w, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < w->n_ports && rv == MC_OK; i++)
        rv = build_delay(w, &w->ports[i], w->ports[i].link->weather.delay_ns, e);
    return rv;
}

/* --- faults ------------------------------------------------------------------------------------
 */

enum mc_err
build_rules(struct warden *w, struct errbuf *e)
{
    struct fault_port *ports = mc_alloc((w->n_ports + 1) * sizeof(*ports));
    struct buf text = {0};
    const char *argv[] = {"nft", "-f", "-", NULL};
    bool needed = w->has_rules || w->faults.n_cuts > 0;
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < w->n_ports; i++) {
        const struct warden_port *p = &w->ports[i];

        ports[i] = (struct fault_port){p->bridged, p->host, p->network, p->loss_ppm};
        needed |= p->loss_ppm > 0;
    }
    faults_rules(&w->faults, ports, w->n_ports, &text);
    if (needed)
        rv = run_all(NULL, NULL, argv, (struct str){text.p, text.n}, e);
    w->has_rules |= needed && rv == MC_OK;
    buf_free(&text);
    free(ports);
    return rv;
}

enum mc_err
build_networks(struct warden *w, struct errbuf *e)
{
    enum mc_err rv = build_spaces(w, e);

    if (rv == MC_OK)
        rv = build_switch(w, e);
    if (rv == MC_OK)
        rv = build_rates(w, e);
    if (rv == MC_OK)
        rv = build_delays(w, e);
    if (rv == MC_OK)
        rv = build_hosts(w, e);
    if (rv == MC_OK)
        rv = build_rules(w, e);
    return rv;
}

/* --- files -------------------------------------------------------------------------------------
 */

static enum mc_err
make_file(struct warden *w, struct warden_host *h, const struct topology_file *f, struct errbuf *e)
{
    const struct expand x = warden_expand(w, h);
    char *from = topology_template_path(w->topology, f), *to = mc_printf("%s/%s", h->dir, f->name);
    struct buf text = {0}, out = {0};
    enum mc_err rv = MC_OK;
    size_t offset;

    if (!file_load(from, TEMPLATE_BYTES_MAX, &text))
        rv = err_sys(e, from);
    else
        rv = expand(&x, (struct str){text.p, text.n}, &out, &offset, e);
    if (rv == MC_OK && (!file_replace(to, &out) || chmod(to, f->mode) < 0))
        rv = err_sys(e, to);
    buf_free(&text);
    buf_free(&out);
    free(from);
    free(to);
    return rv;
}

enum mc_err
build_files(struct warden *w, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < w->topology->n_hosts; i++)
        for (unsigned f = 0; f < w->hosts[i].conf->n_files && rv == MC_OK; f++)
            rv = make_file(w, &w->hosts[i], &w->hosts[i].conf->files[f], e);
    return rv;
}
