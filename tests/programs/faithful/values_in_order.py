"""Numbers, arrays and structures in shared memory."""

import ctypes
import multiprocessing as mp
import multiprocessing.sharedctypes as sharedctypes
import sys


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_int)]


def standard(error):
    """Name the first class of an exception that every Python has."""
    known = {"builtins", "queue", "threading"}
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ in known)


def shown(call):
    try:
        return call()
    except Exception as error:
        return standard(error)


def change(number, flag, array, text, point, raw, points):
    number.value *= 2
    flag.value = True
    array[1:3] = [8, 9]
    text.value = b"bye"
    point.x, point.y = 2.5, 7
    raw[0] = 5
    points[1].x = 3.5


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    number, flag, array = mp.Value("d", 1.5), mp.Value(ctypes.c_bool), mp.Array("i", 5)
    text, point, raw = mp.Array("c", b"hello"), mp.Value(Point, 1, 2), mp.RawArray("h", [1, 2])
    points = mp.Array(Point, [(1, 2), (3, 4)], lock=False)
    process = mp.Process(target=change, args=(number, flag, array, text, point, raw, points))
    process.start()
    process.join()
    print(number.value, flag.value, array[:], text.value, text.raw, point.x, point.y, raw[:])
    print([(each.x, each.y) for each in points], len(array), list(array), array[-1])
    print(isinstance(number, sharedctypes.Synchronized), type(number.get_obj()).__name__)
    print(isinstance(array, sharedctypes.SynchronizedArray), type(text).__name__)
    print(
        shown(lambda: array[9]),
        shown(lambda: mp.Value("q").acquire()),
        shown(lambda: mp.Array("zz", 1)),
    )
    with number.get_lock():
        number.value += 1
    print(number.value, sharedctypes.copy(number.get_obj()).value, mp.RawValue("i", 3).value)
    print(shown(lambda: mp.Value("i", lock=3)), mp.Value("i", 4, lock=mp.Lock()).value)
