"""Drift-scan continuum pipeline for DSA-110."""

__version__ = "0.1.0"
