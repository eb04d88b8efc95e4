/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade.h - the protocols that a connection may be switched to (RFC 9110 7.8).  Pure.
 *
 * Upgrade is a hop's own field: what goes to a server is what we choose of a client's offers, and
 * what a server answers is held against what it was offered.
 */
#ifndef MC_HTTP_UPGRADE_H
#define MC_HTTP_UPGRADE_H

#include "base/arena.h"
#include "http/msg.h"

/* Is this the name of a protocol, "websocket" or "foo/2"? */
bool upgrade_is_protocol(struct str);
/* Is it HTTP itself, h2c say?  Such offers are never passed on: requests would follow that nobody
 * checks or routes. */
bool upgrade_is_http(struct str);

/* What a request offers and `allowed` has, for an Upgrade field of our own; in the arena, empty
 * when there is none.  allowed: names joined by commas, of which "any" is every one; NULL: none.
 * Letter case does not count.  *may_ignore: HTTP itself is among the offers, the request makes
 * sense without a switch. */
struct str upgrade_offer(const struct http_head *request, const char *allowed, struct arena *,
                         bool *may_ignore);
/* Does a 101 switch to what was offered, and nothing else?  It may name several protocols, in
 * layers. */
bool upgrade_agrees(const struct http_head *response, struct str offered);

#endif
