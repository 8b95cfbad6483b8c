"""Tiny GPT-2 directories made on the spot: a byte-level BPE of a few lines and random weights.

`save_causal(path)` and `save_classifier(path)` give what the product trains; `stock=True` gives what one
downloads (vocab.json + merges.txt, no regulars.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from lm.checkpoint.checkpoint import END_OF_TEXT
from lm.checkpoint.manifest import Manifest, write_manifest

LINES = (
    "Customer history",
    "Bought: Inkjet printer with scanner",
    "Bought: Black ink cartridge",
    "Searched: ink for my printer",
    "Reviewed 5/5: Argan oil shampoo: smells lovely, my hair is soft",
    "Reviewed 1/5: Argan oil conditioner: awful, it broke after a day",
    "Bought: Red cotton T-shirt, size M",
    "Bought: Blue cotton T-shirt, size L",
    "顾客记录",
    "购买：黑色打印机墨盒",
    "搜索：洗发水",
    "评价5/5：洗发水：味道很好",
)


def train_tokenizer(lines: Iterable[str] = LINES, vocab_size: int = 400) -> Tokenizer:
    """A byte-level BPE as GPT-2's: 256 bytes, some merges, and <|endoftext|> as id 0."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line + "\n" for line in lines), trainer)
    return tokenizer


def save_causal(
    path: Path,
    *,
    item_ids: Sequence[str] = (),
    language: str = "en",
    stock: bool = False,
    lines: Iterable[str] = LINES,
    n_positions: int = 256,
    n_embd: int = 32,
    n_layer: int = 2,
    n_head: int = 2,
    spread: float = 0.2,
    seed: int = 0,
) -> Path:
    """A GPT-2 with random weights; with `item_ids` it is of item_tokens coding, else of titles coding.

    `spread` is the weights' standard deviation: GPT-2's own 0.02 gives nearly uniform predictions, which
    would let a wrong search pass for a right one.
    """
    from transformers import GPT2LMHeadModel

    tokenizer = train_tokenizer(lines)
    first = tokenizer.get_vocab_size()
    sizes = {"n_positions": n_positions, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}
    _save(GPT2LMHeadModel, path, tokenizer, first + len(item_ids), sizes, spread, seed, stock)
    if not stock:
        coding = {"coding": "item_tokens", "first_item_token": first} if item_ids else {}
        manifest = {"task": "recommend", "language": language, "item_ids": list(item_ids), **coding}
        write_manifest(path, Manifest.model_validate(manifest))
    return path


def save_classifier(
    path: Path,
    *,
    temperature: float = 1.0,
    lines: Iterable[str] = LINES,
    n_positions: int = 256,
    n_embd: int = 32,
    n_layer: int = 2,
    n_head: int = 2,
    spread: float = 0.2,
    seed: int = 0,
) -> Path:
    """A GPT-2 with a three-way classification head and random weights."""
    from transformers import GPT2ForSequenceClassification

    tokenizer = train_tokenizer(lines)
    sizes = {"n_positions": n_positions, "n_embd": n_embd, "n_layer": n_layer, "n_head": n_head}
    extra = {"num_labels": 3, "pad_token_id": 0}
    vocabulary = tokenizer.get_vocab_size()
    _save(GPT2ForSequenceClassification, path, tokenizer, vocabulary, sizes | extra, spread, seed, stock=False)
    write_manifest(path, Manifest(task="sentiment", temperature=temperature))
    return path


def _save(
    model_class: type,
    path: Path,
    tokenizer: Tokenizer,
    vocab_size: int,
    config: dict[str, int],
    spread: float,
    seed: int,
    stock: bool,
) -> None:
    import torch
    from transformers import GPT2Config

    path.mkdir(parents=True, exist_ok=True)
    end = {"bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(GPT2Config(vocab_size=vocab_size, initializer_range=spread, **end, **config))
    model.save_pretrained(path)
    if stock:
        tokenizer.model.save(str(path))
    else:
        tokenizer.save(str(path / "tokenizer.json"))
