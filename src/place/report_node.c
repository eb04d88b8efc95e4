/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_node.c - load from Prometheus' node_exporter, in the text format 0.0.4.
 *
 * Its numbers are counters of the whole host: two scrapes make a report.  Lines of the metrics that
 * are used are read strictly; all others, comments among them, are passed over unread.
 */
#include "base/check.h"
#include "place/report.h"
#include "place/report_priv.h"

#define CPUS_MAX       4096 /* the kernel's own limit on x86 is twice that; such hosts are refused */
#define NODE_BYTES_MAX (4u << 20) /* a scrape of a large host has some 500 KiB */

struct node_reader {
    struct report_node *out;
    double procs_running, load1;
    uint8_t seen_cpu[CPUS_MAX / 8]; /* an idle line of it came already */
};

/* A sample's line in its parts. */
struct sample {
    struct str name, labels; /* labels without braces */
    struct str value;
};

/* --- lines --------------------------------------------------------------------------------------
 */

/* Labels may hold anything in quotes, "}" too. */
static bool
cut_labels(struct str *line, struct str *labels)
{
    bool quoted = false;

    for (size_t i = 1; i < line->n; i++) {
        char c = line->p[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (c == '}' && !quoted) {
            *labels = (struct str){line->p + 1, i - 1};
            line->p += i + 1;
            line->n -= i + 1;
            return true;
        }
    }
    return false;
}

/* name [{labels}] value [timestamp] */
static bool
split(struct str line, struct sample *s)
{
    size_t n = 0;

    while (n < line.n && line.p[n] != '{' && line.p[n] != ' ' && line.p[n] != '\t')
        n++;
    s->name = (struct str){line.p, n};
    s->labels = STR_NONE;
    line = (struct str){line.p + n, line.n - n};
    if (line.n > 0 && line.p[0] == '{' && !cut_labels(&line, &s->labels))
        return false;
    line = str_trim(line);
    s->value = str_cut(&line, ' ');
    return s->value.n > 0;
}

/* The value of a label whose value has no escapes; empty when it is not there. */
static struct str
label(struct str labels, struct str name)
{
    while (labels.p != NULL) {
        struct str one = str_trim(str_cut(&labels, ','));

        if (one.n > name.n + 3 && str_starts(one, name) && one.p[name.n] == '=' &&
            one.p[name.n + 1] == '"' && one.p[one.n - 1] == '"')
            return (struct str){one.p + name.n + 2, one.n - name.n - 3};
    }
    return STR_NONE;
}

/* --- what is used -------------------------------------------------------------------------------
 */

/* Each core has one idle line, so they count the cores. */
static enum report_fault
count_core(struct node_reader *r, struct str labels)
{
    uint64_t cpu;

    if (!str_u64(label(labels, STR("cpu")), &cpu))
        return REPORT_F_NUMBER;
    if (cpu >= CPUS_MAX)
        return REPORT_F_RANGE;
    if (r->seen_cpu[cpu / 8] & (1u << cpu % 8))
        return REPORT_F_DUPLICATE;
    r->seen_cpu[cpu / 8] |= (uint8_t)(1u << cpu % 8);
    r->out->cores++;
    return REPORT_F_NONE;
}

/* What the hypervisor stole is neither work of this host nor free: it is left out of both. */
static enum report_fault
take_cpu(struct node_reader *r, const struct sample *s, double v)
{
    struct str mode = label(s->labels, STR("mode"));

    if (str_eq(mode, STR("idle"))) {
        r->out->idle_seconds += v;
        return count_core(r, s->labels);
    }
    if (str_eq(mode, STR("iowait")))
        r->out->idle_seconds += v;
    else if (!str_eq(mode, STR("steal")))
        r->out->cpu_seconds += v;
    return REPORT_F_NONE;
}

static enum report_fault
take_sample(struct node_reader *r, const struct sample *s)
{
    struct report_node *o = r->out;
    const struct {
        const char *name;
        double *to;
    } wanted[] = {
        {"node_pressure_cpu_waiting_seconds_total", &o->cpu_waiting},
        {"node_pressure_memory_waiting_seconds_total", &o->mem_waiting},
        {"node_pressure_io_waiting_seconds_total", &o->io_waiting},
        {"node_memory_MemTotal_bytes", &o->mem_total},
        {"node_memory_MemAvailable_bytes", &o->mem_available},
        {"node_procs_running", &r->procs_running},
        {"node_load1", &r->load1},
        {"node_boot_time_seconds", &o->boot_s},
        {"node_time_seconds", &o->time_s},
    };
    bool is_cpu = str_eq(s->name, STR("node_cpu_seconds_total"));
    double *to = NULL, v;
    enum report_fault f;

    for (unsigned i = 0; i < MC_COUNT(wanted) && !is_cpu; i++)
        if (str_eq(s->name, str_of(wanted[i].name)))
            to = wanted[i].to;
    if (!is_cpu && to == NULL)
        return REPORT_F_NONE;
    f = report_number(s->value, &v);
    if (f != REPORT_F_NONE)
        return f;
    if (is_cpu)
        return take_cpu(r, s, v);
    if (*to >= 0)
        return REPORT_F_DUPLICATE;
    *to = v;
    return REPORT_F_NONE;
}

enum report_fault
report_parse_node(struct str text, struct report_node *out)
{
    struct node_reader r = {.out = out, .procs_running = -1, .load1 = -1};
    struct sample s;
    enum report_fault f;

    *out = (struct report_node){.cpu_waiting = -1,
                                .mem_waiting = -1,
                                .io_waiting = -1,
                                .mem_total = -1,
                                .mem_available = -1,
                                .run_queue = -1,
                                .boot_s = -1,
                                .time_s = -1};
    if (text.n == 0)
        return REPORT_F_EMPTY;
    if (text.n > NODE_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    while (text.p != NULL) {
        struct str line = str_trim(str_cut(&text, '\n'));

        if (!str_starts(line, STR("node_")))
            continue;
        f = split(line, &s) ? take_sample(&r, &s) : REPORT_F_SYNTAX;
        if (f != REPORT_F_NONE)
            return f;
    }
    out->run_queue = r.procs_running >= 0 ? r.procs_running : r.load1;
    return out->cores > 0 ? REPORT_F_NONE : REPORT_F_INCOMPLETE;
}

/* --- two scrapes --------------------------------------------------------------------------------
 */

static void
set(struct place_report *r, enum report_field f, double *to, double v)
{
    *to = v;
    r->present |= 1u << f;
}

/* A share of the time in which somebody waited; the kernel's clocks differ by a little. */
static void
set_pressure(struct place_report *r, enum report_field f, double *to, double before, double now,
             double seconds)
{
    double share = (now - before) / seconds;

    if (before >= 0 && now >= before)
        set(r, f, to, share > 1 ? 1 : share);
}

static enum report_fault
set_memory(struct place_report *r, const struct report_node *n)
{
    if (n->mem_total <= 0 || n->mem_available < 0)
        return REPORT_F_NONE;
    if (n->mem_available > n->mem_total || n->mem_total > 0x1p60)
        return REPORT_F_RANGE;
    set(r, REPORT_MEM_LIMIT, &r->mem_limit_bytes, n->mem_total);
    set(r, REPORT_MEM_BYTES, &r->mem_bytes, n->mem_total - n->mem_available);
    set(r, REPORT_MEM_UTILIZATION, &r->mem_utilization, r->mem_bytes / n->mem_total);
    return REPORT_F_NONE;
}

/* The host's boot and its clock order the scrapes, whoever made them. */
static enum report_fault
set_order(struct place_report *r, const struct report_node *n)
{
    if (n->boot_s < 0 || n->time_s < 0)
        return REPORT_F_NONE;
    if (n->boot_s > 4e9 || n->time_s > 4e9) /* 2096 */
        return REPORT_F_RANGE;
    r->boot = (uint64_t)n->boot_s;
    r->seq = r->time_ms = (uint64_t)(n->time_s * 1e3);
    r->present |= 1u << REPORT_BOOT | 1u << REPORT_SEQ | 1u << REPORT_TIME;
    return REPORT_F_NONE;
}

static enum report_fault
set_cpu(struct place_report *r, const struct report_node *b, const struct report_node *n)
{
    double used = n->cpu_seconds - b->cpu_seconds, idle = n->idle_seconds - b->idle_seconds;

    if (used < 0)
        return REPORT_F_COUNTER_BACK;
    if (idle < 0)
        idle = 0; /* the kernel's idle and iowait may step back a little: proc_stat(5) */
    if (n->cpu_seconds > 1e14)
        return REPORT_F_RANGE;
    set(r, REPORT_CORES, &r->cores, n->cores);
    set(r, REPORT_HOST_CORES, &r->host_cores, n->cores);
    set(r, REPORT_CPU_SECONDS, &r->cpu_seconds, n->cpu_seconds);
    if (used + idle <= 0)
        return REPORT_F_STALE_CLOCK; /* no time has passed over there */
    set(r, REPORT_HOST_CPU, &r->host_cpu, used / (used + idle));
    set(r, REPORT_CPU_UTILIZATION, &r->cpu_utilization, r->host_cpu);
    return REPORT_F_NONE;
}

enum report_fault
report_of_node(const struct report_node *b, const struct report_node *n, mc_ns elapsed,
               struct place_report *r)
{
    double seconds =
        b->time_s >= 0 && n->time_s > b->time_s ? n->time_s - b->time_s : (double)elapsed / 1e9;
    enum report_fault f;

    memset(r, 0, sizeof(*r));
    if (seconds <= 0)
        return REPORT_F_STALE_CLOCK;
    f = set_cpu(r, b, n);
    if (f == REPORT_F_NONE)
        f = set_memory(r, n);
    if (f == REPORT_F_NONE)
        f = set_order(r, n);
    if (f != REPORT_F_NONE)
        return f;
    set_pressure(r, REPORT_CPU_PRESSURE, &r->cpu_pressure, b->cpu_waiting, n->cpu_waiting, seconds);
    set_pressure(r, REPORT_MEM_PRESSURE, &r->mem_pressure, b->mem_waiting, n->mem_waiting, seconds);
    set_pressure(r, REPORT_IO_PRESSURE, &r->io_pressure, b->io_waiting, n->io_waiting, seconds);
    if (n->run_queue >= 0 && n->run_queue <= 1e7)
        set(r, REPORT_RUN_QUEUE, &r->run_queue, n->run_queue);
    return REPORT_F_NONE;
}
