# SPDX-License-Identifier: BSD-2-Clause
"""A client that speaks TLS.  What ends without close_notify has ended badly: ssl.SSLEOFError."""

import ssl

from .client import Client
from .origin import Origin


def context(ca=None, cert=None, versions=None, alpn=None, ciphers=None):
    """ca: an Authority, None trusts everybody.  cert: a PEM file.  versions: (oldest, newest)."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
    else:
        ctx.load_verify_locations(ca.pem)
    if cert:
        ctx.load_cert_chain(cert)
    if versions:
        ctx.minimum_version, ctx.maximum_version = versions
    if alpn:
        ctx.set_alpn_protocols(alpn)
    if ciphers:
        ctx.set_ciphers(ciphers)
    return ctx


class TlsClient(Client):
    """ctx: of context(), shared by clients that resume each other's sessions."""

    def __init__(self, to, ctx, name="a.test", session=None, **kw):
        super().__init__(to, **kw)
        self.sock = ctx.wrap_socket(self.sock, server_hostname=name, suppress_ragged_eofs=False, session=session)

    @property
    def session(self):
        return self.sock.session

    @property
    def reused(self):
        return self.sock.session_reused

    def subject(self):
        """The common name of the server's certificate."""
        return dict(x[0] for x in self.sock.getpeercert()["subject"])["commonName"]

    def say_end(self):
        """close_notify and no FIN: what the other side still says can be read."""
        self.sock.setblocking(False)
        try:
            self.sock.unwrap()
        except (ssl.SSLWantReadError, ConnectionError):  # the other side may be done with us
            pass
        self.sock.settimeout(self.timeout)
        return self


def server_context(cert, client_ca=None, versions=None, alpn=None):
    """cert: a PEM file.  client_ca: an Authority whose certificates clients must have."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert)
    if client_ca:
        ctx.load_verify_locations(client_ca.pem)
        ctx.verify_mode = ssl.CERT_REQUIRED
    if versions:
        ctx.minimum_version, ctx.maximum_version = versions
    if alpn:
        ctx.set_alpn_protocols(alpn)
    return ctx


class TlsOrigin(Origin):
    """An origin behind TLS; handshakes that failed are in .refused, names that were asked for in .names."""

    def __init__(self, ctx, *a, **kw):
        self.ctx, self.refused, self.names, self.resumed, self.alpn = ctx, [], [], [], []
        ctx.sni_callback = lambda sock, name, _: self.names.append(name)
        super().__init__(*a, **kw)

    def _serve(self, conn):
        try:
            conn.sock = self.ctx.wrap_socket(conn.sock, server_side=True)
        except (ssl.SSLError, OSError) as e:
            self.refused.append(str(e))
            conn.done.set()
            conn.sock.close()
            return
        self.resumed.append(conn.sock.session_reused)
        self.alpn.append(conn.sock.selected_alpn_protocol())
        super()._serve(conn)
