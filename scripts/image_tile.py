"""Rule image_tile: see dsaflow.imaging.tile."""

from dsaflow.fileio import digest, sha256
from dsaflow.imaging.tile import image_tile
from dsaflow.stage import beside, require, run_stage

IMAGES = ("image", "residual", "psf", "beam", "noise", "subbands")


def work(config):
    calibrated = require(snakemake.input.calibrated)
    # both verdicts name what they were made from: raw files, flags, solutions
    inputs = [snakemake.input.calibrated, beside(snakemake.input.calibrated, "convert_verdict")]
    provenance = {
        "input_hash": digest([sha256(path) for path in inputs], 16),
        "tile": snakemake.wildcards.tile,
        "config_hash": config.science_hash(),
        **calibrated.provenance,
        **{k: v for k, v in calibrated.numbers.items() if k.startswith(("scale", "rung"))},
    }
    outputs = {key: snakemake.output[key] for key in IMAGES}
    return image_tile(
        snakemake.params.ms,
        outputs,
        config,
        provenance,
        threads=snakemake.threads,
        catalog_path=snakemake.input.catalog,
    )


run_stage(snakemake, work)
