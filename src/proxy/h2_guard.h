/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h2_guard.h - how much of what costs us more than its sender an HTTP/2 peer may do.  Pure.
 *
 * Frames that make the receiver work or answer are cheap to send: streams opened and reset
 * (CVE-2023-44487), streams that break rules so that we reset them (CVE-2025-8671), SETTINGS, PING,
 * PRIORITY and empty frames (CVE-2019-9512, -9515, -9518).  Each kind has a rate, and ten seconds'
 * worth may come at once.  Whoever exceeds it is sent away with ENHANCE_YOUR_CALM.
 */
#ifndef MC_PROXY_H2_GUARD_H
#define MC_PROXY_H2_GUARD_H

#include <stdbool.h>

#include "base/units.h"

/* X(name, label in metrics, what there is too much of) */
#define H2_ABUSES(X)                                         \
    X(RESETS, "resets", "streams reset by the client")       \
    X(FAULTS, "faults", "streams reset for faulty frames")   \
    X(CONTROL, "control-frames", "control and empty frames") \
    X(HEADS, "heads", "bytes in a head")                     \
    X(CONTINUATIONS, "continuations", "CONTINUATION frames") \
    X(ANSWERS, "answers", "answers to SETTINGS and PING that are not taken")

enum h2_abuse {
#define X(name, label, text) H2_ABUSE_##name,
    H2_ABUSES(X)
#undef X
        H2_ABUSE_N
};

const char *h2_abuse_label(enum h2_abuse);
const char *h2_abuse_text(enum h2_abuse);

#define H2_BURST_S 10

/* A token bucket; zero-initialise: it is full when first used. */
struct h2_meter {
    mc_ns filled_ns;
    double tokens;
};

/* Takes one of per_s a second; false: there is none left.  per_s 0: no limit. */
bool h2_meter_take(struct h2_meter *, unsigned per_s, mc_ns now);
/* Gives n back, for work that was worth them; not beyond what may come at once. */
void h2_meter_give(struct h2_meter *, unsigned n);

#endif
