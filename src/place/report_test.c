/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_test.c - what is believed of a server's word, and what is refused.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "place/report.h"

static struct place_report r;

#define has(f) report_has(&r, REPORT_##f)

static void
assert_close(double a, double b)
{
    if (fabs(a - b) > 1e-9 * (1 + fabs(b)))
        fail_msg("%.17g is not %.17g", a, b);
}

/* --- tables of refusals -------------------------------------------------------------------------
 */

struct refusal {
    const char *text;
    enum report_fault fault;
};

typedef enum report_fault parse_f(struct str, struct place_report *);

static void
check_all(const struct refusal *all, unsigned n, parse_f *parse)
{
    for (unsigned i = 0; i < n; i++) {
        /* a copy of exactly its size, so that a sanitizer sees a read beyond the end */
        char *text = malloc(strlen(all[i].text) + !*all[i].text);
        enum report_fault f;

        memcpy(text, all[i].text, strlen(all[i].text));
        f = parse((struct str){text, strlen(all[i].text)}, &r);
        free(text);
        if (f != all[i].fault)
            fail_msg("\"%s\": %s instead of %s", all[i].text, report_fault_name(f),
                     report_fault_name(all[i].fault));
    }
}

/* --- TEXT ---------------------------------------------------------------------------------------
 */

static void
text_gives_fields_and_named_metrics(void **state)
{
    assert_int_equal(report_parse_text(STR("cpu_utilization=0.7,mem_utilization=0.9,"
                                           "application_utilization=0.8,rps_fractional=1000,eps=2,"
                                           "named_metrics.foo=123,utilization.bar=0.5,"
                                           "named_metrics.cores=4,named_metrics.boot=17,"
                                           "named_metrics.seq=3,named_metrics.time=1000"),
                                       &r),
                     REPORT_F_NONE);
    assert_true(has(CPU_UTILIZATION) && has(MEM_UTILIZATION) && has(APPLICATION_UTILIZATION));
    assert_close(r.cpu_utilization, 0.7);
    assert_close(r.application_utilization, 0.8);
    assert_close(r.rps, 1000);
    assert_close(r.cores, 4);
    assert_true(has(BOOT) && r.boot == 17 && r.seq == 3 && r.time_ms == 1000);
    assert_int_equal(r.n_named, 2);
    assert_string_equal(r.named[0].name, "foo");
    assert_close(r.named[0].value, 123);
    assert_string_equal(r.named[1].name, "bar");
    assert_true(r.named[1].utilization && !r.named[0].utilization);
    assert_false(has(CPU_SECONDS) || has(WEIGHT));
}

static void
text_may_have_colons_blanks_and_request_costs(void **state)
{
    assert_int_equal(
        report_parse_text(STR(" cpu_utilization:0.5 , eps: 1e1,,request_cost.db=3"), &r),
        REPORT_F_NONE);
    assert_close(r.cpu_utilization, 0.5);
    assert_close(r.eps, 10);
    assert_int_equal(r.n_costs, 1);
    assert_string_equal(r.cost[0].name, "db");
}

