/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_report_order.c - any reports at any time: what is admitted is newer than what was, and an
 * honest agent is believed again within seconds of whatever came before.
 */
#include "report_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

struct step {
    uint32_t after_ms;
    uint8_t present, boot;
    uint16_t cpu;
    uint64_t seq, time_ms;
};

static void
honest(struct report_order *o, mc_ns now)
{
    struct place_report r = {.present = 1u << REPORT_BOOT | 1u << REPORT_SEQ | 1u << REPORT_TIME |
                                        1u << REPORT_CPU_SECONDS | 1u << REPORT_CORES,
                             .boot = 1,
                             .cores = 1};
    unsigned believed = 0;
    mc_ns age;

    for (int i = 0; i < 200; i++) { /* twenty seconds */
        now += 100 * MC_MS;
        r.seq++;
        r.time_ms = 5000 + 100 * r.seq;
        r.cpu_seconds += 0.05;
        believed = report_admit(o, &r, now, &age) == REPORT_F_NONE ? believed + 1 : 0;
    }
    MC_ASSERT(believed > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct report_order o = {0};
    mc_ns now = 1000 * MC_SEC, age;
    struct step s;

    for (; n >= sizeof(s); data += sizeof(s), n -= sizeof(s)) {
        struct report_order before = o;
        struct place_report r;

        memcpy(&s, data, sizeof(s));
        now += s.after_ms % 20000 * MC_MS;
        r = (struct place_report){.present = 1u << REPORT_BOOT | 1u << REPORT_SEQ |
                                             (s.present & 1 ? 1u << REPORT_TIME : 0) |
                                             (s.present & 2 ? 1u << REPORT_CPU_SECONDS : 0) |
                                             (s.present & 4 ? 1u << REPORT_CORES : 0),
                                  .boot = s.boot,
                                  .seq = s.seq % ((uint64_t)1 << 53),
                                  .time_ms = s.time_ms % ((uint64_t)1 << 42),
                                  .cpu_seconds = s.cpu,
                                  .cores = 2};
        if (report_admit(&o, &r, now, &age) != REPORT_F_NONE) {
            MC_ASSERT(memcmp(&o, &before, sizeof(o)) == 0);
            continue;
        }
        MC_ASSERT(age >= 0 && o.boot == r.boot && o.seq == r.seq);
    }
    honest(&o, now);
    return 0;
}
