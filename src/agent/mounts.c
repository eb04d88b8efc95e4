/* SPDX-License-Identifier: BSD-2-Clause
 *
 * mounts.c - where the trees of control groups are mounted: proc_pid_mountinfo(5), cgroups(7).
 */
#include "agent/mounts.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/files.h"
#include "base/check.h"

/* As a v1 tree is called among its mount options and in /proc/PID/cgroup. */
static const char *const names[CG_N_TREES] = {
    [CG_UNIFIED] = NULL,    [CG_CPU] = "cpu",       [CG_CPUACCT] = "cpuacct",
    [CG_MEMORY] = "memory", [CG_CPUSET] = "cpuset", [CG_SYSTEMD] = "name=systemd",
};

static bool
list_has(struct str list, const char *word)
{
    while (list.p != NULL)
        if (str_eq(str_cut(&list, ','), str_of(word)))
            return true;
    return false;
}

static bool
is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* "\040" is a blank. */
static char *
unescaped(const char *prefix, struct str s)
{
    char *out = mc_printf("%s" STR_FMT, prefix, STR_ARG(s)), *to = out;

    for (const char *from = out; *from; to++) {
        if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
            *to = (char)((from[1] & 7) << 6 | (from[2] & 7) << 3 | (from[3] & 7));
            from += 4;
        } else
            *to = *from++;
    }
    *to = '\0';
    return out;
}

static void
note(struct cg_mount *m, const char *root, struct str shown, struct str dir)
{
    if (m->dir != NULL)
        return; /* bound somewhere else again */
    m->dir = unescaped(root, dir);
    m->root = unescaped("", shown);
}

/* id parent major:minor ROOT DIR options [more ...] - TYPE source OPTIONS */
static void
take_line(struct cg_mounts *m, const char *root, struct str line)
{
    struct str shown, dir, type, options;

    for (int i = 0; i < 3; i++)
        file_word(&line);
    shown = file_word(&line);
    dir = file_word(&line);
    while (line.n > 0 && !str_eq(file_word(&line), STR("-")))
        ;
    type = file_word(&line);
    file_word(&line);
    options = file_word(&line);
    if (str_eq(type, STR("cgroup2")))
        note(&m->tree[CG_UNIFIED], root, shown, dir);
    if (!str_eq(type, STR("cgroup")))
        return;
    for (unsigned t = 0; t < CG_N_TREES; t++)
        if (names[t] != NULL && list_has(options, names[t]))
            note(&m->tree[t], root, shown, dir);
}

void
cg_mounts_read(struct cg_mounts *m, const char *root)
{
    char *path = mc_printf("%s/proc/self/mountinfo", root);
    FILE *f = fopen(path, "re"); /* may be long: a line at a time */
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    *m = (struct cg_mounts){0};
    while (f != NULL && (n = getline(&line, &cap, f)) > 0)
        take_line(m, root, (struct str){line, (size_t)n});
    free(line);
    free(path);
    if (f != NULL)
        fclose(f);
}

void
cg_mounts_free(struct cg_mounts *m)
{
    for (unsigned t = 0; t < CG_N_TREES; t++) {
        free(m->tree[t].dir);
        free(m->tree[t].root);
    }
}

/* id:controllers:path; v2 is "0::path". */
bool
cg_path_of_pid(const char *root, int pid, enum cg_tree tree, struct str *path)
{
    char file[4096];
    struct str s;

    if (pid == 0)
        snprintf(file, sizeof(file), "%s/proc/self/cgroup", root);
    else
        snprintf(file, sizeof(file), "%s/proc/%d/cgroup", root, pid);
    s = file_read_path(file);
    while (s.p != NULL) {
        struct str line = str_cut(&s, '\n'), id = str_cut(&line, ':'), of = str_cut(&line, ':');
        bool is_v2 = str_eq(id, STR("0")) && of.n == 0;

        if (line.n > 0 && (names[tree] == NULL ? is_v2 : !is_v2 && list_has(of, names[tree]))) {
            *path = line;
            return true;
        }
    }
    return false;
}
