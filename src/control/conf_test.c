/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_test.c - what a configuration means, and what is said about a broken one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "control/conf.h"
#include "control/conf_keys.h"

/* What every configuration needs; broken ones put their fault before it. */
#define LISTEN            "listen \"web\" { bind = \"*:80\" }\n"
#define POOL              "pool \"app\" { server \"s1\" { address = \"10.0.0.1:80\" } }\n"
#define ROUTE             "route \"all\" { pool = \"app\" }\n"
#define REST              LISTEN POOL ROUTE

#define LISTEN_WITH(line) "listen \"web\" {\n bind = \"*:80\"\n" line "\n}\n" POOL ROUTE
#define POOL_WITH(line) \
    "pool \"app\" {\n server \"s1\" { address = \"10.0.0.1:80\" }\n" line "\n}\n" LISTEN ROUTE
#define CHECK_WITH(line)  POOL_WITH("check { " line " }")
#define SERVER_WITH(line) POOL_WITH("server \"s2\" { " line " }")
#define TCP(routes)       "listen t { bind = \"*:81\" protocol = tcp }\n" REST routes
#define ROUTE_WITH(line)  "route \"all\" {\n" line "\n}\n" LISTEN POOL

static char *
faults_of(const char *text)
{
    struct conf_faults faults = {0};
    struct conf *c;
    struct buf b = {0};

    conf_parse("t", str_of(text), &c, &faults);
    conf_faults_text(&faults, &b);
    assert_int_equal(c == NULL, faults.n_errors > 0);
    conf_free(&c);
    conf_faults_free(&faults);
    buf_add(&b, "", 0);
    return b.p;
}

static struct conf *
good(const char *text)
{
    struct conf_faults faults = {0};
    struct conf *c;
    struct buf b = {0};

    if (conf_parse("t", str_of(text), &c, &faults) != MC_OK) {
        conf_faults_text(&faults, &b);
        fail_msg("%s", b.p);
    }
    assert_int_equal(faults.n, 0);
    conf_faults_free(&faults);
    return c;
}

