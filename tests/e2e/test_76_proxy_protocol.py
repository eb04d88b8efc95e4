# SPDX-License-Identifier: BSD-2-Clause
"""PROXY headers, from proxies before us and to servers behind us, of both versions, with and without TLS."""

import ssl
import subprocess

import pytest

from instruments import proxyp
from instruments.client import Client, Closed
from instruments.origin import ok
from instruments.pki import Authority
from instruments.proxyp import told, tlv, v1, v2
from instruments.tls import TlsClient, context
from instruments.wait import SLOW, wait_until

LOCALHOST = ["127.0.0.0/8", "::1"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a = ca.issue("a.test")
    ca.alice = ca.issue("alice", client=True)
    return ca


def before(lab, servers, mode="required", proxies=None, **kw):
    """A balancer that is told of its clients."""
    listen = dict({"proxy_protocol": mode, "proxy_protocol_from": proxies or LOCALHOST}, **kw.pop("listen", {}))
    return lab.proxy(servers, listen=listen, admin_http=True, log="json", **kw)


def dial(lab, to, first=b""):
    return lab.client(to).send(first)


def served(lab, lb, first=b""):
    """A connection on which a request was answered well; None otherwise: workers take a reload up in a while."""
    c = dial(lab, lb.to, first)
    try:
        return c if c.request().status == 200 else None
    except Closed:
        return None


def errors(lb, reason):
    return lb.metric("meercat_proxy_protocol_errors_total", reason=reason)


def closed(lab, lb, first, reason, n=1):
    dial(lab, lb.to, first).expect_close()
    wait_until(lambda: errors(lb, reason) == n, what=f"{reason} is counted")


# --- in: what is told --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("header, src, port", [
    (v1("192.0.2.7", 4711), "192.0.2.7", 4711),
    (v1("2001:db8::7", 4711, "2001:db8::1"), "2001:db8::7", 4711),
    (v2("192.0.2.7", 4711), "192.0.2.7", 4711),
    (v2("2001:db8::7", 4711, "2001:db8::1", crc=True), "2001:db8::7", 4711),
])
def test_the_client_is_who_the_header_says(lab, header, src, port):
    origin = lab.origin(ok("hello"))
    lb = before(lab, origin)
    c = dial(lab, lb.to, header)
    mine = c.sock.getsockname()
    assert c.request().body == b"hello" and c.request().body == b"hello", "it holds for the connection"
    for r in origin.requests:
        assert r.fields.get("x-forwarded-for") == src and r.fields.get("x-forwarded-port") == "443"
    for line in lb.log_json(2):
        assert (line["client"], line["client_port"]) == (src, port)
        assert line["proxy"] == f"127.0.0.1:{mine[1]}"
    version = "1" if header.startswith(b"PROXY") else "2"
    assert lb.metric("meercat_proxy_protocol_headers_total", version=version, local="false") == 1


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN whatever\r\n", v2(command=0x20), v2("192.0.2.7", 1, command=0x20),
    v2("192.0.2.7", 1, family=0x12), v2(),
])
def test_who_speaks_for_himself_is_the_client(lab, header):
    origin = lab.origin()
    lb = before(lab, origin)
    c = dial(lab, lb.to, header)
    assert c.request().status == 200
    assert origin.requests[0].fields.get("x-forwarded-for") == "127.0.0.1"
    line = lb.log_json(1)[0]
    assert line["client_port"] == c.sock.getsockname()[1] and "proxy" not in line


def test_a_unix_client(lab):
    origin = lab.origin()
    lb = before(lab, origin)
    assert dial(lab, lb.to, v2("unix:/run/x")).request().status == 200
    assert lb.log_json(1)[0]["client"] == "unix"


def test_a_unix_listener_takes_it_from_unix(lab):
    origin = lab.origin()
    conf = lab.conf(origin, listen={"proxy_protocol": "required", "proxy_protocol_from": ["unix"]}, log="json")
    path = f"{conf.dir}/web.sock"
    conf.listeners["web"]["bind"].append(f"unix:{path}")
    lb = lab.start(conf)
    assert dial(lab, path, v2("192.0.2.7", 4711)).request().status == 200
    line = lb.log_json(1)[0]
    assert (line["client"], line["proxy"]) == ("192.0.2.7", "unix")
    dial(lab, lb.to, v2("192.0.2.7", 4711)).expect_close()


