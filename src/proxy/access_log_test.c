/* SPDX-License-Identifier: BSD-2-Clause
 *
 * access_log_test.c - what a line looks like, and what a rotation does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "proxy/access_log.h"

static char dir[] = "/tmp/meercat-access-log-XXXXXX";
static char path[sizeof(dir) + 16];

static struct access_record
record(void)
{
    return (struct access_record){
        .begun_wall_ns = 1767225599987654321, /* 2025-12-31T23:59:59.987 */
        .client_ip = "192.0.2.7",
        .client_port = 4711,
        .proxy = "10.0.0.1:999",
        .proxy_id = STR("c-1"),
        .listener = "web",
        .route = "rest",
        .pool = "app",
        .server = "app1",
        .reason = "round-robin",
        .class_name = STR("GET /a"),
        .request_id = STR("id-1"),
        .method = STR("GET"),
        .target = STR("/a?b=c"),
        .host = STR("example.org"),
        .user_agent = STR("curl/8"),
        .major = 1,
        .minor = 1,
        .status = 200,
        .bytes_out = 1234,
        .conn_requests = 3,
        .reused = true,
        .head_ns = 12345,
        .queue_ns = -1,
        .connect_ns = 0,
        .first_byte_ns = 7654321,
        .total_ns = 12345678901,
        .end = "ok",
    };
}

/* The text that one record makes in a format; the caller frees the buffer. */
static struct buf
line(enum access_format format, const struct access_record *r)
{
    struct errbuf e;
    struct access_log *l = access_log_open(path, format, &e);
    struct buf b = {0};

    assert_non_null(l);
    access_log_add(l, &b, r);
    access_log_close(&l);
    return b;
}

static void
a_json_line_tells_all_that_is_known(void **state)
{
    struct access_record r = record();
    struct buf b = line(ACCESS_JSON, &r);

    assert_string_equal(
        b.p, "{\"time\":\"2025-12-31T23:59:59.987Z\",\"request_id\":\"id-1\",\"client\":"
             "\"192.0.2.7\",\"client_port\":4711,\"proxy\":\"10.0.0.1:999\",\"proxy_id\":\"c-1\","
             "\"method\":\"GET\",\"host\":\"example.org\","
             "\"target\":\"/a?b=c\",\"version\":\"1.1\",\"status\":200,\"end\":\"ok\","
             "\"bytes_in\":0,\"bytes_out\":1234,\"head_ms\":0.012,\"connect_ms\":0.000,"
             "\"first_byte_ms\":7.654,\"total_ms\":12345.678,\"retries\":0,\"listener\":\"web\","
             "\"route\":\"rest\",\"pool\":\"app\",\"class\":\"GET /a\",\"server\":\"app1\","
             "\"reason\":\"round-robin\","
             "\"reused\":true,\"conn_requests\":3,\"user_agent\":\"curl/8\"}\n");
    buf_free(&b);
}

static void
a_json_line_tells_how_a_call_went(void **state)
{
    struct access_record r = record();
    struct buf b;

    r.grpc_status = "UNAVAILABLE";
    b = line(ACCESS_JSON, &r);
    assert_non_null(strstr(b.p, "\"end\":\"ok\",\"grpc_status\":\"UNAVAILABLE\","));
    buf_free(&b);
}

static void
a_line_of_a_connection_tells_of_no_request(void **state)
{
    struct access_record r = record();
    struct buf b;

    r.tcp = true;
    r.sni = STR("db.org");
    b = line(ACCESS_JSON, &r);
    assert_non_null(strstr(b.p, "\"protocol\":\"tcp\",\"end\":\"ok\""));
    assert_non_null(strstr(b.p, "\"sni\":\"db.org\""));
    assert_null(strstr(b.p, "\"method\""));
    assert_null(strstr(b.p, "\"status\""));
    assert_null(strstr(b.p, "\"reused\""));
    buf_free(&b);
    b = line(ACCESS_COMMON, &r);
    assert_non_null(strstr(b.p, "\"TCP db.org\" "));
    buf_free(&b);
}

