/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_test.c - connections that others take over: what their owner tells, and what an adopter
 * makes of it.
 *
 * Links, guard and repair are this file's own.  A link gives what is put to a store of replicas as
 * a holder has it, and acknowledges when the test says so.  A dead owner is one whose replica is
 * taken from there; its client is played by the test, on a connection of its own, and says how much
 * it has.
 */
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
static uint32_t
gate_of(uint32_t slot)
{
    return __atomic_load_n(&slots[slot].gate, __ATOMIC_SEQ_CST);
}

static uint32_t
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

static bool
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
                             .buffer_bytes = 4096};

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

static unsigned
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

static bool
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

static void
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

static void
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

static int
die(int fd, uint64_t out_pos)
{
    return take_over(copy_replica(links[owner_of(fd)].store, fd), fd, out_pos);
}

/* --- tests: the owner ---------------------------------------------------------------------------
 */

#define GET   "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST  "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello"

static void
a_response_waits_until_a_holder_knows_the_request(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    assert_true(is_silent(fd));
    assert_int_equal(gate_of(0), RCV_BASE);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + strlen(GET)));
    close(fd);
    AWAIT(frames(WIRE_CLOSE) == 1);
    finish();
}

static void
what_may_not_be_repeated_waits_before_it_leaves(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, POST);
    AWAIT(frames(WIRE_SENT) == 1);
    assert_int_equal(play.s.origin.requests, 0);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 1);
    say(fd, POST);
    AWAIT(frames(WIRE_SENT) == 2);
    assert_int_equal(play.s.origin.requests, 1);
    close(fd); /* the client goes while it waits */
    AWAIT(frames(WIRE_CLOSE) == 1);
    finish();
}

/* Who slept may have lost it to another balancer, and hears of that after the acknowledgement. */
static void
what_may_not_be_repeated_waits_until_this_host_may_speak(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    guard_lease(&the_guard, 0);
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    say(fd, POST);
    AWAIT(COUNT(&play.s, muted) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    guard_lease(&the_guard, MC_NEVER_NS);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    guard_lease(&the_guard, 0);
    say(fd, POST);
    AWAIT(COUNT(&play.s, muted) == 2);
    close(fd); /* the client goes while it waits */
    AWAIT(frames(WIRE_CLOSE) == 1);
    guard_lease(&the_guard, MC_NEVER_NS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 3);
    close(fd);
    finish();
}

/* It was protected a moment ago: others go on from that until they know better. */
static void
what_is_bare_waits_until_holders_know_that(void **state)
{
    static const char head[] = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n";
    char message[sizeof(head) - 1 + 20000], buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    memcpy(message, head, sizeof(head) - 1);
    memset(message + sizeof(head) - 1, 'x', 20000);
    assert_int_equal(send(fd, message, sizeof(message), MSG_NOSIGNAL), sizeof(message));
    AWAIT(frames(WIRE_BARE) == 1);
    AWAIT(COUNT(&play.s, acks_waited) > 0);
    assert_int_equal(play.s.origin.requests, 0);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 1);
    close(fd);
    finish();
}

static void
a_server_that_closes_meanwhile_does_not_end_the_wait(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    say(fd, POST); /* on the connection of the request before */
    AWAIT(frames(WIRE_SENT) == 1);
    shutdown(play.s.origin.last_fd, SHUT_RDWR);
    AWAIT(play.s.origin.accepted == 2);
    assert_int_equal(play.s.origin.requests, 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    close(fd);
    finish();
}

static void
without_a_holder_nothing_waits(void **state)
{
    char buf[4096];
    int fd;

    no_holder = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 0; i < 3; i++) {
        say(fd, i == 1 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    close(fd);
    finish();
}

static void
more_than_is_kept_makes_it_bare_until_the_next_request(void **state)
{
    static const char head[] = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n";
    char body[20000], buf[4096];
    size_t asked = 0;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    memset(body, 'x', sizeof(body));
    say(fd, head);
    assert_int_equal(send(fd, body, sizeof(body), MSG_NOSIGNAL), sizeof(body));
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_BARE), 1);
    assert_true(flags_of(0) & GUARD_SLOT_OPEN);
    /* a client that is quick may ask before its connection is seen to have come to rest */
    for (unsigned n = 0; frames(WIRE_OPEN) < 2 && n < 100; n++, asked += sizeof(GET) - 1) {
        say(fd, GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    assert_int_equal(frames(WIRE_OPEN), 2);
    AWAIT(flags_of(0) == 0);
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + sizeof(head) - 1 + sizeof(body) + asked));
    close(fd);
    finish();
}

