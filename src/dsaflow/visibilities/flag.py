"""Flagging of one tile: interference, dead antennas and outliers, into a file of its own."""

import logging
import os
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.config import Config
from dsaflow.config.sections import Flag
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.instrument import TELESCOPE
from dsaflow.verdict import Gate, Verdict
from dsaflow.visibilities import detectors
from dsaflow.visibilities.container import Visibilities
from dsaflow.visibilities.dominant import subtract_dominant_source
from dsaflow.visibilities.flagfile import write_flags
from dsaflow.visibilities.ms import read_ms
from dsaflow.visibilities.noise import antenna_noise, baseline_noise, masked_median
from dsaflow.visibilities.skylevel import subtract_sky

LOG = logging.getLogger(__name__)
# Robust scatter (1.4826 MAD) of a Rayleigh amplitude, in sigma of one component.
_RAYLEIGH_SCATTER = 0.664


def flag_tile(ms_path: str | os.PathLike, flags_path: str | os.PathLike, config: Config) -> Verdict:
    """Flag a converted tile and write the flag file.

    Parameters
    ----------
    ms_path : path
        Written by the conversion; only read.
    flags_path : path
    config : Config

    Returns
    -------
    Verdict
        Its numbers state the flagged fraction by antenna, channel and time.

    Raises
    ------
    DataRejected
        NOTHING_FLAGGED where the flagger found nothing at all, which real noise does not allow (in
        data of other telescopes, which come flagged: where nothing is flagged at all); ALL_FLAGGED
        where too little is left.
    """
    vis = read_ms(ms_path)
    flags, numbers = flag_visibilities(vis, config.flag)
    fraction = float(flags.mean())
    gate = Gate.measure("flagged_fraction", fraction, high=config.flag.max_flagged_fraction)
    own = vis.telescope == TELESCOPE
    if (numbers["newly_flagged_fraction"] if own else fraction) == 0.0:
        raise DataRejected(
            ReasonCode.NOTHING_FLAGGED, f"the flagger found nothing in {flags.size} visibilities"
        )
    if gate.verdict == "reject":
        raise DataRejected(
            ReasonCode.ALL_FLAGGED,
            f"{fraction:.1%} flagged, at most {config.flag.max_flagged_fraction:.0%} allowed",
        )
    write_flags(flags_path, flags)
    return Verdict(gates=[gate], numbers={"flagged_fraction": fraction} | numbers)


def flag_visibilities(vis: Visibilities, options: Flag) -> tuple[NDArray, dict[str, Any]]:
    """Flag one tile's visibilities.

    Returns
    -------
    flags : bool ndarray, shape of ``vis.data``
        Those of the input included.
    numbers : dict
        Fractions by antenna, channel, time and detector; dead antennas by polarisation.
    """
    flags = vis.flags.copy()
    found: dict[str, Any] = {"dead_antennas": {}, "fraction_by_detector": {}}
    for pol, name in enumerate(vis.polarization):
        report = _flag_polarization(vis, pol, flags[..., pol], options)
        found["dead_antennas"][name] = report.pop("dead_antennas")
        for detector, fraction in report.items():
            found["fraction_by_detector"].setdefault(detector, {})[name] = fraction
    new = np.count_nonzero(flags) - np.count_nonzero(vis.flags)
    found["newly_flagged_fraction"] = new / flags.size
    return flags, found | flag_statistics(vis, flags)


def flag_statistics(vis: Visibilities, flags: NDArray) -> dict[str, Any]:
    """Flagged fraction by antenna (name), channel and time."""
    by_baseline = flags.mean(axis=(0, 2, 3))
    by_antenna = {}
    for index, name in enumerate(vis.antenna_name):
        mine = (vis.antenna1 == index) | (vis.antenna2 == index)
        by_antenna[name] = round(float(by_baseline[mine].mean()), 5) if mine.any() else 1.0
    return {
        "fraction_by_antenna": by_antenna,
        "fraction_by_channel": np.round(flags.mean(axis=(0, 1, 3)), 5),
        "fraction_by_time": np.round(flags.mean(axis=(1, 2, 3)), 5),
    }


