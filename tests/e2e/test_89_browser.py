# SPDX-License-Identifier: BSD-2-Clause
"""A real browser, Chromium without a screen, that loads pages and speaks WebSocket through the balancer.

The page's script posts what it saw to the origin, through the balancer; then the browser is ended.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from instruments.origin import ok, response
from instruments.pki import Authority
from instruments.wait import wait_until
from instruments.websocket import WsServer

CHROMIUM = shutil.which("chromium")

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"), pytest.mark.bound(150)]

RESOURCES = {"/style.css": ("text/css", "body { color: rgb(1, 2, 3); }"),
             "/code.js": ("text/javascript", "window.code = 'ran';"),
             "/more.js": ("text/javascript", "window.more = 'ran too';"),
             "/data.json": ("application/json", json.dumps({"rows": list(range(2000))})),
             "/pixel.svg": ("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='5'/>")}

PAGE = """<!doctype html><html><head><title>t</title><link rel=stylesheet href=/style.css>
<script src=/code.js></script><script src=/more.js></script></head>
<body><img id=pixel src=/pixel.svg><script>
const seen = {}, show = () => fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
%s
</script></body></html>"""

LOAD = """
addEventListener("load", async () => {
  seen.code = window.code; seen.more = window.more;
  seen.color = getComputedStyle(document.body).color;
  seen.width = document.getElementById("pixel").naturalWidth;
  seen.rows = (await (await fetch("/data.json")).json()).rows.length;
  const body = "x".repeat(300000);
  seen.posted = await (await fetch("/post", {method: "POST", body})).text();
  seen.protocols = performance.getEntriesByType("resource").map(e => e.nextHopProtocol);
  seen.page = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  show();
});
"""

SOCKET = """
const ws = new WebSocket((location.protocol == "https:" ? "wss://" : "ws://") + location.host + "/socket", ["chat"]);
const big = new Uint8Array(1 << 20).map((_, i) => i * 7);
seen.messages = [];
ws.binaryType = "arraybuffer";
ws.onopen = () => { seen.protocol = ws.protocol; seen.extensions = ws.extensions; ws.send("hello"); ws.send(big); };
ws.onmessage = e => {
  if (typeof e.data == "string") { seen.messages.push(e.data); return; }
  const b = new Uint8Array(e.data);
  seen.big = b.length == big.length && b.every((v, i) => v == big[i]);
  ws.send("close");
};
ws.onerror = () => { seen.error = true; };
ws.onclose = e => { seen.close = [e.code, e.reason, e.wasClean]; show(); };
"""


class Browser:
    """with Browser(lab, url): while it looks at the page"""

    def __init__(self, lab, url):
        self.url, self.profile = url, lab.dir("profile")
        self.said = tempfile.TemporaryFile()

    def __enter__(self):
        argv = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
                "--ignore-certificate-errors", f"--user-data-dir={self.profile}", self.url]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said,
                                        env=dict(os.environ, HOME=self.profile), start_new_session=True)
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.said.close()


def see(lab, lb, url):
    """What the page's script has posted."""
    def posted():
        return next((r for r in lb.pages.whole_requests() if r.target == "/seen"), None)
    with Browser(lab, url) as b:
        try:
            return json.loads(wait_until(posted, 60, "the page's script is done").body)
        except AssertionError as e:
            b.said.seek(0)
            raise AssertionError(f"{e}\n{b.said.read()[-3000:].decode()}\n{lb.stderr[-2000:]}") from None


def pages(conn, r):
    path = r.target.partition("?")[0]
    if path == "/load":
        return ok(PAGE % LOAD, [("Content-Type", "text/html")])
    if path == "/talk":
        return ok(PAGE % SOCKET, [("Content-Type", "text/html")])
    if path in ("/post", "/seen"):
        return ok(f"{r.method} {len(r.body)}")
    if path in RESOURCES:
        kind, body = RESOURCES[path]
        return ok(body, [("Content-Type", kind)])
    return response(404)


async def chat(ws):
    async for message in ws:
        if message == "close":
            await ws.close(4000, "as asked")
        else:
            await ws.send(message)


# With TLS, ALPN decides: nobody speaks HTTP/2 without it to browsers.
WAYS = {"http": (False, "auto", "1.1"), "https-http1": (True, "http1", "1.1"), "https-h2": (True, "auto", "2")}
ways = pytest.mark.parametrize("tls,protocol,version", WAYS.values(), ids=WAYS.keys())


def house_of(lab, tls, protocol):
    """Pages, and a WebSocket server below /socket, behind one listener."""
    listen = {"protocol": protocol}
    if tls:
        listen["tls"] = {"certificate": [Authority(lab.dir("pki")).issue("localhost")]}
    origin = lab.origin(pages)
    conf = lab.conf(origin, listen=listen, log="json", routes=False)
    conf.pool("sockets", {"w": lab.add(WsServer(chat, subprotocols=["chat"])).address})
    conf.route("sockets", "sockets", path="/socket")
    conf.route("all", "app")
    lb = lab.start(conf)
    lb.pages = origin
    return lb


def url_of(lb, tls, path):
    return f"{'https' if tls else 'http'}://localhost:{lb.port}{path}"


def check_page(seen):
    assert seen["code"] == "ran" and seen["more"] == "ran too" and seen["rows"] == 2000
    assert seen["color"] == "rgb(1, 2, 3)" and seen["width"] == 7
    assert seen["posted"] == "POST 300000"


def check_talk(lb, seen):
    assert "error" not in seen, seen
    assert seen["protocol"] == "chat" and "permessage-deflate" in seen["extensions"]
    assert seen["messages"] == ["hello"] and seen["big"]
    assert seen["close"] == [4000, "as asked", True]
    line = wait_until(lambda: next((x for x in lb.log_json() if x.get("tunnel")), None), what="the tunnel is logged")
    assert line["tunnel"] == "websocket" and line["end"] in ("ok", "client-gone") and line["pool"] == "sockets"
    return line


@ways
def test_a_page_is_loaded(lab, tls, protocol, version):
    lb = house_of(lab, tls, protocol)
    seen = see(lab, lb, url_of(lb, tls, "/load"))
    check_page(seen)
    assert {seen["page"], *seen["protocols"]} == {"h2" if version == "2" else "http/1.1"}
    wanted = {"/load", "/post", *RESOURCES}
    wait_until(lambda: {x["target"] for x in lb.log_json()} >= wanted, what="all requests are logged")
    assert {(x["status"], x["version"]) for x in lb.log_json() if x["target"] in wanted} == {(200, version)}


@ways
def test_a_page_speaks_websocket(lab, tls, protocol, version):
    """In HTTP/2 it is a stream of the connection that brought the page (RFC 8441)."""
    lb = house_of(lab, tls, protocol)
    line = check_talk(lb, see(lab, lb, url_of(lb, tls, "/talk")))
    assert (line["status"], line["version"]) == (101, version)
