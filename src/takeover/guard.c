/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard.c - loads the guard's programs and keeps their maps.
 *
 * What changes with every request (a flow's gate and flags, the lease) is in memory that the
 * programs share: a store, and no call.  The other maps are changed by bpf(2), when a connection
 * begins or ends, or a peer comes or goes.
 */
#include "takeover/guard.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/guard_object.h"
#include "takeover/guard_priv.h"
#include "takeover/guard_slots.h"
#include "takeover/repair.h"

#define GUARD_MAGIC    0x47554152u
#define FLOWS_MAX      262144u
#define AWAY_MAX       65536u
#define RELEASED_MAX   16384u
#define RING_BYTES     (4u << 20)
#define RING_BYTES_MIN 65536u /* some segments of the longest kind */

static const char *const map_names[] = {
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

/* --- ports -------------------------------------------------------------------------------------
 */

static bool
port_of(const struct addr *a, struct guard_port *p)
{
    uint16_t port;

    memset(p, 0, sizeof(*p));
    if (!flow_key_end(a, p->addr, &port))
        return false;
    p->port = port;
    return true;
}

static bool
is_among(const struct guard_port *p, const struct addr *addrs, unsigned n)
{
    struct guard_port one;

    for (unsigned i = 0; i < n; i++)
        if (port_of(&addrs[i], &one) && memcmp(p, &one, sizeof(one)) == 0)
            return true;
    return false;
}

static void
forget_other_ports(struct guard_inner *in, const struct addr *addrs, unsigned n)
{
    struct guard_port key, next;
    int fd = in->fd[GUARD_MAP_ports];
    bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

    while (more) {
        key = next;
        more = bpf_map_get_next_key(fd, &key, &next) == 0;
        if (!is_among(&key, addrs, n))
            bpf_map_delete_elem(fd, &key);
    }
}

/* The programs look at the bits first: a bit too many does no harm, so they are set before and
 * cleared after the map has the port. */
static void
set_port_bits(struct guard_inner *in, const struct addr *addrs, unsigned n, bool only)
{
    uint64_t bits[GUARD_PORT_WORDS] = {0};
    struct guard_port p;

    for (unsigned i = 0; i < n; i++)
        if (port_of(&addrs[i], &p))
            bits[p.port / 64] |= UINT64_C(1) << p.port % 64;
    for (unsigned i = 0; i < GUARD_PORT_WORDS; i++)
        __atomic_store_n(&in->port_bits[i], only ? bits[i] : bits[i] | in->port_bits[i],
                         __ATOMIC_RELEASE);
}

enum mc_err
guard_ports_set(struct guard *g, const struct addr *addrs, unsigned n, struct errbuf *eb)
{
    struct guard_inner *in = g->inner;
    uint32_t yes = 1;
    struct guard_port p;
    enum mc_err err = MC_OK;

    MC_CHECK(g, GUARD_MAGIC);
    pthread_mutex_lock(&in->lock);
    set_port_bits(in, addrs, n, false);
    for (unsigned i = 0; i < n && err == MC_OK; i++)
        if (port_of(&addrs[i], &p) &&
            bpf_map_update_elem(in->fd[GUARD_MAP_ports], &p, &yes, BPF_ANY) != 0)
            err = err_sys(eb, "the guard's addresses");
    if (err == MC_OK) {
        forget_other_ports(in, addrs, n);
        set_port_bits(in, addrs, n, true);
    }
    pthread_mutex_unlock(&in->lock);
    return err;
}

/* --- flows -------------------------------------------------------------------------------------
 */

enum mc_err
guard_flow_add(struct guard *g, const struct flow_key *key, uint32_t gate, uint32_t *out)
{
    uint32_t slot;
    int rv;

    MC_CHECK(g, GUARD_MAGIC);
    slot = guard_slot_take(g->state, g->slots);
    if (slot == GUARD_NO_SLOT)
        return MC_EFULL;
    g->slots[slot].flags = 0;
    g->slots[slot].held = 0;
    __atomic_store_n(&g->slots[slot].gate, gate, __ATOMIC_RELEASE);
    rv = bpf_map_update_elem(g->inner->fd[GUARD_MAP_flows], key, &slot, BPF_NOEXIST);
    if (rv != 0) {
        guard_slot_give(g->state, g->slots, slot);
        return rv == -EEXIST ? MC_EEXIST : MC_EFULL;
    }
    guard_away_del(g, key); /* it was another's before it was rebuilt here */
    *out = slot;
    return MC_OK;
}

void
guard_flow_del(struct guard *g, const struct flow_key *key, uint32_t slot)
{
    MC_CHECK(g, GUARD_MAGIC);
    MC_ASSERT(slot < g->state->n_slots);
    if (bpf_map_delete_elem(g->inner->fd[GUARD_MAP_flows], key) == 0)
        guard_slot_give(g->state, g->slots, slot);
}

bool
guard_flow_known(const struct guard *g, const struct flow_key *key)
{
    uint32_t slot;

    return bpf_map_lookup_elem(g->inner->fd[GUARD_MAP_flows], key, &slot) == 0;
}

void
guard_away_set(struct guard *g, const struct flow_key *key, unsigned peer)
{
    struct guard_away to = {.peer = peer};

    MC_ASSERT(peer < GUARD_PEERS_MAX);
    pthread_mutex_lock(&g->inner->lock);
    to.alive = g->inner->peer[peer].alive;
    pthread_mutex_unlock(&g->inner->lock);
    if (to.alive != 0)
        bpf_map_update_elem(g->inner->fd[GUARD_MAP_away], key, &to, BPF_ANY);
}

void
guard_away_del(struct guard *g, const struct flow_key *key)
{
    bpf_map_delete_elem(g->inner->fd[GUARD_MAP_away], key);
}

void
guard_release(struct guard *g, const struct flow_key *key)
{
    uint64_t until = (uint64_t)units_clock_ns() + GUARD_RELEASE_NS;

    guard_away_del(g, key);
    bpf_map_update_elem(g->inner->fd[GUARD_MAP_released], key, &until, BPF_ANY);
}

/* --- peers -------------------------------------------------------------------------------------
 */

static enum mc_err
interface_mac(unsigned ifindex, uint8_t mac[6], struct errbuf *eb)
{
    struct ifreq r = {.ifr_ifindex = (int)ifindex};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCGIFNAME, &r) == 0 && ioctl(fd, SIOCGIFHWADDR, &r) == 0;
    int family = ok ? r.ifr_hwaddr.sa_family : 0;

    if (!ok)
        err_sys(eb, "interface");
    if (fd >= 0)
        close(fd);
    if (ok && family != ARPHRD_ETHER && family != ARPHRD_LOOPBACK) {
        err_set(eb, "%.16s is no Ethernet interface", r.ifr_name);
        return MC_ENOTSUP;
    }
    if (ok)
        memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    return ok ? MC_OK : MC_ESYS;
}

static struct guard_mac
mac_key(const uint8_t mac[6])
{
    struct guard_mac m = {.zero = {0}};

    memcpy(m.mac, mac, sizeof(m.mac));
    return m;
}

/* The same for as long as it lives. */
static uint32_t
number_of_life(struct guard_inner *in, uint32_t index)
{
    if (in->peer[index].alive != 0)
        return in->peer[index].alive;
    if (++in->n_lives == 0) /* all numbers have been used */
        in->n_lives = 1;
    return in->n_lives;
}

static enum mc_err
put_peer(struct guard_inner *in, uint32_t index, const struct guard_peer *p, struct errbuf *eb)
{
    struct guard_mac old = mac_key(in->peer[index].mac), new = mac_key(p->mac);

    if (memcmp(&old, &new, sizeof(old)) != 0 && in->peer[index].ifindex != 0)
        bpf_map_delete_elem(in->fd[GUARD_MAP_macs], &old);
    if (bpf_map_update_elem(in->fd[GUARD_MAP_macs], &new, &index, BPF_ANY) != 0 ||
        bpf_map_update_elem(in->fd[GUARD_MAP_peers], &index, p, BPF_ANY) != 0)
        return err_sys(eb, "the guard's peers");
    in->peer[index] = *p;
    return MC_OK;
}

enum mc_err
guard_peer_set(struct guard *g, unsigned peer, bool alive, unsigned ifindex, const uint8_t mac[6],
               struct errbuf *eb)
{
    struct guard_peer p = {.ifindex = ifindex};
    enum mc_err err;

    MC_CHECK(g, GUARD_MAGIC);
    MC_ASSERT(peer < GUARD_PEERS_MAX);
    memcpy(p.mac, mac, sizeof(p.mac));
    err = interface_mac(ifindex, p.own_mac, eb);
    if (err != MC_OK)
        return err;
    pthread_mutex_lock(&g->inner->lock);
    p.alive = alive ? number_of_life(g->inner, peer) : 0;
    err = put_peer(g->inner, peer, &p, eb);
    pthread_mutex_unlock(&g->inner->lock);
    return err;
}

/* --- addresses that one balancer carries --------------------------------------------------------
 */

static bool
ip_of(const struct addr *a, struct guard_ip *out)
{
    uint16_t port;

    return flow_key_end(a, out->b, &port);
}

/* Of that interface, in whose name it may ask who its neighbours are; 0: it has none. */
static uint32_t
stand_in(unsigned ifindex, const struct addr *but)
{
    struct ifaddrs *all = NULL;
    struct ifreq r = {.ifr_name = ""};
    uint32_t found = 0;

    if (but->u.sa.sa_family != AF_INET || if_indextoname(ifindex, r.ifr_name) == NULL ||
        getifaddrs(&all) != 0)
        return 0;
    for (const struct ifaddrs *i = all; i != NULL && found == 0; i = i->ifa_next) {
        struct sockaddr_in in = {.sin_family = AF_UNSPEC};

        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
            strcmp(i->ifa_name, r.ifr_name) != 0)
            continue;
        memcpy(&in, i->ifa_addr, sizeof(in));
        if (in.sin_addr.s_addr != but->u.in.sin_addr.s_addr)
            found = in.sin_addr.s_addr;
    }
    freeifaddrs(all);
    return found;
}

