/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip.h - the addresses that clients know: carried while this balancer is fit, and no longer.
 *
 * An address is put on its interface by netlink and taken away again; who announces what is there
 * (a routing daemon, with mode = route) needs no script.  With this mode packets to it are taken
 * in as long as the process lives, announced or not, so that connections may end in order.  What an
 * operator put there himself is left alone; what an earlier process of ours left behind is taken
 * over.  keeper.h removes the addresses of a balancer that cannot.
 *
 * Control thread.  Without vip sections n->vip is NULL and all of this does nothing.
 */
#ifndef MC_CONTROL_VIP_H
#define MC_CONTROL_VIP_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/addr.h"

struct node;

/* Before any socket and thread is made, and before root is given up: forks the keeper. */
enum mc_err vip_open(struct node *, struct errbuf *);
/* Workers accept. */
void vip_start(struct node *);
/* Another configuration is in force. */
void vip_reloaded(struct node *);
#define VIP_NEWS_MAX 64

/* What a faster voice than the membership says of members, until the control thread has heard it.
 */
struct vip_news {
    pthread_mutex_t lock;
    unsigned n;
    struct {
        uint64_t member;
        bool lost;
    } v[VIP_NEWS_MAX];
};

/* That voice: a member is lost, or it is not; the addresses of a lost one are given to others at
 * once.  Any thread, from node_start() to node_stop(). */
void vip_member_lost(struct node *, uint64_t member, bool lost);
/* Carries what it should and removes what it should not, now. */
void vip_settle(struct node *);
/* The balancer is about to be busy on this thread for longer than usual, or is done with it. */
void vip_busy(struct node *, bool);
/* The addresses stay where they are, and are somebody else's from now on: the process that takes
 * over.  It calls vip_open() and vip_start() as any does, finds them with our mark, and removes
 * what its configuration has not (vip_left.c). */
void vip_hand_over(struct node *);
/* No other member has said that it has an address of the cluster, although there are others;
 * leave_look() when one says so. */
bool vip_is_handing_over(const struct node *);
/* Removes what is carried; the keeper ends. */
void vip_stop(struct node *);

/* The i-th address, from 0; false: there are no more.  The text is ours. */
bool vip_show(const struct node *, unsigned i, struct addr_net *, const char **interface);

/* --- for member.c: who is alive besides us, and what one says of an address --- */
void vip_members(struct node *, const uint64_t *others, unsigned n);
void vip_hear(struct node *, uint64_t member, uint64_t key, const void *value, size_t n);

/* {"vips": [...], "keeper": bool}; empty without. */
json_t *vip_view(const struct node *);
void vip_metrics(const struct node *, struct buf *);

#endif
