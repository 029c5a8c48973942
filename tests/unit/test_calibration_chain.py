"""Bandpass, gains and scale against injected truth, on a sky summed directly over baselines."""

from dataclasses import replace

import numpy as np
import pytest

from dsaflow.calibration.anchor import FactorTable, between, common_scale, tie_scale
from dsaflow.calibration.bandpass import solve_bandpass_gains
from dsaflow.calibration.gains import solve_field
from dsaflow.calibration.predict import Predictor
from dsaflow.calibration.scale import Scale
from dsaflow.calibration.skymodel import field_model
from dsaflow.calibration.solve_bandpass import calibrator_factor, transit_field
from dsaflow.calibration.tile import average_channels, average_divided, divide_gains
from dsaflow.catalog import Calibrators, Catalog
from dsaflow.config import Config
from dsaflow.geometry import hour_angle_declination, meridian_icrs, projected_baselines
from dsaflow.instrument import (
    CHANNEL_WIDTH_HZ,
    INTEGRATION_S,
    INTEGRATIONS,
    LATITUDE_DEG,
    LONGITUDE_DEG,
    SPEED_OF_LIGHT_M_S,
    PrimaryBeam,
    airy_power,
    read_stations,
)
from dsaflow.visibilities.container import Visibilities

MID_MJD = 61065.3
POINTING_DEG = 16.1
BEAM = PrimaryBeam(4.65)


def empty_tile(n_antenna=24, n_channel=8, mid_mjd=MID_MJD):
    """A tile without data: real stations, channels spread over the band."""
    stations = read_stations("config/antennas.csv")
    chosen = np.flatnonzero(stations.active)
    chosen = chosen[np.linspace(0, len(chosen) - 1, n_antenna).astype(int)]
    itrf = stations.itrf_m()[chosen]
    p, q = np.triu_indices(n_antenna, 1)
    time = mid_mjd + (np.arange(INTEGRATIONS) - 11.5) * INTEGRATION_S / 86400
    ra, dec = meridian_icrs(mid_mjd, POINTING_DEG)
    antenna = projected_baselines(itrf, time, float(ra), float(dec))
    freq = 1311.25e6 + (np.arange(n_channel) + 0.5) * 187.5e6 / n_channel
    shape = (INTEGRATIONS, len(p), n_channel, 2)
    return Visibilities(
        np.zeros(shape, np.complex64), np.zeros(shape, bool), antenna[:, p] - antenna[:, q], p, q,
        time, INTEGRATION_S, freq, CHANNEL_WIDTH_HZ, ("XX", "YY"),
        [str(n) for n in stations.number[chosen]], itrf, float(ra), float(dec), POINTING_DEG,
        (LONGITUDE_DEG, LATITUDE_DEG, 1188.05),
    )  # fmt: skip


def sources(rng, vis, n, faintest=0.03, brightest=1.0):
    """A catalogue of `n` sources within 1.6 deg of the tile's centre."""
    ra = (vis.phase_ra_deg + rng.uniform(-1.6, 1.6, n) / np.cos(np.radians(16))) % 360
    dec = vis.phase_dec_deg + rng.uniform(-1.6, 1.6, n)
    flux = faintest / (1 - rng.uniform(0, 1 - faintest / brightest, n))
    return Catalog(
        np.array([f"s{i}" for i in range(n)]), ra, dec, flux, 0.05 * flux,
        np.full(n, np.nan), np.ones(n, bool), origin="test", version="1",
    )  # fmt: skip