static enum mc_err
share(struct guard *g, const struct addr *a, const struct guard_shared *s, struct errbuf *eb)
{
    struct guard_ip ip;

    MC_CHECK(g, GUARD_MAGIC);
    MC_ASSERT(ip_of(a, &ip));
    if (bpf_map_update_elem(g->inner->fd[GUARD_MAP_shared], &ip, s, BPF_ANY) != 0)
        return err_sys(eb, "the guard's addresses that one balancer carries");
    return MC_OK;
}

enum mc_err
guard_address_here(struct guard *g, const struct addr *a, struct errbuf *eb)
{
    struct guard_shared s = {.here = 1};

    return share(g, a, &s, eb);
}

enum mc_err
guard_address_moved(struct guard *g, const struct addr *a, const struct guard_peer *to,
                    struct errbuf *eb)
{
    struct guard_shared s = {.to = *to, .stand_in = stand_in(to->ifindex, a)};

    return share(g, a, &s, eb);
}

void
guard_address_gone(struct guard *g, const struct addr *a)
{
    struct guard_ip ip;

    if (ip_of(a, &ip))
        bpf_map_delete_elem(g->inner->fd[GUARD_MAP_shared], &ip);
}

bool
guard_address_is_moved(const struct guard *g, const struct addr *a)
{
    struct guard_shared s;
    struct guard_ip ip;

    return ip_of(a, &ip) && bpf_map_lookup_elem(g->inner->fd[GUARD_MAP_shared], &ip, &s) == 0 &&
           !s.here;
}

