"""The pages on operation name tests, commands, options and units that exist."""

import configparser
import re
from pathlib import Path

import pytest
import typer

from dsaflow.cli import app
from dsaflow.config import Config

REPOSITORY = Path(__file__).resolve().parents[2]
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text()
FAILURES = (REPOSITORY / "docs/failure-modes.md").read_text()
TESTS = re.findall(r"`((?:unit|service|workflow|science)/[\w/]+\.py)::(\w+)`", FAILURES)


def test_every_row_names_a_test():
    rows = [line for line in FAILURES.splitlines() if re.match(r"\| (?!what fails|---)", line)]
    assert len(rows) > 40
    assert not [row for row in rows if "::test_" not in row.split("|")[4]]


@pytest.mark.parametrize(("file", "name"), TESTS, ids=lambda value: value)
def test_named_tests_exist(file, name):
    assert re.search(rf"^def {name}\(", (REPOSITORY / "tests" / file).read_text(), re.MULTILINE)


def commands() -> dict[str, set[str]]:
    """Every command of `dsaflow`, with its options."""
    found: dict[str, set[str]] = {}

    def walk(command, words):
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, [*words, name])
        else:
            options = (p.opts + p.secondary_opts for p in command.params)
            found[" ".join(words)] = {option for some in options for option in some}

    walk(typer.main.get_command(app), [])
    return found


@pytest.mark.parametrize("text", [OPERATIONS, FAILURES], ids=["operations", "failure-modes"])
def test_named_commands_and_options_exist(text):
    known = commands()
    lines = re.findall(r"(?:bin/|[`\s])dsaflow ((?:[a-z]+)(?: [^`\n]*)?)", text)
    assert lines
    for line in lines:
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        if name not in known and any(k.startswith(f"{name} ") for k in known):
            continue  # a family of commands, named without one of them
        if name not in known:
            assert not re.search(rf"`dsaflow {re.escape(line)}", text), line
            continue  # prose
        used = {word.rstrip(",.;:)") for word in words if word.startswith("--")}
        assert used <= known[name] | {"--help"}, line


def test_named_settings_exist():
    sections = set(Config.model_fields)
    named = re.findall(r"`(\w+)\.(\w+)`", OPERATIONS + FAILURES)
    named = [(section, key) for section, key in named if section in sections]
    assert len(named) > 15
    for section, key in named:
        assert key in Config.model_fields[section].annotation.model_fields, f"{section}.{key}"


def test_units():
    units = dict(re.findall(r"```ini\n# (\S+)\n(.*?)```", OPERATIONS, re.DOTALL))
    assert len(units) == 4
    known = commands()
    for name, text in units.items():
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str
        unit.read_string(text)
        assert unit["Unit"]["Description"]
        if name.endswith(".timer"):
            continue
        words = unit["Service"]["ExecStart"].split()
        assert words[0].endswith("/bin/dsaflow")
        assert {word for word in words if word.startswith("--")} <= known[words[1]]
        if unit["Service"].get("Type") != "oneshot":
            # supervisors must outlive the unit
            assert unit["Service"]["KillMode"] == "process"
