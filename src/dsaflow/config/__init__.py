"""Typed configuration: the model that config/config.yaml and its schema are generated from."""

from dsaflow.config.model import Config, load_config

__all__ = ["Config", "load_config"]
