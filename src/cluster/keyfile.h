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
/* MC_EINVAL also when others than the owner may read or write it, as ssh(1) does. */
enum mc_err keyfile_load(const char *path, struct keyfile *, struct errbuf *);
void keyfile_wipe(struct keyfile *);

/* Draws a key; returns its line (without an end) in out. */
const char *keyfile_draw(char out[KEYFILE_LINE]);

#endif
