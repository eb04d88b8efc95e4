/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keyfile.h - the file with the keys of a cluster, read and written.
 *
 * One key a line: 32 bytes in base64, as `meercat keygen` writes it.  What follows a key behind
 * white space and '#', and lines that begin with '#', are comments.  The first key seals, all open.
 */
#ifndef MC_CLUSTER_KEYFILE_H
#define MC_CLUSTER_KEYFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define KEYFILE_KEY_BYTES 32
#define KEYFILE_KEYS_MAX  8     /* a rotation needs two */
#define KEYFILE_BYTES_MAX 65536 /* a file above this is something else */
#define KEYFILE_LINE      45    /* a key in base64, and a NUL */

struct keyfile {
    unsigned n; /* 1 to KEYFILE_KEYS_MAX */
    uint8_t key[KEYFILE_KEYS_MAX][KEYFILE_KEY_BYTES];
};

/* Pure.  `name` stands before faults: "name:line: expected ...". */
enum mc_err keyfile_parse(struct str text, const char *name, struct keyfile *, struct errbuf *);
/* MC_EINVAL also when its mode lets strangers read or others write it, as ssh(1) is strict. */
enum mc_err keyfile_load(const char *path, struct keyfile *, struct errbuf *);
void keyfile_wipe(struct keyfile *);

/* One new key. */
void keyfile_draw(struct keyfile *);
/* The line of a key, without an end; a secret, too.  Returns out. */
const char *keyfile_text(const struct keyfile *, unsigned index, char out[KEYFILE_LINE]);

#endif
