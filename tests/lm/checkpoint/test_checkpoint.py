import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from lm.checkpoint import checkpoint, fingerprint, manifest
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest, read_manifest, write_manifest
from lm.engine.huggingface_model import load_model
from tests.models import LINES, save_causal, save_classifier


@pytest.fixture(scope="module")
def shop_model(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("models") / "shop", item_ids=["a", "b", "c"])


@pytest.fixture
def model(shop_model, tmp_path):
    return Path(shutil.copytree(shop_model, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_modules_for_the_driver_load_neither_torch_nor_spark():
    code = (
        "import sys, lm.checkpoint.checkpoint, lm.text.prompt, lm.redaction.redact, lm.recommend.catalogue;"
        "print([m for m in ('torch', 'pyspark', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_lapses_whose_rows_add_up_to_1_are_accepted():
    lapses = [[0.9, 0.0, 0.1], [0.0, 1.0, 0.0], [0.7, 0.1, 0.2]]
    assert Manifest(task="sentiment", lapses=lapses).lapses == lapses


def test_manifest_survives_writing_and_reading(model):
    manifest = Manifest(coding="item_tokens", item_ids=["x", "y"], first_item_token=7, metrics={"hit@10": 0.5})
    write_manifest(model, manifest)
    assert read_manifest(model) == manifest


def test_directory_without_manifest_is_a_stock_gpt2(model):
    (model / "regulars.json").unlink()
    assert read_manifest(model) == Manifest(coding="titles", item_ids=[])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"colour": "red"}, "colour"),
        ({"temperature": 0}, "temperature"),
        ({"history_events": 0}, "history_events"),
        ({"history_events": 100_001}, "history_events"),
        ({"usual_lengths": [9, 20]}, "usual_lengths.*train again"),
        ({"ngram_weights": [0.5, 1.0]}, "ngram_weights.*train again"),
        ({"lapses": [[1, 0], [0, 1]]}, "lapses"),
        ({"lapses": [[1, 0, 0], [0, 1, 0.1], [0, 0, 1]]}, "add up to 1"),
        ({"lapses": [[1, 0, 0], [0, 1.5, -0.5], [0, 0, 1]]}, "lapses"),
        ({"noise": [0.1, 0.2, 0.0]}, "noise.*train again"),
        ({"coding": "item_tokens"}, "needs item_ids"),
        ({"item_ids": ["a"]}, "first_item_token"),
        ({"item_ids": ["a", "a"], "first_item_token": 5}, "twice"),
        ({"labels": ["x", "x"]}, "labels"),
        ({"template_version": 99}, "newer"),
        ({"manifest_version": 99, "colour": "red"}, "newer"),
        ({"training": {"window": {"as_of": "soon"}}}, "training.window.as_of needs a date"),
        ({"training": {"window": {"as_of": 7}}}, "training.window.as_of needs a date"),
        ({"item_ids": ["a", "b"], "first_item_token": 402}, "another model"),
    ],
)
def test_wrong_manifest_is_named(model, values, says):
    (model / "regulars.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=says) as caught:
        read_manifest(model)
    assert "regulars.json" in str(caught.value)


def test_broken_manifest_is_named(model):
    (model / "regulars.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"regulars\.json cannot be read"):
        read_manifest(model)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2.0},
        {"labels": ["negative", "positive"]},
        {"item_ids": ["a", "c", "b"]},
        {"language": "zh"},
        {"coding": "titles"},
    ],
)
def test_fingerprint_follows_what_decides_an_answer(model, change):
    before = model_fingerprint(model)
    edit(model / "regulars.json", **change)
    assert model_fingerprint(model) != before


def test_fingerprint_follows_the_template(model, monkeypatch):
    before = model_fingerprint(model)
    monkeypatch.setattr(manifest, "TEMPLATE_VERSION", 2)
    edit(model / "regulars.json", template_version=2)
    assert model_fingerprint(model) != before


def test_fingerprint_ignores_notes_and_place(model, tmp_path):
    before = model_fingerprint(model)
    assert len(before) == 16
    assert int(before, 16) >= 0
    edit(model / "regulars.json", training={"as_of": "2026-01-01"}, metrics={"ndcg@10": 0.3})
    edit(model / "config.json", transformers_version="0.0.0")
    (model / "README.md").write_text("a note")
    assert model_fingerprint(model) == before
    assert model_fingerprint(Path(shutil.copytree(model, tmp_path / "elsewhere"))) == before


def test_fingerprint_follows_weights_tokenizer_and_configuration(model):
    seen = {model_fingerprint(model)}
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    seen.add(model_fingerprint(model))
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " ")
    seen.add(model_fingerprint(model))
    edit(model / "config.json", n_head=4)
    seen.add(model_fingerprint(model))
    assert len(seen) == 4


