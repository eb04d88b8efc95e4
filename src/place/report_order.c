/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_order.c - which of two reports is newer, how old one is, and whether it can be true after
 * the one before it.
 *
 * Clocks of two machines need not agree.  What a report's way took cannot be told from one report,
 * but the smallest difference of the clocks over many is that of the fastest way, and what exceeds
 * it is delay.  The server's clock may drift against ours, so the smallest difference is let up
 * slowly.
 *
 * Nothing that is refused is remembered, and what is remembered is forgotten after a while without
 * a good report: so one lie, or a clock that was set, costs seconds and never more.
 */
#include "place/report.h"

#include "base/check.h"

/* Without a good report for so long, whatever comes next begins anew.  A guess: far above any
 * interval of reports, and short for a server whose clock was set. */
#define FORGET_NS   (15 * MC_SEC)
/* A report that was under way for longer says nothing of now. */
#define STALE_NS    (10 * MC_SEC)
/* How far a report may seem to come from the future of the fastest one: the first way measured may
 * have been a slow one. */
#define AHEAD_NS    (5 * MC_SEC)
/* A clock that NTP does not discipline drifts by less than 500 ppm (ntpd's limit, too). */
#define DRIFT_PPM   500
/* What the CPU counter may gain beyond cores x time: a burst that a quota allows within its period,
 * and the grain of the clocks. */
#define SLACK_S     1.0
#define SLACK_RATIO 1.25

#define ORDERED     (1u << REPORT_BOOT | 1u << REPORT_SEQ)

static mc_ns
clock_difference(const struct place_report *r, mc_ns now)
{
    return now - (mc_ns)r->time_ms * MC_MS;
}

static void
remember(struct report_order *o, const struct place_report *r, mc_ns now)
{
    o->any = true;
    o->present = r->present;
    o->boot = r->boot;
    o->seq = r->seq;
    o->time_ms = r->time_ms;
    o->cpu_seconds = r->cpu_seconds;
    o->cores = r->cores > r->host_cores ? r->cores : r->host_cores;
    o->at = now;
}

/* Both this report and the last one have it. */
static bool
both_have(const struct report_order *o, const struct place_report *r, enum report_field f)
{
    return (o->present & r->present & (1u << f)) != 0;
}

/* Looks at the server's clock; *offset is the fastest way including this one. */
static enum report_fault
judge_clock(const struct report_order *o, const struct place_report *r, mc_ns now, mc_ns *offset,
            mc_ns *age)
{
    mc_ns here = clock_difference(r, now);
    mc_ns fastest = o->offset + (now - o->at) / 1000000 * DRIFT_PPM;

    if (r->time_ms <= o->time_ms)
        return REPORT_F_STALE_CLOCK;
    if (here < fastest - AHEAD_NS)
        return REPORT_F_CLOCK_AHEAD;
    *offset = here < fastest ? here : fastest;
    *age = here - *offset;
    return *age > STALE_NS ? REPORT_F_STALE_CLOCK : REPORT_F_NONE;
}

static enum report_fault
judge_counter(const struct report_order *o, const struct place_report *r, mc_ns now)
{
    double cores = r->cores > r->host_cores ? r->cores : r->host_cores;
    double seconds = both_have(o, r, REPORT_TIME) ? (double)(r->time_ms - o->time_ms) / 1e3
                                                  : (double)(now - o->at) / 1e9;

    if (r->cpu_seconds < o->cpu_seconds)
        return REPORT_F_COUNTER_BACK;
    if (cores < o->cores)
        cores = o->cores;
    if (cores > 0 && r->cpu_seconds - o->cpu_seconds > cores * seconds * SLACK_RATIO + SLACK_S)
        return REPORT_F_COUNTER_JUMP;
    return REPORT_F_NONE;
}

enum report_fault
report_admit(struct report_order *o, const struct place_report *r, mc_ns now, mc_ns *age)
{
    enum report_fault f = REPORT_F_NONE;
    mc_ns offset = clock_difference(r, now); /* unless there is an older one to go by */

    *age = 0;
    if ((r->present & ORDERED) != ORDERED)
        return REPORT_F_NONE; /* says nothing of its time: as new as its arrival */
    if (o->any && now - o->at <= FORGET_NS && r->boot <= o->boot) {
        if (r->boot < o->boot || r->seq <= o->seq)
            return REPORT_F_STALE_SEQ;
        if (both_have(o, r, REPORT_TIME))
            f = judge_clock(o, r, now, &offset, age);
        if (f == REPORT_F_NONE && both_have(o, r, REPORT_CPU_SECONDS))
            f = judge_counter(o, r, now);
    }
    if (f != REPORT_F_NONE)
        return f;
    o->offset = offset;
    remember(o, r, now);
    return REPORT_F_NONE;
}
