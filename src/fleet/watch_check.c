/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_check.c - agents for HAProxy's agent-check: connect, perhaps send a word, read one line.
 */
#include <string.h>

#include "fleet/watch_priv.h"

#define LINE_MAX_BYTES 1024 /* HAProxy's own buffer is larger; a reply has some 30 bytes */
#define REPLY_LIMIT    (2 * MC_SEC)

static void
check_ask(struct watcher *w)
{
    if (w->conf.send != NULL)
        stream_write(&w->stream, w->conf.send, strlen(w->conf.send));
}

static enum watch_step
check_feed(struct watcher *w, char *p, size_t n)
{
    struct place_report r;
    size_t len;

    if (n > LINE_MAX_BYTES + 2 - w->in.n)
        n = LINE_MAX_BYTES + 2 - w->in.n;
    buf_add(&w->in, p, n);
    for (len = 0; len < w->in.n && w->in.p[len] != '\n' && w->in.p[len] != '\r'; len++)
        ;
    if (len > LINE_MAX_BYTES) {
        watch_refuse(w, REPORT_F_TOO_LONG);
        return watch_fail(w, "the reply is too long");
    }
    if (len == w->in.n)
        return WATCH_MORE;
    return watch_take(w, report_parse_agent_check((struct str){w->in.p, len}, &r), &r) &&
                   w->phase == WATCH_READING
               ? WATCH_DONE
               : WATCH_FAILED;
}

/* HAProxy ignores a line without an end, which may have been cut. */
static enum watch_step
check_eof(struct watcher *w)
{
    watch_refuse(w, REPORT_F_INCOMPLETE);
    return watch_fail(w, "closed without a whole line");
}

const struct watch_ops watch_ops_check = {
    .time_limit_ns = REPLY_LIMIT, .ask = check_ask, .feed = check_feed, .eof = check_eof};
