/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_keys.c - the table of keys, and what can be asked of it.
 *
 * Defaults: time limits are those at which common clients, servers and proxies give up anyway
 * (HAProxy's and nginx's examples lie within a factor of two); sizes are the codec's own; what is
 * not said is safe rather than fast.
 */
#include "control/conf_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "control/conf.h"

#define OFFSET(type, member) offsetof(struct type, member)
#define WIDTH(type, member)  sizeof(((struct type *)NULL)->member)

/* A key with one value, one that must be given, a list, a section without and with a title. */
#define KEY(where, key, how, type, member, dflt, limits, what)                                \
    {                                                                                         \
        .name = key, .kind = CONF_##how, .place = CONF_##where, .def = dflt, .range = limits, \
        .offset = OFFSET(type, member), .width = WIDTH(type, member), .help = what            \
    }
#define MUST(where, key, how, type, member, limits, what)                                          \
    {                                                                                              \
        .name = key, .kind = CONF_##how, .place = CONF_##where, .required = true, .range = limits, \
        .offset = OFFSET(type, member), .width = WIDTH(type, member), .help = what                 \
    }
#define LIST(where, key, how, type, member, n, must, what)                                      \
    {                                                                                           \
        .name = key, .kind = CONF_##how, .place = CONF_##where, .list = true, .required = must, \
        .offset = OFFSET(type, member), .width = WIDTH(type, member),                           \
        .count_offset = OFFSET(type, n), .help = what                                           \
    }
#define SECTION(where, key, opens, has_title, what)                                      \
    {                                                                                    \
        .name = key, .kind = CONF_SECTION, .place = CONF_##where, .inner = CONF_##opens, \
        .titled = has_title, .help = what                                                \
    }

static_assert(TLS_VERIFY_NONE == 0 && TLS_VERIFY_OPTIONAL == 1 && TLS_VERIFY_REQUIRED == 2,
              "the words of client-verify");
static_assert(LISTENER_AUTO == 0 && LISTENER_HTTP1 == 1 && LISTENER_H2 == 2 && LISTENER_TCP == 3,
              "the words of protocol");
static_assert(PROXY_IN_OFF == 0 && PROXY_IN_REQUIRED == 1 && PROXY_IN_MIXED == 2,
              "the words of proxy-protocol");
static_assert(PROXY_OUT_OFF == 0 && PROXY_OUT_V1 == 1 && PROXY_OUT_V2 == 2 && PROXY_OUT_POOL == 3,
              "the words of send-proxy");
static_assert(PROXY_OUT_AUTHORITY == 1 && PROXY_OUT_ALPN == 2 && PROXY_OUT_TLS == 4 &&
                  PROXY_OUT_UNIQUE_ID == 8 && PROXY_OUT_CHECKSUM == 16,
              "the words of send-proxy-tlvs");
static_assert(PROTECT_REQUESTS == 0 && PROTECT_RESPONSES == 1, "the words of replicate");
static_assert(VIP_ROUTE == 0 && VIP_CLUSTER == 1, "the words of mode");
static_assert(WATCH_AGENT == 0 && WATCH_NODE == 1 && WATCH_CHECK == 2, "the words of agent-type");

/* clang-format off */
/* How servers, or their agents, are dialled by TLS: member of struct pool_conf. */
#define DIAL(place, t)                                                                          \
    LIST(place, "ca", FILES, pool_conf, t.cas, t.n_cas, false,                                   \
        "PEM files, or directories of them, with the authorities that are believed; "           \
        "those of the system when not given"),                                                  \
    KEY(place, "verify", BOOL, pool_conf, t.verify, "yes", NULL,                                \
        "must the certificate be of such an authority, in force, and for the right name"),      \
    KEY(place, "name", NAME, pool_conf, t.name, NULL, NULL,                                     \
        "name that is asked for (SNI) and that the certificate must be for; "                   \
        "the host in the address when not given"),                                              \
    KEY(place, "crl", FILE, pool_conf, t.crl, "none", NULL,                                     \
        "PEM file with what these authorities have revoked, a list of each of them"),           \
    KEY(place, "certificate", FILE, pool_conf, t.certificate, "none", NULL,                     \
        "PEM file with a chain, leaf first, and its key, for those who ask for one"),           \
    KEY(place, "min-version", WORD, pool_conf, t.min_version, "1.2", "1.2|1.3",                 \
        "oldest version of TLS that is spoken"),                                                \
    KEY(place, "ciphers", TEXT, pool_conf, t.ciphers, NULL, NULL,                               \
        "of TLS 1.2, as openssl-ciphers(1) has them; those with ECDHE and AEAD when not given"),\
    KEY(place, "ciphersuites", TEXT, pool_conf, t.ciphersuites, NULL, NULL,                     \
        "of TLS 1.3; those of OpenSSL when not given")

