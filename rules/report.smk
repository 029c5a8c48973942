rule draw_tile:
    """Figures of a tile: flagging, bandpass, image and residual."""
    input:
        flag=rules.flag.output.verdict,
        gains=rules.solve_gains.output.verdict,
        solutions=rules.solve_gains.output.solutions,
        bandpasses=bandpass_verdicts,
        image=rules.image_tile.output.image,
        residual=rules.image_tile.output.residual,
        beam=rules.image_tile.output.beam,
        verdict=rules.image_tile.output.verdict,
    output:
        flagging=report(
            product("figure_flagging"),
            category="Tiles",
            labels={"item": "{tile}", "figure": "flagging"},
            caption="../docs/report/flagging.rst",
        ),
        bandpass=report(
            product("figure_bandpass"),
            category="Tiles",
            labels={"item": "{tile}", "figure": "bandpass and gains"},
            caption="../docs/report/bandpass.rst",
        ),
        tile=report(
            product("figure_tile"),
            category="Tiles",
            labels={"item": "{tile}", "figure": "image and residual"},
            caption="../docs/report/tile.rst",
        ),
    log:
        "<logs>/draw_tile/{tile}.log",
    benchmark:
        "<benchmarks>/draw_tile/{tile}.tsv"
    conda:
        "../envs/science.yaml"
    script:
        "../scripts/draw_tile.py"


rule draw_mosaic:
    """Figures of a mosaic: image with catalogue, flux ratio, gates, noise."""
    input:
        image=rules.make_mosaic.output.image,
        noise=rules.make_mosaic.output.noise,
        coverage=rules.make_mosaic.output.coverage,
        qa=rules.qa_mosaic.output.verdict,
        beam_fit=rules.fit_beam.output.verdict,
        photometry=rules.measure_photometry.output.photometry,
    output:
        mosaic=report(
            product("figure_mosaic"),
            category="Mosaics",
            labels={"item": "{group_id}", "figure": "mosaic"},
            caption="../docs/report/mosaic.rst",
        ),
        fluxes=report(
            product("figure_fluxes"),
            category="Mosaics",
            labels={"item": "{group_id}", "figure": "flux ratio"},
            caption="../docs/report/fluxes.rst",
        ),
        astrometry=report(
            product("figure_astrometry"),
            category="Mosaics",
            labels={"item": "{group_id}", "figure": "astrometry"},
            caption="../docs/report/astrometry.rst",
        ),
        gates=report(
            product("figure_gates"),
            category="Quality",
            labels={"mosaic": "{group_id}", "product": "gates (figure)"},
            caption="../docs/report/gates.rst",
        ),
        beam=report(
            product("figure_beam"),
            category="Quality",
            labels={"mosaic": "{group_id}", "product": "primary beam (figure)"},
            caption="../docs/report/beam.rst",
        ),
        noise=report(
            product("figure_noise"),
            category="Mosaics",
            labels={"item": "{group_id}", "figure": "noise and coverage"},
            caption="../docs/report/noise.rst",
        ),
    log:
        "<logs>/draw_mosaic/{group_id}.log",
    benchmark:
        "<benchmarks>/draw_mosaic/{group_id}.tsv"
    conda:
        "../envs/science.yaml"
    script:
        "../scripts/draw_mosaic.py"


rule draw_light_curves:
    """Light curves of the most variable and of the brightest sources of a strip."""
    input:
        light_curves=product("light_curves"),
    output:
        figure=report(
            product("figure_light_curves"),
            category="Variability",
            labels={"strip": "{strip}", "product": "light curves"},
            caption="../docs/report/light_curves.rst",
        ),
    log:
        "<logs>/draw_light_curves/{strip}.log",
    benchmark:
        "<benchmarks>/draw_light_curves/{strip}.tsv"
    conda:
        "../envs/science.yaml"
    script:
        "../scripts/draw_light_curves.py"
