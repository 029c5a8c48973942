# Contract: every rule file starts from CONFIG (typed), PLAN (frozen for this run) and product();
# the log and benchmark folders are the path variables <logs> and <benchmarks>. Every run with
# `--logger dsaflow`, which the profiles have, goes into the run record.
from string import Formatter

from dsaflow.config import load_config
from dsaflow.names import WILDCARD_PATTERNS
from dsaflow.names import product as product_path
from dsaflow.planning import frozen_plan
from dsaflow.runs.handler import announce, foresee
from dsaflow.runs.pace import lift_rate_limit

CONFIG = load_config(config)
RESULTS = CONFIG.paths.results

if workflow.is_main_process:
    announce(RESULTS, CONFIG.runs.database, CONFIG.paths.published)


onstart:
    foresee(workflow)
    lift_rate_limit(workflow)


pathvars:
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/logs/benchmarks",


# Remote jobs read the plan that the main process wrote, and never scan the incoming folder.
PLAN = frozen_plan(CONFIG, remake=workflow.is_main_process)


wildcard_constraints:
    **WILDCARD_PATTERNS,
    epoch=r"\d+",


def product(key, **wildcards):
    """Path of a product, with the wildcards that are not given left to Snakemake."""
    return product_path(key, RESULTS, **wildcards)


def reported(key, category):
    """A product's path; in the report, too, where `report.products` asks for more than figures."""
    path = product(key)
    if CONFIG.report.products == "figures":
        return path
    wildcard = next(field for _, field, _, _ in Formatter().parse(path) if field)
    # The columns of the category's table, as the figures in it have them.
    item, name = ("item", "figure") if wildcard != "strip" else ("strip", "product")
    labels = {item: f"{{{wildcard}}}", name: key.replace("_", " ")}
    return report(path, category=category, labels=labels)


def options(*names):
    """Sections that a rule depends on, so that a change of one makes it run again."""
    return {name: getattr(CONFIG, name).model_dump(mode="json") for name in names}


def tile_files(wildcards):
    """The tile's UVH5 files."""
    return PLAN.tile(wildcards.tile).files


def tile_catalog(wildcards):
    """The catalogue of the tile's strip."""
    return product("catalog", strip=PLAN.tile(wildcards.tile).strip)


def bandpass_verdicts(wildcards):
    """Verdicts of the bandpasses that the tile may use, nearest first, both directions."""
    return [
        product("bandpass_verdict", tile=tile)
        for tile in PLAN.bandpass_tiles(wildcards.tile)
    ]


def gains_verdicts(wildcards):
    """Verdicts of the gains that the tile may use: its own, then its neighbours' in time."""
    return [product("gains_verdict", tile=t) for t in PLAN.gain_tiles(wildcards.tile)]


def mosaic_tiles(key):
    """Input function: one product of each tile of the mosaic."""
    return lambda wildcards: [
        product(key, tile=t) for t in PLAN.mosaic(wildcards.group_id).tiles
    ]


def mosaic_catalog(wildcards):
    """The catalogue of the mosaic's strip."""
    return product("catalog", strip=PLAN.mosaic(wildcards.group_id).strip)


def mosaic_targets(key):
    """One product of every planned mosaic."""
    return [product(key, group_id=mosaic.group_id) for mosaic in PLAN.mosaics]


def strip_mosaics(key):
    """Input function: one product of each of the strip's mosaics."""
    return lambda wildcards: [
        product(key, group_id=mosaic.group_id)
        for mosaic in PLAN.mosaics
        if mosaic.strip == wildcards.strip
    ]


SIMULATED = f"{RESULTS}/simulated"


def simulation_targets():
    """Every simulated night, the truth and the spoilt catalogue."""
    nights = [
        night
        for night in range(CONFIG.simulate.n_epochs)
        if night not in CONFIG.simulate.missing_epochs
    ]
    return [
        f"{SIMULATED}/truth.json",
        *(f"{SIMULATED}/night-{night:04d}.json" for night in nights),
    ]


def variability_targets():
    """The variability products of every strip with a mosaic."""
    strips = sorted({mosaic.strip for mosaic in PLAN.mosaics})
    return [product("variability_verdict", strip=strip) for strip in strips]


def report_targets():
    """Figures of the newest mosaic of each strip, or of all of them."""
    mosaics = sorted(PLAN.mosaics, key=lambda mosaic: mosaic.mid_mjd)
    if CONFIG.report.mosaics == "latest":
        mosaics = list({mosaic.strip: mosaic for mosaic in mosaics}.values())
    return [
        *(product("figure_mosaic", group_id=m.group_id) for m in mosaics),
        *(product("figure_tile", tile=m.tiles[len(m.tiles) // 2]) for m in mosaics),
        *(product("figure_light_curves", strip=s) for s in {m.strip for m in mosaics}),
    ]
