"""Model directories: finding them, naming their exact state, and opening their tokenizer and weights.

A model is an ordinary Hugging Face directory (`config.json`, `model.safetensors`, `tokenizer.json` or
`vocab.json` + `merges.txt`) and at most one file of ours, `regulars.json`, the manifest. Without it a
directory is a stock GPT-2 that spells products by their titles. torch is imported by `load_model` only.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MANIFEST_FILE = "regulars.json"
NGRAMS_FILE = "ngrams.safetensors"
#: In the first version characters and words had length 1 each.
NGRAMS_VERSION = "2"
NEIGHBOURS_FILE = "neighbours.safetensors"
NEWCOMERS_FILE = "newcomers.safetensors"
MANIFEST_VERSION = 1
TEMPLATE_VERSION = 1
END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class CheckpointError(Exception):
    """A model directory is missing, incomplete or of another kind; the message says how to mend it."""

    exit_code = 2


class Manifest(BaseModel):
    """What the product adds to a Hugging Face directory, kept in its `regulars.json`.

    `item_ids[i]` is the product whose token id is `first_item_token + i` (item_tokens coding).
    `labels` is the order of the classifier's outputs and `temperature` divides its logits; `ngram_weights` multiply
    those of the n-grams' heads beside it, `offsets` are added, `noise` is the share of each label that does not come
    from the text (`lm.calibration`), and the label is that of the largest `label_weights` x (probability -
    `label_thresholds`) (`lm.label_rule`). Empty: nothing.
    `neighbour_weights` are those of `lm.neighbours` beside a recommender (empty: it is GPT-2 alone), `newcomer_weights`
    those of `lm.newcomers` (empty: it lists no product that it was not trained on).
    `training` and `metrics` are notes: they never change an answer and are not part of the fingerprint.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest_version: int = MANIFEST_VERSION
    template_version: int = Field(default=TEMPLATE_VERSION, ge=1)
    language: Literal["en", "zh"] = "en"
    task: Literal["recommend", "sentiment", "answers"] = "recommend"
    coding: Literal["titles", "item_tokens"] = "titles"
    item_ids: list[str] = Field(default_factory=list)
    first_item_token: int = Field(default=0, ge=0)
    labels: list[str] = Field(default_factory=lambda: ["negative", "neutral", "positive"], min_length=2)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    ngram_weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=list)
    offsets: list[float] = Field(default_factory=list)
    noise: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=list)
    label_weights: list[float] = Field(default_factory=list)
    label_thresholds: list[float] = Field(default_factory=list)
    neighbour_weights: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=list)
    newcomer_weights: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _without_n_grams(cls, values: Any) -> Any:
        """Before n-grams had two heads a folder without any said `ngram_weight: 0`; one with them is trained again."""
        if isinstance(values, dict) and values.get("ngram_weight") == 0:
            return {key: value for key, value in values.items() if key != "ngram_weight"}
        return values

    @model_validator(mode="after")
    def _codes_are_whole(self) -> Manifest:
        if self.coding == "item_tokens" and not self.item_ids:
            raise ValueError("coding item_tokens needs item_ids")
        if self.item_ids and self.first_item_token == 0:
            raise ValueError("item_ids need first_item_token, the id of the first product's token")
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError("item_ids holds an item twice")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a label twice")
        for name in ("offsets", "noise", "label_weights", "label_thresholds"):
            values = getattr(self, name)
            if values and (len(values) != len(self.labels) or not all(map(math.isfinite, values))):
                raise ValueError(f"{name} needs one number for each label")
        return self


def resolve(model: str) -> Path:
    """The local directory of `model`: a directory, a `file:` URI or a hub id such as `gpt2`.

    A copy in the hub's local cache is used as it is, so that a night's model changes only when its
    operator changes it; otherwise JSON, text and safetensors files are downloaded, never pickles.

    Raises CheckpointError when there is no such directory and no such model on the hub.
    """
    uri = urlsplit(model)
    if uri.scheme == "file":
        model = unquote(uri.path)
    elif uri.scheme and "://" in model:
        raise CheckpointError(f"model {model}: copy it to a local directory and name that directory")
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"model {path} has no config.json: train one into it with `regulars train`, "
                "or name a Hugging Face model directory"
            )
        return path.resolve()
    if path.exists():
        raise CheckpointError(f"model {path} is a file: name the directory that holds it")
    if not HUB_ID.fullmatch(model):
        raise CheckpointError(
            f"model directory {path} does not exist: train it with `regulars train`, or correct the path"
        )
    return _from_hub(model)


