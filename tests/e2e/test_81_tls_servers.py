# SPDX-License-Identifier: BSD-2-Clause
"""TLS towards servers and agents: whom Meercat believes, what it shows, sessions, checks, reload, ends."""

import signal
import ssl
import threading

import pytest

from instruments.client import Closed
from instruments.meercat import BINARY, REPORTS, command, san_env
from instruments.origin import ok
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.process import Process
from instruments.proc import listening_ports
from instruments.tls import TlsOrigin, server_context
from instruments.wait import wait_until

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LONG_AGO = ("20200101000000Z", "20200102000000Z")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.app = ca.issue("app.test", "127.0.0.1", "localhost")
    ca.named = ca.issue("app.test")
    ca.old = ca.issue("app.test", dates=LONG_AGO)
    ca.lb = ca.issue("balancer", client=True)
    return ca


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """An authority that nobody believes."""
    ca = Authority(str(tmp_path_factory.mktemp("strangers")), name="Strangers")
    ca.app = ca.issue("app.test", "127.0.0.1")
    ca.lb = ca.issue("balancer", client=True)
    return ca


def origin(lab, cert, *a, reply=None, script=None, **kw):
    return lab.add(TlsOrigin(server_context(cert, **kw), reply, script=script))


def before(lab, servers, ca=None, tls=None, pool=None, **kw):
    """A balancer that dials these servers by TLS and takes one attempt."""
    section = dict({"ca": [ca.pem]} if ca else {}, **(tls or {}))
    keys = dict({"tls": section, "retries": 0, "eject_after": 0}, **(pool or {}))
    return lab.proxy(servers, pool=keys, admin_http=True, **kw)


def failed(lb, **labels):
    return lb.metric("meercat_upstream_tls_handshake_failures_total", **labels)


def handshakes(lb, **labels):
    return lb.metric("meercat_upstream_tls_handshakes_total", **labels)


def assert_refused(lb, error, words, status=502):
    r = lb.client().request("/")
    assert r.status == status, r
    said = r.fields.get("proxy-status")
    assert f"error={error};" in said and words in said, said
    return r


# --- whom Meercat believes -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_a_good_server(lab, pki, version):
    o = origin(lab, pki.app, versions=(version, version), reply=ok("hello"))
    lb = before(lab, o, pki, log="json")
    c = lb.client()
    assert c.request("/").body == b"hello" and c.request("/").body == b"hello"
    assert o.n_connections == 1 and o.names == [None]  # an address is no name to send
    name = "1.2" if version == V12 else "1.3"
    assert handshakes(lb, version=name, resumed="false") == 1
    lines = lb.log_json(2)
    assert [(x["server_tls_version"], x["server_tls_resumed"]) for x in lines] == [("TLSv" + name, False)] * 2


def test_the_host_in_the_address_is_the_name(lab, pki):
    o = origin(lab, pki.app)
    lb = before(lab, {"a": f"localhost:{o.port}"}, pki)
    wait_until(lambda: lb.client().request("/").status == 200, what="the name is resolved")
    assert set(o.names) == {"localhost"}


def test_a_name_of_its_own(lab, pki):
    o = origin(lab, pki.named)
    lb = before(lab, o, pki, {"name": "app.test"})
    assert lb.client().request("/").status == 200 and o.names == ["app.test"]
    other = origin(lab, pki.named)
    lb = before(lab, {"a": {"address": other, "tls_name": "app.test"}}, pki, {"name": "else.test"})
    assert lb.client().request("/").status == 200 and other.names == ["app.test"]


def test_a_unix_socket_has_no_name(lab, pki):
    o = lab.add(TlsOrigin(server_context(pki.named), bind=f"unix:{lab.dir('u')}/s"))
    lb = before(lab, {"a": {"address": o, "tls_name": "app.test"}}, pki)
    assert lb.client().request("/").status == 200 and o.names == ["app.test"]


