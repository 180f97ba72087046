"""Worker processes: they really crash, stop, outstay their time, and lose their parent."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmlearn import workers
from tests.places import ROOT

needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")


def lost(item: object, why: str) -> str:
    return why


def run(work: object, items: list, count: int = 2, **more: object) -> dict:
    return dict(workers.call_each(work, items, count, lost, **more))  # type: ignore[arg-type]


def test_results_errors_and_deaths_come_to_their_items() -> None:
    assert run(math.sqrt, [float(k) for k in range(20)], 3) == {float(k): math.sqrt(k) for k in range(20)}
    with pytest.raises(ValueError, match="math domain error"):
        run(math.sqrt, [1.0, -1.0])
    assert run(os._exit, [3, 4]) == dict.fromkeys([3, 4], "the process that read it died")
    assert run(math.sqrt, [4.0]) == {4.0: 2.0}
    assert run(math.sqrt, []) == {}


@needs_kill
def test_what_takes_too_long_is_ended_and_the_rest_goes_on() -> None:
    start = time.monotonic()
    found = run(time.sleep, [0.0, 300.0, 0.1], limit=lambda item: 3.0 if item > 1 else None)
    assert found == {0.0: None, 300.0: "reading it took more than 3 s", 0.1: None}
    assert time.monotonic() - start < 200


def test_an_error_does_not_wait_for_the_others() -> None:
    start = time.monotonic()
    with pytest.raises(TypeError):
        run(time.sleep, ["x", 300.0])
    assert time.monotonic() - start < 200


def test_environment_and_folder_are_those_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLEARN_HOME", "one")
    assert run(os.getenv, ["MMLEARN_HOME"]) == {"MMLEARN_HOME": "one"}
    monkeypatch.setenv("MMLEARN_HOME", "two")
    monkeypatch.chdir(tmp_path)
    assert run(os.getenv, ["MMLEARN_HOME"]) == {"MMLEARN_HOME": "two"}
    assert run(os.path.realpath, ["x"]) == {"x": str((tmp_path / "x").resolve())}


def test_an_error_that_cannot_be_pickled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_errors.py").write_text(
        "class Odd(Exception):\n    def __init__(self, a, b): super().__init__('odd')\n"
        "def fail(x):\n    raise Odd(1, 2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    workers.stop()
    import odd_errors  # type: ignore[import-not-found]

    with pytest.raises(RuntimeError, match="Odd: odd"):
        run(odd_errors.fail, [1])
    workers.stop()


def test_without_a_process_this_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_idle", [])
    monkeypatch.setattr(workers, "PYTHON", "/nowhere/python")
    with pytest.warns(UserWarning, match="no worker process can be started, so this process does the work alone"):
        assert run(math.sqrt, [4.0]) == {4.0: 2.0}


SCRIPT = """
import os, signal, sys, time
from mmlearn import workers
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
open(sys.argv[1], "a").write("started\\n")
for _ in workers.call_each({work}, {items}, 2, lambda item, why: why):
    print("\\n".join(str(worker.process.pid) for worker in workers._idle), flush=True)
    {then}
"""


def start(tmp_path: Path, work: str, items: str, then: str) -> subprocess.Popen[str]:
    """Run a script without `if __name__ == "__main__"`, as readers write them."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(work=work, items=items, then=then))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path / "log")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_script_is_not_run_again_by_its_workers(tmp_path: Path) -> None:
    said, errors = start(tmp_path, "abs", "[1, -2]", "pass").communicate(timeout=300)
    assert (tmp_path / "log").read_text() == "started\n" and said and not errors


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


@needs_kill
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_workers_end_with_their_parent(tmp_path: Path, how: str) -> None:
    """Also where one is busy, and where a process that the parent forked holds its pipes open."""
    then = f"{'os.fork() and ' * (how == 'SIGKILL')}print('ready', flush=True); time.sleep(300)"
    # The first sleeps long enough for the second to start a worker of its own.
    parent = start(tmp_path, "time.sleep", "[2.0, 300.0]", then)
    assert parent.stdout is not None
    children = set[int]()
    try:
        while (line := parent.stdout.readline()) != "ready\n":  # the pids of idle workers; there is no fork before
            assert line, "the script ended"
        deadline, working = time.monotonic() + 120, list[int]()
        while len(working) < 2:  # the second may be starting
            assert time.monotonic() < deadline
            tasks = list(Path(f"/proc/{parent.pid}/task").iterdir())
            children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
            working = [pid for pid in children if b"serve(" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            time.sleep(0.05)
        assert len(children) == 2 + (how == "SIGKILL")
        parent.send_signal(getattr(signal, how))
        while any(alive(pid) for pid in working):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:  # a forked one, too, else it holds the pipes open for ever
        parent.kill()
        for pid in filter(alive, children):
            os.kill(pid, signal.SIGKILL)
        parent.communicate(timeout=60)
