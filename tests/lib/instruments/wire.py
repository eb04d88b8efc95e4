# SPDX-License-Identifier: BSD-2-Clause
"""What passes on the wire of a host, and when.

    wire = Wire(host, [address, ...])
    ...
    for ns, a, b, payload in wire.packets(): ...

The kernel keeps the packets, as many as there is room for, until they are asked for: nothing runs meanwhile.
"""

import collections
import contextlib
import ctypes
import re
import socket
import struct

BYTES, ROOM = 192, 64 << 20      # of a packet; of all, as the kernel counts: some 500 to 1,000 bytes each
SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_ATTACH_FILTER, ETH_P_ALL = 33, 35, 26, 3
# of classic BPF: loads of so many bytes, jeq, ret
LOAD_1, LOAD_2, LOAD_4, EQUAL, RETURN = 0x30, 0x28, 0x20, 0x15, 0x06

# When a request came, was sent on to a server, was answered by it, and the answer sent on; ns.
Request = collections.namedtuple("Request", "came sent answered told")


class Wire:
    def __init__(self, host, addresses, room=ROOM):
        with host:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._filter([struct.unpack(">I", socket.inet_aton(a))[0] for a in addresses])
        self.sock.bind(("eth0", ETH_P_ALL))
        self.sock.setblocking(False)

    def _filter(self, addresses):
        """IPv4 and TCP, from or to one of them."""
        tests = [(26, a) for a in addresses] + [(30, a) for a in addresses]
        code = [(LOAD_2, 0, 0, 12), (EQUAL, 0, 2 * len(tests) + 2, 0x800),
                (LOAD_1, 0, 0, 23), (EQUAL, 0, 2 * len(tests), socket.IPPROTO_TCP)]
        for i, (at, address) in enumerate(tests):
            code += [(LOAD_4, 0, 0, at), (EQUAL, 2 * (len(tests) - i) - 1, 0, address)]
        code += [(RETURN, 0, 0, 0), (RETURN, 0, 0, BYTES)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                             struct.pack("HL", len(code), ctypes.addressof(program)))

    def packets(self):
        """(ns, from, to, payload): what has come, with the addresses as (address, port)."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, said, _, _ = self.sock.recvmsg(BYTES, 64)
                s, ns = struct.unpack("qq", said[0][2])
                ip = frame[14:]
                tcp = ip[(ip[0] & 15) * 4:struct.unpack(">H", ip[2:4])[0]]
                ports = struct.unpack(">HH", tcp[:4])
                yield s * 10**9 + ns, (ip[12:16], ports[0]), (ip[16:20], ports[1]), tcp[(tcp[12] >> 4) * 4:]

    def close(self):
        self.sock.close()


def requests(packets, vip, server):
    """Those of steady(1) that a balancer forwarded between these addresses: a Request each."""
    vip, server = socket.inet_aton(vip), socket.inet_aton(server)
    came, sent, answered = {}, {}, {}
    for ns, a, b, payload in packets:
        request = re.match(rb"[A-Z]+ (/c/\d+)/", payload)
        if request and b[0] == vip:
            came[request[1]] = (a, ns)
        elif request and b[0] == server and request[1] in came:
            sent[a] = (*came.pop(request[1]), ns)
        elif payload and a[0] == server and b in sent:
            client, *times = sent.pop(b)
            answered[client] = (*times, ns)
        elif payload and a[0] == vip and b in answered:
            yield Request(*answered.pop(b), ns)
