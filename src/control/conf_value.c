/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value.c - values of keys: checked, and stored into the fields that the table names.
 *
 * One function a kind.  Each is called twice: with no object while the file is read, so that a
 * fault gets the line of its value, and with the object once the whole is known to be good.
 */
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/units.h"
#include "control/conf.h"
#include "control/conf_keys.h"
#include "base/near.h"
#include "http/upgrade.h"

#define NAME_BYTES_MAX 253 /* of a host name, RFC 1035 2.3.4 less the root's dot */

/* field: where the value goes, NULL when it is only checked; object: the struct around it.  e gets
 * "what is wrong, expected ..." */
typedef bool value_f(const struct conf_key *, struct str text, void *object, void *field,
                     struct errbuf *e);

static void
store_uint(const struct conf_key *k, void *field, uint64_t v)
{
    if (field == NULL)
        return;
    switch (k->width) {
    case 1: *(uint8_t *)field = (uint8_t)v; break;
    case 2: *(uint16_t *)field = (uint16_t)v; break;
    case 4: *(uint32_t *)field = (uint32_t)v; break;
    case 8: *(uint64_t *)field = v; break;
    default: MC_NEVER("width of a number");
    }
}

static void
store_text(void *field, struct str s)
{
    char **p = field;

    if (field == NULL)
        return;
    free(*p);
    *p = str_dup(s);
}

/* Room for one more element of a list; zeroed. */
static void *
list_grow(const struct conf_key *k, void *object, size_t elem_bytes)
{
    char **list = (char **)((char *)object + k->offset);
    unsigned *n = (unsigned *)((char *)object + k->count_offset);
    char *elem;

    *list = mc_realloc(*list, (*n + 1) * elem_bytes);
    elem = *list + *n * elem_bytes;
    memset(elem, 0, elem_bytes);
    (*n)++;
    return elem;
}

