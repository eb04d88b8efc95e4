/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_maps.c - what the guard's programs look up: addresses, flows, peers.
 *
 * Any thread; what takes more than one call of bpf(2), or the table of peers, takes the lock.
 */
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include "base/check.h"
#include "takeover/guard_priv.h"
#include "takeover/guard_slots.h"

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

static void
forget_away(struct guard *g, const struct flow_key *key)
{
    bpf_map_delete_elem(g->inner->fd[GUARD_MAP_away], key);
}

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
    forget_away(g, key); /* it was another's before it was rebuilt here */
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
guard_release(struct guard *g, const struct flow_key *key)
{
    uint64_t until = (uint64_t)units_clock_ns() + GUARD_RELEASE_NS;

    forget_away(g, key);
    bpf_map_update_elem(g->inner->fd[GUARD_MAP_released], key, &until, BPF_ANY);
}

/* --- peers -------------------------------------------------------------------------------------
 */

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
    err = guard_interface_mac(ifindex, p.own_mac, eb);
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
    struct guard_shared s = {.to = *to, .stand_in = guard_stand_in(to->ifindex, a)};

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
