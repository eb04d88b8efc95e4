# SPDX-License-Identifier: BSD-2-Clause
"""Agents as HAProxy's agent-check has them: their words decide what a server is sent, whatever the policy."""

import collections
import os
import socket
import threading

import pytest

from instruments import proc
from instruments.fake_agent import FakeAgent
from instruments.load import Load
from instruments.meercat import BINARY, san_env
from instruments.origin import Origin, ok
from instruments.ports import free_port
from instruments.process import Process
from instruments.wait import stays, wait_until


class WordAgent:
    """Says its words to whoever connects, and hangs up."""

    def __init__(self, words=b"up\n"):
        self.words, self.replies, self.asked = words, 0, []
        self.socket = None
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.begin()

    def begin(self):
        self.socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self.socket,), daemon=True).start()

    def _serve(self, door):
        while True:
            try:
                c, _ = door.accept()
            except OSError:
                return
            try:
                c.sendall(self.words)
                c.shutdown(socket.SHUT_WR)
                self.asked.append(c.recv(100))
            except OSError:
                pass
            c.close()
            self.replies += 1

    def say(self, words):
        self.words = words
        n = self.replies
        wait_until(lambda: self.replies >= n + 3, 10, "the balancer asks")

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def check(self):
        pass


def pool_of(lab, n=2, words=b"up\n", admin_http=False, **pool):
    """n servers, the first with an agent; and that."""
    agent = lab.add(WordAgent(words))
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}", fields=[("X-Server", f"s{i}")]))} for i in range(n)}
    servers["s0"].update(agent=agent.address, agent_type="agent-check")
    pool = {"balance": "round-robin", "report_interval": "20ms", **pool}
    return lab.proxy(servers, pool=pool, admin_http=admin_http), agent, servers


def server(lb, name="s0"):
    return next(s for s in lb.cli_json("servers")["servers"] if s["name"] == name)


def test_an_operators_word_of_before_does_not_overrule_it(lab):
    agent = lab.add(WordAgent())
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}")).address} for i in range(2)}
    servers["s0"].update(agent=agent.address, agent_type="agent-check")
    lb = lab.start(lab.conf(servers, node="lb1", cluster={"bind": f"127.0.0.1:{free_port()}"},
                            pool={"balance": "round-robin", "report_interval": "20ms"}))
    lb.cli("drain", "app/s0")
    lb.cli("ready", "app/s0")
    agent.say(b"drain\n")
    lb.wait_state("s0", "drain")
    n = lb.cli_json("status")["config"]["reloads"]
    lb.reload()
    wait_until(lambda: lb.cli_json("status")["config"]["reloads"] > n, 10, "reloaded")
    assert server(lb)["state"] == "drain"


def wait_reason(lb, state, reason):
    def is_so():
        s = server(lb)
        return (s["state"], s["reason"]) == (state, reason)
    wait_until(is_so, 10, f"s0 is {state}: {reason}")


def who(lb, times=12):
    c = lb.client()
    got = collections.Counter(c.request().body.decode() for _ in range(times))
    c.close()
    return got


def test_every_word_is_followed(lab):
    lb, agent, _ = pool_of(lab)
    for words, state, reason in [
        (b"drain\n", "drain", "agent says: drain"),
        (b"ready\n", "up", "agent says: up"),
        (b"MAINT # new disk\r\n", "maint", "agent says: maint, new disk"),
        (b"up,ready\n", "up", "agent says: up"),
        (b"down # disk full\n", "down", "agent says: down, disk full"),
        (b"up\n", "up", "agent says: up"),
        (b"fail\n", "down", "agent says: fail"),
        (b"up\tready 100%\n", "up", "agent says: up"),
        (b"stopped\n", "down", "agent says: stopped"),
        (b"up\n", "up", "agent says: up"),
    ]:
        agent.words = words
        wait_reason(lb, state, reason)
        assert set(who(lb)) == ({"s0", "s1"} if state == "up" else {"s1"}), words
    assert "agent says: up" in lb.cli("servers").stdout
    assert set(agent.asked) == {b""}, "an agent was sent something"


@pytest.mark.parametrize("balance", ["round-robin", "random", "least-request", "hash", "peak-ewma", "prequal", "resource"])
def test_no_policy_sends_to_a_server_that_drains(lab, balance):
    lb, agent, _ = pool_of(lab, 3, words=b"drain\n", balance=balance)
    lb.wait_state("s0", "drain")
    assert set(who(lb, 40)) <= {"s1", "s2"}
    agent.words = b"ready\n"
    lb.wait_state("s0", "up")
    wait_until(lambda: "s0" in shares(lb), 10, "s0 is sent requests again")


