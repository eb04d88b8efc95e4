/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check.h - assertions that stay on in release builds.
 *
 * They state what we promised ourselves.  Nothing that comes from a socket, a file or a peer may
 * trip one: that is an error value (err.h), not an assertion.
 */
#ifndef MC_BASE_CHECK_H
#define MC_BASE_CHECK_H

#include <assert.h> /* static_assert */
#include <stddef.h>

/* Writes where and why, the recent log lines, and aborts. Any thread. */
_Noreturn void mc_panic(const char *file, int line, const char *func, const char *why)
    __attribute__((cold));

#define MC_ASSERT(e) \
    (__builtin_expect(!!(e), 1) ? (void)0 : mc_panic(__FILE__, __LINE__, __func__, #e))
#define MC_CHECK(p, MAGIC)              MC_ASSERT((p) != NULL && (p)->magic == (MAGIC))
#define MC_NEVER(why)                   mc_panic(__FILE__, __LINE__, __func__, (why))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MC_COUNT(array)                 (sizeof(array) / sizeof((array)[0]))

/* What mc_panic() calls on the thread that panics, to print the state that thread was in.  It may
 * use write(2) and the stack, no heap and no lock.  A second panic inside it ends the process. */
typedef void mc_panic_f(int fd, void *arg);
/* For the calling thread; NULL takes it away. */
void mc_panic_context(mc_panic_f *, void *arg);

/* malloc family that panics instead of returning NULL: start-up and control thread only. */
void *mc_alloc(size_t bytes) __attribute__((malloc)); /* zeroed */
/* Zeroed, and on cache lines (of 64 bytes) of its own. */
void *mc_alloc_lines(size_t bytes) __attribute__((malloc));
void *mc_realloc(void *, size_t bytes);
char *mc_strdup(const char *) __attribute__((malloc));
char *mc_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc));

#endif
