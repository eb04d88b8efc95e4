/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_digest.h - whether two configurations say the same.  Private to conf*.c.
 */
#ifndef MC_CONTROL_CONF_DIGEST_H
#define MC_CONTROL_CONF_DIGEST_H

#include "control/conf.h"

/* Sets digest and shared_digest.  text: clean, as conf_text.h makes it. */
void conf_digest(struct conf *, struct str text);

#endif
