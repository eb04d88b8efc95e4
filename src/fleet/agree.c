/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agree.c - the verdict of several, see agree.h.
 */
#include "fleet/agree.h"

bool
agree_is_down(const struct agree *a)
{
    unsigned up = 0, down = 0;

    for (unsigned i = 0; i < a->n_owners; i++) {
        up += a->owner[i] == AGREE_UP;
        down += a->owner[i] == AGREE_DOWN;
    }
    if (down == 0 || (a->succeeds && !a->own))
        return false;
    /* who has not looked yet does not disagree: the owner before it may have died just now */
    return up == 0 || a->fails;
}