def _from_hub(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = {"allow_patterns": ["*.json", "*.txt", "*.safetensors"], "ignore_patterns": ["*/*"]}
    try:
        path = Path(snapshot_download(repo_id, local_files_only=True, **files))
        if (path / "config.json").is_file() and weight_files(path):
            return path
    except (LocalEntryNotFoundError, CheckpointError):
        pass  # not in the cache, or only a part of it: fetch what is missing
    except HFValidationError as error:
        raise CheckpointError(f"model {repo_id} is neither a directory nor a hub id") from error
    try:
        return Path(snapshot_download(repo_id, **files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"model {repo_id} is no local directory and could not be had from the hub "
            f"({type(error).__name__}): name a local directory, or train one with `regulars train`"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError when it is missing, broken or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: copy the whole model directory again") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: copy the model directory again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object: copy the model directory again")
    return value


def read_manifest(path: Path) -> Manifest:
    """The manifest of a model directory, or that of a stock GPT-2 where it has none.

    Raises CheckpointError for unknown keys, wrong values, a manifest or template of a newer Regulars,
    and item tokens beyond the model's vocabulary.
    """
    file = path / MANIFEST_FILE
    if not file.exists():
        return Manifest()
    values = read_json(file)
    for key, known in (("manifest_version", MANIFEST_VERSION), ("template_version", TEMPLATE_VERSION)):
        if isinstance(values.get(key), int) and values[key] > known:
            raise CheckpointError(
                f"{file}: {key} {values[key]} is newer than this Regulars reads ({known}): "
                "install the newer Regulars, or train the model again"
            )
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise CheckpointError(f"{file}: {key}: {first['msg']}: mend the key, or train again") from error
    last = manifest.first_item_token + len(manifest.item_ids)
    vocabulary = read_json(path / "config.json").get("vocab_size", last)
    if manifest.item_ids and last > vocabulary:
        raise CheckpointError(
            f"{file}: item tokens go up to id {last - 1} and the model's vocabulary ends at "
            f"{vocabulary - 1}: the manifest belongs to another model, train again"
        )
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `regulars.json` into a model directory, replacing it in one step."""
    temporary = path / (MANIFEST_FILE + ".tmp")
    temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(path / MANIFEST_FILE)


def context_tokens(path: Path) -> int:
    """How many positions the model has (GPT-2: 1,024): no prompt with its answer may be longer."""
    config = read_json(path / "config.json")
    for key in ("n_positions", "max_position_embeddings", "n_ctx"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise CheckpointError(f"{path / 'config.json'} states no n_positions: it is no GPT-2 configuration")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that hold the weights, in name order; CheckpointError when there are none."""
    index = path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (path / names[0]).exists() and index.exists():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    files = [path / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if not missing and files:
        return files
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"model {path} has its weights as a pickle (*.bin) only, which can run code when opened: "
            "convert it with model.save_pretrained(directory, safe_serialization=True)"
        )
    raise CheckpointError(f"model {path} lacks {', '.join(missing) or 'its weights'}: copy it again")


def tokenizer_files(path: Path) -> list[Path]:
    """`tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`; CheckpointError when there is neither."""
    if (path / "tokenizer.json").is_file():
        return [path / "tokenizer.json"]
    pair = [path / "vocab.json", path / "merges.txt"]
    if all(file.is_file() for file in pair):
        return pair
    raise CheckpointError(f"model {path} has no tokenizer: add tokenizer.json, or vocab.json and merges.txt")


def ngrams_file(path: Path) -> Path | None:
    """The n-grams of a classifier, None where there are none; CheckpointError for broken ones and another release's."""
    file = path / NGRAMS_FILE
    if not file.exists():
        return None
    try:
        with safe_open(file, "numpy") as opened:
            version = (opened.metadata() or {}).get("version")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error
    if version != NGRAMS_VERSION:
        raise CheckpointError(
            f"{file} is of another release: train the model again with `regulars train --task sentiment`"
        )
    return file


def load_tokenizer(path: Path) -> Tokenizer:
    """The directory's tokenizer, never padding nor truncating, and never reading special tokens in text."""
    files = tokenizer_files(path)
    try:
        if len(files) == 1:
            tokenizer = Tokenizer.from_file(str(files[0]))
        else:
            tokenizer = Tokenizer(BPE.from_file(*map(str, files)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            if tokenizer.token_to_id(END_OF_TEXT) is not None:
                tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    except Exception as error:  # tokenizers raises bare Exception for every broken file
        names = " and ".join(file.name for file in files)
        raise CheckpointError(f"model {path}: {names} cannot be read: copy it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" typed by a customer is text
    return tokenizer


def load_model(
    path: Path,
    kind: Literal["causal", "classifier"] = "causal",
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
) -> PreTrainedModel:
    """The Hugging Face model of a directory, in eval mode, its weights read from safetensors only.

    Raises CheckpointError when a weight is missing, such as the classification head of a model that was
    never fine-tuned for sentiment: Hugging Face would fill it with random numbers.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    weight_files(path)
    logging.disable_progress_bar()
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    labels = {} if kind == "causal" else {"num_labels": len(read_manifest(path).labels)}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn about is an error below
    try:
        model, info = loader.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **labels,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"model {path} cannot be loaded as a {kind} model: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    wrong = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise CheckpointError(
            f"model {path} has no usable {wrong[0]} for a {kind} model: "
            f"train it with `regulars train --task {'recommend' if kind == 'causal' else 'sentiment'}`"
        )
    return model.to(device).eval()
