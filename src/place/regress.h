/* SPDX-License-Identifier: BSD-2-Clause
 *
 * regress.h - ridge regression with bounds, on what is known up to now and slowly forgotten.  Pure.
 *
 * Finds x that makes sum (y - a.x)^2 + lambda |x - prior|^2 least, within least..most.  Kept is not
 * the rows but their sums (a a', a y), which can be added up over balancers.
 */
#ifndef MC_PLACE_REGRESS_H
#define MC_PLACE_REGRESS_H

#include <stdint.h>

struct regress_term {
    uint16_t at;
    float a;
};

/* Sums of one balancer. */
struct regress {
    unsigned k;
    double *aa;       /* [k * k], both halves */
    double *ay;       /* [k] */
    double mean_miss; /* mean of |y - a.x|, for Huber's weight */
};

struct regress_bounds {
    double lambda, least, most;
    const double *prior; /* [k] */
};

void regress_init(struct regress *, unsigned k);
void regress_fini(struct regress *);
/* One row.  x: the present solution; rows far from it weigh less (Huber 1964). */
void regress_add(struct regress *, const struct regress_term *, unsigned n, double y,
                 const double *x);
/* Forgets: everything weighs `keep` of what it did. */
void regress_fade(struct regress *, double keep);
/* Forgets all of one unknown. */
void regress_drop(struct regress *, unsigned at);
/* Adds the sums of `from` to those of `to`. */
void regress_join(struct regress *to, const struct regress *from);
/* Improves x by sweeps of coordinate descent. */
void regress_solve(const struct regress *, const struct regress_bounds *, unsigned sweeps,
                   double *x);
/* The standard error of each unknown, [k]: sqrt(diag((a a' + lambda)^-1)) times that of a row, as
 * if rows were independent.  Takes k^3 / 2 steps: for display. */
void regress_errors(const struct regress *, double lambda, double *out);

#endif
