/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_packet.c - reads what the guard has held; pure.
 *
 * TCP: RFC 9293 3.1, timestamps RFC 7323 3.  The programs stand before the kernel has looked at
 * checksums, so that is for us to do.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "takeover/checksum.h"
#include "takeover/guard.h"

/* What the kernel has put together, or got from a neighbour on the same machine, has no checksum
 * yet: in its place is the sum of the pseudo header, for hardware to go on from. */
static bool
checksum_is_good(const struct flow_key *k, const uint8_t *segment, size_t n, size_t n_segment)
{
    uint32_t pseudo = checksum_pseudo(k->remote, k->local, IPPROTO_TCP, n_segment);
    uint16_t stands;

    memcpy(&stands, segment + offsetof(struct tcphdr, th_sum), sizeof(stands));
    if (stands == checksum_fold(pseudo))
        return true;
    return n == n_segment && checksum_fold(checksum_add(pseudo, segment, n)) == 0xffff;
}

static uint32_t
get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return ntohl(v);
}

/* False: an option is cut off.  Options that we do not know are nobody's business here. */
static bool
read_options(const uint8_t *p, size_t n, struct guard_packet *out)
{
    size_t i = 0, len;

    while (i < n && p[i] != TCPOPT_EOL) {
        if (p[i] == TCPOPT_NOP) {
            i++;
            continue;
        }
        if (i + 1 >= n || p[i + 1] < 2 || p[i + 1] > n - i)
            return false;
        len = p[i + 1];
        if (p[i] == TCPOPT_TIMESTAMP && len == TCPOLEN_TIMESTAMP) {
            out->has_ts = true;
            out->ts = get32(p + i + 2);
            out->ts_echo = get32(p + i + 6);
        }
        i += len;
    }
    return true;
}

bool
guard_packet_read(const struct flow_key *k, const uint8_t *segment, size_t n, size_t n_segment,
                  struct guard_packet *out)
{
    struct guard_packet made = {.key = *k};
    struct tcphdr tcp;
    size_t n_header;

    if (n < sizeof(tcp) || n > n_segment)
        return false;
    memcpy(&tcp, segment, sizeof(tcp));
    n_header = tcp.th_off * 4u;
    if (n_header < sizeof(tcp) || n_header > n || tcp.th_sport != k->remote_port ||
        tcp.th_dport != k->local_port || !checksum_is_good(k, segment, n, n_segment) ||
        !read_options(segment + sizeof(tcp), n_header - sizeof(tcp), &made))
        return false;
    made.flags = tcp.th_flags;
    made.window = ntohs(tcp.th_win);
    made.seq = ntohl(tcp.th_seq);
    made.ack = ntohl(tcp.th_ack);
    made.payload = segment + n_header;
    made.n_payload = n - n_header;
    /* FIN stands behind the payload: cut off with the rest of it */
    if (n < n_segment)
        made.flags &= (uint8_t)~TH_FIN;
    *out = made;
    return true;
}
