/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc_check_test.c - a health check against a server that is nghttp2's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "base/check.h"
#include "http/grpc_check.h"

/* What the server answers, and what it got. */
struct server {
    nghttp2_session *session;
    const char *status, *grpc_status; /* NULL: none */
    struct str message;
    uint32_t rst; /* instead */
    bool in_head; /* grpc-status is there, and there is no body */
    char path[64], question[2048];
    size_t n_question, n_sent;
    struct grpc_check *check;
};

static nghttp2_nv
nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static ssize_t
read_message(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
             nghttp2_data_source *source, void *arg)
{
    struct server *s = arg;
    size_t n = s->message.n - s->n_sent < room ? s->message.n - s->n_sent : room;

    if (n > 0)
        memcpy(to, s->message.p + s->n_sent, n);
    s->n_sent += n;
    if (s->n_sent < s->message.n)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->grpc_status != NULL) {
        nghttp2_nv trailer = nv("grpc-status", s->grpc_status);

        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        assert_int_equal(nghttp2_submit_trailer(session, stream, &trailer, 1), 0);
    }
    return (ssize_t)n;
}

static void
reply(struct server *s, int32_t stream)
{
    const nghttp2_data_provider body = {.read_callback = read_message};
    nghttp2_nv head[2] = {nv(":status", s->status ? s->status : "200")};

    if (s->rst != 0) {
        nghttp2_submit_rst_stream(s->session, NGHTTP2_FLAG_NONE, stream, s->rst);
        return;
    }
    if (s->in_head)
        head[1] = nv("grpc-status", s->grpc_status);
    assert_int_equal(nghttp2_submit_response(s->session, stream, head, s->in_head ? 2 : 1,
                                             s->in_head ? NULL : &body),
                     0);
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) &&
        (f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        reply(arg, f->hd.stream_id);
    return 0;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p, size_t n,
        void *arg)
{
    struct server *s = arg;

    assert_true(s->n_question + n <= sizeof(s->question));
    memcpy(s->question + s->n_question, p, n);
    s->n_question += n;
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name, size_t n_name,
          const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
    struct server *s = arg;

    if (str_eq((struct str){(const char *)name, n_name}, STR(":path")))
        snprintf(s->path, sizeof(s->path), "%.*s", (int)n_value, (const char *)value);
    return 0;
}

/* Plays one check; step: so many bytes at once. */
static enum grpc_check_state
play(struct server *s, struct str service, size_t step)
{
    nghttp2_session_callbacks *calls;
    bool moved = true;

    assert_int_equal(nghttp2_session_callbacks_new(&calls), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    assert_int_equal(nghttp2_session_server_new(&s->session, calls, s), 0);
    nghttp2_session_callbacks_del(calls);
    nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, NULL, 0);
    s->check = grpc_check_new(service, STR("a:1"), STR("http"));
    while (grpc_check_state(s->check) == GRPC_CHECK_MORE && moved) {
        const uint8_t *p;
        struct str out;
        ssize_t n;

        moved = false;
        while ((out = grpc_check_send(s->check)).n > 0) {
            assert_int_equal(nghttp2_session_mem_recv(s->session, (const uint8_t *)out.p, out.n),
                             out.n);
            moved = true;
        }
        while ((n = nghttp2_session_mem_send(s->session, &p)) > 0) {
            for (size_t at = 0; at < (size_t)n; at += step) {
                size_t left = (size_t)n - at;

                grpc_check_recv(s->check,
                                (struct str){(const char *)p + at, left < step ? left : step});
            }
            moved = true;
        }
    }
    nghttp2_session_del(s->session);
    return grpc_check_state(s->check);
}

static void
says(struct server s, enum grpc_check_state state, const char *why)
{
    assert_int_equal(play(&s, STR("a.Service"), 1000), state);
    assert_string_equal(grpc_check_why(s.check), why);
    grpc_check_free(&s.check);
}

#define SERVING STR("\0\0\0\0\2\x08\1")