def _flag_polarization(
    vis: Visibilities, pol: int, flags: NDArray, options: Flag
) -> dict[str, Any]:
    """Flag one polarisation in place, shape (n_time, n_baseline, n_channel); report by detector."""
    data = np.ascontiguousarray(vis.data[..., pol])
    amplitude = np.abs(data)
    report: dict[str, Any] = {}
    before = np.count_nonzero(flags)

    def count(detector: str) -> None:
        nonlocal before
        after = np.count_nonzero(flags)
        report[detector] = (after - before) / flags.size
        before = after

    flags[detectors.stuck_integrations(amplitude)] = True
    count("stuck")
    spectrum = masked_median(amplitude, flags).T
    typical = masked_median(spectrum, ~np.isfinite(spectrum))
    dead = detectors.dead_antennas(
        typical, vis.antenna1, vis.antenna2, vis.n_antenna, options.dead_antenna_ratio
    )
    report["dead_antennas"] = [vis.antenna_name[i] for i in np.flatnonzero(dead)]
    flags[:, dead[vis.antenna1] | dead[vis.antenna2]] = True
    count("dead")
    good = ~(dead[vis.antenna1] | dead[vis.antenna2])
    if flags[:, good].all():
        return report
    _flag_cells(amplitude, flags, good, options.array_excess)
    raw, noise = _noise(data, flags, vis, dead)
    if subtract_dominant_source(data, noise, flags, vis.antenna1, vis.antenna2):
        amplitude = np.abs(data)
        _flag_cells(amplitude, flags, good, options.array_excess)
        raw, noise = _noise(data, flags, vis, dead)
    del data
    usable = np.isfinite(noise) & (noise > 0)
    flags |= ~usable | detectors.noisy_channels(np.where(usable, noise, np.nan))
    flags |= detectors.uneven_channels(raw[good], noise[good], _gaps(flags, good))
    scaled = np.divide(amplitude, np.where(usable, noise, 1), out=amplitude)
    level = detectors.array_level(scaled, good)
    flags |= detectors.array_channels(
        level, int(np.count_nonzero(good)), _gaps(flags, good), options.array_excess
    )
    count("array")
    bad = detectors.antenna_detector(scaled, flags, vis.antenna1, vis.antenna2, vis.n_antenna)
    flags |= bad[:, vis.antenna1] | bad[:, vis.antenna2]
    count("antenna")
    contiguous = bool(np.ptp(np.diff(vis.freq_hz)) < 0.1 * vis.channel_width_hz) and bool(
        abs(vis.freq_hz[1] - vis.freq_hz[0]) < 1.5 * vis.channel_width_hz
    )
    subtract_sky(scaled, flags, contiguous)
    run_aoflagger(scaled, flags, np.flatnonzero(good))
    count("aoflagger")
    flags |= scaled > options.clip_sigma * _RAYLEIGH_SCATTER
    count("clip")
    return report


def _noise(
    data: NDArray, flags: NDArray, vis: Visibilities, dead: NDArray
) -> tuple[NDArray, NDArray]:
    """Sigma of each baseline and channel, by itself and as a product of antennas."""
    raw = baseline_noise(data, flags)
    return raw, antenna_noise(raw, vis.antenna1, vis.antenna2, ~dead)


def _gaps(flags: NDArray, good: NDArray) -> NDArray:
    """Times and channels without data."""
    return np.asarray(flags[:, good].all(axis=1))


def _flag_cells(amplitude: NDArray, flags: NDArray, good: NDArray, excess: float) -> None:
    """Flag on all baselines the cells in which the good ones are too strong, in place."""
    live = ~_gaps(flags, good).all(axis=0)
    if live.any():
        level = detectors.array_level(amplitude, good)[:, live]
        bad = detectors.array_cells(level, int(np.count_nonzero(good)), excess)
        flags[:, :, live] |= bad[:, None]


def run_aoflagger(excess: NDArray, flags: NDArray, baselines: NDArray) -> None:
    """Run AOFlagger with this instrument's strategy on each baseline, adding to `flags` in place.

    Parameters
    ----------
    excess : float32 ndarray, shape (n_time, n_baseline, n_channel)
        Amplitudes in units of the noise, less their smooth level.
    flags : bool ndarray, same shape
        Those given are kept, and their samples are not looked at.
    baselines : int ndarray
        Which to run on.

    Notes
    -----
    SumThreshold and the scale-invariant rank operator (Offringa et al. 2010, 2012).
    """
    # first: with aoflagger's own casacore loaded before it, python-casacore aborts the process
    import casacore.tables  # noqa: F401  # isort: skip
    import aoflagger

    n_time, _, n_channel = excess.shape
    flagger = aoflagger.AOFlagger()
    with as_file(files("dsaflow.visibilities") / "dsa110.lua") as strategy_file:
        strategy = flagger.load_strategy_file(str(strategy_file))
    image = flagger.make_image_set(n_time, n_channel, 1)
    nothing = flagger.make_flag_mask(n_time, n_channel, False)
    for baseline in baselines:
        values = excess[:, baseline].T.astype(np.float64)
        mine = flags[:, baseline].T
        if mine.all():
            continue
        # What is flagged already takes values of the rest: AOFlagger's own treatment of missing
        # samples was seen to flag everything where whole integrations are missing.
        values[mine] = np.resize(values[~mine], np.count_nonzero(mine))
        image.set_image_buffer(0, values)
        flags[:, baseline] |= strategy.run(image, nothing).get_buffer().T