/* --- what was held -----------------------------------------------------------------------------
 */

struct polling {
    guard_packet_f *fn;
    void *arg;
    unsigned n, max;
};

static _Thread_local struct polling polling;

/* A value below zero ends ring_buffer__consume(). */
static int
on_record(void *unused, void *data, size_t n)
{
    struct guard_record r;
    struct guard_packet p;

    if (n >= sizeof(r)) {
        memcpy(&r, data, sizeof(r));
        if (r.n_bytes <= n - sizeof(r) &&
            guard_packet_read(&r.key, (uint8_t *)data + sizeof(r), r.n_bytes, r.n_segment, &p)) {
            p.ifindex = r.ifindex;
            p.from_peer = r.from_peer;
            polling.fn(polling.arg, &p);
        }
    }
    return ++polling.n < polling.max ? 0 : -ECANCELED;
}

int
guard_fd(const struct guard *g)
{
    return ring_buffer__epoll_fd(g->inner->ring);
}

unsigned
guard_poll(struct guard *g, guard_packet_f *fn, void *arg, unsigned max)
{
    MC_CHECK(g, GUARD_MAGIC);
    polling = (struct polling){.fn = fn, .arg = arg, .max = max};
    ring_buffer__consume(g->inner->ring);
    return polling.n;
}

/* --- interfaces --------------------------------------------------------------------------------
 */

static void
add_addr(struct guard_interface *i, const struct ifaddrs *a)
{
    struct addr_net *to = &i->addr[i->n_addrs];
    const uint8_t *mask;
    size_t n;

    if (a->ifa_netmask == NULL || i->n_addrs == GUARD_ADDRS_MAX)
        return;
    *to = (struct addr_net){.prefix_bits = 0};
    if (a->ifa_addr->sa_family == AF_INET) {
        memcpy(&to->base.u.in, a->ifa_addr, to->base.len = sizeof(to->base.u.in));
        mask = (const uint8_t *)&((const struct sockaddr_in *)a->ifa_netmask)->sin_addr;
        n = 4;
    } else {
        memcpy(&to->base.u.in6, a->ifa_addr, to->base.len = sizeof(to->base.u.in6));
        mask = (const uint8_t *)&((const struct sockaddr_in6 *)a->ifa_netmask)->sin6_addr;
        n = 16;
    }
    for (size_t k = 0; k < n; k++)
        to->prefix_bits += (unsigned)__builtin_popcount(mask[k]);
    i->n_addrs++;
}

