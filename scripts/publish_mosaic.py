"""Rule publish_mosaic: see dsaflow.publish."""

from dsaflow.config import load_config
from dsaflow.publish import publish_mosaic
from dsaflow.stage import start_log

start_log(snakemake.log[0])
config = load_config(snakemake.config)
KEYS = ("image", "noise", "weight", "coverage", "subbands", "tiles", "verdict")
publish_mosaic(
    {key: snakemake.input[key] for key in KEYS},
    snakemake.input.qa,
    snakemake.wildcards.group_id,
    config,
    config.paths.published,
    snakemake.output.publication,
    strip=snakemake.params.planned["strip"],
)
