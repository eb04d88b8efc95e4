/* SPDX-License-Identifier: BSD-2-Clause
 *
 * delay.h - a long wire: what comes in at one interface leaves at another after a while, both ways.
 * Kernels may lack netem; packet sockets they have.
 *
 * It is a process, child of the warden.  Frames pass with the header in which the kernel keeps what
 * is left to do of checksums and segments (struct virtio_net_hdr), so that offloading goes on.
 */
#ifndef MC_LAB_DELAY_H
#define MC_LAB_DELAY_H

#include <sys/types.h>

#include "base/err.h"
#include "base/units.h"

struct delay {
    pid_t pid;   /* 0: none */
    int control; /* takes another delay; closed: it ends */
};

/* Between two interfaces of the network namespace that we are in. */
enum mc_err delay_start(struct delay *, const char *inner, const char *outer, mc_ns delay,
                        struct errbuf *);
enum mc_err delay_change(struct delay *, mc_ns delay, struct errbuf *);
void delay_stop(struct delay *);

#endif
