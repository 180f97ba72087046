"""Call a function for many items in processes of their own: what crashes, hangs or eats memory takes none but its own.

Each worker is a fresh Python process. Forking would be quicker to start, but a forked process inherits locks of threads
that it does not have, and may hang; and `multiprocessing`'s other ways import the caller's script once more. A worker
ends when its parent does, however that dies, and when it has had nothing to do for a minute.

Chapter: preprocessing/batching.
"""

import atexit
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import IO, Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

IDLE = 60.0  # seconds after which a worker without work ends
PYTHON = sys.executable
HEAD = struct.Struct("<Q")  # each message is its length and a pickle
READY = b"ready"


class Lost(RuntimeError):
    """A worker died or took too long."""


def call_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    lost: Callable[[Item, str], Result],
    limit: Callable[[Item], float | None] = lambda _: None,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) as they come, from several worker processes.

    Workers have the environment, the working folder and the import path of this process at this time. Where none can
    be started (no rights, no memory, a Python inside another program), this process does the work, with one warning.

    Args:
        work: A function that can be pickled: of a module, or a `functools.partial` of one.
        items: The items; they can be pickled, too.
        workers: How many processes.
        lost: Returns the result of an item at which a worker died or took too long: it gets the item and the reason.
        limit: Seconds that an item may take; None is no limit.

    Raises:
        Exception: What `work` raises.
    """
    try:
        _idle.append(_take())
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no worker process can be started, so this process does the work alone: {error}", stacklevel=2)
        yield from ((item, work(item)) for item in items)
        return
    here = None
    with suppress(FileNotFoundError):  # the working folder may be gone
        here = os.getcwd()
    message = pickle.dumps((dict(os.environ), here, pickle.dumps(work)))
    busy: set[_Worker] = set()
    ended = threading.Event()

    def do(item: Item) -> Result:
        worker = _take()
        busy.add(worker)
        try:
            if ended.is_set():
                worker.kill()
            good, result = worker.call(message, item, limit(item))
        except Lost as error:
            return lost(item, str(error))
        finally:
            busy.discard(worker)
        _idle.append(worker)
        if not good:
            raise result
        return result

    pool = ThreadPoolExecutor(max(1, min(workers, len(items))), thread_name_prefix="mmlearn-worker")
    try:
        jobs = {pool.submit(do, item): item for item in items}
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    finally:
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in list(busy):  # an error or an interrupt: do not wait for what nobody wants
            worker.kill()
        pool.shutdown(wait=True)


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self) -> None:
        start = f"import sys; sys.path[:] = {sys.path!r}; from mmlearn.workers import serve; serve({os.getpid()})"
        self.process = subprocess.Popen([PYTHON, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.work = b""
        self.since = time.monotonic()
        if _read(self.process.stdout) != READY:
            self.kill()
            raise RuntimeError(f"{PYTHON} could not start a worker process; its message stands above")

    def call(self, work: bytes, item: Any, limit: float | None) -> tuple[bool, Any]:
        """Return (True, result) or (False, exception)."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        clock = threading.Timer(limit or 0, stop)
        clock.daemon = True
        try:
            if limit is not None:
                clock.start()
            with suppress(OSError, ValueError):  # a broken or closed pipe: there will be no answer, either
                _write(self.process.stdin, pickle.dumps((None if work == self.work else work, item)))
            answer = _read(self.process.stdout)
        finally:
            clock.cancel()
        if answer is None:
            self.kill()
            raise Lost(f"reading it took more than {limit:.0f} s" if late.is_set() else "the process that read it died")
        self.work, self.since = work, time.monotonic()
        good, result = pickle.loads(answer)
        return good, result

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """End it when it has nothing to do."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        self.process.wait()


_idle: list[_Worker] = []  # list's append and pop are safe in threads


def _take() -> _Worker:
    while _idle:
        worker = _idle.pop()
        if time.monotonic() - worker.since < IDLE / 2 and worker.process.poll() is None:
            return worker
        worker.end()
    return _Worker()


@atexit.register
def stop() -> None:
    """End the workers that have nothing to do."""
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """In a forked process: these workers are the parent's."""
    for worker in _idle:
        worker.process.returncode = 0  # so that nothing waits for it
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _write(pipe: IO[bytes] | None, data: bytes) -> None:
    assert pipe is not None
    pipe.write(HEAD.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> bytes | None:
    """Return the next message, or None where the other side has ended."""
    assert pipe is not None
    try:
        head = pipe.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        data = pipe.read(HEAD.unpack(head)[0])
    except (OSError, ValueError):  # closed by `kill`
        return None
    return data if len(data) == HEAD.unpack(head)[0] else None


def serve(parent: int) -> None:
    """Work for the parent, a process, at the other end of stdin and stdout, until one of the two ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    _write(out, READY)
    work: Any = None
    while True:
        try:
            data = inbox.get(timeout=IDLE)
        except queue.Empty:
            os._exit(0)
        try:
            new, item = pickle.loads(data)
            if new is not None:
                work = _begin(new)
            answer = pickle.dumps((True, work(item)))
        except Exception as error:
            answer = _pickled(error)
        _write(out, answer)


def _begin(message: bytes) -> Any:
    """Take over the parent's environment, and return the function to call."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment, folder, work = pickle.loads(message)
    os.environ.clear()
    os.environ.update(environment | threads)
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)
    function = pickle.loads(work)  # only now: libraries look at the environment when they are imported
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
    return function


def _pickled(error: Exception) -> bytes:
    """Return an answer that an error was raised, whatever it is made of."""
    try:
        data = pickle.dumps((False, error))
        pickle.loads(data)
        return data
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _listen(pipe: IO[bytes], inbox: "queue.SimpleQueue[bytes]") -> None:
    while (data := _read(pipe)) is not None:
        inbox.put(data)
    os._exit(0)


def _watch(parent: int) -> None:
    """End with the parent also where a process that it forked holds the pipe open."""
    while os.name == "posix" and os.getppid() == parent:
        time.sleep(1)
    if os.name == "posix":
        os._exit(0)
