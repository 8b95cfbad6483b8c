"""Model directories: their location, their files and their tokenizer.

A model is an ordinary Hugging Face directory (`config.json`, `model.safetensors`, `tokenizer.json` or
`vocab.json` + `merges.txt`), with our manifest (`lm.checkpoint.manifest`) and the files that a task adds.
A directory without a manifest is a stock GPT-2 that names products by their titles.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from lm.checkpoint.text_growth import MOST_GROWTH, text_growth

NGRAMS_FILE = "ngrams.safetensors"
#: Raised with every change of the features, because older weights do not fit them.
NGRAMS_VERSION = "4"
CO_PURCHASE_FILE = "neighbours.safetensors"
COLD_ITEMS_FILE = "newcomers.safetensors"
END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token."""

Size = Annotated[int, Field(ge=1, lt=1 << 31)] | None
#: Characters of which many vocabularies lack some.
_PROBE = "a 7\n汉å😀"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class CheckpointError(Exception):
    """A model directory is missing, incomplete or of another kind; the message names the mend."""

    exit_code = 2


def resolve(model: str) -> Path:
    """The local directory of `model`: a directory, a `file:` URI or a hub id such as `gpt2`.

    A copy in the hub's local cache is used without asking the hub, so that only the operator changes a night's model.
    Otherwise JSON, text, Arrow and safetensors files are downloaded, never pickles.
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

    files = {"allow_patterns": ["*.json", "*.txt", "*.safetensors", "*.arrow"], "ignore_patterns": ["*/*"]}
    try:
        path = Path(snapshot_download(repo_id, local_files_only=True, **files))
        if (path / "config.json").is_file() and weight_files(path):
            return path
    except (LocalEntryNotFoundError, CheckpointError):
        pass  # not in the cache, or incomplete there: download what is missing
    except HFValidationError as error:
        raise CheckpointError(f"model {repo_id} is neither a directory nor a hub id") from error
    try:
        return Path(snapshot_download(repo_id, **files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"model {repo_id} is no local directory and cannot be downloaded from the hub "
            f"({type(error).__name__}): name a local directory, or train one with `regulars train`"
        ) from error


class _Config(BaseModel):
    """The values of a config.json that our own code computes with; transformers checks the rest."""

    model_config = ConfigDict(strict=True)

    model_type: str = ""
    activation_function: str = ""
    vocab_size: Size = None
    n_positions: Size = None
    max_position_embeddings: Size = None
    n_ctx: Size = None
    n_embd: Size = None
    n_head: Size = None
    n_layer: Size = None
    n_inner: Size = None
    layer_norm_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    tie_word_embeddings: bool = True
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False


def read_config(path: Path) -> dict[str, Any]:
    """The `config.json` of a model directory; raises CheckpointError for values of absurd types and sizes."""
    file = path / "config.json"
    config = read_json(file)
    try:
        _Config.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise CheckpointError(f"{file}: {key}: {first['msg']}: copy the model directory again") from error
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`; raises CheckpointError when it is missing, broken or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: copy the whole model directory again") from error
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
        raise CheckpointError(f"{path} cannot be read as JSON: copy the model directory again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object: copy the model directory again")
    return value


def context_tokens(path: Path) -> int:
    """The number of the model's positions (GPT-2: 1,024), which bounds a prompt with its answer.

    Raises CheckpointError when `config.json` does not state it.
    """
    config = read_config(path)
    for key in ("n_positions", "max_position_embeddings", "n_ctx"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise CheckpointError(f"{path / 'config.json'} states no n_positions: it is no GPT-2 configuration")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of the weights, in name order; raises CheckpointError when one is missing."""
    index = path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (path / names[0]).exists() and index.exists():
        weight_map = read_json(index).get("weight_map")
        found = list(weight_map.values()) if isinstance(weight_map, dict) else [None]
        names = sorted({name for name in found if isinstance(name, str) and Path(name).name == name})
        if not all(name in names for name in found):
            raise CheckpointError(f"{index}: weight_map must name files of its directory: copy the model again")
    files = [path / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if not missing and files:
        return files
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"model {path} has its weights only as a pickle (*.bin), which can run code when opened: "
            "convert it with model.save_pretrained(directory, safe_serialization=True)"
        )
    raise CheckpointError(f"model {path} lacks {', '.join(missing) or 'its weights'}: copy it again")


