"""A new model takes the place of the present one unless it is worse."""

from __future__ import annotations

import shutil

import pytest
import torch

from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest
from lm.recommend.promotion import promote
from lm.recommend.settings import RecommendTrainSettings
from lm.recommend.train_recommender import train_recommend
from tests.lm.recommend.test_train_recommender import ITEMS, TINY, shop

UNTRAINED = RecommendTrainSettings(**(vars(TINY) | {"learning_rate": 1e-9, "neighbours": False}))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    for name, settings in (("good", TINY), ("bad", UNTRAINED)):
        train_recommend(shop(), ITEMS, settings, folder / name)
    torch.set_num_threads(before)
    return folder


def run(models, tmp_path, candidate: str, present: str | None) -> tuple[str, str]:
    """Promote copies of the models; what was said, and the fingerprint of the model that is there afterwards."""
    shutil.copytree(models / candidate, tmp_path / "candidate")
    if present is not None:
        shutil.copytree(models / present, tmp_path / "present")
    said = promote(tmp_path / "candidate", tmp_path / "present", shop(), ITEMS, TINY)
    assert not (tmp_path / "candidate").exists()
    return said, model_fingerprint(tmp_path / "present")


def test_a_better_model_is_promoted(models, tmp_path):
    said, left = run(models, tmp_path, "good", "bad")
    assert said.startswith("Promoted")
    assert "on the held-out newest purchases of " in said
    assert left == model_fingerprint(models / "good")


def test_a_worse_model_is_not_and_the_present_one_stays(models, tmp_path):
    said, left = run(models, tmp_path, "bad", "good")
    assert said.startswith("Not promoted")
    assert "difference -" in said
    assert left == model_fingerprint(models / "good")


def test_an_equal_model_is_promoted(models, tmp_path):
    said, _ = run(models, tmp_path, "good", "good")
    assert said.startswith("Promoted")
    assert "difference +0.0000 (+0.0000 to +0.0000)" in said


def test_the_first_model_needs_no_comparison(models, tmp_path):
    said, left = run(models, tmp_path, "bad", None)
    assert "there was no model" in said
    assert left == model_fingerprint(models / "bad")
    assert read_manifest(tmp_path / "present").training["settings"]["learning_rate"] == 1e-9
