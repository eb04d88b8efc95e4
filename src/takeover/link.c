/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link.c - see link.h.
 *
 * Tickets and frames.  A holder counts the frames of its line: HELLO, the snapshot, and all that
 * follows.  `ahead` is by how much that count is before our tickets, settled when the snapshot is
 * complete; so an ACK of n frames is one of ticket n - ahead.
 *
 * A snapshot may be larger than what may wait for a holder, and telling it takes a worker's time:
 * it goes in pieces, each when the one before has been acknowledged, or most of it.  Flows are told
 * in the order of their numbers, so that `told` says which frames put meanwhile the holder needs;
 * of the others it will hear what has become of them.
 *
 * A connection that broke is not made again: the thread lets that holder go and chooses anew, and
 * another choice of the same life is another line.
 */
#include "takeover/link.h"

#include <errno.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/guard.h"
#include "takeover/link_priv.h"
#include "takeover/takeover_priv.h"
#include "takeover/tube.h"

#define LINK_MAGIC     0x4c696e6bu
/* Of a snapshot, waiting for the network: some records, below a millisecond's work. */
#define SNAPSHOT_BYTES ((size_t)1 << 20)

enum holder_state {
    HOLDER_NONE,    /* nobody has this place */
    HOLDER_TOLD,    /* the connection or the snapshot is under way */
    HOLDER_IN_STEP, /* has the snapshot, and all up to `acked`: it is waited for */
    HOLDER_LOST,    /* its connection broke before it was in step */
    HOLDER_STUCK,   /* it broke afterwards: still waited for, until the thread has let it go */
};

struct holder {
    struct link *link;
    struct link_holder peer;
    enum holder_state state;
    struct tube *tube;
    struct timer silent;
    uint64_t frames;       /* put into this tube */
    uint32_t told;         /* flows of lower numbers it was told of */
    uint64_t snapshot_end; /* frames up to there are the snapshot's; 0: it was not put yet */
    uint64_t ahead;
    uint64_t acked_frames, acked; /* as it says, and the ticket of that */
    uint64_t watched;             /* acked_frames when the timer was set */
    uint64_t timed;               /* a frame whose way there and back is measured; 0: none */
    mc_ns timed_ns;
    uint64_t bytes_seen, records_seen; /* of the tube, in the counters already */
};

struct link {
    unsigned magic;
    struct link_roster *roster;
    unsigned index;
    struct loop *loop;
    struct link_hooks hooks;
    struct keyring *keys;
    struct watch event;
    struct link_box box;
    struct holder holder[PEERS_HOLDERS_MAX];
    struct holder *telling; /* while on_snapshot() runs */
    unsigned n_tubes;
    uint64_t put, acked; /* tickets */
    bool closed;
    struct link_stats stats;
};

/* --- tickets ------------------------------------------------------------------------------------
 */

static bool
counts(const struct holder *h)
{
    return h->state == HOLDER_IN_STEP || h->state == HOLDER_STUCK;
}

static uint64_t
least_acked(const struct link *l)
{
    uint64_t least = l->put;

    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (counts(&l->holder[i]) && l->holder[i].acked < least)
            least = l->holder[i].acked;
    return least;
}

/* Looks at the holders again.  From the loop only, since it calls the hook. */
static void
settle(struct link *l)
{
    uint64_t least = least_acked(l);

    /* a holder that came into step late does not take back what others have acknowledged */
    if (least <= l->acked)
        return;
    l->acked = least;
    l->hooks.on_acked(l->hooks.arg, least);
}

/* --- what the thread is told of a holder --------------------------------------------------------
 */

static unsigned
place_of(const struct holder *h)
{
    return (unsigned)(h - h->link->holder);
}

static void
say(struct holder *h)
{
    struct link *l = h->link;
    const struct link_said said = {.epoch = h->peer.epoch,
                                   .synced = h->state == HOLDER_IN_STEP,
                                   .lost = h->state == HOLDER_LOST || h->state == HOLDER_STUCK};

    link_say(l->roster, &l->box, place_of(h), said);
}

static void
become(struct holder *h, enum holder_state s)
{
    struct link *l = h->link;
    uint64_t n = 0;

    h->state = s;
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        n += counts(&l->holder[i]);
    atomic_store_explicit(&l->stats.holders, n, memory_order_relaxed);
    say(h);
}

