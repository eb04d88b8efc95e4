/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value_addr.c - values that are addresses, or names of hosts and interfaces.
 */
#include <net/if.h>
#include <string.h>

#include "control/conf_value_priv.h"
#include "io/addr.h"

#define NAME_BYTES_MAX 253 /* of a host name, RFC 1035 2.3.4 less the root's dot */

#define BIND_LIKE      "ADDRESS:PORT like \"*:80\", \"[::]:80\" or \"unix:/path\""

static bool
value_addr(struct str text, struct addr *out, const char *like, struct errbuf *e)
{
    struct errbuf why;
    char z[ADDR_TEXT];

    if (addr_parse(text, out, NULL, NULL, &why) != MC_OK) {
        err_set(e, "%s, expected %s", why.text, like);
        return false;
    }
    if (out->u.sa.sa_family != AF_UNIX && addr_port(out) == 0) {
        err_set(e, "%s has port 0, expected %s", addr_text(out, z), like);
        return false;
    }
    return true;
}

bool
value_bind(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!value_addr(text, &a, BIND_LIKE, e))
        return false;
    if (object != NULL)
        *(struct addr *)value_list_add(k, object, sizeof(a)) = a;
    return true;
}

bool
value_http(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a = {.len = 0};

    if (k->required && !value_addr(text, &a, "ADDRESS:PORT like \"127.0.0.1:7709\"", e))
        return false;
    if (!k->required && !str_eq(text, STR("none")) &&
        !value_addr(text, &a, "ADDRESS:PORT like \"127.0.0.1:7709\", or none", e))
        return false;
    if (a.len != 0 && a.u.sa.sa_family == AF_UNIX) {
        err_set(e, "a unix socket, expected ADDRESS:PORT; socket = is for the other");
        return false;
    }
    if (field != NULL)
        *(struct addr *)field = a;
    return true;
}

bool
value_ip(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!addr_parse_ip(text, 0, &a)) {
        err_set(e, "\"" STR_FMT "\" is not an IP address, expected like \"10.0.0.1\"",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(struct addr *)value_list_add(k, object, sizeof(a)) = a;
    return true;
}

/* As the kernel's dev_valid_name() has it. */
bool
value_interface(const struct conf_key *k, struct str text, void *object, void *field,
                struct errbuf *e)
{
    if (text.n == 0 || text.n >= IF_NAMESIZE || !value_is_visible(text, false) ||
        memchr(text.p, '/', text.n) != NULL || memchr(text.p, ':', text.n) != NULL) {
        err_set(e, "\"" STR_FMT "\" is not the name of an interface, expected like \"eth0\"",
                STR_ARG(text));
        return false;
    }
    if (!k->list)
        value_store_text(field, text);
    else if (object != NULL)
        *(char **)value_list_add(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

bool
value_net(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr_net net;
    struct errbuf why;

    if (addr_parse_net(text, &net, &why) != MC_OK) {
        err_set(e, "%s, expected like \"10.0.0.0/8\", \"2001:db8::1\" or unix", why.text);
        return false;
    }
    if (object != NULL)
        *(struct addr_net *)value_list_add(k, object, sizeof(net)) = net;
    return true;
}

bool
value_vip_address(const struct conf_key *k, struct str text, void *object, void *field,
                  struct errbuf *e)
{
    struct addr_net net;

    if (addr_parse_net(text, &net, NULL) != MC_OK || net.base.u.sa.sa_family == AF_UNIX) {
        err_set(e,
                "\"" STR_FMT
                "\" is no address, expected like \"192.0.2.10\" or \"2001:db8::10/128\"",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(struct addr_net *)value_list_add(k, object, sizeof(net)) = net;
    return true;
}

bool
value_resolver(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    struct addr a;

    if (!addr_parse_ip(text, 53, &a) &&
        (addr_parse(text, &a, NULL, NULL, NULL) != MC_OK || a.u.sa.sa_family == AF_UNIX)) {
        err_set(e,
                "\"" STR_FMT "\" is not an address, expected like \"9.9.9.9\" or "
                "\"[2620:fe::fe]:53\"",
                STR_ARG(text));
        return false;
    }
    value_list_join(field, text);
    return true;
}

/* Letters, digits, '-', '_' in labels between single dots. */
static bool
is_host_name(struct str s)
{
    bool label = false;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '.' && !label)
            return false;
        if (c != '.' && c != '-' && c != '_' && !(c >= '0' && c <= '9') &&
            !(str_lower((unsigned char)c) >= 'a' && str_lower((unsigned char)c) <= 'z'))
            return false;
        label = c != '.';
    }
    return label && s.n <= NAME_BYTES_MAX;
}

static bool
is_ip_literal(struct str s)
{
    struct addr a;

    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        return addr_parse_ip((struct str){s.p + 1, s.n - 2}, 0, &a) && a.u.sa.sa_family == AF_INET6;
    return false;
}

bool
value_host(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str name = text;

    if (str_starts(name, STR("*.")))
        name = (struct str){name.p + 2, name.n - 2};
    if (!is_host_name(name) && !is_ip_literal(text)) {
        err_set(e,
                "\"" STR_FMT "\" is not a host name, expected like \"example.org\" or "
                "\"*.example.org\", without port",
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(char **)value_list_add(k, object, sizeof(char *)) = str_dup(text);
    return true;
}

bool
value_name(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct addr a;

    if (!is_host_name(text) && !addr_parse_ip(text, 0, &a)) {
        err_set(e,
                "\"" STR_FMT "\" is neither a host name nor an IP address, expected like "
                "\"app.example.org\"",
                STR_ARG(text));
        return false;
    }
    value_store_text(field, text);
    return true;
}

#define SERVER_LIKE "HOST:PORT like \"10.0.1.1:8080\", \"[2001:db8::1]:80\" or \"unix:/path\""

bool
value_address(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct addr a;
    struct str host = STR_NONE;
    struct errbuf why;
    uint16_t port = 1;
    enum mc_err err = addr_parse(text, &a, &host, &port, &why);

    if (err == MC_OK && a.u.sa.sa_family != AF_UNIX)
        port = addr_port(&a);
    if (err == MC_ENOENT && is_host_name(host))
        err = MC_OK;
    if (err == MC_OK && str_starts(text, STR("*:"))) {
        err_set(&why, "\"" STR_FMT "\" is every address", STR_ARG(text));
        err = MC_EINVAL;
    }
    if (err == MC_OK && port == 0) {
        err_set(&why, "\"" STR_FMT "\" has port 0", STR_ARG(text));
        err = MC_EINVAL;
    }
    if (err != MC_OK) {
        err_set(e, "%s, expected " SERVER_LIKE, why.text);
        return false;
    }
    value_store_text(field, text);
    return true;
}

#define PEER_LIKE "HOST:PORT like \"10.0.0.2:7707\" or \"balancers.example.org:7707\""

bool
value_peer(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    struct str host = STR_NONE;
    struct errbuf why;
    struct addr a;
    uint16_t port = 0;
    enum mc_err err = addr_parse(text, &a, &host, &port, &why);

    if (err == MC_OK && a.u.sa.sa_family != AF_UNIX)
        port = addr_port(&a);
    if ((err != MC_OK && (err != MC_ENOENT || !is_host_name(host))) || port == 0) {
        err_set(e, "\"" STR_FMT "\" is no address of another balancer, expected " PEER_LIKE,
                STR_ARG(text));
        return false;
    }
    if (object != NULL)
        *(char **)value_list_add(k, object, sizeof(char *)) = str_dup(text);
    return true;
}
