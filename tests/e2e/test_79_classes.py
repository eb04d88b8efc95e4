# SPDX-License-Identifier: BSD-2-Clause
"""Classes of requests by the operator's rules, and the answers of `meercat explain`."""

import threading

import pytest

from instruments.client import fetch
from instruments.fake_agent import FakeAgent
from instruments.meercat import command
from instruments.origin import ok
from instruments.wait import wait_until

RULES = {
    'class "search"': {"method": "GET", "path": "/search/*"},
    'class "export"': {"header": "X-Job: export"},
    'class "job"': {"header": "X-Job"},
    'class "big"': {"path": "/img/{}", "query": "size=large"},
    'class "chat"': {"grpc": "acme.Chat/Send"},
}


def resource(rules=RULES, **keys):
    return {"balance": "resource", **keys, **rules}


def classes(lb):
    return {c["class"]: c for c in lb.cli_json("costs")["classes"]}


def is_known(lb, c, path, name, **kw):
    """One request more, until its cost is known: what is old counts less and less."""
    assert c.request(path, **kw).status == 200
    return classes(lb).get(name, {}).get("known")


REQUESTS = [
    ("search", {"target": "/search/a?q=1"}),
    ("other", {"target": "/search/a?q=1", "method": "POST"}),
    ("export", {"fields": [("x-job", "export")]}),
    ("export", {"target": "/search", "fields": [("X-Job", "import"), ("X-Job", "export")]}),
    ("job", {"fields": [("X-Job", "import")]}),
    ("search", {"target": "/search/a", "fields": [("X-Job", "export")]}),
    ("big", {"target": "/img/7.jpg?x&size=large"}),
    ("other", {"target": "/img/7.jpg?size=larger"}),
    ("other", {"target": "/img/a/7.jpg?size=large"}),
    ("chat", {"target": "/acme.Chat/Send", "method": "POST", "fields": [("Content-Type", "application/grpc")]}),
    ("other", {"target": "/acme.Chat/Send", "method": "POST", "fields": [("Content-Type", "application/json")]}),
]


def test_rules_put_requests_into_classes(lab):
    # as many classes as rules, and one for the rest: none can be learned
    lb = lab.proxy(lab.origin(), pool=resource(classes=len(RULES) + 1), log="json", admin_http=True)
    c = lb.client()
    for _, how in REQUESTS:
        how = dict(how)
        assert c.request(how.pop("target", "/"), **how).status == 200
    assert [line["class"] for line in lb.log_json(len(REQUESTS))] == [name for name, _ in REQUESTS]
    names = {name for name, _ in REQUESTS}

    def counted():
        return {name: c["requests"] for name, c in classes(lb).items()} == \
            {name: sum(n == name for n, _ in REQUESTS) for name in names}
    wait_until(counted, 10, "each request is counted in its class")
    assert {name for name, c in classes(lb).items() if c["rule"]} == names - {"other"}
    wait_until(lambda: is_known(lb, c, "/search/b", "search"), 20, "what a search costs is known")
    assert lb.metric("meercat_class_requests_total", proxy="app", **{"class": "search"}) >= 2
    assert "search" in lb.cli("costs").stdout


def test_a_class_that_was_learned_is_in_the_log_too(lab):
    lb = lab.proxy(lab.origin(), pool=resource(), log="json")
    c = lb.client()
    wait_until(lambda: (c.request("/users/4711"), "GET /users/{}" in classes(lb))[1], 10, "the shape is a class")
    wait_until(lambda: (c.request("/users/4711"), lb.log_json(1)[-1]["class"] == "GET /users/{}")[1], 10, "it is in the log")
    assert lb.log_json(1)[0]["class"] == "other", "nobody knew it when it came first"


def test_pools_that_learn_nothing_log_no_class(lab):
    lb = lab.proxy(lab.origin(), log="json")
    assert lb.client().request("/").status == 200
    assert "class" not in lb.log_json(1)[0]


