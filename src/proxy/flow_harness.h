/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_harness.h - for the tests of flows: links, a guard, and connections that die and go on.
 *
 * Links, guard and repair are this file's own.  A link gives what is put to a store of replicas as
 * a holder has it, and acknowledges when the test says so.  A dead owner is one whose replica is
 * taken from there; its client is played by the test, on a connection of its own, and says how much
 * it has.
 *
 * A test begins with begin() and ends with finish(); it is the main thread, workers have theirs.
 */
#ifndef MC_PROXY_FLOW_HARNESS_H
#define MC_PROXY_FLOW_HARNESS_H

#include "proxy/harness.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include "proxy/conn.h"
#include "proxy/flow.h"
#include "takeover/guard.h"
#include "takeover/link.h"
#include "takeover/replica.h"
#include "takeover/repair.h"
#include "takeover/takeover.h"

#define RCV_BASE 0xfffffff0u /* wraps soon */
#define SND_BASE 0xffffff00u
#define N_SLOTS  64

/* --- a link whose holder is a store --------------------------------------------------------------
 */

struct link {
    unsigned index;
    struct loop *loop;
    struct link_hooks hooks;
    struct watch watch;
    int event_fd;
    uint64_t put, acked;
    bool closed;
    /* under the lock: */
    struct replica_store *store, *second;
    struct replica_line *line, *second_line;
    unsigned n[32];   /* frames by kind */
    bool manual;      /* acknowledgements wait for let_through() */
    bool alone;       /* no holder */
    bool two;         /* beside the store there is one that keeps all */
    bool one_goes;    /* that one */
    uint32_t refused; /* by the holder, not told yet: 1 + the flow's number */
    uint64_t acks_due;
    struct adopted *adopted;
    bool snapshot_due, claim_due, claim_all;
    struct flow_key claimed;
    unsigned n_handed_over;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct link links[N_WORKERS];
static bool manual_acks, no_holder, no_room, two_holders;
static struct access_log *access_log;
static bool no_heir; /* under the lock; there is a holder, but not to hand anything over to */

static struct guard_slot slots[N_SLOTS];
static struct guard_state guard_state;
static struct guard the_guard = {.state = &guard_state, .slots = slots};
static bool slot_used[N_SLOTS];
static unsigned n_dropped, n_acks;
static bool sends_again; /* what comes from the client of a dead owner has bytes */

static int owners[1024]; /* of the client's end of a connection, once asked for */

static const struct life owner_life = {7, 1}, adopter_life = {8, 1};

static void
tell(struct replica_line *line, const struct wire_frame *w)
{
    struct buf b = {0};
    enum replica_fault fault;

    wire_put(&b, w);
    fault = replica_line_read(line, (struct str){b.p, b.n}, 1);
    if (fault != REPLICA_F_NONE)
        fail_msg("frame %s: %s", wire_kind_text(w->kind), replica_fault_text(fault));
    buf_free(&b);
}

static enum owner_word
dead(void *arg, struct life owner, uint32_t epoch)
{
    return OWNER_DEAD;
}

static struct replica_store *
make_store(struct replica_line **line, unsigned worker)
{
    const struct replica_conf conf = {
        .self = adopter_life, .owner = dead, .total_bytes = no_room ? 1 : 0};
    struct replica_store *s = replica_store_new(&conf);
    struct wire_frame hello = {
        .kind = WIRE_HELLO,
        .u.hello = {.owner = owner_life, .worker = (uint16_t)worker, .epoch = 1}};

    *line = replica_line_new(s, 1);
    tell(*line, &hello);
    return s;
}

static void
finish_snapshot(struct replica_line *line)
{
    struct wire_frame w = {.kind = WIRE_SNAPSHOT};

    tell(line, &w);
}

/* On the worker's thread, between two events. */
static void
on_event(struct watch *w, unsigned revents)
{
    struct link *l = container_of(w, struct link, watch);
    bool snapshot, claim, all, acked, one_goes;
    struct adopted *a;
    uint32_t refused;
    uint64_t n;

    assert_int_equal(read(l->event_fd, &n, sizeof(n)), sizeof(n));
    watch_arm(w, POLLIN);
    pthread_mutex_lock(&lock);
    acked = l->acks_due > l->acked;
    l->acked = acked ? l->acks_due : l->acked;
    a = l->adopted;
    snapshot = l->snapshot_due;
    claim = l->claim_due;
    all = l->claim_all;
    refused = l->refused;
    one_goes = l->one_goes;
    l->two &= !one_goes;
    l->one_goes = false;
    l->adopted = NULL;
    l->refused = 0;
    pthread_mutex_unlock(&lock);
    if (refused != 0)
        l->hooks.on_refused(l->hooks.arg, refused - 1, 0);
    if (one_goes)
        l->hooks.on_let_go(l->hooks.arg, 1);
    if (acked)
        l->hooks.on_acked(l->hooks.arg, l->acked);
    if (a != NULL)
        l->hooks.on_adopted(l->hooks.arg, &a);
    if (snapshot) {
        for (uint32_t i = 0; l->hooks.on_snapshot(l->hooks.arg, i); i++)
            ;
        finish_snapshot(l->second_line);
    }
    if (claim)
        l->hooks.on_claimed(l->hooks.arg, all ? NULL : &l->claimed, all ? 0 : 1);
    pthread_mutex_lock(&lock);
    l->snapshot_due = l->claim_due = false;
    pthread_mutex_unlock(&lock);
}

static void
kick(struct link *l)
{
    uint64_t one = 1;

    assert_int_equal(write(l->event_fd, &one, sizeof(one)), sizeof(one));
}

struct link *
link_new(struct takeover *t, unsigned index, struct loop *loop, const struct link_hooks *hooks,
         struct errbuf *e)
{
    struct link *l = &links[index];

