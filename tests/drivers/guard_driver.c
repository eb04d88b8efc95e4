/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_driver.c - a balancer of which only the guard is left, done by hand: reads a command a line
 * and answers each with a line, "ok ..." or "no WHY".  For tests/net/test_40_guard.py.
 *
 * COMMANDS is what it can; addresses are written as in configurations, flows as two of them (the
 * client's, ours), bytes in hex, connections are numbers that the driver gave.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/forward.h"
#include "takeover/guard.h"
#include "takeover/probe.h"
#include "takeover/repair.h"

#define PATIENCE_MS 20000
#define CONNS_MAX   1024
#define WORDS_MAX   24
#define BYTES_MAX   65536

struct conn {
    int fd;
    struct flow_key key;
    uint32_t slot; /* GUARD_NO_SLOT: not protected */
};

static struct guard *guard;
static struct probe *probe;
static struct forward *forward;
static struct conn conns[CONNS_MAX];
static unsigned n_conns;
static int listener = -1;
static char *word[WORDS_MAX];
static unsigned n_words;
static struct errbuf eb;

static void
say(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
}

static void
answer(enum mc_err err)
{
    if (err == MC_OK)
        say("ok");
    else
        say("no %s", eb.text[0] != '\0' ? eb.text : mc_err_text(err));
}

static void
answer_sys(bool good)
{
    answer(good ? MC_OK : err_sys(&eb, word[0]));
}

/* --- words -------------------------------------------------------------------------------------
 */

static const char *
text(unsigned i)
{
    if (i >= n_words) {
        fprintf(stderr, "guard_driver: %s wants more words\n", word[0]);
        exit(2);
    }
    return word[i];
}

static uint32_t
number(unsigned i)
{
    return (uint32_t)strtoul(text(i), NULL, 0);
}

static struct addr
address(unsigned i)
{
    struct addr a = {.len = 0};

    if (addr_parse(str_of(text(i)), &a, NULL, NULL, &eb) != MC_OK) {
        fprintf(stderr, "guard_driver: %s\n", eb.text);
        exit(2);
    }
    return a;
}

static struct flow_key
flow(unsigned i)
{
    struct addr remote = address(i), local = address(i + 1);
    struct flow_key k;

    MC_ASSERT(flow_key_of(&k, &local, &remote));
    return k;
}

static void
say_flow(const struct flow_key *k)
{
    struct addr local, remote;
    char from[ADDR_TEXT], to[ADDR_TEXT];

    flow_key_addrs(k, &local, &remote);
    say(" %s %s", addr_text(&remote, from), addr_text(&local, to));
}

static size_t
bytes(unsigned i, uint8_t out[BYTES_MAX])
{
    const char *hex = text(i);
    size_t n = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
    unsigned v;

    MC_ASSERT(n <= BYTES_MAX);
    for (size_t k = 0; k < n; k++) {
        MC_ASSERT(sscanf(hex + 2 * k, "%2x", &v) == 1);
        out[k] = (uint8_t)v;
    }
    return n;
}

static void
say_bytes(const uint8_t *p, size_t n)
{
    say(" %s", n == 0 ? "-" : "");
    for (size_t i = 0; i < n; i++)
        say("%02x", p[i]);
}

static struct conn *
conn(unsigned i)
{
    MC_ASSERT(number(i) < n_conns);
    return &conns[number(i)];
}

static bool
is_ready(int fd, short events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, timeout_ms) == 1;
}

/* --- the guard ---------------------------------------------------------------------------------
 */

/* open FLOWS IFACE ADDRESS ... */
static void
do_open(void)
{
    const char *interface = text(2);
    struct addr ports[WORDS_MAX];
    struct guard_conf conf = {
        .interfaces = &interface, .n_interfaces = 1, .ports = ports, .flows = number(1)};
    enum mc_err err;

    for (unsigned i = 3; i < n_words; i++)
        ports[conf.n_ports++] = address(i);
    err = guard_open(&conf, &guard, &eb);
    if (err == MC_OK && probe == NULL)
        probe = probe_open(&eb);
    if (err == MC_OK && probe != NULL && forward == NULL)
        forward = forward_open(&eb);
    answer(err == MC_OK && forward == NULL ? MC_ENOTSUP : err);
}

