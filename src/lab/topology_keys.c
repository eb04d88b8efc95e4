/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology_keys.c - the keys of a topology file, one row each, and how their values are read.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "io/addr.h"
#include "lab/topology_priv.h"

/* --- values ------------------------------------------------------------------------------------
 */

static bool
value_line(const struct topology_line *at, void *field, struct errbuf *e)
{
    struct topology_line *l = field;

    free(l->text);
    *l = *at;
    l->text = mc_strdup(at->text);
    return true;
}

static bool
value_lines(const struct topology_line *at, void *field, struct errbuf *e)
{
    topology_lines_add(field, at);
    return true;
}

static bool
value_address(const struct topology_line *at, void *field, struct errbuf *e)
{
    struct addr_net net;
    const char *slash = strchr(at->text, '/');
    struct addr ip;

    if (slash == NULL || addr_parse_net(str_of(at->text), &net, NULL) != MC_OK ||
        !addr_parse_ip((struct str){at->text, (size_t)(slash - at->text)}, 0, &ip)) {
        err_set(e, "\"%s\" is no address, expected one with its prefix, like 10.0.0.1/24",
                at->text);
        return false;
    }
    return value_lines(at, field, e);
}

static bool
value_sysctl(const struct topology_line *at, void *field, struct errbuf *e)
{
    const char *eq = strchr(at->text, '=');

    if (eq == NULL || strncmp(at->text, "net.", 4) != 0 || strstr(at->text, "..") != NULL ||
        memchr(at->text, '/', (size_t)(eq - at->text)) != NULL) {
        err_set(e, "\"%s\", expected net.NAME=VALUE", at->text);
        return false;
    }
    return value_lines(at, field, e);
}

static bool
value_duration(const struct topology_line *at, void *field, struct errbuf *e)
{
    mc_ns *ns = field;

    if (units_parse_duration(str_of(at->text), ns) && *ns <= 60 * MC_SEC)
        return true;
    err_set(e, "\"%s\" is no duration, expected 0 to 60s, like 10ms", at->text);
    return false;
}

/* "20%", "0.5%", up to `most` of it, into millionths. */
static bool
parse_percent(const char *text, double most, uint32_t *ppm)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || strcmp(end, "%") != 0 || !(v >= 0 && v <= most))
        return false;
    *ppm = (uint32_t)(v * 1e4 + .5);
    return true;
}

static bool
value_loss(const struct topology_line *at, void *field, struct errbuf *e)
{
    if (parse_percent(at->text, 100, field))
        return true;
    err_set(e, "\"%s\" is no share, expected 0%% to 100%%", at->text);
    return false;
}

static bool
value_cpu(const struct topology_line *at, void *field, struct errbuf *e)
{
    uint32_t *ppm = field;

    if (parse_percent(at->text, 100 * 1024, ppm) && *ppm > 0)
        return true;
    err_set(e, "\"%s\" is no share of a core, expected one like 50%% or 200%%", at->text);
    return false;
}

static bool
value_size(const struct topology_line *at, void *field, struct errbuf *e)
{
    uint64_t *bytes = field;

    if (units_parse_size(str_of(at->text), bytes) && *bytes > 0)
        return true;
    err_set(e, "\"%s\" is no size, expected one like 256MiB", at->text);
    return false;
}

/* "100Mbit", as tc(8) writes it: powers of 1000. */
static bool
value_rate(const struct topology_line *at, void *field, struct errbuf *e)
{
    static const struct {
        const char *word;
        double bits;
    } units[] = {{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}};
    char *end;
    double v = strtod(at->text, &end);

    for (unsigned i = 0; i < MC_COUNT(units) && end != at->text; i++) {
        if (!str_eq_ci(str_of(end), str_of(units[i].word)))
            continue;
        v *= units[i].bits;
        if (!(v >= 8e3 && v <= 1e12))
            break;
        *(uint64_t *)field = (uint64_t)v;
        return true;
    }
    err_set(e, "\"%s\" is no bandwidth, expected 8kbit to 1000gbit, like 100mbit", at->text);
    return false;
}