/* --- a holder -----------------------------------------------------------------------------------
 */

static const struct tube_ops holder_ops;

static void
count_tube(struct holder *h)
{
    stat_add(&h->link->stats.bytes, h->tube->bytes_out - h->bytes_seen);
    stat_add(&h->link->stats.records, h->tube->records_out - h->records_seen);
    h->bytes_seen = h->tube->bytes_out;
    h->records_seen = h->tube->records_out;
}

static void
close_tube(struct holder *h)
{
    if (h->tube != NULL)
        count_tube(h);
    tube_close(&h->tube);
    loop_timer_clear(h->link->loop, &h->silent);
}

static void
lose(struct holder *h, const char *why)
{
    char at[ADDR_TEXT];

    log_debug("takeover: worker %u: holder %s: %s", h->link->index, addr_text(&h->peer.addr, at),
              why);
    close_tube(h);
    stat_add(&h->link->stats.lost, 1);
    become(h, counts(h) ? HOLDER_STUCK : HOLDER_LOST);
}

static void
on_broken(struct tube *tube, const char *why)
{
    lose(tube->owner, why);
}

/* What has been put is to be acknowledged before the timer fires, or some of it. */
static void
watch_silence(struct holder *h)
{
    if (timer_is_set(&h->silent) || h->acked_frames == h->frames)
        return;
    h->watched = h->acked_frames;
    loop_timer_set(h->link->loop, &h->silent, loop_now(h->link->loop) + h->link->roster->silent_ns);
}

static void
on_silent(struct timer *t)
{
    struct holder *h = container_of(t, struct holder, silent);

    if (h->acked_frames == h->watched && h->acked_frames < h->frames)
        lose(h, "it acknowledges nothing");
    else
        watch_silence(h);
}

/* Hot. */
static void
put(struct holder *h, const struct wire_frame *f)
{
    wire_put(tube_put_begin(h->tube), f);
    h->frames++;
    tube_put_end(h->tube);
}

static void
end_snapshot(struct holder *h)
{
    struct wire_frame end = {.kind = WIRE_SNAPSHOT};

    put(h, &end);
    h->snapshot_end = h->frames;
    h->ahead = h->frames - h->link->put;
    stat_add(&h->link->stats.snapshots, 1);
}

/* The next flows as they are now. */
static void
tell_piece(struct holder *h)
{
    struct link *l = h->link;
    bool more = true;

    l->telling = h;
    while (more && tube_waiting(h->tube) < SNAPSHOT_BYTES)
        more = l->hooks.on_snapshot(l->hooks.arg, h->told++);
    l->telling = NULL;
    if (!more)
        end_snapshot(h);
    watch_silence(h);
}

/* The other end is there. */
static void
on_ready(struct tube *tube)
{
    struct holder *h = tube->owner;
    struct link *l = h->link;
    struct wire_frame hello = {.kind = WIRE_HELLO,
                               .u.hello = {.owner = l->roster->self,
                                           .worker = (uint16_t)l->index,
                                           .epoch = h->peer.epoch}};

    put(h, &hello);
    tell_piece(h);
}

static void
measure(struct holder *h)
{
    if (h->timed == 0 || h->acked_frames < h->timed)
        return;
    stat_hist_add(&h->link->stats.ack, loop_now_exact(h->link->loop) - h->timed_ns);
    h->timed = 0;
    count_tube(h);
}

/* It has as many frames. */
static bool
take_ack(struct holder *h, uint64_t frames)
{
    if (frames > h->frames || frames < h->acked_frames)
        return false;
    h->acked_frames = frames;
    measure(h);
    if (h->snapshot_end == 0 || frames < h->snapshot_end)
        return true;
    h->acked = frames - h->ahead;
    if (h->state == HOLDER_TOLD)
        become(h, HOLDER_IN_STEP);
    return true;
}

static bool
take_answer(struct holder *h, const struct wire_frame *f)
{
    struct link *l = h->link;

    if (f->kind == WIRE_ACK)
        return take_ack(h, f->u.ack.frames);
    if (f->kind == WIRE_REFUSED)
        l->hooks.on_refused(l->hooks.arg, f->flow, place_of(h));
    return true;
}