static void
what_a_holder_has_no_room_for_is_bare(void **state)
{
    char buf[4096];
    int fd;

    no_room = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 1; i <= 3; i++) { /* it is tried anew each time that it could be protected */
        say(fd, i == 2 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
        AWAIT(COUNT(&play.s, unkept) == i && frames(WIRE_BARE) == i);
        AWAIT(flags_of(0) & GUARD_SLOT_OPEN);
    }
    close(fd);
    finish();
}

/* It is protected as long as the one that keeps it is a holder. */
static void
what_one_of_two_holders_keeps_is_protected(void **state)
{
    char buf[4096];
    int fd;

    no_room = two_holders = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 0; i < 2; i++) {
        say(fd, i == 1 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    AWAIT(COUNT(&play.s, half_kept) > 0 && frames(WIRE_DONE) == 2);
    assert_int_equal(frames(WIRE_BARE), 0);
    assert_int_equal(flags_of(0), 0);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        links[i].one_goes = true;
        kick(&links[i]);
    }
    pthread_mutex_unlock(&lock);
    AWAIT(frames(WIRE_BARE) == 1);
    AWAIT(flags_of(0) & GUARD_SLOT_OPEN);
    assert_int_equal(COUNT(&play.s, unkept), 1);
    close(fd);
    finish();
}

/* The workers go by another configuration; the one before is freed. */
static void
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

static void
what_is_kept_goes_by_the_present_configuration(void **state)
{
    char buf[4096];
    struct snapshot *next;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    play.s.wishes.buffer_bytes = sizeof(GET) - 2;
    next = make_snapshot(&play.s, 2);
    reload(next);
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_BARE), 1);
    close(fd);
    finish();
}

/* --- tests: the adopter --------------------------------------------------------------------------
 */

