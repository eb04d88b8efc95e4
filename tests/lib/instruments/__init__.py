# SPDX-License-Identifier: BSD-2-Clause
"""Instruments of the end-to-end tests: what plays the client, the server and the operator.

Nothing here knows how Meercat is made inside; each instrument is itself tested against real nginx,
HAProxy and curl in tests/e2e/test_00_instruments.py.
"""