/* close keep | remove */
static void
do_close(void)
{
    guard_close(&guard, strcmp(text(1), "remove") == 0);
    answer(MC_OK);
}

/* ports ADDRESS ... */
static void
do_ports(void)
{
    struct addr ports[WORDS_MAX];
    unsigned n = 0;

    for (unsigned i = 1; i < n_words; i++)
        ports[n++] = address(i);
    answer(guard_ports_set(guard, ports, n, &eb));
}

/* lease MS | never: from now on; negative: it ran out that long ago */
static void
do_lease(void)
{
    if (strcmp(text(1), "never") == 0)
        guard_lease(guard, MC_NEVER_NS);
    else
        guard_lease(guard, units_clock_ns() + strtoll(text(1), NULL, 0) * MC_MS);
    answer(MC_OK);
}

/* heir INDEX */
static void
do_heir(void)
{
    guard_heir(guard, number(1));
    answer(MC_OK);
}

/* peer INDEX ALIVE IFACE MAC */
static void
do_peer(void)
{
    uint8_t mac[6];
    unsigned v[6];

    MC_ASSERT(sscanf(text(4), "%x:%x:%x:%x:%x:%x", v, v + 1, v + 2, v + 3, v + 4, v + 5) == 6);
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)v[i];
    answer(guard_peer_set(guard, number(1), number(2) != 0, if_nametoindex(text(3)), mac, &eb));
}

/* away CLIENT ADDRESS INDEX */
static void
do_away(void)
{
    struct flow_key k = flow(1);

    guard_away_set(guard, &k, number(3));
    answer(MC_OK);
}

/* release CLIENT ADDRESS */
static void
do_release(void)
{
    struct flow_key k = flow(1);

    guard_release(guard, &k);
    answer(MC_OK);
}

static void
say_packet(void *arg, const struct guard_packet *p)
{
    say("ok");
    say_flow(&p->key);
    say(" %u %u %u %u %u %u %u %u", p->flags, p->seq, p->ack, p->window, p->has_ts, p->ts,
        p->ts_echo, p->from_peer);
    say_bytes(p->payload, p->n_payload);
}

/* held MS: one packet, or "ok" alone */
static void
do_held(void)
{
    if (!is_ready(guard_fd(guard), POLLIN, (int)number(1)) ||
        guard_poll(guard, say_packet, NULL, 1) == 0)
        answer(MC_OK);
}

static void
send_home(void *arg, const struct guard_packet *p)
{
    answer_sys(forward_home(forward, p));
}

/* home MS: one packet, to the kernel here */
static void
do_home(void)
{
    if (!is_ready(guard_fd(guard), POLLIN, (int)number(1)) ||
        guard_poll(guard, send_home, NULL, 1) == 0)
        say("no packet");
}

/* stats: NAME=VALUE ... */
static void
do_stats(void)
{
    struct guard_stats s;

    guard_stats(guard, &s);
    say("ok");
    for (unsigned i = 0; i < GUARD_N_COUNTERS; i++)
        say(" %s=%" PRIu64, guard_counter_name(i), s.n[i]);
}

/* interfaces: NAME MAC ADDRESS/PREFIX ... of the first */
static void
do_interfaces(void)
{
    struct guard_interface one;
    char at[ADDR_TEXT];

    if (guard_interfaces(guard, &one, 1) != 1) {
        say("no interface");
        return;
    }
    say("ok %s %02x:%02x:%02x:%02x:%02x:%02x", one.name, one.mac[0], one.mac[1], one.mac[2],
        one.mac[3], one.mac[4], one.mac[5]);
    for (unsigned i = 0; i < one.n_addrs; i++)
        say(" %s/%u", addr_ip_text(&one.addr[i].base, at), one.addr[i].prefix_bits);
}

/* --- connections -------------------------------------------------------------------------------
 */

