"""What a candidate is told of beside its light curve: place, Sun, known variables, cut-outs, efficiency."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsaflow.config.mosaic_sections import KnownVariable
from dsaflow.config.sections import Variability
from dsaflow.variability import surroundings as places
from dsaflow.variability.candidatetable import candidate_columns, write_ecsv, write_votable
from dsaflow.variability.curves import LightCurves, build
from dsaflow.variability.cutouts import by_group, choose_epochs, event_cutouts, read_cutout
from dsaflow.variability.efficiency import COLUMNS, EfficiencyTable

N_EPOCH = 20
EVENT = np.arange(N_EPOCH) // 5 == 1  # epochs 5 to 9


def curves(**columns: np.ndarray) -> LightCurves:
    """One source, 20 epochs, with further columns of the photometry tables."""
    rows = {
        "source_id": np.full(N_EPOCH, "S0"),
        "ra_deg": np.full(N_EPOCH, 80.0),
        "dec_deg": np.full(N_EPOCH, 16.0),
        "strip": np.full(N_EPOCH, "dec+16.1"),
        "epoch": 9000 + np.arange(N_EPOCH),
        "mjd": 61000.0 + np.arange(N_EPOCH),
        "group_id": np.array([f"c_{k}" for k in range(N_EPOCH)]),
        "weight": np.ones(N_EPOCH),
        "flux_jy": np.ones(N_EPOCH),
        "flux_err_jy": np.full(N_EPOCH, 0.01),
        "scale_err": np.full(N_EPOCH, 0.01),
        "is_limit": np.zeros(N_EPOCH, bool),
        "upper_limit_jy": np.full(N_EPOCH, np.nan),
        "isolated": np.ones(N_EPOCH, bool),
        "compact": np.ones(N_EPOCH, bool),
        "qa": np.full(N_EPOCH, "pass"),
    }
    return build(rows | columns, np.zeros(0))


def test_a_change_of_response_is_told_and_can_explain_a_shallow_dip() -> None:
    found = places.surroundings(
        0,
        curves(
            beam_response=np.where(EVENT, 0.5, 0.9),
            n_tiles=np.where(EVENT, 2, 3),
            edge_distance_deg=np.where(EVENT, 0.05, 0.5),
            n_blend=np.where(EVENT, 2, 1),
            qa=np.where(EVENT, "warn", "pass"),
        ),
        EVENT,
        Variability(),
    )
    assert (found.beam_response_event, found.beam_response_outside) == (0.5, 0.9)
    assert (found.n_tiles_event, found.n_tiles_outside) == (2, 3)
    assert (found.n_warned, found.warned_share_outside, found.n_blend) == (5, 0, 2)
    assert found.flags == ["near_edge", "fewer_tiles", "quality_warned"]
    # ln(0.9 / 0.5) = 0.59: a beam wrong by 0.3 of that makes 18 %
    assert places.response_explains(found, 0.15, 0.01, 0.3)
    assert not places.response_explains(found, 0.25, 0.01, 0.3)
    assert not places.response_explains(found, 0.15, 0.01, 0.1)


def test_tables_without_those_columns_leave_them_unknown() -> None:
    found = places.surroundings(0, curves(), EVENT, Variability())
    assert np.isnan([found.beam_response_event, found.edge_distance_deg, found.n_tiles_event]).all()
    assert (found.n_blend, found.n_warned, found.flags) == (-1, 0, [])
    assert not places.response_explains(found, 0.01, 0.01, 0.3)


def test_sun_and_galaxy() -> None:
    # equinox of 2026, March 20 14:46 UTC: the Sun at RA 0h of date, dec 0; ICRS RA -0.33 deg
    equinox = np.array([61119.6153])
    assert places.sun_distance_deg(equinox, 359.67, 0.0)[0] < 0.35
    assert places.sun_distance_deg(equinox, 179.67, 0.0)[0] == pytest.approx(180, abs=0.4)
    # pole and centre of the galaxy (Reid & Brunthaler 2004 for the latter)
    assert places.galactic_latitude_deg(192.859508, 27.128336) == pytest.approx(90, abs=1e-3)
    assert places.galactic_latitude_deg(266.416837, -29.007811) == pytest.approx(-0.046, abs=1e-2)


def test_known_variables_by_position() -> None:
    known = [KnownVariable(name="0528+134", ra_deg=80.0, dec_deg=16.005)]
    options = Variability(known_variables=known)
    assert places.known_variable(80.0, 16.0, options) == "0528+134"
    assert (
        places.known_variable(
            80.0, 16.0, Variability(known_variables=known, known_radius_arcsec=10)
        )
        == ""
    )
    assert "known_variable" in places.surroundings(0, curves(), EVENT, options).flags


def test_epochs_of_the_cutouts() -> None:
    mjd = np.arange(100.0)
    used = np.ones(100, bool)
    assert choose_epochs(mjd, used, 50.2, 10) == [
        ("before", 30), ("in", 50), ("in", 51), ("after", 70),
    ]  # fmt: skip
    used[[50, 70]] = False
    assert [k for _, k in choose_epochs(mjd, used, 50.2, 10)] == [30, 49, 51, 71]
    assert [when for when, _ in choose_epochs(mjd, used, 98, 10)] == ["before", "in", "in"]


def mosaic(path: Path, flux_jy: float) -> Path:
    """A source of the given flux at RA 80, Dec 16, 30 pixels off the centre of a SIN image."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval = 80.1, 16.1
    wcs.wcs.crpix = 60.0, 50.0
    wcs.wcs.cdelt = -0.005, 0.005
    x, y = wcs.all_world2pix(80.0, 16.0, 0)
    image = np.zeros((100, 120), "f4")
    image[round(float(y)), round(float(x))] = flux_jy
    header = wcs.to_header()
    header.update(BMAJ=0.02, BMIN=0.01, BPA=80.0)
    path.parent.mkdir()
    fits.writeto(path, image, header)
    return path


