/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value_text.c - values that are text: names of things, and what is compared with requests.
 */
#include <stdlib.h>
#include <string.h>

#include "control/conf.h"
#include "control/conf_value_priv.h"
#include "http/h1.h"
#include "http/upgrade.h"

bool
value_is_visible(struct str s, bool spaces)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f || (c == ' ' && !spaces))
            return false;
    }
    return s.n > 0;
}

bool
value_text(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!value_is_visible(text, true)) {
        err_set(e, "empty or with control characters, expected visible text");
        return false;
    }
    value_store_text(field, text);
    return true;
}

bool
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

bool
value_texts(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!value_text(k, text, NULL, NULL, e))
        return false;
    if (object != NULL)
        *(char **)value_list_add(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

bool
value_method(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!h1_is_token(text)) {
        err_set(e, "\"" STR_FMT "\" is not a method, expected a word like \"GET\" or \"HEAD\"",
                STR_ARG(text));
        return false;
    }
    value_store_text(field, text);
    return true;
}

bool
value_path(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    if (!value_is_visible(text, false) || text.p[0] != '/' || memchr(text.p, '#', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" is not a path, expected one that begins with \"/\"",
                STR_ARG(text));
        return false;
    }
    if (k->place == CONF_ROUTE && memchr(text.p, '?', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" has a query, expected a path without \"?\"", STR_ARG(text));
        return false;
    }
    value_store_text(field, text);
    return true;
}

/* What is put into the two pointers at field. */
static void
store_pair(void *field, struct str name, struct str value)
{
    char **pair = field;

    if (field == NULL)
        return;
    value_store_text(&pair[0], name);
    if (value.p != NULL)
        value_store_text(&pair[1], value);
}

/* A field of a request: a line could not bring other bytes. */
bool
value_field(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str value = text, name = str_cut(&value, ':');

    static_assert(offsetof(struct class_rule, header_is) ==
                      offsetof(struct class_rule, header) + sizeof(char *),
                  "the value stands behind the name");
    value = value.p != NULL ? str_trim(value) : value;
    if (!h1_is_token(name) || (value.p != NULL && !value_is_visible(value, true))) {
        err_set(e, "\"" STR_FMT "\" is not a field, expected like \"X-Job\" or \"X-Job: export\"",
                STR_ARG(text));
        return false;
    }
    store_pair(field, name, value);
    return true;
}

bool
value_param(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str value = text, name = str_cut(&value, '=');

    static_assert(offsetof(struct class_rule, query_is) ==
                      offsetof(struct class_rule, query) + sizeof(char *),
                  "the value stands behind the name");
    if (name.n == 0 || !value_is_visible(text, false) || strpbrk(text.p, "?&#") != NULL) {
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

bool
value_pattern(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    const char *star = strchr(text.p, '*');

    if (!value_is_visible(text, false) || text.p[0] != '/' || strpbrk(text.p, "?#") != NULL ||
        !holes_ok(text) || (star != NULL && star[1] != '\0')) {
        err_set(e,
                "\"" STR_FMT "\" is not a path, expected one that begins with \"/\", without "
                "query, like \"/users/{}\" or \"/img/*\"",
                STR_ARG(text));
        return false;
    }
    value_store_text(field, text);
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

bool
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
    value_store_text(field, text);
    return true;
}

bool
value_hash_by(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct pool_conf *p = object;
    struct str name = text, kind = str_cut(&name, ':');
    int i = value_word_index("address|uri|header|cookie", kind);
    bool named = i == POOL_HASH_HEADER || i == POOL_HASH_COOKIE;

    static_assert(POOL_HASH_ADDRESS == 0 && POOL_HASH_URI == 1 && POOL_HASH_HEADER == 2 &&
                      POOL_HASH_COOKIE == 3,
                  "the words above");
    if (i < 0 || named != (name.p != NULL) || (named && !h1_is_token(name))) {
        err_set(e,
                "\"" STR_FMT "\" cannot be hashed, expected address, uri, header:NAME or "
                "cookie:NAME",
                STR_ARG(text));
        return false;
    }
    value_store_uint(k, field, (uint64_t)i);
    if (p != NULL && named)
        value_store_text(&p->hash_name, name);
    return true;
}

bool
value_pool_ref(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    value_store_text(field, text); /* whether there is such a pool is known at the end */
    return true;
}

bool
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
    value_list_join(field, text);
    return true;
}
