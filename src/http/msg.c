/* SPDX-License-Identifier: BSD-2-Clause
 *
 * msg.c - questions that every version of HTTP asks a head.  Pure.
 */
#include "http/msg.h"

#include "base/check.h"

static const struct {
    struct str name;
    unsigned props;
} methods[] = {[HTTP_M_OTHER] = {{"", 0}, 0},
#define X(text, p) [HTTP_M_##text] = {{#text, sizeof(#text) - 1}, p},
               HTTP_METHODS(X)
#undef X
};

enum http_method
http_method_lookup(struct str s) /* hot: once per request; GET is the first that is tried */
{
    for (unsigned m = HTTP_M_OTHER + 1; m < MC_COUNT(methods); m++)
        if (str_eq(methods[m].name, s))
            return (enum http_method)m;
    return HTTP_M_OTHER;
}

unsigned
http_method_props(enum http_method m)
{
    return m < MC_COUNT(methods) ? methods[m].props : 0;
}

const struct http_field *
http_field_find(const struct http_head *h, enum field_id id)
{
    for (unsigned i = 0; i < h->n_fields; i++)
        if (h->fields[i].id == id)
            return &h->fields[i];
    return NULL;
}

struct str
http_field_get(const struct http_head *h, struct str name)
{
    for (unsigned i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];

        if (f->name_len == name.n && str_eq_ci((struct str){f->name, f->name_len}, name))
            return (struct str){f->value, f->value_len};
    }
    return STR_NONE;
}

/* cookie-string = cookie-pair *( ";" SP cookie-pair ), RFC 6265 4.2.1; any white space is taken.
 * Quotes around a value belong to the value.  Names are told by case; of several the
 * first has the longest path (5.4). */
static bool
cookie_in(struct str pairs, struct str name, struct str *value)
{
    do {
        struct str rest = str_cut(&pairs, ';');
        struct str key = str_trim(str_cut(&rest, '='));

        if (rest.p && str_eq(key, name)) {
            *value = str_trim(rest);
            return true;
        }
    } while (pairs.p);
    return false;
}

struct str
http_cookie_get(const struct http_head *h, struct str name)
{
    struct str value = STR_NONE;

    for (unsigned i = 0; i < h->n_fields; i++)
        if (h->fields[i].id == FIELD_COOKIE &&
            cookie_in(http_field_value(&h->fields[i]), name, &value))
            break;
    return value;
}

struct str
http_path_only(struct str path)
{
    return str_cut(&path, '?');
}

struct str
http_query(struct str path)
{
    str_cut(&path, '?');
    return path;
}

/* Where the port's colon is, or the end: a colon within brackets is part of an address. */
static size_t
host_len(struct str authority)
{
    const char *colon;
    size_t from = 0;

    if (authority.n > 0 && authority.p[0] == '[') {
        const char *close = memchr(authority.p, ']', authority.n);

        from = close ? (size_t)(close - authority.p) : authority.n;
    }
    if (from == authority.n)
        return authority.n;
    colon = memchr(authority.p + from, ':', authority.n - from);
    return colon ? (size_t)(colon - authority.p) : authority.n;
}

struct str
http_host_only(struct str authority)
{
    struct str host = {authority.p, host_len(authority)};

    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    return host;
}

/* RFC 9110 15, with 103 (RFC 8297), 425 (RFC 8470), 428, 429, 431, 511 (RFC 6585). */
#define REASONS(X)                            \
    X(100, "Continue")                        \
    X(101, "Switching Protocols")             \
    X(102, "Processing")                      \
    X(103, "Early Hints")                     \
    X(200, "OK")                              \
    X(201, "Created")                         \
    X(202, "Accepted")                        \
    X(203, "Non-Authoritative Information")   \
    X(204, "No Content")                      \
    X(205, "Reset Content")                   \
    X(206, "Partial Content")                 \
    X(207, "Multi-Status")                    \
    X(300, "Multiple Choices")                \
    X(301, "Moved Permanently")               \
    X(302, "Found")                           \
    X(303, "See Other")                       \
    X(304, "Not Modified")                    \
    X(305, "Use Proxy")                       \
    X(307, "Temporary Redirect")              \
    X(308, "Permanent Redirect")              \
    X(400, "Bad Request")                     \
    X(401, "Unauthorized")                    \
    X(402, "Payment Required")                \
    X(403, "Forbidden")                       \
    X(404, "Not Found")                       \
    X(405, "Method Not Allowed")              \
    X(406, "Not Acceptable")                  \
    X(407, "Proxy Authentication Required")   \
    X(408, "Request Timeout")                 \
    X(409, "Conflict")                        \
    X(410, "Gone")                            \
    X(411, "Length Required")                 \
    X(412, "Precondition Failed")             \
    X(413, "Content Too Large")               \
    X(414, "URI Too Long")                    \
    X(415, "Unsupported Media Type")          \
    X(416, "Range Not Satisfiable")           \
    X(417, "Expectation Failed")              \
    X(421, "Misdirected Request")             \
    X(422, "Unprocessable Content")           \
    X(425, "Too Early")                       \
    X(426, "Upgrade Required")                \
    X(428, "Precondition Required")           \
    X(429, "Too Many Requests")               \
    X(431, "Request Header Fields Too Large") \
    X(500, "Internal Server Error")           \
    X(501, "Not Implemented")                 \
    X(502, "Bad Gateway")                     \
    X(503, "Service Unavailable")             \
    X(504, "Gateway Timeout")                 \
    X(505, "HTTP Version Not Supported")      \
    X(511, "Network Authentication Required")

const char *
http_reason(unsigned status)
{
    switch (status) {
#define X(number, text) \
    case number: return text;
        REASONS(X)
#undef X
    default: return "";
    }
}

bool
http_response_bodyless(unsigned status, enum http_method request_method)
{
    if (request_method == HTTP_M_HEAD)
        return true;
    if (request_method == HTTP_M_CONNECT && status / 100 == 2)
        return true; /* a tunnel begins: RFC 9112 6.3, rule 2 */
    return status / 100 == 1 || status == 204 || status == 304;
}
