/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_key.c - what a client's TCP connection is called.
 */
#include "takeover/flow_key.h"

#include <stdio.h>
#include <sys/socket.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

bool
flow_key_ip4(const uint8_t ip[16])
{
    return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

bool
flow_key_end(const struct addr *a, uint8_t ip[16], uint16_t *port)
{
    if (a->u.sa.sa_family == AF_INET) {
        memcpy(ip, mapped, sizeof(mapped));
        memcpy(ip + sizeof(mapped), &a->u.in.sin_addr, 4);
        *port = a->u.in.sin_port;
        return true;
    }
    if (a->u.sa.sa_family != AF_INET6)
        return false;
    memcpy(ip, &a->u.in6.sin6_addr, 16);
    *port = a->u.in6.sin6_port;
    return true;
}

bool
flow_key_of(struct flow_key *k, const struct addr *local, const struct addr *remote)
{
    struct flow_key made;

    if (!flow_key_end(local, made.local, &made.local_port) ||
        !flow_key_end(remote, made.remote, &made.remote_port) ||
        flow_key_ip4(made.local) != flow_key_ip4(made.remote))
        return false;
    *k = made;
    return true;
}

bool
flow_key_of_socket(struct flow_key *k, int fd)
{
    struct addr local = {.len = sizeof(local.u)}, remote = {.len = sizeof(remote.u)};

    return getsockname(fd, &local.u.sa, &local.len) == 0 &&
           getpeername(fd, &remote.u.sa, &remote.len) == 0 && flow_key_of(k, &local, &remote);
}

static void
end_addr(const uint8_t ip[16], uint16_t port, struct addr *out)
{
    *out = (struct addr){.len = 0};
    if (flow_key_ip4(ip)) {
        out->u.in.sin_family = AF_INET;
        out->u.in.sin_port = port;
        memcpy(&out->u.in.sin_addr, ip + sizeof(mapped), 4);
        out->len = sizeof(out->u.in);
    } else {
        out->u.in6.sin6_family = AF_INET6;
        out->u.in6.sin6_port = port;
        memcpy(&out->u.in6.sin6_addr, ip, 16);
        out->len = sizeof(out->u.in6);
    }
}

void
flow_key_addrs(const struct flow_key *k, struct addr *local, struct addr *remote)
{
    end_addr(k->local, k->local_port, local);
    end_addr(k->remote, k->remote_port, remote);
}

const char *
flow_key_text(const struct flow_key *k, char out[FLOW_KEY_TEXT])
{
    struct addr local, remote;
    char to[ADDR_TEXT], from[ADDR_TEXT];

    flow_key_addrs(k, &local, &remote);
    snprintf(out, FLOW_KEY_TEXT, "%s > %s", addr_text(&remote, from), addr_text(&local, to));
    return out;
}