def direct_sum(vis, catalog):
    """Sum of S B exp(2 pi i nu/c b.(s - s0)) baseline by baseline, from unit vectors of date.

    Smearing is the mean over moments within the integration, the correlator's tracking taken out.
    """
    lon = np.radians(LONGITUDE_DEG)
    turn = np.array([[np.cos(lon), np.sin(lon), 0], [-np.sin(lon), np.cos(lon), 0], [0, 0, 1]])
    itrf = vis.antenna_itrf_m
    baseline = (itrf[vis.antenna1] - itrf[vis.antenna2]) @ turn.T
    moments = (np.arange(7) - 3) / 7 * vis.integration_s
    omega, pointing = 2 * np.pi / 86164.0905, np.radians(POINTING_DEG)

    def vector(ha, dec):
        return np.stack([np.cos(dec) * np.cos(ha), -np.cos(dec) * np.sin(ha), np.sin(dec)], -1)

    total = np.zeros(vis.data.shape[:3], complex)
    straight_up = vector(np.array(0.0), np.array(pointing))
    for t, mjd in enumerate(vis.time_mjd):
        h, d = hour_angle_declination(mjd, catalog.ra_deg, catalog.dec_deg)
        centre = vector(*hour_angle_declination(mjd, vis.phase_ra_deg, vis.phase_dec_deg))
        distance = np.arccos(np.clip(vector(h, d) @ straight_up, -1, 1))
        flux = catalog.flux_jy[:, None] * (vis.freq_hz / 1.4e9) ** -0.7
        flux = flux * airy_power(distance[:, None], vis.freq_hz, 4.65)
        for moment in moments:
            tracked = vector(np.array(omega * moment), np.array(pointing)) - straight_up
            path = baseline @ (vector(h + omega * moment, d) - centre - tracked).T
            for c, nu in enumerate(vis.freq_hz):
                phase = 2 * np.pi * nu / SPEED_OF_LIGHT_M_S * path
                total[t, :, c] += np.exp(1j * phase) @ flux[:, c] / len(moments)
    return total


def observe(vis, catalog, rng, sefd_jy=100.0, gain=None):
    """Visibilities of a sky (the pipeline's own predictor; checked above) with gains and noise."""
    sky = field_model(vis, catalog, BEAM, 0.0)
    true = Predictor(vis, sky, BEAM).predict(slice(0, len(vis.freq_hz)))
    data = np.repeat(true[..., None], 2, axis=-1)
    if gain is not None:  # (n_time or 1, n_channel or 1, n_antenna, 2)
        product = gain[:, :, vis.antenna1] * gain[:, :, vis.antenna2].conj()
        data = data * product.transpose(0, 2, 1, 3)
    sigma = sefd_jy / np.sqrt(2 * vis.channel_width_hz * vis.integration_s)
    noise = rng.normal(0, sigma, (*data.shape, 2)) @ np.array([1, 1j])
    return replace(vis, data=(data + noise).astype(np.complex64), flags=vis.flags.copy())


def random_gains(rng, n_time, n_channel, n_antenna, amplitude=0.2, phase_deg=180.0):
    """Smooth in nothing: each element its own amplitude and phase."""
    shape = n_time, n_channel, n_antenna, 2
    phase = np.radians(rng.uniform(-phase_deg, phase_deg, shape))
    return (1 + amplitude * rng.uniform(-1, 1, shape)) * np.exp(1j * phase)


def referenced(gain, antenna):
    """Phases against one antenna; axes (..., n_antenna, n_pol)."""
    return gain * np.exp(-1j * np.angle(gain[..., antenna : antenna + 1, :]))


def solve_tile(vis, catalog, **options):
    model = field_model(vis, catalog, BEAM, 0.005)
    settings = {
        "interval_s": 60, "min_snr": 5, "good_snr": 20, "max_weight": 0.1, **options,
    }  # fmt: skip
    return solve_field(average_channels(vis, 1e6), model, BEAM, **settings)


