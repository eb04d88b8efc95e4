/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proxy_header.c - see proxy_header.h.  Sections are those of doc/proxy-protocol.txt.
 */
#include "io/proxy_header.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/pack.h"

#define LINE_MAX_BYTES 107 /* of version 1, CRLF included (2.1) */
#define FIXED_BYTES    16  /* of version 2: signature, version and command, family, length */
#define UNIX_BYTES     108 /* of one address */

static const char signature_1[] = "PROXY ";
static const char signature_2[] = "\r\n\r\n\0\r\nQUIT\n";

#define SIGNATURE_1_BYTES (sizeof(signature_1) - 1)
#define SIGNATURE_2_BYTES (sizeof(signature_2) - 1)

/* Of version 2: version and command, family and transport. */
enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum { V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_UNIX = 0x31 };

/* Types of TLVs (2.2). */
enum {
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_NOOP = 0x04,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    TLV_SSL_VERSION = 0x21,
    TLV_SSL_CN = 0x22,
    TLV_SSL_CIPHER = 0x23,
};

static const struct {
    const char *label, *text;
} faults[] = {
#define X(name, label, text) {label, text},
    PROXY_FAULTS(X)
#undef X
};

const char *
proxy_fault_label(enum proxy_fault f)
{
    MC_ASSERT(f < PROXY_N_FAULTS);
    return faults[f].label;
}

const char *
proxy_fault_text(enum proxy_fault f)
{
    MC_ASSERT(f < PROXY_N_FAULTS);
    return faults[f].text;
}

/* --- version 1 -----------------------------------------------------------------------------------
 */

/* A decimal number as one writes it: no sign, no leading zeros. */
static bool
read_port(struct str s, uint16_t *out)
{
    uint64_t v;

    if (!str_u64(s, &v) || v > UINT16_MAX || (s.n > 1 && s.p[0] == '0'))
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool
read_ip(struct str s, int family, struct addr *out)
{
    return addr_parse_ip(s, 0, out) && out->u.sa.sa_family == family;
}

/* "TCP4 192.0.2.1 192.0.2.2 4711 80", without what is before and behind it. */
static bool
read_line(struct str line, struct proxy_header *h)
{
    struct str rest = line, protocol = str_cut(&rest, ' ');
    struct str from = str_cut(&rest, ' '), to = str_cut(&rest, ' ');
    struct str from_port = str_cut(&rest, ' '), to_port = rest;
    const int family = str_eq(protocol, STR("TCP4")) ? AF_INET : AF_INET6;
    uint16_t a, b;

    h->local = str_eq(protocol, STR("UNKNOWN"));
    if (h->local) /* whatever follows is not for us (2.1) */
        return true;
    if (family == AF_INET6 && !str_eq(protocol, STR("TCP6")))
        return false;
    if (!read_ip(from, family, &h->from) || !read_ip(to, family, &h->to) ||
        !read_port(from_port, &a) || !read_port(to_port, &b))
        return false;
    addr_set_port(&h->from, a);
    addr_set_port(&h->to, b);
    return true;
}

static enum proxy_fault
read_version_1(struct str in, struct proxy_header *h, size_t *used)
{
    const char *end = memchr(in.p, '\n', in.n < LINE_MAX_BYTES ? in.n : LINE_MAX_BYTES);
    struct str line = {in.p + SIGNATURE_1_BYTES, 0};

    *used = 0;
    if (end == NULL)
        return in.n < LINE_MAX_BYTES ? PROXY_FAULT_NONE : PROXY_FAULT_LINE;
    if (end == line.p || end[-1] != '\r')
        return PROXY_FAULT_LINE;
    line.n = (size_t)(end - 1 - line.p);
    if (memchr(line.p, '\r', line.n) != NULL || !read_line(line, h))
        return PROXY_FAULT_LINE;
    *used = (size_t)(end + 1 - in.p);
    return PROXY_FAULT_NONE;
}

/* --- version 2: the checksum ---------------------------------------------------------------------
 */

/* CRC32c (RFC 4960 appendix B), four bits at a time: a header is short. */
static uint32_t
crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

/* Of a header whose sum lies at `at` and counts as zeros. */
static uint32_t
checksum(const uint8_t *p, size_t n, size_t at)
{
    static const uint8_t zeros[4];
    uint32_t crc = crc32c(0xffffffff, p, at);

    crc = crc32c(crc, zeros, sizeof(zeros));
    return ~crc32c(crc, p + at + sizeof(zeros), n - at - sizeof(zeros));
}

/* --- version 2: TLVs -----------------------------------------------------------------------------
 */

static bool
is_printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            return false;
    return true;
}

