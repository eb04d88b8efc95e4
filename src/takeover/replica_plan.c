/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_plan.c - what an adopter has to do to carry a connection on, see replica.h.
 *
 * Sequence numbers wrap at 2^32 and positions do not.  What a client acknowledges is within a
 * window (2^30, RFC 7323 2.3) of what was sent, so that the signed difference of two numbers is the
 * distance of the positions.
 */
#include "base/check.h"
#include "takeover/replica.h"

#define WINDOW_MAX (INT32_C(1) << 30)

const char *
replica_broken_text(enum replica_broken b)
{
    static const char *const text[] = {
#define X(id, label, t) t,
        REPLICA_BROKENS(X)
#undef X
    };

    return text[b];
}

const char *
replica_broken_label(enum replica_broken b)
{
    static const char *const label[] = {
#define X(id, l, text) l,
        REPLICA_BROKENS(X)
#undef X
    };

    return label[b];
}

/* --- where the client stands --------------------------------------------------------------------
 */

/* The end of what can have been sent; without a bound while the length of the last response is not
 * known. */
static uint64_t
out_most(const struct replica *r)
{
    return r->n_requests > 0 ? r->request[r->n_requests - 1].out_end : r->out_at;
}

/* Behind: it lacks bytes that are not kept any more. */
static enum replica_broken
check_ack(const struct replica *r, uint32_t ack, uint64_t *pos)
{
    int32_t n = (int32_t)(ack - replica_snd_next(r));

    if (n < 0)
        return REPLICA_BROKEN_ACK_BEHIND;
    *pos = r->out_at + (uint32_t)n;
    return *pos > out_most(r) ? REPLICA_BROKEN_ACK_AHEAD : REPLICA_BROKEN_NONE;
}

/* It repeats what it has not been told is received, or goes on, some segments ahead maybe; probes
 * of its own begin one byte before what it has sent (RFC 9293 3.8.4). */
static enum replica_broken
check_seq(const struct replica *r, uint32_t seq)
{
    int32_t n = (int32_t)(seq - replica_rcv_next(r));

    if (n > WINDOW_MAX)
        return REPLICA_BROKEN_SEQ_AHEAD;
    if (n < 0 && (uint64_t) - (int64_t)n > r->in_at + r->in.n + 1)
        return REPLICA_BROKEN_SEQ_BEHIND;
    return REPLICA_BROKEN_NONE;
}

/* --- steps --------------------------------------------------------------------------------------
 */

static bool
is_logged(const struct replica_request *q)
{
    return q->n_said > 0 && q->out_end != REPLICA_POS_NONE &&
           q->out_end - q->out_start == q->n_said;
}

/* The client has n bytes of a response that is to be fetched again. */
static enum replica_broken
plan_rest(const struct replica_request *q, const uint8_t *said, uint64_t n,
          struct replica_step *step)
{
    if (!q->head_whole && n > q->n_head)
        return REPLICA_BROKEN_HEAD_UNKNOWN;
    step->head = (struct str){(const char *)said, q->n_head};
    step->head_whole = q->head_whole;
    if (n < q->n_head)
        step->say = (struct str){(const char *)said + n, q->n_head - n};
    else
        step->skip = n - q->n_head;
    return REPLICA_BROKEN_NONE;
}

/* The client has n bytes of the response to q.  What was sent to a server and may not be repeated
 * is refused as long as nothing of an answer is out; afterwards no answer of ours would fit behind.
 */
static enum replica_broken
plan_step(const struct replica_request *q, const uint8_t *said, uint64_t n,
          struct replica_step *step)
{
    *step = (struct replica_step){
        .in_start = q->in_start,
        .in_end = q->in_end,
        .n_response = q->out_end == REPLICA_POS_NONE ? REPLICA_POS_NONE : q->out_end - q->out_start,
        .close = q->close,
    };
    if (is_logged(q)) {
        step->what = REPLICA_SAY;
        step->say = (struct str){(const char *)said + n, q->n_said - n};
        return REPLICA_BROKEN_NONE;
    }
    if (q->sent && !q->repeatable) {
        step->what = REPLICA_REFUSE;
        return n > 0 ? REPLICA_BROKEN_SENT : REPLICA_BROKEN_NONE;
    }
    step->what = REPLICA_REPEAT;
    return n > 0 ? plan_rest(q, said, n, step) : REPLICA_BROKEN_NONE;
}

/* A request whose response the client has is done; the first that is not is where reading goes on.
 * When all are done that is behind the last. */
static enum replica_broken
plan_steps(const struct replica *r, struct replica_plan *p)
{
    for (unsigned i = 0; i < r->n_requests; i++) {
        const struct replica_request *q = &r->request[i];
        uint64_t n = p->out_pos > q->out_start ? p->out_pos - q->out_start : 0;
        enum replica_broken broken;

        p->in_from = p->n_steps > 0 ? p->in_from : q->in_end;
        if (q->out_end <= p->out_pos)
            continue;
        if (p->n_steps == 0)
            p->in_from = q->in_start;
        broken = plan_step(q, replica_said(r, i), n, &p->step[p->n_steps++]);
        if (broken != REPLICA_BROKEN_NONE)
            return broken;
    }
    return REPLICA_BROKEN_NONE;
}

static enum replica_broken
plan(const struct replica *r, uint32_t client_ack, uint32_t client_seq, struct replica_plan *p)
{
    enum replica_broken broken;

    if (r->bare)
        return REPLICA_BROKEN_BARE;
    broken = check_ack(r, client_ack, &p->out_pos);
    if (broken == REPLICA_BROKEN_NONE)
        broken = check_seq(r, client_seq);
    if (broken != REPLICA_BROKEN_NONE)
        return broken;
    p->in_pos = r->in_at + r->in.n;
    p->in_from = r->in_at;
    return plan_steps(r, p);
}

void
replica_plan(const struct replica *r, uint32_t client_ack, uint32_t client_seq,
             struct replica_plan *out)
{
    *out = (struct replica_plan){0};
    out->broken = plan(r, client_ack, client_seq, out);
}
