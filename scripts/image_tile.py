"""Rule image_tile: see dsaflow.imaging.tile."""

from dsaflow.imaging.tile import image_tile
from dsaflow.stage import require, run_stage

IMAGES = ("image", "residual", "psf", "beam", "noise", "subbands")


def work(config):
    calibrated = require(snakemake.input.calibrated)
    provenance = {
        "tile": snakemake.wildcards.tile,
        "config_hash": config.science_hash(),
        **calibrated.provenance,
        **{k: v for k, v in calibrated.numbers.items() if k.startswith(("scale", "rung"))},
    }
    outputs = {key: snakemake.output[key] for key in IMAGES}
    return image_tile(snakemake.params.ms, outputs, config, provenance)


run_stage(snakemake, work)
