/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.c - what the agent answers to HAProxy's agent-check: "up 75% maxconn:50".
 *
 * The weight follows what is free, not what is used: a server that is half busy gets half of what
 * it would get idle.  It never falls to 0 %, which would take the server out, and is smoothed over
 * a second: HAProxy asks every few seconds, and one window of 100 ms says little.
 *
 * "up" is said each time, since only an agent's "up" undoes an agent's "down".  "ready" is not: it
 * would undo what an operator did by hand in HAProxy; it is said only after our own drain or maint.
 */
#include "agent/words.h"

#include <math.h>
#include <stdio.h>

#include "agent/files.h"
#include "base/log.h"

#define SMOOTH_NS MC_SEC
/* Above this share of its memory a server loses weight, down to nothing when it is full. */
#define MEM_HIGH  0.9

static double
clamp(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* What of the service's cores is free: its own share of them, and what neighbours leave over. */
static double
free_share(const struct place_report *r)
{
    double f = 1 - clamp(r->cpu_utilization);

    if (report_has(r, REPORT_HOST_CPU) && report_has(r, REPORT_HOST_CORES) && r->cores > 0)
        f = fmin(f, clamp((1 - r->host_cpu) * r->host_cores / r->cores));
    if (report_has(r, REPORT_MEM_UTILIZATION) && r->mem_utilization > MEM_HIGH)
        f *= clamp((1 - r->mem_utilization) / (1 - MEM_HIGH));
    return f;
}

void
words_learn(struct words *w, const struct place_report *r, mc_ns elapsed)
{
    if (!report_has(r, REPORT_CPU_UTILIZATION))
        return;
    if (w->free < 0)
        w->free = free_share(r);
    else
        w->free += (free_share(r) - w->free) * (1 - exp(-(double)elapsed / (double)SMOOTH_NS));
}

/* The words of the first line; none when there is no file, or none that can be understood. */
static void
read_state(struct words *w, struct place_report *out)
{
    enum report_fault f = REPORT_F_EMPTY;
    struct str s;

    *out = (struct place_report){0};
    if (w->state_file == NULL)
        return;
    s = file_read_path(w->state_file);
    if (s.p != NULL)
        f = report_parse_agent_check(str_trim(str_cut(&s, '\n')), out);
    if (f != REPORT_F_NONE)
        out->present = 0;
    if (f != REPORT_F_NONE && f != REPORT_F_EMPTY && !w->complained)
        log_warn("agent: %s: %s; it is left out", w->state_file, report_fault_text(f));
    w->complained = f != REPORT_F_NONE && f != REPORT_F_EMPTY;
}

/* NULL: nothing is to be said. */
static const char *
admin_word(struct words *w, const struct place_report *said)
{
    bool given = report_has(said, REPORT_ADMIN);
    enum report_admin a = given          ? (enum report_admin)said->admin
                          : w->has_admin ? w->admin
                                         : REPORT_READY;

    if (a != REPORT_READY)
        w->was_closed = true;
    return given || w->has_admin || w->was_closed ? report_admin_word(a) : NULL;
}

static const char *
health_word(const struct place_report *said)
{
    return report_has(said, REPORT_HEALTH) ? report_health_word(said->health) : "up";
}

static int
write_weight(const struct words *w, const struct place_report *said, char *out, size_t n)
{
    if (report_has(said, REPORT_WEIGHT))
        return snprintf(out, n, " %.0f%%", said->weight * 100);
    if (report_has(said, REPORT_WEIGHT_UNIT))
        return snprintf(out, n, " weight:%u", said->weight_unit);
    if (w->free < 0)
        return 0;
    return snprintf(out, n, " %.0f%%", fmax(1, round(w->free * 100)));
}

/* maxconn is for each balancer: all together send what the server takes. */
static int
write_maxconn(const struct words *w, const struct place_report *said, char *out, size_t n)
{
    if (report_has(said, REPORT_MAX_IN_FLIGHT))
        return snprintf(out, n, " maxconn:%u", said->max_in_flight);
    if (w->capacity == 0)
        return 0;
    return snprintf(out, n, " maxconn:%llu",
                    (unsigned long long)((w->capacity + w->fleet - 1) / w->fleet));
}

size_t
words_reply(struct words *w, char out[WORDS_MAX])
{
    struct place_report said;
    const char *admin;
    int n;

    read_state(w, &said);
    admin = admin_word(w, &said);
    n = snprintf(out, WORDS_MAX, "%s%s%s", health_word(&said), admin ? " " : "",
                 admin ? admin : "");
    n += write_weight(w, &said, out + n, WORDS_MAX - (size_t)n);
    n += write_maxconn(w, &said, out + n, WORDS_MAX - (size_t)n);
    n += snprintf(out + n, WORDS_MAX - (size_t)n, "\n");
    return (size_t)n;
}