static void
text_that_is_no_report_is_refused(void **state)
{
    static const struct refusal all[] = {
        {"", REPORT_F_EMPTY},
        {" ,, ", REPORT_F_EMPTY},
        {"cpu_utilization", REPORT_F_SYNTAX},
        {"=1", REPORT_F_NAME_EMPTY},
        {"named_metrics.=1", REPORT_F_NAME_EMPTY},
        {"cpu=1", REPORT_F_NAME_UNKNOWN},
        {"CPU_UTILIZATION=1", REPORT_F_NAME_UNKNOWN},
        {"rps=1", REPORT_F_NAME_UNKNOWN},
        {"named_metrics.a\tb=1", REPORT_F_SYNTAX},
        {"named_metrics.01234567890123456789012345678901234567890123456789=1", REPORT_F_NAME_LONG},
        {"eps=1,eps=1", REPORT_F_DUPLICATE},
        {"eps=1,rps_fractional=2,eps=1", REPORT_F_DUPLICATE},
        {"eps=1,named_metrics.a=1,named_metrics.seq=2,named_metrics.a=1", REPORT_F_DUPLICATE},
        {"named_metrics.a=1,named_metrics.a=2", REPORT_F_DUPLICATE},
        {"eps=", REPORT_F_NUMBER},
        {"eps=.", REPORT_F_NUMBER},
        {"eps=1e", REPORT_F_NUMBER},
        {"eps=0x10", REPORT_F_NUMBER},
        {"eps=1 2", REPORT_F_NUMBER},
        {"eps=1,5", REPORT_F_SYNTAX},
        {"eps=1\n", REPORT_F_NUMBER},
        {"eps=NaN", REPORT_F_NOT_FINITE},
        {"eps=-nan", REPORT_F_NOT_FINITE},
        {"eps=Inf", REPORT_F_NOT_FINITE},
        {"eps=infinity", REPORT_F_NOT_FINITE},
        {"eps=1e999", REPORT_F_NOT_FINITE},
        {"eps=-1", REPORT_F_NEGATIVE},
        {"named_metrics.x=-0.1", REPORT_F_NEGATIVE},
        {"mem_utilization=1.01", REPORT_F_RANGE},
        {"utilization.x=2", REPORT_F_RANGE},
        {"named_metrics.cores=100000", REPORT_F_RANGE},
        {"named_metrics.seq=1.5", REPORT_F_RANGE},
        {"named_metrics.boot=9007199254740992", REPORT_F_RANGE},
        {"named_metrics.time=4398046511104", REPORT_F_RANGE},
        {"named_metrics.host_cpu=1.5", REPORT_F_RANGE},
        {"cpu_utilization=20000", REPORT_F_RANGE},
        {"cpu_utilization=0.5", REPORT_F_NONE},
        {"cpu_utilization=1.7", REPORT_F_NONE},
        {"cpu_utilization=-0", REPORT_F_NONE},
        {"cpu_utilization=+.5", REPORT_F_NONE},
        {"cpu_utilization=5.", REPORT_F_NONE},
        {"cpu_utilization=1,", REPORT_F_NONE},
    };

    check_all(all, MC_COUNT(all), report_parse_text);
}

static void
what_is_too_much_is_refused_or_left_out(void **state)
{
    struct buf b = {0};

    for (int i = 0; i < 128; i++)
        buf_printf(&b, "%snamed_metrics.m%d=1", i ? "," : "", i);
    assert_int_equal(report_parse_text((struct str){b.p, b.n}, &r), REPORT_F_NONE);
    assert_int_equal(r.n_named, REPORT_MAPS_MAX);
    buf_printf(&b, ",named_metrics.m127=1");
    assert_int_equal(report_parse_text((struct str){b.p, b.n}, &r), REPORT_F_TOO_MANY);
    while (b.n <= REPORT_BYTES_MAX)
        buf_printf(&b, ",");
    assert_int_equal(report_parse_text((struct str){b.p, b.n}, &r), REPORT_F_TOO_LONG);
    buf_free(&b);
}

static void
what_is_written_reads_the_same(void **state)
{
    char text[REPORT_TEXT_MAX], again[REPORT_TEXT_MAX];
    struct place_report first;
    size_t n;

    assert_int_equal(report_parse_text(STR("cpu_utilization=0.123456,mem_utilization=1,"
                                           "named_metrics.cpu_seconds=1234567.123456,"
                                           "named_metrics.mem_bytes=25276502016,eps=0,"
                                           "named_metrics.seq=7,named_metrics.x=0.1,"
                                           "utilization.y=0.25"),
                                       &first),
                     REPORT_F_NONE);
    n = report_write_text(&first, text);
    assert_int_equal(n, strlen(text));
    assert_int_equal(report_parse_text((struct str){text, n}, &r), REPORT_F_NONE);
    assert_int_equal(r.present, first.present);
    report_write_text(&r, again);
    assert_string_equal(text, again);
    assert_non_null(strstr(text, "named_metrics.cpu_seconds=1234567.123456,"));
    assert_memory_equal(&r, &first, sizeof(r));
}

/* --- JSON ---------------------------------------------------------------------------------------
 */

static void
names_of_the_two_maps_are_kept_apart(void **state)
{
    char text[REPORT_TEXT_MAX];

    assert_int_equal(report_parse_text(STR("named_metrics.utilization.x=7,utilization.x=0.5"), &r),
                     REPORT_F_NONE);
    assert_int_equal(r.n_named, 2);
    report_write_text(&r, text);
    assert_string_equal(text, "named_metrics.utilization.x=7,utilization.x=0.5");
}