@pytest.mark.parametrize("n_time", [1, INTEGRATIONS])
def test_averaging_by_integration_is_averaging_the_tile(n_time):
    rng = np.random.default_rng(8)
    vis = empty_tile(n_antenna=6, n_channel=10)
    freq = 1400e6 + CHANNEL_WIDTH_HZ * np.arange(10)
    data = rng.normal(size=(*vis.data.shape, 2)).astype(np.float32).view(np.complex64)[..., 0]
    vis = replace(vis, freq_hz=freq, data=data, flags=rng.random(data.shape) < 0.3)
    gain = random_gains(rng, n_time, 10, 6)
    gain[:, :, 2] = np.nan
    kept = vis.data.copy(), vis.flags.copy()
    found = average_divided(vis, gain, 1e6)
    divided = replace(vis, data=kept[0].copy(), flags=kept[1].copy())
    divide_gains(divided.data, divided.flags, gain, vis)
    whole = average_channels(divided, 1e6)
    assert found.vis.data.shape == (INTEGRATIONS, 15, 3, 2)
    assert found.spread_hz == whole.spread_hz
    assert np.array_equal(found.weight, whole.weight)
    for name in ("data", "flags", "freq_hz"):
        assert np.array_equal(getattr(found.vis, name), getattr(whole.vis, name))
    assert np.array_equal(vis.data, kept[0])
    assert np.array_equal(vis.flags, kept[1])


def test_model_equals_direct_sum_over_places_of_date():
    rng = np.random.default_rng(3)
    vis = empty_tile(n_antenna=9, n_channel=3)
    catalog = sources(rng, vis, 25)
    model = field_model(vis, catalog, BEAM, 0.0)
    predicted = Predictor(vis, model, BEAM).predict(slice(0, 3))
    truth = direct_sum(vis, catalog)
    # seven moments sample the smearing to (1/7)^2 of a loss of at most 2 %
    assert np.abs(predicted - truth).max() < 1e-3 * np.abs(truth).max()


def test_bandpass_recovers_injected_gains_to_the_noise():
    rng = np.random.default_rng(5)
    vis = empty_tile(n_antenna=20, n_channel=6)
    catalog = sources(rng, vis, 30)
    bright = catalog.flux_jy.copy()
    bright[0] = 15.0
    catalog = replace(
        catalog,
        flux_jy=bright,
        ra_deg=np.append(vis.phase_ra_deg, catalog.ra_deg[1:]),
        dec_deg=np.append(vis.phase_dec_deg + 0.2, catalog.dec_deg[1:]),
    )
    truth = random_gains(rng, 1, 6, 20)
    sefd = 6500.0
    observed = observe(vis, catalog, rng, sefd, truth)
    model = field_model(vis, catalog, BEAM, 0.005)
    solved = solve_bandpass_gains(observed, model, BEAM, 60.0, 5.0)
    gain = solved.gain.transpose(0, 2, 1)
    assert np.isfinite(gain).all()
    ratio = referenced(gain, solved.reference) / referenced(truth[0], solved.reference)
    apparent = model.apparent_jy[0]
    length_s = vis.integration_s * len(vis.time_mjd)
    theory = sefd / (apparent * np.sqrt(2 * vis.channel_width_hz * length_s * 19))
    # noise is not multiplied by the gains here: theory is for |g| = 1
    error = (np.abs(ratio) - 1) * np.abs(truth[0])
    assert np.sqrt((error**2).mean()) < 1.3 * np.hypot(theory, 0.005)
    assert np.sqrt((error**2).mean()) > 0.7 * theory
    others = np.arange(20) != solved.reference
    phase = np.angle(ratio)[:, others]
    assert np.sqrt((phase**2).mean()) < 1.3 * np.hypot(theory * np.sqrt(2), 0.005)
    # the stated errors are true
    pull = (np.abs(gain) - np.abs(truth[0])) / solved.error.transpose(0, 2, 1)
    assert 0.8 < pull.std() < 1.2


