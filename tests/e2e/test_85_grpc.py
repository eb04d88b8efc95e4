# SPDX-License-Identifier: BSD-2-Clause
"""gRPC from end to end, with the real library on both sides."""

import queue
import signal
import struct
import threading
import time

import grpc
import pytest

from instruments.grpc_peers import Channel, Server
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.wait import SLOW, wait_until

S = grpc.StatusCode
H2 = {"protocol": "h2"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a = ca.issue("a.test")
    with open(ca.a, "rb") as f, open(ca.pem, "rb") as root:
        pem, ca.root = f.read(), root.read()
    ca.server = grpc.ssl_server_credentials([(pem, pem)])
    return ca


@pytest.fixture
def stage(lab):
    return Stage(lab)


class Stage:
    """Servers, a balancer before them, and channels to it."""

    def __init__(self, lab):
        self.lab = lab

    def server(self, *a, **kw):
        return self.lab.add(Server(*a, **kw))

    def proxy(self, *servers, pool=None, **kw):
        return self.lab.proxy([s if isinstance(s, str) else s.address for s in servers], pool=dict(H2, **(pool or {})), **kw)

    def channel(self, lb, port=None, **kw):
        c = Channel(f"127.0.0.1:{port or lb.port}", **kw)
        self.lab.clients.append(c)
        return c

    def all(self, **kw):
        """One server, the balancer, a channel."""
        server = self.server()
        lb = self.proxy(server, **kw)
        return server, lb, self.channel(lb)


def fails(code, f):
    with pytest.raises(grpc.RpcError) as e:
        f()
    assert e.value.code() == code, e.value
    return e.value


# --- the four kinds of calls ---------------------------------------------------------------------

def test_unary(stage):
    server, lb, c = stage.all(log="json", admin_http=True)
    assert [c.unary("Say", b"m%d" % i)[0] for i in range(20)] == [b"m%d" % i for i in range(20)]
    assert {r["grpc_status"] for r in lb.log_json(20)} == {"OK"}
    assert lb.metric("meercat_server_grpc_calls_total", proxy="app", server="s1", status="OK") == 20


def test_a_stream_from_the_server(stage):
    _, _, c = stage.all()
    assert [m.split()[0] for m in c.down("Count", b"200 1000")] == [b"%d" % i for i in range(200)]


def test_a_stream_from_the_client(stage):
    _, _, c = stage.all()
    assert c.up("Sum", (bytes(i) for i in range(300)))[0] == b"300 %d" % sum(range(300))


def test_ping_pong_is_not_gathered(stage):
    """Each message waits for the answer to the one before: whoever held one back would stop it for good."""
    _, _, c = stage.all()
    q = queue.Queue()
    answers = c.both("Chat", iter(q.get, None))
    for i in range(300):
        q.put(b"%d" % i)
        assert next(answers) == b"re: %d" % i
    q.put(None)
    assert list(answers) == [] and answers.code() == S.OK


def test_a_server_may_answer_before_it_is_asked(stage):
    """Its head goes out while the client has sent no message at all."""
    _, lb, c = stage.all()
    over = threading.Event()

    def nothing():
        over.wait(20)
        yield from ()
    try:
        call = c.channel.stream_stream("/t.Echo/Chat")(nothing(), timeout=20)
        assert call.is_active()
    finally:
        over.set()
    assert list(call) == []


def test_an_empty_message_and_no_message(stage):
    _, _, c = stage.all()
    assert c.unary("Say", b"")[0] == b""
    assert list(c.down("Count", b"0 0")) == []
    assert c.up("Sum", iter(()))[0] == b"0 0"


# --- what goes with them -------------------------------------------------------------------------

def test_metadata_and_trailers_pass_unchanged(stage):
    server, _, c = stage.all()
    server.trailers = (("x-last", "a, b"), ("x-last-bin", b"\xff\0\xfe"))
    _, call = c.unary("Say", metadata=(("x-first", "1"), ("x-first-bin", b"\0\xff"), ("authorization", "Bearer t")))
    saw = server.calls[0].metadata
    assert saw["x-first"] == "1" and saw["x-first-bin"] == b"\0\xff" and saw["authorization"] == "Bearer t"
    assert saw["x-forwarded-for"] == "127.0.0.1" and saw["x-request-id"]
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert initial["x-initial"] == "yes" and initial["x-bin"] == b"\0\1\xff"
    assert trailing["x-last"] == "a, b" and trailing["x-last-bin"] == b"\xff\0\xfe"


@pytest.mark.parametrize("code", [s for s in S if s is not S.OK], ids=lambda s: s.name)
def test_statuses_and_messages_pass_unchanged(stage, code):
    _, lb, c = stage.all(log="json")
    e = fails(code, lambda: c.unary("Fail", f"{code.name} 50% of it: \u00e4\u2713\nand more".encode()))
    assert e.details() == "50% of it: \u00e4\u2713\nand more"
    assert lb.log_json(1)[0]["grpc_status"] == code.name


def test_a_method_that_is_not_there(stage):
    _, _, c = stage.all()
    fails(S.UNIMPLEMENTED, lambda: c.unary("Nothing"))


def test_a_stream_that_fails_in_its_middle(stage):
    _, _, c = stage.all()
    call = c.down("Break", b"")
    assert next(call) == b"1" and next(call) == b"2"
    e = fails(S.DATA_LOSS, lambda: next(call))
    assert e.details() == "lost the rest"


# --- deadlines, cancelling -----------------------------------------------------------------------

def test_servers_get_what_is_left_of_a_deadline(stage):
    server, _, c = stage.all()
    c.unary("Say", timeout=100)
    assert 50 < server.calls[0].left_s <= 101  # clients round up, to seconds at that length


def test_a_call_without_deadline_has_none(stage):
    server, _, c = stage.all()
    c.unary("Say", timeout=None)
    assert server.calls[0].left_s is None or server.calls[0].left_s > 86400 * 365


def test_a_deadline_ends_a_call_everywhere(stage):
    server, lb, c = stage.all()
    fails(S.DEADLINE_EXCEEDED, lambda: c.unary("Hold", timeout=0.3))
    assert server.calls[0].ended.wait(10 * SLOW)
    wait_until(lambda: lb.cli_json("status")["in_flight"] == 0, 5, "nothing is left")


def test_the_cap_of_the_pool_is_seen_as_a_deadline(stage):
    server, _, c = stage.all(pool={"grpc_timeout_max": "300ms"})
    began = time.monotonic()
    e = fails(S.DEADLINE_EXCEEDED, lambda: c.unary("Hold", timeout=100))
    assert time.monotonic() - began < 50
    assert server.calls[0].left_s <= 0.3 and e.details()


def test_the_total_timeout_ends_a_stream_under_way(stage):
    """The server knows nothing of it, so it does not end the call itself."""
    _, lb, c = stage.all(pool={"total_timeout": "400ms"}, log="json")
    q = queue.Queue()
    q.put(b"a")
    answers = c.both("Chat", iter(q.get, None), timeout=None)
    assert next(answers) == b"re: a"
    e = fails(S.DEADLINE_EXCEEDED, lambda: next(answers))
    q.put(None)
    assert "longer than allowed" in e.details()
    line = lb.log_json(1)[0]
    assert line["end"] == "total-timeout" and line["grpc_status"] == "DEADLINE_EXCEEDED"


def test_cancelling_reaches_the_server(stage):
    server, lb, c = stage.all()
    call = c.begin("Hold")
    wait_until(lambda: server.calls, 10, "it is there")
    call.cancel()
    assert server.calls[0].ended.wait(10 * SLOW)
    stream = c.both("Chat", iter(queue.Queue().get, None))
    wait_until(lambda: len(server.calls) == 2, 10, "the stream is there")
    stream.cancel()
    assert server.calls[1].ended.wait(10 * SLOW)
    assert c.unary("Say")[0] == b"x"


# --- our own answers, seen by the library --------------------------------------------------------

def test_no_server_is_unavailable(stage):
    lb = stage.proxy(f"127.0.0.1:{free_port()}", pool={"retries": 0})
    e = fails(S.UNAVAILABLE, lambda: stage.channel(lb).unary("Say"))
    assert "refused" in e.details() and "request id" in e.details()
    assert "connection_refused" in dict(e.trailing_metadata())["proxy-status"]


def test_no_route_is_unimplemented(stage):
    conf = stage.lab.conf([stage.server().address], routes=False, pool=H2).route("some", "app", path="/t.Other")
    c = stage.channel(stage.lab.start(conf))
    fails(S.UNIMPLEMENTED, lambda: c.unary("Say"))


def test_too_many_are_resource_exhausted(stage):
    conf = stage.lab.conf([stage.server().address], routes=False, pool=H2).route("some", "app", rate_limit=1, rate_burst=1)
    c = stage.channel(stage.lab.start(conf))
    c.unary("Say")
    e = fails(S.RESOURCE_EXHAUSTED, lambda: [c.unary("Say") for _ in range(5)])
    assert e.details().startswith("too many requests")


def test_a_body_too_large_is_resource_exhausted(stage):
    _, _, c = stage.all(listen={"body_max": "100KiB"})
    fails(S.RESOURCE_EXHAUSTED, lambda: c.unary("Say", bytes(300 << 10)))
    assert c.unary("Say")[0] == b"x"


def test_a_full_queue_is_unavailable(stage):
    server = stage.server()
    lb = stage.proxy(server, pool={"max_concurrent": 1, "queue_max": 0, "retries": 0})
    c = stage.channel(lb)
    first = c.begin("Hold")
    wait_until(lambda: server.calls, 10, "it is there")
    fails(S.UNAVAILABLE, lambda: c.unary("Say"))
    server.hold.set()
    assert first.result(20) == b"x"


def test_a_server_that_answers_in_http1_is_internal_or_unavailable(stage):
    origin = stage.lab.origin(script=lambda c: c.recv() and c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    lb = stage.proxy(origin.address, pool={"retries": 0})
    with pytest.raises(grpc.RpcError) as e:
        stage.channel(lb).unary("Say")
    assert e.value.code() in (S.INTERNAL, S.UNAVAILABLE)


# --- load, flow control, many on few -------------------------------------------------------------

def test_large_messages(stage):
    _, _, c = stage.all()
    big = bytes(range(256)) * (16 << 10)  # 4 MiB
    assert c.unary("Say", big, timeout=60)[0] == big
    assert sum(len(m) for m in c.down("Count", b"20 500000")) > 20 * 500000
    assert c.up("Sum", (bytes(500000) for _ in range(20)))[0] == b"20 10000000"


def test_a_client_that_reads_slowly_stops_its_server_alone(stage):
    server, lb, c = stage.all()
    slow = c.down("Count", b"100000 10000")
    next(slow)
    for _ in range(20):
        assert c.unary("Say")[0] == b"x"
    assert lb.cli_json("status")["in_flight"] == 1
    slow.cancel()
    assert server.calls[0].ended.wait(10 * SLOW)


def test_many_at_once_on_few_connections(stage):
    server = stage.server(threads=128)
    lb = stage.proxy(server, admin_http=True, pool={"queue_timeout": "60s"})
    channels = [stage.channel(lb) for _ in range(4)]
    server_calls = [channels[i % 4].begin("Hold", b"%d" % i, timeout=60) for i in range(100)]
    wait_until(lambda: len(server.calls) == 100, 20, "all of them are there at once")
    peers = {call.peer for call in server.calls}
    server.hold.set()
    assert [f.result(60) for f in server_calls] == [b"%d" % i for i in range(100)]
    assert len(peers) <= 8, peers
    assert lb.metric("meercat_server_connects_total", proxy="app", server="s1") <= 8


def test_calls_of_one_client_go_to_all_servers(stage):
    """What balancing connections cannot do: one channel, one connection, many servers."""
    servers = [stage.server() for _ in range(3)]
    c = stage.channel(stage.proxy(*servers))
    for _ in range(30):
        c.unary("Say")
    assert [len(s.calls) for s in servers] == [10, 10, 10]


# --- servers that come and go --------------------------------------------------------------------

def test_a_server_that_ends_gracefully_loses_no_call(stage):
    """GOAWAY: what is under way ends, what comes goes to the other one."""
    a, b = stage.server(), stage.server()
    lb = stage.proxy(a, b)
    c = stage.channel(lb)
    stop, done, faults = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            try:
                done.append(c.unary("Say", timeout=30)[0])
            except grpc.RpcError as e:
                if e.code() != S.CANCELLED:  # the server's answer to what it took in and then did not begin
                    faults.append(e)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        wait_until(lambda: len(done) > 50, 20, "they run")
        for _ in range(2):
            a.server.stop(10 * SLOW).wait(20 * SLOW)
            n = len(done)
            wait_until(lambda: len(done) > n + 50, 20, "they go on")
            a.start()
            n = len(a.calls)
            wait_until(lambda: len(a.calls) > n + 5, 20, "it is back")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not faults, faults[:3]


def test_calls_that_a_dying_server_had_are_unavailable(stage):
    server, lb, c = stage.all(pool={"retries": 0})
    call = c.begin("Hold")
    wait_until(lambda: server.calls, 10, "it is there")
    server.server.stop(0)
    fails((call.exception(20)).code(), lambda: call.result(20))
    assert call.exception().code() in (S.UNAVAILABLE, S.CANCELLED)


def test_an_ending_balancer_ends_its_calls_first(stage):
    server, lb, c = stage.all(drain_timeout="20s")
    call = c.begin("Hold")
    wait_until(lambda: server.calls, 10, "it is there")
    lb.signal(signal.SIGTERM)
    server.hold.set()
    assert call.result(20) == b"x"


def test_a_reload_disturbs_no_stream(stage):
    server = stage.server()
    conf = stage.lab.conf([server.address], pool=H2)
    lb = stage.lab.start(conf)
    c = stage.channel(lb)
    q = queue.Queue()
    answers = c.both("Chat", iter(q.get, None))
    q.put(b"a")
    assert next(answers) == b"re: a"
    conf.pools["app"][0]["first_byte_timeout"] = "50s"
    before = lb.cli_json("status")["config"]["generation"] if "config" in lb.cli_json("status") else None
    lb.cli("reload")
    for i in range(20):
        q.put(b"%d" % i)
        assert next(answers) == b"re: %d" % i
        assert c.unary("Say")[0] == b"x"
    q.put(None)
    assert list(answers) == []
    assert before is None or before >= 1


# --- health, placement ---------------------------------------------------------------------------

def test_a_server_that_is_unavailable_is_set_aside(stage):
    bad, good = stage.server(), stage.server()
    bad.say = lambda message, context: (bad._note("Say", context), context.abort(S.UNAVAILABLE, "warming up"))
    bad.server.stop(0).wait(10)
    bad.start()
    lb = stage.proxy(bad, good, pool={"eject_after": 3, "eject_time": "1h", "eject_max": "1h"})
    c = stage.channel(lb)
    codes = []
    for _ in range(20):
        try:
            c.unary("Say")
            codes.append(S.OK)
        except grpc.RpcError as e:
            codes.append(e.code())
    assert codes.count(S.UNAVAILABLE) == 3 and len(bad.calls) == 3


def orca(cpu, cost):
    entry = b"\x0a\x0bcpu_seconds\x11" + struct.pack("<d", cost)
    return b"\x09" + struct.pack("<d", cpu) + b"\x22" + bytes([len(entry)]) + entry


def test_load_reports_in_trailers_are_heard(stage):
    server = stage.server()
    server.trailers = (("endpoint-load-metrics-bin", orca(0.25, 0.125)), ("x-left", "yes"))
    lb = stage.proxy(server, pool={"balance": "resource"})
    c = stage.channel(lb)
    trailing = dict(c.unary("Say")[1].trailing_metadata())
    assert trailing["x-left"] == "yes" and "endpoint-load-metrics-bin" not in trailing

    def heard():
        servers = lb.cli_json("servers")["servers"]
        return ((servers[0]["learned"] or {}).get("orca") or {}).get("cpu")
    wait_until(lambda: heard() == 0.25, 10, "it is heard")


def test_calls_are_classed_by_their_method(stage):
    server = stage.server()
    lb = stage.proxy(server, pool={"balance": "resource"}, log="json")
    c = stage.channel(lb)
    for _ in range(3):
        c.unary("Say")
        list(c.down("Count", b"1 1"))
    assert {r["class"] for r in lb.log_json(6)} <= {"POST /t.Echo/Say", "POST /t.Echo/Count", "other"}


# --- TLS -----------------------------------------------------------------------------------------

def test_with_tls_from_clients(stage, pki):
    server = stage.server()
    lb = stage.proxy(server, listen={"tls": {"certificate": pki.a}})
    creds = grpc.ssl_channel_credentials(pki.root)
    c = stage.channel(lb, credentials=creds, options=[("grpc.ssl_target_name_override", "a.test")])
    assert c.unary("Say", b"secret")[0] == b"secret"
    q = queue.Queue()
    answers = c.both("Chat", iter(q.get, None))
    for i in range(50):
        q.put(b"%d" % i)
        assert next(answers) == b"re: %d" % i
    q.put(None)
    assert list(answers) == []
    assert server.calls[0].metadata["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_with_tls_on_both_sides(stage, pki, protocol):
    server = stage.server(credentials=pki.server)
    lb = stage.proxy(server, listen={"tls": {"certificate": pki.a}},
                     pool={"protocol": protocol, "tls": {"ca": pki.pem, "name": "a.test"}})
    creds = grpc.ssl_channel_credentials(pki.root)
    c = stage.channel(lb, credentials=creds, options=[("grpc.ssl_target_name_override", "a.test")])
    big = bytes(range(256)) * 4096
    assert c.unary("Say", big)[0] == big
    assert c.up("Sum", (bytes(1000) for _ in range(100)))[0] == b"100 100000"


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_health_checks_with_tls(stage, pki, protocol):
    server = stage.server(credentials=pki.server, health={"": 1})
    lb = stage.proxy(server, pool={"protocol": protocol, "tls": {"ca": pki.pem, "name": "a.test"},
                                   "check": {"type": "grpc", "interval": "50ms", "rise": 1, "fall": 1}})
    lb.wait_state("s1", "up")
    server.health[""] = 2
    lb.wait_state("s1", "down")
