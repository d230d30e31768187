"""Connections between processes: addresses, keys, sessions. Knows no store, lock or object."""
