/* SPDX-License-Identifier: BSD-2-Clause
 *
 * run.c - programs run to their end, see run.h.
 */
#include "lab/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

#define SAID_BYTES_MAX 65536u

/* A file in memory with this content, at its begin; -1 and errno. */
static int
memory_file(struct str content)
{
    int fd = memfd_create("lab", MFD_CLOEXEC);

    while (fd >= 0 && content.n > 0) {
        ssize_t n = write(fd, content.p, content.n);

        if (n < 0) {
            close(fd);
            return -1;
        }
        content = (struct str){content.p + n, content.n - (size_t)n};
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}

void
run_reset_signals(void)
{
    static const int ours[] = {SIGPIPE, SIGINT, SIGHUP};
    sigset_t none;

    for (unsigned i = 0; i < MC_COUNT(ours); i++)
        signal(ours[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: becomes the program, or says why not. */
static _Noreturn void
become(const struct space *space, const char *dir, const char *const argv[], int input, int said)
{
    struct errbuf e;

    dup2(input, STDIN_FILENO);
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    run_reset_signals();
    if (space != NULL && space_enter(space, &e) != MC_OK) {
        dprintf(STDERR_FILENO, "%s\n", e.text);
        _exit(127);
    }
    if (dir != NULL && chdir(dir) < 0) {
        dprintf(STDERR_FILENO, "%s: %s\n", dir, strerror(errno));
        _exit(127);
    }
    execvp(argv[0], (char *const *)argv); /* which does not write to them */
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

enum mc_err
run_start(struct run *r, const struct space *space, const char *dir, const char *const argv[],
          struct str input, struct errbuf *e)
{
    int in = memory_file(input);
    enum mc_err rv = MC_OK;

    r->pid = 0;
    r->said = memory_file(STR_NONE);
    if (in < 0 || r->said < 0)
        rv = err_sys(e, argv[0]);
    else if ((r->pid = fork()) == 0)
        become(space, dir, argv, in, r->said);
    else if (r->pid < 0)
        rv = err_sys(e, argv[0]);
    if (in >= 0)
        close(in);
    if (rv != MC_OK && r->said >= 0)
        close(r->said);
    if (rv != MC_OK)
        r->pid = 0;
    return rv;
}

void
run_finish(struct run *r, int *status, struct buf *said)
{
    char chunk[4096];
    ssize_t n;

    MC_ASSERT(r->pid > 0);
    while (waitpid(r->pid, status, 0) < 0)
        MC_ASSERT(errno == EINTR);
    lseek(r->said, 0, SEEK_SET);
    while (said->n < SAID_BYTES_MAX && (n = read(r->said, chunk, sizeof(chunk))) > 0)
        buf_add(said, chunk, (size_t)n);
    close(r->said);
    *r = (struct run){0, -1};
}

enum mc_err
run_all(const struct space *space, const char *dir, const char *const argv[], struct str input,
        struct errbuf *e)
{
    struct run r;
    struct buf said = {0};
    struct str rest, first;
    int status;

    if (run_start(&r, space, dir, argv, input, e) != MC_OK)
        return MC_ESYS;
    run_finish(&r, &status, &said);
    rest = (struct str){said.p ? said.p : "", said.n};
    first = str_cut(&rest, '\n');
    if (status != 0)
        err_set(e, "%s: " STR_FMT, argv[0], STR_ARG(first));
    buf_free(&said);
    return status == 0 ? MC_OK : MC_ESYS;
}
