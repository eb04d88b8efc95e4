# SPDX-License-Identifier: BSD-2-Clause
"""A client that speaks TLS.  What ends without close_notify has ended badly: ssl.SSLEOFError."""

import ssl

from .client import Client


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