static void
an_idle_connection_goes_on(void **state)
{
    char buf[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    next = die(fd, n);
    AWAIT(COUNT(&play.s, adopted) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    say(next, POST);
    hear(next, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    assert_int_equal(COUNT(&play.s, replayed), 0);
    close(next);
    close(fd);
    finish();
}

static void
without_its_listener_nothing_of_it_stays(void **state)
{
    char buf[4096];
    struct snapshot *next;
    size_t n;
    int fd, other;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    next = make_snapshot(&play.s, 2);
    next->n_binds = 0;
    reload(next);
    other = die(fd, n);
    AWAIT(n_slots_used() == 1); /* the owner's own */
    assert_int_equal(COUNT(&play.s, adopted), 0);
    close(other);
    close(fd);
    finish();
}

static void
a_request_that_was_not_answered_is_sent_again(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, GET);
    AWAIT(play.s.origin.requests == 1);
    next = die(fd, 0);
    AWAIT(play.s.origin.requests == 2);
    play.s.origin.hold = false;
    hear(next, buf, sizeof(buf), "hello");
    say(next, GET);
    hear(next, buf, sizeof(buf), "hello");
    assert_int_equal(COUNT(&play.s, replayed), 1);
    close(next);
    close(fd);
    finish();
}

/* Wherever it was cut, the client gets the very bytes that it would have got, and the next request
 * is answered. */
static void
cut_anywhere(const char *request, const char *reply, const char *tail, unsigned replicate)
{
    char whole[4096], buf[4096];
    size_t n;
    int fd, next;

    begin(reply, replicate);
    fd = dial();
    say(fd, request);
    n = hear(fd, whole, sizeof(whole), tail);
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j <= n; j++) {
        next = die(fd, j);
        if (next < 0)
            fail_msg("at %zu of %zu", j, n);
        hear_exactly(next, whole + j, n - j);
        say(next, GET);
        hear(next, buf, sizeof(buf), tail);
        close(next);
    }
    assert_int_equal(COUNT(&play.s, broken), 0);
    close(fd);
    finish();
}

static void
a_response_is_carried_on_wherever_it_was_cut(void **state)
{
    cut_anywhere(GET, HELLO, "hello", PROTECT_REQUESTS);
}

static void
a_logged_response_needs_no_server(void **state)
{
    cut_anywhere(POST, HELLO, "hello", PROTECT_RESPONSES);
}

static void
interim_responses_are_a_part_of_it(void **state)
{
    cut_anywhere(GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" HELLO, "hello",
                 PROTECT_REQUESTS);
}

static void
a_response_that_differs_breaks_the_connection(void **state)
{
    static const char *const others[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: \"1\"\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"2\"\r\n\r\nhallo",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "
        "\"1\"\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    };
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t i = 0; i < MC_COUNT(others); i++)
        for (size_t j = 1; j < n; j += n - 3) {
            play.s.origin.reply = others[i];
            next = die(fd, j);
            hear_reset(next);
            close(next);
        }
    AWAIT(COUNT(&play.s, broken) == 2 * MC_COUNT(others));
    close(fd);
    finish();
}

static void
chunks_are_carried_on_until_one_was_sent(void **state)
{
    static const char reply[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    char whole[4096];
    size_t n, head;
    int fd, next;

    begin(reply, PROTECT_RESPONSES);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "0\r\n\r\n");
    head = (size_t)(strstr(whole, "\r\n\r\n") + 4 - whole);
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j < n; j += 5) {
        next = die(fd, j);
        if (j <= head)
            hear_exactly(next, whole + j, n - j);
        else
            hear_reset(next);
        close(next);
    }
    close(fd);
    finish();
}

static void
what_was_sent_and_may_not_be_repeated_is_refused(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, POST);
    AWAIT(play.s.origin.requests == 1);
    next = die(fd, 0);
    hear(next, buf, sizeof(buf), "it may not be sent again\nrequest id: ");
    assert_memory_equal(buf, "HTTP/1.1 502 ", 13);
    assert_non_null(strstr(buf, "it may not be sent again"));
    AWAIT(COUNT(&play.s, refused) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    play.s.origin.hold = false;
    close(next);
    close(fd);
    finish();
}

static void
half_a_request_is_completed_elsewhere(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "POST /a HTTP/1.1\r\nHost: h\r\nCont");
    AWAIT(frames(WIRE_IN) == 1);
    next = die(fd, 0);
    say(next, "ent-Length: 0\r\n\r\n");
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, "HTTP/1.1 200 ", 13);
    close(next);
    close(fd);
    finish();
}

static void
who_sends_again_is_acknowledged_when_a_holder_has_it(void **state)
{
    int fd, next;

    manual_acks = sends_again = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "POST /a HTTP/1.1\r\nHost: h\r\nCont");
    AWAIT(frames(WIRE_IN) == 1);
    next = die(fd, 0);
    AWAIT(frames(WIRE_IN) == 2);
    assert_int_equal(counted(&n_acks), 0);
    let_through();
    AWAIT(counted(&n_acks) == 1);
    close(next);
    close(fd);
    finish();
}

