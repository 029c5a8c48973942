"""What an examination of the machine finds."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    name : str
    status : {"ok", "warn", "fail"}
        "fail" where the pipeline cannot work, or not rightly.
    detail : str
        What was found, and what to do about it.
    """

    name: str
    status: Status
    detail: str


def ok(name: str, detail: str) -> Finding:
    """Finding of something in order."""
    return Finding(name, "ok", detail)


def warn(name: str, detail: str) -> Finding:
    """Finding of something to look after."""
    return Finding(name, "warn", detail)


def fail(name: str, detail: str) -> Finding:
    """Finding of something that keeps the pipeline from working, or from being right."""
    return Finding(name, "fail", detail)