static void
a_json_line_tells_of_tls(void **state)
{
    struct access_record r = record();
    struct buf b;

    r.tls_version = "TLSv1.3";
    r.tls_cipher = "TLS_AES_128_GCM_SHA256";
    r.sni = STR("a\"b");
    r.up_tls_version = "TLSv1.2";
    r.up_tls_resumed = true;
    b = line(ACCESS_JSON, &r);
    assert_non_null(strstr(b.p, ",\"tls_version\":\"TLSv1.3\",\"tls_cipher\":"
                                "\"TLS_AES_128_GCM_SHA256\",\"sni\":\"a\\\"b\","
                                "\"server_tls_version\":\"TLSv1.2\",\"server_tls_resumed\":true,"
                                "\"user_agent\""));
    buf_free(&b);
}

static void
a_json_line_tells_of_a_tunnel(void **state)
{
    struct access_record r = record();
    struct buf b;

    r.total_ns = 3 * MC_MS;
    r.tunnel = STR("websocket");
    r.tunnel_ns = 2 * MC_MS;
    b = line(ACCESS_JSON, &r);
    assert_non_null(
        strstr(b.p, "\"total_ms\":3.000,\"tunnel\":\"websocket\",\"tunnel_ms\":2.000,\"retries\""));
    buf_free(&b);
}

static void
a_json_line_tells_whom_a_connection_came_from(void **state)
{
    struct access_record r = record();
    struct buf b;

    r.adopted_from = "lb2";
    b = line(ACCESS_JSON, &r);
    assert_non_null(strstr(b.p, ",\"conn_requests\":3,\"adopted_from\":\"lb2\",\"user_agent\""));
    buf_free(&b);
    r.adopted = "repeated";
    b = line(ACCESS_JSON, &r);
    assert_non_null(strstr(b.p, ",\"adopted_from\":\"lb2\",\"adopted\":\"repeated\",\"user_"));
    buf_free(&b);
}

static void
a_json_line_survives_hostile_bytes(void **state)
{
    struct access_record r = record();
    struct buf b;
    json_t *j;

    r.user_agent = (struct str){"a\"b\\c\n\x01\xff\xc3\xa9", 10};
    r.target = STR("/\"},{\"status\":1");
    b = line(ACCESS_JSON, &r);
    assert_ptr_equal(memchr(b.p, '\n', b.n), b.p + b.n - 1);
    j = json_loadb(b.p, b.n, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "status")), 200);
    assert_string_equal(json_string_value(json_object_get(j, "target")), "/\"},{\"status\":1");
    assert_string_equal(json_string_value(json_object_get(j, "user_agent")),
                        "a\"b\\c\n\x01\xef\xbf\xbd\xc3\xa9");
    json_decref(j);
    buf_free(&b);
}

static void
a_request_that_could_not_be_read_still_makes_a_line(void **state)
{
    struct access_record r = {.client_ip = "::1",
                              .head_ns = -1,
                              .queue_ns = -1,
                              .connect_ns = -1,
                              .first_byte_ns = -1,
                              .total_ns = 0,
                              .status = 400,
                              .end = "BAD_REQUEST"};
    struct buf b = line(ACCESS_JSON, &r);
    json_t *j = json_loadb(b.p, b.n, 0, NULL);

    assert_non_null(j);
    assert_null(json_object_get(j, "server"));
    assert_null(json_object_get(j, "connect_ms"));
    json_decref(j);
    buf_free(&b);
    b = line(ACCESS_COMMON, &r);
    assert_string_equal(b.p, "::1 - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 -\n");
    buf_free(&b);
}

static void
common_and_combined_are_what_other_tools_read(void **state)
{
    struct access_record r = record();
    struct buf b = line(ACCESS_COMMON, &r);

    assert_string_equal(b.p, "192.0.2.7 - - [31/Dec/2025:23:59:59 +0000] "
                             "\"GET /a?b=c HTTP/1.1\" 200 1234\n");
    buf_free(&b);
    r.referer = STR("http://x/\"\\\t\xe9");
    b = line(ACCESS_COMBINED, &r);
    assert_string_equal(b.p, "192.0.2.7 - - [31/Dec/2025:23:59:59 +0000] "
                             "\"GET /a?b=c HTTP/1.1\" 200 1234 "
                             "\"http://x/\\x22\\x5c\\x09\\xe9\" \"curl/8\"\n");
    buf_free(&b);
}

