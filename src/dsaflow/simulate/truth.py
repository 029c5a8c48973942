"""The truth of the simulated nights as tables, and the catalogue handed to the pipeline."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsaflow.fileio import atomic_file, write_json
from dsaflow.names import tile_id
from dsaflow.simulate import effects
from dsaflow.simulate.array import INTEGRATION_S, apparent_lst_rad, channel_grid, read_array
from dsaflow.simulate.interference import interferers
from dsaflow.simulate.schedule import nights, tile_jd, true_sky
from dsaflow.simulate.settings import SimulateSettings
from dsaflow.simulate.sky import REFERENCE_HZ, night_factors, reference_catalog

N_BAND = 4


def band_edges_hz(settings: SimulateSettings) -> NDArray:
    """Centres of four equal groups of channels, ascending [Hz]."""
    channels = np.sort(channel_grid(settings.channels_per_subband).ravel())
    return np.array([part.mean() for part in np.array_split(channels, N_BAND)])


def truth_tables(
    settings: SimulateSettings, antennas_csv: str | os.PathLike | None = None
) -> dict[str, dict[str, NDArray]]:
    """Columns of every truth table.

    ``sources``: one row a source, `flux_jy` at 1.4 GHz outside any variation. ``fluxes``: one row a
    source and night: at 1.4 GHz, mean over the channels, and mean over four quarters of them
    (``b0`` the lowest). ``tiles``: ids and times. ``interference``: the boxes of
    `interference.interferers`. With the station table also ``gains`` (one row a tile, station and
    receptor, at mid-tile, without bandpass) and ``bandpass`` (station, receptor, channel).
    """
    sky, all_nights = true_sky(settings), nights(settings)
    channels = np.sort(channel_grid(settings.channels_per_subband).ravel())
    quiet = sky.spectrum_jy(channels)
    by_night = np.array([quiet * night_factors(settings, sky, n, channels) for n in all_nights])
    reference = np.array([REFERENCE_HZ])
    at_reference = [night_factors(settings, sky, n, reference)[:, 0] for n in all_nights]
    n_source = len(sky.source_id)
    bands = {
        f"flux_b{i}_jy": part.mean(axis=2).ravel()
        for i, part in enumerate(np.array_split(by_night, N_BAND, axis=2))
    }
    tables: dict[str, dict[str, Any]] = {
        "sources": {
            "source_id": np.array(sky.source_id),
            "ra_deg": sky.ra_deg,
            "dec_deg": sky.dec_deg,
            "flux_jy": sky.flux_jy,
            "spectral_index": sky.spectral_index,
            "compact": sky.compact,
            "kind": np.array(sky.kind),
        },
        "fluxes": {
            "source_id": np.tile(sky.source_id, len(all_nights)),
            "epoch": np.repeat(all_nights, n_source),
            "flux_1400_jy": (sky.spectrum_jy(reference)[:, 0] * np.array(at_reference)).ravel(),
            "band_flux_jy": by_night.mean(axis=2).ravel(),
            **bands,
        },
        "tiles": _tiles(settings),
        "interference": _interference(settings),
    }
    if antennas_csv is not None:
        names = np.array(read_array(antennas_csv, settings.stations).name)
        tables["gains"] = _gains(settings, names)
        shape = effects.bandpass(settings, names.size, channels).ravel()
        tables["bandpass"] = {
            "station": np.repeat(names, 2 * channels.size),
            "receptor": np.tile(np.repeat(["X", "Y"], channels.size), names.size),
            "freq_hz": np.tile(channels, 2 * names.size),
            "gain_real": shape.real,
            "gain_imag": shape.imag,
        }
    return tables


def _tiles(settings: SimulateSettings) -> dict[str, NDArray]:
    from dsaflow.names import mjd_to_datetime

    keys = [(n, t) for n in nights(settings) for t in range(settings.n_tiles)]
    jd = [tile_jd(settings, *key) for key in keys]
    start = [float(j[0]) - 2400000.5 - 0.5 * INTEGRATION_S / 86400 for j in jd]
    full = {tuple(pair) for pair in settings.full_array_tiles}
    middle = np.array([j.mean() for j in jd])
    return {
        "epoch": np.array([n for n, _ in keys]),
        "number": np.array([t for _, t in keys]),
        "tile": np.array([tile_id(mjd_to_datetime(s)) for s in start]),
        "mid_mjd": middle - 2400000.5,
        "lst_deg": np.degrees(apparent_lst_rad(middle)),
        "stations": np.array([96 if key in full else settings.stations for key in keys]),
    }


def _interference(settings: SimulateSettings) -> dict[str, NDArray]:
    found = [
        (n, t, one)
        for n in nights(settings)
        for t in range(settings.n_tiles)
        for one in interferers(settings, n, t)
    ]
    columns = {"epoch": np.array([n for n, _, _ in found], dtype=int)}
    columns["number"] = np.array([t for _, t, _ in found], dtype=int)
    for name in ("kind", "first", "last", "low_hz", "high_hz", "flux_jy"):
        columns[name] = np.array([getattr(one, name) for _, _, one in found])
    return columns


def _gains(settings: SimulateSettings, names: NDArray) -> dict[str, NDArray]:
    keys = [(n, t) for n in nights(settings) for t in range(settings.n_tiles)]
    value = np.array(
        [
            effects.gains(settings, n, t, names.size, tile_jd(settings, n, t).mean(keepdims=True))[
                0
            ]
            for n, t in keys
        ]
    ).ravel()
    return {
        "epoch": np.repeat([n for n, _ in keys], 2 * names.size),
        "number": np.repeat([t for _, t in keys], 2 * names.size),
        "station": np.tile(np.repeat(names, 2), len(keys)),
        "receptor": np.tile(["X", "Y"], len(keys) * names.size),
        "gain_real": value.real,
        "gain_imag": value.imag,
    }


def write_truth(
    settings: SimulateSettings,
    directory: str | os.PathLike,
    antennas_csv: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Write the tables of `truth_tables` as Parquet and ``truth.json``; returns the latter's content."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(directory)
    tables = truth_tables(settings, antennas_csv)
    for name, columns in tables.items():
        with atomic_file(folder / f"{name}.parquet") as temporary:
            pq.write_table(pa.table({k: pa.array(v) for k, v in columns.items()}), temporary)
    kinds = tables["sources"]["kind"]
    event = np.flatnonzero(np.isin(kinds, ["plasma_lens", "gaussian_dip"]))
    told = settings.event
    summary = {
        "seed": settings.seed,
        "ese": {
            "source_id": str(tables["sources"]["source_id"][event[0]]),
            "kind": told.kind,
            "depth": told.depth,
            "peak_epoch": told.peak_epoch,
            "duration_epochs": told.duration_epochs,
        }
        if event.size
        else None,
    }
    write_json(folder / "truth.json", summary)
    return summary


def write_reference_catalog(settings: SimulateSettings, path: str | os.PathLike) -> None:
    """Write the spoilt catalogue as Parquet: what the pipeline may know of the sky."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = reference_catalog(settings, true_sky(settings))
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    facts = {
        "frequency_hz": repr(REFERENCE_HZ),
        "origin": "simulated",
        "version": f"seed {settings.seed}",
    }
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(facts), temporary)
