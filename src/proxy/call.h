/* SPDX-License-Identifier: BSD-2-Clause
 *
 * call.h - what is particular about a transaction that is a call of gRPC: how long its client waits
 * for it, and how its server says that it went.  Worker thread.
 *
 * Both are in fields, which whoever speaks HTTP passes on; here they are understood.
 */
#ifndef MC_PROXY_CALL_H
#define MC_PROXY_CALL_H

#include "proxy/txn.h"

/* A POST is routed: finds out whether it is a call, and bounds its time by what its grpc-timeout
 * says.  One that is malformed is passed on as it is: servers answer it themselves. */
void call_start(struct txn *);
/* A call goes to a server, which gets the time that is left: adds up to one field.  From now on the
 * server may answer for the deadline itself, so it is given a moment more. */
unsigned call_send(struct txn *, struct http_field *add, field_set *drop);
/* The client's time is over, whatever the pool would allow. */
bool call_is_over(const struct txn *);
/* Fields of a response, of its head and of its trailers, that may tell how the call went. */
void call_hear(struct txn *, const struct http_field *, unsigned n);
/* The response is whole: counts it at its server. */
void call_count(struct txn *);
/* A response breaks off: ends it with a status that tells why, where it is a call on HTTP/2. False:
 * it is none, or the client must see the stream reset. */
bool call_break(struct txn *);
/* grpc-message of an answer of our own for t->end. */
struct str call_message(struct txn *);
/* The server said UNAVAILABLE, which is what 503 is to others.  Of the other statuses none is a
 * sign of a broken server: UNKNOWN and INTERNAL are what many give for faults of the caller, and
 * DEADLINE_EXCEEDED depends on how long that wants to wait. */
static inline bool
call_was_unavailable(const struct txn *t)
{
    return t->grpc_said && t->grpc_status == GRPC_UNAVAILABLE;
}

#endif
