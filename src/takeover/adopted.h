/* SPDX-License-Identifier: BSD-2-Clause
 *
 * adopted.h - a connection that another balancer served and that was rebuilt here, on its way from
 * the takeover thread to the worker that is to serve it.
 */
#ifndef MC_TAKEOVER_ADOPTED_H
#define MC_TAKEOVER_ADOPTED_H

#include "takeover/flow_key.h"
#include "takeover/repair.h"
#include "takeover/replica.h"

/* Positions count bytes from the start of the connection, each way (wire.h). */
struct adopted {
    struct flow_key key;
    char *from;    /* the balancer's name, for the log */
    uint32_t slot; /* in the guard, which knows the flow: its gate is at plan.in_pos */
    int fd;        /* established, nonblocking, close-on-exec; the taker sets it to -1 */
    /* The client waits for an acknowledgement, and sends no more before: the held packet had bytes.
     * The kernel has not seen it come and will not send one by itself. */
    bool ack_due;
    /* The rest of its life in frames and numbers is in the replica: params, the two bases, and the
     * kept bytes.  Reception on fd goes on at plan.in_pos, sending at plan.out_pos; what of it came
     * in the held packet is in fd's queue already. */
    struct replica *replica;
    struct replica_plan plan; /* points into the replica */
};

/* With its replica; fd is closed without a byte unless it was taken (-1).  NULL'ed. */
void adopted_free(struct adopted **);

#endif
