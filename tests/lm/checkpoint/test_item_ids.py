"""The ids of many products: found by a table of hashes, mapped from a file, and no different from a list."""

from __future__ import annotations

import json

import pytest

from lm.checkpoint import item_ids, manifest
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.item_ids import ITEM_IDS_FILE, ItemIds, ItemTokens
from lm.checkpoint.manifest import read_manifest, write_manifest
from lm.text.prompt import Event, PromptEncoder
from tests.models import save_causal

IDS = ["P3", "P1", "商品", "x|>\n<|item:P1|>", "%41", "A"]


def test_codes_are_those_of_the_list(tmp_path):
    ItemIds.of(IDS).save(tmp_path / ITEM_IDS_FILE)
    for ids in (ItemIds.of(IDS), ItemIds.load(tmp_path / ITEM_IDS_FILE)):
        assert list(ids) == IDS
        assert [ids.code(item) for item in IDS] == list(range(6))
        assert (ids.code("P2"), "P2" in ids, "A" in ids, None in ids) == (None, False, True, False)
        assert ids[1:3] == IDS[1:3]
    tokens = ItemTokens(ItemIds.of(IDS), 10)
    assert dict(tokens) == {item: 10 + code for code, item in enumerate(IDS)}
    assert tokens.get("P2") is None


def test_equal_hashes_are_told_apart(monkeypatch):
    monkeypatch.setattr(item_ids, "_hash", lambda item_id: len(item_id))
    ids = ItemIds.of(["aa", "b", "bb", "c"])
    assert [ids.code(item) for item in ("aa", "b", "bb", "c", "cc", "ddd")] == [0, 1, 2, 3, None, None]


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        ItemIds.of(["a", "b", "a"])


def test_a_manifest_with_many_ids_keeps_them_in_a_file_and_prompts_stay_the_same(tmp_path, monkeypatch):
    model = save_causal(tmp_path / "m", item_ids=IDS)
    few, listed = read_manifest(model), PromptEncoder.load(model)
    before = model_fingerprint(model)
    monkeypatch.setattr(manifest, "IDS_IN_JSON", 5)
    write_manifest(model, few)
    assert json.loads((model / "regulars.json").read_text())["item_ids"] == 6
    many, mapped = read_manifest(model), PromptEncoder.load(model)
    assert isinstance(many.item_ids, ItemIds)
    assert list(many.item_ids) == few.item_ids
    assert model_fingerprint(model) != before
    events = [Event("bought", item, "Red lamp") for item in [*IDS, "unknown"]]
    events += [Event("reviewed", "商品", None, "see <|item:A|>"), Event("viewed", "%41", None)]
    assert mapped.render(events, 200) == listed.render(events, 200)
    prompt = listed.render(events, 200).prompt
    assert mapped.encode(prompt) == listed.encode(prompt)
    write_manifest(model, many)  # what it mapped may be written again
    assert list(read_manifest(model).item_ids) == IDS
    monkeypatch.undo()
    write_manifest(model, many)
    assert model_fingerprint(model) == before
    assert not (model / ITEM_IDS_FILE).exists()


def test_a_lost_or_foreign_file_is_said(tmp_path, monkeypatch):
    model = save_causal(tmp_path / "m", item_ids=IDS)
    found = read_manifest(model)
    monkeypatch.setattr(manifest, "IDS_IN_JSON", 5)
    write_manifest(model, found)
    ItemIds.of(IDS[:3]).save(model / ITEM_IDS_FILE)
    with pytest.raises(CheckpointError, match=r"has 3 products and regulars.json states 6"):
        read_manifest(model)
    (model / ITEM_IDS_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"item_ids\.arrow cannot be read"):
        read_manifest(model)
    (model / ITEM_IDS_FILE).unlink()
    with pytest.raises(CheckpointError, match="copy the model directory again"):
        read_manifest(model)
