/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exchange.h - the seam between a transaction and the protocols on its two sides.
 *
 * The client's side ("down") and the server's side ("up") each speak some version of HTTP; the
 * transaction asks them through these two structs and is told by the txn_* calls of txn.h.  All
 * calls are made on the worker's thread.  A side never calls the transaction back from inside one
 * of these calls.
 */
#ifndef MC_PROXY_EXCHANGE_H
#define MC_PROXY_EXCHANGE_H

#include <stdbool.h>

#include "http/h1.h"
#include "io/sock.h"

struct txn;

/* Smaller pieces of a body are copied behind what is queued: that costs less than another element
 * of the send's vector, and the read block stays hot. */
#define COPY_BELOW 2048u

/* A response head as the transaction wants it sent. */
struct down_head {
    const struct http_head *head;
    field_set drop;
    const struct http_field *add;
    unsigned n_add;
    enum http_body body; /* NONE, LENGTH, or CHUNKED for "length unknown": the side frames it */
    uint64_t content_length;
    bool keep_content_length;
    bool close;         /* this connection must not carry another request */
    struct str upgrade; /* of a 101 and a 426: Upgrade, where the client speaks HTTP/1.1 */
};

/* As it is written. */
static inline struct h1_write
down_head_write(const struct down_head *d)
{
    return (struct h1_write){
        .drop = d->drop,
        .add = d->add,
        .n_add = d->n_add,
        .body = d->body,
        .content_length = d->content_length,
        .keep_content_length = d->keep_content_length,
    };
}

struct down_ops {
    /* The request is about to leave to a server; false: not before txn_told(), which follows. NULL:
     * it may. */
    bool (*tell)(struct txn *);
    void (*interim)(struct txn *, const struct http_head *);
    void (*head)(struct txn *, const struct down_head *);
    /* Body bytes; the side takes the block, or copies it and leaves it where it is. */
    void (*data)(struct txn *, struct block **);
    /* The response is whole. */
    void (*end)(struct txn *, const struct http_field *trailers, unsigned n);
    /* The server has switched to another protocol: tells the client;
     * bytes go as they are from here on, both ways, and reception is off.  Returns what came behind
     * the request, or NULL; *ended: the client has sent all it will. */
    struct block *(*switched)(struct txn *, const struct down_head *, bool *ended);
    /* In a tunnel: the client gets no more bytes, and knows. */
    void (*shut)(struct txn *);
    /* The response cannot be completed: break it so that it cannot look whole. */
    void (*abort)(struct txn *);
    /* The transaction is over (after end or abort, or without any response); t is freed next. */
    void (*done)(struct txn *);
    /* Reception of the request body on or off. */
    void (*want)(struct txn *, bool on);
    uint32_t (*unsent)(const struct txn *);
    /* As untaken_bytes(). */
    uint64_t (*untaken)(const struct txn *);
    /* The socket whose bytes are the body's bytes, or NULL when splice cannot be used. */
    struct sock *(*raw)(const struct txn *);
    /* n bytes of the request body went by splice. */
    void (*spliced_in)(struct txn *, uint64_t n);
    /* n bytes of the response body went by splice. */
    void (*spliced_out)(struct txn *, uint64_t n);
};

struct up_ops {
    /* Sends the request head; body as in the request. */
    void (*request)(struct txn *, const struct h1_write *);
    void (*data)(struct txn *, struct block **);
    void (*end)(struct txn *, const struct http_field *trailers, unsigned n);
    /* This side has told of a switch to another protocol, and it is believed: bytes go as they are
     * from here on, both ways. */
    void (*switched)(struct txn *);
    /* In a tunnel: the server gets no more bytes, and knows. */
    void (*shut)(struct txn *);
    /* Gives the server's side up: reuse says that the exchange was whole. */
    void (*release)(struct txn *, bool reuse);
    void (*want)(struct txn *, bool on);
    uint32_t (*unsent)(const struct txn *);
    uint64_t (*untaken)(const struct txn *);
    struct sock *(*raw)(const struct txn *);
    /* Bytes of the response body that are still to come, when its length is known; else 0. */
    uint64_t (*left)(const struct txn *);
    void (*spliced_in)(struct txn *, uint64_t n);  /* of the response body */
    void (*spliced_out)(struct txn *, uint64_t n); /* of the request body */
};

#endif
