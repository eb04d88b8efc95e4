/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_share.c - addresses of which one member of the cluster carries each (mode = cluster).
 *
 * cluster/vip_assign.h decides.  Claims travel as facts:
 *   key = 'v', hash of the address; value = u8 claim, u8 rank, 6 bytes: the MAC it is announced
 *   with, u8: FLAG_*, since members that do not tell them count as without
 * Who gets an address announces it, several times and then once a second; who hears another
 * announce what it carries looks up whose MAC that is.
 *
 * Before one takes it from a member that seems to be dead it asks the network: that one may only be
 * cut off from the cluster, and carry on.  Who has takeover is heeded, for its guard answers for
 * who lives and has his lease, and for nobody else.
 *
 * Who hands it over takes its packets in for a moment longer, until the network has heard.  With
 * takeover its connections stay: what comes for them to the new carrier is sent on to it, and it
 * takes that in as long as there are any.  A host answers ARP for whatever it takes in, so the
 * guard keeps it from that (guard_address_moved()), and sends on what begins meanwhile.
 */
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/pack.h"
#include "control/member_priv.h"
#include "control/vip_priv.h"
#include "takeover/repair.h"
#include "takeover/takeover.h"

#define MAC_N        6
#define FLAG_GUARDED 1u
#define VALUE_N      (2 + MAC_N + 1)
#define REFRESH_NS   (1 * MC_SEC)  /* what was lost, and two who do not know of each other */
#define LINGER_NS    (500 * MC_MS) /* and so often it is looked whether connections are left */
#define FRAMES_TURN  64
/* Facts of a member that comes back are known already and not told again; first it may have newer
 * ones, since it slept. */
#define READ_NS      (300 * MC_MS)
#define SAID_MAX     256

/* After it is carried: neighbours that lost one, or heed none in quick succession, hear another. */
static const mc_ns announce_at_ns[] = {0, 50 * MC_MS, 150 * MC_MS, 350 * MC_MS, 750 * MC_MS};

static mc_ns
now_of(const struct vip_addr *a)
{
    return loop_now(a->vip->node->loop);
}

static struct cluster *
cluster_of(const struct vip_addr *a)
{
    return a->vip->node->member->cluster;
}

/* NULL: connections cannot stay, nobody would send on what comes for them. */
static struct guard *
guard_of(const struct vip_addr *a)
{
    struct takeover *t = a->vip->node->takeover;

    return t != NULL ? takeover_guard(t) : NULL;
}

/* --- what is heard -----------------------------------------------------------------------------
 */

static struct vip_said *
said_by(struct vip_share *s, uint64_t member)
{
    for (unsigned i = 0; i < s->n_said; i++)
        if (s->said[i].member == member)
            return &s->said[i];
    if (s->n_said == SAID_MAX)
        return NULL;
    s->said = mc_realloc(s->said, (s->n_said + 1) * sizeof(*s->said));
    s->said[s->n_said] = (struct vip_said){.member = member};
    return &s->said[s->n_said++];
}

static void
unpack_mac(struct pack_in *in, struct announce_mac *out)
{
    const uint8_t *p = unpack_bytes(in, MAC_N);

    if (p != NULL)
        memcpy(out->b, p, MAC_N);
}

static void
hear(struct vip_addr *a, uint64_t member, const void *value, size_t n)
{
    struct pack_in in = {.p = value, .n = value != NULL ? n : 0};
    uint8_t claim = unpack_u8(&in), rank = unpack_u8(&in);
    struct announce_mac mac = {{0}};
    uint8_t flags = 0;
    struct vip_said *said;

    unpack_mac(&in, &mac);
    if (in.n > 0)
        flags = unpack_u8(&in);
    if (in.bad) /* deleted, or nonsense */
        claim = VIP_NONE;
    vip_assign_hear(a->share.assign, member, claim, rank);
    said = said_by(&a->share, member);
    if (said == NULL || claim >= VIP_N_CLAIMS || rank >= VIP_N_RANKS)
        return;
    said->claim = claim;
    said->rank = rank;
    if (claim != VIP_NONE) { /* of one that was lost it is of use still */
        said->mac = mac;
        said->guarded = (flags & FLAG_GUARDED) != 0;
    }
}

