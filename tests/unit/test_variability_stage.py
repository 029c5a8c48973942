"""The stage on Parquet tables: products, repeatability, rejected and missing input."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from dsaflow.config.sections import Variability
from dsaflow.fileio import sha256
from dsaflow.variability.plots import draw_light_curves
from dsaflow.variability.stage import run

FREQ_HZ = [1334.6e6, 1381.6e6, 1428.4e6, 1475.4e6]
N_SOURCE, N_EPOCH = 40, 22
CONFIG = SimpleNamespace(variability=Variability(permutations=1))


def tables(folder: Path, event: bool = True) -> list[Path]:
    """One photometry table a night; S07 fades by 40 % for six nights."""
    rng = np.random.default_rng(1)
    flux = 10 ** rng.uniform(-1.7, -0.3, N_SOURCE)
    paths = []
    for k in range(N_EPOCH):
        error = np.full(N_SOURCE, 0.001)
        measured = flux * (1 + 0.03 * rng.standard_normal()) + error * rng.standard_normal(N_SOURCE)
        if event and 8 <= k < 14:
            measured[7] *= 0.6
        columns = {
            "source_id": [f"S{i:02d}" for i in range(N_SOURCE)],
            "ra_deg": np.linspace(358, 362, N_SOURCE) % 360,
            "dec_deg": np.linspace(16, 17, N_SOURCE),
            "strip": ["dec+16.1"] * N_SOURCE,
            "epoch": np.full(N_SOURCE, 9000 + k),
            "mjd": np.full(N_SOURCE, 60000.0 + k),
            "group_id": [f"c_{k}"] * N_SOURCE,
            "weight": 1 / error**2,
            "flux_jy": measured,
            "flux_err_jy": error,
            "scale_err": np.full(N_SOURCE, 0.01),
            "is_limit": np.zeros(N_SOURCE, bool),
            "upper_limit_jy": np.full(N_SOURCE, np.nan),
            "isolated": np.ones(N_SOURCE, bool),
            "compact": np.ones(N_SOURCE, bool),
            "qa": ["pass"] * N_SOURCE,
        }
        for b in range(4):
            columns[f"flux_b{b}_jy"] = measured + 2 * error * rng.standard_normal(N_SOURCE)
            columns[f"flux_err_b{b}_jy"] = 2 * error
        table = pa.table(columns)
        paths.append(folder / f"{k:02d}.parquet")
        write(table, paths[-1])
    return paths


def write(table: pa.Table, path: Path) -> None:
    metadata = {"band_freq_hz": json.dumps(FREQ_HZ)}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def outputs(folder: Path) -> dict[str, Path]:
    keys = ("light_curves", "epoch_scale", "metrics", "ese_candidates")
    paths = {key: folder / f"{key}.parquet" for key in keys}
    return paths | {
        "ese_candidates_ecsv": folder / "ese_candidates.ecsv",
        "ese_candidates_votable": folder / "ese_candidates.vot",
        "plots": folder / "candidates",
        "verdict": folder / "variability.json",
    }


def test_products_of_a_survey_with_one_event(tmp_path: Path) -> None:
    paths = tables(tmp_path)
    first, second = outputs(tmp_path / "a"), outputs(tmp_path / "b")
    verdict = run(paths, first, CONFIG)
    run(paths[::-1], second, CONFIG)
    assert verdict.verdict == "pass"
    assert verdict.numbers["candidates"] == ["S07"]
    for key in set(first) - {"plots", "verdict"}:
        assert sha256(first[key]) == sha256(second[key]), key
    event = pq.read_table(first["ese_candidates"]).to_pylist()[0]
    assert event["rank"] == 1
    assert event["depth"] == pytest.approx(0.4, abs=0.05)
    assert event["start_epoch"] in (9007, 9008)
    assert event["chromatic_ratio"] == pytest.approx(1, abs=4 * event["chromatic_ratio_err"])
    assert event["start_mjd"] == pytest.approx(60007.5, abs=5 * event["start_err_days"])
    assert event["duration_days"] == pytest.approx(6, abs=5 * event["duration_err_days"])
    assert event["epochs_event"] == "9008 9009 9010 9011 9012 9013"
    assert event["false_alarms_per_source_year"] * verdict.numbers["source_years"] == pytest.approx(
        event["false_alarms_per_survey"]
    )
    assert event["q_value"] < 1e-6
    assert event["probability_real"] > 0.99
    assert event["chromatic_expected_lens"] > 0 > event["chromatic_expected_achromatic"]
    assert np.isnan(event["efficiency"])
    assert event["known_variable"] == ""
    assert Table.read(first["ese_candidates_ecsv"])["source_id"].tolist() == ["S07"]
    votable = Table.read(first["ese_candidates_votable"])
    assert votable["depth"][0] == event["depth"]
    assert votable["duration_days"].unit == "d"
    index = json.loads((first["plots"] / "index.json").read_text())
    assert index["plots"] == [{"rank": 1, "source_id": "S07", "file": "001_S07.png"}]
    assert (first["plots"] / "001_S07.png").stat().st_size > 10_000
    curves = pq.read_table(first["light_curves"])
    assert curves.num_rows == N_SOURCE * N_EPOCH
    assert curves.schema.field("flux_jy").metadata[b"unit"] == b"Jy"
    assert pq.read_table(first["metrics"]).num_rows == N_SOURCE
    assert pq.read_table(first["epoch_scale"]).num_rows == N_EPOCH
    draw_light_curves(first["light_curves"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_rejected_missing_and_doubled_measurements(tmp_path: Path) -> None:
    paths = tables(tmp_path, event=False)
    table = pq.read_table(paths[3])
    bad = table.set_column(
        table.column_names.index("flux_jy"), "flux_jy", pa.array([9.0] * N_SOURCE)
    )
    rejected = bad.set_column(bad.column_names.index("qa"), "qa", pa.array(["reject"] * N_SOURCE))
    write(rejected, tmp_path / "rejected.parquet")
    light = bad.set_column(bad.column_names.index("weight"), "weight", pa.array([1.0] * N_SOURCE))
    write(light, tmp_path / "light.parquet")
    write(table.slice(0, 0), tmp_path / "empty.parquet")
    holes = pq.read_table(paths[5])
    flux = holes["flux_jy"].to_numpy().copy()
    flux[2] = np.nan
    write(
        holes.set_column(holes.column_names.index("flux_jy"), "flux_jy", pa.array(flux)), paths[5]
    )
    only_rejected = pq.read_table(paths[9])
    write(
        only_rejected.set_column(
            only_rejected.column_names.index("qa"), "qa", pa.array(["reject"] * N_SOURCE)
        ),
        paths[9],
    )
    extra = [tmp_path / f"{name}.parquet" for name in ("rejected", "light", "empty")]
    target = outputs(tmp_path / "out")
    verdict = run(paths + extra, target, CONFIG)
    rows = pq.read_table(target["light_curves"]).to_pylist()
    assert len(rows) == N_SOURCE * N_EPOCH
    assert verdict.numbers["n_rows_used"] == N_SOURCE * (N_EPOCH - 1) - 1
    assert max(r["flux_jy"] for r in rows if r["epoch"] == 9003) < 9
    assert not any(r["used"] for r in rows if r["epoch"] == 9009)
    assert verdict.numbers["candidates"] == []
    assert [p.name for p in target["plots"].iterdir()] in (
        ["index.json", "search.png"],
        ["search.png", "index.json"],
    )
    scale = pq.read_table(target["epoch_scale"]).to_pylist()
    assert [r["flag"] for r in scale if r["epoch"] == 9009] == ["few_references"]


@pytest.mark.parametrize("case", ["nothing", "no_rows", "mixed"])
def test_input_that_cannot_be_used_gives_empty_tables(tmp_path: Path, case: str) -> None:
    paths = tables(tmp_path)
    if case == "nothing":
        paths = []
    elif case == "no_rows":
        write(pq.read_table(paths[0]).slice(0, 0), paths[0])
        paths = paths[:1]
    else:
        table = pq.read_table(paths[0])
        strips = pa.array(["dec+54.6"] * N_SOURCE)
        write(table.set_column(table.column_names.index("strip"), "strip", strips), paths[0])
    target = outputs(tmp_path / "out")
    verdict = run(paths, target, CONFIG)
    assert verdict.reason_code == ("STRIPS_MIXED" if case == "mixed" else "NO_DATA")
    for key in ("light_curves", "epoch_scale", "metrics", "ese_candidates"):
        table = pq.read_table(target[key])
        assert table.num_rows == 0
        assert table.num_columns > 8
    assert len(Table.read(target["ese_candidates_ecsv"])) == 0
    assert json.loads((target["plots"] / "index.json").read_text())["plots"] == []
    draw_light_curves(target["light_curves"], tmp_path / "curves.png")


def test_too_few_epochs_are_not_searched(tmp_path: Path) -> None:
    target = outputs(tmp_path / "out")
    verdict = run(tables(tmp_path)[:4], target, CONFIG)
    assert verdict.numbers["n_searched"] == 0
    assert verdict.numbers["n_candidates"] == 0
    assert np.isfinite(pq.read_table(target["metrics"])["eta"].to_numpy()).all()