static bool
has_no_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool
is_anything(struct str s)
{
    return true;
}

/* What is told as a text of its own; the others are looked at below, or skipped. */
static const struct text_tlv {
    uint8_t type;
    uint8_t bytes_max;
    bool (*good)(struct str);
    size_t offset; /* into struct proxy_header */
} texts[] =
    {
        {TLV_ALPN, PROXY_TEXT_MAX, is_anything, offsetof(struct proxy_header, alpn)},
        {TLV_AUTHORITY, PROXY_TEXT_MAX, has_no_control, offsetof(struct proxy_header, authority)},
        {TLV_UNIQUE_ID, PROXY_UNIQUE_MAX, is_anything, offsetof(struct proxy_header, unique_id)},
},
  tls_texts[] = {
      {TLV_SSL_VERSION, PROXY_TEXT_MAX, is_printable, offsetof(struct proxy_header, tls_version)},
      {TLV_SSL_CIPHER, PROXY_TEXT_MAX, is_printable, offsetof(struct proxy_header, tls_cipher)},
      {TLV_SSL_CN, PROXY_TEXT_MAX, has_no_control, offsetof(struct proxy_header, tls_cn)},
};

static struct str *
text_of(const struct proxy_header *h, const struct text_tlv *t)
{
    return (struct str *)((uintptr_t)h + t->offset);
}

/* True when the type is none of the list, or it came once and its text is good. */
static bool
read_text(const struct text_tlv *list, size_t n_list, uint8_t type, struct str value,
          struct proxy_header *h)
{
    for (size_t i = 0; i < n_list; i++) {
        struct str *s = text_of(h, &list[i]);

        if (list[i].type != type)
            continue;
        if (s->p != NULL || value.n > list[i].bytes_max || !list[i].good(value))
            return false;
        *s = value;
    }
    return true;
}

static bool
next_tlv(struct pack_in *in, uint8_t *type, struct str *value)
{
    *type = unpack_u8(in);
    value->n = unpack_u16(in);
    value->p = (const char *)unpack_bytes(in, value->n);
    return !in->bad;
}

/* 2.2.6 */
static bool
read_tls(struct str value, bool *seen, struct proxy_header *h)
{
    struct pack_in in = {(const uint8_t *)value.p, value.n, false};
    struct str text;
    uint8_t type;

    if (*seen)
        return false;
    *seen = true;
    h->tls_client = unpack_u8(&in);
    h->tls_verify = unpack_u32(&in);
    while (!in.bad && in.n > 0)
        if (next_tlv(&in, &type, &text) &&
            !read_text(tls_texts, MC_COUNT(tls_texts), type, text, h))
            return false;
    return !in.bad;
}

/* whole: the header, for its sum. */
static enum proxy_fault
read_tlvs(struct pack_in *in, struct str whole, struct proxy_header *h)
{
    bool tls_seen = false;

    while (in->n > 0) {
        struct str value;
        uint8_t type;

        if (!next_tlv(in, &type, &value) || !read_text(texts, MC_COUNT(texts), type, value, h) ||
            (type == TLV_SSL && !read_tls(value, &tls_seen, h)) ||
            (type == TLV_CRC32C && (h->checksum || value.n != 4)))
            return PROXY_FAULT_TLV;
        if (type == TLV_CRC32C) {
            struct pack_in sum = {(const uint8_t *)value.p, value.n, false};

            h->checksum = true;
            if (checksum((const uint8_t *)whole.p, whole.n, (size_t)(value.p - whole.p)) !=
                unpack_u32(&sum))
                return PROXY_FAULT_CHECKSUM;
        }
    }
    return PROXY_FAULT_NONE;
}

