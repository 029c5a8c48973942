"""Rule make_mosaic: see dsaflow.mosaic.coadd."""

from dsaflow.mosaic.coadd import make_mosaic
from dsaflow.stage import run_stage

PRODUCTS = ("image", "noise", "weight", "coverage", "subbands", "tiles")
planned = snakemake.params.planned


def work(config):
    columns = zip(
        planned["tiles"],
        snakemake.input.image,
        snakemake.input.beam,
        snakemake.input.noise,
        snakemake.input.subbands,
        snakemake.input.verdicts,
        strict=True,
    )
    keys = ("tile", "image", "beam", "noise", "subbands", "verdict")
    tiles = [dict(zip(keys, row, strict=True)) for row in columns]
    cards = {"GROUPID": planned["group_id"], "CFGHASH": config.science_hash()}
    outputs = {key: snakemake.output[key] for key in PRODUCTS}
    centre = (planned["ra_deg"], planned["dec_deg"])
    return make_mosaic(tiles, centre, outputs, config, cards)


def no_tiles_table(verdict):
    from dsaflow.mosaic.tables import write_rejected_tiles

    write_rejected_tiles(snakemake.output.tiles, planned["tiles"], snakemake.input.verdicts)


run_stage(snakemake, work, on_reject=no_tiles_table)