static void
json_gives_the_same_in_both_spellings(void **state)
{
    static const char *const both[] = {
        "{\"cpu_utilization\": 0.5, \"request_cost\": {\"db\": 2e0}, \"named_metrics\":\n"
        "{\"cores\": 4, \"foo\": \"7\"}, \"utilization\": {\"disk\": 0.25}, \"rps\": \"12\"}",
        "{\"cpuUtilization\":0.5,\"requestCost\":{\"db\":2},\"namedMetrics\":{\"cores\":4,"
        "\"foo\":7},\"utilization\":{\"disk\":0.25},\"rpsFractional\":12,\"rps\":13}",
    };

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(report_parse_json(str_of(both[i]), &r), REPORT_F_NONE);
        assert_close(r.cpu_utilization, 0.5);
        assert_close(r.cores, 4);
        assert_close(r.rps, 12);
        assert_int_equal(r.n_costs, 1);
        assert_close(r.cost[0].value, 2);
        assert_int_equal(r.n_named, 2);
    }
    assert_int_equal(report_parse_json(STR(" {} "), &r), REPORT_F_NONE);
    assert_int_equal(r.present, 0);
}

static void
json_that_is_no_report_is_refused(void **state)
{
    static const struct refusal all[] = {
        {"", REPORT_F_EMPTY},
        {"  ", REPORT_F_EMPTY},
        {"[]", REPORT_F_SYNTAX},
        {"{", REPORT_F_SYNTAX},
        {"{}x", REPORT_F_SYNTAX},
        {"{\"eps\"}", REPORT_F_SYNTAX},
        {"{\"eps\":1,}", REPORT_F_SYNTAX},
        {"{\"eps\":true}", REPORT_F_SYNTAX},
        {"{\"eps\":\"1}", REPORT_F_SYNTAX},
        {"{\"eps\":[1]}", REPORT_F_SYNTAX},
        {"{\"eps\":{\"a\":1}}", REPORT_F_SYNTAX},
        {"{\"request_cost\":1}", REPORT_F_SYNTAX},
        {"{\"named_metrics\":{\"a\\u0041\":1}}", REPORT_F_SYNTAX},
        {"{\"named_metrics\":{\"a\":{}}}", REPORT_F_SYNTAX},
        {"{\"eps\":01}", REPORT_F_NUMBER},
        {"{\"eps\":1.}", REPORT_F_NUMBER},
        {"{\"eps\":.5}", REPORT_F_NUMBER},
        {"{\"eps\":+1}", REPORT_F_NUMBER},
        {"{\"eps\":\"x\"}", REPORT_F_NUMBER},
        {"{\"eps\":\"NaN\"}", REPORT_F_NOT_FINITE},
        {"{\"eps\":\"Infinity\"}", REPORT_F_NOT_FINITE},
        {"{\"eps\":-1}", REPORT_F_NEGATIVE},
        {"{\"eps\":1,\"eps\":1}", REPORT_F_DUPLICATE},
        {"{\"rps_fractional\":1,\"rpsFractional\":1}", REPORT_F_DUPLICATE},
        {"{\"named_metrics\":{\"a\":1,\"a\":1}}", REPORT_F_DUPLICATE},
        {"{\"load\":1}", REPORT_F_NAME_UNKNOWN},
        {"{\"\":1}", REPORT_F_NAME_EMPTY},
        {"{\"named_metrics\":{\"\":1}}", REPORT_F_NAME_EMPTY},
        {"{\"mem_utilization\":2}", REPORT_F_RANGE},
        {"{\"eps\":null}", REPORT_F_NONE},
        {"{\"named_metrics\":{}}", REPORT_F_NONE},
    };

    check_all(all, MC_COUNT(all), report_parse_json);
}

/* --- BIN ----------------------------------------------------------------------------------------
 */

/* cpu 0.5, mem 0.25, request_cost {db: 2}, named {cores: 4}, application 0.75 */
static const unsigned char proto[] = {
    0x09, 0,    0,    0,    0,   0,   0,    0xe0, 0x3f,                            /* 1: 0.5 */
    0x11, 0,    0,    0,    0,   0,   0,    0xd0, 0x3f,                            /* 2: 0.25 */
    0x22, 0x0d, 0x0a, 0x02, 'd', 'b', 0x11, 0,    0,    0,    0, 0, 0, 0, 0x40,    /* 4: {db: 2} */
    0x42, 0x10, 0x0a, 0x05, 'c', 'o', 'r',  'e',  's',  0x11, 0, 0, 0, 0, 0,    0, /* 8: {cores: */
    0x10, 0x40,                                                                    /* 4} */
    0x49, 0,    0,    0,    0,   0,   0,    0xe8, 0x3f,                            /* 9: 0.75 */
};

