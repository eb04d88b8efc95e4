/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_fault.h - what is wrong with a configuration, where, and what was expected instead.
 */
#ifndef MC_CONF_CONF_FAULT_H
#define MC_CONF_CONF_FAULT_H

#include <stdarg.h>
#include <stdbool.h>

#include "base/buf.h"

struct conf_fault {
    char *file;
    unsigned line;
    bool warning; /* does not keep the configuration from being used */
    char *text;
    unsigned order; /* in which faults were found, for equal lines */
};

struct conf_faults {
    struct conf_fault *v;
    unsigned n, cap;
    unsigned n_errors; /* of n, warnings not counted; counts on when the list is full */
};

/* Somebody who sees more than this has given the wrong file. */
#define CONF_FAULTS_MAX 200

void conf_fault_add(struct conf_faults *, bool warning, const char *file, unsigned line,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* By place: files in the order of their first fault, then lines. */
void conf_faults_sort(struct conf_faults *);
/* "FILE:LINE: text\n" each, warnings as "FILE:LINE: warning: text\n". */
void conf_faults_text(const struct conf_faults *, struct buf *);
void conf_faults_free(struct conf_faults *);

#endif
