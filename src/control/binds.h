/* SPDX-License-Identifier: BSD-2-Clause
 *
 * binds.h - the sockets that clients connect to, kept over reloads by address.  Control thread.
 *
 * Each worker has a socket of its own on an IP address (SO_REUSEPORT); a unix socket is one that
 * all share.  Workers listen on duplicates: closing ours ends the address once theirs are closed
 * too.
 */
#ifndef MC_CONTROL_BINDS_H
#define MC_CONTROL_BINDS_H

#include <sys/types.h>

#include "base/err.h"
#include "proxy/snapshot.h"

struct binds;

struct binds_how {
    unsigned unix_mode;
    mc_ns user_timeout_ns;
    bool absent; /* the host may not have the address now: one that comes and goes */
};

struct binds *binds_new(unsigned n_workers);
void binds_free(struct binds **); /* closes all, removes the files of unix sockets */

/* A new set of addresses is asked for, one binds_take() each; then what was not asked for is let
 * go, or the set is given up, and what was bound for it is closed. */
void binds_begin(struct binds *);
/* out->addr, ->fds (an array that the caller frees; the descriptors are ours) and ->id. */
enum mc_err binds_take(struct binds *, const struct addr *, const struct binds_how *,
                       struct bind_fd *out, struct errbuf *);
void binds_give_up(struct binds *);
/* Workers have been told of the new set: lets go of the sockets that have retired, at once, so that
 * nobody queues where nobody will accept.  A worker may still be reading the set before, so the
 * descriptors stay taken, by sockets that lead nowhere, until binds_close_retired(). */
void binds_let_go(struct binds *);
void binds_close_retired(struct binds *);

/* --- from one process to the next: both have the same sockets, and nobody who queues there is lost
 * when one of them closes its own ---------------------------------------------------------------
 */

/* n >= 1 sockets that are bound to the address already, taken over; for the first set. */
void binds_inherit(struct binds *, const struct addr *, const int *fds, unsigned n);
/* What is bound, i counted from 0: how many sockets, 0 when there is no such address. */
unsigned binds_show(const struct binds *, unsigned i, struct addr *, const int **fds);
/* The files of unix sockets are another's from here on. */
void binds_hand_over(struct binds *);
/* The kernel lets only who owns the sockets of an address open more of them. */
void binds_give(const struct binds *, uid_t, gid_t);

#endif