const struct conf_key conf_keys[] = {
    /* --- top level: struct conf --- */
    KEY(TOP, "workers", WORKERS, conf, workers, "auto", "1..64",
        "threads that serve; auto is one for each core this process may use"),
    KEY(TOP, "engine", WORD, conf, engine, "auto", "auto|epoll|uring",
        "how workers talk to the kernel; auto takes the one that was measured to be better"),
    KEY(TOP, "user", TEXT, conf, user, NULL, NULL,
        "user to become after the sockets are bound, when started as root"),
    KEY(TOP, "group", TEXT, conf, group, NULL, NULL,
        "group to become; the user's own when not given"),
    KEY(TOP, "node", TEXT, conf, node, "meercat", NULL,
        "name of this balancer in Via and Proxy-Status, and in its cluster, where it must be its own"),
    KEY(TOP, "pid-file", FILE, conf, pid_file, "none", NULL,
        "file that holds the process id while the balancer runs"),
    KEY(TOP, "state-dir", FILE, conf, state_dir, "none", NULL,
        "directory that keeps what was learned of requests, and the operator's words, over a restart"),
    KEY(TOP, "log-level", WORD, conf, log_level, "info", "error|warn|info|debug",
        "which lines of the error log are written"),
    KEY(TOP, "drain-timeout", DURATION, conf, drain_timeout_ns, "30s", "0..1d",
        "how long a graceful end waits for requests under way"),
    KEY(TOP, "leave-grace", DURATION, conf, leave_grace_ns, "0", "0..1h",
        "how long clients are still served, and asked to come back by another connection, before that"),
    KEY(TOP, "upgrade-timeout", DURATION, conf, upgrade_timeout_ns, "10m", "0..7d",
        "how long the process before an upgrade serves connections that cannot go on in the next one"),
    KEY(TOP, "max-connections", UINT, conf, max_connections, "0", "0..10000000",
        "client connections of the process; 0 is what the limit of descriptors allows"),
    {.name = "resolvers", .kind = CONF_RESOLVER, .place = CONF_TOP, .list = true,
     .offset = OFFSET(conf, resolvers), .width = WIDTH(conf, resolvers),
     .help = "addresses of name servers; those of resolv.conf(5) when not given"},
    KEY(TOP, "splice-from", SIZE, conf, splice_bytes, "128KiB", "0..1TiB",
        "bodies from this size on are moved inside the kernel; 0 is never"),
    SECTION(TOP, "access-log", ACCESS_LOG, false, "one line for each request"),
    SECTION(TOP, "admin", ADMIN, false, "where the balancer itself can be asked"),
    SECTION(TOP, "cluster", CLUSTER, false, "the other balancers, with which this one acts as one"),
    SECTION(TOP, "takeover", TAKEOVER, false,
        "how the others of the cluster take over connections of listeners that want it"),
    SECTION(TOP, "fit", FIT, false, "when this balancer should attract traffic"),
    SECTION(TOP, "vip", VIP, true, "addresses that clients know, carried while the balancer is fit"),
    SECTION(TOP, "listen", LISTEN, true, "where clients connect"),
    SECTION(TOP, "pool", POOL, true, "servers that can answer for each other"),
    SECTION(TOP, "route", ROUTE, true, "which requests go to which pool; the first that matches"),

    /* --- access-log: struct conf_access_log --- */
    MUST(ACCESS_LOG, "file", FILE, conf_access_log, file, NULL,
        "a file, stdout, stderr, or none"),
    KEY(ACCESS_LOG, "format", WORD, conf_access_log, format, "json", "json|common|combined",
        "how a line looks"),

    /* --- admin: struct conf_admin --- */
    KEY(ADMIN, "socket", FILE, conf_admin, socket, CONF_DEFAULT_SOCKET, NULL,
        "unix socket for the commands; it alone takes orders; none turns it off"),
    KEY(ADMIN, "socket-mode", MODE, conf_admin, socket_mode, "0660", NULL,
        "permission bits of that socket"),
    KEY(ADMIN, "http", HTTP, conf_admin, http, "none", NULL,
        "address for /metrics, /healthz and the JSON API, reading only"),

    /* --- cluster: struct conf_cluster --- */
    MUST(CLUSTER, "bind", HTTP, conf_cluster, bind, NULL,
        "address for the other balancers, UDP and TCP: 10.0.0.1:7707"),
    KEY(CLUSTER, "advertise", HTTP, conf_cluster, advertise, "none", NULL,
        "address that the others are told; that of bind when not given"),
    LIST(CLUSTER, "join", PEER, conf_cluster, join, n_join, false,
        "where to find the others, any of them: 10.0.0.2:7707, or a name with several addresses"),
    KEY(CLUSTER, "key-file", FILE, conf_cluster, key_file, "none", NULL,
        "keys that all balancers share, as meercat keygen makes them; needed beyond loopback"),
    KEY(CLUSTER, "bandwidth", SIZE, conf_cluster, bytes_per_s, "8MiB", "256KiB..1GiB",
        "bytes a second that this balancer sends to the others at most"),

    /* --- takeover: struct conf_takeover --- */
    KEY(TAKEOVER, "bind", HTTP, conf_takeover, bind, "none", NULL,
        "address for this alone, UDP and TCP; that of the cluster and port 7711 when not given"),
    LIST(TAKEOVER, "interface", INTERFACE, conf_takeover, interfaces, n_interfaces, false,
        "where packets of clients come in; the one with the address of bind when not given"),
    LIST(TAKEOVER, "witness", IP, conf_takeover, witnesses, n_witnesses, false,
        "who is asked, by ICMP echo, whether it is us or the others that are cut off; "
        "the default gateway when not given"),
    KEY(TAKEOVER, "replicas", UINT, conf_takeover, replicas, "1", "1..2",
        "balancers that know a connection beside the one that serves it"),
    /* --- fit: struct conf_fit --- */
    KEY(FIT, "need-server", BOOL, conf_fit, need_server, "yes", NULL,
        "not fit while no server of any pool is available"),
    KEY(FIT, "connections", PERCENT, conf_fit, connections_percent, "100", "0..100",
        "overloaded at this share of max-connections; 0 is never"),
    KEY(FIT, "lag", DURATION, conf_fit, lag_ns, "1s", "0..1m",
        "overloaded while a worker takes so long to come to what is new; 0 is never"),
    KEY(FIT, "overload-after", DURATION, conf_fit, overload_after_ns, "1s", "0..1h",
        "how long that must last"),
    KEY(FIT, "recover-after", DURATION, conf_fit, recover_after_ns, "5s", "0..1h",
        "how long it must be over, at nine tenths of these bounds"),
    KEY(FIT, "stall", DURATION, conf_fit, stall_ns, "200ms", "50ms..1m",
        "a balancer that is stopped or hangs for so long loses its vip addresses"),

    /* --- vip: struct vip_conf --- */
    LIST(VIP, "address", VIP_ADDRESS, vip_conf, addrs, n_addrs, true,
        "the addresses: 192.0.2.10, 2001:db8::10/128; all of the address when no length is given"),
    KEY(VIP, "interface", INTERFACE, vip_conf, interface, "lo", NULL,
        "where they are put"),
    KEY(VIP, "mode", WORD, vip_conf, mode, "route", "route|cluster",
        "route: every fit balancer carries them, and a routing daemon announces what is there; "
        "cluster: one member of the cluster carries each of them, and tells the network by ARP and NDP"),
    KEY(VIP, "return-after", DURATION, vip_conf, return_after_ns, "10s", "0..1h",
        "cluster: how long a member that comes back must be fit before it carries them again"),

    /* --- listen: struct listener_conf --- */
    LIST(LISTEN, "bind", BIND, listener_conf, binds, n_binds, true,
        "addresses: 10.0.0.1:80, \"*:80\", [::]:80, unix:/path"),
    KEY(LISTEN, "protocol", WORD, listener_conf, protocol, "auto", "auto|http1|h2|tcp",
        "what clients speak; auto is HTTP/2 with those that ask for it, else HTTP/1; tcp is anything: "
        "routes that name the listener say where it goes"),
    KEY(LISTEN, "unix-mode", MODE, listener_conf, unix_mode, "0666", NULL,
        "permission bits of unix sockets"),
    KEY(LISTEN, "max-connections", UINT, listener_conf, max_connections, "0", "0..10000000",
        "client connections here; 0 is no limit"),
    KEY(LISTEN, "head-timeout", DURATION, listener_conf, head_timeout_ns, "10s", "1ms..1h",
        "from the first byte of a request to the end of its head"),
    KEY(LISTEN, "body-timeout", DURATION, listener_conf, body_timeout_ns, "30s", "1ms..1h",
        "without progress of a request body"),
    KEY(LISTEN, "keep-alive-timeout", DURATION, listener_conf, keep_alive_timeout_ns, "60s",
        "1ms..1d", "idle before the first request and between requests"),
    KEY(LISTEN, "send-timeout", DURATION, listener_conf, send_timeout_ns, "30s", "1ms..1h",
        "while the client takes nothing of a response"),
    KEY(LISTEN, "user-timeout", DURATION, listener_conf, user_timeout_ns, "60s", "0..1h",
        "while the client's host acknowledges nothing of what was sent (TCP_USER_TIMEOUT); "
        "0 is the kernel's quarter of an hour"),
    KEY(LISTEN, "requests-per-connection", UINT, listener_conf, requests_per_conn, "0",
        "0..1000000000", "then the connection is closed; 0 is no limit"),
    KEY(LISTEN, "body-max", SIZE, listener_conf, body_max_bytes, "0", "0..1TiB",
        "largest request body; more is answered with 413; 0 is no limit"),
    KEY(LISTEN, "head-max", SIZE, listener_conf, limits.head_bytes, "16KiB", "1KiB..64KiB",
        "largest head of a request; more is answered with 431"),
    KEY(LISTEN, "target-max", SIZE, listener_conf, limits.target_bytes, "8KiB", "64B..64KiB",
        "longest request target; more is answered with 414"),
    KEY(LISTEN, "fields-max", UINT, listener_conf, limits.fields, "100", "8..1000",
        "most fields in a head; more is answered with 431"),
    KEY(LISTEN, "trailer-max", SIZE, listener_conf, limits.trailer_bytes, "4KiB", "0..64KiB",
        "largest trailer section of a request"),
    {.name = "forward", .kind = CONF_FLAGS, .place = CONF_LISTEN, .list = true,
     .offset = OFFSET(listener_conf, forward), .width = WIDTH(listener_conf, forward),
     .range = "x-forwarded|forwarded", .def = "x-forwarded",
     .help = "fields that tell servers who asked: X-Forwarded-*, Forwarded (RFC 7239), or none"},
    KEY(LISTEN, "via", BOOL, listener_conf, via, "yes", NULL,
        "add Via to requests and responses"),
    KEY(LISTEN, "half-close", BOOL, listener_conf, half_close, "no", NULL,
        "a client may close its sending side and still get the answer"),
    LIST(LISTEN, "trusted", NET, listener_conf, trusted, n_trusted, false,
        "networks of proxies whose word on the client is taken: 10.0.0.0/8, ::1, unix"),
    KEY(LISTEN, "proxy-protocol", WORD, listener_conf, proxy, "off", "off|required|mixed",
        "connections begin with a PROXY header: all of them, or those from proxy-protocol-from"),
    LIST(LISTEN, "proxy-protocol-from", NET, listener_conf, proxy_from, n_proxy_from, false,
        "networks of proxies that send it, and must: 10.0.0.0/8, ::1, unix"),
    KEY(LISTEN, "server-header", TEXT, listener_conf, server_header, NULL, NULL,
        "Server field of answers that the balancer itself makes"),
    SECTION(LISTEN, "tls", TLS, false, "clients speak TLS here; without it they must not"),

    SECTION(LISTEN, "http2", HTTP2, false, "bounds of connections that speak HTTP/2"),

    SECTION(LISTEN, "takeover", PROTECT, false,
        "plain connections that speak HTTP/1 survive the loss of this balancer"),

    /* --- http2: struct listener_conf --- */
    KEY(HTTP2, "max-concurrent-streams", UINT, listener_conf, h2.max_streams, "128", "1..10000",
        "requests at once on a connection"),
    KEY(HTTP2, "stream-window", SIZE, listener_conf, h2.stream_window, "256KiB", "4KiB..16MiB",
        "bytes of a request body that may wait for its server; begins with 64 KiB at most"),
    KEY(HTTP2, "connection-window", SIZE, listener_conf, h2.connection_window, "1MiB",
        "64KiB..256MiB", "bytes of all request bodies of a connection that may wait for servers"),
    KEY(HTTP2, "resets-per-second", UINT, listener_conf, h2.resets_per_s, "20", "0..1000000",
        "streams that a client may reset, over ten seconds; 0 is no limit"),
    KEY(HTTP2, "faults-per-second", UINT, listener_conf, h2.faults_per_s, "10", "0..1000000",
        "streams that may have to be reset for a client's faults, likewise"),
    KEY(HTTP2, "control-frames-per-second", UINT, listener_conf, h2.control_per_s, "100",
        "0..1000000", "SETTINGS, PING, PRIORITY and empty frames that a client may send, likewise"),

    /* --- takeover of listen: struct listener_conf --- */
    KEY(PROTECT, "replicate", WORD, listener_conf, takeover.replicate, "requests",
        "requests|responses",
        "what others are told before a response leaves: what the client sent, or small responses too"),
    KEY(PROTECT, "buffer", SIZE, listener_conf, takeover.buffer_bytes, "64KiB", "4KiB..1MiB",
        "of what a client sent until it is answered; a connection with more is not protected meanwhile"),

    /* --- tls: struct listener_conf --- */
    LIST(TLS, "certificate", FILES, listener_conf, tls.certificates, tls.n_certificates, true,
        "PEM files, each a chain, leaf first, with its key; or directories of *.pem"),
    KEY(TLS, "min-version", WORD, listener_conf, tls.min_version, "1.2", "1.2|1.3",
        "oldest version of TLS that is spoken"),
    KEY(TLS, "ciphers", TEXT, listener_conf, tls.ciphers, NULL, NULL,
        "of TLS 1.2, as openssl-ciphers(1) has them; those with ECDHE and AEAD when not given"),
    KEY(TLS, "ciphersuites", TEXT, listener_conf, tls.ciphersuites, NULL, NULL,
        "of TLS 1.3; those of OpenSSL when not given"),
    KEY(TLS, "client-verify", WORD, listener_conf, tls.verify, "none", "none|optional|required",
        "are clients asked for a certificate; servers get it as Client-Cert"),
    LIST(TLS, "client-ca", FILES, listener_conf, tls.client_cas, tls.n_client_cas, false,
        "PEM files with the authorities whose client certificates are accepted"),
    KEY(TLS, "crl", FILE, listener_conf, tls.crl, "none", NULL,
        "PEM file with what these authorities have revoked, a list of each of them"),
    KEY(TLS, "strict-sni", BOOL, listener_conf, tls.strict_sni, "no", NULL,
        "refuse clients that name no host, or one that no certificate is for"),
    KEY(TLS, "ocsp", BOOL, listener_conf, tls.ocsp, "no", NULL,
        "staple the OCSP response in FILE.ocsp, in DER, beside a certificate's file"),

    /* --- pool: struct pool_conf --- */
    KEY(POOL, "balance", BALANCE, pool_conf, policy, "auto", NULL,
        "how a server is chosen; auto is resource when an agent reports load, else least-request"),
    KEY(POOL, "report-interval", DURATION, pool_conf, report_interval_ns, "100ms", "20ms..10s",
        "how often agents tell the load of their servers; node-exporter is asked once a second"),
    KEY(POOL, "pass-load-reports", BOOL, pool_conf, pass_load_reports, "no", NULL,
        "pass endpoint-load-metrics (ORCA) of responses on to clients"),
    KEY(POOL, "hash-by", HASH_BY, pool_conf, hash_by, "address", NULL,
        "what balance = hash looks at: address, uri, header:NAME, cookie:NAME"),
    KEY(POOL, "hash-table", WORD, pool_conf, params.maglev, "ring", "ring|maglev",
        "how hash spreads keys over servers"),
    KEY(POOL, "hash-bound", RATIO, pool_conf, params.bound, "1.25", "0..100",
        "hash: no server gets more than this multiple of the mean; 0 is no bound"),
    KEY(POOL, "least-of", WORD, pool_conf, params.full_scan, "two", "two|all",
        "least-request: how many servers are compared"),
    KEY(POOL, "panic-threshold", PERCENT, pool_conf, panic_percent, "0", "0..100",
        "when fewer servers than this share are healthy, all are used; 0 is never"),
    KEY(POOL, "retries", UINT, pool_conf, retries, "2", "0..10",
        "attempts at other servers after the first one failed"),
    KEY(POOL, "retry-budget", PERCENT, pool_conf, retry_budget_percent, "20", "0..100",
        "retries are at most this share of requests"),
    KEY(POOL, "retry-min", UINT, pool_conf, retry_min_per_s, "10", "0..1000000",
        "retries a second that are allowed whatever the share"),
    KEY(POOL, "max-concurrent", UINT, pool_conf, max_concurrent, "0", "0..10000000",
        "requests under way in the pool, from this balancer; 0 is no limit"),
    KEY(POOL, "queue-max", UINT, pool_conf, queue_max, "1024", "0..1000000",
        "requests that may wait for a server, for each worker"),
    KEY(POOL, "queue-timeout", DURATION, pool_conf, queue_timeout_ns, "5s", "1ms..1h",
        "how long a request waits for a server; then 503"),
    KEY(POOL, "connect-timeout", DURATION, pool_conf, connect_timeout_ns, "1s", "1ms..1m",
        "how long to wait for a server to accept"),
    KEY(POOL, "first-byte-timeout", DURATION, pool_conf, first_byte_timeout_ns, "60s", "1ms..1d",
        "from the request to the head of its response; then 504"),
    KEY(POOL, "user-timeout", DURATION, pool_conf, user_timeout_ns, "10s", "0..1h",
        "while the server's host is not heard: acknowledges nothing (TCP_USER_TIMEOUT), does not answer "
        "keep-alive probes; 0 is the kernel's quarter of an hour"),
    KEY(POOL, "idle-timeout", DURATION, pool_conf, idle_timeout_ns, "30s", "1ms..1d",
        "without progress of a response body"),
    KEY(POOL, "total-timeout", DURATION, pool_conf, total_timeout_ns, "0", "0..1d",
        "of a request with all its attempts; 0 is no limit"),
    KEY(POOL, "grpc-timeout-max", DURATION, pool_conf, grpc_timeout_max_ns, "365d", "0..365d",
        "calls of gRPC end when their grpc-timeout is over, and by this; 0 leaves it to the servers"),
    {.name = "upgrade", .kind = CONF_UPGRADE, .place = CONF_POOL, .list = true,
     .offset = OFFSET(pool_conf, upgrade), .width = WIDTH(pool_conf, upgrade), .def = "websocket",
     .help = "protocols that clients may switch to, by their names in Upgrade; any, or none; servers "
             "that speak http1 only"},
    KEY(POOL, "tunnel-timeout", DURATION, pool_conf, tunnel_timeout_ns, "1h", "1ms..30d",
        "while nothing goes either way after such a switch"),
    KEY(POOL, "idle-connections", UINT, pool_conf, idle_max, "100", "0..100000",
        "connections kept for reuse, for each worker and server"),
    KEY(POOL, "idle-connection-timeout", DURATION, pool_conf, idle_conn_timeout_ns, "30s",
        "1ms..1d", "how long they are kept; less than the servers keep them"),
    KEY(POOL, "requests-per-connection", UINT, pool_conf, requests_per_conn, "0",
        "0..1000000000", "to a server, then a new connection is made; 0 is no limit"),
    KEY(POOL, "protocol", WORD, pool_conf, protocol, "http1", "http1|h2|auto|tcp",
        "what servers speak; h2 in plain text is without asking, auto is what TLS agrees on, tcp is "
        "for connections only"),
    KEY(POOL, "streams-per-connection", UINT, pool_conf, streams_per_conn, "100", "1..100000",
        "requests at once on an HTTP/2 connection to a server, which may want fewer"),
    KEY(POOL, "send-proxy", WORD, pool_conf, send_proxy, "off", "off|v1|v2",
        "connections to servers begin with a PROXY header that tells the client, and are his alone"),
    {.name = "send-proxy-tlvs", .kind = CONF_FLAGS, .place = CONF_POOL, .list = true,
     .offset = OFFSET(pool_conf, proxy_tlvs), .width = WIDTH(pool_conf, proxy_tlvs),
     .range = "authority|alpn|ssl|unique-id|crc32c", .def = "none",
     .help = "what such a header of version 2 tells beside addresses, or none"},
    KEY(POOL, "slow-start", DURATION, pool_conf, health.slow_start_ns, "0", "0..1h",
        "time over which the weight of a returning server grows"),
    KEY(POOL, "eject-after", UINT, pool_conf, health.eject_after, "5", "0..1000",
        "failed requests in a row after which a server is set aside; 0 is never"),
    KEY(POOL, "eject-time", DURATION, pool_conf, health.eject_ns, "2s", "1ms..1h",
        "how long at first; doubled each time"),
    KEY(POOL, "eject-max", DURATION, pool_conf, health.eject_max_ns, "32s", "1ms..1d",
        "how long at most"),
    KEY(POOL, "classes", UINT, pool_conf, n_classes, "128", "2..256",
        "resource: kinds of requests that are told apart; one of them is \"other\", for the rest"),
    SECTION(POOL, "class", CLASS, true,
        "resource: requests that are of one kind whatever they look like; the first that fits"),
    SECTION(POOL, "tls", POOL_TLS, false, "servers are dialled by TLS; without it plain"),
    SECTION(POOL, "agent-tls", AGENT_TLS, false, "agents are dialled by TLS; without it plain"),
    SECTION(POOL, "check", CHECK, false, "active health checks; none without this section"),
    SECTION(POOL, "server", SERVER, true, "one of the servers"),

    /* --- tls, agent-tls: struct pool_conf --- */
    DIAL(POOL_TLS, tls),
    DIAL(AGENT_TLS, agent_tls),

    /* --- check: struct pool_conf --- */
    KEY(CHECK, "type", WORD, pool_conf, check.kind, "http", "none|http|tcp|grpc",
        "a request, only a connection, or a call of grpc.health.v1.Health/Check"),
    KEY(CHECK, "path", PATH, pool_conf, check.path, "/", NULL,
        "path that is asked for"),
    KEY(CHECK, "host", TEXT, pool_conf, check.host, NULL, NULL,
        "Host field; the server's address when not given"),
    KEY(CHECK, "method", METHOD, pool_conf, check.method, "GET", NULL,
        "method of the request"),
    KEY(CHECK, "service", TEXT, pool_conf, check.service, NULL, NULL,
        "grpc: the service that is asked for, acme.Chat; the server as a whole when not given"),
    KEY(CHECK, "port", UINT, pool_conf, check.port, "0", "0..65535",
        "port to check; 0 is the server's own"),
    KEY(CHECK, "expect", STATUSES, pool_conf, check.status_min, "200-399", NULL,
        "status or range of statuses of a healthy server"),
    KEY(CHECK, "plain", BOOL, pool_conf, check.no_tls, "no", NULL,
        "check without TLS though requests go by TLS; for a port of their own"),
    KEY(CHECK, "interval", DURATION, pool_conf, check.interval_ns, "2s", "10ms..1h",
        "time from one check to the next, varied by a tenth"),
    KEY(CHECK, "timeout", DURATION, pool_conf, check.timeout_ns, "1s", "1ms..1m",
        "when no answer has come by then, the check has failed"),
    KEY(CHECK, "rise", UINT, pool_conf, health.rise, "2", "1..1000",
        "successes in a row after which a server is up"),
    KEY(CHECK, "fall", UINT, pool_conf, health.fall, "3", "1..1000",
        "failures in a row after which a server is down"),

    /* --- server: struct server_conf --- */
    MUST(SERVER, "address", ADDRESS, server_conf, address, NULL,
        "10.0.1.1:8080, [2001:db8::1]:80, app.internal:8080, unix:/path"),
    KEY(SERVER, "weight", UINT, server_conf, weight, "1", "0..256",
        "share of requests in relation to the others; 0 gets nothing new"),
    KEY(SERVER, "backup", BOOL, server_conf, backup, "no", NULL,
        "gets requests only when no other server can"),
    KEY(SERVER, "max-concurrent", UINT, server_conf, max_concurrent, "0", "0..10000000",
        "requests under way here, from this balancer; 0 is no limit"),
    KEY(SERVER, "check-port", UINT, server_conf, check_port, "0", "0..65535",
        "port to check; 0 is what check says"),
    KEY(SERVER, "send-proxy", WORD, server_conf, send_proxy, "pool", "off|v1|v2|pool",
        "the same for this server alone; pool is what the pool says"),
    KEY(SERVER, "state", WORD, server_conf, state, "ready", "ready|drain|maint",
        "to begin with; an order of the operator changes it"),
    KEY(SERVER, "tls-name", NAME, server_conf, tls_name, NULL, NULL,
        "as name in tls, for this server"),
    KEY(SERVER, "agent", ADDRESS, server_conf, agent, NULL, NULL,
        "who tells this server's load: 10.0.1.1:7708, app.internal:7708; nobody when not given"),
    KEY(SERVER, "agent-type", WORD, server_conf, agent_kind, "meercat",
        "meercat|node-exporter|agent-check",
        "meercat-agent(8), the node_exporter of Prometheus, or one for HAProxy's agent-check"),
    KEY(SERVER, "agent-tls-name", NAME, server_conf, agent_tls_name, NULL, NULL,
        "as name in agent-tls, for this server's agent"),

    /* --- class: struct class_rule --- */
    KEY(CLASS, "method", METHOD, class_rule, method, NULL, NULL,
        "method of the request; every method when not given"),
    KEY(CLASS, "path", PATTERN, class_rule, path, NULL, NULL,
        "all of the path; {} stands for one segment or a part of it, * at the end for the rest"),
    KEY(CLASS, "header", FIELD, class_rule, header, NULL, NULL,
        "a field of the request, X-Job, or one with a value, \"X-Job: export\""),
    KEY(CLASS, "query", PARAM, class_rule, query, NULL, NULL,
        "a parameter of the query, size, or one with a value, \"size=large\""),
    KEY(CLASS, "grpc", GRPC, class_rule, grpc, NULL, NULL,
        "a call of gRPC, acme.Chat/Send, or all calls of a service, \"acme.Chat/*\""),

    /* --- route: struct route_conf --- */
    LIST(ROUTE, "host", HOST, route_conf, hosts, n_hosts, false,
        "host names, *.example.org for all below; every host when not given"),
    KEY(ROUTE, "path", PATH, route_conf, path, NULL, NULL,
        "prefix that ends at a segment: /api covers /api and /api/x; every path when not given"),
    LIST(ROUTE, "listen", LISTENER_REF, route_conf, listeners, n_listeners, false,
        "listeners with protocol = tcp: the route takes their connections, and no requests"),
    LIST(ROUTE, "sni", HOST, route_conf, names, n_names, false,
        "with listen: names that clients ask for in TLS, as those of host; all clients when not given"),
    KEY(ROUTE, "rate-limit", UINT, route_conf, rate_limit, "0", "0..1000000",
        "requests a second, of the whole cluster; more are answered with 429; 0 is no limit"),
    KEY(ROUTE, "rate-burst", UINT, route_conf, rate_burst, "0", "0..1000000",
        "requests that may come at once; 0 is as many as in a second"),
    MUST(ROUTE, "pool", POOL_REF, route_conf, pool, NULL,
        "pool that answers"),
    {0},
};
/* clang-format on */

