"""Each method of a pool, its order and its kinds of errors."""

import multiprocessing as mp
import multiprocessing.pool
import sys


def square(x):
    return x * x


def add(a, b=1):
    return a + b


def fail(x):
    if x == 3:
        raise KeyError(x)
    return x


def note(value):
    noted.append(value)


def standard(error):
    """Name the first class of an exception that every Python has."""
    known = {"builtins", "queue", "threading"}
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ in known)


def shown(call):
    try:
        return call()
    except Exception as error:
        return standard(error), str(error)[:16]


noted = []

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(2) as pool:
        print(
            pool.map(square, range(10)), pool.map(square, "ab" and (), 3), pool.map(square, {2: 1})
        )
        print(pool.starmap(add, [(1, 2), [3, 4], "xy"]), pool.starmap(add, zip("ab", "cd")))
        print(pool.apply(add, (1,), {"b": 5}), pool.apply(add, [1]))
        print(
            list(pool.imap(square, iter(range(5)), 2)),
            sorted(pool.imap_unordered(square, range(5))),
        )
        print(shown(lambda: pool.map(fail, range(6))), shown(lambda: pool.apply(fail, (3,))))
        found = pool.imap(fail, range(5))
        print([shown(lambda: next(found)) for _ in range(5)], shown(lambda: next(found, "end")))
        result = pool.apply_async(add, (1, 2), callback=note, error_callback=note)
        print(result.get(), result.ready(), result.successful())
        result = pool.map_async(fail, range(5), 1, note, note)
        result.wait()
        print(shown(result.get), result.successful(), [str(each) for each in noted])
        print(
            isinstance(result, multiprocessing.pool.AsyncResult), shown(lambda: pool.map(square, 5))
        )
        result = pool.apply_async(sys.stdin.__class__.__name__.upper)
        print(result.get())
    print(shown(lambda: pool.apply(square, (1,))))
    print(shown(lambda: mp.Pool(0)), shown(lambda: mp.Pool(1, maxtasksperchild=0)))
    print(shown(lambda: mp.Pool(1, initializer=3)))
    pool = mp.Pool(1)
    print(shown(pool.join))
    pool.close()
    pool.join()
    print(shown(lambda: pool.map_async(square, [1])))
