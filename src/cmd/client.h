/* SPDX-License-Identifier: BSD-2-Clause
 *
 * client.h - asks a running balancer over its unix socket; blocking, for commands.
 */
#ifndef MC_CMD_CLIENT_H
#define MC_CMD_CLIENT_H

#include "base/buf.h"
#include "base/err.h"

struct client_answer {
    unsigned status;
    struct buf body;
};

/* body NULL: a GET, else a POST of it.  Not MC_OK: nobody answered, e tells why.  The caller frees
 * the answer's body. */
enum mc_err client_ask(const char *socket, const char *path, const char *body,
                       struct client_answer *, struct errbuf *e);

#endif