static const char *const place_names[CONF_N_PLACES] = {
    [CONF_TOP] = "",
    [CONF_ACCESS_LOG] = "access-log",
    [CONF_ADMIN] = "admin",
    [CONF_CLUSTER] = "cluster",
    [CONF_FIT] = "fit",
    [CONF_VIP] = "vip",
    [CONF_TAKEOVER] = "takeover",
    [CONF_PROTECT] = "takeover",
    [CONF_LISTEN] = "listen",
    [CONF_HTTP2] = "http2",
    [CONF_TLS] = "tls",
    [CONF_POOL] = "pool",
    [CONF_POOL_TLS] = "tls",
    [CONF_AGENT_TLS] = "agent-tls",
    [CONF_CHECK] = "check",
    [CONF_SERVER] = "server",
    [CONF_CLASS] = "class",
    [CONF_ROUTE] = "route",
};

const char *
conf_place_name(enum conf_place place)
{
    return place_names[place];
}

const struct conf_key *
conf_key_find(enum conf_place place, struct str name)
{
    for (const struct conf_key *k = conf_keys; k->name != NULL; k++)
        if (k->place == place && str_eq(str_of(k->name), name))
            return k;
    return NULL;
}

/* "the top level", "pool": for people, and different for each. */
static const char *
place_text(unsigned place)
{
    switch (place) {
    case CONF_TOP: return "the top level";
    case CONF_TLS: return "tls of listen";
    case CONF_PROTECT: return "takeover of listen";
    case CONF_POOL_TLS: return "tls of pool";
    default: return place_names[place];
    }
}

