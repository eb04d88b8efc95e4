# SPDX-License-Identifier: BSD-2-Clause
"""The load generators of bench/run.

Making one warms the balancer up and leaves it at rest; go() loads it for a while, waits until every
request has ended, and says what came of it: requests, bytes (of bodies), seconds, p50_us, p99_us and
errors.
"""
import contextlib
import json
import re
import statistics
import subprocess

from cases import filled
from stage import Trouble

WARM_SECONDS = 0.4


class OwnLoad:
    """load.c: it warms up, says that it is ready, and waits for a word."""

    def __init__(self, children, case, port, seconds, core, tools):
        self.children = children
        argv = [str(tools / "load"), "-g", "-p", str(port), "-w", str(WARM_SECONDS), "-t", str(seconds),
                *case.load.split()]
        self.process = children.start("load", argv, core, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise self.failed()

    def failed(self):
        return Trouble(f"the load generator failed:\n{self.children.log_of(self.process)}")

    def go(self):
        try:
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (json.JSONDecodeError, BrokenPipeError):
            raise self.failed() from None

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.children.stop(self.process)


class H2Load:
    """nghttp2's h2load.  It has no gate: what it took to make its connections, of which there are
    few, is measured with the rest.  The warm-up says how many requests fill the time."""

    def __init__(self, children, case, port, seconds, core, tools):
        del tools
        self.children, self.core, self.n_bytes = children, core, case.n_bytes
        *options, path = filled(case.load, {"DIR": children.directory}).split()
        self.log = children.directory / "h2load.requests"
        scheme = "https" if case.port == "tls" else "http"
        self.options = ["-t", "1", "-T", "60s", "-N", "20s", "--log-file", str(self.log),
                        "--groups", "X25519", *options, f"{scheme}://127.0.0.1:{port}{path}"]
        warm = self.run("-D", f"{WARM_SECONDS * 1000:.0f}ms")
        self.requests = max(1000, int(warm["requests"] / WARM_SECONDS * seconds))

    def run(self, *length):
        with contextlib.suppress(FileNotFoundError):
            self.log.unlink()
        self.process = self.children.start("h2load", ["h2load", *length, *self.options], self.core)
        self.process.wait()
        said = (self.children.directory / "h2load.log").read_text(errors="replace")
        try:
            return self.result(said)
        except (AttributeError, OSError, ValueError):
            raise Trouble(f"h2load failed:\n{self.children.log_of(self.process)}") from None
        finally:
            self.children.stop(self.process)

    def result(self, said):
        took, unit = re.search(r"finished in ([\d.]+)(us|ms|s),", said).groups()
        total, done = map(int, re.search(r"(\d+) total, .* (\d+) succeeded", said).groups())
        n_ok = int(re.search(r"(\d+) 2xx", said).group(1))
        n_bytes = int(re.search(r"\((\d+)\) data", said).group(1))
        times = sorted(int(line.split("\t")[2]) for line in self.log.read_text().splitlines())
        return {"requests": done, "bytes": n_bytes,
                "seconds": float(took) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit],
                "p50_us": statistics.median(times), "p99_us": times[len(times) * 99 // 100],
                # an error of gRPC is a 200 without a message
                "errors": total - min(done, n_ok) + abs(n_bytes // self.n_bytes - done)}

    def go(self):
        return self.run("-n", str(self.requests))

    def end(self):
        """It has ended."""


def generator_of(case):
    return H2Load if case.h2 else OwnLoad
