"""CPython's own tests of multiprocessing, with garrison in its place as a program would put it."""