    *l = (struct link){.index = index, .loop = loop, .hooks = *hooks, .manual = manual_acks};
    l->alone = no_holder;
    l->two = two_holders;
    l->store = make_store(&l->line, index);
    finish_snapshot(l->line);
    l->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    watch_init(&l->watch, loop, l->event_fd, on_event);
    watch_arm(&l->watch, POLLIN);
    return l;
}

void
link_close(struct link *l)
{
    watch_drop(&l->watch);
    close(l->event_fd);
    l->closed = true;
}

bool
link_is_gone(const struct link *l)
{
    return l->closed;
}

void
link_free(struct link **lp)
{
    replica_store_free(&(*lp)->store);
    if ((*lp)->second != NULL)
        replica_store_free(&(*lp)->second);
    *lp = NULL;
}

uint64_t
link_put(struct link *l, const struct wire_frame *w)
{
    const uint32_t *refused;

    pthread_mutex_lock(&lock);
    l->n[w->kind]++;
    tell(l->line, w);
    if (replica_line_refused(l->line, &refused) > 0)
        l->refused = 1 + refused[0];
    l->put++;
    if (!l->manual && !l->alone) {
        l->acks_due = l->put;
        kick(l);
    }
    pthread_mutex_unlock(&lock);
    return l->put;
}

uint64_t
link_acked(const struct link *l)
{
    return l->alone ? l->put : l->acked;
}

void
link_tell(struct link *l, const struct wire_frame *w)
{
    tell(l->second_line, w);
}

struct life
link_heir(const struct link *l, uint32_t but)
{
    struct life heir;

    pthread_mutex_lock(&lock);
    heir = l->alone || no_heir || (but & 1) ? (struct life){0, 0} : adopter_life;
    pthread_mutex_unlock(&lock);
    return heir;
}

/* That of the store has the first place. */
uint32_t
link_keepers(const struct link *l)
{
    uint32_t places;

    pthread_mutex_lock(&lock);
    places = l->alone ? 0 : l->two ? 3 : 1;
    pthread_mutex_unlock(&lock);
    return places;
}

bool
link_is_at(const struct link *l, struct life who, unsigned place)
{
    return place == 0 && life_eq(who, adopter_life);
}

bool
link_expects_heir(const struct link *l)
{
    return !l->alone;
}

void
link_handed_over(struct link *l, const struct flow_key *k, struct life heir)
{
    pthread_mutex_lock(&lock);
    l->n_handed_over++;
    pthread_mutex_unlock(&lock);
}

const struct link_stats *
link_stats(const struct link *l)
{
    static const struct link_stats none;

    return &none;
}

/* --- a guard and a kernel that can be repaired --------------------------------------------------
 */

struct guard *
takeover_guard(const struct takeover *t)
{
    return &the_guard;
}

/* The program reads them while workers write. */
static uint32_t UNUSED
gate_of(uint32_t slot)
{
    return __atomic_load_n(&slots[slot].gate, __ATOMIC_SEQ_CST);
}

static uint32_t UNUSED
flags_of(uint32_t slot)
{
    return __atomic_load_n(&slots[slot].flags, __ATOMIC_SEQ_CST);
}

enum mc_err
guard_flow_add(struct guard *g, const struct flow_key *k, uint32_t gate, uint32_t *slot)
{
    pthread_mutex_lock(&lock);
    for (*slot = 0; slot_used[*slot]; (*slot)++)
        assert_true(*slot + 1 < N_SLOTS);
    slot_used[*slot] = true;
    slots[*slot] = (struct guard_slot){.gate = gate};
    pthread_mutex_unlock(&lock);
    return MC_OK;
}

void
guard_flow_del(struct guard *g, const struct flow_key *k, uint32_t slot)
{
    pthread_mutex_lock(&lock);
    assert_true(slot_used[slot]);
    slot_used[slot] = false;
    pthread_mutex_unlock(&lock);
}

enum mc_err
repair_bases(int fd, uint32_t *rcv, uint32_t *snd, struct tcp_params *p, struct errbuf *e)
{
    *rcv = RCV_BASE;
    *snd = SND_BASE;
    *p = (struct tcp_params){.mss = 1460};
    return MC_OK;
}

void
repair_drop(int fd)
{
    pthread_mutex_lock(&lock);
    n_dropped++;
    pthread_mutex_unlock(&lock);
}

void
repair_ack(int fd)
{
    pthread_mutex_lock(&lock);
    n_acks++;
    pthread_mutex_unlock(&lock);
}

/* --- the stage ----------------------------------------------------------------------------------
 */

static enum loop_engine engine = LOOP_EPOLL;

#define AWAIT(cond)                                        \
    do {                                                   \
        mc_ns give_up_ns = units_clock_ns() + 20 * MC_SEC; \
        while (!(cond)) {                                  \
            if (units_clock_ns() > give_up_ns)             \
                fail_msg("never: %s", #cond);              \
            usleep(500);                                   \
        }                                                  \
    } while (0)

static unsigned
frames(enum wire_kind kind)
{
    unsigned n = 0;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++)
        n += links[i].n[kind];
    pthread_mutex_unlock(&lock);
    return n;
}

static unsigned
counted(const unsigned *n)
{
    unsigned v;

    pthread_mutex_lock(&lock);
    v = *n;
    pthread_mutex_unlock(&lock);
    return v;
}

static bool UNUSED
is_due(const bool *due)
{
    bool v;

    pthread_mutex_lock(&lock);
    v = *due;
    pthread_mutex_unlock(&lock);
    return v;
}

static uint64_t
flow_count(const struct stage *s, size_t counter)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < N_WORKERS; i++)
        n += stat_get((const stat_u64 *)((const char *)worker_flow_stats(s->workers[i]) + counter));
    return n;
}
#define COUNT(s, name) flow_count((s), offsetof(struct flow_stats, name))