static void
the_wire_gives_the_same(void **state)
{
    assert_int_equal(report_parse_proto(proto, sizeof(proto), &r), REPORT_F_NONE);
    assert_close(r.cpu_utilization, 0.5);
    assert_close(r.mem_utilization, 0.25);
    assert_close(r.application_utilization, 0.75);
    assert_close(r.cores, 4);
    assert_int_equal(r.n_costs, 1);
    assert_string_equal(r.cost[0].name, "db");
    assert_close(r.cost[0].value, 2);
}

static void
a_wire_cut_anywhere_is_refused_or_shorter(void **state)
{
    for (size_t n = 0; n < sizeof(proto); n++) {
        unsigned char *cut = malloc(n + !n);
        enum report_fault f;

        memcpy(cut, proto, n);
        f = report_parse_proto(cut, n, &r);
        free(cut);
        if (n == 0)
            assert_int_equal(f, REPORT_F_EMPTY);
        else if (n == 9 || n == 18 || n == 33 || n == 51)
            assert_int_equal(f, REPORT_F_NONE);
        else
            assert_int_equal(f, REPORT_F_WIRE);
    }
}

static void
the_wire_is_strict_and_skips_what_it_does_not_know(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
        enum report_fault fault;
    } all[] = {
        {"\x18\x07", 2, REPORT_F_NONE},                                      /* rps: 7 */
        {"\x50\x07", 2, REPORT_F_NONE},                                      /* field 10, unknown */
        {"\x5a\x01x", 3, REPORT_F_NONE},                                     /* field 11, bytes */
        {"\x65zzzz", 5, REPORT_F_NONE},                                      /* field 12, fixed32 */
        {"\x00\x00", 2, REPORT_F_WIRE},                                      /* field 0 */
        {"\x0b", 1, REPORT_F_WIRE},                                          /* a group */
        {"\x08\x01", 2, REPORT_F_WIRE},                                      /* cpu as varint */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, REPORT_F_WIRE}, /* 65 bits */
        {"\x42\xff\xff\xff\xff\x0f", 6, REPORT_F_WIRE}, /* longer than there is */
        {"\x42\x00", 2, REPORT_F_NAME_EMPTY},           /* {"": 0} */
        {"\x09\x00\x00\x00\x00\x00\x00\xf8\x7f", 9, REPORT_F_NOT_FINITE},
        {"\x09\x00\x00\x00\x00\x00\x00\xf0\x7f", 9, REPORT_F_NOT_FINITE},
        {"\x09\x00\x00\x00\x00\x00\x00\xf0\xbf", 9, REPORT_F_NEGATIVE},
        {"\x09\x00\x00\x00\x00\x00\x00\x00\x80", 9, REPORT_F_NONE}, /* -0 */
        {"\x11\x00\x00\x00\x00\x00\x00\x00\x40", 9, REPORT_F_RANGE},
        {"\x09\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00", 18,
         REPORT_F_DUPLICATE},
    };

    for (unsigned i = 0; i < MC_COUNT(all); i++) {
        enum report_fault f = report_parse_proto(all[i].bytes, all[i].n, &r);

        if (f != all[i].fault)
            fail_msg("%u: %s", i, report_fault_name(f));
    }
    assert_int_equal(report_parse_proto("\x18\x07", 2, &r), REPORT_F_NONE);
    assert_close(r.rps, 7);
}

static void
base64_may_be_padded_or_not(void **state)
{
    static const struct refusal all[] = {
        {"CQAAAAAAAOA/", REPORT_F_NONE},
        {"GAc=", REPORT_F_NONE},
        {"GAc", REPORT_F_NONE},
        {" GAc ", REPORT_F_NONE},
        {"", REPORT_F_EMPTY},
        {"====", REPORT_F_BASE64},
        {"GAc==", REPORT_F_BASE64},
        {"GA=c", REPORT_F_BASE64},
        {"GAd", REPORT_F_BASE64}, /* bits behind the last byte */
        {"G", REPORT_F_BASE64},
        {"G A", REPORT_F_BASE64},
        {"GA-_", REPORT_F_BASE64},
    };

    check_all(all, MC_COUNT(all), report_parse_bin);
}

