/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc_check.h - one call of grpc.health.v1.Health/Check on a connection of its own: what to send,
 * and what the answer says ("GRPC Health Checking Protocol").
 *
 * Bytes in and bytes out, HTTP/2 being nghttp2's; no socket, no clock.  It allocates, once a check.
 */
#ifndef MC_HTTP_GRPC_CHECK_H
#define MC_HTTP_GRPC_CHECK_H

#include "base/str.h"

enum grpc_check_state { GRPC_CHECK_MORE, GRPC_CHECK_SERVING, GRPC_CHECK_FAILED };

struct grpc_check;

/* service: as the server knows it, "" for the server as a whole.  The texts are copied. */
struct grpc_check *grpc_check_new(struct str service, struct str authority, struct str scheme);
void grpc_check_free(struct grpc_check **);

/* The next bytes to send, until it is empty; they are good until the next call. */
struct str grpc_check_send(struct grpc_check *);
/* Bytes of the answer; send what there is to send, then look at the state. */
void grpc_check_recv(struct grpc_check *, struct str);
enum grpc_check_state grpc_check_state(const struct grpc_check *);
/* Not while MORE: "SERVING", "NOT_SERVING", "grpc-status NOT_FOUND", "status 404", "not HTTP/2". */
const char *grpc_check_why(const struct grpc_check *);

#endif
