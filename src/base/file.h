/* SPDX-License-Identifier: BSD-2-Clause
 *
 * file.h - small files that are read and replaced as a whole.  Blocking; errno tells why not.
 */
#ifndef MC_BASE_FILE_H
#define MC_BASE_FILE_H

#include <stdbool.h>

#include "base/buf.h"

/* Appends at most max_bytes of the file. */
bool file_load(const char *path, size_t max_bytes, struct buf *out);
/* Writes path.new, makes sure that it is on the disk, and renames it: whoever reads sees the old
 * content or the new one. */
bool file_replace(const char *path, const struct buf *content);

#endif