static void
a_response_says_which_format_it_has(void **state)
{
    assert_int_equal(report_parse_orca(STR("TEXT eps=3"), STR_NONE, &r), REPORT_F_NONE);
    assert_close(r.eps, 3);
    assert_int_equal(report_parse_orca(STR("JSON {\"eps\": 4}"), STR_NONE, &r), REPORT_F_NONE);
    assert_close(r.eps, 4);
    assert_int_equal(report_parse_orca(STR("BIN GAc="), STR_NONE, &r), REPORT_F_NONE);
    assert_close(r.rps, 7);
    assert_int_equal(report_parse_orca(STR("TEXT eps=3"), STR("GAc"), &r), REPORT_F_NONE);
    assert_false(has(EPS));
    assert_int_equal(report_parse_orca(STR_NONE, STR_NONE, &r), REPORT_F_EMPTY);
    assert_int_equal(report_parse_orca(STR("eps=3"), STR_NONE, &r), REPORT_F_FORMAT);
    assert_int_equal(report_parse_orca(STR("text eps=3"), STR_NONE, &r), REPORT_F_FORMAT);
    assert_int_equal(report_parse_orca(STR("XML <eps>"), STR_NONE, &r), REPORT_F_FORMAT);
}

static void
the_cost_of_a_request_has_two_names(void **state)
{
    static const struct {
        const char *text;
        double cpu_s;
    } rows[] = {
        {"request_cost.cpu=.25", .25},
        {"request_cost.cpu=.25,request_cost.cpu_seconds=.125", .125},
        {"request_cost.cpu_seconds=0", REPORT_COST_LEAST_S},
        {"request_cost.db=4,named_metrics.cpu=3,cpu_utilization=.5", 0},
    };
    double cpu_s;

    for (size_t i = 0; i < MC_COUNT(rows); i++) {
        assert_int_equal(report_parse_text(str_of(rows[i].text), &r), REPORT_F_NONE);
        assert_int_equal(report_cost_cpu(&r, &cpu_s), REPORT_F_NONE);
        assert_close(cpu_s, rows[i].cpu_s);
    }
    report_parse_text(STR("request_cost.cpu=1e6"), &r);
    assert_int_equal(report_cost_cpu(&r, &cpu_s), REPORT_F_RANGE);
}

/* --- agent-check --------------------------------------------------------------------------------
 */

static void
the_last_word_of_a_kind_wins(void **state)
{
    assert_int_equal(
        report_parse_agent_check(STR("UP 75%,drain\tready maxconn:30 # all: good"), &r),
        REPORT_F_NONE);
    assert_true(has(WEIGHT) && has(ADMIN) && has(HEALTH) && has(MAX_IN_FLIGHT));
    assert_close(r.weight, 0.75);
    assert_int_equal(r.admin, REPORT_READY);
    assert_int_equal(r.health, REPORT_UP);
    assert_int_equal(r.max_in_flight, 30);
    assert_string_equal(r.reason, "all: good");
    assert_string_equal(report_admin_word(REPORT_MAINT), "maint");
    assert_string_equal(report_health_word(REPORT_STOPPED), "stopped");
    assert_int_equal(report_parse_agent_check(STR("50% weight:10 down stopped"), &r),
                     REPORT_F_NONE);
    assert_true(has(WEIGHT_UNIT) && !has(WEIGHT) && !has(ADMIN));
    assert_int_equal(r.weight_unit, 10);
    assert_int_equal(r.health, REPORT_STOPPED);
    assert_int_equal(report_parse_agent_check(STR("weight:50%"), &r), REPORT_F_NONE);
    assert_close(r.weight, 0.5);
}

static void
a_reason_is_cut_and_made_printable(void **state)
{
    char line[256];

    snprintf(line, sizeof(line), "down#\ta\x1b[31m\xc3\xa4 %0100d", 0);
    assert_int_equal(report_parse_agent_check(str_of(line), &r), REPORT_F_NONE);
    assert_int_equal(strlen(r.reason), REPORT_REASON_MAX - 1);
    assert_int_equal(strncmp(r.reason, "a?[31m?? 0", 10), 0);
    assert_int_equal(report_parse_agent_check(STR("down"), &r), REPORT_F_NONE);
    assert_string_equal(r.reason, "");
}

