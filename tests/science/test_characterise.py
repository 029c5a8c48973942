"""The characterisation of the search, small: its seasons, its counts, its tables and figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsaflow.characterise.blank import BlankTask, blank_strip
from dsaflow.characterise.detector import Detector
from dsaflow.characterise.figures import FIGURES
from dsaflow.characterise.grid import Cell
from dsaflow.characterise.inject import inject_strip, injection_tasks
from dsaflow.characterise.observed import inject_observed
from dsaflow.characterise.run import Size, characterise
from dsaflow.characterise.tables import read_columns
from dsaflow.config.sections import Variability
from dsaflow.simulate.seasons import KINDS, SeasonPlan
from dsaflow.variability.products import write_table

OPTIONS = Variability(permutations=1)
SHORT = replace(SeasonPlan(), n_epoch=60, gap_steps=4, n_reference=40)


def test_seasons_are_the_same_for_the_same_seed_and_counted_as_observed() -> None:
    tasks = [BlankTask(SHORT, OPTIONS, seed, 1, 60) for seed in (5, 5, 6)]
    one, same, other = (blank_strip(task) for task in tasks)
    assert (one.announced == same.announced).all()
    assert (one.ratio != other.ratio).any()
    assert (one.announced <= one.ratio).all()
    assert one.own.sum() == 40
    # 60 nights, 4 in the gap, 5 % lost, 3 % missing: 52 measured epochs of 0.99727 d
    assert one.years.mean() == pytest.approx(52 * 0.99727 / 365.25, rel=0.1)
    bad = blank_strip(BlankTask(SHORT, OPTIONS, 5, 0, 60))
    assert (bad.kind[40:] == KINDS.index("bad_night")).all()


def test_deep_events_are_found_where_they_are_and_shallow_ones_are_not() -> None:
    deep = Cell("deep", (0.4, 0.4), (20, 20), 20.0)
    none = Cell("none", (0.001, 0.001), (20, 20), 20.0)
    (task,) = injection_tasks([deep, none], [40, 40], OPTIONS, 3, 100)
    events = inject_strip(task)
    found = events.detected(15.0)
    is_deep = events.cell == 0
    # S/N 30 in 120 epochs: what a gap hides is lost, 5 % of the mid times
    assert found[is_deep].mean() > 0.8
    assert not found[~is_deep].any()
    error = (events.found_depth - events.depth)[is_deep & found]
    assert abs(np.median(error)) < 0.04
    shift = (events.found_start_mjd - events.start_mjd)[is_deep & found]
    assert abs(np.median(shift)) < 1.5
    # the optimal filter's S/N without its noise: depth x S/N x sqrt(of the squared template)
    assert np.median(events.optimal[is_deep]) == pytest.approx(
        0.4 * 20 * np.sqrt(0.75 * 20), rel=0.3
    )
    assert abs(np.median(events.optimal[~is_deep])) < 1


@pytest.mark.slow
def test_events_in_observed_curves(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mjd = 60000 + 0.99727 * np.delete(np.arange(60), [20, 41])
    snr = np.r_[np.full(10, 30.0), np.full(10, 3.0)]
    norm = 1 + rng.standard_normal((20, len(mjd))) / snr[:, None]
    source, epoch = np.indices(norm.shape).reshape(2, -1)
    columns = {
        "source_id": (np.array([f"S{k:02d}" for k in source]), "", ""),
        "epoch": (epoch, "d", ""),
        "mjd": (mjd[epoch], "d", ""),
        "norm_flux": (norm.ravel(), "", ""),
        "norm_err": ((1 / snr)[source], "", ""),
        "flux_jy": (0.1 * norm.ravel(), "Jy", ""),
        "flux_err_jy": ((0.1 / snr)[source], "Jy", ""),
        "used": (rng.random(norm.size) > 0.02, "", ""),
    }
    write_table(tmp_path / "light_curves.parquet", columns)
    rows = inject_observed(tmp_path / "light_curves.parquet", OPTIONS, 15.0, 10, 1)
    assert {row["n_sources"] for row in rows} == {10}  # those of S/N 3 are not searched
    best = [r for r in rows if r["depth"] == 0.5 and r["duration_days"] == 10]
    worst = [r for r in rows if r["depth"] == 0.05]
    assert best[0]["efficiency"] >= 0.7
    assert max(r["efficiency"] for r in worst) <= 0.5


@pytest.mark.slow
def test_every_table_and_figure_is_written(tmp_path: Path) -> None:
    size = Size(seasons=3600, per_target=6, per_cell=0, longest_days=120, workers=1)
    result = characterise(tmp_path, OPTIONS, size, seed=2)
    assert result["threshold_limited_by_number_of_seasons"]
    for name in FIGURES:
        assert (tmp_path / name).stat().st_size > 5000
    alarms = read_columns(tmp_path / "false_alarms.parquet")
    assert set(KINDS) <= set(alarms["sample"])
    assert (alarms["upper_limit"] > alarms["per_source_year"]).all()
    cells = read_columns(tmp_path / "efficiency.parquet")
    assert (cells["n_injected"] == 6).all()
    assert cells["efficiency"] == pytest.approx(cells["n_detected"] / 6)
    for name in ("bounds.ecsv", "injections.parquet", "false_alarm_curve.ecsv", "ese.json"):
        assert (tmp_path / name).exists()


def test_the_detector_searches_what_the_stage_searches() -> None:
    mjd = 60000 + np.arange(40.0)
    detector = Detector(mjd, OPTIONS)
    assert detector.rules.min_epochs == OPTIONS.min_event_epochs
    assert detector.rules.max_single == OPTIONS.max_single_contribution
    nothing = detector.find(np.full((3, 40), np.nan), np.full((3, 40), np.nan))
    assert (nothing.announced == 0).all()
    assert np.isnan(nothing.depth).all()
