/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_priv.h - what the files of replica.h share.
 */
#ifndef MC_TAKEOVER_REPLICA_PRIV_H
#define MC_TAKEOVER_REPLICA_PRIV_H

#include "takeover/replica.h"

struct replica *replica_new(struct life owner, uint16_t worker);
/* OPEN: what was known of it is forgotten. */
void replica_begin(struct replica *, const struct wire_open *);
/* It is known, but not to be carried on; gives its memory back. */
void replica_strip(struct replica *);

enum replica_kept {
    REPLICA_KEPT,
    REPLICA_TOO_LONG, /* more than `most` bytes: it was made bare */
    REPLICA_REFUSED,  /* *fault says why */
};
/* A frame of a flow that is open; not OPEN or CLOSE. */
enum replica_kept replica_apply(struct replica *, const struct wire_frame *, size_t most,
                                enum replica_fault *fault);

/* Memory that it takes. */
size_t replica_cost(const struct replica *);

#endif
