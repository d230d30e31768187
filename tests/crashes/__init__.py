"""The crash matrices: a process is killed at each named point of each operation.

`sync.forked` arms a forked process; `failures` runs the matrix of pools.
"""