/* Acknowledges all that was put. */
static void
let_through(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        links[i].acks_due = links[i].put;
        kick(&links[i]);
    }
    pthread_mutex_unlock(&lock);
}

struct play {
    struct stage s;
    struct snapshot *snap;
};

static struct play play;

static void
begin(const char *reply, unsigned replicate)
{
    const struct wishes w = {.reply = reply,
                             .engine = engine,
                             .takeover = (struct takeover *)&the_guard,
                             .replicate = replicate,
                             .buffer_bytes = 4096,
                             .log = access_log};

    n_dropped = n_acks = 0;
    guard_lease(&the_guard, MC_NEVER_NS);
    for (size_t i = 0; i < MC_COUNT(owners); i++)
        owners[i] = -1;
    memset(slot_used, 0, sizeof(slot_used));
    set_stage(&play.s, &w, &play.snap);
}

static void
finish(void)
{
    play.s.origin.hold = false;
    strike_stage(&play.s);
    for (unsigned i = 0; i < N_SLOTS; i++)
        assert_false(slot_used[i]);
    free_snapshot(play.snap);
    end_stage(&play.s);
    manual_acks = no_holder = no_heir = no_room = two_holders = sends_again = false;
}

static unsigned UNUSED
n_slots_used(void)
{
    unsigned n = 0;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_SLOTS; i++)
        n += slot_used[i];
    pthread_mutex_unlock(&lock);
    return n;
}