def test_a_reload_keeps_what_a_rule_has_learned(lab):
    conf = lab.conf(lab.origin(), pool=resource(), state_dir=lab.dir("state"))
    lb = lab.start(conf)
    c = lb.client()
    wait_until(lambda: is_known(lb, c, "/search/b", "search"), 20, "the cost is known")
    seen = classes(lb)["search"]["requests"]
    # the rule means something else now, another is gone, one is new
    conf.pool("app", {"s1": conf.pools["app"][1]["s1"]}, **resource(
        {'class "fresh"': {"path": "/fresh"}, 'class "search"': {"path": "/find"}}))
    lb.reload(conf)
    wait_until(lambda: "fresh" in classes(lb), 10, "the new rules are in force")
    now = classes(lb)
    assert now["search"]["known"] and now["search"]["requests"] >= seen
    assert not now["fresh"]["known"] and "job" not in now and "big" not in now
    wait_until(lambda: (c.request("/find"), classes(lb)["search"]["requests"] > seen)[1], 10, "it is counted on")
    # other servers, and fewer classes
    conf.pools["app"][0]["classes"] = 8
    conf.pools["app"][1]["s2"] = {"address": lab.origin(ok("s2")).address}
    lb.reload(conf)
    wait_until(lambda: "app/s2" in lb.servers(), 10, "the server is there")
    assert classes(lb)["search"]["known"] and classes(lb)["search"]["requests"] > seen
    # and over a restart, in which a rule goes and leaves no ghost
    wait_until(lambda: is_known(lb, c, "/fresh", "fresh"), 20, "this one is known, too")
    lb.stop()
    del conf.pools["app"][0]['class "fresh"']
    lb = lab.start(conf)
    assert classes(lb)["search"]["known"] and "fresh" not in classes(lb)


@pytest.mark.parametrize("pool, line, text", [
    ("class \"a\" { }", 4, 'class "a" is empty'),
    ("class \"a\" { path = / colour = red }", 4, 'unknown option "colour" in class'),
    ("class \"a\" { path = / }\nclass \"a\" { path = /b }", 5, 'class "a" is given twice'),
    ("classes = 2\nclass \"a\" { path = / }\nclass \"b\" { path = /b }", 6, 'class "b" is one too many, expected classes = 3'),
    ("class \"other\" { path = / }", 4, "expected another name"),
    ("class \"a\" { path = \"a\" }", 4, 'path: "a" is not a path'),
    ("class \"a\" { header = \"X-A:\" }", 4, 'header: "X-A:" is not a field'),
    ("class \"a\" { query = \"&\" }", 4, 'query: "&" is not a parameter'),
    ("class \"a\" { grpc = \"Send\" }", 4, 'grpc: "Send" is not a call'),
])
def test_faults_of_rules_are_told_with_file_and_line(tmp_path, pool, line, text):
    path = tmp_path / "m.conf"
    path.write_text(f'listen "web" {{ bind = "*:80" }}\nroute "all" {{ pool = "app" }}\n'
                    f'pool "app" {{ balance = resource server "s" {{ address = "a:1" }}\n{pool}\n}}\n')
    r = command("check", "-c", str(path))
    assert r.returncode == 1
    assert any(x.startswith(f"{path}:{line}: ") and text in x for x in (r.stdout + r.stderr).splitlines()), r


# --- explain ---------------------------------------------------------------------------------------

def verdicts(answer):
    return {s["name"]: s["verdict"] for s in answer["servers"]}


def why(answer, name):
    return next(s["why"] for s in answer["servers"] if s["name"] == name)


class Gate:
    """An origin that holds its requests until the gate opens."""

    def __init__(self, lab):
        self.opened, self.held = threading.Event(), threading.Semaphore(0)
        self.origin = lab.origin(self.reply)

    def reply(self, conn, r):
        self.held.release()
        self.opened.wait(20)
        return ok("gate")


def test_explain_tells_route_pool_class_and_server(lab):
    conf = lab.conf({"s1": lab.origin(ok("s1"))}, pool=resource(), routes=False, admin_http=True)
    conf.pool("rest", {"r1": lab.origin().address}, balance="round-robin")
    conf.route("app", "app", host="app.test", path="/search").route("rest", "rest", host="rest.test")
    lb = lab.start(conf)
    a = lb.cli_json("explain", "GET", "http://app.test/search/a?q=1")
    assert a["request"] == {"method": "GET", "host": "app.test", "path": "/search/a?q=1"}
    assert (a["route"], a["pool"], a["balance"], a["server"]) == ("app", "app", "resource", "s1")
    assert a["class"]["name"] == "search" and a["class"]["rule"] and not a["waits"]
    assert verdicts(a) == {"s1": "chosen"} and a["servers"][0]["score"] > 0
    a = lb.cli_json("explain", "-H", "Host: app.test", "-H", "X-Job: export", "POST", "/search/a")
    assert a["class"]["name"] == "export"
    a = lb.cli_json("explain", "GET", "http://rest.test/")
    assert (a["route"], a["pool"], a["class"], a["server"]) == ("rest", "rest", None, None)
    assert verdicts(a) == {"r1": "eligible"} and a["servers"][0]["in_flight"] == 0
    a = lb.cli_json("explain", "GET", "/")
    assert (a["route"], a["pool"]) == (None, None)
    assert "404" in lb.cli("explain", "GET", "/").stdout
    out = lb.cli("explain", "GET", "http://app.test/search/a").stdout
    assert "search, by rule" in out and "SCORE" in out and "chosen" in out
    host, port = conf.top["admin"]["http"].rsplit(":", 1)
    r = fetch((host, int(port)), "/v1/explain?url=http%3A%2F%2Frest.test%2F")
    assert r.status == 200 and b'"rest"' in r.body, "it is reading, and so anybody's who reaches the address"