BAD = [
    ("wrong name", "app", {"name": "other.test"}, "hostname mismatch"),
    ("wrong address", "named", {}, "IP address mismatch"),
    ("expired", "old", {"name": "app.test"}, "has expired"),
]


@pytest.mark.parametrize("cert,tls,words", [x[1:] for x in BAD], ids=[x[0] for x in BAD])
def test_a_bad_certificate(lab, pki, cert, tls, words):
    o = origin(lab, getattr(pki, cert))
    lb = before(lab, o, pki, tls)
    assert_refused(lb, "tls_certificate_error", words)
    assert failed(lb, reason="server_certificate") == 1 and not o.requests


def test_an_unknown_authority(lab, pki, strangers):
    o = origin(lab, strangers.app)
    lb = before(lab, o, pki)
    assert_refused(lb, "tls_certificate_error", "certificate")
    wait_until(lambda: o.refused and "unknown ca" in o.refused[0], what="the server was told")


def test_the_authorities_of_the_system(lab, pki):
    """Ours is not among them, unless SSL_CERT_FILE says so."""
    o = origin(lab, pki.app)
    assert_refused(before(lab, o), "tls_certificate_error", "certificate")
    lb = before(lab, o, start={"env": {"SSL_CERT_FILE": pki.pem}})
    assert lb.client().request("/").status == 200


def test_a_directory_of_authorities(lab, pki, strangers):
    d = lab.dir("ca")
    for n, ca in enumerate((strangers, pki)):
        with open(ca.pem) as f, open(f"{d}/{n}.crt", "w") as out:
            out.write(f.read())
    lb = before(lab, origin(lab, pki.app), tls={"ca": [d]})
    assert lb.client().request("/").status == 200


def test_who_believes_everybody(lab, strangers):
    o = origin(lab, strangers.app)
    lb = before(lab, o, tls={"verify": "no"})
    assert lb.client().request("/").status == 200
    assert "verify: whoever answers is taken for the server" in lb.stderr


def test_a_revoked_certificate(lab, tmp_path):
    ca = Authority(str(tmp_path))
    bad, good = ca.issue("127.0.0.1"), ca.issue("127.0.0.1", kind="rsa")
    ca.revoke(bad)
    crl = ca.crl()
    assert_refused(before(lab, origin(lab, bad), ca, {"crl": crl}), "tls_certificate_error", "revoked")
    assert before(lab, origin(lab, good), ca, {"crl": crl}).client().request("/").status == 200


# --- what goes wrong otherwise ---------------------------------------------------------------------------------------

def test_a_server_that_speaks_plain_text(lab, pki):
    def script(conn):
        conn.recv()
        conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    lb = before(lab, lab.origin(script=script), pki)
    assert_refused(lb, "tls_protocol_error", "not TLS")
    assert failed(lb, reason="not_tls") == 1


def test_a_server_that_hangs_up(lab, pki):
    lb = before(lab, lab.origin(script=lambda conn: conn.recv()), pki)
    assert_refused(lb, "tls_protocol_error", "closed the connection in the handshake")


def test_a_server_that_is_slow(lab, pki):
    lb = before(lab, lab.origin(script=lambda conn: conn.wait_eof(30)), pki, pool={"connect_timeout": "200ms"})
    assert_refused(lb, "connection_timeout", "TLS handshake", status=504)


def test_a_server_that_refuses(lab, pki):
    o = origin(lab, pki.app, versions=(V12, V12))
    lb = before(lab, o, pki, {"min_version": "1.3"})
    assert_refused(lb, "tls_alert_received", "protocol version")
    assert failed(lb, reason="alert") == 1


def test_ciphers(lab, pki):
    o = origin(lab, pki.app, versions=(V12, V12))
    lb = before(lab, o, pki, {"ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"})
    assert lb.client().request("/").status == 200
    assert o.connections[0].sock.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"


def test_a_bad_server_is_passed_over_and_set_aside(lab, pki, strangers):
    bad, good = origin(lab, strangers.app), origin(lab, pki.app)
    lb = before(lab, [bad, good], pki, pool={"retries": 1, "eject_after": 2})
    c = lb.client()
    for _ in range(8):
        assert c.request("/").status == 200
    lb.wait_state("s1", "ejected")


