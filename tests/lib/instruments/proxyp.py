# SPDX-License-Identifier: BSD-2-Clause
"""PROXY headers, made and read as doc/proxy-protocol.txt of HAProxy says."""

import ipaddress
import struct

from .origin import Eof

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, SSL_VERSION, SSL_CN, SSL_CIPHER = 1, 2, 3, 4, 5, 0x20, 0x21, 0x22, 0x23


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def v1(src, sport, dst="203.0.113.9", dport=443):
    kind = "TCP6" if ":" in src else "TCP4"
    return f"PROXY {kind} {src} {dst} {sport} {dport}\r\n".encode()


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def v2(src=None, sport=0, dst="203.0.113.9", dport=443, tlvs=b"", command=0x21, family=None, crc=False):
    """src: an address, "unix:/path", or None for no addresses."""
    if src is None:
        family, body = family or 0, b""
    elif src.startswith("unix:"):
        family, body = 0x31, src[5:].encode().ljust(108, b"\0") + bytes(108)
    else:
        a, b = ipaddress.ip_address(src), ipaddress.ip_address(dst)
        family = family or (0x11 if a.version == 4 else 0x21)
        body = a.packed + b.packed + struct.pack(">HH", sport, dport)
    body += tlvs + (tlv(CRC32C, bytes(4)) if crc else b"")
    header = SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body
    return header[:-4] + struct.pack(">I", crc32c(header)) if crc else header


def tls_tlv(version=b"TLSv1.3", cipher=b"TLS_AES_256_GCM_SHA384", client=1, verify=0):
    return tlv(SSL, struct.pack(">BI", client, verify) + tlv(SSL_VERSION, version) + tlv(SSL_CIPHER, cipher))


def read_tlvs(data):
    out = {}
    while data:
        kind, n = struct.unpack(">BH", data[:3])
        assert len(data) >= 3 + n and kind not in out
        out[kind], data = data[3:3 + n], data[3 + n:]
    return out


class Header:
    """What an origin was told."""

    def __init__(self, conn):
        first = conn.read_exactly(12)
        self.version = 2 if first == SIGNATURE else 1
        self.src = self.dst = None
        self.tlvs = {}
        if self.version == 1:
            assert first.startswith(b"PROXY "), first
            self._line(first + (b"" if first.endswith(b"\r\n") else conn.read_line()))
        else:
            self._binary(first, conn)

    def _line(self, line):
        words = line[:-2].decode().split(" ")
        assert line.endswith(b"\r\n") and len(line) <= 107
        self.local = words[1] == "UNKNOWN"
        if not self.local:
            _, kind, src, dst, sport, dport = words
            assert kind == ("TCP6" if ":" in src else "TCP4")
            self.src, self.dst = (src, int(sport)), (dst, int(dport))

    def _binary(self, first, conn):
        fixed = conn.read_exactly(4)
        command, family, n = struct.unpack(">BBH", fixed)
        body = conn.read_exactly(n)
        self.local = command == 0x20
        assert command in (0x20, 0x21)
        size = {0x11: 4, 0x21: 16, 0x31: 108}.get(family, 0)
        at = 2 * size + (4 if size in (4, 16) else 0)
        if size in (4, 16):
            a, b = (str(ipaddress.ip_address(body[i:i + size])) for i in (0, size))
            ports = struct.unpack(">HH", body[2 * size:at])
            self.src, self.dst = (a, ports[0]), (b, ports[1])
        elif size:
            self.src, self.dst = (body[i:i + size].rstrip(b"\0").decode() for i in (0, size))
        self.tlvs = read_tlvs(body[at:])
        if CRC32C in self.tlvs:
            whole = first + fixed + body
            assert whole.endswith(tlv(CRC32C, self.tlvs[CRC32C]))
            assert struct.pack(">I", crc32c(whole[:-4] + bytes(4))) == self.tlvs[CRC32C]


def told(headers, reply):
    """A script for an Origin: each connection begins with a header, which is kept in the list."""
    def script(conn):
        try:
            headers.append(Header(conn))
        except Eof:  # a check that only connects, perhaps
            return
        while conn.read_request() is not None:
            if not conn.send(reply):
                return
    return script
