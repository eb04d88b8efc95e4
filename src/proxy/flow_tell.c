/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_tell.c - what is told to holders of a connection (takeover/wire.h), as it happens, and all
 * at once to a holder that is new.
 */
#include "proxy/flow_priv.h"
#include "proxy/untaken.h"

/* --- telling ------------------------------------------------------------------------------------
 */

static void
drop(struct flow *f, struct block **b)
{
    if (*b != NULL)
        block_give(loop_blocks(f->flows->worker->loop), b);
}

static struct wire_frame
open_frame(const struct flow *f, uint64_t in_pos, uint64_t out_pos)
{
    return (struct wire_frame){.kind = WIRE_OPEN,
                               .flow = f->id,
                               .u.open = {.key = f->key,
                                          .params = f->params,
                                          .rcv_base = f->rcv_base,
                                          .snd_base = f->snd_base,
                                          .in_pos = in_pos,
                                          .out_pos = out_pos}};
}

/* Of what was kept to be told to a holder that is new. */
void
flow_forget(struct flow *f)
{
    drop(f, &f->kept);
    drop(f, &f->said);
    f->request = (struct flow_request){.begun = false};
}

/* As if it had just begun, also in the midst of its life: a holder counts from these positions. */
void
flow_tell_open(struct flow *f, uint64_t in_pos, uint64_t out_pos)
{
    struct wire_frame w = open_frame(f, in_pos, out_pos);

    flow_forget(f);
    f->in_pos = f->kept_at = f->next_start = in_pos;
    f->bare = f->untold = false;
    f->refused = 0;
    flow_put(f, &w);
}

/* Each frame has a ticket, and what it holds is acknowledged when holders have that: the client is
 * not kept waiting for the last of much. */
void
flow_tell_in(struct flow *f, const char *p, size_t n)
{
    block_append(loop_blocks(f->flows->worker->loop), &f->kept, p, n);
    while (n > 0) {
        const size_t part = n < WIRE_BYTES_MAX ? n : WIRE_BYTES_MAX;
        struct wire_frame w = {.kind = WIRE_IN, .u.in = {f->in_pos, {p, part}}};

        f->in_pos += part;
        flow_gate_after(f, flow_put(f, &w), f->in_pos);
        p += part;
        n -= part;
    }
}

void
flow_tell_late(struct flow *f, const char *p, size_t n)
{
    struct wire_frame w = {.kind = WIRE_IN, .flow = f->id, .u.in = {f->in_pos, {p, n}}};

    link_put(f->flows->link, &w);
}

static struct wire_frame
request_frame(const struct flow *f)
{
    const struct flow_request *r = &f->request;

    return (struct wire_frame){
        .kind = WIRE_REQ,
        .flow = f->id,
        .u.req = {r->in_start, r->out_start, r->pipelined, r->repeatable},
    };
}

/* What came before is of use no more: it is done, and who asks again has the answer, or has not and
 * then only the holders know. */
void
flow_trim(struct flow *f)
{
    if (f->kept != NULL)
        block_skip(f->kept, (size_t)(f->next_start - f->kept_at));
    f->kept_at = f->next_start;
    f->request.known = false;
    drop(f, &f->said);
}

void
flow_tell_request(struct flow *f, uint64_t out_start, bool repeatable)
{
    struct wire_frame w;

    flow_trim(f);
    f->request = (struct flow_request){
        .begun = true,
        .known = true,
        .in_start = f->next_start,
        .out_start = out_start,
        .pipelined = untaken_bytes(&f->conn->stream) > 0,
        .repeatable = repeatable,
    };
    w = request_frame(f);
    flow_hold_until(f, flow_put(f, &w));
}

uint64_t
flow_tell_said(struct flow *f, enum wire_kind kind, const char *p, size_t n, bool whole)
{
    uint64_t ticket = 0;

    block_append(loop_blocks(f->flows->worker->loop), &f->said, p, n);
    do {
        const size_t part = n < WIRE_BYTES_MAX ? n : WIRE_BYTES_MAX;
        struct wire_frame w = {.kind = kind};

        if (kind == WIRE_HEAD)
            w.u.head = (struct wire_head){whole && part == n, {p, part}};
        else
            w.u.out = (struct wire_out){{p, part}};
        ticket = flow_put(f, &w);
        p += part;
        n -= part;
    } while (n > 0);
    f->request.head_whole |= whole;
    return ticket;
}

/* What nobody could carry on waits for nobody: acknowledgements pass from now on, and so does the
 * end of it, should this process die. */
