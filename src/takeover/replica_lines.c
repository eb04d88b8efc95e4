/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_lines.c - what is heard on the lines of peers' workers, frame by frame.
 */
#include <stdlib.h>

#include "base/check.h"
#include "takeover/replica_store_priv.h"

/* --- lines --------------------------------------------------------------------------------------
 */

struct replica_line *
replica_line_new(struct replica_store *s, mc_ns now)
{
    struct replica_line *l;

    if (s->n_lines >= s->conf.lines_max)
        return NULL;
    l = mc_alloc(sizeof(*l));
    l->s = s;
    l->serial = ++s->serial;
    list_init(&l->flows);
    list_push_back(&s->lines, &l->link);
    s->n_lines++;
    s->stats.lines++;
    return l;
}

void
replica_line_free(struct replica_line *l)
{
    LIST_FOREACH_SAFE (it, tmp, &l->flows)
        held_forget(LIST_ENTRY(it, struct held, of_line));
    list_remove(&l->link);
    l->s->n_lines--;
    free(l->refused);
    free(l);
}

void
replica_line_end(struct replica_line **lp, mc_ns now)
{
    struct replica_line *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    l->s->stats.lines--;
    if (l->n_flows == 0) {
        replica_line_free(l);
        return;
    }
    l->ended = true;
    l->ended_at = now;
    list_remove(&l->link);
    list_push_back(&l->s->ended, &l->link);
}

uint64_t
replica_line_frames(const struct replica_line *l)
{
    return l->frames;
}

/* --- frames -------------------------------------------------------------------------------------
 */

static enum replica_fault
on_hello(struct replica_line *l, const struct wire_frame *f)
{
    if (l->greeted)
        return REPLICA_F_KIND;
    if (f->u.hello.version != WIRE_VERSION)
        return REPLICA_F_VERSION;
    l->greeted = true;
    l->owner = f->u.hello.owner;
    l->worker = f->u.hello.worker;
    l->epoch = f->u.hello.epoch;
    return REPLICA_F_NONE;
}

/* Those that are the owner's; what it handed over, or lost, it will not tell of again. */
static unsigned
forget_own(struct replica_line *l)
{
    unsigned n = 0;

    LIST_FOREACH_SAFE (it, tmp, &l->flows) {
        struct held *h = LIST_ENTRY(it, struct held, of_line);

        if (h->r->handed_over || !life_is_none(h->given_to))
            continue;
        held_forget(h);
        n++;
    }
    return n;
}

/* What older lines of this worker told is worth nothing any more. */
static void
replace_lines(const struct replica_line *l, struct list *lines)
{
    LIST_FOREACH_SAFE (it, tmp, lines) {
        struct replica_line *old = LIST_ENTRY(it, struct replica_line, link);

        if (old->serial >= l->serial || old->worker != l->worker || !life_eq(old->owner, l->owner))
            continue;
        l->s->stats.superseded += forget_own(old);
        old->replaced = true;
        if (old->ended && old->n_flows == 0)
            replica_line_free(old);
    }
}

static enum replica_fault
on_snapshot(struct replica_line *l, const struct wire_frame *f)
{
    l->synced = true;
    replace_lines(l, &l->s->lines);
    replace_lines(l, &l->s->ended);
    return REPLICA_F_NONE;
}

static void
refuse(struct replica_line *l, uint32_t flow)
{
    if (l->n_refused == l->cap_refused) {
        l->cap_refused = l->cap_refused ? 2 * l->cap_refused : 16;
        l->refused = mc_realloc(l->refused, l->cap_refused * sizeof(*l->refused));
    }
    l->refused[l->n_refused++] = flow;
}

unsigned
replica_line_refused(const struct replica_line *l, const uint32_t **flows)
{
    *flows = l->refused;
    return l->n_refused;
}

static void
on_too_long(struct held *h, uint64_t *counter)
{
    (*counter)++;
    h->refused = true;
    refuse(h->line, h->flow);
    h->line->s->stats.bare++;
    held_weigh(h);
}

/* All memory is in use: who grew last pays. */
static void
check_total(struct held *h)
{
    struct replica_store *s = h->line->s;

    if (s->stats.bytes <= s->conf.total_bytes || h->r->bare)
        return;
    replica_strip(h->r);
    on_too_long(h, &s->stats.full_total);
}

/* Who took it over from another says that it has it, and may give it up in its turn: that we gave
 * it away is history.  What the loser itself still says changes nothing.  Of what a worker told of
 * it before, under another number, it has dropped all: a key names one flow of a line. */
static void
forget_former(struct replica_line *l, const struct flow_key *key)
{
    struct replica_store *s = l->s;
    struct held *h = held_by_key(s, key);

    while (h) {
        struct held *next = held_next(h->chain[BY_KEY], key);

        if (life_is_none(h->given_to) && h->line == l) {
            l->lossy = true; /* its end may still be told */
            held_forget(h);
        } else if (!life_is_none(h->given_to) && !life_eq(h->line->owner, l->owner)) {
            held_forget(h);
        }
        h = next;
    }
}