void
vip_hear(struct node *n, uint64_t member, uint64_t key, const void *value, size_t bytes)
{
    struct vip *v = n->vip;

    for (unsigned i = 0; v != NULL && i < v->n; i++)
        if (v->v[i]->share.assign != NULL && v->v[i]->share.key == key) {
            hear(v->v[i], member, value, bytes);
            loop_defer(n->loop, &v->settle_task);
        }
}

/* What the live members have said, as far as it has come here. */
static void
read_again(struct vip_addr *a)
{
    const struct facts *facts = cluster_facts(cluster_of(a));
    uint8_t room[MEMBER_KEY_N];
    struct str key = member_key(MEMBER_FACT_VIP, a->share.key, room);
    unsigned n;
    const uint64_t *others = cluster_others(cluster_of(a), &n);
    struct fact f;

    for (unsigned i = 0; i < n; i++)
        if (facts_get(facts, others[i], key, now_of(a), &f))
            hear(a, others[i], f.value, f.n);
}

static void
read_if_due(struct vip_addr *a, mc_ns *due)
{
    mc_ns at = a->share.read_ns;

    if (at != 0 && now_of(a) >= at) {
        a->share.read_ns = 0;
        read_again(a);
    } else if (at != 0 && at < *due) {
        *due = at;
    }
}

void
vip_members(struct node *n, const uint64_t *others, unsigned n_others)
{
    struct vip *v = n->vip;

    for (unsigned i = 0; v != NULL && i < v->n; i++)
        if (v->v[i]->share.assign != NULL) {
            vip_assign_members(v->v[i]->share.assign, others, n_others, loop_now(n->loop));
            v->v[i]->share.read_ns = loop_now(n->loop) + READ_NS;
            loop_defer(n->loop, &v->settle_task);
        }
}

/* Of what was said of a member, the last counts.  One too many is the membership's to find. */
void
vip_member_lost(struct node *n, uint64_t member, bool lost)
{
    struct vip_news *news = &n->vip_news;
    unsigned i = 0;

    pthread_mutex_lock(&news->lock);
    while (i < news->n && news->v[i].member != member)
        i++;
    if (i < VIP_NEWS_MAX) {
        news->v[i].member = member;
        news->v[i].lost = lost;
        news->n = i == news->n ? i + 1 : news->n;
    }
    pthread_mutex_unlock(&news->lock);
    loop_wake(n->loop);
}

void
vip_share_hear_news(struct vip *v)
{
    struct vip_news *news = &v->node->vip_news;

    pthread_mutex_lock(&news->lock);
    for (unsigned i = 0; i < news->n; i++)
        for (unsigned k = 0; k < v->n; k++)
            if (v->v[k]->share.assign != NULL)
                vip_assign_lost(v->v[k]->share.assign, news->v[i].member, news->v[i].lost);
    news->n = 0;
    pthread_mutex_unlock(&news->lock);
}

/* --- the network -------------------------------------------------------------------------------
 */

static const struct vip_said *
member_with(const struct vip_share *s, const struct announce_mac *mac)
{
    for (unsigned i = 0; i < s->n_said; i++)
        if (memcmp(&s->said[i].mac, mac, sizeof(*mac)) == 0)
            return &s->said[i];
    return NULL;
}

/* Somebody says that he has the address. */
static void
on_announcement(struct vip_addr *a, const struct announce_mac *mac)
{
    const struct vip_said *said = member_with(&a->share, mac);
    unsigned swallowed;

    if (memcmp(mac, &a->share.mac, sizeof(*mac)) == 0)
        return;
    if (a->state == VIP_CARRIED)
        a->share.n_conflicts++;
    if (said != NULL) {
        vip_assign_conflict(a->share.assign, said->member, now_of(a));
        if (said->guarded)
            vip_assign_answered(a->share.assign, said->member, now_of(a));
        loop_defer(a->vip->node->loop, &a->vip->settle_task);
    } else if (a->state == VIP_CARRIED && log_limit_ok(&a->share.stranger, now_of(a), &swallowed)) {
        log_error("vip %s: %s is announced by %02x:%02x:%02x:%02x:%02x:%02x, too, which is no "
                  "member (and %u times before)",
                  a->name, a->text, mac->b[0], mac->b[1], mac->b[2], mac->b[3], mac->b[4],
                  mac->b[5], swallowed);
    }
}

