"""Item embeddings are the sum of the title's part and their own, on a small stock GPT-2."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm.checkpoint.checkpoint import load_tokenizer
from lm.checkpoint.manifest import Manifest, read_manifest
from lm.recommend_training.item_embeddings import ItemRows, add_items
from lm.text.prompt import PromptEncoder
from lm.train.language_model import hidden_states, output_rows
from tests.models import save_causal

TITLES = {"a": "Black ink cartridge", "b": "Black ink", "c": "Soap", "d": "zz"}


@pytest.fixture
def added(tmp_path):
    """A model with the items, its ItemRows not begun, and its manifest."""
    path = save_causal(tmp_path / "m", stock=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), load_tokenizer(path)
    manifest = add_items(model, tokenizer, TITLES, read_manifest(path), language="en", seed=0)
    return model, ItemRows(model, PromptEncoder(tokenizer, manifest), TITLES), manifest


def item_part(model: torch.nn.Module, manifest: Manifest) -> torch.Tensor:
    return output_rows(model)[manifest.first_item_token :].detach().clone()


def test_in_training_and_as_written_the_model_is_the_same(added):
    model, rows, manifest = added
    rows.begin(known=0)
    first = manifest.first_item_token
    tokens = torch.tensor([[5, first + 2, first, 7, first + 2], [first + 3, 9, 9, 9, 0]])
    with torch.inference_mode():
        states, table = rows.hidden_states(tokens), rows.table(output_rows(model))
        rows.end()
        torch.testing.assert_close(hidden_states(model, tokens), states)
        torch.testing.assert_close(item_part(model, manifest), table)


def test_some_rows_are_those_of_the_whole_table(added):
    model, rows, _ = added
    codes = torch.tensor([3, 0, 2])
    with torch.inference_mode():
        matrix = output_rows(model)
        torch.testing.assert_close(rows.table(matrix, codes), rows.table(matrix)[codes])


def test_what_is_known_keeps_its_row(added):
    model, rows, manifest = added
    rows.begin(known=0)
    rows.end()
    whole = item_part(model, manifest)
    rows.begin(known=4)
    assert not torch.equal(item_part(model, manifest), whole)
    rows.end()
    torch.testing.assert_close(item_part(model, manifest), whole)


def test_words_that_items_share_learn_for_all_of_them(added):
    model, rows, manifest = added
    rows.begin(known=0)
    before = rows.table(output_rows(model)).detach().clone()
    wanted = torch.randn(before.shape[1])
    (rows.table(output_rows(model), torch.tensor([0])) @ wanted).sum().backward()
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight += weight.grad  # as if "Black ink cartridge" had been bought
    moved = (rows.table(output_rows(model)).detach() - before) @ wanted
    assert moved[0] > moved[1] > 3 * moved[3].abs()  # all titles share their newline
    assert manifest.item_ids == list(TITLES)


def test_items_without_a_title_are_all_their_own(tmp_path):
    path = save_causal(tmp_path / "m", stock=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), load_tokenizer(path)
    manifest = add_items(model, tokenizer, TITLES, read_manifest(path), language="en", seed=0, titled=False)
    rows = ItemRows(model, PromptEncoder(tokenizer, manifest), {})
    with torch.inference_mode():
        torch.testing.assert_close(rows.table(output_rows(model)), item_part(model, manifest))
    spread = model.get_input_embeddings().weight[: manifest.first_item_token].std()
    assert item_part(model, manifest).std() == pytest.approx(spread.item(), rel=0.2)