static void
who_rests_is_acknowledged_if_it_waits_for_that(void **state)
{
    char buf[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    for (unsigned i = 0; i < 2; i++) {
        sends_again = i == 1;
        next = die(fd, n);
        AWAIT(COUNT(&play.s, adopted) == i + 1);
        say(next, GET);
        hear(next, buf, sizeof(buf), "hello");
        assert_int_equal(counted(&n_acks), i);
        close(next);
    }
    close(fd);
    finish();
}

/* The first two are answered, the third waits. */
static void
pipelined_requests_are_carried_on(void **state)
{
    char whole[4096];
    size_t n, one;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    one = hear(fd, whole, sizeof(whole), "hello");
    say(fd, GET GET);
    for (n = 0; n < 2 * one;)
        n += hear(fd, whole + n, sizeof(whole) - n, "hello"); /* one or both */
    AWAIT(frames(WIRE_DONE) == 3);
    for (size_t j = one; j <= 3 * one; j += 7) {
        size_t k = j > 2 * one ? j - 2 * one : j - one;

        next = die(fd, j);
        if (next < 0) { /* before the second there is nothing left of the first */
            fail_msg("at %zu of %zu", j, one);
        }
        if (k > 0 || j > 2 * one)
            hear_exactly(next, whole + k, one - k); /* the Date may differ in what follows */
        close(next);
    }
    close(fd);
    finish();
}

/* Both that the client lacks are said, behind one that could not have been. */
static void
logged_responses_follow_one_that_was_not(void **state)
{
    char whole[4096], buf[4096];
    size_t n, have;
    int fd, next;

    begin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n",
          PROTECT_RESPONSES);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "0\r\n\r\n");
    AWAIT(frames(WIRE_DONE) == 1);
    play.s.origin.reply = HELLO;
    say(fd, POST POST);
    have = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 3);
    next = die(fd, n + 10);
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, whole + 10, have < 30 ? have : 20);
    AWAIT(COUNT(&play.s, said) >= 1);
    say(next, POST);
    AWAIT(play.s.origin.requests == 4);
    close(next);
    close(fd);
    finish();
}

/* A replica of two requests in one segment, as the owner of fd would have told it; `more` came
 * behind them.  The response to the first was not logged, that to the second was. */
