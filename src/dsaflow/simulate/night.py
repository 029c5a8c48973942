"""Nights of UVH5 files, their truth, and the catalogue handed to the pipeline."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.fileio import atomic_file, write_json
from dsaflow.names import raw_name, tile_id
from dsaflow.simulate import effects
from dsaflow.simulate.array import (
    CHANNEL_HZ,
    INTEGRATION_S,
    LATITUDE_RAD,
    LONGITUDE_RAD,
    SUBBANDS,
    Array,
    airy,
    channel_grid,
    meridian_enu,
    read_array,
    sky_rate,
    source_enu,
    transit_jd,
)
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import (
    CALIBRATORS,
    Sky,
    make_sky,
    night_factors,
    random,
    reference_catalog,
)
from dsaflow.simulate.uvh5 import Frame, write_uvh5
from dsaflow.simulate.visibility import corrupt, fringe_rate, sum_sources

_SIDEREAL_DAY_D = 86164.0905 / 86400.0
_JD_UNIX = 2440587.5


def tile_jd(settings: SimulateSettings, epoch: int, tile: int) -> NDArray:
    """UTC JD of the middle of each integration of a tile."""
    middle = _first_transit(settings.model_dump_json()) + epoch * _SIDEREAL_DAY_D
    length_d = settings.integrations * INTEGRATION_S / 86400
    start = middle + (tile - 0.5 * settings.n_tiles) * length_d
    return start + (np.arange(settings.integrations) + 0.5) * INTEGRATION_S / 86400


@lru_cache(maxsize=4)
def _first_transit(settings_json: str) -> float:
    settings = SimulateSettings.model_validate_json(settings_json)
    begin = datetime.fromisoformat(settings.start).replace(tzinfo=UTC)
    jd = begin.timestamp() / 86400 + _JD_UNIX
    if settings.calibrator:
        ra_deg, dec_deg, _ = CALIBRATORS[settings.calibrator]
    else:
        ra_deg, dec_deg = settings.centre_ra_deg, settings.declination_deg
    return transit_jd(ra_deg, dec_deg, jd)


def pointing_track(settings: SimulateSettings) -> tuple[NDArray, NDArray]:
    """ICRS position [deg] of the pointing at the start, middle and end of every tile of epoch 0."""
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    jd = np.concatenate([tile_jd(settings, 0, tile)[[0, -1]] for tile in range(settings.n_tiles)])
    toward = meridian_enu(np.radians(settings.declination_deg))
    place = EarthLocation.from_geodetic(LONGITUDE_RAD * u.rad, LATITUDE_RAD * u.rad, 1188.05 * u.m)
    azimuth = 0.0 if toward[1] > 0 else np.pi
    seen = SkyCoord(
        az=np.full(jd.size, azimuth) * u.rad, alt=np.full(jd.size, np.arcsin(toward[2])) * u.rad,
        frame=AltAz(obstime=Time(jd, format="jd"), location=place),
    ).icrs  # fmt: skip
    return seen.ra.deg, seen.dec.deg


@lru_cache(maxsize=4)
def _sky(settings_json: str) -> Sky:
    settings = SimulateSettings.model_validate_json(settings_json)
    return make_sky(settings, pointing_track(settings))


def true_sky(settings: SimulateSettings) -> Sky:
    """The sky of these settings."""
    return _sky(settings.model_dump_json())


@dataclass(frozen=True)
class TileModel:
    """Geometry and apparent brightness of a tile's sources."""

    offset: NDArray
    rate: NDArray
    sine: NDArray


