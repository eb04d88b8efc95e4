/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_members.c - the table of the other balancers that take part.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/among.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

struct member *
member_of(struct takeover *t, uint64_t id)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id == id && id != 0)
            return &t->member[i];
    return NULL;
}

/* What it has handed over or lost may be adopted when it is no member any more. */
const char *
member_name(const struct takeover *t, struct life who, char out[TAKEOVER_NAME])
{
    snprintf(out, TAKEOVER_NAME, "%016" PRIx64, who.id);
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        const struct member *m = &t->member[i];

        if ((m->id == who.id || m->life.id == who.id) && m->name[0] != '\0')
            memcpy(out, m->name, sizeof(m->name));
    }
    return out;
}

unsigned
member_place(const struct member *m)
{
    return (unsigned)(m - m->takeover->member);
}

static void
add_member(struct takeover *t, const struct takeover_peer *p)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++) {
        struct member *m = &t->member[i];

        if (m->id != 0)
            continue;
        *m = (struct member){.takeover = t, .id = p->id, .addr = p->addr};
        memcpy(m->name, p->name, sizeof(m->name));
        return;
    }
    log_warn("takeover: more than %d peers", TAKEOVER_PEERS_MAX);
}

static void
move_member(struct member *m, const struct addr *addr)
{
    if (addr_eq(&m->addr, addr))
        return;
    m->addr = *addr;
    if (m->alive)
        dial_begin(m);
}

void
member_drop(struct member *m)
{
    if (m->takeover == NULL)
        return;
    m->alive = false; /* or the guard would go on sending packets there */
    dial_end(m);
    m->id = 0;
}

/* It may live on without a takeover: that its beats have ended says nothing any more. */
static void
forget_member(struct member *m)
{
    struct takeover *t = m->takeover;

    if (!m->alive && t->on_peer != NULL)
        t->on_peer(t->arg, m->id, true);
    member_drop(m);
}

void
members_set(struct takeover *t, const struct takeover_peer *peers, unsigned n)
{
    uint64_t ids[TAKEOVER_PEERS_MAX];

    for (unsigned i = 0; i < n; i++) {
        struct member *m = member_of(t, peers[i].id);

        ids[i] = peers[i].id;
        if (m == NULL)
            add_member(t, &peers[i]);
        else
            move_member(m, &peers[i].addr);
        if (m != NULL && peers[i].name[0] != '\0')
            memcpy(m->name, peers[i].name, sizeof(m->name));
    }
    pulse_members(t, ids, n);
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0 && !is_among(t->member[i].id, ids, n))
            forget_member(&t->member[i]);
}
