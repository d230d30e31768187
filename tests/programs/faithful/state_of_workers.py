"""State that an initializer or a task leaves behind is there for the next task."""
import logging
import multiprocessing as mp
import os
import sqlite3
import sys
import threading

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(processName)s %(message)s", level="INFO")
LOCK = threading.Lock()
STATE = {"loaded": 0}
counter = 0


class Model:
    instances = 0

    def __init__(self, factor):
        Model.instances += 1
        self.factor = factor
        self.lock = threading.Lock()
        self.base = sqlite3.connect(":memory:")

    def predict(self, x):
        with self.lock:
            return self.base.execute("select ?", (x * self.factor,)).fetchone()[0]


def load(factor):
    global model
    model = Model(factor)
    STATE["loaded"] += 1
    os.environ["LOADED"] = "yes"


def predict(x):
    return model.predict(x)


def count(_):
    global counter
    with LOCK:
        counter += 1
        STATE.setdefault("seen", []).append(counter)
    return counter, len(STATE["seen"]), STATE["loaded"], Model.instances, os.environ["LOADED"]


def log(x):
    logging.info("task %s", x)
    logging.getLogger("deep.er").warning("also %s", x)
    sys.stdout.flush()
    return logging.getLogger().level


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(1, load, (3,)) as pool:
        print(pool.map(predict, range(4)), pool.apply(predict, (5,)))
        print(pool.map(count, range(3), chunksize=1), pool.apply(count, (0,)))
        print(list(pool.imap(count, range(2))))
        print(pool.map(log, [1, 2]), flush=True)
    print(counter, STATE, Model.instances)
