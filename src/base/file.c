/* SPDX-License-Identifier: BSD-2-Clause
 *
 * file.c - small files as a whole, see file.h.
 */
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

bool
file_load(const char *path, size_t max_bytes, struct buf *out)
{
    FILE *f = fopen(path, "re");
    char chunk[4096];
    size_t left = max_bytes, n;
    bool ok;

    if (!f)
        return false;
    while (left > 0 && (n = fread(chunk, 1, left < sizeof(chunk) ? left : sizeof(chunk), f)) > 0) {
        buf_add(out, chunk, n);
        left -= n;
    }
    ok = !ferror(f);
    fclose(f);
    return ok;
}

static bool
write_all(const char *path, const struct buf *content)
{
    FILE *f = fopen(path, "we");
    bool ok;

    if (!f)
        return false;
    ok = content->n == 0 || fwrite(content->p, 1, content->n, f) == content->n;
    ok &= fflush(f) == 0 && fsync(fileno(f)) == 0;
    return (fclose(f) == 0) & ok;
}

bool
file_replace(const char *path, const struct buf *content)
{
    char *tmp = mc_printf("%s.new", path);
    bool ok = write_all(tmp, content) && rename(tmp, path) == 0;

    free(tmp);
    return ok;
}
