# SPDX-License-Identifier: BSD-2-Clause
"""A TCP client without a kernel: each segment is what the test says.

    with host:
        r = RawTcp(host.address, (vip, port))
    r.connect(); r.send(b"GET ..."); r.until(b"\\r\\n\\r\\n")
    r.segment(ACK | PUSH, seq=r.base, data=b"other bytes")

It acknowledges what it reads by until(), and nothing by itself.  Options of its SYN are its own: no windows are
scaled, no timestamps, no SACK.
"""

import itertools
import socket
import struct
import subprocess
import time

FIN, SYN, RST, PUSH, ACK = 1, 2, 4, 8, 16
MOD = 1 << 32

_numbers = itertools.count(20001)


def _sum16(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


class RawTcp:
    """Call it on the client's host; its kernel knows nothing of the connection, and is kept from saying so."""

    def __init__(self, own, to, mss=1000):
        self.own, self.to, self.mss, self.port = own, to, mss, next(_numbers)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.sock.connect((to[0], 0))
        self.base = self.seq = 0x10000000  # of the first byte; of the next
        self.ack, self.window, self.got = 0, 65535, b""
        subprocess.run(["nft", "-f", "-"], check=True, text=True,
                       input="table ip raw_tcp {\nchain out {\ntype filter hook output priority 0;\n"
                             f"tcp sport {self.port} tcp flags & rst == rst meta mark 0 drop\n}}\n}}\n")
        # what is ours passes
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)

    def segment(self, flags, seq=None, ack=None, data=b"", options=b""):
        seq, ack = self.seq if seq is None else seq, self.ack if ack is None else ack
        size = 20 + len(options)
        head = struct.pack("!HHIIBBHHH", self.port, self.to[1], seq % MOD, ack % MOD, size // 4 << 4, flags,
                           self.window, 0, 0) + options
        pseudo = socket.inet_aton(self.own) + socket.inet_aton(self.to[0]) + struct.pack("!BBH", 0, 6, size + len(data))
        total = struct.pack("!H", _sum16(pseudo + head + data))
        self.sock.send(head[:16] + total + head[18:] + data)

    def next(self, timeout):
        """(flags, seq, ack, data) of the next segment of the connection; None: there was none."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                packet = self.sock.recv(65536)
            except socket.timeout:
                return None
            tcp = packet[(packet[0] & 15) * 4:]
            source, to, seq, ack, offset, flags = struct.unpack("!HHIIBB", tcp[:14])
            if (source, to) == (self.to[1], self.port):
                return flags, seq, ack, tcp[(offset >> 4) * 4:]
        return None

    def connect(self, timeout=10):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.segment(SYN, options=struct.pack("!BBH", 2, 4, self.mss))
            s = self.next(1)
            if s and s[0] & SYN:
                self.seq, self.ack = self.base + 1, (s[1] + 1) % MOD
                self.base = self.seq
                self.segment(ACK)
                return
        raise AssertionError("no answer to SYN")

    def send(self, data):
        self.segment(ACK | PUSH, data=data)
        self.seq = (self.seq + len(data)) % MOD

    def until(self, mark, timeout=20, again=None):
        """Reads until mark has come, acknowledging each segment.  again: what is said to who asks, in place of
        an acknowledgement: (seq, data)."""
        end = time.monotonic() + timeout
        while mark not in self.got:
            s = self.next(max(0, end - time.monotonic()))
            if s is None:
                raise AssertionError(f"only {self.got!r} came")
            flags, seq, _, data = s
            if flags & RST:
                raise ConnectionResetError
            if data and seq == self.ack:
                self.got += data
                self.ack = (self.ack + len(data)) % MOD
            if data and again:  # also a probe: one byte that is old
                self.segment(ACK | PUSH, seq=again[0], data=again[1])
            elif data:
                self.segment(ACK)
        return self.got
