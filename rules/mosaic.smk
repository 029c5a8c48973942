rule make_mosaic:
    """Coadd tiles on one grid, weighted by beam squared over noise squared."""
    input:
        image=mosaic_tiles("tile_image"),
        beam=mosaic_tiles("tile_beam"),
        noise=mosaic_tiles("tile_noise"),
        subbands=mosaic_tiles("tile_subbands"),
        verdicts=mosaic_tiles("tile_verdict"),
    output:
        image=product("mosaic_image"),
        noise=product("mosaic_noise"),
        weight=product("mosaic_weight"),
        coverage=product("mosaic_coverage"),
        subbands=product("mosaic_subbands"),
        tiles=product("mosaic_tiles"),
        verdict=product("mosaic_verdict"),
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
