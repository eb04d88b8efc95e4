/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h2_guard.c - see h2_guard.h.
 */
#include "proxy/h2_guard.h"

static const struct {
    const char *label, *text;
} abuses[] = {
#define X(name, label, text) [H2_ABUSE_##name] = {label, text},
    H2_ABUSES(X)
#undef X
};

const char *
h2_abuse_label(enum h2_abuse a)
{
    return abuses[a].label;
}

const char *
h2_abuse_text(enum h2_abuse a)
{
    return abuses[a].text;
}

void
h2_meter_give(struct h2_meter *m, unsigned n)
{
    m->tokens += n; /* the next taking bounds them */
}

bool
h2_meter_take(struct h2_meter *m, unsigned per_s, mc_ns now)
{
    const double max = (double)per_s * H2_BURST_S;

    if (per_s == 0)
        return true;
    if (m->filled_ns == 0)
        m->tokens = max;
    else
        m->tokens += (double)(now - m->filled_ns) * per_s / (double)MC_SEC;
    if (m->tokens > max)
        m->tokens = max;
    m->filled_ns = now;
    if (m->tokens < 1)
        return false;
    m->tokens -= 1;
    return true;
}