def shares(lb, path="/"):
    """Of some hundred requests, by server."""
    with Load(lb.to, threads=4, path=path) as load:
        wait_until(lambda: load.done >= 400, 20, "requests are answered")
    assert not load.failures, load.failures[:3]
    return {s: n / load.done for s, n in load.servers.items()}


def test_round_robin_follows_the_weight(lab):
    lb, agent, _ = pool_of(lab, words=b"50%\n")
    wait_until(lambda: server(lb)["weight"] == 0.5)
    assert abs(who(lb, 30)["s0"] - 10) <= 1
    agent.words = b"200%\n"
    wait_until(lambda: server(lb)["weight"] == 2)
    assert abs(who(lb, 60)["s0"] - 40) <= 2  # some turns may have been dealt by the old weight
    agent.words = b"0%\n"
    wait_until(lambda: not server(lb)["open"])
    assert who(lb, 10) == {"s1": 10}
    agent.words = b"weight:1\n"
    wait_until(lambda: server(lb)["open"])
    assert set(who(lb, 30)) == {"s0", "s1"}
    assert server(lb)["agent"]["weight_share"] == 1


@pytest.mark.parametrize("balance", ["random", "least-request", "peak-ewma", "resource"])
def test_weighted_policies_follow_the_weight(lab, balance):
    lb, agent, _ = pool_of(lab, words=b"5%\n", balance=balance)
    wait_until(lambda: server(lb)["weight"] < 0.1)
    wait_until(lambda: shares(lb).get("s0", 0) < 0.4, 20, "s0 gets less")
    agent.words = b"100%\n"
    wait_until(lambda: server(lb)["weight"] == 1)
    wait_until(lambda: shares(lb).get("s0", 0) > 0.4, 20, "s0 gets its share again")


def test_hash_gives_up_some_keys(lab):
    lb, agent, _ = pool_of(lab, balance="hash", hash_by="uri")
    keys = [f"/{i}" for i in range(200)]

    def owners():
        c = lb.client()
        return {k: c.request(k).body for k in keys}
    full = owners()
    agent.words = b"25%\n"
    wait_until(lambda: server(lb)["weight"] == 0.25)
    less = owners()
    mine = [k for k in keys if full[k] == b"s0"]
    kept = [k for k in mine if less[k] == b"s0"]
    assert 0 < len(kept) < 0.5 * len(mine)
    assert all(less[k] == full[k] for k in keys if k not in mine), "keys of another server moved"


def test_maxconn_is_a_limit(lab):
    go = threading.Event()

    def hold(conn, r):
        conn.hold(go)
        return ok("s0")
    agent, origin = lab.add(WordAgent(b"maxconn:2\n")), lab.origin(hold)
    lb = lab.proxy({"s0": {"address": origin, "agent": agent.address, "agent_type": "agent-check"}},
                   pool={"balance": "least-request", "report_interval": "20ms"})
    wait_until(lambda: server(lb)["agent"]["max_concurrent"] == 2)
    held = [lb.client().get("/") for _ in range(5)]
    origin.wait_requests(2)
    wait_until(lambda: lb.cli_json("pools")["pools"][0]["queued"] == 3)
    assert len(origin.requests) == 2
    agent.words = b"maxconn:4\n"
    origin.wait_requests(4)  # who waited is sent on without another event
    go.set()
    for c in held:
        assert c.read_response().status == 200


def test_the_operator_is_above_the_agent(lab):
    lb, agent, _ = pool_of(lab)
    lb.cli("drain", "app/s0")
    agent.say(b"up ready 100%\n")
    assert server(lb)["state"] == "drain" and "agent" not in server(lb)["reason"]
    agent.say(b"drain\n")
    lb.cli("ready", "app/s0")
    agent.say(b"drain\n")
    assert server(lb)["state"] == "up"
    agent.say(b"maint\n")
    assert server(lb)["state"] == "maint"


def test_checks_and_agent_must_both_say_up(lab):
    lb, agent, servers = pool_of(lab, check={"path": "/", "interval": "30ms"})
    agent.words = b"down\n"
    lb.wait_state("s0", "down")
    agent.say(b"down\n")
    origin = next(o for o in lab.others if isinstance(o, Origin))  # of s0
    origin.wait_requests(len(origin.requests) + 3)  # checks, which find it well
    assert server(lb)["state"] == "down"
    agent.words = b"up\n"
    lb.wait_state("s0", "up")


def test_a_silent_agent_takes_nothing_back(lab):
    lb, agent, _ = pool_of(lab, words=b"drain 50%\n")
    wait_reason(lb, "drain", "agent says: drain")
    agent.stop()
    wait_until(lambda: server(lb)["agent"]["failures"] >= 2, 10, "the agent is missed")
    assert server(lb)["agent"]["why"]
    assert (server(lb)["state"], server(lb)["weight"]) == ("drain", 0.5)
    agent.begin()
    agent.words = b"ready\n"
    lb.wait_state("s0", "up")  # it is found again
    assert server(lb)["weight"] == 0.5
    assert server(lb)["agent"]["why"] == ""


