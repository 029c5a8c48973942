"""Who may do what, and what a request can not reach: every route, from the OpenAPI itself."""

import os
import re

import httpx
import pytest

from dsaflow.api.app import create_app
from dsaflow.api.server import say_who_may_change
from dsaflow.api.settings import Service as Settings
from dsaflow.config import Config
from dsaflow.errors import ConfigError
from dsaflow.runs.record import Record

EXAMPLES = {
    "group_id": "3C138_20260120T051723_0123abcd",
    "run_id": "20260101T000000-0123abcd",
    "job_id": "20260101T000000-0123abcd.1.1.1",
    "product_id": "3C138_20260120T051723_0123abcd",
    "source_id": "J00+16",
    "candidate_id": "dec+16.1.J03+16",
    "stage": "image",
    "name": "20260120T051723",
}
SAFE = {"get", "head", "options"}


def routes(client) -> list[tuple[str, str]]:
    """Every operation of the service, with its path filled in."""
    paths = client.get("/openapi.json").json()["paths"]
    return [
        (method, re.sub(r"\{(\w+)\}", lambda m: EXAMPLES[m[1]], path))
        for path, operations in paths.items()
        for method in operations
    ]


def changes(client) -> list[tuple[str, str]]:
    found = [(method, path) for method, path in routes(client) if method not in SAFE]
    assert len(found) > 12
    return found


def test_every_change_refuses_without_the_token(filled_service, filled):
    events = sum(1 for _ in filled.record.folder.rglob("events.jsonl"))
    for token in (None, "wrong", "a token of the test", "a token of the tests ü"):
        headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
        with filled_service.client(None) as client:
            for method, path in changes(client):
                answer = client.request(method, path, json={}, headers=headers)
                assert answer.status_code == 401, (method, path, token)
                assert answer.json()["code"] == "UNAUTHORIZED"
                assert answer.headers["www-authenticate"] == "Bearer"
    assert sum(1 for _ in filled.record.folder.rglob("events.jsonl")) == events


def test_methods_and_paths_that_are_no_routes_are_refused_too(filled_service):
    with filled_service.client(None) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "PURGE"):
            for path in ("/api/mosaics", "/api/nothing", "/docs", "/metrics"):
                assert client.request(method, path).status_code == 401


def test_openapi_says_which_operations_need_the_token(api):
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            assert ("security" in operation) == (method not in SAFE), (method, path)


def test_with_the_token_a_change_gets_past_the_door(api):
    for method, path in changes(api):
        answer = api.request(method, path, json={"nonsense": 1})
        assert answer.status_code in (404, 422), (method, path, answer.text)


ORIGIN = "https://dashboard.example"


@pytest.fixture(scope="module")
def without_token(new_site, serve):
    site = new_site(api={"allowed_origins": [ORIGIN]}, clean={"high_water": 0.0})
    return serve(site, token=None)


def test_a_service_that_can_take_no_work_says_why(without_token, helpers):
    with without_token.client(None) as client:
        answer = client.get("/api/health/ready")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert "clean.high_water" in answer.json()["problems"][0]
        assert client.get("/api/health").json()["problems"] == answer.json()["problems"]
        assert "dsaflow_ready 0.0" in client.get("/metrics").text
        alerts = helpers.until(
            lambda: client.get("/api/alerts", params={"rule": "service_unready"}).json()["items"],
            "the alert",
        )
        assert "clean.high_water" in alerts[0]["message"]


def test_no_token_configured_refuses_changes_and_opens_reads(without_token):
    assert "changes are refused" in without_token.log
    with without_token.client("anything") as client:
        for method, path in changes(client):
            answer = client.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "NO_TOKEN_CONFIGURED")
        assert client.get("/api/mosaics").status_code == 200


def test_only_allowed_origins_are_told_so(without_token):
    with without_token.client(None) as client:
        for origin, allowed in ((ORIGIN, True), ("https://evil.example", False)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = client.options("/api/mosaics/create", headers=asked)
            assert (preflight.status_code == 200) == allowed
            answers = [preflight, client.get("/api/mosaics", headers={"Origin": origin})]
            answers.append(client.post("/api/mosaics/create", headers={"Origin": origin}))
            for answer in answers:
                told = answer.headers.get("access-control-allow-origin")
                assert told == (origin if allowed else None)


def test_token_file_must_be_there_filled_and_private(tmp_path):
    file = tmp_path / "token"
    config = Config()
    config.api.token_file = str(file)
    for content, mode, problem in (
        (None, 0, "no such file"),
        ("x", 0o644, "others may read"),
        ("\n", 0o600, "is empty"),
    ):
        if content is not None:
            file.write_text(content)
            file.chmod(mode)
        with pytest.raises(ConfigError, match=problem):
            say_who_may_change(config, "token of the environment")


def test_token_file_is_read_at_each_change(new_site, serve, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    file.chmod(0o600)
    site = new_site(api={"token_file": str(file)})
    service = serve(site, token="of the environment")
    statuses = {}
    for number, content in enumerate(("first\n", "second\n", "", "grün\n")):
        file.write_text(content)
        for token in ("first", "second", "of the environment", "grün"):
            headers = {"Authorization": f"Bearer {token}".encode()}
            with service.client(None, headers=headers) as client:
                answer = client.post("/api/mosaics/create", json={})
                statuses[number, token] = answer.status_code
    assert [statuses[0, t] for t in ("first", "second")] == [422, 401]
    assert [statuses[1, t] for t in ("first", "second")] == [401, 422]
    assert {statuses[2, t] for t in ("first", "second")} == {403}
    assert {statuses[n, "of the environment"] for n in (0, 1)} == {401}
    assert [statuses[n, "grün"] for n in (0, 3)] == [401, 422]


@pytest.fixture
def from_elsewhere(filled, monkeypatch):
    """Request to the application as if from another machine."""
    monkeypatch.chdir(filled.path)
    record = Record.open(filled.config)
    app = create_app(Settings(filled.config, record, filled.path, "profiles/toy", [], "secret"))
    yield lambda address: httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, client=(address, 5000)), base_url="http://service"
    )
    record.close()


