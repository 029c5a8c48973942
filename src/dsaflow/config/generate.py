"""Write config/config.yaml, its JSON schema and envs/*.yaml from the models and the lock.

``python -m dsaflow.config.generate`` writes them, ``--check`` prints the difference and fails.
"""

import argparse
import difflib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from dsaflow.config import environments
from dsaflow.config.model import Config
from dsaflow.errors import EnvironmentProblem

HEADER = """\
# Every option of dsaflow with its default, unit and reason.
# Generated from the models in src/dsaflow/config/ by `make config`: change the default there.
# To override, put only the keys that differ into a file of your own and pass it on:
# snakemake --profile profiles/workstation --configfile mine.yaml
# Cores, memory, retries and partitions are not here: they live in profiles/.
"""
WIDTH = 98


def _comment(text: str, indent: str) -> str:
    """Wrap to comment lines; a no-break space keeps a range on one line and becomes a space."""
    text = re.sub(r"[ \n]+", " ", text)
    lines = textwrap.wrap(text, WIDTH - len(indent) - 2, break_on_hyphens=False)
    return "".join(f"{indent}# {line}\n".replace("\N{NO-BREAK SPACE}", " ") for line in lines)


def _limits(schema: dict[str, Any]) -> str:
    """Say the range or the choices of one field, e.g. ``> 0`` or ``0 to 1``."""
    if "enum" in schema:
        return "one of " + ", ".join(str(v) for v in schema["enum"])
    if "multipleOf" in schema:
        rest = {key: item for key, item in schema.items() if key != "multipleOf"}
        return ", ".join(filter(None, [_limits(rest), f"a multiple of {schema['multipleOf']:g}"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    rules = {">": "exclusiveMinimum", ">=": "minimum", "<": "exclusiveMaximum", "<=": "maximum"}
    return ", ".join(f"{sign} {schema[key]:g}" for sign, key in rules.items() if key in schema)


def _section_yaml(model: BaseModel, depth: int) -> str:
    indent = "  " * depth
    properties = type(model).model_json_schema()["properties"]
    values = model.model_dump(mode="json")
    parts = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            blank = "\n" if depth == 0 else ""
            about = field.description or (type(value).__doc__ or "").split("\n\n")[0]
            parts.append(f"{blank}{_comment(about, indent)}{indent}{name}:\n")
            parts.append(_section_yaml(value, depth + 1))
            continue
        limits = _limits(properties[name]).replace(" ", "\N{NO-BREAK SPACE}")
        about = (field.description or "") + (f" ({limits})" if limits else "")
        style = None if isinstance(values[name], list | dict) else False
        entry = yaml.safe_dump(
            {name: values[name]}, default_flow_style=style, width=WIDTH, sort_keys=False
        )
        parts.append(_comment(about, indent) + textwrap.indent(entry, indent))
    return "".join(parts)


def render_yaml() -> str:
    """Text of config/config.yaml: all defaults, the description of each key above it."""
    return HEADER + _section_yaml(Config(), 0)


def _without_defaults(schema: Any) -> Any:
    """Drop the defaults: config.yaml alone holds them, the schema only checks."""
    if isinstance(schema, dict):
        # a property may itself be called "default"; its value is then a schema, under "properties"
        return {
            key: (
                {name: _without_defaults(value) for name, value in item.items()}
                if key in ("properties", "$defs")
                else _without_defaults(item)
            )
            for key, item in schema.items()
            if key != "default"
        }
    if isinstance(schema, list):
        return [_without_defaults(item) for item in schema]
    return schema


def render_schema() -> str:
    """Text of config/config.schema.json: types, ranges and descriptions, unknown keys refused."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_without_defaults(Config.model_json_schema()),
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def render(root: Path) -> dict[str, str]:
    """Text of every generated file below `root`, by relative path."""
    return {
        "config/config.yaml": render_yaml(),
        "config/config.schema.json": render_schema(),
        **environments.render(root),
    }


def difference(root: Path) -> str:
    """Unified diff from the files below `root` to what the models say; empty where they agree."""
    parts: list[str] = []
    for name, text in render(root).items():
        path = root / name
        present = path.read_text() if path.exists() else ""
        parts += difflib.unified_diff(
            present.splitlines(keepends=True), text.splitlines(keepends=True), name, "generated"
        )
    return "".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` print how they differ; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dsaflow.config.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail on drift")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").exists():
        raise EnvironmentProblem(f"no pyproject.toml in {options.root}: give --root")
    if options.check:
        drift = difference(options.root)
        sys.stdout.write(drift)
        return 1 if drift else 0
    for name, text in render(options.root).items():
        path = options.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
