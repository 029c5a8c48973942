"""What may reach Snakemake's command line, the wait between tries, and markers of lasting failures."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsaflow.config import Config
from dsaflow.config.service_sections import Runs
from dsaflow.errors import ConfigError
from dsaflow.runs import command
from dsaflow.runs.supervision import backoff_s


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "profiles/p").mkdir(parents=True)
    (tmp_path / "profiles/p/config.yaml").write_text("cores: 1\n")
    (tmp_path / "my.yaml").write_text("{}\n")
    (tmp_path / "Snakefile").write_text("rule all:\n")
    return tmp_path


def row(workdir, **changes):
    fields = {"targets": ["all"], "profile": "profiles/p", "configfiles": ["my.yaml"]}
    fields["arguments"] = []
    return {"run_id": "r1", "workdir": str(workdir)} | fields | changes


def test_targets_come_before_options_that_take_words(workdir):
    words = command.snakemake(row(workdir, targets=["mosaics", "results/photometry/x+1.parquet"]))
    assert words[:5] == [
        sys.executable,
        "-m",
        "snakemake",
        "mosaics",
        "results/photometry/x+1.parquet",
    ]
    assert words[5:] == [
        "--profile", "profiles/p", "--configfile", "my.yaml", "--rerun-incomplete",
        "--logger", "dsaflow",
    ]  # fmt: skip


def test_rules_are_restricted_after_the_targets(workdir):
    arguments = command.allow_rules(["measure_variability", "report"])
    words = command.snakemake(row(workdir, arguments=arguments))
    assert words[8:11] == ["--allowed-rules", "measure_variability", "report"]
    assert words[11] == "--rerun-incomplete"
    with pytest.raises(ConfigError):
        command.allow_rules(["--forceall"])
    with pytest.raises(ConfigError):
        command.snakemake(row(workdir, arguments=["--allowed-rules", "--config"]))


def test_loggers_of_the_profile_are_kept(workdir):
    profile = workdir / "profiles/p/config.yaml"
    profile.write_text("cores: 1\nlogger: [other]\n")
    assert command.snakemake(row(workdir))[-3:] == ["--logger", "other", "dsaflow"]
    profile.write_text("cores: 1\nlogger: dsaflow\n")
    assert "--logger" not in command.snakemake(row(workdir))


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ["--unlock"]},
        {"targets": ["-F"]},
        {"targets": ["all", "../../etc/passwd"]},
        {"targets": ["all; rm -r x"]},
        {"targets": ["all\n--forceall"]},
        {"targets": [""]},
        {"profile": "--cores"},
        {"profile": "profiles/absent"},
        {"configfiles": ["--config"]},
        {"configfiles": ["absent.yaml"]},
    ],
    ids=str,
)
def test_what_must_not_reach_a_command_line_is_refused(workdir, changes):
    with pytest.raises(ConfigError):
        command.snakemake(row(workdir, **changes))


@given(st.text(max_size=30))
def test_no_target_is_an_option(text):
    if command._TARGET.fullmatch(text):
        assert not text.startswith("-")
        assert not set(text) & set("\n;|&$`'\"<>()*?\\\0")


@given(
    base=st.floats(0.01, 1e4), cap=st.floats(0.01, 1e5), jitter=st.floats(0, 1),
    failures=st.integers(1, 10_000),
)  # fmt: skip
def test_backoff_doubles_up_to_its_cap(base, cap, jitter, failures):
    options = Runs(backoff_base_s=base, backoff_cap_s=cap, backoff_jitter=jitter)
    longest = min(cap, base * 2 ** min(failures - 1, 60))
    wait = backoff_s(options, failures)
    assert longest * (1 - jitter) - 1e-9 <= wait <= longest


def test_marker_belongs_to_targets_configuration_code_and_profile(workdir):
    content = Config().model_dump(mode="json")
    runs = workdir / "results/runs"
    marker = command.FailedForGood(runs, row(workdir), content)
    assert marker.message() is None
    marker.write("KeyError: 'x'")

    def message(config=content, **changes):
        return command.FailedForGood(runs, row(workdir, **changes), config).message()

    assert message(run_id="r2").startswith("KeyError: 'x' [run r1 failed")
    assert message(targets=["mosaics"]) is None
    changed = content | {"image": content["image"] | {"robust": 0.123}}
    assert message(config=changed) is None
    # who is told, and how often is tried, is not what failed
    assert message(config=content | {"runs": {}, "alerts": {}}) is not None
    (workdir / "profiles/p/config.yaml").write_text("cores: 2\n")
    assert message() is None
    (workdir / "profiles/p/config.yaml").write_text("cores: 1\n")
    assert message() is not None
    (workdir / "Snakefile").write_text("rule all:\n    input: 'x'\n")
    assert message() is None
    (workdir / "Snakefile").write_text("rule all:\n")
    marker.remove()
    marker.remove()
    assert message() is None
