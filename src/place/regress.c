/* SPDX-License-Identifier: BSD-2-Clause
 *
 * regress.c - bounded ridge regression on running sums, see regress.h.
 */
#include "place/regress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* A row counts in full up to this many mean misses. */
#define HUBER      2.0
/* How fast the mean miss follows: over the last thousand rows or so. */
#define MISS_BLEND 0.001

void
regress_init(struct regress *r, unsigned k)
{
    *r = (struct regress){.k = k};
    r->aa = mc_alloc((size_t)k * k * sizeof(*r->aa));
    r->ay = mc_alloc(k * sizeof(*r->ay));
}

void
regress_fini(struct regress *r)
{
    free(r->aa);
    free(r->ay);
}

static double
weight_of(struct regress *r, double miss)
{
    double weight = 1;

    if (r->mean_miss > 0 && miss > HUBER * r->mean_miss)
        weight = HUBER * r->mean_miss / miss;
    r->mean_miss = r->mean_miss > 0 ? r->mean_miss + MISS_BLEND * (miss - r->mean_miss) : miss;
    return weight;
}

void
regress_add(struct regress *r, const struct regress_term *t, unsigned n, double y, const double *x)
{
    double expected = 0, weight;

    for (unsigned i = 0; i < n; i++)
        expected += (double)t[i].a * x[t[i].at];
    weight = weight_of(r, fabs(y - expected));
    for (unsigned i = 0; i < n; i++) {
        double *row = r->aa + (size_t)t[i].at * r->k, a = weight * (double)t[i].a;

        for (unsigned j = 0; j < n; j++)
            row[t[j].at] += a * (double)t[j].a;
        r->ay[t[i].at] += a * y;
    }
}

void
regress_fade(struct regress *r, double keep)
{
    for (size_t i = 0; i < (size_t)r->k * r->k; i++)
        r->aa[i] *= keep;
    for (unsigned i = 0; i < r->k; i++)
        r->ay[i] *= keep;
}

void
regress_drop(struct regress *r, unsigned at)
{
    for (unsigned i = 0; i < r->k; i++)
        r->aa[(size_t)at * r->k + i] = r->aa[(size_t)i * r->k + at] = 0;
    r->ay[at] = 0;
}

void
regress_join(struct regress *to, const struct regress *from)
{
    MC_ASSERT(to->k == from->k);
    for (size_t i = 0; i < (size_t)to->k * to->k; i++)
        to->aa[i] += from->aa[i];
    for (unsigned i = 0; i < to->k; i++)
        to->ay[i] += from->ay[i];
    to->mean_miss = fmax(to->mean_miss, from->mean_miss);
}

void
regress_solve(const struct regress *r, const struct regress_bounds *b, unsigned sweeps, double *x)
{
    for (unsigned sweep = 0; sweep < sweeps; sweep++) {
        double moved = 0;

        for (unsigned i = 0; i < r->k; i++) {
            const double *row = r->aa + (size_t)i * r->k;
            double rest = r->ay[i] + b->lambda * b->prior[i], was = x[i];

            if (row[i] == 0)
                continue; /* never seen: stays at what it is */
            for (unsigned j = 0; j < r->k; j++)
                rest -= j == i ? 0 : row[j] * x[j];
            x[i] = fmin(fmax(rest / (row[i] + b->lambda), b->least), b->most);
            moved = fmax(moved, fabs(x[i] - was));
        }
        if (moved < 1e-6)
            break;
    }
}

/* Cholesky: l l' = aa + lambda, lower half, row by row. */
static double *
factorise(const struct regress *r, double lambda)
{
    double *l = mc_alloc((size_t)r->k * r->k * sizeof(*l));

    for (size_t i = 0; i < r->k; i++)
        for (size_t j = 0; j <= i; j++) {
            double rest = r->aa[i * r->k + j] + (i == j ? lambda : 0);

            for (size_t m = 0; m < j; m++)
                rest -= l[i * r->k + m] * l[j * r->k + m];
            /* what rounding makes negative was nothing */
            l[i * r->k + j] = i == j ? sqrt(fmax(rest, lambda)) : rest / l[j * r->k + j];
        }
    return l;
}

/* (l l')^-1 at (i, i) is the square of column i of l^-1, found by forward substitution. */
static double
inverse_at(const double *l, size_t k, size_t i, double *column)
{
    double sum = 0;

    for (size_t row = i; row < k; row++) {
        double rest = row == i;

        for (size_t m = i; m < row; m++)
            rest -= l[row * k + m] * column[m];
        column[row] = rest / l[row * k + row];
        sum += column[row] * column[row];
    }
    return sum;
}

void
regress_errors(const struct regress *r, double lambda, double *out)
{
    double *l = factorise(r, lambda), *column = mc_alloc(r->k * sizeof(*column));
    double sigma = r->mean_miss * sqrt(M_PI / 2); /* of a normal law, from its mean deviation */

    for (size_t i = 0; i < r->k; i++)
        out[i] = sigma * sqrt(inverse_at(l, r->k, i, column));
    free(column);
    free(l);
}
