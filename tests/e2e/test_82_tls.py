# SPDX-License-Identifier: BSD-2-Clause
"""TLS towards clients: versions, names, kinds of keys, sessions, client certificates, reload, ends."""

import base64
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from instruments.cluster import Cluster
from instruments.load import Load
from instruments.meercat import command
from instruments.origin import ok
from instruments.pki import Authority
from instruments.tls import TlsClient, context
from instruments.wait import stays, wait_until

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LONG_AGO = ("20200101000000Z", "20200102000000Z")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority with a.test as EC and RSA, and *.b.test."""
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a_ec, ca.a_rsa = ca.issue("a.test"), ca.issue("a.test", kind="rsa")
    ca.b = ca.issue("*.b.test", "exact.b.test")
    ca.alice = ca.issue("alice", client=True)
    return ca


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Another authority, for clients: alice is good, mallory was revoked."""
    ca = Authority(str(tmp_path_factory.mktemp("clients")), name="Client Authority")
    ca.alice, ca.mallory = ca.issue("alice", client=True), ca.issue("mallory", client=True)
    ca.revoke(ca.mallory)
    ca.crl()
    return ca


def secure(lab, origin, certificates, tls=None, **kw):
    listen = dict({"tls": dict({"certificate": certificates}, **(tls or {}))}, **kw.pop("listen", {}))
    return lab.proxy(origin, listen=listen, admin_http=True, **kw)


def connect(lb, ca, name="a.test", ctx=None, session=None, **kw):
    c = TlsClient(lb.to, ctx or context(ca, **kw), name, session=session)
    lb.clients.append(c)
    return c


def failed(lb, reason):
    return lb.metric("meercat_tls_handshake_failures_total", reason=reason)


def handshakes(lb, **labels):
    return lb.metric("meercat_tls_handshakes_total", **labels)


