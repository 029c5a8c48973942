"""Models of sources, light curves, candidates and measurements; Jy, degrees, MJD (UTC)."""

from typing import Literal

from pydantic import Field, model_validator

from dsaflow.api.models import Answer, Page, Request

Number = float | None


class Source(Answer):
    """A source of the catalogue with its variability over all epochs of a strip."""

    source_id: str
    strip: str
    ra_deg: float
    dec_deg: float
    separation_deg: Number = Field(None, description="from the centre of the cone")
    n_epochs: int
    n_limits: int
    median_flux_jy: Number
    mean_flux_jy: Number
    median_snr: Number
    eta: Number = Field(description="reduced chi-squared about the mean (Swinbank et al. 2015)")
    v: Number = Field(description="std / mean (Swinbank et al. 2015)")
    vs: Number = Field(description="most significant pair (Mooley et al. 2016)")
    m: Number = Field(description="modulation of that pair (Mooley et al. 2016)")
    vs_epoch_1: int
    vs_epoch_2: int
    chi2: Number
    chi2_dof: int
    sigma_dev: Number
    is_reference: bool
    reference_excess: Number
    compact: bool
    isolated: bool
    ese_searched: bool
    ese_log_likelihood_ratio: Number
    ese_depth: Number
    ese_class: str = Field(
        "", description="event; no_recovery or no_onset: only one side of it lies within the data"
    )
    ese_veto: str


class Band(Answer):
    """A sub-band's flux at one epoch."""

    freq_hz: Number
    flux_jy: Number
    flux_err_jy: Number
    norm_flux: Number = None
    norm_err: Number = None


class BandDepth(Answer):
    """A candidate's depth in one sub-band."""

    freq_hz: Number
    depth: Number
    depth_err: Number


class Epoch(Answer):
    """One measurement of a light curve."""

    epoch: int = Field(description="sidereal-day number")
    mjd: Number
    group_id: str
    qa: str
    used: bool
    is_limit: bool
    upper_limit_jy: Number
    flux_jy: Number = Field(description="as measured, without the epoch's scale")
    flux_err_jy: Number
    scale: Number = Field(description="epoch's flux scale, without this source")
    scale_err: Number
    epoch_excess: Number
    norm_flux: Number = Field(description="flux / scale / median over the epochs")
    norm_err: Number = Field(description="1 sigma, the scale's error included")
    bands: list[Band]


class LightCurve(Answer):
    """All epochs of a source in one strip."""

    source_id: str
    strip: str
    ra_deg: float
    dec_deg: float
    epochs: list[Epoch]


class LightCurves(Answer):
    """Light curves of a source, one a strip that sees it."""

    curves: list[LightCurve]


class Review(Answer):
    """What somebody thinks of a candidate."""

    candidate_id: str
    verdict: str
    reviewer: str
    note: str
    time_s: float


class ReviewRequest(Request):
    """What you think of a candidate; reviews add up, none is overwritten."""

    verdict: Literal["confirmed", "rejected", "uncertain"]
    reviewer: str = Field(min_length=1, max_length=80)
    note: str = Field("", max_length=2000)


