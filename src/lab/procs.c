/* SPDX-License-Identifier: BSD-2-Clause
 *
 * procs.c - processes of a laboratory, see procs.h.
 */
#include "lab/procs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/str.h"

/* The target of a link below /proc; false when the process has gone. */
static bool
ns_of(int proc, const char *pid, const char *kind, char out[PROC_NS_TEXT])
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "%.20s/ns/%s", pid, kind);
    n = readlinkat(proc, path, out, PROC_NS_TEXT - 1);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

void
procs_ns_text(int fd, char out[PROC_NS_TEXT])
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, out, PROC_NS_TEXT - 1);
    out[n > 0 ? n : 0] = '\0';
}

/* The last number of a line: what the innermost namespace calls it. */
static pid_t
innermost(const char *line)
{
    const char *last = strrchr(line, '\t');

    return last != NULL ? (pid_t)atoi(last + 1) : 0;
}

static void
read_line(const char *line, struct proc *p)
{
    if (strncmp(line, "Name:\t", 6) == 0)
        snprintf(p->name, sizeof(p->name), "%.15s", line + 6);
    else if (strncmp(line, "State:\t", 7) == 0)
        p->state = line[7];
    else if (strncmp(line, "NSpid:\t", 7) == 0)
        p->pid = innermost(line);
    else if (strncmp(line, "NSsid:\t", 7) == 0)
        p->session = innermost(line);
}

static bool
read_status(int proc, const char *pid, struct proc *p)
{
    char path[64], text[4096], *line, *rest = text;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%.20s/status", pid);
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL)
        read_line(line, p);
    p->outer = (pid_t)atoi(pid);
    return p->pid > 1 && p->state != 'Z' && p->state != 'X';
}

unsigned
procs_scan(int proc, const char *pid_ns, struct proc **out)
{
    int fd = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    unsigned n = 0;

    *out = mc_alloc(sizeof(**out));
    while (d != NULL && (entry = readdir(d)) != NULL) {
        struct proc p = {0};
        char ns[PROC_NS_TEXT];

        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
            !ns_of(proc, entry->d_name, "pid", ns) || strcmp(ns, pid_ns) != 0 ||
            !read_status(proc, entry->d_name, &p) || !ns_of(proc, entry->d_name, "net", p.net))
            continue;
        *out = mc_realloc(*out, (n + 1) * sizeof(p));
        (*out)[n++] = p;
    }
    if (d != NULL)
        closedir(d);
    return n;
}
