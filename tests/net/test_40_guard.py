# SPDX-License-Identifier: BSD-2-Clause
"""The guard, with real sockets: a client, and balancers of which only the guard is left."""

import array
import contextlib
import dataclasses
import fcntl
import os
import re
import socket
import struct
import subprocess
import termios
import threading

import pytest

from instruments.guarded import CLOSING, OPEN, PORT, RST, Driver, Guarded, Refused, nothing_for, why_not
from instruments.meercat import BINARY
from instruments.wait import stays, wait_until

pytestmark = pytest.mark.bound(120)

TLIMIT = 20
QUIET_S = 0.7  # more than a retransmission takes
SOME = 16000  # bytes: more than a client with a small buffer takes in, and less than a balancer's kernel does
BOTH = pytest.mark.parametrize("v6", [False, True], ids=["ip4", "ip6"])
FIN_WAIT1 = "04"
FIN_WAIT2 = 5
ETH_P_ALL = 3


@pytest.fixture(scope="session")
def bpf(allowed):
    why = why_not()
    if why:
        pytest.skip(why)


@pytest.fixture
def guarded(net, bpf):
    made = []

    def make(**kw):
        made.append(Guarded(net, **kw))
        return made[-1]
    yield make
    for g in made:
        g.__exit__()


def unacked(sock):
    """Bytes that the peer has not acknowledged."""
    n = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, n)
    return n[0]


def tcp_state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def sockets_of(balancer, state):
    """How many the kernel has on our port in that state, the process's or nobody's."""
    n = 0
    for table in ("tcp", "tcp6"):
        with balancer.host, open(f"/proc/thread-self/net/{table}") as f:
            for line in f.readlines()[1:]:
                local, _, st = line.split()[1:4]
                n += st == state and local.endswith(f":{PORT:04X}")
    return n


def sysctl(host, **values):
    for name, value in values.items():
        path = "/proc/sys/net/ipv4/" + name
        with host, open(path, "w") as f:
            f.write(str(value))


def past(acc, received, sent=0):
    """The sequence numbers behind so many bytes each way."""
    return (acc.recv_base + received) % 2**32, (acc.send_base + sent) % 2**32


def read(sock, n, patience=None):
    """n bytes; fewer at the end, or when none came for so many seconds."""
    got = b""
    with contextlib.suppress(socket.timeout if patience else ()):
        sock.settimeout(patience or sock.gettimeout())
        while len(got) < n:
            more = sock.recv(n - len(got))
            if not more:
                break
            got += more
    return got


def exchange(a, sock, acc):
    """A connection's first request, of seven bytes, and its response, of eight."""
    sock.sendall(b"request")
    assert a.recv(acc.conn, 7) == b"request"
    a.call("gate", acc.conn, past(acc, 7)[0])
    a.send(acc.conn, b"response")
    assert read(sock, 8) == b"response"


# --- silence ---------------------------------------------------------------------------------

@BOTH
@pytest.mark.parametrize("left", ["nothing", "unread", "unsent"])
def test_who_is_killed_says_nothing(guarded, v6, left):
    g = guarded(v6=v6)
    a = g.balancer("a")
    g.route(a)
    sock, acc = g.connect(a, rcvbuf=4096)
    open_sock, open_acc = g.connect(a, protect=False)
    if left == "unread":  # the kernel would reset
        sock.sendall(b"a request")
        wait_until(lambda: a.stats()["acks_held"] > 0, TLIMIT, "it came")
    elif left == "unsent":  # the kernel would go on sending when the client reads
        a.send(acc.conn, bytes(SOME))
    a.kill()
    # who is not protected hears of it, so it would have been said
    assert open_sock.recv(1) == b""
    if left == "unsent":
        assert 0 < len(read(sock, SOME, QUIET_S)) < SOME
    # its FIN would come with what is unsent
    with nothing_for(sock, QUIET_S):
        pass


def test_who_closes_is_heard(guarded):
    g = guarded()
    a = g.balancer("a")
    g.route(a)
    for _ in range(3):
        sock, acc = g.connect(a)
        a.send(acc.conn, b"last words")
        a.call("end", acc.conn)
        assert read(sock, 100) == b"last words"
    sock, acc = g.connect(a)
    a.call("flags", acc.conn, CLOSING)
    a.call("shut", acc.conn)
    assert sock.recv(1) == b""
    assert a.stats()["ends_silenced"] == 0


