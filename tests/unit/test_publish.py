"""Publishing: complete or not at all, once, beside older versions, and retracted for good."""

import os
import shutil
from socket import gethostname

import numpy as np
import pytest

from dsaflow import publish
from dsaflow.config import Config
from dsaflow.errors import ConfigError
from dsaflow.fileio import read_json, sha256
from dsaflow.publish import PublicationError, publish_mosaic, retract, verify, versions
from dsaflow.verdict import Verdict

GROUP = "3C138_20260110T055700_0123abcd"
OTHER = "3C138_20260110T055700_89abcdef"


class Case:
    def __init__(self, folder):
        from astropy.io import fits

        self.folder = folder
        self.root = folder / "published"
        self.out = folder / "publication.json"
        self.config = Config()
        image = np.random.default_rng(0).normal(size=(60, 80)).astype("f4")
        image[:5] = np.nan
        image[40, 20] = 50.0
        header = fits.Header({"CRVAL1": 80.0, "CRVAL2": 16.1})
        self.products = {}
        for key in ("image", "noise", "weight"):
            self.products[key] = str(folder / f"{key}.fits")
            fits.writeto(self.products[key], image, header)
        self.qa = folder / "qa.json"
        Verdict().write(self.qa)

    def publish(self, group=GROUP):
        return publish_mosaic(
            self.products, self.qa, group, self.config, self.root, self.out, "dec+16.1"
        )

    @property
    def group(self):
        return self.root / "dec+16.1" / GROUP


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def test_a_passed_mosaic_is_published_whole_with_true_checksums(case):
    publication = case.publish()
    assert (publication["state"], publication["version"]) == ("published", 1)
    assert read_json(case.out) == publication
    folder = case.group / "v1"
    assert {f.name for f in folder.iterdir()} == {
        "image.fits", "noise.fits", "weight.fits", "qa.json", "preview.png", "manifest.json",
    }  # fmt: skip
    for name, checksum in publication["checksums"].items():
        assert sha256(folder / name) == checksum
    verify(publication)
    verify(case.out)
    verify(folder)
    assert [e.name for e in case.group.iterdir()] == ["v1"]


def test_strip_comes_from_the_header_where_it_is_not_given(case):
    publication = publish_mosaic(case.products, case.qa, GROUP, case.config, case.root, case.out)
    assert publication["path"].endswith(f"dec+16.1/{GROUP}/v1")


def test_the_same_content_is_published_once(case):
    first = case.publish()
    inode = (case.group / "v1" / "manifest.json").stat().st_ino
    assert case.publish() == first
    assert (case.group / "v1" / "manifest.json").stat().st_ino == inode
    assert versions(case.group) == [1]


def test_new_content_lies_beside_the_old(case):
    first = case.publish()
    replacement = case.folder / "new.fits"
    replacement.write_bytes(b"another image")
    os.replace(replacement, case.products["weight"])
    second = case.publish()
    assert second["version"] == 2
    assert versions(case.group) == [1, 2]
    verify(first)
    verify(second)


def test_another_configuration_lies_beside(case):
    case.publish()
    other = case.publish(OTHER)
    assert other["version"] == 1
    assert len(list((case.root / "dec+16.1").iterdir())) == 2


def test_a_rejected_mosaic_is_withheld_with_its_reason(case):
    Verdict("reject", "QA_REJECTED", "flux_scale = 1.3").write(case.qa)
    publication = case.publish()
    assert publication["state"] == "withheld"
    assert publication["reason"] == "QA_REJECTED: flux_scale = 1.3"
    assert not case.root.exists()
    with pytest.raises(PublicationError, match="flux_scale"):
        verify(publication)


def test_warned_mosaics_follow_the_configuration(case):
    Verdict("warn", None, "moon near").write(case.qa)
    assert case.publish()["state"] == "published"
    case.config.publish.warned = False
    assert case.publish()["state"] == "withheld"


@pytest.mark.parametrize("link", [True, False])
def test_links_and_copies_are_the_same_content(case, link):
    case.config.publish.link = link
    publication = case.publish()
    verify(publication)
    linked = os.stat(case.products["image"]).st_nlink == 2
    assert linked is link


