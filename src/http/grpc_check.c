/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc_check.c - a health check of gRPC, see grpc_check.h.
 *
 * One stream; its end is the verdict.  What a server sends beside it is nghttp2's to answer.
 */
#include "http/grpc_check.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "http/grpc.h"

#define PATH        "/grpc.health.v1.Health/Check"
#define VARINT_MOST 10
#define PREFIX      5  /* of a message: compressed or not, and its length (big-endian) */
#define ANSWER_MOST 64 /* of a message that holds one small number; more is nonsense */

struct grpc_check {
    nghttp2_session *session;
    int32_t stream;
    enum grpc_check_state state;
    char why[64];
    unsigned status; /* of HTTP; 0: no head has come */
    bool said;       /* a grpc-status has come */
    enum grpc_status grpc;
    uint8_t *question;
    size_t n_question, n_sent;
    uint8_t answer[ANSWER_MOST];
    size_t n_answer;
};

/* --- messages ---------------------------------------------------------------------------------
 */

static uint8_t *
put_varint(uint8_t *p, size_t n)
{
    for (; n > 127; n >>= 7)
        *p++ = (uint8_t)(n | 0x80);
    *p++ = (uint8_t)n;
    return p;
}

/* HealthCheckRequest { string service = 1; } */
static void
write_question(struct grpc_check *c, struct str service)
{
    uint8_t *p;
    size_t n;

    c->question = mc_alloc(PREFIX + 1 + VARINT_MOST + service.n);
    p = c->question + PREFIX;
    if (service.n > 0) {
        *p++ = 1 << 3 | 2;
        p = put_varint(p, service.n);
        memcpy(p, service.p, service.n);
        p += service.n;
    }
    c->n_question = (size_t)(p - c->question);
    n = c->n_question - PREFIX;
    for (unsigned i = 0; i < PREFIX; i++)
        c->question[i] = i == 0 ? 0 : (uint8_t)(n >> 8 * (PREFIX - 1 - i));
}

/* HealthCheckResponse { ServingStatus status = 1; }.  The names of its numbers; what is not there
 * is 0. */
static const char *const statuses[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};

#define SERVING 1

/* The number of a message that holds nothing else; UINT_MAX when it does. */
static unsigned
read_answer(const struct grpc_check *c)
{
    const uint8_t *m = c->answer + PREFIX;

    if (c->n_answer < PREFIX || c->answer[0] != 0 || c->answer[1] != 0 || c->answer[2] != 0 ||
        c->answer[3] != 0 || c->answer[4] != c->n_answer - PREFIX)
        return UINT32_MAX;
    if (c->answer[4] == 0)
        return 0;
    return c->answer[4] == 2 && m[0] == (1 << 3 | 0) ? m[1] : UINT32_MAX;
}

/* --- the verdict ------------------------------------------------------------------------------
 */

static void __attribute__((format(printf, 3, 4)))
settle(struct grpc_check *c, bool ok, const char *fmt, ...)
{
    va_list ap;

    if (c->state != GRPC_CHECK_MORE)
        return;
    c->state = ok ? GRPC_CHECK_SERVING : GRPC_CHECK_FAILED;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof(c->why), fmt, ap);
    va_end(ap);
}

static void
judge(struct grpc_check *c, uint32_t error)
{
    unsigned answer = read_answer(c);

    if (error != NGHTTP2_NO_ERROR)
        settle(c, false, "stream ended by %s", nghttp2_http2_strerror(error));
    else if (c->status != 200)
        settle(c, false, "status %u", c->status);
    else if (!c->said)
        settle(c, false, "no grpc-status");
    else if (c->grpc != GRPC_OK)
        settle(c, false, "grpc-status %s", grpc_status_name(c->grpc));
    else if (answer >= MC_COUNT(statuses))
        settle(c, false, "malformed answer");
    else
        settle(c, answer == SERVING, "%s", statuses[answer]);
}

