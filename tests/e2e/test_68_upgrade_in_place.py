# SPDX-License-Identifier: BSD-2-Clause
"""Another process takes the place of a balancer, with its sockets and what it knows, and nobody notices."""

import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import pytest

from instruments import proc
from instruments.client import Closed, fetch
from instruments.cluster import Cluster
from instruments.load import Load
from instruments.meercat import BINARY
from instruments.origin import ok
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.proc import listening_ports
from instruments.tls import TlsClient, context
from instruments.tools import tools
from instruments.wait import SLOW, wait_until
from instruments.websocket import ASK, SWITCH

N_UPGRADES = int(os.environ.get("MC_UPGRADES", "20"))


class Flood:
    """bench/load until stop(): every answer is looked at, and whatever else happens is counted by kind."""

    def __init__(self, port, *options):
        self.child = subprocess.Popen([os.path.join(tools(), "load"), "-p", str(port), "-t", "100000", *options], text=True,
                                      stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def stop(self):
        """{"requests": n, "connects": n, "errors": n, ...}"""
        self.child.send_signal(signal.SIGTERM)
        return json.loads(self.child.communicate(timeout=30 * SLOW)[0])

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


@pytest.fixture
def origin(lab):
    port = free_port()
    child = subprocess.Popen([os.path.join(tools(), "origin"), "-p", str(port)])
    wait_until(lambda: port in listening_ports(), 10)
    yield f"127.0.0.1:{port}"
    child.terminate()
    child.wait()


def status_of(lb):
    return json.loads(lb.cli("status", "--json", ok=False).stdout)


# --- nothing is lost --------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.bound(120 + N_UPGRADES)
def test_no_connection_is_lost_in_many_upgrades(lab, origin):
    """At most so many in a second, so that both get their part of the machine, however slow it is."""
    served = 20 * N_UPGRADES  # by each process; with 100 of them upgrading is not what takes the machine's time
    lb = lab.proxy(origin, workers=2)
    with Flood(lb.port, "-c", "128", "-f", "-R", "10500") as fresh, Flood(lb.port, "-c", "64", "-R", "1000") as kept:
        wait_until(lambda: status_of(lb)["counters"]["requests"] > served, 60)
        for _ in range(N_UPGRADES):
            lb.upgrade()
            wait_until(lambda: status_of(lb)["counters"]["requests"] > served, 60)
        told = fresh.stop(), kept.stop()
    print(*(f"{t['connects']} connections, {t['requests']} requests, {t['errors']} lost, in {t['seconds']:.1f} s"
            for t in told), sep="; ")
    assert told[0]["errors"] == told[1]["errors"] == 0, told
    assert told[0]["connects"] > 50 * N_UPGRADES
    assert told[1]["connects"] <= 64, "kept connections go on in the next process"
    lb.wait_gone(20)


@pytest.mark.parametrize("workers", [(1, 3), (3, 1), (2, 4)])
def test_the_number_of_workers_may_change(lab, workers):
    nginx = lab.nginx()
    conf = lab.conf(nginx, workers=workers[0])
    lb = lab.start(conf)
    with Load(lb.to, threads=3, path="/name", per_connection=1) as fresh, \
            Load(lb.to, threads=2, path="/name") as kept:
        for n in (workers[1], workers[0], workers[1]):
            conf.top["workers"] = n
            lb.write_conf(conf)
            lb.upgrade()
            assert status_of(lb)["workers"] == n
            at = fresh.done, kept.done
            wait_until(lambda: fresh.done > at[0] + 100 and kept.done > at[1] + 100)
    assert not fresh.failures + kept.failures, (fresh.failures + kept.failures)[:5]
    lb.wait_gone()


def test_the_engine_may_change(lab):
    lb = lab.proxy(lab.origin(ok("x")))
    c = lb.client()
    assert c.request().body == b"x"
    for engine in ("uring", "epoll"):
        conf = lb.conf
        conf.top["engine"] = engine
        lb.write_conf(conf)
        lb.upgrade()
        assert c.request().body == b"x" and lb.client().request().body == b"x"
    lb.wait_gone()


def test_the_signal_does_it_too_and_the_pid_file_follows(lab):
    conf = lab.conf(lab.origin(ok("x")))
    conf.top["pid_file"] = f"{conf.dir}/pid"
    lb = lab.start(conf)
    before = lb.pid
    lb.upgrade(signal.SIGUSR2)
    with open(f"{conf.dir}/pid") as f:
        assert int(f.read()) == lb.pid != before
    lb.wait_gone()
    assert os.path.exists(lb.socket_path) and os.path.exists(f"{conf.dir}/pid")
    assert fetch(lb.to).body == b"x"
    lb.stop()
    assert not os.path.exists(lb.socket_path) and not os.path.exists(f"{conf.dir}/pid")


def test_a_unix_socket_goes_on(lab):
    conf = lab.conf(lab.origin(ok("x")))
    path = f"{conf.dir}/web.sock"
    conf.listen("local", bind=[f"unix:{path}"])
    lb = lab.start(conf)
    c = lb.client()
    assert c.request().body == b"x"
    lb.upgrade()
    lb.wait_gone()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in s.recv(4096)
    lb.stop()
    assert not os.path.exists(path)


# --- what takes longer ------------------------------------------------------------------------------

def held(lab):
    go = threading.Event()

    def reply(conn, r):
        if r.target != "/slow":
            return ok("quick")
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        conn.hold(go)
        return b"world"
    return go, lab.origin(reply)


def test_a_request_under_way_is_finished_and_its_connection_goes_on(lab):
    go, origin = held(lab)
    lb = lab.proxy(origin)
    c = lb.client().get("/slow")
    c.read_head()
    lb.upgrade()
    assert lb.client().request("/other").body == b"quick"
    assert lb.before[0].poll() is None, "the process before finishes it"
    go.set()
    assert c.read_exactly(10) == b"helloworld"
    assert c.request("/next").body == b"quick", "on the same connection"
    lb.wait_gone()


def test_what_takes_too_long_is_cut(lab):
    go, origin = held(lab)
    lb = lab.proxy(origin, upgrade_timeout="300ms")
    c = lb.client().get("/slow")
    c.read_head()
    lb.upgrade()
    with pytest.raises(Closed):
        c.read_exactly(10)
    go.set()
    lb.wait_gone()


def test_half_a_request_is_finished_by_the_process_that_has_it(lab):
    lb = lab.proxy(lab.origin(ok("x")))
    c = lb.client()
    c.send(b"GET /half HTTP/1.1\r\nHo")
    lb.upgrade()
    c.send(b"st: t\r\n\r\n")
    assert c.read_response().body == b"x"
    assert c.request("/next").body == b"x"
    lb.wait_gone()


def waiting_in_two(lb):
    """A request under way in a process that has been replaced, and one in the present one."""
    first = lb.client().get("/slow")
    first.read_head()
    lb.upgrade()
    second = lb.client().get("/slow")
    second.read_head()
    return first, second


def test_three_processes_may_be_there_at_once(lab):
    go, origin = held(lab)
    lb = lab.proxy(origin)
    first, second = waiting_in_two(lb)
    lb.upgrade()
    assert [p.poll() for p in lb.before] == [None, None]
    go.set()
    for c in (first, second):
        assert c.read_exactly(10) == b"helloworld"
        assert c.request("/next").body == b"quick"
    lb.wait_gone()


def test_what_comes_late_to_a_process_between_goes_on(lab):
    go, origin = held(lab)
    lb = lab.proxy(origin)
    first, second = waiting_in_two(lb)
    between = lb.child
    lb.upgrade()
    between.send_signal(signal.SIGSTOP)  # it finds its own request answered, and the other connection, at once
    go.set()
    assert first.read_exactly(10) == b"helloworld"
    wait_until(lambda: lb.before[0].poll() is not None, 10, "the first process has passed it on, and ended")
    first.get("/next")
    between.send_signal(signal.SIGCONT)
    assert first.read_response().body == b"quick"
    assert second.read_exactly(10) == b"helloworld"
    assert second.request("/next").body == b"quick"
    lb.wait_gone()


# --- what does not come up --------------------------------------------------------------------------

def refused(lb, why):
    r = lb.cli("upgrade", ok=False)
    assert r.returncode == 1 and why in r.stderr, r.stderr
    told = status_of(lb)
    assert told["pid"] == lb.pid and told["state"] == "serving"
    assert told["upgrade"]["state"] == "failed" and why in told["upgrade"]["why"]
    lb.wait_line("everything stays as it was")
    assert fetch(lb.to).body == b"x"


def test_a_broken_configuration_leaves_the_old_process_serving(lab):
    lb = lab.proxy(lab.origin(ok("x")))
    c = lb.client()
    assert c.request().body == b"x"
    lb.write_conf("listen {")
    refused(lb, "meercat.conf:1")
    assert c.request().body == b"x"
    lb.write_conf(lb.conf)
    lb.upgrade()
    assert c.request().body == b"x"
    lb.wait_gone()


def with_program(lab, text, **kw):
    """A balancer whose program on the disk is another one by now."""
    conf = lab.conf(lab.origin(ok("x")), **kw)
    path = f"{conf.dir}/meercat"
    shutil.copy(BINARY, path)
    lb = lab.start(conf, program=path)
    os.unlink(path)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return lb, path


@pytest.mark.parametrize("text,why", [("#!/bin/sh\nexit 3\n", "status 3"),
                                      ("#!/bin/sh\nkill -SEGV $$\n", "signal 11"),
                                      ("no program\n", "meercat")])
def test_a_broken_program_leaves_the_old_process_serving(lab, text, why):
    lb, path = with_program(lab, text)
    r = lb.cli("upgrade", ok=False)
    assert r.returncode == 1 and why in r.stderr, r.stderr
    assert status_of(lb)["pid"] == lb.pid and why in status_of(lb)["upgrade"]["why"]
    os.unlink(path)
    assert "No such file" in lb.cli("upgrade", ok=False).stderr
    shutil.copy(BINARY, path)
    c = lb.client()
    assert c.request().body == b"x"
    lb.upgrade()
    assert c.request().body == b"x"
    lb.wait_gone()


def test_one_that_was_ready_and_died_leaves_the_old_process_serving(lab):
    lb, path = with_program(lab, "#!/bin/sh\nexit 3\n")
    with open(path, "w") as f:
        f.write(f"#!{sys.executable}\nimport os, socket, time\n"
                "s = socket.socket(fileno=int(os.environ['MEERCAT_UPGRADE']))\ns.recvmsg(64, 4096)\n"
                f"while not os.path.exists({path + '.go'!r}): time.sleep(0.01)\ns.send(b'R')\n")
    lb.signal(signal.SIGUSR2)
    pid = int(re.search(r"process (\d+) is starting", lb.wait_line("is starting")).group(1))
    lb.signal(signal.SIGSTOP)  # it is not looking when the other one dies
    with open(path + ".go", "w"):
        pass
    wait_until(lambda: proc._status(pid, "State").startswith("Z"), 20, "the new process has died")
    lb.signal(signal.SIGCONT)
    lb.wait_line("everything stays as it was")
    assert "status 0" in status_of(lb)["upgrade"]["why"]
    assert fetch(lb.to).body == b"x"


def test_while_one_is_starting_another_is_refused_and_an_end_ends_it(lab):
    lb, _ = with_program(lab, "#!/bin/sh\nexec sleep 100\n")
    lb.signal(signal.SIGUSR2)
    pid = int(re.search(r"process (\d+) is starting", lb.wait_line("is starting")).group(1))
    starting = status_of(lb)["upgrade"]
    assert starting["state"] == "coming"
    assert "under way" in lb.cli("upgrade", ok=False).stderr
    assert "under way" in lb.cli("reload", ok=False).stderr
    assert fetch(lb.to).body == b"x"
    lb.signal(signal.SIGTERM)
    assert lb.wait_exit(10) == 0
    lb.wait_line("the balancer is ending")
    assert not proc.alive(pid)


# --- who is in a queue that two processes wait on ---------------------------------------------------
#
# The kernel wakes one of them for a connection: who began to wait first, and waits.

WOKEN = """#!{python}
import json, os, select, signal, socket
channel = socket.socket(fileno=int(os.environ["MEERCAT_UPGRADE"]))
_, fds, _, _ = socket.recv_fds(channel, 64, 250)
with open(fds[0]) as f:
    known = json.load(f)
woken = select.epoll()
for listener in known["listeners"]:
    for i in listener["sockets"]:
        woken.register(fds[i], select.EPOLLIN | select.EPOLLEXCLUSIVE)
open({mark!r}, "w").close()
woken.poll()
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_asleep(pid):
    return proc._status(pid, "State").startswith("S")


def test_whom_a_new_process_was_woken_for_is_served_when_it_is_killed(lab):
    """The old one waits behind the new one, since it paused for its limit meanwhile."""
    lb, path = with_program(lab, "", listen={"max_connections": 1})
    mark = path + ".waits"
    with open(path, "w") as f:
        f.write(WOKEN.format(python=sys.executable, mark=mark))
    first = lb.client()
    assert first.request().body == b"x"
    sockets = proc.socket_fds(lb.pid)
    second = lb.client().get("/")
    wait_until(lambda: proc.socket_fds(lb.pid) > sockets, 5, "it is accepted, and there is no room for it")
    lb.signal(signal.SIGUSR2)
    pid = int(re.search(r"process (\d+) is starting", lb.wait_line("is starting")).group(1))
    wait_until(lambda: os.path.exists(mark) and is_asleep(pid), 20, "the new process waits for connections")
    first.close()
    assert second.read_response().body == b"x", "accepting goes on"
    second.close()
    third = lb.client()
    lb.wait_line("everything stays as it was")
    assert "signal 9" in status_of(lb)["upgrade"]["why"]
    assert third.request().body == b"x"


class Before:
    """A process before a balancer, which is woken for the first who connects and ends."""

    def __init__(self, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(16)
        self.listener.setblocking(False)
        self.woken = select.epoll()
        self.woken.register(self.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.waits = threading.Thread(target=self.woken.poll)
        self.waits.start()
        self.channel, self.heirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        known = {"version": 1, "listeners": [{"address": f"127.0.0.1:{port}", "sockets": [1]}]}
        with tempfile.TemporaryFile("w+") as f:
            json.dump(known, f)
            f.seek(0)
            socket.send_fds(self.channel, [struct.pack("!cBH", b"F", 1, 2)], [f.fileno(), self.listener.fileno()])

    def end(self):
        self.woken.close()
        self.listener.close()
        self.channel.close()


def test_whom_the_process_before_was_woken_for_is_served_when_that_is_killed(lab):
    conf = lab.conf(lab.origin(ok("x")))
    before = Before(conf.port)
    lb = lab.start(conf, wait=False, pass_fds=[before.heirs.fileno()],
                   env={"MEERCAT_UPGRADE": str(before.heirs.fileno())})
    before.heirs.close()
    before.channel.settimeout(20 * SLOW)
    assert before.channel.recv(64)[:1] == b"R", "its workers listen"
    c = lb.client()
    before.waits.join(10 * SLOW)
    assert not before.waits.is_alive(), "it was woken"
    before.end()
    assert c.request().body == b"x"
    lb.wait_line("serves in the place of")


# --- what is known goes on --------------------------------------------------------------------------

def test_what_the_operator_said_and_what_was_found_of_servers_holds(lab):
    conf = lab.conf([lab.origin(ok(n)) for n in "abcd"], pool={"check": {"type": "tcp", "interval": "60s"}})
    lb = lab.start(conf)
    lb.cli("drain", "app/s1")
    lb.cli("weight", "app/s2", "7")
    lb.cli("maint", "app/s3")
    lb.cli("withdraw")
    before = lb.servers()
    lb.upgrade()
    after = lb.servers()
    assert lb.cli("status", "--quiet", ok=False).returncode == 1, "it was told to attract no traffic"
    lb.cli("resume")
    assert lb.cli("status", "--quiet", ok=False).returncode == 0
    for name, s in before.items():
        assert {k: after[name][k] for k in ("state", "since", "reason", "weight")} == \
            {k: s[k] for k in ("state", "since", "reason", "weight")}
    assert after["app/s1"]["state"] == "drain" and after["app/s2"]["weight"] == 7
    lb.cli("unset", "app/s1")
    assert lb.state("s1") == "up", "the word is one that can be taken back"
    conf.pools["app"][1]["s2"]["weight"] = 3
    lb.write_conf(conf)
    lb.upgrade()
    assert lb.servers()["app/s2"]["weight"] == 3, "the configuration has changed its mind"
    lb.wait_gone()


def test_a_server_that_was_down_gets_no_request_before_it_is_checked(lab):
    dead, good = lab.origin().refuse(), lab.origin(ok("x"))
    lb = lab.proxy([dead, good], workers=2, log="json",
                   pool={"check": {"type": "tcp", "interval": "200ms", "fall": 1}, "retries": 0})
    lb.wait_state("s1", "down")
    for _ in range(3):
        lb.upgrade()
        assert {fetch(lb.to).status for _ in range(8)} == {200}
    lb.wait_gone()


def test_a_server_that_was_set_aside_stays_so(lab):
    bad, good = lab.origin(lambda conn, r: conn.close()), lab.origin(ok("x"))
    lb = lab.proxy([bad, good], pool={"eject_after": 1, "eject_time": "60s", "eject_max": "60s"})
    wait_until(lambda: fetch(lb.to).status == 200 and lb.state("s1") == "ejected")
    lb.upgrade()
    assert lb.state("s1") == "ejected"
    n = len(bad.requests)
    assert {fetch(lb.to).status for _ in range(6)} == {200} and len(bad.requests) == n
    lb.wait_gone()


def test_learned_costs_go_on_without_a_file(lab):
    lb = lab.proxy([lab.origin(ok(n)) for n in "ab"], pool={"balance": "resource"})
    c = lb.client()

    def classes():
        return {x["class"]: x for x in lb.cli_json("costs")["classes"]}

    def is_known():
        for i in range(10):
            assert c.request(f"/items/{1000 + i}").status == 200
        return classes().get("GET /items/{}", {}).get("known")

    def all_are_counted():
        a, b = classes()["GET /items/{}"], classes()["GET /items/{}"]
        return a["requests"] == b["requests"] and a["cpu_ms"] == pytest.approx(b["cpu_ms"]) and b
    wait_until(is_known, 10, "the class is known")
    before = wait_until(all_are_counted, 10, "nothing comes to it")
    lb.upgrade()
    after = classes()["GET /items/{}"]
    assert after["known"] and after["cpu_ms"] == pytest.approx(before["cpu_ms"], rel=0.5)
    lb.wait_gone()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a = ca.issue("a.test")
    return ca


def test_sessions_of_tls_are_resumed_by_the_next_process(lab, pki):
    lb = lab.proxy(lab.origin(ok("x")), listen={"tls": {"certificate": [pki.a]}})
    ctx = context(pki)
    first = TlsClient(lb.to, ctx)
    assert first.request().status == 200 and not first.reused
    lb.upgrade()
    again = TlsClient(lb.to, ctx, session=first.session)
    assert again.request().status == 200 and again.reused
    r = first.request()
    assert r.status == 200 and "close" in r.fields.list("connection"), "served by the process that has its keys"
    first.close()
    again.close()
    lb.wait_gone()


def test_a_tunnel_stays_with_the_process_that_began_it(lab):
    def script(conn):
        conn.read_request()
        conn.send(SWITCH)
        while got := conn.recv():
            conn.send(got)
    lb = lab.proxy(lab.origin(script=script), pool={"upgrade": "websocket"})
    c = lb.client().get("/", fields=ASK)
    c.read_head()
    for word in (b"one", b"two"):
        c.send(word)
        assert c.read_exactly(3) == word
        lb.upgrade()
    c.send(b"end")
    assert c.read_exactly(3) == b"end"
    assert [p.poll() for p in lb.before] == [None, None], "the one between is there for what the first may pass on"
    c.close()
    lb.wait_gone()


@pytest.mark.bound(90)
def test_the_cluster_sees_one_member_that_restarts_and_misses_nobody(lab):
    c = Cluster(lab, 3, {n: lab.origin(ok(n)).address for n in ("s1", "s2")})
    c.wait_alive()
    c[0].cli("drain", "app/s1")
    wait_until(lambda: all(lb.state("s1") == "drain" for lb in c), 10)
    for i in (0, 1, 2, 0):
        # whoever is upgraded need not find the others by himself
        c.confs[i].top["cluster"].pop("join", None)
        c[i].write_conf(c.confs[i])
        c[i].upgrade()
        c.wait_alive()
        assert c[i].state("s1") == "drain"
    for lb in c:
        assert "is dead" not in lb.stderr and "does not answer" not in lb.stderr and "has left" not in lb.stderr
        assert "belongs to" not in lb.stderr
    c[1].cli("ready", "app/s1")
    wait_until(lambda: all(lb.state("s1") == "up" for lb in c), 10)
    for lb in c:
        lb.wait_gone()


# --- who may, and who is told -----------------------------------------------------------------------

def test_systemd_hears_of_the_next_process(lab):
    n = lab.notify_socket()
    lb = lab.start(lab.conf(lab.origin(ok("x"))), env={"NOTIFY_SOCKET": n.path})
    n.wait("READY=1")
    n.seen.clear()
    lb.upgrade()
    n.wait(f"MAINPID={lb.pid}")
    n.wait("READY=1")
    lb.wait_gone()
    assert "STOPPING=1" not in n.pump(), "the service does not stop"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("workers", [1, 2])
def test_rights_that_root_left_us_go_on_and_no_others(lab, workers):
    low = sorted(set(range(600, 1023)) - listening_ports())[:2]
    conf = lab.conf(lab.origin(ok("x")), log="json")
    conf.top.update(user="nobody", group="nogroup", pid_file=f"{conf.dir}/pid")
    conf.listen("web", bind=[f"127.0.0.1:{low[0]}"])
    conf.port = low[0]
    for d in (conf.dir, os.path.dirname(conf.dir)):
        os.chmod(d, 0o777)
    lb = lab.start(conf)
    caps = {k: proc._status(lb.pid, k) for k in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
    conf.top["workers"] = workers
    for port in (low[1], low[0], low[1]):
        conf.listen("more", bind=[f"127.0.0.1:{port}"]) if port == low[1] else conf.listeners.pop("more", None)
        lb.write_conf(conf)
        lb.upgrade()
        assert {k: proc._status(lb.pid, k) for k in caps} == caps, "nothing is lent on"
        assert set(proc.uids(lb.pid)) == {pwd.getpwnam("nobody").pw_uid}
        with open(f"{conf.dir}/pid") as f:
            assert int(f.read()) == lb.pid
        assert fetch(("127.0.0.1", low[0])).body == b"x"
    assert fetch(("127.0.0.1", low[1])).body == b"x", "a port below 1024 was bound anew"
    lb.wait_gone()
    lb.log_lines(1)
    assert "share" not in lb.stderr, "each worker has a socket of its own"
