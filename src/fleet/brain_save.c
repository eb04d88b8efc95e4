/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_save.c - what was learned, kept in a file for the next start.  Control thread.
 *
 * One file a pool, replaced as a whole.  What cannot be written is said once; what cannot be read
 * is learned anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "fleet/brain_priv.h"

#define FILE_MOST ((size_t)1 << 20)

/* --- writing -----------------------------------------------------------------------------------
 */

static bool
save(const struct mind *m, const char *dir)
{
    char *path = mc_printf("%s/costs-%s", dir, m->pool_name);
    struct buf text = {0};
    bool ok;

    know_save(m->know, brain_class_name, (void *)m, &text);
    ok = file_replace(path, &text);
    buf_free(&text);
    free(path);
    return ok;
}

void
brains_save(struct brains *bs)
{
    LIST_FOREACH (it, &bs->all) {
        const struct mind *m = LIST_ENTRY(it, struct mind, link);

        if (!bs->dir || !m->in_force || save(m, bs->dir))
            continue;
        if (!bs->save_failed)
            log_warn("pool %s: cannot keep its costs in %s: %s", m->pool_name, bs->dir,
                     strerror(errno));
        bs->save_failed = true;
    }
}

/* --- reading -----------------------------------------------------------------------------------
 */

/* The names in the lines, as shapes that matter.  What is no shape is a rule's, which has its class
 * or is gone. */
static void
note_names(struct mind *m, struct str text)
{
    while (text.p) {
        struct str line = str_cut(&text, '\n');

        for (int i = 0; i < 3; i++) /* know_save.c */
            str_cut(&line, ' ');
        if (line.p && line.n < CLASS_NAME_MAX && memchr(line.p, ' ', line.n))
            class_set_note(&m->classes, class_hash(line), line, (double)COST_UNKNOWN.cpu_s);
    }
}

static void
take_text(struct mind *m, struct str text, const char *from)
{
    unsigned bad;

    note_names(m, text);
    brain_give_classes(m);
    bad = know_load(m->know, text, brain_class_named, m);
    if (bad > 0)
        log_warn("%s: %u lines make no sense and are passed over", from, bad);
}

void
brain_remember(struct mind *m)
{
    const char *carried = map_get(&m->of->carried, str_of(m->pool_name));
    struct buf text = {0};
    char *path;

    if (carried) {
        take_text(m, str_of(carried), "costs of the process before");
        return;
    }
    if (!m->of->dir)
        return;
    path = mc_printf("%s/costs-%s", m->of->dir, m->pool_name);
    if (file_load(path, FILE_MOST, &text))
        take_text(m, (struct str){text.p, text.n}, path);
    buf_free(&text);
    free(path);
}

void
brains_drop_carried(struct brains *bs)
{
    size_t at = 0;
    void *text;

    while (map_next(&bs->carried, &at, &(struct str){0}, &text))
        free(text);
    map_free(&bs->carried);
}
