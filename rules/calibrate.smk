rule solve_bandpass:
    """Solve a calibrator's transit tile for one complex bandpass per antenna and receptor."""
    input:
        convert=rules.convert.output.verdict,
        manifest=rules.convert.output.manifest,
        flag=rules.flag.output.verdict,
        flags=rules.flag.output.flags,
        catalog=tile_catalog,
        calibrators=CONFIG.paths.calibrators,
    output:
        solutions=reported("bandpass", "Tiles"),
        verdict=reported("bandpass_verdict", "Tiles"),
    log:
        "<logs>/solve_bandpass/{tile}.log",
    benchmark:
        "<benchmarks>/solve_bandpass/{tile}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("measurement_set"),
        options=options("calibrate", "instrument"),
    script:
        "../scripts/solve_bandpass.py"


rule solve_gains:
    """Phase a tile on its own field, and tie its amplitude to the catalogue by one scalar."""
    input:
        convert=rules.convert.output.verdict,
        manifest=rules.convert.output.manifest,
        flag=rules.flag.output.verdict,
        flags=rules.flag.output.flags,
        bandpasses=bandpass_verdicts,
        catalog=tile_catalog,
    output:
        solutions=reported("gains", "Tiles"),
        verdict=reported("gains_verdict", "Tiles"),
    log:
        "<logs>/solve_gains/{tile}.log",
    benchmark:
        "<benchmarks>/solve_gains/{tile}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("measurement_set"),
        options=options("calibrate", "instrument"),
    script:
        "../scripts/solve_gains.py"


rule apply_calibration:
    """Write the calibrated visibilities of a tile, in Jy, as a new Measurement Set."""
    input:
        convert=rules.convert.output.verdict,
        manifest=rules.convert.output.manifest,
        flag=rules.flag.output.verdict,
        flags=rules.flag.output.flags,
        bandpasses=bandpass_verdicts,
        gains=gains_verdicts,
    output:
        manifest=reported("calibrated_manifest", "Tiles"),
        verdict=reported("calibrated_verdict", "Tiles"),
    log:
        "<logs>/apply_calibration/{tile}.log",
    benchmark:
        "<benchmarks>/apply_calibration/{tile}.tsv"
    group:
        "image"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("measurement_set"),
        calibrated=product("calibrated_ms"),
        options=options("calibrate"),
    script:
        "../scripts/apply_calibration.py"
