/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_priv.h - the inside of the takeover thread.
 */
#ifndef MC_TAKEOVER_TAKEOVER_PRIV_H
#define MC_TAKEOVER_TAKEOVER_PRIV_H

#include "takeover/link_priv.h"
#include "takeover/takeover.h"

struct link_roster *takeover_roster(struct takeover *);

#endif
