/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_tls.c - the files that a tls section names, read and made into what a listener offers, or
 * into how servers and agents are dialled.
 *
 * They are read with the configuration, so that a fault in one of them has the line of the value
 * that names it, and keeps the configuration from being used, at the start, in `meercat check` and
 * at a reload alike.
 */
#include "control/conf_check.h"

/* ALPN, RFC 7301: what the balancer speaks behind TLS, the better first. */
static const char *const protocols[] = {
    [LISTENER_AUTO] = "\x02h2\x08http/1.1",
    [LISTENER_HTTP1] = "\x08http/1.1",
    [LISTENER_H2] = "\x02h2",
    [LISTENER_TCP] = "", /* what they speak within is between client and server */
};

static void
set_alpn(const struct listener_conf *l, struct tls_domain *d)
{
    const char *list = protocols[l->protocol];

    if (*list != '\0')
        tls_domain_set_alpn(d, (const uint8_t *)list, (unsigned)strlen(list));
}

/* Where notes go, and the place that they are about. */
struct told {
    struct conf_run *run;
    const char *key;
    struct conf_at at;
    bool bad;
};

static void
on_note(void *arg, bool warning, const char *text)
{
    struct told *t = arg;

    if (warning) {
        conf_run_warning(t->run, t->at, "%s: %s", t->key, text);
        return;
    }
    t->bad = true;
    conf_run_fault(t->run, t->at, "%s: %s%s", t->key, text,
                   strstr(text, "expected") != NULL ? "" : ", expected a file that can be read");
}

/* Where the i-th value of a key stands; its section when it is not given. */
static void
look_at(struct told *t, const void *section, struct conf_at otherwise, const char *key, unsigned i)
{
    t->key = key;
    t->at = otherwise;
    for (unsigned k = 0; k < t->run->n_tls_values; k++) {
        const struct conf_tls_value *v = &t->run->tls_values[k];

        if (v->section == section && strcmp(v->key->name, key) == 0 && i-- == 0) {
            t->at = v->at;
            return;
        }
    }
}

static void
take(struct told *t, bool good, const struct errbuf *e)
{
    if (!good)
        on_note(t, false, e->text);
}

static void
add_certificates(struct told *t, const void *sec, struct conf_at at, const struct tls_conf *c,
                 struct tls_domain *d)
{
    for (unsigned i = 0; i < c->n_certificates; i++) {
        look_at(t, sec, at, "certificate", i);
        tls_domain_add(d, c->certificates[i], c->ocsp, on_note, t);
    }
}

static void
set_ciphers(struct told *t, const void *sec, struct conf_at at, const struct tls_conf *c,
            struct tls_domain *d)
{
    struct errbuf e;

    look_at(t, sec, at, "ciphers", 0);
    take(t, c->ciphers == NULL || tls_domain_set_ciphers(d, c->ciphers, &e), &e);
    look_at(t, sec, at, "ciphersuites", 0);
    take(t, c->ciphersuites == NULL || tls_domain_set_ciphersuites(d, c->ciphersuites, &e), &e);
    tls_domain_set_min_version(d, 2 + c->min_version);
}

static void
set_clients(struct told *t, const void *sec, struct conf_at at, const struct tls_conf *c,
            struct tls_domain *d)
{
    struct errbuf e;

    look_at(t, sec, at, "client-verify", 0);
    if (c->verify != TLS_VERIFY_NONE && c->n_client_cas == 0)
        on_note(t, false, "nobody could have issued a client's certificate, expected client-ca");
    if (c->verify == TLS_VERIFY_NONE && (c->n_client_cas > 0 || c->crl != NULL))
        on_note(t, true, "client-ca and crl have no effect, expected optional or required");
    for (unsigned i = 0; i < c->n_client_cas; i++) {
        look_at(t, sec, at, "client-ca", i);
        take(t, tls_domain_add_client_ca(d, c->client_cas[i], &e), &e);
    }
    look_at(t, sec, at, "crl", 0);
    if (c->crl != NULL)
        tls_domain_add_crl(d, c->crl, on_note, t);
    tls_domain_set_verify(d, c->verify);
}

void
conf_tls_load(struct conf_run *run, const void *section, struct conf_at at, struct listener_conf *l)
{
    struct told t = {.run = run};
    struct tls_domain *d;

    if (!run->with_files)
        return;
    d = tls_domain_new(l->name);
    set_alpn(l, d);
    if (l->tls.strict_sni)
        tls_domain_set_strict(d);
    set_ciphers(&t, section, at, &l->tls, d);
    set_clients(&t, section, at, &l->tls, d);
    add_certificates(&t, section, at, &l->tls, d);
    if (t.bad || l->tls.n_certificates == 0) /* which was said */
        tls_domain_unref(&d);
    l->tls.domain = d;
}

/* --- towards servers -----------------------------------------------------------------------------
 */

