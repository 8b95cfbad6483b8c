"""What the engine's benchmarks run on is made up where no real data is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm.text.prompt import PromptEncoder
from tests.bench import material


def test_prompts_without_data_have_the_length_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = PromptEncoder.load(material.save_tokenizer(tmp_path, None))
    names = material.titles(None)
    for seed, tokens in enumerate((64, 256)):
        assert len(encoder.encode(material.prompt(encoder, tokens, names, seed))) == tokens
    assert "the tokenizer is trained on the titles" in capsys.readouterr().err