static const struct {
    const char *text, *faults;
} broken[] = {
    /* syntax: the run ends there */
    {"workers 2\n" REST, "t:1: unexpected \"2\", expected \"=\" after \"workers\"\n"},
    {"workers = \n{ 2 }\n", "t:2: unexpected \"{\", expected a value for \"workers\"\n"},
    {"listen \"web\" { bind = \"*:80\"\n\n",
     "t:1: section \"listen\" is not closed, expected \"}\"\n"},
    {"listen { }", "t:1: unexpected \"{\", expected the name of the listen\n"},
    {"listen \"web\"\n bind = 1", "t:2: unexpected \"bind\", expected \"{\" after \"listen\"\n"},
    {"}\n", "t:1: unexpected \"}\", expected the name of an option\n"},
    {"# one\n# two\n/* three\n four */ = 1",
     "t:4: unexpected \"=\", expected the name of an option\n"},
    {"\"node\" = \"x\"", "t:1: unexpected \"node\", expected the name of an option\n"},
    {"node = \"abc\nuser = \"x\"",
     "t:1: string is not closed, expected a quote before the end of the line\n"},
    {"node = 'abc", "t:1: string is not closed, expected a quote before the end of the line\n"},
    {"node = \"a\\9\"", "t:1: no such escape in a string, expected one like \\\" or \\\\\n"},
    {"node = \"a\\000\"", "t:1: no such escape in a string, expected one like \\\" or \\\\\n"},
    {"node = \"${HOME\"}",
     "t:1: variable is not closed, expected \"}\" before the end of the string\n"},
    {"node = ${HOME\n}",
     "t:1: variable is not closed, expected \"}\" before the end of the line\n"},
    {"\n/* no end", "t:2: comment is not closed, expected \"*/\"\n"},
    {"listen \"w\" { bind = *:80 }",
     "t:1: \"*\" or \"+\" outside a string, expected the value in quotes\n"},
    {"listen \"w\" { bind = {\"a\", }", "t:1: section \"listen\" is not closed, expected \"}\"\n"},
    {"listen \"w\" { bind = {\"a\" \"b\"} }", "t:1: unexpected \"b\", expected \",\" or \"}\"\n"},
    {"listen \"w\" { bind = {\n", "t:1: list is not closed, expected \"}\"\n"},
    {"include(\"other.conf\")", "t:1: include is not possible here, expected one text\n"},
    {"include \"other.conf\"", "t:1: unexpected \"other.conf\", expected include(\"FILE\")\n"},
    {"node = \x01", "t:1: control character, expected text\n"},
    {"retries = 1 }", "t:1: unknown option \"retries\", expected in pool\n"
                      "t:1: unexpected \"}\", expected the name of an option\n"},
    {"foo bar", "t:1: unknown option \"foo\", expected an option that meercat.conf(5) lists\n"
                "t:1: end of file, expected \"=\" or \"{\"\n"},
    /* names */
    {"\nworker = 2\n" REST, "t:2: unknown option \"worker\", expected \"workers\" perhaps\n"},
    {"xyzzy = {1, 2}\n" REST,
     "t:1: unknown option \"xyzzy\", expected an option that meercat.conf(5) lists\n"},
    {"quux { a = 1 b { c = \"}\" } }\nfoo(1, 2)\n" REST,
     "t:1: unknown option \"quux\", expected an option that meercat.conf(5) lists\n"
     "t:2: unknown option \"foo\", expected an option that meercat.conf(5) lists\n"},
    {"weight = 2\n" REST, "t:1: unknown option \"weight\", expected in server\n"},
    {"max-concurrent = 2\n" REST,
     "t:1: unknown option \"max-concurrent\", expected in pool or server\n"},
    {SERVER_WITH("address = \"b:1\" rack = \"b2\""),
     "t:3: unknown option \"rack\" in server, expected an option that meercat.conf(5) lists\n"},
    {LISTEN_WITH("keep-alive-timeot = \"5s\""),
     "t:3: unknown option \"keep-alive-timeot\" in "
     "listen, expected \"keep-alive-timeout\" perhaps\n"},
    {"pool \"a b\" { }\n" REST,
     "t:1: pool: bad name, expected 1 to 64 letters, digits, \"-\", \"_\" or \".\"\n"},
    {"node = \"a\"\nnode = \"b\"\n" REST,
     "t:2: option \"node\" is given twice, expected once (first on line 1)\n"},
    {"admin { }\nadmin { }\n" REST,
     "t:2: section \"admin\" is given twice, expected once (first on line 1)\n"},
    {REST "pool app { }\n", "t:4: pool \"app\" is given twice, expected once (first on line 2)\n"},
    {POOL_WITH("server \"s1\" { bogus = 1 }"),
     "t:3: server \"s1\" is given twice, expected once (first on line 2)\n"
     "t:3: unknown option \"bogus\" in server, expected an option that meercat.conf(5) lists\n"},
    /* values */
    {"workers = \"many\"\n" REST,
     "t:1: workers: \"many\" is not a number, expected 1 to 64, or auto\n"},
    {"workers = 0\n" REST, "t:1: workers: \"0\" is out of range, expected 1 to 64\n"},
    {"engine = \"kqueue\"\n" REST,
     "t:1: engine: \"kqueue\" is not known, expected auto, epoll or uring\n"},
    {"drain-timeout = 30\n" REST, "t:1: drain-timeout: \"30\" is not a duration, expected 0 to 1d, "
                                  "with a unit like \"250ms\"\n"},
    {"drain-timeout = \"2d\"\n" REST,
     "t:1: drain-timeout: \"2d\" is out of range, expected 0 to 1d\n"},
    {"splice-from = \"big\"\n" REST,
     "t:1: splice-from: \"big\" is not a size, expected 0 to 1TiB, like \"16KiB\"\n"},
    {"node = \"\"\n" REST, "t:1: node: empty or with control characters, expected visible text\n"},
    {"resolvers = {\"9.9.9.9\",\n\"dns.example\"}\n" REST,
     "t:2: resolvers: \"dns.example\" is not an address, expected like \"9.9.9.9\" or "
     "\"[2620:fe::fe]:53\"\n"},
    {"access-log { file = \"x\"\n format = \"xml\" }\n" REST,
     "t:2: format: \"xml\" is not known, expected json, common or combined\n"},
    {"\naccess-log { }\n" REST, "t:2: access-log: no file, expected file = file\n"},
    {"admin { socket-mode = 999 }\n" REST,
     "t:1: socket-mode: \"999\" is not a mode, expected octal "
     "permission bits like \"0660\"\n"},
    {"admin { http = \"unix:/x\" }\n" REST, "t:1: http: a unix socket, expected ADDRESS:PORT; "
                                            "socket = is for the other\n"},
    {LISTEN_WITH("bind += {\"10.0.0.1\"}"),
     "t:3: bind: \"10.0.0.1\" has no port, expected ADDRESS:PORT like \"*:80\", \"[::]:80\" or "
     "\"unix:/path\"\n"},
    {LISTEN_WITH("bind += {\"example.org:80\"}"),
     "t:3: bind: \"example.org\" is a name, not an address, expected ADDRESS:PORT like \"*:80\", "
     "\"[::]:80\" or \"unix:/path\"\n"},
    {LISTEN_WITH("bind += \"[::]:0\""),
     "t:3: bind: [::]:0 has port 0, expected ADDRESS:PORT like \"*:80\", \"[::]:80\" or "
     "\"unix:/path\"\n"},
    {LISTEN_WITH("bind += \"0.0.0.0:80\""),
     "t:3: bind: \"0.0.0.0:80\" is used twice, expected once (first at t:2)\n"},
    {LISTEN_WITH("via = \"maybe\""), "t:3: via: \"maybe\" is neither yes nor no, expected yes, no, "
                                     "true, false, on or off\n"},
    {LISTEN_WITH("forward = {\"forwarded\", \"x\"}"),
     "t:3: forward: \"x\" is not known, expected x-forwarded, forwarded or none\n"},
    {LISTEN_WITH("proxy-protocol = \"on\""),
     "t:3: proxy-protocol: \"on\" is not known, expected off, required or mixed\n"},
    {LISTEN_WITH("proxy-protocol = \"mixed\""),
     "t:1: listen \"web\": proxy-protocol without proxies, expected proxy-protocol-from = "
     "{\"10.0.0.0/8\"} or other networks\n"},
    {LISTEN_WITH("proxy-protocol-from = {\"10.0.0.0/8\", unix}"),
     "t:1: warning: listen \"web\": proxy-protocol-from has no effect, expected "
     "proxy-protocol = \"required\" or \"mixed\"\n"},
    {POOL_WITH("send-proxy = \"v3\""),
     "t:3: send-proxy: \"v3\" is not known, expected off, v1 or v2\n"},
    {POOL_WITH("send-proxy = v1 send-proxy-tlvs = \"authority\""),
     "t:1: warning: pool \"app\": send-proxy-tlvs has no effect, expected send-proxy = \"v2\"\n"},
    {POOL_WITH("protocol = h2 server t { address = \"b:1\" send-proxy = v2 }"),
     "t:1: pool \"app\": send-proxy on connections that many clients share, expected protocol = "
     "\"http1\"\n"},
    {POOL_WITH("send-proxy-tlvs = {\"sni\"}"),
     "t:3: send-proxy-tlvs: \"sni\" is not known, expected authority, alpn, ssl, unique-id, crc32c "
     "or none\n"},
    {LISTEN_WITH("trusted = \"10.0.0.0/33\""),
     "t:3: trusted: \"10.0.0.0/33\": the prefix is 0 to 32 bits, expected like \"10.0.0.0/8\", "
     "\"2001:db8::1\" or unix\n"},
    {POOL_WITH("balance = \"hash\" hash-by = \"cookie\""),
     "t:3: hash-by: \"cookie\" cannot be hashed, expected address, uri, header:NAME or "
     "cookie:NAME\n"},
    {POOL_WITH("upgrade = {websocket, h2c}"), "t:3: upgrade: \"h2c\" is HTTP itself, which is not "
                                              "passed on behind an upgrade, expected like "
                                              "websocket, or any or none\n"},
    {POOL_WITH("tls { name = \"a b\" }"), "t:3: name: \"a b\" is neither a host name nor an IP "
                                          "address, expected like \"app.example.org\"\n"},
    {POOL_WITH("tls { client-ca = \"x\" }"),
     "t:3: unknown option \"client-ca\" in tls, expected in tls of listen\n"},
    {LISTEN_WITH("tls { certificate = \"x\" verify = no }"),
     "t:3: unknown option \"verify\" in tls, expected in tls of pool or agent-tls\n"},
    {POOL_WITH("tls { } server u { address = \"unix:/x\" }"),
     "t:3: server \"u\": unix:/x has no name, expected tls-name = NAME\n"},
    {POOL_WITH("agent-tls { } server u { address = \"a:1\" agent = \"unix:/x\" }"),
     "t:3: server \"u\": unix:/x has no name, expected agent-tls-name = NAME\n"},
    {POOL_WITH("upgrade = \"a b\""),
     "t:3: upgrade: \"a b\" is not a protocol, expected like websocket or \"foo/2\"\n"},
    {POOL_WITH("hash-bound = \"nan\""),
     "t:3: hash-bound: \"nan\" is not a number, expected 0 to 100\n"},
    {POOL_WITH("retry-budget = \"120%\""),
     "t:3: retry-budget: \"120\" is out of range, expected 0 to 100\n"},
    {POOL_WITH("retries = -1"), "t:3: retries: \"-1\" is not a number, expected 0 to 10\n"},
    {POOL_WITH("eject-time = \"1m\""),
     "t:1: pool \"app\": eject-max is less than eject-time, expected more\n"},
    {CHECK_WITH("expect = \"399-200\""), "t:3: expect: \"399-200\" is not a range of statuses, "
                                         "expected like \"200-399\" or \"204\"\n"},
    {CHECK_WITH("path = \"healthz\""),
     "t:3: path: \"healthz\" is not a path, expected one that begins with \"/\"\n"},
    {CHECK_WITH("path = \"/a\\r\\nX: y\""),
     "t:3: path: \"/a??X: y\" is not a path, expected one that begins with \"/\"\n"},
    {CHECK_WITH("method = \"GET /\""),
     "t:3: method: \"GET /\" is not a method, expected a word like \"GET\" or \"HEAD\"\n"},
    {CHECK_WITH("port = 65536"), "t:3: port: \"65536\" is out of range, expected 0 to 65535\n"},
    {SERVER_WITH(""), "t:3: server \"s2\": no address, expected address = host:port\n"},
    {SERVER_WITH("address = \"10.0.0.1\""),
     "t:3: address: \"10.0.0.1\" has no port, expected HOST:PORT like \"10.0.1.1:8080\", "
     "\"[2001:db8::1]:80\" or \"unix:/path\"\n"},
    {SERVER_WITH("address = \"*:80\""),
     "t:3: address: \"*:80\" is every address, expected HOST:PORT like \"10.0.1.1:8080\", "
     "\"[2001:db8::1]:80\" or \"unix:/path\"\n"},
    {SERVER_WITH("address = \"a..b:80\""),
     "t:3: address: \"a..b\" is a name, not an address, expected HOST:PORT like "
     "\"10.0.1.1:8080\", \"[2001:db8::1]:80\" or \"unix:/path\"\n"},
    {SERVER_WITH("address = \"b:1\" state = \"off\""),
     "t:3: state: \"off\" is not known, expected ready, drain or maint\n"},
    {ROUTE_WITH("pool = \"app\" host = \"example.org:80\""),
     "t:2: host: \"example.org:80\" is not a host name, expected like \"example.org\" or "
     "\"*.example.org\", without port\n"},
    {ROUTE_WITH("pool = \"app\" path = \"/a?b\""),
     "t:2: path: \"/a?b\" has a query, expected a path without \"?\"\n"},
    {ROUTE_WITH("path = \"/\""), "t:1: route \"all\": no pool, expected pool = pool\n"},
    /* several sections */
    {ROUTE_WITH("\npool = \"aap\""),
     "t:3: pool: there is no pool \"aap\", expected \"app\" perhaps\n"},
    {ROUTE_WITH("pool = \"static\""),
     "t:2: pool: there is no pool \"static\", expected the name of a pool\n"},
    {REST "pool \"empty\" { }\n",
     "t:4: pool \"empty\" has no server, expected server \"name\" {...}\n"},
    {POOL ROUTE, "t:1: no listener, expected listen \"name\" { bind = ... }\n"},
    {"", "t:1: no listener, expected listen \"name\" { bind = ... }\n"
         "t:1: no pool, expected pool \"name\" { server ... }\n"
         "t:1: no route, expected route \"name\" { pool = ... }\n"},
    /* cluster */
    {"cluster { bind = \"127.0.0.1:7707\" }\n" REST,
     "t:1: cluster without a name for this balancer, expected node = \"lb1\" or another name of "
     "its "
     "own at the top\n"},
    {"node = \"lb 1\"\ncluster { bind = \"127.0.0.1:7707\" }\n" REST,
     "t:2: node = \"lb 1\" cannot be a name in a cluster, expected at most 63 of letters, digits, "
     "'.', '_', '-'\n"},
    {"node = lb1\ncluster { bind = \"0.0.0.0:7707\" key-file = \"k\" }\n" REST,
     "t:2: cluster is bound to every address, expected advertise = ADDRESS:PORT to tell the others "
     "one of them\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:7707\" advertise = \"[::]:7707\" }\n" REST,
     "t:2: advertise is every address, expected one of this host\n"},
    {"node = lb1\n\ncluster { bind = \"192.0.2.1:7707\" }\n" REST,
     "t:3: cluster beyond this host without keys, expected key-file = "
     "\"/etc/meercat/cluster.key\", made by meercat keygen\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:7707\" bandwidth = 255KiB }\n" REST,
     "t:2: bandwidth: \"255KiB\" is out of range, expected 256KiB to 1GiB\n"},
    {"node = lb1\ncluster { }\n" REST,
     "t:2: cluster: no bind, expected bind = address:port or none\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:7707\" join = \"lb2\" }\n" REST,
     "t:2: join: \"lb2\" is no address of another balancer, expected HOST:PORT like "
     "\"10.0.0.2:7707\" or \"balancers.example.org:7707\"\n"},
    {"node = lb1\ncluster { bind = none }\n" REST,
     "t:2: bind: \"none\" has no port, expected ADDRESS:PORT like \"127.0.0.1:7709\"\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:0\" }\n" REST,
     "t:2: bind: 127.0.0.1:0 has port 0, expected ADDRESS:PORT like \"127.0.0.1:7709\"\n"},
    /* takeover */
    {"listen x { bind = \"*:81\" takeover { } }\n" REST,
     "t:1: listen \"x\": takeover without other balancers, expected cluster {...} at the top\n"},
    {"listen x { bind = \"*:81\" takeover { replicate = all buffer = 1KiB } }\n" REST,
     "t:1: replicate: \"all\" is not known, expected requests or responses\n"
     "t:1: buffer: \"1KiB\" is out of range, expected 4KiB to 1MiB\n"
     "t:1: listen \"x\": takeover without other balancers, expected cluster {...} at the top\n"},
    {"takeover { interface = \"a/b\" witness = \"gw:1\" replicas = 0 }\n" REST,
     "t:1: interface: \"a/b\" is not the name of an interface, expected like \"eth0\"\n"
     "t:1: witness: \"gw:1\" is not an IP address, expected like \"10.0.0.1\"\n"
     "t:1: replicas: \"0\" is out of range, expected 1 to 2\n"
     "t:1: warning: takeover has no effect, expected takeover {} in a listen section, too\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:7707\" }\n"
     "listen x { bind = \"*:81\" protocol = h2 takeover { } }\n" REST,
     "t:3: warning: listen \"x\": takeover has no effect with protocol = h2, expected plain "
     "HTTP/1\n"},
    /* vip */
    {"vip \"v\" { }\n" REST, "t:1: vip \"v\": no address, expected address = address\n"},
    {"vip \"v\" { address = \"192.0.2.300\" }\n" REST,
     "t:1: address: \"192.0.2.300\" is no address, expected like \"192.0.2.10\" or "
     "\"2001:db8::10/128\"\n"},
    {"vip \"v\" { address = \"192.0.2.1\" interface = \"a/b\" }\n" REST,
     "t:1: interface: \"a/b\" is not the name of an interface, expected like \"eth0\"\n"},
    {"vip \"v\" { address = {\"192.0.2.1\", \"192.0.2.1/24\"} }\n" REST,
     "t:1: vip \"v\": 192.0.2.1 is there twice, expected once\n"},
    {"vip \"v\" { address = \"::1\" }\nvip \"w\" { address = {\"::2\", \"::1\"} }\n" REST,
     "t:2: vip \"w\": ::1 is there twice, expected once\n"},
    {"vip \"v\" { address = \"192.0.2.1\" mode = cluster interface = eth0 }\n" REST,
     "t:1: vip \"v\": mode = cluster without a cluster, expected cluster {...}\n"},
    {"node = lb1\ncluster { bind = \"127.0.0.1:7707\" }\nvip \"v\" { address = \"192.0.2.1\" mode "
     "= "
     "cluster }\n" REST,
     "t:3: vip \"v\": mode = cluster on lo, where nobody asks for addresses, expected interface = "
     "\"eth0\" or another\n"},
    {ROUTE_WITH("pool = \"app\" listen = \"web\""),
     "t:1: listen: \"web\" takes requests, expected a listener with protocol = tcp\n"},
    {ROUTE_WITH("pool = \"app\" listen = \"wep\""),
     "t:1: listen: there is no listener \"wep\", expected \"web\" perhaps\n"},
    {ROUTE_WITH("pool = \"app\" sni = \"a.b\""),
     "t:1: route \"all\" has sni without listen, expected the name of a listener with protocol = "
     "tcp\n"},
    {TCP("route r { listen = t path = \"/\" pool = app }\n"),
     "t:5: route \"r\" has listen and host or path, expected sni or nothing: connections have no "
     "requests\n"},
    {TCP("route r { listen = t sni = \"a:1\" pool = app }\n"),
     "t:5: sni: \"a:1\" is not a host name, expected like \"example.org\" or \"*.example.org\", "
     "without port\n"},
    {"pool db { protocol = tcp server d { address = \"10.0.0.2:1\" } }\n"
     "route r { pool = db host = a }\n" REST,
     "t:2: route \"r\": its pool has protocol = tcp and gets no requests, expected another pool, "
     "or "
     "listen\n"},
    /* warnings */
    {SERVER_WITH("address = \"a:1\" tls-name = \"b\""),
     "t:1: warning: server \"s2\": tls-name has no effect, expected tls {...}\n"},
    {TCP(""),
     "t:1: warning: listen \"t\": no route leads from it, expected route \"name\" { listen = \"t\" "
     "... }\n"},
    {TCP("route r { listen = t sni = {\"*.a.b\", \"c.d\"} pool = app }\n"
         "route s { listen = t sni = \"x.a.b\" pool = app }\n"
         "route t { listen = t pool = app }\n"),
     "t:6: warning: route \"s\" is never reached, expected before route \"r\", which takes all its "
     "requests\n"},
    {REST "route \"late\" { path = \"/x\" pool = \"app\" }\n",
     "t:4: warning: route \"late\" is never reached, expected before route \"all\", which takes "
     "all "
     "its requests\n"},
    {POOL_WITH("hash-by = \"uri\""),
     "t:1: warning: pool \"app\": hash-by has no effect, expected balance = \"hash\"\n"},
    {POOL_WITH("balance = random server t { address = \"b:1\" agent = \"b:2\" }"),
     "t:1: warning: pool \"app\": agent has no effect, expected balance = \"resource\"\n"},
};

