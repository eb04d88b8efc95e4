/* SPDX-License-Identifier: BSD-2-Clause
 *
 * heritage.h - what a process leaves to the one that takes its place (upgrade.h): descriptors, and
 * what was learned that only processes know.  Control thread.
 *
 * The first descriptor is a memfd with JSON, which says what the others are, by their numbers:
 *
 *   {"version": 1, "release": "...",
 *    "listeners": [{"address": "0.0.0.0:80", "sockets": [1, 2]}],
 *    "admin": [{"address": "unix:/run/meercat/meercat.sock", "socket": 3}],
 *    "vips": [{"address": "192.0.2.1", "prefix": 32, "interface": "eth0"}],
 *    "access_log": {"file": "/var/log/...", "fd": 4},
 *    "cluster": {"bind": "...", "udp": 5, "tcp": 6, "incarnation": 17, "members": ["..."],
 *                "words": ["..."]},
 *    "takeover": {"bind": "...", "udp": 7, "tcp": 8, "peers": [{"id": 9, "address": "..."}]},
 *    "withdrawn": false, "tickets": "base64", "costs": {"POOL": ["..."]},
 *    "servers": [{"pool": ..., "server": ..., "address": ..., ...}]}
 *
 * Unknown members are passed over, missing ones mean that there is nothing; a release that would be
 * misunderstood says a higher version.  What does not fit the new configuration is closed.
 */
#ifndef MC_CONTROL_HERITAGE_H
#define MC_CONTROL_HERITAGE_H

#include "base/err.h"
#include "cluster/cluster.h"
#include "control/binds.h"
#include "fleet/pool.h"

#define HERITAGE_VERSION 1
#define HERITAGE_BYTES   (64u << 20)
#define HERITAGE_FDS     8192

struct node;
struct heritage;
struct takeover_heritage;

/* --- who leaves it --- */

/* fds[0] is the caller's to close, the others are borrowed; the array is to be freed. */
enum mc_err heritage_make(const struct node *, int **fds, unsigned *n, struct errbuf *);

/* --- who gets it --- */

/* The descriptors are taken over, also on an error. */
enum mc_err heritage_read(const int *fds, unsigned n, struct heritage **, struct errbuf *);
/* NULL: nothing.  Descriptors that nobody took are closed. */
void heritage_free(struct heritage **);

/* All that take a heritage may be given NULL, and then find nothing. */

void heritage_binds(struct heritage *, struct binds *);
/* The listening socket of that address, the caller's from now on; -1: none. */
int heritage_admin(struct heritage *, const struct addr *);
/* The i-th address that the process before may carry; false: there are no more. */
bool heritage_vip(const struct heritage *, unsigned i, struct addr_net *, const char **interface);
int heritage_access_log(struct heritage *, const char *file);
/* False: the process before was in no cluster, or at another address. */
bool heritage_cluster(struct heritage *, const struct addr *bind, struct cluster_heritage *);
/* The i-th live member's address, from 0; NULL: there are no more. */
const char *heritage_member(const struct heritage *, unsigned i);
/* What the process before had of takeover; sockets are -1 where it was at another address, or had
 * none. */
void heritage_takeover(struct heritage *, const struct addr *bind, struct takeover_heritage *);
/* The operator's words, as words_save() writes them. */
void heritage_words(const struct heritage *, struct buf *);
/* The operator had said that this balancer is to attract no traffic. */
bool heritage_withdrawn(const struct heritage *);
bool heritage_secret(const struct heritage *, struct keyfile *);
/* Before pools are in force, and when they are. */
void heritage_costs(const struct heritage *, struct fleet *);
void heritage_servers(const struct heritage *, struct fleet *);

#endif
