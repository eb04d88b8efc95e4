/* SPDX-License-Identifier: BSD-2-Clause
 *
 * err.c - error values and their texts.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

const char *
mc_err_text(enum mc_err e)
{
    static const char *const text[] = {
#define X(name, words) [MC_##name] = words,
        MC_ERRS(X)
#undef X
    };

    return (size_t)e < MC_COUNT(text) ? text[e] : "unknown error";
}

void
err_set(struct errbuf *eb, const char *fmt, ...)
{
    va_list ap;

    if (!eb)
        return;
    va_start(ap, fmt);
    vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
    va_end(ap);
}

void
err_wrap(struct errbuf *eb, const char *fmt, ...)
{
    char inner[sizeof(eb->text)];
    va_list ap;
    size_t n;

    if (!eb)
        return;
    memcpy(inner, eb->text, sizeof(inner));
    va_start(ap, fmt);
    vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
    va_end(ap);
    n = strlen(eb->text);
    snprintf(eb->text + n, sizeof(eb->text) - n, ": %s", inner);
}

enum mc_err
err_sys(struct errbuf *eb, const char *what)
{
    char space[128];
    int e = errno;

    err_set(eb, "%s: %s", what, strerror_r(e, space, sizeof(space)));
    errno = e;
    return MC_ESYS;
}