# --- what Meercat shows ----------------------------------------------------------------------------------------------

def test_a_client_certificate(lab, pki, strangers):
    o = origin(lab, pki.app, client_ca=pki)
    assert before(lab, o, pki, {"certificate": pki.lb}).client().request("/").status == 200
    assert dict(x[0] for x in o.connections[0].sock.getpeercert()["subject"])["commonName"] == "balancer"
    assert_refused(before(lab, o, pki, {"certificate": strangers.lb}), "tls_alert_received", "alert")


def test_no_client_certificate_where_one_is_asked_for(lab, pki):
    """With TLS 1.3 the server's refusal comes when the request is on its way."""
    for version, words in ((V12, "handshake failure"), (V13, "alert")):
        o = origin(lab, pki.app, client_ca=pki, versions=(version, version))
        r = before(lab, o, pki).client().request("/")
        assert r.status == 502, r
        assert "error=tls_alert_received" in r.fields.get("proxy-status") or "error=connection_terminated" in \
            r.fields.get("proxy-status") or "error=tls_protocol" in r.fields.get("proxy-status"), r
        assert not o.requests


def test_the_protocol_is_offered(lab, pki):
    o = origin(lab, pki.app, alpn=["h2", "http/1.1"])
    assert before(lab, o, pki).client().request("/").status == 200
    assert o.alpn == ["http/1.1"]


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------

def test_http2_is_agreed_on(lab, pki):
    n = nginx(lab, pki.app, "ssl_protocols TLSv1.3;", listen="ssl http2")
    for protocol in ("h2", "auto"):
        lb = before(lab, n, pki, pool={"protocol": protocol}, log="json")
        c = lb.client()
        for _ in range(5):
            assert c.request("/name").body == b"nginx\n"
        assert handshakes(lb, resumed="false") == 1
        assert lb.log_json(5)[-1]["server_tls_version"] == "TLSv1.3"
    o = origin(lab, pki.app, alpn=["http/1.1"])
    lb = before(lab, o, pki, pool={"protocol": "auto"})
    assert lb.client().request("/").status == 200 and set(o.alpn) == {"http/1.1"}
    assert before(lab, o, pki, pool={"protocol": "h2"}).client().request("/").status == 502


def test_a_bad_certificate_with_http2(lab, pki, strangers):
    n = nginx(lab, strangers.app, listen="ssl http2")
    for protocol in ("h2", "auto"):
        lb = before(lab, n, pki, pool={"protocol": protocol})
        assert_refused(lb, "tls_certificate_error", "certificate")


def test_a_slow_handshake_with_http2(lab, pki):
    silent = lab.origin(script=lambda conn: conn.wait_eof(30))
    lb = before(lab, silent, pki, pool={"connect_timeout": "200ms", "protocol": "h2"})
    assert lb.client().request("/").status == 504


def test_a_reload_with_http2(lab, pki, strangers):
    n = nginx(lab, pki.app, "ssl_protocols TLSv1.3;", listen="ssl http2")
    lb = before(lab, n, pki, pool={"protocol": "h2"})
    c = lb.client()
    assert c.request("/name").status == 200
    lb.conf.pools["app"][0]["tls"] = {"ca": [strangers.pem]}
    lb.reload(lb.conf)
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="it is in force")
    r = c.request("/name")
    assert r.status == 502 and "tls_certificate_error" in r.fields.get("proxy-status"), r


# --- sessions --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_sessions_are_resumed(lab, pki, version):
    o = origin(lab, pki.app, versions=(version, version))
    lb = before(lab, o, pki, pool={"requests_per_connection": 1}, log="json")
    c = lb.client()
    for _ in range(6):
        assert c.request("/").status == 200
    assert o.n_connections == 6 and o.resumed == [False] + [True] * 5
    name = "1.2" if version == V12 else "1.3"
    assert handshakes(lb, version=name, resumed="true") == 5
    assert [x["server_tls_resumed"] for x in lb.log_json(6)] == o.resumed


