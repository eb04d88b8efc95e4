/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_bin.c - an OrcaLoadReport on protobuf's wire, and in base64; and which of the two fields
 * of a response is read in which way.
 *
 * The wire: https://protobuf.dev/programming-guides/encoding/.  Fields that we do not know are
 * passed over, as every reader of protobuf must; a singular field given twice is refused, though a
 * lenient reader would take the last.
 */
#include <stdio.h>

#include "base/check.h"
#include "place/report.h"
#include "place/report_priv.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* orca_load_report.proto: the numbers of its fields. */
#define FIELD_RPS_UINT     3 /* deprecated, whole */
#define FIELD_REQUEST_COST 4
#define FIELD_UTILIZATION  5
#define FIELD_NAMED        8

/* What is left to read. */
struct wire_in {
    const unsigned char *p, *end;
};

/* One field: its number, and what its wire type says. */
struct wire_field {
    uint32_t number;
    enum wire type;
    uint64_t value; /* varint or fixed */
    struct str bytes;
};

static bool
read_varint(struct wire_in *in, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
        unsigned char c = *in->p++;

        if (shift == 63 && c > 1)
            return false; /* the 65th bit */
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* Little-endian, n bytes. */
static bool
read_fixed(struct wire_in *in, unsigned n, uint64_t *out)
{
    *out = 0;
    if ((size_t)(in->end - in->p) < n)
        return false;
    for (unsigned i = 0; i < n; i++)
        *out |= (uint64_t)in->p[i] << (8 * i);
    in->p += n;
    return true;
}

static bool
read_bytes(struct wire_in *in, struct str *out)
{
    uint64_t n;

    if (!read_varint(in, &n) || n > (uint64_t)(in->end - in->p))
        return false;
    *out = (struct str){(const char *)in->p, (size_t)n};
    in->p += n;
    return true;
}

static bool
read_field(struct wire_in *in, struct wire_field *f)
{
    uint64_t key;

    if (!read_varint(in, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return false;
    f->number = (uint32_t)(key >> 3);
    f->type = (enum wire)(key & 7);
    switch (f->type) {
    case WIRE_VARINT: return read_varint(in, &f->value);
    case WIRE_FIXED64: return read_fixed(in, 8, &f->value);
    case WIRE_BYTES: return read_bytes(in, &f->bytes);
    case WIRE_FIXED32: return read_fixed(in, 4, &f->value);
    }
    return false; /* groups, which proto3 has not */
}

static double
as_double(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof(d));
    return d == 0 ? 0 : d; /* -0 is 0 */
}

/* --- the message --------------------------------------------------------------------------------
 */

/* map<string, double>: each entry is a message {1: key, 2: value}. */
static enum report_fault
take_map_entry(struct report_maker *m, enum report_place place, struct str entry)
{
    struct wire_in in = {(const unsigned char *)entry.p, (const unsigned char *)entry.p + entry.n};
    struct str key = STR_NONE;
    double value = 0; /* proto3 leaves zeros out */
    struct wire_field f;

    while (in.p < in.end) {
        if (!read_field(&in, &f))
            return REPORT_F_WIRE;
        if (f.number == 1 && f.type == WIRE_BYTES)
            key = f.bytes;
        else if (f.number == 2 && f.type == WIRE_FIXED64)
            value = as_double(f.value);
        else if (f.number <= 2)
            return REPORT_F_WIRE;
    }
    return report_put(m, place, key, value);
}

static enum report_fault
take_double(struct report_maker *m, const struct wire_field *f)
{
    static const char *const names[] = {
        [1] = "cpu_utilization",         [2] = "mem_utilization",
        [6] = "rps_fractional",          [7] = "eps",
        [9] = "application_utilization",
    };

    if (f->type != WIRE_FIXED64)
        return REPORT_F_WIRE;
    return report_put(m, REPORT_TOP, str_of(names[f->number]), as_double(f->value));
}

static enum report_fault
take_map(struct report_maker *m, const struct wire_field *f)
{
    enum report_place place = f->number == FIELD_REQUEST_COST  ? REPORT_COST
                              : f->number == FIELD_UTILIZATION ? REPORT_UTILIZATION
                                                               : REPORT_NAMED;

    return f->type == WIRE_BYTES ? take_map_entry(m, place, f->bytes) : REPORT_F_WIRE;
}

static enum report_fault
take_field(struct report_maker *m, const struct wire_field *f, bool *has_rps_uint, double *rps_uint)
{
    switch (f->number) {
    case 1:
    case 2:
    case 6:
    case 7:
    case 9: return take_double(m, f);
    case FIELD_REQUEST_COST:
    case FIELD_UTILIZATION:
    case FIELD_NAMED: return take_map(m, f);
    case FIELD_RPS_UINT:
        if (f->type != WIRE_VARINT)
            return REPORT_F_WIRE;
        *has_rps_uint = true;
        *rps_uint = (double)f->value;
    }
    return REPORT_F_NONE;
}

enum report_fault
report_parse_proto(const void *bytes, size_t n, struct place_report *out)
{
    struct wire_in in = {bytes, (const unsigned char *)bytes + n};
    struct report_maker m;
    struct wire_field field;
    bool has_rps_uint = false;
    double rps_uint = 0;
    enum report_fault f;

    report_begin(&m, out);
    if (n == 0)
        return REPORT_F_EMPTY;
    if (n > REPORT_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    while (in.p < in.end) {
        if (!read_field(&in, &field))
            return REPORT_F_WIRE;
        f = take_field(&m, &field, &has_rps_uint, &rps_uint);
        if (f != REPORT_F_NONE)
            return f;
    }
    if (has_rps_uint && !report_has(out, REPORT_RPS))
        return report_put(&m, REPORT_TOP, STR("rps_fractional"), rps_uint);
    return REPORT_F_NONE;
}

/* --- base64 (RFC 4648 4) ------------------------------------------------------------------------
 */

static int
base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padding is all there or not at all; bits behind the last byte are zero (3.5). */
static bool
base64_decode(struct str s, unsigned char *out, size_t *n_out)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;

    if (s.n % 4 == 0)
        for (int i = 0; i < 2 && s.n > 0 && s.p[s.n - 1] == '='; i++)
            s.n--;
    for (size_t i = 0; i < s.n; i++) {
        int v = base64_value((unsigned char)s.p[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[n++] = (unsigned char)(bits >> n_bits);
        }
    }
    *n_out = n;
    return n_bits < 6 && (bits & ((1u << n_bits) - 1)) == 0;
}

enum report_fault
report_parse_bin(struct str s, struct place_report *out)
{
    unsigned char bytes[REPORT_BYTES_MAX];
    size_t n;

    s = str_trim(s);
    if (s.n == 0)
        return REPORT_F_EMPTY;
    if (s.n > REPORT_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    if (!base64_decode(s, bytes, &n))
        return REPORT_F_BASE64;
    return report_parse_proto(bytes, n, out);
}

/* --- the fields of a response -------------------------------------------------------------------
 */

enum report_fault
report_parse_orca(struct str metrics, struct str metrics_bin, struct place_report *out)
{
    static const struct {
        struct str word;
        enum report_fault (*parse)(struct str, struct place_report *);
    } formats[] = {
        {{"TEXT ", 5}, report_parse_text},
        {{"JSON ", 5}, report_parse_json},
        {{"BIN ", 4}, report_parse_bin},
    };

    if (metrics_bin.p != NULL)
        return report_parse_bin(metrics_bin, out); /* gRPC's older way wins, as in Envoy */
    metrics = str_trim(metrics);
    if (metrics.n == 0)
        return REPORT_F_EMPTY;
    for (unsigned i = 0; i < MC_COUNT(formats); i++)
        if (str_starts(metrics, formats[i].word))
            return formats[i].parse(
                (struct str){metrics.p + formats[i].word.n, metrics.n - formats[i].word.n}, out);
    return REPORT_F_FORMAT;
}

enum report_fault
report_cost_cpu(const struct place_report *r, double *out)
{
    static const char *const names[] = {"cpu_seconds", "cpu"};

    *out = 0;
    for (unsigned i = 0; i < MC_COUNT(names); i++)
        for (unsigned k = 0; k < r->n_costs && *out == 0; k++)
            if (strcmp(r->cost[k].name, names[i]) == 0)
                *out =
                    r->cost[k].value > REPORT_COST_LEAST_S ? r->cost[k].value : REPORT_COST_LEAST_S;
    return *out > REPORT_COST_MOST_S ? REPORT_F_RANGE : REPORT_F_NONE;
}
