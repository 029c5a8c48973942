"""schemathesis against the real service: no server error, nothing that the OpenAPI does not say."""

import subprocess
import sys
from pathlib import Path

import pytest

from dsaflow.names import candidate_id

CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
]  # fmt: skip


@pytest.fixture
def known(filled, tmp_path) -> Path:
    """Names of things that exist, so that most requests get past 404."""
    group_id, run_id = filled.groups["published"], filled.groups["run"]
    (tile,) = [q["item"] for q in filled.record.select("SELECT item FROM quarantine LIMIT 1")]
    values = {
        "group_id": group_id, "run_id": run_id, "job_id": f"{run_id}.1.1.1",
        "product_id": group_id, "source_id": "J03+16", "name": tile.partition("/")[2],
        "candidate_id": candidate_id("dec+16.1", "J03+16"),
    }  # fmt: skip
    file = tmp_path / "schemathesis.toml"
    lines = [f'"path.{name}" = "{value}"' for name, value in values.items()]
    file.write_text("\n".join(["[parameters]", *lines]) + "\n")
    return file


@pytest.fixture
def schemathesis(filled_service, tmp_path):
    """Run it; every failure that it finds is in the message."""

    def run(*options: str, config: Path | None = None) -> None:
        client = filled_service.client()
        command = [
            Path(sys.executable).with_name("st"),
            *(["--config-file", str(config)] if config else []),
            "run", f"{filled_service.url}/openapi.json", "--checks", ",".join(CHECKS),
            "--header", f"Authorization: {client.headers['authorization']}",
            "--seed", "1", "--no-color", "--continue-on-failure", "--warnings", "off", *options,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr
        assert "Tested: 50" in done.stdout or "Operations:       50" in done.stdout
        assert "Traceback" not in filled_service.log

    return run


def test_every_operation_keeps_to_the_openapi(schemathesis, known):
    schemathesis("--phases", "fuzzing", "--max-examples", "2", config=known)


@pytest.mark.slow
def test_the_edges_of_every_parameter(schemathesis, known):
    schemathesis("--phases", "coverage,fuzzing", "--max-examples", "8", config=known)


@pytest.mark.slow
def test_names_of_things_that_may_not_exist(schemathesis):
    schemathesis("--phases", "coverage,fuzzing", "--max-examples", "8")
