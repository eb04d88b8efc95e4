/* SPDX-License-Identifier: BSD-2-Clause
 *
 * relay_test.c - many relays under random treatment, on both engines: bytes are copied with
 * back-pressure or spliced, sent in blocks or piece by piece, ends are closed, reset and replaced
 * at any moment.  Whatever comes out must be what went in; the sanitizers watch the rest.
 */
#include "io/harness.h"

#include "base/rand.h"

#define N_RELAYS 24
#define N_STEPS  6000
#define HIGH     100000 /* bytes queued at which reception is turned off */

struct relay {
    struct sock from, to;
    int source, sink;
    size_t poured, sipped;
    size_t back_poured, back_sipped; /* small traffic the other way, spliced or not */
    bool splicing, from_closed, to_closed, broken;
    unsigned n_gone; /* on_closed calls */
};

static struct relay relays[N_RELAYS];
static struct rng rng;
static uint64_t n_moved, n_spliced;

static struct relay *
relay_of_from(struct sock *s)
{
    return container_of(s, struct relay, from);
}

static struct relay *
relay_of_to(struct sock *s)
{
    return container_of(s, struct relay, to);
}

static void
close_both(struct relay *r, bool reset)
{
    if (!r->from_closed)
        sock_close(&r->from, reset);
    if (!r->to_closed)
        sock_close(&r->to, reset);
    r->from_closed = r->to_closed = true;
}

static void
from_recv(struct sock *s, struct block **b)
{
    struct relay *r = relay_of_from(s);

    assert_false(r->from_closed);
    switch (rng_below(&rng, 3)) {
    case 0: sock_send(&r->to, b); break;
    case 1: sock_write(&r->to, block_at(*b), (*b)->len); break;
    default:
        memcpy(sock_reserve(&r->to, (*b)->len), block_at(*b), (*b)->len);
        sock_commit(&r->to, (*b)->len);
    }
    if (sock_unsent(&r->to) > HIGH || rng_below(&rng, 8) == 0)
        sock_recv(s, false);
    if (rng_below(&rng, 500) == 0)
        close_both(r, rng_below(&rng, 2));
}

static void
from_eof(struct sock *s)
{
    close_both(relay_of_from(s), false);
}

static void
any_error(struct relay *r)
{
    r->broken = true;
    close_both(r, true);
}

static void
from_error(struct sock *s, int err)
{
    any_error(relay_of_from(s));
}

static void
to_error(struct sock *s, int err)
{
    any_error(relay_of_to(s));
}

static void
to_drained(struct sock *s)
{
    struct relay *r = relay_of_to(s);

    assert_false(r->to_closed || r->splicing);
    if (rng_below(&rng, 2))
        sock_recv(&r->from, true);
}

static void
from_closed(struct sock *s)
{
    relay_of_from(s)->n_gone++;
}

static void
to_closed(struct sock *s)
{
    relay_of_to(s)->n_gone++;
}

static void
to_recv(struct sock *s, struct block **b)
{
    struct relay *r = relay_of_to(s);

    assert_false(r->from_closed);
    sock_send(&r->from, b);
}

static void
to_eof(struct sock *s)
{
    if (rng_below(&rng, 2))
        close_both(relay_of_to(s), false);
}

static const struct sock_ops from_ops = {
    .on_recv = from_recv, .on_eof = from_eof, .on_error = from_error, .on_closed = from_closed};
static const struct sock_ops to_ops = {.on_recv = to_recv,
                                       .on_eof = to_eof,
                                       .on_drained = to_drained,
                                       .on_error = to_error,
                                       .on_closed = to_closed};

static void
spliced(void *arg, uint64_t moved, int err, bool from_failed)
{
    struct relay *r = arg;

    assert_false(r->from_closed || r->to_closed);
    r->splicing = false;
    n_spliced += moved;
    if (err)
        close_both(r, true);
    else
        sock_recv(&r->from, true);
}

static void
relay_start(struct relay *r)
{
    int fd[2];

    memset(r, 0, sizeof(*r));
    if (rng_below(&rng, 4))
        tcp_pair(fd);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    sock_open(&r->from, L, fd[0], &from_ops);
    r->source = fd[1];
    tcp_pair(fd);
    sock_open(&r->to, L, fd[0], &to_ops);
    r->sink = fd[1];
    sock_recv(&r->from, true);
    sock_recv(&r->to, true);
}

static void
relay_stop(struct relay *r)
{
    if (r->source >= 0)
        close(r->source);
    if (r->sink >= 0)
        close(r->sink);
    close_both(r, rng_below(&rng, 2));
    UNTIL(r->n_gone == 2);
}

static void
drink(struct relay *r, size_t n)
{
    if (r->sink >= 0) {
        size_t got = sip(r->sink, n, r->sipped, NULL);

        r->sipped += got;
        n_moved += got;
    }
}

static void
start_splice(struct relay *r)
{
    if (r->from_closed || r->splicing)
        return;
    sock_recv(&r->from, false);
    r->splicing = sock_splice(&r->from, &r->to, 1 + rng_below(&rng, 300000), spliced, r);
}

static void
reset_end(int *fd)
{
    struct linger l = {.l_onoff = 1};

    if (*fd >= 0 && rng_below(&rng, 2))
        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void
treat(struct relay *r)
{
    switch (rng_below(&rng, 40)) {
    case 0:
        if (!r->from_closed && !r->splicing)
            sock_recv(&r->from, rng_below(&rng, 2));
        break;
    case 1:
    case 2: start_splice(r); break;
    case 3:
        if (rng_below(&rng, 4) == 0)
            close_both(r, rng_below(&rng, 2));
        break;
    case 4:
        if (rng_below(&rng, 6) == 0)
            reset_end(rng_below(&rng, 2) ? &r->source : &r->sink);
        break;
    case 6:
        if (r->sink >= 0)
            r->back_poured += pour(r->sink, rng_below(&rng, 30000), r->back_poured);
        break;
    case 7:
        if (r->source >= 0)
            r->back_sipped += sip(r->source, 30000, r->back_sipped, NULL);
        break;
    case 5:
        if (r->from_closed) {
            relay_stop(r);
            relay_start(r);
        }
        break;
    default:
        if (rng_below(&rng, 2)) {
            if (r->source >= 0)
                r->poured +=
                    pour(r->source, 1 + rng_below(&rng, 1u << rng_below(&rng, 20)), r->poured);
        } else {
            drink(r, 1 + rng_below(&rng, 1u << rng_below(&rng, 20)));
        }
        if (!r->from_closed && !r->splicing && rng_below(&rng, 4) == 0)
            sock_recv(&r->from, true);
    }
}

static void
relays_survive_random_treatment(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        rng_seed(&rng, seed);
        n_moved = n_spliced = 0;
        for (int i = 0; i < N_RELAYS; i++)
            relay_start(&relays[i]);
        for (int i = 0; i < N_STEPS; i++) {
            treat(&relays[rng_below(&rng, N_RELAYS)]);
            if (rng_below(&rng, 3) == 0)
                loop_turn(L, 0);
        }
        for (int i = 0; i < N_RELAYS; i++)
            relay_stop(&relays[i]);
        assert_true(n_moved > 10 << 20 && n_spliced > 1 << 20);
        settle();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(relays_survive_random_treatment),
    };

    return RUN_ON_BOTH(tests);
}