static struct replica *
two_requests(int fd, const char *more, bool close)
{
    static const char first[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\n";
    static const char second[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    const uint64_t in = strlen(GET), out = strlen(HELLO), all = 2 * in + strlen(more);
    const uint64_t end = out + strlen(second) + 6;
    char text[1024];
    const struct wire_frame frame[] = {
        {.kind = WIRE_OPEN,
         .u.open = {.key = key_of(fd),
                    .params = {.mss = 1460},
                    .rcv_base = RCV_BASE,
                    .snd_base = SND_BASE}},
        {.kind = WIRE_IN, .u.in.bytes = {text, all}},
        {.kind = WIRE_REQ, .u.req = {.repeatable = true}},
        {.kind = WIRE_HEAD, .u.head = {true, {first, strlen(first)}}},
        {.kind = WIRE_DONE, .u.done = {in, out, false}},
        {.kind = WIRE_REQ,
         .u.req = {.in_start = in, .out_start = out, .pipelined = true, .repeatable = true}},
        {.kind = WIRE_HEAD, .u.head = {true, {second, strlen(second)}}},
        {.kind = WIRE_OUT, .u.out.bytes = {"logged", 6}},
        {.kind = WIRE_DONE, .u.done = {2 * in, end, close}},
    };
    struct buf b = {0};
    struct replica *x;

    snprintf(text, sizeof(text), "%s%s%s", GET, GET, more);
    for (size_t i = 0; i < MC_COUNT(frame); i++)
        wire_put(&b, &frame[i]);
    x = replica_read(owner_life, (struct str){b.p, b.n});
    assert_non_null(x);
    buf_free(&b);
    return x;
}

/* As much of it as is taken; whoever reads without a bound takes all. */
static size_t
flood(int fd, const char *text, size_t max)
{
    const size_t n = strlen(text);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    size_t sent = 0;

    while (sent < max && poll(&p, 1, 1000) == 1) {
        ssize_t took = send(fd, text + sent % n, n - sent % n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (took < 0 && errno != EAGAIN)
            break;
        sent += took > 0 ? (size_t)took : 0;
    }
    return sent;
}

#define FLOOD_BYTES ((size_t)16 << 20)

/* A connection that was adopted, whose first request is with a slow server. */
static void
who_sends_on_while_a_server_is_slow_has_to_wait(void **state)
{
    char buf[65536];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    play.s.origin.hold = true;
    next = take_over(two_requests(fd, "", false), fd, 0);
    assert_true(flood(next, GET, FLOOD_BYTES) < FLOOD_BYTES);
    play.s.origin.hold = false;
    hear(next, buf, sizeof(buf), "hello");
    if (strstr(buf, "logged") == NULL)
        hear(next, buf, sizeof(buf), "logged");
    if (strstr(strstr(buf, "logged"), "hello") == NULL)
        hear(next, buf, sizeof(buf), "hello");
    close(next);
    close(fd);
    finish();
}

/* What is not read again since the connection ends is thrown away as any other. */
static void
who_sends_on_behind_the_last_response_is_cut(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    next = take_over(two_requests(fd, GET, true), fd, strlen(HELLO));
    hear(next, buf, sizeof(buf), "logged");
    assert_true(flood(next, GET, FLOOD_BYTES) < FLOOD_BYTES);
    close(next);
    close(fd);
    finish();
}

static void
a_new_holder_knows_as_much(void **state)
{
    char whole[4096];
    struct link *l;
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_RESPONSES);
    fd = dial();
    say(fd, POST);
    n = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->second = make_store(&l->second_line, l->index);
    l->snapshot_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(!is_due(&l->snapshot_due));
    for (size_t j = 1; j <= n; j += 3) {
        next = take_over(copy_replica(l->second, fd), fd, j);
        assert_true(next >= 0);
        hear_exactly(next, whole + j, n - j);
        close(next);
    }
    close(fd);
    finish();
}

/* --- tests: what is special --------------------------------------------------------------------
 */

static void
responses_without_a_body_are_carried_on(void **state)
{
    cut_anywhere("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nETag: \"1\"\r\n\r\n", "\r\n\r\n",
                 PROTECT_REQUESTS);
    cut_anywhere(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", "\r\n\r\n",
                 PROTECT_REQUESTS);
}

static void
answers_of_our_own_are_carried_on(void **state)
{
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n");
    hear(fd, whole, sizeof(whole), "request id: ");
    n = (size_t)(strstr(whole, "request id: ") - whole); /* which is each balancer's own */
    assert_memory_equal(whole, "HTTP/1.1 400 ", 13);
    AWAIT(frames(WIRE_DONE) == 1);
    next = die(fd, 20);
    hear_exactly(next, whole + 20, n - 20);
    hear_end(next);
    close(next);
    close(fd);
    finish();
}

static void
a_last_response_is_followed_by_the_end(void **state)
{
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    n = hear(fd, whole, sizeof(whole), "hello");
    assert_non_null(strstr(whole, "Connection: close"));
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j < n && frames(WIRE_CLOSE) == 0; j += 11) {
        next = die(fd, j);
        hear_exactly(next, whole + j, n - j);
        hear_end(next);
        close(next);
    }
    close(fd);
    AWAIT(frames(WIRE_CLOSE) > 0);
    finish();
}

static void
an_expected_100_is_said_once(void **state)
{
    static const char head[] =
        "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    char buf[4096];
    size_t n;
    int fd, next;

    begin("HTTP/1.1 100 Continue\r\n\r\n", PROTECT_REQUESTS);
    fd = dial();
    say(fd, head);
    n = hear(fd, buf, sizeof(buf), "\r\n\r\n");
    assert_memory_equal(buf, "HTTP/1.1 100 ", 13);
    play.s.origin.reply = "HTTP/1.1 100 Continue\r\n\r\n" HELLO;
    next = die(fd, 7);
    hear_exactly(next, buf + 7, n - 7);
    say(next, "body");
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, "HTTP/1.1 200 ", 13);
    close(next);
    close(fd);
    finish();
}

static void
a_half_closed_connection_ends_as_ever(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    shutdown(fd, SHUT_WR);
    hear_end(fd);
    AWAIT(frames(WIRE_CLOSE) == 1 && COUNT(&play.s, active) == 0);
    close(fd);
    finish();
}

