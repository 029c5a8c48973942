"""The real service as a process on loopback, on a record and products made by the package's own writers."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import h5py
import httpx
import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsaflow.config import Config, load_config
from dsaflow.instrument import INTEGRATION_S, TILE_S
from dsaflow.names import product, raw_name
from dsaflow.photometry.sources import plain_local
from dsaflow.photometry.table import write_table
from dsaflow.planning import make_plan
from dsaflow.publish import publish_mosaic
from dsaflow.runs import scan
from dsaflow.runs.record import Record
from dsaflow.runs.states import State
from dsaflow.transit import nearest_transit_mjd
from dsaflow.variability import stage as variability
from dsaflow.verdict import Gate, Verdict

REPOSITORY = Path(__file__).resolve().parents[3]
TOKEN = "a token of the tests"
PROFILE = "profiles/toy"
STRIP = "dec+16.1"
DEC_DEG = 16.1
CALIBRATOR = (80.2911918, 16.6394587)  # 3C138
FREQ_HZ = [1.3346e9, 1.3816e9, 1.4284e9, 1.4754e9]
EPOCHS, SOURCES, DIPPING = 22, 12, 3
WAIT_S = 60.0

# Stands in for the workflow: a mosaic is "made" from a prepared image once a file allows it.
SNAKEFILE = """
configfile: "config/config.yaml"

from dsaflow.config import load_config
from dsaflow.planning import frozen_plan
from dsaflow.runs.handler import announce, foresee

CONFIG = load_config(config)
RESULTS = CONFIG.paths.results
PLAN = frozen_plan(CONFIG, remake=workflow.is_main_process)

if workflow.is_main_process:
    announce(RESULTS, CONFIG.runs.database, CONFIG.paths.published)

onstart:
    foresee(workflow)

rule make_mosaic:
    output: f"{RESULTS}/mosaics/{{group_id}}/mosaic.fits"
    log: f"{RESULTS}/logs/make_mosaic/{{group_id}}.log"
    shell: "echo coadding > {log}; until [ -e go ]; do sleep 0.1; done; "
           "cp prepared.fits {output}; echo done >> {log}"

rule convert:
    output: f"{RESULTS}/tiles/{{tile}}/convert.json"
    log: f"{RESULTS}/logs/convert/{{tile}}.log"
    script: "pass.py"

rule publish_mosaic:
    input: rules.make_mosaic.output
    output: f"{RESULTS}/mosaics/{{group_id}}/publication.json"
    log: f"{RESULTS}/logs/publish_mosaic/{{group_id}}.log"
    script: "publish.py"

rule measure_photometry:
    input: rules.make_mosaic.output
    output: f"{RESULTS}/photometry/{{group_id}}.json"
    log: f"{RESULTS}/logs/measure_photometry/{{group_id}}.log"
    script: "pass.py"