/* --- what nghttp2 calls -----------------------------------------------------------------------
 */

static int
on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t n_name,
          const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
    struct grpc_check *c = arg;
    const struct str n = {(const char *)name, n_name}, v = {(const char *)value, n_value};
    uint64_t number;

    if (f->hd.stream_id != c->stream)
        return 0;
    if (str_eq(n, STR(":status")) && str_u64(v, &number)) {
        c->status = (unsigned)number;
    } else if (str_eq(n, STR("grpc-status"))) {
        c->said = true;
        c->grpc = grpc_status_read(v);
    }
    return 0;
}

static int
on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *arg)
{
    struct grpc_check *c = arg;

    if (n > ANSWER_MOST - c->n_answer) {
        settle(c, false, "answer too long");
        return 0;
    }
    memcpy(c->answer + c->n_answer, p, n);
    c->n_answer += n;
    return 0;
}

static int
on_stream_close(nghttp2_session *s, int32_t stream, uint32_t error, void *arg)
{
    judge(arg, error);
    return 0;
}

static ssize_t
read_question(nghttp2_session *s, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
              nghttp2_data_source *source, void *arg)
{
    struct grpc_check *c = source->ptr;
    size_t n = c->n_question - c->n_sent;

    n = n < room ? n : room;
    memcpy(to, c->question + c->n_sent, n);
    c->n_sent += n;
    if (c->n_sent == c->n_question)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* --- birth and end ----------------------------------------------------------------------------
 */

static void
open_session(struct grpc_check *c)
{
    const nghttp2_settings_entry push_is_off = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    nghttp2_session_callbacks *calls;

    MC_ASSERT(nghttp2_session_callbacks_new(&calls) == 0);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    MC_ASSERT(nghttp2_session_client_new(&c->session, calls, c) == 0);
    nghttp2_session_callbacks_del(calls);
    MC_ASSERT(nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, &push_is_off, 1) == 0);
}

static nghttp2_nv
nv(const char *name, struct str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value.p, strlen(name),
                        value.n, NGHTTP2_NV_FLAG_NONE};
}

struct grpc_check *
grpc_check_new(struct str service, struct str authority, struct str scheme)
{
    struct grpc_check *c = mc_alloc(sizeof(*c));
    const nghttp2_data_provider body = {.source.ptr = c, .read_callback = read_question};
    const nghttp2_nv fields[] = {
        nv(":method", STR("POST")),       nv(":scheme", scheme),
        nv(":authority", authority),      nv(":path", STR(PATH)),
        nv("te", STR("trailers")),        nv("content-type", STR("application/grpc")),
        nv("user-agent", STR("meercat")),
    };

    *c = (struct grpc_check){.state = GRPC_CHECK_MORE};
    write_question(c, service);
    open_session(c);
    c->stream = nghttp2_submit_request(c->session, NULL, fields, MC_COUNT(fields), &body, NULL);
    MC_ASSERT(c->stream > 0);
    return c;
}

void
grpc_check_free(struct grpc_check **cp)
{
    struct grpc_check *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    nghttp2_session_del(c->session);
    free(c->question);
    free(c);
}

/* --- bytes ------------------------------------------------------------------------------------
 */

struct str
grpc_check_send(struct grpc_check *c)
{
    const uint8_t *p;
    ssize_t n = nghttp2_session_mem_send(c->session, &p);

    if (n > 0)
        return (struct str){(const char *)p, (size_t)n};
    if (!nghttp2_session_want_read(c->session)) /* it has said GOAWAY */
        settle(c, false, "not HTTP/2");
    return STR_NONE;
}

void
grpc_check_recv(struct grpc_check *c, struct str bytes)
{
    if (nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes.p, bytes.n) < 0)
        settle(c, false, "not HTTP/2");
}

enum grpc_check_state
grpc_check_state(const struct grpc_check *c)
{
    return c->state;
}

const char *
grpc_check_why(const struct grpc_check *c)
{
    return c->why;
}