/* --- tests: giving up ---------------------------------------------------------------------------
 */

/* all: nobody knows any more which. */
static void
take_and_expect_silence(bool all)
{
    char buf[4096];
    struct link *l;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->claimed = key_of(fd);
    l->claim_all = all;
    l->claim_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(COUNT(&play.s, claimed) == 1 && COUNT(&play.s, active) == 0);
    assert_int_equal(counted(&n_dropped), 1);
    assert_int_equal(frames(WIRE_CLOSE), 1); /* holders forget it, the client hears nothing */
    close(fd);
    finish();
}

static void
what_others_have_taken_goes_without_a_word(void **state)
{
    take_and_expect_silence(false);
}

static void
all_go_when_nobody_knows_what_was_taken(void **state)
{
    take_and_expect_silence(true);
}

#define H2_GET                                             \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"      /* preface */  \
    "\0\0\0\4\0\0\0\0\0"                    /* SETTINGS */ \
    "\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1h" /* HEADERS: GET http://h/ */

/* Its streams end with it. */
static void
http2_that_others_have_ended_goes_without_a_word(void **state)
{
    struct link *l;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    assert_int_equal(send(fd, H2_GET, sizeof(H2_GET) - 1, MSG_NOSIGNAL), sizeof(H2_GET) - 1);
    AWAIT(play.s.origin.requests == 1);
    AWAIT(frames(WIRE_BARE) == 1);
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->claimed = key_of(fd);
    l->claim_all = false;
    l->claim_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(COUNT(&play.s, claimed) == 1 && COUNT(&play.s, active) == 0);
    assert_int_equal(counted(&n_dropped), 1);
    close(fd);
    finish();
}

static void
a_drain_hands_over(void **state)
{
    char buf[4096];
    int idle, busy;

    begin(HELLO, PROTECT_REQUESTS);
    idle = dial();
    say(idle, GET);
    hear(idle, buf, sizeof(buf), "hello");
    play.s.origin.hold = true;
    busy = dial();
    say(busy, GET);
    AWAIT(play.s.origin.requests == 2);
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_drain(play.s.workers[i], units_clock_ns() + 60 * MC_SEC, 60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_HANDOVER), 1);
    play.s.origin.hold = false;
    hear(busy, buf, sizeof(buf), "hello");
    assert_null(strstr(buf, "Connection: close"));
    AWAIT(COUNT(&play.s, handed_over) == 2);
    AWAIT(play.s.n_drained == N_WORKERS);
    assert_int_equal(counted(&links[0].n_handed_over) + counted(&links[1].n_handed_over), 2);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(idle);
    close(busy);
    finish();
}

/* --- tests: for another process -----------------------------------------------------------------
 */

static bool
all_released(void)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        if (!worker_has_released(play.s.workers[i]))
            return false;
    return true;
}

static void
release(bool on)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_release(play.s.workers[i], on);
}

/* What waited for a holder goes on, and it is known when that has forgotten all.  What may not be
 * repeated is sent then, too. */
static void
who_is_released_waits_for_nobody(void **state)
{
    char buf[4096];
    int idle, busy;

    begin(HELLO, PROTECT_REQUESTS);
    idle = dial();
    say(idle, GET);
    hear(idle, buf, sizeof(buf), "hello");
    busy = dial();
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++)
        links[i].manual = true;
    pthread_mutex_unlock(&lock);
    say(busy, POST);
    AWAIT(frames(WIRE_SENT) == 1);
    say(idle, GET);
    release(true);
    hear(idle, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_CLOSE) == 2); /* each worker is told for itself */
    assert_false(all_released());
    assert_int_equal(play.s.origin.requests, 2);
    let_through();
    hear(busy, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 3);
    AWAIT(all_released());
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(flags_of(i), GUARD_SLOT_OPEN | GUARD_SLOT_CLOSING);
    close(idle);
    close(busy);
    finish();
}

