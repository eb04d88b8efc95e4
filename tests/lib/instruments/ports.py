# SPDX-License-Identifier: BSD-2-Clause
"""Free ports on loopback, below the range from which the kernel takes them for outgoing connections."""

import os
import random
import socket

_used = set()
_rng = random.Random(os.getpid())


def _is_free(port, host, kinds):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in kinds:
        with socket.socket(family, kind) as s:
            if kind == socket.SOCK_STREAM:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
            except OSError:
                return False
    return True


def free_port(host="127.0.0.1", udp=False):
    """A port that nobody uses now and that this process has not handed out before."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low = int(f.read().split()[0])
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if udp else (socket.SOCK_STREAM,)
    for _ in range(2000):
        port = _rng.randrange(10000, max(low, 12000))
        if port not in _used and _is_free(port, host, kinds):
            _used.add(port)
            return port
    raise RuntimeError("no free port")
