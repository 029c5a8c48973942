"""Time, memory and bytes of each stage from raw files to photometry, as a Markdown table.

By default the demo's transit tile (48 stations, one channel a subband, 640 pixels); with ``--full`` the telescope's
(96 stations, 768 channels, 2400 pixels), with ``--tiles 3`` its two neighbours as well. Each stage runs in a process
of its own, as it does under Snakemake, so that Python's start and imports are in the times and the peak memory is the
stage's alone. At the end the fluxes are scored against the truth.
"""

import argparse
import cProfile
import json
import sys
import tempfile
from pathlib import Path

import yaml
from measuring import REPOSITORY, machine, measure, said

BEFORE = ("convert", "flag")
TILE = ("solve_gains", "apply_calibration", "image_tile")
MOSAIC = ("make_mosaic", "fit_beam", "qa_mosaic", "measure_photometry")
STAGES = ("simulate", *BEFORE, "solve_bandpass", *TILE, *MOSAIC)
IMAGES = ("image", "residual", "psf", "beam", "noise", "subbands")
MAPS = ("image", "noise", "weight", "coverage", "subbands", "tiles")
VERDICTS = ("convert", "flag", "gains", "calibrated", "tile")


def bench_config(full: bool, folder: Path, tiles: int = 1, options: dict | None = None) -> dict:
    """Demo or default configuration with a calibrator's transit tile and its neighbours; `options` override it."""
    content = {} if full else yaml.safe_load((REPOSITORY / "config" / "demo.yaml").read_text())
    results = folder / "results"
    content["paths"] = {
        "incoming": str(folder / "incoming"),
        "results": str(results),
        "published": str(folder / "published"),
        "antennas": str(REPOSITORY / "config" / "antennas.csv"),
        "calibrators": str(REPOSITORY / "config" / "calibrators.csv"),
        "reference_catalog": str(results / "simulated" / "catalog.parquet"),
    }
    content["plan"] = {"settle_s": 0, "mosaic_tiles": tiles, "min_tiles": 1}
    size = {"stations": 96, "channels_per_subband": 48} if full else {}
    content["simulate"] = {
        **content.get("simulate", {}), **size, "n_epochs": 1, "n_tiles": tiles, "full_array_tiles": [],
        "event": {"peak_epoch": 0.0},
    }  # fmt: skip
    for section, keys in (options or {}).items():
        content[section] = {**content.get(section, {}), **keys}
    return content


def steps(tiles: int) -> list[tuple[str, int]]:
    """Stages and the tiles that they work on, in order; the transit tile, in the middle, first."""
    middle = tiles // 2
    order = [middle, *(n for n in range(tiles) if n != middle)]
    found = [("simulate", middle)]
    for number in order:
        found += [(stage, number) for stage in BEFORE]
        found += [("solve_bandpass", number)] if number == middle else []
        found += [(stage, number) for stage in TILE]
    return found + [(stage, middle) for stage in MOSAIC]


