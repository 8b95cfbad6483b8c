"""Trains byte-level BPE on a shop's own text and saves it as an ordinary Hugging Face tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from lm.checkpoint.checkpoint import END_OF_TEXT
from lm.redaction.writers import common, known_writers

#: The padding of a classifier. It reads END_OF_TEXT, which Hugging Face would skip if that were the padding too.
PADDING = "<|pad|>"
#: The 256 bytes and END_OF_TEXT are always in the vocabulary, so that any text in any language has an encoding.
SMALLEST_VOCABULARY = 257


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    folded: bool = False,
    writers: Sequence[str | None] | None = None,
    min_writers: int = 1,
) -> Tokenizer:
    """Learn GPT-2's byte-level BPE (Radford et al. 2019) on `texts`; END_OF_TEXT has id 0.

    `folded` ignores case, width and position: "Avoid" at the beginning and " avoid" later are one token. Few texts
    then give more examples of each word, but the tokenizer cannot restore the text.
    A word is learned from only if `min_writers` different `writers` of the texts wrote it, so that no token spells
    what a few customers wrote; a text of the shop has the writer None, and its words count. The bytes always stay.
    The vocabulary is smaller than `vocab_size` when no further pair occurs twice. The result does not depend on the
    order of the texts. Raises ValueError for a `vocab_size` below SMALLEST_VOCABULARY.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(f"vocab_size must be at least {SMALLEST_VOCABULARY} (256 bytes and {END_OF_TEXT})")
    tokenizer = Tokenizer(models.BPE())
    if folded:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=folded)
    tokenizer.decoder = decoders.ByteLevel()
    if min_writers > 1:
        texts = _common_words(tokenizer, list(texts), writers, min_writers)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    if min_writers > 1:
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # the words are in the alphabet of bytes already
        trained.train_from_iterator(texts, trainer)
        tokenizer.model = trained.model
        tokenizer.add_special_tokens([END_OF_TEXT])
    else:
        tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True  # as lm.checkpoint.checkpoint loads it: a typed END_OF_TEXT is text
    return tokenizer


def _common_words(
    tokenizer: Tokenizer, texts: Sequence[str], writers: Sequence[str | None] | None, least: int
) -> list[str]:
    """Each text as its words in the alphabet of bytes, without those of fewer than `least` writers."""
    normalizer, words = tokenizer.normalizer, tokenizer.pre_tokenizer
    read = texts if normalizer is None else [normalizer.normalize_str(text) for text in texts]
    split = [[word for word, _ in words.pre_tokenize_str(text)] for text in read]
    kept = common(map(set, split), known_writers(writers, len(texts)), least)
    return [" ".join(word for word in of_text if word in kept) for of_text in split]


def for_classifier(tokenizer: Tokenizer) -> Tokenizer:
    """Append END_OF_TEXT, where the classifier reads, to every text, and pad with PADDING; changes `tokenizer`.

    Raises ValueError when the tokenizer has no END_OF_TEXT.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise ValueError(f"the tokenizer has no {END_OF_TEXT}: start from a GPT-2 checkpoint")
    tokenizer.add_special_tokens([PADDING])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, end)]
    )
    return tokenizer


def padding_token(tokenizer: Tokenizer) -> str | None:
    """The padding token: PADDING, else END_OF_TEXT; None for tokenizers of other families, which have neither."""
    return next((token for token in (PADDING, END_OF_TEXT) if tokenizer.token_to_id(token) is not None), None)


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_tokens: int) -> None:
    """Write tokenizer.json, and the tokenizer_config.json that `AutoTokenizer.from_pretrained` needs."""
    tokenizer.save(str(directory / "tokenizer.json"))
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        config |= {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk")}
        config["pad_token"] = padding_token(tokenizer)
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
