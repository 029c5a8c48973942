"""Whatever is killed, no writer is left behind and the run goes on or says that it does not."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from dsaflow.runs import launch, recover
from dsaflow.runs.processes import Identity, boot_id
from dsaflow.runs.record import Record
from dsaflow.runs.recover import Condition
from dsaflow.runs.spawn import OtherHost
from dsaflow.runs.states import LIVE, State

from .conftest import PROFILE, is_dead, until


def writers(path) -> set[str]:
    """Pids of the jobs that wrote the lines of a product."""
    return set(path.read_text().split())


def test_killed_snakemake_leaves_no_orphan_and_one_writer(site):
    run_id = site.start("waiting")
    orphan = site.writer("waiting.txt")
    site.snakemake(run_id).kill()
    # tried again, after its job was ended
    until(lambda: site.row(run_id)["attempt"] == 2, "the second start")
    assert is_dead(orphan)
    second = site.writer("waiting.txt", after=orphan)
    assert second.pid != orphan.pid
    (site.path / "go-waiting").touch()
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE
    assert writers(site.results / "waiting.txt") == {str(second.pid)}
    (pause,) = [e for e in site.events(run_id, "run.state") if e["state"] == State.PAUSED]
    assert pause["error_class"] == "transient"
    assert pause["exit_code"] == 137
    assert "SIGKILL" in pause["error_message"]
    assert "unlocking" in site.log(run_id)


def test_a_new_supervisor_adopts_a_living_snakemake(site):
    run_id = site.start("waiting")
    writer = site.writer("waiting.txt")
    site.kill_supervisor(run_id)
    (found,) = recover.examine(site.record)
    assert found.condition is Condition.UNSUPERVISED
    assert recover.recover(site.record, site.config, site.path) == [run_id]
    assert recover.examine(site.record)[0].condition is Condition.SUPERVISED
    assert recover.settle(site.record, site.config, site.path) == []
    assert writer.is_running()
    (site.path / "go-waiting").touch()
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE
    assert row["attempt"] == 1
    assert writers(site.results / "waiting.txt") == {str(writer.pid)}


def test_what_ended_without_a_supervisor_has_its_true_exit_code(site):
    run_id = site.start("broken")
    site.kill_supervisor(run_id)
    exit_file = site.record.folder / run_id / "attempt-1.exit"
    until(exit_file.exists, "the exit code")
    assert site.row(run_id)["state"] == State.RUNNING  # nobody looked
    recover.settle(site.record, site.config, site.path)
    row = site.wait(run_id)
    assert row["state"] == State.EXECUTOR_ERROR
    assert row["exit_code"] == 1
    assert "no such column" in row["error_message"]
    assert row["attempt"] == 1


def test_a_supervisor_that_dies_before_it_says_who_it_is(site, monkeypatch):
    """Its dispatcher, a service, lives on: the run must not pass for looked after."""
    start = subprocess.Popen

    def killed(*arguments, **options):
        process = start(*arguments, **options)
        process.kill()
        process.wait()
        return process

    with monkeypatch.context() as patch:
        patch.setattr("dsaflow.runs.spawn.subprocess.Popen", killed)
        run_id = site.start("quick")
    (found,) = recover.examine(site.record)
    assert (found.state, found.condition) == (State.INITIALIZING, Condition.DEAD)
    assert recover.settle(site.record, site.config, site.path) == [run_id]
    assert site.wait(run_id)["state"] == State.COMPLETE


def test_everything_killed_at_once_is_resumed(site):
    run_id = site.start("waiting")
    orphan = site.writer("waiting.txt")
    leader = psutil.Process(site.row(run_id)["snakemake_pid"])
    killed = [site.supervisor(run_id), leader, *leader.children()]
    for process in killed:
        process.kill()
    until(lambda: all(map(is_dead, killed)), "their death")
    assert orphan.is_running()
    # `wait` settles by itself, as the service does
    row = launch.wait(site.record, site.config, run_id, poll_s=0.1, timeout_s=0.2)
    assert row["state"] in LIVE
    site.writer("waiting.txt", after=orphan)
    (site.path / "go-waiting").touch()
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE
    assert is_dead(orphan)
    assert len(writers(site.results / "waiting.txt")) == 1
    assert str(orphan.pid) not in writers(site.results / "waiting.txt")
    (pause,) = [e for e in site.events(run_id, "run.state") if e["state"] == State.PAUSED]
    assert pause["interrupted"]
    assert pause["next_retry_s"] <= pause["time_s"] + 0.1


def test_cancelling_leaves_no_writer_however_stubborn(site):
    run_id = site.start("stubborn")
    writer = site.writer("stubborn.txt")
    assert launch.cancel(site.record, site.config, run_id) is State.CANCELING
    assert site.row(run_id)["state"] == State.CANCELING
    row = site.wait(run_id)
    assert row["state"] == State.CANCELED
    assert is_dead(writer)
    file = site.results / "stubborn.txt"
    size = file.stat().st_size if file.exists() else 0
    time.sleep(0.5)
    assert (file.stat().st_size if file.exists() else 0) == size
    assert not list((site.path / ".snakemake").glob("locks/*"))
    assert launch.cancel(site.record, site.config, run_id) is State.CANCELED
    # the directory is free, and the run can be taken up again
    (site.path / "go-stubborn").touch()
    assert launch.retry(site.record, site.config, run_id)
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE
    assert row["attempt"] == 2
    assert str(writer.pid) not in writers(file)


def test_cancelling_without_a_supervisor(make_site):
    site = make_site(runs={"interrupt_s": 0.5})
    run_id = site.start("waiting")
    writer = site.writer("waiting.txt")
    site.kill_supervisor(run_id)
    assert launch.cancel(site.record, site.config, run_id) is State.CANCELING
    row = site.wait(run_id)
    assert row["state"] == State.CANCELED
    assert is_dead(writer)
    # SIGTERM ended the job, and Snakemake told its own end
    assert row["exit_code"] == 1
    assert (site.record.folder / run_id / "attempt-1.exit").read_text() == "1\n"


@pytest.mark.slow
@pytest.mark.parametrize("supervisor_is", ["late", "dead"])
def test_exit_code_0_wins_over_a_late_cancel(site, supervisor_is):
    run_id = site.start("waiting")
    site.writer("waiting.txt")
    supervisor = site.supervisor(run_id)
    if supervisor_is == "dead":
        site.kill_supervisor(run_id)
    else:
        supervisor.suspend()
    (site.path / "go-waiting").touch()
    until((site.record.folder / run_id / "attempt-1.exit").exists, "the end of Snakemake")
    assert launch.cancel(site.record, site.config, run_id) is State.CANCELING
    if supervisor_is == "late":
        supervisor.resume()
    assert site.wait(run_id)["state"] == State.COMPLETE


@pytest.mark.slow
def test_recovery_may_end_a_run_instead_of_resuming_it(site):
    run_id = site.start("stubborn")
    writer = site.writer("stubborn.txt")
    site.kill_supervisor(run_id)
    recover.recover(site.record, site.config, site.path, resume=False)
    row = site.wait(run_id)
    assert row["state"] == State.SYSTEM_ERROR
    assert "no-resume" in row["error_message"]
    assert is_dead(writer)


SUBMIT = """
import sys
from pathlib import Path
from dsaflow.config import load_config
from dsaflow.runs import launch
from dsaflow.runs.record import Record
path = Path(sys.argv[1])
config = load_config(path / "config/config.yaml")
record = Record.open(config)
launch.submit(record, config, kind="run", targets=["waiting"], profile=sys.argv[2], workdir=path)
print(launch.dispatch(record, config, path))
"""


def test_twenty_at_once_give_one_live_run(site):
    """Four processes and sixteen threads submit and dispatch at the same time."""
    started = []
    barrier = threading.Barrier(16)

    def create():
        barrier.wait()
        site.submit("waiting")
        started.append(site.dispatch())
        site.record.close()

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMIT, str(site.path), PROFILE],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started += [process.communicate()[0].strip() for process in processes]
    started = [run_id for run_id in started if run_id not in (None, "None")]
    assert len(started) == 1
    site.writer("waiting.txt")
    rows = site.record.select("SELECT * FROM runs")
    assert len(rows) == 20
    live = [row["run_id"] for row in rows if row["state"] in LIVE]
    assert live == started
    for row in rows:
        if row["run_id"] not in live:
            assert launch.cancel(site.record, site.config, row["run_id"]) is State.CANCELED
    (site.path / "go-waiting").touch()
    assert site.wait(started[0])["state"] == State.COMPLETE


def make_live(site, **identity) -> str:
    """Record a running run whose processes are said to be somewhere."""
    me = Identity.of(os.getpid())
    assert me is not None
    run_id = site.submit("quick")
    fields = me.fields("supervisor") | me.fields("snakemake") | identity
    assert site.record.transition(run_id, State.INITIALIZING, **fields)
    assert site.record.transition(run_id, State.RUNNING)
    return run_id


def test_after_a_reboot_a_live_run_is_resumed(site):
    # the same pids and starts may be somebody else's since
    run_id = make_live(site, boot_id="6f1f0d6a-0000-0000-0000-000000000000")
    (found,) = recover.examine(site.record, site.path)
    assert found.condition is Condition.REBOOTED
    assert recover.settle(site.record, site.config, site.path) == [run_id]
    row = site.wait(run_id)
    assert row["state"] == State.COMPLETE
    assert row["boot_id"] == boot_id()


def test_a_reused_pid_is_not_the_run(site):
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        identity = Identity.of(bystander.pid)
        assert identity is not None
        wrong = identity.fields("supervisor") | identity.fields("snakemake")
        wrong |= {"supervisor_start": "1", "snakemake_start": "1"}
        run_id = make_live(site, **wrong)
        (found,) = recover.examine(site.record, site.path)
        assert found.condition is Condition.DEAD
        recover.settle(site.record, site.config, site.path)
        assert site.wait(run_id)["state"] == State.COMPLETE
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_run_of_another_host_is_reported_and_left_alone(site):
    run_id = make_live(site, host="another-host")
    (found,) = recover.examine(site.record, site.path)
    assert found.condition is Condition.OTHER_HOST
    assert "another-host" in found.detail
    assert not found.needs_recovery
    assert recover.recover(site.record, site.config, site.path) == []
    with pytest.raises(OtherHost, match="another-host"):
        launch.cancel(site.record, site.config, run_id)
    assert site.row(run_id)["state"] == State.RUNNING
    assert site.dispatch() is None
    # until a person says that there is no such host any more
    assert recover.recover(site.record, site.config, site.path, gone_host="third-host") == []
    assert recover.recover(site.record, site.config, site.path, gone_host="another-host") == [
        run_id
    ]
    assert site.wait(run_id)["state"] == State.COMPLETE


def test_what_cannot_be_proved_dead_keeps_the_directory(site, monkeypatch, tmp_path):
    # jobs in a SLURM that cannot be asked
    run_id = make_live(site, boot_id="6f1f0d6a-0000-0000-0000-000000000000")
    site.record.emit("run.updated", run_id, slurm_run_id="11111111-2222-3333-4444-555555555555")
    queued = site.submit("quick")
    monkeypatch.setenv("PATH", str(tmp_path))
    recover.settle(site.record, site.config, site.path)
    until(lambda: "squeue" in (site.row(run_id)["error_message"] or ""), "the reason")
    time.sleep(1.5)
    row = site.row(run_id)
    assert row["state"] in LIVE
    assert row["attempt"] == 0
    assert site.dispatch() is None
    assert site.row(queued)["state"] == State.QUEUED
    assert launch.cancel(site.record, site.config, run_id) is State.CANCELING
    time.sleep(1.5)
    assert site.row(run_id)["state"] == State.CANCELING


def typed(site, *arguments: str) -> subprocess.Popen:
    """Snakemake as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments, "--profile", PROFILE],
        cwd=site.path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_typed_run_that_was_killed_is_settled_and_its_job_ended(site):
    process = typed(site, "waiting")
    try:
        orphan = site.writer("waiting.txt")
        until(lambda: site.record.live_run(site.path), "the record of the run")
        row = site.record.live_run(site.path)
        assert row["kind"] == "snakemake"
        queued = site.submit("waiting")
        assert site.dispatch() is None
        assert recover.settle(site.record, site.config, site.path) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert orphan.is_running()
    # the queued run starts when the directory is free again
    recover.settle(site.record, site.config, site.path)
    ended = site.wait(row["run_id"])
    assert ended["state"] == State.SYSTEM_ERROR
    assert "vanished" in ended["error_message"]
    assert is_dead(orphan)
    (site.path / "go-waiting").touch()
    assert site.wait(queued)["state"] == State.COMPLETE
    assert str(orphan.pid) not in writers(site.results / "waiting.txt")


@pytest.mark.slow
def test_a_lock_without_a_record_is_removed_once_its_holder_is_dead(site, tmp_path):
    (site.path / PROFILE / "config.yaml").write_text("cores: 1\nscheduler: greedy\n")
    process = typed(site, "stubborn")  # no logger: nobody knows of it
    writer = None
    try:
        writer = site.writer("stubborn.txt")
        assert site.record.select("SELECT * FROM runs") == []
        assert not recover.unlock_unclaimed(site.path, PROFILE)
        assert list((site.path / ".snakemake").glob("locks/*"))
    finally:
        process.kill()
        process.wait()
        if writer is not None:
            writer.kill()
    recover.recover(site.record, site.config, site.path, profile=PROFILE)
    assert not list((site.path / ".snakemake").glob("locks/*"))


@pytest.mark.slow
def test_the_record_survives_its_deletion_during_a_run(site):
    run_id = site.start("waiting")
    site.writer("waiting.txt")
    for file in site.record.folder.glob("record.sqlite*"):
        file.unlink()
    (site.path / "go-waiting").touch()
    fresh = Record(site.record.folder, site.record.database)
    until(lambda: (fresh.run(run_id) or {"state": ""})["state"] == State.COMPLETE)
    fresh.close()
