/* SPDX-License-Identifier: BSD-2-Clause
 *
 * repair_orphans.c - connections that the kernel keeps for no process, found and destroyed
 * (sock_diag(7), SOCK_DESTROY); and whether there are any, whosever they are.
 *
 * What a dead process had in its buffers, and its FIN, the kernel goes on sending for minutes.
 * Where another balancer has taken the connection over, that must end.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/repair.h"
#include "takeover/repair_priv.h"

#define ANSWER_BYTES 32768 /* what the kernel fills at most */

/* What a close(2) leads to.  A connection that nobody has accepted yet belongs to no process
 * either, but to a listener. */
#define CLOSED_STATES \
    (1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSING | 1u << TCP_LAST_ACK)
/* What has something to say or to hear still. */
#define LIVE_STATES \
    (CLOSED_STATES | 1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_CLOSE_WAIT)

struct request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
};

struct found {
    struct inet_diag_sockid *id;
    uint8_t *family;
    unsigned n, cap;
};

static int
diag_open(struct errbuf *eb)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd < 0) {
        err_set(eb, "sock_diag: %s", strerror(errno));
        return -1;
    }
    return fd;
}

static bool
diag_send(int fd, unsigned type, unsigned flags, const struct inet_diag_req_v2 *body)
{
    struct request r = {
        .head = {.nlmsg_len = sizeof(r), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags},
        .body = *body,
    };

    return send(fd, &r, sizeof(r), 0) == (ssize_t)sizeof(r);
}

/* 0 or an errno. */
static int
diag_destroy(int fd, uint8_t family, const struct inet_diag_sockid *id)
{
    struct inet_diag_req_v2 body = {
        .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u, .id = *id};
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        uint8_t rest[256];
    } answer;
    ssize_t n;

    if (!diag_send(fd, SOCK_DESTROY, NLM_F_ACK, &body))
        return errno;
    n = recv(fd, &answer, sizeof(answer), 0);
    if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.error)) ||
        answer.head.nlmsg_type != NLMSG_ERROR)
        return EPROTO;
    return -answer.error.error;
}

/* --- one ---------------------------------------------------------------------------------------
 */

static void
sockid_of(const struct flow_key *k, struct inet_diag_sockid *id)
{
    size_t skip = flow_key_is_ip4(k) ? 12 : 0;

    *id = (struct inet_diag_sockid){.idiag_sport = k->local_port,
                                    .idiag_dport = k->remote_port,
                                    .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}};
    memcpy(id->idiag_src, k->local + skip, 16 - skip);
    memcpy(id->idiag_dst, k->remote + skip, 16 - skip);
}

struct seen {
    struct nlmsghdr head;
    struct inet_diag_msg body;
    uint8_t rest[512];
};

static uint8_t
family_of(const struct flow_key *k)
{
    return flow_key_is_ip4(k) ? AF_INET : AF_INET6;
}

/* By its name alone the kernel would also find the listener.  False: there is no connection. */
static bool
diag_find(int fd, const struct flow_key *k, struct seen *out)
{
    struct inet_diag_req_v2 body = {
        .sdiag_family = family_of(k), .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u};

    sockid_of(k, &body.id);
    return diag_send(fd, SOCK_DIAG_BY_FAMILY, 0, &body) &&
           recv(fd, out, sizeof(*out), 0) >= (ssize_t)(sizeof(out->head) + sizeof(out->body)) &&
           out->head.nlmsg_type == SOCK_DIAG_BY_FAMILY && out->body.idiag_state != TCP_LISTEN;
}

/* What is destroyed is the socket that was looked at, which its cookie says. */
bool
orphan_destroy(const struct flow_key *k)
{
    int fd = diag_open(NULL);
    struct seen seen;
    bool gone;

    if (fd < 0)
        return false;
    gone = diag_find(fd, k, &seen) && seen.body.idiag_inode == 0 &&
           diag_destroy(fd, family_of(k), &seen.body.id) == 0;
    close(fd);
    return gone;
}

bool
repair_is_known(const struct flow_key *k)
{
    int fd = diag_open(NULL);
    struct seen seen;
    bool known;

    if (fd < 0)
        return false;
    known = diag_find(fd, k, &seen);
    close(fd);
    return known;
}

/* --- all ---------------------------------------------------------------------------------------
 */

static bool
is_on(const struct inet_diag_msg *m, const struct addr *addrs, unsigned n)
{
    struct addr local = {.len = 0};
    struct flow_key mine, theirs;

    local.u.sa.sa_family = m->idiag_family;
    if (m->idiag_family == AF_INET) {
        memcpy(&local.u.in.sin_addr, m->id.idiag_src, 4);
        local.u.in.sin_port = m->id.idiag_sport;
    } else {
        memcpy(&local.u.in6.sin6_addr, m->id.idiag_src, 16);
        local.u.in6.sin6_port = m->id.idiag_sport;
    }
    flow_key_of(&mine, &local, &local);
    for (unsigned i = 0; i < n; i++)
        if (flow_key_of(&theirs, &addrs[i], &addrs[i]) && mine.local_port == theirs.local_port &&
            flow_key_is_ip4(&mine) == flow_key_is_ip4(&theirs) &&
            (addr_is_any(&addrs[i]) || memcmp(mine.local, theirs.local, sizeof(mine.local)) == 0))
            return true;
    return false;
}

