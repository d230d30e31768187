"""Memory that processes share, by every way in which one can come to another.

Functions that other processes import are in `jobs`.
"""