static void
on_record(struct tube *tube, const uint8_t *p, size_t n)
{
    struct holder *h = tube->owner;
    struct pack_in in = {.p = p, .n = n};
    struct wire_frame f;
    uint64_t unknown = 0;
    enum wire_next next;
    bool good = true;

    while (good && (next = wire_get(&in, &f, &unknown)) != WIRE_END)
        good = next == WIRE_FRAME && take_answer(h, &f);
    if (!good)
        lose(h, "what it acknowledges makes no sense");
    else if (h->snapshot_end == 0)
        tell_piece(h);
    settle(h->link);
}

static const struct tube_ops holder_ops = {on_ready, on_record, on_broken};

static void
drop_holder(struct holder *h)
{
    close_tube(h);
    become(h, HOLDER_NONE);
}

static void
take_holder(struct link *l, struct holder *h, const struct link_holder *peer)
{
    *h = (struct holder){.link = l, .peer = *peer, .silent.fn = on_silent};
    h->tube =
        tube_open(l->loop, l->keys, &peer->addr, l->roster->silent_ns, &holder_ops, h, &l->n_tubes);
    become(h, h->tube != NULL ? HOLDER_TOLD : HOLDER_LOST);
}

static bool
is_among(const struct link_holders *hs, uint32_t epoch)
{
    for (unsigned i = 0; i < hs->n; i++)
        if (hs->v[i].epoch == epoch)
            return true;
    return false;
}

static struct holder *
with_epoch(struct link *l, uint32_t epoch)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state != HOLDER_NONE && l->holder[i].peer.epoch == epoch)
            return &l->holder[i];
    return NULL;
}

static struct holder *
free_place(struct link *l)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state == HOLDER_NONE)
            return &l->holder[i];
    MC_NEVER("more holders than places");
}

static void
let_go_of(struct link *l, const struct link_holders *hs)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state != HOLDER_NONE && !is_among(hs, l->holder[i].peer.epoch)) {
            drop_holder(&l->holder[i]);
            l->hooks.on_let_go(l->hooks.arg, i);
        }
}

static void
set_holders(struct link *l, const struct link_holders *hs)
{
    let_go_of(l, hs);
    for (unsigned i = 0; i < hs->n; i++) {
        struct holder *h = with_epoch(l, hs->v[i].epoch);

        if (h == NULL)
            take_holder(l, free_place(l), &hs->v[i]);
        else
            h->peer.leaving = hs->v[i].leaving;
    }
    settle(l);
}

/* --- what the worker says -----------------------------------------------------------------------
 */

static void
put_to(struct holder *h, const struct wire_frame *f)
{
    put(h, f);
    watch_silence(h);
    if (h->timed == 0) {
        h->timed = h->frames;
        h->timed_ns = loop_now_exact(h->link->loop);
    }
}

uint64_t
link_put(struct link *l, const struct wire_frame *f)
{
    bool waits = false;

    MC_CHECK(l, LINK_MAGIC);
    l->put++;
    stat_add(&l->stats.frames, 1);
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++) {
        struct holder *h = &l->holder[i];

        if (h->tube != NULL && h->tube->ready && (h->snapshot_end != 0 || f->flow < h->told))
            put_to(h, f);
        waits |= counts(h);
    }
    if (!waits)
        l->acked = l->put;
    return l->put;
}

uint64_t
link_acked(const struct link *l)
{
    return l->acked;
}

void
link_tell(struct link *l, const struct wire_frame *f)
{
    MC_ASSERT(l->telling != NULL);
    put(l->telling, f);
}

static uint32_t
bit_of(unsigned place)
{
    return UINT32_C(1) << place;
}

uint32_t
link_keepers(const struct link *l)
{
    uint32_t places = 0;

    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (counts(&l->holder[i]))
            places |= bit_of(i);
    return places;
}

struct life
link_heir(const struct link *l, uint32_t but)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state == HOLDER_IN_STEP && !l->holder[i].peer.leaving &&
            !(but & bit_of(i)))
            return l->holder[i].peer.who;
    return (struct life){0, 0};
}

bool
link_is_at(const struct link *l, struct life who, unsigned place)
{
    return l->holder[place].state != HOLDER_NONE && life_eq(l->holder[place].peer.who, who);
}

bool
link_expects_heir(const struct link *l)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state != HOLDER_NONE && !l->holder[i].peer.leaving)
            return true;
    return false;
}