static bool
value_port(const struct topology_line *at, void *field, struct errbuf *e)
{
    uint64_t v;

    if (!str_u64(str_of(at->text), &v) || v < 1 || v > 65535) {
        err_set(e, "\"%s\" is no port, expected 1 to 65535", at->text);
        return false;
    }
    *(unsigned *)field = (unsigned)v;
    return true;
}

static bool
value_mode(const struct topology_line *at, void *field, struct errbuf *e)
{
    char *end;
    unsigned long v = strtoul(at->text, &end, 8);

    if (at->text[0] < '0' || at->text[0] > '7' || *end != '\0' || v > 0777) {
        err_set(e, "\"%s\" is no mode, expected octal permission bits, like 0640", at->text);
        return false;
    }
    *(unsigned *)field = (unsigned)v;
    return true;
}

static bool
value_bool(const struct topology_line *at, void *field, struct errbuf *e)
{
    bool yes = strcmp(at->text, "yes") == 0;

    if (!yes && strcmp(at->text, "no") != 0) {
        err_set(e, "\"%s\", expected yes or no", at->text);
        return false;
    }
    *(bool *)field = yes;
    return true;
}

static const char *const role_names[] = {
#define X(id, word) word,
    TOPOLOGY_ROLES(X)
#undef X
};

const char *
topology_role_name(enum topology_role r)
{
    return role_names[r];
}

static bool
value_role(const struct topology_line *at, void *field, struct errbuf *e)
{
    for (unsigned i = 0; i < TOPOLOGY_N_ROLES; i++) {
        if (strcmp(role_names[i], at->text) == 0) {
            *(enum topology_role *)field = (enum topology_role)i;
            return true;
        }
    }
    err_set(e, "\"%s\", expected client, router, balancer or server", at->text);
    return false;
}

/* --- the table ---------------------------------------------------------------------------------
 */

#define KEY(where, key, how, type, member, what)                   \
    {                                                              \
        .name = key, .place = PLACE_##where, .value = value_##how, \
        .offset = offsetof(struct type, member), .help = what      \
    }
#define LIST(where, key, how, type, member, what)                                \
    {                                                                            \
        .name = key, .place = PLACE_##where, .value = value_##how, .list = true, \
        .offset = offsetof(struct type, member), .help = what                    \
    }
#define MUST(where, key, how, type, member, like, what)                              \
    {                                                                                \
        .name = key, .place = PLACE_##where, .value = value_##how, .required = true, \
        .offset = offsetof(struct type, member), .expected = like, .help = what      \
    }
#define SECTION(where, key, opens, what)                                                          \
    {                                                                                             \
        .name = key, .place = PLACE_##where, .inner = PLACE_##opens, .titled = true, .help = what \
    }

/* clang-format off */
/* Of a host, and of what all hosts of a role have. */
#define HOST_KEYS(where)                                                                     \
    LIST(where, "address", address, topology_host, addresses,                                \
        "addresses of the loopback interface besides 127.0.0.1, such as a service's: "       \
        "10.9.0.1/32"),                                                                      \
    LIST(where, "sysctl", sysctl, topology_host, sysctls,                                    \
        "settings of its network, NAME=VALUE, as sysctl(8) has them"),                       \
    LIST(where, "nexthop", lines, topology_host, nexthops,                                   \
        "next hops and groups of them, as ip-nexthop(8) takes them after \"add\""),          \
    LIST(where, "route", lines, topology_host, routes,                                       \
        "routes, as ip-route(8) takes them after \"add\""),                                  \
    LIST(where, "prepare", lines, topology_host, prepare,                                    \
        "commands that run on it, each to its end, before anything is started"),             \
    KEY(where, "cpu", cpu, topology_host, cpu_ppm,                                           \
        "how much CPU its processes may use, of one core: 50%, 200%"),                       \
    KEY(where, "memory", size, topology_host, memory_bytes,                                  \
        "how much memory its processes may use: 256MiB"),                                    \
    SECTION(where, "file", FILE, "a file that is made for it from a template"),              \
    SECTION(where, "start", START, "a program that runs on it")

