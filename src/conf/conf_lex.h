/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_lex.h - the words of a configuration text, by libconfuse's rules but stricter.  Pure.
 *
 * Refused here, because libconfuse 3.3 would drop it without a word, or would stay in the middle of
 * a string for the next file that it reads: '*' and '+' outside strings, strings that do not end on
 * their line, escapes that are none, control characters.
 */
#ifndef MC_CONF_CONF_LEX_H
#define MC_CONF_CONF_LEX_H

#include "base/err.h"
#include "base/str.h"

enum conf_tok_kind {
    CONF_TOK_END,
    CONF_TOK_WORD,   /* unquoted, or ${VARIABLE} */
    CONF_TOK_STRING, /* in quotes, which are part of the text */
    CONF_TOK_PUNCT,  /* { } ( ) = , */
    CONF_TOK_APPEND, /* += */
    CONF_TOK_BAD,    /* fault tells why */
};

struct conf_tok {
    enum conf_tok_kind kind;
    struct str text;
    unsigned line;
};

struct conf_lex {
    struct str rest;
    unsigned line;
    struct errbuf fault;
};

void conf_lex_init(struct conf_lex *, struct str text);
struct conf_tok conf_lex_next(struct conf_lex *);
bool conf_tok_is(struct conf_tok, char punct);
/* Of a string without its quotes, of a word as it is. */
struct str conf_tok_inside(struct conf_tok);

#endif
