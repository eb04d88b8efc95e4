/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lab.c - laboratories brought up, asked and taken down, from outside; and the janitor.
 */
#include "lab/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "lab/state.h"
#include "lab/warden.h"

#define DOWN_WAIT_MS 20000

bool
lab_name_is_good(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n <= LAB_NAME_MAX && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

void
lab_set_path(void)
{
    const char *path = getenv("PATH");
    char self[PATH_MAX] = "", *both;

    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || strrchr(self, '/') == NULL)
        return;
    *strrchr(self, '/') = '\0';
    both = mc_printf("%s:%s", self, path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
    setenv("PATH", both, 1);
    free(both);
}

/* --- the janitor -------------------------------------------------------------------------------
 */

enum { LOCK_FD = 3, REPORT_FD };

static volatile pid_t warden_pid; /* for the signal handler of this process */

static void
on_term(int sig)
{
    kill(warden_pid, SIGKILL);
}

/* Keeps nothing of whoever called us: no terminal, no pipe that somebody reads to its end. */
static void
detach(int lock, int report)
{
    int null = open("/dev/null", O_RDWR);

    lab_set_path();
    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    lock = fcntl(lock, F_DUPFD, 16); /* out of the way of what follows */
    report = fcntl(report, F_DUPFD, 16);
    dup2(lock, LOCK_FD);
    dup2(report, REPORT_FD);
    close_range(REPORT_FD + 1, ~0U, 0);
    fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC);
    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_NAME, "lab-janitor");
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

/* In the child: the first process of a new PID namespace, which goes when the janitor goes. */
static _Noreturn void
be_warden(const struct lab_up *up, const struct topology *t, int report, int parent)
{
    struct warden w = {.topology = t,
                       .name = up->name,
                       .dir = up->dir,
                       .meercat = up->meercat,
                       .report = report,
                       .socket = -1};
    char *here = mc_strdup(t->path), *state = state_dir(up->name), *socket;
    int32_t pid;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "lab-warden");
    /* a janitor that ended before it could be watched says nothing */
    if (read(parent, &pid, sizeof(pid)) != sizeof(pid))
        _exit(1);
    close(parent);
    w.outer_pid = pid;
    *strrchr(here, '/') = '\0';
    w.here = here;
    socket = mc_printf("%s/socket", state);
    warden_main(&w, socket);
}

/* Waits until the warden has closed what it had open: from then on it is dead or dying.  What it
 * froze must be thawed before the kernel can kill it. */
static void
clean_up_after(const char *name, pid_t warden, int life)
{
    struct groups g;
    char byte;

    while (read(life, &byte, 1) < 0 && errno == EINTR)
        ;
    groups_find("", &g);
    group_thaw_all(&g, name);
    while (waitpid(warden, NULL, 0) < 0 && errno == EINTR)
        ;
    state_remove(name, &g);
    groups_free(&g);
}

