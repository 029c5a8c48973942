rule make_mosaic:
    """Coadd tiles on one grid, weighted by beam squared over noise squared."""
    input:
        image=mosaic_tiles("tile_image"),
        beam=mosaic_tiles("tile_beam"),
        noise=mosaic_tiles("tile_noise"),
        subbands=mosaic_tiles("tile_subbands"),
        verdicts=mosaic_tiles("tile_verdict"),
    output:
        image=reported("mosaic_image", "Mosaics"),
        noise=reported("mosaic_noise", "Mosaics"),
        weight=reported("mosaic_weight", "Mosaics"),
        coverage=reported("mosaic_coverage", "Mosaics"),
        subbands=reported("mosaic_subbands", "Mosaics"),
        tiles=reported("mosaic_tiles", "Mosaics"),
        verdict=reported("mosaic_verdict", "Mosaics"),
    log:
        "<logs>/make_mosaic/{group_id}.log",
    benchmark:
        "<benchmarks>/make_mosaic/{group_id}.tsv"
    group:
        "mosaic"
    conda:
        "../envs/science.yaml"
    params:
        planned=lambda wildcards: PLAN.mosaic(wildcards.group_id).to_dict(),
        options=options("mosaic"),
    script:
        "../scripts/make_mosaic.py"
