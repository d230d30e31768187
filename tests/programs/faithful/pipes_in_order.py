"""Connections as arguments of processes and of tasks, and what waits for them."""

import multiprocessing as mp
import multiprocessing.connection
import sys


def echo(connection):
    while (message := connection.recv()) != "stop":
        connection.send(message)
    connection.close()
    return "end"


def say(connection, what):
    connection.send(what)
    connection.close()
    return what


def answer(address, key):
    with mp.connection.Client(address, authkey=key) as client:
        client.send(["from", "client"])
        print(client.recv(), flush=True)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    ours, theirs = mp.Pipe()
    process = mp.Process(target=echo, args=(theirs,))
    process.start()
    theirs.close()
    ours.send({"a": [1, 2]})
    print(ours.recv(), ours.poll(0), mp.connection.wait([ours], 0) == [])
    ours.send("stop")
    process.join()
    print(process.exitcode)
    with mp.Pool(1) as pool:
        for index in range(3):
            reader, writer = mp.Pipe(duplex=False)
            print(pool.apply(say, (writer, index)), reader.poll(10), reader.recv())
            writer.close()
        reader, writer = mp.Pipe()
        results = pool.map_async(echo, [writer])
        reader.send("x")
        print(reader.recv(), reader.send("stop"), results.get())
    with mp.connection.Listener(authkey=b"k") as listener:
        process = mp.Process(target=answer, args=(listener.address, b"k"))
        process.start()
        with listener.accept() as accepted:
            print(accepted.recv())
            accepted.send("welcome")
        process.join()
