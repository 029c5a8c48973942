"""Every read of the API on a record and products that the package's own writers made."""

import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from prometheus_client.parser import text_string_to_metric_families

from dsaflow.fileio import write_json
from dsaflow.names import candidate_id, product
from dsaflow.variability.efficiency import COLUMNS

CANDIDATE = candidate_id("dec+16.1", "J03+16")


def get(api, path, expected=200, /, **params):
    answer = api.get(path, params=params)
    assert answer.status_code == expected, answer.text
    return answer.json()


def test_mosaics_are_listed_and_shown(api, filled):
    group_id = filled.groups["published"]
    page = get(api, "/api/mosaics", outcome="published")
    assert [m["group_id"] for m in page["items"]] == [group_id]
    assert get(api, "/api/mosaics", outcome="withheld")["total"] == 0
    mosaic = get(api, f"/api/mosaics/{group_id}")
    assert mosaic["calibrator"] == "3C138"
    assert len(mosaic["tiles"]) == 3
    assert get(api, mosaic["links"]["run"])["run_id"] == filled.groups["run"]


def test_status_says_stage_progress_tiles_and_times(api, filled):
    status = get(api, f"/api/mosaics/{filled.groups['published']}/status")
    assert (status["state"], status["outcome"]) == ("COMPLETE", "published")
    assert status["tiles"] | {"names": 0} == {"planned": 3, "used": 3, "rejected": 0, "names": 0}
    assert status["progress"]["stages"][0]["rule"] == "make_mosaic"
    assert status["times"]["ended_s"] >= status["times"]["started_s"]
    assert status["error"] is None


def test_published_fits_and_preview_are_given_out(api, filled):
    group_id = filled.groups["published"]
    answer = api.get(f"/api/mosaics/{group_id}/fits")
    assert answer.headers["content-type"] == "application/fits"
    with fits.open(io.BytesIO(answer.content)) as hdus:
        assert hdus[0].data.shape == (96, 96)
    part = api.get(f"/api/mosaics/{group_id}/fits", headers={"Range": "bytes=0-29"})
    assert (part.status_code, part.content[:6]) == (206, b"SIMPLE")
    assert api.get(f"/api/mosaics/{group_id}/preview.png").content[:4] == b"\x89PNG"


def test_staged_retracted_and_unknown_mosaics(api, filled):
    staged, retracted = filled.groups["staged"], filled.groups["retracted"]
    assert get(api, f"/api/mosaics/{staged}/fits", 404)["code"] == "NOT_PUBLISHED"
    answer = api.get(f"/api/mosaics/{staged}/fits", params={"staged": True, "plane": "noise"})
    assert answer.status_code == 200
    assert get(api, f"/api/mosaics/{retracted}/fits", 410)["message"].endswith("a test")
    assert get(api, "/api/mosaics/3C1_20200101T000000_00000000", 404)["code"] == "NOT_FOUND"


def test_runs_and_jobs(api, filled):
    failed = get(api, "/api/runs", state="EXECUTOR_ERROR")["items"]
    assert [r["error_message"] for r in failed] == ["KeyError: 'flux_jy'"]
    assert get(api, "/api/batch")["items"][0]["run_id"] == filled.groups["failed"]
    assert get(api, f"/api/batch/{filled.groups['run']}", 404)["code"] == "NOT_FOUND"
    jobs = get(api, "/api/jobs", run_id=filled.groups["run"])
    assert [j["rule"] for j in jobs["items"]] == ["make_mosaic"]
    assert get(api, jobs["items"][0]["links"]["self"])["state"] == "COMPLETE"
    assert get(api, f"/api/runs/{filled.groups['run']}/progress")["done"] == 1
    by_group = get(api, "/api/runs", group_id=filled.groups["published"])
    assert [r["run_id"] for r in by_group["items"]] == [filled.groups["run"]]


def test_pages_of_a_list_are_disjoint_and_whole(api):
    total = get(api, "/api/sources", limit=5)["total"]
    pages = [get(api, "/api/sources", limit=5, offset=n)["items"] for n in range(0, total, 5)]
    names = [s["source_id"] for page in pages for s in page]
    assert len(names) == len(set(names)) == total


