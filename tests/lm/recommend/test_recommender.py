"""Lists are exact against brute force, at least as good as Hugging Face's beams, and independent of the batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2LMHeadModel

from lm.checkpoint.checkpoint import CheckpointError
from lm.recommend import beam_search, recommender
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender, ScoredItem
from lm.text.prompt import PromptEncoder
from tests.models import save_causal

COLOURS = ["Red", "Blue", "Black", "Argan", "Inkjet", "Soft"]
THINGS = ["cotton T-shirt", "ink cartridge", "oil shampoo", "printer", "oil", "printer with scanner"]
SIZES = ["", ", size M", ", size L", " for my hair", " 2"]
TITLES = [f"{c} {t}{s}" for c in COLOURS for t in THINGS for s in SIZES]  # 180, many of them prefixes of others
ITEMS = [f"i{n:03d}" for n in range(len(TITLES))]
PROMPTS = [
    "Customer history\nBought: Inkjet printer with scanner\nBought:",
    "Customer history\nSearched: ink for my printer\nBought: Black ink cartridge\nBought: Red cotton T-shirt\nBought:",
    "Customer history\nReviewed 5/5: Argan oil shampoo: smells lovely, my hair is soft\nBought:",
    "Customer history\nBought:",
    "x",
    "",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def titles_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("titles") / "m", n_embd=32, n_layer=2, n_head=2, spread=0.15)


@pytest.fixture(scope="module")
def tokens_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("tokens") / "m", item_ids=ITEMS[:150], spread=0.15)


def make_recommender(path: Path, item_ids: list[str], titles: list[str], **options: object) -> Recommender:
    catalogue = Catalogue.build(item_ids, titles, PromptEncoder.load(path))
    return Recommender.load(path, catalogue, **{"dtype": "float32", **options})


@cache
def exhaustive(path: Path, titles: tuple[str, ...], prompt: str) -> list[float]:
    """Each title's log-probability by Hugging Face's full forward."""
    encoder = PromptEncoder.load(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    before = encoder.encode(prompt) or [encoder.end_token]
    answers = [encoder.answer_tokens(title) for title in titles]
    longest = max(map(len, answers))
    rows = torch.tensor([before + answer + [0] * (longest - len(answer)) for answer in answers])
    with torch.inference_mode():
        logp = model(rows).logits[:, len(before) - 1 :].double().log_softmax(-1)
    return [float(one[torch.arange(len(answer)), answer].sum()) for one, answer in zip(logp, answers, strict=True)]


def expected_list(item_ids: list[str], scores: list[float], excluded: list[str], k: int) -> list[tuple[str, float]]:
    pairs = [(i, s) for i, s in zip(item_ids, scores, strict=True) if i not in set(excluded)]
    return sorted(pairs, key=lambda pair: (-round(pair[1], 4), pair[0]))[:k]


def equal(found: list[ScoredItem], expected: list[tuple[str, float]]) -> bool:
    """Whether both lists have the same items with nearly equal scores."""
    same = [one.item_id for one in found] == [item_id for item_id, _ in expected]
    return same and np.allclose([one.score for one in found], [score for _, score in expected], rtol=0, atol=1e-4)


def test_titles_equal_the_exhaustive_best(titles_model: Path) -> None:
    model = make_recommender(titles_model, ITEMS, TITLES)
    excluded = [[], ITEMS[:60], ITEMS[::2], [], [*ITEMS[5:], "gone"], ["gone", ITEMS[3], ITEMS[3]]]
    for k in (1, 10, 40):
        lists = model.recommend(PROMPTS, excluded, k)
        for prompt, without, found in zip(PROMPTS, excluded, lists, strict=True):
            assert equal(found, expected_list(ITEMS, exhaustive(titles_model, tuple(TITLES), prompt), without, k))


def huggingface_beams(path: Path, titles: list[str], prompt: str, k: int) -> list[float]:
    encoder = PromptEncoder.load(path)
    before = encoder.encode(prompt)
    answers = [encoder.answer_tokens(title) for title in titles]
    allowed: dict[tuple[int, ...], set[int]] = {}
    for answer in answers:
        for depth, token in enumerate(answer):
            allowed.setdefault(tuple(answer[:depth]), set()).add(token)
    end = answers[0][-1]
    assert all(answer.count(end) == 1 for answer in answers)  # a title ends with its newline and only there
    out = GPT2LMHeadModel.from_pretrained(path).generate(
        torch.tensor([before]),
        attention_mask=torch.ones(1, len(before), dtype=torch.long),
        num_beams=k,
        num_return_sequences=k,
        max_new_tokens=max(map(len, answers)),
        do_sample=False,
        length_penalty=0.0,
        eos_token_id=end,
        pad_token_id=0,
        prefix_allowed_tokens_fn=lambda _, ids: sorted(allowed.get(tuple(ids[len(before) :].tolist()), {end})),
        output_scores=True,
        return_dict_in_generate=True,
    )
    return sorted(out.sequences_scores.tolist(), reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_beams_are_never_below_huggingface(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even without the proof, the i-th score is at least that of constrained beams of the same width."""
    monkeypatch.setattr(recommender, "EXHAUSTIVE_ROWS", 0)
    monkeypatch.setattr(recommender, "PROOF_ROWS", 0)
    monkeypatch.setattr(beam_search, "LONGEST_CHAIN", [1, 2, 32][seed % 3])
    path = save_causal(tmp_path / "m", seed=seed, spread=0.25)
    model = make_recommender(path, ITEMS, TITLES)
    prompts = PROMPTS[:4]
    for k in (2, 7, 10):
        for prompt, found in zip(prompts, model.recommend(prompts, [[]] * 4, k), strict=True):
            theirs = huggingface_beams(path, TITLES, prompt, k)
            ours = [one.score for one in found]
            assert len(ours) == k
            assert all(our >= their - 1e-4 for our, their in zip(ours, theirs, strict=True))


