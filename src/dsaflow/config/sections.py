"""One model for each section of the configuration; every field states its unit and its reason."""

from typing import Literal

from pydantic import Field, model_validator

from dsaflow.config.mosaic_sections import (
    Catalog,
    Mosaic,
    Photometry,
    Publish,
    Qa,
    Report,
    Variability,
)
from dsaflow.config.section import Fraction, Positive, Section

__all__ = [
    "Beam",
    "Calibrate",
    "Catalog",
    "Convert",
    "Flag",
    "Image",
    "Instrument",
    "Mosaic",
    "Paths",
    "Photometry",
    "Plan",
    "Publish",
    "Qa",
    "Report",
    "Section",
    "Variability",
]


class Paths(Section):
    """Where things are; relative paths are relative to the working directory."""

    incoming: str = Field(
        "incoming", description="folder in which the correlator writes UVH5 files"
    )
    results: str = Field("results", description="folder of all products but the published ones")
    published: str = Field("published", description="folder of published mosaics")
    antennas: str = Field("config/antennas.csv", description="station table (WGS84)")
    calibrators: str = Field("config/calibrators.csv", description="bandpass and flux calibrators")
    reference_catalog: str = Field(
        "",
        description="Parquet catalogue to use instead of NVSS from VizieR; empty: fetch NVSS (needs network once a strip)",
    )


class Beam(Section):
    """Primary beam: nobody has published a measured one, so it is configuration."""

    effective_diameter_m: Positive = Field(
        4.65,
        description="m; the dish's own diameter, i.e. uniform illumination (FWHM 2.70 deg at 1.405 GHz)",
    )
    pointing_offset_deg: tuple[float, float] = Field(
        (0.0, 0.0),
        description="deg on the sky, east and north; true beam centre less (meridian, header declination), as `fit_beam` measures it",
    )
    table_freq_hz: list[float] = Field(
        default_factory=list,
        description="Hz; frequencies of table_diameter_m, ascending; empty: no table",
    )
    table_diameter_m: list[float] = Field(
        default_factory=list, description="m; effective diameter at each of table_freq_hz"
    )

    @model_validator(mode="after")
    def _same_length(self) -> "Beam":
        if len(self.table_freq_hz) != len(self.table_diameter_m):
            raise ValueError(
                "instrument.beam.table_freq_hz and table_diameter_m must have the same length"
            )
        return self


class Instrument(Section):
    """The array as the pipeline believes it to be."""

    sefd_jy: Positive = Field(
        6500.0, description="Jy per antenna; dsa110-antpos (5800 is also quoted)"
    )
    beam: Beam = Field(default_factory=Beam)


class Plan(Section):
    """Which files make a tile, which tiles make a mosaic."""

    group_tolerance_s: Positive = Field(
        60.0,
        description="s; names within this propose one group (they jitter by 1-2 s); headers decide",
    )
    settle_s: float = Field(
        600.0,
        ge=0,
        description="s; a group with fewer than 16 files is admitted when its newest file is older",
    )
    strip_tolerance_deg: Positive = Field(
        0.1, description="deg; apparent declinations within this are one strip"
    )
    mosaic_tiles: int = Field(10, ge=1, description="tiles in a mosaic; 10 tiles last 51.5 min")
    min_tiles: int = Field(3, ge=1, description="fewest usable tiles of a mosaic")
    centred: bool = Field(
        True, description="make a mosaic centred on each calibrator transit with data"
    )
    sliding: bool = Field(
        False, description="make overlapping mosaics over the whole of each night"
    )
    calibrators: list[str] = Field(
        default_factory=list,
        description="names of calibrators to centre mosaics on; empty: the brightest of the strip in each night",
    )
    calibrator_min_response: Fraction = Field(
        0.3,
        description="of the beam's peak; a calibrator that transits further down its flank is out of reach, "
        "since an error of the beam would become one of the bandpass",
    )
    bandpass_candidates: int = Field(
        3,
        ge=1,
        description="transit tiles before and after a tile whose bandpass it may use (the nearest may turn out bad)",
    )
    bandpass_fallback_days: Positive = Field(
        30.0,
        description="d; reach where no transit is within calibrate.bandpass_validity_hours",
    )

    @model_validator(mode="after")
    def _enough_tiles(self) -> "Plan":
        if self.min_tiles > self.mosaic_tiles:
            raise ValueError(
                f"plan.min_tiles ({self.min_tiles}) exceeds plan.mosaic_tiles ({self.mosaic_tiles}): "
                "lower the first or raise the second"
            )
        return self