def test_cutouts_are_centred_on_the_source(tmp_path: Path) -> None:
    paths = [mosaic(tmp_path / f"c_{k}" / "mosaic.fits", 1.0 + k) for k in (1, 7, 8, 12)]
    found = event_cutouts(0, curves(), by_group(paths), 61007.0, 5.0)
    # epochs 2 and 17 are the ones wanted outside; their mosaics are not there
    assert [(c.when, c.epoch) for c in found] == [("in", 7)]
    (cutout,) = found
    size = cutout.image.shape[0]
    assert cutout.image.shape == (41, 41)
    assert cutout.image[size // 2, size // 2] == 8
    assert cutout.beam_deg == (0.02, 0.01, 80.0)
    corner = read_cutout(paths[0], 80.1 + 0.29, 16.1)
    assert corner is not None
    assert np.isnan(corner[0]).any()
    assert not np.isnan(corner[0]).all()


def test_a_rejected_mosaic_has_no_cutout(tmp_path: Path) -> None:
    fits.PrimaryHDU().writeto(tmp_path / "mosaic.fits")
    assert read_cutout(tmp_path / "mosaic.fits", 80.0, 16.0) is None


def test_efficiency_of_the_cell_most_like_the_event(tmp_path: Path) -> None:
    cells = [
        ("quiet", 0.3, 0.3, 20.0, 60.0, 10.0, 120, 1, 0.96),
        ("quiet", 0.3, 0.3, 20.0, 60.0, 50.0, 120, 1, 0.99),
        ("quiet", 0.05, 0.05, 20.0, 60.0, 50.0, 120, 1, 0.95),
        ("quiet", 0.3, 0.3, 20.0, 60.0, 50.0, 1095, 1, 0.98),
        ("scintillation_3d", 0.3, 0.3, 20.0, 60.0, 50.0, 120, 1, 0.5),
    ]
    rows = [dict(zip(COLUMNS, (*c, c[-1] - 0.01, c[-1] + 0.005), strict=True)) for c in cells]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "efficiency.parquet")
    table = EfficiencyTable.read(tmp_path / "efficiency.parquet")
    assert table.of(0.28, 40, 11, 118, 1).value == 0.96
    assert table.of(0.28, 40, 400, 118, 1).value == 0.99
    assert table.of(0.06, 25, 60, 118, 1).value == 0.95
    found = table.of(0.3, 40, 50, 1000, 1)
    assert (found.value, found.low) == (0.98, pytest.approx(0.97))
    assert np.isnan(table.of(0.3, 2000, 50, 3000, 1).value)
    assert np.isnan(EfficiencyTable.read("").of(0.3, 40, 50, 120, 1).value)


def test_an_empty_list_of_candidates_is_a_valid_table(tmp_path: Path) -> None:
    columns = candidate_columns([], np.array([1.3e9, 1.4e9]))
    write_ecsv(tmp_path / "c.ecsv", columns, strip="dec+16.1")
    write_votable(tmp_path / "c.vot", columns, strip="dec+16.1")
    for name in ("c.ecsv", "c.vot"):
        table = Table.read(tmp_path / name)
        assert len(table) == 0
        assert {"depth_b1", "q_value", "lens_strength_err", "event_class"} <= set(table.colnames)
