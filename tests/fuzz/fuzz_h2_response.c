/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h2_response.c - any bytes from a server of HTTP/2 to a session that has asked three things.
 *
 * nghttp2 takes the frames apart as in proxy/up_h2.c.  Never a crash; no accepted head has CR, LF
 * or NUL in it, and HTTP/1.1 as which it is sent on reads it as the same response.
 */
#include <stdlib.h>

#include "base/check.h"
#include "http/h2.h"
#include "head_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define N_STREAMS 3

static const enum http_method methods[N_STREAMS] = {HTTP_M_GET, HTTP_M_HEAD, HTTP_M_POST};

struct stream {
    struct h2_fields fields;
    bool open, headed;
};

struct peer {
    struct arena arena;
    struct stream streams[N_STREAMS];
};

static struct stream *
stream_of(struct peer *p, int32_t id)
{
    return id > 0 && id % 2 == 1 && id / 2 < N_STREAMS ? &p->streams[id / 2] : NULL;
}

static void
check_fields(const struct http_field *f, unsigned n)
{
    check_clean_fields(f, n);
    for (unsigned i = 0; i < n; i++)
        MC_ASSERT(f[i].name_len > 0 && f[i].name[0] != ':');
}

/* As relay.c and down_h1.c send it. */
static void
check_as_h1(const struct http_head *h, enum http_method method, struct arena *a)
{
    const bool bodyless = http_response_bodyless(h->status, method);
    const struct h1_write w = {
        .body = h->body, .content_length = h->content_length, .keep_content_length = bodyless};
    char *text = malloc(h1_write_bound(h, &w));
    size_t n = h1_write_response(text, h, &w);
    struct http_head again;

    MC_ASSERT(n <= h1_write_bound(h, &w));
    MC_ASSERT(h1_parse_response(&again, text, n, method, &wide, a) == H1_NONE);
    MC_ASSERT(again.status == h->status && again.n_fields <= h->n_fields + 1);
    MC_ASSERT(again.body == h->body && !again.upgrade);
    if (h->body == HTTP_BODY_LENGTH)
        MC_ASSERT(again.content_length == h->content_length);
    free(text);
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    struct peer *p = arg;
    struct stream *s = stream_of(p, f->hd.stream_id);

    if (s != NULL) {
        h2_fields_init(&s->fields, s->headed ? H2_TRAILERS : H2_RESPONSE, &h1_default_limits,
                       &p->arena);
        s->open = true;
    }
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
          const uint8_t *value, size_t value_n, uint8_t flags, void *arg)
{
    struct stream *s = stream_of(arg, f->hd.stream_id);

    if (s != NULL && s->open)
        h2_fields_add(&s->fields, (struct str){(const char *)name, name_n},
                      (struct str){(const char *)value, value_n});
    return 0;
}

static void
take_section(struct peer *p, struct stream *s, enum http_method method, bool end)
{
    struct http_field *trailers;
    struct http_head head;
    unsigned n;

    s->open = false;
    if (s->headed) {
        if (h2_read_trailers(&s->fields, &trailers, &n) == H2_NONE)
            check_fields(trailers, n);
    } else if (h2_read_response(&head, &s->fields, method, end) == H2_NONE) {
        MC_ASSERT(head.status >= 100 && head.status <= 999 && head.status != 101);
        check_fields(head.fields, head.n_fields);
        check_as_h1(&head, method, &p->arena);
        s->headed = head.status >= 200;
    }
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    struct stream *s = stream_of(arg, f->hd.stream_id);

    if (f->hd.type == NGHTTP2_HEADERS && s != NULL && s->open)
        take_section(arg, s, methods[f->hd.stream_id / 2],
                     (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0);
    return 0;
}

static nghttp2_session *
session_of(struct peer *p)
{
    nghttp2_session_callbacks *c;
    nghttp2_option *o;
    nghttp2_session *session;

    MC_ASSERT(nghttp2_session_callbacks_new(&c) == 0 && nghttp2_option_new(&o) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_option_set_no_http_messaging(o, 1);
    nghttp2_option_set_no_auto_window_update(o, 1);
    MC_ASSERT(nghttp2_session_client_new2(&session, c, p, o) == 0);
    nghttp2_session_callbacks_del(c);
    nghttp2_option_del(o);
    return session;
}

static void
ask(nghttp2_session *session, struct arena *a)
{
    for (unsigned i = 0; i < N_STREAMS; i++) {
        const struct http_head head = {.method = methods[i],
                                       .method_text = STR("GET"),
                                       .authority = STR("a"),
                                       .path = STR("/")};
        const struct h1_write w = {.body = HTTP_BODY_NONE};
        nghttp2_nv *nv;
        unsigned n = h2_write_request(&head, &w, STR("http"), a, &nv);

        MC_ASSERT(nghttp2_submit_request(session, NULL, nv, n, NULL, NULL) > 0);
    }
}

static void
send_all(nghttp2_session *session)
{
    const uint8_t *out;

    while (nghttp2_session_mem_send(session, &out) > 0)
        ;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct peer peer = {.streams = {{.open = false}}};
    nghttp2_session *session;

    arena_init(&peer.arena, NULL);
    session = session_of(&peer);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0);
    ask(session, &peer.arena);
    send_all(session);
    if (nghttp2_session_mem_recv(session, data, n) >= 0)
        send_all(session);
    nghttp2_session_del(session);
    arena_drop(&peer.arena);
    return 0;
}
