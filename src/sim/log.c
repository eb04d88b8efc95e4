/* SPDX-License-Identifier: BSD-2-Clause
 *
 * log.c - an access log as a workload: "what if three servers fail", "what if traffic grows".
 *
 * JSON lines as Meercat writes them tell how long each request took; that, less its time in the
 * queue, is taken for its work, which is right for requests that compute and were not crowded.  The
 * combined format has no times: there every request is as dear as the next.  How busy the servers
 * were is not in a log: give --load to scale the work to what was seen.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "place/class.h"
#include "sim/sim.h"

#define UNTIMED_S 0.005 /* work of a request whose time is not told */

struct line {
    int64_t wall_ns;
    double work_s; /* negative: not told */
    struct str method, target;
    struct str class; /* as the balancer had it; empty: not told */
};

/* --- JSON ----------------------------------------------------------------------------------------
 */

/* "2026-01-31T23:59:59.123Z" */
static bool
parse_rfc3339(const char *text, int64_t *out)
{
    struct tm tm = {0};
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    double fraction = 0;

    if (!rest)
        return false;
    if (*rest == '.')
        fraction = strtod(rest, NULL);
    *out = (int64_t)timegm(&tm) * MC_SEC + (int64_t)(fraction * 1e9);
    return true;
}

static double
ms_of(const json_t *j, const char *name)
{
    const json_t *v = json_object_get(j, name);

    return json_is_number(v) ? json_number_value(v) : 0;
}

static struct str
text_of(const json_t *j, const char *name)
{
    const char *t = json_string_value(json_object_get(j, name));

    return str_of(t);
}

static bool
read_json(const json_t *j, struct line *out)
{
    double total = ms_of(j, "total_ms");

    if (!parse_rfc3339(json_string_value(json_object_get(j, "time")), &out->wall_ns))
        return false;
    out->method = text_of(j, "method");
    out->target = text_of(j, "target");
    out->class = text_of(j, "class");
    out->work_s =
        total > 0 ? fmax(total - ms_of(j, "queue_ms") - ms_of(j, "connect_ms"), .01) * 1e-3 : -1;
    return out->method.p && out->target.p;
}

/* --- combined -----------------------------------------------------------------------------------
 */

/* client - - [31/Jan/2026:23:59:59 +0000] "GET / HTTP/1.1" 200 123 ... */
static bool
read_combined(struct str text, struct line *out)
{
    struct str rest = text, when, request;
    char copy[64];
    struct tm tm = {0};
    long east_s;

    str_cut(&rest, '[');
    when = str_cut(&rest, ']');
    str_cut(&rest, '"');
    request = str_cut(&rest, '"');
    if (!rest.p || when.n == 0 || when.n >= sizeof(copy))
        return false;
    memcpy(copy, when.p, when.n);
    copy[when.n] = '\0';
    if (!strptime(copy, "%d/%b/%Y:%H:%M:%S %z", &tm))
        return false;
    east_s = tm.tm_gmtoff; /* timegm() clears it */
    out->wall_ns = ((int64_t)timegm(&tm) - east_s) * MC_SEC;
    out->work_s = -1;
    out->class = STR_NONE;
    out->method = str_cut(&request, ' ');
    out->target = str_cut(&request, ' ');
    return out->method.n > 0 && out->target.n > 0;
}

/* --- classes ------------------------------------------------------------------------------------
 */

struct reader {
    struct sim_conf *conf;
    struct sim_log *log;
    unsigned cap;
    struct class_set set;
    uint64_t *hash; /* [cap] shape of each request */
    double sum_s[SIM_CLASSES_MAX], n[SIM_CLASSES_MAX];
};

static void
ignore_change(void *arg, unsigned class, uint64_t hash)
{
}

/* As a balancer writes it; somebody else's log may mean another thing by the word. */
static bool
is_class_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return s.n > 0 && s.n < CLASS_NAME_MAX && !str_eq(s, STR(CLASS_OTHER));
}

/* Rules of the operator are in the log alone; what had no class may get one here. */
static struct str
class_of(const struct line *l, char text[CLASS_NAME_MAX])
{
    if (is_class_name(l->class))
        return l->class;
    return (struct str){text, class_fold(l->method, l->target, text)};
}

static void
add(struct reader *r, const struct line *l)
{
    char text[CLASS_NAME_MAX];
    struct str name = class_of(l, text);
    uint64_t hash = class_hash(name);

    if (r->log->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 4096;
        r->log->request = mc_realloc(r->log->request, r->cap * sizeof(*r->log->request));
        r->hash = mc_realloc(r->hash, r->cap * sizeof(*r->hash));
    }
    class_set_note(&r->set, hash, name, l->work_s > 0 ? l->work_s : UNTIMED_S);
    r->hash[r->log->n] = hash;
    r->log->request[r->log->n++] = (struct sim_logged){
        .at = l->wall_ns, .work_s = (float)(l->work_s > 0 ? l->work_s : UNTIMED_S)};
}

