/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keygen.c - `meercat keygen`: a new key for a cluster, to standard output or into its file.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cluster/keyring.h"
#include "cmd/cmd.h"

#define LINE_MAX_BYTES 128

/* With the id of the key, by which it can be spoken of.  Returns the length. */
static size_t
make_line(char out[LINE_MAX_BYTES])
{
    static const uint8_t no_boot[KEYRING_BOOT_BYTES]; /* nothing is sealed with it */
    char key[KEYFILE_LINE], id[KEYRING_ID_TEXT], day[16];
    struct keyfile f;
    struct keyring *k;
    time_t now = time(NULL);
    struct tm tm;
    int n;

    keyfile_draw(&f);
    k = keyring_new(&f, no_boot);
    strftime(day, sizeof(day), "%Y-%m-%d", gmtime_r(&now, &tm));
    n = snprintf(out, LINE_MAX_BYTES, "%s # key %s of %s\n", keyfile_text(&f, 0, key),
                 keyring_digest(k, 0, id), day);
    MC_ASSERT(n > 0 && n < LINE_MAX_BYTES);
    keyring_free(&k);
    keyfile_wipe(&f);
    OPENSSL_cleanse(key, sizeof(key));
    return (size_t)n;
}

static int
complain(const char *path, const char *why)
{
    fprintf(stderr, "meercat: %s: %s\n", path, why);
    return 1;
}

/* In one write: a balancer that reads the file meanwhile sees the whole line or none. */
static int
write_line(int fd, const char *path, const char *before)
{
    char line[1 + LINE_MAX_BYTES];
    size_t n = strlen(before);
    bool good;

    memcpy(line, before, n);
    n += make_line(line + n);
    good = write(fd, line, n) == (ssize_t)n && fsync(fd) == 0;
    OPENSSL_cleanse(line, sizeof(line));
    return good ? 0 : complain(path, strerror(errno));
}

static int
create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rv;

    if (fd < 0 && errno == EEXIST)
        return complain(path, "exists; --add puts another key behind those that it has");
    if (fd < 0)
        return complain(path, strerror(errno));
    rv = write_line(fd, path, "");
    if (close(fd) < 0 && rv == 0)
        rv = complain(path, strerror(errno));
    if (rv != 0)
        unlink(path);
    return rv;
}

/* Behind what is there; a last line without an end gets one.  All of it or nothing. */
static int
append_line(int fd, const char *path)
{
    off_t end = lseek(fd, 0, SEEK_END);
    char last = '\n';
    int rv;

    if (end < 0 || (end > 0 && pread(fd, &last, 1, end - 1) != 1))
        return complain(path, strerror(errno));
    rv = write_line(fd, path, last == '\n' ? "" : "\n");
    if (rv != 0 && ftruncate(fd, end) < 0)
        return complain(path, strerror(errno));
    return rv;
}

static int
add(const char *path)
{
    struct keyfile f = {0};
    struct errbuf eb;
    bool full;
    int fd, rv;

    if (keyfile_load(path, &f, &eb) != MC_OK) {
        fprintf(stderr, "meercat: %s\n", eb.text);
        return 1;
    }
    full = f.n == KEYFILE_KEYS_MAX;
    keyfile_wipe(&f);
    if (full)
        return complain(path, "has as many keys as can be: remove those that are not used");
    fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return complain(path, strerror(errno));
    rv = append_line(fd, path);
    if (close(fd) < 0 && rv == 0)
        rv = complain(path, strerror(errno));
    return rv;
}

static int
print(void)
{
    char line[LINE_MAX_BYTES];
    bool good;

    make_line(line);
    good = fputs(line, stdout) >= 0 && fflush(stdout) == 0;
    OPENSSL_cleanse(line, sizeof(line));
    return good ? 0 : complain("standard output", strerror(errno));
}

int
cmd_keygen(int argc, char **argv)
{
    static const struct option options[] = {{"add", no_argument, NULL, 'a'}, {0}};
    bool adds = false;
    int opt;

    while ((opt = getopt_long(argc, argv, "a", options, NULL)) != -1) {
        if (opt != 'a')
            return cmd_bad_usage("keygen");
        adds = true;
    }
    if (optind == argc && !adds)
        return print();
    if (optind != argc - 1)
        return cmd_bad_usage("keygen");
    return adds ? add(argv[optind]) : create(argv[optind]);
}