def test_item_tokens_are_exact(tokens_model: Path) -> None:
    """Normalised over all item tokens of the checkpoint, also those that are not sold; unknown items get none."""
    sold = ITEMS[::-2]  # some that the model knows, some that it does not
    model = make_recommender(tokens_model, sold, ["t"] * len(sold))
    encoder = model.encoder
    prompts = ["Customer history\n<|item:i003|><|item:i007|>", "Customer history\nSearched: ink\n", ""]
    excluded = [sold[:20], [], [*sold[4:], "gone"]]
    huggingface = GPT2LMHeadModel.from_pretrained(tokens_model).eval()
    lists = model.recommend(prompts, excluded, 12)
    for prompt, without, found in zip(prompts, excluded, lists, strict=True):
        ids = torch.tensor([encoder.encode(prompt) or [encoder.end_token]])
        with torch.inference_mode():
            logp = huggingface(ids).logits[0, -1, encoder.manifest.first_item_token :].log_softmax(0)
        known = {item: float(logp[n]) for n, item in enumerate(ITEMS[:150]) if item in sold}
        assert equal(found, expected_list(list(known), list(known.values()), without, 12))


def test_equal_item_scores_are_ordered_by_item_id(tokens_model: Path) -> None:
    model = make_recommender(tokens_model, ITEMS[:150], ["t"] * 150)
    model.engine.model.head.zero_()  # every item equally likely
    (found,) = model.recommend(["Customer history\n"], [[ITEMS[1]]], 5)
    assert [one.item_id for one in found] == ["i000", "i002", "i003", "i004", "i005"]
    np.testing.assert_allclose([one.score for one in found], -np.log(150), rtol=1e-6)


def test_duplicate_and_prefix_titles(titles_model: Path) -> None:
    titles = ["Red oil", "Red oil", "Red oil shampoo", "Red", "Red oil", "Blue", "", "  "]
    item_ids = ["d", "a", "p", "r", "c", "b", "e", "f"]
    model = make_recommender(titles_model, item_ids, titles)
    spelled = [title.strip() or item for title, item in zip(titles, item_ids, strict=True)]
    scores = exhaustive(titles_model, tuple(spelled), PROMPTS[0])
    (found,) = model.recommend([PROMPTS[0]], [[]], 8)
    assert equal(found, expected_list(item_ids, scores, [], 8))
    (found,) = model.recommend([PROMPTS[0]], [["a"]], 3)
    assert equal(found, expected_list(item_ids, scores, ["a"], 3))
    duplicates = [one for one in model.recommend([PROMPTS[0]], [[]], 8)[0] if one.item_id in "acd"]
    assert [one.item_id for one in duplicates] == ["a", "c", "d"]
    assert len({one.score for one in duplicates}) == 1


@pytest.mark.parametrize("coding", ["titles", "item_tokens"])
def test_nothing_to_recommend(coding: str, titles_model: Path, tokens_model: Path) -> None:
    path = titles_model if coding == "titles" else tokens_model
    assert make_recommender(path, [], []).recommend(["a", "b"], [[], []], 3) == [[], []]
    model = make_recommender(path, ITEMS[:3], TITLES[:3])
    assert model.recommend([], [], 3) == []
    none, one, three = model.recommend(["a", "b", "c"], [ITEMS[:3], ITEMS[:2], []], 5)
    assert none == []
    assert [s.item_id for s in one] == [ITEMS[2]]
    assert len(three) == 3
    with pytest.raises(ValueError, match="k 0"):
        model.recommend(["a"], [[]], 0)
    with pytest.raises(ValueError, match="2 prompts and 1 lists"):
        model.recommend(["a", "b"], [[]], 1)


def test_an_excluded_product_that_the_model_does_not_know_excludes_no_other(tokens_model: Path) -> None:
    model = make_recommender(tokens_model, [*ITEMS[:5], "unknown"], ["t"] * 6)
    (found,) = model.recommend(["Customer history\n"], [["unknown"]], 5)
    assert sorted(one.item_id for one in found) == ITEMS[:5]


