/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resolve.h - keeps the addresses of a server that has a name.  For fleet/ only; control thread.
 */
#ifndef MC_FLEET_RESOLVE_H
#define MC_FLEET_RESOLVE_H

#include "fleet/live.h"

/* Asks at once, and again whenever the answer has become old.  A DNS that fails or denies the name
 * changes nothing for a server that has an address: the last answer is kept. */
struct resolve *resolve_new(struct entry *, struct str host, uint16_t port);
void resolve_free(struct resolve **);
/* After dns_free(): forgets the questions that will not be answered any more. */
void resolve_forget_all(struct fleet *);

#endif
