"""Connections: bytes, handshakes, sessions and the event loop.

Servers run in a thread of the test (`wire_tools.serving`) or in a process of their own
(`wire_tools.Server`).
"""
