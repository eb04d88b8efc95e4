/* SPDX-License-Identifier: BSD-2-Clause
 *
 * units.c - time and size as people write them.
 */
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"

struct unit {
    struct str name;
    uint64_t size;
};

/* Largest first: the first one that divides a number writes it shortest. */
static const struct unit durations[] = {
    {{"d", 1}, (uint64_t)(86400 * MC_SEC)},
    {{"h", 1}, (uint64_t)(3600 * MC_SEC)},
    {{"m", 1}, (uint64_t)(60 * MC_SEC)},
    {{"s", 1}, (uint64_t)MC_SEC},
    {{"ms", 2}, (uint64_t)MC_MS},
    {{"us", 2}, (uint64_t)MC_US},
    {{"ns", 2}, 1},
};

#define KI ((uint64_t)1024)
#define K  ((uint64_t)1000)

static const struct unit sizes[] = {
    {{"TiB", 3}, KI *KI *KI *KI},
    {{"TB", 2}, K *K *K *K},
    {{"GiB", 3}, KI *KI *KI},
    {{"GB", 2}, K *K *K},
    {{"MiB", 3}, KI *KI},
    {{"MB", 2}, K *K},
    {{"KiB", 3}, KI},
    {{"KB", 2}, K},
    {{"B", 1}, 1},
    {{"t", 1}, KI *KI *KI *KI},
    {{"g", 1}, KI *KI *KI},
    {{"m", 1}, KI *KI},
    {{"k", 1}, KI},
};

static int64_t
clock_ns(clockid_t id)
{
    struct timespec ts;

    MC_ASSERT(clock_gettime(id, &ts) == 0);
    return (int64_t)ts.tv_sec * MC_SEC + ts.tv_nsec;
}

mc_ns
units_clock_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t
units_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

/* A number with at most one point: digits / scale.  *s becomes what follows. */
struct decimal {
    uint64_t digits, scale;
};

static bool
take_decimal(struct str *s, struct decimal *d)
{
    bool point = false;
    size_t i;

    *d = (struct decimal){0, 1};
    for (i = 0; i < s->n; i++) {
        char c = s->p[i];

        if (c == '.' && !point && i > 0) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        if (__builtin_mul_overflow(d->digits, 10, &d->digits) ||
            __builtin_add_overflow(d->digits, (uint64_t)(c - '0'), &d->digits))
            return false;
        if (point && __builtin_mul_overflow(d->scale, 10, &d->scale))
            return false;
    }
    if (i == 0 || s->p[i - 1] == '.')
        return false;
    *s = (struct str){s->p + i, s->n - i};
    return true;
}

/* digits * unit / scale, when that is whole and not above max. */
static bool
times_unit(struct decimal d, uint64_t unit, uint64_t max, uint64_t *out)
{
    unsigned __int128 v = (unsigned __int128)d.digits * unit;

    if (v % d.scale != 0 || v / d.scale > max)
        return false;
    *out = (uint64_t)(v / d.scale);
    return true;
}

bool
units_parse_duration(struct str s, mc_ns *out_ns)
{
    struct decimal d;
    uint64_t ns;

    if (str_eq(s, STR("0"))) {
        *out_ns = 0;
        return true;
    }
    if (!take_decimal(&s, &d))
        return false;
    for (size_t i = 0; i < MC_COUNT(durations); i++) {
        if (!str_eq(s, durations[i].name))
            continue;
        if (!times_unit(d, durations[i].size, INT64_MAX, &ns))
            return false;
        *out_ns = (mc_ns)ns;
        return true;
    }
    return false;
}

bool
units_parse_size(struct str s, uint64_t *out_bytes)
{
    struct decimal d;

    if (!take_decimal(&s, &d))
        return false;
    if (s.n == 0)
        return times_unit(d, 1, UINT64_MAX, out_bytes);
    for (size_t i = 0; i < MC_COUNT(sizes); i++)
        if (str_eq_ci(s, sizes[i].name))
            return times_unit(d, sizes[i].size, UINT64_MAX, out_bytes);
    return false;
}

/* The largest unit of the first n that divides v. */
static const struct unit *
whole_unit(const struct unit *units, size_t n, uint64_t v)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (v % units[i].size == 0)
            return &units[i];
    return &units[n - 1];
}

/* "1.5s": v in the largest of s, ms, us that it reaches; false when a whole number would do. */
static bool
duration_with_point(uint64_t v, char out[UNITS_TEXT])
{
    for (size_t i = 3; i + 1 < MC_COUNT(durations); i++) {
        uint64_t unit = durations[i].size, rest = v % unit;
        int places = 0, n;

        if (v < unit)
            continue;
        if (rest == 0)
            return false;
        for (uint64_t u = unit; u > 1; u /= 10)
            places++;
        for (; rest % 10 == 0; places--)
            rest /= 10;
        n = snprintf(out, UNITS_TEXT, "%" PRIu64 ".%0*" PRIu64 "%s", v / unit, places, rest,
                     durations[i].name.p);
        MC_ASSERT(n < UNITS_TEXT);
        return true;
    }
    return false;
}

const char *
units_duration_text(mc_ns ns, char out[UNITS_TEXT])
{
    uint64_t v = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    const struct unit *u = whole_unit(durations, MC_COUNT(durations), v);
    char whole[UNITS_TEXT], point[UNITS_TEXT];
    const char *best = whole;

    if (ns == MC_NEVER_NS)
        return strcpy(out, "never");
    if (ns == 0)
        return strcpy(out, "0");
    snprintf(whole, sizeof(whole), "%" PRIu64 "%s", v / u->size, u->name.p);
    if (duration_with_point(v, point) && strlen(point) < strlen(whole))
        best = point;
    snprintf(out, UNITS_TEXT, "%s%.*s", ns < 0 ? "-" : "", UNITS_TEXT - 2, best);
    return out;
}