def test_who_is_dropped_says_nothing(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    a.call("flags", acc.conn, OPEN | CLOSING)  # the kernel could speak
    sock.sendall(b"unread")
    wait_until(lambda: unacked(sock) == 0, TLIMIT, "it came")
    a.call("drop", acc.conn)
    with nothing_for(sock, QUIET_S):
        pass
    assert a.stats()["ends_silenced"] == 0


# --- acknowledgements ------------------------------------------------------------------------

@BOTH
def test_acknowledgements_wait_for_the_gate(guarded, v6):
    g = guarded(v6=v6)
    a = g.balancer("a")
    g.route(a, "rto_min 100s")  # what the client sends again would be acknowledged in any case
    sock, acc = g.connect(a)
    for n in range(1, 4):
        held = a.stats()["acks_held"]
        sock.sendall(b"request")
        assert a.recv(acc.conn, 7) == b"request"
        wait_until(lambda: a.stats()["acks_held"] > held, TLIMIT, "the kernel has acknowledged")
        assert unacked(sock) == 7
        assert a.call("gate", acc.conn, past(acc, 7 * n)[0]) == ["1"]
        assert a.call("gate", acc.conn, past(acc, 7 * n)[0]) == ["0"]
        a.call("ack", acc.conn)
        wait_until(lambda: unacked(sock) == 0, TLIMIT, "the client knows")
        a.send(acc.conn, b"response")
        assert read(sock, 8) == b"response"


@BOTH
def test_acknowledgements_on_data_are_set_back(guarded, v6):
    g = guarded(v6=v6)
    a, sock, acc = g.begin("a")
    sock.sendall(b"request")
    assert a.recv(acc.conn, 7) == b"request"
    a.call("gate", acc.conn, past(acc, 3)[0])
    a.send(acc.conn, b"response")
    assert read(sock, 8) == b"response"
    assert a.stats()["acks_clamped"] > 0
    wait_until(lambda: unacked(sock) == 4, TLIMIT, "a part is acknowledged")
    a.call("gate", acc.conn, past(acc, 7)[0])
    wait_until(lambda: unacked(sock) == 0, TLIMIT, "the rest, when the client has sent it again")


@BOTH
def test_who_ends_what_we_end_is_told_that_it_is_heard(guarded, v6):
    g = guarded(v6=v6)
    a = g.balancer("a")
    g.route(a, "rto_min 100s")
    sock, acc = g.connect(a)
    a.call("flags", acc.conn, CLOSING)
    sock.shutdown(socket.SHUT_WR)
    wait_until(lambda: tcp_state(sock) == FIN_WAIT2, TLIMIT, "its FIN is acknowledged")
    assert a.stats()["acks_held"] == 0


def test_who_is_not_replicated_is_not_held(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    a.call("flags", acc.conn, OPEN)
    sock.sendall(b"request")
    wait_until(lambda: unacked(sock) == 0, TLIMIT, "acknowledged at once")
    assert a.recv(acc.conn, 7) == b"request"
    a.kill()
    with nothing_for(sock, QUIET_S):  # but silent it is
        pass


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "software"])
def test_bulk_goes_through_a_gate_that_lags(guarded, offload):
    """Segments joined by the kernel on their way out are set back too, and their checksums are right."""
    g = guarded()
    a = g.balancer("a")
    if not offload:
        for h in (a.host, g.client):
            checksums_in_software(h)
    g.route(a)
    sock, acc = g.connect(a)
    sock.sendall(b"x")
    assert a.recv(acc.conn, 1) == b"x"  # beyond the gate from now on
    blob = os.urandom(30000)
    got = []
    reader = threading.Thread(target=lambda: got.append(read(sock, 20 * len(blob))))
    reader.start()
    for _ in range(20):
        a.send(acc.conn, blob)
    reader.join()
    assert got[0] == 20 * blob
    assert a.stats()["acks_clamped"] > 10
    assert checksum_errors(g.client) == 0
    assert unacked(sock) == 1


def checksums_in_software(host):
    """ethtool -K eth0 tx off"""
    stxcsum, siocethtool = 0x17, 0x8946
    value = array.array("I", [stxcsum, 0])
    with host, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = b"eth0".ljust(16, b"\0") + value.buffer_info()[0].to_bytes(8, "little")
        fcntl.ioctl(s, siocethtool, request.ljust(40, b"\0"))


