"""A pool goes when nothing refers to it but results that have arrived."""
import gc
import multiprocessing as mp
import sys
import time
import warnings
import weakref

warnings.simplefilter("ignore")


def slow(x):
    time.sleep(0.1)
    return x


def fail(x):
    raise LookupError(x)


def look(make, ask):
    pool = mp.Pool(1)
    seen = weakref.ref(pool)
    result = make(pool)
    del pool
    before = seen() is not None
    try:
        value = ask(result)
    except LookupError as error:
        value = repr(error)
    deadline = time.monotonic() + 10  # a thread of the standard library's lets go a bit later
    while seen() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    return before, value, seen() is None


def waits(result):
    result.wait()
    return result.ready(), result.successful()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    gc.disable()
    print(look(lambda pool: pool.apply_async(slow, (1,)), lambda result: result.get()))
    print(look(lambda pool: pool.apply_async(fail, (1,)), lambda result: result.get()))
    print(look(lambda pool: pool.apply_async(slow, (1,)), waits))
    print(look(lambda pool: pool.map_async(slow, [1, 2], 1), lambda result: result.get()))
    print(look(lambda pool: pool.map_async(slow, [1, 2]), waits))
    print(look(lambda pool: pool.starmap_async(max, [(1, 2)]), lambda result: result.get()))
    print(look(lambda pool: pool.imap(slow, [1, 2]), list))
    print(look(lambda pool: pool.imap_unordered(slow, [1, 2]), sorted))
    print(look(lambda pool: None, lambda result: None))
    print(look(lambda pool: pool.map(slow, [1]), lambda result: result))
