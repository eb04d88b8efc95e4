/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load_report.h - what a server says of its load in a response: the fields endpoint-load-metrics
 * and endpoint-load-metrics-bin (ORCA) of heads and trailer sections.
 *
 * Heard in pools that have a brain, whichever version of HTTP carried them: relay.c calls this from
 * the txn_* calls that every server's side makes.  Clients do not get them unless the pool says so:
 * they tell strangers how loaded servers are, and a client that balances by them would take the
 * load of one server for that of the balancer.  The worker's thread.
 */
#ifndef MC_PROXY_LOAD_REPORT_H
#define MC_PROXY_LOAD_REPORT_H

#include "http/msg.h"

struct txn;

/* Of a final head.  Returns the fields that the client does not get.  hot: once per response */
field_set load_report_head(struct txn *, const struct http_head *);
/* Of a trailer section.  *fields and n become what the client gets, in the transaction's arena
 * where something is left out; returns n. */
unsigned load_report_trailers(struct txn *, const struct http_field **fields, unsigned n);
/* Of an interim head, in which nothing is heard: *out is what the client gets. */
void load_report_interim(struct txn *, const struct http_head *, struct http_head *out);

#endif
