/* SPDX-License-Identifier: BSD-2-Clause
 *
 * expand.c - placeholders, see expand.h.
 */
#include "lab/expand.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/near.h"

static bool
is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* The word of "{word}" at the begin of s; empty when it is something else. */
static struct str
word_at(struct str s)
{
    size_t n = 1;

    while (n < s.n && is_word_char(s.p[n]))
        n++;
    if (n < 2 || n == s.n || s.p[n] != '}' || (s.p[1] >= '0' && s.p[1] <= '9'))
        return STR_NONE;
    return (struct str){s.p + 1, n - 1};
}

char *
expand_address(const struct topology_link *l)
{
    struct str rest;

    if (l->addresses.n == 0)
        return NULL;
    rest = str_of(l->addresses.v[0].text);
    return str_dup(str_cut(&rest, '/'));
}

/* "HOST.NETWORK" */
static enum mc_err
put_address(const struct expand *x, struct str word, struct buf *out, struct errbuf *e)
{
    struct str network = word, host = str_cut(&network, '.');
    const struct topology_host *h = x->host;
    const struct topology_link *l;
    char *address;

    if (!str_eq(host, STR("host")))
        h = topology_host_find(x->topology, host);
    if (h == NULL) {
        err_set(e, "{" STR_FMT "}: no host \"" STR_FMT "\"", STR_ARG(word), STR_ARG(host));
        return MC_ENOENT;
    }
    l = topology_link_find(h, topology_network_find(x->topology, network));
    address = l != NULL ? expand_address(l) : NULL;
    if (address == NULL) {
        err_set(e, "{" STR_FMT "}: %s has no address on \"" STR_FMT "\"", STR_ARG(word), h->name,
                STR_ARG(network));
        return MC_ENOENT;
    }
    buf_printf(out, "%s", address);
    free(address);
    return MC_OK;
}

static enum mc_err
unknown(const struct expand *x, struct str word, struct errbuf *e)
{
    static const char *const names[] = {"host", "n", "dir", "lab", "here", "meercat"};
    struct near near = {.asked = word};

    for (unsigned i = 0; i < MC_COUNT(names); i++)
        near_offer(&near, names[i]);
    if (near.best != NULL && !str_eq(str_of(near.best), word))
        err_set(e, "{" STR_FMT "} is unknown, expected {%s} perhaps", STR_ARG(word), near.best);
    else if (near.best != NULL)
        err_set(e, "{" STR_FMT "} is a host's, expected {lab}, {here} or {meercat}", STR_ARG(word));
    else
        err_set(e,
                "{" STR_FMT "} is unknown, expected {HOST.NETWORK} or one of {host}, {n}, "
                "{dir}, {lab}, {here}, {meercat}",
                STR_ARG(word));
    return MC_ENOENT;
}

static enum mc_err
put_word(const struct expand *x, struct str word, struct buf *out, struct errbuf *e)
{
    const struct {
        const char *name, *text;
    } known[] = {
        {"host", x->host ? x->host->name : NULL},
        {"dir", x->dir},
        {"lab", x->lab},
        {"here", x->here},
        {"meercat", x->meercat},
    };

    if (memchr(word.p, '.', word.n) != NULL)
        return put_address(x, word, out, e);
    if (str_eq(word, STR("n")) && x->host != NULL) {
        buf_printf(out, "%u", x->host->number);
        return MC_OK;
    }
    for (unsigned i = 0; i < MC_COUNT(known); i++) {
        if (known[i].text != NULL && str_eq(word, str_of(known[i].name))) {
            buf_str(out, str_of(known[i].text));
            return MC_OK;
        }
    }
    return unknown(x, word, e);
}

enum mc_err
expand(const struct expand *x, struct str text, struct buf *out, size_t *offset, struct errbuf *e)
{
    struct str rest = text, word;

    while (rest.n > 0) {
        const char *brace = memchr(rest.p, '{', rest.n);
        size_t plain = brace != NULL ? (size_t)(brace - rest.p) : rest.n;

        buf_add(out, rest.p, plain);
        rest = (struct str){rest.p + plain, rest.n - plain};
        if (rest.n == 0)
            break;
        word = word_at(rest);
        if (word.n == 0) {
            buf_add(out, rest.p, 1);
            rest = (struct str){rest.p + 1, rest.n - 1};
            continue;
        }
        if (put_word(x, word, out, e) != MC_OK) {
            *offset = (size_t)(rest.p - text.p);
            return MC_ENOENT;
        }
        rest = (struct str){rest.p + word.n + 2, rest.n - word.n - 2};
    }
    return MC_OK;
}
