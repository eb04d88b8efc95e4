/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_save.c - what was learned, kept in a file for the next start.  Control thread.
 *
 * One file a pool, replaced as a whole.  What cannot be written is said once; what cannot be read
 * is learned anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "fleet/brain_priv.h"

#define FILE_MOST ((size_t)1 << 20)

/* --- writing -----------------------------------------------------------------------------------
 */

static bool
write_file(const char *path, const struct buf *text)
{
    FILE *f = fopen(path, "we");
    bool ok;

    if (!f)
        return false;
    ok = text->n == 0 || fwrite(text->p, 1, text->n, f) == text->n;
    ok &= fflush(f) == 0 && fsync(fileno(f)) == 0;
    return (fclose(f) == 0) & ok;
}

static bool
save(const struct mind *m, const char *dir)
{
    char *path = mc_printf("%s/costs-%s", dir, m->pool_name);
    char *tmp = mc_printf("%s.new", path);
    struct buf text = {0};
    bool ok;

    know_save(m->know, brain_class_name, (void *)m, &text);
    ok = write_file(tmp, &text) && rename(tmp, path) == 0;
    buf_free(&text);
    free(tmp);
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

static bool
read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    char chunk[4096];
    size_t n;

    if (!f)
        return false;
    while (out->n < FILE_MOST && (n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(out, chunk, n);
    fclose(f);
    return out->n > 0;
}

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

void
brain_remember(struct mind *m)
{
    struct buf text = {0};
    unsigned bad;
    char *path;

    if (!m->of->dir)
        return;
    path = mc_printf("%s/costs-%s", m->of->dir, m->pool_name);
    if (read_file(path, &text)) {
        note_names(m, (struct str){text.p, text.n});
        brain_give_classes(m);
        bad = know_load(m->know, (struct str){text.p, text.n}, brain_class_named, m);
        if (bad > 0)
            log_warn("%s: %u lines make no sense and are passed over", path, bad);
    }
    buf_free(&text);
    free(path);
}
