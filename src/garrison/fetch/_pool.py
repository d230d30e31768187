"""The pool, by one name."""

try:
    from garrison import Pool
except ImportError:
    from multiprocessing import Pool

__all__ = ["Pool"]
