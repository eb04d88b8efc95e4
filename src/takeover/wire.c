/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire.c - see wire.h.
 */
#include "takeover/wire.h"

#include "base/check.h"

#define POS_MAX       (UINT64_C(1) << 62) /* a position: sums of two stay in their type */
#define SCALE_MAX     14                  /* RFC 7323 2.3 */
#define HEAD_MAX      11                  /* kind and length of a frame */
#define FIXED_MAX     128                 /* what a frame has besides one string */

#define IS_PIPELINED  1u
#define IS_REPEATABLE 2u
#define IS_WHOLE      1u
#define IS_CLOSE      1u
#define IS_ALL        1u
#define IS_TAKEN      1u
#define IS_LEAVING    1u
#define IS_LAST       2u

const char *
wire_kind_text(unsigned kind)
{
    static const char *const text[] = {
#define X(id, number, t) [number] = t,
        WIRE_KINDS(X)
#undef X
    };

    return kind < MC_COUNT(text) && text[kind] ? text[kind] : "unknown";
}

/* --- fields -------------------------------------------------------------------------------------
 */

static void
put_life(struct pack_out *o, struct life life)
{
    pack_u64(o, life.id);
    pack_u64(o, life.boot);
}

static struct life
get_life(struct pack_in *i)
{
    struct life life = {.id = unpack_u64(i)};

    life.boot = unpack_u64(i);
    i->bad |= life.id == 0;
    return life;
}

static uint64_t
get_upto(struct pack_in *i, uint64_t most)
{
    uint64_t v = unpack_varint(i);

    i->bad |= v > most;
    return v > most ? 0 : v;
}