def test_swapped_receptors_and_conjugated_gains_are_not_the_truth():
    """The recovered gains are those of the right receptor and of the right sign."""
    rng = np.random.default_rng(6)
    vis = empty_tile(n_antenna=16, n_channel=2)
    catalog = sources(rng, vis, 40)
    truth = random_gains(rng, 1, 2, 16)
    observed = observe(vis, catalog, rng, 50.0, truth)
    model = field_model(vis, catalog, BEAM, 0.0)
    gain = solve_bandpass_gains(observed, model, BEAM, 60.0, 5.0).gain.transpose(0, 2, 1)[None]
    data, flags = observed.data.copy(), observed.flags.copy()
    divide_gains(data, flags, gain, observed)
    clean = observe(vis, catalog, rng, 0.0).data
    assert np.median(np.abs(data - clean)) < 0.03 * np.median(np.abs(clean))
    for wrong in (gain[..., ::-1], gain.conj(), gain**2):
        spoilt = observed.data.copy()
        divide_gains(spoilt, flags.copy(), wrong, observed)
        assert np.median(np.abs(spoilt - clean)) > 0.1 * np.median(np.abs(clean))


def test_bandpass_follows_phases_that_move_during_the_transit():
    rng = np.random.default_rng(7)
    vis = empty_tile(n_antenna=14, n_channel=4)
    catalog = sources(rng, vis, 40, faintest=0.1, brightest=3.0)
    band = random_gains(rng, 1, 4, 14)
    drift = (
        np.radians(rng.normal(0, 30, (1, 1, 14, 2))) * np.linspace(-1, 1, 24)[:, None, None, None]
    )
    observed = observe(vis, catalog, rng, 100.0, band * np.exp(1j * drift))
    model = field_model(vis, catalog, BEAM, 0.0)
    gain = solve_bandpass_gains(observed, model, BEAM, 60.0, 5.0).gain.transpose(0, 2, 1)
    # without the phases, a drift of +-30 deg would take 1 - sinc, 4 % and more, from the amplitudes
    assert np.abs(np.median(np.abs(gain) / np.abs(band[0])) - 1) < 0.01


def test_scale_and_phases_of_a_tile():
    rng = np.random.default_rng(11)
    vis = empty_tile()
    catalog = sources(rng, vis, 60)
    truth = random_gains(rng, 1, 1, 24, amplitude=0.0, phase_deg=40) * np.sqrt(1.08)
    found = solve_tile(observe(vis, catalog, rng, 1500.0, truth), catalog)
    assert abs(found.scale.value / 1.08 - 1) < 4 * found.scale.noise_err + 0.002
    assert found.scale.noise_err < 0.01
    assert found.scale.max_weight <= 0.1 + 1e-9
    ratio = referenced(found.gain.transpose(0, 2, 1), 3) / referenced(truth[0], 3)
    assert np.degrees(np.abs(np.angle(ratio))).max() < 5 * np.degrees(1.5 / np.median(found.snr))


def test_scale_errors_are_true_and_unbiased():
    """Pulls over several skies with a spoilt catalogue: mean 0, width 1."""
    pulls = []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        vis = empty_tile(n_antenna=16, n_channel=2)
        catalog = sources(rng, vis, 50)
        spoilt = replace(catalog, flux_jy=catalog.flux_jy * (1 + 0.05 * rng.normal(size=50)))
        scale = solve_tile(observe(vis, catalog, rng, 1500.0), spoilt).scale
        pulls.append((scale.value - 1) / np.hypot(scale.noise_err, scale.catalog_err))
    assert abs(np.mean(pulls)) < 1.2
    assert 0.5 < np.std(pulls) < 1.6


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_fading_source_keeps_its_fade(share):
    """A fade by 30 % in one tile of three stays in the data to 1 %, at any share of the flux."""
    rng = np.random.default_rng(17)
    vis = empty_tile(n_channel=4)
    catalog = sources(rng, vis, 60, brightest=0.4)
    dec = catalog.dec_deg.copy()
    ra = catalog.ra_deg.copy()
    ra[0], dec[0] = vis.phase_ra_deg + 0.3, vis.phase_dec_deg - 0.2
    catalog = replace(catalog, ra_deg=ra, dec_deg=dec)
    seen = field_model(vis, catalog, BEAM, 0.0)
    rest = seen.apparent_jy[seen.source_id != "s0"].sum()
    one = seen.apparent_jy[seen.source_id == "s0"][0] / catalog.flux_jy[0]
    flux = catalog.flux_jy.copy()
    flux[0] = share / (1 - share) * rest / one
    catalog = replace(catalog, flux_jy=flux, flux_err_jy=0.05 * flux)
    measured = []
    for factor in (1.0, 0.7, 1.0):
        sky = replace(catalog, flux_jy=flux * np.where(np.arange(60) == 0, factor, 1.0))
        phases = random_gains(rng, 1, 1, 24, amplitude=0.0, phase_deg=20)
        found = solve_tile(observe(vis, sky, rng, 300.0, phases), catalog)
        of_source = found.factors.per_source()[
            field_model(vis, catalog, BEAM, 0.005).source_id == "s0"
        ][0]
        measured.append(of_source / found.scale.value)
    assert measured[1] / np.mean([measured[0], measured[2]]) == pytest.approx(0.7, abs=0.007)


