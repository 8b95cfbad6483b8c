"""Training the recommender on a small shop where the last purchase decides the next one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm.checkpoint.checkpoint import CO_PURCHASE_FILE, load_tokenizer
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest
from lm.metrics import metrics
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.recommend_training import fit_hybrid, mixture_weights, sampled_softmax
from lm.recommend_training.count_purchases import bought_items, recounted
from lm.recommend_training.fine_tuning import ItemTokenTuning, K
from lm.recommend_training.held_out import HeldOut, split_of
from lm.recommend_training.item_embeddings import ItemRows, add_items
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import _not_covered, train_recommend
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.prompt import Event, PromptEncoder
from lm.train.private_steps import PrivacyBudget
from lm.train.training_loop import TrainingProgress
from lm.train.training_state import TrainingError
from tests import ROOT
from tests.models import save_causal

WORDS = ("red", "blue", "green", "black", "small", "large")
GOODS = ("ink", "soap", "tea", "lamp", "pen")
ITEMS = {f"i{n:02}": f"{WORDS[n % 6]} {GOODS[n // 6]}" for n in range(30)}
TINY = RecommendTrainSettings(
    n_embd=24,
    n_layer=1,
    vocab_size=300,
    max_tokens=80,
    dropout=0.1,
    learning_rate=1e-2,
    batch_tokens=1500,
    max_epochs=8,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def shop(customers=150, seed=0):
    """Item 7n + 3 follows item n with probability 0.9; a random search precedes each purchase."""
    rng = random.Random(seed)
    histories = []
    for _ in range(customers):
        item, events, days = rng.randrange(30), [], []
        for day in range(rng.randint(3, 7)):
            events += [
                Event("searched", None, None, rng.choice(GOODS)),
                Event("bought", f"i{item:02}", ITEMS[f"i{item:02}"]),
            ]
            days += [day, day]
            item = (7 * item + 3) % 30 if rng.random() < 0.9 else rng.randrange(30)
        histories.append(CustomerEvents(events, days))
    return histories


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("models") / "recommend"
    return out, train_recommend(shop(), ITEMS, TINY, out, window={"as_of": "2026-01-01"})


def test_learns_more_than_popularity(trained):
    _, figures = trained
    assert figures["customers"] == 15
    assert figures["held_out_days"] == 2
    assert figures[f"ndcg@{K}"] > 2 * figures[f"popularity_ndcg@{K}"]
    assert figures[f"recall@{K}_low"] > figures[f"popularity_recall@{K}"]
    assert figures[f"ndcg@{K}_low"] <= figures[f"ndcg@{K}"] <= figures[f"ndcg@{K}_high"]


def test_the_folder_is_an_ordinary_one_with_our_manifest(trained):
    out, figures = trained
    manifest = read_manifest(out)
    assert manifest.item_ids == sorted(ITEMS)
    assert manifest.first_item_token == load_tokenizer(out).get_vocab_size()
    assert manifest.metrics == figures
    assert manifest.training["window"] == {"as_of": "2026-01-01"}
    assert manifest.training["settings"]["n_embd"] == 24
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.vocab_size == manifest.first_item_token + 30
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert AutoTokenizer.from_pretrained(out)("Searched: tea")["input_ids"]
    assert [path.name for path in out.parent.iterdir()] == ["recommend"]  # no work left beside it


def test_the_written_model_gives_the_lists_that_were_judged(trained):
    """They were judged before the held-out purchases were counted."""
    out, figures = trained
    split = split_of(shop(), ITEMS, TINY)
    held = split.test
    encoder = PromptEncoder.load(out)
    catalogue = Catalogue.build(list(ITEMS), list(ITEMS.values()), encoder)
    engine = Recommender.load(out, catalogue, dtype="float32")
    assert engine.hybrid.co_purchase is not None
    purchases = [
        sum(event.kind == "bought" for one in some for event in one.events) for some in (shop(), split.training)
    ]
    assert np.expm1(engine.hybrid.co_purchase.popular[0]).sum() == pytest.approx(purchases[0])
    before = bought_items(split.training, encoder.item_tokens, encoder.manifest.first_item_token, timed=True)
    engine.hybrid = recounted(engine.hybrid, before, encoder.manifest.item_ids)
    assert np.expm1(engine.hybrid.co_purchase.popular[0]).sum() == pytest.approx(purchases[1])
    prompts = [rendered.prompt for rendered in encoder.render_many([one.events for one in held], TINY.max_tokens)]
    found = engine.recommend(prompts, [sorted(one.purchased) for one in held], K)
    lists = [[scored.item_id for scored in best] for best in found]
    assert metrics.ndcg_at_k(lists, [one.items for one in held], K).mean() == pytest.approx(figures[f"ndcg@{K}"])


def test_counting_makes_the_lists_where_it_is_better_than_the_mixture(tmp_path, monkeypatch):
    """Validation is made to ask for the unlikeliest items of GPT-2 and the least popular ones."""
    fitted = mixture_weights.fit_mixture

    def wrong(rows, folds):
        found = fitted(rows, folds)
        return found._replace(mixture=tuple(-5 * weight for weight in found.mixture))

    monkeypatch.setattr(fit_hybrid, "fit_mixture", wrong)
    untrained = replace(TINY, learning_rate=1e-9, max_epochs=1)
    figures = train_recommend(shop(300), ITEMS, untrained, tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    assert manifest.neighbour_weights[0] == figures["gpt2_weight"] == 0
    assert figures["mixture_ndcg@10"] < figures["ndcg@10"]
    assert figures["mixture_ndcg@10"] < figures["co_purchase_ndcg@10"]
    assert "so counting alone makes the lists" in manifest.training["verdict"]


def test_neighbours_help_a_model_that_learned_nothing_and_can_be_left_out(tmp_path):
    untrained = vars(TINY) | {"learning_rate": 1e-9, "max_epochs": 1}
    beside = train_recommend(shop(), ITEMS, RecommendTrainSettings(**untrained), tmp_path / "beside")
    settings = RecommendTrainSettings(**untrained | {"neighbours": False})
    alone = train_recommend(shop(), ITEMS, settings, tmp_path / "alone")
    assert weights(tmp_path / "beside") == weights(tmp_path / "alone")
    assert beside[f"ndcg@{K}"] > 1.5 * alone[f"ndcg@{K}"]
    assert read_manifest(tmp_path / "alone").neighbour_weights == []
    assert not (tmp_path / "alone" / CO_PURCHASE_FILE).exists()
    assert model_fingerprint(tmp_path / "alone") != model_fingerprint(tmp_path / "beside")


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_a_training_with_differential_privacy_tells_what_it_covers(tmp_path, coding):
    settings = replace(
        TINY, coding=coding, privacy=PrivacyBudget(epsilon=4.0, batch=16), pretrain_epochs=0, max_epochs=1
    )
    train_recommend(shop(60), ITEMS, settings, tmp_path / "a")
    told = read_manifest(tmp_path / "a").training["privacy"]
    assert (told["unit"], told["covers"]) == ("one customer", "the weights of GPT-2")
    assert 3.9 < told["epsilon"] <= 4
    assert told["noise_multiplier"] > 0
    assert ("counted purchases" in told["not_covered"]) == (coding == "item_tokens")
    # Noise without a seed: whoever knows the seed cannot subtract it.
    train_recommend(shop(60), ITEMS, settings, tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "b")
    for unprotected in ({"refit": True}, {"pretrain_epochs": 1}):
        with pytest.raises(TrainingError, match="this learns without noise"):
            train_recommend(shop(60), ITEMS, replace(settings, **unprotected), tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "is_chosen"),
    [({}, True), ({"history_events": 70}, False), ({"exclude_purchased": True}, False), ({"coding": "titles"}, False)],
)
def test_a_number_of_events_that_validation_chooses_has_no_noise(change, is_chosen):
    settings = replace(TINY, **{"exclude_purchased": False} | change)
    assert ("the number of events of a prompt" in _not_covered(settings)) == is_chosen


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    short = RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 1}))
    other = RecommendTrainSettings(**(vars(short) | {"seed": 1}))
    for name, settings in (("a", short), ("b", short), ("c", other)):
        train_recommend(shop(60), ITEMS, settings, tmp_path / name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


#: Mean loss of an epoch after each of the 18 steps of two epochs: seed 0, float32, one thread.
GOLDEN = json.loads(
    "[3.4540, 3.4435, 3.4199, 3.4095, 3.4108, 3.3918, 3.3903, 3.3721, 3.3616,"
    " 3.1789, 3.1103, 3.0709, 3.0640, 3.0257, 3.0261, 3.0160, 2.9918, 3.0060]"
)


def test_golden_loss_curve(tmp_path):
    heard: list[TrainingProgress] = []
    settings = RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 2, "batch_tokens": 400}))
    train_recommend(shop(120), ITEMS, settings, tmp_path / "model", report=heard.append)
    curve = [progress.loss for progress in heard if progress.stage == "finetune"]
    assert curve == pytest.approx(GOLDEN, abs=2e-3)


def cut_training(out: str, kill_after: int) -> None:
    """Train, and be killed after so many steps; a state is written after every step."""
    from lm.train import training_loop

    training_loop._SAVE_SECONDS = training_loop._SAVE_COSTS = 0.0
    torch.set_num_threads(1)
    left = kill_after

    def report(_: TrainingProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    train_recommend(
        shop(60), ITEMS, RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 3})), Path(out), report=report
    )


@pytest.mark.faults
def test_kill_9_leaves_the_old_model_and_the_next_run_ends_as_if_undisturbed(tmp_path):
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    (cut / "model.safetensors").write_bytes(b"the old model")
    (cut / "regulars.json").write_text("{}")
    code = f"from tests.lm.recommend_training.test_train_recommender import cut_training as t; t({str(cut)!r}, 12)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert weights(cut) == b"the old model"
    assert (tmp_path / "cut.training" / "finetune.safetensors").exists()
    heard: list[TrainingProgress] = []
    settings = RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 3}))
    train_recommend(shop(60), ITEMS, settings, cut, report=heard.append)
    assert heard[0].stage == "finetune"  # the pre-training was not done again
    train_recommend(shop(60), ITEMS, settings, whole)
    assert weights(cut) == weights(whole)


def test_a_refresh_keeps_old_tokens_and_adds_new_items(trained, tmp_path):
    out, _ = trained
    more = ITEMS | {"a-new": "green printer"}
    settings = RecommendTrainSettings(**(vars(TINY) | {"init": str(out), "max_epochs": 1, "pretrain_epochs": 0}))
    train_recommend(shop(60), more, settings, tmp_path / "model")
    old, new = read_manifest(out), read_manifest(tmp_path / "model")
    assert new.item_ids == [*old.item_ids, "a-new"]
    assert new.first_item_token == old.first_item_token
    assert load_tokenizer(tmp_path / "model").to_str() == load_tokenizer(out).to_str()
    assert new.training["settings"]["n_embd"] == 24


def test_a_stock_gpt2_keeps_its_tokenizer_and_gets_item_tokens(tmp_path):
    stock = save_causal(tmp_path / "stock", stock=True)
    settings = RecommendTrainSettings(**(vars(TINY) | {"init": str(stock), "max_epochs": 1, "max_tokens": 400}))
    train_recommend(shop(60), ITEMS, settings, tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    assert manifest.first_item_token == 400
    assert manifest.training["settings"]["max_tokens"] == 255  # one of its 256 positions is the item's
    assert load_tokenizer(tmp_path / "model").get_vocab() == load_tokenizer(stock).get_vocab()


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_low_rank_updates_train_both_codings(coding, tmp_path):
    """The written model is an ordinary one; with titles only the layers of the given model have changed."""
    stock = save_causal(tmp_path / "stock", stock=True)
    changes = {"init": str(stock), "max_epochs": 1, "lora_rank": 2, "coding": coding, "pretrain_epochs": 0}
    train_recommend(shop(60), ITEMS, RecommendTrainSettings(**(vars(TINY) | changes)), tmp_path / "model")
    encoder = PromptEncoder.load(tmp_path / "model")
    model = Recommender.load(tmp_path / "model", Catalogue.build(list(ITEMS), list(ITEMS.values()), encoder))
    assert len(model.recommend(["Bought:"], [[]], 3)[0]) == 3
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (stock, tmp_path / "model"))
    same = torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight[:400])
    assert same == (coding == "titles")
    assert not torch.equal(before.transformer.h[0].attn.c_attn.weight, after.transformer.h[0].attn.c_attn.weight)


def test_items_start_from_their_titles(tmp_path):
    tokenizer = load_tokenizer(save_causal(tmp_path / "m", stock=True))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    model.config.initializer_range = 0.02  # as GPT-2's: its rows have grown tenfold since
    titles = {"x": "Black ink cartridge", "y": "zz"}
    manifest = add_items(model, tokenizer, titles, read_manifest(tmp_path / "m"), language="en", seed=0)
    rows = ItemRows(model, PromptEncoder(tokenizer, manifest), titles)
    rows.begin(known=0)
    rows.end()
    assert manifest.item_ids == ["x", "y"]
    rows = model.get_input_embeddings().weight.detach()
    title = rows[tokenizer.encode(" Black ink cartridge\n").ids].mean(dim=0)
    near = torch.nn.functional.cosine_similarity(rows[manifest.first_item_token :], title[None])
    assert near[0] > 0.95 > near[1]


@pytest.mark.parametrize("titled", [True, False])
def test_what_nobody_has_bought_is_no_rival_of_a_label(titled, tmp_path):
    tokenizer = load_tokenizer(save_causal(tmp_path / "m", stock=True))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    items = ITEMS | {"new": "red lamp"}
    manifest = add_items(model, tokenizer, items, read_manifest(tmp_path / "m"), language="en", seed=0, titled=titled)
    settings = RecommendTrainSettings(**(vars(TINY) | {"titled": titled}))
    task = ItemTokenTuning(model, PromptEncoder(tokenizer, manifest), items, settings).task(shop(40), [])
    for batch in task.batches(0):
        task.loss(batch)[0].backward()
    gradient = model.get_input_embeddings().weight.grad[manifest.first_item_token :].abs().sum(dim=1)
    assert (gradient[manifest.item_ids.index("new")] == 0) == titled
    assert (gradient > 0).sum() >= 30


def test_refit_learns_from_the_held_out_purchases_too(tmp_path):
    heard: list[TrainingProgress] = []
    settings = RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 3, "refit": True}))
    strict = RecommendTrainSettings(**(vars(TINY) | {"max_epochs": 3}))
    figures = train_recommend(shop(60), ITEMS, settings, tmp_path / "refit", report=heard.append)
    assert figures == train_recommend(shop(60), ITEMS, strict, tmp_path / "strict")
    epochs = read_manifest(tmp_path / "refit").training["epochs"]
    assert {p.epoch for p in heard if p.stage == "refit"} == set(range(epochs))
    assert weights(tmp_path / "refit") != weights(tmp_path / "strict")


def test_samples_of_the_items_learn_too(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sampled_softmax, "SAMPLED_ABOVE", 10)
    monkeypatch.setattr(sampled_softmax, "SAMPLE", 12)
    for name in ("GREATEST", "LIKELIEST", "DRAWN"):
        monkeypatch.setattr(f"lm.recommend_training.fit_candidates.{name}", 4)
    monkeypatch.setattr("lm.recommend_training.fit_hybrid.CANDIDATES", 12)
    monkeypatch.setattr("lm.recommend_training.fit_hybrid.CELLS", 200)  # the 15 customers' logits of all items are 450
    monkeypatch.setattr("lm.recommend_training.fine_tuning.VALIDATION_SCORES", 240)
    figures = train_recommend(shop(), ITEMS, TINY, tmp_path / "model")
    assert figures[f"ndcg@{K}"] > 1.5 * figures[f"popularity_ndcg@{K}"]
    assert {line["customers"] for line in read_manifest(tmp_path / "model").training["lines"]} == {8}
    exact, sampled = (read_manifest(model).neighbour_weights for model in (trained[0], tmp_path / "model"))
    assert 0 != sampled[1] == pytest.approx(exact[1], abs=0.5)


def test_the_sampled_normalizer_has_the_full_ones_expectation(monkeypatch):
    monkeypatch.setattr(sampled_softmax, "SAMPLED_ABOVE", 10)
    monkeypatch.setattr(sampled_softmax, "SAMPLE", 8)
    torch.manual_seed(0)
    sampling = sampled_softmax.SampledSoftmax.of(np.zeros(40, np.int64), unbought=True)
    scores, labels = torch.randn(40), torch.tensor([3, 17, 3])
    found = []
    for _ in range(4000):
        candidates, correction = sampling.draw(labels)
        assert set(labels.tolist()) <= set(candidates.tolist())
        found.append((scores[candidates] + correction).exp().sum())
    assert torch.stack(found).mean().item() == pytest.approx(scores.exp().sum().item(), rel=0.03)


def test_bought_items_are_never_ranked_unless_allowed(trained):
    out, _ = trained
    one = shop()[0]
    bought = frozenset(event.item_id for event in one.events if event.kind == "bought")
    held = [HeldOut(one.events, bought, frozenset({"i00"}))]
    lists = {}
    for exclude in (True, False):
        model = AutoModelForCausalLM.from_pretrained(out).eval()
        settings = RecommendTrainSettings(**(vars(TINY) | {"exclude_purchased": exclude}))
        (lists[exclude],) = ItemTokenTuning(model, PromptEncoder.load(out), ITEMS, settings).recommend(held, 30)
    assert not bought & set(lists[True])
    assert len(lists[True]) == 30 - len(bought)
    assert set(lists[False]) == set(ITEMS)


def test_too_little_to_learn_from_is_said(tmp_path):
    nothing = [CustomerEvents([Event("searched", None, None, "tea")], [0])]
    with pytest.raises(TrainingError, match="no customer has bought anything"):
        train_recommend(nothing, ITEMS, TINY, tmp_path / "model")
    one_day = [CustomerEvents([Event("bought", "i00", ITEMS["i00"])], [0])] * 9
    with pytest.raises(TrainingError, match="too few customers bought on different days"):
        train_recommend(one_day, ITEMS, TINY, tmp_path / "model")
