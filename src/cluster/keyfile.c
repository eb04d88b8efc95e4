/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keyfile.c - see keyfile.h.  Whatever held a secret is wiped.
 */
#include "cluster/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

#define KEY_TEXT       (KEYFILE_LINE - 1)

/* Nobody but the owner writes it and no stranger reads it.  The group may read: service managers
 * hand secrets out that way. */
#define FORBIDDEN_MODE (S_IWGRP | S_IRWXO)

static_assert(KEYFILE_KEYS_MAX == 8, "is told in words");
static_assert(KEY_TEXT == (KEYFILE_KEY_BYTES + 2) / 3 * 4, "base64 is padded");

/* --- parsing --------------------------------------------------------------------------------- */

/* 44 characters, and only those that would be written for the key: base64 has other spellings. */
static bool
read_key(struct str text, uint8_t key[KEYFILE_KEY_BYTES])
{
    uint8_t bytes[KEYFILE_KEY_BYTES + 1]; /* what the padding stands for is decoded, too */
    char again[KEYFILE_LINE];
    bool good = text.n == KEY_TEXT &&
                EVP_DecodeBlock(bytes, (const uint8_t *)text.p, KEY_TEXT) == sizeof(bytes);

    if (good) {
        EVP_EncodeBlock((uint8_t *)again, bytes, KEYFILE_KEY_BYTES);
        good = CRYPTO_memcmp(again, text.p, KEY_TEXT) == 0;
    }
    if (good)
        memcpy(key, bytes, KEYFILE_KEY_BYTES);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    OPENSSL_cleanse(again, sizeof(again));
    return good;
}

static bool
is_null(const uint8_t key[KEYFILE_KEY_BYTES])
{
    static const uint8_t null[KEYFILE_KEY_BYTES];

    return CRYPTO_memcmp(key, null, sizeof(null)) == 0;
}

static bool
is_known(const struct keyfile *f, const uint8_t key[KEYFILE_KEY_BYTES])
{
    for (unsigned i = 0; i < f->n; i++)
        if (CRYPTO_memcmp(f->key[i], key, KEYFILE_KEY_BYTES) == 0)
            return true;
    return false;
}

/* What is wrong with the line that has been read as the next key, or NULL. */
static const char *
add_key(struct keyfile *f, struct str text)
{
    uint8_t key[KEYFILE_KEY_BYTES];
    const char *fault = NULL;

    if (f->n == KEYFILE_KEYS_MAX)
        return "too many keys, expected 8 at most";
    if (!read_key(text, key))
        return "no key, expected 32 bytes in base64 (44 characters), as \"meercat keygen\" writes "
               "them";
    if (is_null(key))
        fault = "a key that everybody knows, expected a random one, as \"meercat keygen\" makes it";
    else if (is_known(f, key))
        fault = "the same key once more, expected another one";
    else
        memcpy(f->key[f->n++], key, sizeof(key));
    OPENSSL_cleanse(key, sizeof(key));
    return fault;
}

/* A line without its comment and the space around it. */
static struct str
bare(struct str line)
{
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return str_trim(str_cut(&line, '#'));
}

enum mc_err
keyfile_parse(struct str text, const char *name, struct keyfile *out, struct errbuf *eb)
{
    struct keyfile f = {0};
    const char *fault = NULL;
    unsigned line = 0;

    while (text.p != NULL && fault == NULL) {
        struct str s = bare(str_cut(&text, '\n'));

        line++;
        if (s.n > 0)
            fault = add_key(&f, s);
    }
    if (fault != NULL)
        err_set(eb, "%s:%u: %s", name, line, fault);
    else if (f.n == 0)
        err_set(eb, "%s:%u: no key, expected one a line, as \"meercat keygen\" writes it", name,
                line);
    else
        *out = f;
    OPENSSL_cleanse(f.key, sizeof(f.key));
    return fault == NULL && f.n > 0 ? MC_OK : MC_ESYNTAX;
}

/* --- reading --------------------------------------------------------------------------------- */

static enum mc_err
check_file(int fd, struct errbuf *eb)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(eb, "fstat");
    if (!S_ISREG(st.st_mode)) {
        err_set(eb, "not a file");
        return MC_EINVAL;
    }
    if (st.st_mode & FORBIDDEN_MODE) {
        err_set(eb, "mode %04o lets others at the keys, expected 0600, or 0640 for a group",
                (unsigned)st.st_mode & 07777);
        return MC_EINVAL;
    }
    if (st.st_size > KEYFILE_BYTES_MAX) {
        err_set(eb, "%lld bytes are no key file, expected at most %d", (long long)st.st_size,
                KEYFILE_BYTES_MAX);
        return MC_EINVAL;
    }
    return MC_OK;
}

/* Up to cap bytes; -1 with errno. */
static ssize_t
read_all(int fd, char *p, size_t cap)
{
    size_t n = 0;

    while (n < cap) {
        ssize_t got = read(fd, p + n, cap - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static enum mc_err
load_from(int fd, const char *path, struct keyfile *out, struct errbuf *eb)
{
    enum mc_err err = check_file(fd, eb);
    char *text;
    ssize_t n;

    if (err != MC_OK) {
        err_wrap(eb, "%s", path);
        return err;
    }
    text = mc_alloc(KEYFILE_BYTES_MAX);
    n = read_all(fd, text, KEYFILE_BYTES_MAX);
    if (n < 0)
        err = err_sys(eb, path);
    else
        err = keyfile_parse((struct str){text, (size_t)n}, path, out, eb);
    OPENSSL_cleanse(text, KEYFILE_BYTES_MAX);
    free(text);
    return err;
}

enum mc_err
keyfile_load(const char *path, struct keyfile *out, struct errbuf *eb)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    enum mc_err err;

    if (fd < 0)
        return err_sys(eb, path);
    err = load_from(fd, path, out, eb);
    close(fd);
    return err;
}

/* --- the rest -------------------------------------------------------------------------------- */

void
keyfile_wipe(struct keyfile *f)
{
    OPENSSL_cleanse(f, sizeof(*f));
}

void
keyfile_draw(struct keyfile *f)
{
    *f = (struct keyfile){.n = 1};
    MC_ASSERT(RAND_priv_bytes(f->key[0], KEYFILE_KEY_BYTES) == 1);
}

const char *
keyfile_text(const struct keyfile *f, unsigned index, char out[KEYFILE_LINE])
{
    MC_ASSERT(index < f->n);
    EVP_EncodeBlock((uint8_t *)out, f->key[index], KEYFILE_KEY_BYTES);
    return out;
}
