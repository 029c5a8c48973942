rule image_tile:
    """Deconvolve one calibrated tile to Stokes I, with its drift-averaged primary beam."""
    input:
        calibrated=rules.apply_calibration.output.verdict,
        manifest=rules.apply_calibration.output.manifest,
        catalog=tile_catalog,
    output:
        image=product("tile_image"),
        residual=product("tile_residual"),
        psf=product("tile_psf"),
        beam=product("tile_beam"),
        noise=product("tile_noise"),
        subbands=product("tile_subbands"),
        verdict=product("tile_verdict"),
    log:
        "<logs>/image_tile/{tile}.log",
    benchmark:
        "<benchmarks>/image_tile/{tile}.tsv"
    group:
        "image"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("calibrated_ms"),
        options=options("image", "instrument"),
    script:
        "../scripts/image_tile.py"
