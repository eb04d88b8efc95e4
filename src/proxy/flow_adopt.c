/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_adopt.c - a connection that another balancer served goes on here.
 *
 * What its client has not been answered is read again, by the parser that reads everything.  Of the
 * first response the client may have a part: then the new response has to be the same, as far as
 * can be seen (status, length, validators), and what the client has is left out.  A response that
 * differs, or of which nobody can tell, breaks the connection: half of one and half of another is
 * worse than none (RFC 9110 8.8.1 has the same rule for ranges).
 */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/log.h"
#include "proxy/access_log.h"
#include "proxy/flow_priv.h"

/* A head as we wrote it: with fields of our own beyond what a server may send. */
static const struct h1_limits our_heads = {
    .head_bytes = 1u << 20, .target_bytes = 1u << 20, .fields = 4000, .trailer_bytes = 1u << 20};

struct replay {
    struct flow *flow;
    struct adopted *from; /* its plan and its replica, to which the plan points */
    unsigned step;        /* the next */
    struct block *rest;   /* bytes that were not read again yet; NULL: none are left */
    struct task task;
    const struct replica_step *now; /* the client has a part of the present response */
    uint64_t skip;                  /* of its body, still */
};

static const struct replica_step *
next_step(const struct replay *r)
{
    return r->step < r->from->plan.n_steps ? &r->from->plan.step[r->step] : NULL;
}

void
replay_free(struct replay **rp)
{
    struct replay *r = *rp;
    struct loop *l = r->flow->flows->worker->loop;

    *rp = NULL;
    loop_undefer(l, &r->task);
    if (r->rest != NULL)
        block_give(loop_blocks(l), &r->rest);
    adopted_free(&r->from);
    free(r);
}

/* --- what the log says --------------------------------------------------------------------------
 */

/* Of a response that the client has a part of the rest is fetched. */
static const char *
word_of(const struct replica_step *s)
{
    static const char *const words[] = {
        [REPLICA_SAY] = "answered", [REPLICA_REPEAT] = "repeated", [REPLICA_REFUSE] = "refused"};

    return s->head.n > 0 ? "continued" : words[s->what];
}

void
flow_put_log(const struct flow *f, struct access_record *r)
{
    r->adopted_from = f->adopted_from;
    r->adopted = f->adopted;
    if (f->broken) /* its response may be whole before the turn has ended */
        r->end = end_reason_name(END_TAKEOVER_BROKEN);
}

/* --- reading again -------------------------------------------------------------------------------
 */

/* Where the response of the next step begins: what the client has of it was before out_pos. */
static uint64_t
out_start(const struct replay *r)
{
    const struct replica *x = r->from->replica;
    const unsigned n = r->from->plan.n_steps;

    return r->step == 0 && n > 0 ? x->request[x->n_requests - n].out_start : r->flow->out_pos;
}

/* The first n bytes need not be read again, or have been. */
static void
pass_over(struct replay *r, size_t n)
{
    block_skip(r->rest, n);
    if (r->rest->len == 0)
        block_give(loop_blocks(r->flow->flows->worker->loop), &r->rest);
}

/* The final head behind interim ones. */
static bool
read_old(enum http_method method, struct str text, struct arena *a, struct http_head *old)
{
    size_t scanned = 0, n;

    while (h1_head_end(text.p, text.n, &scanned, &n)) {
        if (h1_parse_response(old, text.p, n, method, &our_heads, a) != H1_NONE)
            return false;
        text = (struct str){text.p + n, text.n - n};
        scanned = 0;
        if (old->status >= 200)
            return text.n == 0;
    }
    return false;
}

static void
forget_answered(struct txn *t)
{
    flow_of(t)->adopted = NULL;
}

static const struct down_ops down_answered = {.done = forget_answered};