class Candidate(Answer):
    """A candidate for an extreme scattering event."""

    candidate_id: str
    strip: str
    rank: int
    source_id: str
    ra_deg: float
    dec_deg: float
    significance: Number = Field(description="sqrt(2 ln LR): sigma of a single trial")
    log_likelihood_ratio: Number
    false_alarms_per_survey: Number = Field(description="expected above this ln LR, all sources")
    false_alarms_per_survey_low: Number = Field(None, description="5th percentile of it")
    false_alarms_per_survey_high: Number = Field(None, description="95th percentile of it")
    false_alarms_per_source_year: Number = Field(
        None, description="per year of observed time of a source"
    )
    q_value: Number = Field(
        None, description="least false discovery rate of a list that holds this candidate"
    )
    probability_real: Number = Field(
        None, description="event and no false alarm, for 0.017 events a source-year"
    )
    efficiency: Number = Field(
        None, description="share of such events that the search finds; null: not known"
    )
    efficiency_low: Number = Field(None, description="95 % interval")
    efficiency_high: Number = Field(None, description="95 % interval")
    start_mjd: Number
    start_err_days: Number = None
    start_epoch: int
    mid_mjd: Number
    mid_err_days: Number = None
    duration_days: Number
    duration_err_days: Number = None
    depth: Number
    depth_err: Number
    event_class: str = Field("event", description="event, no_recovery or no_onset")
    template: str
    fitted_with: str = Field(
        "template", description="what start, duration and depth are of: template or fitted lens"
    )
    median_snr: Number = Field(None, description="of an epoch")
    baseline_flux_jy: Number
    excess: Number
    n_epochs: int
    n_epochs_event: int = Field(0, description="measured between start and end")
    epochs_event: str = Field("", description="their sidereal-day numbers")
    largest_contribution: Number
    lens_strength: Number = Field(
        None,
        description="alpha at the band's centre (Clegg et al. 1998) if all of the source is lensed",
    )
    lens_strength_err: Number = None
    lens_crossing_days: Number = Field(
        None, description="the lens's 1/e half width over its transverse velocity"
    )
    lens_crossing_err_days: Number = None
    lens_source_size: Number = Field(None, description="Gaussian sigma in lens radii")
    lens_delta_chi2: Number = Field(
        None, description="chi-squared beyond that of a lens that covers part of the source"
    )
    chromatic_ratio: Number
    chromatic_ratio_err: Number
    chromatic_log_ratio: Number = Field(description="ln LR of a plasma lens against achromatic")
    chromatic_expected_lens: Number = Field(
        None, description="the same on average were the best lens true"
    )
    chromatic_expected_achromatic: Number = Field(
        None, description="the same were the best achromatic event true"
    )
    chromatic_label: str = Field(description="chromatic, achromatic, undecided")
    neighbour_depth: Number
    neighbour_depth_err: Number
    n_neighbours: int
    n_neighbours_dipping: int
    beam_response_event: Number = Field(None, description="median over the event's epochs")
    beam_response_outside: Number = Field(None, description="median over the others")
    edge_distance_deg: Number = Field(None, description="least distance to a mosaic's edge")
    n_tiles_event: Number = None
    n_tiles_outside: Number = None
    n_warned: int = Field(0, description="epochs of the event with a quality warning")
    warned_share_outside: Number = None
    n_blend: int = Field(-1, description="most sources fitted together in the event")
    known_variable: str = Field("", description="name of the known variable at this position")
    sun_distance_deg: Number = Field(None, description="least during the event")
    galactic_latitude_deg: Number = None
    flags: str
    bands: list[BandDepth]
    reviews: list[Review] = Field(description="newest first")
    links: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _link(self) -> "Candidate":
        base = f"/api/ese/candidates/{self.candidate_id}"
        self.links = {"self": base}
        self.links |= {name: f"{base}/{name}" for name in ("lightcurve", "plot.png", "review")}
        return self


class Bound(Answer):
    """One bound of the search beside what was measured."""

    what: str
    bound: str
    measured: str
    met: bool


class Characterisation(Answer):
    """What simulated seasons and injected events say of the search (`snakemake ese_completeness`)."""

    threshold_ln_lr: Number
    n_event_free_seasons: int
    source_years: Number = Field(description="of the event-free seasons")
    n_injected: int = Field(description="events")
    bounds: list[Bound]


class EventSearch(Answer):
    """How a strip was searched: what its list of candidates is worth."""

    strip: str
    n_searched: int = Field(description="sources")
    n_epochs: int
    n_candidates: int
    n_vetoed: dict[str, int] = Field(
        description="dips above the threshold that are none, by reason"
    )
    unfinished: list[str] = Field(
        default_factory=list,
        description="sources above the threshold of whose event only the fall or the return is seen",
    )
    source_years: Number = Field(None, description="observed time of the sources searched")
    threshold_ln_lr: Number = Field(description="ln LR that a candidate exceeds; null: no search")
    false_alarms_per_survey: Number = Field(None, description="expected above the threshold")
    false_alarms_per_source_year: Number = None
    span_days: Number = Field(None, description="from the first epoch to the last")
    step_days: Number = Field(None, description="typical step between epochs")
    characterisation: Characterisation | None = Field(None, description="null: not made")


class CandidatePage(Page[Candidate]):
    """Candidates, and the searches that they are from."""

    searches: list[EventSearch] = Field(description="one a strip")


class Measurement(Answer):
    """A forced fit at one position on one mosaic."""

    position: str
    group_id: str
    product: Literal["published", "staged"]
    ra_deg: float
    dec_deg: float
    mjd: Number
    flux_jy: Number
    flux_err_jy: Number = Field(description="1 sigma, without the errors of the scale")
    scale_err: Number = Field(description="relative, epoch to epoch")
    abs_err_frac: Number = Field(description="relative, absolute scale")
    snr: Number
    is_limit: bool
    upper_limit_jy: Number
    local_rms_jy: Number
    background_jy: Number
    n_blend: int = Field(description="sources fitted together")
    n_tiles: int
    beam_response: Number
    qa: str
    bands: list[Band]


class Missing(Answer):
    """A position that could not be measured on a mosaic."""

    position: str
    group_id: str
    reason: str


class Measured(Answer):
    """Result of forced fits at positions on mosaics."""

    measurements: list[Measurement]
    missing: list[Missing]
