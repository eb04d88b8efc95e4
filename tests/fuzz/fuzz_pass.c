/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_pass.c - any bytes as a connection that an old process passes to a new one: what is taken is
 * a part of them, within its bounds, and what is not closes its descriptor.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "proxy/pass.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int fd = dup(STDERR_FILENO);
    struct passed *p;

    MC_ASSERT(fd >= 0);
    p = pass_read(data, n, fd);
    if (p != NULL) {
        size_t name = strlen(p->listener);

        MC_ASSERT(p->fd == fd && data[0] == PASS_KIND);
        MC_ASSERT(name > 0 && name <= PASS_NAME_MAX && p->n <= PASS_BYTES_MAX);
        MC_ASSERT(1 + 2 + 4 + 1 + name + p->n <= n);
        MC_ASSERT(p->n == 0 || memcmp(p->bytes, data + n - p->n, p->n) == 0);
        pass_free(&p);
    }
    MC_ASSERT(fcntl(fd, F_GETFD) < 0);
    MC_ASSERT(pass_read(data, n, -1) == NULL);
    return 0;
}
