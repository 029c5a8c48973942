rule qa_mosaic:
    """Measure a mosaic against its gates: noise, flux scale, astrometry, completeness, beam."""
    input:
        rules.make_mosaic.output,
        convert=mosaic_tiles("convert_verdict"),
        flag=mosaic_tiles("flag_verdict"),
        gains=mosaic_tiles("gains_verdict"),
        calibrated=mosaic_tiles("calibrated_verdict"),
        image=mosaic_tiles("tile_verdict"),
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
    conda:
        "../envs/science.yaml"
    group:
        "mosaic"
    params:
        products=lambda wildcards: dict(rules.make_mosaic.output.items()),
        planned=lambda wildcards: PLAN.mosaic(wildcards.group_id).to_dict(),
        options=options("qa"),
    script:
        "../scripts/qa_mosaic.py"
