/* SPDX-License-Identifier: BSD-2-Clause
 *
 * repair.h - a TCP connection read, rebuilt and dropped without a byte on the wire (TCP_REPAIR).
 *
 * All of it needs CAP_NET_ADMIN.  A socket must not be read by another thread meanwhile: recv(2)
 * fails with EPERM on one that is in repair.
 */
#ifndef MC_TAKEOVER_REPAIR_H
#define MC_TAKEOVER_REPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "takeover/flow_key.h"

/* MC_OK: this process may; else what is missing. */
enum mc_err repair_probe(struct errbuf *);

/* Of a connection just accepted, before anything is sent on it: the sequence numbers of the first
 * byte that recv(2) will return, and of the first that send(2) takes.  After that they are counted.
 * Once a connection, 3 us. */
enum mc_err repair_bases(int fd, uint32_t *recv_base, uint32_t *send_base, struct tcp_params *,
                         struct errbuf *);

/* What is known of a connection whose owner is dead. */
struct repair {
    struct flow_key key;
    struct tcp_params params;
    /* The first byte that nobody has: reception goes on here.  That is for the replica to know: the
     * packet at hand may be an older one, or newer than one that was lost. */
    uint32_t recv_next;
    uint32_t send_next; /* the first byte that the client has not: sending goes on here */
    uint16_t window;    /* as the client told it last, not scaled */
    uint32_t ts;        /* the client's timestamp, and ours that it echoes, from its last packet */
    uint32_t ts_echo;   /* with TCP_PARAMS_TIMESTAMPS only */
    const uint8_t *payload; /* received here from recv_next on: recv(2) gets it first */
    size_t n_payload;
    uint32_t mark;    /* SO_MARK; 0: none */
    unsigned ifindex; /* for link-local addresses */
};

/* The connection, established, nonblocking and close-on-exec.  It says nothing until something is
 * sent on it; with payload, the next acknowledgement that it sends covers that.  A socket of this
 * host's that stands in the way and belongs to no process is destroyed.  *taken: how many bytes
 * from recv_next on recv(2) finds already. */
enum mc_err repair_rebuild(const struct repair *, int *fd, size_t *taken, struct errbuf *);

/* Makes the kernel acknowledge again what it has received, for acknowledgements that the guard has
 * held; between guard_ack_begin() and guard_ack_end(), or the client answers and believes nothing
 * of it. */
void repair_ack(int fd);

/* The kernel forgets the connection at once, and says nothing, now or later.  The descriptor is
 * still the caller's to close. */
void repair_drop(int fd);

/* This host's kernel has a connection of that name, whoever's; 5 us. */
bool repair_is_known(const struct flow_key *);

/* Destroys the sockets without a process (orphans) whose local end is one of these addresses
 * ("*:80": any).  They fall silent only where a guard silences them.  Returns how many there were,
 * or -1: the kernel cannot (errbuf). */
int repair_destroy_orphans(const struct addr *, unsigned n, struct errbuf *);

/* Is there a TCP connection of this host, of whatever process and port, whose local end is this IP
 * address?  Where the kernel does not say: yes. */
bool repair_has_connections(const struct addr *);

#endif
