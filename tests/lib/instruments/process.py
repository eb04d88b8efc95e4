# SPDX-License-Identifier: BSD-2-Clause
"""A child process whose standard error is gathered and whose end is certain."""

import os
import signal as signals
import subprocess
import threading

from . import proc
from .wait import SLOW, wait_until


class Process:
    def __init__(self, argv, env=None, cwd=None, preexec=None, stdout=subprocess.DEVNULL, pass_fds=()):
        full = dict(os.environ)
        full.pop("NOTIFY_SOCKET", None)
        full.update(env or {})
        self.argv = argv
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                                      env=full, cwd=cwd, preexec_fn=preexec, pass_fds=pass_fds)
        self.pid = self.child.pid
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.child.stderr:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    @property
    def stderr(self):
        return "\n".join(self.lines)

    def running(self):
        return self.child.poll() is None

    def signal(self, sig):
        assert self.running(), f"{self.argv[0]} has ended with {self.child.returncode}:\n{self.stderr}"
        self.child.send_signal(sig)

    def wait_line(self, text, timeout=5, since=0):
        """The first line of stderr with this text."""
        def found():
            for line in self.lines[since:]:
                if text in line:
                    return line
            return None
        try:
            return wait_until(found, timeout, f"{text!r} on stderr")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.stderr}") from None

    def wait_exit(self, timeout=10):
        try:
            code = self.child.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[0]} still runs after {timeout * SLOW:g} s:\n{self.stderr}") from None
        self._reader.join(5)
        return code

    def kill(self):
        if self.running():
            self.child.send_signal(signals.SIGKILL)
        self.child.wait()
        self._reader.join(5)

    def stop(self, sig=signals.SIGTERM, timeout=5):
        if self.running():
            self.child.send_signal(sig)
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(5)
        return self.child.returncode

    def check(self):
        pass

    cpu_seconds = property(lambda self: proc.cpu_seconds(self.pid))