void
link_handed_over(struct link *l, const struct flow_key *key, struct life heir)
{
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++) {
        const struct holder *h = &l->holder[i];

        if (h->state == HOLDER_IN_STEP && life_eq(h->peer.who, heir))
            guard_away_set(l->roster->guard, key, h->peer.guard_peer);
    }
}

/* --- what the thread says -----------------------------------------------------------------------
 */

static void
take_keys(struct link *l)
{
    struct keyfile keys;

    link_keys(l->roster, &keys);
    keyring_replace(l->keys, &keys);
    keyfile_wipe(&keys);
}

static void
let_go(struct link *l, const struct link_box *b)
{
    if (b->claimed_all)
        l->hooks.on_claimed(l->hooks.arg, NULL, 0);
    else
        l->hooks.on_claimed(l->hooks.arg, b->claimed, b->n_claimed);
    link_say_let_go(l->roster, &l->box);
}

static void
on_event(struct watch *w, unsigned revents)
{
    struct link *l = container_of(w, struct link, event);
    struct link_holders holders;
    uint64_t count;
    struct link_box b;

    if (read(l->box.event_fd, &count, sizeof(count)) < 0)
        MC_ASSERT(errno == EAGAIN);
    watch_arm(w, POLLIN);
    b = link_box_empty(l->roster, &l->box, &holders);
    if (b.keys_new)
        take_keys(l);
    if (b.claimed_all || b.n_claimed > 0)
        let_go(l, &b);
    if (b.holders_new)
        set_holders(l, &holders);
    for (unsigned i = 0; i < b.n_adopted; i++) {
        stat_add(&l->stats.adopted, 1);
        l->hooks.on_adopted(l->hooks.arg, &b.adopted[i]);
    }
    free(b.claimed);
    free(b.adopted);
}

/* --- life ---------------------------------------------------------------------------------------
 */

/* The keys of the thread, with a boot id of its own. */
static struct keyring *
own_keyring(struct link_roster *r)
{
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct keyfile keys;
    struct keyring *k;

    MC_ASSERT(RAND_bytes(boot, sizeof(boot)) == 1);
    link_keys(r, &keys);
    k = keys.n > 0 ? keyring_new(&keys, boot) : keyring_new_null();
    keyfile_wipe(&keys);
    return k;
}

struct link *
link_new(struct takeover *t, unsigned index, struct loop *loop, const struct link_hooks *hooks,
         struct errbuf *e)
{
    struct link *l = mc_alloc(sizeof(*l));

    *l = (struct link){.magic = LINK_MAGIC,
                       .roster = takeover_roster(t),
                       .index = index,
                       .loop = loop,
                       .hooks = *hooks};
    l->box.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->box.event_fd < 0) {
        err_sys(e, "eventfd");
        free(l);
        return NULL;
    }
    l->keys = own_keyring(l->roster);
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        l->holder[i].link = l;
    watch_init(&l->event, loop, l->box.event_fd, on_event);
    watch_arm(&l->event, POLLIN);
    link_enlist(l->roster, l->index, &l->box);
    return l;
}

void
link_close(struct link *l)
{
    struct link_holders unused;
    struct link_box b;

    MC_CHECK(l, LINK_MAGIC);
    if (l->closed)
        return;
    l->closed = true;
    link_delist(l->roster, l->index);
    watch_drop(&l->event);
    for (unsigned i = 0; i < PEERS_HOLDERS_MAX; i++)
        if (l->holder[i].state != HOLDER_NONE)
            drop_holder(&l->holder[i]);
    l->acked = l->put;
    b = link_box_empty(l->roster, &l->box, &unused);
    for (unsigned i = 0; i < b.n_adopted; i++)
        adopted_free(&b.adopted[i]);
    free(b.adopted);
    free(b.claimed);
}

bool
link_is_gone(const struct link *l)
{
    return l->closed && l->n_tubes == 0;
}

void
link_free(struct link **lp)
{
    struct link *l = *lp;

    *lp = NULL;
    if (l == NULL)
        return;
    MC_CHECK(l, LINK_MAGIC);
    MC_ASSERT(link_is_gone(l));
    close(l->box.event_fd);
    keyring_free(&l->keys);
    l->magic = 0;
    free(l);
}

const struct link_stats *
link_stats(const struct link *l)
{
    return &l->stats;
}