/* --- version 2 -----------------------------------------------------------------------------------
 */

static void
copy_ip(struct pack_in *in, size_t n, void *out)
{
    const uint8_t *p = unpack_bytes(in, n);

    if (p != NULL)
        memcpy(out, p, n);
}

static void
read_ips(struct pack_in *in, int family, struct proxy_header *h)
{
    struct addr *both[] = {&h->from, &h->to};

    for (unsigned i = 0; i < MC_COUNT(both); i++) {
        both[i]->u.sa.sa_family = (sa_family_t)family;
        both[i]->len = family == AF_INET ? sizeof(both[i]->u.in) : sizeof(both[i]->u.in6);
        if (family == AF_INET)
            copy_ip(in, sizeof(both[i]->u.in.sin_addr), &both[i]->u.in.sin_addr);
        else
            copy_ip(in, sizeof(both[i]->u.in6.sin6_addr), &both[i]->u.in6.sin6_addr);
    }
    for (unsigned i = 0; i < MC_COUNT(both); i++)
        addr_set_port(both[i], unpack_u16(in));
}

/* A path ends within its bytes; one that begins with NUL is a name that no file has, or none. */
static void
read_path(struct pack_in *in, struct addr *a)
{
    const uint8_t *p = unpack_bytes(in, UNIX_BYTES);

    static_assert(sizeof(a->u.un.sun_path) == UNIX_BYTES, "a path is as long on the wire");
    if (p == NULL || memchr(p, '\0', UNIX_BYTES) == NULL) {
        in->bad = true;
        return;
    }
    a->u.un.sun_family = AF_UNIX;
    memcpy(a->u.un.sun_path, p, UNIX_BYTES);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->u.un.sun_path) + 1);
}

static enum proxy_fault
read_body(struct str whole, uint8_t family, struct proxy_header *h)
{
    struct pack_in in = {(const uint8_t *)whole.p + FIXED_BYTES, whole.n - FIXED_BYTES, false};

    if (family == V2_UNIX) {
        read_path(&in, &h->from);
        read_path(&in, &h->to);
    } else {
        read_ips(&in, family == V2_TCP4 ? AF_INET : AF_INET6, h);
    }
    return in.bad ? PROXY_FAULT_ADDRESS : read_tlvs(&in, whole, h);
}

static bool
is_known_family(uint8_t family)
{
    return family == V2_TCP4 || family == V2_TCP6 || family == V2_UNIX;
}

/* in: the signature and more.  *used stays 0 while more has to come. */
static enum proxy_fault
read_version_2(struct str in, struct proxy_header *h, size_t *used)
{
    struct pack_in fixed = {(const uint8_t *)in.p + SIGNATURE_2_BYTES, in.n - SIGNATURE_2_BYTES,
                            false};
    uint8_t command, family;
    size_t length;

    *used = 0;
    command = unpack_u8(&fixed);
    if (!fixed.bad && command != V2_LOCAL && command != V2_PROXY)
        return PROXY_FAULT_VERSION;
    family = unpack_u8(&fixed);
    if (!fixed.bad && command == V2_PROXY && (family >> 4 > 3 || (family & 15) > 2))
        return PROXY_FAULT_FAMILY;
    length = (size_t)FIXED_BYTES + unpack_u16(&fixed);
    if (!fixed.bad && length > PROXY_HEADER_MAX)
        return PROXY_FAULT_LENGTH;
    if (fixed.bad || in.n < length)
        return PROXY_FAULT_NONE;
    *used = length;
    h->local = command == V2_LOCAL || !is_known_family(family);
    return h->local ? PROXY_FAULT_NONE : read_body((struct str){in.p, length}, family, h);
}

