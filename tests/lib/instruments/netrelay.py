# SPDX-License-Identifier: BSD-2-Clause
"""A long wire: what comes in at one interface leaves at another after a while, both ways.

Kernels have netem for this, where it was built in; this needs packet sockets only.
"""

import collections
import os
import select
import socket
import threading
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
FRAME_MAX = 1 << 17  # offloads join segments, whose header in front says so (PACKET_VNET_HDR)


def _open(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # checksums and segments that the sender left to its card are still so at the other end
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind((interface, ETH_P_ALL))
    s.setblocking(False)
    return s


class Relay(threading.Thread):
    def __init__(self, inner, outer, delay_s):
        super().__init__(daemon=True)
        self.inner, self.outer, self.delay_s = inner, outer, delay_s
        self.ends = [_open(inner), _open(outer)]
        self.waiting = collections.deque()  # (when, to whom, frame): all wait equally long
        self.stopping = threading.Event()
        self.lost = 0
        self.start()

    def stop(self):
        self.stopping.set()
        self.join()
        for s in self.ends:
            s.close()

    def run(self):
        # a wire waits for no processor
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        while not self.stopping.is_set():
            due = self.waiting[0][0] - time.monotonic() if self.waiting else 0.2
            ready, _, _ = select.select(self.ends, [], [], min(max(due, 0), 0.2))
            for s in ready:
                self._take(s, self.ends[1 - self.ends.index(s)])
            now = time.monotonic()
            while self.waiting and self.waiting[0][0] <= now:
                _, to, frame = self.waiting.popleft()
                self._give(to, frame)

    def _take(self, s, to):
        try:
            while True:
                frame = s.recv(FRAME_MAX)
                self.waiting.append((time.monotonic() + self.delay_s, to, frame))
        except OSError:  # none left, or the interface went down
            pass

    def _give(self, to, frame):
        try:
            to.send(frame)
        except OSError:
            self.lost += 1