static void
add(struct found *f, const struct inet_diag_msg *m)
{
    if (f->n == f->cap) {
        f->cap = f->cap != 0 ? f->cap * 2 : 64;
        f->id = mc_realloc(f->id, f->cap * sizeof(*f->id));
        f->family = mc_realloc(f->family, f->cap * sizeof(*f->family));
    }
    f->id[f->n] = m->id;
    f->family[f->n++] = m->idiag_family;
}

/* 1: there is more to come; 0: that was all; below 0: an errno. */
static int
read_answer(const uint8_t *p, size_t n, const struct addr *addrs, unsigned n_addrs, struct found *f)
{
    const struct nlmsghdr *h = (const struct nlmsghdr *)p;

    for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
        const struct inet_diag_msg *m = NLMSG_DATA(h);

        if (h->nlmsg_type == NLMSG_DONE)
            return 0;
        if (h->nlmsg_type == NLMSG_ERROR)
            return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
        if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(*m)) && m->idiag_inode == 0 &&
            is_on(m, addrs, n_addrs))
            add(f, m);
    }
    return 1;
}

static int
find_closed(int fd, uint8_t family, const struct addr *addrs, unsigned n_addrs, struct found *f)
{
    struct inet_diag_req_v2 body = {
        .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = CLOSED_STATES};
    uint8_t *answer;
    ssize_t n;
    int rv = 1;

    if (!diag_send(fd, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body))
        return -errno;
    answer = mc_alloc(ANSWER_BYTES);
    while (rv > 0) {
        n = recv(fd, answer, ANSWER_BYTES, 0);
        rv = n < 0 ? -errno : read_answer(answer, (size_t)n, addrs, n_addrs, f);
    }
    free(answer);
    return rv;
}

/* One that ended by itself meanwhile is as good as destroyed. */
static int
destroy_found(int fd, const struct found *f)
{
    int why;

    for (unsigned i = 0; i < f->n; i++) {
        why = diag_destroy(fd, f->family[i], &f->id[i]);
        if (why != 0 && why != ENOENT)
            return why;
    }
    return 0;
}

int
repair_destroy_orphans(const struct addr *addrs, unsigned n, struct errbuf *eb)
{
    struct found f = {.n = 0};
    int fd = diag_open(eb), why = 0, count;

    if (fd < 0)
        return -1;
    why = -find_closed(fd, AF_INET, addrs, n, &f);
    if (why == 0)
        why = -find_closed(fd, AF_INET6, addrs, n, &f);
    if (why == 0)
        why = destroy_found(fd, &f);
    if (why == EOPNOTSUPP)
        err_set(eb, "the kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY)");
    else if (why != 0)
        err_set(eb, "sock_diag: %s", strerror(why));
    count = (int)f.n;
    free(f.id);
    free(f.family);
    close(fd);
    return why == 0 ? count : -1;
}

/* --- any ---------------------------------------------------------------------------------------
 */

/* "Its local address is this one", for the kernel's filter. */
struct local_is {
    struct nlattr head;
    struct inet_diag_bc_op op;
    struct inet_diag_hostcond host;
    uint8_t ip[16];
};

static void
set_filter(struct local_is *f, const struct addr *a)
{
    bool ip4 = a->u.sa.sa_family == AF_INET;
    size_t n_ip = ip4 ? 4 : 16;
    size_t n_cond = sizeof(f->op) + sizeof(f->host) + n_ip;

    *f = (struct local_is){
        .head = {.nla_type = INET_DIAG_REQ_BYTECODE,
                 .nla_len = (uint16_t)(sizeof(f->head) + n_cond)},
        /* a jump beyond the end by 4 is "no" */
        .op = {.code = INET_DIAG_BC_S_COND, .yes = (uint8_t)n_cond, .no = (uint16_t)(n_cond + 4)},
        .host = {.family = a->u.sa.sa_family, .prefix_len = (uint8_t)(8 * n_ip), .port = -1},
    };
    memcpy(f->ip, ip4 ? (const void *)&a->u.in.sin_addr : (const void *)&a->u.in6.sin6_addr, n_ip);
}

/* Of an IPv4 address there are two kinds: a listener of IPv6 takes in IPv4, too. */
static bool
has_any(int fd, uint8_t family, const struct addr *a, uint8_t *answer)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
        struct local_is filter;
    } r = {
        .body = {.sdiag_family = family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = LIVE_STATES},
    };
    const struct nlmsghdr *h = (const struct nlmsghdr *)answer;
    ssize_t n;

    set_filter(&r.filter, a);
    r.head = (struct nlmsghdr){
        .nlmsg_len = (uint32_t)(offsetof(typeof(r), filter) + NLMSG_ALIGN(r.filter.head.nla_len)),
        .nlmsg_type = SOCK_DIAG_BY_FAMILY,
        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP};
    if (send(fd, &r, r.head.nlmsg_len, 0) != (ssize_t)r.head.nlmsg_len)
        return true;
    n = recv(fd, answer, ANSWER_BYTES, 0);
    return n < 0 || !NLMSG_OK(h, (size_t)n) || h->nlmsg_type != NLMSG_DONE;
}

bool
repair_has_connections(const struct addr *a)
{
    static const uint8_t families[] = {AF_INET6, AF_INET};
    unsigned n = a->u.sa.sa_family == AF_INET ? 2 : 1;
    uint8_t *answer = mc_alloc(ANSWER_BYTES);
    bool any = false;

    for (unsigned i = 0; i < n && !any; i++) {
        int fd = diag_open(NULL); /* one each: the rest of an answer is not read */

        any = fd < 0 || has_any(fd, families[i], a, answer);
        if (fd >= 0)
            close(fd);
    }
    free(answer);
    return any;
}