static void
on_frames(struct watch *w, unsigned revents)
{
    struct vip_addr *a = container_of(w, struct vip_addr, share.watch);
    uint8_t frame[2048];

    for (unsigned i = 0; i < FRAMES_TURN; i++) {
        struct announce_mac mac;
        struct addr addr;
        ssize_t n = recv(a->share.fd, frame, sizeof(frame), MSG_DONTWAIT);

        if (n < 0)
            break;
        if (announce_read(frame, (size_t)n, &addr, &mac) && addr_eq(&addr, &a->addr.base))
            on_announcement(a, &mac);
    }
    watch_arm(w, POLLIN);
}

static void
close_network(struct vip_addr *a)
{
    if (a->share.fd < 0)
        return;
    watch_drop(&a->share.watch);
    close(a->share.fd);
    a->share.fd = -1;
}

static bool
open_network(struct vip_addr *a)
{
    struct errbuf e;

    if (a->share.fd >= 0)
        return true;
    if (announce_open(a->interface, &a->share.fd, &a->share.mac, &e) != MC_OK) {
        if (!a->share.broken)
            log_error("vip %s: %s: %s", a->name, a->text, e.text);
        a->share.fd = -1;
        return false;
    }
    watch_init(&a->share.watch, a->vip->node->loop, a->share.fd, on_frames);
    watch_arm(&a->share.watch, POLLIN);
    return true;
}

/* --- what is told ------------------------------------------------------------------------------
 */

static void
tell(struct vip_addr *a)
{
    struct vip_share *s = &a->share;
    uint8_t claim = s->broken ? VIP_NONE : (uint8_t)vip_assign_claim(s->assign);
    uint8_t rank = (uint8_t)vip_assign_rank(s->assign);
    uint8_t room[MEMBER_KEY_N], value[VALUE_N];
    struct pack_out o = {.p = value, .cap = sizeof(value)};

    if (s->told && claim == s->told_claim && rank == s->told_rank)
        return;
    pack_u8(&o, claim);
    pack_u8(&o, rank);
    pack_bytes(&o, s->mac.b, MAC_N);
    pack_u8(&o, guard_of(a) != NULL ? FLAG_GUARDED : 0);
    s->told = cluster_fact_set(cluster_of(a), member_key(MEMBER_FACT_VIP, s->key, room), FACTS_NOW,
                               value, o.n) == MC_OK;
    s->told_claim = claim;
    s->told_rank = rank;
}

/* --- connections that stay ---------------------------------------------------------------------
 */

/* Who has the address now, as far as is known here. */
static struct guard_peer
carrier_of(const struct vip_addr *a)
{
    const struct vip_share *s = &a->share;
    uint64_t owner = vip_assign_owner(s->assign);
    struct guard_peer to = {.ifindex = if_nametoindex(a->interface)};

    memcpy(to.own_mac, s->mac.b, sizeof(to.own_mac));
    for (unsigned i = 0; i < s->n_said; i++)
        if (s->said[i].member == owner) {
            memcpy(to.mac, s->said[i].mac.b, sizeof(to.mac));
            to.alive = 1;
        }
    return to;
}

/* The host will not say that it has the address. */
static bool
hush(struct vip_addr *a)
{
    struct vip_share *s = &a->share;
    struct guard_peer to = carrier_of(a);
    struct errbuf e;

    if (guard_of(a) == NULL)
        return false;
    if (s->hushed && memcmp(&to, &s->carrier, sizeof(to)) == 0)
        return true;
    if (guard_address_moved(guard_of(a), &a->addr.base, &to, &e) != MC_OK) {
        log_warn("vip %s: %s: %s", a->name, a->text, e.text);
        return s->hushed;
    }
    s->hushed = true;
    s->carrier = to;
    return true;
}

