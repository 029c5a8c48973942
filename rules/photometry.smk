rule measure_photometry:
    """Measure every catalogue source in the mosaic by forced fits, with errors and limits."""
    input:
        mosaic=rules.make_mosaic.output.verdict,
        image=rules.make_mosaic.output.image,
        noise=rules.make_mosaic.output.noise,
        weight=rules.make_mosaic.output.weight,
        coverage=rules.make_mosaic.output.coverage,
        subbands=rules.make_mosaic.output.subbands,
        tiles=rules.make_mosaic.output.tiles,
        qa=rules.qa_mosaic.output.verdict,
        catalog=mosaic_catalog,
    output:
        photometry=reported("photometry", "Mosaics"),
        verdict=reported("photometry_verdict", "Mosaics"),
    log:
        "<logs>/measure_photometry/{group_id}.log",
    benchmark:
        "<benchmarks>/measure_photometry/{group_id}.tsv"
    group:
        "mosaic"
    conda:
        "../envs/science.yaml"
    params:
        planned=lambda wildcards: PLAN.mosaic(wildcards.group_id).to_dict(),
        options=options("photometry"),
    script:
        "../scripts/measure_photometry.py"
