/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pass.c - see pass.h.
 */
#include "proxy/pass.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/pack.h"
#include "io/rights.h"
#include "proxy/flow.h"

/* --- out ----------------------------------------------------------------------------------------
 */

/* What a PROXY header told is known here only; what others could take over is theirs, too. */
bool
pass_may(const struct conn *c)
{
    return c->worker->heir >= 0 && c->stream.tls == NULL && c->told == NULL && !c->eof &&
           (c->flow == NULL || flow_is_released(c->flow)) && c->h2 == NULL && c->tcp == NULL &&
           c->listener->conf.proxy == PROXY_IN_OFF;
}

void
pass_begin(struct conn *c)
{
    if ((c->state == CONN_IDLE || c->state == CONN_FIRST) && c->in == NULL &&
        stream_unsent(&c->stream) == 0 && pass_may(c))
        sock_quiet(&c->stream.sock);
}

static bool
try_send(const struct conn *c)
{
    uint8_t text[PASS_MAX], rest[PASS_BYTES_MAX];
    struct pack_out o = {.p = text, .cap = sizeof(text)};
    size_t n;

    errno = 0;
    if (!sock_rest(&c->stream.sock, rest, sizeof(rest), &n))
        return false;
    pack_u8(&o, PASS_KIND);
    pack_u16(&o, c->local_port);
    pack_u32(&o, c->requests);
    pack_str(&o, str_of(c->live->name));
    pack_bytes(&o, rest, n);
    return !o.bad && rights_send(c->worker->heir, text, o.n, &c->stream.sock.fd, 1);
}

/* Who cannot go stays, and is asked to close with its next answer when there is nobody to go to. */
void
pass_send(struct conn *c)
{
    if (try_send(c)) {
        conn_close(c, false);
        return;
    }
    if (errno == EPIPE || errno == ECONNRESET)
        c->worker->heir = -1;
    stream_recv(&c->stream, true);
}

void
pass_all(struct worker *w)
{
    LIST_FOREACH (it, &w->conns) {
        pass_begin(LIST_ENTRY(it, struct conn, link));
    }
}

/* --- in -----------------------------------------------------------------------------------------
 */

struct passed *
pass_read(const uint8_t *bytes, size_t n, int fd)
{
    struct pack_in in = {.p = bytes, .n = n};
    bool ours = unpack_u8(&in) == PASS_KIND;
    uint16_t port = unpack_u16(&in);
    uint32_t requests = unpack_u32(&in);
    struct str name = unpack_str(&in, PASS_NAME_MAX);
    struct passed *p;

    if (in.bad || !ours || name.n == 0 || memchr(name.p, '\0', name.n) != NULL ||
        in.n > PASS_BYTES_MAX || fd < 0) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    p = mc_alloc(sizeof(*p) + in.n);
    p->fd = fd;
    p->requests = requests;
    p->local_port = port;
    p->listener = str_dup(name);
    p->n = in.n;
    if (in.n > 0)
        memcpy(p->bytes, in.p, in.n);
    return p;
}

void
pass_free(struct passed **pp)
{
    struct passed *p = *pp;

    *pp = NULL;
    if (p->fd >= 0)
        close(p->fd);
    free(p->listener);
    free(p);
}

static const struct listener *
listener_of(const struct worker *w, const char *name)
{
    const struct snapshot *s = w->current->snap;

    for (unsigned i = 0; i < s->n_listeners; i++)
        if (strcmp(s->listeners[i].conf.name, name) == 0)
            return &s->listeners[i];
    return NULL;
}

/* What it spoke so far was HTTP/1 in the open. */
static bool
still_fits(const struct listener *l)
{
    return l != NULL && l->conf.tls.domain == NULL && l->conf.proxy == PROXY_IN_OFF &&
           (l->conf.protocol == LISTENER_AUTO || l->conf.protocol == LISTENER_HTTP1);
}

void
pass_take(struct worker *w, struct passed **pp)
{
    struct passed *p = *pp;
    const struct listener *l = listener_of(w, p->listener);
    struct block *b = NULL;
    struct conn *c;

    if (still_fits(l)) {
        listen_claim(l->live);
        c = conn_accept(w, l->live, NULL, p->fd, p->local_port, p->n);
        p->fd = -1;
        c->requests = p->requests;
        if (p->n > 0) {
            block_append(loop_blocks(w->loop), &b, p->bytes, p->n);
            c->stream.sock.ops->on_recv(&c->stream.sock, &b);
        }
        if (b != NULL)
            block_give(loop_blocks(w->loop), &b);
    }
    pass_free(pp);
}
