"""Forced photometry on request, with the pipeline's own fits, in a process of its own.

The kernels hold the interpreter's lock: inside the service they would keep every stream waiting. The
process reads a JSON request from its standard input and writes the result to its standard output.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError, DataRejected, EnvironmentProblem, ReasonCode
from dsaflow.names import product

if TYPE_CHECKING:
    from dsaflow.api.requests import Position
    from dsaflow.api.settings import Service
    from dsaflow.config import Config

TIMEOUT_S = 300.0
KEYS = ("image", "noise", "coverage", "subbands")
# A catalogue source this near to a position, in beams, is taken for the source at the position.
SAME_SOURCE_BEAMS = 0.5
_COLUMNS = (
    "ra_deg", "dec_deg", "mjd", "flux_jy", "flux_err_jy", "scale_err", "abs_err_frac", "snr",
    "is_limit", "upper_limit_jy", "local_rms_jy", "background_jy", "n_blend", "n_tiles",
    "beam_response", "qa",
)  # fmt: skip


@dataclass(frozen=True)
class Planes:
    """Where a mosaic's planes are, and the catalogue of its strip (empty: not made)."""

    kind: str
    paths: dict[str, str]
    catalog: str


def find(here: "Service", group_id: str) -> Planes:
    """Find the published planes of a mosaic, else the staged ones.

    Raises
    ------
    ApiError
        404: neither is there; 410: retracted.
    """
    from dsaflow.api import files
    from dsaflow.api.errors import ApiError
    from dsaflow.publish import strip_of

    kind, root = "published", here.published
    try:
        folder = files.published_folder(here, group_id)
    except ApiError as error:
        if error.code != "NOT_PUBLISHED":
            raise
        kind, root, folder = "staged", here.results, files.staged_folder(here, group_id)
    paths = {key: str(files.within(root, folder / files.MOSAIC_FILES[key])) for key in KEYS}
    try:
        strip = strip_of(paths["image"])
    except ConfigError:  # header-only: a rejected mosaic
        raise DataRejected(ReasonCode.NO_DATA, f"{group_id} holds no image") from None
    catalog = Path(product("catalog", str(here.results), strip=strip))
    return Planes(kind, paths, str(catalog) if catalog.exists() else "")


def run(here: "Service", planes: dict[str, Planes], positions: list["Position"]) -> dict[str, Any]:
    """Measure in a process of its own.

    Raises
    ------
    EnvironmentProblem
        It failed, or took too long.
    """
    request = {
        "config": here.config.model_dump(mode="json"),
        "mosaics": {name: vars(p) for name, p in planes.items()},
        "positions": [p.model_dump() for p in positions],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dsaflow.api.forced"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"the measurement took more than {TIMEOUT_S:.0f} s: ask for fewer mosaics at once"
        ) from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise EnvironmentProblem(f"the measurement failed: {last[0]}")
    return json.loads(done.stdout)


def measure_positions(
    mosaic: dict[str, str], catalog_path: str, positions: list[dict[str, Any]], config: "Config"
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Forced fits at positions on one mosaic, the catalogue's sources fitted along.

    Parameters
    ----------
    mosaic : dict
        Paths: image, noise, coverage, subbands.
    catalog_path : str
        Reference catalogue; empty: none, then neighbours are not modelled.
    positions : list of dict
        name, ra_deg, dec_deg.
    config : Config

    Returns
    -------
    rows : list of dict
        Columns of the photometry table, `position`, and `bands`.
    missing : list of (position, reason)
        Those outside the mosaic.
    """
    import numpy as np

    from dsaflow.catalog import read_catalog
    from dsaflow.photometry.measure import measure
    from dsaflow.photometry.sources import locate, read_mosaic

    read = read_mosaic(mosaic)
    wanted = _as_catalog(positions)
    if catalog_path:
        catalog = read_catalog(catalog_path)
        catalog = catalog.select(catalog.flux_jy >= config.photometry.min_flux_jy)
        beam_deg = read.pixel_deg * float(
            np.sqrt(8 * np.log(2)) * np.nanmedian(read.local[1] * read.local[3]) ** 0.25
        )
        others = catalog.select(~_near_any(catalog, wanted, SAME_SOURCE_BEAMS * beam_deg))
        both = _joined(others, wanted)
    else:
        both = wanted
    targets = locate(read, both, config.photometry.blend_beams)
    inside = set(targets.catalog.source_id.tolist())
    missing = [(n, "outside the mosaic") for n in wanted.source_id.tolist() if n not in inside]
    if len(missing) == len(wanted):
        return [], _plain_missing(missing)
    columns, _, _ = measure(read, targets, config)
    rows = []
    for k in np.flatnonzero(np.char.startswith(columns["source_id"].astype(str), _MARK)):
        row = {name: columns[name][k] for name in _COLUMNS}
        row["position"] = str(columns["source_id"][k]).removeprefix(_MARK)
        row["bands"] = [
            {
                "freq_hz": read.band_freq_hz[b],
                "flux_jy": columns[f"flux_b{b}_jy"][k],
                "flux_err_jy": columns[f"flux_err_b{b}_jy"][k],
            }
            for b in range(len(read.band_freq_hz))
        ]
        rows.append(row)
    return rows, _plain_missing(missing)


_MARK = "position:"


def _plain_missing(missing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.removeprefix(_MARK), reason) for name, reason in missing]


def _as_catalog(positions: list[dict[str, Any]]) -> Any:
    import numpy as np

    from dsaflow.catalog import Catalog

    zero = np.zeros(len(positions))
    return Catalog(
        np.array([_MARK + p["name"] for p in positions], dtype=str),
        np.array([p["ra_deg"] for p in positions], float),
        np.array([p["dec_deg"] for p in positions], float),
        zero, zero, np.full(len(positions), np.nan), zero.astype(bool),
    )  # fmt: skip


def _near_any(catalog: Any, wanted: Any, radius_deg: float) -> Any:
    import numpy as np

    from dsaflow.geometry import separation_rad

    near = np.zeros(len(catalog), bool)
    for ra_deg, dec_deg in zip(wanted.ra_deg, wanted.dec_deg, strict=True):
        apart = separation_rad(catalog.ra_deg, catalog.dec_deg, ra_deg, dec_deg)
        near |= apart < np.radians(radius_deg)
    return near


def _joined(catalog: Any, more: Any) -> Any:
    import numpy as np

    from dsaflow.catalog.table import COLUMNS

    both = {n: np.concatenate([getattr(catalog, n), getattr(more, n)]) for n in COLUMNS}
    return replace(catalog, **both)


def main() -> None:
    """Read a request from standard input, write the result to standard output."""
    from dsaflow.config import load_config
    from dsaflow.fileio import to_plain

    request = json.load(sys.stdin)
    config = load_config(request["config"])
    positions = request["positions"]
    measurements, missing = [], []
    for group_id, planes in request["mosaics"].items():
        try:
            rows, lost = measure_positions(planes["paths"], planes["catalog"], positions, config)
        except DataRejected as error:
            rows, lost = [], [(p["name"], str(error)) for p in positions]
        shared = {"group_id": group_id, "product": planes["kind"]}
        measurements += [row | shared for row in rows]
        missing += [{"position": name, "group_id": group_id, "reason": why} for name, why in lost]
    json.dump(to_plain({"measurements": measurements, "missing": missing}), sys.stdout)


if __name__ == "__main__":
    main()
