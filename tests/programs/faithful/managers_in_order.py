"""What a manager's objects say and show."""

import multiprocessing as mp
import multiprocessing.managers
import sys


def standard(error):
    """Name the first class of an exception that every Python has."""
    known = {"builtins", "queue", "threading"}
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ in known)


def shown(call):
    try:
        return call()
    except Exception as error:
        return standard(error)


def fails(call, kind):
    try:
        call()
    except kind:
        return kind.__name__


def work(d, l, ns, v, a, lock, q):
    with lock:
        d["worker"] = [1, {"deep": (2,)}]
        l.append("x")
        l += ["y"]
        ns.seen = True
        v.value += 5
        a[1] = 7
    q.put("done")


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Manager() as m:
        d, l, ns = m.dict({"a": 1}, b=2), m.list(range(3)), m.Namespace(x=1)
        v, a, lock, q = m.Value("i", 1), m.Array("i", [1, 2, 3]), m.Lock(), m.Queue()
        process = mp.Process(target=work, args=(d, l, ns, v, a, lock, q))
        process.start()
        process.join()
        print(q.get(), d, l, ns, v, a)
        print(d["worker"], list(d), sorted(d.keys()), d.items(), d.values(), len(d), "a" in d)
        print(d.copy(), type(d.copy()).__name__, d.get("no"), d.pop("a"), d.setdefault("n", 3))
        print(l[0], l[1:3], l[-1], len(l), l.count("x"), l.index("y"), l + [9], l * 2, "x" in l)
        print(l.sort(key=str), l.reverse(), list(l), l.pop(), l.remove("x"), l.extend([5]), list(l))
        print(ns.x, ns.seen, shown(lambda: ns.nothing), v.value, v.get(), a[:], len(a), list(a))
        print(shown(lambda: d["none"]), shown(lambda: l[99]), shown(lambda: l.remove("z")))
        print(
            str(d) == str(dict(d)),
            isinstance(d, mp.managers.DictProxy),
            type(d._getvalue()).__name__,
        )
        print(lock.acquire(), lock.acquire(False), lock.release(), fails(lock.release, RuntimeError))
        event, barrier, condition = m.Event(), m.Barrier(1), m.Condition()
        print(event.is_set(), event.set(), event.is_set(), event.wait(1), event.clear())
        print(barrier.wait(), barrier.parties, barrier.n_waiting, barrier.broken)
        with condition:
            print(condition.wait(0.01), condition.notify(), condition.notify_all())
        semaphore, rlock = m.Semaphore(1), m.RLock()
        print(semaphore.acquire(), semaphore.acquire(False), semaphore.release())
        print(rlock.acquire(), rlock.acquire(), rlock.release(), rlock.release())
        print(
            q.empty(),
            q.put(1),
            q.qsize(),
            q.full(),
            q.get(),
            q.task_done(),
            q.task_done(),
            q.join(),
        )
        pool = m.Pool(1)
        print(pool.map(abs, [-1]), pool.apply(pow, (2, 3)), pool.apply_async(abs, (-4,)).get())
        print(list(pool.imap(abs, [-1, -2])))
    print(shown(lambda: d["a"]) is not None)
