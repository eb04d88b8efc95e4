/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slim.h - gives back the pages that only the start needed.
 */
#ifndef MC_AGENT_SLIM_H
#define MC_AGENT_SLIM_H

/* Once, before the loop runs.  Nothing changes but the resident size. */
void slim_down(void);

#endif
