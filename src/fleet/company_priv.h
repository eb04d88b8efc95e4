/* SPDX-License-Identifier: BSD-2-Clause
 *
 * company_priv.h - what the rest of fleet/ asks of company.c.  Control thread.
 */
#ifndef MC_FLEET_COMPANY_PRIV_H
#define MC_FLEET_COMPANY_PRIV_H

#include "fleet/company.h"
#include "fleet/live.h"
#include "place/share_wire.h"

/* A server by its key. */
struct company_name {
    uint64_t key;
    struct entry *entry;
};

struct company {
    struct fleet *fleet;
    struct company_hooks hooks;
    uint64_t id, boot;
    double bytes_per_s;
    uint64_t *member; /* [n_members] in order, us among them */
    unsigned n_members;
    struct company_name *names; /* [n_names] of the adopted servers, in order */
    unsigned n_names;
    struct timer sweep;
    struct share_wire wire;
    struct company_counts counts;
};

/* True without a company. */
bool company_is_mine(const struct entry *);
/* The first of its owners is the one that learns from its agent; true without a company. */
bool company_is_first(const struct entry *);
/* A check of ours has ended, and the verdict of our checks is what it is now. */
void company_checked(struct entry *);
/* It is in force no more: what was said of it is not heard any longer.  Its checks have ended. */
void company_dropped(struct entry *);
/* Other servers are in force. */
void company_adopted(struct fleet *);
void company_free(struct company **);

#endif
