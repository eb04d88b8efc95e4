/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learn_told.c - costs by the servers' own word: a service that measures its requests knows better
 * than any regression.  See learn.h.
 *
 * With the CPU that a request took and the time that it was there goes its phi.  That is where the
 * regression begins, which goes on to follow what it sees; where there are no agents it is all that
 * there is.
 */
#include <math.h>

#include "base/check.h"
#include "place/learn.h"

/* A class whose requests tell nothing for so long is learned again.  A guess: a release that tells
 * no more should not be placed by the word of the last, nor a rare request be forgotten at once. */
#define TOLD_GOOD_NS (60 * MC_SEC)

/* Nothing but this says anything of phi: no agent's windows had the class. */
static bool
is_unseen(const struct learn *l, unsigned class)
{
    return l->all.cpu.aa[(size_t) class * l->n_classes + class] == 0;
}

static void
set_prior(struct learn *l, unsigned class, double phi)
{
    struct learn_class *k = &l->class[class];

    k->phi_prior = fmin(fmax(phi, COST_PHI_LEAST), COST_PHI_MOST);
    if (is_unseen(l, class) && !l->no_phi)
        k->phi = k->phi_prior;
}

void
learn_told(struct learn *l, uint32_t server, unsigned class, double cpu_s, double alone_s,
           mc_ns now)
{
    struct learn_class *k = &l->class[class < l->n_classes ? class : 0];
    double average_s = cpu_s / l->server[server].factor;

    MC_ASSERT(cpu_s > 0);
    k->told.cpu_s += average_s;
    k->told.n++;
    k->told.at = now;
    k->told_s = k->told.cpu_s / k->told.n;
    if (alone_s < 0)
        return;
    k->told.busy_s += average_s;
    k->told.wait_s += fmax(alone_s - cpu_s, 0);
    set_prior(l, (unsigned)(k - l->class), k->told.busy_s / (k->told.busy_s + k->told.wait_s));
}

void
learn_told_fade(struct learn *l, double keep, mc_ns now)
{
    for (unsigned c = 0; c < l->n_classes; c++) {
        struct learn_class *k = &l->class[c];

        k->told.cpu_s *= keep;
        k->told.n *= keep;
        k->told.busy_s *= keep;
        k->told.wait_s *= keep;
        if (k->told_s == 0 || now - k->told.at < TOLD_GOOD_NS)
            continue;
        k->told_s = 0;
        k->told = (struct learn_told){0};
        set_prior(l, c, 1);
    }
}
