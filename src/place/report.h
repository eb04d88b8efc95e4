/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report.h - what a server says of its own load, in whichever format: parsed strictly.  Pure.
 *
 * ORCA (xds.data.orca.v3.OrcaLoadReport) as TEXT, JSON and BIN, the reply of an HAProxy agent, and
 * node_exporter's text all become one struct.  A report is taken whole or refused whole, by a named
 * fault: half a report would be a lie of our own making.  Nothing here allocates.
 */
#ifndef MC_PLACE_REPORT_H
#define MC_PLACE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "base/units.h"

/* X(id, member, name in ORCA's TEXT, largest value that is believed).  The largest values are far
 * above anything real and only keep nonsense out: 64 Ki cores, 1 EiB, some 30 years of 64 Ki cores.
 * cpu_utilization may exceed 1 (orca_load_report.proto), shares of a whole cannot. */
#define REPORT_FIELDS(X)                                                                \
    X(CPU_UTILIZATION, cpu_utilization, "cpu_utilization", 1e4)                         \
    X(MEM_UTILIZATION, mem_utilization, "mem_utilization", 1)                           \
    X(APPLICATION_UTILIZATION, application_utilization, "application_utilization", 1e4) \
    X(RPS, rps, "rps_fractional", 1e9)                                                  \
    X(EPS, eps, "eps", 1e9)                                                             \
    X(CORES, cores, "named_metrics.cores", 65536)                                       \
    X(CPU_SECONDS, cpu_seconds, "named_metrics.cpu_seconds", 1e14)                      \
    X(CPU_PRESSURE, cpu_pressure, "named_metrics.cpu_pressure", 1)                      \
    X(HOST_CPU, host_cpu, "named_metrics.host_cpu", 1)                                  \
    X(HOST_CORES, host_cores, "named_metrics.host_cores", 65536)                        \
    X(RUN_QUEUE, run_queue, "named_metrics.run_queue", 1e7)                             \
    X(MEM_BYTES, mem_bytes, "named_metrics.mem_bytes", 0x1p60)                          \
    X(MEM_LIMIT, mem_limit_bytes, "named_metrics.mem_limit", 0x1p60)                    \
    X(MEM_PRESSURE, mem_pressure, "named_metrics.mem_pressure", 1)                      \
    X(IO_PRESSURE, io_pressure, "named_metrics.io_pressure", 1)                         \
    X(THROTTLED, throttled_seconds, "named_metrics.throttled_seconds", 1e14)

/* X(id, member, name, what it stays below).  Whole numbers that order reports: ORCA carries
 * doubles, which are exact below 2^53; milliseconds since 1970 stay below 2^42 until 2109. */
#define REPORT_INTS(X)                                     \
    X(BOOT, boot, "named_metrics.boot", (uint64_t)1 << 53) \
    X(SEQ, seq, "named_metrics.seq", (uint64_t)1 << 53)    \
    X(TIME, time_ms, "named_metrics.time", (uint64_t)1 << 42)

enum report_field {
#define X(id, member, name, max) REPORT_##id,
    REPORT_FIELDS(X)
#undef X
#define X(id, member, name, below) REPORT_##id,
        REPORT_INTS(X)
#undef X
    /* Of HAProxy's agent-check alone. */
    REPORT_WEIGHT,      /* a share of the configured weight: 0.75 for "75%" */
    REPORT_WEIGHT_UNIT, /* an absolute weight, 0..256: "weight:128" */
    REPORT_MAX_IN_FLIGHT,
    REPORT_ADMIN,
    REPORT_HEALTH,
    REPORT_N_FIELDS,
};

/* The last word of each kind in an agent's reply. */
enum report_admin { REPORT_READY, REPORT_DRAIN, REPORT_MAINT };
enum report_health { REPORT_UP, REPORT_DOWN, REPORT_FAIL, REPORT_STOPPED };
const char *report_admin_word(enum report_admin);   /* "drain" */
const char *report_health_word(enum report_health); /* "stopped" */

#define REPORT_NAME_MAX     48  /* bytes of a name of ours or of others, with the NUL */
#define REPORT_MAPS_MAX     16  /* of either map are kept; more than that are left out */
#define REPORT_ENTRIES_MAX  128 /* in one report; more refuse it */
#define REPORT_BYTES_MAX    8192
#define REPORT_REASON_MAX   64 /* bytes that are kept, with the NUL */

/* What one request may take by its server's word: a day and more. */
#define REPORT_COST_MOST_S  1e5
/* A request that took "nothing" took less than its server can count. */
#define REPORT_COST_LEAST_S 1e-6

struct report_named {
    double value;
    char name[REPORT_NAME_MAX];
    bool utilization; /* of the map `utilization`: a share, up to 1 */
};

struct place_report {
    uint32_t present; /* 1u << enum report_field */
    uint8_t n_costs, n_named;
    uint8_t admin, health; /* enum report_admin, enum report_health */
    uint64_t boot, seq, time_ms;
#define X(id, member, name, max) double member;
    REPORT_FIELDS(X)
#undef X
    double weight;
    uint32_t weight_unit, max_in_flight;
    char reason[REPORT_REASON_MAX]; /* of agent-check: what stands behind "#", printable ASCII */
    struct report_named cost[REPORT_MAPS_MAX];  /* ORCA's request_cost */
    struct report_named named[REPORT_MAPS_MAX]; /* "foo" of named_metrics.foo or utilization.foo */
};

static inline bool
report_has(const struct place_report *r, enum report_field f)
{
    return (r->present & (1u << f)) != 0;
}

