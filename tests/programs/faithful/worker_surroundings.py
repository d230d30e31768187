"""What a worker sees around itself."""

import gc
import multiprocessing as mp
import os
import sys
import threading
import warnings

warnings.simplefilter("ignore")
collects = gc.isenabled()


def look(_):
    me = mp.current_process()
    return {
        "daemon": me.daemon,
        "type": type(me).__name__,
        "name": me.name,
        "identity": me._identity,
        "method": mp.get_start_method(),
        "parent": mp.parent_process().name,
        "group": os.getpgrp() == int(os.environ["GROUP"]),
        "session": os.getsid(0) == int(os.environ["SESSION"]),
        "argv": sys.argv,
        "cwd": os.getcwd() == os.environ["FOLDER"],
        "main": sys.modules["__main__"].__name__,
        "alias": "__mp_main__" in sys.modules,
        "file": os.path.basename(getattr(sys.modules["__main__"], "__file__", "none")),
        "path0": sys.path[0] == os.environ["FOLDER"],
        "stdin": sys.stdin.read(),
        "threads": threading.active_count(),
        "main thread": threading.current_thread() is threading.main_thread(),
        "limit": sys.getrecursionlimit(),
        "authkey": bytes(me.authkey) == bytes.fromhex(os.environ["KEY"]),
        "exitcode": me.exitcode,
        "alive": me.is_alive(),
        "module": look.__module__,
        "collector": (collects, gc.isenabled(), gc.get_threshold()),
    }


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    os.environ.update(
        GROUP=str(os.getpgrp()),
        SESSION=str(os.getsid(0)),
        FOLDER=os.getcwd(),
        KEY=bytes(mp.current_process().authkey).hex(),
    )
    for _ in range(2):
        with mp.Pool(1) as pool:
            for key, value in pool.map(look, [0])[0].items():
                print(key, value)
    process = mp.Process()
    print(process.name)
