/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_scan.c - the inner loops over the bytes of a head: plain, SSE2 and AVX2.
 *
 * The plain ones define what is right, the others must agree byte for byte (h1_scan_test.c).
 * The best that the processor has is chosen before main().
 */
#include "http/h1_priv.h"

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define V  C_VALUE
#define T  C_TARGET
#define TT (C_TOKEN | C_VALUE | C_TARGET)
#define TH (C_TOKEN | C_VALUE | C_TARGET | C_HOST)

const unsigned char h1_class[256] = {
    ['\t'] = V,
    [' '] = V,
    ['!'] = TH,
    ['"'] = V | T,
    ['#'] = C_TOKEN | V, /* a fragment never is part of a target: RFC 9112 3.2 */
    ['$'] = TH,
    ['%'] = TT,
    ['&'] = TH,
    ['\''] = TH,
    ['('] = V | T | C_HOST,
    [')'] = V | T | C_HOST,
    ['*'] = TH,
    ['+'] = TH,
    [','] = V | T,
    ['-'] = TH,
    ['.'] = TH,
    ['/'] = V | T,
    ['0' ... '9'] = TH | C_HEX,
    [':'] = V | T,
    [';'] = V | T | C_HOST,
    ['<'] = V | T,
    ['='] = V | T | C_HOST,
    ['>'] = V | T,
    ['?'] = V | T,
    ['@'] = V | T,
    ['A' ... 'F'] = TH | C_HEX,
    ['G' ... 'Z'] = TH,
    ['['] = V | T,
    ['\\'] = V | T,
    [']'] = V | T,
    ['^'] = TT,
    ['_'] = TH,
    ['`'] = TT,
    ['a' ... 'f'] = TH | C_HEX,
    ['g' ... 'z'] = TH,
    ['{'] = V | T,
    ['|'] = TT,
    ['}'] = V | T,
    ['~'] = TH,
    [0x80 ... 0xff] = V, /* obs-text, RFC 9110 5.5 */
};

/* --- plain ----------------------------------------------------------------------------------- *
 * `end` is not needed: the LF at the end of a head is in no class. */
static inline const char *
class_end(const char *p, unsigned classes)
{
    while (h1_is(*p, classes))
        p++;
    return p;
}

static const char *
token_end_scalar(const char *p, const char *end)
{
    return class_end(p, C_TOKEN);
}

static const char *
target_end_scalar(const char *p, const char *end)
{
    return class_end(p, C_TARGET);
}

static const char *
value_end_scalar(const char *p, const char *end)
{
    return class_end(p, C_VALUE);
}

/* Looks back, not ahead: a search can go on at any place when more bytes have come. */
static inline bool
ends_empty_line(const char *lf)
{
    return lf[-1] == '\n' || (lf[-1] == '\r' && lf[-2] == '\n');
}

static size_t
empty_line_scalar(const char *p, size_t from, size_t n)
{
    while (from < n) {
        const char *lf = memchr(p + from, '\n', n - from);

        if (!lf)
            break;
        if (ends_empty_line(lf))
            return (size_t)(lf - p);
        from = (size_t)(lf - p) + 1;
    }
    return n;
}

static const struct h1_scan scan_scalar = {
    .name = "scalar",
    .token_end = token_end_scalar,
    .target_end = target_end_scalar,
    .value_end = value_end_scalar,
    .empty_line = empty_line_scalar,
};

#if defined(__x86_64__)
/* --- SSE2 ------------------------------------------------------------------------------------ *
 * Each *_stop16 answers with a bit for every byte that is not of the class.  Signed comparison
 * makes bytes from 0x80 on negative, which is what targets want and what values must undo. */

static inline unsigned
target_stop16(const char *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    __m128i above_sp = _mm_cmpgt_epi8(v, _mm_set1_epi8(' '));
    __m128i bad =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('#')), _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));

    return (unsigned)_mm_movemask_epi8(_mm_andnot_si128(bad, above_sp)) ^ 0xffff;
}

static inline unsigned
value_stop16(const char *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    /* there is no unsigned comparison: min(v, 0x1f) == v says v <= 0x1f */
    __m128i ctl = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
    __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));

    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, ctl), del));
}

/* v[i] ends an empty line: it is LF, and before it stands LF or LF CR. */
static inline unsigned
empty16(const char *p)
{
    const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
    __m128i here = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)p), lf);
    __m128i one = _mm_loadu_si128((const __m128i *)(p - 1));
    __m128i two = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p - 2)), lf);
    __m128i before =
        _mm_or_si128(_mm_cmpeq_epi8(one, lf), _mm_and_si128(_mm_cmpeq_epi8(one, cr), two));

    return (unsigned)_mm_movemask_epi8(_mm_and_si128(here, before));
}

static const char *
target_end_sse2(const char *p, const char *end)
{
    for (; end - p >= 16; p += 16) {
        unsigned stop = target_stop16(p);

        if (stop)
            return p + __builtin_ctz(stop);
    }
    return class_end(p, C_TARGET);
}

static const char *
value_end_sse2(const char *p, const char *end)
{
    for (; end - p >= 16; p += 16) {
        unsigned stop = value_stop16(p);

        if (stop)
            return p + __builtin_ctz(stop);
    }
    return class_end(p, C_VALUE);
}

static size_t
empty_line_sse2(const char *p, size_t from, size_t n)
{
    for (; from + 16 <= n; from += 16) {
        unsigned stop = empty16(p + from);

        if (stop)
            return from + (unsigned)__builtin_ctz(stop);
    }
    return empty_line_scalar(p, from, n);
}

