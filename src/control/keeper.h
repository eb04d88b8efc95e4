/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keeper.h - takes the addresses of a balancer away when it cannot do so itself.
 *
 * A child process, forked before there are threads and sockets.  It holds a list of addresses in
 * memory that it shares with the balancer, and removes them from their interfaces
 *
 * - as soon as the balancer has died, of whatever (a pipe ends);
 * - when the balancer has not ticked for a while: stopped, or hung.  Time in which the keeper
 *   itself did not run is not held against the balancer: the machine stood still, not the process.
 *
 * It only ever removes.  A balancer that comes to itself finds out by keeper_took() and decides
 * what to carry.  The keeper ends with the balancer.
 *
 * Control thread, but for what the child runs.
 */
#ifndef MC_CONTROL_KEEPER_H
#define MC_CONTROL_KEEPER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/units.h"
#include "control/privs.h"
#include "io/addr.h"

#define KEEPER_SLOTS 64

struct keeper;

/* Forks.  stall_ns: without a tick for so long, the balancer counts as hung. */
enum mc_err keeper_start(const struct privs *, mc_ns stall_ns, struct keeper **, struct errbuf *);
/* The child ends, and removes nothing any more. */
void keeper_stop(struct keeper **);
/* How often to tick, so that one tick that comes late does no harm. */
mc_ns keeper_tick_every(const struct keeper *);
/* Still here.  False: the keeper is not, and the log has said so. */
bool keeper_tick(struct keeper *);
/* The balancer will not tick for longer than usual, or is done with that: reading a large
 * configuration is no hang. */
void keeper_busy(struct keeper *, bool);

/* To be called before the address is put there: from then on it is removed when it must.  Counts
 * as a tick: who was silent before it held anything (it started) is no worse for that. */
void keeper_hold(struct keeper *, unsigned slot, unsigned ifindex, const struct addr_net *);
/* The address was removed, or is somebody else's. */
void keeper_drop(struct keeper *, unsigned slot);
/* A local route (netlink_local_add()), which goes when the balancer is dead, not when it hangs: its
 * connections may live on.  To be called before and after it is there. */
void keeper_hold_local(struct keeper *, unsigned slot, const struct addr_net *);
void keeper_drop_local(struct keeper *, unsigned slot);
/* Did the keeper remove the address of this slot?  Then it holds it no more. */
bool keeper_took(struct keeper *, unsigned slot);

/* --- pure: what counts as silence --- */

struct keeper_silence {
    uint64_t tick;   /* the last one seen */
    mc_ns looked_ns; /* when */
    mc_ns silent_ns; /* since it changed, as far as the keeper was there to see */
};
/* A look at the tick word; how long it has not changed.  The keeper means to look every
 * every_ns: of a longer gap only twice that counts. */
mc_ns keeper_look(struct keeper_silence *, mc_ns now, uint64_t tick, mc_ns every_ns);

#endif
