/* SPDX-License-Identifier: BSD-2-Clause
 *
 * client.c - asks a running balancer over its unix socket.
 */
#include "cmd/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/h1.h"

#define TIMEOUT_S        10           /* a reload reads files and binds sockets */
#define ANSWER_BYTES_MAX (256u << 20) /* a hundred thousand servers are 100 MiB of JSON */

static int
dial(const char *path, struct errbuf *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    int fd;

    if (strlen(path) >= sizeof(a.sun_path)) {
        err_set(e, "%s: too long for a socket", path);
        return -1;
    }
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err_sys(e, "socket");
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    err_sys(e, path);
    close(fd);
    return -1;
}

static bool
send_all(int fd, const struct buf *b)
{
    for (size_t done = 0; done < b->n;) {
        ssize_t n = send(fd, b->p + done, b->n - done, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Until the other side closes. */
static bool
receive_all(int fd, struct buf *b)
{
    char chunk[16384];
    ssize_t n;

    while ((n = recv(fd, chunk, sizeof(chunk), 0)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (b->n + (size_t)n > ANSWER_BYTES_MAX) {
            errno = EFBIG;
            return false;
        }
        buf_add(b, chunk, (size_t)n);
    }
    return true;
}

static void
write_request(struct buf *b, const char *path, const char *body)
{
    buf_printf(b, "%s %s HTTP/1.1\r\nHost: meercat\r\nConnection: close\r\n", body ? "POST" : "GET",
               path);
    if (body != NULL)
        buf_printf(b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_printf(b, "\r\n%s", body ? body : "");
}

/* The answer's head is cut off raw; what is left is the body: the server always tells its length
 * and then closes. */
static enum mc_err
read_answer(struct buf *raw, struct client_answer *out, struct errbuf *e)
{
    struct http_head head;
    struct arena a;
    size_t scanned = 0, head_len;
    enum h1_fault fault = H1_NONE;

    if (!h1_head_end(raw->p ? raw->p : "", raw->n, &scanned, &head_len)) {
        err_set(e, "the answer broke off");
        return MC_ESYNTAX;
    }
    arena_init(&a, NULL);
    fault = h1_parse_response(&head, raw->p, head_len, HTTP_M_GET, &h1_default_limits, &a);
    out->status = head.status;
    if (fault == H1_NONE &&
        (head.body != HTTP_BODY_LENGTH || head.content_length != raw->n - head_len))
        fault = H1_CL_INVALID;
    arena_drop(&a);
    if (fault != H1_NONE) {
        err_set(e, "the answer cannot be read: %s", h1_fault_text(fault));
        return MC_ESYNTAX;
    }
    buf_add(&out->body, raw->p + head_len, raw->n - head_len);
    return MC_OK;
}

enum mc_err
client_ask(const char *socket, const char *path, const char *body, struct client_answer *out,
           struct errbuf *e)
{
    struct buf request = {0}, raw = {0};
    int fd = dial(socket, e);
    enum mc_err rv = MC_ESYS;

    *out = (struct client_answer){.status = 0};
    if (fd < 0)
        return MC_ESYS;
    write_request(&request, path, body);
    if (send_all(fd, &request) && receive_all(fd, &raw))
        rv = read_answer(&raw, out, e);
    else
        err_sys(e, socket);
    close(fd);
    buf_free(&request);
    buf_free(&raw);
    return rv;
}