static void
who_is_released_is_protected_anew_if_it_stays(void **state)
{
    char buf[4096];
    int fd, late;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    release(true);
    AWAIT(all_released());
    late = dial();
    for (int i = 0; i < 2; i++) {
        say(i == 0 ? fd : late, GET);
        hear(i == 0 ? fd : late, buf, sizeof(buf), "hello");
    }
    assert_int_equal(frames(WIRE_OPEN), 1);
    assert_int_equal(frames(WIRE_REQ), 1);
    release(false);
    AWAIT(!all_released());
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_OPEN), 2);
    assert_int_equal(frames(WIRE_REQ), 2);
    assert_int_equal(flags_of(0), 0);
    assert_non_null(strstr(buf, "hello"));
    close(fd);
    close(late);
    AWAIT(frames(WIRE_CLOSE) == 2);
    finish();
}

static void
who_comes_while_it_leaves_is_handed_over_too(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_part(play.s.workers[i]);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, handed_over) == 1);
    close(fd);
    finish();
}

static void
part_all(void)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_part(play.s.workers[i]);
}

static void
drain_all(mc_ns left_ns)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_drain(play.s.workers[i], units_clock_ns() + left_ns, 60 * MC_SEC);
}

static void
let_there_be_an_heir(bool is)
{
    pthread_mutex_lock(&lock);
    no_heir = !is;
    pthread_mutex_unlock(&lock);
}

static void
who_never_asked_is_handed_over(void **state)
{
    int silent, slow;

    begin(HELLO, PROTECT_REQUESTS);
    silent = dial();
    slow = dial();
    say(slow, "GET /a HT");
    AWAIT(frames(WIRE_IN) == 1);
    drain_all(60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 2);
    AWAIT(play.s.n_drained == N_WORKERS);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(silent);
    close(slow);
    finish();
}

/* What it says is told, for whoever goes on with it, and not acknowledged here. */
static void
who_asks_while_it_is_handed_over_is_not_answered_here(void **state)
{
    char buf[4096];
    uint32_t gate;
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + strlen(GET)));
    gate = gate_of(0);
    part_all();
    AWAIT(frames(WIRE_HANDOVER) == 1);
    say(fd, GET);
    AWAIT(frames(WIRE_IN) == 2);
    assert_int_equal(gate_of(0), gate);
    let_through();
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    assert_int_equal(frames(WIRE_REQ), 1);
    close(fd);
    finish();
}

/* He may have heard of it: what two serve would reach servers twice. */
static void
what_was_handed_over_is_never_served_again(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    part_all();
    AWAIT(frames(WIRE_HANDOVER) == 1);
    say(fd, POST);
    AWAIT(frames(WIRE_IN) == 2);
    let_there_be_an_heir(false);
    let_through();
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(fd);
    finish();
}

static void
answers_end_nothing_while_an_heir_is_looked_for(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    let_there_be_an_heir(false);
    part_all();
    for (unsigned i = 0; i < 3; i++) {
        say(fd, GET);
        hear(fd, buf, sizeof(buf), "hello");
        assert_null(strstr(buf, "Connection: close"));
    }
    let_there_be_an_heir(true);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    close(fd);
    finish();
}

/* To who does not have it nothing is handed over. */
static void
who_does_not_keep_it_is_no_heir(void **state)
{
    char buf[4096];
    int fd;

    no_room = two_holders = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, half_kept) > 0 && frames(WIRE_DONE) == 1);
    drain_all(50 * MC_MS);
    hear_end(fd);
    assert_int_equal(frames(WIRE_HANDOVER), 0);
    close(fd);
    finish();
}

static void
what_was_bare_is_protected_to_be_handed_over(void **state)
{
    static const char head[] = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n";
    static char body[10001];
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    memset(body, 'x', sizeof(body) - 1);
    fd = dial();
    say(fd, head);
    say(fd, body);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, bare) == 1);
    drain_all(60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_OPEN), 2);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(fd);
    finish();
}

