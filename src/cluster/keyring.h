/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keyring.h - the secret keys that the balancers of a cluster share, and what is made of them.
 *
 * The first key seals, all of them open (seal.h, seal_stream.h); from each, keys for other purposes
 * are derived.  Keys are replaced by keyring_reload() while the boot id, the counter and the replay
 * windows live on, so that they rotate without a pause: append the new key everywhere, make it the
 * first everywhere, remove the old one.
 *
 * One thread: the cluster's.  Secrets are wiped when they are dropped.
 */
#ifndef MC_CLUSTER_KEYRING_H
#define MC_CLUSTER_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "cluster/keyfile.h"

#define KEYRING_BOOT_BYTES 16
#define KEYRING_ID_TEXT    9 /* 8 hexadecimal digits */
#define KEYRING_INFO_MAX   256

struct keyring;

/* Reads a key file and draws a boot id. */
enum mc_err keyring_load(const char *path, struct keyring **, struct errbuf *);
/* For who has not been given a key: one that everybody knows (all zero).  It keeps accidents out
 * and nobody else; the caller allows it on loopback only. */
struct keyring *keyring_new_null(void);
/* Makes of the cluster's keys, in place, those of another protocol: what is sealed for one opens in
 * no other, whoever sends it there.  The protocol is up to 64 characters. */
void keyring_separate(struct keyfile *, const char *protocol);
/* Pure: the keys are copied.  A boot id must never be used twice with the same keys. */
struct keyring *keyring_new(const struct keyfile *, const uint8_t boot[KEYRING_BOOT_BYTES]);
/* NULL'ed; whatever was made from it must be gone. */
void keyring_free(struct keyring **);

/* Reads the file (again) and takes its keys in place of those in force.  On an error nothing has
 * changed. */
enum mc_err keyring_reload(struct keyring *, const char *path, struct errbuf *);
void keyring_replace(struct keyring *, const struct keyfile *);

bool keyring_is_null(const struct keyring *);
unsigned keyring_count(const struct keyring *); /* 1 to KEYFILE_KEYS_MAX */
const uint8_t *keyring_boot(const struct keyring *);
/* The id of a key, as datagrams name it and people may see it; returns out. */
const char *keyring_digest(const struct keyring *, unsigned index, char out[KEYRING_ID_TEXT]);

/* HKDF-SHA256 of key `index` with this label and context: n <= 255 * 32 bytes for another purpose
 * (the keys of TLS session tickets).  Label and context together are at most KEYRING_INFO_MAX
 * bytes. The same on every balancer that has the key, and unlike what this room uses itself. */
void keyring_derive(const struct keyring *, unsigned index, const char *label, struct str context,
                    uint8_t *out, size_t n);

#endif
