/* SPDX-License-Identifier: BSD-2-Clause
 *
 * space.h - the namespaces that make a host: its network, its mounts, its name.
 *
 * They have no names in the file system: descriptors of the warden hold them, so that the kernel
 * takes them away when it ends, however it ends.  Processes of all hosts share one PID namespace,
 * the laboratory's.
 *
 * In a host's mounts /proc is the laboratory's, /sys tells of its own network, /run and
 * /sys/fs/bpf are its own and empty, /etc/hosts names the laboratory's hosts.
 */
#ifndef MC_LAB_SPACE_H
#define MC_LAB_SPACE_H

#include "base/err.h"

/* Descriptors, close-on-exec; -1: none. */
struct space {
    int net, mnt, uts;
};

#define SPACE_NONE ((struct space){-1, -1, -1})

/* Of the calling process, which must have one thread. */
enum mc_err space_open(struct space *, struct errbuf *);
/* Makes a host's.  keep: a directory that must be seen from within even when it is in /run.
 * hosts: a file that stands for /etc/hosts.  The caller stays where it is (`home`). */
enum mc_err space_new(const char *name, const char *keep, const char *hosts,
                      const struct space *home, struct space *out, struct errbuf *);
/* Moves the calling process; whatever is -1 is left alone. */
enum mc_err space_enter(const struct space *, struct errbuf *);

#endif
