/* SPDX-License-Identifier: BSD-2-Clause
 *
 * str.h - a length and a pointer: text that somebody else owns.
 */
#ifndef MC_BASE_STR_H
#define MC_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_NONE   ((struct str){NULL, 0})
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str
str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}

static inline bool
str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case-insensitive comparison. */
bool str_eq_ci(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
/* s without SP and HTAB at both ends (OWS, RFC 9110 5.6.3). */
struct str str_trim(struct str s);
/* Cuts *rest at the first `sep`, returns the part before it; *rest becomes what follows ({NULL,0}
 * at the end).  Call until the rest's p is NULL. */
struct str str_cut(struct str *rest, char sep);
/* Decimal digits only, no sign, no space; false on overflow or anything else. */
bool str_u64(struct str s, uint64_t *out);
/* malloc'd NUL-terminated copy; the caller frees. */
char *str_dup(struct str s);
/* 64-bit hash for tables and hashing policies (not for security). Seeds give independent hashes. */
uint64_t str_hash(struct str s, uint64_t seed);
/* Levenshtein distance, for "did you mean"; strings above 64 bytes compare as far apart. */
unsigned str_distance(struct str a, struct str b);

static inline unsigned char
str_lower(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') ? (unsigned char)(c | 0x20) : c;
}

#endif
