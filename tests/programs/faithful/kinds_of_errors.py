"""Errors of tasks: their kinds, causes and notes, and what cannot be pickled."""
import io
import multiprocessing as mp
import pickle
import sys
import threading
import traceback


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b

    def __reduce__(self):
        return Odd, (self.a, self.b)


def odd(x):
    raise Odd(x, x + 1)


def chained(x):
    try:
        1 / x
    except ZeroDivisionError as error:
        raise LookupError("chained") from error


def unpicklable(x):
    return threading.Lock()


def generator(x):
    return (y for y in [x])


def group(x):
    raise OSError(2, "no such thing", "name")


def stop(x):
    raise StopIteration(x)


def kind(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__, str(error)[:30]


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(1) as pool:
        for task in (odd, chained, group, stop):
            try:
                pool.apply(task, (0,))
            except Exception as error:
                text = "".join(traceback.format_exception(error))
                print(type(error).__name__, error, error.args, "RemoteTraceback" in text, task.__name__ in text)
        print(kind(lambda: pool.apply(unpicklable, (1,)))[0], kind(lambda: pool.map(generator, [1]))[0])
        try:
            pool.apply(len, (open("program.py"),))
        except Exception as error:
            print(isinstance(error, TypeError))
        try:
            pool.apply(len, (threading.Lock(),))
        except Exception as error:
            print(isinstance(error, TypeError))
        try:
            pool.map(len, [[1], (y for y in [1])])
        except Exception as error:
            print(isinstance(error, TypeError))
        print(pool.apply(len, ((1, 2),)), pool.map(str, [None]))
        results = [pool.apply_async(task, (0,)) for task in (odd, chained, group)]
        print([kind(result.get) for result in results], [result.successful() for result in results])
        print(pickle.loads(pickle.dumps(Odd(1, 2))).args, io.StringIO("x").read())