"""
PUBLISH = """
from pathlib import Path
from dsaflow.config import load_config
from dsaflow.publish import publish_mosaic
from dsaflow.verdict import Verdict
config = load_config(snakemake.config)
image = Path(snakemake.input[0])
qa = image.with_name("qa.json")
Verdict().write(qa)
publish_mosaic(
    {"image": str(image)}, qa, snakemake.wildcards.group_id, config,
    config.paths.published, snakemake.output[0], "dec+16.1",
)
"""
PASS = """
from dsaflow.verdict import Verdict
Verdict().write(snakemake.output[0])
"""


def until(condition, what: str, wait_s: float = WAIT_S):
    """Wait for something that is true; returns it."""
    deadline = time.monotonic() + wait_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {wait_s:.0f} s for {what}")
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Site:
    """A working directory with a configuration, and a record."""

    path: Path
    config: Config
    record: Record
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return Path(self.config.paths.results)


@dataclass
class Service:
    """`dsaflow serve` as a process."""

    site_path: Path
    arguments: list[str]
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.site_path / "service.log").read_text()

    def start(self) -> "Service":
        command = [Path(sys.executable).parent / "dsaflow", "serve", "--port", str(self.port)]
        with open(self.site_path / "service.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments], cwd=self.site_path, env=self.environment,
                stdout=log, stderr=log,
            )  # fmt: skip
        until(self._answers, "the service")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the service ended with {self.process.returncode}:\n{self.log}")
        try:
            return httpx.get(f"{self.url}/api/health/live", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, token: str | None = TOKEN, **options) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)


def make_site(path: Path, **sections) -> Site:
    """Working directory with the toy workflow; no raw data yet."""
    (path / PROFILE).mkdir(parents=True)
    (path / "config").mkdir()
    (path / "incoming").mkdir()
    (path / "Snakefile").write_text(SNAKEFILE)
    (path / "publish.py").write_text(PUBLISH)
    (path / "pass.py").write_text(PASS)
    fits.writeto(path / "prepared.fits", *sky_image(48))
    profile = {
        "cores": 1, "scheduler": "greedy", "keep-going": True, "retries": 0,
        "logger": "dsaflow", "latency-wait": 2,
    }  # fmt: skip
    (path / PROFILE / "config.yaml").write_text(yaml.safe_dump(profile))
    content = {
        "paths": {
            "incoming": "incoming", "results": "results", "published": "published",
            "calibrators": str(REPOSITORY / "config/calibrators.csv"),
        },
        "plan": {"settle_s": 0, "mosaic_tiles": 3},
        "runs": {"tries": 2, "backoff_base_s": 0.5, "interrupt_s": 2.0, "terminate_s": 1.0},
        "api": {"profile": PROFILE, "profiles": [PROFILE]},
        # the test machine's disk is not what is tested
        "clean": {"high_water": 1.0},
        "alerts": {"dry_run": True},
    }  # fmt: skip
    content |= {key: content.get(key, {}) | value for key, value in sections.items()}
    (path / "config/config.yaml").write_text(yaml.safe_dump(content))
    config = load_config(path / "config/config.yaml")
    for name in ("incoming", "results", "published"):
        setattr(config.paths, name, str(path / name))
    return Site(path, config, Record.open(config))


def write_tiles(site: Site, count: int = 3, nights: int = 1) -> None:
    """Write header-only UVH5 files: tiles about the calibrator's transit, a group of 16 files each."""
    transit_mjd = nearest_transit_mjd(*CALIBRATOR, 61050.0)
    for night in range(nights):
        middle = transit_mjd + night * 0.99726957
        for start in middle + (np.arange(count) - count / 2) * TILE_S / 86400.0:
            for subband in range(16):
                _write_header(Path(site.config.paths.incoming), float(start), subband)


def _write_header(folder: Path, start_mjd: float, subband: int) -> None:
    moment = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=start_mjd)
    with h5py.File(folder / raw_name(moment, subband), "w") as file:
        header = file.create_group("Header")
        times = start_mjd + 2400000.5 + (np.arange(24) + 0.5) * INTEGRATION_S / 86400.0
        header["time_array"] = np.repeat(times, 3)
        header["integration_time"] = np.full(72, INTEGRATION_S)
        header["freq_array"] = np.linspace(1.4e9, 1.39e9, 4) - subband * 11.7e6
        header["Ntimes"], header["Nfreqs"], header["Nants_data"] = 24, 4, 96
        header["extra_keywords/phase_center_dec"] = np.radians(DEC_DEG)


