/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_wire_priv.h - what writer and reader of pieces agree on: share_wire.c, share_wire_read.c.
 */
#ifndef MC_PLACE_SHARE_WIRE_PRIV_H
#define MC_PLACE_SHARE_WIRE_PRIV_H

/* Which fields of a load follow its flags; what does not is 0. */
#define HAS_NOW         0x01
#define HAS_MEAN        0x02
#define HAS_HEAVY       0x04
#define HAS_MEM         0x08
#define HAS_SLOW        0x10
#define HAS_EJECT       0x20
#define HAS_ALL         0x3f

/* phi is told in 1/256 of a core: two bytes are enough for 64 cores' worth. */
#define WIRE_PHI        16

/* The writer keeps to these, the reader refuses what is beyond. */
#define WIRE_SHORT_MOST 1e9f
#define WIRE_SUM_MOST   1e12f
#define WIRE_RATE_MOST  1e9f
#define WIRE_US_MOST    1e12 /* presence in one window, in microseconds */
#define WIRE_ENDED_MOST 1e9
#define WIRE_LEVEL_MOST 1e7
#define WIRE_CORES_MOST 65536.0
#define WIRE_CORE       256 /* cores are told in 1/256 */
#define WIRE_EJECT_MOST (3600 * 1000u)

#endif
