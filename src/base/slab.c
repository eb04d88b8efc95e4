/* SPDX-License-Identifier: BSD-2-Clause
 *
 * slab.c - objects of one size.
 *
 * A free object holds the link to the next free one in its first bytes.  A page is a link and then
 * objects; pages come from malloc, not mmap, so that the leak checker looks into them.
 */
#include "base/slab.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/poison.h"

#define LINE       64          /* a cache line: objects of whole lines share none */
#define PAGE_BYTES (64 * 1024) /* a guess: large against the header, small against a worker */
#define PAGE_MIN   8           /* objects a page at least, however large they are */

struct page {
    struct page *next;
    _Alignas(LINE) char objects[];
};

void
slab_init(struct slab *s, size_t obj_bytes)
{
    size_t rounded = (obj_bytes + 15) & ~(size_t)15;
    size_t fit;

    MC_ASSERT(obj_bytes > 0);
    fit = (PAGE_BYTES - sizeof(struct page)) / rounded;
    *s = (struct slab){
        .obj_bytes = rounded,
        .per_page = (unsigned)(fit > PAGE_MIN ? fit : PAGE_MIN),
    };
}

static void
push_free(struct slab *s, void *obj)
{
    *(void **)obj = s->free;
    s->free = obj;
    MC_POISON(obj, s->obj_bytes);
}

static void __attribute__((cold, noinline)) grow(struct slab *s)
{
    size_t bytes = sizeof(struct page) + s->per_page * s->obj_bytes;
    struct page *page;

    bytes = (bytes + LINE - 1) & ~(size_t)(LINE - 1);
    page = aligned_alloc(LINE, bytes);
    MC_ASSERT(page != NULL);
    page->next = s->pages;
    s->pages = page;
    /* last one first, so that they are handed out by rising address */
    for (unsigned i = s->per_page; i-- > 0;)
        push_free(s, page->objects + i * s->obj_bytes);
    s->n_total += s->per_page;
}

/* hot: once per connection and request */
void *
slab_take(struct slab *s)
{
    void *obj;

    if (!s->free)
        grow(s);
    obj = s->free;
    MC_UNPOISON(obj, s->obj_bytes);
    s->free = *(void **)obj;
    s->n_used++;
    return obj;
}

/* hot: once per connection and request */
void
slab_give(struct slab *s, void *obj)
{
    MC_ASSERT(obj != NULL && s->n_used > 0);
    s->n_used--;
    push_free(s, obj);
}

void
slab_fini(struct slab *s)
{
    struct page *next;

    MC_ASSERT(s->n_used == 0);
    for (struct page *p = s->pages; p; p = next) {
        next = p->next;
        free(p);
    }
    slab_init(s, s->obj_bytes);
}
