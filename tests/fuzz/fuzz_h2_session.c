/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h2_session.c - any bytes as what an HTTP/2 client sends.
 *
 * A worker without control, one connection, no route: requests are answered with 404.  Never a
 * crash, whatever is asked in whatever pieces; and when the client has gone nothing of it is left:
 * neither stream nor transaction nor block.
 *
 * The first byte says whether a preface and SETTINGS are put before the rest, the second in which
 * pieces it comes.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "proxy/conn.h"
#include "proxy/down_h2.h"
#include "proxy/upconn.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static struct listener_live live = {.name = (char *)"web"};
static struct listener listener = {
    .conf = {.name = (char *)"web",
             .head_timeout_ns = 100 * MC_SEC,
             .body_timeout_ns = 100 * MC_SEC,
             .keep_alive_timeout_ns = 100 * MC_SEC,
             .send_timeout_ns = 100 * MC_SEC,
             .body_max_bytes = 100000,
             .h2 = H2_CONF_DEFAULT,
             .forward = FORWARD_X},
    .live = &live,
};
static struct snapshot snapshot = {
    .generation = 1, .listeners = &listener, .n_listeners = 1, .node = (char *)"fuzz"};
static struct worker *worker;

static void
make_worker(void)
{
    struct worker_conf wc = {.engine = LOOP_EPOLL, .cpu = -1};
    struct loop_conf lc = {.engine = LOOP_EPOLL};
    struct errbuf err;

    listener.conf.limits = h1_default_limits;
    worker = worker_new(&wc, &err);
    MC_ASSERT(worker != NULL);
    worker->loop = loop_new(&lc, &err);
    worker->idle = idle_new(upconn_idle_evict, worker);
    tls_turns_init(&worker->tls_turns, worker->loop);
    turns_init(&worker->turns, worker->loop, &worker->stats.turns_deferred);
    gen_make_current(worker, &snapshot);
}

static void
take_turns(int peer, unsigned n)
{
    char sink[65536];

    for (unsigned i = 0; i < n; i++) {
        loop_turn(worker->loop, 0);
        while (read(peer, sink, sizeof(sink)) > 0)
            ;
    }
}

static void
say(int peer, const void *p, size_t n)
{
    (void)!send(peer, p, n, MSG_NOSIGNAL);
    take_turns(peer, 4);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char hello[] = H2_PREFACE "\0\0\0\4\0\0\0\0";
    size_t piece;
    int fds[2];

    if (n < 2)
        return 0;
    if (worker == NULL)
        make_worker();
    MC_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    atomic_fetch_add(&live.connections, 1);
    conn_accept(worker, &live, NULL, fds[0], 80, 0);
    if (data[0] & 1)
        say(fds[1], hello, sizeof(hello));
    piece = data[1] == 0 ? n : data[1];
    for (size_t at = 2; at < n; at += piece)
        say(fds[1], data + at, n - at < piece ? n - at : piece);
    take_turns(fds[1], 4);
    close(fds[1]);
    for (unsigned i = 0; i < 1000 && worker->n_conns > 0; i++)
        loop_turn(worker->loop, MC_MS);
    MC_ASSERT(worker->n_conns == 0);
    MC_ASSERT(worker->h2_slab.n_used == 0 && worker->h2_stream_slab.n_used == 0);
    MC_ASSERT(worker->txn_slab.n_used == 0 && worker->conn_slab.n_used == 0);
    MC_ASSERT(block_pool_used(loop_blocks(worker->loop)) <= 2); /* the engine's own */
    return 0;
}