def test_sessions_are_of_one_server(lab, pki):
    a, b = origin(lab, pki.app), origin(lab, pki.app)
    lb = before(lab, [a, b], pki, pool={"requests_per_connection": 1})
    c = lb.client()
    for _ in range(8):
        assert c.request("/").status == 200
    assert a.resumed == [False, True, True, True] and b.resumed == a.resumed


# --- ends ------------------------------------------------------------------------------------------------------------

def test_a_body_that_ends_with_the_connection(lab, pki):
    """Whole with close_notify; without it nobody knows."""
    cut = []

    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        if not cut:
            conn.sock.unwrap()
    o = origin(lab, pki.app, script=script)
    lb = before(lab, o, pki, log="json")
    assert lb.client().request("/").body == b"all of it"
    cut.append(1)
    c = lb.client()
    c.get("/")
    with pytest.raises(Closed):
        c.read_response()
    assert [x["end"] for x in lb.log_json(2)] == ["ok", "response-incomplete"]
    assert lb.metric("meercat_upstream_tls_truncated_total") == 1


def test_a_kept_connection_that_breaks_costs_nothing(lab, pki):
    def script(conn):
        conn.read_request()
        conn.send(ok("one"))
    o = origin(lab, pki.app, script=script)
    lb = before(lab, o, pki)
    c = lb.client()
    for _ in range(5):
        assert c.request("/").body == b"one"
    assert o.n_connections == 5


def test_bodies_in_both_directions(lab, pki):
    up = b"u" * 300_000
    down = b"d" * 2_000_000
    o = origin(lab, pki.app, reply=lambda conn, r: ok(down) if r.body == up else ok("?"))
    lb = before(lab, o, pki)
    c = lb.client()
    for _ in range(3):
        c.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(up) + up)
        r = c.read_response()
        assert r.status == 200 and r.body == down
    assert o.n_connections == 1


# --- reload ----------------------------------------------------------------------------------------------------------

def test_a_reload_takes_other_settings_for_new_connections(lab, pki, strangers):
    o = origin(lab, pki.app, reply=ok("ok"))
    lb = before(lab, o, pki)
    c = lb.client()
    assert c.request("/").status == 200
    lb.reload()  # the same again: the connection is as good as before
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="it is in force")
    assert c.request("/").status == 200 and o.n_connections == 1
    lb.conf.pools["app"][0]["tls"] = {"ca": [strangers.pem]}
    lb.reload(lb.conf)
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 3, what="it is in force")
    r = c.request("/")
    assert r.status == 502 and "tls_certificate_error" in r.fields.get("proxy-status")
    lb.conf.pools["app"][0]["tls"] = {"ca": [pki.pem]}
    lb.reload(lb.conf)
    wait_until(lambda: c.request("/").status == 200, what="it is believed again")


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_a_reload_expects_another_name(lab, pki, protocol):
    """A kept connection was judged by the former one."""
    o = nginx(lab, pki.named, "ssl_protocols TLSv1.3;", listen="ssl http2" if protocol == "h2" else "ssl")
    lb = before(lab, {"a": {"address": o, "tls_name": "app.test"}}, pki, pool={"protocol": protocol})
    c = lb.client()
    assert c.request("/name").status == 200
    lb.conf.pools["app"][1]["a"]["tls_name"] = "else.test"
    lb.reload(lb.conf)
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="it is in force")
    r = c.request("/name")
    assert r.status == 502 and "hostname mismatch" in r.fields.get("proxy-status"), r


class SlowOrigin(TlsOrigin):
    """Shakes hands when .go is set."""

    def __init__(self, *a, **kw):
        self.go = threading.Event()
        super().__init__(*a, **kw)

    def _serve(self, conn):
        self.go.wait(30)
        super()._serve(conn)


