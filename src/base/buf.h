/* SPDX-License-Identifier: BSD-2-Clause
 *
 * buf.h - a growing byte buffer, for the control thread, logs and tests; not for the data path.
 */
#ifndef MC_BASE_BUF_H
#define MC_BASE_BUF_H

#include <stddef.h>

#include "base/str.h"

struct buf {
    char *p;
    size_t n, cap;
};

/* Zero-initialise.  Text is kept NUL-terminated behind n. */
void buf_add(struct buf *, const void *, size_t n);
void buf_str(struct buf *, struct str);
void buf_printf(struct buf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds s as the inside of a JSON string (RFC 8259 7); bytes that are not UTF-8 become U+FFFD. */
void buf_json_text(struct buf *, struct str);
/* Drops the first n bytes. */
void buf_skip(struct buf *, size_t n);
void buf_free(struct buf *);

#endif
