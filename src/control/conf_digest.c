/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_digest.c - hashes over the words of a configuration.
 */
#include "control/conf_digest.h"

#include <inttypes.h>
#include <stdio.h>

#include "conf/conf_lex.h"

static bool
is_shared(struct str section)
{
    return str_eq(section, STR("listen")) || str_eq(section, STR("pool")) ||
           str_eq(section, STR("route"));
}

static bool
is_assignment(struct conf_tok t)
{
    return conf_tok_is(t, '=') || t.kind == CONF_TOK_APPEND;
}

/* The value, or the list of them, behind = or +=. */
static void
skip_value(struct conf_lex *lx)
{
    struct conf_tok t = conf_lex_next(lx);

    if (conf_tok_is(t, '{'))
        while (t.kind != CONF_TOK_END && !conf_tok_is(t, '}'))
            t = conf_lex_next(lx);
}

/* Text that was walked: sections stand at depth 0, and braces match. */
static uint64_t
shared_digest(struct str text)
{
    uint64_t hash = 0;
    unsigned depth = 0;
    bool shared = false, named = false; /* the next token is the name of a section */
    struct conf_lex lx;

    conf_lex_init(&lx, text);
    for (struct conf_tok t = conf_lex_next(&lx); t.kind != CONF_TOK_END; t = conf_lex_next(&lx)) {
        if (depth == 0 && is_assignment(t)) {
            skip_value(&lx);
            continue;
        }
        if (depth == 0 && t.kind == CONF_TOK_WORD && !named)
            named = shared = is_shared(t.text);
        else
            named = false;
        depth += conf_tok_is(t, '{');
        depth -= conf_tok_is(t, '}');
        if (depth == 1 && t.kind == CONF_TOK_WORD && str_eq(t.text, STR("bind"))) {
            conf_lex_next(&lx); /* = or += */
            skip_value(&lx);
        } else if (shared)
            hash = str_hash(conf_tok_inside(t), hash + 1);
    }
    return hash;
}

void
conf_digest(struct conf *c, struct str text)
{
    snprintf(c->digest, sizeof(c->digest), "%016" PRIx64 "%016" PRIx64, str_hash(text, 1),
             str_hash(text, 2));
    c->shared_digest = shared_digest(text);
}
