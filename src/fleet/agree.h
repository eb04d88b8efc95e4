/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agree.h - is a server down, when several balancers look at it?  Pure.
 *
 * Of the members of a cluster two own each server and check it, or one where there is but one.  It
 * is down when the owners agree, or when one of them says so and this balancer's own requests fail,
 * too.  Whose own requests succeed does not follow hearsay.
 */
#ifndef MC_FLEET_AGREE_H
#define MC_FLEET_AGREE_H

#include <stdbool.h>

#define AGREE_OWNERS 2

enum agree_word {
    AGREE_UNKNOWN, /* has not looked yet, or its word has not come */
    AGREE_UP,
    AGREE_DOWN
};

struct agree {
    unsigned n_owners; /* live ones */
    enum agree_word owner[AGREE_OWNERS];
    bool own;      /* one of them is this balancer, and found it down */
    bool succeeds; /* this balancer's requests have succeeded lately */
    bool fails;    /* they have failed lately, the last one included */
};

bool agree_is_down(const struct agree *);

#endif
