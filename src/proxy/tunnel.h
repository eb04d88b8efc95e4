/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tunnel.h - what becomes of a transaction when its server switches to another protocol: bytes go
 * both ways as they are, until both sides have ended or one is broken.
 *
 * The sides tell what happens by these calls; they ask nothing of the bytes.  The worker's thread.
 */
#ifndef MC_PROXY_TUNNEL_H
#define MC_PROXY_TUNNEL_H

#include "proxy/txn.h"

/* One direction. */
struct tunnel_way {
    bool ended;                     /* it says no more */
    bool splicing;                  /* its bytes go through a pipe */
    uint32_t bulk;                  /* bytes that came in large pieces, lately */
    uint64_t spliced, spliced_seen; /* by the present transfer; when tunnel_tick() last looked */
    uint64_t untaken_seen;
};

struct tunnel {
    struct tunnel_way in, out; /* from the client, to the client */
    bool cutting;              /* t->end says which side is broken; the other gets what is left */
};

/* By the pool's `upgrade`: what the request offers goes into t->upgrade.  False: it asks for
 * protocols of which none is allowed. */
bool tunnel_ask(struct txn *);

/* The request is a CONNECT with :protocol (RFC 8441): it becomes the GET by which HTTP/1.1 asks for
 * the same.  What the client sends next is the tunnel's, not a body. */
void tunnel_connect(struct txn *, struct str protocol);

/* What a 426 asks for, of what the pool allows; in the transaction's arena, empty when nothing. */
struct str tunnel_required(struct txn *, const struct http_head *);

/* The server answers 101.  The side goes on with tunnel_up_data() at once when t->state is TUNNEL;
 * else the attempt has failed and was told so. */
void tunnel_switch(struct txn *, const struct http_head *);

/* Bytes from the client, from the server; takes the block or leaves it. */
void tunnel_down_data(struct txn *, struct block **);
void tunnel_up_data(struct txn *, struct block **);
/* That side says no more, but still listens. */
void tunnel_down_end(struct txn *);
void tunnel_up_end(struct txn *);
/* That side is broken: what came from it before is still passed on, then the other is cut. */
void tunnel_down_broken(struct txn *);
void tunnel_up_broken(struct txn *);

/* --- called by the transaction ------------------------------------------------------------------
 */
void tunnel_down_drained(struct txn *);
void tunnel_up_drained(struct txn *);
void tunnel_tick(struct txn *); /* the timer fired */
/* Before the end: what is on its way is counted. */
void tunnel_settle(struct txn *);

#endif
