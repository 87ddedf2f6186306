"""Running a function on bytes from outside in a process that can be killed, and is reused.

A document may hang, exhaust memory or crash a C library; that must cost this document only. One
`Sandbox` (in each Spark worker) has a *nursery*: a small single-threaded process, started afresh
and not forked from the JVM's worker with its threads, that has imported everything and forks
*workers* on demand. A worker serves documents one after the other over a socket, under limits of
CPU time, address space and wall time, and is killed and replaced where it exceeds them. The
kernel kills workers whose nursery died, and a nursery ends when its Spark worker does.
"""

import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct("<QQ")
DOCUMENTS_PER_WORKER = 2000
"""A worker is replaced after so many, lest leaks in C libraries add up."""
GREEDY_BYTES = 600_000_000
"""A worker is also replaced after a document that left it larger than this."""
PR_SET_PDEATHSIG = 1
TOO_LARGE = 77
"""Exit status of a worker whose limit is less than the document itself."""

Function = Callable[[dict[str, Any], bytes], dict[str, Any]]
"""What runs inside: (request, payload) to a reply; requests and replies must fit into JSON. Its
module may have a function `warm_up`, which the nursery calls once."""


@dataclass(frozen=True)
class Outcome:
    """What came of one call."""

    status: str
    """ok | timeout | memory | crash | error."""
    reply: dict[str, Any]
    """The function's reply where the status is ok."""
    message: str = ""
    """What happened where it is not."""


class Sandbox:
    """A function in a killable process. Not for use by several threads at once."""

    def __init__(self, function: str, cpu_s: float, wall_s: float, memory_mb: int) -> None:
        """Prepare to run `function` ("package.module:name"); nothing starts before the first call.

        `cpu_s` and `wall_s` are seconds a call, `memory_mb` the address space (10^6 bytes) that a
        worker may take up beyond what it has when it starts.
        """
        self._arguments = [function, str(cpu_s), str(memory_mb)]
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._memory_mb = memory_mb
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._worker: socket.socket | None = None
        self._pid = 0
        self._served = 0

    def call(self, request: dict[str, Any], payload: bytes) -> Outcome:
        """Run the function on one document."""
        outcome = self._call(request, payload)
        if outcome is None:  # the nursery was killed, which is no document's fault
            outcome = self._call(request, payload)
        return outcome or Outcome("crash", {}, "the processes for extraction were killed twice")

    def _call(self, request: dict[str, Any], payload: bytes) -> Outcome | None:
        """None where the nursery itself is gone; it is started anew by the next call."""
        if self._worker is None:
            self._new_worker()
        assert self._worker is not None
        deadline = time.monotonic() + self._wall_s
        head = json.dumps(request).encode()
        try:
            _send(self._worker, head, payload, deadline)
            answer, _ = _receive(self._worker, deadline)
        except TimeoutError:
            os.kill(self._pid, signal.SIGKILL)
            self._discard_worker()
            return Outcome("timeout", {}, f"more than {self._wall_s:g} s by the clock")
        except (EOFError, OSError):
            status = self._discard_worker()
            return None if status is None else self._cause_of_death(status)
        reply = json.loads(answer)
        self._served += 1
        if reply.pop("_leaves", False) or self._served >= DOCUMENTS_PER_WORKER:
            self._discard_worker()
        status = reply.pop("_status", "ok")
        return Outcome(status, reply, reply.pop("_message", ""))

    def close(self) -> None:
        """End the worker and its nursery."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.wait()
            self._nursery = None

    def _new_worker(self) -> None:
        if self._nursery is None or self._nursery.poll() is not None:
            self._start_nursery()
        assert self._control is not None
        self._control.sendall(b"f")
        answer, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        if not answer or not descriptors:
            raise RuntimeError("the nursery of extraction workers died; its message is on stderr")
        self._worker = socket.socket(fileno=descriptors[0])
        self._pid = int(answer)
        self._served = 0

    def _start_nursery(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {
            **os.environ,
            **dict.fromkeys(threads, "1"),  # threads do not survive a fork
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "PYTHONHASHSEED": "0",
        }
        code = "import corpus.extract.sandbox as s; s.nursery()"
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), *self._arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()

    def _discard_worker(self) -> int | None:
        """Wait for the worker's end; its wait status, or None where the nursery is gone."""
        assert self._worker is not None
        assert self._control is not None
        self._worker.close()
        self._worker = None
        try:
            self._control.sendall(b"w")
            answer = self._control.recv(64)
        except OSError:
            answer = b""
        if not answer:
            self.close()
            return None
        return int(answer)

    def _cause_of_death(self, status: int) -> Outcome:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGXCPU:
                return Outcome("timeout", {}, f"more than {self._cpu_s:g} s of CPU time")
            name = signal.Signals(number).name
            return Outcome("crash", {}, f"the process died of {name}")
        if os.WEXITSTATUS(status) == TOO_LARGE:
            return Outcome("memory", {}, f"more than {self._memory_mb} MB of address space")
        return Outcome("crash", {}, f"the process ended with status {os.WEXITSTATUS(status)}")