static void
each_fault_is_told_with_its_line(void **state)
{
    for (size_t i = 0; i < MC_COUNT(broken); i++) {
        char *faults = faults_of(broken[i].text);

        if (strcmp(faults, broken[i].faults) != 0)
            fail_msg("row %zu:\n%s\ngot:\n%swanted:\n%s", i, broken[i].text, faults,
                     broken[i].faults);
        free(faults);
    }
}

static void
a_nul_byte_is_told_with_its_line(void **state)
{
    static const struct {
        struct str text;
        const char *fault;
    } rows[] = {
        {STR("\nnode = \"a\0b\"\n"), "t:2: a NUL byte in a string, expected text\n"},
        {STR("\nnode = 'a\0b'\n"), "t:2: a NUL byte in a string, expected text\n"},
        /* behind an escape of one digit, and within one or a variable */
        {STR("node = \"a\\x4\0b\"\n"), "t:1: a NUL byte in a string, expected text\n"},
        {STR("node = \"a\\\0b\"\n"), "t:1: a NUL byte in a string, expected text\n"},
        {STR("node = \"${HO\0ME}\"\n"), "t:1: a NUL byte in a string, expected text\n"},
        {STR("node = \0\n"), "t:1: a NUL byte, expected text\n"},
    };

    for (size_t i = 0; i < MC_COUNT(rows); i++) {
        struct conf_faults faults = {0};
        struct buf b = {0};
        struct conf *c;

        assert_int_not_equal(conf_parse("t", rows[i].text, &c, &faults), MC_OK);
        conf_faults_text(&faults, &b);
        assert_string_equal(b.p, rows[i].fault);
        buf_free(&b);
        conf_faults_free(&faults);
    }
}

