"""Tables that more than one command prints."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dsaflow.cli.common import print_table, say
from dsaflow.runs.times import utc_text

if TYPE_CHECKING:
    from dsaflow.runs.mosaics import RequestedMosaic


def print_request(mosaic: "RequestedMosaic") -> None:
    """Plan of a requested mosaic: its tiles, how far from the transit, which are missing."""
    rows: list[tuple[float, str, str]] = [
        (minutes, tile, "") for tile, minutes in zip(mosaic.tiles, mosaic.offset_min, strict=True)
    ]
    rows += [(minutes, "", "missing") for minutes in mosaic.missing_min]
    middle = "transit" if mosaic.kind == "centred" else "middle"
    say(
        f"{mosaic.group_id}: {len(mosaic.tiles)} of {mosaic.n_tiles} tiles of {mosaic.strip} "
        f"about the {middle} of {mosaic.centre} at {utc_text(mosaic.mid_mjd)}"
    )
    print_table(
        "",
        ["tile", f"min from {middle}", ""],
        [[tile, f"{minutes:+.1f}", note] for minutes, tile, note in sorted(rows)],
    )


def print_transits(rows: Iterable[dict[str, Any]]) -> None:
    """Transits, as `dsaflow.runs.transits.transits` lists them."""
    print_table(
        "Transits",
        ["calibrator", "transit (UTC)", "data", "tiles", "mosaic", ""],
        [
            [
                row["calibrator"],
                row["transit_utc"],
                row["status"],
                f"{row['tiles']} of {row['wanted']}" if row["tiles"] else "",
                row["group_id"],
                row["state"] or row["reason"],
            ]
            for row in rows
        ],
    )


def print_gates(gates: Iterable[dict[str, Any]]) -> None:
    """Gates with their values and limits."""
    print_table(
        "Gates",
        ["gate", "value", "low", "high", "unit", "verdict"],
        [
            [
                gate["name"],
                *(_number(gate[key]) for key in ("value", "low", "high")),
                gate["unit"],
                gate["verdict"],
            ]
            for gate in gates
        ],
    )


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.4g}"