static bool
word(unsigned i, struct conf_word *out)
{
    const struct conf_key *k = &conf_keys[i];

    *out = (struct conf_word){
        .name = k->name,
        .place = k->place,
        .section = k->kind == CONF_SECTION,
        .titled = k->titled,
        .list = k->list,
        .inner = k->inner,
    };
    return k->name != NULL;
}

static const char *
name_of_place(unsigned place)
{
    return conf_place_name((enum conf_place)place);
}

static_assert(CONF_TOP == 0 && CONF_N_PLACES <= CONF_PLACES_MAX,
              "places as conf_grammar.h has them");

const struct conf_grammar conf_grammar = {CONF_N_PLACES, word, name_of_place, place_text,
                                          "meercat.conf(5)"};

/* --- the manual --- */

/* Roff takes a dot or an apostrophe at the begin of a line, and a backslash anywhere, for its own.
 */
static void
mdoc_text(struct buf *b, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            buf_printf(b, "\\e");
        else
            buf_add(b, text, 1);
    }
}

static void
mdoc_range(struct buf *b, const struct conf_key *k)
{
    const char *dots = k->range ? strstr(k->range, "..") : NULL;

    if (k->kind == CONF_BALANCE) {
        buf_printf(b, "auto");
        for (unsigned i = 0; policy_at(i) != NULL; i++)
            buf_printf(b, ", %s", policy_at(i)->name);
        return;
    }
    if (k->kind == CONF_WORD || k->kind == CONF_FLAGS) {
        for (const char *p = k->range; *p != '\0'; p++)
            buf_printf(b, *p == '|' ? ", " : "%c", *p);
        return;
    }
    buf_printf(b, "%s", conf_kind_name(k->kind));
    if (dots != NULL)
        buf_printf(b, ", %.*s to %s", (int)(dots - k->range), k->range, dots + 2);
}

