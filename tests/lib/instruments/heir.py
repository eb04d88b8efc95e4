# SPDX-License-Identifier: BSD-2-Clause
"""A process that a child of ours started before it ended, as subprocess.Popen has it."""

import ctypes
import os
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36


class Heir:
    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    @staticmethod
    def adopt_orphans(on=True):
        """Whose parent ends becomes ours from now on, so that how it ends can be asked."""
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # its parent still runs, and hears of its end in our place
                if not os.path.exists(f"/proc/{self.pid}"):
                    self.returncode = 0
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, signal):
        os.kill(self.pid, signal)
