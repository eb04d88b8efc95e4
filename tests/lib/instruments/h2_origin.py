# SPDX-License-Identifier: BSD-2-Clause
"""A server that speaks HTTP/2 by python3-h2 and does what a script says, be it right or wrong."""

import socket
import struct
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (ConnectionTerminated, DataReceived, PingAckReceived, RequestReceived, SettingsAcknowledged,
                       StreamEnded, StreamReset, TrailersReceived, WindowUpdated)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from .wait import wait_until


class Stream:
    """A request as it comes in.  headers: pairs of text; ended: the client's side is whole."""

    def __init__(self, conn, sid, headers):
        self.conn, self.id = conn, sid
        self.headers = [(n.decode(), v.decode()) for n, v in headers]
        self.body = b""
        self.trailers = None
        self.ended = False
        self.reset = None      # error code of the client's RST_STREAM
        self._out, self._sent, self._end = b"", 0, False

    def __getitem__(self, name):
        values = [v for n, v in self.headers if n == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    path = property(lambda self: self[":path"])

    def head(self, status=200, fields=(), end=False):
        with self.conn.lock:
            self.conn.h2.send_headers(self.id, [(":status", str(status)), *fields], end_stream=end)
            self.conn.flush()

    def data(self, data, end=False):
        """All of it, as the windows allow; returns at once."""
        with self.conn.lock:
            self._out += data
            self._end |= end
            self.pump()

    def trailers_out(self, fields):
        with self.conn.lock:
            assert not self.unsent
            self.conn.h2.send_headers(self.id, fields, end_stream=True)
            self.conn.flush()

    def pump(self):
        h2 = self.conn.h2
        while self.unsent and self.reset is None:
            n = min(self.unsent, h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)
            if n <= 0:
                break
            piece = self._out[self._sent:self._sent + n]
            self._sent += n
            h2.send_data(self.id, piece, end_stream=self._end and not self.unsent)
            self._end &= self.unsent > 0
        if not self.unsent:
            self._out, self._sent = b"", 0
            if self._end and self.reset is None:
                h2.end_stream(self.id)
                self._end = False
        self.conn.flush()

    unsent = property(lambda self: len(self._out) - self._sent)

    def respond(self, status=200, body=b"", fields=()):
        self.head(status, [("content-length", str(len(body))), *fields], end=not body)
        if body:
            self.data(body, end=True)

    def refuse(self, code):
        self.conn.frame(RstStreamFrame(self.id, error_code=code))


class Conn:
    def __init__(self, origin, sock):
        self.origin, self.sock = origin, sock
        self.lock = threading.RLock()
        self.h2 = H2Connection(H2Configuration(
            client_side=False, header_encoding=None, validate_outbound_headers=False,
            normalize_outbound_headers=False, validate_inbound_headers=origin.strict))
        self.streams = {}
        self.closed = False
        self.goaway = None     # (last stream, code) from the client
        self.pings = 0         # answers to ours
        self.acks = 0          # to our SETTINGS

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def frame(self, *frames):
        """Sends frames as they are, past the rules of h2."""
        with self.lock:
            self.flush()
            try:
                self.sock.sendall(b"".join(f.serialize() for f in frames))
            except OSError:
                pass

    def fields(self, sid, pairs, end=True):
        """A HEADERS frame with whatever fields."""
        with self.lock:
            block = self.h2.encoder.encode(pairs)
            self.frame(HeadersFrame(sid, data=block, flags=["END_HEADERS"] + (["END_STREAM"] if end else [])))

    def bytes(self, sid, data, end=False):
        self.frame(DataFrame(sid, data=data, flags=["END_STREAM"] if end else []))

    def send_goaway(self, last, code=0):
        self.frame(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def settings(self, **values):
        with self.lock:
            self.h2.update_settings({SettingCodes[k.upper()]: v for k, v in values.items()})
            self.flush()

    def close(self, reset=False):
        try:
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)  # the reader lets go of it
        except OSError:
            pass
        self.sock.close()

    def run(self):
        with self.lock:
            if self.origin.settings is not None:
                self.h2.local_settings = Settings(
                    client=False, initial_values={SettingCodes[k.upper()]: v for k, v in self.origin.settings.items()})
            self.h2.initiate_connection()
            self.flush()
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    break
                with self.lock:
                    events = self.h2.receive_data(data)
                    self.flush()
                    for e in events:
                        self.event(e)
        except (OSError, ProtocolError) as e:
            self.error = e
        self.closed = True
        self.close()

    def event(self, e):
        s = self.streams.get(getattr(e, "stream_id", None))
        if isinstance(e, RequestReceived):
            s = self.streams[e.stream_id] = Stream(self, e.stream_id, e.headers)
            self.origin.seen.append(s)
            if self.origin.on_head:
                self.origin.on_head(s)
        elif isinstance(e, DataReceived):
            s.body += e.data
            if self.origin.reads:
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, TrailersReceived):
            s.trailers = [(n.decode(), v.decode()) for n, v in e.headers]
        elif isinstance(e, StreamEnded):
            s.ended = True
            if self.origin.on_end:
                self.origin.on_end(s)
        elif isinstance(e, StreamReset):
            if s is not None:
                s.reset = e.error_code
        elif isinstance(e, WindowUpdated):
            for s in list(self.streams.values()):
                s.pump()
        elif isinstance(e, ConnectionTerminated):
            self.goaway = (e.last_stream_id, e.error_code)
        elif isinstance(e, PingAckReceived):
            self.pings += 1
        elif isinstance(e, SettingsAcknowledged):
            self.acks += 1
        self.flush()


class H2Origin:
    """on_head(stream) and on_end(stream) are called when the head and the whole of a request have come; the
    default answers with 200 and the path.  settings: ours, e.g. max_concurrent_streams=3."""

    def __init__(self, on_end="path", on_head=None, settings=None, reads=True, strict=True, tls=None, hold=None):
        self.on_end = (lambda s: s.respond(200, s.path.encode())) if on_end == "path" else on_end
        self.on_head, self.settings, self.reads, self.strict, self.tls = on_head, settings, reads, strict, tls
        self.hold = hold       # an Event: connections are greeted when it is set
        self.conns, self.seen, self.errors = [], [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    address = property(lambda self: f"127.0.0.1:{self.port}")

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.hold is not None:
            self.hold.wait(30)
        if self.tls is not None:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError as e:
                self.errors.append(e)
                return
        conn = Conn(self, sock)
        self.conns.append(conn)
        conn.run()

    @property
    def open(self):
        return [c for c in self.conns if not c.closed]

    def wait_seen(self, n, timeout=5):
        wait_until(lambda: len(self.seen) >= n, timeout, f"{n} requests, have {len(self.seen)}")
        return self.seen[n - 1]

    def stop(self):
        self.listener.close()
        for c in list(self.conns):
            c.close()

    def check(self):
        pass


__all__ = ["H2Origin", "PingFrame", "SettingsFrame", "DataFrame", "HeadersFrame", "GoAwayFrame", "RstStreamFrame"]