void
vip_share_speak(struct vip_addr *a)
{
    if (guard_of(a) != NULL)
        guard_address_gone(guard_of(a), &a->addr.base);
    a->share.hushed = false;
}

/* It is here, as long as this balancer has its lease. */
static void
speak_by_right(struct vip_addr *a)
{
    struct errbuf e;

    a->share.hushed = false;
    if (guard_of(a) != NULL && guard_address_here(guard_of(a), &a->addr.base, &e) != MC_OK)
        log_warn("vip %s: %s: %s", a->name, a->text, e.text);
}

static void
linger(struct vip_addr *a)
{
    vip_take_in(a);
    a->share.linger_ns = now_of(a) + LINGER_NS;
}

static bool
is_still_used(const struct vip_addr *a)
{
    return a->share.hushed && repair_has_connections(&a->addr.base);
}

/* Connections of a process before this one, which may have had it otherwise, or has died. */
static void
look_behind(struct vip_addr *a)
{
    if (a->state != VIP_CARRIED && guard_of(a) != NULL && repair_has_connections(&a->addr.base) &&
        hush(a))
        linger(a);
    else
        netlink_local_del(&a->vip->nl, &a->addr, NULL);
}

static void
linger_on(struct vip_addr *a, mc_ns now)
{
    struct vip_share *s = &a->share;

    if (s->linger_ns == 0 || now < s->linger_ns)
        return;
    s->linger_ns = is_still_used(a) ? now + LINGER_NS : 0;
    if (s->linger_ns == 0)
        vip_take_in_no_more(a);
}

/* --- in time -----------------------------------------------------------------------------------
 */

static void
announce(struct vip_addr *a, mc_ns now)
{
    struct vip_share *s = &a->share;

    if (s->announce_ns == 0 || now < s->announce_ns)
        return;
    announce_send(s->fd, &a->addr.base, &s->mac);
    s->n_announced++;
    s->announce_ns =
        now + (s->n_announced < MC_COUNT(announce_at_ns)
                   ? announce_at_ns[s->n_announced] - announce_at_ns[s->n_announced - 1]
                   : REFRESH_NS);
}

static void
ask(struct vip_addr *a, mc_ns now)
{
    struct vip_share *s = &a->share;

    if (vip_assign_claim(s->assign) != VIP_WANT) {
        s->ask_ns = 0;
    } else if (now >= s->ask_ns) {
        announce_ask(s->fd, &a->addr.base, &s->mac);
        s->ask_ns = now + VIP_ASSIGN_ASK_NS / 3;
    }
}

mc_ns
vip_share_run(struct vip_addr *a)
{
    struct vip_share *s = &a->share;
    mc_ns now = now_of(a), due = MC_NEVER_NS;

    linger_on(a, now);
    announce(a, now);
    ask(a, now);
    for (unsigned i = 0; i < 3; i++) {
        mc_ns at = (const mc_ns[]){s->linger_ns, s->announce_ns, s->ask_ns}[i];

        due = at != 0 && at < due ? at : due;
    }
    return due;
}

/* --- deciding ----------------------------------------------------------------------------------
 */

static enum vip_rank
level_of(struct vip_addr *a)
{
    unsigned objections = fit_objections(a->vip->node);
    const unsigned never = 1u << FIT_STARTING | 1u << FIT_FENCED;
    const unsigned leaving = 1u << FIT_STOPPING | 1u << FIT_OPERATOR;

    if (a->share.broken || (objections & never) != 0 || cluster_conflict(cluster_of(a)))
        return VIP_RANK_NEVER;
    if ((objections & leaving) != 0)
        return VIP_RANK_LEAVING;
    return objections != 0 ? VIP_RANK_POOR : VIP_RANK_FIT;
}