/* What needs no server is counted and logged as any request, but for times. */
static void
account_answered(const struct replay *r, const struct replica_step *s,
                 const struct replica_request *q, struct str head)
{
    struct conn *c = r->flow->conn;
    const struct str asked = {block_at(r->rest), (size_t)(q->in_end - q->in_start)};
    struct http_head old;
    size_t scanned = 0, n;
    struct txn *t;

    conn_refresh_listener(c);
    t = conn_open_txn(c, &down_answered, c);
    t->at.begun = 0;
    if (h1_head_end(asked.p, asked.n, &scanned, &n)) {
        struct str copy = arena_str(&t->arena, (struct str){asked.p, n});

        (void)h1_parse_request(&t->req, copy.p, copy.n, &c->listener->conf.limits, &t->arena);
        conn_find_client(c, t);
    }
    t->resp_begun = read_old(t->req.method, head, &t->arena, &old);
    t->status = t->resp_begun ? old.status : 0;
    t->bytes_out = q->n_said - q->n_head;
    account_request(t);
    r->flow->adopted = word_of(s);
    txn_finish(t);
}

/* The rest of a response that was replicated whole. */
static void
say(struct replay *r, const struct replica_step *s)
{
    const struct replica *x = r->from->replica;
    const unsigned i = x->n_requests - r->from->plan.n_steps + r->step;
    const struct replica_request *q = &x->request[i];
    const char *said = (const char *)replica_said(x, i);
    /* that before it may be another than it was, and of another length */
    const uint64_t start = out_start(r), end = start + q->n_said;
    struct wire_frame sent = {.kind = WIRE_SENT}, done = {.kind = WIRE_DONE};
    struct flow *f = r->flow;
    struct conn *c = f->conn;

    account_answered(r, s, q, (struct str){said, q->n_head});
    flow_tell_request(f, start, q->repeatable);
    if (q->sent)
        flow_put(f, &sent);
    flow_tell_said(f, WIRE_HEAD, said, q->n_head, true);
    f->request.n_head = q->n_head;
    if (q->n_said > q->n_head)
        flow_tell_said(f, WIRE_OUT, said + q->n_head, q->n_said - q->n_head, true);
    f->request.sent = q->sent;
    f->request.begun = false;
    f->request.in_end = f->next_start = q->in_end;
    f->request.out_end = end;
    f->request.close = q->close;
    done.u.done = (struct wire_done){q->in_end, end, q->close};
    flow_hold_until(f, flow_put(f, &done));
    pass_over(r, (size_t)(q->in_end - q->in_start));
    sock_hold(&c->stream.sock, true);
    stream_write(&c->stream, s->say.p, s->say.n);
    f->out_pos += s->say.n;
    flow_let_go(f);
    stat_add(&f->flows->stats.said, 1);
    r->step++;
    if (s->close)
        conn_finish(c, false);
}

/* How much can be read at once: up to a response that needs no request. */
static size_t
run_of(const struct replay *r)
{
    const struct replica_plan *p = &r->from->plan;

    for (unsigned i = r->step; i < p->n_steps; i++)
        if (p->step[i].what == REPLICA_SAY)
            return (size_t)(p->step[i].in_start - r->flow->next_start);
    return r->rest->len;
}

static void
feed(struct replay *r)
{
    struct conn *c = r->flow->conn;
    struct block_pool *blocks = loop_blocks(c->worker->loop);
    const size_t n = run_of(r);
    struct block *b = NULL;

    block_append(blocks, &b, block_at(r->rest), n);
    pass_over(r, n);
    conn_ops.on_recv(&c->stream.sock, &b);
    if (b != NULL)
        block_give(blocks, &b);
}

static bool
rests(const struct conn *c)
{
    return c->state == CONN_IDLE && c->txn == NULL && c->in == NULL;
}

/* As far as it goes; the end of a response goes on with it. */
static void
run(struct task *task)
{
    struct replay *r = container_of(task, struct replay, task);
    struct flow *f = r->flow;

    while (f->replay == r && rests(f->conn)) {
        const struct replica_step *s = next_step(r);

        if (s != NULL && s->what == REPLICA_SAY)
            say(r, s);
        else if (r->rest != NULL)
            feed(r);
        else
            break;
    }
    if (f->replay == r && r->now == NULL && next_step(r) == NULL && r->rest == NULL)
        replay_free(&f->replay);
}

