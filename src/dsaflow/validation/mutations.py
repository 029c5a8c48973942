"""The physics broken on purpose in the pipeline, one error at a time: each must show against the truth."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import dsaflow.calibration.apply
import dsaflow.calibration.predict
import dsaflow.calibration.skymodel
import dsaflow.geometry
import dsaflow.imaging.tile
import dsaflow.instrument
import dsaflow.transit
import dsaflow.visibilities.group
from dsaflow.errors import ConfigError, DataRejected
from dsaflow.validation.onetile import Check, OneTile

Patch = Callable[[Any, str, Any], None]


@dataclass(frozen=True)
class Mutation:
    """One error: what it replaces, and the first stage that it reaches."""

    apply: Callable[[Patch], None]
    stage: str

    @property
    def name(self) -> str:
        """The function's name in words."""
        return self.apply.__name__.replace("_", " ")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Make the error for as long as the block lasts."""
        with ExitStack() as stack:
            self.apply(
                lambda target, name, new: stack.enter_context(mock.patch.object(target, name, new))
            )
            yield


@dataclass(frozen=True)
class Outcome:
    """What a run showed: its checks, or why the pipeline refused to make an image."""

    name: str
    checks: list[Check]
    refused: str = ""

    @property
    def caught_by(self) -> list[str]:
        """Names of the checks that the run breaks."""
        broken = [check.name for check in self.checks if not check.holds]
        return [f"refused: {self.refused}"] if self.refused else broken


def run_mutation(chain: OneTile, mutation: Mutation, folder: Path) -> Outcome:
    """Run the chain from the mutation's stage on, into a folder of its own."""
    try:
        with mutation.applied():
            return Outcome(mutation.name, chain.run(mutation.stage, folder))
    except (DataRejected, ConfigError) as refusal:
        return Outcome(mutation.name, [], str(refusal))


def run_all(folder: Path, seeds: Iterable[int], only: str = "") -> tuple[bool, str]:
    """Make the errors one by one on each seed's tile.

    Parameters
    ----------
    folder : Path
        For the data; each seed's are removed when it is done.
    seeds : iterable of int
        Of noise, gains and sky.
    only : str
        Make the errors with this in their name.

    Returns
    -------
    bool
        Every unbroken chain holds every bound, and every error breaks one.
    str
        The table in Markdown.
    """
    lines = ["| seed | error in the pipeline | value (bound) | caught by |", "|---|---|---|---|"]
    good = True
    for seed in seeds:
        place = folder / f"seed-{seed}"
        chain = OneTile(place, seed=seed, sky_seed=seed + 4)
        unbroken = Outcome("none", chain.base)
        good &= not unbroken.caught_by
        lines.append(_row(seed, unbroken, "" if not unbroken.caught_by else "**BOUND NOT MET**: "))
        for mutation in MUTATIONS:
            if only in mutation.name:
                broken = place / mutation.apply.__name__
                outcome = run_mutation(chain, mutation, broken)
                shutil.rmtree(broken, ignore_errors=True)
                good &= bool(outcome.caught_by)
                lines.append(_row(seed, outcome, "" if outcome.caught_by else "**NOT CAUGHT**"))
        shutil.rmtree(place)
    return good, "\n".join(lines)


def _row(seed: int, outcome: Outcome, remark: str) -> str:
    numbers = ", ".join(f"{c.name} {c.value:.4g} ({c.bound:.3g})" for c in outcome.checks)
    return f"| {seed} | {outcome.name} | {numbers} | {remark}{', '.join(outcome.caught_by)} |"


def beam_squared(patch: Patch) -> None:
    """Power for voltage twice over."""
    true = dsaflow.instrument.airy_power
    patch(dsaflow.instrument, "airy_power", lambda *a: true(*a) ** 2)


def beam_omitted(patch: Patch) -> None:
    """No beam at all; the check that the image holds the beam would only hide what fluxes show."""
    patch(
        dsaflow.instrument,
        "airy_power",
        lambda separation, freq, *_: np.ones(np.broadcast(separation, freq).shape),
    )
    patch(dsaflow.imaging.tile, "check_field", lambda *_: None)


def beam_omitted_in_calibration(patch: Patch) -> None:
    """The sky model is the catalogue; the image is right."""

    def no_beam(vis, ra_deg, dec_deg, beam, freq_hz):
        return np.ones((len(vis.time_mjd), len(ra_deg), len(freq_hz)))

    patch(dsaflow.calibration.skymodel, "beam_response", no_beam)
    patch(dsaflow.calibration.predict, "beam_response", no_beam)


def static_beam(patch: Patch) -> None:
    """The beam stands over the tile's centre instead of drifting 1.2 deg through it."""
    true = dsaflow.transit.meridian_icrs

    def still(time_mjd, dec_deg, *site):
        middle = np.full(np.shape(time_mjd), np.mean(time_mjd))
        return true(middle, dec_deg, *site)

    patch(dsaflow.transit, "meridian_icrs", still)


