/* SPDX-License-Identifier: BSD-2-Clause
 *
 * route.c - which pool answers a request, or a connection.
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

/* No pattern at all: every host. */
static bool
any_matches(char *const *patterns, unsigned n, struct str host)
{
    for (unsigned i = 0; i < n; i++)
        if (host_matches(str_of(patterns[i]), host))
            return true;
    return n == 0;
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
    return path_matches(str_of(r->path), path) && any_matches(r->hosts, r->n_hosts, host);
}

const struct route *
route_find(const struct route *routes, unsigned n, struct str host, struct str path)
{
    for (unsigned i = 0; i < n; i++)
        if (routes[i].conf.n_listeners == 0 && route_matches(&routes[i].conf, host, path))
            return &routes[i];
    return NULL;
}

bool
route_matches_name(const struct route_conf *r, struct str name)
{
    return any_matches(r->names, r->n_names, name);
}

const struct route *
route_find_name(const struct route *const *routes, unsigned n, struct str name)
{
    for (unsigned i = 0; i < n; i++)
        if (route_matches_name(&routes[i]->conf, name))
            return routes[i];
    return NULL;
}