def tokenizer_files(path: Path) -> list[Path]:
    """`tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`; raises CheckpointError when there is neither."""
    if (path / "tokenizer.json").is_file():
        return [path / "tokenizer.json"]
    pair = [path / "vocab.json", path / "merges.txt"]
    if all(file.is_file() for file in pair):
        return pair
    raise CheckpointError(f"model {path} has no tokenizer: add tokenizer.json, or vocab.json and merges.txt")


def ngrams_file(path: Path) -> Path | None:
    """The n-gram file of a classifier, None where it has none.

    Raises CheckpointError when the file is broken or of another version.
    """
    file = path / NGRAMS_FILE
    if not file.exists():
        return None
    try:
        with safe_open(file, "numpy") as opened:
            version = (opened.metadata() or {}).get("version")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read: copy the model directory again") from error
    if version != NGRAMS_VERSION:
        raise CheckpointError(f"{file} is of another release: train the model again")
    return file


def ngrams_know_categories(path: Path) -> bool:
    """Whether a classifier's n-grams use the category of a text; raises CheckpointError as `ngrams_file`."""
    file = ngrams_file(path)
    if file is None:
        return False
    with safe_open(file, "numpy") as opened:
        names = opened.keys()
        return "categories" in names and opened.get_slice("categories").get_shape() != [0]


def load_tokenizer(path: Path) -> Tokenizer:
    """The directory's tokenizer, without padding or truncation; special tokens in a text are encoded as plain text.

    Raises CheckpointError when there is no tokenizer or it cannot be read.
    """
    files = tokenizer_files(path)
    if len(files) == 1:
        _refuse_text_growth(files[0])
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
    stated = stated_special_tokens(path)
    if stated is not None:
        before, after = ([name for name in names if tokenizer.token_to_id(name) is not None] for names in stated)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in {*before, *after}],
        )
    try:
        tokenizer.encode(_PROBE)
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(
            f"{path / 'tokenizer.json'}: it cannot encode every text ({type(error).__name__}), for example because it "
            "names no unknown token: use the model's published tokenizer"
        ) from error
    return tokenizer


def _refuse_text_growth(file: Path) -> None:
    """Check what a tokenizer.json would make of a text; reading it into a Tokenizer already normalizes some texts."""
    content = read_json(file)
    for name in ("normalizer", "decoder"):
        try:
            growth = text_growth(content.get(name))
        except ValueError as error:
            raise CheckpointError(f"{file}: {name}: {error}: copy the model directory again") from error
        if growth > MOST_GROWTH:
            raise CheckpointError(
                f"{file}: {name}: it can make a text {growth:,.0f} times as long (at most {MOST_GROWTH:.0f}): "
                "use the model's published tokenizer"
            )


def stated_special_tokens(path: Path) -> tuple[list[str], list[str]] | None:
    """The special tokens before and after a text by `tokenizer_config.json`; None where that states nothing.

    As in transformers, `add_bos_token` and `add_eos_token` there take the place of the tokenizer's post-processor.
    """
    file = path / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return None
    names = []
    for role in ("bos", "eos"):
        token = config.get(f"{role}_token")
        content = token.get("content") if isinstance(token, dict) else token
        names.append([content] if config.get(f"add_{role}_token") and isinstance(content, str) else [])
    return names[0], names[1]


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of the special tokens that the tokenizer's post-processor adds before and after a text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    text = [place for place, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
    if not text:  # a tokenizer that knows no "a"
        return encoding.ids, []
    return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]
