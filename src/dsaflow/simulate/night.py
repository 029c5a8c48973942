"""Nights of UVH5 files."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from dsaflow.names import raw_name, tile_id
from dsaflow.simulate import effects
from dsaflow.simulate.array import (
    CHANNEL_HZ,
    INTEGRATION_S,
    Array,
    airy,
    apparent_lst_rad,
    channel_grid,
    meridian_enu,
    read_array,
    sky_rate,
    source_enu,
)
from dsaflow.simulate.interference import add_interference, rfi_truth
from dsaflow.simulate.schedule import nights, pointing_track, tile_jd, true_sky
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import Sky, night_factors
from dsaflow.simulate.streams import random
from dsaflow.simulate.sun import sun_visibilities
from dsaflow.simulate.truth import write_reference_catalog, write_truth
from dsaflow.simulate.uvh5 import Frame, write_uvh5
from dsaflow.simulate.visibility import receive, sum_sources

_JD_UNIX = 2440587.5


@dataclass(frozen=True)
class TileModel:
    """Geometry of a tile's sources.

    Attributes
    ----------
    offset, rate : ndarray, shape (n_time, n_source, 3)
        Direction less the fringe-stopping direction, and its rate of change [1/s] within an
        integration: the correlator's centre follows the sky from the middle of an integration.
    sine : ndarray, shape (n_time, n_source)
        Sine of the angle to the beam's centre.
    """

    offset: NDArray
    rate: NDArray
    sine: NDArray


def tile_model(settings: SimulateSettings, sky: Sky, jd: NDArray) -> TileModel:
    """Place a tile's sources relative to the correlator's centre and to the beam's."""
    on = settings.effects
    toward = source_enu(jd, sky.ra_deg, sky.dec_deg)
    centre = meridian_enu(np.radians(settings.declination_deg))
    beam = centre
    if on.beam_error:
        east, north = np.radians(settings.pointing_offset_deg)
        beam = centre + east * np.array([1.0, 0, 0]) + north * np.array([0, centre[2], -centre[1]])
        beam = beam / np.linalg.norm(beam)
    seen = toward
    if not on.beam_motion:
        seen = np.broadcast_to(
            source_enu(jd.mean(keepdims=True), sky.ra_deg, sky.dec_deg), toward.shape
        )
    sine = np.linalg.norm(np.cross(seen, beam), axis=-1)
    rate = sky_rate(toward) - sky_rate(centre)
    return TileModel(toward - centre, rate if on.smearing else np.zeros_like(rate), sine)


def true_visibilities(
    settings: SimulateSettings, sky: Sky, epoch: int, jd: NDArray, baseline_m: NDArray
) -> NDArray:
    """Visibilities before gains and noise [Jy], fringe-stopped as the correlator does.

    Parameters
    ----------
    baseline_m : ndarray, shape (n_baseline, 3)
        x2 - x1, east, north, up [m].

    Returns
    -------
    complex64 ndarray, shape (n_time, n_baseline, 16, n_channel)
        Subbands and channels as the correlator orders them, descending.
    """
    freq_hz = channel_grid(settings.channels_per_subband)
    model = tile_model(settings, sky, jd)
    flat_hz = freq_hz.ravel()
    flux_jy = sky.spectrum_jy(flat_hz) * night_factors(settings, sky, epoch, flat_hz)
    on = settings.effects
    diameter_m = settings.beam_error_diameter_m if on.beam_error else settings.true_diameter_m
    apparent = np.empty((jd.size, flat_hz.size, len(sky.source_id)), dtype=np.float32)
    for time in range(jd.size):
        apparent[time] = flux_jy.T * airy(model.sine[time], flat_hz[:, None], diameter_m)
    apparent = apparent.reshape(jd.size, *freq_hz.shape, -1)
    offset = np.ascontiguousarray(np.swapaxes(model.offset, 1, 2))
    rate = np.ascontiguousarray(np.swapaxes(model.rate, 1, 2))
    out = np.empty((jd.size, baseline_m.shape[0], *freq_hz.shape), dtype=np.complex64)
    # within the beam a channel loses 1e-4 on the longest baseline
    channel_hz = CHANNEL_HZ if on.smearing and on.far_sources else 0.0

    def fill(rows: slice) -> None:
        # threads by times: a slice of the first axis is contiguous
        sum_sources(
            baseline_m, offset[rows], rate[rows], apparent[rows], freq_hz,
            INTEGRATION_S, out[rows], channel_hz,
        )  # fmt: skip

    n_thread = numba.get_num_threads()
    edges = np.linspace(0, jd.size, n_thread + 1).astype(int)
    with ThreadPoolExecutor(n_thread) as pool:
        list(pool.map(fill, [slice(a, b) for a, b in itertools.pairwise(edges)]))
    if on.sun:
        out += sun_visibilities(settings, jd, baseline_m, freq_hz)
    return out


