/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_claims.c - which of a life's flows were given away, for it to hear when it is back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "takeover/replica_store_priv.h"

static struct claims *
claims_of(const struct replica_store *s, struct life owner)
{
    for (unsigned i = 0; i < s->n_owners; i++)
        if (life_eq(s->claims[i].owner, owner))
            return (struct claims *)&s->claims[i];
    return NULL;
}

static void
lose_claims(struct replica_store *s, struct claims *c)
{
    s->stats.claims -= c->n;
    s->stats.claims_lost += c->n;
    free(c->key);
    *c = (struct claims){.owner = c->owner, .lost = true};
}

static struct claims *
claims_make(struct replica_store *s, struct life owner)
{
    struct claims *c = claims_of(s, owner);

    if (c)
        return c;
    if (s->n_owners ==
        REPLICA_OWNERS_MAX) { /* the longest known is the least likely to come back */
        s->owners_lost = true;
        lose_claims(s, &s->claims[0]);
        memmove(&s->claims[0], &s->claims[1], (REPLICA_OWNERS_MAX - 1) * sizeof(s->claims[0]));
        s->n_owners--;
    }
    c = &s->claims[s->n_owners++];
    *c = (struct claims){.owner = owner};
    return c;
}

void
claims_note(struct replica_store *s, struct life owner, const struct flow_key *key)
{
    struct claims *c = claims_make(s, owner);

    if (c->lost)
        return;
    if (s->stats.claims >= s->conf.claims_max) {
        s->stats.claims_lost++;
        lose_claims(s, c);
        return;
    }
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 64;
        c->key = mc_realloc(c->key, c->cap * sizeof(*c->key));
    }
    c->key[c->n++] = *key;
    s->stats.claims++;
}

unsigned
replica_claims(const struct replica_store *s, struct life owner, size_t *at, struct flow_key *out,
               unsigned max)
{
    const struct claims *c = claims_of(s, owner);
    unsigned n = 0;

    while (c && *at < c->n && n < max)
        out[n++] = c->key[(*at)++];
    return n;
}

bool
replica_claims_lost(const struct replica_store *s, struct life owner)
{
    const struct claims *c = claims_of(s, owner);

    return c ? c->lost : s->owners_lost;
}

void
replica_claims_forget(struct replica_store *s, struct life owner)
{
    struct claims *c = claims_of(s, owner);

    if (!c)
        return;
    s->stats.claims -= c->n;
    free(c->key);
    s->n_owners--;
    memmove(c, c + 1, (size_t)(&s->claims[s->n_owners] - c) * sizeof(*c));
}