def checksum_errors(host):
    with host, open("/proc/thread-self/net/snmp") as f:
        names, values = [line.split() for line in f if line.startswith("Tcp:")]
    return int(dict(zip(names, values))["InCsumErrors"])


# --- unknown flows ---------------------------------------------------------------------------

@BOTH
def test_an_unknown_packet_is_held_and_a_released_flow_is_reset(guarded, v6):
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    g.route(b)
    sock.sendall(b"for whoever is there")
    p = b.held()
    assert (p.client, p.vip, p.payload) == (acc.client, acc.vip, b"for whoever is there")
    assert (p.seq, p.ack, p.from_peer) == (acc.recv_base, acc.send_base, False)
    with nothing_for(sock, QUIET_S):
        pass
    b.call("release", acc.client, acc.vip)
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert b.stats()["released"] > 0


def test_what_is_held_is_bounded(guarded):
    g = guarded()
    a, b, sock, acc = g.begin("a", "b")
    g.route(b)
    with raw(g.client, ETH_P_ALL) as flood:
        sock.sendall(b"." * 1400)
        frame = captured(flood)
        # a real packet of the client's is repeated: as many bytes as the ring has, and more
        sent = 0
        while not b.stats()["held_lost"]:
            for _ in range(500):
                flood.send(frame)
            sent += 500
            assert sent < 100000
        while b.held(timeout=0):
            pass
        held = b.stats()["held"]
        flood.send(frame)
        assert b.held().payload.strip(b".") == b""
    assert b.stats()["held"] > held


def raw(host, protocol):
    with host:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(protocol))
    s.bind(("eth0", protocol))
    s.settimeout(TLIMIT)
    return s


def captured(tap):
    """The next frame of IPv4 with bytes in it; how many at once is TCP's affair."""
    while True:
        frame = tap.recv(9000)
        if frame[12:14] == b"\x08\x00" and len(frame) >= 166:
            return frame


def test_what_is_not_ours_passes(guarded):
    """Other ports, other addresses, and connections that were there before."""
    g = guarded()
    a = g.balancer("a")
    g.route(a)
    with a.host:
        other = socket.create_server((g.ip, 81))
    sock = g.socket()
    sock.connect((g.ip, 81))
    there, _ = other.accept()
    with other, there:
        a.call("ports", g.vip, f"{g.ip}:81")
        sock.sendall(b"a")
        assert there.recv(1) == b"a"
        there.sendall(b"b")
        assert sock.recv(1) == b"b"
    assert sock.recv(1) == b""
    a.call("ports", g.vip)
    refused = g.socket()
    with pytest.raises(ConnectionRefusedError):
        refused.connect((g.ip, 81))
    refused = g.socket()
    with pytest.raises(ConnectionRefusedError):
        refused.connect((a.host.address, PORT))


@BOTH
def test_every_address_is_ours_where_it_says_so(guarded, v6):
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    b.call("ports", "[::]:80" if v6 else "*:80")
    g.route(b)
    sock.sendall(b"hello")
    assert b.held().payload == b"hello"
    b.call("ports", "*:80" if v6 else "[::]:80")  # the other family's
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_cookies_of_handshakes_are_known(guarded):
    """The kernel keeps nothing of a handshake under a flood of SYNs, but it is no unknown flow."""
    g = guarded()
    a = g.balancer("a")
    sysctl(a.host, tcp_syncookies=2)
    g.route(a)
    for _ in range(5):
        sock, acc = g.connect(a)
        sock.sendall(b"hello")
        assert a.recv(acc.conn, 5) == b"hello"
    assert a.stats()["held"] == 0


# --- peers -----------------------------------------------------------------------------------

@BOTH
def test_packets_are_sent_on_to_the_flows_owner(guarded, v6):
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    b.knows(3, a)
    b.call("away", acc.client, acc.vip, 3)
    g.route(b)
    blob = os.urandom(50000)
    a.call("flags", acc.conn, OPEN)
    sock.sendall(blob)
    assert a.recv(acc.conn, len(blob)) == blob
    a.send(acc.conn, b"mine")
    assert read(sock, 4) == b"mine"
    assert b.stats()["to_owner"] > 0
    b.knows(3, a, alive=False)
    sock.sendall(b"hello")
    assert b.held().payload == b"hello"


