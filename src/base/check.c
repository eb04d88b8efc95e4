/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check.c - the end of the process when it has broken a promise, and memory that may not fail.
 *
 * A panic speaks with write(2) and a buffer on the stack only: the heap may be what is broken.
 */
#include "base/check.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define FRAMES     48  /* deeper than any call chain of ours; more would be noise */
#define LINE_BYTES 64u /* a cache line */

static _Thread_local mc_panic_f *context_f;
static _Thread_local void *context_arg;
static _Thread_local bool panicking;
static atomic_flag somebody_panics = ATOMIC_FLAG_INIT;

static void
say(const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(line) - 1)
        n = (int)sizeof(line) - 1;
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody listens: there is nothing left to do about it */
}

static void
say_backtrace(void)
{
    void *frames[FRAMES];
    int n = backtrace(frames, FRAMES);

    backtrace_symbols_fd(frames, n, STDERR_FILENO);
}

void
mc_panic_context(mc_panic_f *f, void *arg)
{
    context_f = f;
    context_arg = arg;
}

/* The order is by how likely each part is to work in a broken process: the reason first, then the
 * log ring, then what walks live objects, and the stack last. */
void
mc_panic(const char *file, int line, const char *func, const char *why)
{
    int saved_errno = errno;
    char thread[16] = "?";

    if (panicking) {
        say("meercat: panic inside a panic at %s:%d in %s: %s\n", file, line, func, why);
        abort();
    }
    panicking = true;
    if (atomic_flag_test_and_set(&somebody_panics)) {
        for (;;)
            pause(); /* the first one speaks, and its abort ends us all */
    }
    pthread_getname_np(pthread_self(), thread, sizeof(thread));
    say("meercat: panic at %s:%d in %s: %s (thread %s, errno %d)\n", file, line, func, why, thread,
        saved_errno);
    say("recent log:\n");
    log_dump_ring(STDERR_FILENO);
    if (context_f) {
        say("state of the thread:\n");
        context_f(STDERR_FILENO, context_arg);
    }
    say("stack:\n");
    say_backtrace();
    abort();
}

void *
mc_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);

    MC_ASSERT(p != NULL);
    return p;
}

void *
mc_alloc_lines(size_t bytes)
{
    size_t whole = bytes / LINE_BYTES * LINE_BYTES + LINE_BYTES;
    void *p = aligned_alloc(LINE_BYTES, whole);

    MC_ASSERT(p != NULL);
    return memset(p, 0, whole);
}

void *
mc_realloc(void *old, size_t bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);

    MC_ASSERT(p != NULL);
    return p;
}

char *
mc_strdup(const char *s)
{
    char *p = strdup(s);

    MC_ASSERT(p != NULL);
    return p;
}

char *
mc_printf(const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&p, fmt, ap);
    va_end(ap);
    MC_ASSERT(n >= 0);
    return p;
}
