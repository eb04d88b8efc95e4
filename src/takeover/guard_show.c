/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_show.c - looks at the guard of another process, which may be dead, and removes it.
 *
 * The programs at an interface lead to their maps.  For display, and for the next guard_open().
 */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/check.h"
#include "takeover/guard_priv.h"

#define MAPS_MAX 32 /* of a program; ours has less than half */

static int
map_by_name(const char *name)
{
    for (unsigned i = 0; i < GUARD_N_MAPS; i++)
        if (strcmp(guard_map_names[i], name) == 0)
            return (int)i;
    return -1;
}

/* Keeps the descriptor, if it is one of those that we want and do not have. */
static bool
keep_map(uint32_t id, int fd[GUARD_N_MAPS])
{
    struct bpf_map_info info = {.id = 0};
    uint32_t n = sizeof(info);
    int map = bpf_map_get_fd_by_id(id), which;

    if (map < 0)
        return false;
    which = bpf_obj_get_info_by_fd(map, &info, &n) == 0 ? map_by_name(info.name) : -1;
    if (which < 0 || fd[which] >= 0) {
        close(map);
        return false;
    }
    fd[which] = map;
    return true;
}

static unsigned
open_maps_of(unsigned program, int fd[GUARD_N_MAPS])
{
    uint32_t ids[MAPS_MAX], n_info;
    struct bpf_prog_info info = {.nr_map_ids = MAPS_MAX, .map_ids = (uintptr_t)ids};
    int prog = program != 0 ? bpf_prog_get_fd_by_id(program) : -1;
    unsigned n = 0;

    if (prog < 0)
        return 0;
    n_info = sizeof(info);
    if (bpf_obj_get_info_by_fd(prog, &info, &n_info) == 0)
        for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++)
            n += keep_map(ids[i], fd);
    close(prog);
    return n;
}

unsigned
guard_maps_open(const struct guard_seen *seen, int fd[GUARD_N_MAPS])
{
    for (unsigned i = 0; i < GUARD_N_MAPS; i++)
        fd[i] = -1;
    return open_maps_of(seen->in, fd) + open_maps_of(seen->out, fd);
}

