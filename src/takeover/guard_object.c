/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_object.c - takes the compiled guard.bpf.c into the binary; the Makefile says where it is.
 */
#include "takeover/guard_object.h"

__asm__(".pushsection .rodata\n"
        ".balign 8\n" /* ELF is read in place */
        ".globl guard_object, guard_object_end\n"
        ".hidden guard_object, guard_object_end\n"
        "guard_object:\n"
        ".incbin \"" GUARD_OBJECT "\"\n"
        "guard_object_end:\n"
        ".byte 0\n"
        ".popsection\n");
