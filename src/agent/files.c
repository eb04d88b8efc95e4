/* SPDX-License-Identifier: BSD-2-Clause
 *
 * files.c - small files of /proc and /sys.
 */
#include "agent/files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PACE_PART 400 /* of a core */

static char text[FILES_MAX]; /* of the last reading */

void
file_close(struct file *f)
{
    if (f->fd_1 > 0)
        close(f->fd_1 - 1);
    f->fd_1 = 0;
    free(f->path);
    f->path = NULL;
}

void
file_set(struct file *f, char *path)
{
    file_close(f);
    f->path = path;
}

static struct str
read_all(int fd)
{
    size_t n = 0;

    /* seq_file gives a page at a time */
    while (n < sizeof(text)) {
        ssize_t r = pread(fd, text + n, sizeof(text) - n, (off_t)n);

        if (r < 0)
            return STR_NONE;
        if (r == 0)
            break;
        n += (size_t)r;
    }
    return (struct str){text, n};
}

struct str
file_read(struct file *f)
{
    struct str s;

    if (f->path == NULL)
        return STR_NONE;
    if (f->fd_1 == 0)
        f->fd_1 = open(f->path, O_RDONLY | O_CLOEXEC) + 1;
    if (f->fd_1 == 0)
        return STR_NONE;
    s = read_all(f->fd_1 - 1);
    if (s.p == NULL) { /* ENODEV: the cgroup is gone, another may come in its place */
        close(f->fd_1 - 1);
        f->fd_1 = 0;
    }
    return s;
}

struct str
file_read_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct str s = STR_NONE;

    if (fd >= 0) {
        s = read_all(fd);
        close(fd);
    }
    return s;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

struct str
file_word(struct str *rest)
{
    size_t i = 0, from;

    while (i < rest->n && is_blank(rest->p[i]))
        i++;
    from = i;
    while (i < rest->n && !is_blank(rest->p[i]))
        i++;
    struct str word = {rest->p + from, i - from};
    *rest = (struct str){rest->p + i, rest->n - i};
    return word;
}

bool
file_key(struct str s, const char *key, uint64_t *out)
{
    struct str k = str_of(key);

    while (s.p != NULL) {
        struct str line = str_cut(&s, '\n'), word;
        size_t i = k.n;

        if (!str_starts(line, k) || line.n == k.n || !strchr(" \t:=", line.p[k.n]))
            continue;
        while (i < line.n && strchr(" \t:=", line.p[i]))
            i++;
        line = (struct str){line.p + i, line.n - i};
        word = file_word(&line);
        return str_u64(word, out);
    }
    return false;
}

bool
file_number(struct file *f, uint64_t *out)
{
    struct str s = file_read(f);

    return s.p != NULL && str_u64(file_word(&s), out);
}

unsigned
file_list_count(struct str s)
{
    unsigned n = 0;

    s = file_word(&s);
    while (s.n > 0) {
        struct str range = str_cut(&s, ','), from = str_cut(&range, '-');
        uint64_t a, b;

        if (!str_u64(from, &a))
            return 0;
        b = a;
        if (range.p != NULL && (!str_u64(range, &b) || b < a || b > 1 << 20))
            return 0;
        n += (unsigned)(b - a + 1);
    }
    return n;
}

static mc_ns
cpu_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * MC_SEC + t.tv_nsec;
}

void
pace_begin(struct pace *p)
{
    p->begun_cpu_ns = cpu_clock_ns();
}

void
pace_done(struct pace *p, mc_ns now, mc_ns every)
{
    mc_ns rest = PACE_PART * (cpu_clock_ns() - p->begun_cpu_ns);

    p->next_ns = now + (every > rest ? every : rest);
}