class Bench:
    """One folder's configuration, plan and products; each stage leaves its verdict, as under Snakemake."""

    def __init__(self, folder: Path, number: int, threads: int):
        from dsaflow.config import load_config
        from dsaflow.planning.plan import Plan

        self.config = load_config(json.loads((folder / "config.json").read_text()))
        self.catalog = self.config.paths.reference_catalog
        self.threads = threads
        plan_path = Path(self.path("plan"))
        if plan_path.exists():
            self.plan = Plan.read(plan_path)
            self.mosaic = self.plan.mosaics[0]
            self.tile = self.mosaic.tiles[number]
            self.transit = self.mosaic.tiles[len(self.mosaic.tiles) // 2]

    def path(self, key: str, tile: str = "") -> str:
        """Path of a product, its folder made."""
        from dsaflow.names import product

        known = {"tile": tile, "group_id": self.mosaic.group_id} if key != "plan" else {}
        wanted = {
            name: value
            for name, value in known.items()
            if "{" + name + "}" in product(key, self.config.paths.results)
        }
        path = Path(product(key, self.config.paths.results, **wanted))
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def own(self, key: str) -> str:
        """Path of a product of this tile."""
        return self.path(key, self.tile)

    def offered(self, key: str) -> list[str]:
        """Path of a product of each tile of the mosaic."""
        return [self.path(key, tile) for tile in self.mosaic.tiles]

    def maps(self) -> dict[str, str]:
        """Paths of the mosaic's products."""
        return {key: self.path(f"mosaic_{key}") for key in MAPS}

    def simulate(self) -> None:
        from dsaflow.planning import make_plan
        from dsaflow.validation.chain import simulate

        simulate(self.config, 1)
        make_plan(self.config).write(self.path("plan"))

    def convert(self):
        from dsaflow.instrument import read_stations
        from dsaflow.visibilities.convert import convert_tile

        stations = read_stations(self.config.paths.antennas)
        files = self.plan.tile(self.tile).files
        return convert_tile(files, self.own("measurement_set"), self.config, stations)

    def flag(self):
        from dsaflow.visibilities.flag import flag_tile

        return flag_tile(self.own("measurement_set"), self.own("flags"), self.config)

    def solve_bandpass(self):
        from dsaflow.calibration.stages import solve_bandpass

        return solve_bandpass(
            self.own("measurement_set"), self.own("flags"), self.catalog,
            self.config.paths.calibrators, self.own("bandpass"), self.config,
        )  # fmt: skip

    def solve_gains(self):
        from dsaflow.calibration.stages import solve_gains

        return solve_gains(
            self.own("measurement_set"), self.own("flags"), [self.path("bandpass", self.transit)],
            self.catalog, self.own("gains"), self.config,
        )  # fmt: skip

    def apply_calibration(self):
        from dsaflow.calibration.stages import apply_calibration

        return apply_calibration(
            self.own("measurement_set"), self.own("flags"), [self.path("bandpass", self.transit)],
            [self.own("gains")], self.own("calibrated_ms"), self.config,
        )  # fmt: skip

    def image_tile(self):
        from dsaflow.imaging.tile import image_tile
        from dsaflow.verdict import Verdict

        applied = Verdict.read(self.own("calibrated_verdict")).numbers
        provenance = {
            "tile": self.tile,
            "input_hash": "",
            "config_hash": self.config.science_hash(),
        }
        provenance |= {k: v for k, v in applied.items() if k.startswith(("scale", "rung"))}
        outputs = {key: self.own(f"tile_{key}") for key in IMAGES}
        return image_tile(
            self.own("calibrated_ms"), outputs, self.config, provenance, self.threads, self.catalog
        )

    def make_mosaic(self):
        from dsaflow.mosaic.coadd import make_mosaic

        keys = ("image", "beam", "noise", "subbands", "verdict")
        columns = [self.offered(f"tile_{key}") for key in keys]
        tiles = [
            {"tile": tile, **dict(zip(keys, row, strict=True))}
            for tile, *row in zip(self.mosaic.tiles, *columns, strict=True)
        ]
        centre = (self.mosaic.ra_deg, self.mosaic.dec_deg)
        cards = {"GROUPID": self.mosaic.group_id}
        return make_mosaic(tiles, centre, self.maps(), self.config, cards)

    def fit_beam(self):
        from dsaflow.qa.beam import measure_beam

        keys = ("image", "beam", "noise", "verdict")
        rows = zip(*(self.offered(f"tile_{key}") for key in keys), strict=True)
        tiles = [dict(zip(keys, row, strict=True)) for row in rows]
        return measure_beam(tiles, self.catalog, self.config)

    def qa_mosaic(self):
        from dsaflow.qa.mosaic import qa_mosaic

        fit = self.path("beam_fit")
        return qa_mosaic(
            self.maps(),
            [path for stage in VERDICTS for path in self.offered(f"{stage}_verdict")],
            self.catalog,
            self.config,
            self.mosaic.mid_mjd,
            (self.mosaic.ra_deg, self.mosaic.dec_deg),
            fit if Path(fit).exists() else None,
        )

    def measure_photometry(self):
        from dsaflow.photometry.measure import measure_mosaic

        planned = self.mosaic
        return measure_mosaic(
            self.maps() | {"qa": self.path("mosaic_qa")}, self.catalog, self.path("photometry"),
            self.config, planned.epoch, planned.strip, planned.group_id, planned.mid_mjd,
        )  # fmt: skip


VERDICT_OF = {
    "convert": "convert_verdict", "flag": "flag_verdict", "solve_bandpass": "bandpass_verdict",
    "solve_gains": "gains_verdict", "apply_calibration": "calibrated_verdict",
    "image_tile": "tile_verdict", "make_mosaic": "mosaic_verdict", "fit_beam": "beam_fit",
    "qa_mosaic": "mosaic_qa", "measure_photometry": "photometry_verdict",
}  # fmt: skip


def run_stage(stage: str, folder: Path, number: int, threads: int) -> str:
    """Run one stage on what the stages before it left in `folder`; returns its verdict."""
    from dsaflow.errors import DataRejected

    bench = Bench(folder, number, threads)
    try:
        verdict = getattr(bench, stage)()
    except DataRejected as error:
        return f"rejected: {error}"
    if verdict is None:
        return "pass"
    verdict.write(bench.own(VERDICT_OF[stage]))
    return str(verdict.verdict)


def against_truth(folder: Path) -> str:
    """Score of the fluxes and positions, and each tile's noise over its radiometer value."""
    from dsaflow.validation.score import join_truth, measure_places, score
    from dsaflow.verdict import Verdict

    bench = Bench(folder, 0, 1)
    truth = Path(bench.config.paths.results) / "simulated"
    rows = join_truth([Path(bench.path("photometry"))], truth)
    rows = measure_places(rows, {bench.mosaic.group_id: bench.maps()["image"]}, truth)
    found = score(rows[rows["kind"] != "calibrator"])
    noise = [Verdict.read(path).numbers for path in bench.offered("tile_verdict")]
    found["tile_noise_over_radiometer"] = [n["noise_over_radiometer"] for n in noise]
    return json.dumps(found, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the telescope's size")
    parser.add_argument("--tiles", type=int, default=1, help="odd; the middle one is the transit's")
    parser.add_argument("--threads", type=int, default=1, help="threads of the gridder")
    parser.add_argument(
        "--limit-s", type=float, default=1200.0, help="CPU s; a stage is stopped then"
    )
    parser.add_argument("--limit-gb", type=float, default=12.0, help="GiB; likewise")
    parser.add_argument(
        "--start", choices=STAGES, default=STAGES[0], help="first stage, with what --folder holds"
    )
    parser.add_argument("--tile", type=int, help="of --start; default: the transit's")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        help="these stages, with what --folder holds",
    )
    parser.add_argument("--options", type=Path, help="YAML of configuration keys that differ")
    parser.add_argument(
        "--profile", action="store_true", help="leave <stage>-<tile>.prof in --folder"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the products stay; default: deleted")
    options = parser.parse_args()
    if options.stage:
        work = (options.stage, options.folder, options.tile, options.threads)
        if options.profile:
            with cProfile.Profile() as profile:
                outcome = run_stage(*work)
            profile.dump_stats(options.folder / f"{options.stage}-{options.tile}.prof")
        else:
            outcome = run_stage(*work)
        print(said(outcome))
        return
    with tempfile.TemporaryDirectory() as scratch:
        run(options, options.folder or Path(scratch))


def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure the stages one after the other; stop where one leaves nothing for the next."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = yaml.safe_load(options.options.read_text()) if options.options else {}
    content = bench_config(options.full, folder, options.tiles, changed)
    (folder / "config.json").write_text(json.dumps(content))
    size = "Full-size" if options.full else "Demo-size"
    print(f"{size}, {options.tiles} tile(s), {options.threads} thread(s) in the gridder")
    print(f"{machine()}\n")
    print(
        "| stage | tile | wall [s] | CPU [s] | peak memory [GiB] | read [GB] | written [GB] | outcome |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    todo = steps(options.tiles)
    tile = options.tiles // 2 if options.tile is None else options.tile
    for stage, number in todo[todo.index((options.start, tile)) :]:
        if stage not in options.only:
            continue
        command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
        command += ["--tile", str(number), "--threads", str(options.threads)]
        command += ["--profile"] if options.profile else []
        used = measure(command, options.limit_s, options.limit_gb)
        print(
            f"| {stage} | {number} | {used.wall_s:.1f} | {used.cpu_s:.1f} | {used.peak_gb:.2f} | "
            f"{used.read_gb:.2f} | {used.written_gb:.2f} | {used.outcome} |",
            flush=True,
        )
        # one tile measures no beam
        if used.outcome not in ("pass", "warn") and stage != "fit_beam":
            break
    else:
        print(against_truth(folder))


if __name__ == "__main__":
    main()