uint64_t
replay_left(const struct flow *f)
{
    return f->replay != NULL && f->replay->rest != NULL ? f->replay->rest->len : 0;
}

bool
replay_queue(struct flow *f, const char *p, size_t n)
{
    struct replay *r = f->replay;
    struct conn *c = f->conn;

    if (r->rest == NULL || c->state == CONN_LINGER || c->state == CONN_FLUSH)
        return false;
    block_append(loop_blocks(f->flows->worker->loop), &r->rest, p, n);
    /* one block's worth is kept, then the client has to wait: until the next request is read, which
     * turns it on again, as for any that is pipelined */
    stream_recv(&c->stream, false);
    return true;
}

/* It was sent, and nobody knows what has become of it. */
static void
refuse(struct flow *f, struct txn *t)
{
    struct wire_frame sent = {.kind = WIRE_SENT};

    f->request.sent = true;
    flow_put(f, &sent);
    stat_add(&f->flows->stats.refused, 1);
    account_request(t);
    txn_fail(t, END_TAKEOVER_SENT);
}

/* Only interim responses were sent: what is missing of them goes at once, and those of the new
 * response are left out. */
static void
end_interims(struct flow *f, const struct replica_step *s)
{
    struct conn *c = f->conn;

    sock_hold(&c->stream.sock, true);
    stream_write(&c->stream, s->say.p, s->say.n);
    f->out_pos += s->say.n;
    flow_let_go(f);
}

bool
replay_tell(struct flow *f, bool repeatable)
{
    struct replay *r = f->replay;
    const struct replica_step *s = next_step(r);

    if (s == NULL)
        return false;
    flow_tell_request(f, out_start(r), repeatable);
    f->adopted = word_of(s);
    r->step++;
    stat_add(&f->flows->stats.replayed, 1);
    if (s->head.n == 0)
        return true;
    flow_tell_said(f, WIRE_HEAD, s->head.p, s->head.n, s->head_whole);
    f->request.n_head = (uint32_t)s->head.n;
    r->now = s;
    r->skip = s->skip;
    if (!s->head_whole)
        end_interims(f, s);
    return true;
}

bool
replay_begin(struct flow *f, struct txn *t, bool repeatable)
{
    const struct replica_step *s = next_step(f->replay);

    if (!replay_tell(f, repeatable) || s->what != REPLICA_REFUSE)
        return true;
    refuse(f, t);
    return false;
}

/* --- the rest of a response ---------------------------------------------------------------------
 */

bool
replay_is_skipping(const struct flow *f)
{
    return f->broken || (f->replay != NULL && f->replay->now != NULL);
}

bool
replay_end_interims(struct flow *f)
{
    if (f->broken || f->replay->now->head_whole)
        return false;
    f->replay->now = NULL;
    return true;
}

static bool
same_field(const struct http_head *a, const struct http_head *b, struct str name)
{
    return str_eq(http_field_get(a, name), http_field_get(b, name));
}

static enum http_body
framing(const struct txn *t, const struct down_head *d)
{
    return d->body == HTTP_BODY_CHUNKED && t->req.minor == 0 ? HTTP_BODY_CLOSE : d->body;
}

static bool
is_same(const struct txn *t, const struct http_head *old, const struct down_head *d, uint64_t skip)
{
    return old->status == d->head->status && old->body == framing(t, d) &&
           (old->body != HTTP_BODY_LENGTH || old->content_length == d->content_length) &&
           (skip == 0 || old->body == HTTP_BODY_LENGTH) && same_field(old, d->head, STR("ETag")) &&
           same_field(old, d->head, STR("Last-Modified"));
}

static void
break_it(struct flow *f)
{
    f->broken = true;
    flow_let_go(f);
}

void
replay_head(struct flow *f, struct txn *t, const struct down_head *d)
{
    struct replay *r = f->replay;
    struct conn *c = f->conn;
    struct http_head old;

    if (!read_old(t->req.method, r->now->head, &t->arena, &old) || !is_same(t, &old, d, r->skip)) {
        break_it(f);
        return;
    }
    c->resp_chunked = old.body == HTTP_BODY_CHUNKED;
    c->close_after |= old.close || old.body == HTTP_BODY_CLOSE;
    stream_write(&c->stream, r->now->say.p, r->now->say.n);
    stat_add(&f->flows->stats.skipped_bytes, r->now->head.n - r->now->say.n);
    if (r->skip == 0)
        r->now = NULL;
}