def test_packets_are_sent_on_once(guarded):
    g = guarded()
    a, b, c = g.balancer("a"), g.balancer("b"), g.balancer("c")
    g.route(c)
    sock, acc = g.connect(c)
    a.knows(0, b)
    b.knows(0, a)
    for one in (a, b):  # each believes that it is the other's
        one.call("away", acc.client, acc.vip, 0)
    g.route(b)
    sock.sendall(b"hello")
    p = a.held()
    assert p.payload == b"hello" and p.from_peer
    assert a.stats()["to_owner"] == 0
    assert b.stats()["held"] == 0


def test_a_new_connection_of_the_same_name_is_ours(guarded):
    g = guarded()
    a, b, sock, acc = g.begin("a", "b")
    port = sock.getsockname()[1]
    b.knows(0, a)
    b.call("away", acc.client, acc.vip, 0)
    a.call("end", acc.conn)
    assert sock.recv(1) == b""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    g.route(b)
    sock = g.socket()
    sock.bind(("", port))
    sock.connect((g.ip, PORT))
    acc = b.accept()
    sock.sendall(b"hello")
    assert b.recv(acc.conn, 5) == b"hello"
    assert b.stats()["to_owner"] == 0


# --- the lease -------------------------------------------------------------------------------

@BOTH
def test_without_lease_a_host_is_silent_and_its_heir_gets_what_comes(guarded, v6):
    g = guarded(v6=v6)
    a, b = g.balancer("a"), g.balancer("b")
    a.knows(1, b)
    b.knows(1, a)
    a.call("heir", 1)
    g.route(a)
    sock, acc = g.connect(a)
    a.call("lease", 60000)
    a.send(acc.conn, b"one")
    assert read(sock, 3) == b"one"
    a.call("lease", -1)
    a.send(acc.conn, b"two")
    with nothing_for(sock, QUIET_S):
        pass
    assert a.stats()["lease_silenced"] > 0
    sock.sendall(b"hello")
    p = b.held()
    assert p.payload == b"hello" and p.from_peer
    new = g.socket()
    new.connect((g.ip, PORT))
    b.accept()
    assert a.stats()["lease_dropped"] == 0
    a.call("lease", "never")  # it may speak again
    assert read(sock, 3) == b"two"


def test_without_lease_and_heir_packets_are_dropped(guarded):
    g = guarded()
    a, b = g.balancer("a"), g.balancer("b")
    a.knows(1, b)
    g.route(a)
    sock, acc = g.connect(a)
    a.call("lease", -1)
    sock.sendall(b"hello")
    wait_until(lambda: a.stats()["lease_dropped"] > 0, TLIMIT, "it is dropped")
    a.call("heir", 1)
    a.knows(1, b, alive=False)  # one that is dead
    before = a.stats()["lease_dropped"]
    wait_until(lambda: a.stats()["lease_dropped"] > before, TLIMIT, "it is dropped")
    assert b.stats()["held"] == 0
    # nor is what a peer takes us for sent on
    b.knows(1, a)
    a.knows(1, b)
    b.call("away", acc.client, acc.vip, 1)
    g.route(b)
    before = a.stats()
    wait_until(lambda: a.stats()["lease_dropped"] > before["lease_dropped"], TLIMIT, "from a peer")
    assert a.stats()["to_heir"] == before["to_heir"]


@BOTH
def test_new_connections_of_the_dead_go_to_the_heir_at_once(guarded, v6):
    """No listener, but a lease: the process died a moment ago."""
    g = guarded(v6=v6)
    a, b = g.balancer("a"), g.balancer("b")
    a.knows(1, b)
    a.call("heir", 1)
    a.call("lease", 600000)
    g.route(a)
    a.kill()
    sock = g.socket()
    sock.connect((g.ip, PORT))
    b.accept()


# --- another one takes over --------------------------------------------------------------------

SHAPES = {
    "all": {},
    "no-timestamps": {"tcp_timestamps": 0},
    "no-sack": {"tcp_sack": 0},
    "no-scale": {"tcp_window_scaling": 0},
    "bare": {"tcp_timestamps": 0, "tcp_sack": 0, "tcp_window_scaling": 0},
}
OPTIONS = {"tcp_timestamps": 1, "tcp_sack": 2, "tcp_window_scaling": 4}


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
def test_a_connection_goes_on_elsewhere(guarded, v6, shape):
    g = guarded(v6=v6)
    sysctl(g.client, **SHAPES[shape])
    a, b, sock, acc = g.begin("a", "b")
    assert acc.options == 7 - sum(OPTIONS[o] for o in SHAPES[shape])
    exchange(a, sock, acc)
    a.kill()
    g.route(b)
    sock.sendall(b"another")
    p = b.held()
    assert (p.seq, p.ack) == past(acc, 7, 8)
    conn, taken = b.rebuild(acc, p, 7)
    assert taken == 7
    assert b.recv(conn, 7) == b"another"
    both_ways(b, conn, sock)