def test_a_reload_while_a_connection_for_all_is_made(lab, pki, strangers):
    """Who is not judged by its rules does not get it."""
    o = lab.add(SlowOrigin(server_context(pki.app)))
    lb = before(lab, o, tls={"verify": "no"}, pool={"protocol": "auto"})
    first, second = lb.client(), lb.client()
    first.get("/")
    wait_until(lambda: o.n_connections == 1, what="it is dialled")
    lb.conf.pools["app"][0]["tls"] = {"ca": [strangers.pem]}
    lb.reload(lb.conf)
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="it is in force")
    second.get("/")
    wait_until(lambda: lb.metric("meercat_process_active_requests") == 2, what="both wait")
    first.close()
    wait_until(lambda: lb.metric("meercat_process_active_requests") == 1, what="the first has gone")
    o.go.set()
    r = second.read_response()
    assert r.status == 502 and "tls_certificate_error" in r.fields.get("proxy-status"), r


def test_a_broken_file_changes_nothing(lab, pki):
    o = origin(lab, pki.app)
    lb = before(lab, o, pki)
    assert lb.client().request("/").status == 200
    lb.conf.pools["app"][0]["tls"] = {"ca": ["/nowhere.pem"], "certificate": pki.pem}
    lb.reload(lb.conf)
    wait_until(lambda: "/nowhere.pem" in lb.stderr and "no private key" in lb.stderr, what="it is told")
    assert lb.client().request("/").status == 200


# --- checks ----------------------------------------------------------------------------------------------------------

CHECK = {"interval": "50ms", "rise": 1, "fall": 2, "timeout": "2s"}


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_checks_speak_tls(lab, pki, strangers, kind):
    good, bad = origin(lab, pki.app), origin(lab, strangers.app)
    lb = before(lab, [good, bad], pki, pool={"check": dict(CHECK, type=kind)})
    lb.wait_state("s2", "down")
    assert lb.state("s1") == "up"
    assert "TLS: certificate" in lb.stderr
    if kind == "http":
        wait_until(lambda: good.requests and good.requests[0].fields.get("user-agent").startswith("meercat"), what="a check")
    for _ in range(4):
        assert lb.client().request("/").status == 200


def test_checks_may_stay_plain(lab, pki):
    o, health = origin(lab, pki.app), lab.origin()
    lb = before(lab, o, pki, pool={"check": dict(CHECK, plain=True, port=health.port)})
    health.wait_requests(2)
    assert lb.state("s1") == "up" and lb.client().request("/").status == 200


# --- real servers ----------------------------------------------------------------------------------------------------

def nginx(lab, cert, extra="", listen="ssl"):
    return lab.nginx(listen=listen, http="log_format tls '$ssl_server_name $ssl_session_reused $ssl_protocol';",
                     location=f"ssl_certificate {cert}; ssl_certificate_key {cert}; access_log logs.txt tls;"
                     f"ssl_session_cache shared:s:1m; {extra}")


def test_nginx(lab, pki):
    n = nginx(lab, pki.named, f"ssl_verify_client on; ssl_client_certificate {pki.pem};"
              "location = /who { return 200 \"$ssl_client_s_dn\"; }")
    lb = before(lab, n, pki, {"name": "app.test", "certificate": pki.lb}, pool={"requests_per_connection": 2})
    c = lb.client()
    for _ in range(6):
        assert c.request("/who").body == b"CN=balancer"

    def log():
        with open(f"{n.dir}/logs.txt") as f:
            return f.read().split("\n")[:-1]
    wait_until(lambda: len(log()) == 6, what="six lines")  # nginx writes them after its answers
    lines = log()
    assert [x.split()[0] for x in lines] == ["app.test"] * 6
    assert [x.split()[1] for x in lines] == [".", ".", "r", "r", "r", "r"]
    lb = before(lab, n, pki, {"name": "app.test"})  # nginx answers it by itself
    assert lb.client().request("/who").status == 400


