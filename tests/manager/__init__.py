"""What garrison's Manager promises, from the bytes on the wire up.

Servers run in a thread of the test (`wire_tools.serving`) or in a process of their own
(`wire_tools.Server`); who waits for something waits for that, never for the clock.
"""