static void
words_that_say_nothing_are_refused(void **state)
{
    static const struct refusal all[] = {
        {"", REPORT_F_EMPTY},
        {"# only text", REPORT_F_EMPTY},
        {"hello", REPORT_F_NAME_UNKNOWN},
        {"up 75", REPORT_F_NUMBER},
        {"75%%", REPORT_F_NUMBER},
        {"7x%", REPORT_F_NUMBER},
        {"-5%", REPORT_F_NAME_UNKNOWN},
        {"weight:257", REPORT_F_RANGE},
        {"weight:", REPORT_F_NUMBER},
        {"25601%", REPORT_F_RANGE},
        {"maxconn:x", REPORT_F_NUMBER},
        {"maxconn:1000000000", REPORT_F_RANGE},
        {"up#down", REPORT_F_NONE},
        {"0%", REPORT_F_NONE},
    };

    check_all(all, MC_COUNT(all), report_parse_agent_check);
}

/* --- node_exporter ------------------------------------------------------------------------------
 */

static const char scrape[] =
    "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.\n"
    "# TYPE node_cpu_seconds_total counter\n"
    "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 90\n"
    "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10.5\n"
    "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 3\n"
    "node_cpu_seconds_total{cpu=\"1\",mode=\"idle\"} 9.5e+01\n"
    "node_cpu_seconds_total{cpu=\"1\",mode=\"iowait\"} 5\n"
    "node_cpu_seconds_total{cpu=\"1\",mode=\"system\"} 4.5\n"
    "node_memory_MemTotal_bytes 1.6e+10\n"
    "node_memory_MemAvailable_bytes 4e+09\n"
    "node_load1 0.5\n"
    "node_procs_running 3\n"
    "node_filesystem_avail_bytes{device=\"a}\\\"b\",mountpoint=\"/\"} NaN\n"
    "node_pressure_cpu_waiting_seconds_total 2\n"
    "node_boot_time_seconds 1.7e+09\n"
    "node_time_seconds 1.7000001e+09\n"
    "go_goroutines 8\n";

static void
a_scrape_adds_up_all_cores(void **state)
{
    struct report_node n;

    assert_int_equal(report_parse_node(STR(scrape), &n), REPORT_F_NONE);
    assert_int_equal(n.cores, 2);
    assert_close(n.cpu_seconds, 15);
    assert_close(n.idle_seconds, 190);
    assert_close(n.run_queue, 3);
    assert_close(n.cpu_waiting, 2);
    assert_true(n.io_waiting < 0);
    assert_close(n.boot_s, 1.7e9);
}

static void
two_scrapes_make_a_report(void **state)
{
    struct report_node a, b;

    report_parse_node(STR(scrape), &a);
    b = a;
    b.time_s += 2;
    b.cpu_seconds += 3;
    b.idle_seconds += 1;
    b.cpu_waiting += 0.5;
    assert_int_equal(report_of_node(&a, &b, 5 * MC_SEC, &r), REPORT_F_NONE);
    assert_close(r.cpu_utilization, 0.75);
    assert_close(r.cpu_pressure, 0.25);
    assert_close(r.cpu_seconds, 18);
    assert_close(r.mem_bytes, 12e9);
    assert_close(r.mem_utilization, 0.75);
    assert_true(has(SEQ) && r.seq == r.time_ms && r.boot == 1700000000);
    assert_false(has(IO_PRESSURE));
    b.cpu_seconds = 1;
    assert_int_equal(report_of_node(&a, &b, MC_SEC, &r), REPORT_F_COUNTER_BACK);
    assert_int_equal(report_of_node(&a, &a, MC_SEC, &r), REPORT_F_STALE_CLOCK);
    b = a;
    b.mem_available = 2 * b.mem_total;
    b.cpu_seconds += 1;
    assert_int_equal(report_of_node(&a, &b, MC_SEC, &r), REPORT_F_RANGE);
}

static enum report_fault
parse_node(struct str s, struct place_report *out)
{
    struct report_node n;

    return report_parse_node(s, &n);
}