def test_tlvs_are_logged_and_tell_of_tls(lab):
    origin = lab.origin()
    lb = before(lab, origin)
    tlvs = (tlv(proxyp.ALPN, b"http/1.1") + tlv(proxyp.AUTHORITY, b"shop.test") + tlv(proxyp.UNIQUE_ID, b"c-17") +
            tlv(proxyp.NOOP, b"xxx") + proxyp.tls_tlv() + tlv(0x30, b"netns") + tlv(0xE3, b"own"))
    assert dial(lab, lb.to, v2("192.0.2.7", 4711, tlvs=tlvs, crc=True)).request().status == 200
    r, line = origin.requests[0], lb.log_json(1)[0]
    assert r.fields.get("x-forwarded-proto") == "https"
    assert (line["sni"], line["proxy_id"]) == ("shop.test", "c-17")
    assert (line["tls_version"], line["tls_cipher"]) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert "client-cert" not in r.fields


def test_without_tls_it_is_http(lab):
    origin = lab.origin()
    lb = before(lab, origin)
    dial(lab, lb.to, v2("192.0.2.7", 4711, tlvs=tlv(proxyp.AUTHORITY, b"x.test"))).request()
    assert origin.requests[0].fields.get("x-forwarded-proto") == "http" and lb.log_json(1)[0]["sni"] == "x.test"


def test_trusted_is_about_the_address_told(lab):
    origin = lab.origin()
    lb = before(lab, origin, listen={"trusted": ["192.0.2.0/24"]})
    for src, want in (("192.0.2.7", "198.51.100.1, 192.0.2.7"), ("203.0.113.7", "203.0.113.7")):
        dial(lab, lb.to, v2(src, 1)).request(fields=[("X-Forwarded-For", "198.51.100.1")])
        assert origin.requests[-1].fields.get("x-forwarded-for") == want
    assert [x["client"] for x in lb.log_json(2)] == ["198.51.100.1", "203.0.113.7"]


def test_clients_are_hashed_by_the_address_told(lab):
    origins = [lab.origin(ok(str(i))) for i in range(4)]
    lb = before(lab, origins, pool={"balance": "hash"})
    seen = {}
    for i in range(32):
        seen.setdefault(f"192.0.2.{i}", dial(lab, lb.to, v2(f"192.0.2.{i}", 1)).request().body)
    assert len(set(seen.values())) > 1
    for src, body in seen.items():
        assert dial(lab, lb.to, v1(src, 2)).request().body == body


# --- in: how it comes --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("header", [
    v1("192.0.2.7", 4711), v2("192.0.2.7", 4711, tlvs=tlv(proxyp.NOOP, bytes(300)), crc=True)])
def test_any_cut_is_good(lab, header):
    origin = lab.origin()
    lb = before(lab, origin)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    c = lab.client(lb.to)
    assert c.send(header + request).read_response().status == 200, "with the request in one piece"
    c = lab.client(lb.to)
    assert c.send_bytewise(header + request).read_response().status == 200, "byte by byte"
    c = lab.client(lb.to)
    assert c.send(header + request * 3).read_response().status == 200, "pipelined"
    assert c.read_response().status == 200 and c.read_response().status == 200
    c = lab.client(lb.to)
    c.send(header + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
    assert c.send(b"x" * 50000).read_response().status == 200, "with a part of a body"
    assert len(origin.requests[-1].body) == 100000
    assert {x["client"] for x in lb.log_json(6)} == {"192.0.2.7"}


GARBAGE = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no_header"), (b"\x16\x03\x01\x02\x00", "no_header"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n", "line"), (b"PROXY TCP4 192.0.2.7\r\n", "line"),
    (b"PROXY " + b"x" * 101, "line"), (b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n", "line"),
    (v2("192.0.2.7", 1, command=0x22), "version"), (v2("192.0.2.7", 1, command=0x31), "version"),
    (v2(family=0x41), "family"), (v2("192.0.2.7", 1)[:14] + b"\x00\x04abcd", "address"),
    (v2("192.0.2.7", 1, tlvs=b"\x04\x00\x09xx"), "tlv"), (v2("192.0.2.7", 1, crc=True)[:-1] + b"\0", "checksum"),
    (v2("192.0.2.7", 1)[:14] + b"\xff\xff", "length"), (v2("192.0.2.7", 1)[:14] + b"\x0f\xf1", "length"),
]


