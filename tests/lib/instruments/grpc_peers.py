# SPDX-License-Identifier: BSD-2-Clause
"""A gRPC server and channels to it: the real library, without generated code; messages are bytes.

    server = Server(lab)   unary, streams and faults of the service "t.Echo"; knows what it was called with
    Channel(to)            .unary("Say", b"x"), .stream("Chat", iterator) ...
"""

import threading
from concurrent import futures

import grpc

SERVICE = "t.Echo"
LOCAL = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
         ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


class Call:
    """What the server saw of one call."""

    def __init__(self, method, context):
        self.method, self.metadata = method, dict(context.invocation_metadata())
        self.left_s, self.peer = context.time_remaining(), context.peer()
        self.got = []
        self.ended = threading.Event()    # however it ended
        self.cancelled = False
        context.add_callback(self.ended.set)


class Server:
    def __init__(self, port=0, credentials=None, threads=64, health=None):
        self.calls, self.lock, self.hold = [], threading.Lock(), threading.Event()
        self.port, self.credentials, self.threads = port, credentials, threads
        self.trailers = ()                # added to each call
        self.health = health              # {service: number of its status}; None: nobody answers
        self.checks = []                  # (service, metadata)
        self.start()

    def start(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(self.threads), options=[*LOCAL, ("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {
            "Say": grpc.unary_unary_rpc_method_handler(self.say),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Hold": grpc.unary_unary_rpc_method_handler(self.held),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Break": grpc.unary_stream_rpc_method_handler(self.breaks),
        }),))
        if self.health is not None:
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
                "Check": grpc.unary_unary_rpc_method_handler(self.check_health)}),))
        to = f"127.0.0.1:{self.port}"
        self.port = (self.server.add_secure_port(to, self.credentials) if self.credentials
                     else self.server.add_insecure_port(to))
        assert self.port, to
        self.server.start()
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _note(self, method, context):
        call = Call(method, context)
        with self.lock:
            self.calls.append(call)
        context.set_trailing_metadata((("x-served-by", str(self.port)), *self.trailers))
        return call

    def say(self, message, context):
        call = self._note("Say", context)
        context.send_initial_metadata((("x-initial", "yes"), ("x-bin", b"\0\1\xff")))
        call.got.append(message)
        return message

    def fail(self, message, context):
        """message: "CODE text"."""
        self._note("Fail", context)
        code, _, text = message.decode().partition(" ")
        context.abort(getattr(grpc.StatusCode, code), text)

    def held(self, message, context):
        """Answers when the test says so; when the call has ended, it does not matter."""
        call = self._note("Hold", context)
        while not self.hold.is_set() and not call.ended.wait(0.01):
            pass
        return message

    def count(self, message, context):
        """message: how many, and of what size."""
        call = self._note("Count", context)
        n, size = map(int, message.split())
        for i in range(n):
            if call.ended.is_set():
                return
            yield b"%d " % i + bytes(size)

    def sum(self, messages, context):
        call = self._note("Sum", context)
        for m in messages:
            call.got.append(len(m))
        return b"%d %d" % (len(call.got), sum(call.got))

    def chat(self, messages, context):
        """One answer to each message, at once."""
        self._note("Chat", context)
        for m in messages:
            yield b"re: " + m

    def breaks(self, message, context):
        """Some messages, then a status."""
        self._note("Break", context)
        yield b"1"
        yield b"2"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost the rest")

    def check_health(self, message, context):
        """HealthCheckRequest { string service = 1; } HealthCheckResponse { ServingStatus status = 1; }"""
        assert message == b"" or (message[0] == 0x0a and message[1] == len(message) - 2)
        service = message[2:].decode()
        self.checks.append((service, dict(context.invocation_metadata())))
        if service not in self.health:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        status = self.health[service]
        return bytes([8, status]) if status else b""

    def stop(self, grace=None):
        self.hold.set()
        self.server.stop(grace).wait(20)

    def check(self):
        pass


class Channel:
    def __init__(self, to, credentials=None, options=()):
        options = [*LOCAL, *options]
        self.channel = (grpc.secure_channel(to, credentials, options) if credentials
                        else grpc.insecure_channel(to, options))

    def unary(self, method, message=b"x", timeout=20, **kw):
        """(answer, call)"""
        return self.channel.unary_unary(f"/{SERVICE}/{method}").with_call(message, timeout=timeout, **kw)

    def begin(self, method, message=b"x", timeout=20, **kw):
        return self.channel.unary_unary(f"/{SERVICE}/{method}").future(message, timeout=timeout, **kw)

    def down(self, method, message, timeout=60, **kw):
        return self.channel.unary_stream(f"/{SERVICE}/{method}")(message, timeout=timeout, **kw)

    def up(self, method, messages, timeout=60, **kw):
        return self.channel.stream_unary(f"/{SERVICE}/{method}").with_call(messages, timeout=timeout, **kw)

    def both(self, method, messages, timeout=60, **kw):
        return self.channel.stream_stream(f"/{SERVICE}/{method}")(messages, timeout=timeout, **kw)

    def close(self):
        self.channel.close()