#define WEATHER_KEYS(where, type)                                                            \
    KEY(where, "delay", duration, type, weather.delay_ns,                                    \
        "what a packet takes longer, each way: 10ms"),                                       \
    KEY(where, "loss", loss, type, weather.loss_ppm,                                         \
        "share of the packets that are lost, each way: 0.5%"),                               \
    KEY(where, "bandwidth", rate, type, weather.bits_per_s,                                  \
        "bits a second that pass, each way: 100mbit")

const struct topology_key topology_keys[] = {
    LIST(TOP, "prepare", lines, topology, prepare,
        "commands that run outside of all hosts, each to its end, before all else"),
    SECTION(TOP, "network", NETWORK, "a network of its own, on which all hosts that join it hear each other"),
    SECTION(TOP, "role", ROLE, "what all hosts of a role have: client, router, balancer or server"),
    SECTION(TOP, "host", HOST, "a host"),

    WEATHER_KEYS(NETWORK, topology_network),

    HOST_KEYS(ROLE),

    MUST(HOST, "role", role, topology_host, role, "role = \"server\"",
        "client, router, balancer or server"),
    SECTION(HOST, "link", LINK, "a link to the network of that name, which the interface is named after"),
    HOST_KEYS(HOST),

    LIST(LINK, "address", address, topology_link, addresses,
        "its addresses: 10.0.0.1/24"),
    WEATHER_KEYS(LINK, topology_link),

    MUST(FILE, "from", line, topology_file, from, "from = \"lb.conf\"",
        "the template, from where the topology file is"),
    KEY(FILE, "mode", mode, topology_file, mode,
        "permission bits of the file, 0644 when not given"),

    MUST(START, "command", line, topology_start, command, "command = \"meercat serve -c {dir}/lb.conf\"",
        "what sh(1) runs, in the host's directory"),
    KEY(START, "port", port, topology_start, port,
        "it is up when somebody listens on this TCP port"),
    KEY(START, "ready", line, topology_start, ready,
        "it is up when this command succeeds"),
    KEY(START, "within", duration, topology_start, within_ns,
        "it must be up so soon, 10s when not given"),
    KEY(START, "by-hand", bool, topology_start, by_hand,
        "it waits for lab start"),
    {0}
};
/* clang-format on */

/* --- the grammar -------------------------------------------------------------------------------
 */

static const char *const place_names[N_PLACES] = {"",     "network", "role", "host",
                                                  "link", "file",    "start"};

static const char *
place_name(unsigned place)
{
    return place_names[place];
}

static const char *
place_text(unsigned place)
{
    return place == PLACE_TOP ? "the top level" : place_names[place];
}

static bool
word(unsigned i, struct conf_word *out)
{
    const struct topology_key *k = &topology_keys[i];

    *out = (struct conf_word){
        .name = k->name,
        .place = k->place,
        .section = k->value == NULL,
        .titled = k->titled,
        .list = k->list,
        .inner = k->inner,
    };
    return k->name != NULL;
}

static_assert(N_PLACES <= CONF_PLACES_MAX, "places as conf_grammar.h has them");

const struct conf_grammar topology_grammar = {N_PLACES, word, place_name, place_text,
                                              "meercat-lab(8)"};

/* --- the manual --------------------------------------------------------------------------------
 */

static void
mdoc_key(struct buf *b, const struct topology_key *k)
{
    if (k->value == NULL)
        buf_printf(b, ".It Ic %s Qo Ar name Qc Brq ...\n%s.\n", k->name, k->help);
    else
        buf_printf(b, ".It Ic %s\n%s.\n", k->name, k->help);
    if (k->list)
        buf_printf(b, "A list.\n");
    if (k->required)
        buf_printf(b, "Required.\n");
}

void
topology_keys_mdoc(struct buf *b)
{
    for (unsigned place = 0; place < N_PLACES; place++) {
        if (place == PLACE_ROLE)
            continue; /* a host's, and told with them */
        buf_printf(b, ".Ss %s\n", place == PLACE_TOP ? "Top level" : place_names[place]);
        buf_printf(b, ".Bl -tag -width Ds\n");
        for (const struct topology_key *k = topology_keys; k->name != NULL; k++)
            if ((unsigned)k->place == place)
                mdoc_key(b, k);
        buf_printf(b, ".El\n");
    }
}
