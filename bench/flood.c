/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flood.c - what a listener must bear, for so many seconds and no longer.
 *
 *   syn       SYNs from addresses of a network that nobody answers for (-f NETWORK, a /16): raw
 *             sockets, as root, in a network namespace of one's own
 *   connect   connections that are opened and say nothing; each is closed after -k seconds, and
 *             there are no more than -c at once
 *
 * Ends with a line of JSON: how many were sent, or established and failed.  Requests as fast as
 * they go are load.c's. */
#include <getopt.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tool.h"

#define BATCH   64
#define MAX_S   60.0
#define TURN_NS 1000000ll /* the rate is kept in steps of this */

static struct {
    struct sockaddr_in to;
    uint32_t from; /* network, host byte order */
    unsigned n_conns;
    double per_s, seconds, keep_s;
} cfg = {.n_conns = 1000, .per_s = 10000, .seconds = 1, .keep_s = 1};

static int64_t begun_ns;

/* How many are due by now, and whether it goes on. */
static bool
due(uint64_t *n)
{
    int64_t gone = clock_ns(CLOCK_MONOTONIC) - begun_ns;

    *n = (uint64_t)((double)gone / 1e9 * cfg.per_s);
    return (double)gone / 1e9 < cfg.seconds;
}

static void
pause_a_turn(void)
{
    struct timespec ts = {.tv_nsec = TURN_NS};

    nanosleep(&ts, NULL);
}

/* ---- SYNs ------------------------------------------------------------------------------------ */

struct syn {
    struct iphdr ip;
    struct tcphdr tcp;
};

static uint32_t
sum_words(const void *p, size_t n)
{
    uint32_t sum = 0;
    uint16_t word;

    for (size_t i = 0; i < n; i += 2) {
        memcpy(&word, (const char *)p + i, 2);
        sum += word;
    }
    return sum;
}

static uint16_t
fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

/* RFC 9293 3.1: over a pseudo header, too.  The kernel fills in the length and checksum of IP. */
static void
make_syn(struct syn *s, uint64_t n)
{
    uint32_t mix = (uint32_t)((n + 1) * 0x9e3779b97f4a7c15ull >> 32);

    memset(s, 0, sizeof *s);
    s->ip.version = 4;
    s->ip.ihl = 5;
    s->ip.ttl = 64;
    s->ip.protocol = IPPROTO_TCP;
    s->ip.saddr = htonl(cfg.from | (mix & 0xffff));
    s->ip.daddr = cfg.to.sin_addr.s_addr;
    s->tcp.source = htons((uint16_t)(1024 + mix % 60000));
    s->tcp.dest = cfg.to.sin_port;
    s->tcp.seq = htonl(mix);
    s->tcp.doff = 5;
    s->tcp.syn = 1;
    s->tcp.window = htons(64240);
    s->tcp.check = fold(sum_words(&s->ip.saddr, 8) + htons(IPPROTO_TCP) + htons(sizeof s->tcp) +
                        sum_words(&s->tcp, sizeof s->tcp));
}

static void
flood_syns(void)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    uint64_t sent = 0, refused = 0, n;
    struct syn syns[BATCH];
    struct iovec iov[BATCH];
    struct mmsghdr m[BATCH];
    int rv;

    if (fd < 0)
        die("raw socket");
    memset(m, 0, sizeof m);
    for (unsigned i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){&syns[i], sizeof syns[i]};
        m[i].msg_hdr = (struct msghdr){
            .msg_name = &cfg.to, .msg_namelen = sizeof cfg.to, .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    while (due(&n)) {
        for (; sent + refused + BATCH <= n; sent += rv > 0 ? (uint64_t)rv : 0) {
            for (unsigned i = 0; i < BATCH; i++)
                make_syn(&syns[i], sent + i);
            rv = sendmmsg(fd, m, BATCH, 0);
            refused += rv < BATCH ? BATCH - (uint64_t)(rv > 0 ? rv : 0) : 0;
            if (!due(&n))
                break;
        }
        pause_a_turn();
    }
    printf("{\"sent\": %ju, \"refused\": %ju, \"seconds\": %.3f}\n", (uintmax_t)sent,
           (uintmax_t)refused, (double)(clock_ns(CLOCK_MONOTONIC) - begun_ns) / 1e9);
}

/* ---- connections ----------------------------------------------------------------------------- */