static void
an_unknown_policy_is_told_all_that_there_are(void **state)
{
    char *faults = faults_of(POOL_WITH("balance = \"best\""));

    assert_int_equal(strncmp(faults, "t:3: balance: \"best\" is not known, expected ", 44), 0);
    for (unsigned i = 0; policy_at(i) != NULL; i++)
        assert_non_null(strstr(faults, policy_at(i)->name));
    free(faults);
}

static const struct policy *
policy_with(const char *pool, const char *server)
{
    char *text = mc_printf("listen l { bind = \"*:80\" }\npool p { %s server s { address = "
                           "\"a:1\" } server t { address = \"b:1\" %s } }\n"
                           "route r { pool = p }\n",
                           pool, server);
    struct conf_faults faults = {0};
    const struct policy *policy;
    struct conf *c;

    assert_int_equal(conf_parse("t", str_of(text), &c, &faults), MC_OK);
    assert_int_equal(faults.n, 0);
    policy = c->pools[0].policy;
    conf_free(&c);
    free(text);
    return policy;
}

static void
an_agent_makes_resource_the_default(void **state)
{
    const char *agent = "agent = \"127.0.0.1:7708\"";

    assert_ptr_equal(policy_with("", ""), policy_find(STR("least-request")));
    assert_ptr_equal(policy_with("", agent), policy_find(STR("resource")));
    assert_ptr_equal(policy_with("balance = auto", agent), policy_find(STR("resource")));
    assert_ptr_equal(policy_with("balance = resource", ""), policy_find(STR("resource")));
    assert_ptr_equal(policy_with("balance = peak-ewma", ""), policy_find(STR("peak-ewma")));
    assert_ptr_equal(policy_with("balance = prequal", ""), policy_find(STR("prequal")));
}

