/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_priv.h - a brain as the control thread sees it: brain.c, brain_agent.c.
 */
#ifndef MC_FLEET_BRAIN_PRIV_H
#define MC_FLEET_BRAIN_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "fleet/brain.h"
#include "fleet/live.h"
#include "fleet/watch.h"
#include "place/know.h"

struct brain_agent;

struct brains {
    struct fleet *fleet; /* not referenced: it ends us */
    unsigned n_pipes;
    struct brain_pipe *pipes;
    struct list all; /* struct mind */
    struct timer timer;
    mc_ns wall_ns;
    char *dir;          /* where costs are kept over a restart; NULL: nowhere */
    struct map carried; /* name of a pool to char *: what another process had learned of it */
    mc_ns next_save;
    bool save_failed; /* which was said */
    uint64_t *others; /* [n_others] live members of the cluster besides us */
    unsigned n_others;
    mc_ns next_agents; /* when those that fell silent are looked for */
};

/* A map that was replaced, until no worker looks into it. */
struct old_map {
    struct old_map *next;
    const struct class_map *map;
};

struct mind {
    struct brain pub; /* first */
    unsigned refs;    /* pools */
    struct list link;
    struct brains *of; /* NULL: that is gone */
    char *pool_name;
    bool in_force, was_in_force;
    const struct pool *pool; /* NULL: not in force */
    mc_ns window_ns;
    struct server **servers; /* [view.n], referenced */
    struct place_view view;
    unsigned n_readers; /* pub.readers: as many as workers, who may outlive `of` */
    struct know *know;
    struct class_set classes;
    uint64_t *requests; /* [classes.n_classes] */
    bool news;          /* shapes were noted since classes were given out */
    mc_ns next_settle, next_fade;
    struct old_map *old_maps;
    struct brain_agent **agents; /* [view.n], NULL where there is none */
};

static inline struct mind *
mind_of(struct brain *b)
{
    return container_of(b, struct mind, pub);
}

/* brain.c */
struct str brain_class_name(void *mind, unsigned class);
int brain_class_named(void *mind, struct str name); /* -1: none */
/* The heaviest shapes become classes. */
void brain_give_classes(struct mind *);

/* brain_use.c */

/* What the class of a request is called; *rule: the operator says so, in a rule of the pool. */
struct str brain_name(const struct pool *, struct str route, const struct http_head *,
                      char text[BRAIN_NAME_MAX], bool *rule);

/* brain_company.c */

/* Who the other members are. */
void brains_members(struct brains *, const uint64_t *others, unsigned n);
/* What that member has said of load. */
void brains_forget(struct brains *, uint64_t member);
/* The one in force of the pool with that key (share_map.h); NULL: none. */
struct mind *brains_find(struct brains *, uint32_t pool_key);
/* A word of another member, whose clock is skew before ours. */
void mind_hear(struct mind *, struct share_msg *, mc_ns skew);
/* For know_conf.send, with the mind. */
size_t brain_share(void *mind, uint64_t to, const struct share_msg *);
/* Follows the agents of the servers that are ours to watch. */
void brain_follow_agents(struct mind *);

/* brain_save.c */

/* Begins with what the process before, or the file says. */
void brain_remember(struct mind *);
void brains_drop_carried(struct brains *);

/* brain_agent.c */

/* Listens to what the conf names, or goes on listening; NULL when it names nothing. */
void brain_agent_follow(struct brain_agent **, struct mind *, unsigned server,
                        const struct server_conf *, mc_ns interval);
void brain_agent_free(struct brain_agent **);
/* Not heard for too long: what it said last is not counted on. */
void brain_agent_tick(struct brain_agent *, mc_ns now);
void brain_agent_show(const struct brain_agent *, mc_ns now, struct brain_server *);
/* How often an agent of that kind is asked; what the pool says, within reason. */
mc_ns brain_agent_interval(const struct server_conf *, mc_ns wanted);

#endif