def test_garbage_is_closed_and_counted(lab):
    lb = before(lab, lab.origin())
    seen = {}
    for first, reason in GARBAGE:
        seen[reason] = seen.get(reason, 0) + 1
        closed(lab, lb, first, reason, seen[reason])
    assert lb.wait_line("listener web: a connection from 127.0.0.1 was closed: the connection does not begin with a PROXY")
    assert lb.metric("meercat_process_requests_total") == 0


def test_the_longest_header_is_taken(lab):
    lb = before(lab, lab.origin())
    fill = 4096 - 16 - 12 - 3
    assert dial(lab, lb.to, v2("192.0.2.7", 1, tlvs=tlv(proxyp.NOOP, bytes(fill)))).request().status == 200
    closed(lab, lb, v2("192.0.2.7", 1, tlvs=tlv(proxyp.NOOP, bytes(fill + 1))), "length")


def test_a_header_must_come_in_time(lab):
    lb = before(lab, lab.origin(), listen={"head_timeout": "300ms"})
    for first in (b"", b"PROXY TCP4", v2("192.0.2.7", 1)[:-1]):
        dial(lab, lb.to, first).expect_close()
    assert errors(lb, "timeout") == 3


def test_who_goes_before_is_counted_but_not_logged(lab):
    lb = before(lab, lab.origin())
    dial(lab, lb.to).close()
    wait_until(lambda: errors(lb, "closed") == 1, what="the end is counted")
    assert "was closed:" not in lb.stderr
    dial(lab, lb.to, b"PROXY").close()
    wait_until(lambda: errors(lb, "closed") == 2, what="and so is the other")
    assert lb.wait_line("closed before the PROXY header was whole")


# --- in: from whom -----------------------------------------------------------------------------------------------