def sky_image(n: int, flux_jy: float = 0.0) -> tuple[np.ndarray, fits.Header]:
    """Blank sky with (if `flux_jy`) a point source at the centre, 30" pixels, a round 90" beam."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval = CALIBRATOR
    wcs.wcs.crpix = n // 2 + 1, n // 2 + 1
    wcs.wcs.cdelt = -30 / 3600, 30 / 3600
    header = wcs.to_header()
    header.update(BMAJ=90 / 3600, BMIN=90 / 3600, BPA=0.0, FREQ=1.405e9, STRIP=STRIP)
    noise = np.random.default_rng(3).normal(0, 1e-3, (n, n))
    y, x = np.mgrid[:n, :n] - n // 2
    image = noise + flux_jy * np.exp(-4 * np.log(2) * (x**2 + y**2) / 3.0**2)
    return image.astype("f4"), header


def write_mosaic(folder: Path, flux_jy: float, n: int = 96) -> dict[str, str]:
    """Planes of a mosaic as photometry reads them, and their verdict."""
    image, header = sky_image(n, flux_jy)
    local = fits.ImageHDU(plain_local((n, n), header, 0.5).astype("f4"), name="LOCAL")
    local.header["MJD0"] = 61000.0
    flat = np.full((n, n), 1e-3, "f4")
    freqs = Table({"freq_hz": FREQ_HZ, "bandwidth_hz": np.full(4, 46.875e6)})
    hdus = {
        "image": ("mosaic.fits", [fits.PrimaryHDU(image, header)]),
        "noise": ("noise.fits", [fits.PrimaryHDU(flat, header), local]),
        "coverage": ("coverage.fits", [fits.PrimaryHDU(np.ones((n, n), "i2"), header)]),
        "subbands": (
            "subbands.fits",
            [
                fits.PrimaryHDU(np.array([image] * 4), header),
                fits.ImageHDU(np.array([2 * flat] * 4), name="NOISE"),
                fits.BinTableHDU(freqs, name="FREQS"),
            ],
        ),
    }
    folder.mkdir(parents=True)
    for name, planes in hdus.values():
        fits.HDUList(planes).writeto(folder / name)
    verdict = Verdict(gates=[Gate.measure("coverage", 1.0, low=0.5)])
    verdict.numbers = {"tiles_used": 3, "tiles_offered": 3}
    verdict.write(folder / "mosaic.json")
    Verdict().write(folder / "qa.json")
    return {key: str(folder / name) for key, (name, _) in hdus.items()}


def write_photometry(site: Site, group_ids: list[str]) -> list[str]:
    """One table an epoch; one source dips in the middle of the epochs."""
    rng = np.random.default_rng(1)
    flux = np.linspace(0.2, 0.6, SOURCES)
    paths = []
    for epoch, group_id in enumerate(group_ids):
        measured = flux + 0.001 * rng.standard_normal(SOURCES)
        if 8 <= epoch < 14:
            measured[DIPPING] *= 0.6
        ones, truth = np.ones(SOURCES), np.ones(SOURCES, bool)
        columns = {
            "source_id": [f"J{i:02d}+16" for i in range(SOURCES)],
            "ra_deg": CALIBRATOR[0] + 0.1 * np.arange(SOURCES),
            "dec_deg": np.full(SOURCES, CALIBRATOR[1]),
            "strip": [STRIP] * SOURCES, "epoch": (9000 + epoch) * ones.astype(int),
            "mjd": (61000.0 + epoch) * ones, "group_id": [group_id] * SOURCES,
            "primary": truth, "weight": 1e6 * ones, "flux_jy": measured,
            "flux_err_jy": 0.001 * ones, "scale_err": 0.01 * ones, "abs_err_frac": 0.02 * ones,
            "confusion_err_jy": 0.0002 * ones,
            "snr": measured / 0.001, "is_limit": ~truth, "upper_limit_jy": np.nan * ones,
            "local_rms_jy": 0.001 * ones, "background_jy": 0 * ones,
            "n_blend": ones.astype(int), "isolated": truth, "compact": truth,
            "catalog_flux_jy": flux, "n_tiles": 3 * ones.astype(int), "beam_response": ones,
            "edge_distance_deg": ones, "qa": ["pass"] * SOURCES,
        }  # fmt: skip
        for band in range(4):
            columns[f"flux_b{band}_jy"] = measured + 0.002 * rng.standard_normal(SOURCES)
            columns[f"flux_err_b{band}_jy"] = 0.002 * ones
        path = product("photometry", str(site.results), group_id=group_id)
        write_table(path, columns, FREQ_HZ, 1.405e9)
        paths.append(path)
    return paths


# The products that `write_variability` made for the first site, by their paths.
_variability: dict[Path, bytes] = {}


def write_variability(site: Site, photometry: list[str]) -> None:
    """Products of variability: made once a session, since the tables of every site are the same."""
    place = Path(product("variability_verdict", str(site.results), strip=STRIP)).parent
    if not _variability:
        _make_variability(site, photometry)
        files = [path for path in place.rglob("*") if path.is_file()]
        _variability.update({path.relative_to(place): path.read_bytes() for path in files})
    for path, content in _variability.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)


def _make_variability(site: Site, photometry: list[str]) -> None:
    site.config.variability.permutations = 1
    keys = (
        "light_curves",
        "epoch_scale",
        "metrics",
        "ese_candidates",
        "ese_candidates_ecsv",
        "ese_candidates_votable",
    )
    outputs = {k: product(k, str(site.results), strip=STRIP) for k in keys}
    outputs["plots"] = product("candidate_plots", str(site.results), strip=STRIP)
    verdict = variability.run(photometry, outputs, site.config)
    verdict.write(product("variability_verdict", str(site.results), strip=STRIP))


def fill(site: Site) -> Site:
    """Raw files, a plan, mosaics published, staged and retracted, photometry, candidates, runs."""
    write_tiles(site)
    plan = make_plan(site.config)
    plan.write(product("plan", str(site.results)))
    (planned,) = plan.mosaics
    names = {"published": planned.group_id}
    names |= {k: f"3C48_2026012{n}T030405_0123abcd" for n, k in enumerate(("staged", "retracted"))}
    for kind, group_id in names.items():
        folder = Path(product("mosaic_image", str(site.results), group_id=group_id)).parent
        planes = write_mosaic(folder, 0.1)
        if kind != "staged":
            publish_mosaic(
                planes, folder / "qa.json", group_id, site.config, site.config.paths.published,
                folder / "publication.json",
            )  # fmt: skip
    from dsaflow.publish import retract

    retract(names["retracted"], "a test", site.config.paths.published)
    site.groups = names
    epochs = [f"3C138_202602{n + 1:02d}T030405_0123abcd" for n in range(EPOCHS)]
    write_variability(site, write_photometry(site, epochs))
    Verdict("reject", "TRUNCATED_HDF5", "sb03 ends early").write(
        product("convert_verdict", str(site.results), tile=planned.tiles[0])
    )
    Verdict(numbers={"calibrator": "3C138"}).write(
        product("bandpass_verdict", str(site.results), tile=planned.tiles[1])
    )
    scan.sync(site.record, site.config)
    add_runs(site)
    return site


def add_runs(site: Site) -> None:
    """A run that ended well, with jobs and a log, and one that failed."""
    record = site.record
    group_id = site.groups["published"]
    done = record.create_run("mosaic", site.path, targets=["x"], group_ids=[group_id])
    record.transition(done, State.INITIALIZING)
    record.transition(done, State.RUNNING)
    logs = site.results / "logs" / "make_mosaic"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{group_id}.log"
    log.write_text("2026-01-20 05:17:23,000 INFO dsaflow: coadding 3 tiles\n")
    job = {"rule": "make_mosaic", "wildcards": {"group_id": group_id}, "log_path": str(log)}
    mosaic = product("mosaic_verdict", str(site.results), group_id=group_id)
    record.emit("job.started", done, jobid=1, inputs=["a"], outputs=[mosaic], **job)
    record.emit("job.finished", done, jobid=1)
    Path(record.run(done)["log_path"]).write_text("first line\nsecond line\n")
    record.transition(done, State.COMPLETE, exit_code=0)
    failed = record.create_run("batch", site.path, targets=["y"], options={"stage": "image"})
    record.transition(failed, State.INITIALIZING)
    record.transition(
        failed, State.EXECUTOR_ERROR, exit_code=1, error_class="permanent",
        error_message="KeyError: 'flux_jy'",
    )  # fmt: skip
    record.emit(
        "alert", failed, alert_id="a1", rule="run_failed", subject=failed, severity="failure",
        message="failed", state="dry-run", error="",
    )  # fmt: skip
    site.groups |= {"run": done, "failed": failed}


def events(answer: httpx.Response):
    """Events of a stream: (id, event, data)."""
    found: dict[str, list[str]] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found.setdefault(name, []).append(value)
        elif "data" in found:
            kind = found.get("event", ["message"])[0]
            yield found["id"][0], kind, "\n".join(found["data"])
            found = {}


@pytest.fixture(scope="session")
def helpers():
    """Functions of this file."""
    return SimpleNamespace(until=until, events=events, write_tiles=write_tiles, fill=fill)


@pytest.fixture(scope="module")
def new_site(tmp_path_factory):
    """Make working directories."""
    return lambda **sections: make_site(tmp_path_factory.mktemp("site"), **sections)


@pytest.fixture(scope="module")
def serve():
    """Start services; they are stopped after the module's tests."""
    started = []

    def start(site, *arguments: str, token: str | None = TOKEN, **environment) -> Service:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DSAFLOW_")}
        if token is not None:
            clean["DSAFLOW_API_TOKEN"] = token
        service = Service(site.path, list(arguments), clean | environment)
        started.append(service)
        return service.start()

    yield start
    for service in started:
        if service.process is not None and service.process.poll() is None:
            service.kill()


@pytest.fixture(scope="module")
def filled(new_site) -> Site:
    """Working directory with products and a record."""
    return fill(new_site())


@pytest.fixture(scope="module")
def filled_service(filled, serve) -> Service:
    """Service on `filled`."""
    return serve(filled)


@pytest.fixture
def api(filled_service):
    """Client with the token, of a service with products."""
    with filled_service.client() as client:
        yield client
