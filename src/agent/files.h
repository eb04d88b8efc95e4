/* SPDX-License-Identifier: BSD-2-Clause
 *
 * files.h - small files of /proc and /sys, read again and again.  For agent/ only; one thread.
 *
 * A file is kept open and read from its start: the kernel makes its text anew each time.  One that
 * has gone away (a cgroup that was removed) is opened again at the next reading.
 */
#ifndef MC_AGENT_FILES_H
#define MC_AGENT_FILES_H

#include "base/str.h"
#include "base/units.h"

#define FILES_MAX 16384 /* of one reading: more is cut off; memory.stat has some 3 KB */

/* Zero-initialise; path is malloc'd and NULL where there is no such file. */
struct file {
    char *path;
    int fd_1; /* the descriptor + 1; 0: not open */
};

void file_set(struct file *, char *path); /* takes the path over, closes what was open */
void file_close(struct file *);
/* The whole text, valid until the next reading of any file; p is NULL and errno set on failure. */
struct str file_read(struct file *);
/* The same for a file that is read once. */
struct str file_read_path(const char *path);

/* --- words and numbers in it --------------------------------------------------------------------
 */

/* Cuts the next word off; blanks, tabs and line ends separate.  Empty at the end. */
struct str file_word(struct str *rest);
/* The number at the start of what follows "key" at the beginning of a line ("key 5", "key: 5 kB",
 * "key=5"). */
bool file_key(struct str text, const char *key, uint64_t *out);
/* A file that holds one number; false too for "max" and "-1". */
bool file_number(struct file *, uint64_t *out);
/* "0-3,8": how many there are; 0 when it is no such list. */
unsigned file_list_count(struct str);

/* --- what is dear is done seldom ----------------------------------------------------------------
 */

/* Zero-initialise. */
struct pace {
    mc_ns next_ns;
    mc_ns begun_cpu_ns; /* CPU time of this thread */
};

static inline bool
pace_is_due(const struct pace *p, mc_ns now)
{
    return now >= p->next_ns;
}

/* It is done from here on, by this thread. */
void pace_begin(struct pace *);
/* It was done: next after at least `every`, and so that it costs 1/400 of a core.  What it waited
 * for one is no cost: it would become rare just where the load is high. */
void pace_done(struct pace *, mc_ns now, mc_ns every);

#endif
