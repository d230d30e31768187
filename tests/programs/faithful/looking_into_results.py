"""Progress by attributes of results, calls of what is no function, errors that cannot be pickled."""

import multiprocessing as mp
import multiprocessing.pool
import os
import sys
import threading
import time


def double(x):
    return 2 * x


def fail(x):
    error = ValueError(x)
    error.lock = threading.Lock()
    raise error


def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def watch(results, items):
    """What programs do that show how far an iterator is."""
    seen = [results._index]
    while seen[-1] < items:
        time.sleep(0.01)
        seen.append(results._index)
    while results._length is None:  # the end of the inputs may be noticed last
        time.sleep(0.01)
    return seen == sorted(seen)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(2) as pool:
        for method, items, chunksize in [
            (pool.imap, range(40), 1),
            (pool.imap_unordered, list(range(40)), 1),
            (pool.imap_unordered, (x for x in range(40)), 1),
        ]:
            results = method(double, items, chunksize)
            print(watch(results, 40), results._index, results._length, sum(results), results._index)
        for chunksize, many in [(None, range(33)), (4, range(33)), (None, [])]:
            result = pool.map_async(double, many, chunksize)
            size = result._chunksize
            result.wait()
            print(size, result._number_left, len(result.get()))
        slow = pool.map_async(wait, ["go"] * 10, 3)
        told = pool.map_async(wait, ["go"] * 10, 3, callback=len)
        print(slow._number_left, slow._chunksize, told._number_left, told._chunksize)
        open("go", "w").close()
        slow.wait()
        told.wait()
        print(slow._number_left, told._number_left)

        ignored = pool.apply_async(double(1)), pool.map_async(None, [1]), pool.imap(None, [1])
        print(pool.map(None, []), pool.apply(double, (3,)))
        for ask in (ignored[0].get, ignored[1].get, lambda: next(ignored[2]), lambda: pool.map(3, [1])):
            try:
                ask()
            except TypeError as error:
                print("callable" in str(error))
        for ask in (lambda: pool.apply(fail, (1,)), lambda: pool.map(fail, [1]), lambda: next(pool.imap(fail, [1]))):
            try:
                ask()
            except mp.pool.MaybeEncodingError as error:
                print(error.exc, type(error.value).__name__)