/* Tokens stay plain: SSE2 has no byte shuffle, and names are short. */
static const struct h1_scan scan_sse2 = {
    .name = "sse2",
    .token_end = token_end_scalar,
    .target_end = target_end_sse2,
    .value_end = value_end_sse2,
    .empty_line = empty_line_sse2,
};

/* --- AVX2 ------------------------------------------------------------------------------------ *
 * The same, twice as wide; what is left at the end of a head goes to SSE2 and from there to the
 * plain loops.  Compiled for processors that have it (also BMI, for the bit that is first set) and
 * called only there. */
#define AVX2 __attribute__((target("avx2,bmi")))

static bool
avx2_here(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
}

/* tchar by two table lookups (Mula, Lemire 2018): bit k of low[x & 15] says that the byte with high
 * nibble k + 2 and this low nibble is a token byte; high[] selects the bit.  A byte from 0x80 on
 * shuffles to zero and so is none. */
#define TOKEN_LOW \
    0x3a, 0x3f, 0x3e, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3e, 0x3e, 0x3d, 0x15, 0x34, 0x15, 0x3d, 0x1c
#define TOKEN_HIGH 0, 0, 1, 2, 4, 8, 16, 32, 0, 0, 0, 0, 0, 0, 0, 0

AVX2 static inline unsigned
token_stop32(const char *p)
{
    const __m256i low = _mm256_setr_epi8(TOKEN_LOW, TOKEN_LOW);
    const __m256i high = _mm256_setr_epi8(TOKEN_HIGH, TOKEN_HIGH);
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i nibble = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(0x0f));
    __m256i hit = _mm256_and_si256(_mm256_shuffle_epi8(low, v), _mm256_shuffle_epi8(high, nibble));

    return (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(hit, _mm256_setzero_si256()));
}

AVX2 static inline unsigned
target_stop32(const char *p)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i above_sp = _mm256_cmpgt_epi8(v, _mm256_set1_epi8(' '));
    __m256i bad = _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('#')),
                                  _mm256_cmpeq_epi8(v, _mm256_set1_epi8(0x7f)));

    return ~(unsigned)_mm256_movemask_epi8(_mm256_andnot_si256(bad, above_sp));
}

AVX2 static inline unsigned
value_stop32(const char *p)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i ctl = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
    __m256i tab = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\t'));
    __m256i del = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(0x7f));

    return (unsigned)_mm256_movemask_epi8(_mm256_or_si256(_mm256_andnot_si256(tab, ctl), del));
}

AVX2 static inline unsigned
empty32(const char *p)
{
    const __m256i lf = _mm256_set1_epi8('\n'), cr = _mm256_set1_epi8('\r');
    __m256i here = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)p), lf);
    __m256i one = _mm256_loadu_si256((const __m256i *)(p - 1));
    __m256i two = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(p - 2)), lf);
    __m256i before = _mm256_or_si256(_mm256_cmpeq_epi8(one, lf),
                                     _mm256_and_si256(_mm256_cmpeq_epi8(one, cr), two));

    return (unsigned)_mm256_movemask_epi8(_mm256_and_si256(here, before));
}

AVX2 static const char *
token_end_avx2(const char *p, const char *end)
{
    for (; end - p >= 32; p += 32) {
        unsigned stop = token_stop32(p);

        if (stop)
            return p + __builtin_ctz(stop);
    }
    return class_end(p, C_TOKEN);
}

AVX2 static const char *
target_end_avx2(const char *p, const char *end)
{
    for (; end - p >= 32; p += 32) {
        unsigned stop = target_stop32(p);

        if (stop)
            return p + __builtin_ctz(stop);
    }
    return target_end_sse2(p, end);
}

AVX2 static const char *
value_end_avx2(const char *p, const char *end)
{
    for (; end - p >= 32; p += 32) {
        unsigned stop = value_stop32(p);

        if (stop)
            return p + __builtin_ctz(stop);
    }
    return value_end_sse2(p, end);
}

AVX2 static size_t
empty_line_avx2(const char *p, size_t from, size_t n)
{
    for (; from + 32 <= n; from += 32) {
        unsigned stop = empty32(p + from);

        if (stop)
            return from + (unsigned)__builtin_ctz(stop);
    }
    return empty_line_sse2(p, from, n);
}

static const struct h1_scan scan_avx2 = {
    .name = "avx2",
    .here = avx2_here,
    .token_end = token_end_avx2,
    .target_end = target_end_avx2,
    .value_end = value_end_avx2,
    .empty_line = empty_line_avx2,
};
#endif

/* --- choice ---------------------------------------------------------------------------------- *
 * One pointer for the process, set before main() and else only by tests: no lock. */
/* Best first. */
static const struct h1_scan *const scans[] = {
#if defined(__x86_64__)
    &scan_avx2,
    &scan_sse2,
#endif
    &scan_scalar,
};

const struct h1_scan *h1_scan = &scan_scalar;

const char *
h1_vector_use(const char *force)
{
    for (unsigned i = 0; i < MC_COUNT(scans); i++) {
        if (force && strcmp(force, scans[i]->name) != 0)
            continue;
        if (scans[i]->here && !scans[i]->here())
            continue;
        h1_scan = scans[i];
        break;
    }
    return h1_scan->name;
}

__attribute__((constructor)) static void
choose_best(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    h1_vector_use(NULL);
}
