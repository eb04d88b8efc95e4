/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_priv.h - between the files of know: know.c, know_tell.c, know_hear.c, know_save.c.
 */
#ifndef MC_PLACE_KNOW_PRIV_H
#define MC_PLACE_KNOW_PRIV_H

#include "place/know.h"

#define KNOW_ALL_CLASSES 256

static inline bool
know_lacks(const struct know *k, enum know_part part)
{
    return k->conf.without & (1u << part);
}

/* The load table's record of a server. */
static inline struct load_hot *
know_hot(const struct know *k, uint32_t server)
{
    return &k->table->hot[k->table->pos[server]];
}

/* Writes what the others have in flight there, and what nobody told of. */
void know_publish_peers(struct know *, uint32_t server);
/* Sets the server aside, because of what we saw or because another one told. */
void know_publish_flags(struct know *, uint32_t server, mc_ns now);
/* Writes what its agent says of it. */
void know_publish_host(struct know *, uint32_t server);
void know_publish_costs(struct know *);
extern const struct share_hooks know_share_hooks;

/* know_tell.c */
void know_fill_purse(struct know *, mc_ns now);
void know_tell_fast(struct know *, mc_ns now);
void know_tell_heavy(struct know *, uint32_t server, mc_ns now);
/* What know_tell_heavy() had to leave. */
void know_tell_late(struct know *, mc_ns now);
void know_tell_slow(struct know *, mc_ns now);
void know_tell_reports(struct know *);
/* The present window is over: ROWS. */
void know_tell_window(struct know *);
/* False: there is more to tell than may be sent now. */
bool know_tell_sums(struct know *);

#endif
