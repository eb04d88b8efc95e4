/* SPDX-License-Identifier: BSD-2-Clause
 *
 * log.h - the error log: one line a message, on standard error.  Any thread.
 *
 * Each line is one write(2).  The last lines are kept in a ring that a panic prints.
 */
#ifndef MC_BASE_LOG_H
#define MC_BASE_LOG_H

#include <stdbool.h>

#include "base/units.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* level: lines above it are dropped.  systemd: "<3>" prefixes instead of time stamps. */
void log_setup(enum log_level, bool systemd);
bool log_wants(enum log_level);
void log_line(enum log_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                              \
    do {                                            \
        if (log_wants(LOG_LEVEL_DEBUG))             \
            log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
    } while (0)

/* A place in the code whose lines are limited to one a second; the next one tells how many were
 * swallowed.  Zero-initialise; each thread has its own. */
struct log_limit {
    mc_ns next_ns;
    unsigned swallowed;
};
/* True when a line may be written now; *swallowed gets the number left out since the last one. */
bool log_limit_ok(struct log_limit *, mc_ns now, unsigned *swallowed);
/* The same with `most` lines a second, which may come all at once. */
bool log_limit_many(struct log_limit *, unsigned most, mc_ns now, unsigned *swallowed);

/* Writes the ring of recent lines to fd; async-signal-safe enough for a panic. */
void log_dump_ring(int fd);

#endif
