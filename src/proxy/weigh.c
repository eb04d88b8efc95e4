/* SPDX-License-Identifier: BSD-2-Clause
 *
 * weigh.c - what a request is to placement, and what placement is told of its attempts.
 *
 * Only pools whose policy learns come here.  What an attempt teaches depends on who was waited for:
 * when the client sent its body slowly, or took the response slowly, the time that passed says
 * nothing of the server.
 */
#include "proxy/txn.h"
#include "proxy/worker_priv.h"

/* hot: once per request */
void
weigh_request(struct txn *t)
{
    struct worker *w = t->worker;
    const struct str route = t->route->in_class ? str_of(t->route->conf.name) : STR_NONE;
    char text[BRAIN_NAME_MAX];
    struct str name;

    name = brain_look(t->pool->pool, w->conf.pipe, w->conf.index, route, &t->req, text, &t->use);
    if (t->gen->snap->access_log != NULL)
        t->class_name = arena_str(&t->arena, name);
}

/* hot: once per attempt */
void
weigh_begin(struct txn *t)
{
    brain_begin(t->pool->pool->brain, t->worker->conf.pipe, &t->use, t->server_index,
                worker_now(t->worker));
}

/* The way to the server, as far as this attempt has seen it. */
static mc_ns
way_of(const struct txn *t)
{
    return t->reused || t->at.connected < t->at.placed ? 0 : t->at.connected - t->at.placed;
}

/* hot: once per attempt */
void
weigh_end(struct txn *t)
{
    const struct pool *p = t->pool->pool;
    const mc_ns now = worker_now(t->worker);

    if (p->brain != NULL)
        brain_end(p->brain, t->worker->conf.pipe, &t->use, t->server_index, t->attempt_end,
                  way_of(t), now);
    if (t->attempt_end != PLACE_END_VOID)
        pool_learn(&t->pool->pick, t->server_index, t->crowd, now - t->at.placed,
                   t->attempt_end == PLACE_END_OK, now);
}
