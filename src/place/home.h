/* SPDX-License-Identifier: BSD-2-Clause
 *
 * home.h - which part of the ring of servers is whose.  Pure; control thread.
 *
 * News of other balancers' requests is older than a light request lives, so more choice over it is
 * worse, not better: everybody runs to the server that looked idle.  Instead the ring is cut by
 * capacity, in proportion to what each balancer has to place, and each keeps to its own piece, of
 * which its own knowledge is exact.  Every balancer computes the cut of all from what all know.
 */
#ifndef MC_PLACE_HOME_H
#define MC_PLACE_HOME_H

#include <stdint.h>

/* Servers in the least home, which several balancers share when there are many.  Measured with 100
 * balancers before 100 servers: 3 is a little better than 4, 8 is 20 % worse, since then more of
 * what is in the home is others' and known late. */
#define HOME_UNIT 3

/* Places first, first + 1, ... on the ring, n of them. */
struct home_span {
    uint32_t first, n;
};

struct home_cut {
    unsigned n_members, n_places;
    struct home_span *span; /* [n_members] */
    double *edge;           /* [2 * n_members] where spans begin and end, in capacity, 0..1 */
    double *before;         /* [n_places + 1] share of the capacity that lies before a place */
    /* members whose span covers a place stand side by side: [n_places] */
    uint16_t *cover_first, *cover_n;
};

struct home_cut *home_cut_new(unsigned n_members, unsigned n_places);
void home_cut_free(struct home_cut **);

/* Cuts anew.  capacity: [n_places], 0 for a server that is not to be used; rate: [n_members],
 * requests a second, in the order of the members' ids.  Edges that would move by less than a
 * fraction of a server stay: a server that changes hands is in nobody's exact knowledge for the
 * moment. */
void home_cut_make(struct home_cut *, const double *capacity, const double *rate);

/* Who follows a server's reports: the two of the live members with the highest hash of both
 * (Thaler, Ravishankar 1998).  Returns the index of the rank-th (0 or 1). */
unsigned home_owner(const uint64_t *member_ids, unsigned n_members, uint64_t server_hash,
                    unsigned rank);

#endif
