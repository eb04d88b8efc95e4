/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica.c - one flow: from frames, and into frames; see replica.h.
 */
#include "takeover/replica_priv.h"

#include <stdlib.h>

#include "base/check.h"

#define SPARE_MAX 4096 /* bytes of room that an empty buffer keeps */

const char *
replica_fault_text(enum replica_fault f)
{
    static const char *const text[] = {
#define X(id, t) t,
        REPLICA_FAULTS(X)
#undef X
    };

    return text[f];
}

/* --- bytes --------------------------------------------------------------------------------------
 */

static void
bytes_add(struct replica_bytes *b, struct str s)
{
    if (b->n + s.n > b->cap) {
        size_t cap = b->cap ? b->cap : 256;

        while (cap < b->n + s.n)
            cap *= 2;
        b->p = mc_realloc(b->p, cap);
        b->cap = cap;
    }
    if (s.n > 0)
        memcpy(b->p + b->n, s.p, s.n);
    b->n += s.n;
}

static void
bytes_free(struct replica_bytes *b)
{
    free(b->p);
    *b = (struct replica_bytes){0};
}

static void
bytes_skip(struct replica_bytes *b, size_t n)
{
    MC_ASSERT(n <= b->n);
    b->n -= n;
    if (b->n > 0)
        memmove(b->p, b->p + n, b->n);
    else if (b->cap > SPARE_MAX)
        bytes_free(b);
}

/* --- a replica ----------------------------------------------------------------------------------
 */

struct replica *
replica_new(struct life owner, uint16_t worker)
{
    struct replica *r = mc_alloc(sizeof(*r));

    r->owner = owner;
    r->worker = worker;
    return r;
}

static void
forget_all(struct replica *r)
{
    bytes_free(&r->in);
    bytes_free(&r->said);
    free(r->request);
    r->request = NULL;
    r->n_requests = r->cap_requests = 0;
}

void
replica_free(struct replica **rp)
{
    if (!*rp)
        return;
    forget_all(*rp);
    free(*rp);
    *rp = NULL;
}

void
replica_strip(struct replica *r)
{
    forget_all(r);
    r->bare = true;
}

size_t
replica_cost(const struct replica *r)
{
    return sizeof(*r) + r->in.cap + r->said.cap + r->cap_requests * sizeof(*r->request);
}

void
replica_begin(struct replica *r, const struct wire_open *w)
{
    forget_all(r);
    r->key = w->key;
    r->params = w->params;
    r->rcv_base = w->rcv_base;
    r->snd_base = w->snd_base;
    r->in_at = w->in_pos;
    r->out_at = w->out_pos;
    r->bare = r->handed_over = false;
}

static uint64_t
in_next(const struct replica *r)
{
    return r->in_at + r->in.n;
}

uint32_t
replica_rcv_next(const struct replica *r)
{
    return r->rcv_base + (uint32_t)in_next(r);
}

uint32_t
replica_snd_next(const struct replica *r)
{
    return r->snd_base + (uint32_t)r->out_at;
}

const uint8_t *
replica_said(const struct replica *r, unsigned request)
{
    size_t at = 0;

    MC_ASSERT(request < r->n_requests);
    for (unsigned i = 0; i < request; i++)
        at += r->request[i].n_said;
    return r->said.p ? r->said.p + at : NULL;
}

/* --- requests -----------------------------------------------------------------------------------
 */

static struct replica_request *
last_of(const struct replica *r)
{
    return r->n_requests > 0 ? &r->request[r->n_requests - 1] : NULL;
}

/* The one that is under way; NULL: none. */
static struct replica_request *
open_of(const struct replica *r)
{
    struct replica_request *q = last_of(r);

    return q && q->out_end == REPLICA_POS_NONE ? q : NULL;
}

static void
drop_input(struct replica *r, uint64_t upto)
{
    bytes_skip(&r->in, upto - r->in_at);
    r->in_at = upto;
}

/* The client has its response.  It is DONE. */
static void
forget_oldest(struct replica *r)
{
    const struct replica_request *q = &r->request[0];

    MC_ASSERT(q->out_end != REPLICA_POS_NONE);
    r->out_at = q->out_end;
    bytes_skip(&r->said, q->n_said);
    drop_input(r, r->n_requests > 1 ? q[1].in_start : q->in_end);
    r->n_requests--;
    memmove(r->request, r->request + 1, r->n_requests * sizeof(*r->request));
}

/* Forgets responses that the client is likely to have, as long as there are too many bytes; false:
 * there are none, and still too many. */
