/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_inbox.c - what control tells the takeover, and what comes of it in its thread.
 *
 * Control writes into the inbox and wakes the thread, which reads it in its next turn.
 */
#include <stdlib.h>
#include <string.h>

#include "base/among.h"
#include "base/check.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

/* Who parts is done when for so long nothing has come that is to be passed on: a packet that was on
 * its way, or that a peer sent before it heard. */
#define PART_QUIET_NS (100 * MC_MS)
#define PART_LOOK_NS  (20 * MC_MS)

/* --- the thread ---------------------------------------------------------------------------------
 */

static void
reload_keys(struct takeover *t)
{
    struct keyfile keys;
    struct errbuf e;

    if (t->key_file == NULL)
        return;
    if (takeover_keys_read(t->key_file, &keys, &e) != MC_OK) {
        log_error("takeover: %s; the old keys stay in use", e.text);
        return;
    }
    keyring_replace(t->keys, &keys);
    link_post_keys(&t->roster, &keys);
    keyfile_wipe(&keys);
}

static void
leave(struct takeover *t)
{
    t->leaving = true;
    pulse_catch_up(t);
    peers_leave(t->peers, loop_now(t->loop));
    pulse_settle(t);
}

static uint64_t
passed_on(const struct takeover *t)
{
    struct guard_stats s;

    guard_stats(t->guard, &s);
    return s.n[GUARD_held] + s.n[GUARD_to_owner] + s.n[GUARD_to_heir];
}

