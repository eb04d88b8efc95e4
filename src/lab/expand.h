/* SPDX-License-Identifier: BSD-2-Clause
 *
 * expand.h - what stands in braces in a laboratory's commands, addresses and templates.  Pure.
 *
 *     {host}          the name of the host          {host.front}   its address on the network
 * "front" {n}             which of its role it is       {lb1.front}    that of another host {dir}
 * the directory of its files    {lab}          the directory of all hosts' {here}          where
 * the topology file is    {meercat}      the program that runs the laboratory
 *
 * Only a single word in braces is one of these; { } around anything else is left as it is.
 */
#ifndef MC_LAB_EXPAND_H
#define MC_LAB_EXPAND_H

#include "base/buf.h"
#include "lab/topology.h"

/* Where the laboratory is.  host NULL: nobody's, so that what concerns one host is unknown. */
struct expand {
    const struct topology *topology;
    const struct topology_host *host;
    const char *dir, *lab, *here, *meercat;
};

/* Appends the text.  MC_ENOENT: e names what is unknown; *offset is where it stands. */
enum mc_err expand(const struct expand *, struct str text, struct buf *out, size_t *offset,
                   struct errbuf *e);
/* Of a link: its first address without prefix.  malloc'd; NULL when it has none. */
char *expand_address(const struct topology_link *);

#endif
