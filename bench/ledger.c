/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ledger.c - the HTTP/1.1 server that steady.c asks: it keeps a list of what was delivered to it.
 *
 *   GET, POST /c/ID/BYTES[/DELAY_MS]   so many bytes that follow from the number (ids.h), with a
 *                                      strong ETag; after that time
 *   anything else                      the server's name
 *
 * The body of a POST must be what follows from its number, too: else it is answered with 400.
 *
 * -L FILE: a number of eight bytes for each request whose head has come, the highest bit set with
 * GET; written at once, so that the list is right however this process ends.  One thread; it trusts
 * whoever talks to it (no timeouts, no chunked requests): never put it on a network. */
#include <fcntl.h>
#include <getopt.h>
#include <strings.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ids.h"
#include "serve.h"

#define IN_BYTES    8192
#define CHUNK_BYTES 16384
#define MAX_BYTES   (1ull << 32)
#define MAX_DELAY   60000u
#define GET_BIT     (1ull << 63)

enum state { READ_HEAD, READ_BODY, DELAY, ANSWER };
enum step { STEP_MORE, STEP_WAIT, STEP_CLOSE };

struct conn {
    int fd; /* first, see serve.h */
    enum state state;
    bool is_id, post, last;
    uint64_t id, bytes, sent; /* of the answer's body */
    uint64_t asked, read;     /* of the request's body */
    int64_t due_ns;           /* of the answer */
    struct conn *next;        /* of those who wait, soonest first */
    size_t head_len, head_sent, in_len, text_len;
    const char *text; /* the answer's body, unless it follows from the number */
    char head[512], in[IN_BYTES];
};

static const char *name = "ledger";
static int list = -1;
static struct conn *delayed;

/* ---- what was asked -------------------------------------------------------------------------- */

static void
note(const struct conn *c)
{
    uint64_t record = c->post ? c->id : c->id | GET_BIT;

    if (list >= 0 && write(list, &record, sizeof record) != sizeof record)
        die("cannot write the list");
}

static void
answer_text(struct conn *c, const char *status, const char *text)
{
    c->is_id = false;
    c->text = text;
    c->text_len = strlen(text);
    c->bytes = c->text_len;
    c->sent = c->head_sent = 0;
    c->head_len = (size_t)snprintf(c->head, sizeof c->head,
                                   "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                                   "Content-Length: %zu\r\n%s\r\n",
                                   status, c->text_len, c->last ? "Connection: close\r\n" : "");
}

static void
answer_id(struct conn *c)
{
    c->sent = c->head_sent = 0;
    c->head_len = (size_t)snprintf(
        c->head, sizeof c->head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nETag: \"%ju\"\r\n"
        "Content-Length: %ju\r\nX-Server: %s\r\n%s\r\n",
        (uintmax_t)c->id, (uintmax_t)c->bytes, name, c->last ? "Connection: close\r\n" : "");
}

/* The body's length and whether the connection lives on. */
static void
read_fields(struct conn *c, const char *line, const char *end)
{
    for (; line < end; line = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            c->asked = strtoull(line + 15, NULL, 10);
        else if (strncasecmp(line, "connection: close", 17) == 0)
            c->last = true;
    }
}

static int64_t
read_target(struct conn *c, const char *path)
{
    unsigned long long id, bytes;
    unsigned delay_ms = 0;

    if (sscanf(path, "/c/%llu/%llu/%u", &id, &bytes, &delay_ms) < 2 || bytes > MAX_BYTES)
        return 0;
    c->is_id = true;
    c->id = id;
    c->bytes = bytes;
    return delay_ms < MAX_DELAY ? delay_ms * 1000000ll : 0;
}

/* The head in c->in[0 .. n), CRLF CRLF included. */
static enum step
take_head(struct conn *c, size_t n)
{
    const char *path = memchr(c->in, ' ', n), *eol = memchr(c->in, '\r', n);
    int64_t delay_ns;

    if (path == NULL || path > eol)
        return STEP_CLOSE;
    c->post = memcmp(c->in, "POST ", 5) == 0;
    c->asked = c->read = 0;
    c->is_id = c->last = false;
    read_fields(c, eol + 2, c->in + n - 2);
    delay_ns = read_target(c, path + 1);
    c->due_ns = delay_ns > 0 ? clock_ns(CLOCK_MONOTONIC) + delay_ns : 0;
    if (c->is_id) {
        note(c);
        answer_id(c);
    } else {
        answer_text(c, "200 OK", name);
    }
    c->state = READ_BODY;
    return STEP_MORE;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static enum step
receive(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_BYTES - c->in_len, 0);

    if (n < 0)
        return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
    c->in_len += (size_t)n;
    return n == 0 ? STEP_CLOSE : STEP_MORE;
}