def both_ways(b, conn, sock):
    """More than a window without scaling, in each direction."""
    there, here = os.urandom(400000), os.urandom(400000)
    b.call("flags", conn, OPEN)
    writer = threading.Thread(target=sock.sendall, args=(there,))
    writer.start()
    assert b.recv(conn, len(there)) == there
    writer.join()
    got = []
    reader = threading.Thread(target=lambda: got.append(read(sock, len(here))))
    reader.start()
    for i in range(0, len(here), 20000):
        b.send(conn, here[i:i + 20000])
    reader.join()
    assert got[0] == here


@BOTH
@pytest.mark.parametrize("shape", ["all", "bare"])
def test_bytes_in_flight_both_ways_are_neither_lost_nor_doubled(guarded, v6, shape):
    g = guarded(v6=v6)
    sysctl(g.client, **SHAPES[shape])
    a, b, sock, acc = g.begin("a", "b")
    response = os.urandom(20000)
    sock.sendall(b"request")
    assert a.recv(acc.conn, 7) == b"request"
    # the client has a part of the response, and believes that a part of the request is received
    a.call("gate", acc.conn, past(acc, 4)[0])
    a.send(acc.conn, response[:5000])
    assert read(sock, 5000) == response[:5000]
    wait_until(lambda: unacked(sock) == 3, TLIMIT, "a part of the request is acknowledged")
    # the rest of it leaves the process, but not the host
    a.call("lease", -1)
    a.send(acc.conn, response[5000:])
    a.kill()
    g.route(b)
    sock.sendall(b" and more")
    p = b.held()
    # the rest of the request, alone or with more, or what follows it: the client decides
    assert p.seq in (past(acc, 4)[0], past(acc, 7)[0])
    assert p.ack == past(acc, 4, 5000)[1]
    conn, taken = b.rebuild(acc, p, 4)
    assert taken == (0 if p.seq == past(acc, 7)[0] else len(p.payload))
    b.send(conn, response[5000:])
    assert read(sock, 15000) == response[5000:]
    assert b.recv(conn, 12) == b"est and more"
    both_ways(b, conn, sock)


def test_what_the_client_had_in_its_queue_when_the_owner_died_goes_on(guarded):
    """Many segments, of which one alone is put into the connection by hand."""
    g = guarded()
    a, b, sock, acc = g.begin("a", "b")
    a.kill()
    g.route(b)
    blob = os.urandom(300000)
    writer = threading.Thread(target=sock.sendall, args=(blob,))
    writer.start()
    p = b.held()
    assert p.seq == acc.recv_base
    conn, taken = b.rebuild(acc, p, 0)
    assert taken == len(p.payload) > 0
    b.call("flags", conn, OPEN)
    assert b.recv(conn, len(blob)) == blob
    writer.join()


@BOTH
def test_a_silent_client_is_made_to_speak(guarded, v6):
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    exchange(a, sock, acc)
    a.kill()
    g.route(b)
    # what a holder knows: where the last response began
    b.call("alive", acc.client, acc.vip, acc.options, acc.send_base, past(acc, 7)[0], acc.ts + 1000)
    p = b.held()
    assert (p.seq, p.ack) == past(acc, 7, 8)
    assert (p.payload, p.flags & RST) == (b"", 0)
    conn, _ = b.rebuild(acc, p, 7)
    b.send(conn, b"unasked")
    assert read(sock, 7) == b"unasked"
    both_ways(b, conn, sock)