/* X(id, name for metrics, text for people).  Those behind STALE_SEQ speak of a report's place in
 * time and come from report_admit(), the others from the parsers. */
#define REPORT_FAULTS(X)                                                          \
    X(NONE, "none", "no fault")                                                   \
    X(EMPTY, "empty", "empty report")                                             \
    X(TOO_LONG, "too_long", "report too long")                                    \
    X(TOO_MANY, "too_many", "too many entries")                                   \
    X(FORMAT, "format", "unknown format")                                         \
    X(SYNTAX, "syntax", "malformed")                                              \
    X(NAME_EMPTY, "name_empty", "empty name")                                     \
    X(NAME_LONG, "name_long", "name too long")                                    \
    X(NAME_UNKNOWN, "name_unknown", "unknown name")                               \
    X(DUPLICATE, "duplicate", "name given twice")                                 \
    X(NUMBER, "number", "malformed number")                                       \
    X(NOT_FINITE, "not_finite", "NaN or infinity")                                \
    X(NEGATIVE, "negative", "negative value")                                     \
    X(RANGE, "range", "value out of range")                                       \
    X(BASE64, "base64", "malformed base64")                                       \
    X(WIRE, "wire", "malformed protobuf")                                         \
    X(INCOMPLETE, "incomplete", "what a report needs is missing")                 \
    X(STALE_SEQ, "stale_seq", "not newer than the last one")                      \
    X(STALE_CLOCK, "stale_clock", "the server's clock stands still or goes back") \
    X(CLOCK_AHEAD, "clock_ahead", "the server's clock runs ahead")                \
    X(COUNTER_BACK, "counter_back", "the CPU counter goes back")                  \
    X(COUNTER_JUMP, "counter_jump", "the CPU counter runs faster than the cores allow")

enum report_fault {
#define X(id, name, text) REPORT_F_##id,
    REPORT_FAULTS(X)
#undef X
        REPORT_N_FAULTS,
};

const char *report_fault_name(enum report_fault); /* "not_finite", a label for metrics */
const char *report_fault_text(enum report_fault);

/* --- parsers: *out is whole after REPORT_F_NONE, and undefined otherwise ------------------------
 */

/* "cpu_utilization=0.7,named_metrics.cores=4"; ':' for '=' as older writers have it. */
enum report_fault report_parse_text(struct str, struct place_report *out);
/* An OrcaLoadReport in proto3's JSON mapping; unknown members refuse it as they do in Envoy. */
enum report_fault report_parse_json(struct str, struct place_report *out);
/* An OrcaLoadReport on the wire. */
enum report_fault report_parse_proto(const void *, size_t, struct place_report *out);
/* The same in base64, padded or not. */
enum report_fault report_parse_bin(struct str, struct place_report *out);
/* The values of the response's or trailer's fields endpoint-load-metrics ("TEXT ...", "JSON ...",
 * "BIN ...") and endpoint-load-metrics-bin, STR_NONE where absent; the latter wins.  EMPTY when
 * there is neither. */
enum report_fault report_parse_orca(struct str metrics, struct str metrics_bin,
                                    struct place_report *out);
/* CPU-seconds that the request took on the server: of the request costs "cpu_seconds", else "cpu".
 * *out is 0 when there is neither, and above 0 when there is; RANGE when no request takes so much.
 */
enum report_fault report_cost_cpu(const struct place_report *, double *out);
/* One line an HAProxy agent replied, without its end: "75% drain up # reason". */
enum report_fault report_parse_agent_check(struct str line, struct place_report *out);

/* --- node_exporter: counters, of which two scrapes make a report --------------------------------
 */

struct report_node {
    double cpu_seconds, idle_seconds; /* of all cores together; idle with iowait */
    double cpu_waiting, mem_waiting,
        io_waiting;                  /* node_pressure_*_waiting_seconds_total; < 0: none */
    double mem_total, mem_available; /* < 0: none */
    double run_queue;                /* node_procs_running, else node_load1; < 0: none */
    double boot_s, time_s;           /* < 0: none */
    unsigned cores;
};

/* A whole scrape.  Lines of other metrics are passed over; those that are used are strict. */
enum report_fault report_parse_node(struct str text, struct report_node *out);
/* What the host did between two scrapes that were taken elapsed apart. */
enum report_fault report_of_node(const struct report_node *before, const struct report_node *now,
                                 mc_ns elapsed, struct place_report *out);

/* --- writing ------------------------------------------------------------------------------------
 */

/* What report_write_text() needs at most, with its NUL. */
#define REPORT_TEXT_MAX ((REPORT_N_FIELDS + REPORT_MAPS_MAX) * (REPORT_NAME_MAX + 40))
/* The report as TEXT without a line end; request costs have no place in it.  Returns the length. */
size_t report_write_text(const struct place_report *, char out[REPORT_TEXT_MAX]);

/* --- order --------------------------------------------------------------------------------------
 */

/* What is remembered of one agent to put its reports in order.  Zero-initialise. */
struct report_order {
    bool any;
    uint32_t present; /* of the last report */
    uint64_t boot, seq, time_ms;
    double cpu_seconds, cores;
    mc_ns at;     /* when the last one arrived */
    mc_ns offset; /* our clock less the server's, at the fastest way seen */
};

/* Is r, that arrived now, newer than all before it and possible after them?  Then it is remembered,
 * and *age tells how long ago it was true, less the fastest way a report took. */
enum report_fault report_admit(struct report_order *, const struct place_report *r, mc_ns now,
                               mc_ns *age);

#endif
