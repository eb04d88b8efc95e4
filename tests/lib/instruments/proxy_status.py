# SPDX-License-Identifier: BSD-2-Clause
"""Proxy-Status (RFC 9209), read as the structured field that it is."""

import re

ERRORS = set("""dns_timeout dns_error destination_not_found destination_unavailable destination_ip_prohibited
destination_ip_unroutable connection_refused connection_terminated connection_timeout connection_read_timeout
connection_write_timeout connection_limit_reached tls_protocol_error tls_certificate_error tls_alert_received
http_request_error http_request_denied http_response_incomplete http_response_header_section_size
http_response_header_size http_response_body_size http_response_trailer_section_size http_response_trailer_size
http_response_transfer_coding http_response_content_coding http_response_timeout http_upgrade_failed
http_protocol_error proxy_internal_response proxy_internal_error proxy_configuration_error
proxy_loop_detected""".split())

_ITEM = re.compile(r'\s*([A-Za-z*][A-Za-z0-9_\-.*:/%!#$&\'+^`|~]*|"(?:[^"\\]|\\.)*")')
_PARAM = re.compile(r'\s*;\s*([a-z*][a-z0-9_\-.*]*)(?:=("(?:[^"\\]|\\.)*"|[A-Za-z0-9*][A-Za-z0-9_\-.*:/%]*|\?[01]))?')


def parse(value):
    """[(proxy, {param: text})]; AssertionError when it is no structured list."""
    out, i = [], 0
    while True:
        m = _ITEM.match(value, i)
        assert m, f"not a structured field: {value!r} at {i}"
        name, i, params = m.group(1).strip('"'), m.end(), {}
        while True:
            p = _PARAM.match(value, i)
            if not p:
                break
            params[p.group(1)], i = (p.group(2) or "?1").strip('"'), p.end()
        out.append((name, params))
        rest = value[i:].lstrip()
        if not rest:
            return out
        assert rest.startswith(","), f"not a structured field: {value!r} at {i}"
        i = len(value) - len(rest) + 1


def error_of(response):
    """The error that a response names; AssertionError when it does not name one of RFC 9209's."""
    lines = response.fields.all("proxy-status")
    assert lines, f"no Proxy-Status in {response}"
    name, params = parse(", ".join(lines))[-1]
    assert "error" in params, f"Proxy-Status without error: {lines}"
    assert params["error"] in ERRORS, f"{params['error']} is not registered"
    return params["error"]


def assert_own_answer(response, *statuses, method="GET", error=None):
    """An answer of the balancer itself: its status, a small body for people, and a reason."""
    assert response.status in statuses, f"expected {statuses}, got {response}"
    if method != "HEAD":
        assert 0 < len(response.body) <= 2048, f"body of {len(response.body)} bytes"
        assert response["content-type"], "no Content-Type"
        text = response.body.decode("utf-8").lower()
        for leak in ("src/", ".c:", "0x", "assert", "/tmp/", "errno"):
            assert leak not in text, f"{leak!r} in {text!r}"
    e = error_of(response)
    if error:
        wanted = (error,) if isinstance(error, str) else error
        assert e in wanted, f"Proxy-Status error={e}, expected {wanted}"
    return e