def test_strangers_are_refused(lab):
    lb = before(lab, lab.origin(), proxies=["127.0.0.9"])
    for first in (v1("192.0.2.7", 1), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        c = lab.client(lb.to)
        c.send_some(first)
        c.expect_close()
    wait_until(lambda: errors(lb, "untrusted") == 2, what="both are counted")
    c = lab.client(lb.to, source="127.0.0.9").send(v1("192.0.2.7", 1))
    assert c.request().status == 200


def test_strangers_may_come_as_they_are(lab):
    origin = lab.origin()
    lb = before(lab, origin, "mixed", proxies=["127.0.0.9"])
    assert lab.client(lb.to).request().status == 200
    assert origin.requests[-1].fields.get("x-forwarded-for") == "127.0.0.1"
    for header in (v1("192.0.2.7", 1), v2("192.0.2.7", 1)):  # but are never believed
        r = dial(lab, lb.to, header + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").read_response()
        assert r.status == 400
    c = lab.client(lb.to, source="127.0.0.9").send(v1("192.0.2.7", 1))
    assert c.request().status == 200
    assert origin.requests[-1].fields.get("x-forwarded-for") == "192.0.2.7"
    lab.client(lb.to, source="127.0.0.9").send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect_close()
    assert errors(lb, "no_header") == 1, "a proxy has to tell"


def test_a_reload_changes_who_is_believed(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, admin_http=True)
    plain = lab.client(lb.to)
    assert plain.request().status == 200
    lb.conf.listeners["web"].update(proxy_protocol="required", proxy_protocol_from=LOCALHOST)
    lb.reload(lb.conf)
    assert plain.request().status == 200, "a connection that began without goes on without"
    c = wait_until(lambda: served(lab, lb, v1("192.0.2.7", 1)), what="proxies are believed")
    lb.conf.listeners["web"].update(proxy_protocol="off", proxy_protocol_from=None)
    lb.reload(lb.conf)
    assert c.request().status == 200
    assert origin.requests[-1].fields.get("x-forwarded-for") == "192.0.2.7"
    wait_until(lambda: served(lab, lb), what="clients may come as they are")


# --- in: TLS behind the header -----------------------------------------------------------------------------------

class AfterHeader(TlsClient):
    """Sends the header with the ClientHello in one piece, or apart, and shakes hands."""

    def __init__(self, to, header, ctx, together):
        Client.__init__(self, to)
        if not together:
            self.send(header)
            self.sock = ctx.wrap_socket(self.sock, server_hostname="a.test", suppress_ragged_eofs=False)
            return
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ctx.wrap_bio(into, out, server_hostname="a.test")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        self.raw, self.tls, self.into, self.out = self.sock, tls, into, out
        self.raw.sendall(header + out.read())
        while True:
            into.write(self.raw.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        self.raw.sendall(out.read())

    def send(self, data):
        if not hasattr(self, "tls"):
            return super().send(data)
        self.tls.write(data if isinstance(data, bytes) else data.encode())
        self.raw.sendall(self.out.read())
        return self

    def _fill(self, what="", n=65536):
        if not hasattr(self, "tls"):
            return super()._fill(what, n)
        while True:
            try:
                self.buf += self.tls.read(n)
                return None
            except ssl.SSLWantReadError:
                self.into.write(self.raw.recv(65536))


@pytest.mark.parametrize("together", [False, True])
def test_tls_begins_behind_the_header(lab, pki, together):
    origin = lab.origin(ok("x" * 70000))
    lb = before(lab, origin, listen={"tls": {"certificate": [pki.a]}})
    for header in (v1("192.0.2.7", 4711), v2("192.0.2.7", 4711, tlvs=tlv(proxyp.AUTHORITY, b"told.test"))):
        c = AfterHeader(lb.to, header, context(pki), together)
        lab.clients.append(c)
        assert len(c.request().body) == 70000 and len(c.request().body) == 70000
    assert origin.requests[-1].fields.get("x-forwarded-proto") == "https"
    for line in lb.log_json(4):
        assert (line["client"], line["sni"], line["tls_version"]) == ("192.0.2.7", "a.test", "TLSv1.3")
    closed(lab, lb, b"\x16\x03\x01\x02\x00\x01", "no_header")


def test_a_handshake_without_end_behind_the_header(lab, pki):
    lb = before(lab, lab.origin(), listen={"tls": {"certificate": [pki.a]}, "head_timeout": "300ms"})
    dial(lab, lb.to, v1("192.0.2.7", 1) + b"\x16\x03\x01\x02\x00").expect_close()
    assert lb.metric("meercat_tls_handshake_failures_total", reason="unfinished") == 1


def test_the_proxys_own_certificate_is_not_the_clients(lab, pki):
    """A proxy that ends TLS and speaks TLS to us: what it told of the client counts."""
    origin = lab.origin()
    lb = before(lab, origin, listen={"tls": {"certificate": [pki.a], "client_verify": "optional",
                                             "client_ca": [pki.pem]}})
    for tlvs, told_of in ((proxyp.tls_tlv(b"TLSv1.2", b"TOLD"), True), (b"", False)):
        c = AfterHeader(lb.to, v2("192.0.2.7", 1, tlvs=tlvs), context(pki, cert=pki.alice), False)
        lab.clients.append(c)
        assert c.request().status == 200
        assert ("client-cert" in origin.requests[-1].fields) == (not told_of)
    assert [x["tls_version"] for x in lb.log_json(2)] == ["TLSv1.2", "TLSv1.3"]


# --- out ---------------------------------------------------------------------------------------------------------

def behind(lab, version="v2", reply="hello", pool=None, n=1, bind="127.0.0.1", **kw):
    """A balancer whose servers are told of its clients, and what they were told."""
    heads = []
    origins = [lab.origin(script=told(heads, ok(reply)), bind=bind) for _ in range(n)]
    lb = lab.proxy(origins, pool=dict({"send_proxy": version}, **(pool or {})), admin_http=True, log="json", **kw)
    return lb, heads, origins


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_servers_are_told_who_asks(lab, version):
    lb, heads, origins = behind(lab, version)
    c = lab.client(lb.to)
    assert c.request().body == b"hello"
    assert heads[0].version == int(version[1]) and not heads[0].local and not heads[0].tlvs
    assert heads[0].src == c.sock.getsockname() and heads[0].dst == ("127.0.0.1", lb.port)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_connection_belongs_to_one_client(lab, version):
    lb, heads, origins = behind(lab, version)
    clients = [lab.client(lb.to) for _ in range(3)]
    for _ in range(2):
        for c in clients:
            assert c.request().body == b"hello"
    assert sorted({h.src for h in heads}) == sorted(c.sock.getsockname() for c in clients)
    assert all(len({r.conn for r in o.requests}) == len(o.requests) == len(heads) for o in origins)
    assert lb.metric("meercat_server_reuses_total", server="s1") == 0


def test_ipv6_and_mixed_families(lab):
    lb, heads, _ = behind(lab, bind="::1", listen={"trusted": ["127.0.0.0/8"]})
    assert lab.client(lb.to).request(fields=[("X-Forwarded-For", "2001:db8::7")]).status == 200
    assert heads[0].src == ("2001:db8::7", 0) and heads[0].dst == ("::ffff:7f00:1", lb.port)
    assert lab.client(lb.to).request(fields=[("X-Forwarded-For", "192.0.2.7")]).status == 200
    assert heads[1].src == ("192.0.2.7", 0) and heads[1].dst == ("127.0.0.1", lb.port)


def test_a_client_on_a_unix_socket_is_told(lab):
    heads = []
    conf = lab.conf({"one": {"address": lab.origin(script=told(heads, ok())), "send_proxy": "v1"},
                     "two": {"address": lab.origin(script=told(heads, ok())), "send_proxy": "v2"}})
    path = f"{conf.dir}/web.sock"
    conf.listeners["web"]["bind"].append(f"unix:{path}")
    lab.start(conf)
    for _ in range(2):
        assert lab.client(path).request().status == 200
    one, two = sorted(heads, key=lambda h: h.version)
    assert one.local and two.dst == path and two.src == ""


def test_servers_may_differ(lab):
    heads, plain = [], lab.origin(ok("plain"))
    lb = lab.proxy({"a": {"address": plain, "send_proxy": "off"},
                    "b": {"address": lab.origin(script=told(heads, ok("told"))), "send_proxy": "v1"},
                    "c": {"address": lab.origin(script=told(heads, ok("told")))}},
                   pool={"send_proxy": "v2"})
    got = [lab.client(lb.to).request().body for _ in range(6)]
    assert got.count(b"plain") == 2 and sorted(h.version for h in heads) == [1, 1, 2, 2]
    assert plain.n_connections == 1, "who gets none keeps his connections"


def test_tlvs_are_sent(lab, pki):
    lb, heads, origins = behind(
        lab, pool={"send_proxy_tlvs": ["authority", "alpn", "ssl", "unique-id", "crc32c"]},
        listen={"tls": {"certificate": [pki.a], "client_verify": "optional", "client_ca": [pki.pem]}})
    for cert in (None, pki.alice):
        c = TlsClient(lb.to, context(pki, alpn=["http/1.1"], cert=cert))
        lab.clients.append(c)
        assert c.request(fields=[]).body == b"hello"
        t = heads[-1].tlvs
        assert t[proxyp.AUTHORITY] == b"a.test" and t[proxyp.ALPN] == b"http/1.1"
        assert t[proxyp.UNIQUE_ID].decode() == origins[0].requests[-1].fields.get("x-request-id")
        flags, verify = t[proxyp.SSL][0], t[proxyp.SSL][1:5]
        assert (flags, verify == bytes(4)) == ((1, False) if cert is None else (7, True))
        sub = proxyp.read_tlvs(t[proxyp.SSL][5:])
        assert sub[proxyp.SSL_VERSION] == b"TLSv1.3" and sub[proxyp.SSL_CIPHER].startswith(b"TLS_")
        assert proxyp.CRC32C in t


def test_what_was_told_goes_on(lab):
    heads = []
    lb = before(lab, lab.origin(script=told(heads, ok())),
                pool={"send_proxy": "v2", "send_proxy_tlvs": ["authority", "alpn", "ssl", "unique-id"]})
    tlvs = (tlv(proxyp.ALPN, b"h2") + tlv(proxyp.AUTHORITY, b"x.test") + tlv(proxyp.UNIQUE_ID, b"\x00\xff17") +
            proxyp.tls_tlv(client=7))
    assert dial(lab, lb.to, v2("2001:db8::7", 4711, "2001:db8::1", 8443, tlvs=tlvs)).request().status == 200
    h = heads[0]
    assert (h.src, h.dst) == (("2001:db8::7", 4711), ("2001:db8::1", 8443))
    assert h.tlvs[proxyp.AUTHORITY] == b"x.test" and h.tlvs[proxyp.ALPN] == b"h2"
    assert h.tlvs[proxyp.UNIQUE_ID] == b"\x00\xff17" and tlv(proxyp.SSL, h.tlvs[proxyp.SSL]) == proxyp.tls_tlv(client=7)
    assert dial(lab, lb.to, v2(command=0x20)).request().status == 200
    assert heads[1].src[0] == "127.0.0.1" and proxyp.SSL not in heads[1].tlvs


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_retry_tells_again(lab, version):
    dead = lab.origin().refuse()
    heads = []
    lb = lab.proxy([dead, lab.origin(script=told(heads, ok("alive")))], pool={"send_proxy": version})
    clients = [lab.client(lb.to) for _ in range(4)]
    assert all(c.request().body == b"alive" for c in clients)
    assert [h.src for h in heads] == [c.sock.getsockname() for c in clients]


def test_large_bodies_both_ways(lab):
    big = bytes(range(256)) * 8192
    lb, heads, origins = behind(lab, reply=big)
    c = lab.client(lb.to)
    c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
    assert c.read_response().body == big and origins[0].requests[0].body == big


@pytest.mark.parametrize("version, kind", [("v1", "http"), ("v2", "http"), ("v1", "tcp"), ("v2", "tcp")])
def test_checks_speak_for_themselves(lab, version, kind):
    lb, heads, origins = behind(lab, version, pool={"check": {"type": kind, "interval": "50ms", "rise": 1, "fall": 1}})
    wait_until(lambda: len(heads) >= 3, what="checks with headers")
    assert all(h.local and h.version == int(version[1]) for h in heads)
    lb.wait_state("s1", "up")
    assert lab.client(lb.to).request().status == 200


def test_checks_of_another_port_have_no_header(lab):
    health = lab.origin(ok("well"))
    lb, heads, origins = behind(lab, pool={"check": {"interval": "50ms", "port": health.port}})
    health.wait_requests(2)
    assert not heads and lab.client(lb.to).request().status == 200 and len(heads) == 1


def test_a_reload_begins_to_tell(lab):
    heads, mode = [], []

    def script(conn):
        if mode:
            told(heads, ok("told"))(conn)
            return
        while conn.read_request() is not None:
            conn.send(ok("plain"))
    lb = lab.proxy(lab.origin(script=script))
    assert lab.client(lb.to).request().body == b"plain"
    mode.append(1)
    lb.conf.pools["app"][0]["send_proxy"] = "v2"
    lb.reload(lb.conf)

    def asked():
        c = lab.client(lb.to)
        return c if c.request().body == b"told" else None
    c = wait_until(asked, what="a kept connection without header is not used any more")
    assert heads[0].src == c.sock.getsockname()


# --- connections that are passed through -------------------------------------------------------------------------

def passing(lab, servers, listen=None, pool=None, routes=None):
    conf = lab.conf(servers, listen=dict({"protocol": "tcp"}, **(listen or {})), pool=pool, routes=False, log="json",
                    admin_http=True)
    for name, keys in (routes or {"all": {"pool": "app"}}).items():
        conf.route(name, **dict({"listen": "web"}, **keys))
    return lab.start(conf)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tcp_from_proxy_to_server(lab, version):
    heads = []
    lb = passing(lab, lab.origin(script=told(heads, ok("hello"))),
                 {"proxy_protocol": "required", "proxy_protocol_from": LOCALHOST},
                 {"send_proxy": version, "send_proxy_tlvs": ["unique-id", "crc32c"] if version == "v2" else None})
    header = v2("2001:db8::7", 4711, "2001:db8::1", 8443, tlvs=tlv(proxyp.UNIQUE_ID, b"c-17"))
    c = dial(lab, lb.to, header + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert c.read_response().body == b"hello"
    c.send_bytewise(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert c.read_response().body == b"hello"
    c.close()
    assert len(heads) == 1 and (heads[0].src, heads[0].dst) == (("2001:db8::7", 4711), ("2001:db8::1", 8443))
    assert heads[0].tlvs.get(proxyp.UNIQUE_ID) == (b"c-17" if version == "v2" else None)
    line = lb.log_json(1)[0]
    assert (line["client"], line["client_port"], line["proxy_id"]) == ("2001:db8::7", 4711, "c-17")
    closed(lab, lb, b"GET / HTTP/1.1\r\n\r\n", "no_header")


def test_tcp_a_server_that_speaks_first_is_told_first(lab):
    heads = []

    def script(conn):
        heads.append(proxyp.Header(conn))
        conn.send(b"220 ready\r\n")
        conn.wait_eof()
    lb = passing(lab, lab.origin(script=script), pool={"send_proxy": "v1"})
    c = lab.client(lb.to)
    assert c.read_until(b"\r\n") == b"220 ready\r\n" and heads[0].src == c.sock.getsockname()


def test_tcp_goes_by_the_name_told_or_asked_for(lab, pki):
    one, two = lab.origin(ok("one")), lab.origin(ok("two"))
    conf = lab.conf(one, listen={"protocol": "tcp", "proxy_protocol": "required", "proxy_protocol_from": LOCALHOST},
                    routes=False)
    conf.pool("other", {"s": two.address})
    conf.route("named", "other", listen="web", sni="told.test")
    conf.route("all", "app", listen="web")
    lb = lab.start(conf)
    for name, body in ((b"told.test", b"two"), (b"else.test", b"one")):
        c = dial(lab, lb.to, v2("192.0.2.7", 1, tlvs=tlv(proxyp.AUTHORITY, name)))
        assert c.request().body == body


# --- real neighbours ---------------------------------------------------------------------------------------------

def curl(*args):
    r = subprocess.run(["curl", "-sS", "-m", str(int(20 * SLOW)), *args], capture_output=True)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout


def test_curl_tells(lab, pki):
    origin = lab.origin()
    lb = before(lab, origin)
    curl("--haproxy-protocol", f"http://127.0.0.1:{lb.port}/")
    line = lb.log_json(1)[0]
    assert line["client"] == "127.0.0.1" and line["proxy"] == f"127.0.0.1:{line['client_port']}"
    lb = before(lab, origin, listen={"tls": {"certificate": [pki.a]}})
    curl("--haproxy-protocol", "--cacert", pki.pem, "--resolve", f"a.test:{lb.port}:127.0.0.1", f"https://a.test:{lb.port}/")
    assert lb.metric("meercat_proxy_protocol_headers_total", version="1", local="false") == 1
    assert lb.log_json(1)[0]["sni"] == "a.test"


def test_http2_behind_the_header(lab, pki):
    """By prior knowledge, and by TLS."""
    origin = lab.origin(ok("hello"))
    lb = before(lab, origin)
    assert curl("--haproxy-protocol", "--http2-prior-knowledge", f"http://127.0.0.1:{lb.port}/") == b"hello"
    secure = before(lab, origin, listen={"tls": {"certificate": [pki.a]}})

    def three(to):
        return curl("--haproxy-protocol", "--http2", "--cacert", pki.pem, "--resolve", f"{to}:127.0.0.1",
                    *[f"https://{to}/{i}" for i in range(3)])
    assert three(f"a.test:{secure.port}") == b"hello" * 3
    for line in lb.log_json(1) + secure.log_json(3):
        assert line["version"].startswith("2") and line["proxy"] == f"127.0.0.1:{line['client_port']}"
    heads = []
    both = before(lab, lab.origin(script=told(heads, ok("told"))), pool={"send_proxy": "v2"},
                  listen={"tls": {"certificate": [pki.a]}})
    assert three(f"a.test:{both.port}") == b"told" * 3
    assert len(heads) == 3 and len({h.src for h in heads}) == 1, "each request by itself, of one client"


@pytest.mark.parametrize("how, version", [
    ("send-proxy", "1"), ("send-proxy-v2", "2"),
    ("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn,ssl-cipher", "2"),
    ("send-proxy-v2-ssl", "2"), ("send-proxy-v2-ssl-cn", "2")])
def test_haproxy_before(lab, pki, how, version):
    origin = lab.origin(ok("hello"))
    lb = before(lab, origin)
    secure = "ssl" in how
    # checks that wait for an answer: the others reset the connection behind the header, which may undo that
    front = lab.haproxy("front", backend=f"127.0.0.1:{lb.port} {how} check inter 100ms",
                        bind=f"ssl crt {pki.a}" if secure else "", extra="option httpchk GET /check")
    url = f"a.test:{front.port}"
    args = ["--resolve", f"{url}:127.0.0.1", "--cacert", pki.pem, "-H", "X-Forwarded-For: 198.51.100.1"]
    assert curl(*args, f"{'https' if secure else 'http'}://{url}/") == b"hello"
    line = wait_until(lambda: next((x for x in lb.log_json() if x["target"] == "/"), None), 5, "it is in the log")
    r = next(r for r in origin.requests if r.target == "/")
    assert line["client"] == "127.0.0.1" and line["proxy"].startswith("127.0.0.1:")
    assert r.fields.get("x-forwarded-for") == "127.0.0.1", "it is not trusted"
    assert r.fields.get("x-forwarded-port") == str(front.port), "the port that the client asked"
    assert r.fields.get("x-forwarded-proto") == ("https" if secure else "http")
    if secure:
        assert line["tls_version"] == "TLSv1.3"
    assert lb.metric("meercat_proxy_protocol_headers_total", version=version, local="false") >= 1
    if "authority" in how:
        assert line["sni"] == "a.test" and line["tls_cipher"].startswith("TLS_")
    # its checks are about themselves, but in version 1 they tell addresses, too
    wait_until(lambda: sum(lb.metric("meercat_proxy_protocol_headers_total", version=version, local=x)
                           for x in ("true", "false")) > 2, what="its checks")


def test_haproxy_before_with_tls_to_us(lab, pki):
    origin = lab.origin(ok("hello"))
    lb = before(lab, origin, listen={"tls": {"certificate": [pki.a]}})
    front = lab.haproxy("front", backend=f"127.0.0.1:{lb.port} send-proxy-v2 ssl verify none sni str(a.test)")
    assert curl(f"http://127.0.0.1:{front.port}/") == b"hello"
    assert lb.log_json(1)[0]["sni"] == "a.test"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_behind(lab, version):
    server = lab.haproxy("h", bind="accept-proxy",
                         text="%[src] %[src_port] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]")
    lb = before(lab, server, pool={
        "send_proxy": version, "check": {"interval": "50ms", "rise": 1, "fall": 1},
        "send_proxy_tlvs": ["authority", "unique-id", "crc32c", "ssl", "alpn"] if version == "v2" else None})
    lb.wait_state("s1", "up")
    tlvs = tlv(proxyp.AUTHORITY, b"x.test") + tlv(proxyp.UNIQUE_ID, b"c-17") + proxyp.tls_tlv()
    for src in ("192.0.2.7", "2001:db8::7"):
        dst = "2001:db8::1" if ":" in src else "192.0.2.1"
        body = dial(lab, lb.to, v2(src, 4711, dst, 8443, tlvs=tlvs)).request().body.decode()
        more = "x.test c-17" if version == "v2" else "- -"
        words = body.split()
        assert words[:4] == ["h", src, "4711", "8443"]
        if version == "v2":
            assert words[4:] == more.split(), body


@pytest.mark.parametrize("version, kind", [("v1", "http"), ("v2", "http"), ("v2", "tcp")])
def test_haproxy_behind_with_tls(lab, pki, version, kind):
    """The header goes before the handshake, for requests and checks alike."""
    server = lab.haproxy("h", bind=f"accept-proxy ssl crt {pki.a}", text="%[src] %[src_port]")
    lb = before(lab, {"s1": {"address": server.address, "tls_name": "a.test"}}, pool={
        "send_proxy": version, "tls": {"ca": [pki.pem]},
        "check": {"type": kind, "interval": "50ms", "rise": 1, "fall": 1}})
    lb.wait_state("s1", "up")
    for _ in range(3):
        assert dial(lab, lb.to, v2("192.0.2.7", 4711)).request().body == b"h 192.0.2.7 4711\n"
    assert lb.state("s1") == "up"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_behind(lab, version):
    server = lab.nginx("n", listen="proxy_protocol", location="""
        location = /who { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port\\n"; }""")
    lb = before(lab, server, pool={
        "send_proxy": version, "check": {"interval": "50ms", "path": "/healthz", "rise": 1, "fall": 1},
        "send_proxy_tlvs": ["authority", "unique-id", "crc32c"] if version == "v2" else None})
    lb.wait_state("s1", "up")
    for src, dst in (("192.0.2.7", "192.0.2.1"), ("2001:db8::7", "2001:db8::1")):
        body = dial(lab, lb.to, v2(src, 4711, dst, 8443)).request("/who").body.decode()
        assert body == f"{src} 4711 8443\n"


def test_two_balancers_in_a_row(lab, pki):
    """The client's address, and that he speaks TLS, arrive through both."""
    origin = lab.origin(ok("hello"))
    inner = before(lab, origin)
    outer = lab.proxy(f"127.0.0.1:{inner.port}", listen={"tls": {"certificate": [pki.a]}},
                      pool={"send_proxy": "v2", "send_proxy_tlvs": ["ssl", "authority", "unique-id", "crc32c"]})
    c = TlsClient(outer.to, context(pki))
    lab.clients.append(c)
    assert c.request().body == b"hello" and c.request().body == b"hello"
    for line in inner.log_json(2):
        assert line["client_port"] == c.sock.getsockname()[1] and line["tls_version"] == "TLSv1.3"
        assert line["sni"] == "a.test" and len(line["proxy_id"]) == 32
    assert origin.requests[0].fields.get("x-forwarded-proto") == "https"
