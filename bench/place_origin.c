/* SPDX-License-Identifier: BSD-2-Clause
 *
 * place_origin.c - the server that stands behind the balancers in bench/placement and tools/demo:
 * it needs what a request says it needs.
 *
 *   /CLASS/ANYTHING?cpu=US&wait=US&mem=MB
 *
 * burns so much CPU (by the clock of the thread: what the quota of its control group takes away is
 * not counted), waits so long in the midst of it as if for a database, and holds so much memory,
 * each page touched, until it answers.  When the memory cannot be had (RLIMIT_DATA) the answer is
 * 503.  A connection has a thread, so requests share the CPU as the kernel shares it out.
 *
 * --burn ON_MS:OFF_MS is the noisy neighbour: serves nothing, burns CPU by turns.  Where there are
 * no control groups to share with it, SIGUSR1 makes the server behave as beside one, which gets
 * three of four slices of its processor, until SIGUSR2.
 *
 * It trusts whoever talks to it: never put it on a network. */
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tool.h"

#define HEAD_BYTES  8192 /* largest request head */
#define STACK_BYTES 65536u
#define PAGE        4096u
#define MOST_US     60000000l /* no request needs more: stops a typing error */
#define MOST_MB     4096l
#define SLICE_US    1000 /* of processor time, while a neighbour wants its own */
#define NEIGHBOURS  3    /* slices that it gets for each of ours */

struct need {
    long cpu_us, wait_us, mem_mb;
};

static struct {
    const char *name;
    double slow; /* times the CPU that is asked for */
} cfg = {.name = "origin", .slow = 1};

static volatile sig_atomic_t has_neighbour;

/* --- what a request needs ----------------------------------------------------------------------
 */

static void
wait_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};

    while (nanosleep(&t, &t) < 0)
        ;
}

static void
burn_until(int64_t thread_ns)
{
    int64_t now = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    while (now < thread_ns) {
        int64_t slice = now + SLICE_US * 1000ll, end = slice < thread_ns ? slice : thread_ns;

        while ((now = clock_ns(CLOCK_THREAD_CPUTIME_ID)) < end)
            ;
        if (has_neighbour)
            wait_us(NEIGHBOURS * SLICE_US);
    }
}

/* NULL: there is no room. */
static char *
hold(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* touching shall not be what costs */
    for (size_t i = 0; i < bytes; i += PAGE)
        p[i] = 1;
    return p;
}

/* False: it could not be had. */
static bool
do_work(const struct need *n)
{
    int64_t begun = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t cpu_ns = (int64_t)((double)n->cpu_us * 1e3 * cfg.slow);
    size_t bytes = (size_t)n->mem_mb << 20;
    char *held = NULL;

    if (bytes > 0 && (held = hold(bytes)) == NULL)
        return false;
    burn_until(begun + cpu_ns / 2);
    if (n->wait_us > 0)
        wait_us(n->wait_us);
    burn_until(begun + cpu_ns);
    if (held != NULL)
        munmap(held, bytes);
    return true;
}

/* --- a connection ------------------------------------------------------------------------------
 */

static long
number_of(const char *line, const char *name, long most)
{
    const char *at = strstr(line, name);
    long v = at == NULL ? 0 : strtol(at + strlen(name), NULL, 10);

    return v < 0 ? 0 : v > most ? most : v;
}

static bool
send_all(int fd, const char *text, size_t n)
{
    for (ssize_t sent; n > 0; text += sent, n -= (size_t)sent)
        if ((sent = send(fd, text, n, MSG_NOSIGNAL)) <= 0)
            return false;
    return true;
}

static bool
answer(int fd, const char *head)
{
    struct need n;
    char text[256], line[512];
    bool ok;

    snprintf(line, sizeof line, "%.*s", (int)strcspn(head, "\r"), head);
    n = (struct need){number_of(line, "cpu=", MOST_US), number_of(line, "wait=", MOST_US),
                      number_of(line, "mem=", MOST_MB)};
    ok = do_work(&n);
    return send_all(fd, text,
                    (size_t)snprintf(text, sizeof text,
                                     "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                                     "Content-Length: 3\r\nX-Server: %.70s\r\n\r\n%s",
                                     ok ? "200 OK" : "503 Service Unavailable", cfg.name,
                                     ok ? "ok\n" : "no\n"));
}

/* One request after the other; none has a body. */
static void *
serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[HEAD_BYTES + 1], *end;
    size_t n = 0;
    ssize_t got;

    while ((got = recv(fd, head + n, HEAD_BYTES - n, 0)) > 0) {
        n += (size_t)got;
        head[n] = '\0';
        while ((end = strstr(head, "\r\n\r\n")) != NULL) {
            if (!answer(fd, head))
                goto out;
            n -= (size_t)(end + 4 - head);
            memmove(head, end + 4, n + 1);
        }
    }
out:
    close(fd);
    return NULL;
}

static void
accept_for_ever(int listener)
{
    pthread_attr_t attr;
    pthread_t thread;
    int fd, one = 1;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (;;) {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != ECONNABORTED)
            die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fd >= 0 && pthread_create(&thread, &attr, serve, (void *)(intptr_t)fd) != 0)
            close(fd); /* the memory is full: whoever connected sees it */
    }
}

/* --- the program -------------------------------------------------------------------------------
 */

static void
on_neighbour(int sig)
{
    has_neighbour = sig == SIGUSR1;
}

static void
burn_by_turns(const char *turns)
{
    int on_ms, off_ms;

    if (sscanf(turns, "%d:%d", &on_ms, &off_ms) != 2 || on_ms <= 0 || off_ms <= 0) {
        errno = EINVAL;
        die(turns);
    }
    for (;;) {
        int64_t end = clock_ns(CLOCK_MONOTONIC) + on_ms * 1000000ll;

        while (clock_ns(CLOCK_MONOTONIC) < end)
            burn_until(clock_ns(CLOCK_THREAD_CPUTIME_ID) + 100000);
        wait_us(off_ms * 1000l);
    }
}

static void
limit_memory(long mb)
{
    struct rlimit limit = {(rlim_t)mb << 20, (rlim_t)mb << 20};

    if (mb > 0 && setrlimit(RLIMIT_DATA, &limit) < 0)
        die("cannot limit memory");
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},   {"name", required_argument, NULL, 'n'},
        {"mem-mb", required_argument, NULL, 'm'}, {"slow", required_argument, NULL, 's'},
        {"burn", required_argument, NULL, 'b'},   {NULL, 0, NULL, 0},
    };
    long mem_mb = 0;
    uint16_t port = 9000;
    int o;

    while ((o = getopt_long(argc, argv, "p:n:m:s:b:", options, NULL)) != -1)
        switch (o) {
        case 'p': port = (uint16_t)atoi(optarg); break;
        case 'n': cfg.name = optarg; break;
        case 'm': mem_mb = atol(optarg); break;
        case 's': cfg.slow = atof(optarg); break;
        case 'b': burn_by_turns(optarg); break;
        default:
            fputs("usage: place_origin [--port P] [--name NAME] [--mem-mb N] [--slow TIMES]\n"
                  "       place_origin --burn ON_MS:OFF_MS\n",
                  stderr);
            return 2;
        }
    raise_descriptor_limit();
    limit_memory(mem_mb);
    signal(SIGUSR1, on_neighbour);
    signal(SIGUSR2, on_neighbour);
    accept_for_ever(listen_at("127.0.0.1", port, 0));
}