def test_explain_refuses_what_is_no_request(lab):
    lb = lab.proxy(lab.origin())
    for args in (["GET", "nothing"], ["GET", "/a b"], ["G T", "/"], ["-H", "nocolon", "GET", "/"],
                 ["-H", "X: a\r\nHost: b", "GET", "/"], ["CONNECT", "a:1"]):
        r = lb.cli("explain", *args, ok=False)
        assert r.returncode == 1 and r.stderr.startswith("meercat: "), (args, r)
    assert lb.cli("explain", "GET", ok=False).returncode == 2


@pytest.mark.parametrize("balance", ["resource", "least-request"])
def test_explain_tells_who_is_out_and_why(lab, balance):
    gate = Gate(lab)
    servers = {"good": lab.origin(ok("good")), "drained": lab.origin(), "maint": lab.origin(),
               "none": {"address": lab.origin(), "weight": 0}, "spare": {"address": lab.origin(), "backup": True},
               "dead": "127.0.0.1:1", "full": {"address": gate.origin, "max_concurrent": 1}}
    lb = lab.proxy(servers, pool={"balance": balance, "check": {"type": "tcp", "interval": "50ms", "fall": 1}})
    lb.wait_state("dead", "down")
    lb.cli("drain", "app/drained")
    lb.cli("maint", "app/maint")
    try:
        for c in (lb.client() for _ in range(200)):
            c.get("/")
            if gate.held.acquire(timeout=0.05):
                break  # this or an earlier one got there
        a = lb.cli_json("explain", "GET", "/")
        assert verdicts(a) == {"good": "chosen" if balance == "resource" else "eligible", "drained": "drain", "maint": "maint",
                               "none": "weight", "spare": "backup", "dead": "down", "full": "full"}
        assert next(s for s in a["servers"] if s["name"] == "full")["in_flight"] == 1
        assert "refused" in why(a, "dead"), why(a, "dead")
        assert not a["waits"]
        lb.cli("drain", "app/good")
        a = lb.cli_json("explain", "GET", "/")
        assert a["server"] is None and a["waits"] and a["reason"] == "full"
        assert "it would wait" in lb.cli("explain", "GET", "/").stdout
    finally:
        gate.opened.set()


def test_explain_has_the_scores_that_placement_goes_by(lab):
    agents = [lab.add(FakeAgent(cores=c)) for c in (8, 2)]
    servers = {f"s{i}": {"address": lab.origin(ok(f"s{i}")), "agent": a.address} for i, a in enumerate(agents)}
    lb = lab.proxy(servers, pool={"balance": "auto"})

    def cores():
        return {s["name"]: s["cores"] for s in lb.cli_json("explain", "GET", "/")["servers"]}
    wait_until(lambda: cores() == {"s0": 8, "s1": 2}, 10, "the agents are heard")
    agents[0].busy = 7.9

    def is_avoided():
        a = lb.cli_json("explain", "GET", "/")
        s = {x["name"]: x for x in a["servers"]}
        return a["server"] == "s1" and s["s0"]["verdict"] == "score" and s["s0"]["score"] > s["s1"]["score"] \
            and s["s0"]["wanted"] > 6
    wait_until(is_avoided, 20, "the loaded server is told to lose by its score")


def test_explain_finds_the_owner_of_a_key(lab):
    names = ["s1", "s2", "s3"]
    lb = lab.proxy({n: lab.origin(ok(n)) for n in names}, pool={"balance": "hash", "hash_by": "header:X-User", "hash_bound": "0"})
    c = lb.client()
    seen = set()
    for user in range(20):
        a = lb.cli_json("explain", "-H", f"X-User: u{user}", "GET", "/")
        seen.add(a["server"])
        assert c.request("/", fields=[("X-User", f"u{user}")]).body.decode() == a["server"]
    assert seen == set(names)
    assert lb.cli_json("explain", "GET", "/")["server"] is None, "without a key it is by chance"
