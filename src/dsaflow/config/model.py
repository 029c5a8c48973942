"""The whole configuration, its loading and its error messages."""

import difflib
import os
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from dsaflow.config import sections, service_sections
from dsaflow.config.consistency import inconsistencies
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
    report: sections.Report = Field(default_factory=sections.Report)
    runs: service_sections.Runs = Field(default_factory=service_sections.Runs)
    api: service_sections.Api = Field(default_factory=service_sections.Api)
    alerts: service_sections.Alerts = Field(default_factory=service_sections.Alerts)
    watch: service_sections.Watch = Field(default_factory=service_sections.Watch)
    clean: service_sections.Clean = Field(default_factory=service_sections.Clean)
    simulate: SimulateSettings = Field(default_factory=SimulateSettings)

    def science_hash(self) -> str:
        """Hash of what changes a mosaic's pixels (8 hex digits): part of every group_id."""
        kept = ("instrument", "convert", "flag", "calibrate", "image", "mosaic", "catalog")
        return digest({name: getattr(self, name).model_dump(mode="json") for name in kept})


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    """Models in a type, through Optional, lists and other containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_within(part)]


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys that are allowed where `location` (pydantic's path of a wrong key) stands."""
    models: list[type[BaseModel]] = [Config]
    for part in location[:-1]:
        # other parts are positions in a list, or pydantic's names of the branches of a union
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in _models_within(model.model_fields[str(part)].annotation)
        ]
        models = inner or models
    return [key for model in models for key in model.model_fields]


def explain(error: ValidationError) -> str:
    """Turn pydantic's error into one line a key, with the nearest name for unknown keys."""
    lines = []
    for item in error.errors():
        location = item["loc"]
        key = ".".join(str(p) for p in location) or "configuration"
        if item["type"] == "extra_forbidden":
            known = _known_keys(location)
            near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            lines.append(f"{key}: unknown key{hint}")
        elif item["type"] == "value_error":
            lines.append(str(item["ctx"]["error"]))
        else:
            lines.append(f"{key}: {item['msg']} (got {item['input']!r})")
    return "\n".join(lines)


def load_config(source: dict[str, Any] | str | os.PathLike | None = None) -> Config:
    """Build the configuration from a mapping (Snakemake's), a YAML file, or the defaults.

    Raises
    ------
    ConfigError
        Naming each wrong key and the nearest known one, or which options contradict one another
        and what to change.
    """
    if source is None:
        content: Any = {}
    elif isinstance(source, dict):
        content = source
    else:
        content = yaml.safe_load(Path(source).read_text()) or {}
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(content).__name__}")
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    if problems := inconsistencies(config):
        raise ConfigError("\n".join(problems))
    return config
