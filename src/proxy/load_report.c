/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load_report.c - what a server says of its load in a response, see load_report.h.
 *
 * A head and its trailers are two reports, the later one newer.  A field that is there twice is
 * read once, the first (as Envoy does).
 */
#include "proxy/load_report.h"

#include "proxy/txn.h"
#include "proxy/worker_priv.h"

#define FIELDS (FIELD_BIT(ENDPOINT_LOAD_METRICS) | FIELD_BIT(ENDPOINT_LOAD_METRICS_BIN))

static bool
is_ours(const struct http_field *f)
{
    return (FIELDS >> f->id & 1) != 0;
}

static struct str
value_of(const struct http_field *f, unsigned n, enum field_id id)
{
    for (unsigned i = 0; i < n; i++)
        if (f[i].id == id)
            return (struct str){f[i].value, f[i].value_len};
    return STR_NONE;
}

static void
hear(struct txn *t, const struct http_field *f, unsigned n)
{
    struct brain *b = t->pool->pool->brain;
    struct str metrics, metrics_bin;

    if (b == NULL)
        return;
    metrics = value_of(f, n, FIELD_ENDPOINT_LOAD_METRICS);
    metrics_bin = value_of(f, n, FIELD_ENDPOINT_LOAD_METRICS_BIN);
    if (metrics.p != NULL || metrics_bin.p != NULL)
        brain_hear(b, t->worker->conf.pipe, t->worker->conf.index, &t->use, t->server_index,
                   metrics, metrics_bin, worker_now(t->worker));
}

/* The fields without those that the client does not get; the same ones when there are none. */
static unsigned
strip(struct txn *t, const struct http_field **fields, unsigned n)
{
    const struct http_field *f = *fields;
    struct http_field *left;
    unsigned n_left = 0, n_ours = 0;

    for (unsigned i = 0; i < n; i++)
        n_ours += is_ours(&f[i]);
    if (n_ours == 0 || t->pool->pool->conf.pass_load_reports)
        return n;
    left = arena_alloc(&t->arena, (n - n_ours + 1) * sizeof(*left));
    for (unsigned i = 0; i < n; i++)
        if (!is_ours(&f[i]))
            left[n_left++] = f[i];
    *fields = left;
    return n_left;
}

field_set
load_report_head(struct txn *t, const struct http_head *head)
{
    hear(t, head->fields, head->n_fields);
    return t->pool->pool->conf.pass_load_reports ? 0 : FIELDS;
}

unsigned
load_report_trailers(struct txn *t, const struct http_field **fields, unsigned n)
{
    hear(t, *fields, n);
    return strip(t, fields, n);
}

void
load_report_interim(struct txn *t, const struct http_head *head, struct http_head *out)
{
    const struct http_field *fields = head->fields;

    *out = *head;
    out->n_fields = (uint16_t)strip(t, &fields, head->n_fields);
    out->fields = (struct http_field *)fields;
}
