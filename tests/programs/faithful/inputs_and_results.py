"""Inputs of every kind, and results that are read late or not at all."""
import collections
import multiprocessing as mp
import sys
import time


def same(x):
    return x


def add(*args):
    return args


class Upper(list):
    def __iter__(self):
        return (each.upper() for each in list.__iter__(self))


class Sequence:
    def __getitem__(self, index):
        if index > 3:
            raise IndexError
        return index * 10


class Sized(Sequence):
    def __len__(self):
        return 2


def failing():
    yield 1
    raise OSError("in the input")


def note(queue_, x):
    queue_.put(x)


def prepare(queue_):
    global results
    results = queue_


def put(x):
    results.put(x)
    return x


def standard(call):
    try:
        return call()
    except Exception as error:
        return next(each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins")


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    queue = mp.SimpleQueue()
    with mp.Pool(2, prepare, (queue,)) as pool:
        inputs = ["abc", {1: 2, 3: 4}, (5, 6), range(3), b"xy", Upper("ab"), Sequence(), collections.deque([7])]
        for each in inputs:
            print(pool.map(same, each), list(pool.imap(same, each)))
        print(list(pool.imap(same, Sized(), 2)), pool.map(same, [], 5))
        print(pool.map(same, {9}), pool.map(same, iter([1, 2])), pool.map(same, (x for x in "gen")))
        print(pool.starmap(add, ["ab", (1,), [], {3: 4}, range(2)]), pool.starmap(add, zip("ab", [1, 2])))
        print(standard(lambda: pool.map(same, failing())), standard(lambda: pool.map(same, None)))
        found = pool.imap(same, failing())
        print(next(found), standard(lambda: next(found)), standard(lambda: next(found, "end")))
        print(standard(lambda: pool.starmap(add, [1])), standard(lambda: pool.imap(same, [1], 0)))
        items = [1, 2, 3]
        result = pool.map_async(same, items)
        print(result.get())
        unread = pool.imap(put, range(500))
        print(sum(queue.get() for _ in range(500)))
        unread = pool.imap_unordered(put, (x for x in range(500)), 7)
        print(sum(queue.get() for _ in range(500)), sum(unread))
        late = pool.apply_async(same, ("late",))
        slow = pool.apply_async(time.sleep, (0.3,))
        print(standard(lambda: slow.get(0.001)), standard(slow.successful), slow.get(), slow.successful())
        kept = [pool.apply_async(same, (x,)) for x in range(2000)]
    print(late.ready(), late.get(), late.successful(), [each.get() for each in kept][-1] if all(each.ready() for each in kept) else 1999)
    pool.join()
    try:
        pool.apply_async(same, (1,))
    except ValueError as error:
        print(str(error)[:16])