/* Does the stream, as far as it has come, begin with this? */
static bool
begins(struct str in, const char *sign, size_t n)
{
    return memcmp(in.p, sign, in.n < n ? in.n : n) == 0;
}

enum proxy_step
proxy_header_read(const void *p, size_t n, struct proxy_header *out, size_t *used,
                  enum proxy_fault *why)
{
    const struct str in = {p, n};
    struct proxy_header h = {.version = 1};

    *used = 0;
    *why = PROXY_FAULT_NONE;
    if (n == 0)
        return PROXY_MORE;
    if (begins(in, signature_2, SIGNATURE_2_BYTES)) {
        h.version = 2;
        if (n >= SIGNATURE_2_BYTES)
            *why = read_version_2(in, &h, used);
    } else if (begins(in, signature_1, SIGNATURE_1_BYTES)) {
        if (n >= SIGNATURE_1_BYTES)
            *why = read_version_1(in, &h, used);
    } else {
        *why = PROXY_FAULT_NO_HEADER;
    }
    if (*why != PROXY_FAULT_NONE)
        return PROXY_BAD;
    if (*used == 0)
        return PROXY_MORE;
    *out = h;
    return PROXY_DONE;
}

/* --- writing -------------------------------------------------------------------------------------
 */

static int
family_of(const struct addr *a)
{
    return a->len > 0 ? a->u.sa.sa_family : AF_UNSPEC;
}

/* Of both addresses together; AF_UNSPEC: the header cannot tell them. */
static int
common_family(const struct proxy_header *h)
{
    const int from = family_of(&h->from), to = family_of(&h->to);

    if (from == AF_UNIX)
        return to == AF_UNIX || to == AF_UNSPEC ? AF_UNIX : AF_UNSPEC;
    if (from == AF_UNSPEC)
        return AF_UNSPEC;
    return from == AF_INET6 || to == AF_INET6 ? AF_INET6 : AF_INET;
}

/* The address as one of the family, AF_INET or AF_INET6. */
static struct addr
as_family(const struct addr *a, int family)
{
    struct addr out = {.len = family == AF_INET ? sizeof(out.u.in) : sizeof(out.u.in6)};

    if (family_of(a) == family)
        return *a;
    out.u.sa.sa_family = (sa_family_t)family;
    if (family_of(a) == AF_INET) { /* RFC 4291 2.5.5.2 */
        memset(&out.u.in6.sin6_addr.s6_addr[10], 0xff, 2);
        memcpy(&out.u.in6.sin6_addr.s6_addr[12], &a->u.in.sin_addr, 4);
        addr_set_port(&out, addr_port(a));
    }
    return out;
}

static size_t
write_version_1(const struct proxy_header *h, uint8_t *out)
{
    const int family = h->local ? AF_UNSPEC : common_family(h);
    char from_text[ADDR_TEXT], to_text[ADDR_TEXT];
    struct addr from, to;

    if (family != AF_INET && family != AF_INET6)
        return (size_t)snprintf((char *)out, PROXY_HEADER_MAX, "PROXY UNKNOWN\r\n");
    from = as_family(&h->from, family);
    to = as_family(&h->to, family);
    return (size_t)snprintf((char *)out, PROXY_HEADER_MAX, "PROXY TCP%c %s %s %u %u\r\n",
                            family == AF_INET ? '4' : '6', addr_ip_text(&from, from_text),
                            addr_ip_text(&to, to_text), addr_port(&from), addr_port(&to));
}

static void
write_paths(struct pack_out *out, const struct proxy_header *h)
{
    const struct addr *both[] = {&h->from, &h->to};

    for (unsigned i = 0; i < MC_COUNT(both); i++) {
        char path[UNIX_BYTES] = "";

        if (family_of(both[i]) == AF_UNIX)
            memcpy(path, both[i]->u.un.sun_path, strnlen(both[i]->u.un.sun_path, UNIX_BYTES));
        pack_bytes(out, path, sizeof(path));
    }
}

