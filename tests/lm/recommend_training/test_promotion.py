"""A new model takes the place of the present one unless it is worse."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest, write_manifest
from lm.recommend.hybrid import Hybrid
from lm.recommend.recommender import Recommender
from lm.recommend.same_titles import SameTitles
from lm.recommend_training.count_purchases import count_hybrid
from lm.recommend_training.held_out import HeldOut
from lm.recommend_training.promotion import _Counted, _ndcg, promote
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.text.prompt import Event, PromptEncoder
from lm.train.training_state import TrainingError
from tests.lm.recommend_training.test_further_customers import buys, written
from tests.lm.recommend_training.test_train_recommender import ITEMS, TINY, shop
from tests.models import save_causal

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


def test_a_present_model_that_cannot_be_opened_is_named(tmp_path):
    save_causal(tmp_path / "present", item_ids=list(ITEMS))
    (tmp_path / "present" / "regulars.json").write_text("{")
    with pytest.raises(TrainingError, match=r"present model .*regulars\.json cannot be read.* train without --promote"):
        promote(tmp_path / "candidate", tmp_path / "present", shop(), ITEMS, TINY)


def test_a_model_is_judged_with_the_counts_of_customers_beyond_memory_too(tmp_path, monkeypatch):
    save_causal(tmp_path / "model", item_ids=list(ITEMS))
    engine = SimpleNamespace(
        hybrid=count_hybrid([], ITEMS, co_purchase=True, cold_items=False),
        recommend=lambda prompts, barred, k: [[SimpleNamespace(item_id="i05")] for _ in prompts],
    )
    monkeypatch.setattr(Recommender, "load", lambda *_, **__: engine)
    held = [HeldOut(buys(["i01"]).events, frozenset({"i01"}), frozenset({"i05"}))]
    counted = _Counted([buys(["i01"])], written(tmp_path / "further", [buys(["i01", "i02"])] * 3).upto(0))
    assert _ndcg(tmp_path / "model", held, [[]], None, ITEMS, TINY, counted).tolist() == [1.0]
    assert np.expm1(engine.hybrid.co_purchase.popular[0]).round().astype(int).tolist()[:4] == [0, 4, 0, 0]


@pytest.mark.parametrize(("trained_for", "longest"), [(None, 60), (50, 50), (200, 60)])
@pytest.mark.parametrize("exclude_purchased", [True, False])
def test_a_model_is_judged_by_the_lists_of_a_night(tmp_path, monkeypatch, trained_for, longest, exclude_purchased):
    """Each customer's newest events make the prompt, as long as both trainings allow; the right item is third."""
    save_causal(tmp_path / "model", item_ids=list(ITEMS))
    if trained_for:
        manifest = read_manifest(tmp_path / "model")
        training = {"settings": {"max_tokens": trained_for}}
        write_manifest(tmp_path / "model", manifest.model_copy(update={"training": training}))
    asked = []

    class Lists:
        hybrid = Hybrid()

        def recommend(self, prompts, barred, k):
            asked.extend([prompts, barred, k])
            return [[SimpleNamespace(item_id=item) for item in ("i10", "i11", "i05")] for _ in prompts]

    def load(*args, same_titles, **kwargs):
        asked.append(same_titles)
        return Lists()

    monkeypatch.setattr(Recommender, "load", load)
    settings = RecommendTrainSettings(history_events=4, max_tokens=60, exclude_purchased=exclude_purchased)
    events = [Event("bought", f"new{n}", f"{title} of the best") for n, title in enumerate(ITEMS.values())]
    held = [HeldOut(events, frozenset(ITEMS), frozenset({"i05"})), HeldOut(events[:1], frozenset(), frozenset({"i07"}))]
    barred = [one.not_listed(exclude_purchased=exclude_purchased, disliked_stars=2) for one in held]
    same = SameTitles.build(list(ITEMS), ["one title"] * len(ITEMS), [], [])
    assert _ndcg(tmp_path / "model", held, barred, same, ITEMS, settings, _Counted([])).tolist() == [0.5, 0.0]
    encoder = PromptEncoder.load(tmp_path / "model")
    histories = [events[-4:], events[:1]]
    shown = {length: [one.prompt for one in encoder.render_many(histories, length)] for length in (50, 60)}
    assert shown[50] != shown[60]
    assert asked == [same, shown[longest], [sorted(ITEMS), []] if exclude_purchased else [[], []], 10]
