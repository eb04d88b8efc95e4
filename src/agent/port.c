/* SPDX-License-Identifier: BSD-2-Clause
 *
 * port.c - which processes listen on a TCP port: the inodes of its sockets from /proc/net/tcp and
 * tcp6 (proc_net(5)), and who has them open from /proc/PID/fd.
 */
#include "agent/port.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/files.h"
#include "base/check.h"

#define INODES_MAX 256 /* one a worker with SO_REUSEPORT */
#define TCP_LISTEN 0x0A

struct inodes {
    uint64_t at[INODES_MAX];
    unsigned n;
};

static bool
hex(struct str s, uint64_t *out)
{
    *out = 0;
    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = str_lower((unsigned char)s.p[i]);

        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* sl LOCAL:PORT remote STATE queues timer retransmits uid timeout INODE ... */
static void
take_line(struct inodes *in, struct str line, uint16_t port)
{
    struct str local, state;
    uint64_t at_port, st, inode;

    file_word(&line);
    local = file_word(&line);
    file_word(&line);
    state = file_word(&line);
    for (int i = 0; i < 5; i++)
        file_word(&line);
    str_cut(&local, ':');
    if (!hex(local, &at_port) || at_port != port || !hex(state, &st) || st != TCP_LISTEN)
        return;
    if (str_u64(file_word(&line), &inode) && inode != 0 && in->n < INODES_MAX)
        in->at[in->n++] = inode;
}

static void
read_table(struct inodes *in, const char *root, const char *name, uint16_t port)
{
    char path[4096], *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f;

    snprintf(path, sizeof(path), "%s/proc/net/%s", root, name);
    f = fopen(path, "re");
    while (f != NULL && (n = getline(&line, &cap, f)) > 0)
        take_line(in, (struct str){line, (size_t)n}, port);
    free(line);
    if (f != NULL)
        fclose(f);
}

/* "socket:[12345]" */
static bool
is_one_of(const struct inodes *in, const char *target, ssize_t n)
{
    static const size_t prefix = 8;
    uint64_t inode;

    if (n < 10 || memcmp(target, "socket:[", prefix) != 0)
        return false;
    if (!str_u64((struct str){target + prefix, (size_t)n - prefix - 1}, &inode))
        return false;
    for (unsigned i = 0; i < in->n; i++)
        if (in->at[i] == inode)
            return true;
    return false;
}

static bool
has_one(const struct inodes *in, const char *root, const char *pid)
{
    char path[4096], target[64];
    struct dirent *e;
    bool has = false;
    DIR *d;

    snprintf(path, sizeof(path), "%s/proc/%s/fd", root, pid);
    d = opendir(path);
    while (d != NULL && !has && (e = readdir(d)) != NULL)
        has = is_one_of(in, target, readlinkat(dirfd(d), e->d_name, target, sizeof(target)));
    if (d != NULL)
        closedir(d);
    return has;
}

unsigned
port_listeners(const char *root, uint16_t port, int *pids, unsigned max)
{
    struct inodes in = {.n = 0};
    struct dirent *e;
    unsigned n = 0;
    char path[4096];
    uint64_t pid;
    DIR *d;

    read_table(&in, root, "tcp", port);
    read_table(&in, root, "tcp6", port);
    snprintf(path, sizeof(path), "%s/proc", root);
    d = in.n > 0 ? opendir(path) : NULL;
    while (d != NULL && n < max && (e = readdir(d)) != NULL)
        if (str_u64(str_of(e->d_name), &pid) && pid <= INT32_MAX && has_one(&in, root, e->d_name))
            pids[n++] = (int)pid;
    if (d != NULL)
        closedir(d);
    return n;
}
