"""Weights load from every kind of directory, stay memory-mapped, and missing ones are named."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from lm.checkpoint.checkpoint import CheckpointError
from lm.engine.engine import load_engine
from lm.engine.weights import is_plain_gpt2, load_gpt2
from tests.engines import VOCABULARY
from tests.models import save_causal

pytestmark = pytest.mark.usefixtures("one_thread")


def test_weights_are_mapped_not_copied(tmp_path: Path) -> None:
    path = save_causal(tmp_path / "m", n_embd=64, n_layer=3)
    model = load_gpt2(path)
    with Path("/proc/self/maps").open() as maps:
        ranges = [line.split()[0].split("-") for line in maps if "model.safetensors" in line]
    assert ranges
    for tensor in (model.wte, model.head, *model.blocks[2]):
        assert any(int(start, 16) <= tensor.data_ptr() < int(end, 16) for start, end in ranges)


def test_directories_of_all_kinds(tmp_path: Path) -> None:
    """Sharded files, bare names as in the hub's gpt2, and half precision load to the same answers."""
    path = save_causal(tmp_path / "m")
    prompts = [[1, 2, 3, 4]]
    expected = load_engine(path, dtype="float32").prefill(prompts, 0).states
    tensors = load_file(path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    assert bare.keys() != tensors.keys()
    save_file(bare, path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_engine(path, dtype="float32").prefill(prompts, 0).states, expected)
    save_file({name: tensor.half() for name, tensor in bare.items()}, path / "model.safetensors", {"format": "pt"})
    half = load_engine(path, dtype="float32").prefill(prompts, 0).states
    torch.testing.assert_close(half, expected, atol=0.05, rtol=0.05)

    model = GPT2LMHeadModel.from_pretrained(save_causal(tmp_path / "n"))
    model.save_pretrained(tmp_path / "n", max_shard_size="50KB")
    (tmp_path / "n" / "model.safetensors").unlink(missing_ok=True)
    assert len(list((tmp_path / "n").glob("*.safetensors"))) > 1
    assert torch.equal(load_engine(tmp_path / "n", dtype="float32").prefill(prompts, 0).states, expected)


def test_weights_of_another_format_are_converted_once_and_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = save_causal(tmp_path / "m")
    expected = load_file(path / "model.safetensors")["transformer.wte.weight"].bfloat16()
    first = load_gpt2(path, dtype=torch.bfloat16)
    assert torch.equal(first.wte, expected)
    (made,) = (tmp_path / f"regulars-weights-{os.getuid()}").glob("*.*")
    written = made.stat().st_mtime_ns
    again = load_gpt2(path, dtype=torch.bfloat16)
    assert made.stat().st_mtime_ns == written
    again.wte[0, 0] = 5  # a private page: neither the file nor another worker sees it
    assert torch.equal(load_gpt2(path, dtype=torch.bfloat16).wte, expected)
    assert str(made) in Path("/proc/self/maps").read_text()
    save_causal(path, seed=1)
    assert not torch.equal(load_gpt2(path, dtype=torch.bfloat16).wte, expected)


def test_workers_that_start_at_once_share_one_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = save_causal(tmp_path / "m")
    folder = tmp_path / f"regulars-weights-{os.getuid()}"
    folder.mkdir(mode=0o700)
    (folder / "killed.writing").write_bytes(b"half of it")
    os.utime(folder / "killed.writing", (0, 0))
    saved: list[Path] = []

    def slow(tensors: dict[str, torch.Tensor], name: Path) -> None:
        saved.append(name)
        time.sleep(0.2)  # the other is here by now
        save_file(tensors, name)

    monkeypatch.setattr("lm.engine.weights.save_file", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: load_gpt2(path, dtype=torch.bfloat16), range(2))
    assert len(saved) == 1
    assert torch.equal(one.wte, other.wte)
    assert len(list(folder.glob("*.*"))) == 1  # and what was left of a killed worker is gone


def test_the_cache_of_conversions_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and folders that another user may have made in a shared TMPDIR are neither followed nor trusted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path, folder, victim = (
        save_causal(tmp_path / "m"),
        tmp_path / f"regulars-weights-{os.getuid()}",
        tmp_path / "victim",
    )
    victim.mkdir()
    folder.symlink_to(victim)
    with pytest.raises(CheckpointError, match=r"not this user's folder.*TMPDIR"):
        load_gpt2(path, dtype=torch.bfloat16)
    assert not list(victim.iterdir())
    folder.unlink()

    folder.mkdir(mode=0o755)
    expected = load_gpt2(path, dtype=torch.bfloat16).wte
    assert folder.stat().st_mode & 0o777 == 0o700
    (made,) = folder.glob("*.safetensors")
    for plant in (lambda: made.symlink_to(victim / "weights"), lambda: (made.touch(), made.chmod(0o666))):
        made.replace(victim / "weights")
        save_file({"wrong": torch.zeros(1)}, victim / "weights")
        plant()
        assert torch.equal(load_gpt2(path, dtype=torch.bfloat16).wte, expected)
        assert made.is_file()
        assert not made.is_symlink()

    made.unlink()
    (victim / "precious").write_text("kept")
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(victim / "precious")
    assert torch.equal(load_gpt2(path, dtype=torch.bfloat16).wte, expected)  # converted for this process alone
    assert (victim / "precious").read_text() == "kept"


def test_the_cache_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path, me = save_causal(tmp_path / "m"), os.getuid()
    monkeypatch.setattr("os.getuid", lambda: me + 1)
    (tmp_path / f"regulars-weights-{me + 1}").mkdir()
    with pytest.raises(CheckpointError, match="not this user's folder"):
        load_gpt2(path, dtype=torch.bfloat16)


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    path = save_causal(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"score\.weight.*train --task sentiment"):
        load_gpt2(path, head="score.weight")
    tensors = load_file(path / "model.safetensors")
    name = "transformer.h.0.ln_1.bias"
    save_file({other: tensor for other, tensor in tensors.items() if other != name}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"ln_1\.bias.*train --task recommend"):
        load_gpt2(path)
    save_file({**tensors, name: tensors[name][:5].clone()}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"h\.0\.ln_1\.bias has the shape"):
        load_gpt2(path)
    (path / "model.safetensors").write_bytes(b"12345678 not safetensors")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_gpt2(path)


def test_a_classifiers_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, num_labels=3, pad_token_id=0)
    classifier = GPT2ForSequenceClassification(config).eval()
    classifier.save_pretrained(tmp_path)
    assert torch.equal(load_gpt2(tmp_path, head="score.weight").head, classifier.score.weight)


def test_which_configurations_are_plain_gpt2() -> None:
    assert is_plain_gpt2({"model_type": "gpt2"})
    assert not is_plain_gpt2({"model_type": "gpt_neo"})
    assert not is_plain_gpt2({"model_type": "gpt2", "activation_function": "mish"})
    assert not is_plain_gpt2({"model_type": "gpt2", "add_cross_attention": True})