void
flow_bare(struct flow *f)
{
    struct wire_frame w = {.kind = WIRE_BARE};

    if (f->bare)
        return;
    f->bare = true;
    stat_add(&f->flows->stats.bared, 1);
    stat_add(&f->flows->stats.bare, 1);
    flow_forget(f);
    guard_flags(f->flows->guard, f->slot, GUARD_SLOT_OPEN | GUARD_SLOT_CLOSING);
    flow_unwait(f, FLOW_GATE);
    flow_unwait(f, FLOW_NEXT_GATE);
    flow_open_gate(f, f->in_pos);
    f->bare_ticket = flow_put(f, &w);
}

static void
be_unkept(struct flow *f)
{
    stat_add(&f->flows->stats.unkept, 1);
    flow_bare(f);
}

static bool
is_kept(const struct flow *f)
{
    return (link_keepers(f->flows->link) & ~f->refused) != 0;
}

/* Another holder may keep it.  Of what is handed over all have forgotten it but the one that is
 * meant. */
void
flows_on_refused(void *arg, uint32_t id, unsigned place)
{
    struct flows *fs = arg;
    struct flow *f = id < fs->next_id ? fs->by_id[id] : NULL;

    if (f == NULL || f->gone || f->bare)
        return;
    f->refused |= UINT32_C(1) << place;
    if (f->leaving ? !link_is_at(fs->link, f->heir, place) : is_kept(f)) {
        stat_add(&fs->stats.half_kept, 1);
        return;
    }
    if (f->leaving)
        flow_stay(f);
    be_unkept(f);
}

/* Who keeps a flow may have been the only one. */
void
flows_on_let_go(void *arg, unsigned place)
{
    struct flows *fs = arg;

    LIST_FOREACH_SAFE (it, next, &fs->all) {
        struct flow *f = LIST_ENTRY(it, struct flow, link);

        f->refused &= ~(UINT32_C(1) << place);
        if (f->refused != 0 && !is_kept(f) && !f->gone && !f->bare && !f->leaving)
            be_unkept(f);
    }
}

/* --- a holder that is new ------------------------------------------------------------------------
 */

static void
tell_new(struct flow *f, struct wire_frame *w)
{
    w->flow = f->id;
    link_tell(f->flows->link, w);
}

/* Bytes of the client, or of a response; they are in frames of at most WIRE_BYTES_MAX. */
static void
tell_bytes(struct flow *f, enum wire_kind kind, const char *p, size_t n)
{
    uint64_t pos = f->kept_at;

    while (n > 0) {
        const size_t part = n < WIRE_BYTES_MAX ? n : WIRE_BYTES_MAX;
        struct wire_frame w = {.kind = kind};

        if (kind == WIRE_IN)
            w.u.in = (struct wire_in){pos, {p, part}};
        else if (kind == WIRE_HEAD)
            w.u.head = (struct wire_head){f->request.head_whole && part == n, {p, part}};
        else
            w.u.out = (struct wire_out){{p, part}};
        tell_new(f, &w);
        pos += part;
        p += part;
        n -= part;
    }
}

/* The last request and what was said to it: the client may lack a part. */
static void
tell_request(struct flow *f)
{
    const struct flow_request *r = &f->request;
    struct wire_frame req = request_frame(f), sent = {.kind = WIRE_SENT},
                      done = {.kind = WIRE_DONE, .u.done = {r->in_end, r->out_end, r->close}};

    tell_new(f, &req);
    if (r->sent)
        tell_new(f, &sent);
    if (f->said != NULL) {
        tell_bytes(f, WIRE_HEAD, block_at(f->said), r->n_head);
        tell_bytes(f, WIRE_OUT, block_at(f->said) + r->n_head, f->said->len - r->n_head);
    }
    if (!r->begun)
        tell_new(f, &done);
}

static void
tell_everything(struct flow *f)
{
    struct wire_frame bare = {.kind = WIRE_BARE}, open;

    open = open_frame(f, f->bare ? f->in_pos : f->kept_at,
                      f->request.known && !f->bare ? f->request.out_start : f->out_pos);
    tell_new(f, &open);
    if (f->bare) {
        tell_new(f, &bare);
        return;
    }
    if (f->kept != NULL)
        tell_bytes(f, WIRE_IN, block_at(f->kept), f->kept->len);
    if (f->request.known)
        tell_request(f);
}

bool
flows_on_snapshot(void *arg, uint32_t id)
{
    struct flows *fs = arg;
    struct flow *f;

    if (id >= fs->next_id)
        return false;
    f = fs->by_id[id];
    if (f == NULL || f->gone || f->untold)
        return true;
    tell_everything(f);
    if (f->leaving) { /* what still comes of it is not for this one */
        struct wire_frame w = {.kind = WIRE_HANDOVER, .u.handover = {f->heir}};

        tell_new(f, &w);
    }
    return true;
}
