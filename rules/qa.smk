rule fit_beam:
    """Measure the primary beam: effective diameter and pointing from sources in several tiles."""
    input:
        image=mosaic_tiles("tile_image"),
        beam=mosaic_tiles("tile_beam"),
        noise=mosaic_tiles("tile_noise"),
        tile_verdicts=mosaic_tiles("tile_verdict"),
        catalog=mosaic_catalog,
    output:
        verdict=report(
            product("beam_fit"),
            category="Quality",
            labels={"mosaic": "{group_id}", "product": "primary beam"},
        ),
    log:
        "<logs>/fit_beam/{group_id}.log",
    benchmark:
        "<benchmarks>/fit_beam/{group_id}.tsv"
    group:
        "mosaic"
    conda:
        "../envs/science.yaml"
    params:
        options=options("qa", "instrument"),
    script:
        "../scripts/fit_beam.py"


rule qa_mosaic:
    """Measure a mosaic against its gates: noise, flux scale, astrometry, completeness, beam."""
    input:
        mosaic=rules.make_mosaic.output.verdict,
        image=rules.make_mosaic.output.image,
        noise=rules.make_mosaic.output.noise,
        coverage=rules.make_mosaic.output.coverage,
        tiles=rules.make_mosaic.output.tiles,
        convert=mosaic_tiles("convert_verdict"),
        flag=mosaic_tiles("flag_verdict"),
        gains=mosaic_tiles("gains_verdict"),
        calibrated=mosaic_tiles("calibrated_verdict"),
        tile_verdicts=mosaic_tiles("tile_verdict"),
        beam_fit=rules.fit_beam.output.verdict,
        catalog=mosaic_catalog,
    output:
        verdict=report(
            product("mosaic_qa"),
            category="Quality",
            labels={"mosaic": "{group_id}", "product": "gates"},
        ),
    log:
        "<logs>/qa_mosaic/{group_id}.log",
    benchmark:
        "<benchmarks>/qa_mosaic/{group_id}.tsv"
    group:
        "mosaic"
    conda:
        "../envs/science.yaml"
    params:
        planned=lambda wildcards: PLAN.mosaic(wildcards.group_id).to_dict(),
        options=options("qa"),
    script:
        "../scripts/qa_mosaic.py"
