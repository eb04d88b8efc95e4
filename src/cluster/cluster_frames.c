/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster_frames.c - datagrams in and out, and what is known of those who send and get them.
 *
 * A datagram is a sealed text: who sent it and what its clock was, then frames, each of one kind.
 * What goes to one member in one turn of the loop leaves together.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/pack.h"
#include "cluster/cluster_priv.h"

#define HEAD_BYTES    16
#define FRAME_BYTES   3
/* What the network delays makes a clock seem behind: the greatest of what was seen in the last one
 * or two spans is the truth.  Not of all time, since clocks are set. */
#define SKEW_SPAN_NS  (10 * MC_SEC)
#define SKEW_TELL_NS  MC_SEC /* beyond it a person should know */
#define SKEW_AGAIN_NS (60 * MC_SEC)

enum frame_kind { FRAME_SWIM = 1, FRAME_FACTS, FRAME_WORDS, FRAME_LOAD };

/* --- peers --------------------------------------------------------------------------------------
 */

static int
by_id(const void *a, const void *b)
{
    const struct peer *const *x = a, *const *y = b;

    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static struct peer *
peer_find(const struct cluster *c, uint64_t id)
{
    struct peer key = {.id = id}, *at = &key, **found;

    found = c->n_peers ? bsearch(&at, c->peers, c->n_peers, sizeof(*c->peers), by_id) : NULL;
    return found ? *found : NULL;
}

static bool
is_live(const struct swim_member *m)
{
    return m->state == SWIM_ALIVE || m->state == SWIM_SUSPECT;
}

static struct peer *
peer_of(const struct cluster *c, const struct swim_member *m)
{
    struct peer *p = peer_find(c, m->id);
    bool known = p != NULL;

    if (!known) {
        p = mc_alloc(sizeof(*p));
        p->id = m->id;
    }
    if (memcmp(p->boot, m->boot, sizeof(p->boot)) != 0) {
        memcpy(p->boot, m->boot, sizeof(p->boot));
        p->heard_at = 0;
        p->skew[0].since = p->skew[1].since = 0;
        p->restarted = known;
    }
    p->addr = m->addr;
    return p;
}

void
frames_settle(struct cluster *c)
{
    size_t all = swim_count(c->swim);
    struct peer **now = mc_alloc((all + 1) * sizeof(struct peer *));
    unsigned n = 0;

    for (size_t i = 0; i < all; i++) {
        const struct swim_member *m = swim_at(c->swim, i);

        if (!m->self && is_live(m))
            now[n++] = peer_of(c, m);
    }
    qsort(now, n, sizeof(*now), by_id);
    for (unsigned i = 0; i < c->n_peers; i++)
        if (!bsearch(&c->peers[i], now, n, sizeof(*now), by_id))
            free(c->peers[i]);
    free(c->peers);
    c->peers = now;
    c->n_peers = n;
    c->ids = mc_realloc(c->ids, (n + 1) * sizeof(*c->ids));
    for (unsigned i = 0; i < n; i++)
        c->ids[i] = now[i]->id;
    facts_set_members(c->facts, c->ids, n, loop_now(c->loop));
    words_set_members(c->words, c->ids, n, loop_now(c->loop));
}

void
frames_forget_peers(struct cluster *c)
{
    for (unsigned i = 0; i < c->n_peers; i++)
        free(c->peers[i]);
    c->n_peers = 0;
}

/* --- out ----------------------------------------------------------------------------------------
 */

static void
put_head(const struct cluster *c, struct pack_out *o)
{
    pack_u64(o, swim_self(c->swim)->id);
    pack_u64(o, (uint64_t)(units_wall_ns() / MC_MS));
}

static void
put_frame(struct pack_out *o, enum frame_kind kind, const void *bytes, size_t n)
{
    pack_u8(o, (uint8_t)kind);
    pack_u16(o, (uint16_t)n);
    pack_bytes(o, bytes, n);
    MC_ASSERT(!o->bad);
}

static void
seal_and_send(struct cluster *c, const struct addr *to, const uint8_t *plain, size_t n)
{
    uint8_t sealed[DGRAM_BYTES_MAX];
    size_t bytes = seal_datagram(c->keys, plain, n, sealed);

    dgram_send(c->dgram, to, sealed, bytes);
    c->counters.sealed++;
    c->counters.sealed_bytes += bytes;
}

static void
flush_peer(struct cluster *c, struct peer *p)
{
    if (p->n == 0)
        return;
    seal_and_send(c, &p->addr, p->out, p->n);
    p->bytes_out += p->n + SEAL_OVERHEAD;
    p->n = 0;
}

void
frames_flush(struct cluster *c)
{
    for (unsigned i = 0; i < c->n_peers; i++)
        flush_peer(c, c->peers[i]);
}

static void
send_frame(struct cluster *c, struct peer *p, enum frame_kind kind, const void *bytes, size_t n)
{
    struct pack_out o;

    MC_ASSERT(HEAD_BYTES + FRAME_BYTES + n <= PLAIN_MAX);
    if (p->n + FRAME_BYTES + n > PLAIN_MAX)
        flush_peer(c, p);
    o = (struct pack_out){.p = p->out, .n = p->n, .cap = PLAIN_MAX};
    if (p->n == 0)
        put_head(c, &o);
    put_frame(&o, kind, bytes, n);
    p->n = (unsigned)o.n;
    cluster_plan(c);
}

void
cluster_send(struct cluster *c, uint64_t to, const void *bytes, size_t n)
{
    struct peer *p = peer_find(c, to);

    MC_ASSERT(n <= CLUSTER_LOAD_MAX);
    if (!p || c->left)
        return;
    c->counters.load_bytes_out += n;
    send_frame(c, p, FRAME_LOAD, bytes, n);
}

void
cluster_send_all(struct cluster *c, const void *bytes, size_t n)
{
    for (unsigned i = 0; i < c->n_peers; i++)
        cluster_send(c, c->peers[i]->id, bytes, n);
}

void
frames_send_swim(void *arg, const struct addr *to, const void *bytes, size_t n)
{
    struct cluster *c = arg;
    uint8_t plain[PLAIN_MAX];
    struct pack_out o = {.p = plain, .cap = sizeof(plain)};

    put_head(c, &o);
    put_frame(&o, FRAME_SWIM, bytes, n);
    seal_and_send(c, to, plain, o.n);
}

/* Who is no live member any more gets nothing. */
static void
send_to(struct cluster *c, uint64_t to, enum frame_kind kind, const void *bytes, size_t n)
{
    struct peer *p = peer_find(c, to);

    if (p)
        send_frame(c, p, kind, bytes, n);
}

void
frames_send_facts(void *arg, uint64_t to, const void *bytes, size_t n)
{
    send_to(arg, to, FRAME_FACTS, bytes, n);
}

void
frames_send_words(void *arg, uint64_t to, const void *bytes, size_t n)
{
    send_to(arg, to, FRAME_WORDS, bytes, n);
}

/* --- in -----------------------------------------------------------------------------------------
 */

static mc_ns
skew_of(const struct peer *p)
{
    bool before = p->skew[1].since != 0 && p->skew[1].ns > p->skew[0].ns;

    return p->skew[0].since == 0 ? 0 : p->skew[before].ns;
}

static void
note_clock(struct cluster *c, struct peer *p, uint64_t wall_ms)
{
    mc_ns now = loop_now(c->loop), span = now - p->skew[0].since, seen;
    const struct swim_member *m;

    if (wall_ms > INT64_MAX / MC_MS)
        return;
    seen = ((int64_t)wall_ms - units_wall_ns() / MC_MS) * MC_MS;
    if (p->skew[0].since == 0 || span >= SKEW_SPAN_NS) {
        p->skew[1] = p->skew[0];
        if (span >= 2 * SKEW_SPAN_NS)
            p->skew[1].since = 0;
        p->skew[0].ns = seen;
        p->skew[0].since = now;
    } else if (seen > p->skew[0].ns)
        p->skew[0].ns = seen;
    if (llabs(skew_of(p)) < SKEW_TELL_NS || now < c->told_skew_at)
        return;
    c->told_skew_at = now + SKEW_AGAIN_NS;
    m = swim_find_id(c->swim, p->id); /* NULL: it was forgotten in this turn */
    log_warn("cluster: the clock of %s is %+.1f s from ours", m ? m->name : "a member",
             (double)skew_of(p) / (double)MC_SEC);
}

static void
take_load(struct cluster *c, const struct peer *p, const void *bytes, size_t n)
{
    c->counters.load_bytes_in += n;
    c->hooks.on_load(c->hooks.arg, p->id, bytes, n);
}

/* p NULL: from who is no live member, and may become one. */
static void
take_frame(struct cluster *c, const struct peer *p, const struct addr *from, unsigned kind,
           const uint8_t *bytes, size_t n)
{
    mc_ns now = loop_now(c->loop);

    if (kind == FRAME_SWIM) {
        swim_recv(c->swim, from, bytes, n, now);
        return;
    }
    if (!p) {
        c->counters.strangers++;
        return;
    }
    switch (kind) {
    case FRAME_FACTS: facts_recv(c->facts, p->id, bytes, n, now); break;
    case FRAME_WORDS: words_recv(c->words, p->id, bytes, n, cluster_clocks(c)); break;
    case FRAME_LOAD: take_load(c, p, bytes, n); break;
    default: c->counters.unknown++; break;
    }
}

static void
take_frames(struct cluster *c, const struct addr *from, struct str plain, const uint8_t *boot)
{
    struct pack_in in = {.p = (const uint8_t *)plain.p, .n = plain.n};
    uint64_t id = unpack_u64(&in), wall_ms = unpack_u64(&in);
    struct peer *p = peer_find(c, id);

    if (p && memcmp(p->boot, boot, sizeof(p->boot)) != 0)
        p = NULL; /* another process of that name */
    if (p && !in.bad) {
        p->heard_at = loop_now(c->loop);
        p->bytes_in += plain.n + SEAL_OVERHEAD;
        note_clock(c, p, wall_ms);
    }
    while (in.n > 0 && !in.bad) {
        unsigned kind = unpack_u8(&in), n = unpack_u16(&in);
        const uint8_t *bytes = unpack_bytes(&in, n);

        if (bytes)
            take_frame(c, p, from, kind, bytes, n);
    }
    c->counters.malformed += in.bad;
}

void
frames_recv(void *arg, const struct addr *from, uint8_t *bytes, size_t n)
{
    struct cluster *c = arg;
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct str plain;
    enum seal_fault f;

    if (c->left || !c->started)
        return;
    f = seal_open_datagram(c->keys, loop_now(c->loop), bytes, n, &plain, boot);
    if (f != SEAL_F_NONE) {
        cluster_refused(c, from, seal_fault_text(f));
        return;
    }
    c->counters.opened++;
    c->counters.opened_bytes += n;
    take_frames(c, from, plain, boot);
    cluster_plan(c);
}

/* --- for reading --------------------------------------------------------------------------------
 */

mc_ns
cluster_skew(const struct cluster *c, uint64_t member)
{
    const struct peer *p = peer_find(c, member);

    return p ? skew_of(p) : 0;
}

bool
cluster_traffic(const struct cluster *c, uint64_t member, struct cluster_traffic *out)
{
    const struct peer *p = peer_find(c, member);

    if (!p)
        return false;
    *out = (struct cluster_traffic){
        .heard_ns = p->heard_at ? loop_now(c->loop) - p->heard_at : MC_NEVER_NS,
        .bytes_in = p->bytes_in,
        .bytes_out = p->bytes_out,
        .skew_ns = skew_of(p),
    };
    return true;
}

const uint64_t *
cluster_others(const struct cluster *c, unsigned *n)
{
    *n = c->n_peers;
    return c->ids;
}