/* One more at the end of a list that is one text. */
static void
list_join(void *field, struct str text)
{
    char **list = field, *longer;

    if (field == NULL)
        return;
    longer = mc_printf("%s%s" STR_FMT, *list ? *list : "", *list ? "," : "", STR_ARG(text));
    free(*list);
    *list = longer;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static bool
parse_number(struct str s, uint64_t *out)
{
    return str_u64(s, out);
}

static bool
parse_duration(struct str s, uint64_t *out)
{
    mc_ns ns;

    if (!units_parse_duration(s, &ns))
        return false;
    *out = (uint64_t)ns;
    return true;
}

/* A whole number of a kind, within "min..max" of the key. */
static bool
ranged(const struct conf_key *k, struct str text, bool (*parse)(struct str, uint64_t *),
       const char *noun, const char *like, void *field, struct errbuf *e)
{
    struct str max = str_of(k->range), min = max;
    const char *dots = strstr(k->range, "..");
    uint64_t v, lo = 0, hi = 0;

    min.n = (size_t)(dots - k->range);
    max = str_of(dots + 2);
    MC_ASSERT(parse(min, &lo) && parse(max, &hi));
    if (!parse(text, &v)) {
        err_set(e, "\"" STR_FMT "\" is not a %s, expected " STR_FMT " to " STR_FMT "%s",
                STR_ARG(text), noun, STR_ARG(min), STR_ARG(max), like);
        return false;
    }
    if (v < lo || v > hi) {
        err_set(e, "\"" STR_FMT "\" is out of range, expected " STR_FMT " to " STR_FMT,
                STR_ARG(text), STR_ARG(min), STR_ARG(max));
        return false;
    }
    store_uint(k, field, v);
    return true;
}

static bool
value_uint(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    return ranged(k, text, parse_number, "number", "", field, e);
}

static bool
value_workers(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    if (str_eq(text, STR("auto"))) {
        store_uint(k, field, 0);
        return true;
    }
    return ranged(k, text, parse_number, "number", ", or auto", field, e);
}

static bool
value_percent(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct str digits = text;

    if (digits.n > 1 && digits.p[digits.n - 1] == '%')
        digits.n--;
    return ranged(k, digits, parse_number, "percentage", "", field, e);
}

static bool
value_duration(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    return ranged(k, text, parse_duration, "duration", ", with a unit like \"250ms\"", field, e);
}

static bool
value_size(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    return ranged(k, text, units_parse_size, "size", ", like \"16KiB\"", field, e);
}

static bool
value_ratio(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    double lo = strtod(k->range, NULL), hi = strtod(strstr(k->range, "..") + 2, NULL);
    char *end;
    double v = strtod(text.p, &end);

    /* strtod alone would take "nan", "0x1p4", "-1" and " 1" too */
    if (text.n == 0 || strspn(text.p, "0123456789.") != text.n || *end != '\0') {
        err_set(e, "\"" STR_FMT "\" is not a number, expected %g to %g", STR_ARG(text), lo, hi);
        return false;
    }
    if (!(v >= lo && v <= hi)) {
        err_set(e, "\"" STR_FMT "\" is out of range, expected %g to %g", STR_ARG(text), lo, hi);
        return false;
    }
    if (field != NULL)
        *(double *)field = v;
    return true;
}

static bool
value_mode(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    unsigned v = 0;
    bool ok = text.n >= 3 && text.n <= 4;

    for (size_t i = 0; i < text.n && ok; i++) {
        ok = text.p[i] >= '0' && text.p[i] <= '7';
        v = v * 8 + (unsigned)(text.p[i] - '0');
    }
    if (!ok || v == 0 || v > 0777) {
        err_set(e, "\"" STR_FMT "\" is not a mode, expected octal permission bits like \"0660\"",
                STR_ARG(text));
        return false;
    }
    store_uint(k, field, v);
    return true;
}

static bool
parse_status(struct str s, unsigned *out)
{
    uint64_t v;

    if (s.n != 3 || !str_u64(s, &v) || v < 100 || v > 599)
        return false;
    *out = (unsigned)v;
    return true;
}

static bool
value_statuses(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    struct str rest = text, first = str_cut(&rest, '-');
    struct str last = rest.p != NULL ? rest : first;
    unsigned min, max;

    if (!parse_status(first, &min) || !parse_status(last, &max) || max < min) {
        err_set(e,
                "\"" STR_FMT "\" is not a range of statuses, expected like \"200-399\" or \"204\"",
                STR_ARG(text));
        return false;
    }
    if (field != NULL) {
        ((uint16_t *)field)[0] = (uint16_t)min;
        ((uint16_t *)field)[1] = (uint16_t)max;
    }
    return true;
}

/* --- words ------------------------------------------------------------------------------------ */

/* "a|b|c" as "a, b or c". */
static void
words_text(const char *words, char *out, size_t room)
{
    struct str rest = str_of(words), w;
    size_t n = 0;

    out[0] = '\0';
    while (rest.p != NULL && n < room) {
        w = str_cut(&rest, '|');
        n += (size_t)snprintf(out + n, room - n, "%s" STR_FMT,
                              n == 0 ? "" : (rest.p == NULL ? " or " : ", "), STR_ARG(w));
    }
}

/* Index of the word, -1 when it is none of them. */
static int
word_index(const char *words, struct str text)
{
    struct str rest = str_of(words);

    for (int i = 0; rest.p != NULL; i++)
        if (str_eq(str_cut(&rest, '|'), text))
            return i;
    return -1;
}

static bool
unknown_word(const char *words, struct str text, struct errbuf *e)
{
    char list[160];

    words_text(words, list, sizeof(list));
    err_set(e, "\"" STR_FMT "\" is not known, expected %s", STR_ARG(text), list);
    return false;
}

static bool
value_word(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = word_index(k->range, text);

    if (i < 0)
        return unknown_word(k->range, text, e);
    store_uint(k, field, (uint64_t)i);
    return true;
}

static bool
value_flags(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = word_index(k->range, text);
    char words[128];

    if (str_eq(text, STR("none")))
        return true;
    if (i < 0) {
        snprintf(words, sizeof(words), "%s|none", k->range);
        return unknown_word(words, text, e);
    }
    MC_ASSERT(k->width == sizeof(unsigned));
    if (field != NULL)
        *(unsigned *)field |= 1u << i;
    return true;
}

static bool
value_bool(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = word_index("no|yes|false|true|off|on", text);

    if (i < 0) {
        err_set(e,
                "\"" STR_FMT "\" is neither yes nor no, expected yes, no, true, false, on or off",
                STR_ARG(text));
        return false;
    }
    if (field != NULL)
        *(bool *)field = i & 1;
    return true;
}

static bool
value_balance(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    const struct policy *p = policy_find(text);
    char words[160] = "auto";
    size_t n = 4;

    if (str_eq(text, STR("auto")) || p != NULL) {
        if (field != NULL)
            *(const struct policy **)field = p; /* NULL: conf_check.c decides, by the servers */
        return true;
    }
    for (unsigned i = 0; policy_at(i) != NULL && n < sizeof(words); i++)
        n += (size_t)snprintf(words + n, sizeof(words) - n, "|%s", policy_at(i)->name);
    return unknown_word(words, text, e);
}

/* --- text ------------------------------------------------------------------------------------- */

static bool
is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* token of RFC 9110 5.6.2 */
static bool
is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_token_char(s.p[i]))
            return false;
    return s.n > 0;
}

