/* SPDX-License-Identifier: BSD-2-Clause
 *
 * scenario.c - the workloads, and what befalls them.
 *
 * The mixture is that of a web service with a long tail: nine requests of ten are cheap, one in a
 * hundred costs two hundred times as much, and those make half of the work.
 */
#include <string.h>

#include "base/check.h"
#include "sim/sim.h"

#define CHEAP(part)                   \
    {                                 \
        "cheap", part, .001, .5, 0, 0 \
    }
#define MEDIUM(part)                   \
    {                                  \
        "medium", part, .010, .5, 0, 0 \
    }
#define HEAVY(part)                   \
    {                                 \
        "heavy", part, .200, .5, 0, 0 \
    }
#define WEB                                 \
    {                                       \
        CHEAP(.90), MEDIUM(.09), HEAVY(.01) \
    }
/* One that asks a database, and one that waits for news. */
#define WAITING                                                                \
    {                                                                          \
        CHEAP(.80), MEDIUM(.08), HEAVY(.01), {"asks", .05, .005, .5, .045, 0}, \
        {                                                                      \
            "polls", .06, .001, .5, .5, 0                                      \
        }                                                                      \
    }
/* A report that holds 400 MB for half a second, at servers that have 3 GB for it. */
#define MEMORY                                  \
    {                                           \
        CHEAP(.895), MEDIUM(.09), HEAVY(.01),   \
        {                                       \
            "hungry", .005, .020, .5, .5, 400e6 \
        }                                       \
    }

static const struct sim_scenario scenarios[] = {
    {"web", "cheap, medium and heavy requests", .8, 3, WEB, {.noisy = 0}},
    {"noisy",
     "web; a fifth of the servers has a noisy neighbour that comes and goes",
     .8,
     3,
     WEB,
     {.noisy = .2}},
    {"waiting", "web with classes that mostly wait", .8, 5, WAITING, {.noisy = 0}},
    {"burst",
     "web in bursts, balancers with unequal traffic",
     .7,
     3,
     WEB,
     {.burst = 1.35, .skew = true}},
    {"memory", "web with a class that needs much memory", .7, 4, MEMORY, {.memory = true}},
    {"faults",
     "web; servers fail fast, refuse, or become slow, and recover",
     .7,
     3,
     WEB,
     {.faults = true}},
    {"loss",
     "web; three of ten messages between balancers are lost, the rest delayed",
     .8,
     3,
     WEB,
     {.loss = .3, .delay_ns = 20 * MC_MS}},
    {"views", "web; balancers do not know of a fifth of the others", .8, 3, WEB, {.views = .2}},
    {"noagent", "web; no server has an agent", .8, 3, WEB, {.no_agent = 1}},
    {"someagents", "web; every third server has no agent", .8, 3, WEB, {.no_agent = .33}},
    {"die", "web; a fifth of the balancers dies on the way", .8, 3, WEB, {.die = 20}},
    {"join", "web; a fifth of the balancers joins on the way", .8, 3, WEB, {.join = 20}},
    {"partition",
     "web; for a third of the time half of the balancers do not hear the others",
     .8,
     3,
     WEB,
     {.partition = true}},
    {"drift",
     "web; cheap requests become twice as dear, medium ones half",
     .8,
     3,
     WEB,
     {.drift = true}},
    {"cold",
     "web, counted from the first request of an unknown service on",
     .8,
     3,
     WEB,
     {.cold = true}},
};

const struct sim_scenario *
sim_scenario_at(unsigned i)
{
    return i < MC_COUNT(scenarios) ? &scenarios[i] : NULL;
}

const struct sim_scenario *
sim_scenario_find(const char *name)
{
    for (unsigned i = 0; i < MC_COUNT(scenarios); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}

void
sim_conf_init(struct sim_conf *c, const struct sim_scenario *s)
{
    *c = (struct sim_conf){.scenario = s,
                           .n_classes = s->n_classes,
                           .n_balancers = 10,
                           .n_servers = 100,
                           .cores = 4,
                           .load = s->load,
                           .seconds = 12,
                           .seed = 1,
                           .traffic = 1};
    memcpy(c->class, s->class, s->n_classes * sizeof(s->class[0]));
}