def anchored_tile(seed, fade=1.0, night=0):
    """A transit with a primary calibrator, and a tile 5 or 10 minutes later under other gains.

    Returns the tile's scale numbers, the truth that they estimate, the factor of one source (that
    fades between the two) after scaling over its factor at the transit, and the catalogue's scale.
    Sky and catalogue are the seed's; gains and noise are the night's.
    """
    rng = np.random.default_rng(seed)
    n, step_d = 100, 309.24 / 86400
    transit = empty_tile(n_antenna=16, n_channel=2)
    tile = empty_tile(n_antenna=16, n_channel=2, mid_mjd=MID_MJD + (1 + seed % 2) * step_d)
    catalog = sources(rng, transit, n)
    flux, ra, dec = catalog.flux_jy.copy(), catalog.ra_deg + 1.0, catalog.dec_deg.copy()
    flux[:2] = 8.5, 1.5
    ra[0], dec[0] = transit.phase_ra_deg, transit.phase_dec_deg + 0.1
    ra[1], dec[1] = transit.phase_ra_deg + 0.8, transit.phase_dec_deg - 0.3
    sky = replace(catalog, ra_deg=ra, dec_deg=dec, flux_jy=flux)
    wrong = 1 + 0.05 * rng.normal(size=n)
    spoilt = replace(sky, flux_jy=flux * wrong, flux_err_jy=0.05 * flux)
    primary = Calibrators(
        np.array(["primary"]), ra[:1], dec[:1], flux[:1], np.array([-0.7]), np.array([True]),
        ((),), np.array([""]),
    )  # fmt: skip
    options = Config().calibrate
    rng = np.random.default_rng([seed, night])
    band, power = random_gains(rng, 1, 2, 16), 1 + 0.03 * rng.normal()
    seen = observe(transit, sky, rng, 1000.0, band)
    model = field_model(seen, spoilt, BEAM, 0.005, calibrators=primary, calibrator=0)
    solution = solve_bandpass_gains(seen, model, BEAM, 60.0, 5.0)
    field = transit_field(seen, model, BEAM, solution, options)
    known = {
        "source": "primary", "catalog_scale": field.scale.value,
        "catalog_scale_err_relative": field.scale.noise_err,
        "catalog_scale_err_catalog": field.scale.catalog_err,
        "n_scale_source": field.scale.n_source, **calibrator_factor(model, field),
    }  # fmt: skip
    faded = replace(sky, flux_jy=flux * np.where(np.arange(n) == 1, fade, 1.0))
    later = observe(tile, faded, rng, 1000.0, band * np.sqrt(power))
    data, flags = later.data.copy(), later.flags.copy()
    divide_gains(data, flags, solution.gain.transpose(0, 2, 1)[None], later)
    found = solve_tile(replace(later, data=data, flags=flags), spoilt)
    here, there = FactorTable.of(found.factors), FactorTable.of(field.factors)
    numbers = tie_scale(found.scale, here, known, there, False, options)
    one = np.array(["s1"])
    kept = here.select(one).factor[0] / there.select(one).factor[0] / numbers["scale"]
    return numbers, power, kept, found.scale


