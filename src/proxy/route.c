/* SPDX-License-Identifier: BSD-2-Clause
 *
 * route.c - which pool answers a request.
 *
 * Hosts and paths are compared as the client wrote them, the host without regard to case; nothing
 * is decoded.  So "/%61pi" is not below "/api": the server that gets the request sees the same
 * bytes as the route did, and the two cannot disagree about what was asked for.
 */
#include "proxy/route.h"

/* "*.example.org" stands for every name that ends in ".example.org", not for that name itself. */
static bool
host_matches(struct str pattern, struct str host)
{
    if (pattern.n < 2 || pattern.p[0] != '*')
        return str_eq_ci(pattern, host);
    pattern.p++;
    pattern.n--;
    if (host.n <= pattern.n)
        return false;
    return str_eq_ci(pattern, (struct str){host.p + (host.n - pattern.n), pattern.n});
}

static bool
any_host_matches(const struct route_conf *r, struct str host)
{
    for (unsigned i = 0; i < r->n_hosts; i++)
        if (host_matches(str_of(r->hosts[i]), host))
            return true;
    return r->n_hosts == 0;
}

/* A prefix that ends in '/' covers what lies below it, one that does not also covers itself; "/" is
 * every path, "*" of OPTIONS (RFC 9110 9.3.7) included. */
static bool
path_matches(struct str prefix, struct str path)
{
    char next;

    if (prefix.n == 0 || str_eq(prefix, STR("/")))
        return true;
    if (!str_starts(path, prefix))
        return false;
    if (path.n == prefix.n || prefix.p[prefix.n - 1] == '/')
        return true;
    next = path.p[prefix.n];
    return next == '/' || next == '?';
}

bool
route_matches(const struct route_conf *r, struct str host, struct str path)
{
    return path_matches(str_of(r->path), path) && any_host_matches(r, host);
}

const struct route *
route_find(const struct route *routes, unsigned n, struct str host, struct str path)
{
    for (unsigned i = 0; i < n; i++)
        if (route_matches(&routes[i].conf, host, path))
            return &routes[i];
    return NULL;
}