def refused(lb, ca, **kw):
    """The handshake, or the first request after it, is refused.  In TLS 1.3 the client's side of a handshake
    ends before the server has seen its certificate."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(lb, ca, **kw).request()


# --- what is agreed on -------------------------------------------------------------------------------------------

def test_versions(lab, pki):
    origin = lab.origin(ok("hello"))
    lb = secure(lab, origin, [pki.a_ec], log="json")
    for version, name, text in ((V12, "1.2", "TLSv1.2"), (V13, "1.3", "TLSv1.3")):
        c = connect(lb, pki, versions=(version, version))
        assert c.sock.version() == text
        assert c.request().body == b"hello" and c.request().body == b"hello"
        assert handshakes(lb, version=name, resumed="false") == 1
    lines = lb.log_json(4)
    assert [x["tls_version"] for x in lines] == ["TLSv1.2"] * 2 + ["TLSv1.3"] * 2
    assert all(x["sni"] == "a.test" and x["tls_cipher"] for x in lines)
    r = origin.requests[0]
    assert r.fields.get("x-forwarded-proto") == "https" and r.fields.get("x-forwarded-port") == str(lb.port)


def test_old_versions_and_ciphers_are_refused(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec], {"min_version": "1.3", "ciphersuites": "TLS_CHACHA20_POLY1305_SHA256"})
    assert connect(lb, pki).sock.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    refused(lb, pki, versions=(V12, V12))
    wait_until(lambda: failed(lb, "version") == 1, what="it is counted")
    lb = secure(lab, lab.origin(), [pki.a_ec], {"ciphers": "ECDHE+AES128+AESGCM"})
    assert connect(lb, pki, versions=(V12, V12)).sock.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    refused(lb, pki, versions=(V12, V12), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    wait_until(lambda: failed(lb, "cipher") == 1, what="it is counted")


def test_names(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec, pki.b])
    for name, cn in (("a.test", "a.test"), ("A.Test", "a.test"), ("x.b.test", "*.b.test"), ("exact.b.test", "*.b.test")):
        c = connect(lb, pki, name)
        assert c.subject() == cn and c.request().status == 200
    for name in ("none.test", "b.test", "x.y.b.test"):
        with pytest.raises(ssl.SSLCertVerificationError):  # they get the first one, which is not theirs
            connect(lb, pki, name)
    wait_until(lambda: failed(lb, "alert") == 3, what="three refused")


def test_strict_names(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec, pki.b], {"strict_sni": True})
    for name in ("a.test", "x.b.test"):
        assert connect(lb, pki, name).request().status == 200
    for name in ("none.test", None):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            connect(lb, None, name)
    assert failed(lb, "name") == 2


def test_many_names(lab, pki):
    many = pki.issue(*(f"n{i}.test" for i in range(2000)), cn="many")  # clients take no more than 100 KB
    lb = secure(lab, lab.origin(), [pki.a_ec, many])
    for i in (0, 471, 1999):
        assert connect(lb, pki, f"n{i}.test").subject() == "many"


def test_rsa_and_ecdsa(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_rsa, pki.a_ec])
    for cipher in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        assert connect(lb, pki, versions=(V12, V12), ciphers=cipher).sock.cipher()[0] == cipher
    for alg, kind in (("rsa_pss_rsae_sha256", "RSA-PSS"), ("ECDSA+SHA256", "ECDSA")):
        r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{lb.port}", "-servername", "a.test", "-CAfile",
                            pki.pem, "-tls1_3", "-sigalgs", alg, "-verify_return_error"], input="",
                           capture_output=True, text=True, timeout=20)
        assert f"Peer signature type: {kind}" in r.stdout, r.stdout


def test_application_protocol(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec])
    assert connect(lb, pki, alpn=["http/1.1", "h2"]).sock.selected_alpn_protocol() == "h2"
    assert connect(lb, pki, alpn=["http/1.1"]).sock.selected_alpn_protocol() == "http/1.1"
    assert connect(lb, pki).sock.selected_alpn_protocol() is None
    refused(lb, pki, alpn=["imap"])
    wait_until(lambda: failed(lb, "alpn") == 1, what="it is counted")


def test_curl(lab, pki):
    lb = secure(lab, lab.origin(ok("x" * 100000)), [pki.a_ec])
    r = subprocess.run(["curl", "-sS", "--cacert", pki.pem, "--resolve", f"a.test:{lb.port}:127.0.0.1",
                        f"https://a.test:{lb.port}/", f"https://a.test:{lb.port}/2"], capture_output=True, text=True, timeout=20)
    assert r.returncode == 0 and len(r.stdout) == 200000, r


def test_plain_text_is_no_tls(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec])
    c = lb.client().get("/")
    assert not c.drain().startswith(b"HTTP")
    wait_until(lambda: failed(lb, "not_tls") == 1, what="it is counted")
    assert connect(lb, pki).request().status == 200


def test_stapling(lab, pki):
    pem = pki.issue("a.test")
    pki.staple(pem)
    lb = secure(lab, lab.origin(), [pem], {"ocsp": True})

    def asked(of):
        return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{of.port}", "-servername", "a.test",
                               "-CAfile", pki.pem, "-status"], input="", capture_output=True, text=True, timeout=20).stdout
    assert "Cert Status: good" in asked(lb)
    assert "no response sent" in asked(secure(lab, lab.origin(), [pem]))


def test_what_is_off(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec])
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{lb.port}", "-servername", "a.test", "-CAfile", pki.pem]
    p = subprocess.Popen([*base, "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    p.stdin.write(b"R\n")  # renegotiate
    p.stdin.flush()
    out = b""
    while b"no renegotiation" not in out:
        more = os.read(p.stdout.fileno(), 4096)
        assert more, out
        out += more
    p.stdin.close()
    p.wait(10)
    p.stdout.close()
    p = subprocess.Popen([*base, "-tls1_3", "-msg"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    p.stdin.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")  # the ticket comes with its response
    p.stdin.flush()
    out = b""
    while b"Max Early Data" not in out:
        more = os.read(p.stdout.fileno(), 4096)
        assert more, out
        out += more
    assert b"Max Early Data: 0" in out
    p.stdin.close()
    p.wait(10)
    p.stdout.close()


# --- sessions ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_are_resumed(lab, pki, version):
    lb = secure(lab, lab.origin(), [pki.a_ec], workers=2)
    ctx = context(pki, versions=(version, version))
    first = connect(lb, pki, ctx=ctx)
    assert first.request().status == 200 and not first.reused
    for _ in range(4):  # whichever worker
        again = connect(lb, pki, ctx=ctx, session=first.session)
        assert again.request().status == 200 and again.reused
        assert (again.session != first.session) == (version == V13)  # whose tickets are for one use
    assert handshakes(lb, resumed="true") == 4
    lb.reload()
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="reloaded")
    assert connect(lb, pki, ctx=ctx, session=first.session).reused


@pytest.mark.bound(60)
@pytest.mark.parametrize("version", [V12, V13])
def test_another_balancer_resumes(lab, pki, version):
    c = Cluster(lab, 2, {"s1": lab.origin(ok("x")).address}, listen={"tls": {"certificate": [pki.a_ec]}})
    alone = secure(lab, lab.origin(), [pki.a_ec])
    ctx = context(pki, versions=(version, version))
    first = connect(c[0], pki, ctx=ctx)
    assert first.request().status == 200
    second = connect(c[1], pki, ctx=ctx, session=first.session)
    assert second.request().status == 200 and second.reused
    stranger = connect(alone, pki, ctx=ctx, session=first.session)
    assert stranger.request().status == 200 and not stranger.reused


@pytest.mark.bound(60)
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("end", ["said", "reset", "killed"])
def test_another_balancer_resumes_what_ended(lab, pki, version, end):
    """What a client of TLS has of takeover: however its connection ended, the next one is cheap."""
    c = Cluster(lab, 2, {"s1": lab.origin(ok("x")).address}, listen={"tls": {"certificate": [pki.a_ec]}})
    ctx = context(pki, versions=(version, version))
    first = connect(c[0], pki, ctx=ctx)
    assert first.request(fields=[("Connection", "close")] if end == "said" else []).status == 200
    session = first.session
    if end == "said":
        assert first.sock.recv(10) == b""
    elif end == "reset":
        first.rst()
    else:
        c.kill(0)
        with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
            assert first.sock.recv(10) == b""
    second = connect(c[1], pki, ctx=ctx, session=session)
    assert second.request().status == 200 and second.reused
    assert handshakes(c[1], resumed="true") == 1


# --- client certificates -----------------------------------------------------------------------------------------

def test_client_certificates(lab, pki, clients):
    origin = lab.origin(ok("x"))
    for verify in ("optional", "required"):
        lb = secure(lab, origin, [pki.a_ec], {"client_verify": verify, "client_ca": [clients.pem],
                                              "crl": clients.path("crl.pem")})
        spoof = [("Client-Cert", ":AAAA:"), ("Client-Cert-Chain", ":AAAA:")]
        ctx = context(pki, cert=clients.alice)
        alice = connect(lb, pki, ctx=ctx)
        assert alice.request(fields=spoof).status == 200
        r = origin.requests[-1]
        told = r.fields.get("client-cert")
        with open(clients.alice) as f:
            assert base64.b64decode(told.strip(":")) == ssl.PEM_cert_to_DER_cert(f.read().split("-----END")[0]
                                                                                 + "-----END CERTIFICATE-----\n")
        assert "client-cert-chain" not in r.fields
        again = connect(lb, pki, ctx=ctx, session=alice.session)  # the session knows who it is
        assert again.request().status == 200 and again.reused
        assert origin.requests[-1].fields.get("client-cert") == told
        for cert in (clients.mallory, pki.alice):
            refused(lb, pki, cert=cert)
        wait_until(lambda: failed(lb, "client_certificate") == 2, what="two refused")
        if verify == "required":
            refused(lb, pki)
            wait_until(lambda: failed(lb, "client_certificate") == 3, what="three refused")
        else:
            assert connect(lb, pki).request(fields=spoof).status == 200
            assert "client-cert" not in origin.requests[-1].fields


def test_plain_listeners_believe_no_certificate(lab):
    origin = lab.origin(ok("x"))
    lb = lab.proxy(origin)
    assert lb.client().request(fields=[("Client-Cert", ":AAAA:"), ("X-A", "1")]).status == 200
    assert "client-cert" not in origin.requests[-1].fields and "x-a" in origin.requests[-1].fields


# --- bodies and ends ---------------------------------------------------------------------------------------------

def test_large_bodies_pass_whole(lab, pki):
    size = 20 << 20
    body = os.urandom(1 << 20) * (size >> 20)
    origin = lab.origin(lambda conn, req: ok(body))
    lb = secure(lab, origin, [pki.a_ec])
    c = connect(lb, pki)
    assert c.request().body == body
    c.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").send(body)
    assert c.read_response().body == body
    assert origin.requests[-1].body_len == size


def test_a_slow_reader_holds_the_server_back(lab, pki):
    size = 64 << 20
    sent = []

    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * (1 << 16)
        for _ in range(size // len(piece)):
            conn.send(piece)
            sent.append(1)
    lb = secure(lab, lab.origin(script=script), [pki.a_ec])
    c = connect(lb, pki)
    c.get("/")
    r = c.read_head()
    n = 0

    def is_still():
        nonlocal n
        before, n = n, len(sent)
        return before == n
    wait_until(is_still, 10, "the server has to wait", interval=0.3)
    assert n < size >> 16
    assert c.skip_body(r) == size


def test_a_cut_response_does_not_look_whole(lab, pki):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        conn.rst()
    lb = secure(lab, lab.origin(script=script), [pki.a_ec])
    c = connect(lb, pki)
    c.get("/", version="1.0")  # the end of the connection is the end of the body
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        while c.sock.recv(4096):
            pass


def test_a_whole_response_ends_with_a_word(lab, pki):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        conn.close()
    lb = secure(lab, lab.origin(script=script), [pki.a_ec])
    c = connect(lb, pki)
    c.get("/", version="1.0")
    assert c.read_all().endswith(b"hello")  # SSLEOFError otherwise
    c = connect(lb, pki)
    assert c.request(fields=[("Connection", "close")]).status == 200
    assert c.sock.recv(10) == b""


def test_a_cut_request_does_not_look_whole(lab, pki):
    origin = lab.origin(ok("x"))
    lb = secure(lab, origin, [pki.a_ec], log="json")
    c = connect(lb, pki)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    socket.socket.shutdown(c.sock, socket.SHUT_WR)  # FIN without close_notify
    assert lb.log_json(1)[0]["end"] == "client-gone"
    assert lb.metric("meercat_tls_truncated_total") == 1
    assert not any(r.whole for r in origin.requests)


def test_half_close(lab, pki):
    gates = {}

    def slow(conn, req):
        gates.setdefault(req.target, threading.Event()).wait(10)
        return ok("late")
    origin = lab.origin(slow)
    patient = secure(lab, origin, [pki.a_ec], listen={"half_close": True})
    strict = secure(lab, origin, [pki.a_ec], log="json")
    c = connect(patient, pki).get("/patient")
    wait_until(lambda: "/patient" in gates, what="the request is there")
    c.say_end()
    gates["/patient"].set()
    assert c.read_response().body == b"late"
    c = connect(strict, pki).get("/strict")
    wait_until(lambda: "/strict" in gates, what="the request is there")
    c.say_end()
    assert strict.log_json(1)[0]["end"] == "client-gone"
    gates["/strict"].set()


# --- handshakes --------------------------------------------------------------------------------------------------

def test_slow_handshakes_end(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec], listen={"head_timeout": "300ms"})
    silent, started = lb.client(), lb.client()
    started.send(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello that does not go on
    silent.expect_close(5)
    started.expect_close(5)
    wait_until(lambda: failed(lb, "unfinished") == 2, what="both are counted")
    c = connect(lb, pki)
    stays(c.sock.fileno, 0.5)  # longer than head-timeout, which is over with the handshake
    assert c.request().status == 200


def test_who_goes_away_in_a_handshake_is_counted(lab, pki):
    lb = secure(lab, lab.origin(), [pki.a_ec])
    lb.client().close()
    wait_until(lambda: failed(lb, "closed") == 1, what="who went away is counted")


def test_many_handshakes_at_once(lab, pki):
    lb = secure(lab, lab.origin(ok("x")), [pki.a_rsa])
    ctx = context(pki)
    with Load(lb.to, threads=16, per_connection=1, limit=25, connect=lambda: TlsClient(lb.to, ctx)) as load:
        wait_until(lambda: load.done + len(load.failures) == 16 * 25, 25, "all have ended")
    assert not load.failures
    assert handshakes(lb) == 16 * 25


# --- files -------------------------------------------------------------------------------------------------------

def check(conf):
    path = os.path.join(conf.dir, "check.conf")
    with open(path, "w") as f:
        f.write(str(conf))
    r = command("check", "-c", path)
    return r.returncode, r.stdout + r.stderr


def line_of(conf, text):
    return next(i for i, line in enumerate(str(conf).splitlines(), 1) if text in line)


def test_bad_files_are_told_by_line(lab, pki, tmp_path):
    def write(name, *parts):
        path = tmp_path / name
        path.write_text("".join(parts))
        return str(path)

    def part(pem, kind):
        with open(pem) as f:
            text = f.read()
        at = text.index(f"-----BEGIN {kind}")
        end = text.index("-----END", at)
        return text[at:text.index("\n", end) + 1]
    (tmp_path / "empty").mkdir()
    cases = [
        (dict(certificate=[pki.a_ec, "/none.pem"]), "certificate", "/none.pem: No such file"),
        (dict(certificate=[write("k.pem", part(pki.a_ec, "CERT"), part(pki.b, "PRIV"))]), "certificate", "not that of"),
        (dict(certificate=[write("n.pem", part(pki.a_ec, "CERT"))]), "certificate", "no private key"),
        (dict(certificate=[write("g.pem", "garbage")]), "certificate", "no certificate in it"),
        (dict(certificate=[str(tmp_path / "empty")]), "certificate", "nothing in it"),
        (dict(certificate=[pki.issue("w.test", kind="weak")]), "certificate", "small"),
        (dict(certificate=[pki.a_ec], ciphers="NOPE"), "ciphers", "NOPE"),
        (dict(certificate=[pki.a_ec], ciphersuites="NOPE"), "ciphersuites", "NOPE"),
        (dict(certificate=[pki.a_ec], min_version="1.1"), "min-version", "1.2 or 1.3"),
        (dict(certificate=[pki.a_ec], client_verify="required"), "client-verify", "client-ca"),
        (dict(certificate=[pki.a_ec], client_verify="required", client_ca=["/none"]), "client-ca", "/none"),
        (dict(certificate=[pki.a_ec], client_verify="required", client_ca=[pki.pem], crl=pki.pem), "crl", "revoked"),
        (dict(ocsp=True), "tls", "no certificate"),
    ]
    for tls, key, words in cases:
        conf = lab.conf("127.0.0.1:1", listen={"tls": tls})
        status, said = check(conf)
        place = f"check.conf:{line_of(conf, f'{key} ')}: "
        assert status == 1, (tls, said)
        assert any(place in x and words in x and "expected" in x for x in said.splitlines()), (tls, place, words, said)


def test_an_expired_certificate_is_warned_of(lab, pki):
    conf = lab.conf("127.0.0.1:1", listen={"tls": {"certificate": [pki.issue("old.test", dates=LONG_AGO)]}})
    status, said = check(conf)
    assert status == 0 and "warning" in said and "expired 2020-01-02" in said, said


def test_a_directory_of_certificates(lab, pki, tmp_path):
    for name in ("a_ec", "a_rsa", "b"):
        shutil.copy(getattr(pki, name), tmp_path / f"{name}.pem")
    lb = secure(lab, lab.origin(), [str(tmp_path)])
    assert connect(lb, pki, "x.b.test").subject() == "*.b.test"
    assert connect(lb, pki).subject() == "a.test"


@pytest.mark.bound(60)
def test_reload_under_load(lab, pki, tmp_path):
    pem = str(tmp_path / "site.pem")
    pki.issue("a.test", file=pem, cn="one")
    lb = secure(lab, lab.origin(ok("x")), [pem])
    old = connect(lb, pki)
    assert old.subject() == "one" and old.request().status == 200
    ctx = context(pki)
    with Load(lb.to, threads=3, per_connection=5, connect=lambda: TlsClient(lb.to, ctx)) as load:
        for i, cn in enumerate(("two", "three", "four"), 2):
            pki.issue("a.test", file=pem, cn=cn)
            lb.reload()
            wait_until(lambda: connect(lb, pki).subject() == cn, 10, f"{cn} is in force")
            before = load.done
            wait_until(lambda: load.done > before + 20, 10, "it goes on")
        with open(pem, "w") as f:
            f.write("broken")
        lb.reload()
        lb.wait_line("no certificate in it")
        assert lb.cli_json("status")["config"]["generation"] == 4
        before = load.done
        wait_until(lambda: load.done > before + 20, 10, "the old ones stand")
    assert not load.failures, load.failures[:5]
    assert connect(lb, pki).subject() == "four"
    assert old.request().status == 200  # since before the first reload


def test_a_listener_may_change_to_tls_and_back(lab, pki):
    origin = lab.origin(ok("x"))
    lb = lab.proxy(origin, admin_http=True)
    plain = lb.client()
    assert plain.request().status == 200
    lb.conf.listeners["web"]["tls"] = {"certificate": [pki.a_ec]}
    lb.reload(lb.conf)
    wait_until(lambda: lb.cli_json("status")["config"]["generation"] == 2, what="reloaded")
    wait_until(lambda: tls_works(lb, pki), what="new connections speak TLS")
    assert plain.request().status == 200
    c = connect(lb, pki)
    del lb.conf.listeners["web"]["tls"]
    lb.reload(lb.conf)
    wait_until(lambda: plain_works(lb), what="new connections are plain")
    assert c.request().status == 200


def tls_works(lb, pki):
    try:
        return connect(lb, pki).request().status == 200
    except (ssl.SSLError, OSError):
        return False


def plain_works(lb):
    c = lb.client()
    return c.send_some(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") and c.drain().startswith(b"HTTP/1.1 200")


def test_the_end_is_graceful(lab, pki):
    gate, entered = threading.Event(), threading.Event()

    def answer(conn, req):
        if req.target == "/slow":
            entered.set()
            gate.wait(10)
        return ok("late")
    lb = secure(lab, lab.origin(answer), [pki.a_ec])
    idle, busy = connect(lb, pki), connect(lb, pki)
    assert idle.request().status == 200
    busy.get("/slow")
    entered.wait(10)
    lb.signal(signal.SIGTERM)
    assert idle.sock.recv(10) == b""  # close_notify, not a cut
    gate.set()
    r = busy.read_response()
    assert r.body == b"late" and r.fields.get("connection") == "close"
    assert busy.sock.recv(10) == b""
    assert lb.wait_exit() == 0