static long
file_bytes(const char *name)
{
    struct stat st;

    return stat(name, &st) == 0 ? (long)st.st_size : -1;
}

static void
after_a_rotation_lines_go_to_the_new_file(void **state)
{
    struct access_record r = record();
    struct errbuf e;
    struct access_log *l;
    struct buf b = {0};
    char old[sizeof(path) + 8];
    long first;

    unlink(path);
    l = access_log_open(path, ACCESS_COMMON, &e);
    assert_non_null(l);
    access_log_add(l, &b, &r);
    access_log_flush(l, &b);
    assert_int_equal(b.n, 0);
    first = file_bytes(path);
    assert_true(first > 0);

    snprintf(old, sizeof(old), "%s.1", path);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(access_log_reopen(l, &e), MC_OK);
    assert_int_equal(file_bytes(path), 0);
    access_log_add(l, &b, &r);
    access_log_flush(l, &b);
    assert_int_equal(file_bytes(path), first);
    assert_int_equal(file_bytes(old), first);
    access_log_close(&l);
    assert_null(l);
    unlink(old);
    buf_free(&b);
}

static void
a_rotation_that_fails_keeps_the_old_file(void **state)
{
    struct access_record r = record();
    struct errbuf e;
    struct access_log *l;
    struct buf b = {0};
    char deep[sizeof(path) + 8], file[sizeof(path) + 16];

    snprintf(deep, sizeof(deep), "%s.d", path);
    snprintf(file, sizeof(file), "%s/log", deep);
    assert_int_equal(mkdir(deep, 0700), 0);
    l = access_log_open(file, ACCESS_COMMON, &e);
    assert_non_null(l);
    assert_int_equal(unlink(file) | rmdir(deep), 0);
    assert_int_equal(access_log_reopen(l, &e), MC_ESYS);
    assert_non_null(strstr(e.text, "No such file"));
    access_log_add(l, &b, &r);
    access_log_flush(l, &b); /* into the unlinked file: no crash, nothing lost to the error log */
    access_log_close(&l);
    buf_free(&b);
}

static void
a_log_that_cannot_be_opened_says_why(void **state)
{
    struct errbuf e;

    assert_null(access_log_open("/nonexistent/dir/log", ACCESS_JSON, &e));
    assert_non_null(strstr(e.text, "/nonexistent/dir/log"));
}

static void
a_long_turn_writes_before_its_end(void **state)
{
    struct access_record r = record();
    struct errbuf e;
    struct access_log *l = access_log_open(path, ACCESS_JSON, &e);
    struct buf b = {0};
    long before = file_bytes(path);

    for (int i = 0; i < 1000; i++)
        access_log_add(l, &b, &r);
    assert_true(file_bytes(path) > before);
    assert_true(b.cap <= 256 * 1024);
    access_log_close(&l);
    buf_free(&b);
}

static int
setup(void **state)
{
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/log", dir);
    return 0;
}

static int
teardown(void **state)
{
    unlink(path);
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_json_line_tells_all_that_is_known),
        cmocka_unit_test(a_json_line_tells_how_a_call_went),
        cmocka_unit_test(a_line_of_a_connection_tells_of_no_request),
        cmocka_unit_test(a_json_line_tells_of_tls),
        cmocka_unit_test(a_json_line_tells_of_a_tunnel),
        cmocka_unit_test(a_json_line_tells_whom_a_connection_came_from),
        cmocka_unit_test(a_json_line_survives_hostile_bytes),
        cmocka_unit_test(a_request_that_could_not_be_read_still_makes_a_line),
        cmocka_unit_test(common_and_combined_are_what_other_tools_read),
        cmocka_unit_test(after_a_rotation_lines_go_to_the_new_file),
        cmocka_unit_test(a_rotation_that_fails_keeps_the_old_file),
        cmocka_unit_test(a_log_that_cannot_be_opened_says_why),
        cmocka_unit_test(a_long_turn_writes_before_its_end),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
