/* SPDX-License-Identifier: BSD-2-Clause
 *
 * build.h - a configuration made into a snapshot that workers can use.  Control thread.
 */
#ifndef MC_CONTROL_BUILD_H
#define MC_CONTROL_BUILD_H

#include "base/map.h"
#include "control/binds.h"
#include "control/conf.h"
#include "proxy/snapshot.h"

/* What lives longer than a snapshot and goes into each of them. */
struct build {
    struct fleet *fleet;
    struct binds *binds;
    struct access_log *access_log; /* NULL: none */
    struct tls_tickets *tickets;
    struct map listeners; /* name to struct listener_live; these live as long as we do:
                             connections count on them after their listener is gone */
    struct map limits;    /* name of a route to struct limit; likewise */
    uint64_t last_generation;
};

void build_fini(struct build *);
/* Takes what it needs out of conf (listeners, pools, routes are empty afterwards).  Nothing is in
 * force before build_keep(); on failure nothing has changed. */
enum mc_err build_snapshot(struct build *, struct conf *, struct snapshot **, struct errbuf *);
/* The snapshot is about to be given to workers: its servers are the present ones.  Once workers
 * know of it, binds_let_go() is due. */
void build_keep(struct build *, const struct snapshot *);
/* Frees a snapshot that no worker uses. */
void build_free_snapshot(struct snapshot **);

#endif
