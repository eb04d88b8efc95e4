/* SPDX-License-Identifier: BSD-2-Clause
 *
 * port.h - which processes listen on a TCP port.  For agent/ only.
 */
#ifndef MC_AGENT_PORT_H
#define MC_AGENT_PORT_H

#include <stdint.h>

/* Their pids, at most max; returns how many.  Other users' processes are seen by root only. */
unsigned port_listeners(const char *root, uint16_t port, int *pids, unsigned max);

#endif