class Convert(Section):
    """UVH5 to Measurement Set."""

    min_subbands: int = Field(12, ge=1, le=16, description="of 16; fewer reject the group")
    max_position_error_m: Positive = Field(
        0.05,
        description="m; antenna positions further than this from the station table reject the group",
    )
    max_uvw_error_m: Positive = Field(
        0.5,
        description="m; file uvw that disagree more with the antenna positions, in length or direction, reject the group",
    )
    max_declination_change_deg: Positive = Field(
        0.01,
        description="deg; pointing declinations that differ more within the group reject it (1/300 of the beam)",
    )
    max_nan_fraction: Fraction = Field(
        0.5, description="of the visibilities; more NaN reject the group"
    )


class Flag(Section):
    """RFI, dead antennas and outliers."""

    max_flagged_fraction: Fraction = Field(
        0.6, description="of the cross-correlations; more reject the tile"
    )
    dead_antenna_ratio: Positive = Field(
        0.2,
        description="of the median amplitude; antennas (per receptor) below this are flagged as dead",
    )
    array_excess: Positive = Field(
        0.08,
        description="fraction; a time, channel or cell whose amplitude, median over all baselines, exceeds its smooth level by less is never flagged for all: the sky's own change stays below",
    )
    clip_sigma: Positive = Field(
        6.0,
        description="robust sigma of an amplitude; outliers beyond are clipped after AOFlagger (1e-6 of clean data)",
    )


class Calibrate(Section):
    """Bandpass, gains and the amplitude scale."""

    min_calibrator_jy: Positive = Field(
        1.0, description="Jy at 1.4 GHz, apparent; fainter sources anchor no bandpass"
    )
    model_min_jy: Positive = Field(
        0.005,
        description="Jy, apparent; fainter catalogue sources are left out of the model",
    )
    uv_min_lambda: float = Field(
        0.0,
        ge=0,
        description="wavelengths; shorter baselines are not used in solutions; measured on 96 stations and 238 sources, bandpass errors are 0.78 % rms at 0, 0.82 % at 250, 0.95 % at 1000 (theory 0.75 %)",
    )
    min_snr: Positive = Field(5.0, description="of an antenna's solution; below it is flagged")
    phase_interval_s: Positive = Field(
        60.0, description="s; phase solutions before the bandpass and per tile"
    )
    amplitude_gains: bool = Field(
        False,
        description="solve per-antenna amplitudes on each tile; off by default so that no source's own variability is calibrated away",
    )
    bandpass_validity_hours: Positive = Field(
        24.0, description="h; a bandpass may be used this far from its tile, either way"
    )
    gain_validity_hours: Positive = Field(
        1.0, description="h; gains may be used this far from their tile, either way"
    )
    reference_antennas: list[str] = Field(
        default_factory=lambda: [
            "103",
            "104",
            "105",
            "106",
            "107",
            "108",
            "109",
            "110",
            "111",
            "112",
            "113",
            "114",
            "115",
            "116",
        ],
        description="reference antenna and its fall-backs, in order; then the antenna with the most data",
    )
    scale_min_sources: int = Field(
        30, ge=3, description="catalogue sources needed for a tile's amplitude scale"
    )
    scale_max_weight: Fraction = Field(
        0.1, description="largest weight of one source in a tile's amplitude scale"
    )
    default_spectral_index: float = Field(
        -0.7, description="S ~ nu^alpha where the catalogue has none"
    )
    phase_good_snr: Positive = Field(
        20.0,
        description="median S/N of a phase solution on a tile; where phase_interval_s does not reach it, longer intervals are used (1/S/N^2 of every flux is lost to the noise of the phases)",
    )
    max_flagged_solutions: Fraction = Field(
        0.3, description="of the solutions of live receptors; more reject the solutions"
    )
    bandpass_fallback_days: Positive = Field(
        30.0, description="d; last rung of the ladder: the nearest validated bandpass of the strip"
    )
    systematic_primary: Fraction = Field(
        0.01,
        description="relative; absolute error of the flux scale from a primary calibrator (Perley & Butler 2017, 1-2 GHz)",
    )
    systematic_catalog: Fraction = Field(
        0.03,
        description="relative; absolute error where the catalogue's compact sources set the scale",
    )
    unmeasured_scale_err: Fraction = Field(
        0.1,
        description="relative; error of a tile's scale where too few sources measure it (it is then left at 1)",
    )
    drift_per_hour: Fraction = Field(
        0.01,
        description="relative; drift of the common gain added for gains taken from a neighbour",
    )


