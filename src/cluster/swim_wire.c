/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_wire.c - bytes of messages and whole states, and reading them.
 *
 * What comes in was sealed by a member, but maybe by one of another release or a broken one: what
 * is out of range is left out and counted, what is unknown is passed over, and the rest still
 * counts.
 */
#include <string.h>

#include "cluster/swim_priv.h"

/* --- writing ------------------------------------------------------------------------------------
 */

void
pack_addr(struct pack_out *o, const struct addr *a)
{
    if (a->u.sa.sa_family == AF_INET) {
        pack_u8(o, 4);
        pack_bytes(o, &a->u.in.sin_addr, 4);
    } else {
        pack_u8(o, 6);
        pack_bytes(o, &a->u.in6.sin6_addr, 16);
    }
    pack_u16(o, addr_port(a));
}

void
swim_pack_head(const struct swim *s, struct pack_out *o, enum msg_type type,
               const struct pack_out *body)
{
    const struct swim_member *me = &s->self->pub;

    pack_u8(o, (uint8_t)type);
    pack_str(o, str_of(me->name));
    pack_varint(o, me->incarnation);
    pack_bytes(o, me->boot, SWIM_BOOT_BYTES);
    pack_str(o, body ? (struct str){(const char *)body->p, body->n} : STR_NONE);
}

/* An entry goes whole or not at all. */
static bool
pack_entry(struct pack_out *o, enum entry_kind kind, const struct pack_out *entry)
{
    struct pack_out try = *o;

    MC_ASSERT(!entry->bad);
    pack_u8(&try, (uint8_t)kind);
    pack_str(&try, (struct str){(const char *)entry->p, entry->n});
    if (try.bad)
        return false;
    *o = try;
    return true;
}

bool
swim_pack_doubt(struct pack_out *o, const struct member *m)
{
    uint8_t bytes[BODY_MAX];
    struct pack_out e = {.p = bytes, .cap = sizeof(bytes)};

    pack_u8(&e, (uint8_t)m->pub.state);
    pack_str(&e, str_of(m->pub.name));
    pack_varint(&e, m->pub.incarnation);
    pack_str(&e, str_of(m->by));
    return pack_entry(o, ENTRY_DOUBT, &e);
}

bool
swim_pack_member(struct pack_out *o, const struct member *m, mc_ns now)
{
    uint8_t bytes[BODY_MAX + SWIM_META_MAX];
    struct pack_out e = {.p = bytes, .cap = sizeof(bytes)};

    pack_u8(&e, (uint8_t)m->pub.state);
    pack_str(&e, str_of(m->pub.name));
    pack_bytes(&e, m->pub.boot, SWIM_BOOT_BYTES);
    pack_varint(&e, m->pub.incarnation);
    pack_varint(&e, (uint64_t)((now - m->pub.since) / MC_MS));
    pack_addr(&e, &m->pub.addr);
    pack_str(&e, (struct str){(const char *)m->pub.meta, m->pub.meta_n});
    return pack_entry(o, ENTRY_MEMBER, &e);
}

void
swim_state_write(struct swim *s, struct buf *out, mc_ns now)
{
    uint8_t bytes[BODY_MAX * 2 + SWIM_META_MAX];
    struct pack_out o = {.p = bytes, .cap = sizeof(bytes)};
    size_t before = out->n;

    if (s->silent)
        return;
    swim_pack_head(s, &o, MSG_STATE, NULL);
    buf_add(out, o.p, o.n);
    for (size_t i = 0; i < s->n_all; i++) {
        o.n = 0;
        swim_pack_member(&o, s->all[i], now);
        buf_add(out, o.p, o.n);
    }
    s->n.state_bytes_out += out->n - before;
}

/* --- reading ------------------------------------------------------------------------------------
 */

bool
swim_addr_ok(const struct addr *a)
{
    if (a->len == 0 || addr_port(a) == 0)
        return false;
    if (a->u.sa.sa_family == AF_INET)
        return a->u.in.sin_addr.s_addr != INADDR_ANY &&
               !IN_MULTICAST(ntohl(a->u.in.sin_addr.s_addr)) &&
               a->u.in.sin_addr.s_addr != INADDR_BROADCAST;
    return !IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr) &&
           !IN6_IS_ADDR_MULTICAST(&a->u.in6.sin6_addr);
}

void
unpack_addr(struct pack_in *i, struct addr *out)
{
    uint8_t family = unpack_u8(i);
    const uint8_t *ip = unpack_bytes(i, family == 4 ? 4 : 16);
    uint16_t port = unpack_u16(i);
    struct addr a = {.len = 0};

    if (i->bad || (family != 4 && family != 6)) {
        i->bad = true;
    } else if (family == 4) {
        a.len = sizeof(a.u.in);
        a.u.in.sin_family = AF_INET;
        memcpy(&a.u.in.sin_addr, ip, 4);
    } else {
        a.len = sizeof(a.u.in6);
        a.u.in6.sin6_family = AF_INET6;
        memcpy(&a.u.in6.sin6_addr, ip, 16);
    }
    addr_set_port(&a, port);
    if (!swim_addr_ok(&a))
        i->bad = true;
    *out = a;
}

static struct str
unpack_name(struct pack_in *i)
{
    struct str name = unpack_str(i, SWIM_NAME_MAX);

    if (!swim_name_ok(name))
        i->bad = true;
    return name;
}

static uint64_t
unpack_incarnation(struct pack_in *i)
{
    uint64_t v = unpack_varint(i);

    if (v > INCARNATION_MAX)
        i->bad = true;
    return v;
}

static void
unpack_sender(struct pack_in *i, struct sender *out)
{
    out->name = unpack_name(i);
    out->incarnation = unpack_incarnation(i);
    out->boot = unpack_bytes(i, SWIM_BOOT_BYTES);
}

