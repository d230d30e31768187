"""Managers of the user's own classes."""
import multiprocessing as mp
import multiprocessing.managers
import queue
import sys


class Counter:
    def __init__(self, start=0, *, name="n"):
        self.value, self.name = start, name

    def add(self, amount=1, *, self_=None, name=None, args=(), kwds=None):
        self.value += amount
        return self.value, self.name, name, args, kwds

    def fail(self, kind):
        raise kind("on purpose")

    def leave(self):
        sys.exit(3)

    def child(self):
        return Counter(self.value * 100)

    def __len__(self):
        return self.value

    def __iter__(self):
        return iter(range(self.value))

    def _hidden(self):
        return "hidden"

    def rows(self):
        yield from ["a", "b"]


class CounterProxy(mp.managers.BaseProxy):
    _exposed_ = ("add", "__len__", "_hidden", "fail")

    def add(self, amount=1):
        return self._callmethod("add", (amount,))[0]

    def __len__(self):
        return self._callmethod("__len__")

    def hidden(self):
        return self._callmethod("_hidden")


class Own(mp.managers.BaseManager):
    pass


shared = queue.Queue()


def get_queue():
    return shared


Own.register("Counter", Counter)
Own.register("Proxied", Counter, CounterProxy)
Own.register("Some", Counter, exposed=("add", "child", "rows"), method_to_typeid={"child": "Made", "rows": "Iterator"})
Own.register("Made", exposed=("add",), create_method=False)
Own.register("Iterator", proxytype=mp.managers.IteratorProxy, create_method=False)
Own.register("dict", dict, mp.managers.DictProxy)
Own.register("list", list, mp.managers.ListProxy)
Own.register("get_queue", get_queue)
Own.register("Space", mp.managers.Namespace, mp.managers.NamespaceProxy)


def work(counter, table, items):
    for _ in range(10):
        counter.add(2)
    table["from"] = "child"
    items.append(counter.add(0)[0])


def shown(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with Own() as manager:
        counter, table, items = manager.Counter(5, name="five"), manager.dict(a=1), manager.list([1])
        process = mp.Process(target=work, args=(counter, table, items))
        process.start()
        process.join()
        print(counter.add(1, name="n", args=(1,), kwds={}), table, items, len(items), table["from"])
        print(shown(lambda: counter.fail(KeyError)), shown(lambda: counter.fail(ValueError)))
        print(shown(lambda: table["none"]), shown(lambda: items[9]), shown(lambda: counter._hidden()))
        print(shown(lambda: counter.nothing()), sorted(table.keys()), table.get("a"), dict(table.copy()))
        proxied = manager.Proxied(1)
        print(proxied.add(), len(proxied), proxied.hidden(), isinstance(proxied, CounterProxy))
        some = manager.Some(2)
        print(some.child().add(), list(some.rows()), str(manager.Counter)[:6])
        q = manager.get_queue()
        q.put("item")
        print(q.get(), q.empty(), shown(lambda: q.get(False)), q.qsize())
        space = manager.Space()
        space.x = 1
        print(space.x, shown(lambda: space.y), counter.__class__.__name__)
        address, key = manager.address, bytes(mp.current_process().authkey)
        again = Own(address, key)
        again.connect()
        print(again.get_queue().qsize(), again.Counter(1).add())
    server = Own(("127.0.0.1", 0), b"key")
    server.start()
    client = Own(server.address, b"key")
    client.connect()
    client.get_queue().put("over tcp")
    print(server.get_queue().get())
    server.shutdown()
