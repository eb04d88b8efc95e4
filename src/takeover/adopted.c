/* SPDX-License-Identifier: BSD-2-Clause
 *
 * adopted.c - see adopted.h.
 */
#include "takeover/adopted.h"

#include <stdlib.h>
#include <unistd.h>

void
adopted_free(struct adopted **ap)
{
    struct adopted *a = *ap;

    *ap = NULL;
    if (a == NULL)
        return;
    if (a->fd >= 0) {
        repair_drop(a->fd);
        close(a->fd);
    }
    replica_free(&a->replica);
    free(a->from);
    free(a);
}
