/* SPDX-License-Identifier: BSD-2-Clause
 *
 * host.c - CPU, memory, run queue and pressure of the whole host: proc_stat(5), proc_meminfo(5),
 * proc_loadavg(5), Documentation/accounting/psi.rst of the kernel.
 */
#include "agent/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

void
host_open(struct host *h, const char *root)
{
    static const char *const names[] = {"cpu", "memory", "io"};

    *h = (struct host){0};
    file_set(&h->stat, mc_printf("%s/proc/stat", root));
    file_set(&h->meminfo, mc_printf("%s/proc/meminfo", root));
    file_set(&h->loadavg, mc_printf("%s/proc/loadavg", root));
    for (unsigned i = 0; i < PRESSURE_N; i++)
        file_set(&h->pressure[i], mc_printf("%s/proc/pressure/%s", root, names[i]));
}

void
host_close(struct host *h)
{
    file_close(&h->stat);
    file_close(&h->meminfo);
    file_close(&h->loadavg);
    for (unsigned i = 0; i < PRESSURE_N; i++)
        file_close(&h->pressure[i]);
}

/* cpu user nice system idle iowait irq softirq steal guest guest_nice: guests are part of user.
 * What was stolen was wanted and not had: busy, for whoever asks what is free. */
static bool
take_cpu_line(struct str line, struct host_reading *r)
{
    uint64_t v[8] = {0}, idle, all = 0;
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);

    file_word(&line);
    for (unsigned i = 0; i < 8; i++) {
        struct str word = file_word(&line);

        if (word.n == 0 && i >= 4)
            break; /* older kernels have fewer */
        if (!str_u64(word, &v[i]))
            return false;
        all += v[i];
    }
    idle = v[3] + v[4];
    r->all_seconds = (double)all * tick;
    r->busy_seconds = (double)(all - idle) * tick;
    return true;
}

/* One line for all cores, then one for each. */
static void
read_stat(struct host *h, struct host_reading *r)
{
    struct str s = file_read(&h->stat);
    unsigned cores = 0;

    while (s.p != NULL) {
        struct str line = str_cut(&s, '\n');

        if (!str_starts(line, STR("cpu")))
            break;
        if (line.n > 3 && line.p[3] == ' ')
            r->fresh_cpu = take_cpu_line(line, r);
        else
            cores++;
    }
    if (cores > 0)
        r->cores = cores;
}

static void
read_memory(struct host *h, struct host_reading *r)
{
    struct str s = file_read(&h->meminfo);
    uint64_t total, available;

    r->mem_total = r->mem_available = -1;
    if (s.p == NULL || !file_key(s, "MemTotal", &total))
        return;
    r->mem_total = (double)total * 1024;
    if (file_key(s, "MemAvailable", &available))
        r->mem_available = (double)available * 1024;
}

/* "0.10 0.20 0.30 2/345 6789": 2 of 345 threads can run, ours among them. */
static void
read_loadavg(struct host *h, struct host_reading *r)
{
    struct str s = file_read(&h->loadavg), word;
    uint64_t whole, cents, running;

    r->run_queue = r->load1 = -1;
    if (s.p == NULL)
        return;
    word = file_word(&s);
    if (str_u64(str_cut(&word, '.'), &whole) && str_u64(word, &cents))
        r->load1 = (double)whole + (double)cents / 100;
    file_word(&s);
    file_word(&s);
    word = file_word(&s);
    if (str_u64(str_cut(&word, '/'), &running))
        r->run_queue = running > 0 ? (double)running - 1 : 0;
}

void
host_read(struct host *h, mc_ns now, struct host_reading *r)
{
    r->fresh_cpu = false;
    if (pace_is_due(&h->stat_pace, now)) { /* long on hosts with many cores and interrupts */
        pace_begin(&h->stat_pace);
        read_stat(h, r);
        pace_done(&h->stat_pace, now, 0);
    }
    read_memory(h, r);
    read_loadavg(h, r);
}

/* some avg10=0.00 avg60=0.00 avg300=0.00 total=12345 */
double
host_pressure(struct file *f)
{
    struct str s = file_read(f), word;
    uint64_t us;

    if (s.p == NULL || !str_eq(file_word(&s), STR("some")))
        return -1;
    s = str_cut(&s, '\n');
    while ((word = file_word(&s)).n > 0)
        if (file_key(word, "total", &us))
            return (double)us / 1e6;
    return -1;
}
