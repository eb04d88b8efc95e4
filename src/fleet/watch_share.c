/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_share.c - several servers, one host: they share its watcher.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "fleet/watch.h"

struct shared {
    struct list link, subs;
    struct watches *of;
    struct watcher *watcher;
    struct watch_sub *at; /* who is next in a round of callbacks: who leaves moves it */
    bool in_round;
};

struct watch_sub {
    struct list link;
    struct shared *shared;
    watcher_f *fn;
    void *arg;
};

struct watches {
    struct loop *loop;
    struct tls_turns *turns;
    struct rng *rng;
    struct list all;
};

struct watches *
watches_new(struct loop *loop, struct tls_turns *turns, struct rng *rng)
{
    struct watches *ws = mc_alloc(sizeof(*ws));

    ws->loop = loop;
    ws->turns = turns;
    ws->rng = rng;
    list_init(&ws->all);
    return ws;
}

void
watches_free(struct watches **wp)
{
    if (*wp == NULL)
        return;
    MC_ASSERT(list_empty(&(*wp)->all));
    free(*wp);
    *wp = NULL;
}

static struct watch_sub *
sub_after(struct shared *s, struct list *l)
{
    return l->next == &s->subs ? NULL : LIST_ENTRY(l->next, struct watch_sub, link);
}

static void
destroy(struct shared *s)
{
    watcher_free(&s->watcher);
    list_remove(&s->link);
    free(s);
}

/* Anybody may leave in a callback, all of them too. */
static void
on_report(void *arg, const struct place_report *r, mc_ns age)
{
    struct shared *s = arg;
    struct watch_sub *sub;

    s->in_round = true;
    s->at = sub_after(s, &s->subs);
    while ((sub = s->at) != NULL) {
        s->at = sub_after(s, &sub->link);
        sub->fn(sub->arg, r, age);
    }
    s->in_round = false;
    if (list_empty(&s->subs))
        destroy(s);
}

static bool
same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : str_eq(str_of(a), str_of(b));
}

static bool
is_same(const struct watch_conf *a, const struct watch_conf *b)
{
    return a->kind == b->kind && addr_eq(&a->addr, &b->addr) &&
           (b->interval <= 0 || a->interval == b->interval) && same_text(a->path, b->path) &&
           same_text(a->send, b->send) &&
           tls_client_id(a->tls_client) == tls_client_id(b->tls_client) &&
           same_text(a->tls_name, b->tls_name);
}

static struct shared *
find_or_make(struct watches *ws, const struct watch_conf *conf)
{
    struct shared *s;

    LIST_FOREACH (it, &ws->all) {
        s = LIST_ENTRY(it, struct shared, link);
        if (is_same(watcher_conf(s->watcher), conf))
            return s;
    }
    s = mc_alloc(sizeof(*s));
    s->of = ws;
    list_init(&s->subs);
    list_push_back(&ws->all, &s->link);
    s->watcher = watcher_new(ws->loop, ws->turns, conf, ws->rng, on_report, s);
    return s;
}

struct watch_sub *
watches_join(struct watches *ws, const struct watch_conf *conf, watcher_f *fn, void *arg)
{
    struct watch_sub *sub = mc_alloc(sizeof(*sub));

    sub->shared = find_or_make(ws, conf);
    sub->fn = fn;
    sub->arg = arg;
    list_push_back(&sub->shared->subs, &sub->link);
    return sub;
}

void
watch_sub_leave(struct watch_sub **sp)
{
    struct watch_sub *sub = *sp;
    struct shared *s;

    if (sub == NULL)
        return;
    *sp = NULL;
    s = sub->shared;
    if (s->at == sub)
        s->at = sub_after(s, &sub->link);
    list_remove(&sub->link);
    free(sub);
    if (list_empty(&s->subs) && !s->in_round)
        destroy(s);
}

struct watcher *
watch_sub_watcher(struct watch_sub *sub)
{
    return sub->shared->watcher;
}

unsigned
watches_count(const struct watches *ws)
{
    unsigned n = 0;

    while (watches_at(ws, n) != NULL)
        n++;
    return n;
}

struct watcher *
watches_at(const struct watches *ws, unsigned i)
{
    LIST_FOREACH (it, &ws->all) {
        if (i-- == 0)
            return LIST_ENTRY(it, struct shared, link)->watcher;
    }
    return NULL;
}