class Image(Section):
    """Gridding, deconvolution and restoring."""

    engine: Literal["dsaflow", "wsclean"] = Field(
        "dsaflow",
        description="imaging back-end; wsclean must be on PATH and knows only a static beam",
    )
    size: int = Field(
        2400, ge=64, multiple_of=2, description="pixels a side; even, for the gridder"
    )
    pixel_arcsec: Positive = Field(
        8.0, description="arcsec; 4 pixels or more across the minor axis of the beam"
    )
    field_response: Fraction = Field(
        0.2,
        description="beam response that must lie inside the image at the lowest frequency; 0.2 is the mosaics' cut",
    )
    uv_fraction: Fraction = Field(
        0.8,
        description="of the pixel grid's Nyquist frequency; longer baselines are left out, CLEAN cannot hold them",
    )
    robust: float = Field(0.5, ge=-2, le=2, description="Briggs robustness")
    average_hz: Positive | None = Field(
        1e6,
        description="Hz; channels that touch are averaged to at most this before gridding: four of the telescope's make a "
        "gridding three times faster and take 0.2 and 0.4 % off a restored source where the beam is 50 and 20 %; null: none",
    )
    average_s: Positive | None = Field(
        None,
        description="s; integrations likewise; null: none, since two of the telescope's would take 1.2 % off a restored source at the 20 % response",
    )
    smearing_warn: Fraction = Field(
        0.03,
        description="loss of a source's dirty peak by channel width and integration at the field_response of the beam; above, a warning",
    )
    slant: bool = Field(
        False,
        description="image in the plane of the array (FITS: SIN with PV2_1, PV2_2), which leaves little w to the gridder; not with wsclean",
    )
    beam_terms: int = Field(
        4,
        ge=1,
        le=20,
        description="terms of the moving beam in the major cycle, one degridding of the tile each; the largest "
        "error of the beam is 5, 3, 0.7 and 0.1 % of its peak with 3, 4, 5 and 8; 1 is a static beam",
    )
    channel_blocks: int = Field(
        4, ge=1, le=16, description="sub-bands, equal parts of the instrument's band"
    )
    model_spectral_index: float = Field(
        -0.7, description="spectral index of the CLEAN model within the band"
    )
    fit_index: bool = Field(
        False,
        description="measure that index from catalogue sources above 200 sigma: one that is wrong by 0.16 leaves 12 sigma of sidelobes at 8.6 Jy",
    )
    clean_sigma: Positive = Field(5.0, description="sigma; first CLEAN, without mask")
    mask_sigma: Positive = Field(
        1.5, description="sigma; second CLEAN, within the mask of the first and the catalogue"
    )
    place_sigma: Positive | None = Field(
        20.0,
        description="sigma of the residual; brighter catalogue sources are taken off at their places before CLEAN, whose components lie on pixels; null: none",
    )
    catalog_mask_sigma: Positive = Field(
        3.0,
        description="sigma of the first CLEAN's residual; catalogue sources that should be brighter are in the second mask, else their forced fluxes are 4 % low at 5 to 10 sigma",
    )
    minor_gain: Fraction = Field(0.1, description="of a peak, taken by one CLEAN component")
    major_gain: Fraction = Field(
        0.8,
        description="of the peak, cleaned at most before the residual is made anew; high sidelobes lower it",
    )
    minor_iterations: int = Field(
        50000, ge=1, description="bound on minor iterations of each CLEAN"
    )
    major_iterations: int = Field(12, ge=1, description="bound on major iterations of each CLEAN")
    gridding_accuracy: Positive = Field(
        1e-4, description="of the visibilities' L2 norm; 1e-5 is the limit of single precision"
    )
    far_sources: bool = Field(
        True,
        description="subtract bright sources outside the image, the A-team and the Sun before imaging, where they are seen through sidelobes (engine dsaflow)",
    )
    far_min_jy: Positive = Field(
        1.0,
        description="Jy; catalogue sources of at least this outside the image are looked for: through a sidelobe of 2 % they reach the noise of the mosaics",
    )
    far_radius_deg: Positive = Field(
        10.0, description="deg from the pointing, within which catalogue sources are looked for"
    )
    far_sigma: Positive = Field(
        5.0, description="sigma of a far source's mean apparent flux from which it is subtracted"
    )
    noise_box_beams: Positive = Field(
        25.0, description="beams a side of the boxes of the noise map; some hundred values in each"
    )
    noise_low: float = Field(
        0.6, ge=0, description="noise over the radiometer value; below, the tile is rejected"
    )
    noise_warn: Positive = Field(
        3.0, description="noise over the radiometer value; above, a warning"
    )
    noise_high: Positive = Field(
        50.0,
        description="noise over the radiometer value; above, the tile is rejected (images so far have 30 to 50)",
    )