static void
what_is_under_way_when_time_is_over_is_handed_over(void **state)
{
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, GET);
    AWAIT(play.s.origin.requests == 1);
    drain_all(50 * MC_MS);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_HANDOVER), 1);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    assert_int_equal(counted(&n_dropped), 1);
    AWAIT(play.s.n_drained == N_WORKERS);
    close(fd);
    finish();
}

static int
run_on(enum loop_engine e, const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_response_waits_until_a_holder_knows_the_request),
        cmocka_unit_test(what_may_not_be_repeated_waits_before_it_leaves),
        cmocka_unit_test(what_may_not_be_repeated_waits_until_this_host_may_speak),
        cmocka_unit_test(what_is_bare_waits_until_holders_know_that),
        cmocka_unit_test(a_server_that_closes_meanwhile_does_not_end_the_wait),
        cmocka_unit_test(without_a_holder_nothing_waits),
        cmocka_unit_test(more_than_is_kept_makes_it_bare_until_the_next_request),
        cmocka_unit_test(what_a_holder_has_no_room_for_is_bare),
        cmocka_unit_test(what_one_of_two_holders_keeps_is_protected),
        cmocka_unit_test(what_is_kept_goes_by_the_present_configuration),
        cmocka_unit_test(an_idle_connection_goes_on),
        cmocka_unit_test(without_its_listener_nothing_of_it_stays),
        cmocka_unit_test(a_request_that_was_not_answered_is_sent_again),
        cmocka_unit_test(a_response_is_carried_on_wherever_it_was_cut),
        cmocka_unit_test(a_logged_response_needs_no_server),
        cmocka_unit_test(interim_responses_are_a_part_of_it),
        cmocka_unit_test(a_response_that_differs_breaks_the_connection),
        cmocka_unit_test(chunks_are_carried_on_until_one_was_sent),
        cmocka_unit_test(what_was_sent_and_may_not_be_repeated_is_refused),
        cmocka_unit_test(half_a_request_is_completed_elsewhere),
        cmocka_unit_test(who_sends_again_is_acknowledged_when_a_holder_has_it),
        cmocka_unit_test(who_rests_is_acknowledged_if_it_waits_for_that),
        cmocka_unit_test(pipelined_requests_are_carried_on),
        cmocka_unit_test(logged_responses_follow_one_that_was_not),
        cmocka_unit_test(who_sends_on_while_a_server_is_slow_has_to_wait),
        cmocka_unit_test(who_sends_on_behind_the_last_response_is_cut),
        cmocka_unit_test(a_new_holder_knows_as_much),
        cmocka_unit_test(responses_without_a_body_are_carried_on),
        cmocka_unit_test(answers_of_our_own_are_carried_on),
        cmocka_unit_test(a_last_response_is_followed_by_the_end),
        cmocka_unit_test(an_expected_100_is_said_once),
        cmocka_unit_test(a_half_closed_connection_ends_as_ever),
        cmocka_unit_test(what_others_have_taken_goes_without_a_word),
        cmocka_unit_test(all_go_when_nobody_knows_what_was_taken),
        cmocka_unit_test(http2_that_others_have_ended_goes_without_a_word),
        cmocka_unit_test(a_drain_hands_over),
        cmocka_unit_test(who_is_released_waits_for_nobody),
        cmocka_unit_test(who_is_released_is_protected_anew_if_it_stays),
        cmocka_unit_test(who_comes_while_it_leaves_is_handed_over_too),
        cmocka_unit_test(who_never_asked_is_handed_over),
        cmocka_unit_test(who_asks_while_it_is_handed_over_is_not_answered_here),
        cmocka_unit_test(what_was_handed_over_is_never_served_again),
        cmocka_unit_test(answers_end_nothing_while_an_heir_is_looked_for),
        cmocka_unit_test(who_does_not_keep_it_is_no_heir),
        cmocka_unit_test(what_was_bare_is_protected_to_be_handed_over),
        cmocka_unit_test(what_is_under_way_when_time_is_over_is_handed_over),
    };

    engine = e;
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int
main(void)
{
    return run_on(LOOP_EPOLL, "epoll") + run_on(LOOP_AUTO, "auto");
}