def static_beam_in_clean(patch: Patch) -> None:
    """CLEAN subtracts sources that do not vary while they cross the beam."""
    true = dsaflow.imaging.tile.BeamModel
    patch(
        dsaflow.imaging.tile,
        "BeamModel",
        lambda gridder, drift, weight, terms, *more: true(gridder, drift, weight, 1, *more),
    )


def sidereal_time_for_right_ascension(patch: Patch) -> None:
    """The beam's centre at (sidereal time, declination of date), taken as ICRS."""

    def of_date(time_mjd, apparent_dec_deg, site=dsaflow.geometry.DSA110):
        lst = dsaflow.geometry.local_apparent_sidereal_time(time_mjd, site)
        ra = np.degrees(lst).reshape(np.shape(time_mjd))
        return ra, np.broadcast_to(apparent_dec_deg, ra.shape)

    patch(dsaflow.transit, "meridian_icrs", of_date)


def catalogue_places_taken_as_of_date(patch: Patch) -> None:
    """Hour angles without precession, nutation and aberration."""

    def of_date(time_mjd, ra_deg, dec_deg, site=dsaflow.geometry.DSA110):
        time_mjd, ra, dec = np.broadcast_arrays(time_mjd, np.radians(ra_deg), np.radians(dec_deg))
        lst = dsaflow.geometry.local_apparent_sidereal_time(np.ravel(time_mjd), site)
        return (lst.reshape(ra.shape) - ra + np.pi) % (2 * np.pi) - np.pi, dec

    patch(dsaflow.geometry, "hour_angle_declination", of_date)


def sign_of_w_in_phasing(patch: Patch) -> None:
    """Baselines toward the source counted away from it, where data are phased."""
    true = dsaflow.geometry.projected_baselines
    patch(dsaflow.geometry, "projected_baselines", lambda *a, **k: true(*a, **k) * [1, 1, -1])


def sign_of_w_in_imaging(patch: Patch) -> None:
    """The same, where data are gridded."""
    true = dsaflow.imaging.tile.Gridder

    def flipped(uvw_m, *arguments, **options):
        return true(uvw_m * [1, 1, -1], *arguments, **options)

    patch(dsaflow.imaging.tile, "Gridder", flipped)


def _gains_replaced_by(patch: Patch, change: Callable) -> None:
    true = dsaflow.calibration.apply.divide_gains
    patch(
        dsaflow.calibration.apply,
        "divide_gains",
        lambda data, flags, gain, vis: true(data, flags, change(gain), vis),
    )


def receptors_swapped_before_application(patch: Patch) -> None:
    """X data take the gains of Y."""
    _gains_replaced_by(patch, lambda gain: gain[..., ::-1])


def amplitudes_of_receptors_swapped(patch: Patch) -> None:
    """The same with phases right: nothing but the 20 % between the receptors' gains shows."""
    _gains_replaced_by(patch, lambda gain: np.abs(gain[..., ::-1]) * np.exp(1j * np.angle(gain)))


def two_percent_of_flux(patch: Patch) -> None:
    """All fluxes 2 % low."""
    _gains_replaced_by(patch, lambda gain: gain * np.sqrt(1.02))


def subbands_in_the_order_of_their_names(patch: Patch) -> None:
    """sb00 is the highest frequency, not the lowest."""
    true = dsaflow.visibilities.group._subband_grid

    def by_name(headers):
        freq_hz, channels = true(headers)
        return freq_hz, channels[::-1]

    patch(dsaflow.visibilities.group, "_subband_grid", by_name)


def one_pixel(patch: Patch) -> None:
    """The image one pixel to the west."""
    true = dsaflow.imaging.tile.image_visibilities

    def shifted(*arguments, **options):
        images = true(*arguments, **options)
        planes = {name: np.roll(getattr(images, name), 1, axis=1) for name in ("image", "residual")}
        return replace(images, **planes)

    patch(dsaflow.imaging.tile, "image_visibilities", shifted)


MUTATIONS = (
    Mutation(beam_squared, "solve"),
    Mutation(beam_omitted, "solve"),
    Mutation(beam_omitted_in_calibration, "solve"),
    Mutation(static_beam, "solve"),
    Mutation(static_beam_in_clean, "image"),
    Mutation(sidereal_time_for_right_ascension, "solve"),
    Mutation(catalogue_places_taken_as_of_date, "convert"),
    Mutation(sign_of_w_in_phasing, "convert"),
    Mutation(sign_of_w_in_imaging, "image"),
    Mutation(receptors_swapped_before_application, "apply"),
    Mutation(amplitudes_of_receptors_swapped, "apply"),
    Mutation(two_percent_of_flux, "apply"),
    Mutation(subbands_in_the_order_of_their_names, "convert"),
    Mutation(one_pixel, "image"),
)
