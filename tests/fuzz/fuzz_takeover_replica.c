/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_takeover_replica.c - any bytes as what an owner's worker tells a holder, and any numbers as
 * what a client has: memory stays within its bounds, plans within what is kept, and a replica given
 * away is the same there.
 *
 * Input: ack 4, seq 4, then the frames of a line behind HELLO and SNAPSHOT.
 */
#include "base/check.h"
#include "takeover/replica.h"

#define FLOW_BYTES  2048
#define TOTAL_BYTES 65536
#define FLOWS_MAX   40

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const struct life owner = {2, 20}, asker = {3, 30};

static enum owner_word
is_dead(void *arg, struct life who, uint32_t epoch)
{
    return who.id == owner.id ? OWNER_DEAD : OWNER_ALIVE;
}

static bool
is_within(struct str s, const uint8_t *p, size_t n)
{
    return s.n == 0 || ((const uint8_t *)s.p >= p && (const uint8_t *)s.p + s.n <= p + n);
}

static void
check_plan(const struct replica *r, const struct replica_plan *p)
{
    uint64_t at = p->in_from;

    if (p->broken != REPLICA_BROKEN_NONE) {
        MC_ASSERT(replica_broken_text(p->broken) && replica_broken_label(p->broken));
        return;
    }
    MC_ASSERT(!r->bare && p->in_pos == r->in_at + r->in.n);
    MC_ASSERT(p->in_from >= r->in_at && p->in_from <= p->in_pos);
    MC_ASSERT(p->out_pos >= r->out_at && p->n_steps <= r->n_requests);
    for (unsigned i = 0; i < p->n_steps; i++) {
        const struct replica_step *s = &p->step[i];

        MC_ASSERT(s->in_start >= at && s->in_start <= p->in_pos);
        MC_ASSERT(is_within(s->say, r->said.p, r->said.n));
        MC_ASSERT(is_within(s->head, r->said.p, r->said.n));
        MC_ASSERT(s->what != REPLICA_SAY || (s->say.n > 0 && s->in_end <= p->in_pos));
        MC_ASSERT(i == 0 || (s->skip == 0 && s->head.n == 0));
        MC_ASSERT(s->say.n == 0 || s->skip == 0);
        at = s->in_end == REPLICA_POS_NONE ? s->in_start : s->in_end;
    }
}

static void
check_travels(const struct replica *r)
{
    struct buf b = {0}, again = {0};
    struct replica *got;

    replica_write(r, &b);
    MC_ASSERT(b.n <= WIRE_REPLICA_MAX);
    got = replica_read(owner, (struct str){b.p, b.n});
    MC_ASSERT(got);
    replica_write(got, &again);
    MC_ASSERT(b.n == again.n && memcmp(b.p, again.p, b.n) == 0);
    replica_free(&got);
    buf_free(&b);
    buf_free(&again);
}

static void
check_flow(const struct replica *r, uint32_t ack, uint32_t seq)
{
    static struct replica_plan plan;

    MC_ASSERT(r->in.n + r->said.n <= FLOW_BYTES && r->n_requests <= REPLICA_REQUESTS_MAX);
    replica_plan(r, ack, seq, &plan);
    check_plan(r, &plan);
    /* where any number is likely to fit nothing, some that do */
    for (unsigned n = 0; n < 4; n++) {
        replica_plan(r, replica_snd_next(r) + ack % 64, replica_rcv_next(r) - seq % 4, &plan);
        check_plan(r, &plan);
        ack /= 64;
    }
    check_travels(r);
}

static void
read_line(struct replica_line *l, const uint8_t *data, size_t n)
{
    struct wire_frame hello = {.kind = WIRE_HELLO, .u.hello.owner = owner};
    struct wire_frame synced = {.kind = WIRE_SNAPSHOT};
    struct buf b = {0};

    wire_put(&b, &hello);
    wire_put(&b, &synced);
    MC_ASSERT(replica_line_read(l, (struct str){b.p, b.n}, MC_SEC) == REPLICA_F_NONE);
    buf_free(&b);
    replica_line_read(l, (struct str){(const char *)data, n}, MC_SEC);
}

static const struct replica *
next(const struct replica_store *s, size_t *at)
{
    unsigned looks = FLOWS_MAX;

    return replica_next(s, owner, at, &looks);
}

static void
take_all(struct replica_store *s)
{
    const struct replica *r;

    for (size_t at = 0; (r = next(s, &at)); at = 0) {
        struct flow_key key = r->key;
        struct replica_found found;
        struct replica *taken;

        replica_find(s, &key, asker, &found);
        MC_ASSERT(found.whose == REPLICA_FREE && flow_key_eq(&found.replica->key, &key));
        taken = replica_take(s, found.replica, asker, MC_SEC);
        replica_free(&taken);
    }
    /* those that were refused are not given to anybody */
    MC_ASSERT(replica_stats(s)->flows == replica_stats(s)->bare);
    replica_tick(s, 1000 * MC_SEC);
    MC_ASSERT(replica_stats(s)->flows == 0 && replica_stats(s)->bytes == 0);
    MC_ASSERT(replica_stats(s)->bare == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct replica_conf conf = {.flow_bytes = FLOW_BYTES,
                                .total_bytes = TOTAL_BYTES,
                                .flows_max = FLOWS_MAX,
                                .owner = is_dead};
    struct pack_in in = {.p = data, .n = n};
    uint32_t ack = unpack_u32(&in), seq = unpack_u32(&in);
    struct replica_store *s;
    struct replica_line *l;
    const struct replica *r;

    if (in.bad)
        return 0;
    s = replica_store_new(&conf);
    l = replica_line_new(s, MC_SEC);
    read_line(l, in.p, in.n);
    /* the last to grow pays, when it has */
    MC_ASSERT(replica_stats(s)->bytes <= TOTAL_BYTES + 1024);
    MC_ASSERT(replica_stats(s)->flows <= FLOWS_MAX);
    for (size_t at = 0; (r = next(s, &at));)
        check_flow(r, ack, seq);
    replica_line_end(&l, MC_SEC);
    take_all(s);
    replica_store_free(&s);
    return 0;
}
