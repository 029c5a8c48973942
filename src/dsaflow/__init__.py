"""Drift-scan continuum pipeline for DSA-110."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dsaflow")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