static void
unpack_member(struct pack_in *i, struct claim *c)
{
    uint64_t ago_ms;

    c->name = unpack_name(i);
    c->boot = unpack_bytes(i, SWIM_BOOT_BYTES);
    c->incarnation = unpack_incarnation(i);
    ago_ms = unpack_varint(i);
    /* a hundred years, so that no sum of times runs over */
    c->ago_ns = ago_ms < UINT64_C(3155760000000) ? (mc_ns)ago_ms * MC_MS : 0;
    unpack_addr(i, &c->addr);
    c->meta = unpack_str(i, SWIM_META_MAX);
}

static void
unpack_doubt(struct pack_in *i, struct claim *c)
{
    c->name = unpack_name(i);
    c->incarnation = unpack_incarnation(i);
    c->by = unpack_str(i, SWIM_NAME_MAX);
    if (c->by.n > 0 && !swim_name_ok(c->by))
        i->bad = true;
    /* nobody can see that another wishes to go */
    if (c->state < SWIM_SUSPECT || (c->state == SWIM_LEFT && !str_eq(c->by, c->name)))
        i->bad = true;
}

static void
read_entry(struct swim *s, uint8_t kind, struct pack_in *e, mc_ns now)
{
    struct claim c = {.state = SWIM_NONE};
    uint8_t state;

    if (kind != ENTRY_MEMBER && kind != ENTRY_DOUBT) {
        s->n.unknown++;
        return;
    }
    state = unpack_u8(e);
    if (!e->bad && (state < SWIM_ALIVE || state > SWIM_LEFT)) {
        s->n.unknown++;
        return;
    }
    c.state = (enum swim_state)state;
    if (kind == ENTRY_MEMBER)
        unpack_member(e, &c);
    else
        unpack_doubt(e, &c);
    if (e->bad)
        s->n.malformed++;
    else
        swim_claim(s, &c, now);
}

static void
read_entries(struct swim *s, struct pack_in *i, mc_ns now)
{
    while (i->n > 0 && !s->silent) {
        uint8_t kind = unpack_u8(i);
        struct str bytes = unpack_str(i, i->n);
        struct pack_in e = {.p = (const uint8_t *)bytes.p, .n = bytes.n};

        if (i->bad) {
            s->n.malformed++;
            return;
        }
        read_entry(s, kind, &e, now);
    }
}

static bool
is_boot_ours(const struct swim *s, const uint8_t *boot)
{
    return memcmp(boot, s->self->pub.boot, SWIM_BOOT_BYTES) == 0;
}

typedef void (*handler_f)(struct swim *, const struct addr *from, const struct sender *,
                          struct pack_in *body, mc_ns now);

static const handler_f handlers[] = {
    [MSG_PING] = swim_on_ping, [MSG_ACK] = swim_on_ack,     [MSG_PING_REQ] = swim_on_ping_req,
    [MSG_NACK] = swim_on_nack, [MSG_TAKEN] = swim_on_taken,
};

/* Reads head and body; false: there is nothing more to do with it. */
static bool
read_head(struct swim *s, struct pack_in *i, uint8_t *type, struct sender *sender,
          struct pack_in *body)
{
    struct str bytes;

    *type = unpack_u8(i);
    unpack_sender(i, sender);
    bytes = unpack_str(i, i->n);
    *body = (struct pack_in){.p = (const uint8_t *)bytes.p, .n = bytes.n};
    if (i->bad) {
        s->n.malformed++;
        return false;
    }
    if (is_boot_ours(s, sender->boot)) {
        s->n.misdirected++; /* we have met ourselves: our own address is among those to join by */
        return false;
    }
    return true;
}

/* A member that we never heard of, or forgot: ask who it is, but not all at once. */
static void
meet_sender(struct swim *s, const struct sender *sender, const struct addr *from, mc_ns now)
{
    if (str_eq(sender->name, str_of(s->self->pub.name))) {
        swim_rival(s, from, now);
        return;
    }
    if (swim_member_find(s, sender->name) || s->leaving || now < s->stranger_after)
        return;
    s->stranger_after = now + MC_SEC;
    s->hooks.sync(s->hooks.arg, from);
}

void
swim_recv(struct swim *s, const struct addr *from, const void *bytes, size_t n, mc_ns now)
{
    struct pack_in i = {.p = bytes, .n = n}, body;
    struct sender sender;
    uint8_t type;

    if (s->silent)
        return;
    s->n.msgs_in++;
    s->n.bytes_in += n;
    if (!read_head(s, &i, &type, &sender, &body))
        return;
    read_entries(s, &i, now); /* first, so that the answer has our answer to them */
    meet_sender(s, &sender, from, now);
    if (s->silent || type == MSG_GOSSIP)
        return;
    if (type >= MC_COUNT(handlers) || !handlers[type]) {
        s->n.unknown++;
        return;
    }
    handlers[type](s, from, &sender, &body, now);
    s->n.malformed += body.bad;
}

enum mc_err
swim_state_absorb(struct swim *s, const void *bytes, size_t n, mc_ns now)
{
    struct pack_in i = {.p = bytes, .n = n}, body;
    struct sender sender;
    uint64_t bad = s->n.malformed;
    uint8_t type;

    if (s->silent)
        return MC_OK;
    s->n.state_bytes_in += n;
    if (!read_head(s, &i, &type, &sender, &body))
        return s->n.malformed == bad ? MC_OK : MC_ESYNTAX;
    if (type != MSG_STATE) {
        s->n.unknown++;
        return MC_ESYNTAX;
    }
    read_entries(s, &i, now);
    s->joined |= !str_eq(sender.name, str_of(s->self->pub.name));
    return s->n.malformed == bad ? MC_OK : MC_ESYNTAX;
}
