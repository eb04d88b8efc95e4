/* SPDX-License-Identifier: BSD-2-Clause
 *
 * warden.c - the life of a laboratory: built, asked, gone.  See warden.h.
 */
#include "lab/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

#define ASK_WAIT_MS     2000 /* somebody who connects and says nothing keeps nobody waiting longer */
#define ORDER_WORDS_MAX 64

/* --- small things ------------------------------------------------------------------------------
 */

struct expand
warden_expand(const struct warden *w, const struct warden_host *h)
{
    return (struct expand){
        .topology = w->topology,
        .host = h ? h->conf : NULL,
        .dir = h ? h->dir : NULL,
        .lab = w->dir,
        .here = w->here,
        .meercat = w->meercat,
    };
}

char *
warden_line(const struct warden *w, const struct warden_host *h, const struct topology_line *l)
{
    const struct expand x = warden_expand(w, h);
    struct buf out = {0};
    struct errbuf e;
    size_t offset;

    /* that every placeholder is known was checked when the topology was read */
    MC_ASSERT(expand(&x, str_of(l->text), &out, &offset, &e) == MC_OK);
    return out.p != NULL ? out.p : mc_strdup("");
}

/* Takes note of every child that has ended. */
static void
reap(struct warden *w)
{
    struct signalfd_siginfo si;
    int status;
    pid_t pid;

    while (read(w->signals, &si, sizeof(si)) > 0)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        work_ended(w, pid, status);
}

enum mc_err
warden_pause(struct warden *w, int ms, struct errbuf *e)
{
    /* the other end of a pipe that is closed shows as an error; a negative descriptor is left out
     */
    struct pollfd p[] = {{.fd = w->signals, .events = POLLIN}, {.fd = w->report}};

    poll(p, 2, ms);
    reap(w);
    if (p[1].revents & POLLERR) {
        err_set(e, "nobody waits any more");
        return MC_ESYS;
    }
    return MC_OK;
}

/* --- building ----------------------------------------------------------------------------------
 */

/* Its own /proc, and the other one kept: those outside know processes by other numbers. */
static enum mc_err
settle(struct warden *w, struct errbuf *e)
{
    sigset_t mask;

    w->outer_proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->outer_proc < 0)
        return err_sys(e, "/proc");
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS) < 0)
        return err_sys(e, "namespaces");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(e, "mount /proc");
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    w->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signals < 0)
        return err_sys(e, "signalfd");
    umask(022);
    if (space_open(&w->home, e) != MC_OK)
        return MC_ESYS;
    int pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    procs_ns_text(pid_ns, w->pid_ns);
    close(pid_ns);
    return MC_OK;
}

static enum mc_err
limit_host(struct warden *w, struct warden_host *h, struct errbuf *e)
{
    enum mc_err rv = group_make(&w->groups, h->group, e);

    h->cpu_ppm = h->conf->cpu_ppm;
    if (rv == MC_OK && h->cpu_ppm > 0)
        rv = group_cpu(&w->groups, h->group, h->cpu_ppm, e);
    if (rv == MC_OK && h->conf->memory_bytes > 0)
        rv = group_memory(&w->groups, h->group, h->conf->memory_bytes, e);
    if (rv != MC_OK)
        err_wrap(e, "%s:%u: host %s", h->conf->at.file, h->conf->at.line, h->conf->name);
    return rv;
}

static enum mc_err
prepare_hosts(struct warden *w, struct errbuf *e)
{
    unsigned n = w->topology->n_hosts;
    enum mc_err rv = MC_OK;

    groups_find("", &w->groups);
    w->hosts = mc_alloc((n + 1) * sizeof(*w->hosts));
    for (unsigned i = 0; i < n && rv == MC_OK; i++) {
        struct warden_host *h = &w->hosts[i];

        h->conf = &w->topology->hosts[i];
        h->space = SPACE_NONE;
        h->dir = mc_printf("%s/%s", w->dir, h->conf->name);
        h->group = mc_printf("%s/%s", w->name, h->conf->name);
        h->procs = mc_alloc((h->conf->n_starts + 1) * sizeof(*h->procs));
        for (unsigned k = 0; k < h->conf->n_starts; k++)
            h->procs[k].conf = &h->conf->starts[k];
        if (mkdir(h->dir, 0755) < 0 && errno != EEXIST)
            rv = err_sys(e, h->dir);
        else
            rv = limit_host(w, h, e);
    }
    return rv;
}

