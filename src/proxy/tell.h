/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tell.h - the PROXY header with which a server is told whose connection it gets.  The worker's
 * thread.
 */
#ifndef MC_PROXY_TELL_H
#define MC_PROXY_TELL_H

#include "fleet/pool.h"
#include "io/proxy_header.h"

struct conn;

/* Does this server of the pool get a header?  A connection to it is then of one client alone, and
 * is not kept for others.  hot: once per attempt */
bool tell_wanted(const struct pool *, uint32_t server);
/* Writes it, and returns its bytes.  client_ip: who asks; id: of what he asks, should nobody have
 * told one of the connection. */
size_t tell_client(const struct pool *, uint32_t server, const struct conn *, struct str client_ip,
                   struct str id, uint8_t out[PROXY_HEADER_MAX]);

#endif