static void
agents_are_read(void **state)
{
    struct conf_faults faults = {0};
    struct conf *c;

    assert_int_equal(
        conf_parse("t",
                   STR("listen l { bind = \"*:80\" }\npool p { report-interval = 250ms\n"
                       "server s { address = \"a:1\" agent = \"a.b:7708\" }\n"
                       "server t { address = \"b:1\" agent = \"[::1]:9100\" "
                       "agent-type = node-exporter } }\nroute r { pool = p }\n"),
                   &c, &faults),
        MC_OK);
    assert_int_equal(c->pools[0].report_interval_ns, 250 * MC_MS);
    assert_string_equal(c->pools[0].servers[0].agent, "a.b:7708");
    assert_int_equal(c->pools[0].servers[0].agent_kind, WATCH_AGENT);
    assert_string_equal(c->pools[0].servers[1].agent, "[::1]:9100");
    assert_int_equal(c->pools[0].servers[1].agent_kind, WATCH_NODE);
    conf_free(&c);
}

static void
vips_are_read(void **state)
{
    struct conf *c = good("vip \"a\" { address = {\"192.0.2.10\", \"2001:db8::10/64\"} }\n"
                          "fit { need-server = no connections = 80% lag = 0 }\n"
                          "listen l { bind = \"*:80\" }\n"
                          "pool p { server s { address = \"a:1\" } }\nroute r { pool = p }\n");

    assert_int_equal(c->n_vips, 1);
    assert_string_equal(c->vips[0].name, "a");
    assert_string_equal(c->vips[0].interface, "lo");
    assert_int_equal(c->vips[0].mode, VIP_ROUTE);
    assert_int_equal(c->vips[0].n_addrs, 2);
    assert_int_equal(c->vips[0].addrs[0].prefix_bits, 32);
    assert_int_equal(c->vips[0].addrs[1].prefix_bits, 64);
    assert_false(c->fit.need_server);
    assert_int_equal(c->fit.connections_percent, 80);
    assert_int_equal(c->fit.lag_ns, 0);
    assert_int_equal(c->fit.stall_ns, 200 * MC_MS);
    conf_free(&c);
}

static void
class_rules_are_read(void **state)
{
    struct conf *c = good("listen l { bind = \"*:80\" }\npool p { balance = resource classes = 4\n"
                          "class a { method = GET path = \"/a/{}/*\" header = \"X-A:  b c \" }\n"
                          "class b { header = X-B query = size }\n"
                          "class c { query = \"a=b=c\" grpc = \"x.Y/Z\" }\n"
                          "server s { address = \"a:1\" } }\n"
                          "route r { pool = p }\n");
    const struct class_rule *r = c->pools[0].rules.v;

    assert_int_equal(c->pools[0].n_classes, 4);
    assert_int_equal(c->pools[0].rules.n, 3);
    assert_string_equal(r[0].name, "a");
    assert_string_equal(r[0].method, "GET");
    assert_string_equal(r[0].path, "/a/{}/*");
    assert_string_equal(r[0].header, "X-A");
    assert_string_equal(r[0].header_is, "b c");
    assert_null(r[0].query);
    assert_string_equal(r[1].header, "X-B");
    assert_null(r[1].header_is);
    assert_string_equal(r[1].query, "size");
    assert_null(r[1].query_is);
    assert_string_equal(r[2].query, "a");
    assert_string_equal(r[2].query_is, "b=c");
    assert_string_equal(r[2].grpc, "x.Y/Z");
    conf_free(&c);
}

