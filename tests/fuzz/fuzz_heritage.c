/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_heritage.c - any text as what a process leaves to the next: each descriptor goes to one who
 * asks for it, or is closed, and what is told is within its bounds.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "control/heritage.h"
#include "takeover/takeover.h"

#define N_FDS 6

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Each was given to one at most. */
static void
take(const int *fds, bool *taken, int fd)
{
    if (fd < 0)
        return;
    for (unsigned i = 1; i < N_FDS; i++)
        if (fds[i] == fd) {
            MC_ASSERT(!taken[i]);
            taken[i] = true;
            close(fd);
            return;
        }
    MC_NEVER("a descriptor that was not left");
}

static void
take_sockets(struct heritage *h, const int *fds, bool *taken, const struct addr *at)
{
    struct cluster_heritage c;
    struct takeover_heritage t;

    take(fds, taken, heritage_admin(h, at));
    take(fds, taken, heritage_access_log(h, "/var/log/meercat/access.log"));
    if (heritage_cluster(h, at, &c)) {
        take(fds, taken, c.udp);
        take(fds, taken, c.tcp);
    }
    heritage_takeover(h, at, &t);
    MC_ASSERT(t.n_peers <= TAKEOVER_PEERS_MAX);
    for (unsigned i = 0; i < t.n_peers; i++)
        MC_ASSERT(t.peer[i].id != 0 && t.peer[i].addr.len > 0);
    take(fds, taken, t.udp);
    take(fds, taken, t.tcp);
}

static void
read_rest(struct heritage *h)
{
    struct fleet *f = fleet_new(1, NULL, NULL, NULL, NULL);
    struct binds *b = binds_new(1);
    struct buf words = {0};
    struct keyfile secret;
    struct addr_net vip;
    const char *interface;

    for (unsigned i = 0; heritage_vip(h, i, &vip, &interface); i++)
        MC_ASSERT(vip.prefix_bits <= 128 && interface != NULL);
    for (unsigned i = 0; heritage_member(h, i) != NULL; i++)
        ;
    heritage_words(h, &words);
    (void)heritage_withdrawn(h);
    if (heritage_secret(h, &secret))
        MC_ASSERT(secret.n > 0 && secret.n <= KEYFILE_KEYS_MAX);
    heritage_costs(h, f);
    heritage_servers(h, f);
    heritage_binds(h, b);
    buf_free(&words);
    binds_free(&b);
    fleet_free(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool taken[N_FDS] = {false};
    struct errbuf e = {""};
    struct heritage *h = NULL;
    struct addr at;
    int fds[N_FDS];

    fds[0] = memfd_create("fuzz", MFD_CLOEXEC);
    MC_ASSERT(fds[0] >= 0 && write(fds[0], data, n) == (ssize_t)n);
    MC_ASSERT(lseek(fds[0], 0, SEEK_SET) == 0);
    for (unsigned i = 1; i < N_FDS; i++)
        fds[i] = dup(STDERR_FILENO);
    if (heritage_read(fds, N_FDS, &h, &e) == MC_OK) {
        MC_ASSERT(addr_parse_ip(STR("127.0.0.1"), 80, &at));
        take_sockets(h, fds, taken, &at);
        read_rest(h);
        heritage_free(&h);
    } else {
        MC_ASSERT(e.text[0] != '\0');
    }
    for (unsigned i = 0; i < N_FDS; i++)
        MC_ASSERT(fcntl(fds[i], F_GETFD) < 0);
    return 0;
}