/* listen ADDRESS */
static void
do_listen(void)
{
    struct addr a = address(1);
    int yes = 1;

    listener = socket(a.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    answer_sys(bind(listener, &a.u.sa, a.len) == 0 && listen(listener, 128) == 0);
}

static struct conn *
keep(int fd, const struct flow_key *k)
{
    MC_ASSERT(n_conns < CONNS_MAX);
    conns[n_conns] = (struct conn){.fd = fd, .key = *k, .slot = GUARD_NO_SLOT};
    return &conns[n_conns++];
}

/* accept PROTECTED: CONN CLIENT ADDRESS RECV_BASE SEND_BASE MSS SEND_SCALE RECV_SCALE OPTIONS TS */
static void
do_accept(void)
{
    struct tcp_params p;
    struct flow_key k;
    uint32_t recv_base, send_base;
    struct conn *c;
    int fd =
        is_ready(listener, POLLIN, PATIENCE_MS) ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    enum mc_err err;

    if (fd < 0 || !flow_key_of_socket(&k, fd)) {
        say("no connection");
        return;
    }
    c = keep(fd, &k);
    err = repair_bases(fd, &recv_base, &send_base, &p, &eb);
    if (err == MC_OK && number(1) != 0)
        err = guard_flow_add(guard, &k, recv_base, &c->slot);
    answer(err);
    if (err != MC_OK)
        return;
    say(" %u", n_conns - 1);
    say_flow(&k);
    say(" %u %u %u %u %u %u %u", recv_base, send_base, p.mss, p.send_scale, p.recv_scale, p.options,
        p.ts);
}

/* recv CONN N: the bytes, at most N and at least one; none at the end */
static void
do_recv(void)
{
    static uint8_t in[BYTES_MAX];
    struct conn *c = conn(1);
    size_t most = number(2) < sizeof(in) ? number(2) : sizeof(in);
    ssize_t n = is_ready(c->fd, POLLIN, PATIENCE_MS) ? recv(c->fd, in, most, 0) : -1;

    answer_sys(n >= 0);
    if (n >= 0)
        say_bytes(in, (size_t)n);
}

/* send CONN BYTES */
static void
do_send(void)
{
    static uint8_t out[BYTES_MAX];
    size_t n = bytes(2, out), done = 0;
    struct conn *c = conn(1);
    ssize_t rv = 0;

    while (done < n && rv >= 0 && is_ready(c->fd, POLLOUT, PATIENCE_MS)) {
        rv = send(c->fd, out + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        done += rv > 0 ? (size_t)rv : 0;
    }
    answer_sys(done == n);
}

/* gate CONN SEQ: 1 when an acknowledgement had been held */
static void
do_gate(void)
{
    say("ok %d", guard_gate(guard, conn(1)->slot, number(2)));
}

/* flags CONN FLAGS */
static void
do_flags(void)
{
    guard_flags(guard, conn(1)->slot, number(2));
    answer(MC_OK);
}

/* ack CONN */
static void
do_ack(void)
{
    guard_ack_begin(guard, conn(1)->slot);
    repair_ack(conn(1)->fd);
    guard_ack_end(guard, conn(1)->slot);
    answer(MC_OK);
}

/* drop CONN: silently */
static void
do_drop(void)
{
    struct conn *c = conn(1);

    repair_drop(c->fd);
    answer_sys(close(c->fd) == 0);
}

/* shut CONN: close(2), as a process does that ends */
static void
do_shut(void)
{
    answer_sys(close(conn(1)->fd) == 0);
}

/* end CONN: what is meant */
static void
do_end(void)
{
    struct conn *c = conn(1);

    guard_closing(guard, c->slot);
    guard_flow_del(guard, &c->key, c->slot);
    answer_sys(close(c->fd) == 0);
}

/* add CLIENT ADDRESS GATE: a flow alone, without a connection */
static void
do_add(void)
{
    struct flow_key k = flow(1);
    struct conn *c = keep(-1, &k);

    answer(guard_flow_add(guard, &k, number(3), &c->slot));
    say(" %u", n_conns - 1);
}

/* del CONN: the flow alone */
static void
do_del(void)
{
    struct conn *c = conn(1);

    guard_flow_del(guard, &c->key, c->slot);
    answer(MC_OK);
}

/* rebuild CLIENT ADDRESS MSS SEND_SCALE RECV_SCALE OPTIONS RECV_NEXT SEND_NEXT WINDOW TS ECHO
 * BYTES: CONN TAKEN */
static void
do_rebuild(void)
{
    static uint8_t payload[BYTES_MAX];
    struct repair r = {
        .key = flow(1),
        .params = {.mss = (uint16_t)number(3),
                   .send_scale = (uint8_t)number(4),
                   .recv_scale = (uint8_t)number(5),
                   .options = (uint8_t)number(6)},
        .recv_next = number(7),
        .send_next = number(8),
        .window = (uint16_t)number(9),
        .ts = number(10),
        .ts_echo = number(11),
        .payload = payload,
        .n_payload = bytes(12, payload),
    };
    size_t taken;
    struct conn *c;
    int fd;
    enum mc_err err = repair_rebuild(&r, &fd, &taken, &eb);

    if (err == MC_OK) {
        c = keep(fd, &r.key);
        err = guard_flow_add(guard, &r.key, r.recv_next + (uint32_t)taken, &c->slot);
    }
    answer(err);
    if (err == MC_OK)
        say(" %u %zu", n_conns - 1, taken);
}

/* orphans ADDRESS: how many */
static void
do_orphans(void)
{
    struct addr a = address(1);
    int n = repair_destroy_orphans(&a, 1, &eb);

    answer(n < 0 ? MC_ESYS : MC_OK);
    if (n >= 0)
        say(" %d", n);
}

/* alive CLIENT ADDRESS OPTIONS SEND_NEXT ACK TS */
static void
do_alive(void)
{
    struct flow_key k = flow(1);
    struct tcp_params p = {.options = (uint8_t)number(3)};

    answer_sys(probe_alive(probe, &k, &p, number(4), number(5), number(6)));
}

/* nudge CLIENT ADDRESS SEQ */
static void
do_nudge(void)
{
    struct flow_key k = flow(1);

    answer_sys(probe_nudge(probe, &k, number(3)));
}

/* reset CLIENT ADDRESS SEND_NEXT ACK */
static void
do_reset(void)
{
    struct flow_key k = flow(1);

    answer_sys(probe_reset(probe, &k, number(3), number(4)));
}

/* clear IFACE: 1 when there was a guard */
static void
do_clear(void)
{
    bool was = false;

    answer(guard_clear(text(1), &was, &eb));
    say(" %d", was);
}

#define COMMANDS(X) \
    X(open)         \
    X(close)        \
    X(ports)        \
    X(lease)        \
    X(heir)         \
    X(peer)         \
    X(away)         \
    X(release)      \
    X(held)         \
    X(home)         \
    X(stats)        \
    X(interfaces)   \
    X(listen)       \
    X(accept)       \
    X(recv)         \
    X(send)         \
    X(gate)         \
    X(flags)        \
    X(ack)          \
    X(drop)         \
    X(shut)         \
    X(end)          \
    X(add)          \
    X(del)          \
    X(rebuild)      \
    X(orphans)      \
    X(alive)        \
    X(nudge)        \
    X(reset)        \
    X(clear)

static const struct {
    const char *name;
    void (*fn)(void);
} commands[] = {
#define X(name) {#name, do_##name},
    COMMANDS(X)
#undef X
};

static bool
run(char *line)
{
    char *save = NULL;

    n_words = 0;
    for (char *w = strtok_r(line, " \n", &save); w != NULL && n_words < WORDS_MAX;
         w = strtok_r(NULL, " \n", &save))
        word[n_words++] = w;
    eb.text[0] = '\0';
    for (size_t i = 0; n_words > 0 && i < MC_COUNT(commands); i++) {
        if (strcmp(commands[i].name, word[0]) != 0)
            continue;
        commands[i].fn();
        printf("\n");
        fflush(stdout);
        return true;
    }
    return false;
}

int
main(void)
{
    char *line = NULL;
    size_t cap = 0;

    while (getline(&line, &cap, stdin) > 0)
        if (!run(line)) {
            fprintf(stderr, "guard_driver: no such command\n");
            return 2;
        }
    free(line);
    probe_close(&probe);
    forward_close(&forward);
    guard_close(&guard, false);
    return 0;
}
