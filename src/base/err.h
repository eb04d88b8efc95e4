/* SPDX-License-Identifier: BSD-2-Clause
 *
 * err.h - error values, and a buffer in which an error's text is wrapped on its way up.
 */
#ifndef MC_BASE_ERR_H
#define MC_BASE_ERR_H

#define MC_ERRS(X)                   \
    X(OK, "success")                 \
    X(ESYS, "system call failed")    \
    X(ENOMEM, "out of memory")       \
    X(EINVAL, "invalid value")       \
    X(ESYNTAX, "syntax error")       \
    X(ERANGE, "out of range")        \
    X(ENOENT, "not found")           \
    X(EEXIST, "exists already")      \
    X(EFULL, "limit reached")        \
    X(ENOTSUP, "not supported here") \
    X(ETIME, "timed out")

enum mc_err {
#define X(name, text) MC_##name,
    MC_ERRS(X)
#undef X
};

const char *mc_err_text(enum mc_err);

struct errbuf {
    char text[512];
};

/* Replaces the text.  A NULL errbuf is allowed everywhere and ignored. */
void err_set(struct errbuf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "prefix: " before the text. */
void err_wrap(struct errbuf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sets "what: strerror(errno)" and returns MC_ESYS. */
enum mc_err err_sys(struct errbuf *, const char *what);

#endif
