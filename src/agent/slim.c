/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slim.c - gives back the pages that only the start needed.
 *
 * The program is linked with what a balancer needs, and the dynamic linker and the libraries' own
 * beginnings touch much of that: some 3.6 MB of 4.0 are pages of files.  Those of code are as they
 * are in the file, always (-fPIE, no text relocations), so they may go; the few that the agent runs
 * come back by a minor fault each.  Pages of data stay: they have been relocated.
 */
#include "agent/slim.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void
slim_down(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[4352], perms[5];
    unsigned long from, to, inode;

    malloc_trim(0);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &from, &to, perms, &inode) == 4 &&
            inode != 0 && strcmp(perms, "r-xp") == 0)
            madvise((void *)(uintptr_t)from, to - from, MADV_DONTNEED);
    if (f != NULL)
        fclose(f);
}
