"""Sections for what is made of mosaics: quality, publishing, photometry, variability, report."""

from typing import Literal

from pydantic import Field

from dsaflow.config.section import Fraction, Positive, Section


class Mosaic(Section):
    """Coaddition."""

    beam_cut: Fraction = Field(
        0.2, description="of the beam's peak; pixels below are left out of a tile"
    )
    max_beam_deviation: Positive = Field(
        0.05,
        description="of the mean restoring beam's axes; tiles that differ by more give a warning, "
        "since one beam stands in the mosaic's header",
    )


class Qa(Section):
    """Limits of the gates; each gate is two-sided where both sides are wrong.

    Limits are physical (what may be published); where a gate rests on few sources its limit is
    widened by `false_alarm_sigma` of the measurement's own error, so that chance seldom rejects.
    """

    noise_low: Positive = Field(
        0.7,
        description="of the thermal noise; less is a fault of scale or weights (false alarms < 1e-6)",
    )
    noise_warn: Positive = Field(
        1.6, description="times thermal noise with confusion; more is a warning"
    )
    noise_high: Positive = Field(
        3.0, description="times thermal noise with confusion; more rejects (false alarms < 1e-6)"
    )
    noise_map_factor: float = Field(
        1.5,
        gt=1,
        description="the noise map may differ from the scatter in the image by this factor",
    )
    noise_region_spread: float = Field(
        2.0,
        gt=1,
        description="largest over smallest noise, in units of the noise map, of nine regions",
    )
    confusion_jy_per_arcmin2: float = Field(
        2.0e-4,
        ge=0,
        description="Jy/beam at 1 GHz for a beam of 1 arcmin x 1 arcmin (Condon 2002); scaled by the "
        "beam's area and nu^-0.7: 0.11 mJy/beam for 68 x 37 arcsec at 1.4 GHz",
    )
    negative_peak_sigma: Positive = Field(
        8.0, description="sigma; deeper negatives are artefacts (noise alone: 1e-10 over 1e5 beams)"
    )
    negative_over_positive: Fraction = Field(
        0.1,
        description="of the highest peak; deeper negatives reject once twice negative_peak_sigma",
    )
    false_alarm_sigma: Positive = Field(
        3.0, description="sigma of the measurement added to its limit: 0.3 % false alarms a gate"
    )
    min_sources: int = Field(5, ge=3, description="sources below which a gate is not measured")
    flux_min_snr: Positive = Field(
        10.0, description="expected S/N of sources for flux scale and astrometry"
    )
    flux_intrinsic_scatter: Fraction = Field(
        0.1, description="of the flux; variability and resolution between catalogue and mosaic"
    )
    flux_scale_warn: Fraction = Field(0.05, description="of the catalogue's scale; warning beyond")
    flux_scale_reject: Fraction = Field(0.1, description="of the catalogue's scale; rejects beyond")
    flux_scale_err: Fraction = Field(0.05, description="error of the scale; warning beyond")
    beam_slope: Fraction = Field(
        0.15,
        description="change of the flux ratio from the beam's middle to its flank; more is a wrong beam",
    )
    beam_flux_change: Fraction = Field(
        0.02,
        description="largest error of a flux within response 0.3 that the assumed beam may make, as measured by sources in several tiles; more rejects",
    )
    beam_min_sources: int = Field(
        12, ge=4, description="sources above 15 sigma below which the beam is not measured"
    )
    offset_warn_arcsec: Positive = Field(
        2.0, description="arcsec; systematic offset, warning beyond"
    )
    offset_reject_arcsec: Positive = Field(
        4.0, description="arcsec; systematic offset, rejects beyond"
    )
    position_scatter_arcsec: Positive = Field(
        5.0, description="arcsec; robust scatter of one coordinate, warning beyond"
    )
    completeness: Fraction = Field(
        0.93,
        description="found of the isolated sources due (4 % of a catalogue vary or are spurious)",
    )
    completeness_snr: Positive = Field(
        10.0, description="expected S/N from which a source is due; found means 5 sigma"
    )
    beam_axis_ratio: float = Field(4.0, gt=1, description="major over minor axis, warning beyond")
    beam_size_low_arcsec: Positive = Field(
        20.0, description="arcsec; geometric mean of the axes (50 at Briggs 0.5 with all stations)"
    )
    beam_size_high_arcsec: Positive = Field(
        120.0, description="arcsec; larger means that the outriggers are missing"
    )
    source_shape: Fraction = Field(
        0.1,
        description="of the beam's width; bright sources wider or narrower by more are a warning",
    )
    flagged_fraction: Fraction = Field(
        0.5, description="of the visibilities, mean of the tiles; more (or none) is a warning"
    )
    sun_distance_deg: float = Field(20.0, ge=0, description="deg; nearer is a warning")
    moon_distance_deg: float = Field(5.0, ge=0, description="deg; nearer is a warning")


