"""Golden answers: code that changes an answer raises its task's CODE_VERSION, or old answers pass for its own.

Where a test here fails and the change is meant: raise CODE_VERSION in the task's module and write the new digits here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.tasks import answers, recommend, sentiment
from lm.answers.grounding import ungrounded
from lm.engine.sampling import Sampler
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.sentiment.classifier import SentimentClassifier
from lm.text.prompt import PromptEncoder
from tests.models import save_causal, save_classifier

TITLES = ["Black ink cartridge", "Red cotton T-shirt, size M", "Blue cotton T-shirt, size L", "Argan oil shampoo"]
WORDS = ["it", "call", "arrives", "within", "days", "costs"]
GOLDEN_LISTS = {
    "titles": (7, [("i3", -44.255), ("i2", -57.635), ("i1", -63.97)]),
    "item_tokens": (7, [("i1", -0.895), ("i3", -0.902), ("i2", -1.721)]),
}
GOLDEN_LABELS = (3, [[0.225, 0.423, 0.351], [0.293, 0.425, 0.282]])
GOLDEN_ANSWERS = (3, [26, 124, 68, 84, 357, 180, 86, 295], [[], ["15"], ["Anna"]])
PROMPT = "Customer history\nBought: Inkjet printer with scanner\nBought:"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("coding", ["titles", "item_tokens"])
def test_lists(tmp_path: Path, coding: str) -> None:
    ids = [f"i{n}" for n in range(len(TITLES))]
    folder = save_causal(tmp_path / "model", item_ids=ids if coding == "item_tokens" else ())
    catalogue = Catalogue.build(ids, TITLES, PromptEncoder.load(folder))
    model = Recommender.load(folder, catalogue, dtype="float32")
    (found,) = model.recommend([PROMPT], [["i0"]], 3)
    assert (recommend.CODE_VERSION, [(c.item_id, round(c.score, 3)) for c in found]) == GOLDEN_LISTS[coding]


@pytest.mark.usefixtures("one_thread")
def test_labels(tmp_path: Path) -> None:
    model = SentimentClassifier.load(save_classifier(tmp_path), dtype="float32")
    judged = model.judge(["smells lovely, my hair is soft", "awful, it broke"], 64)
    assert (sentiment.CODE_VERSION, judged.p.round(3).tolist()) == GOLDEN_LABELS


@pytest.mark.usefixtures("one_thread")
def test_answers(tmp_path: Path) -> None:
    """An answer is drawn by the sampler, and taken where `ungrounded` finds no fact that its prompt lacks."""
    sampler = Sampler.load(save_causal(tmp_path), dtype="float32")
    ((drawn,),) = sampler.sample([PROMPT], max_new_tokens=8)
    prompt = "Open Your Orders. The parcel arrives within 14 days and costs 3.99."
    stated = ["It costs 3.99.", "It arrives within 15 days.", "Call Anna."]
    refused = [ungrounded(text, prompt, "", WORDS) for text in stated]
    assert (answers.CODE_VERSION, list(drawn.tokens), refused) == GOLDEN_ANSWERS