static void
read_line(struct reader *r, struct str text)
{
    struct line l;
    bool good;

    if (text.n == 0)
        return;
    if (text.p[0] == '{') {
        json_t *j = json_loadb(text.p, text.n, 0, NULL);

        good = j && read_json(j, &l);
        if (good)
            add(r, &l);
        json_decref(j);
    } else {
        good = read_combined(text, &l);
        if (good)
            add(r, &l);
    }
    r->log->n_bad += !good;
}

static int
by_time(const void *a, const void *b)
{
    const struct sim_logged *x = a, *y = b;

    return x->at != y->at ? (x->at < y->at ? -1 : 1) : 0;
}

static void
find_classes(struct reader *r)
{
    struct class_map *map;

    class_set_settle(&r->set, ignore_change, NULL);
    map = class_set_map(&r->set);
    for (unsigned i = 0; i < r->log->n; i++) {
        unsigned k = class_map_find(map, r->hash[i]);

        r->log->request[i].class = (uint16_t)k;
        r->sum_s[k] += (double)r->log->request[i].work_s;
        r->n[k]++;
    }
    free(map);
}

static void
write_classes(struct reader *r)
{
    struct sim_conf *c = r->conf;

    c->n_classes = 0;
    for (unsigned k = 0; k < SIM_CLASSES_MAX; k++) {
        struct str name = class_set_name(&r->set, k);
        struct sim_class *t = &c->class[k];

        if (!name.p)
            break; /* classes are given from the first on */
        *t = (struct sim_class){.share = r->n[k] / r->log->n,
                                .cpu_s = r->n[k] > 0 ? r->sum_s[k] / r->n[k] : UNTIMED_S};
        snprintf(t->name, sizeof(t->name), STR_FMT, STR_ARG(name));
        c->n_classes = k + 1;
    }
}

/* Work such that the given share of the capacity is used; seconds without a fraction are spread. */
static void
fit_times(struct reader *r)
{
    struct sim_log *log = r->log;
    int64_t first = log->request[0].at;

    for (unsigned i = 0; i < log->n;) {
        unsigned same = 1;
        int64_t at = log->request[i].at;

        while (i + same < log->n && log->request[i + same].at == at)
            same++;
        for (unsigned k = 0; k < same; k++)
            log->request[i + k].at =
                at - first + (mc_ns)((double)k / same * (double)(at % MC_SEC ? MC_MS : MC_SEC)) + 1;
        i += same;
    }
    log->length_ns = log->request[log->n - 1].at + MC_MS;
}

static void
fit_work(struct reader *r, double load)
{
    static const double speed[] = {.5, 1, 2};
    double capacity = 0, work = 0, scale;

    for (unsigned i = 0; i < r->conf->n_servers; i++)
        capacity += (r->conf->one_speed ? 1 : speed[i % 3]) * r->conf->cores;
    for (unsigned i = 0; i < r->log->n; i++)
        work += (double)r->log->request[i].work_s;
    scale = load * capacity * (double)r->log->length_ns * 1e-9 / work;
    for (unsigned i = 0; i < r->log->n; i++)
        r->log->request[i].work_s *= (float)scale;
    for (unsigned k = 0; k < r->conf->n_classes; k++)
        r->conf->class[k].cpu_s *= scale;
}

static enum mc_err
read_lines(struct reader *r, const char *path, struct errbuf *e)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    enum mc_err err = MC_OK;
    ssize_t n;

    if (!f)
        return err_sys(e, path);
    while ((n = getline(&line, &cap, f)) > 0)
        read_line(r, str_trim((struct str){line, line[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n}));
    if (ferror(f))
        err = err_sys(e, path);
    free(line);
    fclose(f);
    if (err != MC_OK || r->log->n > 0)
        return err;
    err_set(e, "%s: no line of it is of an access log", path);
    return MC_ESYNTAX;
}

enum mc_err
sim_log_read(const char *path, struct sim_conf *conf, double load, struct sim_log *out,
             struct errbuf *e)
{
    struct reader r = {.conf = conf, .log = out};
    enum mc_err err;

    *out = (struct sim_log){0};
    class_set_init(&r.set, SIM_CLASSES_MAX);
    err = read_lines(&r, path, e);
    if (err == MC_OK) {
        find_classes(&r);
        write_classes(&r);
        /* lines are in the order of ends; requests are placed when they begin */
        qsort(out->request, out->n, sizeof(*out->request), by_time);
        fit_times(&r);
        if (load > 0)
            fit_work(&r, load);
    } else {
        sim_log_free(out);
    }
    class_set_fini(&r.set);
    free(r.hash);
    return err;
}

void
sim_log_free(struct sim_log *l)
{
    free(l->request);
    *l = (struct sim_log){0};
}
