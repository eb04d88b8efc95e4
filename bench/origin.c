/* SPDX-License-Identifier: BSD-2-Clause
 *
 * origin.c - the HTTP/1.1 server that stands behind the balancers in bench/run.
 *
 *   /b/N           N bytes, the same for all N
 *   anything else  the server's name
 *
 * A WebSocket (RFC 6455) gets its messages back, each in one frame.
 *
 * A request body is read and thrown away, then answered alike.
 *
 * Made to cost little, so that a measurement shows the proxy: one thread, few calls a connection
 * (serve.h), a prebuilt body, head and body in one writev.  It trusts whoever talks to it (no
 * timeouts, no chunked requests, no 100-continue): never put it on a network. */
#include <getopt.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "serve.h"

#define IN_BYTES     8192         /* largest request head */
#define BODY_BYTES   (1u << 20)   /* prebuilt; longer answers send it again and again */
#define MAX_N        (1ull << 40) /* longest answer: stops a typing error, nothing else */

/* What follows from the key of the example in RFC 6455 1.3, the only one that load.c sends. */
#define WS_ACCEPT    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define MESSAGE_MAX  65535u /* of a WebSocket */
#define MESSAGE_HEAD 8u     /* before one of 126 bytes or more: two, length, mask */

enum state { READ_HEAD, READ_BODY, ANSWER, READ_MESSAGE, ECHO_MESSAGE };
enum step { STEP_MORE, STEP_WAIT, STEP_CLOSE };

struct conn {
    int fd; /* first, see serve.h */
    enum state state;
    bool drained; /* the last recv was short: there is nothing to read before the next event */
    bool hup;     /* the peer has sent its FIN: no event will announce it again */
    bool last;    /* close after this answer */
    bool head_only;
    bool is_text;           /* the answer is the server's name, not bytes of `body` */
    uint64_t to_read;       /* of the request body */
    uint64_t sent, n_bytes; /* of the answer's body */
    uint32_t in_len, head_len, head_sent;
    bool websocket;
    uint32_t message_len, message_sent, message_end;
    char *message; /* of a WebSocket: a frame as it comes, or as it goes */
    char head[256];
    char in[IN_BYTES];
};

static char body[BODY_BYTES];
static char scratch[64 * 1024]; /* where request bodies go to die */
static char text[128];          /* body of every answer that is not /b/N */
static char server_line[96];    /* "X-Server: name\r\n", or empty */

/* Writes the response head into c->head. */
static void
answer_begin(struct conn *c, const char *status, uint64_t n_bytes)
{
    c->head_len = (uint32_t)snprintf(c->head, sizeof c->head,
                                     "HTTP/1.1 %s\r\nServer: origin\r\n%s"
                                     "Content-Type: text/plain\r\nContent-Length: %llu\r\n%s\r\n",
                                     status, server_line, (unsigned long long)n_bytes,
                                     c->last ? "Connection: close\r\n" : "");
    c->head_sent = 0;
    c->sent = 0;
    c->n_bytes = c->head_only ? 0 : n_bytes;
}

static enum step
refuse(struct conn *c, const char *status)
{
    c->last = true;
    c->is_text = true;
    answer_begin(c, status, 0);
    c->state = ANSWER;
    return STEP_MORE;
}

