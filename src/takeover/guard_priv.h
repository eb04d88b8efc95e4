/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_priv.h - between the guard*.c that a process with a guard runs.
 */
#ifndef MC_TAKEOVER_GUARD_PRIV_H
#define MC_TAKEOVER_GUARD_PRIV_H

#include <net/if.h>
#include <pthread.h>
#include <stdatomic.h>

#include "takeover/guard.h"

/* Each is a map of guard.bpf.c and has its name. */
#define GUARD_MAPS(X) \
    X(state)          \
    X(slots)          \
    X(port_bits)      \
    X(flows)          \
    X(away)           \
    X(released)       \
    X(ports)          \
    X(peers)          \
    X(macs)           \
    X(shared)         \
    X(counters)       \
    X(ring)

enum guard_map {
#define X(name) GUARD_MAP_##name,
    GUARD_MAPS(X)
#undef X
        GUARD_N_MAPS
};

extern const char *const guard_map_names[GUARD_N_MAPS]; /* as the kernel has them */

struct bpf_object;
struct ring_buffer;

#define GUARD_MAGIC 0x47554152u

struct guard_inner {
    struct bpf_object *object;
    struct ring_buffer *ring;
    uint64_t *port_bits; /* shared memory, as are state and slots */
    int fd[GUARD_N_MAPS];
    char name[GUARD_INTERFACES_MAX][IF_NAMESIZE];
    atomic_uint ifindex[GUARD_INTERFACES_MAX]; /* by whoever attaches; 0: it is not there now */
    unsigned n_interfaces;
    bool attached;        /* its programs hang there, and are ours to remove */
    pthread_mutex_t lock; /* of what is behind it */
    struct guard_peer peer[GUARD_PEERS_MAX];
    uint32_t n_lives; /* of peers, so far */
};

/* --- guard_tc.c: where the programs hang --- */

/* The programs of a guard, by the ids that the kernel gives them; 0: there is none. */
struct guard_seen {
    unsigned in, out;
};

struct guard_seen guard_tc_look(unsigned ifindex);
/* Both directions; replaces what is there. */
enum mc_err guard_tc_attach(unsigned ifindex, int in_fd, int out_fd, struct errbuf *);
/* True: there was something. */
bool guard_tc_detach(unsigned ifindex);
/* libbpf says into the calling thread's memory why something failed, not to standard error. */
void guard_hush(void);
const char *guard_hushed(void); /* the last thing it said, one line; empty: nothing */

/* --- guard_net.c: the interfaces --- */

/* MC_ENOTSUP: it has no MAC address of Ethernet's.  eb: may be NULL. */
enum mc_err guard_interface_mac(unsigned ifindex, uint8_t mac[6], struct errbuf *eb);
/* An IPv4 address of that interface, in network order, but for this one: in its name the host may
 * ask who its neighbours are.  0: there is none, or this one is IPv6. */
uint32_t guard_stand_in(unsigned ifindex, const struct addr *but);

/* --- guard_told.c: what the programs tell --- */

/* For guard_poll(); NULL: no memory (errno). */
struct ring_buffer *guard_ring_new(int fd);
/* Sums the processors'; fd: the map of counters, -1: zeros. */
void guard_counters_read(int fd, struct guard_stats *out);

/* --- guard_show.c: somebody's guard, found through its programs --- */

/* Opens the maps of a guard, those that there are; -1: not, or this process may not (it needs
 * CAP_SYS_ADMIN).  Returns how many. */
unsigned guard_maps_open(const struct guard_seen *, int fd[GUARD_N_MAPS]);
void guard_maps_close(int fd[GUARD_N_MAPS]);
/* False: it cannot be read. */
bool guard_state_read(const int fd[GUARD_N_MAPS], struct guard_state *);
/* The process whose guard it is has ended. */
bool guard_is_orphan(const struct guard_state *);

#endif