static void
on_part(struct timer *timer)
{
    struct takeover *t = container_of(timer, struct takeover, part);
    mc_ns now = loop_now(t->loop);
    uint64_t came = passed_on(t);

    if (came != t->came)
        t->came_ns = now;
    t->came = came;
    if (now < t->came_ns + PART_QUIET_NS || replica_stats(t->store)->waiting > 0) {
        loop_timer_set(t->loop, timer, now + PART_LOOK_NS);
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->parted = true;
    pthread_mutex_unlock(&t->lock);
    if (t->on_parted != NULL)
        t->on_parted(t->arg);
}

static void
part(struct takeover *t)
{
    t->parting = true;
    t->part.fn = on_part;
    t->came_ns = loop_now(t->loop);
    loop_timer_set(t->loop, &t->part, t->came_ns + PART_LOOK_NS);
}

void
inbox_read(void *arg)
{
    struct takeover *t = arg;
    struct takeover_peer peers[TAKEOVER_PEERS_MAX];
    unsigned n;
    bool set, gone, parts, keys, stop, passes;
    enum peers_pass pass;

    pthread_mutex_lock(&t->lock);
    n = t->inbox.n_peers;
    memcpy(peers, t->inbox.peer, n * sizeof(*peers));
    set = t->inbox.peers_new;
    gone = t->inbox.leave;
    parts = t->inbox.part;
    keys = t->inbox.reload;
    stop = t->inbox.stop;
    passes = t->inbox.pass_new;
    pass = t->inbox.pass;
    t->inbox.peers_new = t->inbox.leave = t->inbox.part = t->inbox.reload = t->inbox.pass_new =
        false;
    pthread_mutex_unlock(&t->lock);
    if (stop) {
        loop_stop(t->loop);
        return;
    }
    if (keys)
        reload_keys(t);
    if (set)
        members_set(t, peers, n);
    if (gone)
        leave(t);
    if (passes)
        pulse_pass(t, pass);
    if (parts)
        part(t);
    pulse_news(t);
}

/* --- any thread ---------------------------------------------------------------------------------
 */

/* Without a loop the next process has our place. */
static void
wake(struct takeover *t)
{
    if (t->loop != NULL)
        loop_wake(t->loop);
}

static void
tell_left_out(const struct takeover *t, unsigned n, bool self)
{
    if (self)
        log_warn("takeover: this balancer is left out, its connections are not protected: those "
                 "%d with the lowest ids take part, of %u",
                 PEERS_MEMBERS_MAX + 1, n + 1);
    else
        log_warn("takeover: %u balancers are left out: those %d with the lowest ids take part", n,
                 PEERS_MEMBERS_MAX + 1);
}

void
takeover_peers_set(struct takeover *t, const struct takeover_peer *peers, unsigned n)
{
    uint64_t *ids = mc_alloc((n + 1) * sizeof(*ids));
    unsigned chosen;
    bool more;

    for (unsigned i = 0; i < n; i++)
        ids[i] = peers[i].id;
    chosen = peers_choose(t->self.id, ids, n);
    pthread_mutex_lock(&t->lock);
    t->inbox.n_peers = 0;
    for (unsigned i = 0; i < n; i++)
        if (is_among(peers[i].id, ids, chosen))
            t->inbox.peer[t->inbox.n_peers++] = peers[i];
    t->inbox.peers_new = true;
    more = n - chosen > t->left_out.n;
    t->left_out.self = chosen < n && chosen == 0;
    t->left_out.n = n - chosen;
    for (unsigned i = chosen; i < n && i - chosen < TAKEOVER_PEERS_MAX; i++)
        t->left_out.id[i - chosen] = ids[i];
    pthread_mutex_unlock(&t->lock);
    free(ids);
    if (more)
        tell_left_out(t, n - chosen, chosen == 0);
    wake(t);
}

enum mc_err
takeover_ports_set(struct takeover *t, const struct addr *ports, unsigned n, struct errbuf *e)
{
    return guard_ports_set(t->guard, ports, n, e);
}

static void
tell(struct takeover *t, bool *what)
{
    pthread_mutex_lock(&t->lock);
    *what = true;
    pthread_mutex_unlock(&t->lock);
    wake(t);
}

void
takeover_reload_keys(struct takeover *t)
{
    tell(t, &t->inbox.reload);
}

void
takeover_leave(struct takeover *t)
{
    tell(t, &t->inbox.leave);
}

void
takeover_pass(struct takeover *t, enum peers_pass pass)
{
    pthread_mutex_lock(&t->lock);
    t->inbox.pass = pass;
    pthread_mutex_unlock(&t->lock);
    tell(t, &t->inbox.pass_new);
}

/* What was wanted last, or not yet. */
enum peers_pass
takeover_has_passed(struct takeover *t)
{
    enum peers_pass passed;

    pthread_mutex_lock(&t->lock);
    passed = t->passed == t->inbox.pass ? t->passed : PEERS_STAY;
    pthread_mutex_unlock(&t->lock);
    return passed;
}

void
takeover_be_alone(struct takeover *t)
{
    atomic_store(&t->elder, false);
}

void
takeover_bequeath(struct takeover *t, struct takeover_heritage *h)
{
    *h = (struct takeover_heritage){.udp = pulse_fd(t), .tcp = door_fd(t)};
    pthread_mutex_lock(&t->lock);
    h->n_peers = t->inbox.n_peers;
    memcpy(h->peer, t->inbox.peer, h->n_peers * sizeof(*h->peer));
    pthread_mutex_unlock(&t->lock);
}

unsigned
takeover_interfaces(const struct takeover *t, unsigned *ifindex)
{
    struct guard_interface v[GUARD_INTERFACES_MAX];
    unsigned n = guard_interfaces(t->guard, v, GUARD_INTERFACES_MAX);

    for (unsigned i = 0; i < n; i++)
        ifindex[i] = v[i].ifindex;
    return n;
}

void
takeover_part(struct takeover *t)
{
    tell(t, &t->inbox.part);
}

bool
takeover_has_parted(struct takeover *t)
{
    bool parted;

    pthread_mutex_lock(&t->lock);
    parted = t->parted;
    pthread_mutex_unlock(&t->lock);
    return parted;
}

void
inbox_stop(struct takeover *t)
{
    tell(t, &t->inbox.stop);
}