NOISE = {
    "unknown word": b"hello\n", "half known": b"drain frobnicate\n", "bare number": b"101\n", "bad number": b"300%%\n",
    "out of range": b"weight:9999\n", "empty": b"\n", "no end of line": b"drain", "binary": b"\x00\xff\xfe\n",
    "long": b"x" * 5000 + b"\n", "http": b"HTTP/1.0 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_nonsense_is_counted_and_ignored(lab, noise):
    lb, agent, _ = pool_of(lab, words=b"up 75%\n", admin_http=True)
    wait_until(lambda: server(lb)["weight"] == 0.75)
    agent.words = noise
    wait_until(lambda: server(lb)["agent"]["refused"] >= 2, 10, "it is counted")
    assert (server(lb)["state"], server(lb)["weight"]) == ("up", 0.75)
    assert lb.metric("meercat_agent_refused_total", server="s0") >= 2
    agent.words = b"drain\n"
    lb.wait_state("s0", "drain")


def test_an_agent_that_hangs_holds_nobody_up(lab):
    door = socket.create_server(("127.0.0.1", 0))  # accepts, and never says a word
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}"))} for i in range(2)}
    servers["s0"].update(agent=f"127.0.0.1:{door.getsockname()[1]}", agent_type="agent-check")
    lb = lab.proxy(servers, pool={"balance": "round-robin", "report_interval": "20ms"})
    wait_until(lambda: server(lb)["agent"]["failures"] >= 1, 10, "the hanging agent is given up")
    assert set(who(lb)) == {"s0", "s1"}
    door.close()


def test_a_reload_keeps_what_was_said_and_forgets_a_former_agent(lab):
    lb, agent, servers = pool_of(lab, words=b"maint 10%\n")
    lb.wait_state("s0", "maint")
    pool = {"balance": "round-robin", "report_interval": "20ms"}
    lb.reload(lab.conf(servers, pool=dict(pool, retries=1)))
    stays(lambda: server(lb)["state"] == "maint", 0.2)
    for key in ("agent", "agent_type"):
        del servers["s0"][key]
    lb.reload(lab.conf(servers, pool=pool))
    lb.wait_state("s0", "up")
    assert server(lb)["weight"] == 1
    assert "agent" not in server(lb)


def test_load_agents_and_word_agents_go_together(lab):
    words, load = lab.add(WordAgent(b"drain\n")), lab.add(FakeAgent())
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}"))} for i in range(2)}
    servers["s0"].update(agent=words.address, agent_type="agent-check")
    servers["s1"].update(agent=load.address)
    lb = lab.proxy(servers, pool={"balance": "auto"})
    assert lb.cli_json("pools")["pools"][0]["balance"] == "resource"
    lb.wait_state("s0", "drain")
    wait_until(lambda: server(lb, "s1")["learned"]["agent"]["reports"] >= 2, 10)
    assert set(who(lb)) == {"s1"}


def test_our_own_agent_is_understood(lab, tmp_path):
    state, port = tmp_path / "state", free_port()
    agent = lab.add(OwnAgent(port, state))
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}"))} for i in range(2)}
    servers["s0"].update(agent=f"127.0.0.1:{port}", agent_type="agent-check")
    lb = lab.proxy(servers, pool={"balance": "round-robin", "report_interval": "20ms"})
    wait_until(lambda: server(lb)["agent"]["reports"] >= 3, 10, "the agent is heard")
    wait_until(lambda: server(lb)["agent"]["weight_share"] <= 1, 10)
    for line, share in [("50%", 0.5), ("weight:3", 3)]:
        tell(state, line)
        wait_until(lambda: server(lb)["weight"] == share, 10, line)
    tell(state, "drain 100%")
    wait_reason(lb, "drain", "agent says: drain")
    tell(state, "ready 100%")
    lb.wait_state("s0", "up")
    tell(state, "down 100%")
    lb.wait_state("s0", "down")
    tell(state, "100%")
    lb.wait_state("s0", "up")
    assert set(who(lb)) == {"s0", "s1"}
    assert agent.running()


class OwnAgent(Process):
    def __init__(self, port, state):
        super().__init__([BINARY, "agent", "--bind", f"127.0.0.1:{free_port()}", "--agent-check-bind",
                          f"127.0.0.1:{port}", "--state-file", str(state)], env=san_env())
        wait_until(lambda: not self.running() or port in proc.listening_ports(), 10, "the agent listens")

    def check(self):
        pass


def tell(path, line):
    new = path.with_suffix(".new")
    new.write_text(line + "\n")
    os.rename(new, path)
