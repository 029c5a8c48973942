rule image_tile:
    """Deconvolve one calibrated tile to Stokes I, with its drift-averaged primary beam."""
    input:
        calibrated=rules.apply_calibration.output.verdict,
        manifest=rules.apply_calibration.output.manifest,
        catalog=tile_catalog,
    output:
        image=reported("tile_image", "Tiles"),
        residual=reported("tile_residual", "Tiles"),
        psf=reported("tile_psf", "Tiles"),
        beam=reported("tile_beam", "Tiles"),
        noise=reported("tile_noise", "Tiles"),
        subbands=reported("tile_subbands", "Tiles"),
        verdict=reported("tile_verdict", "Tiles"),
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