static void
set_authorities(struct told *t, const void *sec, struct conf_at at, const struct pool_tls_conf *c,
                struct tls_client *out)
{
    struct errbuf e;

    look_at(t, sec, at, "verify", 0);
    if (!c->verify) {
        on_note(t, true, "whoever answers is taken for the server, expected ca and verify = yes");
        tls_client_trust_all(out);
        return;
    }
    for (unsigned i = 0; i < c->n_cas; i++) {
        look_at(t, sec, at, "ca", i);
        take(t, tls_client_add_ca(out, c->cas[i], &e), &e);
    }
    look_at(t, sec, at, "ca", 0);
    if (c->n_cas == 0)
        take(t, tls_client_add_system_ca(out, &e), &e);
    look_at(t, sec, at, "crl", 0);
    if (c->crl != NULL)
        tls_client_add_crl(out, c->crl, on_note, t);
}

static void
set_versions(struct told *t, const void *sec, struct conf_at at, const struct pool_tls_conf *c,
             struct tls_client *out)
{
    struct errbuf e;

    look_at(t, sec, at, "ciphers", 0);
    take(t, c->ciphers == NULL || tls_client_set_ciphers(out, c->ciphers, &e), &e);
    look_at(t, sec, at, "ciphersuites", 0);
    take(t, c->ciphersuites == NULL || tls_client_set_ciphersuites(out, c->ciphersuites, &e), &e);
    tls_client_set_min_version(out, 2 + c->min_version);
}

/* The host of an address as people write it, or the address itself; NULL: a unix socket. */
static char *
host_of(const char *address)
{
    struct str host = STR_NONE;
    char text[ADDR_TEXT];
    uint16_t port;
    struct addr a;

    if (addr_parse(str_of(address), &a, &host, &port, NULL) != MC_OK)
        return host.n > 0 ? str_dup(host) : NULL; /* what it is else was said */
    return a.u.sa.sa_family == AF_UNIX ? NULL : mc_strdup(addr_ip_text(&a, text));
}

/* Whom the certificates of a pool's servers, or of their agents, must name. */
static void
name_servers(struct told *t, const struct pool_conf *p, const struct pool_tls_conf *c)
{
    for (unsigned i = 0; i < p->n_servers; i++) {
        struct server_conf *s = &p->servers[i];
        const bool agents = c == &p->agent_tls;
        const char *address = agents ? s->agent : s->address;
        char **name = agents ? &s->agent_tls_name : &s->tls_name;

        if (address == NULL)
            continue;
        if (*name == NULL)
            *name = c->name != NULL ? mc_strdup(c->name) : host_of(address);
        if (*name == NULL && c->verify)
            conf_run_fault(t->run, t->at, "server \"%s\": %s has no name, expected %s = NAME",
                           s->name, address, agents ? "agent-tls-name" : "tls-name");
    }
}

/* ALPN: what the pool wants to speak, best first. */
static void
offer_protocols(enum pool_protocol p, struct tls_client *out)
{
    static const uint8_t all[] = "\x02h2\x08http/1.1", *const h1 = all + 3;

    switch (p) {
    case POOL_HTTP1: tls_client_set_alpn(out, h1, 9); break;
    case POOL_H2: tls_client_set_alpn(out, all, 3); break;
    case POOL_AUTO: tls_client_set_alpn(out, all, 12); break;
    case POOL_TCP: break;
    }
}

/* What requests of another configuration may go on with. */
static void
identify(const struct pool_conf *p, const struct tls_client *c)
{
    for (unsigned i = 0; i < p->n_servers; i++) {
        struct server_conf *s = &p->servers[i];
        const struct str name = s->tls_name != NULL ? str_of(s->tls_name) : STR_NONE;

        s->tls_id = c != NULL ? str_hash(name, tls_client_id(c)) | 1 : 0;
    }
}

void
conf_tls_load_dial(struct conf_run *run, const void *section, struct conf_at at,
                   const struct pool_conf *p, struct pool_tls_conf *c)
{
    struct told t = {.run = run, .at = at};
    struct tls_client *made;

    name_servers(&t, p, c);
    if (!run->with_files)
        return;
    made = tls_client_new();
    offer_protocols(c == &p->tls ? p->protocol : POOL_HTTP1, made);
    set_authorities(&t, section, at, c, made);
    set_versions(&t, section, at, c, made);
    look_at(&t, section, at, "certificate", 0);
    if (c->certificate != NULL)
        tls_client_set_certificate(made, c->certificate, on_note, &t);
    tls_client_seal(made);
    if (t.bad) /* which was said */
        tls_client_unref(&made);
    c->client = made;
    if (c == &p->tls)
        identify(p, made);
    for (unsigned i = 0; c == &p->agent_tls && i < p->n_servers; i++)
        p->servers[i].agent_tls = tls_client_ref(made);
}
