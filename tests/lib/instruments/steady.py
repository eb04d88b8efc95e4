# SPDX-License-Identifier: BSD-2-Clause
"""A process of its own whose connections ask on and on, and check every byte: steady.py HOST PORT N PAUSE SIZE

    s = Steady(host, (vip, 80), 50); ...; s.wait_for(1000); report = s.stop()

Each of N connections asks for /CONNECTION/NUMBER, waits for the whole answer, which must be body_of() that, and
goes on after PAUSE seconds.  Nothing is tried again: a connection that fails is one failure, and ends.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time

from .netns import ENDS_WITH_US

ANSWER_S = 30


def body_of(target, size):
    """What an origin answers: no two targets alike, and no two places in one."""
    word = f"<{target}>".encode()
    return b"".join(b"%06d" % i + word for i in range(size // (len(word) + 6) + 1))[:size]


class Steady:
    def __init__(self, host, to, n, pause=0.01, size=400):
        with host:
            self.process = subprocess.Popen(
                [*ENDS_WITH_US, sys.executable, "-m", "instruments.steady", to[0], str(to[1]), str(n), str(pause),
                 str(size)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=__file__.rsplit("/", 2)[0])
        self.done, self.last = 0, {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.last = json.loads(line)
            self.done = self.last["done"]

    def wait_for(self, more, timeout=60):
        """So many more answers, or a failure."""
        target, end = self.done + more, time.monotonic() + timeout
        while self.done < target and time.monotonic() < end and not self.last.get("failures"):
            time.sleep(0.05)

    def stop(self):
        """{"done", "failures": [text], "longest_s", "longest": text}"""
        if self.process.stdin:
            self.process.stdin.close()
            self.process.stdin = None
        self.process.wait(timeout=ANSWER_S + 10)
        self._reader.join()
        return self.last

    def check(self):
        pass


class _Asker:
    def __init__(self, host, port, pause, size):
        self.to, self.pause, self.size = (host, port), pause, size
        self.done, self.failures, self.longest, self.where, self.ending = 0, [], 0.0, "", False

    async def _ask(self, reader, writer, port, target):
        begun = time.monotonic()
        writer.write(f"GET {target} HTTP/1.1\r\nHost: steady\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_S)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"{head[:200]!r}")
        length = [int(f.partition(b":")[2]) for f in head.lower().split(b"\r\n") if f.startswith(b"content-length:")]
        body = await asyncio.wait_for(reader.readexactly(length[0]), ANSWER_S)
        if body != body_of(target, self.size):
            raise ValueError(f"other bytes: {body[:80]!r}")
        took = time.monotonic() - begun
        self.done += 1
        if took > self.longest:
            self.longest, self.where = took, f"{target} of port {port}, ended at {time.time():.3f}"

    async def connection(self, number):
        n = port = 0
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(*self.to), ANSWER_S)
            port = writer.get_extra_info("sockname")[1]
            while not self.ending:
                n += 1
                await self._ask(reader, writer, port, f"/{number}/{n}")
                await asyncio.sleep(self.pause)
            writer.close()
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError) as e:
            self.failures.append(f"connection {number} (port {port}), request {n}, at {time.time():.3f}: {e!r}")

    def report(self):
        print(json.dumps({"done": self.done, "failures": self.failures, "longest_s": round(self.longest, 4),
                          "longest": self.where}),
              flush=True)

    async def reports(self):
        while not self.ending:
            self.report()
            await asyncio.sleep(0.1)

    async def run(self, n):
        loop = asyncio.get_running_loop()

        def end():
            sys.stdin.read()
            loop.call_soon_threadsafe(setattr, self, "ending", True)
        threading.Thread(target=end, daemon=True).start()
        await asyncio.gather(self.reports(), *[self.connection(i) for i in range(n)])
        self.report()


if __name__ == "__main__":
    _host, _port, _n, _pause, _size = sys.argv[1:]
    asyncio.run(_Asker(_host, int(_port), float(_pause), int(_size)).run(int(_n)))
