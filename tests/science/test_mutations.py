"""The physics broken on purpose in the pipeline, one error at a time: each must show against the truth.

The errors are those of `dsaflow validate --mutations`.
"""

import pytest
from typer.testing import CliRunner

from dsaflow.cli import app
from dsaflow.validation import mutations
from dsaflow.validation.mutations import MUTATIONS, Mutation, run_mutation
from dsaflow.validation.onetile import Check, OneTile

# Near kin of the others, or seen by other fast tests as well (the order of subbands: convert's).
SLOW = {
    "beam_squared", "beam_omitted", "beam_omitted_in_calibration", "static_beam_in_clean",
    "sign_of_w_in_phasing", "receptors_swapped_before_application",
    "subbands_in_the_order_of_their_names",
}  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return OneTile(tmp_path_factory.mktemp("mutations"))


def test_the_unbroken_chain_holds_every_bound(chain):
    assert [check for check in chain.base if not check.holds] == []


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(m, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for m in MUTATIONS
        for name in [m.apply.__name__]
    ],
)
def test_an_error_shows(chain, mutation, tmp_path):
    assert run_mutation(chain, mutation, tmp_path / "broken").caught_by


class Weighed:
    """Stands in for the chain: shows whatever the only error makes of `TRUTH`."""

    TRUTH = 1.0

    def __init__(self, place, seed, sky_seed):
        place.mkdir(parents=True)
        self.base = self.run("image", place)

    def run(self, stage, folder):
        return [Check("weight", abs(self.TRUTH - 1), 0.01)]


def heavy(patch):
    patch(Weighed, "TRUTH", 1.5)


def harmless(patch):
    patch(Weighed, "TRUTH", 1.001)


@pytest.mark.parametrize(
    ("errors", "code", "said"),
    [([heavy], 0, "| heavy | weight 0.5 (0.01) | weight |"), ([heavy, harmless], 1, "NOT CAUGHT")],
)
def test_the_command_says_what_caught_what(tmp_path, monkeypatch, errors, code, said):
    monkeypatch.setattr(mutations, "OneTile", Weighed)
    monkeypatch.setattr(mutations, "MUTATIONS", [Mutation(e, "image") for e in errors])
    done = CliRunner().invoke(app, ["validate", "--mutations", "--folder", str(tmp_path)])
    assert done.exit_code == code, done.output
    assert said in done.output


def test_a_bound_that_the_unbroken_chain_breaks_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(mutations, "OneTile", Weighed)
    monkeypatch.setattr(mutations, "MUTATIONS", [])
    monkeypatch.setattr(Weighed, "TRUTH", float("nan"))
    good, text = mutations.run_all(tmp_path, [1])
    assert not good
    assert "BOUND NOT MET" in text