/* Each in line 3, of a pool that learns. */
static void
faults_of_class_rules_are_told(void **state)
{
    static const struct {
        const char *pool, *fault;
    } table[] = {
        {"class a { }", "class \"a\" is empty, expected method, path, header, query or grpc"},
        {"class other { path = / }", "class \"other\" is what has no class of its own, expected "
                                     "another name"},
        {"class a { path = / } class a { path = /b }",
         "class \"a\" is given twice, expected once (first on line 3)"},
        {"class \"a b\" { path = / }",
         "class: bad name, expected 1 to 64 letters, digits, \"-\", \"_\" or \".\""},
        {"class a { paht = / method = GET }",
         "unknown option \"paht\" in class, expected \"path\" perhaps"},
        {"class a { path = /a grpc = a.B/C }",
         "class \"a\" has path and grpc, expected one of them"},
        {"classes = 3 class a { path = /a } class b { path = /b } class c { path = /c }",
         "class \"c\" is one too many, expected classes = 4 or more"},
        {"classes = 1", "classes: \"1\" is out of range, expected 2 to 256"},
        {"class a { path = a }", "path: \"a\" is not a path, expected one that begins with \"/\", "
                                 "without query, like \"/users/{}\" or \"/img/*\""},
        {"class a { path = \"/a*b\" }",
         "path: \"/a*b\" is not a path, expected one that begins with \"/\", "
         "without query, like \"/users/{}\" or \"/img/*\""},
        {"class a { path = \"/{id}\" }",
         "path: \"/{id}\" is not a path, expected one that begins with \"/\", "
         "without query, like \"/users/{}\" or \"/img/*\""},
        {"class a { header = \"X A\" }",
         "header: \"X A\" is not a field, expected like \"X-Job\" or \"X-Job: export\""},
        {"class a { header = \"X-A:\" }",
         "header: \"X-A:\" is not a field, expected like \"X-Job\" or \"X-Job: export\""},
        {"class a { query = \"=b\" }",
         "query: \"=b\" is not a parameter, expected like \"size\" or \"size=large\""},
        {"class a { query = \"a&b\" }",
         "query: \"a&b\" is not a parameter, expected like \"size\" or \"size=large\""},
        {"class a { grpc = a.B }", "grpc: \"a.B\" is not a call, expected like "
                                   "\"acme.Chat/Send\" or \"acme.Chat/*\""},
    };

    for (size_t i = 0; i < MC_COUNT(table); i++) {
        char *conf = mc_printf("listen l { bind = \"*:80\" } route r { pool = p }\n"
                               "pool p { balance = resource server s { address = \"a:1\" }\n%s }\n",
                               table[i].pool);
        char *wanted = mc_printf("t:3: %s\n", table[i].fault), *faults = faults_of(conf);

        if (strcmp(faults, wanted) != 0)
            fail_msg("%s\ngot:\n%swanted:\n%s", table[i].pool, faults, wanted);
        free(conf), free(wanted), free(faults);
    }
}

static void
classes_without_resource_are_warned_of(void **state)
{
    struct conf_faults faults = {0};
    struct conf *c;

    assert_int_equal(conf_parse("t",
                                STR("listen l { bind = \"*:80\" } route r { pool = p }\n"
                                    "pool p { balance = random server s { address = \"a:1\" }\n"
                                    "class a { path = / } }\n"),
                                &c, &faults),
                     MC_OK);
    assert_int_equal(faults.n, 1);
    assert_int_equal(faults.v[0].line, 2);
    assert_string_equal(faults.v[0].text,
                        "pool \"p\": class has no effect, expected balance = \"resource\"");
    conf_faults_free(&faults);
    conf_free(&c);
}

static void
an_agent_of_words_goes_with_any_policy(void **state)
{
    static const char agent[] = "agent = \"b:7710\" agent-type = agent-check";

    assert_ptr_equal(policy_with("", agent), policy_find(STR("least-request")));
    assert_ptr_equal(policy_with("balance = hash", agent), policy_find(STR("hash")));
}

static uint64_t
shared_digest_of(const char *text)
{
    struct conf *c = good(text);
    uint64_t digest = c->shared_digest;

    conf_free(&c);
    return digest;
}

/* Balancers of a cluster have addresses and names of their own, and serve the same. */
static void
what_members_share_has_a_digest(void **state)
{
#define HERE(x)                                             \
    "node = " x " admin { socket = \"/run/" x ".sock\" }\n" \
    "cluster { bind = \"127.0.0.1:7707\" join = \"" x ":7707\" }\n"
#define WEB(bind, more) "listen web { bind = " bind " " more "}\n"
#define APP(balance)    "pool app { balance = " balance " server s { address = \"a:1\" } }\n"
    uint64_t one = shared_digest_of(HERE("lb1") WEB("\"*:80\"", "") APP("hash") ROUTE);

    assert_int_equal(shared_digest_of(HERE("lb2") WEB("\"*:81\"", "") APP("hash") ROUTE), one);
    assert_int_equal(
        shared_digest_of(HERE("lb2") WEB("{\"*:81\", \"[::1]:80\"}", "") APP("hash") ROUTE), one);
    assert_int_equal(shared_digest_of("# comment\n" HERE("lb1") WEB(
                         "\"*:80\"", "/* another */\n\n  ") APP("\"hash\"") ROUTE "\n\n"),
                     one);
    assert_int_equal(
        shared_digest_of(HERE("pool") "workers = 3 " WEB("\"*:80\"", "") APP("hash") ROUTE), one);
    assert_int_not_equal(shared_digest_of(HERE("lb1") WEB("\"*:80\"", "") APP("random") ROUTE),
                         one);
    assert_int_not_equal(
        shared_digest_of(HERE("lb1") WEB("\"*:80\"", "head-max = 8KiB") APP("hash") ROUTE), one);
    assert_int_not_equal(shared_digest_of(HERE("lb1") WEB("\"*:80\"", "") APP(
                             "hash") "route all { pool = app path = \"/x\" }\n"),
                         one);
#undef APP
#undef WEB
#undef HERE
}

static void
all_faults_of_a_file_are_told_in_one_run(void **state)
{
    char *faults = faults_of("# comment\n"
                             "workers = none /* more\n"
                             " comment */\n"
                             "foo = 1\n"
                             "listen \"web\" { bind = {\"*:80\",\n \"*:x\"}\n via = 3 }\n"
                             "pool \"app\" { retries = 99 }\n"
                             "route \"r\" { pool = \"ap\" }\n");

    assert_string_equal(
        faults, "t:2: workers: \"none\" is not a number, expected 1 to 64, or auto\n"
                "t:4: unknown option \"foo\", expected an option that meercat.conf(5) lists\n"
                "t:6: bind: \"x\" is not a port number, expected ADDRESS:PORT like \"*:80\", "
                "\"[::]:80\" or "
                "\"unix:/path\"\n"
                "t:7: via: \"3\" is neither yes nor no, expected yes, no, true, false, on or off\n"
                "t:8: retries: \"99\" is out of range, expected 0 to 10\n"
                "t:8: pool \"app\" has no server, expected server \"name\" {...}\n"
                "t:9: pool: there is no pool \"ap\", expected \"app\" perhaps\n");
    free(faults);
}

static void
after_a_broken_file_a_good_one_is_read_well(void **state)
{
    struct conf *c;

    /* libconfuse would still be within the string, or the comment, of the broken one */
    free(faults_of("node = \"abc"));
    free(faults_of("/* abc"));
    free(faults_of("node = \"\\999\""));
    c = good(REST);
    assert_int_equal(c->n_listeners, 1);
    conf_free(&c);
}

