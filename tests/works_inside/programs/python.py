import asyncio
import concurrent.futures
import ctypes
import http.server
import multiprocessing
import multiprocessing.shared_memory
import os
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request


def square(number):
    return number * number


def threads():
    done = []
    all_threads = [threading.Thread(target=done.append, args=(i,)) for i in range(50)]
    [t.start() for t in all_threads]
    [t.join() for t in all_threads]
    assert len(done) == 50


def processes():
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16], method
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert list(pool.map(square, [3])) == [9]
    queue = multiprocessing.Queue()
    queue.put("x")
    assert queue.get(timeout=5) == "x"
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()


def database():
    with sqlite3.connect("data.db") as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [(i,) for i in range(1000)])
    assert sqlite3.connect("data.db").execute("select sum(a) from t").fetchone() == (499500,)


def sockets():
    server = http.server.ThreadingHTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open("page", "w") as page:
        page.write("served")
    with urllib.request.urlopen("http://localhost:%d/page" % server.server_port, timeout=5) as answer:
        assert answer.read() == b"served"
    server.shutdown()
    one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    one.bind(("::1", 0))
    one.sendto(b"datagram", one.getsockname())
    assert one.recv(100) == b"datagram"
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    # Any number of them one after another: each makes a netlink socket.
    assert all([name for _, name in socket.if_nameindex()] == ["lo"] for _ in range(100))
    ssl.create_default_context()


async def tasks():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(echo, "localhost", 0)
    reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
    writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    writer.close()
    child = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    assert (await child.communicate())[0] == b"child\n"
    await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(100)])


def system():
    assert subprocess.run("seq 10 | wc -l", shell=True, stdout=subprocess.PIPE, check=True).stdout == b"10\n"
    caught = []
    signal.signal(signal.SIGALRM, lambda *_: caught.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.2)
    assert caught
    poller = select.epoll()
    read, write = os.pipe()
    poller.register(read, select.EPOLLIN)
    os.write(write, b"x")
    assert poller.poll(1)
    os.pidfd_open(os.getpid())
    os.memfd_create("file")
    assert len(os.urandom(16)) == 16 and len(os.getrandom(16)) == 16
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "f"), "w") as file:
        os.fsync(file.fileno())
        os.posix_fallocate(file.fileno(), 0, 4096)
    assert ctypes.CDLL(None).getpid() == os.getpid()
    assert os.cpu_count() >= 1 and os.sysconf("SC_PHYS_PAGES") > 0
    assert sorted(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    threads()
    processes()
    database()
    sockets()
    asyncio.run(tasks())
    system()
