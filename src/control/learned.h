/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learned.h - what was learned of requests and servers, for people and for collectors.  Control
 * thread.
 */
#ifndef MC_CONTROL_LEARNED_H
#define MC_CONTROL_LEARNED_H

#include <jansson.h>

#include "control/node.h"

/* The classes of all pools that learn, as a new object. */
json_t *learned_costs(const struct node *);
/* What is known of a server, as a new object; NULL: its pool does not learn. */
json_t *learned_server(const struct pool *, unsigned index);
/* What is known of a server's agent that speaks in words, as a new object; NULL: it has none. */
json_t *learned_words(const struct pool *, unsigned index);
/* All of it for Prometheus; nothing when no pool learns and no agent speaks. */
void learned_metrics(const struct node *, struct buf *);

#endif