static enum replica_fault
on_open(struct replica_line *l, const struct wire_frame *f)
{
    struct replica_store *s = l->s;
    struct held *old = held_by_flow(l, f->flow);
    struct replica *r;

    if (old)
        held_forget(old);
    forget_former(l, &f->u.open.key);
    s->stats.opened++;
    if (s->n_all >= s->conf.flows_max || s->stats.bytes >= s->conf.total_bytes) {
        s->stats.full_total++;
        l->lossy = true;
        refuse(l, f->flow);
        return REPLICA_F_NONE;
    }
    r = replica_new(l->owner, l->worker);
    replica_begin(r, &f->u.open);
    held_new(l, f->flow, r);
    return REPLICA_F_NONE;
}

static enum replica_fault
on_close(struct replica_line *l, const struct wire_frame *f)
{
    struct held *h = held_by_flow(l, f->flow);

    if (!h)
        return l->lossy ? REPLICA_F_NONE : REPLICA_F_FLOW;
    if (!life_is_none(h->given_to))
        return REPLICA_F_NONE; /* it is not its any more */
    held_forget(h);
    l->s->stats.closed++;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_flow(struct replica_line *l, const struct wire_frame *f)
{
    struct held *h = held_by_flow(l, f->flow);
    struct replica_stats *st = &l->s->stats;
    enum replica_fault fault;
    bool was_bare;

    if (!h)
        return l->lossy || (l->handed && f->kind == WIRE_IN) ? REPLICA_F_NONE : REPLICA_F_FLOW;
    if (!life_is_none(h->given_to))
        return REPLICA_F_NONE;
    was_bare = h->r->bare;
    switch (replica_apply(h->r, f, l->s->conf.flow_bytes, &fault)) {
    case REPLICA_REFUSED: return fault;
    case REPLICA_TOO_LONG: on_too_long(h, &st->full_flow); return REPLICA_F_NONE;
    case REPLICA_KEPT: break;
    }
    st->bared += f->kind == WIRE_BARE && !was_bare;
    st->bare += h->r->bare && !was_bare;
    st->handed_over += f->kind == WIRE_HANDOVER;
    held_weigh(h);
    check_total(h);
    return REPLICA_F_NONE;
}

static void
begin_waiting(struct held *h, mc_ns now)
{
    struct replica_store *s = h->line->s;

    held_end_waiting(h);
    h->waits_since = now;
    h->patience = 0;
    list_push_back(&s->waiting[0], &h->of_waiting);
    s->stats.waiting++;
}

/* Two copies that may be given away could be given to two: who is not meant forgets his. */
static enum replica_fault
on_handover(struct replica_line *l, const struct wire_frame *f, mc_ns now)
{
    struct replica_store *s = l->s;
    struct held *h = held_by_flow(l, f->flow);
    const bool ours = life_eq(f->u.handover.to, s->conf.self);

    l->handed = true;
    if (h && h->refused)
        return REPLICA_F_NONE; /* its owner keeps it when it hears that */
    if (h && life_is_none(h->given_to) && !ours) {
        held_forget(h);
        s->stats.handed_on++;
        return REPLICA_F_NONE;
    }
    if (h && life_is_none(h->given_to))
        begin_waiting(h, now);
    return on_flow(l, f);
}

static enum replica_fault
read_frame(struct replica_line *l, const struct wire_frame *f, mc_ns now)
{
    if (l->replaced)
        return REPLICA_F_ORDER;
    if (f->kind == WIRE_HELLO)
        return on_hello(l, f);
    if (!l->greeted)
        return REPLICA_F_KIND;
    if (f->kind == WIRE_SNAPSHOT)
        return on_snapshot(l, f);
    if (f->kind == WIRE_OPEN)
        return on_open(l, f);
    if (f->kind == WIRE_CLOSE)
        return on_close(l, f);
    if (f->kind == WIRE_HANDOVER)
        return on_handover(l, f, now);
    if (f->kind > WIRE_OPEN && f->kind < WIRE_HANDOVER)
        return on_flow(l, f);
    return REPLICA_F_KIND;
}

static enum replica_fault
read_frames(struct replica_line *l, struct pack_in *i, mc_ns now)
{
    enum replica_fault fault = REPLICA_F_NONE;
    enum wire_next next = WIRE_FRAME;
    struct wire_frame f;

    while (fault == REPLICA_F_NONE) {
        uint64_t n_unknown = 0;

        next = wire_get(i, &f, &n_unknown);
        l->frames += n_unknown;
        l->s->stats.unknown += n_unknown;
        if (next != WIRE_FRAME)
            break;
        fault = read_frame(l, &f, now);
        l->frames++;
        l->s->stats.frames++;
    }
    return next == WIRE_BAD ? REPLICA_F_BYTES : fault;
}

enum replica_fault
replica_line_read(struct replica_line *l, struct str record, mc_ns now)
{
    struct pack_in i = {.p = (const uint8_t *)record.p, .n = record.n};
    enum replica_fault fault;

    l->n_refused = 0;
    fault = read_frames(l, &i, now);
    l->s->stats.faults += fault != REPLICA_F_NONE;
    return fault;
}