class Photometry(Section):
    """Forced photometry."""

    min_flux_jy: float = Field(
        0.0025, ge=0, description="Jy; fainter catalogue sources are not measured"
    )
    blend_beams: Positive = Field(
        1.5,
        description="beams (full width at half maximum in the neighbour's direction); "
        "catalogue sources closer than this are fitted together",
    )
    fit_radius_beams: Positive = Field(
        1.0,
        description="beams; pixels within this of a source enter its fit "
        "(a Gaussian beam has 6 % of its peak there)",
    )
    background_beams: tuple[float, float] = Field(
        (1.5, 6.0),
        description="beams; inner and outer edge of the ellipse in which the local background "
        "is measured (about 140 beams: it adds 2 % to the error)",
    )
    limit_sigma: Positive = Field(
        3.0,
        description="sigma; below it a source is an upper limit, at max(flux, 0) + this many sigma",
    )
    counts_limit_jy: Positive = Field(
        0.0034,
        description="Jy; the catalogue is complete above this (99 % for NVSS), and its sources there "
        "set the counts of those too faint to be listed: the confusion in absolute errors",
    )
    counts_slope: float = Field(
        1.8,
        gt=1,
        lt=3,
        description="of the differential counts n(S) ~ S^-slope below min_flux_jy; 1.6 and 2.0 change "
        "the confusion by -20 and +22 %",
    )
    fit_offset: bool = Field(
        True,
        description="measure one astrometric offset a mosaic from bright isolated sources, "
        "and force the fits at the shifted positions",
    )
    offset_min_snr: Positive = Field(
        20.0, description="S/N; sources below it do not enter the astrometric offset"
    )
    offset_min_sources: int = Field(
        5, ge=3, description="sources; with fewer no astrometric offset is applied"
    )


class KnownVariable(Section):
    """A source known to vary: an AGN, a pulsar, a star."""

    name: str = Field(min_length=1, description="as the candidates' table shall call it")
    ra_deg: float = Field(ge=0, lt=360, description="deg, ICRS")
    dec_deg: float = Field(ge=-90, le=90, description="deg, ICRS")


