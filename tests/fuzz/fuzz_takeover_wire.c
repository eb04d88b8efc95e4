/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_takeover_wire.c - any bytes as frames of another balancer: what is read can be written, and
 * is read the same again; beats of a member do a balancer no harm.
 */
#include "base/check.h"
#include "takeover/peers.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const struct life self = {1, 10};

static void
put_table(struct buf *b, const struct wire_frame *f)
{
    static struct wire_beat beat;
    static struct wire_where where;

    if (f->kind == WIRE_BEAT && wire_get_beat(f->u.table, &beat))
        wire_put_beat(b, &beat);
    if (f->kind == WIRE_WHERE && wire_get_where(f->u.table, &where))
        wire_put_where(b, &where);
}

static void
put(struct buf *b, const struct wire_frame *f)
{
    if (f->kind == WIRE_BEAT || f->kind == WIRE_WHERE)
        put_table(b, f);
    else if (f->kind != WIRE_HELLO || f->u.hello.version == WIRE_VERSION)
        wire_put(b, f);
    for (unsigned i = 0; f->kind == WIRE_CLAIMED && i < f->u.claimed.n; i++)
        (void)wire_claim(&f->u.claimed, i);
}

/* Reads all frames there are and writes them to out. */
static void
copy(const void *bytes, size_t n, struct buf *out)
{
    struct pack_in in = {.p = bytes, .n = n};
    struct wire_frame f;
    uint64_t n_unknown = 0;

    while (wire_get(&in, &f, &n_unknown) == WIRE_FRAME)
        put(out, &f);
}

/* --- a balancer that hears them -----------------------------------------------------------------
 */

static void
send_beat(void *arg, uint64_t to, const struct wire_beat *beat)
{
    struct buf b = {0};

    wire_put_beat(&b, beat); /* asserts that it fits */
    buf_free(&b);
}

static void
nothing(void *arg)
{
}

static void
on_life(void *arg, struct life who, bool alive)
{
}

static void
on_holder(void *arg, struct life who, uint32_t epoch, bool chosen)
{
}

static void
on_resync(void *arg, struct life who, uint64_t nonce)
{
}

static void
on_fit(void *arg, bool fit)
{
}

static void
check_peers(const struct peers *p, mc_ns now)
{
    struct peers_holder h[PEERS_HOLDERS_MAX];
    unsigned n = peers_holders(p, h);

    MC_ASSERT(peers_lease(p) <= now + 80 * MC_MS);
    MC_ASSERT((peers_why(p, now) == NULL) == (peers_lease(p) >= now));
    for (unsigned i = 0; i < n; i++)
        MC_ASSERT(h[i].who.id != self.id);
}

static void
hear(const uint8_t *data, size_t n)
{
    static const uint64_t members[] = {2, 3, 4};
    struct peers_conf conf = {.self = self,
                              .has_witness = true,
                              .send = send_beat,
                              .ask_witness = nothing,
                              .on_life = on_life,
                              .on_holder = on_holder,
                              .on_resync = on_resync,
                              .on_void = nothing,
                              .on_fit = on_fit};
    mc_ns now = MC_SEC;
    struct peers *p = peers_new(&conf, now);
    struct pack_in in = {.p = data, .n = n};
    struct wire_frame f;
    struct wire_beat beat;
    uint64_t n_unknown = 0;

    peers_set_members(p, members, MC_COUNT(members), now);
    while (wire_get(&in, &f, &n_unknown) == WIRE_FRAME) {
        now += (mc_ns)(f.flow % 64 + 1) * MC_MS;
        peers_tick(p, now);
        if (f.kind == WIRE_BEAT && wire_get_beat(f.u.table, &beat))
            peers_hear(p, &beat, now);
        else if (f.kind == WIRE_RESYNCED)
            peers_resynced(p, (struct life){2, 20}, f.u.resynced.nonce, f.u.resynced.seq, now);
        else if (f.kind == WIRE_RESYNC)
            peers_asked(p, f.u.resync.who, now);
        else if (f.kind == WIRE_SENT)
            peers_gave(p, (struct life){2, 20}, now);
        else if (f.kind == WIRE_BARE)
            peers_witness(p, now);
        else if (f.kind == WIRE_CLOSE)
            peers_voided(p, now);
        check_peers(p, now);
    }
    peers_free(&p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf once = {0}, twice = {0};

    copy(data, n, &once);
    copy(once.p, once.n, &twice);
    MC_ASSERT(once.n == twice.n && (once.n == 0 || memcmp(once.p, twice.p, once.n) == 0));
    hear(data, n);
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
