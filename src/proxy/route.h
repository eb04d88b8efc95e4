/* SPDX-License-Identifier: BSD-2-Clause
 *
 * route.h - which pool answers a request: the first route whose host and path prefix match; and
 * which one a connection that is passed through, by its listener and the name in its TLS.  Pure
 * once built; read by all workers.
 */
#ifndef MC_PROXY_ROUTE_H
#define MC_PROXY_ROUTE_H

#include "base/str.h"
#include "proxy/limit.h"

struct route_conf {
    char *name;
    char **hosts; /* "example.org", "*.example.org" (any depth below), none: every host */
    unsigned n_hosts;
    char *path; /* prefix on segment borders: "/api" matches /api and /api/x, not /apis; "/api/"
                   only what lies below; NULL: every path */
    char **listeners; /* those with protocol = tcp whose connections it takes; none: it is for
                         requests */
    unsigned n_listeners;
    char **names; /* of hosts, as above, that clients ask for in TLS; none: every client, also one
                     that asks for none */
    unsigned n_names;
    char *pool;
    unsigned rate_limit; /* requests, or connections, a second; 0: no limit */
    unsigned rate_burst; /* at once; 0: as many as in a second */
};

struct route {
    struct route_conf conf;
    unsigned pool_index; /* in the snapshot */
    struct limit *limit; /* NULL: none */
    bool in_class;       /* other routes lead to the pool, too: classes of requests bear its name */
};

/* Requests that may come at once. */
static inline unsigned
route_burst(const struct route_conf *c)
{
    return c->rate_burst > 0 ? c->rate_burst : c->rate_limit;
}

/* routes in the order of the configuration.
 * host: without port, any case.  path: with or without query.  NULL: no route matches.
 * hot: once per request. */
const struct route *route_find(const struct route *, unsigned n, struct str host, struct str path);
bool route_matches(const struct route_conf *, struct str host, struct str path);
/* The same for a connection: routes of its listener.  name: empty when its client named none.
 * hot: once per connection. */
const struct route *route_find_name(const struct route *const *, unsigned n, struct str name);
bool route_matches_name(const struct route_conf *, struct str name);

#endif
