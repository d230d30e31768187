"""Programs that close all descriptors and open their own files: no descriptor is mistaken."""

from __future__ import annotations

from pathlib import Path

import pytest

from .program import METHODS, run

AFTERWARDS = """
def close_and_open():
    os.closerange(3, 256)
    return [open(f"log{i}", "w") for i in range(24)]

def untouched(logs):
    for log in logs:
        log.write("mine"); log.flush()
    return {open(log.name).read() for log in logs} == {"mine"} and len(logs) == 24
"""


def test_a_container_of_a_manager_goes_on_in_a_daemon_and_leaves_its_files_alone(
    tmp_path: Path,
) -> None:
    source = """
    if __name__ == "__main__":
        d = mp.Manager().dict(a=1)
        pid = os.fork()
        if not pid:
            logs = close_and_open()
            d["b"] = d["a"] + 1
            for n in range(2000):
                d[n] = b"x" * 1000
            print(d["b"], len(d), untouched(logs), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(d["b"])
    """
    assert run(tmp_path, source, head=AFTERWARDS).split() == ["2", "2002", "True", "2"]


def test_open_container_works_after_all_descriptors_are_closed(tmp_path: Path) -> None:
    source = """
    if __name__ == "__main__":
        manager = mp.Manager()
        d = manager.dict(a=1)
        logs = close_and_open()
        for n in range(2000):
            d[n] = b"x" * 1000
        print(d["a"], len(d), untouched(logs), flush=True)
        os._exit(0)
    """
    assert run(tmp_path, source, head=AFTERWARDS).split()[:3] == ["1", "2001", "True"]


@pytest.mark.parametrize(
    "growth",
    [
        'd["big"] = b"x" * 30_000_000',
        'd.update({n: b"x" * 1000 for n in range(30_000)})',
        'd["l"] = list(range(300_000))',
        'd.setdefault("big", b"x" * 30_000_000)',
        'manager.list([b"x" * 1000] * 30_000).extend([b"y" * 1000] * 10_000)',
        "manager.set(str(n) * 200 for n in range(30_000))",
        'with manager.transaction(): d["big"] = b"x" * 30_000_000; d["b"] = 2',
    ],
)
def test_change_that_needs_more_memory_works_after_descriptors_are_closed(
    tmp_path: Path, growth: str
) -> None:
    source = f"""
    if __name__ == "__main__":
        manager = mp.Manager()
        d = manager.dict(a=1)
        logs = close_and_open()
        d["b"] = 2
        {growth}
        print(d["a"], d["b"], len(d) >= 2, untouched(logs), flush=True)
        os._exit(0)
    """
    assert run(tmp_path, source, head=AFTERWARDS).split() == ["1", "2", "True", "True"]


def test_locks_of_a_process_without_descriptors_are_not_inherited(tmp_path: Path) -> None:
    source = """
    if __name__ == "__main__":
        from garrison.store import _local_store
        home = _local_store.create_in_memory()
        d = home.make(1, a=1)
        gone, seen = mp.Event(), mp.Event()
        pid = os.fork()
        if not pid:
            gone.wait()
            d.get("a")  # opens it, and nobody else seems to have it
            home.backend.close()
            seen.set()
            os._exit(0)
        logs = close_and_open()
        gone.set()
        seen.wait()
        os.waitpid(pid, 0)
        for n in range(100):
            d[n] = n
        print(d["a"], len(d), untouched(logs), flush=True)
        os._exit(0)
    """
    assert run(tmp_path, source, head=AFTERWARDS).split() == ["1", "101", "True"]


def test_container_of_no_other_process_is_refused(tmp_path: Path) -> None:
    source = """
    if __name__ == "__main__":
        from garrison.store import _local_store
        home = _local_store.create_in_memory()
        d = home.make(1, a=1)
        logs = close_and_open()
        d["b"] = 1  # there is room
        try:
            d["c"] = b"x" * 30_000_000
        except mp.SharedMemoryGone as error:
            print("gone", "were closed here" in str(error))
        print(untouched(logs), flush=True)
    """
    assert run(tmp_path, source, head=AFTERWARDS).split() == ["gone", "True", "True"]


@pytest.mark.parametrize("method", METHODS)
def test_primitives_survive_in_a_process_that_has_closed_everything(
    method: str, tmp_path: Path
) -> None:
    source = """
    def work(lock, value, array, event, logs=None):
        logs = close_and_open()
        with lock:
            value.value += 1
        with array.get_lock():
            array[1] = 7
        event.set()
        print(untouched(logs), flush=True)
        for log in logs:
            assert os.fstat(log.fileno()).st_size == 4

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        shared = ctx.Lock(), ctx.Value("i", 1), ctx.Array("d", 3), ctx.Event()
        p = ctx.Process(target=work, args=shared)
        p.start(); p.join()
        print(p.exitcode, shared[1].value, shared[2][:], shared[3].is_set())
    """
    answer = run(tmp_path, source, method, head=AFTERWARDS)
    assert answer.splitlines() == ["True", "0 2 [0.0, 7.0, 0.0] True"]