void
replay_data(struct flow *f, struct txn *t, struct block **b)
{
    struct replay *r = f->replay;
    const uint32_t len = (*b)->len;
    uint32_t n = len;

    if (!f->broken && r->skip < len)
        n = (uint32_t)r->skip;
    block_skip(*b, n);
    if (f->broken)
        return;
    stat_add(&f->flows->stats.skipped_bytes, n);
    r->skip -= n;
    if (r->skip == 0)
        r->now = NULL;
}

void
replay_done(struct flow *f)
{
    struct replay *r = f->replay;

    if (r->now != NULL && f->ended)
        break_it(f); /* it ended before what the client has */
    r->now = NULL;
    loop_defer(f->flows->worker->loop, &r->task);
}

/* --- birth --------------------------------------------------------------------------------------
 */

static struct flow *
make_flow(struct flows *fs, struct conn *c, const struct adopted *a)
{
    const struct replica *x = a->replica;
    struct flow *f = flow_new(fs, c, &a->key, a->slot);

    f->params = x->params;
    f->rcv_base = x->rcv_base;
    f->snd_base = x->snd_base;
    return f;
}

static struct replay *
make_replay(struct flow *f, struct adopted **a)
{
    struct replay *r = mc_alloc(sizeof(*r));
    const struct replica_plan *p = &(*a)->plan;
    const struct replica *x = (*a)->replica;

    r->flow = f;
    r->from = *a;
    r->task.fn = run;
    *a = NULL;
    if (p->in_pos > p->in_from)
        block_append(loop_blocks(f->flows->worker->loop), &r->rest,
                     (const char *)x->in.p + (p->in_from - x->in_at),
                     (size_t)(p->in_pos - p->in_from));
    return r;
}

static void
tell_homeless(const struct flows *fs, const struct adopted *a)
{
    static _Thread_local struct log_limit limit;
    char text[FLOW_KEY_TEXT];
    unsigned swallowed;

    if (log_limit_ok(&limit, worker_now(fs->worker), &swallowed))
        log_warn("takeover: connection %s of %s is closed: no listener has its address (%u lines "
                 "left out)",
                 flow_key_text(&a->key, text), a->from, swallowed);
}

void
flow_on_adopted(void *flows, struct adopted **ap)
{
    struct flows *fs = flows;
    struct adopted *a = *ap;
    struct listener_live *live;
    struct addr local, remote;
    struct conn *c;
    struct flow *f;
    int on = 1;

    *ap = NULL;
    flow_key_addrs(&a->key, &local, &remote);
    live = listen_adopt(fs->worker, &local);
    if (live == NULL) { /* its listener was removed here: the client hears of it as of any other */
        tell_homeless(fs, a);
        guard_flow_del(fs->guard, &a->key, a->slot);
        adopted_free(&a);
        return;
    }
    (void)setsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = conn_make(fs->worker, live, a->fd, addr_port(&local));
    c->flow = f = make_flow(fs, c, a);
    c->down = &down_flow;
    conn_begin(c, a->fd, NULL);
    c->state = CONN_IDLE;
    a->fd = -1;
    stat_add(&fs->stats.adopted, 1);
    f->adopted_from = a->from;
    a->from = NULL;
    f->replay = make_replay(f, &a);
    f->out_pos = f->replay->from->plan.out_pos;
    f->ack_due = f->replay->from->ack_due;
    flow_tell_open(f, f->replay->from->plan.in_from, out_start(f->replay));
    if (f->replay->rest != NULL)
        flow_tell_in(f, block_at(f->replay->rest), f->replay->rest->len);
    else
        flow_open_gate(f, f->in_pos);
    run(&f->replay->task);
    if (fs->released)
        flow_release(f);
}
