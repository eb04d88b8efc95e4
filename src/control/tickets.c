/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tickets.c - see tickets.h.
 */
#include "control/tickets.h"

#include <openssl/crypto.h>

#include "base/check.h"
#include "base/pack.h"
#include "control/member_priv.h"

#define LABEL      "tls session ticket"
#define HOUR_S     3600
/* The wall clock may jump: the hour is looked at more often than it changes. */
#define REFRESH_NS (20 * MC_SEC)

static_assert(KEYFILE_KEYS_MAX * 3 <= TLS_TICKET_KEYS_MAX, "each key for three hours");

static void
derive(const struct keyring *ring, unsigned index, int64_t hour, struct tls_ticket_key *out)
{
    uint8_t context[8];
    struct pack_out o = {.p = context, .cap = sizeof(context)};

    pack_u64(&o, (uint64_t)hour);
    keyring_derive(ring, index, LABEL, (struct str){(const char *)context, o.n}, (uint8_t *)out,
                   sizeof(*out));
}

unsigned
tickets_derive(const struct keyring *ring, int64_t hour,
               struct tls_ticket_key out[TLS_TICKET_KEYS_MAX])
{
    static const int hours[] = {0, -1, 1};
    unsigned n = 0;

    for (size_t h = 0; h < MC_COUNT(hours); h++)
        for (unsigned i = 0; i < keyring_count(ring); i++)
            derive(ring, i, hour + hours[h], &out[n++]);
    return n;
}

/* Without a key file a cluster's key is one that everybody knows: no secret can come of it. */
static const struct keyring *
ring_of(const struct node *n)
{
    const struct keyring *ring = n->member != NULL ? cluster_keyring(n->member->cluster) : NULL;

    return ring != NULL && !keyring_is_null(ring) ? ring : n->tickets.own;
}

static void
make_keys(struct node *n, int64_t hour)
{
    struct tls_ticket_key keys[TLS_TICKET_KEYS_MAX];

    tls_tickets_set(n->tickets.shared, keys, tickets_derive(ring_of(n), hour, keys));
    OPENSSL_cleanse(keys, sizeof(keys));
    n->tickets.hour = hour;
}

static int64_t
hour_now(void)
{
    return units_wall_ns() / MC_SEC / HOUR_S;
}

static void
on_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, tickets.timer);

    if (hour_now() != n->tickets.hour)
        make_keys(n, hour_now());
    loop_timer_set(n->loop, t, loop_now(n->loop) + REFRESH_NS);
}

void
tickets_open(struct node *n, const struct keyfile *secret)
{
    static const uint8_t no_boot[KEYRING_BOOT_BYTES]; /* nothing is sealed with it */

    if (secret != NULL)
        n->tickets.secret = *secret;
    else
        keyfile_draw(&n->tickets.secret);
    n->tickets.own = keyring_new(&n->tickets.secret, no_boot);
    n->tickets.shared = tls_tickets_new();
    n->tickets.timer.fn = on_timer;
}

void
tickets_refresh(struct node *n)
{
    make_keys(n, hour_now());
    loop_timer_set(n->loop, &n->tickets.timer, loop_now(n->loop) + REFRESH_NS);
}

void
tickets_close(struct node *n)
{
    if (n->tickets.shared == NULL)
        return;
    tls_tickets_free(&n->tickets.shared);
    keyring_free(&n->tickets.own);
    keyfile_wipe(&n->tickets.secret);
}