static enum mc_err
listen_at(struct warden *w, const char *path, struct errbuf *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    w->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (w->socket < 0 || strlen(path) >= sizeof(sun.sun_path))
        return err_sys(e, path);
    strcpy(sun.sun_path, path);
    if (bind(w->socket, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(w->socket, 16) < 0)
        return err_sys(e, path);
    return MC_OK;
}

static enum mc_err
build(struct warden *w, const char *socket_path, struct errbuf *e)
{
    enum mc_err rv = settle(w, e);

    if (rv == MC_OK)
        rv = prepare_hosts(w, e);
    if (rv == MC_OK)
        rv = build_networks(w, e);
    if (rv == MC_OK)
        rv = work_prepare(w, e);
    if (rv == MC_OK)
        rv = build_files(w, e);
    if (rv == MC_OK)
        rv = listen_at(w, socket_path, e);
    if (rv == MC_OK)
        rv = work_start_all(w, e);
    return rv;
}

/* --- orders ------------------------------------------------------------------------------------
 */

/* All that they say until they have said it; false when that takes too long or is too much. */
static bool
read_request(int fd, struct buf *b)
{
    struct timeval tv = {ASK_WAIT_MS / 1000, ASK_WAIT_MS % 1000 * 1000};
    char chunk[4096];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    while ((n = read(fd, chunk, sizeof(chunk))) > 0 && b->n + (size_t)n <= LAB_REQUEST_MAX)
        buf_add(b, chunk, (size_t)n);
    return n == 0;
}

/* The first byte says how it went and carries the descriptors. */
static void
send_reply(int fd, bool ok, const struct order_reply *r)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(LAB_FDS_MAX * sizeof(int))];
    } control = {0};
    char first = ok ? '+' : '-';
    struct iovec iov = {&first, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t sent = 0;

    if (r->n_fds > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(r->n_fds * sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(r->n_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.head), r->fds, r->n_fds * sizeof(int));
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) != 1)
        return;
    while (sent < r->text.n) {
        ssize_t n = send(fd, r->text.p + sent, r->text.n - sent, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        sent += (size_t)n;
    }
}

/* Words are separated by NUL. */
static unsigned
split(struct buf *b, char *words[ORDER_WORDS_MAX + 1])
{
    unsigned n = 0;

    for (size_t at = 0; at < b->n && n < ORDER_WORDS_MAX; at += strlen(b->p + at) + 1)
        words[n++] = b->p + at;
    words[n] = NULL;
    return n;
}

static void
answer(struct warden *w, int fd)
{
    char *words[ORDER_WORDS_MAX + 1];
    struct order_reply r = {0};
    struct buf request = {0};
    struct errbuf e = {""};
    unsigned n;
    bool ok;

    if (read_request(fd, &request)) {
        n = split(&request, words);
        ok = order_run(w, n, words, &r, &e) == MC_OK;
        if (!ok) {
            buf_free(&r.text);
            buf_printf(&r.text, "%s", e.text);
        }
        send_reply(fd, ok, &r);
    }
    for (unsigned i = 0; i < r.n_fds; i++)
        if (r.fds[i] >= 0)
            close(r.fds[i]);
    buf_free(&r.text);
    buf_free(&request);
    close(fd);
}

static _Noreturn void
serve(struct warden *w)
{
    struct pollfd p[] = {{.fd = w->signals, .events = POLLIN}, {.fd = w->socket, .events = POLLIN}};

    while (true) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            _exit(1);
        reap(w);
        if (p[1].revents & POLLIN) {
            /* cppcheck-suppress nullPointer; only root can connect */
            int fd = accept4(w->socket, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0)
                answer(w, fd);
        }
    }
}

void
warden_main(struct warden *w, const char *socket_path)
{
    struct errbuf e = {""};
    enum mc_err rv = build(w, socket_path, &e);
    const char *text = rv == MC_OK ? "ok" : e.text;

    if (write(w->report, text, strlen(text)) < 0 || rv != MC_OK)
        _exit(1);
    close(w->report);
    w->report = -1;
    serve(w);
}