static bool
make_room(struct replica *r, size_t n_more, size_t most)
{
    while (r->in.n + r->said.n + n_more > most) {
        if (r->n_requests == 0 || &r->request[0] == open_of(r))
            return false;
        forget_oldest(r);
    }
    return true;
}

static struct replica_request *
push_request(struct replica *r)
{
    if (r->n_requests == r->cap_requests) {
        r->cap_requests = r->cap_requests ? 2 * r->cap_requests : 2;
        r->request = mc_realloc(r->request, r->cap_requests * sizeof(*r->request));
    }
    return &r->request[r->n_requests++];
}

/* --- frames -------------------------------------------------------------------------------------
 *
 * Each returns REPLICA_F_NONE or what is wrong with the frame; *kept is false when it would have
 * been too long.
 */

static enum replica_fault
on_in(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    if (f->u.in.in_pos != in_next(r))
        return REPLICA_F_GAP;
    *kept = make_room(r, f->u.in.bytes.n, most);
    if (*kept)
        bytes_add(&r->in, f->u.in.bytes);
    return REPLICA_F_NONE;
}

static enum replica_fault
on_req(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    const struct wire_req *w = &f->u.req;
    const struct replica_request *last = last_of(r);

    if (open_of(r))
        return REPLICA_F_ORDER;
    if (w->in_start < (last ? last->in_end : r->in_at) || w->in_start > in_next(r) ||
        w->out_start != (last ? last->out_end : r->out_at))
        return REPLICA_F_RANGE;
    while (r->n_requests > 0 && (!w->pipelined || r->n_requests == REPLICA_REQUESTS_MAX))
        forget_oldest(r);
    if (r->n_requests == 0)
        drop_input(r, w->in_start);
    *push_request(r) = (struct replica_request){
        .in_start = w->in_start,
        .in_end = REPLICA_POS_NONE,
        .out_start = w->out_start,
        .out_end = REPLICA_POS_NONE,
        .repeatable = w->repeatable,
    };
    return REPLICA_F_NONE;
}

