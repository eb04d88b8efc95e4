/* SPDX-License-Identifier: BSD-2-Clause
 *
 * forwarded.h - who asked, told to the server: X-Forwarded-*, Forwarded (RFC 7239), Client-Cert
 * (RFC 9440), Via.  Pure.
 */
#ifndef MC_HTTP_FORWARDED_H
#define MC_HTTP_FORWARDED_H

#include "base/arena.h"
#include "http/msg.h"

struct forwarded_in {
    const struct http_head *request;
    const char *peer_ip; /* text without port; "unix" for a unix socket */
    uint16_t local_port; /* the port that the client connected to */
    bool https;
    struct str client_cert; /* for Client-Cert (RFC 9440); empty: the client gave none */
    bool peer_trusted;      /* the peer is a listed proxy: what it says is kept and extended */
    bool send_x;            /* X-Forwarded-For, -Proto, -Host, -Port */
    bool send_forwarded;    /* Forwarded */
    const char *via;        /* received-by for Via, NULL for none */
};

#define FORWARDED_MAX 7
/* Fills up to FORWARDED_MAX fields to add and the set of received fields to drop.  Client-Cert and
 * Client-Cert-Chain come from a trusted peer whose client we did not see, or are ours.   From an
 * untrusted peer all received ones are dropped; from a trusted one For and Forwarded are extended
 * and Proto, Host and Port kept when present.  A unix peer adds nothing to X-Forwarded-For. */
unsigned forwarded_build(const struct forwarded_in *, struct http_field *add, field_set *drop,
                         struct arena *);
/* The client's address as told by trusted peers: the rightmost address of X-Forwarded-For that is
 * not itself trusted; peer_ip when there is none, when a member that is no address comes first, or
 * when peer_ip is not trusted.  trusted() answers for an address's text, without port or brackets.
 */
struct str forwarded_client(const struct http_head *, struct str peer_ip,
                            bool (*trusted)(void *arg, struct str ip), void *arg);

#endif