@pytest.mark.parametrize("address", ["10.1.2.3", "2001:db8::1", "nonsense"])
def test_reads_from_other_machines_need_the_token(from_elsewhere, address):
    import anyio

    async def ask() -> dict[str, int]:
        token = {"Authorization": "Bearer secret"}
        async with from_elsewhere(address) as client:
            return {
                "read": (await client.get("/api/mosaics")).status_code,
                "with token": (await client.get("/api/mosaics", headers=token)).status_code,
                "ready": (await client.get("/api/health/live")).status_code,
            }

    assert anyio.run(ask) == {"read": 401, "with token": 200, "ready": 200}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_reads_on_loopback_are_open(from_elsewhere, address):
    import anyio

    async def ask() -> int:
        async with from_elsewhere(address) as client:
            return (await client.get("/api/mosaics")).status_code

    assert anyio.run(ask) == 200


TRAVERSALS = [
    "..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/config/config.yaml", "....//",
    "3C138_20260120T051723_0123abcd%00", "3C138_20260120T051723_0123abcd%2f..%2fx",
    "-rf_20260120T051723_0123abcd;id", "$(id)_20260120T051723_0123abcd",
    "3C138_２０２６0120T051723_0123abcd", "a" * 5000 + "_20260120T051723_0123abcd",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_name_leads_out_of_the_products(api, name):
    reads = (
        "/api/mosaics/{}/fits", "/api/mosaics/{}/preview.png", "/api/mosaics/{}/logs",
        "/api/data/{}/lineage", "/api/ese/candidates/{}/plot.png", "/api/jobs/{}/logs",
        "/api/runs/{}/logs", "/api/sources/{}/lightcurve", "/static-offline-docs/{}",
    )  # fmt: skip
    for template in reads:
        answer = api.get(template.format(name))
        assert answer.status_code in (404, 422), (template, answer.text[:200])
        assert b"root:" not in answer.content
    for template in ("/api/mosaics/{}/retract", "/api/quarantine/convert/{}/retry"):
        assert api.post(template.format(name), json={"reason": "x"}).status_code in (404, 405, 422)


def test_links_that_lead_out_of_the_products_are_not_followed(api, filled):
    group_id = filled.groups["staged"]
    secret = filled.path / "secret.fits"
    secret.write_text("secret")
    weight = filled.results / "mosaics" / group_id / "weight.fits"
    weight.symlink_to(secret)
    answer = api.get(f"/api/mosaics/{group_id}/fits", params={"staged": True, "plane": "weight"})
    assert answer.status_code == 404
    assert "secret" not in answer.text
    weight.unlink()


BAD_CREATES = [
    {}, {"calibrator": "3C138", "ra_deg": 1, "dec_deg": 1}, {"ra_deg": 1}, {"start": "2026-01-01"},
    {"calibrator": "3C138", "profile": "/etc"}, {"calibrator": "3C138", "profile": "profiles/x"},
    {"calibrator": "3C138", "profile": "--config=x"}, {"calibrator": "3C138; rm -rf x"},
    {"calibrator": "--help"}, {"calibrator": "3C138", "timespan_minutes": 0},
    {"calibrator": "3C138", "timespan_minutes": float("inf")}, {"calibrator": "nobody"},
    {"calibrator": "3C138", "transit": "yesterday"}, {"calibrator": "3C138", "extra": 1},
    {"start": "2026-01-02T00:00:00", "end": "2026-01-01T00:00:00"}, {"ra_deg": 400, "dec_deg": 0},
    {"start": "0001-01-01T00:00:00", "end": "9999-01-01T00:00:00"},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_CREATES, ids=str)
def test_invalid_requests_for_mosaics(api, body):
    import json

    answer = api.post("/api/mosaics/create", content=json.dumps(body))
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) <= {"code", "message", "links"}


def test_bodies_are_limited_and_must_be_json(api):
    assert api.post("/api/mosaics/create", content=b"x" * (1 << 20)).status_code == 422
    answer = api.post("/api/mosaics/create", content=b"x" * ((1 << 20) + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    chunks = (b"x" * 65536 for _ in range(64))
    assert api.post("/api/mosaics/create", content=chunks).status_code == 413
    for body in (b"", b"{", b"[]", b'"x"', b"null", b"\xff"):
        assert api.post("/api/mosaics/create", content=body).status_code == 422


def test_listens_on_loopback_only_and_once_a_record(filled_service, filled, serve):
    import psutil

    listening = psutil.Process(filled_service.process.pid).net_connections("tcp")
    assert {c.laddr.ip for c in listening if c.status == "LISTEN"} == {"127.0.0.1"}
    with pytest.raises(pytest.fail.Exception, match="a service runs already"):
        serve(filled)
    assert os.path.exists(filled.record.folder / "service.json")
