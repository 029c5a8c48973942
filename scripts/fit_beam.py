"""Rule fit_beam: see dsaflow.qa.beam."""

from dsaflow.qa.beam import measure_beam
from dsaflow.stage import run_stage

paths = snakemake.input
tiles = zip(paths.image, paths.beam, paths.noise, paths.tile_verdicts, strict=True)

run_stage(
    snakemake,
    lambda config: measure_beam(
        [dict(zip(("image", "beam", "noise", "verdict"), tile, strict=True)) for tile in tiles],
        paths.catalog,
        config,
    ),
)
