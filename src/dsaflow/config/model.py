"""The whole configuration, its loading and its error messages."""

import difflib
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from dsaflow.config import sections
from dsaflow.errors import ConfigError
from dsaflow.fileio import digest
from dsaflow.simulate.settings import SimulateSettings


class Config(sections.Section):
    """Everything that may be configured; resources live in profiles/."""

    paths: sections.Paths = Field(default_factory=sections.Paths)
    instrument: sections.Instrument = Field(default_factory=sections.Instrument)
    plan: sections.Plan = Field(default_factory=sections.Plan)
    convert: sections.Convert = Field(default_factory=sections.Convert)
    flag: sections.Flag = Field(default_factory=sections.Flag)
    calibrate: sections.Calibrate = Field(default_factory=sections.Calibrate)
    image: sections.Image = Field(default_factory=sections.Image)
    mosaic: sections.Mosaic = Field(default_factory=sections.Mosaic)
    qa: sections.Qa = Field(default_factory=sections.Qa)
    publish: sections.Publish = Field(default_factory=sections.Publish)
    photometry: sections.Photometry = Field(default_factory=sections.Photometry)
    variability: sections.Variability = Field(default_factory=sections.Variability)
    catalog: sections.Catalog = Field(default_factory=sections.Catalog)
    simulate: SimulateSettings = Field(default_factory=SimulateSettings)

    def science_hash(self) -> str:
        """Hash of what changes a mosaic's pixels (8 hex digits): part of every group_id."""
        kept = ("instrument", "convert", "flag", "calibrate", "image", "mosaic", "catalog")
        return digest({name: getattr(self, name).model_dump(mode="json") for name in kept})


def _known_keys(location: tuple, model: type[sections.Section] = Config) -> list[str]:
    fields = model.model_fields
    for part in location[:-1]:
        fields = getattr(fields[part].annotation, "model_fields", {})
    return list(fields)


def explain(error: ValidationError) -> str:
    """Turn pydantic's error into one line a key, with the nearest name for unknown keys."""
    lines = []
    for item in error.errors():
        location = item["loc"]
        key = ".".join(str(p) for p in location) or "configuration"
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(
                str(location[-1]), _known_keys(location), n=1, cutoff=0.4
            )
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{key}: unknown key{hint}")
        else:
            lines.append(f"{key}: {item['msg']} (got {item['input']!r})")
    return "\n".join(lines)


def load_config(source: dict[str, Any] | str | os.PathLike | None = None) -> Config:
    """Build the configuration from a mapping (Snakemake's), a YAML file, or the defaults.

    Raises
    ------
    ConfigError
        Naming each wrong key, and the nearest known one.
    """
    if source is None:
        content: Any = {}
    elif isinstance(source, dict):
        content = source
    else:
        content = yaml.safe_load(Path(source).read_text()) or {}
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
