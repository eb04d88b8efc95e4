/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.h - what the agent answers to HAProxy's agent-check.  Pure but for the state file.
 */
#ifndef MC_AGENT_WORDS_H
#define MC_AGENT_WORDS_H

#include "place/report.h"

#define WORDS_MAX 128

struct words {
    const char *state_file;
    uint64_t capacity, fleet;
    bool has_admin; /* set by agent_set_admin() */
    enum report_admin admin;
    bool was_closed; /* drain or maint was said: "ready" must follow */
    bool complained; /* of the state file as it is */
    double free;     /* share of the capacity that is free, smoothed; below zero: not known */
};

/* A report has come, over elapsed. */
void words_learn(struct words *, const struct place_report *, mc_ns elapsed);
/* One line with its end; returns its length. */
size_t words_reply(struct words *, char out[WORDS_MAX]);

#endif
