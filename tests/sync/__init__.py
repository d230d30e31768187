"""Locks, their relatives, queues and shared values, in threads and processes."""