@BOTH
def test_what_was_held_too_long_finds_the_connection(guarded, v6):
    """The answer to a probe and what the client sends again come at once: from the first the connection is
    rebuilt, and the other has been held by then."""
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    exchange(a, sock, acc)
    a.kill()
    if not v6:
        sysctl(b.host, **{"conf/all/rp_filter": 1, "conf/lo/rp_filter": 1})
    g.client.ip(f"route replace blackhole {g.ip}")
    blob = os.urandom(3000)  # longer than what the network takes at once
    sock.sendall(blob)
    b.call("alive", acc.client, acc.vip, acc.options, acc.send_base, past(acc, 7)[0], acc.ts + 1000)
    g.client.ip(f"route del blackhole {g.ip}")
    g.route(b)
    p = b.held()
    if p.payload:  # it has sent again already; its answer says no more
        assert p.seq == past(acc, 7)[0]
    conn, taken = b.rebuild(acc, dataclasses.replace(p, payload=b""), 7)
    b.call("flags", conn, OPEN)
    while unacked(sock) > 0:
        with contextlib.suppress(Refused):
            b.call("home", 100)
    assert taken == 0 and b.recv(conn, len(blob)) == blob


def tcp_info(sock):
    """Retransmissions of what is not acknowledged by timeouts, and steps of back-off; of all, how many."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return info[2], info[4], struct.unpack_from("I", info, 100)[0]


@BOTH
def test_a_client_that_is_nudged_sends_again(guarded, v6):
    """It had doubled its time twice; each nudge takes back a step, and what is due is sent at once."""
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    exchange(a, sock, acc)
    a.kill()
    sock.sendall(b"request")
    wait_until(lambda: tcp_info(sock)[1] >= 3, TLIMIT, "it waits for long")
    b.call("nudge", acc.client, acc.vip, (past(acc, 7)[0] + 1) % 2**32)  # not of what it has sent

    def takes_back():  # unless its time was over just now
        steps = tcp_info(sock)[1]
        b.call("nudge", acc.client, acc.vip, past(acc, 7)[0])
        return tcp_info(sock)[1] < steps

    wait_until(takes_back, TLIMIT, "it takes back a step")
    g.route(b)
    for _ in range(tcp_info(sock)[1]):
        b.call("nudge", acc.client, acc.vip, past(acc, 7)[0])
    p = b.held()
    assert (p.seq, p.payload) == (past(acc, 7)[0], b"request")


@BOTH
def test_a_connection_that_cannot_go_on_is_reset(guarded, v6):
    g = guarded(v6=v6)
    a, b, sock, acc = g.begin("a", "b")
    a.kill()
    b.call("reset", acc.client, acc.vip, acc.send_base, acc.recv_base)
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_bases_are_right_whatever_has_come(guarded):
    """A request that came with the handshake's end, and one that ended, too."""
    g = guarded()
    a = g.balancer("a")
    g.route(a)
    for end in (False, True):
        sock = g.socket()
        sock.connect((g.ip, PORT))
        sock.sendall(b"before it was accepted")
        if end:
            sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: unacked(sock) == 0, TLIMIT, "it has come")
        acc = a.accept()
        assert a.recv(acc.conn, 22) == b"before it was accepted"
        a.send(acc.conn, b"12345")
        assert read(sock, 5) == b"12345"
        # set back to the base: all that was sent was beyond it
        wait_until(lambda: a.stats()["acks_clamped"] == 1 + end, TLIMIT, "beyond the gate")
        a.call("gate", acc.conn, past(acc, 22 + end)[0])
        a.send(acc.conn, b"6")
        assert read(sock, 1) == b"6"
        assert a.stats()["acks_clamped"] == 1 + end


# --- life and death of the guard itself ------------------------------------------------------

