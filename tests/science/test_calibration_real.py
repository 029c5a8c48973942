"""Real visibilities of a primary flux calibrator."""

from dataclasses import replace

import numpy as np
import pytest

from dsaflow.calibration.solver import accumulate, solve
from dsaflow.calibration.tile import divide_gains
from dsaflow.config import Config
from dsaflow.visibilities.convert import load_tile
from dsaflow.visibilities.group import read_group

# log10 S[Jy] in powers of log10 nu[MHz] (Reynolds 1994)
REYNOLDS = (-30.7667, 26.4908, -7.0977, 0.605334)


@pytest.fixture(scope="module")
def pks_1934_638(shared_data):
    path = shared_data / "visibilities" / "atca_1934_2015-02-27_1311-1498MHz.uvh5"
    if not path.is_file():
        pytest.skip(f"real data not here: {path.name}")
    config = Config()
    vis, _ = load_tile(read_group([str(path)], config.convert), config)
    return vis


def flux_jy(freq_hz):
    return 10 ** np.polynomial.polynomial.polyval(np.log10(freq_hz / 1e6), REYNOLDS)


def test_flux_model_of_reynolds():
    assert flux_jy(np.array([1311e6, 1405e6, 1498e6])) == pytest.approx(
        [15.06, 14.90, 14.67], abs=0.006
    )


def test_point_source_solve_closes(pks_1934_638):
    """One gain an antenna, receptor and channel fits a point source to 0.14 deg and 0.4 %."""
    vis = pks_1934_638
    assert 0.1 < vis.flags.mean() < 0.3
    model = np.broadcast_to(flux_jy(vis.freq_hz), vis.data.shape[:3]).astype(np.complex64)
    equations = accumulate(vis.data, vis.flags, model)
    solution = solve(equations, vis.antenna1, vis.antenna2, vis.n_antenna)
    data, flags = vis.data.copy(), vis.flags.copy()
    divide_gains(data, flags, solution.gain.transpose(0, 2, 1)[None], vis)
    assert (flags & ~vis.flags).mean() < 0.01
    good = ~flags
    ratio = (data / model[..., None])[good]
    # one channel of 1 MHz and 59 s is noisy: closure is that of the band's mean on each baseline
    level = np.array(
        [
            (data / model[..., None])[:, b, :, p][good[:, b, :, p]].mean()
            for b in range(data.shape[1])
            for p in range(2)
        ]
    )
    assert np.abs(ratio).mean() == pytest.approx(1.0, abs=0.004)
    assert np.degrees(np.angle(level)).std() < 0.14
    assert np.abs(level).std() < 0.004
    # the corrected spectrum is the model's: the flux scale survives the solve
    spectrum = np.array(
        [data[:, :, c][good[:, :, c]].real.mean() for c in np.flatnonzero(good.any(axis=(0, 1, 3)))]
    )
    expected = flux_jy(vis.freq_hz[good.any(axis=(0, 1, 3))])
    assert np.median(spectrum / expected) == pytest.approx(1.0, abs=0.004)


def test_gains_of_one_half_of_the_band_serve_the_other(pks_1934_638):
    """Gains solved on every second channel calibrate the channels between: no fit to itself."""
    vis = pks_1934_638
    even = replace(
        vis, data=vis.data[:, :, ::2], flags=vis.flags[:, :, ::2], freq_hz=vis.freq_hz[::2]
    )
    model = np.broadcast_to(flux_jy(even.freq_hz), even.data.shape[:3]).astype(np.complex64)
    solution = solve(
        accumulate(even.data, even.flags, model), vis.antenna1, vis.antenna2, vis.n_antenna
    )
    n = len(vis.freq_hz[1::2])
    data, flags = vis.data[:, :, 1::2].copy(), vis.flags[:, :, 1::2].copy()
    divide_gains(data, flags, solution.gain[:n].transpose(0, 2, 1)[None], vis)
    ratio = np.abs(data)[~flags].mean() / flux_jy(vis.freq_hz[1::2]).mean()
    assert ratio == pytest.approx(1.0, abs=0.02)