def simulate_tile(
    settings: SimulateSettings, sky: Sky, array: Array, epoch: int, tile: int, incoming: Path
) -> str:
    """Write the 16 files of one tile; returns the tile id."""
    jd = tile_jd(settings, epoch, tile)
    first, second = np.triu_indices(array.used.size)
    ant1, ant2 = array.used[first], array.used[second]
    frame = Frame(array, jd, apparent_lst_rad(jd), ant1, ant2, np.radians(settings.declination_deg))
    baseline_m = array.enu_m[ant2] - array.enu_m[ant1]
    model = true_visibilities(settings, sky, epoch, jd, baseline_m)
    grid = channel_grid(settings.channels_per_subband)
    drift = effects.gains(settings, epoch, tile, len(array.name), jd)
    shape = effects.bandpass(settings, len(array.name), grid)
    dead = np.isin(array.name, settings.dead_antennas) & settings.effects.dead_antennas
    noise_jy = settings.sefd_jy / np.sqrt(2 * CHANNEL_HZ * INTEGRATION_S)
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        days=jd[0] - _JD_UNIX, seconds=-INTEGRATION_S / 2
    )
    # the correlator's nodes stamp their names 1-2 s apart; the headers agree to the bit
    late_s = random(settings, "names", epoch, tile).integers(0, 3, len(grid))
    late_s[0] = 0

    def write(subband: int) -> None:
        freq_hz = grid[subband]
        gain = (drift[..., None] * shape[:, :, subband]).astype(np.complex64)
        rng = random(settings, "noise", epoch, tile, subband)
        size = (jd.size, ant1.size, freq_hz.size, 2)
        if settings.effects.noise:
            data = rng.standard_normal((*size, 2), dtype=np.float32).view(np.complex64)[..., 0]
        else:
            data = np.zeros(size, np.complex64)
        receive(
            np.ascontiguousarray(model[:, :, subband]), gain, ant1, ant2, noise_jy,
            settings.sefd_jy, settings.correlator_unit, data,
        )  # fmt: skip
        add_interference(settings, epoch, tile, freq_hz, ant1 == ant2, data)
        # a dead antenna leaves the digitisers' rounding, far below any sky
        data[:, dead[ant1] | dead[ant2]] *= 1e-6
        stamped = start + timedelta(seconds=int(late_s[subband]))
        write_uvh5(incoming / raw_name(stamped, subband), frame, freq_hz, data)

    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        list(pool.map(write, range(len(grid))))
    return tile_id(start)


def simulate_night(
    settings: SimulateSettings,
    epoch: int,
    incoming: str | os.PathLike,
    antennas_csv: str | os.PathLike,
) -> list[str]:
    """Write all tiles of a night; returns their ids (none for a missing night).

    Each file appears complete under its name (written beside, then renamed).
    """
    if epoch in settings.missing_epochs:
        return []
    folder = Path(incoming)
    folder.mkdir(parents=True, exist_ok=True)
    sky = true_sky(settings)
    tiles = []
    for tile in range(settings.n_tiles):
        full = (epoch, tile) in {tuple(pair) for pair in settings.full_array_tiles}
        array = read_array(antennas_csv, 96 if full else settings.stations)
        tiles.append(simulate_tile(settings, sky, array, epoch, tile, folder))
    return tiles


def run(
    settings: SimulateSettings,
    epochs: list[int] | None,
    incoming: str | os.PathLike,
    antennas_csv: str | os.PathLike = "config/antennas.csv",
) -> list[str]:
    """Simulate nights (all by default); truth and catalogue go into ``truth/`` of the same folder."""
    truth = Path(incoming) / "truth"
    write_truth(settings, truth, antennas_csv)
    write_reference_catalog(settings, truth / "catalog.parquet")
    tiles = []
    for night in nights(settings) if epochs is None else epochs:
        tiles += simulate_night(settings, night, incoming, antennas_csv)
    return tiles


__all__ = [
    "pointing_track",
    "rfi_truth",
    "run",
    "simulate_night",
    "tile_jd",
    "true_sky",
    "true_visibilities",
    "write_reference_catalog",
    "write_truth",
]
