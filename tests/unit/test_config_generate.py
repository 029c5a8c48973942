"""Generated files: config.yaml, its schema and envs/ say what the models and the lock say."""

import json
import re
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from dsaflow.config import Config, environments, generate, load_config
from dsaflow.errors import ConfigError, EnvironmentProblem


def test_generated_files_agree_with_the_models(repository):
    drift = generate.difference(repository)
    assert not drift, f"run `make config`:\n{drift}"


def test_drift_is_shown_as_a_diff(repository, tmp_path, capsys):
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0
    file = tmp_path / "config/config.yaml"
    file.write_text(file.read_text().replace("robust: 0.5", "robust: 0.4"))
    capsys.readouterr()
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "-  robust: 0.4" in shown
    assert "+  robust: 0.5" in shown


def test_outside_a_repository_it_says_so(tmp_path):
    with pytest.raises(EnvironmentProblem, match="give --root"):
        generate.main(["--root", str(tmp_path)])


def test_yaml_holds_exactly_the_defaults():
    content = yaml.safe_load(generate.render_yaml())
    assert content == Config().model_dump(mode="json")
    assert load_config(content) == Config()


def test_every_key_of_the_yaml_has_a_comment_above_it():
    lines = generate.render_yaml().splitlines()
    for above, line in pairwise(lines):
        if re.match(r" *[a-z]\w*:", line):
            assert above.lstrip().startswith("#"), f"no comment above {line!r}"


def test_every_option_is_described():
    def walk(model, path):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if isinstance(value, BaseModel):
                assert type(value).__doc__, f"section {name} has no docstring"
                walk(value, (*path, name))
            else:
                assert field.description, f"{'.'.join((*path, name))} has no description"

    walk(Config(), ())


@pytest.fixture(scope="module")
def schema():
    return json.loads(generate.render_schema())


def test_schema_accepts_the_defaults_and_overrides(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(Config().model_dump(mode="json"), schema)
    jsonschema.validate({"image": {"robust": -2}}, schema)


@pytest.mark.parametrize(
    "content",
    [
        {"imge": {}},
        {"image": {"robustness": 0.0}},
        {"image": {"robust": -2.1}},
        {"image": {"size": "big"}},
        {"image": {"engine": "casa"}},
        {"instrument": {"beam": {"effective_diameter_m": 0}}},
    ],
)
def test_schema_refuses_what_the_models_refuse(schema, content):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)
    with pytest.raises(ConfigError):
        load_config(content)


def test_schema_holds_no_default(schema):
    # Snakemake would fill them in, and has lost them in remote jobs: config.yaml alone holds them.
    def walk(node):
        if isinstance(node, dict):
            assert not isinstance(node.get("default"), int | float | str | list), node
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(schema)


def pins(path: Path) -> dict[str, str]:
    *_, last = yaml.safe_load(path.read_text())["dependencies"]
    return dict(pin.split("==") for pin in last["pip"])


def test_conda_files_hold_the_pins_of_the_lock(repository):
    lock = environments.locked_versions((repository / "requirements.lock").read_text())
    files = sorted((repository / "envs").glob("*.yaml"))
    assert [f.name for f in files] == ["science.yaml", "workflow.yaml"]
    for file in files:
        assert pins(file).items() <= lock.items()
    direct = environments.direct_dependencies((repository / "pyproject.toml").read_text())
    assert sorted(pins(files[1])) == direct


def test_lock_covers_pyproject_with_hashes_and_no_index(repository):
    text = (repository / "requirements.lock").read_text()
    lock = environments.locked_versions(text)
    project = environments.tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name, *exact = requirement.split("==")
        name = environments.canonical(re.split(r"[<>=!~;\[ ]", name)[0])
        assert name in lock, f"{name} is not locked: run `make lock`"
        if exact:
            assert lock[name] == exact[0]
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)
    assert not re.search(r"index-url|://|find-links", text)


def test_a_package_pinned_twice_is_refused():
    with pytest.raises(ConfigError, match="pins numpy twice"):
        environments.locked_versions("numpy==2.4.6 ; x\nnumpy==2.5.5 ; y\n")


def test_a_lock_older_than_pyproject_is_refused(repository, tmp_path):
    (tmp_path / "pyproject.toml").write_bytes((repository / "pyproject.toml").read_bytes())
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    with pytest.raises(ConfigError, match=r"requirements\.lock lacks .*snakemake.*run `make lock`"):
        environments.render(tmp_path)
