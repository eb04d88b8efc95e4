/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_target.c - the four forms of a request target (RFC 9112 3.2) and the authority within.
 *
 * The bytes were checked while the request line was cut: VCHAR without '#'.
 */
#include <arpa/inet.h>

#include "http/h1_priv.h"

/* --- authority ------------------------------------------------------------------------------- */
/* Empty is allowed by RFC 3986 3.2.3 ("http://host:/"). */
static bool
port_ok(struct str port)
{
    uint64_t number;

    return port.n == 0 || (port.n <= 5 && str_u64(port, &number) && number <= UINT16_MAX);
}

/* IP-literal without brackets.  Only what inet_pton(3) knows: no zone (RFC 6874 is for URIs within
 * a machine), no IPvFuture. */
static bool
ipv6_ok(struct str s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ignored;

    if (s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(AF_INET6, text, &ignored) == 1;
}

/* reg-name = *( unreserved / pct-encoded / sub-delims ), RFC 3986 3.2.2, but without the comma: a
 * proxy that joined two Host lines makes one, and no name holds any. */
static bool
reg_name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (h1_is(s.p[i], C_HOST))
            continue;
        if (s.p[i] != '%' || i + 2 >= s.n || !h1_is(s.p[i + 1], C_HEX) || !h1_is(s.p[i + 2], C_HEX))
            return false;
        i += 2;
    }
    return s.n > 0;
}

bool
h1_authority_ok(struct str s)
{
    struct str host, port;

    if (s.n > 0 && s.p[0] == '[') {
        const char *close = memchr(s.p, ']', s.n);
        if (!close)
            return false;
        host = (struct str){s.p + 1, (size_t)(close - s.p) - 1};
        port = (struct str){close + 1, s.n - host.n - 2};
        if (port.n > 0 && *port.p++ != ':')
            return false;
        port.n -= port.n > 0;
        return ipv6_ok(host) && port_ok(port);
    }
    port = s;
    host = str_cut(&port, ':');
    return reg_name_ok(host) && port_ok(port);
}

/* --- forms ----------------------------------------------------------------------------------- */
/* Where the authority begins when s starts with an http or https scheme, else 0. */
static size_t
after_scheme(struct str s)
{
    if (s.n >= 7 && str_eq_ci((struct str){s.p, 7}, STR("http://")))
        return 7;
    if (s.n >= 8 && str_eq_ci((struct str){s.p, 8}, STR("https://")))
        return 8;
    return 0;
}

/* What follows the authority of absolute-form, as it is sent on.  RFC 9112 3.2.1 and 3.2.4. */
static struct str
origin_form(struct str rest, enum http_method m, struct arena *a)
{
    char *path;

    if (rest.n == 0)
        return m == HTTP_M_OPTIONS ? STR("*") : STR("/");
    if (rest.p[0] == '/')
        return rest;
    path = arena_alloc(a, rest.n + 1); /* "?query" only */
    path[0] = '/';
    memcpy(path + 1, rest.p, rest.n);
    return (struct str){path, rest.n + 1};
}

/* User information in an authority is refused by the class of its bytes (RFC 9110 4.2.4), and so is
 * a backslash, which some clients read as a slash. */
static enum h1_fault
read_absolute(struct http_head *h, struct arena *a)
{
    struct str t = h->target;
    size_t from = after_scheme(t), to;

    if (from == 0)
        return H1_TARGET;
    for (to = from; to < t.n && t.p[to] != '/' && t.p[to] != '?'; to++)
        ;
    h->scheme = (struct str){t.p, from - 3};
    h->authority = (struct str){t.p + from, to - from};
    if (!h1_authority_ok(h->authority))
        return H1_TARGET;
    h->path = origin_form((struct str){t.p + to, t.n - to}, h->method, a);
    return H1_NONE;
}

/* authority-form = uri-host ":" port; a port must be there (RFC 9110 9.3.6). */
static enum h1_fault
read_authority(struct http_head *h)
{
    struct str t = h->target;

    if (!h1_authority_ok(t) || t.p[t.n - 1] < '0' || t.p[t.n - 1] > '9' ||
        (t.p[0] != '[' && !memchr(t.p, ':', t.n)))
        return H1_TARGET;
    h->authority = t;
    h->path = STR_NONE;
    return H1_NONE;
}

enum h1_fault
h1_read_target(struct http_head *h, struct arena *a)
{
    if (h->method == HTTP_M_CONNECT)
        return read_authority(h);
    if (h->target.p[0] == '/') {
        h->path = h->target;
        return H1_NONE;
    }
    if (h->target.p[0] == '*') {
        h->path = h->target;
        return h->target.n == 1 && h->method == HTTP_M_OPTIONS ? H1_NONE : H1_TARGET;
    }
    return read_absolute(h, a);
}
