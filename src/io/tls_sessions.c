/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_sessions.c - sessions with servers, to resume them: the newest few of each server, of as many
 * servers as were dialled last.
 *
 * One loop's.  Sessions are found by all that their certificate was judged by: they are no way
 * around a check that has become stricter.
 */
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "io/tls_priv.h"

#define SERVERS_MAX 1024
/* Servers give two tickets at a time, each good for one handshake (RFC 8446 C.4). */
#define PER_SERVER  4
/* However long the server would take it: a certificate is looked at again that often. */
#define SESSION_S   3600
#define KEY_BYTES   16
#define NAME_BYTES  TLS_NAME_MAX

struct tls_kept {
    struct list lru; /* newest at the end */
    char *key;
    size_t key_n;
    unsigned n;
    SSL_SESSION *session[PER_SERVER]; /* newest first */
};

/* Settings, server and name. */
static struct str
key_of(const struct tls *t, char out[KEY_BYTES + NAME_BYTES])
{
    const uint64_t id = tls_client_id(t->client);
    const size_t n = t->name != NULL ? strlen(t->name) : 0;

    MC_ASSERT(n <= NAME_BYTES);
    memcpy(out, &id, sizeof(id));
    memcpy(out + sizeof(id), &t->server, sizeof(t->server));
    if (n > 0)
        memcpy(out + KEY_BYTES, t->name, n);
    return (struct str){out, KEY_BYTES + n};
}

static void
forget_last(struct tls_kept *k)
{
    SSL_SESSION_free(k->session[--k->n]);
}

static SSL_SESSION *
take_first(struct tls_kept *k)
{
    SSL_SESSION *s = k->session[0];

    k->n--;
    memmove(&k->session[0], &k->session[1], k->n * sizeof(k->session[0]));
    return s;
}

static void
drop_server(struct tls_sessions *all, struct tls_kept *k)
{
    map_remove(&all->by_key, (struct str){k->key, k->key_n});
    list_remove(&k->lru);
    while (k->n > 0)
        forget_last(k);
    free(k->key);
    free(k);
}

static struct tls_kept *
get_server(struct tls_sessions *all, struct str key)
{
    struct tls_kept *k = map_get(&all->by_key, key);

    if (k == NULL) {
        if (all->by_key.n >= SERVERS_MAX)
            drop_server(all, LIST_ENTRY(all->lru.next, struct tls_kept, lru));
        k = mc_alloc(sizeof(*k));
        k->key = str_dup(key);
        k->key_n = key.n;
        list_init(&k->lru);
        map_put(&all->by_key, key, k);
    }
    list_remove(&k->lru);
    list_push_back(&all->lru, &k->lru);
    return k;
}

void
tls_sessions_put(struct tls *t, SSL_SESSION *s)
{
    char text[KEY_BYTES + NAME_BYTES];
    struct tls_kept *k = get_server(&t->turns->sessions, key_of(t, text));

    if (k->n == PER_SERVER)
        forget_last(k);
    memmove(&k->session[1], &k->session[0], k->n * sizeof(k->session[0]));
    k->session[0] = s;
    k->n++;
}

static bool
is_usable(const SSL_SESSION *s)
{
    const long age = (long)time(NULL) - SSL_SESSION_get_time(s), limit = SSL_SESSION_get_timeout(s);

    return SSL_SESSION_is_resumable(s) && age >= 0 && age < limit && age < SESSION_S;
}

SSL_SESSION *
tls_sessions_take(struct tls *t)
{
    char text[KEY_BYTES + NAME_BYTES];
    struct tls_kept *k = map_get(&t->turns->sessions.by_key, key_of(t, text));

    while (k != NULL && k->n > 0 && !is_usable(k->session[0]))
        SSL_SESSION_free(take_first(k));
    if (k == NULL || k->n == 0)
        return NULL;
    if (SSL_SESSION_get_protocol_version(k->session[0]) == TLS1_3_VERSION)
        return take_first(k);
    SSL_SESSION_up_ref(k->session[0]); /* good for any number of handshakes */
    return k->session[0];
}

void
tls_sessions_fini(struct tls_sessions *all)
{
    while (!list_empty(&all->lru))
        drop_server(all, LIST_ENTRY(all->lru.next, struct tls_kept, lru));
    map_free(&all->by_key);
}