def tile_model(settings: SimulateSettings, sky: Sky, jd: NDArray) -> TileModel:
    """Directions relative to the fringe-stopping centre, and sines of the angle to the beam's centre."""
    toward = source_enu(jd, sky.ra_deg, sky.dec_deg)
    centre = meridian_enu(np.radians(settings.declination_deg))
    beam = centre
    if settings.effects.beam_error:
        east, north = np.radians(settings.pointing_offset_deg)
        beam = centre + east * np.array([1.0, 0, 0]) + north * np.array([0, centre[2], -centre[1]])
        beam = beam / np.linalg.norm(beam)
    sine = np.linalg.norm(np.cross(toward, beam), axis=-1)
    if not settings.effects.beam_motion:
        sine = np.repeat(
            sine.mean(axis=0, keepdims=True) * 0 + sine[[jd.size // 2]], jd.size, axis=0
        )
    rate = fringe_rate(sky_rate(toward), sky_rate(centre))
    return TileModel(toward - centre, rate, sine)


def simulate_tile(
    settings: SimulateSettings, sky: Sky, array: Array, epoch: int, tile: int, incoming: Path
) -> str:
    """Write the 16 files of one tile; returns the tile id."""
    jd = tile_jd(settings, epoch, tile)
    first, second = np.triu_indices(array.used.size)
    ant1, ant2 = array.used[first], array.used[second]
    frame = Frame(array, jd, _lst_rad(jd), ant1, ant2, np.radians(settings.declination_deg))
    model = tile_model(settings, sky, jd)
    gain = effects.gains(settings, epoch, tile, len(array.name), jd)
    rfi = effects.interference(settings, epoch, tile)
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        days=jd[0] - _JD_UNIX, seconds=-INTEGRATION_S / 2
    )
    names = random(settings, "names", epoch, tile)
    for subband, freq_hz in enumerate(channel_grid(settings.channels_per_subband)):
        quiet = sky.spectrum_jy(freq_hz) * night_factors(settings, sky, epoch, freq_hz)
        diameter = (
            settings.beam_error_diameter_m
            if settings.effects.beam_error
            else settings.true_diameter_m
        )
        apparent = quiet.T[None] * airy(model.sine[:, None, :], freq_hz[None, :, None], diameter)
        ideal = sum_sources(
            array.enu_m, ant1, ant2, model.offset, model.rate, apparent.astype(np.float32),
            freq_hz, INTEGRATION_S, settings.effects.smearing,
        )  # fmt: skip
        shape = effects.bandpass(settings, len(array.name), freq_hz)
        total = (gain[..., None] * shape[None]).astype(np.complex64)
        data = np.empty((*ideal.shape, 2), np.complex64)
        corrupt(ideal, total, ant1, ant2, np.float32(settings.correlator_unit), data)
        _add_receiver(
            settings, data, total, ant1, ant2, random(settings, "noise", epoch, tile, subband)
        )
        if settings.effects.rfi:
            _add_rfi(settings, data, rfi, subband, freq_hz, ant1 != ant2)
        if settings.effects.dead_antennas:
            dead = np.isin(array.name, settings.dead_antennas)
            data[:, dead[ant1] | dead[ant2]] *= 1e-6
        # the correlator's nodes stamp their names 1-2 s apart; the headers agree to the bit
        stamped = start + timedelta(seconds=int(names.integers(0, 3)) if subband else 0)
        write_uvh5(incoming / raw_name(stamped, subband), frame, freq_hz, data)
    return tile_id(start)


def _add_receiver(settings, data, gain, ant1, ant2, rng: np.random.Generator) -> None:
    """Add thermal noise to the cross-correlations and system power to the autocorrelations."""
    auto = np.flatnonzero(ant1 == ant2)
    unit = settings.correlator_unit
    power = np.abs(gain[:, ant1[auto]]) ** 2 * (settings.sefd_jy * unit)
    data[:, auto] = np.abs(data[:, auto]) + np.moveaxis(power, 2, 3)
    if not settings.effects.noise:
        return
    sigma = settings.sefd_jy / np.sqrt(2 * CHANNEL_HZ * INTEGRATION_S) * unit
    parts = data.view(np.float32).reshape(*data.shape, 2)
    for time in range(data.shape[0]):
        draw = rng.standard_normal(parts.shape[1:], dtype=np.float32)
        # noise of the receivers passes through the same gains
        level = np.abs(gain[time, ant1]) * np.abs(gain[time, ant2]) * np.float32(sigma)
        draw *= np.moveaxis(level, 1, 2)[..., None]
        draw[auto, ..., 1] = 0
        parts[time] += draw


def _add_rfi(settings, data, rfi, subband: int, freq_hz: NDArray, cross: NDArray) -> None:
    added = effects.rfi_visibilities(rfi, subband, freq_hz, data.shape[0], data.shape[1])
    data += np.where(cross[None, :, None, None], added, np.abs(added)) * np.float32(
        settings.correlator_unit
    )
    if rfi.stuck >= 0:
        data[rfi.stuck] = 40.0 * settings.correlator_unit


def _lst_rad(jd: NDArray) -> NDArray:
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    return (
        Time(jd, format="jd", scale="utc")
        .sidereal_time("apparent", LONGITUDE_RAD * 180 / np.pi)
        .rad
    )


def simulate_night(
    settings: SimulateSettings,
    epoch: int,
    incoming: str | os.PathLike,
    antennas_csv: str | os.PathLike,
) -> list[str]:
    """Write all tiles of a night; returns their ids."""
    folder = Path(incoming)
    folder.mkdir(parents=True, exist_ok=True)
    sky = true_sky(settings)
    tiles = []
    for tile in range(settings.n_tiles):
        full = (epoch, tile) in {tuple(pair) for pair in settings.full_array_tiles}
        array = read_array(antennas_csv, 96 if full else settings.stations)
        tiles.append(simulate_tile(settings, sky, array, epoch, tile, folder))
    return tiles


def write_reference_catalog(settings: SimulateSettings, path: str | os.PathLike) -> None:
    """Write the spoilt catalogue as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = reference_catalog(settings, true_sky(settings))
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    facts = {
        "frequency_hz": "1400000000.0",
        "origin": "simulated",
        "version": f"seed {settings.seed}",
    }
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(facts), temporary)


def truth_tables(settings: SimulateSettings) -> dict[str, Any]:
    """Sources and their true flux by night (1.4 GHz and band mean), and the injected event."""
    sky = true_sky(settings)
    band = channel_grid(settings.channels_per_subband).ravel()
    nights = [n for n in range(settings.n_epochs) if n not in settings.missing_epochs]
    flux = [
        (sky.spectrum_jy(band) * night_factors(settings, sky, n, band)).mean(axis=1) for n in nights
    ]
    event = [i for i, kind in enumerate(sky.kind) if kind in ("plasma_lens", "gaussian_dip")]
    return {"sky": sky, "nights": nights, "band_flux_jy": np.array(flux), "event": event}


def write_truth(settings: SimulateSettings, directory: str | os.PathLike) -> dict[str, Any]:
    """Write sources.parquet and fluxes.parquet; returns a summary with the injected event."""
    import pandas as pd

    folder, truth = Path(directory), truth_tables(settings)
    sky, nights = truth["sky"], truth["nights"]
    folder.mkdir(parents=True, exist_ok=True)
    sources = pd.DataFrame({
        "source_id": sky.source_id, "ra_deg": sky.ra_deg, "dec_deg": sky.dec_deg,
        "flux_jy": sky.flux_jy, "spectral_index": sky.spectral_index,
        "compact": sky.compact, "kind": sky.kind,
    })  # fmt: skip
    fluxes = pd.DataFrame({
        "source_id": np.tile(sky.source_id, len(nights)),
        "epoch": np.repeat(nights, len(sky.source_id)),
        "mid_jd": np.repeat([tile_jd(settings, n, settings.n_tiles // 2).mean() for n in nights], len(sky.source_id)),
        "band_flux_jy": truth["band_flux_jy"].ravel(),
    })  # fmt: skip
    for name, table in (("sources", sources), ("fluxes", fluxes)):
        with atomic_file(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary)
    event = truth["event"]
    return {
        "seed": settings.seed,
        "ese": {
            "source_id": sky.source_id[event[0]], "depth": settings.event.depth,
            "peak_epoch": settings.event.peak_epoch, "duration_epochs": settings.event.duration_epochs,
        } if event else None,
    }  # fmt: skip


def run(
    settings: SimulateSettings,
    epochs: list[int] | None,
    incoming: str,
    truth: str,
    catalog: str,
    antennas_csv: str,
) -> None:
    """Simulate nights (all by default), with truth and catalogue."""
    summary = write_truth(settings, truth)
    write_reference_catalog(settings, catalog)
    nights = epochs or [n for n in range(settings.n_epochs) if n not in settings.missing_epochs]
    for night in nights:
        simulate_night(settings, night, incoming, antennas_csv)
    write_json(Path(truth) / "truth.json", summary)


__all__ = ["SUBBANDS", "run", "simulate_night", "write_reference_catalog", "write_truth"]