static void
a_scrape_without_sense_is_refused(void **state)
{
    static const struct refusal all[] = {
        {"", REPORT_F_EMPTY},
        {"<html>no metrics</html>\n", REPORT_F_INCOMPLETE},
        {"node_load1 1\n", REPORT_F_INCOMPLETE},
        {"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} NaN\n", REPORT_F_NOT_FINITE},
        {"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} -1\n", REPORT_F_NEGATIVE},
        {"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1\n"
         "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1\n",
         REPORT_F_DUPLICATE},
        {"node_cpu_seconds_total{cpu=\"x\",mode=\"idle\"} 1\n", REPORT_F_NUMBER},
        {"node_cpu_seconds_total{cpu=\"99999\",mode=\"idle\"} 1\n", REPORT_F_RANGE},
        {"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\" 1\n", REPORT_F_SYNTAX},
        {"node_cpu_seconds_total\n", REPORT_F_SYNTAX},
        {"node_load1 1\nnode_load1 1\n", REPORT_F_DUPLICATE},
        {"node_memory_MemTotal_bytes +Inf\n", REPORT_F_NOT_FINITE},
    };

    check_all(all, MC_COUNT(all), parse_node);
}

/* --- order --------------------------------------------------------------------------------------
 */

#define T0 (1000 * MC_SEC)

static struct report_order order;
static mc_ns age;

static enum report_fault
admit(uint64_t boot, uint64_t seq, uint64_t time_ms, double cpu_seconds, mc_ns now)
{
    struct place_report p = {.boot = boot,
                             .seq = seq,
                             .time_ms = time_ms,
                             .cpu_seconds = cpu_seconds,
                             .cores = 2,
                             .present = 1u << REPORT_BOOT | 1u << REPORT_SEQ | 1u << REPORT_TIME |
                                        1u << REPORT_CPU_SECONDS | 1u << REPORT_CORES};

    return report_admit(&order, &p, now, &age);
}

static void
reports_are_ordered_by_boot_and_sequence(void **state)
{
    order = (struct report_order){0};
    assert_int_equal(admit(5, 10, 1000, 1, T0), REPORT_F_NONE);
    assert_int_equal(admit(5, 10, 1100, 1, T0 + 100 * MC_MS), REPORT_F_STALE_SEQ);
    assert_int_equal(admit(5, 9, 1100, 1, T0 + 100 * MC_MS), REPORT_F_STALE_SEQ);
    assert_int_equal(admit(5, 11, 1100, 1, T0 + 100 * MC_MS), REPORT_F_NONE);
    assert_int_equal(admit(6, 1, 500, 0, T0 + 200 * MC_MS), REPORT_F_NONE);
    assert_int_equal(admit(5, 12, 1200, 1, T0 + 300 * MC_MS), REPORT_F_STALE_SEQ);
    assert_int_equal(admit(6, 2, 600, 0.1, T0 + 300 * MC_MS), REPORT_F_NONE);
}

static void
the_age_is_what_the_way_took_beyond_the_fastest(void **state)
{
    order = (struct report_order){0};
    assert_int_equal(admit(1, 1, 1000, 0, T0), REPORT_F_NONE);
    assert_int_equal(age, 0);
    assert_int_equal(admit(1, 2, 1100, 0, T0 + 150 * MC_MS), REPORT_F_NONE);
    assert_in_range(age, 49 * MC_MS, 50 * MC_MS); /* 500 ppm let up */
    assert_int_equal(admit(1, 3, 1200, 0, T0 + 190 * MC_MS), REPORT_F_NONE);
    assert_int_equal(age, 0); /* faster than all before */
    assert_int_equal(admit(1, 4, 1300, 0, T0 + 3 * MC_SEC), REPORT_F_NONE);
    assert_in_range(age, 2700 * MC_MS, 2720 * MC_MS);
}

static void
a_clock_that_stands_or_runs_away_is_refused(void **state)
{
    order = (struct report_order){0};
    admit(1, 1, 1000, 0, T0);
    assert_int_equal(admit(1, 2, 1000, 0, T0 + MC_SEC), REPORT_F_STALE_CLOCK);
    assert_int_equal(admit(1, 2, 900, 0, T0 + MC_SEC), REPORT_F_STALE_CLOCK);
    assert_int_equal(admit(1, 2, 1001, 0, T0 + 12 * MC_SEC), REPORT_F_STALE_CLOCK);
    assert_int_equal(admit(1, 2, 3600000, 0, T0 + 12 * MC_SEC), REPORT_F_CLOCK_AHEAD);
    assert_int_equal(admit(1, 2, 13000, 0, T0 + 12 * MC_SEC), REPORT_F_NONE);
}