def test_orphans_are_destroyed_by_the_next_process(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    a.kill()
    wait_until(lambda: sockets_of(a, FIN_WAIT1) == 1, TLIMIT, "the kernel keeps the connection")
    a.restart()
    assert sockets_of(a, FIN_WAIT1) == 0
    with nothing_for(sock, QUIET_S):
        pass
    sock.sendall(b"hello")  # nobody's: the new process is asked
    assert a.held().payload == b"hello"
    new, acc = g.connect(a)
    new.sendall(b"hello")
    assert a.recv(acc.conn, 5) == b"hello"


def test_what_a_living_process_has_closed_is_left_to_end(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    blob = os.urandom(20000)
    a.call("lease", -1)
    a.send(acc.conn, blob)
    a.call("end", acc.conn)
    assert sockets_of(a, FIN_WAIT1) == 1
    old = a.driver
    a.restart(listen=False)
    assert read(sock, len(blob) + 1) == blob  # and the end
    old.end()


def test_an_orphan_does_not_stand_in_the_way(guarded):
    """Given away and come back, while the kernel still had the old connection."""
    g = guarded()
    a, sock, acc = g.begin("a")
    a.call("shut", acc.conn)
    assert sockets_of(a, FIN_WAIT1) == 1
    sock.sendall(b"hello")
    a.call("del", acc.conn)
    a.call("lease", 60000)
    conn, _ = a.call("rebuild", acc.client, acc.vip, *acc.params, acc.recv_base, acc.send_base, 1000, 0,
                     acc.ts, "-")
    assert sockets_of(a, FIN_WAIT1) == 0
    a.call("flags", conn, OPEN)
    assert a.recv(int(conn), 5) == b"hello"
    a.send(int(conn), b"again")
    assert read(sock, 5) == b"again"


def test_the_guard_stays_when_the_process_dies_and_is_cleared_by_hand(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    other, other_acc = g.connect(a)
    pid = a.driver.proc.pid

    def meercat(*words):
        with a.host:
            return subprocess.run([BINARY, "guard", *words], capture_output=True, text=True, timeout=60)
    shown = meercat("show")
    assert shown.returncode == 0, shown.stderr
    assert f"the guard of process {pid}, which lives" in shown.stdout
    assert "2 of 1024 protected" in shown.stdout
    assert g.vip in shown.stdout
    a.kill()
    shown = meercat("show", "eth0")
    assert f"process {pid}, which is dead" in shown.stdout
    assert re.search(r"ends_silenced +[1-9]", shown.stdout), shown.stdout
    with nothing_for(sock, QUIET_S):
        pass
    cleared = meercat("clear", "eth0")
    assert (cleared.returncode, cleared.stdout) == (0, "eth0: removed\n"), cleared.stderr
    # what the kernel has been trying to say
    assert sock.recv(1) == b""
    assert meercat("clear").stdout == "no interface has a guard\n"
    assert meercat("show", "eth0").returncode == 1
    assert meercat("clear", "nothing0").returncode == 1


def test_a_clean_end_leaves_nothing(guarded):
    g = guarded()
    a, sock, acc = g.begin("a")
    a.call("close", "remove")
    a.kill()
    assert sock.recv(1) == b""


def test_the_guard_of_the_dead_is_removed_where_the_next_process_has_none(guarded):
    g = guarded()
    a = g.balancer("a")
    a.host.ip("link add eth1 type veth peer name eth2", "link set eth1 up")
    a.kill()
    with a.host:
        a.driver = Driver()
        a.call("open", 16, "eth1", g.vip)
        filters = subprocess.run(["tc", "filter", "show", "dev", "eth0", "ingress"], capture_output=True,
                                 text=True, timeout=60).stdout
        ours = subprocess.run(["tc", "filter", "show", "dev", "eth1", "ingress"], capture_output=True,
                              text=True, timeout=60).stdout
    assert "guard_ingress" not in filters
    assert "guard_ingress" in ours


def test_flows_beyond_the_limit_are_not_protected(guarded):
    g = guarded(flows=4)
    a = g.balancer("a")
    conns = []
    for round in range(3):  # slots come back
        for i in range(4):
            conns.append(a.call("add", f"10.9.9.{i}:1", g.vip, 0)[0])
        with pytest.raises(Refused, match="limit reached"):
            a.call("add", "10.9.9.9:1", g.vip, 0)
        a.call("del", conns[-1])
        with pytest.raises(Refused, match="exists already"):
            a.call("add", "10.9.9.0:1", g.vip, 0)
        for conn in conns[-4:]:
            a.call("del", conn)


@pytest.mark.parametrize("interface, without, why", [
    ("nothing0", "", 'there is no interface "nothing0"'),
    ("tun9", "", "tun9 is no Ethernet interface"),
    ("eth0", "sys_admin,bpf", "CAP_BPF is missing"),
    ("eth0", "sys_admin,perfmon", "CAP_PERFMON is missing"),
    ("eth0", "net_admin", "CAP_NET_ADMIN is missing"),
    ("eth0", "net_admin,sys_admin", "CAP_NET_ADMIN is missing"),
    ("eth0", "net_raw", "CAP_NET_RAW is missing"),
])
def test_what_is_missing_is_told(net, bpf, interface, without, why):
    h = net.host("a")
    h.ip("tuntap add tun9 mode tun")
    with h:
        d = Driver(without)
        with pytest.raises(Refused, match=why):
            d.call("open", 16, interface, "10.0.0.1:80")
        d.kill()