static void
what_is_not_said_has_its_default(void **state)
{
    struct conf *c = good(REST);
    const struct listener_conf *l = &c->listeners[0];
    const struct pool_conf *p = &c->pools[0];

    assert_int_equal(c->workers, 0);
    assert_int_equal(c->engine, LOOP_AUTO);
    assert_string_equal(c->node, "meercat");
    assert_null(c->user);
    assert_null(c->pid_file);
    assert_null(c->access_log.file);
    assert_null(c->resolvers);
    assert_int_equal(c->log_level, LOG_LEVEL_INFO);
    assert_true(c->drain_timeout_ns == 30 * MC_SEC);
    assert_int_equal(c->splice_bytes, 128 * 1024);
    assert_string_equal(c->admin.socket, CONF_DEFAULT_SOCKET);
    assert_true(c->admin.socket_is_default);
    assert_int_equal(c->admin.socket_mode, 0660);
    assert_int_equal(c->admin.http.len, 0);

    assert_string_equal(l->name, "web");
    assert_int_equal(l->n_binds, 1);
    assert_int_equal(addr_port(&l->binds[0]), 80);
    assert_true(l->head_timeout_ns == 10 * MC_SEC);
    assert_true(l->keep_alive_timeout_ns == 60 * MC_SEC);
    assert_int_equal(l->limits.head_bytes, h1_default_limits.head_bytes);
    assert_int_equal(l->limits.target_bytes, h1_default_limits.target_bytes);
    assert_int_equal(l->limits.fields, h1_default_limits.fields);
    assert_int_equal(l->limits.trailer_bytes, h1_default_limits.trailer_bytes);
    assert_int_equal(l->forward, FORWARD_X);
    assert_true(l->via);
    assert_false(l->half_close);
    assert_null(l->server_header);

    assert_ptr_equal(p->policy, policy_find(STR("least-request")));
    assert_false(p->params.maglev);
    assert_false(p->params.full_scan);
    assert_true(p->params.bound == 1.25);
    assert_int_equal(p->check.kind, POOL_CHECK_NONE);
    assert_false(p->health.check);
    assert_int_equal(p->health.rise, 2);
    assert_int_equal(p->health.fall, 3);
    assert_int_equal(p->health.eject_after, 5);
    assert_int_equal(p->retries, 2);
    assert_int_equal(p->retry_budget_percent, 20);
    assert_int_equal(p->queue_max, 1024);
    assert_true(p->connect_timeout_ns == MC_SEC);
    assert_string_equal(p->upgrade, "websocket");
    assert_true(p->tunnel_timeout_ns == 3600 * MC_SEC);
    assert_int_equal(p->servers[0].weight, 1);
    assert_int_equal(p->servers[0].state, HEALTH_ADMIN_READY);
    assert_null(c->routes[0].path);
    assert_int_equal(c->routes[0].n_hosts, 0);
    conf_free(&c);
}

static void
each_option_reaches_its_field(void **state)
{
    setenv("MEERCAT_TEST_PORT", "8081", 1);
    struct conf *c =
        good("workers = 3 engine = uring user = \"nobody\" node = 'lb\\1' log-level = debug\n"
             "pid-file = /run/x.pid max-connections = 5 resolvers = {\"9.9.9.9\", \"[::1]:5353\"}\n"
             "splice-from = 0 access-log { file = /var/log/x format = combined }\n"
             "admin { socket = none http = \"127.0.0.1:7709\" }\n"
             "listen web { bind = {\"10.0.0.1:80\", \"[::]:80\", \"unix:/run/w.sock\"} unix-mode = "
             "0600\n"
             " forward = {forwarded, x-forwarded} via = no half-close = yes body-max = 1MiB\n"
             " trusted = {\"10.0.0.0/8\", unix} server-header = \"lb\"\n"
             " proxy-protocol = mixed proxy-protocol-from = {\"10.0.0.0/8\", unix} }\n"
             "listen two { bind = \"*:81\" forward = none }\n"
             "pool app { balance = hash hash-by = \"header:X-User\" hash-table = maglev\n"
             " hash-bound = 2 upgrade = {foo/2, bar} retry-budget = 50% panic-threshold = 40 "
             "slow-start = 10s\n"
             " send-proxy = v2 send-proxy-tlvs = {alpn, crc32c}\n"
             " check { type = tcp port = 9000 interval = 1.5s fall = 7 expect = 204 }\n"
             " server a { address = \"10.0.0.1:${MEERCAT_TEST_PORT}\" weight = 0 backup = yes }\n"
             " server b { address = app.internal:80 state = drain check-port = 1\n"
             "  send-proxy = v1 }\n"
             "}\n"
             "listen t { bind = \"*:82\" protocol = tcp }\n"
             "pool db { protocol = tcp send-proxy = v1 server d { address = \"10.0.0.2:1\" } }\n"
             "route n { listen = {t} sni = {a.org, \"*.B.org\"} pool = db }\n"
             "route r { host = {example.org, \"*.Example.org\"} path = /api/ pool = app }\n");
    const struct pool_conf *p = &c->pools[0];
    const struct listener_conf *l = &c->listeners[0];

    assert_int_equal(c->workers, 3);
    assert_int_equal(c->engine, LOOP_URING);
    assert_string_equal(c->user, "nobody");
    assert_string_equal(c->node, "lb\\1");
    assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(c->pid_file, "/run/x.pid");
    assert_string_equal(c->resolvers, "9.9.9.9,[::1]:5353");
    assert_int_equal(c->splice_bytes, 0);
    assert_string_equal(c->access_log.file, "/var/log/x");
    assert_int_equal(c->access_log.format, ACCESS_COMBINED);
    assert_null(c->admin.socket);
    assert_int_equal(addr_port(&c->admin.http), 7709);
    assert_int_equal(l->n_binds, 3);
    assert_int_equal(l->binds[2].u.sa.sa_family, AF_UNIX);
    assert_int_equal(l->unix_mode, 0600);
    assert_int_equal(l->proxy, PROXY_IN_MIXED);
    assert_int_equal(l->n_proxy_from, 2);
    assert_int_equal(p->servers[0].send_proxy, PROXY_OUT_V2);
    assert_int_equal(p->servers[1].send_proxy, PROXY_OUT_V1);
    assert_int_equal(p->proxy_tlvs, PROXY_OUT_ALPN | PROXY_OUT_CHECKSUM);
    assert_int_equal(l->forward, FORWARD_X | FORWARD_RFC7239);
    assert_int_equal(c->listeners[1].forward, 0);
    assert_false(l->via);
    assert_true(l->half_close);
    assert_int_equal(l->body_max_bytes, 1 << 20);
    assert_int_equal(l->n_trusted, 2);
    assert_int_equal(l->trusted[0].prefix_bits, 8);
    assert_ptr_equal(p->policy, policy_find(STR("hash")));
    assert_int_equal(p->hash_by, POOL_HASH_HEADER);
    assert_string_equal(p->hash_name, "X-User");
    assert_true(p->params.maglev);
    assert_true(p->params.bound == 2.0);
    assert_string_equal(p->upgrade, "foo/2,bar");
    assert_int_equal(p->retry_budget_percent, 50);
    assert_int_equal(p->panic_percent, 40);
    assert_int_equal(p->check.kind, POOL_CHECK_TCP);
    assert_true(p->health.check);
    assert_int_equal(p->health.fall, 7);
    assert_int_equal(p->check.port, 9000);
    assert_true(p->check.interval_ns == 1500 * MC_MS);
    assert_int_equal(p->check.status_min, 204);
    assert_int_equal(p->check.status_max, 204);
    assert_string_equal(p->servers[0].address, "10.0.0.1:8081");
    assert_int_equal(p->servers[0].weight, 0);
    assert_true(p->servers[0].backup);
    assert_int_equal(p->servers[1].state, HEALTH_ADMIN_DRAIN);
    assert_int_equal(p->servers[1].check_port, 1);
    assert_int_equal(c->routes[1].n_hosts, 2);
    assert_string_equal(c->routes[1].path, "/api/");
    assert_int_equal(c->listeners[2].protocol, LISTENER_TCP);
    assert_int_equal(c->routes[0].n_listeners, 1);
    assert_string_equal(c->routes[0].names[1], "*.B.org");
    conf_free(&c);
}