static void
drop(struct conn *c, size_t n)
{
    c->in_len -= n;
    memmove(c->in, c->in + n, c->in_len);
}

static enum step
read_head(struct conn *c)
{
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    enum step s;
    size_t n;

    if (end == NULL)
        return c->in_len == IN_BYTES ? STEP_CLOSE : receive(c);
    n = (size_t)(end + 4 - c->in);
    s = take_head(c, n);
    drop(c, n);
    return s;
}

static void
delay(struct conn *c)
{
    struct conn **at = &delayed;

    while (*at && (*at)->due_ns <= c->due_ns)
        at = &(*at)->next;
    c->next = *at;
    *at = c;
    c->state = DELAY;
}

static enum step
read_body(struct conn *c)
{
    size_t n = c->in_len < c->asked - c->read ? c->in_len : c->asked - c->read;

    if (c->read < c->asked && n == 0)
        return receive(c);
    if (c->is_id && !ids_match(c->in, c->id, IDS_ASKED, c->read, n)) {
        c->last = true;
        answer_text(c, "400 Bad Request", "another body than its number's\n");
    }
    drop(c, n);
    c->read += n;
    if (c->read < c->asked)
        return STEP_MORE;
    if (c->due_ns > 0)
        delay(c);
    else
        c->state = ANSWER;
    return STEP_MORE;
}

static enum step
answer(struct conn *c)
{
    static char chunk[CHUNK_BYTES];
    size_t head = c->head_len - c->head_sent, part = CHUNK_BYTES;
    struct iovec v[2] = {{c->head + c->head_sent, head}, {chunk, 0}};
    ssize_t n;

    if (part > c->bytes - c->sent)
        part = c->bytes - c->sent;
    if (c->is_id)
        ids_fill(chunk, c->id, IDS_ANSWERED, c->sent, part);
    else
        memcpy(chunk, c->text + c->sent, part);
    v[1].iov_len = part;
    n = writev(c->fd, v, 2);
    if (n < 0)
        return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
    if ((size_t)n < head) {
        c->head_sent += (size_t)n;
        return STEP_MORE;
    }
    c->head_sent = c->head_len;
    c->sent += (size_t)n - head;
    if (c->sent < c->bytes)
        return STEP_MORE;
    c->state = READ_HEAD;
    return c->last ? STEP_CLOSE : STEP_MORE;
}

static void
forget(struct conn *c)
{
    struct conn **at = &delayed;

    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    close(c->fd);
    free(c);
}

static void
conn_run(struct conn *c)
{
    enum step s;

    do {
        switch (c->state) {
        case READ_HEAD: s = read_head(c); break;
        case READ_BODY: s = read_body(c); break;
        case ANSWER: s = answer(c); break;
        default: s = STEP_WAIT; break;
        }
    } while (s == STEP_MORE);
    if (s == STEP_CLOSE)
        forget(c);
}

/* ---- serving --------------------------------------------------------------------------------- */

/* Answers whoever has waited long enough; milliseconds until the next has, -1: nobody waits. */
static int
run_delayed(void)
{
    int64_t now = clock_ns(CLOCK_MONOTONIC);

    while (delayed && delayed->due_ns <= now) {
        struct conn *c = delayed;

        delayed = c->next;
        c->state = ANSWER;
        conn_run(c);
    }
    return delayed ? (int)((delayed->due_ns - now) / 1000000) + 1 : -1;
}

static void
on_events(void *arg, uint32_t events)
{
    struct conn *c = arg;

    if (c->state != DELAY)
        conn_run(c);
    else if (events & (EPOLLHUP | EPOLLERR))
        forget(c);
}

int
main(int argc, char **argv)
{
    const char *address = "127.0.0.1";
    uint16_t port = 9000;
    int o;

    while ((o = getopt(argc, argv, "a:p:n:L:")) != -1)
        switch (o) {
        case 'a': address = optarg; break;
        case 'p': port = (uint16_t)atoi(optarg); break;
        case 'n': name = optarg; break;
        case 'L':
            list = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            if (list < 0)
                die(optarg);
            break;
        default:
            fputs("usage: ledger [-a ADDRESS] [-p PORT] [-n NAME] [-L LIST]\n", stderr);
            return 2;
        }
    raise_descriptor_limit();
    serve(&(struct serve){sizeof(struct conn), offsetof(struct conn, head), on_events, run_delayed},
          listen_at(address, port, SOCK_NONBLOCK));
}
