# SPDX-License-Identifier: BSD-2-Clause
"""Classes of requests by the operator's rules, and the answers of `meercat explain`."""

import json

import pytest

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