void
guard_maps_close(int fd[GUARD_N_MAPS])
{
    for (unsigned i = 0; i < GUARD_N_MAPS; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

bool
guard_state_read(const int fd[GUARD_N_MAPS], struct guard_state *out)
{
    struct bpf_map_info info = {.id = 0};
    uint32_t n = sizeof(info), first = 0;

    return fd[GUARD_MAP_state] >= 0 &&
           bpf_obj_get_info_by_fd(fd[GUARD_MAP_state], &info, &n) == 0 &&
           info.value_size == sizeof(*out) &&
           bpf_map_lookup_elem(fd[GUARD_MAP_state], &first, out) == 0 &&
           out->version == GUARD_VERSION;
}

bool
guard_is_orphan(const struct guard_state *s)
{
    return kill((pid_t)s->pid, 0) != 0 && errno == ESRCH;
}

/* --- display -----------------------------------------------------------------------------------
 */

static unsigned
count_keys(int fd, size_t key_bytes)
{
    uint8_t key[64], next[64];
    unsigned n = 0;
    bool more;

    MC_ASSERT(key_bytes <= sizeof(key));
    more = bpf_map_get_next_key(fd, NULL, next) == 0;
    /* a map that changes meanwhile may send us back to its begin */
    while (more && n < 1u << 24) {
        n++;
        memcpy(key, next, key_bytes);
        more = bpf_map_get_next_key(fd, key, next) == 0;
    }
    return n;
}

static void
show_lease(FILE *f, uint64_t until)
{
    uint64_t now = (uint64_t)units_clock_ns();
    char text[UNITS_TEXT];

    if (until == GUARD_NEVER)
        fprintf(f, "  lease     none is kept\n");
    else if (until >= now)
        fprintf(f, "  lease     %s more\n",
                units_duration_text((mc_ns)((until - now) / 1000000 * 1000000), text));
    else
        fprintf(f, "  lease     ran out %s ago: silent\n",
                units_duration_text((mc_ns)((now - until) / 1000000 * 1000000), text));
}

static void
show_peers(FILE *f, int fd, uint32_t heir)
{
    struct guard_peer p;
    char name[IF_NAMESIZE];

    for (uint32_t i = 0; i < GUARD_PEERS_MAX; i++) {
        if (bpf_map_lookup_elem(fd, &i, &p) != 0 || p.ifindex == 0)
            continue;
        fprintf(f, "  peer      %u: %02x:%02x:%02x:%02x:%02x:%02x through %s, %s%s\n", i, p.mac[0],
                p.mac[1], p.mac[2], p.mac[3], p.mac[4], p.mac[5],
                if_indextoname(p.ifindex, name) != NULL ? name : "an interface that has gone",
                p.alive ? "alive" : "dead", i == heir ? ", the heir" : "");
    }
}

static void
show_ports(FILE *f, int fd)
{
    struct guard_port next, key;
    struct flow_key k = {.remote_port = 0};
    struct addr local, remote;
    char text[ADDR_TEXT];
    bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

    for (unsigned n = 0; more && n < GUARD_PORTS_MAX; n++) {
        key = next;
        memcpy(k.local, key.addr, sizeof(k.local));
        k.local_port = key.port;
        flow_key_addrs(&k, &local, &remote);
        fprintf(f, "  address   %s\n", addr_text(&local, text));
        more = bpf_map_get_next_key(fd, &key, &next) == 0;
    }
}

static void
show_counters(FILE *f, int fd)
{
    struct guard_stats s;

    guard_counters_read(fd, &s);
    for (unsigned i = 0; i < GUARD_N_COUNTERS; i++)
        fprintf(f, "  %-15s %12" PRIu64 "  %s\n", guard_counter_name(i), s.n[i],
                guard_counter_text(i));
}

static enum mc_err
interface_index(const char *interface, unsigned *out, struct errbuf *eb)
{
    *out = if_nametoindex(interface);
    if (*out != 0)
        return MC_OK;
    err_set(eb, "there is no interface \"%s\"", interface);
    return MC_ENOENT;
}

static void
show(const char *interface, FILE *f, const int fd[GUARD_N_MAPS], const struct guard_state *s)
{
    fprintf(f, "%s: the guard of process %u, which %s\n", interface, s->pid,
            guard_is_orphan(s) ? "is dead" : "lives");
    show_lease(f, s->lease_until_ns);
    fprintf(f, "  flows     %u of %u protected, %u known to be others', %u left to the kernel\n",
            count_keys(fd[GUARD_MAP_flows], sizeof(struct flow_key)), s->n_slots,
            count_keys(fd[GUARD_MAP_away], sizeof(struct flow_key)),
            count_keys(fd[GUARD_MAP_released], sizeof(struct flow_key)));
    show_ports(f, fd[GUARD_MAP_ports]);
    show_peers(f, fd[GUARD_MAP_peers], s->heir);
    show_counters(f, fd[GUARD_MAP_counters]);
}

enum mc_err
guard_show(const char *interface, FILE *f, struct errbuf *eb)
{
    struct guard_seen seen;
    struct guard_state s;
    unsigned ifindex;
    int fd[GUARD_N_MAPS];
    enum mc_err err = interface_index(interface, &ifindex, eb);

    if (err != MC_OK)
        return err;
    seen = guard_tc_look(ifindex);
    if (seen.in == 0 && seen.out == 0) {
        err_set(eb, "%s has no guard", interface);
        return MC_ENOENT;
    }
    if (guard_maps_open(&seen, fd) == GUARD_N_MAPS && guard_state_read(fd, &s)) {
        show(interface, f, fd, &s);
    } else {
        err_set(eb, "%s has a guard that this program cannot read: %s", interface,
                geteuid() != 0 ? "only root may" : "it is another version's");
        err = MC_ENOTSUP;
    }
    guard_maps_close(fd);
    return err;
}

static bool
is_in_use(const struct guard_seen *seen, unsigned *pid)
{
    struct guard_state s;
    int fd[GUARD_N_MAPS];
    bool known;

    guard_maps_open(seen, fd);
    known = guard_state_read(fd, &s);
    guard_maps_close(fd);
    *pid = s.pid;
    return known && !guard_is_orphan(&s);
}

enum mc_err
guard_clear(const char *interface, bool *was, struct errbuf *eb)
{
    struct guard_seen seen;
    unsigned ifindex, pid;
    enum mc_err err = interface_index(interface, &ifindex, eb);

    if (err != MC_OK)
        return err;
    seen = guard_tc_look(ifindex);
    *was = seen.in != 0 || seen.out != 0;
    if (!*was)
        return MC_OK;
    if (is_in_use(&seen, &pid)) {
        err_set(eb, "%s has the guard of process %u, which lives and would put it back: end it",
                interface, pid);
        return MC_EEXIST;
    }
    if (!guard_tc_detach(ifindex)) {
        err_set(eb, "%s: the guard cannot be removed: %s", interface,
                geteuid() != 0 ? "only root may" : guard_hushed());
        return MC_ESYS;
    }
    return MC_OK;
}

enum mc_err
guard_each(void (*fn)(void *arg, const char *interface), void *arg, struct errbuf *eb)
{
    struct if_nameindex *all = if_nameindex();
    struct guard_seen seen;

    if (all == NULL)
        return err_sys(eb, "interfaces");
    for (struct if_nameindex *i = all; i->if_index != 0; i++) {
        seen = guard_tc_look(i->if_index);
        if (seen.in != 0 || seen.out != 0)
            fn(arg, i->if_name);
    }
    if_freenameindex(all);
    return MC_OK;
}
