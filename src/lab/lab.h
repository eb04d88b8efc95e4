/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lab.h - laboratories: hosts and networks in namespaces of this machine, as a topology says.
 *
 * Two processes hold one.  The **warden** is the first of its PID namespace and has the descriptors
 * of all network namespaces; when it ends, however it ends, the kernel kills every process of the
 * laboratory and takes its namespaces, links and rules away.  The **janitor**, its parent, waits
 * for that and removes what the kernel does not: control groups and the directory of the
 * laboratory. When the janitor is killed the warden goes, too, and the next command sweeps.
 *
 * Commands reach the warden through a socket in the laboratory's directory: /run/meercat-lab/NAME,
 * or $TMPDIR/meercat-lab/NAME where /run cannot be written.
 */
#ifndef MC_LAB_LAB_H
#define MC_LAB_LAB_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "lab/space.h"
#include "lab/topology.h"

#define LAB_NAME_MAX    40
#define LAB_FDS_MAX     8
#define LAB_REPLY_MAX   (4u << 20)
#define LAB_REQUEST_MAX 65536u

struct lab_up {
    const char *name, *topology_path;
    const char *dir;     /* where files and logs are kept, and stay; NULL: with the laboratory */
    const char *meercat; /* the program */
};

/* Brings it up and returns when all that it starts is up.  Nothing is left after a failure. */
enum mc_err lab_up(const struct lab_up *, const struct topology *, struct errbuf *);
/* Takes it down and returns when nothing is left. */
enum mc_err lab_down(const char *name, struct errbuf *);
/* Removes what laboratories left that are no more. */
void lab_sweep(void);
/* The names of those that are up, malloc'd each and together; returns how many. */
unsigned lab_list(char ***names);
void lab_list_free(char **names, unsigned n);
bool lab_name_is_good(const char *);
/* Puts the directory of this program before PATH: `meercat` on a host is the one that runs it. */
void lab_set_path(void);

/* An answer of the warden. */
struct lab_reply {
    bool ok;
    struct buf text; /* what was asked for, or what is wrong */
    int fds[LAB_FDS_MAX];
    unsigned n_fds;
};

/* Asks the warden: words[0] is the order.  Without MC_OK nothing came back. */
enum mc_err lab_ask(const char *name, unsigned n, char *const words[], struct lab_reply *,
                    struct errbuf *);
void lab_reply_free(struct lab_reply *);

#endif
