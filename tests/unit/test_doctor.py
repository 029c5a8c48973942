"""What the doctor finds: each failure provoked, and an examination that breaks is no pass."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import erfa
import pytest
import yaml

from dsaflow.config import load_config
from dsaflow.errors import EnvironmentProblem
from dsaflow.runs import conditions, doctor, doctor_slurm, doctor_time
from dsaflow.runs.processes import Identity
from dsaflow.runs.record import Record
from dsaflow.runs.states import State

REPOSITORY = Path(__file__).resolve().parents[2]


class Site:
    def __init__(self, folder, raw_tiles):
        self.folder = folder
        self.raw = raw_tiles(folder / "incoming")
        self.profile("local", {"cores": 1})

    def profile(self, name, content):
        place = self.folder / "profiles" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.yaml").write_text(yaml.safe_dump(content))

    def config(self, **sections):
        paths = {k: str(self.folder / k) for k in ("incoming", "results", "published")}
        sections["paths"] = paths | sections.get("paths", {})
        sections.setdefault("alerts", {"channels": [f"file://{self.folder}/alerts.log"]})
        return load_config(sections)

    def examine(self, profile="profiles/local", **sections):
        return doctor.examine(self.config(**sections), profile, self.folder)


@pytest.fixture
def site(tmp_path, raw_tiles):
    return Site(tmp_path, raw_tiles)


def of(findings, name, status=None):
    return [f for f in findings if f.name == name and status in (None, f.status)]


def only(findings):
    (finding,) = findings
    return finding


def test_a_sound_machine(site):
    (site.folder / "requirements.lock").symlink_to(REPOSITORY / "requirements.lock")
    for number in (-1, 0, 1):
        site.raw.write(number)
    findings = site.examine()
    assert [f for f in findings if f.status == "fail"] == []
    names = {f.name for f in findings}
    assert names >= {
        "packages", "engines", "folders", "disk", "record", "runs", "alerts", "clock",
        "leap seconds", "earth rotation", "calibrators", "profile",
    }  # fmt: skip
    strip = only(of(findings, "calibrators"))
    assert "dec+16.1" in strip.detail
    assert "3C138" in strip.detail
    assert not list(site.folder.rglob(".doctor-*"))


def test_an_examination_that_breaks_is_a_failure(site, monkeypatch):
    def broken(config):
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(doctor, "_disks", broken)
    findings = site.examine()
    assert "RuntimeError: no such thing" in [f.detail for f in findings if f.status == "fail"]


def test_versions(site, monkeypatch):
    assert "not compared" in only(doctor._packages(site.folder)).detail
    lock = site.folder / "requirements.lock"
    lock.write_text(
        "# comment\nnumpy==1.0.0 \\\n    --hash=sha256:0\nnosuchpackage==1.0 ; sys_platform == 'x'\n"
    )
    finding = only(doctor._packages(site.folder))
    assert finding.status == "warn"
    assert "numpy" in finding.detail
    assert "(pinned 1.0.0)" in finding.detail
    assert "nosuchpackage" not in finding.detail
    needs = ["numpy>=99", "nosuchpackage>=1", "pytest; extra == 'dev'", "alsonone; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: needs)
    finding = next(doctor._packages(site.folder))
    assert finding.status == "fail"
    assert "numpy>=99 (here " in finding.detail
    assert "nosuchpackage" in finding.detail
    assert "alsonone" not in finding.detail


def test_engines(site, monkeypatch):
    assert only(doctor._engines(site.config())).status == "ok"
    monkeypatch.setattr(doctor, "_ENGINES", ("h5py", "nosuchmodule"))
    finding = only(doctor._engines(site.config()))
    assert finding.status == "fail"
    assert "nosuchmodule cannot be loaded" in finding.detail
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(site.folder))
    failing = of(list(doctor._engines(site.config(image={"engine": "wsclean"}))), "engines", "fail")
    assert "wsclean" in only(failing).detail


def test_folders(site):
    findings = site.examine(paths={"incoming": str(site.folder / "absent")})
    assert "paths.incoming: no folder" in only(of(findings, "folders", "fail")).detail
    # not even root can make a folder below a file
    (site.folder / "file").write_text("")
    findings = site.examine(paths={"published": str(site.folder / "file" / "published")})
    assert "cannot be written" in only(of(findings, "folders", "fail")).detail


def test_disk(site):
    config = site.config(clean={"high_water": 0.0})
    assert "nothing new starts" in only(doctor._disks(config)).detail
    config = site.config(
        clean={"high_water": 1.0}, alerts={"rules": [{"rule": "disk_low", "limit": 1.0}]}
    )
    assert only(doctor._disks(config)).status == "warn"


def test_record_on_a_network_disk_or_damaged(site, monkeypatch):
    def refuse(path, kind=None):
        raise EnvironmentProblem("the run record lies on nfs")

    with monkeypatch.context() as patch:
        patch.setattr(doctor, "refuse_network", refuse)
        assert "lies on nfs" in str([f.detail for f in site.examine() if f.status == "fail"])
    (site.folder / "results" / "runs").mkdir(parents=True, exist_ok=True)
    (site.folder / "results" / "runs" / "record.sqlite").write_bytes(b"junk" * 1000)
    assert of(site.examine(), "record", "ok") == []
    assert of(site.examine(), "record", "fail") != []


def test_lost_runs_and_locks(site):
    assert only(doctor._runs(site.config(), site.folder)).status == "ok"
    locks = site.folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("x")
    finding = only(doctor._runs(site.config(), site.folder))
    assert finding.status == "fail"
    assert "dsaflow recover" in finding.detail

    record = Record.open(site.config())
    run_id = record.create_run("run", site.folder)
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = Identity.of(ended.pid)
    ended.communicate()
    record.transition(run_id, State.INITIALIZING, **who.fields("supervisor"))
    record.transition(run_id, State.RUNNING, **who.fields("snakemake"))
    record.close()
    finding = only(doctor._runs(site.config(), site.folder))
    assert finding.status == "fail"
    assert run_id in finding.detail


def test_files_and_channels(site, monkeypatch):
    token = site.folder / "token"
    absent = {"calibrators": str(site.folder / "none.csv")}
    finding = only(doctor._files(site.config(paths=absent, api={"token_file": ""})))
    assert "paths.calibrators: no file" in finding.detail
    assert only(doctor._files(site.config(api={"token_file": str(token)}))).status == "fail"
    token.write_text("x")
    token.chmod(0o644)
    assert only(doctor._files(site.config(api={"token_file": str(token)}))).status == "warn"
    token.chmod(0o600)
    assert list(doctor._files(site.config(api={"token_file": str(token)}))) == []

    assert only(doctor._channels(site.config(alerts={}))).status == "warn"
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    channels = ["json://x:${NO_SUCH_SECRET}@localhost/", "nonsense://x", "json://localhost/"]
    found = list(doctor._channels(site.config(alerts={"channels": channels})))
    assert [f.status for f in found] == ["fail", "fail"]
    assert "NO_SUCH_SECRET" in found[0].detail
    silent = {"channels": ["json://localhost/"], "silence_until": "2999-01-01"}
    assert [f.status for f in doctor._channels(site.config(alerts=silent))] == ["ok", "warn"]


def test_clock_behind_the_data(site):
    site.raw.write(0, age_s=-3600)
    failing = [f for f in doctor_time.clock(site.config()) if f.status == "fail"]
    assert "written in the future" in only(failing).detail


class Kernel:
    """The answer of a kernel to adjtimex."""

    def __init__(self, status, maxerror_us=0, answer=0):
        self.status, self.maxerror_us, self.answer = status, maxerror_us, answer

    def adjtimex(self, buffer):
        buffer[40:44] = self.status.to_bytes(4, "little")
        buffer[24:32] = self.maxerror_us.to_bytes(8, "little")
        return self.answer


@pytest.mark.parametrize(
    ("kernel", "status", "words"),
    [
        (Kernel(0x2001, 12_000), "ok", "to 12 ms"),
        (Kernel(0x0041), "warn", "not synchronised"),
        (Kernel(0, answer=-1), "warn", "does not say"),
    ],
)
def test_clock_as_the_kernel_keeps_it(site, monkeypatch, kernel, status, words):
    monkeypatch.setattr(doctor_time.ctypes, "CDLL", lambda *_, **__: kernel)
    finding = only(doctor_time.clock(site.config()))
    assert finding.status == status
    assert words in finding.detail


def test_leap_seconds(monkeypatch, tmp_path):
    assert only(doctor_time.leap_seconds()).status == "ok"
    with monkeypatch.context() as patch:
        patch.setattr(erfa.leap_seconds, "get", lambda: [{"tai_utc": 36.0}])
        assert "newer pyerfa" in only(doctor_time.leap_seconds()).detail
    old = tmp_path / "leap"
    old.write_text("#  File expires on 28 June 2020\n  57754.0    1  1 2017       37\n")
    monkeypatch.setattr("astropy_iers_data.IERS_LEAP_SECOND_FILE", str(old))
    finding = only(doctor_time.leap_seconds())
    assert finding.status == "warn"
    assert "2020-06-28" in finding.detail


def test_earth_rotation_runs_out():
    measured = doctor_time.measured_until_mjd()
    last = doctor_time.last_known_mjd(measured)
    assert 180 < last - measured < 500
    soon = only(doctor_time.earth_rotation(measured + 10))
    assert soon.status == "ok"
    assert "measured until 10 d ago" in soon.detail
    assert only(doctor_time.earth_rotation(measured + 200)).status == "warn"
    assert only(doctor_time.earth_rotation(last - 10)).status == "warn"
    over = only(doctor_time.earth_rotation(last + 10))
    assert over.status == "fail"
    assert "predictions end before today" in over.detail
    assert "install a newer astropy-iers-data" in over.detail


def test_data_beyond_the_earth_rotation_table(site):
    site.raw.middle_mjd = 99000.0
    site.raw.write(0)
    failing = [f for f in doctor_time.sky(site.config()) if f.status == "fail"]
    assert "1 groups are beyond the table" in only(failing).detail


def test_calibrators(site):
    found = list(doctor_time.sky(site.config()))
    assert "no data" in only(of(found, "calibrators")).detail
    for number in (3, 4):
        site.raw.write(number)
    finding = only(of(list(doctor_time.sky(site.config())), "calibrators"))
    assert finding.status == "warn"
    assert "no bandpass" in finding.detail
    none = site.config(calibrate={"min_calibrator_jy": 500.0})
    finding = only(of(list(doctor_time.sky(none)), "calibrators"))
    assert finding.status == "fail"
    assert "above 500 Jy" in finding.detail


SLURM = {
    "executor": "slurm",
    "slurm-status-command": "squeue",
    "slurm-no-requeue": True,
    "default-resources": {"slurm_partition": "main"},
    "set-resources": {"image_tile": {"slurm_partition": "large", "mem_mb": 1}},
}


@pytest.fixture
def cluster(site, monkeypatch):
    """Programs that answer as SLURM 22.05 does, on a PATH of their own."""
    place = site.folder / "bin"
    place.mkdir()
    answers = {"MinJobAge": "300 sec", "main": "up 4 idle\nup 1 mixed", "large": "up 1 idle"}
    config = "Configuration data as of now\nMinJobAge               = {MinJobAge}\nNodes = x"

    def write(**changes):
        told = answers | changes
        scripts = {"scontrol": config.format(**told)}
        cases = "".join(f"*' {name} '*) echo '{told[name]}';; " for name in ("main", "large"))
        for name in doctor_slurm._PROGRAMS:
            body = f"echo '{scripts.get(name, '')}'"
            if name == "sinfo":
                body = f'case " $* " in {cases} esac'
            (place / name).write_text(f"#!/bin/sh\n{body}\n")
            (place / name).chmod(0o755)

    write()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return write


def slurm(site, **changes):
    site.profile("slurm", SLURM | changes)
    return list(doctor_slurm.slurm(site.folder / "profiles/slurm"))


def test_slurm_in_order(site, cluster):
    found = slurm(site)
    assert [f.status for f in found] == ["ok", "ok", "ok"]
    assert "MinJobAge 300 s" in found[0].detail


def test_slurm_absent(site, monkeypatch):
    monkeypatch.setenv("PATH", str(site.folder))
    assert "not on PATH: sbatch" in only(slurm(site)).detail


def test_slurm_as_it_must_not_be(site, cluster):
    def failures(**changes):
        return [f.detail for f in slurm(site, **changes) if f.status == "fail"]

    cluster(MinJobAge="60 sec")
    assert "MinJobAge is 60 s" in failures()[0]
    cluster(large="")
    assert "no partition large" in failures()[0]
    cluster(main="down 4 idle")
    assert "partition main is down" in failures()[0]
    cluster()
    (site.folder / "bin" / "sacct").write_text("#!/bin/sh\nexit 1\n")
    (site.folder / "bin" / "sacct").chmod(0o755)
    assert "sacct hangs" in failures(**{"slurm-status-command": "sacct"})[0]
    warned = [f.detail for f in slurm(site, **{"slurm-no-requeue": False}) if f.status == "warn"]
    assert "unwatched" in only(warned)
    (site.folder / "bin" / "scontrol").write_text("#!/bin/sh\necho no contact >&2\nexit 1\n")
    assert "no contact" in failures()[0]


def test_resources_may_be_a_list(site, cluster):
    found = slurm(site, **{"default-resources": ["slurm_partition=main", "mem_mb=100"]})
    assert {f.status for f in found} == {"ok"}


def command(site, *arguments):
    file = site.folder / "site.yaml"
    file.write_text(site.config().model_dump_json())
    return subprocess.run(
        [Path(sys.executable).with_name("dsaflow"), *arguments, "--configfile", file,
         "--profile", "profiles/local"],
        cwd=site.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_command_tells_failure_by_its_exit_code(site):
    (site.folder / "config").symlink_to(REPOSITORY / "config")
    good = command(site, "doctor", "--json")
    assert good.returncode == 0, good.stdout
    found = json.loads(good.stdout)
    assert {"name", "status", "detail"} == set(found[0])
    (site.folder / ".snakemake" / "locks").mkdir(parents=True)
    (site.folder / ".snakemake" / "locks" / "0.input.lock").write_text("x")
    bad = command(site, "doctor")
    assert bad.returncode == 1
    assert "FAIL" in bad.stdout
    assert "dsaflow recover" in bad.stdout
    assert "Traceback" not in bad.stderr


def test_newest_data_is_asked_of_the_names(site):
    assert conditions.newest_data(str(site.folder / "absent")) is None
    assert conditions.newest_data(str(site.folder / "incoming")) is None
    (site.folder / "incoming" / "notes.txt").write_text("")
    assert conditions.newest_data(str(site.folder / "incoming")) is None
    site.raw.write(0, age_s=50)
    site.raw.write(-1, age_s=90)
    name, arrived_s = conditions.newest_data(str(site.folder / "incoming"))
    assert "_sb15" in name or "_sb" in name
    assert time.time() - arrived_s == pytest.approx(50, abs=5)
