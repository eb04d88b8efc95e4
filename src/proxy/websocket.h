/* SPDX-License-Identifier: BSD-2-Clause
 *
 * websocket.h - the question and answer by which HTTP/1.1 opens a WebSocket (RFC 6455 4), for
 * clients that open theirs in HTTP/2 without it (RFC 8441 5).  Pure.
 */
#ifndef MC_PROXY_WEBSOCKET_H
#define MC_PROXY_WEBSOCKET_H

#include "base/rand.h"

#define WEBSOCKET_KEY    25 /* with the final NUL, as the next */
#define WEBSOCKET_ACCEPT 29

/* Sec-WebSocket-Key: 16 random bytes. */
void websocket_key(struct rng *, char key[WEBSOCKET_KEY]);
/* The Sec-WebSocket-Accept that a server must answer it with. */
void websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT]);

#endif
