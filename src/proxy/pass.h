/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pass.h - idle connections that go on in another process, the next one of an upgrade.
 *
 * A connection of HTTP/1 without TLS that waits for a request is nothing but its descriptor, and
 * what was read of it and not looked at.  Both go in one message over a unix socket between the
 * two processes; the client notices nothing.  Others end here, see worker_hand_over().
 *
 *   u8 'C', u16 port, u32 requests so far, str name of the listener, bytes; with the descriptor
 */
#ifndef MC_PROXY_PASS_H
#define MC_PROXY_PASS_H

#include "base/list.h"
#include "proxy/conn.h"

#define PASS_KIND      'C'
#define PASS_BYTES_MAX 16384u /* more is served here before the connection goes */
#define PASS_NAME_MAX  255u
#define PASS_MAX       (PASS_BYTES_MAX + 512u)

struct passed {
    struct list link;
    int fd;
    uint32_t requests;
    uint16_t local_port;
    char *listener;
    size_t n;
    uint8_t bytes[];
};

/* --- the process that goes; workers --- */

/* May it go, now or when its present request has been answered? */
bool pass_may(const struct conn *);
/* It is idle: goes, if it may. */
void pass_begin(struct conn *);
/* on_quiet of its socket. */
void pass_send(struct conn *);
void pass_all(struct worker *);

/* --- the process that comes --- */

/* A message, whose first byte is PASS_KIND.  NULL: it makes no sense; fd is taken in any case. */
struct passed *pass_read(const uint8_t *, size_t n, int fd);
/* Closes the descriptor, unless it is -1. */
void pass_free(struct passed **);
/* On a worker: it goes on here, as if it had been accepted; or ends, when its listener is gone. */
void pass_take(struct worker *, struct passed **);

#endif
