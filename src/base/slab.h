/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slab.h - objects of one size, last freed first reused.  One thread (each worker has its own).
 *
 * Memory is taken in pages of many objects, without a header per object, and kept until
 * slab_fini(): a burst comes back.  The address sanitizer sees an object that was given back as
 * poisoned.
 */
#ifndef MC_BASE_SLAB_H
#define MC_BASE_SLAB_H

#include <stddef.h>

struct slab {
    void *free;
    void *pages;
    size_t obj_bytes; /* rounded up to 16 */
    unsigned per_page;
    size_t n_used, n_total;
};

void slab_init(struct slab *, size_t obj_bytes);
/* Not zeroed; never NULL. */
void *slab_take(struct slab *);
void slab_give(struct slab *, void *obj);
/* Releases all pages; every object must have been given back (asserted). */
void slab_fini(struct slab *);

#endif
