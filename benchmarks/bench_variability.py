"""Cost of metrics and event search against the numbers of sources and epochs.

``--full`` measures one strip over one year, 70 000 sources x 365 epochs; without it, a grid of
smaller sizes is measured and drawn. Each size is a process of its own, compiled kernels warm;
processor time, since the machine may be shared. Nine in ten sources are quiet, one scintillates by
5 %; a tenth of the epochs is missing.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from measuring import machine

from dsaflow.config.sections import Variability
from dsaflow.variability.metrics import all_metrics
from dsaflow.variability.search import SearchRules, search
from dsaflow.variability.templates import survey_bank

FULL = (70_000, 365)
SOURCES = (100, 200, 400, 800)
EPOCHS = (90, 180, 365, 730)
BASE = (250, 365)


def simulate(n_source: int, n_epoch: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Normalised curves and their variances, in single pieces of the size asked for."""
    snr = 10 ** rng.uniform(np.log10(5), np.log10(200), n_source)
    curve = rng.standard_normal((n_source, n_epoch))
    variance = np.empty_like(curve)
    variance[:] = (snr**-2 + 0.005**2)[:, None]
    curve *= np.sqrt(variance)
    curve += 1
    for source in range(0, n_source, 10):
        keep = np.exp(-1 / rng.choice([1.0, 3.0, 10.0, 30.0]))
        walk = rng.standard_normal(n_epoch)
        walk[1:] *= np.sqrt(1 - keep**2)
        for k in range(1, n_epoch):
            walk[k] += keep * walk[k - 1]
        curve[source] += 0.05 * walk
    curve[rng.random(curve.shape) < 0.1] = np.nan
    return curve, variance


def run_one(n_source: int, n_epoch: int) -> dict[str, float]:
    """Metrics and search of one size, in this process."""
    options = Variability()
    mjd = 60000.3 + 0.99727 * np.arange(n_epoch)
    started = time.process_time()
    bank = survey_bank(mjd, options)
    bank_s = time.process_time() - started
    rules = SearchRules.of(options)
    for n in (64, n_source):
        curve, variance = simulate(n, n_epoch, np.random.default_rng(1))
        started, wall = time.process_time(), time.perf_counter()
        all_metrics(curve, np.sqrt(variance))
        metrics_s = time.process_time() - started
        events = search(curve, variance, bank, rules)
        cpu_s, wall_s = time.process_time() - started, time.perf_counter() - wall
    return {
        "n_source": n_source,
        "n_epoch": n_epoch,
        "n_template": len(bank),
        "bank_s": bank_s,
        "metrics_s": metrics_s,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "assessed": float((events.template >= 0).mean()),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure(n_source: int, n_epoch: int) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--one", str(n_source), str(n_epoch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(
        f"| {n_source} | {n_epoch} | {result['n_template']} | {result['metrics_s']:.1f} | "
        f"{result['cpu_s']:.1f} | {1e3 * result['cpu_s'] / n_source:.2f} | "
        f"{result['wall_s']:.1f} | {result['peak_gb']:.2f} |",
        flush=True,
    )
    return result


def draw(sources: list[dict], epochs: list[dict], path: Path) -> None:
    """Growth curves, with what is allowed: linear, and n log n."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, rows, key in zip(
        figure.subplots(1, 2), (sources, epochs), ("n_source", "n_epoch"), strict=True
    ):
        x = np.array([row[key] for row in rows], float)
        cpu = np.array([row["cpu_s"] for row in rows])
        panel.loglog(x, cpu, "o-", color="k", label="metrics and search")
        law = x if key == "n_source" else x * np.log(x)
        panel.loglog(x, law * cpu[-1] / law[-1], "--", color="#d95f02")
        panel.set_xlabel("sources" if key == "n_source" else "epochs")
        panel.set_ylabel("processor time [s]")
        panel.set_title("linear" if key == "n_source" else "n log n", color="#d95f02", fontsize=9)
        panel.legend()
        panel.set_xticks(x, [f"{value:g}" for value in x])
        panel.minorticks_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, type=int, metavar=("SOURCES", "EPOCHS"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--plot", type=Path, default=Path("docs/images/variability_growth.png"))
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(*arguments.one)))
        return
    print(machine())
    print(
        "| sources | epochs | templates | metrics CPU s | CPU s | ms/source | wall s | peak GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    if arguments.full:
        measure(*FULL)
        return
    by_source = [measure(n, BASE[1]) for n in SOURCES]
    by_epoch = [measure(BASE[0], n) for n in EPOCHS]
    draw(by_source, by_epoch, arguments.plot)


if __name__ == "__main__":
    main()