@pytest.mark.parametrize("skies", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_scale_tied_to_a_primary_has_true_errors(skies):
    """Pulls over skies whose catalogues are 5 % wrong: nothing of that is left in the scale."""
    found = [anchored_tile(seed)[:2] for seed in range(skies)]
    assert all(numbers["scale_anchor"] == "primary" for numbers, _ in found)
    pulls = np.array([(n["scale"] / power - 1) / n["scale_err_relative"] for n, power in found])
    assert abs(pulls.mean()) < 3 / np.sqrt(skies)
    assert np.sqrt((pulls**2).mean()) == pytest.approx(1, abs=3 / np.sqrt(2 * skies))
    assert np.median([n["scale_err_relative"] for n, _ in found]) < 0.02


@pytest.mark.slow
def test_scale_scatters_from_night_to_night_as_stated():
    """One field on many nights: only what is new each night is in `scale_err_relative`."""
    anchored, plain = [], []
    for seed in range(6):
        nights = [anchored_tile(seed, night=night) for night in range(8)]
        for pulls, rows in (
            (anchored, [(n["scale"] / power, n["scale_err_relative"]) for n, power, *_ in nights]),
            (plain, [(scale.value / power, scale.noise_err) for _, power, _, scale in nights]),
        ):
            value, error = np.array(rows).T
            pulls.extend((value - np.average(value, weights=error**-2)) / error)
    # 42 degrees of freedom of 48: an rms is known to 11 %
    for pulls in (anchored, plain):
        rms = np.sqrt(np.sum(np.square(pulls)) / 42)
        assert rms == pytest.approx(1, abs=0.33)


@pytest.mark.parametrize("seed", [30, 31])
def test_a_fade_between_transit_and_tile_is_kept(seed):
    numbers, _, kept, _ = anchored_tile(seed, fade=0.7)
    same, _, steady, _ = anchored_tile(seed)
    # the same noise in both: the fade alone moves the scale by less than 1 %
    assert numbers["scale"] / same["scale"] == pytest.approx(1, abs=0.01)
    assert kept / steady == pytest.approx(0.7, abs=0.007)


def table(factor, error=0.01, first=0):
    names = np.array([f"s{i:03d}" for i in range(first, first + len(factor))])
    return FactorTable(names, np.asarray(factor, float), np.full(len(factor), error))


PRIMARY = {
    "source": "primary", "catalog_scale": 1.05, "catalog_scale_err_relative": 0.004,
    "catalog_scale_err_catalog": 0.015, "n_scale_source": 60, "calibrator_err_relative": 0.002,
}  # fmt: skip


def test_common_sources_cancel_the_catalogue():
    """Factors off by 20 % each, the same in both tiles: only noise is left of them."""
    rng = np.random.default_rng(1)
    pulls, wrong = [], rng.uniform(0.6, 1.4, 60)
    for _ in range(80):
        here = table(1.04 * wrong + 0.05 * rng.normal(size=60), 0.05)
        there = table(wrong + 0.07 * rng.normal(size=60), 0.07)
        found = common_scale(here, there, 0.1)
        pulls.append((found.value - 1.04) / (found.noise_err * found.value))
    assert abs(np.mean(pulls)) < 4 / np.sqrt(80)
    assert np.std(pulls) == pytest.approx(1, abs=0.25)
    assert found.catalog_err == 0
    assert found.max_weight <= 0.1 + 1e-9


def test_common_scale_is_unbiased_at_low_signal_to_noise():
    """S/N 3 in the denominator: a mean of ratios would be high by 11 %."""
    rng = np.random.default_rng(2)
    found = [
        common_scale(
            table(1 + 0.3 * rng.normal(size=80), 0.3),
            table(1 + 0.3 * rng.normal(size=80), 0.3),
            0.1,
        ).value
        for _ in range(60)
    ]
    assert np.mean(found) == pytest.approx(1, abs=0.025)


def test_sources_that_vary_between_the_tiles_do_not_move_the_scale():
    rng = np.random.default_rng(3)
    here, there = np.ones(40), np.ones(40)
    here[:4] = 0.7
    here, there = (table(f + 0.003 * rng.normal(size=40), 0.003) for f in (here, there))
    assert common_scale(here, there, 0.1).value == pytest.approx(1, abs=0.003)


def test_factors_between_two_transits_are_those_of_sources_in_both():
    middle = between([table([1.0, 2.0, 3.0]), table([4.0, 5.0, 6.0], 0.02, first=1)], [0.25, 0.75])
    assert middle.source_id.tolist() == ["s001", "s002"]
    assert middle.factor == pytest.approx([0.25 * 2 + 0.75 * 4, 0.25 * 3 + 0.75 * 5])
    assert middle.error == pytest.approx(np.hypot(0.25 * 0.01, 0.75 * 0.02))


def test_scale_is_tied_to_a_primary_by_common_sources():
    options = Config().calibrate
    scale = Scale(1.1, 0.01, 0.02, 50, 0.05, 0.0)
    here, there = table(np.full(40, 1.2)), table(np.full(40, 1.0))
    numbers = tie_scale(scale, here, PRIMARY, there, False, options)
    assert numbers["scale"] == pytest.approx(1.2)
    # 40 equal sources of 1.2 +- 0.01 over 1 +- 0.01, and the bandpass's own error
    noise = np.hypot(0.01, 1.2 * 0.01) / 1.2 / np.sqrt(40 * 0.95)
    assert numbers["scale_err_relative"] == pytest.approx(np.hypot(noise, 0.002), rel=1e-6)
    assert numbers["scale_err_catalog"] == 0
    assert numbers["scale_systematic"] == options.systematic_primary
    assert numbers["scale_anchor"] == "primary"
    # on the bandpass's own tile the sources' noise is the same in both
    numbers = tie_scale(scale, here, PRIMARY, there, True, options)
    assert numbers["scale_err_relative"] == pytest.approx(0.002)


def test_scale_without_common_sources_states_the_catalogue_s_errors_twice():
    options = Config().calibrate
    scale = Scale(1.1, 0.01, 0.02, 50, 0.05, 0.0)
    here, there = table(np.full(40, 1.2)), table(np.full(40, 1.0), first=31)
    numbers = tie_scale(scale, here, PRIMARY, there, False, options)
    assert numbers["scale"] == pytest.approx(1.1 / 1.05)
    assert numbers["scale_err_relative"] == pytest.approx(np.sqrt(0.01**2 + 0.004**2 + 0.002**2))
    assert numbers["scale_err_catalog"] == pytest.approx(np.hypot(0.02, 0.015))
    expected = np.sqrt(options.systematic_primary**2 + 0.02**2 + 0.015**2)
    assert numbers["scale_systematic"] == pytest.approx(expected)


def test_scale_without_a_primary_is_the_catalogue_s():
    options = Config().calibrate
    scale = Scale(1.1, 0.01, 0.02, 50, 0.05, 0.0)
    here, there = table(np.full(40, 1.2)), table(np.full(40, 1.0))
    for known in ({**PRIMARY, "source": "bright"}, {**PRIMARY, "n_scale_source": 12}):
        numbers = tie_scale(scale, here, known, there, False, options)
        assert numbers["scale"] == 1.1
        assert numbers["scale_systematic"] == 0.03
        assert numbers["scale_anchor"] == "catalogue"
    numbers = tie_scale(replace(scale, n_source=12), here, PRIMARY, there, False, options)
    assert numbers["scale"] == 1.0
    assert numbers["scale_err_relative"] == options.unmeasured_scale_err
    assert numbers["scale_anchor"] == "bandpass"
