"""Shared memory with names, lists in it, and their manager."""
import multiprocessing as mp
import multiprocessing.managers
import multiprocessing.shared_memory
import os
import sys


def write(name, value):
    block = mp.shared_memory.SharedMemory(name=name)
    block.buf[:3] = value
    block.close()


def make(_):
    block = mp.shared_memory.SharedMemory(create=True, size=10)
    block.buf[0] = 42
    block.close()
    return block.name


def change(shared):
    shared[0] = "changed"
    return list(shared)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    block = mp.shared_memory.SharedMemory(create=True, size=100)
    print(block.size >= 100, block.name.startswith("psm_"), type(block.buf).__name__)
    process = mp.Process(target=write, args=(block.name, b"abc"))
    process.start()
    process.join()
    print(bytes(block.buf[:3]), os.path.exists(f"/dev/shm/{block.name}"))
    block.close()
    block.unlink()
    try:
        mp.shared_memory.SharedMemory(name=block.name)
    except FileNotFoundError:
        print("gone")
    with mp.Pool(1) as pool:
        name = pool.apply(make, (0,))
        pool.close()
        pool.join()
    again = mp.shared_memory.SharedMemory(name=name)
    print(again.buf[0])
    again.close()
    again.unlink()
    shared = mp.shared_memory.ShareableList(["text", 1, 2.5, None, True, b"bytes"])
    with mp.Pool(1) as pool:
        print(pool.apply(change, (shared,)))
    print(list(shared), len(shared), shared.index(2.5), shared.count(None), shared.format)
    shared.shm.close()
    shared.shm.unlink()
    with mp.managers.SharedMemoryManager() as manager:
        block = manager.SharedMemory(64)
        listed = manager.ShareableList(range(3))
        print(block.size >= 64, list(listed))
        name = block.name
    try:
        mp.shared_memory.SharedMemory(name=name)
    except FileNotFoundError:
        print("gone with its manager")