bool
vip_share_wants(struct vip_addr *a, mc_ns *due)
{
    struct vip_share *s = &a->share;
    mc_ns now = now_of(a), next;

    if (s->assign == NULL)
        return false;
    read_if_due(a, due);
    vip_assign_set_level(s->assign, level_of(a), now);
    next = vip_assign_tick(s->assign, now);
    *due = next < *due ? next : *due;
    if (vip_assign_claim(s->assign) == VIP_HOLD)
        return true;
    if (a->state == VIP_CARRIED && (hush(a) || vip_assign_rank(s->assign) != VIP_RANK_NEVER))
        linger(a);
    else if (s->hushed)
        hush(a); /* the carrier may be another one */
    return false;
}

bool
vip_share_is_elsewhere(const struct vip_addr *a)
{
    for (unsigned i = 0; i < a->share.n_said; i++)
        if (a->share.said[i].claim == VIP_HOLD)
            return true;
    return false;
}

void
vip_share_settled(struct vip_addr *a)
{
    struct vip_share *s = &a->share;
    bool should = vip_assign_claim(s->assign) == VIP_HOLD;

    if (should && a->state != VIP_CARRIED) { /* it cannot: another shall, this one tries later */
        s->broken = true;
        vip_assign_set_level(s->assign, VIP_RANK_NEVER, now_of(a));
        vip_assign_tick(s->assign, now_of(a));
    }
    if (a->state == VIP_CARRIED && s->announce_ns == 0) {
        s->linger_ns = 0;
        vip_take_in_no_more(a);
        speak_by_right(a);
        s->n_announced = 0;
        s->announce_ns = now_of(a);
    } else if (a->state != VIP_CARRIED) {
        s->announce_ns = 0;
    }
    tell(a);
}

void
vip_share_slept(struct vip_addr *a)
{
    if (a->share.assign == NULL)
        return;
    vip_assign_slept(a->share.assign, now_of(a));
    if (hush(a))
        linger(a);
}

/* An interface that was not there may have come. */
void
vip_share_check(struct vip_addr *a)
{
    if (a->share.assign != NULL)
        a->share.broken = !open_network(a) || (a->share.broken && a->state == VIP_FOREIGN);
}

void
vip_share_why(const struct vip_addr *a, char out[160])
{
    const struct vip_share *s = &a->share;
    uint64_t owner;
    const char *name = "nobody";

    out[0] = '\0';
    if (s->assign == NULL)
        return;
    owner = vip_assign_owner(s->assign);
    for (size_t i = 0; i < swim_count(cluster_swim(cluster_of(a))); i++) {
        const struct swim_member *m = swim_at(cluster_swim(cluster_of(a)), i);

        if (m->id == owner)
            name = m->name;
    }
    snprintf(out, 160, "%s should carry it, as far as is known here; rank here: %s", name,
             vip_rank_text(vip_assign_rank(s->assign)));
}

/* --- life --------------------------------------------------------------------------------------
 */

static uint64_t
key_of(const struct vip_addr *a)
{
    return str_hash(str_of(a->text), a->addr.prefix_bits);
}

static void
open_one(struct vip_addr *a)
{
    struct vip_share *s = &a->share;
    struct vip_assign_conf conf = {
        .id = cluster_id(cluster_of(a)),
        .key = key_of(a),
        .return_after_ns = a->return_after_ns,
    };
    unsigned n;
    const uint64_t *others = cluster_others(cluster_of(a), &n);

    s->key = conf.key;
    s->assign = vip_assign_new(&conf, now_of(a));
    vip_assign_members(s->assign, others, n, now_of(a));
    s->broken = !open_network(a);
    if (a->state == VIP_CARRIED)
        vip_assign_inherit(s->assign, now_of(a));
    read_again(a);
    look_behind(a);
}

void
vip_share_open(struct vip *v)
{
    for (unsigned i = 0; i < v->n; i++)
        if (v->v[i]->mode == VIP_CLUSTER && v->v[i]->share.assign == NULL)
            open_one(v->v[i]);
}

void
vip_share_close(struct vip_addr *a)
{
    uint8_t room[MEMBER_KEY_N];

    if (a->share.assign == NULL)
        return;
    cluster_fact_del(cluster_of(a), member_key(MEMBER_FACT_VIP, a->share.key, room));
    close_network(a);
    free(a->share.said);
    vip_assign_free(&a->share.assign);
}
