"""Managers: their objects, containers and locks, in this process and in others.

`remote` runs servers and clients in processes of their own.
"""