/* The value of a field line if it has this name, else NULL. The head ends in CRLF CRLF. */
static const char *
field(const char *line, const char *name, size_t name_len)
{
    if (strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
        return NULL;
    line += name_len + 1;
    return line + strspn(line, " \t");
}

/* Fields that matter: the length of the body, and whether the connection lives on. */
static bool
read_fields(struct conn *c, const char *line, const char *end)
{
    const char *v;

    for (; line < end; line = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1) {
        if ((*line | 0x20) == 'c' && (v = field(line, "content-length", 14)) != NULL)
            c->to_read = strtoull(v, NULL, 10);
        else if ((*line | 0x20) == 'c' && (v = field(line, "connection", 10)) != NULL)
            c->last = c->last || strncasecmp(v, "close", 5) == 0;
        else if ((*line | 0x20) == 'u' && field(line, "upgrade", 7) != NULL)
            c->websocket = true;
        else if ((*line | 0x20) == 't' && field(line, "transfer-encoding", 17) != NULL)
            return false;
    }
    return true;
}

/* Messages from now on. */
static enum step
upgrade(struct conn *c)
{
    c->message = malloc(MESSAGE_HEAD + MESSAGE_MAX);
    if (c->message == NULL)
        die("out of memory");
    c->message_len = 0;
    c->sent = c->n_bytes = c->head_sent = 0;
    c->head_len = (uint32_t)snprintf(c->head, sizeof c->head,
                                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                                     WS_ACCEPT);
    c->state = ANSWER;
    return STEP_MORE;
}

/* Prepares the answer to the head in c->in[0 .. n), CRLF CRLF included; it is sent after the body
 * has been read. */
static enum step
take_head(struct conn *c, size_t n)
{
    const char *end = c->in + n - 2, *path = memchr(c->in, ' ', n), *eol = memchr(c->in, '\r', n);
    uint64_t n_bytes;

    if (path == NULL || path + 2 > eol || eol - c->in < 14)
        return refuse(c, "400 Bad Request");
    path++;
    c->last = memcmp(eol - 8, "HTTP/1.0", 8) == 0;
    c->head_only = memcmp(c->in, "HEAD ", 5) == 0;
    c->to_read = 0;
    if (!read_fields(c, eol + 2, end))
        return refuse(c, "411 Length Required");
    if (c->websocket)
        return upgrade(c);

    if (strncmp(path, "/b/", 3) == 0) {
        n_bytes = strtoull(path + 3, NULL, 10);
        if (n_bytes > MAX_N)
            return refuse(c, "404 Not Found");
        c->is_text = false;
        answer_begin(c, "200 OK", n_bytes);
    } else {
        c->is_text = true;
        answer_begin(c, "200 OK", strlen(text));
    }
    c->state = READ_BODY;
    return STEP_MORE;
}

static enum step
receive(struct conn *c, char *to, size_t space, size_t *got)
{
    ssize_t n;

    if (c->drained && !c->hup)
        return STEP_WAIT;
    n = recv(c->fd, to, space, 0);
    if (n < 0)
        return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
    if (n == 0)
        return STEP_CLOSE;
    c->drained = (size_t)n < space;
    *got = (size_t)n;
    return STEP_MORE;
}

static enum step
read_head(struct conn *c)
{
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    enum step s;
    size_t n;

    if (end == NULL) {
        if (c->in_len == IN_BYTES)
            return STEP_CLOSE;
        s = receive(c, c->in + c->in_len, IN_BYTES - c->in_len, &n);
        if (s == STEP_MORE)
            c->in_len += (uint32_t)n;
        return s;
    }
    n = (size_t)(end + 4 - c->in);
    s = take_head(c, n);
    c->in_len -= (uint32_t)n;
    memmove(c->in, c->in + n,
            c->in_len); /* mostly nothing: the next request, or the body's start */
    return s;
}

static enum step
read_body(struct conn *c)
{
    size_t n = c->in_len < c->to_read ? c->in_len : c->to_read;
    enum step s;

    if (n > 0) {
        c->in_len -= (uint32_t)n;
        memmove(c->in, c->in + n, c->in_len);
    } else if (c->to_read > 0) {
        s = receive(c, scratch, c->to_read < sizeof scratch ? c->to_read : sizeof scratch, &n);
        if (s != STEP_MORE)
            return s;
    }
    c->to_read -= n;
    if (c->to_read == 0)
        c->state = ANSWER;
    return STEP_MORE;
}

static enum step
answer(struct conn *c)
{
    size_t head = c->head_len - c->head_sent, from = c->sent % BODY_BYTES;
    uint64_t left = c->n_bytes - c->sent;
    struct iovec v[2] = {
        {c->head + c->head_sent, head},
        {(c->is_text ? text : body) + from, left < BODY_BYTES - from ? left : BODY_BYTES - from},
    };
    ssize_t n;

    n = writev(c->fd, v, 2);
    if (n < 0)
        return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
    if ((size_t)n < head) {
        c->head_sent += (uint32_t)n;
        return STEP_MORE;
    }
    c->head_sent = c->head_len;
    c->sent += (size_t)n - head;
    if (c->sent < c->n_bytes)
        return STEP_MORE;
    c->state = c->websocket ? READ_MESSAGE : READ_HEAD;
    return c->last ? STEP_CLOSE : STEP_MORE;
}

/* ---- WebSocket ------------------------------------------------------------------------------- */

/* The whole frame is there: [begin, begin + n) is its payload, behind its mask.  It becomes our
 * frame, which is four bytes shorter. */
static void
unmask(struct conn *c, uint32_t begin, uint32_t n)
{
    char *p = c->message + begin, *to = p - 4, mask[4];

    memcpy(mask, to, sizeof mask);
    c->message[1] &= 0x7f;
    for (uint32_t i = 0; i < n; i++)
        to[i] = p[i] ^ mask[i % 4];
    c->message_sent = 0;
    c->message_end = begin - 4 + n;
    c->state = ECHO_MESSAGE;
}

/* Whoever sends has one message under way: nothing comes behind it. */
static enum step
read_message(struct conn *c)
{
    const unsigned char *p = (const unsigned char *)c->message;
    uint32_t begin = 6, n = 0;
    enum step s;
    size_t got;

    if (c->message_len >= MESSAGE_HEAD) {
        n = p[1] & 0x7fu;
        if (n == 126) {
            begin = MESSAGE_HEAD;
            n = (uint32_t)p[2] << 8 | p[3];
        }
        if ((p[1] & 0x80) == 0 || n == 127 || c->message_len > begin + n)
            return STEP_CLOSE;
        if (c->message_len == begin + n) {
            unmask(c, begin, n);
            return STEP_MORE;
        }
    }
    s = receive(c, c->message + c->message_len, MESSAGE_HEAD + MESSAGE_MAX - c->message_len, &got);
    if (s == STEP_MORE)
        c->message_len += (uint32_t)got;
    return s;
}

static enum step
echo_message(struct conn *c)
{
    ssize_t n =
        send(c->fd, c->message + c->message_sent, c->message_end - c->message_sent, MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
    c->message_sent += (uint32_t)n;
    if (c->message_sent == c->message_end) {
        c->message_len = 0;
        c->state = READ_MESSAGE;
    }
    return STEP_MORE;
}

static void
conn_run(struct conn *c)
{
    enum step s;

    do {
        switch (c->state) {
        case READ_HEAD: s = read_head(c); break;
        case READ_BODY: s = read_body(c); break;
        case READ_MESSAGE: s = read_message(c); break;
        case ECHO_MESSAGE: s = echo_message(c); break;
        default: s = answer(c); break;
        }
    } while (s == STEP_MORE);
    if (s == STEP_CLOSE) {
        close(c->fd);
        free(c->message);
        free(c);
    }
}

static void
on_events(void *arg, uint32_t events)
{
    struct conn *c = arg;

    c->drained = false;
    c->hup = c->hup || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    conn_run(c);
}

static int
until_asked(void)
{
    return -1;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"address", required_argument, NULL, 'a'},
        {"port", required_argument, NULL, 'p'},
        {"name", required_argument, NULL, 'n'},
        {NULL, 0, NULL, 0},
    };
    const char *address = "127.0.0.1", *name = "origin";
    uint16_t port = 9000;
    int o;

    while ((o = getopt_long(argc, argv, "a:p:n:", options, NULL)) != -1)
        switch (o) {
        case 'a': address = optarg; break;
        case 'p': port = (uint16_t)atoi(optarg); break;
        case 'n':
            name = optarg;
            snprintf(server_line, sizeof server_line, "X-Server: %.70s\r\n", name);
            break;
        default: fputs("usage: origin [--address A] [--port P] [--name NAME]\n", stderr); return 2;
        }
    snprintf(text, sizeof text, "%.70s\n", name);
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('a' + i % 26);
    raise_descriptor_limit();
    serve(&(struct serve){sizeof(struct conn), offsetof(struct conn, head), on_events, until_asked},
          listen_at(address, port, SOCK_NONBLOCK));
}