static void
get_copy(struct pack_in *i, void *out, size_t n)
{
    const uint8_t *p = unpack_bytes(i, n);

    if (p)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

static void
put_params(struct pack_out *o, const struct tcp_params *p)
{
    pack_u32(o, p->ts);
    pack_u16(o, p->mss);
    pack_u8(o, p->send_scale);
    pack_u8(o, p->recv_scale);
    pack_u8(o, p->options);
}

static void
get_params(struct pack_in *i, struct tcp_params *p)
{
    p->ts = unpack_u32(i);
    p->mss = unpack_u16(i);
    p->send_scale = unpack_u8(i);
    p->recv_scale = unpack_u8(i);
    p->options = unpack_u8(i);
    i->bad |= p->mss == 0 || p->send_scale > SCALE_MAX || p->recv_scale > SCALE_MAX;
}

/* The length of what will follow the fixed part. */
static struct str
put_tail(struct pack_out *o, struct str bytes, size_t most)
{
    MC_ASSERT(bytes.n <= most);
    pack_varint(o, bytes.n);
    return bytes;
}

/* --- frames, each in two functions --------------------------------------------------------------
 *
 * put writes all but the bytes of a string, which it returns; get reads all.
 */

static struct str
put_hello(struct pack_out *o, const struct wire_frame *f)
{
    pack_u8(o, WIRE_VERSION);
    put_life(o, f->u.hello.owner);
    pack_u16(o, f->u.hello.worker);
    pack_u32(o, f->u.hello.epoch);
    return STR_NONE;
}

static void
get_hello(struct pack_in *i, struct wire_frame *f)
{
    f->u.hello.version = unpack_u8(i);
    if (f->u.hello.version != WIRE_VERSION)
        return; /* the rest may look otherwise; who reads it refuses the line */
    f->u.hello.owner = get_life(i);
    f->u.hello.worker = unpack_u16(i);
    f->u.hello.epoch = unpack_u32(i);
}

static struct str
put_nothing(struct pack_out *o, const struct wire_frame *f)
{
    return STR_NONE;
}

static void
get_nothing(struct pack_in *i, struct wire_frame *f)
{
}

static struct str
put_open(struct pack_out *o, const struct wire_frame *f)
{
    const struct wire_open *w = &f->u.open;

    pack_bytes(o, &w->key, sizeof(w->key));
    put_params(o, &w->params);
    pack_u32(o, w->rcv_base);
    pack_u32(o, w->snd_base);
    pack_varint(o, w->in_pos);
    pack_varint(o, w->out_pos);
    return STR_NONE;
}

static void
get_open(struct pack_in *i, struct wire_frame *f)
{
    struct wire_open *w = &f->u.open;

    get_copy(i, &w->key, sizeof(w->key));
    get_params(i, &w->params);
    w->rcv_base = unpack_u32(i);
    w->snd_base = unpack_u32(i);
    w->in_pos = get_upto(i, POS_MAX);
    w->out_pos = get_upto(i, POS_MAX);
}

static struct str
put_in(struct pack_out *o, const struct wire_frame *f)
{
    pack_varint(o, f->u.in.in_pos);
    return put_tail(o, f->u.in.bytes, WIRE_BYTES_MAX);
}

static void
get_in(struct pack_in *i, struct wire_frame *f)
{
    f->u.in.in_pos = get_upto(i, POS_MAX);
    f->u.in.bytes = unpack_str(i, WIRE_BYTES_MAX);
}

static struct str
put_req(struct pack_out *o, const struct wire_frame *f)
{
    const struct wire_req *w = &f->u.req;

    pack_u8(o, (w->pipelined ? IS_PIPELINED : 0) | (w->repeatable ? IS_REPEATABLE : 0));
    pack_varint(o, w->in_start);
    pack_varint(o, w->out_start);
    return STR_NONE;
}

static void
get_req(struct pack_in *i, struct wire_frame *f)
{
    uint8_t flags = unpack_u8(i);

    f->u.req.pipelined = flags & IS_PIPELINED;
    f->u.req.repeatable = flags & IS_REPEATABLE;
    f->u.req.in_start = get_upto(i, POS_MAX);
    f->u.req.out_start = get_upto(i, POS_MAX);
}

static struct str
put_head(struct pack_out *o, const struct wire_frame *f)
{
    pack_u8(o, f->u.head.whole ? IS_WHOLE : 0);
    return put_tail(o, f->u.head.bytes, WIRE_BYTES_MAX);
}

static void
get_head(struct pack_in *i, struct wire_frame *f)
{
    f->u.head.whole = unpack_u8(i) & IS_WHOLE;
    f->u.head.bytes = unpack_str(i, WIRE_BYTES_MAX);
}

static struct str
put_out(struct pack_out *o, const struct wire_frame *f)
{
    return put_tail(o, f->u.out.bytes, WIRE_BYTES_MAX);
}

static void
get_out(struct pack_in *i, struct wire_frame *f)
{
    f->u.out.bytes = unpack_str(i, WIRE_BYTES_MAX);
}

static struct str
put_done(struct pack_out *o, const struct wire_frame *f)
{
    pack_u8(o, f->u.done.close ? IS_CLOSE : 0);
    pack_varint(o, f->u.done.in_end);
    pack_varint(o, f->u.done.out_end);
    return STR_NONE;
}

static void
get_done(struct pack_in *i, struct wire_frame *f)
{
    f->u.done.close = unpack_u8(i) & IS_CLOSE;
    f->u.done.in_end = get_upto(i, POS_MAX);
    f->u.done.out_end = get_upto(i, POS_MAX);
}

static struct str
put_ack(struct pack_out *o, const struct wire_frame *f)
{
    pack_varint(o, f->u.ack.frames);
    return STR_NONE;
}

static struct str
put_handover(struct pack_out *o, const struct wire_frame *f)
{
    put_life(o, f->u.handover.to);
    return STR_NONE;
}

static void
get_handover(struct pack_in *i, struct wire_frame *f)
{
    f->u.handover.to = get_life(i);
}

static void
get_ack(struct pack_in *i, struct wire_frame *f)
{
    f->u.ack.frames = unpack_varint(i);
}

static struct str
put_ask(struct pack_out *o, const struct wire_frame *f)
{
    pack_u32(o, f->u.ask.ask);
    pack_bytes(o, &f->u.ask.key, sizeof(f->u.ask.key));
    pack_u8(o, (f->u.ask.leaving ? IS_LEAVING : 0) | (f->u.ask.last ? IS_LAST : 0));
    return STR_NONE;
}

static void
get_ask(struct pack_in *i, struct wire_frame *f)
{
    uint8_t flags;

    f->u.ask.ask = unpack_u32(i);
    get_copy(i, &f->u.ask.key, sizeof(f->u.ask.key));
    flags = unpack_u8(i);
    f->u.ask.leaving = flags & IS_LEAVING;
    f->u.ask.last = flags & IS_LAST;
}

static struct str
put_owner(struct pack_out *o, const struct wire_frame *f)
{
    pack_u32(o, f->u.owner.ask);
    put_life(o, f->u.owner.owner);
    return STR_NONE;
}

static void
get_owner(struct pack_in *i, struct wire_frame *f)
{
    f->u.owner.ask = unpack_u32(i);
    f->u.owner.owner = get_life(i);
}

static struct str
put_give(struct pack_out *o, const struct wire_frame *f)
{
    pack_u32(o, f->u.give.ask);
    put_life(o, f->u.give.owner);
    return put_tail(o, f->u.give.frames, WIRE_REPLICA_MAX);
}

static void
get_give(struct pack_in *i, struct wire_frame *f)
{
    f->u.give.ask = unpack_u32(i);
    f->u.give.owner = get_life(i);
    f->u.give.frames = unpack_str(i, WIRE_REPLICA_MAX);
}

static struct str
put_none(struct pack_out *o, const struct wire_frame *f)
{
    pack_u32(o, f->u.none.ask);
    return STR_NONE;
}

static void
get_none(struct pack_in *i, struct wire_frame *f)
{
    f->u.none.ask = unpack_u32(i);
}

static struct str
put_taken(struct pack_out *o, const struct wire_frame *f)
{
    put_life(o, f->u.taken.owner);
    pack_bytes(o, &f->u.taken.key, sizeof(f->u.taken.key));
    return STR_NONE;
}

static void
get_taken(struct pack_in *i, struct wire_frame *f)
{
    f->u.taken.owner = get_life(i);
    get_copy(i, &f->u.taken.key, sizeof(f->u.taken.key));
}

static struct str
put_resync(struct pack_out *o, const struct wire_frame *f)
{
    pack_u64(o, f->u.resync.nonce);
    put_life(o, f->u.resync.who);
    return STR_NONE;
}

static void
get_resync(struct pack_in *i, struct wire_frame *f)
{
    f->u.resync.nonce = unpack_u64(i);
    f->u.resync.who = get_life(i);
}

static struct str
put_claimed(struct pack_out *o, const struct wire_frame *f)
{
    const struct wire_claimed *w = &f->u.claimed;

    MC_ASSERT(w->n <= WIRE_CLAIMS_MAX);
    pack_u64(o, w->nonce);
    pack_varint(o, w->n);
    return (struct str){(const char *)w->keys, w->n * sizeof(struct flow_key)};
}

static void
get_claimed(struct pack_in *i, struct wire_frame *f)
{
    struct wire_claimed *w = &f->u.claimed;

    w->nonce = unpack_u64(i);
    w->n = (unsigned)get_upto(i, WIRE_CLAIMS_MAX);
    w->keys = unpack_bytes(i, w->n * sizeof(struct flow_key));
}

static struct str
put_resynced(struct pack_out *o, const struct wire_frame *f)
{
    pack_u8(o, f->u.resynced.all ? IS_ALL : 0);
    pack_u64(o, f->u.resynced.nonce);
    pack_varint(o, f->u.resynced.seq);
    return STR_NONE;
}

static void
get_resynced(struct pack_in *i, struct wire_frame *f)
{
    f->u.resynced.all = unpack_u8(i) & IS_ALL;
    f->u.resynced.nonce = unpack_u64(i);
    f->u.resynced.seq = get_upto(i, WIRE_SEQ_MAX - 1);
}

/* They are written by functions of their own, and read in two steps. */
static void
get_table(struct pack_in *i, struct wire_frame *f)
{
    f->u.table = (struct str){(const char *)i->p, i->n};
}

static const struct {
    bool of_flow;
    struct str (*put)(struct pack_out *, const struct wire_frame *);
    void (*get)(struct pack_in *, struct wire_frame *);
} kinds[] = {
    [WIRE_HELLO] = {false, put_hello, get_hello},
    [WIRE_SNAPSHOT] = {false, put_nothing, get_nothing},
    [WIRE_OPEN] = {true, put_open, get_open},
    [WIRE_IN] = {true, put_in, get_in},
    [WIRE_REQ] = {true, put_req, get_req},
    [WIRE_SENT] = {true, put_nothing, get_nothing},
    [WIRE_HEAD] = {true, put_head, get_head},
    [WIRE_OUT] = {true, put_out, get_out},
    [WIRE_DONE] = {true, put_done, get_done},
    [WIRE_BARE] = {true, put_nothing, get_nothing},
    [WIRE_CLOSE] = {true, put_nothing, get_nothing},
    [WIRE_HANDOVER] = {true, put_handover, get_handover},
    [WIRE_ACK] = {false, put_ack, get_ack},
    [WIRE_BEAT] = {false, NULL, get_table},
    [WIRE_ASK] = {false, put_ask, get_ask},
    [WIRE_OWNER] = {false, put_owner, get_owner},
    [WIRE_GIVE] = {false, put_give, get_give},
    [WIRE_NONE] = {false, put_none, get_none},
    [WIRE_RESYNC] = {false, put_resync, get_resync},
    [WIRE_CLAIMED] = {false, put_claimed, get_claimed},
    [WIRE_RESYNCED] = {false, put_resynced, get_resynced},
    [WIRE_WHERE] = {false, NULL, get_table},
    [WIRE_REFUSED] = {true, put_nothing, get_nothing},
    [WIRE_TAKEN] = {false, put_taken, get_taken},
};

/* --- any frame ----------------------------------------------------------------------------------
 */

static void
put_frame(struct buf *b, enum wire_kind kind, const struct pack_out *fixed, struct str tail)
{
    uint8_t bytes[HEAD_MAX];
    struct pack_out head = {.p = bytes, .cap = sizeof(bytes)};

    MC_ASSERT(!fixed->bad);
    pack_u8(&head, (uint8_t)kind);
    pack_varint(&head, fixed->n + tail.n);
    buf_add(b, head.p, head.n);
    buf_add(b, fixed->p, fixed->n);
    if (tail.n > 0)
        buf_str(b, tail);
}

void
wire_put(struct buf *b, const struct wire_frame *f)
{
    uint8_t bytes[FIXED_MAX];
    struct pack_out fixed = {.p = bytes, .cap = sizeof(bytes)};
    struct str tail;

    MC_ASSERT(f->kind < MC_COUNT(kinds) && kinds[f->kind].put);
    if (kinds[f->kind].of_flow)
        pack_varint(&fixed, f->flow);
    tail = kinds[f->kind].put(&fixed, f);
    put_frame(b, f->kind, &fixed, tail);
}

void
wire_put_claimed(struct buf *b, uint64_t nonce, const struct flow_key *keys, unsigned n)
{
    wire_put(b, &(struct wire_frame){
                    .kind = WIRE_CLAIMED,
                    .u.claimed = {.nonce = nonce, .n = n, .keys = (const uint8_t *)keys},
                });
}

static bool
is_known(uint8_t kind)
{
    return kind < MC_COUNT(kinds) && kinds[kind].get;
}

static enum wire_next
get_frame(uint8_t kind, struct pack_in body, struct wire_frame *f)
{
    f->kind = (enum wire_kind)kind;
    f->flow = kinds[kind].of_flow ? (uint32_t)get_upto(&body, UINT32_MAX) : 0;
    kinds[kind].get(&body, f);
    return body.bad ? WIRE_BAD : WIRE_FRAME;
}

enum wire_next
wire_get(struct pack_in *i, struct wire_frame *out, uint64_t *n_unknown)
{
    while (i->n > 0) {
        uint8_t kind = unpack_u8(i);
        struct str bytes = unpack_str(i, i->n);

        if (i->bad)
            return WIRE_BAD;
        if (is_known(kind))
            return get_frame(kind, (struct pack_in){.p = (const uint8_t *)bytes.p, .n = bytes.n},
                             out);
        (*n_unknown)++;
    }
    return i->bad ? WIRE_BAD : WIRE_END;
}

struct flow_key
wire_claim(const struct wire_claimed *w, unsigned i)
{
    struct flow_key key;

    MC_ASSERT(i < w->n);
    memcpy(&key, w->keys + i * sizeof(key), sizeof(key));
    return key;
}

/* --- tables -------------------------------------------------------------------------------------
 */

static void
put_wire_life(struct pack_out *o, const struct wire_life *l)
{
    MC_ASSERT(l->n_holders <= WIRE_HOLDERS_MAX);
    put_life(o, l->who);
    pack_varint(o, l->seq);
    pack_u8(o, l->flags);
    pack_u8(o, l->n_holders);
    for (unsigned k = 0; k < l->n_holders; k++) {
        pack_u64(o, l->holder[k].id);
        pack_varint(o, l->holder[k].epoch);
    }
    if (!(l->flags & LIFE_WORD))
        return;
    pack_u8(o, l->word.taken ? IS_TAKEN : 0);
    pack_varint(o, l->word.seq);
    pack_varint(o, l->word.echo);
}

static void
get_wire_life(struct pack_in *i, struct wire_life *l)
{
    l->who = get_life(i);
    l->seq = get_upto(i, WIRE_SEQ_MAX - 1);
    l->flags = unpack_u8(i);
    l->n_holders = unpack_u8(i);
    i->bad |= l->n_holders > WIRE_HOLDERS_MAX;
    for (unsigned k = 0; !i->bad && k < l->n_holders; k++) {
        l->holder[k].id = unpack_u64(i);
        l->holder[k].epoch = (uint32_t)get_upto(i, UINT32_MAX);
    }
    l->word = (struct wire_word){0};
    if (i->bad || !(l->flags & LIFE_WORD))
        return;
    l->word.taken = unpack_u8(i) & IS_TAKEN;
    l->word.seq = get_upto(i, WIRE_SEQ_MAX - 1);
    l->word.echo = get_upto(i, WIRE_SEQ_MAX - 1);
}

void
wire_put_beat(struct buf *b, const struct wire_beat *beat)
{
    uint8_t bytes[WIRE_BEAT_MAX];
    struct pack_out o = {.p = bytes, .cap = sizeof(bytes) - HEAD_MAX};

    MC_ASSERT(beat->n > 0 && beat->n <= WIRE_LIVES_MAX);
    pack_u64(&o, beat->to_boot);
    pack_varint(&o, beat->n);
    for (unsigned k = 0; k < beat->n; k++)
        put_wire_life(&o, &beat->life[k]);
    put_frame(b, WIRE_BEAT, &o, STR_NONE);
}

bool
wire_get_beat(struct str table, struct wire_beat *out)
{
    struct pack_in i = {.p = (const uint8_t *)table.p, .n = table.n};

    out->to_boot = unpack_u64(&i);
    out->n = (unsigned)get_upto(&i, WIRE_LIVES_MAX);
    for (unsigned k = 0; !i.bad && k < out->n; k++)
        get_wire_life(&i, &out->life[k]);
    return !i.bad && out->n > 0;
}

void
wire_put_where(struct buf *b, const struct wire_where *w)
{
    uint8_t bytes[16 + WIRE_PLACES_MAX * (8 + 17 * WIRE_NETS_MAX)];
    struct pack_out o = {.p = bytes, .cap = sizeof(bytes)};

    MC_ASSERT(w->n <= WIRE_PLACES_MAX);
    pack_varint(&o, w->n);
    for (unsigned k = 0; k < w->n; k++) {
        const struct wire_place *p = &w->place[k];

        MC_ASSERT(p->n_nets <= WIRE_NETS_MAX);
        pack_bytes(&o, p->mac, sizeof(p->mac));
        pack_varint(&o, p->n_nets);
        for (unsigned j = 0; j < p->n_nets; j++) {
            pack_bytes(&o, p->net[j].ip, sizeof(p->net[j].ip));
            pack_u8(&o, p->net[j].bits);
        }
    }
    put_frame(b, WIRE_WHERE, &o, STR_NONE);
}

static void
get_place(struct pack_in *i, struct wire_place *p)
{
    get_copy(i, p->mac, sizeof(p->mac));
    i->bad |= p->mac[0] & 1; /* a group's: packets would go to all */
    p->n_nets = (unsigned)get_upto(i, WIRE_NETS_MAX);
    for (unsigned j = 0; !i->bad && j < p->n_nets; j++) {
        get_copy(i, p->net[j].ip, sizeof(p->net[j].ip));
        p->net[j].bits = unpack_u8(i);
        i->bad |= p->net[j].bits > 128;
    }
}

bool
wire_get_where(struct str table, struct wire_where *out)
{
    struct pack_in i = {.p = (const uint8_t *)table.p, .n = table.n};

    out->n = (unsigned)get_upto(&i, WIRE_PLACES_MAX);
    for (unsigned k = 0; !i.bad && k < out->n; k++)
        get_place(&i, &out->place[k]);
    return !i.bad;
}
