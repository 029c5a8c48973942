"""Averaging before gridding: what it takes off a source at the field's edge, and that noise, weights and phases stay.

The truth is a sum of exact phases, one for each sample; the loss is that of Dirichlet's kernel.
"""

import numpy as np
import pytest

from dsaflow.config.sections import Image
from dsaflow.geometry import meridian_icrs, projected_baselines
from dsaflow.imaging.average import adjacent_groups, smearing_loss
from dsaflow.imaging.tile import image_visibilities
from dsaflow.imaging.weighting import stokes_i
from dsaflow.instrument import PrimaryBeam, read_stations
from dsaflow.visibilities.container import Visibilities

LIGHT = 299792458.0
SITE = (-118.2830, 37.2334051, 1188.05)
DEC_DEG, MJD = 16.1, 60700.3
INTEGRATION_S, WIDTH_HZ, SEFD_JY = 12.884902, 244140.625, 6500.0
EDGE_LM = (np.sin(np.radians(1.7)), np.sin(np.radians(-1.2)))
IMAGE = Image(
    size=660, pixel_arcsec=26.0, clean_sigma=1e6, channel_blocks=1, gridding_accuracy=1e-4,
    far_sources=False, average_hz=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def empty(repository):
    """48 stations, 8 integrations, 16 channels that touch; visibilities of nothing."""
    stations = read_stations(repository / "config" / "antennas.csv")
    core = np.flatnonzero(stations.active & (stations.number <= 102))
    chosen = core[np.linspace(0, core.size - 1, 48).round().astype(int)]
    xyz = stations.itrf_m()[chosen]
    time_mjd = MJD + (np.arange(8) - 3.5) * INTEGRATION_S / 86400
    ra0, dec0 = (float(np.ravel(v)[0]) for v in meridian_icrs(MJD, DEC_DEG))
    first, second = np.triu_indices(chosen.size, 1)
    uvw = projected_baselines(xyz, time_mjd, ra0, dec0)
    freq_hz = 1405e6 + (np.arange(16) - 7.5) * WIDTH_HZ
    data = np.zeros((8, first.size, 16, 2), np.complex64)
    return Visibilities(
        data, np.zeros(data.shape, bool), uvw[:, first] - uvw[:, second], first, second, time_mjd,
        INTEGRATION_S, freq_hz, WIDTH_HZ, ("XX", "YY"), [str(n) for n in chosen], xyz, ra0, dec0,
        float("nan"), SITE,
    )  # fmt: skip


def delay_s(uvw_m, lm=EDGE_LM):
    return uvw_m @ np.array([*lm, np.sqrt(1 - lm[0] ** 2 - lm[1] ** 2) - 1]) / LIGHT


def turned(phase_cycles):
    return np.exp(2j * np.pi * phase_cycles)


@pytest.fixture
def source(empty):
    """1 Jy at the field's edge."""
    phases = turned(delay_s(empty.uvw_m)[..., None] * empty.freq_hz)
    data = np.repeat(phases[..., None], 2, axis=-1).astype(np.complex64)
    return Visibilities(**{**vars(empty), "data": data, "flags": empty.flags.copy()})


def dirichlet(count, cycles):
    """Mean of `count` phasors `cycles` apart, about their middle."""
    return np.sin(np.pi * count * cycles) / (count * np.sin(np.pi * cycles))


def dirty_peak(stokes, lm=EDGE_LM):
    """Natural dirty image of the averaged visibilities at a place, by direct summation."""
    model = turned(delay_s(stokes.uvw_m, lm)[..., None] * stokes.freq_hz)
    return float(np.sum(stokes.hands * (stokes.data * model.conj()).real) / stokes.hands.sum())


def test_only_cells_that_touch_are_grouped():
    freq_hz = 1.3e9 + WIDTH_HZ * np.arange(96)
    assert adjacent_groups(freq_hz, WIDTH_HZ, 1e6).tolist() == list(range(0, 96, 4))
    # a subband is missing between channels 48 and 49; runs of 10 go into 4, 3, 3
    gap = np.concatenate([freq_hz[:10], freq_hz[58:68]])
    starts = adjacent_groups(gap, WIDTH_HZ, 1e6)
    assert np.diff([*starts, 20]).max() <= 4
    assert 10 in starts
    assert len(starts) == 6
    assert adjacent_groups(freq_hz[::3], WIDTH_HZ, 1e6).tolist() == list(range(32))
    assert adjacent_groups(freq_hz, WIDTH_HZ, None).tolist() == list(range(96))
    assert adjacent_groups(freq_hz[:6], WIDTH_HZ, 1e6, [freq_hz[2] - 1.0]).tolist() == [0, 2]


def test_without_groups_nothing_is_changed(source):
    demo = Visibilities(**{**vars(source), "freq_hz": 1311.25e6 + 11.71875e6 * np.arange(16)})
    groups = adjacent_groups(demo.freq_hz, WIDTH_HZ, IMAGE.average_hz or 1e6)
    plain, kept = stokes_i(demo), stokes_i(demo, groups)
    assert np.array_equal(plain.data, kept.data)
    assert np.array_equal(plain.hands, kept.hands)
    assert np.array_equal(kept.freq_hz, demo.freq_hz)
    assert np.array_equal(kept.uvw_m, demo.uvw_m)


@pytest.mark.parametrize(("channels", "integrations"), [(4, 1), (8, 1), (1, 2), (4, 4)])
def test_flux_at_the_fields_edge_falls_as_the_sinc(source, channels, integrations):
    groups = np.arange(0, 16, channels), np.arange(0, 8, integrations)
    found = 1 - dirty_peak(stokes_i(source, *groups))
    delay = delay_s(source.uvw_m)
    rate = np.gradient(delay, INTEGRATION_S, axis=0) * 1405e6
    theory = 1 - np.mean(
        dirichlet(channels, delay * WIDTH_HZ) * dirichlet(integrations, rate * INTEGRATION_S)
    )
    assert theory > 1e-4
    # second order: the rate changes within a group, and each product of channel and integration differs
    assert found == pytest.approx(theory, rel=0.02)
    # the telescope's own channel and integration take their part as well: a sinc of the whole width
    stokes = stokes_i(source, *groups)
    extent = INTEGRATION_S * stokes.integrations, WIDTH_HZ * stokes.channels
    whole = smearing_loss(
        stokes.uvw_m, stokes.time_mjd * 86400, stokes.freq_hz, stokes.hands, extent, EDGE_LM
    )
    sinc = 1 - np.mean(
        np.sinc(delay * WIDTH_HZ * channels) * np.sinc(rate * INTEGRATION_S * integrations)
    )
    assert whole == pytest.approx(sinc, rel=0.03)


def test_a_flagged_channel_moves_the_frequency_not_the_phase(source):
    rng = np.random.default_rng(1)
    source.flags[:, :, 5] = True
    source.flags[2:4, :, 8:] = True
    source.data[source.flags] = 1e4 + rng.normal(size=np.count_nonzero(source.flags))
    stokes = stokes_i(source, np.arange(0, 16, 4), np.arange(0, 8, 2))
    assert stokes.freq_hz[1] == pytest.approx(source.freq_hz[[4, 6, 7]].mean(), abs=1e-3)
    assert stokes.freq_hz[0] == pytest.approx(source.freq_hz[:4].mean(), abs=1e-3)
    assert stokes.channels.tolist() == [4, 3, 4, 4]
    samples = stokes.hands * stokes.n_hands
    assert np.all(samples[:, :, 0] == 16)
    assert np.all(samples[:, :, 1] == 12)
    assert np.all(samples[1, :, 2:] == 0)
    model = turned(delay_s(stokes.uvw_m)[..., None] * stokes.freq_hz)
    off = np.angle(stokes.data * model.conj())[stokes.hands > 0]
    assert np.abs(off).max() < 1e-3
    # with the group's nominal frequency the longest baseline would be off by this
    nominal = np.abs(delay_s(source.uvw_m)).max() * 2 * np.pi * WIDTH_HZ / 6
    assert nominal > 10 * 1e-3


def test_a_flagged_integration_moves_the_baselines_not_the_phase(source):
    source.flags[3, ::2] = True
    source.data[3, ::2] = np.nan
    stokes = stokes_i(source, np.arange(0, 16, 4), np.arange(0, 8, 2))
    assert np.array_equal(stokes.uvw_m[1, ::2], source.uvw_m[2, ::2])
    assert np.allclose(stokes.uvw_m[1, 1::2], source.uvw_m[2:4, 1::2].mean(axis=0), atol=1e-9)
    half, last = source.time_mjd[2], source.time_mjd[3]
    share = np.count_nonzero(~source.flags[3]) / np.count_nonzero(~source.flags[2:4])
    assert stokes.time_mjd[1] == pytest.approx(half + share * (last - half), abs=1e-10)
    model = turned(delay_s(stokes.uvw_m)[..., None] * stokes.freq_hz)
    assert np.abs(np.angle(stokes.data * model.conj())).max() < 1e-3


@pytest.mark.parametrize("robust", [0.5, 2.0])
def test_noise_and_radiometer_value_stay(empty, robust):
    rng = np.random.default_rng(7)
    vis = Visibilities(**vars(empty))
    sigma = SEFD_JY / np.sqrt(2 * WIDTH_HZ * INTEGRATION_S)
    noise = sigma * (rng.normal(size=vis.data.shape) + 1j * rng.normal(size=vis.data.shape))
    vis.data = noise.astype(np.complex64)
    vis.flags = rng.random(vis.flags.shape) < 0.15
    vis.flags[:, :, 9] = True
    choice = {"average_hz": 1e6, "average_s": 26.0}
    images = [
        image_visibilities(
            vis, IMAGE.model_copy(update={"robust": robust, **own}), PrimaryBeam(4.65), SEFD_JY
        )
        for own in ({}, choice)
    ]
    plain, averaged = images
    assert (plain.numbers["averaged_channels"], plain.numbers["averaged_integrations"]) == (1, 1)
    assert averaged.numbers["averaged_channels"] == 4
    assert averaged.numbers["averaged_integrations"] == 2
    for one in images:
        # 330 x 330 pixels hold some 8000 beams
        assert one.numbers["noise_jy"] / one.numbers["radiometer_jy"] == pytest.approx(1, abs=0.03)
    assert averaged.numbers["radiometer_jy"] == pytest.approx(
        plain.numbers["radiometer_jy"], rel=5e-3
    )
    for key in ("flagged_fraction", "freq_hz", "bandwidth_hz", "beam_minor_arcsec"):
        assert averaged.numbers[key] == pytest.approx(plain.numbers[key], rel=2e-3), key
    assert np.allclose(averaged.beam, plain.beam, atol=1e-3)
    if robust == 2.0:
        # natural weights are the same: within 0.6 deg the noise is the same pixel by pixel
        cut = slice(250, 410)
        change = plain.residual[cut, cut] - averaged.residual[cut, cut]
        loss = 2 * averaged.numbers["smearing_at_edge"] * (0.6 / 1.5) ** 2
        assert change.std() < np.sqrt(2 * loss) * plain.residual[cut, cut].std()