struct slot {
    int fd; /* -1: free */
    int64_t until_ns;
};

static bool
open_one(int ep, struct slot *s)
{
    static const struct linger no_linger = {.l_onoff = 1};
    struct epoll_event ev = {.events = EPOLLOUT | EPOLLET | EPOLLONESHOT, .data.fd = 0};

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return false;
    /* no TIME_WAIT: ports would run out */
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof no_linger);
    s->until_ns = clock_ns(CLOCK_MONOTONIC) + (int64_t)(cfg.keep_s * 1e9);
    if ((connect(s->fd, (struct sockaddr *)&cfg.to, sizeof cfg.to) == 0 || errno == EINPROGRESS) &&
        epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev) == 0)
        return true;
    close(s->fd);
    s->fd = -1;
    return false;
}

static void
flood_connections(void)
{
    struct slot *slots = calloc(cfg.n_conns, sizeof *slots);
    uint64_t opened = 0, failed = 0, established = 0, broken = 0, n;
    int ep = epoll_create1(EPOLL_CLOEXEC), got;
    struct epoll_event evs[BATCH];
    unsigned at = 0;

    if (slots == NULL || ep < 0)
        die("cannot start");
    for (unsigned i = 0; i < cfg.n_conns; i++)
        slots[i].fd = -1;
    while (due(&n)) {
        for (; opened + failed < n; at = (at + 1) % cfg.n_conns) {
            if (slots[at].fd >= 0 && clock_ns(CLOCK_MONOTONIC) < slots[at].until_ns)
                break;
            if (slots[at].fd >= 0)
                close(slots[at].fd);
            if (open_one(ep, &slots[at]))
                opened++;
            else
                failed++;
        }
        while ((got = epoll_wait(ep, evs, BATCH, 0)) > 0)
            for (int i = 0; i < got; i++) {
                broken += (evs[i].events & (EPOLLERR | EPOLLHUP)) != 0;
                established += (evs[i].events & (EPOLLERR | EPOLLHUP)) == 0;
            }
        pause_a_turn();
    }
    printf("{\"opened\": %ju, \"established\": %ju, \"broken\": %ju, \"failed\": %ju, "
           "\"seconds\": %.3f}\n",
           (uintmax_t)opened, (uintmax_t)established, (uintmax_t)broken, (uintmax_t)failed,
           (double)(clock_ns(CLOCK_MONOTONIC) - begun_ns) / 1e9);
}

static _Noreturn void
usage(void)
{
    fputs("usage: flood syn|connect -a ADDRESS -p PORT [-r PER_S] [-t SECONDS]\n"
          "             [-f NETWORK (syn)] [-c CONNECTIONS] [-k KEEP_S (connect)]\n",
          stderr);
    exit(2);
}

static void
read_options(int argc, char **argv)
{
    struct in_addr a = {0};
    int o;

    cfg.to = (struct sockaddr_in){.sin_family = AF_INET};
    while ((o = getopt(argc, argv, "a:p:r:t:f:c:k:")) != -1)
        switch (o) {
        case 'a':
            if (inet_pton(AF_INET, optarg, &cfg.to.sin_addr) != 1)
                usage();
            break;
        case 'p': cfg.to.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'r': cfg.per_s = atof(optarg); break;
        case 't': cfg.seconds = atof(optarg) < MAX_S ? atof(optarg) : MAX_S; break;
        case 'f':
            if (inet_pton(AF_INET, optarg, &a) != 1)
                usage();
            cfg.from = ntohl(a.s_addr) & 0xffff0000u;
            break;
        case 'c': cfg.n_conns = (unsigned)atoi(optarg); break;
        case 'k': cfg.keep_s = atof(optarg); break;
        default: usage();
        }
    if (cfg.to.sin_port == 0 || cfg.to.sin_addr.s_addr == 0 || cfg.n_conns == 0 ||
        optind != argc - 1)
        usage();
}

int
main(int argc, char **argv)
{
    const char *what;

    read_options(argc, argv);
    what = argv[optind];
    raise_descriptor_limit();
    begun_ns = clock_ns(CLOCK_MONOTONIC);
    if (strcmp(what, "syn") == 0)
        flood_syns();
    else if (strcmp(what, "connect") == 0)
        flood_connections();
    else
        usage();
    return 0;
}
