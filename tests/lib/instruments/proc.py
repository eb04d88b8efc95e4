# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel says of a process and of sockets."""

import os
import re

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of all threads so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return line.split(":", 1)[1].strip()
    raise KeyError(key)


def rss_bytes(pid):
    return int(_status(pid, "VmRSS").split()[0]) * 1024


def peak_rss_bytes(pid):
    return int(_status(pid, "VmHWM").split()[0]) * 1024


def uids(pid):
    return [int(x) for x in _status(pid, "Uid").split()]


def gids(pid):
    return [int(x) for x in _status(pid, "Gid").split()]


def groups(pid):
    return [int(x) for x in _status(pid, "Groups").split()]


def pss_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def socket_fds(pid):
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            n += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
        except OSError:
            pass
    return n


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _tcp_rows():
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path) as f:
                next(f)
                for line in f:
                    yield line.split()
        except OSError:
            pass


def listening_ports():
    """Ports of TCP in LISTEN, without connecting to any of them."""
    return {int(r[1].rsplit(":", 1)[1], 16) for r in _tcp_rows() if r[3] == "0A"}


def established_to(port):
    """Connections in ESTABLISHED whose local port is `port`."""
    return sum(1 for r in _tcp_rows()
               if r[3] == "01" and int(r[1].rsplit(":", 1)[1], 16) == port)