static void
every_default_in_the_table_is_a_good_value(void **state)
{
    for (const struct conf_key *k = conf_keys; k->name != NULL; k++) {
        struct errbuf e = {""};

        assert_non_null(k->help);
        if (k->def != NULL && !conf_value(k, k->def, NULL, &e))
            fail_msg("%s", e.text);
        assert_ptr_equal(conf_key_find(k->place, str_of(k->name)), k); /* no name twice */
    }
}

/* --- files -------------------------------------------------------------------------------------
 */

static char dir[] = "/tmp/meercat-conf-XXXXXX";

static char *
file(const char *name, const char *text)
{
    char *path = mc_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static char *
load_faults(const char *path)
{
    struct conf_faults faults = {0};
    struct conf *c;
    struct buf b = {0};

    conf_load(path, &c, &faults);
    conf_faults_text(&faults, &b);
    conf_free(&c);
    conf_faults_free(&faults);
    buf_add(&b, "", 0);
    return b.p;
}

static void
an_included_file_stands_where_it_is_named(void **state)
{
    char *main_path =
        file("main.conf", LISTEN "pool \"app\" { # servers:\n"
                                 " include(\"servers-*.inc\") retries = 1\n}\n" ROUTE);
    char *a = file("servers-a.inc", "server \"a\" { address = \"10.0.0.1:80\" }\n");
    char *b = file("servers-b.inc", "# b\nserver \"b\" { address = \"10.0.0.2:80\" }");
    struct conf_faults faults = {0};
    struct conf *c;
    char *text;

    assert_int_equal(conf_load(main_path, &c, &faults), MC_OK);
    assert_int_equal(c->pools[0].n_servers, 2);
    assert_string_equal(c->pools[0].servers[1].name, "b");
    assert_int_equal(c->pools[0].retries, 1);
    conf_free(&c);

    free(file("servers-b.inc", "# b\n\nserver \"a\" { address = \"10.0.0.2\" }\nserver \"c\" {\n"
                               "weight = x address = \"b:1\" }"));
    text = load_faults(main_path);
    char *wanted = mc_printf("%s:3: server \"a\" is given twice, expected once (first at %s:1)\n"
                             "%s:5: weight: \"x\" is not a number, expected 0 to 256\n",
                             b, a, b);
    assert_string_equal(text, wanted);
    unlink(a), unlink(b), unlink(main_path);
    free(a), free(b), free(main_path), free(text), free(wanted);
}

static void
a_file_that_includes_itself_is_refused(void **state)
{
    char *path = file("loop.conf", "\ninclude(\"loop.conf\")\n");
    char *text = load_faults(path);
    char *wanted = mc_printf("%s:2: include within include, expected at most 10 deep\n", path);

    assert_string_equal(text, wanted);
    unlink(path);
    free(path), free(text), free(wanted);
}

static void
a_file_that_cannot_be_read_is_a_fault(void **state)
{
    char *path = file("main.conf", "include(\"none.conf\")");
    char *text = load_faults(path);
    char *wanted = mc_printf("%s:1: %s/none.conf: No such file or directory, expected a file that "
                             "can be read\n",
                             path, dir);

    assert_string_equal(text, wanted);
    free(text);
    text = load_faults("/nonexistent/x.conf");
    assert_string_equal(text, "/nonexistent/x.conf:1: No such file or directory, expected a file "
                              "that can be read\n");
    free(text);
    text = load_faults("/dev/zero");
    assert_non_null(strstr(text, "File too large"));
    free(text), free(wanted);
    unlink(path);
    free(path);
}

static int
setup(void **state)
{
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_has_its_default),
        cmocka_unit_test(each_option_reaches_its_field),
        cmocka_unit_test(every_default_in_the_table_is_a_good_value),
        cmocka_unit_test(each_fault_is_told_with_its_line),
        cmocka_unit_test(a_nul_byte_is_told_with_its_line),
        cmocka_unit_test(an_unknown_policy_is_told_all_that_there_are),
        cmocka_unit_test(an_agent_makes_resource_the_default),
        cmocka_unit_test(agents_are_read),
        cmocka_unit_test(vips_are_read),
        cmocka_unit_test(class_rules_are_read),
        cmocka_unit_test(faults_of_class_rules_are_told),
        cmocka_unit_test(classes_without_resource_are_warned_of),
        cmocka_unit_test(an_agent_of_words_goes_with_any_policy),
        cmocka_unit_test(what_members_share_has_a_digest),
        cmocka_unit_test(all_faults_of_a_file_are_told_in_one_run),
        cmocka_unit_test(after_a_broken_file_a_good_one_is_read_well),
        cmocka_unit_test(an_included_file_stands_where_it_is_named),
        cmocka_unit_test(a_file_that_includes_itself_is_refused),
        cmocka_unit_test(a_file_that_cannot_be_read_is_a_fault),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
