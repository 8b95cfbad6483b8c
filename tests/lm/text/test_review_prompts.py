"""Reviews are encoded redacted, within the limit, with head and tail of long ones."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.checkpoint.manifest import Manifest
from lm.text.prompt import PromptEncoder
from tests.models import train_tokenizer
from tests.texts import TEXTS

TOKENIZER = train_tokenizer()
ENCODER = PromptEncoder(TOKENIZER, Manifest())


def test_reviews_end_with_the_end_token_and_are_never_empty():
    end = TOKENIZER.token_to_id("<|endoftext|>")
    assert ENCODER.encode_reviews([""], 8)[0] == ([end], False)
    ids, shortened = ENCODER.encode_reviews(["smells lovely"], 64)[0]
    assert (TOKENIZER.decode(ids[:-1]), ids[-1], shortened) == ("smells lovely", end, False)
    with pytest.raises(ValueError, match="at least 1"):
        ENCODER.encode_reviews(["x"], 0)


@given(TEXTS, st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_reviews_fit_and_do_not_depend_on_their_neighbours(text, max_tokens):
    ids, shortened = ENCODER.encode_reviews([text], max_tokens)[0]
    assert 1 <= len(ids) <= max_tokens
    assert ENCODER.encode_reviews(["other", text, "x " * 999], max_tokens)[1] == (ids, shortened)
    if shortened:
        assert len(ids) == max_tokens or len(text) > 16 * max_tokens


@pytest.mark.parametrize("middle", [200, 1_000_000])
def test_long_reviews_keep_head_and_tail(middle):
    ids, shortened = ENCODER.encode_reviews(["awful cartridge " + "so " * middle + "lovely shampoo"], 32)[0]
    text = TOKENIZER.decode(ids[:-1])
    assert shortened
    assert len(ids) == 32
    assert text.startswith("awful cartridge so")
    assert text.endswith("so lovely shampoo")


@pytest.mark.parametrize("words", range(30, 60, 5))
def test_a_shortened_review_ends_as_its_text_does(words):
    # 12 tokens look at 8 * 12 characters at each end; these texts have 90 to 180 characters.
    ids, shortened = ENCODER.encode_reviews(["so " * words + "lovely shampoo"], 12)[0]
    assert shortened
    assert TOKENIZER.decode(ids[:-1]).endswith(" shampoo")


def test_reviews_are_redacted_at_both_ends():
    ids, _ = ENCODER.encode_reviews(["a.b@example.com " + "so " * 5000 + "07911 123456"], 64)[0]
    text = TOKENIZER.decode(ids)
    assert "EMAIL" in text
    assert "PHONE" in text
    assert not re.search(r"\d|@", text)


@pytest.mark.parametrize("after", range(500, 530, 3))
def test_no_half_of_a_secret_begins_the_tail_of_a_review(after):
    # 32 tokens look at the last 32 * 8 + 256 characters; one token here is 64 characters.
    encoder = PromptEncoder(train_tokenizer(["=" * 64] * 99), Manifest())
    text = "a" * 1000 + " ring 07911 123456 or john.smith@example.com " + "=" * after
    ids, shortened = encoder.encode_reviews([text], 32)[0]
    assert shortened
    assert not re.search(r"\d|@|\.com|smith", encoder.tokenizer.decode(ids))


def test_reviews_never_exceed_the_context():
    assert len(PromptEncoder(TOKENIZER, Manifest(), context_tokens=16).encode_reviews(["word " * 100], 256)[0][0]) == 16