static void
write_ips(struct pack_out *out, const struct proxy_header *h, int family)
{
    const struct addr both[] = {as_family(&h->from, family), as_family(&h->to, family)};

    for (unsigned i = 0; i < MC_COUNT(both); i++) {
        if (family == AF_INET)
            pack_bytes(out, &both[i].u.in.sin_addr, sizeof(both[i].u.in.sin_addr));
        else
            pack_bytes(out, &both[i].u.in6.sin6_addr, sizeof(both[i].u.in6.sin6_addr));
    }
    for (unsigned i = 0; i < MC_COUNT(both); i++)
        pack_u16(out, addr_port(&both[i]));
}

static void
write_tlv(struct pack_out *out, uint8_t type, const void *p, size_t n)
{
    pack_u8(out, type);
    pack_u16(out, (uint16_t)n);
    pack_bytes(out, p, n);
}

static void
write_texts(struct pack_out *out, const struct text_tlv *list, size_t n,
            const struct proxy_header *h)
{
    for (size_t i = 0; i < n; i++) {
        const struct str *s = text_of(h, &list[i]);

        if (s->n > 0 && s->n <= list[i].bytes_max)
            write_tlv(out, list[i].type, s->p, s->n);
    }
}

static void
write_tls(struct pack_out *out, const struct proxy_header *h)
{
    uint8_t bytes[3 * (3 + PROXY_TEXT_MAX) + 5];
    struct pack_out in = {bytes, 0, sizeof(bytes), false};

    if (h->tls_client == 0)
        return;
    pack_u8(&in, h->tls_client);
    pack_u32(&in, h->tls_verify);
    write_texts(&in, tls_texts, MC_COUNT(tls_texts), h);
    MC_ASSERT(!in.bad);
    write_tlv(out, TLV_SSL, bytes, in.n);
}

static void
set_length(const struct pack_out *out)
{
    struct pack_out at = {out->p + FIXED_BYTES - 2, 0, 2, false};

    pack_u16(&at, (uint16_t)(out->n - FIXED_BYTES));
}

/* The sum is the last TLV, and is of all that is before it, the length included. */
static void
write_checksum(struct pack_out *out)
{
    struct pack_out at;

    write_tlv(out, TLV_CRC32C, "\0\0\0", 4);
    MC_ASSERT(!out->bad);
    set_length(out);
    at = (struct pack_out){out->p + out->n - 4, 0, 4, false};
    pack_u32(&at, checksum(out->p, out->n, out->n - 4));
}

static size_t
write_version_2(const struct proxy_header *h, uint8_t *bytes)
{
    const int family = h->local ? AF_UNSPEC : common_family(h);
    struct pack_out out = {bytes, 0, PROXY_HEADER_MAX, false};
    const uint8_t code = family == AF_INET    ? V2_TCP4
                         : family == AF_INET6 ? V2_TCP6
                         : family == AF_UNIX  ? V2_UNIX
                                              : V2_UNSPEC;

    pack_bytes(&out, signature_2, SIGNATURE_2_BYTES);
    pack_u8(&out, h->local ? V2_LOCAL : V2_PROXY);
    pack_u8(&out, code);
    pack_u16(&out, 0); /* the length, below */
    if (family == AF_UNIX)
        write_paths(&out, h);
    else if (family != AF_UNSPEC)
        write_ips(&out, h, family);
    if (!h->local) {
        write_texts(&out, texts, MC_COUNT(texts), h);
        write_tls(&out, h);
    }
    MC_ASSERT(!out.bad);
    set_length(&out);
    if (h->checksum && !h->local)
        write_checksum(&out);
    return out.n;
}

size_t
proxy_header_write(const struct proxy_header *h, uint8_t out[PROXY_HEADER_MAX])
{
    MC_ASSERT(h->version == 1 || h->version == 2);
    return h->version == 1 ? write_version_1(h, out) : write_version_2(h, out);
}