def test_cone_search_is_by_distance(api):
    found = get(api, "/api/sources", ra_deg=80.2911918, dec_deg=16.6394587, radius_deg=0.25)
    assert [s["source_id"] for s in found["items"]] == ["J00+16", "J01+16", "J02+16"]
    assert found["items"][1]["separation_deg"] == pytest.approx(0.1 * 0.958, abs=1e-3)
    assert get(api, "/api/sources", 422, ra_deg=80)["code"] == "INVALID"


def test_light_curve_and_variability_of_a_source(api):
    (curve,) = get(api, "/api/sources/J03+16/lightcurve")["curves"]
    flux = [epoch["norm_flux"] for epoch in curve["epochs"]]
    assert min(flux) == pytest.approx(0.6, abs=0.05)
    assert len(curve["epochs"][0]["bands"]) == 4
    (source,) = get(api, "/api/sources/J03+16/variability")
    assert source["eta"] > 10
    assert get(api, "/api/sources/nobody/lightcurve", 404)["code"] == "NOT_FOUND"


def test_candidates_their_curves_plots_and_reviews(api):
    listed = get(api, "/api/ese/candidates")
    (candidate,), (search,) = listed["items"], listed["searches"]
    assert search["threshold_ln_lr"] < candidate["log_likelihood_ratio"]
    assert candidate["false_alarms_per_survey"] < search["false_alarms_per_survey"] <= 0.0101
    assert candidate["false_alarms_per_source_year"] * search["source_years"] == pytest.approx(
        candidate["false_alarms_per_survey"]
    )
    assert candidate["q_value"] < 0.01
    assert candidate["probability_real"] > 0.9
    assert candidate["duration_days"] == pytest.approx(6, abs=5 * candidate["duration_err_days"])
    assert candidate["candidate_id"] == CANDIDATE
    assert candidate["significance"] > 10
    assert len(candidate["bands"]) == 4
    assert get(api, candidate["links"]["lightcurve"])["source_id"] == "J03+16"
    assert api.get(candidate["links"]["plot.png"]).content[:4] == b"\x89PNG"
    body = {"verdict": "confirmed", "reviewer": "a tester", "note": "plain to see"}
    assert api.post(candidate["links"]["review"], json=body).status_code == 201
    assert get(api, candidate["links"]["self"])["reviews"][0]["note"] == "plain to see"
    assert get(api, "/api/ese/candidates", reviewed=False)["total"] == 0
    assert get(api, "/api/ese/candidates", min_significance=1e4)["total"] == 0


def test_a_list_shows_the_efficiency_once_the_search_is_characterised(api, filled):
    assert get(api, "/api/ese/candidates")["items"][0]["efficiency"] is None
    folder = Path(product("ese_characterisation", str(filled.results), strip="dec+16.1")).parent
    # one cell like the event (40 %, 6 d, S/N of some hundreds) and one unlike it
    values = ("quiet", 0.3, 0.5, 5.0, 10.0, 50.0, 22, 1, 0.97, 0.95, 0.99)
    other = ("quiet", 0.05, 0.05, 60.0, 60.0, 10.0, 22, 1, 0.02, 0.01, 0.03)
    rows = [dict(zip(COLUMNS, cell, strict=True)) for cell in (other, values)]
    bound = {"what": "false alarms", "bound": "<= 1e-4", "measured": "0", "met": True}
    content = {
        "threshold_ln_lr": 15.0, "n_event_free_seasons": 1000, "source_years": 300.0,
        "n_injected": 400, "bounds": [bound],
    }  # fmt: skip
    folder.mkdir()
    try:
        pq.write_table(pa.Table.from_pylist(rows), folder / "efficiency.parquet")
        write_json(folder / "ese.json", content)
        listed = get(api, "/api/ese/candidates")
    finally:
        shutil.rmtree(folder)
    (candidate,), (search,) = listed["items"], listed["searches"]
    assert [candidate[f"efficiency{end}"] for end in ("", "_low", "_high")] == [0.97, 0.95, 0.99]
    assert search["characterisation"] == content


