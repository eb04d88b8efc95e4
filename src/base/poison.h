/* SPDX-License-Identifier: BSD-2-Clause
 *
 * poison.h - tells the address sanitizer which bytes of our own allocators may be touched.
 *
 * Nothing at all in a build without it.
 */
#ifndef MC_BASE_POISON_H
#define MC_BASE_POISON_H

#ifndef __has_feature
#define __has_feature(x) 0 /* gcc 12 has only the macro below, clang 14 only the feature */
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define MC_POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define MC_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#define MC_REDZONE        16 /* bytes left poisoned between two pieces of an arena */
#else
#define MC_POISON(p, n)   ((void)(p), (void)(n))
#define MC_UNPOISON(p, n) ((void)(p), (void)(n))
#define MC_REDZONE        0
#endif

#endif