def test_s_server(lab, pki):
    port = free_port()
    p = lab.add(Process(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pki.app, "-www", "-quiet"]))
    p.expect_status = None
    wait_until(lambda: port in listening_ports(), what="s_server listens")
    lb = before(lab, {"a": f"127.0.0.1:{port}"}, pki)
    for _ in range(3):
        assert b"Ciphers supported" in lb.client().request("/").body


# --- agents ----------------------------------------------------------------------------------------------------------

class Agent(Process):
    """`meercat agent` behind TLS."""

    def __init__(self, certificate, *options):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__([BINARY, "agent", "--bind", self.address, "--host", "--tls-certificate", certificate, *options],
                         env=san_env())
        wait_until(lambda: not self.running() or self.port in listening_ports(), 10, "the agent listens")
        assert self.running(), self.stderr

    def check(self):
        assert self.child.returncode == 0 and not REPORTS.search(self.stderr), self.stderr


def with_agent(lab, agent, section, plain=False, **keys):
    server = dict({"address": lab.origin(), "agent": agent.address}, **keys)
    pool = {"balance": "auto"} if plain else {"balance": "auto", "agent_tls": section}
    return lab.proxy({"s": server}, pool=pool)


def heard(lb):
    return lb.cli_json("servers")["servers"][0]["learned"]["agent"]


def wait_reports(lb, n=3):
    have = heard(lb)["reports"]
    wait_until(lambda: heard(lb)["reports"] >= have + n, 10, "reports come in")


def test_an_agent_behind_tls(lab, pki):
    lb = with_agent(lab, lab.add(Agent(pki.app)), {"ca": [pki.pem]})
    wait_reports(lb)


def test_an_agent_by_another_name(lab, pki):
    agent = lab.add(Agent(pki.named))
    wait_reports(with_agent(lab, agent, {"ca": [pki.pem]}, agent_tls_name="app.test"))
    wait_reports(with_agent(lab, agent, {"ca": [pki.pem], "name": "app.test"}))


def test_agents_that_are_not_believed(lab, pki, strangers):
    agent = lab.add(Agent(pki.app))
    for section, plain, words in (({"ca": [strangers.pem]}, False, "TLS: certificate"),
                                  ({"ca": [pki.pem], "name": "other.test"}, False, "hostname mismatch"),
                                  (None, True, "agent")):
        lb = with_agent(lab, agent, section, plain)
        wait_until(lambda: f"agent {agent.address}: " in lb.stderr, what="it is told")
        assert words in lb.stderr and heard(lb)["reports"] == 0


def test_an_agent_that_asks_for_a_certificate(lab, pki, strangers):
    agent = lab.add(Agent(pki.app, "--tls-client-ca", pki.pem))
    wait_reports(with_agent(lab, agent, {"ca": [pki.pem], "certificate": pki.lb}))
    for shown in ({}, {"certificate": strangers.lb}):
        lb = with_agent(lab, agent, dict({"ca": [pki.pem]}, **shown))
        wait_until(lambda: heard(lb)["failures"] >= 1, what="it is refused")
        assert heard(lb)["reports"] == 0


def test_an_agent_reads_its_certificate_again(lab, pki, strangers, tmp_path):
    pem = str(tmp_path / "agent.pem")

    def use(cert):
        with open(cert) as f, open(pem, "w") as out:
            out.write(f.read())
    use(strangers.app)
    agent = lab.add(Agent(pem))
    lb = with_agent(lab, agent, {"ca": [pki.pem]})
    wait_until(lambda: heard(lb)["failures"] >= 1, what="it is refused")
    use(pki.app)
    agent.signal(signal.SIGHUP)
    wait_reports(lb)
    with open(pem, "w") as out:
        out.write("nonsense")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: "no certificate in it" in agent.stderr, what="it says so")
    wait_reports(lb)


def test_agents_options(lab, pki):
    r = command("agent", "--tls-certificate", "/nowhere.pem")
    assert r.returncode != 0 and "/nowhere.pem" in r.stderr
    r = command("agent", "--tls-client-ca", pki.pem)
    assert r.returncode != 0 and "--tls-certificate" in r.stderr
