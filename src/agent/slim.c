/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slim.c - gives back the pages that only the start needed.
 *
 * The program is linked with what a balancer needs, and the dynamic linker and the libraries' own
 * beginnings touch much of that: some 3.6 MB of 4.0 are pages of files.  Segments that may not be
 * written are as they are in the file, always (-fPIE, no text relocations), so they may go; the few
 * pages that the agent uses come back by a minor fault each.  Those that may be written stay, those
 * made read-only after relocation among them.
 */
#include "agent/slim.h"

#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int
drop_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
        uintptr_t to = info->dlpi_addr + p->p_vaddr + p->p_memsz;

        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W))
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void
slim_down(void)
{
    malloc_trim(0);
    dl_iterate_phdr(drop_segments, NULL);
}
