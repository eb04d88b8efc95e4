# SPDX-License-Identifier: BSD-2-Clause
"""Datagrams of garbage, many a second, from the host where it is started.

    with host:
        f = Flood((address, port), known=sniff(network, to)).start()
    f.stop();  f.per_s
"""

import ctypes
import os
import socket
import struct
import threading
import time

from .netrelay import ETH_P_ALL

BATCH, SIZE = 64, 200
# docs/cluster.md, "Datagrams": version, flags and key id, and behind them the boot id
NAMED, BOOTED = 6, 22

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(_Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", _Msghdr), ("sent", ctypes.c_uint32)]


def sniff(net, to, port, timeout=10.0):
    """The payload of a datagram that a host gets at this port, as seen on its wire."""
    with net.switch, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind((to.port, ETH_P_ALL))
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            s.settimeout(left)
            frame = s.recv(65536)
            ip = frame[14:]
            if frame[12:14] != b"\x08\x00" or ip[9] != socket.IPPROTO_UDP or ip[16:20] != socket.inet_aton(to.address):
                continue
            udp = ip[(ip[0] & 15) * 4:]
            _, at, length = struct.unpack(">HHH", udp[:6])
            if at == port:
                return udp[8:length]
    raise AssertionError(f"no datagram came to {to} port {port}")


class Flood:
    """known: a datagram that was overheard.  Of the garbage a quarter is random, a quarter has its head and
    a sender nobody knows, a quarter its sender, too, and a quarter is that datagram once more."""

    def __init__(self, to, known, per_s=50000, for_s=5.0):
        self.known, self.rate, self.for_s = known, per_s, for_s
        self.sent, self.took, self.faults = 0, 0.0, 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(to)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    per_s = property(lambda self: self.sent / self.took if self.took else 0.0)

    def start(self):
        self.thread.start()
        return self

    def join(self):
        self.thread.join()
        self.sock.close()
        return self

    def stop(self):
        self.stopping.set()
        return self.join()

    def _fill(self, room):
        n = BATCH * SIZE
        room[:n] = os.urandom(n)
        for i in range(BATCH):
            part = self.known[:(0, NAMED, BOOTED, SIZE)[i % 4]]
            room[i * SIZE:i * SIZE + len(part)] = part

    def _run(self):
        room = bytearray(BATCH * SIZE)
        base = ctypes.addressof((ctypes.c_char * len(room)).from_buffer(room))
        iov = (_Iovec * BATCH)(*[_Iovec(base + i * SIZE, SIZE) for i in range(BATCH)])
        for i in range(3, BATCH, 4):
            iov[i].len = min(SIZE, len(self.known))
        hdr = (_Mmsghdr * BATCH)()
        for i, h in enumerate(hdr):
            h.hdr.iov, h.hdr.iovlen = ctypes.pointer(iov[i]), 1
        begin = now = time.monotonic()
        while not self.stopping.is_set() and now - begin < self.for_s:
            self._fill(room)
            n = _libc.sendmmsg(self.sock.fileno(), hdr, BATCH, 0)
            self.sent, self.faults = self.sent + max(n, 0), self.faults + (n < 0)
            ahead = begin + self.sent / self.rate - time.monotonic()
            if ahead > 0:
                self.stopping.wait(ahead)
            now = time.monotonic()
        self.took = now - begin
