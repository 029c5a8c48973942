"""AOFlagger's own program with our strategy, on a Measurement Set, against our call of its library."""

import shutil
import subprocess

import numpy as np
import pytest

import dsaflow.visibilities
from dsaflow.instrument import CHANNEL_WIDTH_HZ, INTEGRATION_S, LATITUDE_DEG, LONGITUDE_DEG
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.flag import run_aoflagger
from dsaflow.visibilities.ms import read_ms, write_ms

pytestmark = pytest.mark.slow

# The program hands over all polarisations and complex samples; ours runs on one, on amplitudes.
EACH_POLARISATION = """
local one = execute
function execute(data)
  for _, name in ipairs(data:get_polarizations()) do
    local part = data:convert_to_polarization(name):convert_to_complex("amplitude")
    one(part)
    data:set_polarization_data(name, part:convert_to_complex("complex"))
  end
end
"""


def spoilt(n_antenna=12, n_time=24, n_channel=48):
    """Noise of unit sigma, of random phase, with a burst or a narrow band on some baselines."""
    rng = np.random.default_rng(8)
    antenna1, antenna2 = np.triu_indices(n_antenna, 1)
    shape = (n_time, antenna1.size, n_channel, 2)
    data = rng.normal(size=(*shape, 2)) @ np.array([1, 1j])
    for baseline in range(0, antenna1.size, 3):
        time, channel = rng.integers(n_time - 4), rng.integers(n_channel - 3)
        data[time : time + 4, baseline, channel : channel + 3] += rng.uniform(4, 12)
        data[:, baseline, rng.integers(n_channel)] += 6.0
    place_m = np.array([-2409150.0, -4478573.0, 3838617.0])
    return Visibilities(
        data=data.astype(np.complex64), flags=np.zeros(shape, bool),
        uvw_m=rng.normal(0, 300, (n_time, antenna1.size, 3)), antenna1=antenna1, antenna2=antenna2,
        time_mjd=61060 + np.arange(n_time) * INTEGRATION_S / 86400, integration_s=INTEGRATION_S,
        freq_hz=1.35e9 + CHANNEL_WIDTH_HZ * np.arange(n_channel), channel_width_hz=CHANNEL_WIDTH_HZ,
        polarization=("XX", "YY"), antenna_name=[str(i + 1) for i in range(n_antenna)],
        antenna_itrf_m=place_m + rng.normal(0, 300, (n_antenna, 3)), phase_ra_deg=80.0,
        phase_dec_deg=16.0, pointing_dec_deg=16.1, site_deg_m=(LONGITUDE_DEG, LATITUDE_DEG, 1188.0),
    )  # fmt: skip


def test_the_program_flags_what_our_call_flags(tmp_path):
    """One algorithm on the same amplitudes: only rounding at a threshold (1e-7 of them) may differ."""
    if shutil.which("aoflagger") is None:
        pytest.skip("aoflagger is not on PATH (Debian package aoflagger)")
    vis = spoilt()
    write_ms(tmp_path / "data.ms", vis)
    strategy = tmp_path / "strategy.lua"
    ours = next(iter(dsaflow.visibilities.__path__)) + "/dsa110.lua"
    with open(ours, encoding="utf-8") as text:
        strategy.write_text(text.read() + EACH_POLARISATION)
    done = subprocess.run(
        ["aoflagger", "-j", "1", "-direct-read", "-column", "DATA", "-strategy", strategy, "data.ms"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    theirs = read_ms(tmp_path / "data.ms").flags
    flags = np.zeros_like(vis.flags)
    for pol in range(2):
        one = np.zeros(flags.shape[:-1], bool)
        run_aoflagger(np.abs(vis.data[..., pol]), one, np.arange(vis.antenna1.size))
        flags[..., pol] = one
    differ = np.count_nonzero(flags != theirs)
    print(
        f"{flags.mean():.2%} flagged by our call, {theirs.mean():.2%} by the program, {differ} differ"
    )
    assert 0.01 < flags.mean() < 0.2
    assert differ <= 1e-4 * np.count_nonzero(flags)