def test_products_and_their_lineage(api, filled):
    states = {p["product_id"]: p["state"] for p in get(api, "/api/data")["items"]}
    group_id = filled.groups["published"]
    assert states[f"{group_id}.v1"] == "published"
    assert states[filled.groups["staged"]] == "staged"
    assert states[f"{filled.groups['retracted']}.v1"] == "retracted"
    lineage = get(api, f"/api/data/{group_id}/lineage")
    assert lineage["product"]["version"] == 1
    assert lineage["config_hash"] == group_id[-8:]
    assert [len(t["raw_files"]) for t in lineage["tiles"]] == [16, 16, 16]
    mosaic = lineage["mosaic"][0]
    assert (mosaic["rule"], mosaic["run_id"]) == ("make_mosaic", filled.groups["run"])
    assert lineage["tiles"][0]["steps"][0]["reason_code"] == "TRUNCATED_HDF5"


def test_calibrations_and_their_validity(api):
    (bandpass,) = get(api, "/api/calibrations")["items"]
    assert bandpass["calibrator"] == "3C138"
    assert bandpass["valid_to_mjd"] - bandpass["valid_from_mjd"] == pytest.approx(2.0)
    assert get(api, "/api/calibrations", at_mjd=1.0)["total"] == 0
    (timeline,) = get(api, "/api/calibrations/timeline")["items"]
    assert timeline["spans"][0]["solutions"] == [bandpass["tile"]]
    assert timeline["uncovered"] == []
    (none,) = get(api, "/api/calibrations/timeline", kind="gains")["items"]
    assert (none["spans"], len(none["uncovered"])) == ([], 3)


def test_transits_past_and_coming(api, filled):
    ready = get(api, "/api/transits", calibrator="3C138", status="ready")["items"]
    assert [t["group_id"] for t in ready] == [filled.groups["published"]]
    assert ready[0]["state"] == "published"
    assert len(get(api, "/api/transits", calibrator="3C138", status="coming")["items"]) == 1
    assert "3C138" in get(api, "/api/transits", 422, calibrator="3C139")["message"]


def test_quarantine(api, filled):
    page = get(api, "/api/quarantine", state="open", stage="convert")
    assert [q["reason_code"] for q in page["items"]] == ["TRUNCATED_HDF5"]
    link = page["items"][0]["links"]["resolve"]
    resolved = api.post(link, json={"note": "copied again"}).json()
    assert (resolved["state"], resolved["note"]) == ("resolved", "copied again")
    assert get(api, "/api/quarantine", state="open", stage="convert")["total"] == 0
    assert get(api, "/api/quarantine/convert/20200101T000000", 404)["code"] == "NOT_FOUND"


def test_health_and_readiness(api):
    assert get(api, "/api/health/live") == {"status": "alive"}
    assert get(api, "/api/health/ready") == {"ready": True, "problems": []}
    health = get(api, "/api/health")
    assert health["runs_by_state"]["COMPLETE"] == 1
    assert health["disks"][0]["free_bytes"] > 0
    assert health["last_success_s"] > 0


def test_metrics_are_prometheus_text(api):
    answer = api.get("/metrics")
    families = {f.name: f for f in text_string_to_metric_families(answer.text)}
    by_state = {s.labels["state"]: s.value for s in families["dsaflow_runs"].samples}
    assert (by_state["COMPLETE"], by_state["EXECUTOR_ERROR"]) == (1, 1)
    assert {s.labels["rule"] for s in families["dsaflow_stage_seconds"].samples} == {"make_mosaic"}
    assert families["dsaflow_stage_success_ratio"].samples[0].value == 1
    assert families["dsaflow_disk_free_bytes"].samples[0].value > 0
    assert families["dsaflow_ready"].samples[0].value == 1


def test_stage_statistics_logs_and_alerts(api, filled):
    (stage,) = get(api, "/api/metrics/stages")["items"]
    assert (stage["rule"], stage["success_rate"]) == ("make_mosaic", 1)
    found = get(api, "/api/logs/search", q="coadding")["items"]
    assert found[0]["rule"] == "make_mosaic"
    assert get(api, "/api/logs/search", q="coadding", rule="convert")["items"] == []
    for query in ('"', "a AND", "*", "text:x", "NEAR(", "-"):
        get(api, "/api/logs/search", q=query)
    (alert,) = get(api, "/api/alerts", rule="run_failed")["items"]
    assert alert["run_id"] == filled.groups["failed"]


def test_documentation_needs_no_internet(api):
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert api.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
    assert get(api, "/openapi.json")["info"]["title"] == "dsaflow"
