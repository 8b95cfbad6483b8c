"""Prompts, titles and reviews have the tokens of the library's own tokenizer, in every family of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from lm.checkpoint.checkpoint import load_tokenizer
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import Event, PromptEncoder
from tests.models import LINES, save_causal

HISTORY = [
    Event("searched", text="ink for my printer"),
    Event("bought", "p1", "Inkjet printer with scanner"),
    Event("reviewed", "p1", "Inkjet printer with scanner", "smells lovely, my hair is soft", 5),
    Event("bought", "p2", "黑色打印机墨盒"),
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sentencepiece(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as SentencePiece learns them: no piece crosses a space, a line or a script."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Punctuation(),
        ]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*special, *byte_tokens], show_progress=False)
    tokenizer.train_from_iterator([*LINES, *LINES], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def byte_level(special: list[str], pattern: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, whole])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{line}\n" for line in LINES], trainer)
    return tokenizer


def parts(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def llama(path: Path) -> None:
    vocabulary, merges = sentencepiece(["<unk>", "<s>", "</s>"])
    LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True).save_pretrained(path)


def llama_2_of_the_hub(path: Path) -> None:
    """The tokenizer.json of the years before, whose normalizer prepends the space and whose post-processor the BOS."""
    vocabulary, merges = sentencepiece(["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def gemma(path: Path) -> None:
    vocabulary, merges = sentencepiece(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True).save_pretrained(path)


def llama_3(path: Path) -> None:
    tokenizer = byte_level(["<|begin_of_text|>", "<|end_of_text|>"], LLAMA3)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    ).save_pretrained(path)


def opt(path: Path) -> None:
    vocabulary, merges = parts(byte_level(["</s>"]))
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    GPT2Tokenizer(vocab=vocabulary, merges=merges, add_bos_token=True, **special).save_pretrained(path)


def qwen(path: Path) -> None:
    vocabulary, merges = parts(byte_level(["<|endoftext|>"]))
    Qwen2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(path)


def gpt2(path: Path) -> None:
    vocabulary, merges = parts(byte_level(["<|endoftext|>"]))
    GPT2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(path)


#: Each family, and how many special tokens begin its texts.
FAMILIES = {llama: 1, llama_2_of_the_hub: 1, gemma: 1, llama_3: 1, opt: 1, qwen: 0, gpt2: 0}


#: Llama 3 joins a Chinese colon with the title behind it; a title that is generated needs tokens of its own.
CASES = [(family, "en") for family in FAMILIES] + [(family, "zh") for family in FAMILIES if family != llama_3]


@pytest.mark.parametrize(("family", "language"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_prompts_titles_and_reviews_have_the_librarys_tokens(
    tmp_path: Path, family: Callable[[Path], None], language: str
) -> None:
    family(tmp_path / "model")
    library = AutoTokenizer.from_pretrained(tmp_path / "model")
    encoder = PromptEncoder(load_tokenizer(tmp_path / "model"), Manifest(language=language))
    assert len(encoder.prefix) == FAMILIES[family]
    for events in ([], HISTORY[:1], HISTORY):
        rendered = encoder.render(events, 500)
        ids = encoder.encode(rendered.prompt)
        assert ids == library(rendered.prompt)["input_ids"]
        assert rendered.tokens == len(ids)
        assert [token for line in encoder.encode_lines(rendered.prompt) for token in line] == ids
        for title in ("Red cotton T-shirt, size M", "黑色打印机墨盒"):
            answered = f"{rendered.prompt}{encoder.template.space}{title}\n"
            assert ids + encoder.answer_tokens(title) == library(answered)["input_ids"]
    if encoder.prefix:
        ((ids, _),) = encoder.encode_reviews(["smells lovely, my hair is soft"], 64)
        assert ids == library("smells lovely, my hair is soft")["input_ids"]


@pytest.mark.parametrize("family", [llama, gemma, llama_3, gpt2], ids=lambda family: family.__name__)
def test_a_prompt_within_its_budget_begins_with_the_special_tokens(
    tmp_path: Path, family: Callable[[Path], None]
) -> None:
    family(tmp_path / "model")
    encoder = PromptEncoder(load_tokenizer(tmp_path / "model"), Manifest())
    for budget in range(encoder.smallest_budget, 60):
        rendered = encoder.render(HISTORY, budget)
        ids = encoder.encode(rendered.prompt)
        assert len(ids) == rendered.tokens <= budget
        assert ids[: len(encoder.prefix)] == encoder.prefix
    shortened = encoder.newest_tokens(ids, 9)
    assert shortened == [*encoder.prefix, *ids[len(ids) - 9 + len(encoder.prefix) :]]
    assert encoder.newest_tokens(ids, len(ids)) == ids
    assert encoder.newest_tokens([], 9) == [encoder.end_token]


def test_a_title_keeps_its_tokens_where_the_tokenizer_would_join_it_with_the_colon(tmp_path: Path) -> None:
    llama_3(tmp_path / "model")
    encoder = PromptEncoder(load_tokenizer(tmp_path / "model"), Manifest(language="zh"))
    title = "黑色打印机墨盒"
    bought = encoder.render([Event("bought", "p2", title)], 500)
    empty = encoder.render([], 500)
    assert encoder.encode(bought.prompt) == [
        *encoder.encode(empty.prompt),
        *encoder.answer_tokens(title),
        *encoder.bought_tokens,
    ]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("family", "model_type"), [(llama, "llama"), (gemma, "gemma")])
def test_a_title_is_scored_with_the_tokens_of_the_library(
    tmp_path: Path, family: Callable[[Path], None], model_type: str
) -> None:
    """The score of a product is the library's log-probability of its title after the whole prompt."""
    path = tmp_path / "model"
    family(path)
    library = AutoTokenizer.from_pretrained(path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 40, "head_dim": 16, "max_position_embeddings": 256, "initializer_range": 0.2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, vocab_size=len(library), **sizes)).eval()
    model.save_pretrained(path)
    encoder = PromptEncoder.load(path)
    titles = {"p1": "Inkjet printer with scanner", "p2": "Black ink cartridge", "p3": "Red cotton T-shirt, size M"}
    recommender = Recommender.load(path, Catalogue.build(list(titles), list(titles.values()), encoder), dtype="float32")
    prompt = encoder.render(HISTORY, 200).prompt
    (best,) = recommender.recommend([prompt], [[]], 3)
    start = len(library(prompt)["input_ids"])
    for scored in best:
        ids = torch.tensor(library(f"{prompt} {titles[scored.item_id]}\n")["input_ids"])
        with torch.inference_mode():
            logp = model(ids[None]).logits[0].log_softmax(dim=1)
        expected = logp[torch.arange(start - 1, len(ids) - 1), ids[start:]].sum().item()
        assert scored.score == pytest.approx(expected, abs=1e-3)
    assert {scored.item_id for scored in best} == set(titles)


def test_stated_special_tokens_count_in_the_fingerprint(tmp_path: Path) -> None:
    path = save_causal(tmp_path / "model")
    before = model_fingerprint(path)
    config = {"bos_token": {"content": "<|endoftext|>"}}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    assert model_fingerprint(path) == before
    (path / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": True}))
    assert model_fingerprint(path) != before
    assert PromptEncoder.load(path).prefix == [0]