static void
add_addrs(struct guard_interface *i, const struct ifaddrs *all)
{
    for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next)
        if (a->ifa_addr != NULL && strcmp(a->ifa_name, i->name) == 0 &&
            (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6))
            add_addr(i, a);
}

unsigned
guard_interfaces(const struct guard *g, struct guard_interface *out, unsigned max)
{
    struct ifaddrs *all = NULL;
    unsigned n = 0;

    MC_CHECK(g, GUARD_MAGIC);
    if (getifaddrs(&all) != 0)
        return 0;
    for (unsigned i = 0; i < g->inner->n_interfaces && n < max; i++) {
        out[n] = (struct guard_interface){.ifindex = g->inner->ifindex[i]};
        if (if_indextoname(out[n].ifindex, out[n].name) == NULL ||
            interface_mac(out[n].ifindex, out[n].mac, NULL) != MC_OK)
            continue;
        add_addrs(&out[n++], all);
    }
    freeifaddrs(all);
    return n;
}

/* --- counters ----------------------------------------------------------------------------------
 */

void
guard_counters_read(int fd, struct guard_stats *out)
{
    int n_cpus = libbpf_num_possible_cpus();
    uint64_t *each;

    *out = (struct guard_stats){.n = {0}};
    if (n_cpus <= 0)
        return;
    each = mc_alloc((size_t)n_cpus * sizeof(*each));
    for (uint32_t i = 0; i < GUARD_N_COUNTERS; i++) {
        if (bpf_map_lookup_elem(fd, &i, each) != 0)
            continue;
        for (int cpu = 0; cpu < n_cpus; cpu++)
            out->n[i] += each[cpu];
    }
    free(each);
}

void
guard_stats(const struct guard *g, struct guard_stats *out)
{
    MC_CHECK(g, GUARD_MAGIC);
    guard_counters_read(g->inner->fd[GUARD_MAP_counters], out);
}

#define X(name, text) #name,
static const char *const counter_names[] = {GUARD_COUNTERS(X)};
#undef X
#define X(name, text) text,
static const char *const counter_texts[] = {GUARD_COUNTERS(X)};
#undef X

const char *
guard_counter_name(enum guard_counter c)
{
    MC_ASSERT(c < GUARD_N_COUNTERS);
    return counter_names[c];
}

const char *
guard_counter_text(enum guard_counter c)
{
    MC_ASSERT(c < GUARD_N_COUNTERS);
    return counter_texts[c];
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
        in->ifindex[i] = if_nametoindex(conf->interfaces[i]);
        if (in->ifindex[i] == 0) {
            err_set(eb, "there is no interface \"%s\"", conf->interfaces[i]);
            return MC_ENOENT;
        }
        err = interface_mac(in->ifindex[i], mac, eb);
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
        in->fd[i] = bpf_object__find_map_fd_by_name(in->object, map_names[i]);
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
    in->ring = ring_buffer__new(in->fd[GUARD_MAP_ring], on_record, NULL, NULL);
    if (g->state == NULL || in->port_bits == NULL || g->slots == NULL || in->ring == NULL)
        return err_sys(eb, "memory shared with the guard");
    begin_state(g, n_slots);
    return MC_OK;
}

/* A dead process's guard is still there, and silences what the kernel keeps of its connections: the
 * time to get rid of these.  Those of a process that lives, or that went in peace, may have
 * something to send still. */
static void
bury(const struct guard_inner *in, const struct guard_conf *conf)
{
    struct guard_state old;
    struct guard_seen seen;
    struct errbuf eb;
    int fd[GUARD_N_MAPS], n;
    bool dead = false;

    for (unsigned i = 0; i < in->n_interfaces && !dead; i++) {
        seen = guard_tc_look(in->ifindex[i]);
        guard_maps_open(&seen, fd);
        dead = guard_state_read(fd, &old) && guard_is_orphan(&old);
        guard_maps_close(fd);
    }
    if (!dead)
        return;
    n = repair_destroy_orphans(conf->ports, conf->n_ports, &eb);
    if (n < 0)
        log_warn("connections of process %u before this one stay in the kernel: %s", old.pid,
                 eb.text);
    else
        log_info("the guard of process %u is replaced, %d of its connections destroyed", old.pid,
                 n);
}

static enum mc_err
attach_all(struct guard_inner *in, struct errbuf *eb)
{
    int in_fd = bpf_program__fd(bpf_object__find_program_by_name(in->object, "guard_ingress"));
    int out_fd = bpf_program__fd(bpf_object__find_program_by_name(in->object, "guard_egress"));
    enum mc_err err = MC_OK;
    unsigned i;

    for (i = 0; i < in->n_interfaces && err == MC_OK; i++)
        err = guard_tc_attach(in->ifindex[i], in_fd, out_fd, eb);
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
