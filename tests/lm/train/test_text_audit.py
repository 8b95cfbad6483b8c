"""What the audit asks of a model: losses and free continuations, beside Hugging Face's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm.engine.huggingface_model import load_model
from lm.train.text_audit import FREE_SAMPLES, TextModel
from tests.models import save_causal


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    return save_causal(tmp_path_factory.mktemp("model"))


def test_the_first_sample_takes_the_likeliest_token_each_time(path):
    model = TextModel.load(path, "causal")
    prompt = model.encode("I smell lovely")
    texts = model.samples(prompt, seed=0)
    assert len(texts) == FREE_SAMPLES
    ids = prompt.tolist()
    with torch.inference_mode():
        while len(ids) < len(prompt) + 5:
            ids.append(int(model.model(torch.tensor([ids])).logits[0, -1, : model.text_tokens].argmax()))
    end = model.tokenizer.token_to_id("<|endoftext|>")
    greedy = ids[len(prompt) :]
    assert end in greedy or texts[0].startswith(model.tokenizer.decode(greedy).rstrip("\ufffd"))
    assert len(set(texts)) > 1
    assert texts == model.samples(prompt, seed=0)


@pytest.mark.parametrize("start", [2, 5])
def test_what_all_documents_begin_with_is_read_once(path, start):
    """The losses of endings after one prompt are those of the documents alone, whatever their lengths."""
    model = TextModel.load(path, "causal")
    prompt = model.encode("I smell lovely so")
    endings = [model.encode(text) for text in ("ink", "cartridge printer oil", "so so so", "printer oil")]
    documents = [np.concatenate([prompt, ending]) for ending in endings]
    read = []
    model.model.base_model.wte.register_forward_hook(lambda module, tokens, out: read.append(tokens[0].numel()))
    together = model.losses(documents, [start] * 4)
    assert len(read) > 1
    assert sum(read) < 4 * max(map(len, documents))
    alone = [float(model.losses([document], [start])[0]) for document in documents]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_losses_are_those_of_each_document_alone(path):
    model = TextModel.load(path, "causal")
    documents = [model.encode(text) for text in ("I smell lovely", "so so", "ink cartridge printer oil")]
    found = model.losses(documents, [1, 1, 3])
    theirs = load_model(path, "causal")
    for tokens, start, loss in zip(documents, [1, 1, 3], found, strict=True):
        with torch.inference_mode():
            logits = theirs(torch.tensor(tokens[None].astype(np.int64))).logits[0, :, : model.text_tokens]
        log_p = logits.log_softmax(-1)[np.arange(len(tokens) - 1), tokens[1:].astype(np.int64)]
        assert loss == pytest.approx(-float(log_p[start - 1 :].sum()), rel=1e-4)