static void
mdoc_key(struct buf *b, const struct conf_key *k)
{
    if (k->kind == CONF_SECTION) {
        buf_printf(b, ".It Ic %s %s\n", k->name, k->titled ? "Qo Ar name Qc Brq ..." : "Brq ...");
    } else {
        buf_printf(b, ".It Ic %s No = ", k->name);
        mdoc_range(b, k);
        buf_printf(b, "\n");
    }
    mdoc_text(b, k->help);
    buf_printf(b, ".\n");
    if (k->list)
        buf_printf(b, "A list.\n");
    if (k->required)
        buf_printf(b, "Required.\n");
    else if (k->def != NULL)
        buf_printf(b, "Default:\n.Dq %s .\n", k->def);
}

void
conf_keys_mdoc(struct buf *b)
{
    for (int place = 0; place < CONF_N_PLACES; place++) {
        if (place == CONF_TOP)
            buf_printf(b, ".Ss Top level\n");
        else
            buf_printf(b, ".Ss %s\n", place_text((unsigned)place));
        buf_printf(b, ".Bl -tag -width Ds\n");
        for (const struct conf_key *k = conf_keys; k->name != NULL; k++)
            if (k->place == (enum conf_place)place)
                mdoc_key(b, k);
        buf_printf(b, ".El\n");
    }
}
