# SPDX-License-Identifier: BSD-2-Clause
"""A client of HTTP/2 frames."""

import select
import socket
import struct

import h2.config
import h2.connection
import h2.events
import h2.settings

from .wait import wait_until


class H2:
    """A client of frames: h2 keeps the state, the test decides what is read and acknowledged."""

    def __init__(self, lb, window=None):
        self.sock = socket.create_connection(("127.0.0.1", lb.conf.port), timeout=30)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events, self.data, self.heads, self.trailers, self.ended = [], {}, {}, {}, {}
        self.goaways, self.eof, self.got = [], False, b""
        self.ack = True      # give windows back as data comes
        self.next = 1
        self.flush()

    def flush(self):
        out = self.h2.data_to_send()
        if out:
            self.sock.sendall(out)

    def close(self):
        self.sock.close()

    def ask(self, path="/", method="GET", fields=(), end=True):
        sid = self.next
        self.next += 2
        self.h2.send_headers(sid, [(":method", method), (":scheme", "http"), (":authority", "a.test"),
                                   (":path", path), *fields], end_stream=end)
        self.flush()
        return sid

    def read(self, timeout=0.05):
        """What has come; True when something has."""
        if self.eof or not select.select([self.sock], [], [], timeout)[0]:
            return False
        try:
            got = self.sock.recv(65536)
        except (ConnectionResetError, TimeoutError):
            got = b""
        if not got:
            self.eof = True
            return False
        self.got += got
        while len(self.got) >= 9 and len(self.got) >= 9 + (n := int.from_bytes(self.got[:3], "big")):
            frame, self.got = self.got[:9 + n], self.got[9 + n:]
            if frame[3] == 7:      # GOAWAY, after which h2 would hear nothing of streams that go on
                self.goaways.append(struct.unpack(">II", frame[9:17]))
                continue
            for e in self.h2.receive_data(frame):
                self.take(e)
        self.flush()
        return True

    def take(self, e):
        self.events.append(e)
        if isinstance(e, h2.events.ResponseReceived):
            self.heads[e.stream_id] = {k.decode() if isinstance(k, bytes) else k:
                                       v.decode() if isinstance(v, bytes) else v for k, v in e.headers}
        elif isinstance(e, h2.events.DataReceived):
            self.data[e.stream_id] = self.data.get(e.stream_id, b"") + e.data
            if self.ack and e.flow_controlled_length:
                self.h2.increment_flow_control_window(e.flow_controlled_length)
                try:
                    self.h2.increment_flow_control_window(e.flow_controlled_length, e.stream_id)
                except Exception:  # the stream has ended
                    pass
        elif isinstance(e, h2.events.TrailersReceived):
            self.trailers[e.stream_id] = dict(e.headers)
        elif isinstance(e, h2.events.StreamEnded):
            self.ended[e.stream_id] = "end"
        elif isinstance(e, h2.events.StreamReset):
            self.ended.setdefault(e.stream_id, f"reset {int(e.error_code)}")

    def until(self, what):
        def ready():
            self.read()
            return what()
        wait_until(ready)

    def answer(self, sid):
        self.until(lambda: sid in self.ended or self.eof)
        assert self.ended.get(sid) == "end", (self.ended, self.eof)
        return int(self.heads[sid][":status"]), self.data.get(sid, b"")
