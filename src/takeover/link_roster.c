/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link_roster.c - what passes between the takeover thread and the workers' links.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/link_priv.h"

#define FOREACH_BOX(b, r)                                 \
    for (unsigned at_ = 0; at_ < LINK_WORKERS_MAX; at_++) \
        for (struct link_box *b = (r)->box[at_]; b != NULL; b = NULL)

void
link_roster_init(struct link_roster *r)
{
    r->silent_ns = LINK_SILENT_NS;
    pthread_mutex_init(&r->lock, NULL);
}

void
link_roster_fini(struct link_roster *r)
{
    FOREACH_BOX(b, r)
    MC_NEVER("a link outlives the takeover");
    pthread_mutex_destroy(&r->lock);
}

/* --- the thread's calls -------------------------------------------------------------------------
 */

static void
wake(struct link_box *b)
{
    uint64_t one = 1;

    /* full only when it has been woken very often already */
    if (write(b->event_fd, &one, sizeof(one)) < 0)
        MC_ASSERT(errno == EAGAIN);
}

void
link_post_holders(struct link_roster *r, const struct link_holders *hs)
{
    pthread_mutex_lock(&r->lock);
    r->holders = *hs;
    FOREACH_BOX(b, r)
    {
        b->holders_new = true;
        wake(b);
    }
    pthread_mutex_unlock(&r->lock);
}

static struct link_box *
next_box(struct link_roster *r)
{
    for (unsigned i = 0; i < LINK_WORKERS_MAX; i++) {
        struct link_box *b = r->box[r->next++ % LINK_WORKERS_MAX];

        if (b != NULL)
            return b;
    }
    return NULL;
}

bool
link_post_adopted(struct link_roster *r, struct adopted **a)
{
    struct link_box *b;

    pthread_mutex_lock(&r->lock);
    b = next_box(r);
    if (b != NULL) {
        b->adopted = mc_realloc(b->adopted, (b->n_adopted + 1) * sizeof(*b->adopted));
        b->adopted[b->n_adopted++] = *a;
        *a = NULL;
        wake(b);
    }
    pthread_mutex_unlock(&r->lock);
    return b != NULL;
}

static void
claim(struct link_box *b, const struct flow_key *keys, unsigned n)
{
    b->claims = true;
    if (keys == NULL) {
        b->claimed_all = true;
        return;
    }
    b->claimed = mc_realloc(b->claimed, (b->n_claimed + n) * sizeof(*keys));
    memcpy(b->claimed + b->n_claimed, keys, n * sizeof(*keys));
    b->n_claimed += n;
}

void
link_post_claimed(struct link_roster *r, const struct flow_key *keys, unsigned n)
{
    if (keys != NULL && n == 0)
        return;
    pthread_mutex_lock(&r->lock);
    FOREACH_BOX(b, r)
    {
        claim(b, keys, n);
        wake(b);
    }
    pthread_mutex_unlock(&r->lock);
}

bool
link_claims_done(struct link_roster *r)
{
    bool done = true;

    pthread_mutex_lock(&r->lock);
    FOREACH_BOX(b, r)
    done = done && !b->claims;
    pthread_mutex_unlock(&r->lock);
    return done;
}

void
link_post_keys(struct link_roster *r, const struct keyfile *keys)
{
    pthread_mutex_lock(&r->lock);
    r->keys = *keys;
    FOREACH_BOX(b, r)
    {
        b->keys_new = true;
        wake(b);
    }
    pthread_mutex_unlock(&r->lock);
}

static bool
said_synced(const struct link_box *b, uint32_t epoch)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (b->said[i].epoch == epoch && b->said[i].synced)
            return true;
    return false;
}

static bool
said_lost(const struct link_box *b, uint32_t epoch)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (b->said[i].epoch == epoch && b->said[i].lost)
            return true;
    return false;
}

bool
link_is_synced(struct link_roster *r, uint32_t epoch)
{
    unsigned n = 0;
    bool all = true;

    pthread_mutex_lock(&r->lock);
    FOREACH_BOX(b, r)
    {
        n++;
        all = all && said_synced(b, epoch);
    }
    pthread_mutex_unlock(&r->lock);
    return n > 0 && all;
}

bool
link_is_lost(struct link_roster *r, uint32_t epoch)
{
    bool lost = false;

    pthread_mutex_lock(&r->lock);
    FOREACH_BOX(b, r)
    lost = lost || said_lost(b, epoch);
    pthread_mutex_unlock(&r->lock);
    return lost;
}

/* --- a link's calls -----------------------------------------------------------------------------
 */

void
link_enlist(struct link_roster *r, unsigned worker, struct link_box *b)
{
    pthread_mutex_lock(&r->lock);
    MC_ASSERT(worker < LINK_WORKERS_MAX && r->box[worker] == NULL);
    r->box[worker] = b;
    b->holders_new = true;
    wake(b);
    pthread_mutex_unlock(&r->lock);
}

void
link_delist(struct link_roster *r, unsigned worker)
{
    pthread_mutex_lock(&r->lock);
    r->box[worker] = NULL;
    r->on_news(r->arg); /* nobody waits for it */
    pthread_mutex_unlock(&r->lock);
}

struct link_box
link_box_empty(struct link_roster *r, struct link_box *b, struct link_holders *holders)
{
    struct link_box was;

    pthread_mutex_lock(&r->lock);
    was = *b;
    *holders = r->holders;
    b->holders_new = b->keys_new = b->claimed_all = false;
    b->adopted = NULL;
    b->claimed = NULL;
    b->n_adopted = b->n_claimed = 0;
    pthread_mutex_unlock(&r->lock);
    return was;
}

void
link_say(struct link_roster *r, struct link_box *b, unsigned place, struct link_said said)
{
    pthread_mutex_lock(&r->lock);
    b->said[place] = said;
    r->on_news(r->arg);
    pthread_mutex_unlock(&r->lock);
}

void
link_say_let_go(struct link_roster *r, struct link_box *b)
{
    pthread_mutex_lock(&r->lock);
    b->claims = b->claimed_all || b->n_claimed > 0; /* more came meanwhile */
    r->on_news(r->arg);
    pthread_mutex_unlock(&r->lock);
}

void
link_keys(struct link_roster *r, struct keyfile *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->keys;
    pthread_mutex_unlock(&r->lock);
}
