/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_left.c - addresses of the process before an upgrade that this configuration has not any more.
 *
 * It lets go of all it carries, since it does not know what the next one wants; so that one removes
 * what nobody does.
 */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "control/heritage.h"
#include "control/vip_priv.h"

struct vip_left {
    char *interface;
    struct addr_net addr;
};

static bool
has(const struct vip *v, const struct addr_net *addr, const char *interface)
{
    for (unsigned i = 0; i < v->n; i++)
        if (addr_eq(&v->v[i]->addr.base, &addr->base) &&
            v->v[i]->addr.prefix_bits == addr->prefix_bits &&
            strcmp(v->v[i]->interface, interface) == 0)
            return true;
    return false;
}

static bool
is_known(const struct vip *v, const struct addr *addr)
{
    for (unsigned i = 0; i < v->n; i++)
        if (addr_eq(&v->v[i]->addr.base, addr))
            return true;
    return false;
}

void
vip_left_note(struct vip *v, const struct heritage *h)
{
    const char *interface;
    struct addr_net addr;

    for (unsigned i = 0; heritage_vip(h, i, &addr, &interface); i++) {
        v->left = mc_realloc(v->left, (v->n_left + 1) * sizeof(*v->left));
        v->left[v->n_left++] = (struct vip_left){.interface = mc_strdup(interface), .addr = addr};
    }
}

static void
remove_one(struct vip *v, const struct vip_left *l)
{
    unsigned ifindex = if_nametoindex(l->interface);
    enum netlink_owner owner;
    char text[ADDR_TEXT];

    if (!is_known(v, &l->addr.base))
        netlink_local_del(&v->nl, &l->addr, NULL);
    if (has(v, &l->addr, l->interface) || ifindex == 0 ||
        netlink_addr_owner(&v->nl, ifindex, &l->addr, &owner, NULL) != MC_OK ||
        owner != NETLINK_OURS || netlink_addr_del(&v->nl, ifindex, &l->addr, NULL) != MC_OK)
        return;
    log_info("vip: %s on %s: away: not configured any more", addr_ip_text(&l->addr.base, text),
             l->interface);
}

void
vip_left_remove(struct vip *v)
{
    for (unsigned i = 0; i < v->n_left; i++)
        remove_one(v, &v->left[i]);
    vip_left_free(v);
}

void
vip_left_free(struct vip *v)
{
    for (unsigned i = 0; i < v->n_left; i++)
        free(v->left[i].interface);
    free(v->left);
    v->left = NULL;
    v->n_left = 0;
}