def test_weights_are_hashed_once_per_process(model, monkeypatch):
    before = model_fingerprint(model)
    monkeypatch.setattr(fingerprint.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert model_fingerprint(model) == before


def test_tokenizer_of_vocab_and_merges_equals_that_of_tokenizer_json(model, tmp_path):
    stock = save_causal(tmp_path / "stock", stock=True)
    assert not (stock / "tokenizer.json").exists()
    ours, theirs = checkpoint.load_tokenizer(model), checkpoint.load_tokenizer(stock)
    for line in (*LINES, "<|endoftext|>", "naïve 🙂\n"):
        assert ours.encode(line).ids == theirs.encode(line).ids
        assert ours.decode(ours.encode(line).ids, skip_special_tokens=False) == line


def test_special_tokens_typed_by_a_customer_are_text(model):
    tokenizer = checkpoint.load_tokenizer(model)
    assert tokenizer.token_to_id("<|endoftext|>") not in tokenizer.encode("a <|endoftext|> b").ids


def test_ngrams_know_the_categories_that_they_learned(model):
    assert not checkpoint.ngrams_know_categories(model)
    for known in ([], ["shoes"]):
        tensors = {"categories": np.zeros(len(known), np.int64)}
        save_file(tensors, model / checkpoint.NGRAMS_FILE, {"version": checkpoint.NGRAMS_VERSION})
        assert checkpoint.ngrams_know_categories(model) == bool(known)


def test_a_tokenizer_adds_no_special_tokens_unless_it_says_so(model):
    tokenizer = checkpoint.load_tokenizer(model)
    assert checkpoint.special_tokens(tokenizer) == ([], [])
    tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    assert checkpoint.special_tokens(tokenizer) == ([0], [])
    knows_no_letter = Tokenizer(BPE({"x": 0}, []))
    assert checkpoint.special_tokens(knows_no_letter) == ([], [])


def test_broken_tokenizer_is_named(model):
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        checkpoint.load_tokenizer(model)
    (model / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        checkpoint.load_tokenizer(model)


def test_pickled_weights_are_refused(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    for read in (checkpoint.weight_files, load_model, model_fingerprint):
        with pytest.raises(CheckpointError, match="safe_serialization"):
            read(model)


def test_sharded_weights_are_found_by_their_index(model):
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"wte": "model-00001-of-00001.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in checkpoint.weight_files(model)] == ["model-00001-of-00001.safetensors"]


def test_context_length_is_read_from_the_configuration(model):
    assert checkpoint.context_tokens(model) == 256
    config = json.loads((model / "config.json").read_text())
    del config["n_positions"]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="n_positions"):
        checkpoint.context_tokens(model)


def test_load_model_gives_eval_mode_and_the_asked_type(model):
    import torch

    loaded = load_model(model, dtype="bfloat16")
    assert not loaded.training
    assert loaded.transformer.wte.weight.dtype == torch.bfloat16
    assert loaded.transformer.wte.weight.shape == (403, 32)


def test_load_model_never_invents_a_classification_head(model, tmp_path):
    with pytest.raises(CheckpointError, match=r"score\.weight.*--task sentiment"):
        load_model(model, "classifier")
    loaded = load_model(save_classifier(tmp_path / "sentiment"), "classifier")
    assert loaded.config.num_labels == 3


def test_load_model_refuses_a_head_of_another_size(tmp_path):
    path = save_classifier(tmp_path / "sentiment")
    edit(path / "regulars.json", labels=["bad", "good"])
    with pytest.raises(CheckpointError, match="score"):
        load_model(path, "classifier")


def test_truncated_weights_are_named(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="bytes of weights cannot hold"):
        load_model(model)


def test_resolve_finds_directories(model, monkeypatch):
    assert checkpoint.resolve(str(model)) == model.resolve()
    assert checkpoint.resolve(model.as_uri()) == model.resolve()
    monkeypatch.chdir(model.parent)
    assert checkpoint.resolve("model") == model.resolve()


@pytest.mark.parametrize(
    ("name", "says"),
    [("./nowhere/model", "does not exist"), ("hdfs://nn/model", "copy it"), ("empty", "no config.json")],
)
def test_resolve_says_what_is_wrong(tmp_path, monkeypatch, name, says):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        checkpoint.resolve(name)


def test_resolve_prefers_the_cached_hub_copy(model, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def cached(repo_id, *, local_files_only=False, **patterns):
        asked.append((repo_id, local_files_only))
        assert "*.safetensors" in patterns["allow_patterns"]
        assert not any("bin" in pattern for pattern in patterns["allow_patterns"])
        return str(model)

    def nowhere(repo_id, **_):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert checkpoint.resolve("openai-community/gpt2") == model
    assert asked == [("openai-community/gpt2", True)]
    (model / "model.safetensors").unlink()
    checkpoint.resolve("gpt2")
    assert asked[1:] == [("gpt2", True), ("gpt2", False)]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nowhere)
    with pytest.raises(CheckpointError, match=r"gpt2 .*regulars train"):
        checkpoint.resolve("gpt2")


#: What all releases hash of a manifest: keys of today, and those that only earlier releases had.
HASHED_KEYS = {"template_version", "language", "task", "coding", "item_ids", "first_item_token", "labels"}
HASHED_KEYS |= {"temperature", "offsets", "lapses", "label_weights", "neighbour_weights", "newcomer_weights"}
HASHED_KEYS |= set(manifest.FORMER_FIELDS)


def test_keys_without_effect_do_not_change_the_fingerprints_of_earlier_models(model, monkeypatch):
    hashed = []
    monkeypatch.setattr(fingerprint.json, "dumps", lambda parts, **_: hashed.append(parts["manifest"]) or "")
    model_fingerprint(model)
    assert set(hashed[0]) == HASHED_KEYS  # another name would throw away the ledger's answers


@pytest.mark.parametrize("change", [{"lexicon_weight": 0.5}, {"ngram_weight": 0.5}, {"history_events": 100}])
def test_fingerprint_follows_newer_keys_that_have_an_effect(model, change):
    before = model_fingerprint(model)
    write_manifest(model, read_manifest(model).model_copy(update=change))
    assert model_fingerprint(model) != before
