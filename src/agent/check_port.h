/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check_port.h - the TCP port on which HAProxy asks: it connects, is told one line, and leaves.
 * For agent/ only.
 */
#ifndef MC_AGENT_CHECK_PORT_H
#define MC_AGENT_CHECK_PORT_H

#include "agent/words.h"
#include "base/stats.h"
#include "io/addr.h"
#include "io/loop.h"

struct check_port;

typedef bool check_port_admit_f(void *arg, const struct addr *peer);

enum mc_err check_port_new(struct loop *, const struct addr *, struct words *, check_port_admit_f *,
                           void *arg, struct check_port **out, struct errbuf *);
void check_port_free(struct check_port **);
uint64_t check_port_replies(const struct check_port *);

#endif