static void
a_counter_must_be_possible(void **state)
{
    order = (struct report_order){0};
    admit(1, 1, 1000, 10, T0);
    assert_int_equal(admit(1, 2, 2000, 9.9, T0 + MC_SEC), REPORT_F_COUNTER_BACK);
    assert_int_equal(admit(1, 2, 2000, 14, T0 + MC_SEC), REPORT_F_COUNTER_JUMP);
    assert_int_equal(admit(1, 2, 2000, 12, T0 + MC_SEC), REPORT_F_NONE);
}

static void
a_clock_that_is_told_late_is_taken_from_then_on(void **state)
{
    struct place_report p = {.present = 1u << REPORT_BOOT | 1u << REPORT_SEQ, .boot = 1, .seq = 1};

    order = (struct report_order){0};
    assert_int_equal(report_admit(&order, &p, T0, &age), REPORT_F_NONE);
    assert_int_equal(admit(1, 2, 5000000, 0, T0 + MC_SEC), REPORT_F_NONE);
    assert_int_equal(admit(1, 3, 5001000, 0, T0 + 2 * MC_SEC), REPORT_F_NONE);
    assert_int_equal(age, 0);
}

static void
one_lie_costs_seconds_and_no_more(void **state)
{
    order = (struct report_order){0};
    admit(1, 1, 1000, 0, T0);
    assert_int_equal(admit(((uint64_t)1 << 53) - 1, 1, 1000, 0, T0 + MC_SEC), REPORT_F_NONE);
    assert_int_equal(admit(1, 2, 2000, 0, T0 + 2 * MC_SEC), REPORT_F_STALE_SEQ);
    assert_int_equal(admit(1, 17, 17000, 0, T0 + 17 * MC_SEC), REPORT_F_NONE);
    assert_int_equal(admit(1, 18, 18000, 0, T0 + 18 * MC_SEC), REPORT_F_NONE);
}

static void
what_has_no_order_is_as_new_as_its_arrival(void **state)
{
    struct place_report p = {.present = 1u << REPORT_EPS};

    order = (struct report_order){0};
    admit(9, 9, 9, 9, T0);
    assert_int_equal(report_admit(&order, &p, T0, &age), REPORT_F_NONE);
    assert_int_equal(age, 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_gives_fields_and_named_metrics),
        cmocka_unit_test(text_may_have_colons_blanks_and_request_costs),
        cmocka_unit_test(text_that_is_no_report_is_refused),
        cmocka_unit_test(what_is_too_much_is_refused_or_left_out),
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(names_of_the_two_maps_are_kept_apart),
        cmocka_unit_test(json_gives_the_same_in_both_spellings),
        cmocka_unit_test(json_that_is_no_report_is_refused),
        cmocka_unit_test(the_wire_gives_the_same),
        cmocka_unit_test(a_wire_cut_anywhere_is_refused_or_shorter),
        cmocka_unit_test(the_wire_is_strict_and_skips_what_it_does_not_know),
        cmocka_unit_test(base64_may_be_padded_or_not),
        cmocka_unit_test(a_response_says_which_format_it_has),
        cmocka_unit_test(the_cost_of_a_request_has_two_names),
        cmocka_unit_test(the_last_word_of_a_kind_wins),
        cmocka_unit_test(a_reason_is_cut_and_made_printable),
        cmocka_unit_test(words_that_say_nothing_are_refused),
        cmocka_unit_test(a_scrape_adds_up_all_cores),
        cmocka_unit_test(two_scrapes_make_a_report),
        cmocka_unit_test(a_scrape_without_sense_is_refused),
        cmocka_unit_test(reports_are_ordered_by_boot_and_sequence),
        cmocka_unit_test(the_age_is_what_the_way_took_beyond_the_fastest),
        cmocka_unit_test(a_clock_that_stands_or_runs_away_is_refused),
        cmocka_unit_test(a_counter_must_be_possible),
        cmocka_unit_test(a_clock_that_is_told_late_is_taken_from_then_on),
        cmocka_unit_test(one_lie_costs_seconds_and_no_more),
        cmocka_unit_test(what_has_no_order_is_as_new_as_its_arrival),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
