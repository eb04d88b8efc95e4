/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tickets.h - the keys of TLS session tickets: derived from the cluster's keys and the hour, so
 * that every balancer of a cluster resumes the others' sessions; a balancer alone draws its own.
 *
 * Control thread.
 */
#ifndef MC_CONTROL_TICKETS_H
#define MC_CONTROL_TICKETS_H

#include "cluster/keyring.h"
#include "io/tls.h"
#include "io/timer.h"

struct node;

struct tickets {
    struct tls_tickets *shared; /* what listeners are given */
    struct keyring *own;        /* of a balancer without secret keys of a cluster */
    struct keyfile secret;      /* what `own` is made of; an upgrade carries it on */
    int64_t hour;               /* for which keys were made; 0: none yet */
    struct timer timer;
};

/* The keys for an hour since 1970: the present one first, sealed by the ring's first key; then
 * those of the hour before and, against clocks that differ, of the next.  Returns how many. */
unsigned tickets_derive(const struct keyring *, int64_t hour,
                        struct tls_ticket_key out[TLS_TICKET_KEYS_MAX]);

/* Before the first snapshot is built.  secret: that of the process before; NULL: one is drawn. */
void tickets_open(struct node *, const struct keyfile *secret);
/* When the loop runs, and after the cluster's keys may have changed. */
void tickets_refresh(struct node *);
/* After the last snapshot. */
void tickets_close(struct node *);

#endif
