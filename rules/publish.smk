rule publish_mosaic:
    """Publish a mosaic that passed its gates, atomically and with checksums, or say why not."""
    input:
        image=rules.make_mosaic.output.image,
        noise=rules.make_mosaic.output.noise,
        weight=rules.make_mosaic.output.weight,
        coverage=rules.make_mosaic.output.coverage,
        subbands=rules.make_mosaic.output.subbands,
        tiles=rules.make_mosaic.output.tiles,
        verdict=rules.make_mosaic.output.verdict,
        qa=rules.qa_mosaic.output.verdict,
    output:
        publication=report(
            product("publication"),
            category="Publication",
            labels={"mosaic": "{group_id}", "product": "publication"},
        ),
    log:
        "<logs>/publish_mosaic/{group_id}.log",
    benchmark:
        "<benchmarks>/publish_mosaic/{group_id}.tsv"
    group:
        "mosaic"
    conda:
        "../envs/science.yaml"
    params:
        planned=lambda wildcards: PLAN.mosaic(wildcards.group_id).to_dict(),
        options=options("publish"),
    script:
        "../scripts/publish_mosaic.py"