def test_a_double_fork_keeps_locks_values_and_conditions(tmp_path: Path) -> None:
    source = """
    def daemon(shared):
        lock, value, semaphore, condition = shared
        os.setsid()
        if os.fork():
            os._exit(0)
        logs = close_and_open()
        semaphore.acquire()
        with lock:
            value.value = 5
        with condition:
            condition.notify_all()
        assert untouched(logs)
        children = []
        for _ in range(8):  # a server's workers
            children.append(os.fork())
            if not children[-1]:
                for _ in range(100):
                    with lock:
                        value.value += 1
                os._exit(0)
        for child in children:
            os.waitpid(child, 0)
        semaphore.release()
        os._exit(0)

    if __name__ == "__main__":
        shared = mp.Lock(), mp.Value("i"), mp.Semaphore(1), mp.Condition()
        with shared[3]:
            pid = os.fork()
            if not pid:
                daemon(shared)
            os.waitpid(pid, 0)
            print(shared[3].wait(20))
        shared[2].acquire()
        print(shared[1].value)
    """
    assert run(tmp_path, source, head=AFTERWARDS).split() == ["True", "805"]


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_closes_everything_harms_no_file_and_no_other_task(
    method: str, tmp_path: Path
) -> None:
    source = """
    def task(n):
        logs = close_and_open()
        return untouched(logs), n

    def large(n):
        return bytes(n)

    if __name__ == "__main__":
        with mp.get_context(sys.argv[1]).Pool(1) as pool:
            print(pool.apply(task, (1,)), pool.apply(abs, (-2,)))
            try:
                print(len(pool.apply(large, (1 << 22,))))
            except OSError as error:
                print("closed" in str(error))
    """
    lines = run(tmp_path, source, method, head=AFTERWARDS).splitlines()
    assert lines[0] == "(True, 1) 2"
    assert lines[1] in {"True", str(1 << 22)}
    assert {path.read_text() for path in tmp_path.glob("log*")} == {"mine"}


def test_a_pool_and_a_queue_of_the_parent_are_left_alone_by_a_child_that_closes_them(
    tmp_path: Path,
) -> None:
    source = """
    import gc
    if __name__ == "__main__":
        pool, queue = mp.Pool(1), mp.Queue()
        print(pool.apply(abs, (-1,)))
        pid = os.fork()
        if not pid:
            logs = close_and_open()
            del pool, queue
            gc.collect()
            print(untouched(logs), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        queue.put(bytes(1 << 20))
        print(pool.apply(abs, (-2,)), len(queue.get()))
        pool.close(); pool.join()
    """
    answer = run(tmp_path, source, head=AFTERWARDS)
    assert answer.split() == ["1", "True", "2", str(1 << 20)]


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_a_program_that_closes_everything_is_broken_and_says_why(
    method: str, tmp_path: Path
) -> None:
    source = """
    import socket
    if __name__ == "__main__":
        pool = mp.get_context(sys.argv[1]).Pool(1)
        print(pool.apply(abs, (-1,)), flush=True)
        os.closerange(3, 256)
        pairs = [socket.socketpair() for _ in range(12)]
        try:
            while True:
                pool.apply(abs, (-2,))
        except mp.PoolBroken as error:
            print("closed in this process" in str(error))
        pool.terminate()
        for pair in pairs:
            pair[0].send(b"x")
            assert pair[1].recv(10) == b"x"
            pair[1].send(b"x")
            assert pair[0].recv(10) == b"x"
    """
    assert run(tmp_path, source, method).splitlines() == ["1", "True"]


@pytest.mark.parametrize("method", METHODS)
def test_output_of_an_ending_worker_goes_into_no_users_file(method: str, tmp_path: Path) -> None:
    source = """
    import faulthandler
    def init():
        global logs
        os.closerange(3, 4096)
        logs = [open(f"log{i}", "w") for i in range(24)]

    def crash(_):
        faulthandler._sigsegv()

    if __name__ == "__main__":
        with mp.get_context(sys.argv[1]).Pool(1, init) as pool:
            try:
                pool.apply(crash, (1,))
            except mp.WorkerDied as error:
                print(error.signal)
    """
    assert run(tmp_path, source, method).split() == ["11"]
    assert {path.read_text() for path in tmp_path.glob("log*")} == {""}