def test_a_file_system_without_links_gets_copies(case, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(publish.os, "link", refuse)
    verify(case.publish())
    assert os.stat(case.products["image"]).st_nlink == 1


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may catch it."""


STEPS = ("_place", "draw_preview", "fsync_path", "write_json", "sha256")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [0, 1, 2, 3])
@pytest.mark.parametrize("cleanup", [True, False])
def test_a_kill_at_any_step_shows_nothing_and_the_next_run_completes(
    case, monkeypatch, step, call, cleanup
):
    original, count = getattr(publish, step), [0]

    def kill(*arguments, **keywords):
        if count[0] == call:
            raise Killed
        count[0] += 1
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(publish, step, kill)
        if not cleanup:
            # SIGKILL runs no finally: what was half built stays
            patch.setattr(publish.shutil, "rmtree", lambda *_, **__: None)
        try:
            case.publish()
            killed = False
        except Killed:
            killed = True
    if killed:
        assert not case.out.exists()
    for version in versions(case.group):
        verify(case.group / f"v{version}")
    visible = [e for e in case.group.glob("*") if not e.name.startswith(".")]
    assert len(visible) == len(versions(case.group)) <= 1
    publication = case.publish()
    assert (publication["state"], publication["version"]) == ("published", 1)
    verify(publication)


def test_leftovers_of_dead_processes_are_swept_and_of_living_ones_not(case):
    case.group.mkdir(parents=True)
    host = gethostname()
    dead = case.group / f".building-4194999-a-{host}"
    alive = case.group / f".building-{os.getpid()}-b-{host}"
    elsewhere = case.group / ".building-4194999-c-some-other-host"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    case.publish()
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_two_publishers_never_share_a_version(case, monkeypatch):
    original = publish.draw_preview

    def meanwhile(*arguments):
        original(*arguments)
        other = case.group / "v1"
        if not other.exists():
            other.mkdir()
            (other / "manifest.json").write_text("{}")

    monkeypatch.setattr(publish, "draw_preview", meanwhile)
    with pytest.raises(OSError, match="not empty"):
        case.publish()
    assert [f.name for f in (case.group / "v1").iterdir()] == ["manifest.json"]


def test_a_retraction_outlives_a_re_run(case):
    published = case.publish()
    tombstone = retract(GROUP, "wrong catalogue", case.root)
    assert tombstone["versions"] == [1]
    again = case.publish()
    assert (again["state"], again["reason"]) == ("retracted", "wrong catalogue")
    assert again["path"] == ""
    replacement = case.folder / "new.fits"
    replacement.write_bytes(b"another image")
    os.replace(replacement, case.products["weight"])
    assert case.publish()["state"] == "retracted"
    assert versions(case.group) == [1]
    verify(published)
    # a second retraction keeps the first reason
    assert retract(GROUP, "other reason", case.root)["reason"] == "wrong catalogue"
    assert case.publish(OTHER)["state"] == "published"


def test_retraction_survives_the_loss_of_the_results(case):
    case.publish()
    retract(GROUP, "bad", case.root)
    case.out.unlink()
    shutil.rmtree(case.group / "v1")
    assert case.publish()["state"] == "retracted"


def test_retracting_needs_something_and_a_reason(case):
    with pytest.raises(ConfigError, match="nothing published"):
        retract(GROUP, "reason", case.root)
    case.publish()
    with pytest.raises(ConfigError, match="reason"):
        retract(GROUP, " ", case.root)
    with pytest.raises(ConfigError, match="not a group_id"):
        retract("../../etc", "reason", case.root)


def test_damage_is_found_and_named(case):
    case.config.publish.link = False
    publication = case.publish()
    folder = case.group / "v1"
    (folder / "noise.fits").write_bytes(b"x")
    (folder / "weight.fits").unlink()
    (folder / "stray").write_text("?")
    with pytest.raises(PublicationError) as problem:
        verify(publication)
    for text in ("noise.fits has changed", "weight.fits is missing", "stray is not listed"):
        assert text in str(problem.value)


def test_preview_shows_the_sky_north_up(case):
    from PIL import Image

    case.publish()
    with Image.open(case.group / "v1" / "preview.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (60, 80)
    assert pixels[59 - 40, 20] == pixels.min()
    assert (pixels[-5:] == 255).all()