static void
a_server_that_serves_is_well(void **state)
{
    struct server s = {.grpc_status = "0", .message = SERVING};

    says(s, GRPC_CHECK_SERVING, "SERVING");
    assert_int_equal(play(&s, STR("a.Service"), 1), GRPC_CHECK_SERVING); /* byte by byte */
    assert_string_equal(s.path, "/grpc.health.v1.Health/Check");
    assert_int_equal(s.n_question, 16);
    assert_memory_equal(s.question,
                        "\0\0\0\0\x0b\x0a\x09"
                        "a.Service",
                        16);
    grpc_check_free(&s.check);
}

static void
the_question_names_a_service_of_any_length(void **state)
{
    static const size_t lengths[] = {0, 1, 127, 128, 300, 1024};
    char name[1024];

    memset(name, 'x', sizeof(name));
    for (unsigned i = 0; i < MC_COUNT(lengths); i++) {
        struct server s = {.grpc_status = "0", .message = SERVING};
        size_t n = lengths[i], extra = n == 0 ? 0 : n > 127 ? 3 : 2;

        assert_int_equal(play(&s, (struct str){name, n}, 1000), GRPC_CHECK_SERVING);
        assert_int_equal(s.n_question, 5 + extra + n);
        assert_int_equal((uint8_t)s.question[3] << 8 | (uint8_t)s.question[4], extra + n);
        if (n > 127)
            assert_int_equal((s.question[6] & 0x7f) | s.question[7] << 7, n);
        grpc_check_free(&s.check);
    }
}

static void
all_else_is_a_failure_that_says_why(void **state)
{
    says((struct server){.grpc_status = "0", .message = STR("\0\0\0\0\2\x08\2")}, GRPC_CHECK_FAILED,
         "NOT_SERVING");
    says((struct server){.grpc_status = "0", .message = STR("\0\0\0\0\0")}, GRPC_CHECK_FAILED,
         "UNKNOWN");
    says((struct server){.grpc_status = "5", .in_head = true}, GRPC_CHECK_FAILED,
         "grpc-status NOT_FOUND");
    says((struct server){.grpc_status = "12", .message = SERVING}, GRPC_CHECK_FAILED,
         "grpc-status UNIMPLEMENTED");
    says((struct server){.status = "404"}, GRPC_CHECK_FAILED, "status 404");
    says((struct server){.message = SERVING}, GRPC_CHECK_FAILED, "no grpc-status");
    says((struct server){.grpc_status = "0"}, GRPC_CHECK_FAILED, "malformed answer");
    says((struct server){.grpc_status = "0", .message = STR("\1\0\0\0\2\x08\1")}, GRPC_CHECK_FAILED,
         "malformed answer"); /* compressed: nobody offered to read that */
    says((struct server){.grpc_status = "0", .message = STR("\0\0\0\0\3\x08\1")}, GRPC_CHECK_FAILED,
         "malformed answer");
    says((struct server){.rst = NGHTTP2_REFUSED_STREAM}, GRPC_CHECK_FAILED,
         "stream ended by REFUSED_STREAM");
}

static void
an_answer_is_bounded(void **state)
{
    char much[1000] = {0};

    says((struct server){.grpc_status = "0", .message = {much, sizeof(much)}}, GRPC_CHECK_FAILED,
         "answer too long");
}

static void
what_is_not_http2_is_told(void **state)
{
    struct grpc_check *c = grpc_check_new(STR(""), STR("a:1"), STR("http"));

    while (grpc_check_send(c).n > 0)
        ;
    grpc_check_recv(c, STR("HTTP/1.1 400 Bad Request\r\n\r\n"));
    while (grpc_check_send(c).n > 0)
        ;
    assert_int_equal(grpc_check_state(c), GRPC_CHECK_FAILED);
    assert_string_equal(grpc_check_why(c), "not HTTP/2");
    grpc_check_free(&c);
    assert_null(c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_serves_is_well),
        cmocka_unit_test(the_question_names_a_service_of_any_length),
        cmocka_unit_test(all_else_is_a_failure_that_says_why),
        cmocka_unit_test(an_answer_is_bounded),
        cmocka_unit_test(what_is_not_http2_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
