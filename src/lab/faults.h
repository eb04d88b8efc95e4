/* SPDX-License-Identifier: BSD-2-Clause
 *
 * faults.h - what is wrong with a laboratory's networks: who is cut off from whom, what is lost.
 * Pure: it yields the rules that nft(8) loads between the ports of the bridges, so that hosts know
 * nothing of them: no link goes down, packets are just gone.
 */
#ifndef MC_LAB_FAULTS_H
#define MC_LAB_FAULTS_H

#include "base/buf.h"
#include "lab/topology.h"

#define FAULTS_ANY UINT32_MAX

/* A host, a network, or the host's link to the network; FAULTS_ANY: all. */
struct fault_target {
    unsigned host, network;
};

/* "HOST", "NETWORK" or "HOST.NETWORK".  MC_ENOENT: e tells what was meant perhaps. */
enum mc_err fault_target_parse(const struct topology *, struct str, struct fault_target *,
                               struct errbuf *);

bool fault_target_has(struct fault_target, unsigned host, unsigned network);

/* Nothing passes from a's links (from) or to them (to); only as far as it concerns b, when there
 * is one. */
struct fault_cut {
    struct fault_target a, b;
    bool has_b, from, to;
};

/* A link as the bridge has it. */
struct fault_port {
    const char *name;
    unsigned host, network;
    uint32_t loss_ppm;
};

struct faults {
    struct fault_cut *cuts;
    unsigned n_cuts;
};

/* b NULL: from all.  one_way: a still hears what it is no more heard by.  MC_EINVAL: the two are
 * not on one network. */
enum mc_err faults_cut(struct faults *, const struct topology *, struct fault_target a,
                       const struct fault_target *b, bool one_way, struct errbuf *);
/* Takes back every cut that concerns the target; NULL: all. */
void faults_heal(struct faults *, const struct fault_target *);
/* All of it for nft(8), in the place of what was loaded before. */
void faults_rules(const struct faults *, const struct fault_port *, unsigned n_ports, struct buf *);
/* "lb1", "cluster", "lb1.cluster" */
void fault_target_text(const struct topology *, struct fault_target, struct buf *);
void faults_free(struct faults *);

#endif
