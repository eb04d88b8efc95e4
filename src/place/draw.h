/* SPDX-License-Identifier: BSD-2-Clause
 *
 * draw.h - draws servers by weight in O(log n), while the weights change.  Pure; one worker's own.
 *
 * A Fenwick tree (Fenwick 1994) over the weights as this worker saw them last.  Nobody tells it of
 * changes: it sees them when it draws a server that has closed, and by looking at DRAW_LOOKS
 * servers in turn at every draw, so that a server that came back is noticed within n / DRAW_LOOKS
 * draws, a quarter of the time in which its next request would be due anyway.
 */
#ifndef MC_PLACE_DRAW_H
#define MC_PLACE_DRAW_H

#include "place/policy.h"

#define DRAW_LOOKS 4

struct draw;

struct draw *draw_new(const struct place_view *);
void draw_free(struct draw *);
/* A server that may be chosen, drawn by weight, other than `other` (-1: any); -1 when a few draws
 * found none.  hot: once or twice per attempt */
int32_t draw_pick(struct draw *, const struct place_view *, const struct place_ask *, int32_t other,
                  struct rng *);

#endif
