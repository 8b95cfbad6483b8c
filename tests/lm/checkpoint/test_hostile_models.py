"""Model directories that somebody crafted or broke end with one clear message, within seconds, and run no code."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from lm.checkpoint.checkpoint import CheckpointError, load_tokenizer, weight_files
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.text_growth import text_growth
from lm.engine.engine import load_engine
from lm.engine.huggingface_model import load_model
from lm.text.prompt import PromptEncoder
from lm.train.language_model import TrainingSettings, start_model
from tests.models import save_causal

NESTED = "[" * 100_000
ABSURD: list[Any] = ["many", [], {}, [[[[]]]], -1, 0, 10**400, 1e400, True, "9" * 5000]


@pytest.fixture(scope="module")
def shop_model(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("models") / "shop")


@pytest.fixture
def model(shop_model, tmp_path):
    return Path(shutil.copytree(shop_model, tmp_path / "model"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def use(path: Path) -> None:
    """What a night and a training do with a model directory."""
    model_fingerprint(path)
    encoder = PromptEncoder.load(path)
    load_engine(path, dtype="float32").prefill([encoder.encode("Customer history\nBought:")], 0)
    load_model(path)


@pytest.mark.parametrize("kind", ["causal", "classifier"])
@pytest.mark.parametrize("model_type", ["of-our-own", "gpt2"])
def test_no_code_of_a_model_is_run_and_nobody_is_asked(model, tmp_path, monkeypatch, kind, model_type):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to trust the code"))
    ran = tmp_path / "ran"
    (model / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    edit(model / "config.json", model_type=model_type, auto_map=dict.fromkeys(names, "code.C"))
    settings = TrainingSettings(init=str(model))
    loads = (
        lambda: load_model(model, kind, new_labels=("bad", "good") if kind == "classifier" else ()),
        lambda: start_model(settings, load_tokenizer(model), kind, positions=9, labels=("bad", "good")),
    )
    for load in loads:
        if model_type == "gpt2":  # the library's own GPT-2, whatever code lies beside it
            assert type(load()).__module__.startswith("transformers.")
        else:
            with pytest.raises(CheckpointError, match="cannot be loaded"):
                load()
    assert not ran.exists()


@pytest.mark.parametrize("name", ["config.json", "regulars.json", "tokenizer.json", "generation_config.json"])
def test_thousands_of_nested_brackets_are_one_message(model, name):
    (model / name).write_text('{"a": ' + NESTED)
    with pytest.raises(CheckpointError, match="cannot be"):
        use(model)


@pytest.mark.parametrize("key", ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "n_inner"])
def test_absurd_sizes_name_the_file(model, key):
    for value in [*ABSURD, 10**9]:
        edit(model / "config.json", **{key: value})
        with pytest.raises(CheckpointError, match=r"config\.json|copy"):
            use(model)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("model_type", [["gpt2"], 7, {}]),
        ("activation_function", [["gelu"], 7, {}]),
        ("layer_norm_epsilon", ["small", -1, 1e400, []]),
        ("tie_word_embeddings", ["yes", [], 7]),
    ],
)
def test_absurd_types_name_the_key(model, key, values):
    for value in values:
        edit(model / "config.json", **{key: value})
        with pytest.raises(CheckpointError, match=rf"config\.json: {key}"):
            use(model)


def test_a_configuration_too_large_for_the_weights_never_fills_the_memory(model):
    """transformers would fill terabytes with random numbers for the weights that are not there."""
    llama = {"model_type": "llama", "hidden_size": 10**6, "intermediate_size": 10**7, "num_attention_heads": 2}
    edit(model / "config.json", **llama, n_embd=None)
    with pytest.raises(CheckpointError, match="cannot hold"):
        load_model(model)


def test_a_number_of_heads_that_does_not_divide_the_width_is_named(model):
    edit(model / "config.json", n_head=5)
    with pytest.raises(CheckpointError, match="n_head 5 does not divide n_embd 32"):
        load_engine(model)


@pytest.mark.parametrize("weight_map", [[], "all", {"a": ["b"]}, {"a": 7}, {"a": "../../elsewhere.safetensors"}])
def test_an_index_names_files_of_its_directory(model, weight_map):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match="weight_map must name files"):
        weight_files(model)


def replace(content: str, pattern: str = "a") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def charsmap(longest: int) -> dict[str, Any]:
    blob = (8).to_bytes(4, "little") + b"\0" * 8 + b"a\0" + b"b" * longest + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}


@pytest.mark.parametrize(
    "normalizer",
    [
        replace("b" * 1_000_000),
        {"type": "Sequence", "normalizers": [replace("aa")] * 40},
        {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [replace("aaaa")] * 4}] * 4},
        {"type": "Replace", "pattern": {"Regex": ""}, "content": "b" * 1000},
        {"type": "Prepend", "prepend": "b" * 1_000_000},
        charsmap(1_000_000),
    ],
)
def test_a_tokenizer_that_grows_text_without_bounds_is_refused(model, normalizer):
    added = {"id": 1, "content": "a" * 1000, "normalized": True, "special": False}
    added |= {"single_word": False, "lstrip": False, "rstrip": False}
    edit(model / "tokenizer.json", normalizer=normalizer, added_tokens=[added])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: normalizer: .* times as long.*published tokenizer"):
        load_tokenizer(model)


def test_a_broken_normalizer_is_named(model):
    for normalizer in (7, {"type": "Replace", "pattern": 7, "content": 7}, {"type": "Sequence", "normalizers": [7]}):
        edit(model / "tokenizer.json", normalizer=normalizer)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            load_tokenizer(model)


def test_a_tokenizer_without_an_unknown_token_is_refused(model):
    Tokenizer(WordLevel({"a": 0, "b": 1})).save(str(model / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: it cannot encode every text.*unknown token"):
        load_tokenizer(model)


def test_the_growth_of_ordinary_normalizers():
    spaces = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace("▁", " ")]}
    assert text_growth(None) == 1
    assert text_growth(spaces) == 2
    assert text_growth(replace("", "abc")) == 1
    assert text_growth(replace("abcdef", "ab")) == 3
    assert text_growth({"type": "NFKC"}) == max(len(text) for text in map(nfkc, map(chr, range(0x110000))))
    assert text_growth(charsmap(33)) == 33


def nfkc(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKC", text)