def test_products_unknown_to_the_model_are_not_recommended_by_token(tokens_model: Path) -> None:
    model = make_recommender(tokens_model, ITEMS[150:], TITLES[150:])
    assert model.recommend(["a"], [[]], 3) == [[]]


@pytest.mark.parametrize("coding", ["titles", "item_tokens"])
def test_prompts_longer_than_the_context_lose_their_beginning(
    coding: str, titles_model: Path, tokens_model: Path
) -> None:
    model = make_recommender(titles_model if coding == "titles" else tokens_model, ITEMS, TITLES)
    long = "Customer history\n" + "Bought: Red cotton T-shirt\n" * 200 + "Bought:"
    kept = model.engine.context - model.encoder.max_answer_tokens
    ids = model.encoder.encode(long)
    assert len(ids) > model.engine.context
    (found,) = model.recommend([long], [[]], 5)
    model.encoder.encode_many = lambda prompts: [ids[-kept:] for _ in prompts]
    assert model.recommend(["any"], [[]], 5) == [found]


@pytest.mark.parametrize("coding", ["titles", "item_tokens"])
def test_lists_have_the_same_bits_in_any_company(coding: str, titles_model: Path, tokens_model: Path) -> None:
    """Batches of 1, 8 and 64, shuffled, under a tight budget of tokens, and in partitions of 1, 2 and 7."""
    path = titles_model if coding == "titles" else tokens_model
    rng = np.random.default_rng(0)
    lines = [f"Bought: {title}\n" for title in TITLES]
    prompts = ["Customer history\n" + "".join(rng.choice(lines, rng.integers(0, 9))) + "Bought:" for _ in range(64)]
    excluded = [rng.choice(ITEMS, n).tolist() for n in rng.integers(0, 40, 64)]

    def all_lists(
        order: list[int], size: int, batch_tokens: int, worker_memory: int | None = None
    ) -> dict[int, list[ScoredItem]]:
        model = make_recommender(path, ITEMS, TITLES, batch_tokens=batch_tokens, worker_memory=worker_memory)
        lists = {}
        for start in range(0, len(order), size):
            part = order[start : start + size]
            found = model.recommend([prompts[i] for i in part], [excluded[i] for i in part], 10)
            lists |= dict(zip(part, found, strict=True))
        return lists

    whole = all_lists(list(range(64)), 64, 8192)
    assert all(len(found) == 10 for found in whole.values())
    for tried, size, batch_tokens in ((16, 1, 8192), (64, 8, 8192), (64, 64, 300), (64, 32, 8192), (64, 10, 1000)):
        lists = all_lists(rng.permutation(64)[:tried].tolist(), size, batch_tokens)
        assert lists == {i: whole[i] for i in lists}  # scores bit for bit
    scores_of_five = 5 * 5 * 4 * len(ITEMS) * recommender.SCORES_PART
    assert all_lists(list(range(64)), 64, 8192, scores_of_five) == whole


def test_bfloat16_lists_are_complete(titles_model: Path, tokens_model: Path) -> None:
    for path in (titles_model, tokens_model):
        lists = make_recommender(path, ITEMS, TITLES, dtype="bfloat16").recommend(PROMPTS, [[]] * len(PROMPTS), 10)
        assert all(len({one.item_id for one in found}) == 10 for found in lists)
        assert all(found == sorted(found, key=lambda one: (-one.score, one.item_id)) for found in lists)


def test_other_architectures(titles_model: Path, tmp_path: Path) -> None:
    """A GPT-Neo in place of the GPT-2: the exhaustive best again."""
    torch.manual_seed(0)
    encoder = PromptEncoder.load(titles_model)
    for file in ("tokenizer.json", "regulars.json"):
        (tmp_path / file).write_bytes((titles_model / file).read_bytes())
    layers = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    size = {"vocab_size": encoder.tokenizer.get_vocab_size(), "max_position_embeddings": 256}
    config = AutoConfig.for_model("gpt_neo", initializer_range=0.15, **size, **layers)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    titles, items = TITLES[:40], ITEMS[:40]
    lists = make_recommender(tmp_path, items, titles).recommend(PROMPTS[:3], [[], items[:9], []], 6)
    for prompt, without, found in zip(PROMPTS[:3], ([], items[:9], []), lists, strict=True):
        assert equal(found, expected_list(items, exhaustive(tmp_path, tuple(titles), prompt), without, 6))


def test_a_catalogue_of_the_other_coding_is_refused(titles_model: Path, tokens_model: Path) -> None:
    catalogue = Catalogue.build(ITEMS, TITLES, PromptEncoder.load(tokens_model))
    with pytest.raises(CheckpointError, match="catalogue is for item_tokens"):
        Recommender.load(titles_model, catalogue)
