/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_gossip.c - news of members, and to whom it goes.
 *
 * News is what is believed of a member now, so a member has one item at most and a newer belief
 * replaces an older one.  Items stand by how often they were told; each message takes the least
 * told first, as many as fit, and an item told often enough is dropped.
 */
#include <string.h>

#include "cluster/swim_priv.h"

/* --- what --------------------------------------------------------------------------------------
 */

void
swim_news(struct swim *s, struct member *m)
{
    list_remove(&m->news);
    m->n_told = 0;
    list_push_front(&s->news[0], &m->news);
}

void
swim_news_drop(struct member *m)
{
    list_remove(&m->news);
}

static unsigned
told_most(const struct swim *s)
{
    unsigned n = s->times.retransmit_mult * swim_digits(s);

    return n < NEWS_TOLD_MAX ? n : NEWS_TOLD_MAX;
}

bool
swim_has_news(const struct swim *s)
{
    for (unsigned i = 0; i < NEWS_TOLD_MAX; i++)
        if (!list_empty(&s->news[i]))
            return true;
    return false;
}

static bool
pack_belief(struct pack_out *o, const struct member *m, mc_ns now)
{
    return m->pub.state == SWIM_ALIVE ? swim_pack_member(o, m, now) : swim_pack_doubt(o, m);
}

static void
count_told(struct swim *s, struct member *m, struct list *told)
{
    list_remove(&m->news);
    if (++m->n_told < told_most(s))
        list_push_back(told, &m->news);
}

/* Items told once more wait in `told` until the message is done, or it would take them again. */
static void
pack_news(struct swim *s, struct pack_out *o, const struct member *but, mc_ns now)
{
    struct list told;

    list_init(&told);
    for (unsigned i = 0; i < NEWS_TOLD_MAX; i++) {
        LIST_FOREACH_SAFE (it, next, &s->news[i]) {
            struct member *m = LIST_ENTRY(it, struct member, news);

            if (m != but && pack_belief(o, m, now))
                count_told(s, m, &told);
        }
    }
    LIST_FOREACH_SAFE (it, next, &told) {
        list_remove(it);
        list_push_back(&s->news[LIST_ENTRY(it, struct member, news)->n_told], it);
    }
}

void
swim_say(struct swim *s, const struct addr *to, enum msg_type type, const struct pack_out *body,
         struct member *about, mc_ns now)
{
    uint8_t bytes[SWIM_DATAGRAM_MAX];
    struct pack_out o = {.p = bytes, .cap = sizeof(bytes)};

    if (s->silent)
        return;
    swim_pack_head(s, &o, type, body);
    MC_ASSERT(!o.bad);
    if (about)
        pack_belief(&o, about, now);
    pack_news(s, &o, about, now);
    s->n.msgs_out++;
    s->n.bytes_out += o.n;
    s->hooks.send(s->hooks.arg, to, o.p, o.n);
}

/* Lifeguard's buddy system, and the way back for who was restarted, frozen or cut off: who says of
 * itself what we do not believe hears what we believe. */
struct member *
swim_unaware(const struct swim *s, const struct sender *sender)
{
    struct member *m = swim_member_find(s, sender->name);

    if (!m || m == s->self)
        return m; /* a rival: let it see us */
    return m->pub.state != SWIM_ALIVE || m->pub.incarnation != sender->incarnation ||
                   memcmp(m->pub.boot, sender->boot, SWIM_BOOT_BYTES) != 0
               ? m
               : NULL;
}

/* --- to whom -----------------------------------------------------------------------------------
 */

unsigned
swim_pick(struct swim *s, struct member **out, unsigned n, const struct member *but)
{
    unsigned seen = 0;

    for (size_t i = 0; i < s->n_ring; i++) {
        struct member *m = s->ring[i];
        uint32_t at;

        if (m == but || !swim_is_live(m))
            continue;
        /* reservoir sampling: the seen-th stays with chance n / seen */
        at = seen < n ? seen : rng_below(&s->rng, seen + 1);
        seen++;
        if (at < n)
            out[at] = m;
    }
    return seen < n ? seen : n;
}

void
swim_gossip(struct swim *s, mc_ns now)
{
    struct member *to[16];
    unsigned n = s->times.fanout < MC_COUNT(to) ? s->times.fanout : MC_COUNT(to);

    n = swim_pick(s, to, n, NULL);
    for (unsigned i = 0; i < n && swim_has_news(s); i++)
        swim_say(s, &to[i]->pub.addr, MSG_GOSSIP, NULL,
                 to[i]->pub.state == SWIM_SUSPECT ? to[i] : NULL, now);
    s->next_gossip = now + s->times.gossip_ns;
}

/* A suspect that our own probe failed to reach is told so, and asked, until it refutes or its time
 * is over: news that is told a few times may all be lost. */
void
swim_challenge(struct swim *s, mc_ns now)
{
    uint8_t bytes[BODY_MAX];

    LIST_FOREACH (it, &s->suspects) {
        struct member *m = LIST_ENTRY(it, struct member, suspects);
        struct pack_out body = {.p = bytes, .cap = sizeof(bytes)};

        if (!m->challenged)
            continue;
        pack_u32(&body, 0); /* what counts is the refutation that the answer brings */
        pack_str(&body, str_of(m->pub.name));
        swim_say(s, &m->pub.addr, MSG_PING, &body, m, now);
    }
    s->next_challenge = now + s->times.gossip_ns / 2;
}
