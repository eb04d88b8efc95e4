/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_testkit.h - what the tests of the h1 files share: exact copies of messages, all vector units.
 */
#ifndef MC_HTTP_H1_TESTKIT_H
#define MC_HTTP_H1_TESTKIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "http/h1_priv.h"

#define assert_str(s, lit)    assert_true(str_eq((s), STR(lit)))
#define assert_fault(f, want) assert_string_equal(h1_fault_name(f), #want)

static const char *const vector_units[] = {"scalar", "sse2", "avx2"};

/* Runs the group once for each kind of vector unit; a kind that is not here is left out. */
#define RUN_ON_ALL_VECTORS(tests)                                                            \
    __extension__({                                                                          \
        int failed_ = 0;                                                                     \
        for (unsigned u_ = 0; u_ < MC_COUNT(vector_units); u_++)                             \
            if (strcmp(h1_vector_use(vector_units[u_]), vector_units[u_]) == 0)              \
                failed_ += cmocka_run_group_tests_name(vector_units[u_], tests, NULL, NULL); \
        failed_;                                                                             \
    })

/* A copy with nothing behind it, so that a sanitizer sees a read too far. */
static inline char *
exact(struct str s)
{
    char *p = malloc(s.n ? s.n : 1);

    memcpy(p, s.p, s.n);
    return p;
}

/* A head parsed from an exact copy; drop with parsed_free(). */
struct parsed {
    struct http_head head;
    struct arena arena;
    char *bytes;
    size_t n;
    enum h1_fault fault;
};

static inline void
parsed_free(struct parsed *p)
{
    arena_drop(&p->arena);
    free(p->bytes);
}

/* A whole head, found by phase 1 and read by phase 2.  method HTTP_M_OTHER: for responses, of a
 * request that was none of HEAD and CONNECT. */
static inline void
parse(struct parsed *p, struct str text, bool response, enum http_method method,
      const struct h1_limits *limits)
{
    size_t scanned = 0;

    p->bytes = exact(text);
    p->n = 0;
    arena_init(&p->arena, NULL);
    if (!h1_head_end(p->bytes, text.n, &scanned, &p->n))
        fail_msg("no end of the head in: " STR_FMT, STR_ARG(text));
    assert_int_equal(scanned, p->n);
    if (response)
        p->fault = h1_parse_response(&p->head, p->bytes, p->n, method, limits, &p->arena);
    else
        p->fault = h1_parse_request(&p->head, p->bytes, p->n, limits, &p->arena);
}

static inline void
parse_request(struct parsed *p, const char *text)
{
    parse(p, str_of(text), false, HTTP_M_OTHER, &h1_default_limits);
}

static inline void
parse_response(struct parsed *p, const char *text, enum http_method method)
{
    parse(p, str_of(text), true, method, &h1_default_limits);
}

#endif