/* Goes into a field value or a path as it is: no control character, no byte that a line could end
 * with. */
static bool
is_visible(struct str s, bool spaces)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f || (c == ' ' && !spaces))
            return false;
    }
    return s.n > 0;
}

static bool
value_text(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!is_visible(text, true)) {
        err_set(e, "empty or with control characters, expected visible text");
        return false;
    }
    store_text(field, text);
    return true;
}

static bool
value_file(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (str_eq(text, STR("none"))) {
        if (field != NULL) {
            free(*(char **)field);
            *(char **)field = NULL;
        }
        return true;
    }
    return value_text(k, text, object, field, e);
}

static bool
value_texts(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!value_text(k, text, NULL, NULL, e))
        return false;
    if (object != NULL)
        *(char **)list_grow(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

static bool
value_method(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!is_token(text)) {
        err_set(e, "\"" STR_FMT "\" is not a method, expected a word like \"GET\" or \"HEAD\"",
                STR_ARG(text));
        return false;
    }
    store_text(field, text);
    return true;
}

static bool
value_path(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!is_visible(text, false) || text.p[0] != '/' || memchr(text.p, '#', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" is not a path, expected one that begins with \"/\"",
                STR_ARG(text));
        return false;
    }
    if (k->place == CONF_ROUTE && memchr(text.p, '?', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" has a query, expected a path without \"?\"", STR_ARG(text));
        return false;
    }
    store_text(field, text);
    return true;
}

/* What is put into the two pointers at field. */
static void
store_pair(void *field, struct str name, struct str value)
{
    char **pair = field;

    if (field == NULL)
        return;
    store_text(&pair[0], name);
    if (value.p != NULL)
        store_text(&pair[1], value);
}

/* A field of a request: a line could not bring other bytes. */
static bool
value_field(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str value = text, name = str_cut(&value, ':');

    static_assert(offsetof(struct class_rule, header_is) ==
                      offsetof(struct class_rule, header) + sizeof(char *),
                  "the value stands behind the name");
    value = value.p != NULL ? str_trim(value) : value;
    if (!is_token(name) || (value.p != NULL && !is_visible(value, true))) {
        err_set(e, "\"" STR_FMT "\" is not a field, expected like \"X-Job\" or \"X-Job: export\"",
                STR_ARG(text));
        return false;
    }
    store_pair(field, name, value);
    return true;
}

static bool
value_param(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str value = text, name = str_cut(&value, '=');

    static_assert(offsetof(struct class_rule, query_is) ==
                      offsetof(struct class_rule, query) + sizeof(char *),
                  "the value stands behind the name");
    if (name.n == 0 || !is_visible(text, false) || strpbrk(text.p, "?&#") != NULL) {
        err_set(e, "\"" STR_FMT "\" is not a parameter, expected like \"size\" or \"size=large\"",
                STR_ARG(text));
        return false;
    }
    store_pair(field, name, value);
    return true;
}

/* A brace that is none of {} was meant to be. */
static bool
holes_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '}')
            return false;
        if (s.p[i] == '{' && (i + 1 == s.n || s.p[++i] != '}'))
            return false;
    }
    return true;
}