static _Noreturn void
be_janitor(const struct lab_up *up, const struct topology *t, int lock, int report)
{
    int life[2], tell[2];
    int32_t number;
    pid_t pid;

    detach(lock, report);
    if (pipe2(life, O_CLOEXEC) < 0 || pipe2(tell, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0 ||
        !state_put_janitor(up->name, getpid()) || (pid = fork()) < 0) {
        dprintf(REPORT_FD, "processes of its own: %s", strerror(errno));
        _exit(1);
    }
    if (pid == 0) {
        close(life[0]);
        close(tell[1]);
        be_warden(up, t, REPORT_FD, tell[0]);
    }
    close(life[1]);
    close(tell[0]);
    close(REPORT_FD);
    warden_pid = pid;
    signal(SIGTERM, on_term);
    number = pid;
    if (write(tell[1], &number, sizeof(number)) != sizeof(number))
        kill(pid, SIGKILL);
    clean_up_after(up->name, pid, life[0]);
    _exit(0);
}

/* --- up ----------------------------------------------------------------------------------------
 */

/* What comes through the pipe until it is closed. */
static void
read_report(int fd, char *out, size_t bytes)
{
    size_t n = 0;
    ssize_t got = 1;

    while (n < bytes - 1 && got != 0) {
        got = read(fd, out + n, bytes - 1 - n);
        if (got < 0 && errno != EINTR)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    out[n] = '\0';
}

static enum mc_err
bring_up(const struct lab_up *up, const struct topology *t, int lock, struct errbuf *e)
{
    char text[sizeof(e->text)];
    int report[2];
    pid_t janitor;

    if (pipe2(report, O_CLOEXEC) < 0)
        return err_sys(e, "pipe");
    fflush(NULL);
    janitor = fork();
    if (janitor == 0)
        be_janitor(up, t, lock, report[1]);
    close(report[1]);
    if (janitor < 0) {
        close(report[0]);
        return err_sys(e, "fork");
    }
    read_report(report[0], text, sizeof(text));
    close(report[0]);
    if (strcmp(text, "ok") == 0)
        return MC_OK;
    err_set(e, "%s", text[0] != '\0' ? text : "it was killed on its way up");
    while (waitpid(janitor, NULL, 0) < 0 && errno == EINTR)
        ;
    return MC_ESYS;
}

enum mc_err
lab_up(const struct lab_up *wanted, const struct topology *t, struct errbuf *e)
{
    struct lab_up up = *wanted;
    char *state = state_dir(up.name);
    int lock;
    enum mc_err rv;

    if (geteuid() != 0) {
        err_set(e, "namespaces, links and control groups are root's to make: run as root");
        rv = MC_ENOTSUP;
    } else {
        rv = state_claim(up.name, &lock, e);
    }
    if (rv == MC_OK) {
        up.dir = up.dir ? up.dir : state;
        rv = bring_up(&up, t, lock, e);
        close(lock);
    }
    free(state);
    return rv;
}

/* --- down --------------------------------------------------------------------------------------
 */

enum mc_err
lab_down(const char *name, struct errbuf *e)
{
    int watch = state_watch(name);
    pid_t janitor = state_janitor(name);

    if (watch < 0) {
        state_sweep();
        err_set(e, "\"%s\" is not up", name);
        return MC_ENOENT;
    }
    if (janitor <= 0 || kill(janitor, SIGTERM) < 0) {
        close(watch);
        err_set(e, "\"%s\": its janitor cannot be found", name);
        return MC_ESYS;
    }
    if (!state_wait_gone(watch, DOWN_WAIT_MS)) {
        err_set(e, "\"%s\" has not ended after %d s", name, DOWN_WAIT_MS / 1000);
        return MC_ETIME;
    }
    return MC_OK;
}

void
lab_sweep(void)
{
    state_sweep();
}

/* --- who is up ---------------------------------------------------------------------------------
 */

struct names {
    char **v;
    unsigned n;
};

static void
add_name(const char *name, void *arg)
{
    struct names *names = arg;

    if (!state_is_held(name))
        return;
    names->v = mc_realloc(names->v, (names->n + 1) * sizeof(*names->v));
    names->v[names->n++] = mc_strdup(name);
}

unsigned
lab_list(char ***out)
{
    struct names names = {0};

    state_each(add_name, &names);
    *out = names.v;
    return names.n;
}

void
lab_list_free(char **names, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* --- asking ------------------------------------------------------------------------------------
 */

static int
connect_to(const char *name, struct errbuf *e)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    char *dir = state_dir(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/socket", dir);
    free(dir);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
        err_sys(e, name);
        err_wrap(e, "laboratory");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static bool
send_words(int fd, unsigned n, char *const words[])
{
    struct buf b = {0};
    bool ok;

    for (unsigned i = 0; i < n; i++)
        buf_add(&b, words[i], strlen(words[i]) + 1);
    ok = send(fd, b.p, b.n, MSG_NOSIGNAL) == (ssize_t)b.n && shutdown(fd, SHUT_WR) == 0;
    buf_free(&b);
    return ok;
}

/* The first byte, and the descriptors that come with it. */
static bool
receive_head(int fd, struct lab_reply *r)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(LAB_FDS_MAX * sizeof(int))];
    } control;
    char first;
    struct iovec iov = {&first, 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *c;

    if (recvmsg(fd, &m, MSG_CMSG_CLOEXEC) != 1)
        return false;
    c = CMSG_FIRSTHDR(&m);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        r->n_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(r->fds, CMSG_DATA(c), r->n_fds * sizeof(int));
    }
    r->ok = first == '+';
    return true;
}

enum mc_err
lab_ask(const char *name, unsigned n, char *const words[], struct lab_reply *r, struct errbuf *e)
{
    int fd = connect_to(name, e);
    enum mc_err rv = MC_OK;
    char chunk[16384];
    ssize_t got;

    *r = (struct lab_reply){0};
    if (fd < 0)
        return MC_ESYS;
    if (!send_words(fd, n, words) || !receive_head(fd, r)) {
        err_set(e, "laboratory %s: no answer", name);
        rv = MC_ESYS;
    }
    while (rv == MC_OK && (got = read(fd, chunk, sizeof(chunk))) > 0 && r->text.n < LAB_REPLY_MAX)
        buf_add(&r->text, chunk, (size_t)got);
    close(fd);
    return rv;
}

void
lab_reply_free(struct lab_reply *r)
{
    for (unsigned i = 0; i < r->n_fds; i++)
        close(r->fds[i]);
    buf_free(&r->text);
    *r = (struct lab_reply){0};
}
