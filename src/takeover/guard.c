/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard.c - the life of a guard: its programs are loaded, hung at interfaces, and taken away.
 *
 * What changes with every request (a flow's gate and flags, the lease) is in memory that the
 * programs share: a store, and no call.  The other maps are changed by bpf(2), when a connection
 * begins or ends, or a peer comes or goes (guard_maps.c).
 */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/guard_object.h"
#include "takeover/guard_priv.h"
#include "takeover/guard_slots.h"
#include "takeover/repair.h"

#define FLOWS_MAX      262144u
#define AWAY_MAX       65536u
#define RELEASED_MAX   16384u
#define RING_BYTES     (4u << 20)
#define RING_BYTES_MIN 65536u /* some segments of the longest kind */

const char *const guard_map_names[GUARD_N_MAPS] = {
#define X(name) #name,
    GUARD_MAPS(X)
#undef X
};

/* --- memory shared with the programs -----------------------------------------------------------
 */

/* An array map's elements, each at a multiple of 8 bytes. */
static size_t
array_bytes(size_t element, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (element + 7) / 8 * 8 * n;

    return (bytes + page - 1) / page * page;
}

static void *
map_array(int fd, size_t element, size_t n)
{
    void *p = mmap(NULL, array_bytes(element, n), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void
unmap_array(void *p, size_t element, size_t n)
{
    if (p != NULL)
        munmap(p, array_bytes(element, n));
}

static void
begin_state(struct guard *g, unsigned n_slots)
{
    *g->state = (struct guard_state){
        .lease_until_ns = GUARD_NEVER,
        .version = GUARD_VERSION,
        .heir = GUARD_PEER_NONE,
        .pid = (uint32_t)getpid(),
    };
    guard_slots_begin(g->state, g->slots, n_slots);
}

/* --- opening -----------------------------------------------------------------------------------
 */

static enum mc_err
find_interfaces(struct guard_inner *in, const struct guard_conf *conf, struct errbuf *eb)
{
    uint8_t mac[6];
    enum mc_err err;

    if (conf->n_interfaces == 0 || conf->n_interfaces > GUARD_INTERFACES_MAX) {
        err_set(eb, "the guard wants 1 to %d interfaces", GUARD_INTERFACES_MAX);
        return MC_EINVAL;
    }
    for (unsigned i = 0; i < conf->n_interfaces; i++) {
        snprintf(in->name[i], sizeof(in->name[i]), "%s", conf->interfaces[i]);
        in->ifindex[i] = if_nametoindex(conf->interfaces[i]);
        if (in->ifindex[i] == 0) {
            err_set(eb, "there is no interface \"%s\"", conf->interfaces[i]);
            return MC_ENOENT;
        }
        err = guard_interface_mac(in->ifindex[i], mac, eb);
        if (err != MC_OK)
            return err;
    }
    in->n_interfaces = conf->n_interfaces;
    return MC_OK;
}

static bool
may(cap_value_t right)
{
    cap_t caps = cap_get_proc();
    cap_flag_value_t has = CAP_CLEAR;
    bool ok = caps != NULL && cap_get_flag(caps, right, CAP_EFFECTIVE, &has) == 0 && has == CAP_SET;

    cap_free(caps);
    return ok;
}

/* The kernel says EPERM for all of it. */
static void
say_what_is_forbidden(struct errbuf *eb)
{
    if (!may(CAP_BPF) && !may(CAP_SYS_ADMIN))
        err_set(eb, "CAP_BPF is missing, for programs and maps in the kernel");
    else if (!may(CAP_NET_ADMIN))
        err_set(eb, "CAP_NET_ADMIN is missing, for programs that see packets");
    else
        err_set(eb, "BPF is forbidden here, whatever the capabilities (a container, a lockdown?)");
}

static enum mc_err
not_loaded(int rv, struct errbuf *eb)
{
    if (rv == -EPERM)
        say_what_is_forbidden(eb);
    else if (rv == -EACCES && !may(CAP_PERFMON) && !may(CAP_SYS_ADMIN))
        err_set(eb, "CAP_PERFMON is missing, for programs that look into packets");
    else if (rv == -ENOSYS)
        err_set(eb, "the kernel has no BPF");
    else
        err_set(eb, "the kernel does not take the guard (Linux 5.12 would): %s%s%s", guard_hushed(),
                guard_hushed()[0] ? ": " : "", strerror(-rv));
    return MC_ENOTSUP;
}

static unsigned
or_else(unsigned wanted, unsigned otherwise)
{
    return wanted != 0 ? wanted : otherwise;
}

static void
size_maps(struct bpf_object *o, const struct guard_conf *conf)
{
    const struct {
        const char *map;
        unsigned n;
    } sizes[] = {
        {"slots", or_else(conf->flows, FLOWS_MAX)},
        {"flows", or_else(conf->flows, FLOWS_MAX)},
        {"away", or_else(conf->away, AWAY_MAX)},
        {"released", or_else(conf->released, RELEASED_MAX)},
        {"ring", or_else(conf->ring_bytes, RING_BYTES)},
    };

    for (size_t i = 0; i < MC_COUNT(sizes); i++)
        bpf_map__set_max_entries(bpf_object__find_map_by_name(o, sizes[i].map), sizes[i].n);
}

static enum mc_err
load(struct guard_inner *in, const struct guard_conf *conf, struct errbuf *eb)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "meercat_guard");
    int rv;

    guard_hush();
    in->object =
        bpf_object__open_mem(guard_object, (size_t)(guard_object_end - guard_object), &opts);
    if (in->object == NULL)
        return not_loaded(-errno, eb);
    size_maps(in->object, conf);
    rv = bpf_object__load(in->object);
    if (rv != 0)
        return not_loaded(rv, eb);
    for (unsigned i = 0; i < GUARD_N_MAPS; i++) {
        in->fd[i] = bpf_object__find_map_fd_by_name(in->object, guard_map_names[i]);
        MC_ASSERT(in->fd[i] >= 0);
    }
    return MC_OK;
}

static enum mc_err
share_memory(struct guard *g, unsigned n_slots, struct errbuf *eb)
{
    struct guard_inner *in = g->inner;

    g->state = map_array(in->fd[GUARD_MAP_state], sizeof(*g->state), 1);
    in->port_bits = map_array(in->fd[GUARD_MAP_port_bits], sizeof(uint64_t), GUARD_PORT_WORDS);
    g->slots = map_array(in->fd[GUARD_MAP_slots], sizeof(*g->slots), n_slots);
    in->ring = guard_ring_new(in->fd[GUARD_MAP_ring]);
    if (g->state == NULL || in->port_bits == NULL || g->slots == NULL || in->ring == NULL)
        return err_sys(eb, "memory shared with the guard");
    begin_state(g, n_slots);
    return MC_OK;
}

/* Without CAP_SYS_ADMIN nobody can look whose it is; the next of one that lives is told so, and
 * does not come here (conf.later). */
static bool
is_of_the_dead(unsigned ifindex)
{
    struct guard_seen seen = guard_tc_look(ifindex);
    struct guard_state s;
    int fd[GUARD_N_MAPS];
    bool known;

    if (seen.in == 0 && seen.out == 0)
        return false;
    guard_maps_open(&seen, fd);
    known = guard_state_read(fd, &s);
    guard_maps_close(fd);
    return known ? guard_is_orphan(&s) : !may(CAP_SYS_ADMIN);
}

/* A dead process's guard is still there, and silences what the kernel keeps of its connections: the
 * time to get rid of these.  Those of a process that lives, or that went in peace, may have
 * something to send still. */
static void
bury(const struct guard_inner *in, const struct guard_conf *conf)
{
    struct errbuf eb;
    bool dead = false;
    int n;

    for (unsigned i = 0; i < in->n_interfaces && !dead; i++)
        dead = is_of_the_dead(in->ifindex[i]);
    if (!dead)
        return;
    n = repair_destroy_orphans(conf->ports, conf->n_ports, &eb);
    if (n < 0)
        log_warn("connections of the process before this one stay in the kernel: %s", eb.text);
    else
        log_info("the guard of a dead process is replaced, %d of its connections destroyed", n);
}

static enum mc_err
attach_to(const struct guard_inner *in, unsigned ifindex, struct errbuf *eb)
{
    int in_fd = bpf_program__fd(bpf_object__find_program_by_name(in->object, "guard_ingress"));
    int out_fd = bpf_program__fd(bpf_object__find_program_by_name(in->object, "guard_egress"));

    return guard_tc_attach(ifindex, in_fd, out_fd, eb);
}

static enum mc_err
attach_all(struct guard_inner *in, struct errbuf *eb)
{
    enum mc_err err = MC_OK;
    unsigned i;

    for (i = 0; i < in->n_interfaces && err == MC_OK; i++)
        err = attach_to(in, in->ifindex[i], eb);
    while (err != MC_OK && i > 0)
        guard_tc_detach(in->ifindex[--i]);
    return err;
}

static void
detach_dead(void *arg, const char *name)
{
    const struct guard_inner *in = arg;
    unsigned ifindex = if_nametoindex(name);
    struct guard_seen seen = guard_tc_look(ifindex);
    struct guard_state old;
    int fd[GUARD_N_MAPS];

    for (unsigned i = 0; i < in->n_interfaces; i++)
        if (in->ifindex[i] == ifindex)
            return;
    guard_maps_open(&seen, fd);
    if (guard_state_read(fd, &old) && guard_is_orphan(&old)) {
        guard_tc_detach(ifindex);
        log_info("the guard of process %u, which is dead, is removed from %s", old.pid, name);
    }
    guard_maps_close(fd);
}

static void
free_guard(struct guard **gp)
{
    struct guard *g = *gp;
    struct guard_inner *in = g->inner;

    if (g->slots != NULL)
        unmap_array(g->slots, sizeof(*g->slots), g->state->n_slots);
    unmap_array(g->state, sizeof(*g->state), 1);
    unmap_array(in->port_bits, sizeof(uint64_t), GUARD_PORT_WORDS);
    ring_buffer__free(in->ring);
    bpf_object__close(in->object);
    pthread_mutex_destroy(&in->lock);
    free(in);
    g->magic = 0;
    free(g);
    *gp = NULL;
}

static enum mc_err
check_conf(const struct guard_conf *conf, struct errbuf *eb)
{
    unsigned ring = or_else(conf->ring_bytes, RING_BYTES);

    if (ring < RING_BYTES_MIN || (ring & (ring - 1)) != 0) {
        err_set(eb, "the guard's ring of %u bytes is below %u or no power of two", ring,
                RING_BYTES_MIN);
        return MC_EINVAL;
    }
    if (conf->n_ports > GUARD_PORTS_MAX) {
        err_set(eb, "the guard knows at most %u addresses", GUARD_PORTS_MAX);
        return MC_ERANGE;
    }
    return MC_OK;
}

enum mc_err
guard_attach(struct guard *g, const struct addr *ports, unsigned n_ports, bool orphaned,
             struct errbuf *eb)
{
    enum mc_err err;

    MC_CHECK(g, GUARD_MAGIC);
    if (orphaned && repair_destroy_orphans(ports, n_ports, eb) < 0)
        log_warn("connections of the process before this one stay in the kernel: %s", eb->text);
    err = attach_all(g->inner, eb);
    g->inner->attached = err == MC_OK;
    return err;
}

/* What hangs in one direction only is not whole.  Another process's is not ours to replace. */
static bool
hangs(unsigned ifindex)
{
    struct guard_seen seen = guard_tc_look(ifindex);

    return seen.in != 0 && seen.out != 0;
}

unsigned
guard_mend(struct guard *g, struct errbuf *eb)
{
    struct guard_inner *in = g->inner;
    unsigned n = 0;

    MC_CHECK(g, GUARD_MAGIC);
    eb->text[0] = '\0';
    for (unsigned i = 0; in->attached && i < in->n_interfaces; i++) {
        unsigned now = if_nametoindex(in->name[i]);

        in->ifindex[i] = now;
        if (now == 0)
            err_set(eb, "%s has gone", in->name[i]);
        else if (!hangs(now))
            n += attach_to(in, now, eb) == MC_OK;
    }
    return n;
}

void
guard_yield(struct guard *g, mc_ns lease_until, const unsigned *ifindex, unsigned n)
{
    struct guard_inner *in = g->inner;

    MC_CHECK(g, GUARD_MAGIC);
    guard_lease(g, lease_until);
    for (unsigned i = 0; i < in->n_interfaces; i++) {
        unsigned k = 0;

        while (k < n && ifindex[k] != in->ifindex[i])
            k++;
        if (k == n)
            guard_tc_detach(in->ifindex[i]);
    }
    in->attached = false;
}

enum mc_err
guard_open(const struct guard_conf *conf, struct guard **out, struct errbuf *eb)
{
    struct guard *g = mc_alloc(sizeof(*g));
    enum mc_err err;

    g->magic = GUARD_MAGIC;
    g->inner = mc_alloc(sizeof(*g->inner));
    pthread_mutex_init(&g->inner->lock, NULL);
    err = check_conf(conf, eb);
    if (err == MC_OK)
        err = find_interfaces(g->inner, conf, eb);
    if (err == MC_OK)
        err = load(g->inner, conf, eb);
    if (err == MC_OK)
        err = share_memory(g, or_else(conf->flows, FLOWS_MAX), eb);
    if (err == MC_OK)
        err = guard_ports_set(g, conf->ports, conf->n_ports, eb);
    if (err == MC_OK && !conf->later) {
        bury(g->inner, conf);
        err = guard_attach(g, conf->ports, conf->n_ports, false, eb);
    }
    if (err != MC_OK) {
        free_guard(&g);
        return err;
    }
    if (!conf->later)
        guard_each(detach_dead, g->inner, NULL);
    *out = g;
    return MC_OK;
}

void
guard_close(struct guard **gp, bool remove)
{
    if (*gp == NULL)
        return;
    MC_CHECK(*gp, GUARD_MAGIC);
    remove = remove && (*gp)->inner->attached;
    for (unsigned i = 0; remove && i < (*gp)->inner->n_interfaces; i++)
        guard_tc_detach((*gp)->inner->ifindex[i]);
    free_guard(gp);
}
