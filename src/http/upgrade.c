/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade.c - see upgrade.h.
 */
#include "http/upgrade.h"

#include "http/h1_priv.h"

bool
upgrade_is_protocol(struct str s)
{
    struct str version = s, name = str_cut(&version, '/');

    return h1_is_token(name) && (version.p == NULL || h1_is_token(version));
}

static bool
begins(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_eq_ci((struct str){s.p, prefix.n}, prefix);
}

/* h2c and the like, and HTTP/x: by how they begin, since drafts had names of their own (h2c-14). */
bool
upgrade_is_http(struct str s)
{
    return begins(s, STR("h2")) || begins(s, STR("h3")) || begins(s, STR("http"));
}

static bool
in_list(struct str list, struct str name)
{
    while (list.p != NULL)
        if (str_eq_ci(h1_list_next(&list), name))
            return true;
    return false;
}

static bool
is_allowed(const char *allowed, struct str name)
{
    return upgrade_is_protocol(name) && !upgrade_is_http(name) &&
           (in_list(str_of(allowed), name) || in_list(str_of(allowed), STR("any")));
}

/* Appends ", name" to what *out has; its memory is as long as the field it comes from. */
static void
append(struct str *out, char *memory, struct str name)
{
    if (out->n > 0) {
        memcpy(memory + out->n, ", ", 2);
        out->n += 2;
    }
    memcpy(memory + out->n, name.p, name.n);
    out->n += name.n;
}

/* Room for the members of all Upgrade fields: a member takes its own bytes and those of the comma
 * before it, which may stand without a space. */
static size_t
offers_bound(const struct http_head *h)
{
    size_t sum = 0;

    for (unsigned i = 0; i < h->n_fields; i++)
        if (h->fields[i].id == FIELD_UPGRADE)
            sum += 2 * (size_t)h->fields[i].value_len + 2;
    return sum;
}

struct str
upgrade_offer(const struct http_head *h, const char *allowed, struct arena *arena, bool *may_ignore)
{
    char *memory = arena_alloc(arena, offers_bound(h) + 1);
    struct str out = {memory, 0};

    *may_ignore = false;
    for (unsigned i = 0; i < h->n_fields; i++) {
        struct str list = http_field_value(&h->fields[i]);

        if (h->fields[i].id != FIELD_UPGRADE)
            continue;
        while (list.p != NULL) {
            struct str name = h1_list_next(&list);

            *may_ignore |= upgrade_is_http(name);
            if (is_allowed(allowed, name))
                append(&out, memory, name);
        }
    }
    return out.n > 0 ? out : STR_NONE;
}

bool
upgrade_agrees(const struct http_head *h, struct str offered)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->n_fields; i++) {
        struct str list = http_field_value(&h->fields[i]);

        if (h->fields[i].id != FIELD_UPGRADE)
            continue;
        while (list.p != NULL) {
            struct str name = h1_list_next(&list);

            if (name.n > 0 && !in_list(offered, name))
                return false;
            n += name.n > 0;
        }
    }
    return n > 0 && h->upgrade;
}
