/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_object.h - the compiled guard.bpf.c, an ELF file in memory.
 */
#ifndef MC_TAKEOVER_GUARD_OBJECT_H
#define MC_TAKEOVER_GUARD_OBJECT_H

#include <stdint.h>

extern const uint8_t guard_object[], guard_object_end[];

#endif