static bool
value_pattern(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    const char *star = strchr(text.p, '*');

    if (!is_visible(text, false) || text.p[0] != '/' || strpbrk(text.p, "?#") != NULL ||
        !holes_ok(text) || (star != NULL && star[1] != '\0')) {
        err_set(e,
                "\"" STR_FMT "\" is not a path, expected one that begins with \"/\", without "
                "query, like \"/users/{}\" or \"/img/*\"",
                STR_ARG(text));
        return false;
    }
    store_text(field, text);
    return true;
}

static bool
is_call_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_' && s.p[i] != '.' && !(s.p[i] >= '0' && s.p[i] <= '9') &&
            !(str_lower((unsigned char)s.p[i]) >= 'a' && str_lower((unsigned char)s.p[i]) <= 'z'))
            return false;
    return s.n > 0;
}

static bool
value_grpc(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str method = text, service = str_cut(&method, '/');

    if (!is_call_name(service) || (!is_call_name(method) && !str_eq(method, STR("*")))) {
        err_set(e,
                "\"" STR_FMT "\" is not a call, expected like \"acme.Chat/Send\" or "
                "\"acme.Chat/*\"",
                STR_ARG(text));
        return false;
    }
    store_text(field, text);
    return true;
}

static bool
value_hash_by(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct pool_conf *p = object;
    struct str name = text, kind = str_cut(&name, ':');
    int i = word_index("address|uri|header|cookie", kind);
    bool named = i == POOL_HASH_HEADER || i == POOL_HASH_COOKIE;

    static_assert(POOL_HASH_ADDRESS == 0 && POOL_HASH_URI == 1 && POOL_HASH_HEADER == 2 &&
                      POOL_HASH_COOKIE == 3,
                  "the words above");
    if (i < 0 || named != (name.p != NULL) || (named && !is_token(name))) {
        err_set(e,
                "\"" STR_FMT "\" cannot be hashed, expected address, uri, header:NAME or "
                "cookie:NAME",
                STR_ARG(text));
        return false;
    }
    store_uint(k, field, (uint64_t)i);
    if (p != NULL && named)
        store_text(&p->hash_name, name);
    return true;
}

static bool
value_pool_ref(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    store_text(field, text); /* whether there is such a pool is known at the end */
    return true;
}

/* --- addresses -------------------------------------------------------------------------------- */

#define BIND_LIKE "ADDRESS:PORT like \"*:80\", \"[::]:80\" or \"unix:/path\""

static bool
value_addr(struct str text, struct addr *out, const char *like, struct errbuf *e)
{
    struct errbuf why;
    char z[ADDR_TEXT];

    if (addr_parse(text, out, NULL, NULL, &why) != MC_OK) {
        err_set(e, "%s, expected %s", why.text, like);
        return false;
    }
    if (out->u.sa.sa_family != AF_UNIX && addr_port(out) == 0) {
        err_set(e, "%s has port 0, expected %s", addr_text(out, z), like);
        return false;
    }
    return true;
}

static bool
value_bind(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!value_addr(text, &a, BIND_LIKE, e))
        return false;
    if (object != NULL)
        *(struct addr *)list_grow(k, object, sizeof(a)) = a;
    return true;
}

static bool
value_http(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a = {.len = 0};

    if (k->required && !value_addr(text, &a, "ADDRESS:PORT like \"127.0.0.1:7709\"", e))
        return false;
    if (!k->required && !str_eq(text, STR("none")) &&
        !value_addr(text, &a, "ADDRESS:PORT like \"127.0.0.1:7709\", or none", e))
        return false;
    if (a.len != 0 && a.u.sa.sa_family == AF_UNIX) {
        err_set(e, "a unix socket, expected ADDRESS:PORT; socket = is for the other");
        return false;
    }
    if (field != NULL)
        *(struct addr *)field = a;
    return true;
}