static enum replica_fault
on_sent(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    struct replica_request *q = open_of(r);

    if (!q)
        return REPLICA_F_ORDER;
    q->sent = true;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_head(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    struct replica_request *q = open_of(r);

    if (!q || q->head_whole)
        return REPLICA_F_ORDER;
    if (f->u.head.bytes.n == 0)
        return REPLICA_F_RANGE;
    *kept = make_room(r, f->u.head.bytes.n, most);
    if (!*kept)
        return REPLICA_F_NONE;
    q = open_of(r); /* those before may have gone */
    bytes_add(&r->said, f->u.head.bytes);
    q->n_said += (uint32_t)f->u.head.bytes.n;
    q->n_head = q->n_said;
    q->head_whole = f->u.head.whole;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_out(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    struct replica_request *q = open_of(r);

    if (!q || !q->head_whole)
        return REPLICA_F_ORDER;
    q->gap |= !make_room(r, f->u.out.bytes.n, most);
    q = open_of(r);
    if (q->gap) { /* a response that cannot be kept whole is fetched again, if at all */
        r->said.n -= q->n_said - q->n_head;
        q->n_said = q->n_head;
        return REPLICA_F_NONE;
    }
    bytes_add(&r->said, f->u.out.bytes);
    q->n_said += (uint32_t)f->u.out.bytes.n;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_done(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    const struct wire_done *w = &f->u.done;
    struct replica_request *q = open_of(r);

    if (!q)
        return REPLICA_F_ORDER;
    if (w->in_end < q->in_start || w->in_end > in_next(r) || w->out_end < q->out_start ||
        w->out_end - q->out_start < q->n_said)
        return REPLICA_F_RANGE;
    q->in_end = w->in_end;
    q->out_end = w->out_end;
    q->close = w->close;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_bare(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    replica_strip(r);
    return REPLICA_F_NONE;
}

static enum replica_fault
on_handover(struct replica *r, const struct wire_frame *f, size_t most, bool *kept)
{
    r->handed_over = true;
    return REPLICA_F_NONE;
}

typedef enum replica_fault on_frame_f(struct replica *, const struct wire_frame *, size_t most,
                                      bool *kept);

static on_frame_f *const on_frame[] = {
    [WIRE_IN] = on_in,     [WIRE_REQ] = on_req,           [WIRE_SENT] = on_sent,
    [WIRE_HEAD] = on_head, [WIRE_OUT] = on_out,           [WIRE_DONE] = on_done,
    [WIRE_BARE] = on_bare, [WIRE_HANDOVER] = on_handover,
};

enum replica_kept
replica_apply(struct replica *r, const struct wire_frame *f, size_t most, enum replica_fault *fault)
{
    bool kept = true;

    *fault = REPLICA_F_NONE;
    if (f->kind >= MC_COUNT(on_frame) || !on_frame[f->kind])
        *fault = REPLICA_F_KIND;
    else if (!r->bare || f->kind == WIRE_HANDOVER)
        *fault = on_frame[f->kind](r, f, most, &kept);
    if (*fault != REPLICA_F_NONE)
        return REPLICA_REFUSED;
    if (kept)
        return REPLICA_KEPT;
    replica_strip(r);
    return REPLICA_TOO_LONG;
}

/* --- into frames, and back ----------------------------------------------------------------------
 */

/* The next piece of *rest that a frame may hold. */
static struct str
cut_piece(struct str *rest)
{
    struct str piece = {rest->p, rest->n < WIRE_BYTES_MAX ? rest->n : WIRE_BYTES_MAX};

    rest->p += piece.n;
    rest->n -= piece.n;
    return piece;
}

static void
put(struct buf *b, enum wire_kind kind)
{
    wire_put(b, &(struct wire_frame){.kind = kind});
}

static void
put_input(const struct replica *r, struct buf *b)
{
    struct str rest = {(const char *)r->in.p, r->in.n};

    for (uint64_t at = r->in_at; rest.n > 0;) {
        struct wire_frame f = {.kind = WIRE_IN, .u.in = {.in_pos = at, .bytes = cut_piece(&rest)}};

        wire_put(b, &f);
        at += f.u.in.bytes.n;
    }
}

static void
put_said(const struct replica_request *q, struct str said, struct buf *b)
{
    struct str head = {said.p, q->n_head}, body = {said.p + q->n_head, said.n - q->n_head};

    while (head.n > 0) {
        struct wire_frame f = {.kind = WIRE_HEAD, .u.head.bytes = cut_piece(&head)};

        f.u.head.whole = head.n == 0 && q->head_whole;
        wire_put(b, &f);
    }
    while (body.n > 0) {
        struct wire_frame f = {.kind = WIRE_OUT, .u.out.bytes = cut_piece(&body)};

        wire_put(b, &f);
    }
}

static void
put_request(const struct replica *r, unsigned i, struct buf *b)
{
    const struct replica_request *q = &r->request[i];
    struct wire_frame f = {
        .kind = WIRE_REQ,
        /* pipelined: it proves nothing of those before, which go with it */
        .u.req = {q->in_start, q->out_start, true, q->repeatable},
    };

    wire_put(b, &f);
    if (q->sent)
        put(b, WIRE_SENT);
    if (q->n_said > 0)
        put_said(q, (struct str){(const char *)replica_said(r, i), q->n_said}, b);
    if (q->out_end == REPLICA_POS_NONE)
        return;
    f = (struct wire_frame){.kind = WIRE_DONE, .u.done = {q->in_end, q->out_end, q->close}};
    wire_put(b, &f);
}

void
replica_write(const struct replica *r, struct buf *b)
{
    struct wire_frame f = {
        .kind = WIRE_OPEN,
        .u.open = {r->key, r->params, r->rcv_base, r->snd_base, r->in_at, r->out_at},
    };

    wire_put(b, &f);
    if (r->bare)
        put(b, WIRE_BARE);
    put_input(r, b);
    for (unsigned i = 0; i < r->n_requests; i++)
        put_request(r, i, b);
}

/* Reads what follows OPEN; false: it makes no sense. */
static bool
read_rest(struct replica *r, struct pack_in *i)
{
    struct wire_frame f;
    enum replica_fault fault;
    enum wire_next next;
    uint64_t n_unknown = 0;

    while ((next = wire_get(i, &f, &n_unknown)) == WIRE_FRAME)
        if (f.flow != 0 || replica_apply(r, &f, WIRE_REPLICA_MAX, &fault) != REPLICA_KEPT)
            return false;
    return next == WIRE_END;
}

struct replica *
replica_read(struct life owner, struct str frames)
{
    struct pack_in i = {.p = (const uint8_t *)frames.p, .n = frames.n};
    struct wire_frame f;
    struct replica *r;
    uint64_t n_unknown = 0;

    if (frames.n > WIRE_REPLICA_MAX || wire_get(&i, &f, &n_unknown) != WIRE_FRAME ||
        f.kind != WIRE_OPEN || f.flow != 0)
        return NULL;
    r = replica_new(owner, 0);
    replica_begin(r, &f.u.open);
    if (!read_rest(r, &i))
        replica_free(&r);
    return r;
}
