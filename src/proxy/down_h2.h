/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h2.h - HTTP/2 on a client connection (RFC 9113): what conn.c knows of it.
 *
 * The connection owns it from h2_down_begin() to h2_down_free() and hands on what happens.  Each
 * stream is a transaction of its own.  The worker's thread.
 */
#ifndef MC_PROXY_DOWN_H2_H
#define MC_PROXY_DOWN_H2_H

#include "io/block.h"
#include "proxy/reason.h"

struct conn;
struct h2_down;

#define H2_PREFACE       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_PREFACE_BYTES (sizeof(H2_PREFACE) - 1)

/* Sends our SETTINGS; what comes from the client begins with the preface. */
struct h2_down *h2_down_begin(struct conn *);
/* The block stays the caller's. */
void h2_down_recv(struct h2_down *, struct block *);
void h2_down_drained(struct h2_down *);
void h2_down_eof(struct h2_down *);
/* The connection's deadline has come. */
void h2_down_tick(struct h2_down *);
/* No further requests: GOAWAY, in two steps so that none is lost on its way (RFC 9113 6.8); the
 * connection ends after those that are under way. */
void h2_down_leave(struct h2_down *);
/* All requests end for this reason, and the connection with them. */
void h2_down_cut(struct h2_down *, enum end_reason);
/* The connection is closed. */
void h2_down_free(struct h2_down **);

#endif
