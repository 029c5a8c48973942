"""Settings of the forward model; part of the main configuration as section `simulate`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class Effects(_Model):
    """What spoils the data; each can be switched alone."""

    noise: bool = Field(True, description="thermal noise of the SEFD")
    bandpass: bool = Field(
        True,
        description="level, phase, ripple, edge roll-off, jumps between subbands, by antenna and receptor",
    )
    gain_drift: bool = Field(
        True, description="gains that drift in time, by antenna and receptor and in common"
    )
    beam_motion: bool = Field(
        True, description="sources move through the beam during a tile; off: beam of mid-tile"
    )
    smearing: bool = Field(
        True,
        description="loss by the sky's motion within an integration, and of far sources within a channel",
    )
    rfi: bool = Field(True, description="broadband streak, narrow band, one stuck integration")
    dead_antennas: bool = Field(
        True, description="the antennas in dead_antennas deliver next to nothing"
    )
    far_sources: bool = Field(
        False,
        description="bright sources out to 10 deg through the sidelobes, one of them as bright as Cas A",
    )
    sun: bool = Field(False, description="the quiet Sun through the sidelobes, by day")
    beam_error: bool = Field(
        False, description="true beam differs from the dish: true_diameter_m, pointing_offset_deg"
    )
    spoilt_catalog: bool = Field(True, description="the catalogue handed out is the truth spoilt")


class Event(_Model):
    """The extreme scattering event injected into one compact source."""

    kind: Literal["plasma_lens", "gaussian_dip", "none"] = Field(
        "plasma_lens", description="template"
    )
    flux_jy: Positive = Field(
        0.35, description="Jy at 1.4 GHz; the source's flux outside the event"
    )
    offset_deg: tuple[float, float] = Field(
        (0.25, 0.35), description="deg; east and north of the strip's centre"
    )
    peak_epoch: float = Field(12.0, description="epoch of the event's centre")
    duration_epochs: Positive = Field(7.0, description="epochs between the half-depth points")
    depth: float = Field(0.45, gt=0, lt=1, description="largest fractional loss of flux at 1.4 GHz")


class SimulateSettings(_Model):
    """One strip, seen on consecutive sidereal days; every random draw comes from `seed`."""

    seed: int = Field(20260125, ge=0, description="the one seed")
    start: str = Field(
        "2026-01-20T00:00:00",
        description="UTC; the first transit of the centre after this is epoch 0",
    )
    declination_deg: float = Field(
        16.1, ge=-40, le=85, description="deg; apparent pointing declination of the strip"
    )
    calibrator: str = Field(
        "3C138",
        description="calibrator whose transit the nights are centred on; empty: centre_ra_deg",
    )
    centre_ra_deg: float = Field(
        80.0, ge=0, lt=360, description="deg, ICRS; used without a calibrator"
    )
    n_epochs: int = Field(24, ge=1, description="nights")
    missing_epochs: list[int] = Field(default_factory=list, description="nights without data")
    n_tiles: int = Field(3, ge=1, description="consecutive tiles a night, centred on the transit")
    stations: int = Field(
        48,
        ge=3,
        le=96,
        description="active stations used: the core's two arms, evenly thinned, then outriggers",
    )
    full_array_tiles: list[tuple[int, int]] = Field(
        default_factory=list, description="[epoch, tile] simulated with all 96 stations"
    )
    channels_per_subband: int = Field(
        48, ge=1, le=48, description="channels of 244.140625 kHz, evenly chosen of the 48"
    )
    integrations: int = Field(24, ge=2, description="integrations of 12.884902 s in a tile")
    sefd_jy: Positive = Field(6500.0, description="Jy per antenna")
    correlator_unit: Positive = Field(
        0.04, description="correlator units per Jy: data are not in Jy before calibration"
    )
    min_flux_jy: Positive = Field(0.002, description="Jy at 1.4 GHz; faintest simulated source")
    max_flux_jy: Positive = Field(3.0, description="Jy at 1.4 GHz; brightest of the population")
    sun_flux_jy: Positive = Field(
        5e5, description="Jy; the Sun's flux where effects.sun is on: 50 solar flux units"
    )
    max_sources: int = Field(
        300, ge=1, description="the brightest (apparent) of the population are kept"
    )
    field_radius_deg: Positive = Field(
        2.4, description="deg; population out to this from the strip's pointing track"
    )
    source_table: str = Field(
        "", description="CSV (ra_deg, dec_deg, flux_jy, spectral_index) instead of the population"
    )
    event: Event = Field(default_factory=Event)
    variable_fraction: float = Field(
        0.06, ge=0, le=1, description="of the sources that flare, vary slowly or scintillate"
    )
    dead_antennas: list[str] = Field(
        default_factory=lambda: ["42", "86"],
        description="station numbers; effective when among the stations used",
    )
    antenna_gain_rms: float = Field(
        0.03, ge=0, description="fraction; drift of each antenna's amplitude over 6 h"
    )
    common_gain_rms: float = Field(
        0.01, ge=0, description="fraction; drift common to all antennas over 6 h"
    )
    phase_drift_deg: float = Field(
        20.0, ge=0, description="deg rms; drift of each antenna's phase over 6 h"
    )
    epoch_gain_rms: float = Field(
        0.03, ge=0, description="fraction of flux; error common to all data of a night"
    )
    true_diameter_m: Positive = Field(4.65, description="m; the beam's true effective diameter")
    beam_error_diameter_m: Positive = Field(
        4.2, description="m; used instead when effects.beam_error is on"
    )
    pointing_offset_deg: tuple[float, float] = Field(
        (0.07, 0.07), description="deg east and north, when effects.beam_error is on"
    )
    effects: Effects = Field(default_factory=Effects)