static int
dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(play.s.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void
say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool UNUSED
is_silent(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/* Reads until the text has come. */
static size_t
hear(int fd, char *buf, size_t room, const char *text)
{
    size_t n = 0;

    while (memmem(buf, n, text, strlen(text)) == NULL) {
        ssize_t got = recv(fd, buf + n, room - 1 - n, 0);

        if (got <= 0)
            fail_msg("after \"%.*s\": %s", (int)n, buf, got == 0 ? "end" : strerror(errno));
        n += (size_t)got;
    }
    buf[n] = '\0';
    return n;
}

static void UNUSED
hear_exactly(int fd, const char *text, size_t n)
{
    char buf[65536];
    size_t have = 0;

    assert_true(n < sizeof(buf));
    while (have < n) {
        ssize_t got = recv(fd, buf + have, n - have, 0);

        if (got <= 0)
            fail_msg("after \"%.*s\": %s", (int)have, buf, got == 0 ? "end" : strerror(errno));
        have += (size_t)got;
    }
    if (memcmp(buf, text, n) != 0)
        fail_msg("\"%.*s\" is not \"%.*s\"", (int)n, buf, (int)n, text);
}

/* The rest does not matter. */
static void
hear_end(int fd)
{
    char buf[4096];
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        ;
    assert_int_equal(n, 0);
}

static void UNUSED
hear_reset(int fd)
{
    char buf[4096];
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        ;
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
}

/* --- death and adoption -------------------------------------------------------------------------
 */

static struct flow_key
key_of(int fd)
{
    struct flow_key here, k;

    assert_true(flow_key_of_socket(&here, fd));
    k = (struct flow_key){.local_port = here.remote_port, .remote_port = here.local_port};
    memcpy(k.local, here.remote, sizeof(k.local));
    memcpy(k.remote, here.local, sizeof(k.remote));
    return k;
}

/* The first to hold it: an adopter tells a holder of its own. */
static unsigned
owner_of(int fd)
{
    const struct flow_key k = key_of(fd);

    for (unsigned i = 0; i < N_WORKERS && owners[fd] < 0; i++) {
        struct replica_found f;

        pthread_mutex_lock(&lock);
        replica_find(links[i].store, &k, adopter_life, &f);
        pthread_mutex_unlock(&lock);
        if (f.whose == REPLICA_FREE)
            owners[fd] = (int)i;
    }
    assert_true(owners[fd] >= 0);
    return (unsigned)owners[fd];
}

/* A copy of what the holder has. */
static struct replica *
copy_replica(struct replica_store *s, int fd)
{
    const struct flow_key k = key_of(fd);
    struct buf b = {0};
    struct replica_found f;
    struct replica *x;

    pthread_mutex_lock(&lock);
    replica_find(s, &k, adopter_life, &f);
    assert_int_equal(f.whose, REPLICA_FREE);
    replica_write(f.replica, &b);
    pthread_mutex_unlock(&lock);
    x = replica_read(owner_life, (struct str){b.p, b.n});
    assert_non_null(x);
    buf_free(&b);
    return x;
}

static void
tcp_pair(int fd[2])
{
    uint16_t port = 0;
    int lfd = listen_on(&port);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd p = {.fd = lfd, .events = POLLIN};
    struct timeval limit = {.tv_sec = 20};

    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(poll(&p, 1, 20000), 1);
    fd[1] = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd[1] >= 0);
    setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    close(lfd);
}

static bool
is_taken(struct link *l)
{
    bool taken;

    pthread_mutex_lock(&lock);
    taken = l->adopted == NULL;
    pthread_mutex_unlock(&lock);
    return taken;
}

/* What becomes of the client on fd when its owner is dead and it has out_pos bytes of responses:
 * the end of its that lives, or -1 when the plan says that it cannot be carried on. */
static int
take_over(struct replica *x, int fd, uint64_t out_pos)
{
    struct adopted *a = mc_alloc(sizeof(*a));
    struct link *l = &links[1 - owner_of(fd)];
    int pair[2];

    a->replica = x;
    a->key = x->key;
    a->from = mc_strdup("lb7");
    a->ack_due = sends_again;
    replica_plan(x, SND_BASE + (uint32_t)out_pos, replica_rcv_next(x), &a->plan);
    if (a->plan.broken != REPLICA_BROKEN_NONE) {
        print_message("broken: %s\n", replica_broken_text(a->plan.broken));
        a->fd = -1;
        adopted_free(&a);
        return -1;
    }
    tcp_pair(pair);
    a->fd = pair[1];
    guard_flow_add(&the_guard, &a->key, RCV_BASE + (uint32_t)a->plan.in_pos, &a->slot);
    pthread_mutex_lock(&lock);
    l->adopted = a;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(is_taken(l));
    return pair[0];
}

static int UNUSED
die(int fd, uint64_t out_pos)
{
    return take_over(copy_replica(links[owner_of(fd)].store, fd), fd, out_pos);
}

#define GET   "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST  "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello"

/* The workers go by another configuration; the one before is freed. */
static void UNUSED
reload(struct snapshot *next)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_adopt(play.s.workers[i], next);
    for (unsigned i = 0; i < N_WORKERS; i++)
        while (play.s.released[i] < play.snap->generation)
            loop_turn(play.s.control, MC_MS);
    free_snapshot(play.snap);
    play.snap = next;
}

/* --- running ------------------------------------------------------------------------------------
 */

/* With each engine; returns how many have failed. */
#define RUN_ON_ENGINES(tests) \
    (run_on(LOOP_EPOLL, "epoll", tests) + run_on(LOOP_AUTO, "auto", tests))
#define run_on(e, name, tests) (engine = (e), cmocka_run_group_tests_name(name, tests, NULL, NULL))

#endif
