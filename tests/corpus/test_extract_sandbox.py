"""The sandbox: what hangs, bursts or crashes costs its own document and nothing else."""

import os
import signal
import time

import pytest

from corpus.extract.sandbox import Sandbox


def behave(request: dict, payload: bytes) -> dict:
    """Runs in the sandbox: does what the request says."""
    deed = request["deed"]
    if deed == "spin":
        while True:
            pass
    if deed == "sleep":
        time.sleep(60)
    if deed == "burst":
        bytearray(500_000_000)
    if deed == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "exit":
        os._exit(3)
    if deed == "raise":
        raise ValueError("no good: \ud800")
    return {"size": len(payload), "pid": os.getpid(), "parent": os.getppid()}


@pytest.fixture(scope="module")
def sandbox():
    box = Sandbox(f"{__name__}:behave", cpu_s=1, wall_s=20, memory_mb=200)
    yield box
    box.close()


@pytest.mark.parametrize(
    ("deed", "status", "message"),
    [
        ("spin", "timeout", "more than 1 s of CPU time"),
        ("burst", "memory", "more than 200 MB of address space"),
        ("segfault", "crash", "the process died of SIGSEGV"),
        ("exit", "crash", "the process ended with status 3"),
        ("raise", "error", "ValueError: no good: \ud800"),
    ],
)
def test_a_bad_document_is_told_and_the_next_one_is_served(sandbox, deed, status, message):
    outcome = sandbox.call({"deed": deed}, b"")
    assert (outcome.status, outcome.message) == (status, message)
    assert sandbox.call({"deed": "good"}, b"12345").reply["size"] == 5


def test_what_sleeps_is_ended_by_the_clock():
    box = Sandbox(f"{__name__}:behave", cpu_s=9, wall_s=1, memory_mb=200)
    outcome = box.call({"deed": "sleep"}, b"")
    assert (outcome.status, outcome.message) == ("timeout", "more than 1 s by the clock")
    box.close()


def test_workers_are_reused_and_take_large_payloads(sandbox):
    first = sandbox.call({"deed": "good"}, b"x" * 20_000_000).reply
    second = sandbox.call({"deed": "good"}, b"").reply
    assert first["size"] == 20_000_000
    assert first["pid"] == second["pid"]


def test_a_payload_beyond_the_limit_is_the_documents_memory_failure(sandbox):
    assert sandbox.call({"deed": "good"}, b"x" * 300_000_000).status == "memory"


def test_no_process_outlives_the_sandbox():
    box = Sandbox(f"{__name__}:behave", cpu_s=5, wall_s=5, memory_mb=200)
    reply = box.call({"deed": "good"}, b"").reply
    os.kill(reply["parent"], signal.SIGKILL)  # the nursery
    for _ in range(100):
        try:
            os.kill(reply["pid"], 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(reply["pid"], 0)
    # The next call finds out and starts anew.
    assert box.call({"deed": "good"}, b"").status == "ok"
    box.close()
