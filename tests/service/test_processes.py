"""Real processes: who belongs to a run, who does not, and ending them so that none is left."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dsaflow.runs import processes
from dsaflow.runs.locks import WorkdirLock
from dsaflow.runs.processes import Identity, end, end_all, members

from .conftest import is_dead, until

RUN = "20260125T000000-0123abcd"
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = (
    "import signal, sys, time\n"
    "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "print('deaf', flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def start():
    """Start processes that are ended after the test, with what they started."""
    started = []

    def begin(command, marked=False, plain=False, **options):
        environment = {} if plain else dict(os.environ)
        if marked:
            environment["DSAFLOW_RUN_ID"] = RUN
        options = {"env": environment, "start_new_session": True} | options
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    for process in members(RUN):
        process.kill()


def orphan(start, script: str, **options) -> psutil.Process:
    """Process whose parent, a shell that leads a session, has ended; the script prints its pid."""
    shell = start(["/bin/bash", "-c", script], stdout=subprocess.PIPE, text=True, **options)
    pid = int(shell.stdout.readline())
    shell.kill()
    shell.wait()
    return psutil.Process(pid)


def pids(found) -> set[int]:
    return {process.pid for process in found}


def test_an_identity_is_one_process_for_ever(start):
    process = start(SLEEP)
    identity = Identity.of(process.pid)
    assert identity is not None
    assert identity.alive
    row = identity.fields("snakemake")
    assert Identity.from_row(row, "snakemake") == identity
    for change in (
        {"snakemake_start": "1"},
        {"boot_id": "00000000-0000-0000-0000-000000000000"},
        {"host": "elsewhere"},
        {"snakemake_pid": os.getpid()},
    ):
        other = Identity.from_row(row | change, "snakemake")
        assert other is not None
        assert not other.alive
    assert Identity.from_row(row | {"snakemake_pid": None}, "snakemake") is None
    process.kill()
    # a zombie is dead, whether or not its parent has noticed
    until(lambda: not identity.alive, "its death")
    assert process.returncode is None
    process.wait()
    assert Identity.of(process.pid) is None


def test_members_are_found_by_mark_by_session_and_by_descent(start):
    leader = start(["/bin/bash", "-c", "env -i sleep 60 & wait"])
    marked = start(SLEEP, marked=True)
    # a child of a marked process that has cleared its environment and left the session
    parent = start(["/bin/bash", "-c", "env -i setsid sleep 61 & wait"], marked=True)
    stranger = start(SLEEP)
    until(lambda: psutil.Process(leader.pid).children() and psutil.Process(parent.pid).children())
    identity = Identity.of(leader.pid)
    found = pids(members(RUN, identity))
    assert {leader.pid, marked.pid, parent.pid} <= found
    assert pids(psutil.Process(leader.pid).children()) <= found
    assert pids(psutil.Process(parent.pid).children(recursive=True)) <= found
    assert stranger.pid not in found
    assert os.getpid() not in found
    assert members("20260125T000000-ffffffff") == []
    assert end_all(lambda: members(RUN, identity), 1.0) == []
    assert stranger.poll() is None


def test_orphans_are_found_after_their_parents(start):
    by_mark = orphan(start, "setsid sleep 60 & echo $!; wait", marked=True)
    in_session = start(
        ["/bin/bash", "-c", "env -i sleep 62 & echo $!; wait"], stdout=subprocess.PIPE
    )
    leader = Identity.of(in_session.pid)
    child = psutil.Process(int(in_session.stdout.readline()))
    in_session.kill()
    # also while the leader is a zombie
    assert leader is not None
    until(lambda: not leader.alive, "the leader's death")
    assert {by_mark.pid, child.pid} <= pids(members(RUN, leader))
    in_session.wait()
    assert {by_mark.pid, child.pid} <= pids(members(RUN, leader))
    assert end_all(lambda: members(RUN, leader), 1.0) == []
    assert is_dead(by_mark)
    assert is_dead(child)


def test_the_session_of_a_reused_pid_is_left_alone(start):
    stranger = start(SLEEP)
    identity = Identity.of(stranger.pid)
    assert identity is not None
    before = Identity(identity.pid, "1", identity.boot_id, identity.host)
    assert members(RUN, before) == []
    rebooted = Identity(identity.pid, identity.start, "another boot", identity.host)
    assert members(RUN, rebooted) == []
    assert members(RUN, identity) != []


def test_jobs_of_a_slurm_allocation_are_slurms(start, monkeypatch):
    environment = dict(os.environ) | {"DSAFLOW_RUN_ID": RUN, "SLURM_JOB_ID": "7"}
    job = start(SLEEP, env=environment)
    until(lambda: psutil.Process(job.pid).environ().get("SLURM_JOB_ID") == "7")
    assert members(RUN) == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert pids(members(RUN)) == {job.pid}


def test_the_deaf_and_their_children_are_ended(start):
    deaf = start([sys.executable, "-c", DEAF], marked=True, stdout=subprocess.PIPE, text=True)
    assert deaf.stdout.readline() == "deaf\n"
    find = lambda: members(RUN)  # noqa: E731
    assert not end(find, signal.SIGTERM, 0.3)
    assert end_all(find, 0.3) == []
    assert deaf.wait() == -signal.SIGKILL


def test_what_appears_while_others_end_is_ended_too(start):
    forking = "while :; do sleep 60 & sleep 0.02; done"
    start(["/bin/bash", "-c", f"trap '' TERM; {forking}"], marked=True)
    until(lambda: len(members(RUN)) > 3)
    assert end_all(lambda: members(RUN), 0.3) == []
    time.sleep(0.1)
    assert members(RUN) == []


def test_snakemake_of_somebody_else_is_seen(tmp_path, start):
    (tmp_path / "Snakefile").write_text("rule all:\n    output: 'x'\n    shell: 'sleep 60'\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    theirs = start(command, **quiet)
    until(lambda: theirs.pid in processes.foreign_snakemake(tmp_path, RUN))
    assert processes.foreign_snakemake(tmp_path.parent, RUN) == []
    theirs.terminate()


def test_a_lock_is_free_when_its_holder_is_dead(tmp_path, start):
    lock = WorkdirLock(tmp_path)
    # a child must not keep the lock that its parent took
    code = (
        "import subprocess, time; from dsaflow.runs.locks import WorkdirLock\n"
        f"WorkdirLock({str(tmp_path)!r}).acquire({{'run_id': 'theirs'}})\n"
        "subprocess.Popen(['sleep', '60'])\n"
        "time.sleep(60)"
    )
    holder = start([sys.executable, "-c", code], marked=True)
    until(lambda: (lock.holder() or {}).get("run_id") == "theirs", "the holder")
    assert not lock.acquire({"run_id": "ours"}, wait_s=0.1)
    holder.kill()
    holder.wait()
    assert lock.holder() is None
    assert lock.acquire({"run_id": "ours"})
    assert (WorkdirLock(tmp_path).holder() or {})["run_id"] == "ours"
    assert not WorkdirLock(tmp_path).acquire({}, wait_s=0.1)
    lock.release()
    assert lock.holder() is None
