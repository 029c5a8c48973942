"""Normalised errors against the truth: surveys with epoch errors, gradients and variables."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# A bound has 5 standard errors of the width, themselves from 24 surveys: fails once in thousands.
SIGMA = 5


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "epoch_scale.py"
    spec = importlib.util.spec_from_file_location("bench_epoch_scale", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_pulls_and_scatter_of_constant_sources(bench: ModuleType) -> None:
    bins = bench.measure(range(40, 64)).bins()
    for b in bins:
        assert b["width"] == pytest.approx(1, abs=0.02 + SIGMA * b["width_err"]), b
    bright = bins[-1]
    assert bright["before"] > 0.05
    assert bright["after"] < 0.006
    for b in bins:
        assert b["after"] == pytest.approx(b["expected"], rel=0.1)


@pytest.mark.slow
def test_pull_width_of_a_thousand_sources_a_bin(bench: ModuleType) -> None:
    for b in bench.measure(range(1000, 1300)).bins():  # no survey of the documented ones
        assert b["n_source"] >= 1000
        assert b["width_err"] < 0.01
        assert b["width"] == pytest.approx(1, abs=0.05), b
