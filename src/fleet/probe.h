/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.h - asks one server again and again whether it is well.  For fleet/ only; control thread.
 */
#ifndef MC_FLEET_PROBE_H
#define MC_FLEET_PROBE_H

#include "fleet/pool.h"

struct probe;

/* why: "status 200", "connected"; "connection refused", "status 503, expected 200-399", "timed out
 * after 1s". */
typedef void probe_f(void *arg, bool ok, const char *why);

/* Copies the conf, takes a reference to the server; the turns are the loop's.  The first check is
 * made after first_ns; a zero interval, time limit or status range means the default.  port: 0 the
 * server's own. */
struct probe *probe_new(struct loop *, struct tls_turns *, struct server *,
                        const struct pool_check_conf *, uint16_t port, mc_ns first_ns, struct rng *,
                        probe_f *, void *arg);
/* No call back after this; the memory and the reference go when the socket is closed. */
void probe_free(struct probe **);
/* True when a probe made with these would do the same as p. */
bool probe_is_same(const struct probe *, const struct pool_check_conf *, uint16_t port);

#endif