class Variability(Section):
    """Light curves and the search for extreme scattering events."""

    min_epochs: int = Field(
        8,
        ge=5,
        description="epochs; sources with fewer are not searched (an event needs a baseline)",
    )
    reference_min_snr: Positive = Field(
        10.0, description="median S/N of a reference of the epoch's flux scale; logarithms need it"
    )
    min_references: int = Field(
        10, ge=3, description="references; epochs with fewer keep scale 1 and are flagged"
    )
    reference_max_excess: Positive = Field(
        0.1,
        description="fraction; sources that vary more than this beyond their errors are no references",
    )
    max_epoch_excess: Positive = Field(
        0.1,
        description="fraction; epochs whose references scatter more beyond their errors are flagged",
    )
    scale_max_order: int = Field(
        2,
        ge=0,
        le=4,
        description="highest degree of the epoch scale's polynomial over the mosaic; cross-validated",
    )
    scale_field_deg: Positive = Field(
        20.0,
        description="deg of RA; a longer strip is cut into equal fields, each with an epoch scale of its own",
    )
    search_min_snr: Positive = Field(
        5.0, description="median S/N of an epoch; fainter sources are not searched"
    )
    min_event_epochs: int = Field(
        3, ge=3, description="epochs that must each favour an event; also its least duration"
    )
    max_single_contribution: Fraction = Field(
        0.6, description="of an event's significance; one epoch may not contribute more"
    )
    max_mismatch: float = Field(
        0.1,
        gt=0,
        le=0.3,
        description="fraction of S/N that an event between the bank's templates may lose; the best are then moved off the grid",
    )
    duration_ratio: float = Field(
        2.0, gt=1, le=2, description="largest step of the templates' durations"
    )
    longest_event_days: Positive = Field(
        365.0,
        description="d; longest duration searched; half of the data's span if that is shorter",
    )
    baseline_drift_per_year: Positive = Field(
        0.1, description="1/yr; standard deviation of the slope of a source's baseline"
    )
    variable_rms: Positive = Field(
        0.05,
        description="fraction; typical amplitude of correlated variations of the sources that vary at all",
    )
    variable_spread_dex: Positive = Field(
        0.1, description="dex; scatter of that amplitude between sources"
    )
    variable_log_odds: float = Field(
        3.0, ge=0, description="ln of the odds that a source is quiet against that it is a variable"
    )
    rival_log_odds: float = Field(
        10.0,
        ge=0,
        description="ln of the odds against a step, a lasting decline or a flare in a source",
    )
    lens_strengths: list[Positive] = Field(
        default_factory=lambda: [1.0, 3.0, 10.0, 30.0],
        description="alpha of the plasma lenses in the bank (Clegg et al. 1998); caustics above 2.24",
    )
    lens_impacts: list[Positive] = Field(
        default_factory=lambda: [0.5, 1.0, 1.5, 2.0],
        description="lens radii; closest approach of the track to round lenses of the same strengths",
    )
    lens_source_size: Positive = Field(
        0.2, description="lens radii; Gaussian sigma of the lensed source, rounds off the cusps"
    )
    false_alarms_per_survey: Positive = Field(
        0.01, lt=1, description="candidates by chance in all of a strip's sources together"
    )
    permutations: int = Field(
        20, ge=0, description="block permutations of the epochs (more where there are few sources)"
    )
    block_epochs: int = Field(
        4, ge=1, description="epochs; length of a permuted block, longer than correlated noise"
    )
    seed: int = Field(110, ge=0, description="of the permutations: the same input, the same tables")
    neighbour_radius_deg: Positive = Field(
        1.0, description="deg; neighbours that dip with a candidate show a gain error"
    )
    neighbour_number: int = Field(12, ge=3, description="nearest neighbours compared")
    neighbour_min: int = Field(
        3, ge=1, description="neighbours needed for the veto; candidates with fewer are flagged"
    )
    beam_error_slope: float = Field(
        0.3,
        ge=0,
        description="d ln flux / d ln response for the largest error of the beam thought possible (2.70 or 3.15 deg: "
        "20 % at half power); dips that a change of the source's response could make are no candidates",
    )
    edge_distance_deg: Positive = Field(
        0.1, description="deg; candidates nearer to the mosaic's edge in their event are flagged"
    )
    known_variables: list[KnownVariable] = Field(
        default_factory=list,
        description="name, ra_deg, dec_deg of each; candidates there are flagged and named",
    )
    known_radius_arcsec: Positive = Field(
        30.0, description="arcsec; a source this near to a known variable is it"
    )
    efficiency_table: str = Field(
        "",
        description="efficiency.parquet of `dsaflow ese characterise`, quoted beside each candidate; empty: not quoted",
    )
    max_plots: int = Field(50, ge=0, description="candidates that get a plot, by rank")


class Catalog(Section):
    """The reference catalogue."""

    vizier_table: str = Field("VIII/65/nvss", description="VizieR table (NVSS; Condon et al. 1998)")
    half_height_deg: Positive = Field(
        4.0,
        description="deg; sources this far from the strip's declination are kept: the beam's first null and precession",
    )
    bright_min_jy: Positive = Field(
        1.0,
        description="Jy; sources of at least this are kept further out, since they are seen through sidelobes",
    )
    bright_half_height_deg: Positive = Field(
        10.5,
        description="deg; how far, in declination and in RA beyond the strip's tiles: image.far_radius_deg and precession",
    )
    timeout_s: Positive = Field(300.0, description="s; for one request to VizieR")


class Publish(Section):
    """Publishing."""

    link: bool = Field(True, description="hard-link where the file system allows, else copy")
    warned: bool = Field(
        True,
        description="publish mosaics with warnings too; false: only those that pass every gate",
    )


class Report(Section):
    """The HTML report."""

    mosaics: Literal["latest", "all"] = Field(
        "latest", description="mosaics to draw figures of: the newest of each strip, or all"
    )
    products: Literal["figures", "all"] = Field(
        "figures",
        description="in the HTML report: figures, gates and candidates, or every product "
        "(the report holds their bytes: a small run's 100 MB)",
    )
