"""Measurement Sets come back as they were written, and other programs' keywords are in place."""

import numpy as np
import pytest

from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.ms import read_ms, write_ms


def random_visibilities(n_time=3, n_antenna=5, n_channel=7, weights=False):
    rng = np.random.default_rng(3)
    antenna1, antenna2 = np.triu_indices(n_antenna, 1)
    shape = (n_time, antenna1.size, n_channel, 2)
    data = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    return Visibilities(
        data=data,
        flags=rng.random(shape) < 0.2,
        uvw_m=rng.normal(size=(*shape[:2], 3)),
        antenna1=antenna1,
        antenna2=antenna2,
        time_mjd=61060.123456789 + np.arange(n_time) * 12.884902 / 86400,
        integration_s=12.884902000427246,
        freq_hz=1.3113720703125e9 + 244140.625 * np.arange(n_channel),
        channel_width_hz=244140.625,
        polarization=("XX", "YY"),
        antenna_name=[str(i + 100) for i in range(n_antenna)],
        antenna_itrf_m=rng.normal(size=(n_antenna, 3)) * 1e6,
        phase_ra_deg=359.98765432101,
        phase_dec_deg=54.571,
        pointing_dec_deg=54.6,
        site_deg_m=(-118.283, 37.2334, 1188.05),
        extra={"weight_spectrum": rng.random(shape).astype(np.float32)} if weights else {},
    )


@pytest.mark.parametrize("weights", [False, True])
def test_round_trip_is_exact(tmp_path, weights):
    vis = random_visibilities(weights=weights)
    write_ms(tmp_path / "a.ms", vis)
    back = read_ms(tmp_path / "a.ms")
    for name in ("data", "flags", "uvw_m", "antenna1", "antenna2", "time_mjd", "freq_hz",
                 "antenna_itrf_m"):  # fmt: skip
        assert np.array_equal(getattr(vis, name), getattr(back, name)), name
    for name in ("integration_s", "channel_width_hz", "polarization", "antenna_name", "telescope",
                 "phase_ra_deg", "phase_dec_deg", "pointing_dec_deg", "site_deg_m"):  # fmt: skip
        assert getattr(vis, name) == getattr(back, name), name
    if weights:
        assert np.array_equal(vis.extra["weight_spectrum"], back.extra["weight_spectrum"])


def test_standard_places_hold_the_same(tmp_path):
    from casacore.tables import table

    vis = random_visibilities()
    write_ms(tmp_path / "a.ms", vis)
    with table(str(tmp_path / "a.ms::FIELD"), ack=False) as field:
        centre = np.radians([[vis.phase_ra_deg, vis.phase_dec_deg]])
        for column in ("PHASE_DIR", "REFERENCE_DIR", "DELAY_DIR"):
            assert np.array_equal(field.getcell(column, 0), centre)
            assert field.getcolkeyword(column, "MEASINFO")["Ref"] == "ICRS"
    with table(str(tmp_path / "a.ms::OBSERVATION"), ack=False) as observation:
        assert observation.getcell("TELESCOPE_NAME", 0) == "DSA_110"
    with table(str(tmp_path / "a.ms::POLARIZATION"), ack=False) as polarization:
        assert polarization.getcell("CORR_TYPE", 0).tolist() == [9, 12]
        assert polarization.getcell("CORR_PRODUCT", 0).tolist() == [[0, 0], [1, 1]]
    with table(str(tmp_path / "a.ms"), ack=False) as main:
        assert main.nrows() == 3 * 10
        assert np.ptp(main.getcol("TIME").reshape(3, 10), axis=1).max() == 0
        assert main.getcol("TIME")[0] / 86400 == pytest.approx(vis.time_mjd[0], abs=1e-11)
        assert (main.getcol("ANTENNA1") != main.getcol("ANTENNA2")).all()


def test_replacing_leaves_no_trace(tmp_path):
    write_ms(tmp_path / "a.ms", random_visibilities(n_channel=7))
    write_ms(tmp_path / "a.ms", random_visibilities(n_channel=3))
    assert read_ms(tmp_path / "a.ms").freq_hz.size == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.ms"]


def test_a_failed_write_leaves_nothing(tmp_path):
    vis = random_visibilities()
    vis.uvw_m = vis.uvw_m[:, :, :2]
    with pytest.raises((RuntimeError, ValueError)):
        write_ms(tmp_path / "a.ms", vis)
    assert not list(tmp_path.iterdir())


def test_sets_of_others_are_refused(tmp_path):
    from casacore.tables import table

    write_ms(tmp_path / "a.ms", random_visibilities())
    with table(str(tmp_path / "a.ms"), readonly=False, ack=False) as main:
        main.removekeyword("DSAFLOW")
    with pytest.raises(DataRejected) as caught:
        read_ms(tmp_path / "a.ms")
    assert caught.value.code == ReasonCode.UNREADABLE
