"""The real workflow over HTTP on simulated nights: from the request to the published FITS file."""

import importlib.util
import io
import threading
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

from dsaflow.fileio import sha256

pytestmark = pytest.mark.slow

STAGES = {
    "convert", "flag", "solve_bandpass", "solve_gains", "apply_calibration", "image_tile",
    "make_mosaic", "qa_mosaic", "publish_mosaic", "measure_photometry",
}  # fmt: skip


def _workflow_conftest():
    path = Path(__file__).resolve().parents[2] / "workflow" / "conftest.py"
    spec = importlib.util.spec_from_file_location("workflow_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_workspace = _workflow_conftest().make_workspace


@pytest.fixture(scope="module")
def nights(make_workspace):
    """Two simulated nights of three tiles, and nothing made of them."""
    workspace = make_workspace(
        {
            # seconds a tile: the service is what is tested
            "simulate": {
                "stations": 24, "max_sources": 60, "n_epochs": 2, "full_array_tiles": [],
            },
            "image": {"size": 560, "pixel_arcsec": 34.0, "beam_terms": 1, "channel_blocks": 2},
            "clean": {"high_water": 1.0},
            "alerts": {"dry_run": True},
            "runs": {"interrupt_s": 5.0, "terminate_s": 3.0},
        }
    )  # fmt: skip
    workspace.snakemake("simulation")
    return workspace


@pytest.fixture(scope="module")
def service(nights, serve):
    return serve(nights, "--configfile", "test.yaml", "--profile", "profiles/demo")


@pytest.fixture
def api(service):
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def first(service, helpers):
    """The first night's mosaic, made while its status and its log were watched."""
    with service.client() as client:
        body = {"calibrator": "3C138", "transit": "earliest"}
        made = client.post("/api/mosaics/create", json=body)
        assert made.status_code == 202, made.text
        made = made.json()
        again = client.post("/api/mosaics/create", json=body)
        seen, log = [], []

        def read() -> None:
            with service.client() as other, other.stream("GET", made["links"]["logs"]) as answer:
                log.extend(helpers.events(answer))

        reader = threading.Thread(target=read)
        reader.start()

        def finished() -> bool:
            status = client.get(made["links"]["status"]).json()
            seen.append(status)
            return status["state"] not in ("QUEUED", "INITIALIZING", "RUNNING")

        helpers.until(finished, "the mosaic", 1200)
        reader.join(60)
        return made, again, seen, log


def test_status_went_through_every_stage(first):
    _, _, seen, _ = first
    last = seen[-1]
    assert (last["state"], last["outcome"]) == ("COMPLETE", "published"), last
    assert {s["rule"] for s in last["progress"]["stages"]} >= STAGES
    assert all(s["done"] == s["total"] > 0 for s in last["progress"]["stages"])
    assert len({s["stage"] for s in seen} & STAGES) >= 5
    done = [s["progress"]["done"] for s in seen]
    assert done == sorted(done)
    assert seen[0]["state"] in ("QUEUED", "INITIALIZING", "RUNNING")
    assert last["tiles"]["used"] == 3
    assert last["retry_count"] == 0


def test_a_second_request_while_it_is_made_is_refused(first):
    made, again, _, _ = first
    assert again.status_code == 409
    assert again.json()["links"]["run"] == made["links"]["run"]


def test_the_log_came_whole_and_ended(first, nights):
    made, _, _, log = first
    assert log[-1][1:] == ("end", '{"state": "COMPLETE"}')
    written = (nights.results / "runs" / made["run_id"] / "run.log").read_text()
    assert "\n".join(d for _, kind, d in log if kind == "message") == written.rstrip("\n")


def test_the_published_file_opens_and_is_what_the_manifest_says(api, first, tmp_path):
    made = first[0]
    answer = api.get(made["links"]["fits"])
    file = tmp_path / "mosaic.fits"
    file.write_bytes(answer.content)
    header = fits.getheader(io.BytesIO(answer.content))
    assert header["GROUPID"] == made["group_id"]
    again = api.post("/api/mosaics/create", json={"calibrator": "3C138", "transit": "earliest"})
    assert again.status_code == 200
    assert sha256(file) == again.json()["publication"]["checksums"]["mosaic.fits"]
    assert api.get(made["links"]["preview.png"]).content[:4] == b"\x89PNG"


def test_lineage_leads_to_the_raw_files_and_the_jobs(api, first):
    lineage = api.get(first[0]["links"]["lineage"]).json()
    assert [len(t["raw_files"]) for t in lineage["tiles"]] == [16, 16, 16]
    steps = [s for part in lineage["tiles"] for s in part["steps"]] + lineage["mosaic"]
    assert {s["run_id"] for s in steps} == {first[0]["run_id"]}
    assert {s["rule"] for s in steps} >= STAGES - {"publish_mosaic"}


def test_forced_photometry_gives_the_pipelines_own_fluxes(api, first, nights):
    import pyarrow.parquet as pq

    group_id = first[0]["group_id"]
    table = pq.read_table(nights.results / "photometry" / f"{group_id}.parquet").to_pandas()
    good = table[(table.snr > 20) & table.isolated & (table.qa == "pass")].head(3)
    assert len(good) == 3
    positions = [
        {"name": f"s{n}", "ra_deg": row.ra_deg, "dec_deg": row.dec_deg}
        for n, row in enumerate(good.itertuples())
    ]
    positions.append({"name": "elsewhere", "ra_deg": 10.0, "dec_deg": 16.0})
    body = {"positions": positions, "group_ids": [group_id]}
    answer = api.post("/api/photometry/measure", json=body)
    assert answer.status_code == 200, answer.text
    measured = {m["position"]: m for m in answer.json()["measurements"]}
    assert [m["position"] for m in answer.json()["missing"]] == ["elsewhere"]
    for n, row in enumerate(good.itertuples()):
        found = measured[f"s{n}"]
        assert abs(found["flux_jy"] - row.flux_jy) < 0.2 * row.flux_err_jy
        assert found["flux_err_jy"] == pytest.approx(row.flux_err_jy, rel=0.1)


def _processes(run_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DSAFLOW_RUN_ID") == run_id:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_killed_service_then_cancel_then_retry(api, first, service, nights, helpers):
    made = api.post("/api/mosaics/create", json={"calibrator": "3C138"})
    assert made.status_code == 202
    run_id, links = made.json()["run_id"], made.json()["links"]

    def working() -> bool:
        jobs = api.get("/api/jobs", params={"run_id": run_id, "state": "RUNNING"}).json()
        return jobs["total"] > 0

    helpers.until(working, "a job", 300)
    service.kill()
    service.start()
    status = api.get(links["status"]).json()
    assert (status["run_id"], status["state"]) == (run_id, "RUNNING")
    helpers.until(working, "a job", 300)
    assert api.post(f"/api/mosaics/{made.json()['group_id']}/cancel").status_code == 202
    helpers.until(
        lambda: api.get(links["status"]).json()["state"] == "CANCELED", "the cancellation", 120
    )
    assert _processes(run_id) == []
    jobs = api.get("/api/jobs", params={"run_id": run_id, "state": "RUNNING"}).json()
    assert jobs["total"] == 0
    assert api.get(links["fits"]).status_code == 404
    assert api.post(f"/api/mosaics/{made.json()['group_id']}/retry").status_code == 202

    def published() -> bool:
        answer = api.get(links["status"]).json()
        assert answer["state"] not in ("EXECUTOR_ERROR", "SYSTEM_ERROR"), answer
        return answer["outcome"] == "published"

    helpers.until(published, "the mosaic", 1200)
    assert api.get(links["fits"]).status_code == 200


def test_variability_of_all_epochs_as_a_batch(api, first, helpers):
    body = {"start": "2020-01-01T00:00:00", "end": "2090-01-01T00:00:00"}
    answer = api.post("/api/batch/ese-detect", json=body)
    assert answer.status_code == 202, answer.text
    link = answer.json()["links"]["self"]
    helpers.until(lambda: api.get(link).json()["ended_s"], "the batch", 600)
    assert api.get(link).json()["state"] == "COMPLETE"
    sources = api.get("/api/sources", params={"limit": 1}).json()
    assert sources["total"] > 20
    name = sources["items"][0]["source_id"]
    (curve,) = api.get(f"/api/sources/{name}/lightcurve").json()["curves"]
    assert len(curve["epochs"]) == 2
