"""The shop's own byte-level BPE."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lm.checkpoint.checkpoint import END_OF_TEXT
from lm.checkpoint.tokenizer import save_tokenizer, train_bpe

TEXTS = ["Bought: blue printer\n", "Searched: printer ink\n", "购买：蓝色打印机\n", "Bought: red printer ink\n"] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, 320)


def test_learns_the_shops_words(tokenizer):
    assert tokenizer.encode("Bought: printer ink").tokens == ["Bought", ":", "Ġprinter", "Ġink"]
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert tokenizer.get_vocab_size() <= 320


@settings(max_examples=200)
@given(st.text())
def test_any_text_comes_back_as_it_was(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_does_not_depend_on_the_order_of_texts(tokenizer):
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert train_bpe(shuffled, 320).to_str() == tokenizer.to_str()


def test_hugging_face_reads_the_same_tokens(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path, max_tokens=64)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
        assert loaded.decode(tokenizer.encode(text).ids) == text
    assert loaded.pad_token == loaded.eos_token == END_OF_TEXT
    assert loaded.model_max_length == 64


def test_folded_a_word_is_the_same_tokens_wherever_it_stands(tmp_path):
    folded = train_bpe(["Avoid", "please avoid this", "ＡＶＯＩＤ it"] * 5, 320, folded=True)
    avoid = folded.encode("avoid").ids
    assert len(avoid) == 1
    for text in ("AVOID", "ＡＶＯＩＤ", " avoid"):
        assert folded.encode(text).ids == avoid
    assert folded.encode("please Avoid this").ids[1:2] == avoid
    save_tokenizer(folded, tmp_path, max_tokens=64)
    assert AutoTokenizer.from_pretrained(tmp_path)("Avoid THIS")["input_ids"] == folded.encode("Avoid THIS").ids


def test_a_typed_special_token_is_text(tokenizer):
    assert tokenizer.token_to_id(END_OF_TEXT) not in tokenizer.encode(f"ink {END_OF_TEXT} ink").ids


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="at least 257"):
        train_bpe(TEXTS, 100)
