"""Gates of one tile's image from the numbers of its verdict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dsaflow.verdict import Gate

if TYPE_CHECKING:
    from dsaflow.config import Config


def judge_tile(numbers: Mapping[str, Any], config: "Config") -> list[Gate]:
    """Judge a tile's image: noise two-sided against theory, flagged fraction, beam.

    Parameters
    ----------
    numbers : mapping
        ``noise_jy``, ``radiometer_jy``, and, where they are known, ``flagged_fraction``,
        ``beam_major_arcsec`` and ``beam_minor_arcsec``.
    config : Config

    Returns
    -------
    list of Gate
    """
    options = config.qa
    ratio = numbers["noise_jy"] / numbers["radiometer_jy"]
    gates = [
        Gate.measure("noise_over_radiometer", ratio, options.noise_low, options.noise_high),
        Gate.measure("noise_warning", ratio, high=options.noise_warn, failing="warn"),
    ]
    if "flagged_fraction" in numbers:
        gates.append(flagged_gate(numbers["flagged_fraction"], config))
    if "beam_major_arcsec" in numbers:
        axis_ratio = numbers["beam_major_arcsec"] / numbers["beam_minor_arcsec"]
        gates.append(
            Gate.measure(
                "beam_axis_ratio", axis_ratio, 1.0, options.beam_axis_ratio, failing="warn"
            )
        )
    return gates


def flagged_gate(fraction: float, config: "Config") -> Gate:
    """Flagged fraction of the cross-correlations: none at all is as suspect as most."""
    return Gate.measure(
        "flagged_fraction", fraction, 1e-6, config.qa.flagged_fraction, failing="warn"
    )
