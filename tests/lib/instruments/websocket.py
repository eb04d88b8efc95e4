# SPDX-License-Identifier: BSD-2-Clause
"""A real WebSocket server (python3-websockets) on a thread of its own, and how to begin an upgrade by hand."""

import asyncio
import threading

import websockets

from .wait import SLOW

KEY = "dGhlIHNhbXBsZSBub25jZQ=="        # RFC 6455 1.3 has both
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASK = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n")


class WsServer:
    """handler(ws): a coroutine; an echo when not given."""

    def __init__(self, handler=None, **kw):
        self.seen = []  # request heads
        self._handler = handler or self._echo
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._kw = dict({"max_size": None}, **kw)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10 * SLOW), "the WebSocket server did not start"

    @staticmethod
    async def _echo(ws):
        async for message in ws:
            await ws.send(message)

    async def _serve(self, ws):
        self.seen.append((ws.path, ws.request_headers))
        await self._handler(ws)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(websockets.serve(self._serve, "127.0.0.1", 0, **self._kw))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()

    address = property(lambda self: f"127.0.0.1:{self.port}")

    def stop(self):
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10 * SLOW)

    def check(self):
        assert not self._thread.is_alive(), "the WebSocket server did not end"


def talk(url, conversation, timeout=20, **kw):
    """Runs conversation(ws), a coroutine, on a new connection; returns what it returns."""
    async def run():
        async with websockets.connect(url, **dict({"max_size": None, "open_timeout": timeout * SLOW}, **kw)) as ws:
            return await conversation(ws)
    return asyncio.run(asyncio.wait_for(run(), timeout * SLOW))
