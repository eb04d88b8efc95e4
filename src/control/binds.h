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

#include "base/err.h"
#include "proxy/snapshot.h"

struct binds;

struct binds *binds_new(unsigned n_workers);
void binds_free(struct binds **); /* closes all, removes the files of unix sockets */

/* A new set of addresses is asked for, one binds_take() each; then it is either kept, and what was
 * not asked for retires, or given up, and what was bound for it is closed. */
void binds_begin(struct binds *);
/* out->addr, ->fds (an array that the caller frees; the descriptors are ours) and ->id. */
enum mc_err binds_take(struct binds *, const struct addr *, unsigned unix_mode, struct bind_fd *out,
                       struct errbuf *);
void binds_keep(struct binds *);
void binds_give_up(struct binds *);
/* Closes what has retired.  Workers must have been told of the new set. */
void binds_close_retired(struct binds *);
unsigned binds_n_retired(const struct binds *);

#endif