static bool
value_ip(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!addr_parse_ip(text, 0, &a)) {
        err_set(e, "\"" STR_FMT "\" is not an IP address, expected like \"10.0.0.1\"",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(struct addr *)list_grow(k, object, sizeof(a)) = a;
    return true;
}

/* As the kernel's dev_valid_name() has it. */
static bool
value_interface(const struct conf_key *k, struct str text, void *object, void *field,
                struct errbuf *e)
{
    if (text.n == 0 || text.n >= IF_NAMESIZE || !is_visible(text, false) ||
        memchr(text.p, '/', text.n) != NULL || memchr(text.p, ':', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" is not the name of an interface, expected like \"eth0\"",
                STR_ARG(text));
        return false;
    }
    if (!k->list)
        store_text(field, text);
    else if (object != NULL)
        *(char **)list_grow(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

static bool
value_net(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr_net net;
    struct errbuf why;

    if (addr_parse_net(text, &net, &why) != MC_OK) {
        err_set(e, "%s, expected like \"10.0.0.0/8\", \"2001:db8::1\" or unix", why.text);
        return false;
    }
    if (object != NULL)
        *(struct addr_net *)list_grow(k, object, sizeof(net)) = net;
    return true;
}

static bool
value_vip_address(const struct conf_key *k, struct str text, void *object, void *field,
                  struct errbuf *e)
{
    struct addr_net net;

    if (addr_parse_net(text, &net, NULL) != MC_OK || net.base.u.sa.sa_family == AF_UNIX) {
        err_set(e,
                "\"" STR_FMT
                "\" is no address, expected like \"192.0.2.10\" or \"2001:db8::10/128\"",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(struct addr_net *)list_grow(k, object, sizeof(net)) = net;
    return true;
}

static bool
value_resolver(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    struct addr a;

    if (!addr_parse_ip(text, 53, &a) &&
        (addr_parse(text, &a, NULL, NULL, NULL) != MC_OK || a.u.sa.sa_family == AF_UNIX)) {
        err_set(e,
                "\"" STR_FMT "\" is not an address, expected like \"9.9.9.9\" or "
                "\"[2620:fe::fe]:53\"",
                STR_ARG(text));
        return false;
    }
    list_join(field, text);
    return true;
}

static bool
value_upgrade(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    if (str_eq(text, STR("none")))
        return true;
    if (upgrade_is_http(text)) {
        err_set(e,
                "\"" STR_FMT "\" is HTTP itself, which is not passed on behind an upgrade, "
                "expected like websocket, or any or none",
                STR_ARG(text));
        return false;
    }
    if (!upgrade_is_protocol(text)) {
        err_set(e, "\"" STR_FMT "\" is not a protocol, expected like websocket or \"foo/2\"",
                STR_ARG(text));
        return false;
    }
    list_join(field, text);
    return true;
}

/* Letters, digits, '-', '_' in labels between single dots. */
static bool
is_host_name(struct str s)
{
    bool label = false;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '.' && !label)
            return false;
        if (c != '.' && c != '-' && c != '_' && !(c >= '0' && c <= '9') &&
            !(str_lower((unsigned char)c) >= 'a' && str_lower((unsigned char)c) <= 'z'))
            return false;
        label = c != '.';
    }
    return label && s.n <= NAME_BYTES_MAX;
}

static bool
is_ip_literal(struct str s)
{
    struct addr a;

    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        return addr_parse_ip((struct str){s.p + 1, s.n - 2}, 0, &a) && a.u.sa.sa_family == AF_INET6;
    return false;
}

static bool
value_host(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str name = text;

    if (str_starts(name, STR("*.")))
        name = (struct str){name.p + 2, name.n - 2};
    if (!is_host_name(name) && !is_ip_literal(text)) {
        err_set(e,
                "\"" STR_FMT "\" is not a host name, expected like \"example.org\" or "
                "\"*.example.org\", without port",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(char **)list_grow(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

static bool
value_name(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!is_host_name(text) && !addr_parse_ip(text, 0, &a)) {
        err_set(e,
                "\"" STR_FMT "\" is neither a host name nor an IP address, expected like "
                "\"app.example.org\"",
                STR_ARG(text));
        return false;
    }
    store_text(field, text);
    return true;
}

#define SERVER_LIKE "HOST:PORT like \"10.0.1.1:8080\", \"[2001:db8::1]:80\" or \"unix:/path\""

static bool
value_address(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct addr a;
    struct str host = STR_NONE;
    struct errbuf why;
    uint16_t port = 1;
    enum mc_err err = addr_parse(text, &a, &host, &port, &why);

    if (err == MC_OK && a.u.sa.sa_family != AF_UNIX)
        port = addr_port(&a);
    if (err == MC_ENOENT && is_host_name(host))
        err = MC_OK;
    if (err == MC_OK && str_starts(text, STR("*:"))) {
        err_set(&why, "\"" STR_FMT "\" is every address", STR_ARG(text));
        err = MC_EINVAL;
    }
    if (err == MC_OK && port == 0) {
        err_set(&why, "\"" STR_FMT "\" has port 0", STR_ARG(text));
        err = MC_EINVAL;
    }
    if (err != MC_OK) {
        err_set(e, "%s, expected " SERVER_LIKE, why.text);
        return false;
    }
    store_text(field, text);
    return true;
}

#define PEER_LIKE "HOST:PORT like \"10.0.0.2:7707\" or \"balancers.example.org:7707\""

static bool
value_peer(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str host = STR_NONE;
    struct errbuf why;
    struct addr a;
    uint16_t port = 0;
    enum mc_err err = addr_parse(text, &a, &host, &port, &why);

    if (err == MC_OK && a.u.sa.sa_family != AF_UNIX)
        port = addr_port(&a);
    if ((err != MC_OK && (err != MC_ENOENT || !is_host_name(host))) || port == 0) {
        err_set(e, "\"" STR_FMT "\" is no address of another balancer, expected " PEER_LIKE,
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(char **)list_grow(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

/* --- all kinds -------------------------------------------------------------------------------- */

static const struct {
    const char *name; /* for the manual */
    value_f *value;
} kinds[CONF_N_KINDS] = {
    [CONF_SECTION] = {"section", NULL},
    [CONF_TEXT] = {"text", value_text},
    [CONF_FILE] = {"file", value_file},
    [CONF_FILES] = {"file", value_texts},
    [CONF_WORD] = {"word", value_word},
    [CONF_FLAGS] = {"words", value_flags},
    [CONF_BOOL] = {"yes or no", value_bool},
    [CONF_UINT] = {"number", value_uint},
    [CONF_WORKERS] = {"auto or number", value_workers},
    [CONF_PERCENT] = {"percentage", value_percent},
    [CONF_RATIO] = {"number", value_ratio},
    [CONF_MODE] = {"octal mode", value_mode},
    [CONF_DURATION] = {"duration", value_duration},
    [CONF_SIZE] = {"size", value_size},
    [CONF_BIND] = {"address:port", value_bind},
    [CONF_NET] = {"network", value_net},
    [CONF_VIP_ADDRESS] = {"address", value_vip_address},
    [CONF_HTTP] = {"address:port or none", value_http},
    [CONF_IP] = {"address", value_ip},
    [CONF_INTERFACE] = {"interface", value_interface},
    [CONF_RESOLVER] = {"address", value_resolver},
    [CONF_BALANCE] = {"policy", value_balance},
    [CONF_HASH_BY] = {"key", value_hash_by},
    [CONF_STATUSES] = {"statuses", value_statuses},
    [CONF_METHOD] = {"method", value_method},
    [CONF_PATH] = {"path", value_path},
    [CONF_NAME] = {"name", value_name},
    [CONF_HOST] = {"host", value_host},
    [CONF_PEER] = {"host:port", value_peer},
    [CONF_ADDRESS] = {"host:port", value_address},
    [CONF_POOL_REF] = {"pool", value_pool_ref},
    [CONF_LISTENER_REF] = {"listener", value_texts},
    [CONF_PATTERN] = {"path", value_pattern},
    [CONF_FIELD] = {"field", value_field},
    [CONF_PARAM] = {"parameter", value_param},
    [CONF_UPGRADE] = {"protocol", value_upgrade},
    [CONF_GRPC] = {"service/method", value_grpc},
};

const char *
conf_kind_name(enum conf_kind kind)
{
    return kinds[kind].name;
}

bool
conf_value(const struct conf_key *k, const char *text, void *object, struct errbuf *e)
{
    void *field = object != NULL ? (char *)object + k->offset : NULL;

    MC_ASSERT(kinds[k->kind].value != NULL);
    if (kinds[k->kind].value(k, str_of(text), object, field, e))
        return true;
    err_wrap(e, "%s", k->name);
    return false;
}

void
conf_value_default(const struct conf_key *k, void *object)
{
    if (k->kind != CONF_SECTION && k->def != NULL)
        MC_ASSERT(conf_value(k, k->def, object, NULL));
}
