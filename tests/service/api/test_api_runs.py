"""Mosaics and batches over HTTP with real Snakemake runs of a toy workflow: from request to product."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

from dsaflow.names import product
from dsaflow.verdict import Verdict

NIGHTS = ["2026-01-10", "2026-01-11", "2026-01-12", "2026-01-13", "2026-01-14"]


@pytest.fixture(scope="module")
def night_site(new_site, helpers):
    site = new_site(runs={"queue_limit": 2})
    helpers.write_tiles(site, nights=len(NIGHTS))
    return site


@pytest.fixture(scope="module")
def night_service(night_site, serve):
    return serve(night_site)


@pytest.fixture
def api(night_service):
    with night_service.client() as client:
        yield client


def create(api, night: str, expected: int, /, **fields):
    headers = fields.pop("headers", {})
    body = {"calibrator": "3C138", "transit": night} | fields
    answer = api.post("/api/mosaics/create", json=body, headers=headers)
    assert answer.status_code == expected, answer.text
    return answer.json()


def of_night(api, night: str) -> dict:
    """The mosaic of a night, asked for before."""
    page = api.get("/api/mosaics").json()["items"]
    (found,) = [m for m in page if night.replace("-", "") in m["group_id"]]
    return found


def state(api, run_id: str) -> str:
    return api.get(f"/api/runs/{run_id}").json()["state"]


def processes_of(run_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DSAFLOW_RUN_ID") == run_id:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_from_request_to_published_file(api, night_site, helpers):
    made = create(api, NIGHTS[0], 202)
    assert len(made["tiles"]) == 3
    status = made["links"]["status"]

    def making():
        answer = api.get(status).json()
        return answer if answer["stage"] == "make_mosaic" else None

    answer = helpers.until(making, "the first stage")
    assert answer["state"] in ("INITIALIZING", "RUNNING")
    assert answer["progress"]["total"] == 3
    assert answer["progress"]["done"] == 0
    live = create(api, NIGHTS[0], 409)
    assert live["code"] == "ALREADY_LIVE"
    assert live["links"]["run"] == made["links"]["run"]
    assert api.get(made["links"]["fits"]).status_code == 404

    with api.stream("GET", made["links"]["logs"]) as stream:
        (night_site.path / "go").touch()
        events = list(helpers.events(stream))
    assert events[-1][1:] == ("end", '{"state": "COMPLETE"}')
    text = "\n".join(data for _, kind, data in events if kind == "message")
    log = (night_site.record.folder / made["run_id"] / "run.log").read_text()
    assert text == log.rstrip("\n")

    answer = api.get(status).json()
    assert (answer["state"], answer["outcome"]) == ("COMPLETE", "published")
    assert answer["progress"]["done"] == answer["progress"]["total"] == 3
    with fits.open(io.BytesIO(api.get(made["links"]["fits"]).content)) as hdus:
        assert hdus[0].data.shape == (48, 48)
    again = create(api, NIGHTS[0], 200)
    assert again["publication"]["checksums"].keys() >= {"mosaic.fits"}
    assert again["run_id"] is None
    lineage = api.get(made["links"]["lineage"]).json()
    assert lineage["product"]["state"] == "published"


def test_twenty_at_once_make_one_run(api, night_service, night_site, helpers):
    (night_site.path / "go").unlink(missing_ok=True)

    def ask(_: int) -> tuple[int, str]:
        with night_service.client() as client:
            body = {"calibrator": "3C138", "transit": NIGHTS[1]}
            answer = client.post("/api/mosaics/create", json=body)
            return answer.status_code, answer.text

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert sorted(code for code, _ in answers) == [202] + 19 * [409], answers
    group_id = helpers.until(
        lambda: api.get("/api/mosaics", params={"state": "RUNNING"}).json()["items"], "the run"
    )[0]["group_id"]
    assert api.get("/api/runs", params={"group_id": group_id}).json()["total"] == 1


def test_the_queue_is_in_order_limited_and_cancelled_at_once(api):
    second, third = create(api, NIGHTS[2], 202), create(api, NIGHTS[3], 202)
    full = api.post("/api/mosaics/create", json={"calibrator": "3C138", "transit": NIGHTS[4]})
    assert (full.status_code, full.json()["code"]) == (429, "QUEUE_FULL")
    assert int(full.headers["retry-after"]) > 0
    for made in (second, third):
        answer = api.post(f"/api/mosaics/{made['group_id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "CANCELED")
    answer = api.post(f"/api/mosaics/{third['group_id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "FINISHED")


def test_cancelling_a_running_mosaic_leaves_no_process(api, night_site, helpers):
    running = of_night(api, NIGHTS[1])
    run_id, log = running["run_id"], night_site.results / "logs/make_mosaic"
    helpers.until(lambda: (log / f"{running['group_id']}.log").exists(), "its job")
    ours = processes_of(run_id)
    assert len(ours) >= 3  # supervisor, Snakemake, job
    assert not [p for p in ours if "DSAFLOW_API_TOKEN" in p.environ()]
    answer = api.post(f"/api/mosaics/{running['group_id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] in ("CANCELING", "CANCELED")
    helpers.until(lambda: state(api, run_id) == "CANCELED", "the end of the run")
    helpers.until(lambda: not processes_of(run_id), "the end of its processes")
    assert api.get(f"/api/mosaics/{running['group_id']}").json()["state"] == "CANCELED"


def test_a_service_that_was_killed_finds_what_happened_meanwhile(
    api, night_service, night_site, helpers
):
    canceled = of_night(api, NIGHTS[1])
    run_id = canceled["run_id"]
    retried = api.post(f"/api/mosaics/{canceled['group_id']}/retry")
    assert retried.status_code == 202
    helpers.until(lambda: state(api, run_id) == "RUNNING", "the run again")
    night_service.kill()
    night_service.start()
    assert state(api, run_id) == "RUNNING"
    night_service.kill()
    (night_site.path / "go").touch()
    helpers.until(
        lambda: night_site.record.run(run_id)["state"] == "COMPLETE", "the end without a service"
    )
    night_service.start()
    run = api.get(f"/api/runs/{run_id}").json()
    assert (run["state"], run["exit_code"]) == ("COMPLETE", 0)
    assert api.get(f"/api/mosaics/{canceled['group_id']}/status").json()["outcome"] == "published"
    assert api.post(f"/api/runs/{run_id}/retry").json()["code"] == "NOT_RETRIABLE"


def test_an_idempotency_key_gives_one_run(api, night_site):
    headers = {"Idempotency-Key": "request-1"}
    first = create(api, NIGHTS[2], 202, headers=headers)
    assert create(api, NIGHTS[2], 202, headers=headers)["run_id"] == first["run_id"]
    other = create(api, NIGHTS[3], 422, headers=headers)
    assert other["code"] == "IDEMPOTENCY_KEY_USED"
    assert create(api, NIGHTS[2], 422, headers={"Idempotency-Key": "a b"})["code"] == "INVALID"
    # or 409 where it was quick: what follows need not wait for it
    assert api.post(f"/api/runs/{first['run_id']}/cancel").status_code in (202, 409)


def test_an_idempotency_key_of_another_request_is_refused(api):
    headers = {"Idempotency-Key": "request-2"}
    one, other, *_ = api.get("/api/mosaics").json()["items"][0]["tiles"]

    def batch(stage, **body):
        return api.post(f"/api/batch/{stage}", json=body, headers=headers)

    first = batch("convert", tiles=[one]).json()
    assert batch("convert", tiles=[one]).json()["run_id"] == first["run_id"]
    for answer in (
        batch("convert", tiles=[other]),
        batch("image", tiles=[one]),
        batch("convert", tiles=[one], start="2026-01-01T00:00:00"),
        api.post("/api/mosaics/create", json={"calibrator": "3C138"}, headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_USED")
    assert api.post(f"/api/runs/{first['run_id']}/cancel").status_code in (202, 409)


def test_retracted_mosaics_are_gone_and_not_made_again(api, helpers):
    page = helpers.until(
        lambda: api.get("/api/mosaics", params={"outcome": "published"}).json()["items"], "one"
    )
    group_id = page[0]["group_id"]
    night = next(n for n in NIGHTS if n.replace("-", "") in group_id)
    answer = api.post(f"/api/mosaics/{group_id}/retract", json={"reason": "wrong delays"})
    assert answer.json()["versions"] == [1]
    assert api.get(f"/api/mosaics/{group_id}/fits").status_code == 410
    assert api.get(f"/api/mosaics/{group_id}").json()["outcome"] == "retracted"
    assert create(api, night, 409)["code"] == "RETRACTED"
    assert api.post(f"/api/mosaics/{group_id}/publish").json()["code"] == "RETRACTED"
    missing = api.post("/api/mosaics/3C1_20200101T000000_00000000/retract", json={"reason": "x"})
    assert missing.json()["code"] == "NOT_PUBLISHED"


def test_nothing_is_started_without_data(api):
    assert create(api, "2026-03-01", 404)["code"] == "NO_DATA"
    assert create(api, NIGHTS[0], 404, calibrator="3C48")["code"] == "NO_DATA"
    window = {"start": "2025-01-01T00:00:00Z", "end": "2025-01-01T00:15:00Z"}
    answer = api.post("/api/mosaics/create", json=window)
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_DATA")


def test_batches(api, helpers):
    mosaics = api.get("/api/transits", params={"calibrator": "3C138", "status": "ready"}).json()
    wanted = mosaics["items"][-1]["group_id"]
    answer = api.post("/api/batch/publish", json={"group_ids": [wanted]})
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]
    helpers.until(lambda: state(api, run_id) == "COMPLETE", "the batch")
    batch = api.get(f"/api/batch/{run_id}").json()
    assert (batch["kind"], batch["options"]["stage"]) == ("batch", "publish")
    assert api.get(f"/api/mosaics/{wanted}/status").json()["outcome"] == "published"
    assert run_id in [b["run_id"] for b in api.get("/api/batch").json()["items"]]
    assert api.post(f"/api/batch/{run_id}/cancel").json()["code"] == "FINISHED"
    empty = {"start": "2020-01-01T00:00:00", "end": "2020-01-02T00:00:00"}
    assert api.post("/api/batch/image", json=empty).json()["code"] == "NO_DATA"
    assert api.post("/api/batch/image", json={"tiles": ["20200101T000000"]}).status_code == 422
    assert api.post("/api/batch/destroy", json=empty).status_code == 422


def test_a_rejected_item_is_judged_again(api, night_site, helpers):
    (tile, *_) = of_night(api, NIGHTS[1])["tiles"]
    path = Path(product("convert_verdict", "results", tile=tile))
    Verdict("reject", "TRUNCATED_HDF5", "sb03 ends early").write(night_site.path / path)
    night_site.record.emit(
        "quarantine.seen", item=f"convert/{tile}", stage="convert", reason_code="TRUNCATED_HDF5",
        path=str(path),
    )  # fmt: skip
    item = f"/api/quarantine/convert/{tile}"
    assert api.get(item).json()["state"] == "open"
    helpers.until(lambda: not api.get("/api/health").json()["live_run"], "a free directory")
    answer = api.post(f"{item}/retry")
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]
    helpers.until(lambda: state(api, run_id) == "COMPLETE", "the run")
    assert Verdict.read(night_site.path / path).verdict == "pass"
    row = helpers.until(
        lambda: (found := api.get(item).json())["state"] == "resolved" and found, "the resolution"
    )
    assert row["note"] == "no longer rejected"
    assert api.post(f"{item}/retry").json()["code"] == "NOTHING_TO_RETRY"


def test_a_clean_stop_takes_its_notice_along(night_service, night_site):
    notice = night_site.record.folder / "service.json"
    assert notice.exists()
    assert night_service.stop() == 0
    assert not notice.exists()