def nursery() -> None:
    """The nursery's `main`: serve commands on the socket whose number is the first argument."""
    descriptor, function, cpu_s, memory_mb = sys.argv[1:]
    control = socket.socket(fileno=int(descriptor))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends our Spark worker, and so us
    module, _, name = function.partition(":")
    loaded = importlib.import_module(module)
    target: Function = getattr(loaded, name)
    if hasattr(loaded, "warm_up"):
        loaded.warm_up()
    pid = 0
    while command := control.recv(1):
        if command == b"f":
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                control.close()
                theirs.close()
                _serve(ours, target, float(cpu_s), int(memory_mb))
            ours.close()
            socket.send_fds(control, [str(pid).encode()], [theirs.fileno()])
            theirs.close()
        else:
            control.sendall(str(os.waitpid(pid, 0)[1]).encode())


def _serve(connection: socket.socket, target: Function, cpu_s: float, memory_mb: int) -> None:
    """Answer requests until the other side hangs up; never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _address_space() + memory_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            head, payload = _receive(connection, None)
        except (EOFError, OSError):
            os._exit(0)
        except MemoryError:
            os._exit(TOO_LARGE)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + cpu_s) + 1, hard))
        answer = _answer(target, head, payload, memory_mb)
        del payload
        try:
            _send(connection, answer, b"", None)
        except OSError:
            os._exit(0)


def _answer(target: Function, head: bytes, payload: bytes, memory_mb: int) -> bytes:
    reply: dict[str, Any]
    try:
        reply = target(json.loads(head), payload)
        reply["_leaves"] = _resident() > GREEDY_BYTES
        return json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
    except MemoryError:
        message = f"more than {memory_mb} MB of address space"
        reply = {"_status": "memory", "_leaves": True, "_message": message}
    except Exception as error:  # the document's reason, not the job's end
        reply = {"_status": "error", "_message": f"{type(error).__name__}: {error}"[:500]}
    return json.dumps(reply).encode()


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _send(connection: socket.socket, head: bytes, payload: bytes, deadline: float | None) -> None:
    header = HEADER.pack(len(head), len(payload))
    for part in (header + head + payload,) if len(payload) < 65_536 else (header + head, payload):
        view = memoryview(part)
        while view:
            _wait(connection, deadline, to_write=True)
            view = view[connection.send(view, 0 if deadline is None else socket.MSG_DONTWAIT) :]


def _receive(connection: socket.socket, deadline: float | None) -> tuple[bytes, bytes]:
    head_size, payload_size = HEADER.unpack(_read(connection, HEADER.size, deadline))
    head = _read(connection, head_size, deadline)
    return head, _read(connection, payload_size, deadline)


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        _wait(connection, deadline, to_write=False)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)


def _wait(connection: socket.socket, deadline: float | None, to_write: bool) -> None:
    if deadline is None:
        return
    remaining = deadline - time.monotonic()
    poll = select.poll()
    poll.register(connection, select.POLLOUT if to_write else select.POLLIN)
    if remaining <= 0 or not poll.poll(1000 * remaining):
        raise TimeoutError
