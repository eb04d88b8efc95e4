/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explained.h - what would become of a request now: route, pool, class, server, and why.  Control
 * thread.
 */
#ifndef MC_CONTROL_EXPLAINED_H
#define MC_CONTROL_EXPLAINED_H

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "control/node.h"
#include "http/msg.h"

/* A request that nobody sent, read as one that came in by a listener. */
struct explained_ask {
    struct http_head head; /* points into the others */
    struct buf text;
    struct arena arena;
};

/* query: method=, url= and any number of field=NAME: VALUE, percent-encoded; GET when there is no
 * method.  Untrusted.  Not MC_OK: e says what is wrong; to be freed all the same. */
enum mc_err explained_read(struct explained_ask *, struct str query, struct errbuf *e);
void explained_free(struct explained_ask *);
/* A new object. */
json_t *explained(const struct node *, const struct http_head *);

#endif
