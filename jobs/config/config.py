"""Reads `regulars.yaml` into a `Config`, whose keys are in `jobs/config/settings.py`.

For the data engineer: every mistake gives one message that names the key, the file and the remedy (exit code 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.config.input_settings import InputSettings, SourceSettings, escaped
from jobs.config.settings import Config, did_you_mean, mistaken_columns
from jobs.config.strict_model import Section
from jobs.spark.errors import ConfigurationError
from schemas import INPUTS

__all__ = ["Config", "InputSettings", "load"]

#: A larger file is no configuration; reading one could take minutes.
_MAX_BYTES = 256 * 1024
#: More keys than this never come from `<<` on purpose.
_MAX_MERGED_KEYS = 1000
#: Mistakes that one message lists, and characters of a key or a value that it shows.
_MAX_MISTAKES, _MAX_SHOWN = 20, 80
#: The expected type in words, by pydantic's name of the mistake.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "string_type": 'text (put it in quotes: "...")',
}


#: Sections whose keys are names of tables.
_SECTIONS_BY_NAME: Mapping[str, type[Section]] = {"inputs": InputSettings, "sources": SourceSettings}
_Source = TypeVar("_Source", bound=SourceSettings)

#: What YAML says of a value that must be in quotes, and what to do.
_UNQUOTED = (
    (r"found character '(.)' that cannot start any token", r"a value that begins with \1 must be in double quotes"),
    (r"mapping values are not allowed here", "a value that has a colon and a space must be in double quotes"),
    (
        r"expected (?:<block end>|',' or '[]}]')|found undefined alias|could not determine a constructor",
        "a value that begins with one of { [ * & ! ' must be in double quotes as a whole",
    ),
)

_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Loads YAML with two changes: 1e-3 is a number (YAML 1.1 requires 1.0e-3), and a repeated key is an error."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings of `<<`; refuse nested merges whose keys grow exponentially."""
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                mappings = [one for one in merged if isinstance(one, yaml.MappingNode)]
                for mapping in mappings:
                    self.flatten_mapping(mapping)
                if sum(len(mapping.value) for mapping in mappings) > _MAX_MERGED_KEYS:
                    problem = f"`<<` merges more than {_MAX_MERGED_KEYS} keys"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        super().flatten_mapping(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; an impossible one, such as the date 2026-02-30, is an error at its line."""
        kind = node.tag.rpartition(":")[2]
        try:
            if kind in ("int", "float") and len(node.value) > _MAX_SHOWN:
                raise ValueError("no number has so many digits")
            return super().construct_object(node, deep)
        except (ValueError, AttributeError):
            raise yaml.constructor.ConstructorError(
                None, None, f"this is no {kind}: put it in quotes", node.start_mark
            ) from None


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE_TAG:
            continue  # `<<: *other` takes over another mapping; keys beside it replace the other's
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a single value", key_node.start_mark)
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} is written twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the file, apply the `--set a.b=c` overrides (c is YAML), check everything and make paths absolute.

    Relative paths, also in overrides, are relative to the file's folder. URIs with a scheme and hub ids stay as they
    are. Raises ConfigurationError that names the key, the file and the remedy.
    """
    path = Path(path)
    content = _read(path)
    for override in overrides:
        _apply_override(content, override)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        details = error.errors()
        found = [_explain(detail) for detail in details]
        if all(detail["loc"] for detail in details):  # else the columns of the whole were checked, and are named
            found += _mistaken_columns(content)
        problems = "\n".join(f"  {one}" for one in found[:_MAX_MISTAKES])
        if len(found) > _MAX_MISTAKES:
            problems += f"\n  and {len(found) - _MAX_MISTAKES} more"
        raise ConfigurationError(
            f"{path} is not a valid configuration:\n{problems}\n"
            "Correct the file (or --set), then run the command again."
        ) from None
    read = _with_absolute_paths(config, path.absolute().parent)
    if Path(read.store).is_file():
        raise ConfigurationError(f"store: {read.store} is a file, not a folder. Name a folder in {path}, or remove it.")
    read._overrides, read._file = tuple(overrides), str(path)
    return read


def _mistaken_columns(content: Mapping[str, Any]) -> list[str]:
    """Return the lines about unknown columns of inputs; pydantic checks them only where all else is right."""
    inputs = content.get("inputs")
    found = []
    for table, source in inputs.items() if isinstance(inputs, dict) else ():
        columns = source.get("columns") if isinstance(source, dict) else None
        if table in INPUTS and isinstance(columns, dict):
            found += mistaken_columns(table, (_shorten(str(name)) for name in columns))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigurationError(
                f"{path} is larger than {_MAX_BYTES // 1024} KiB, so it is no configuration: name the right file with "
                "--config FILE"
            )
        content = yaml.load(data.decode(), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"there is no configuration file {path}: name yours with --config FILE, "
            "or write a sample shop with one: regulars sample --out demo"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): give a readable text file in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{path} is not YAML: {_yaml_problem(error)}. Correct that line, then run the command again."
        ) from None
    except RecursionError:
        raise ConfigurationError(f"{path} is nested too deeply: write plain keys and values") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no keys: it needs at least store, timezone and inputs")
    return content


def _yaml_problem(error: yaml.YAMLError | RecursionError) -> str:
    """Name the line and the problem, without YAML's excerpt of the file, which may hold a password."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = error.problem or ""
        found = ((re.search(pattern, problem), mend) for pattern, mend in _UNQUOTED)
        hint = next((f" ({match.expand(mend)})" for match, mend in found if match), "")
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {problem}{hint}"
    return str(error).splitlines()[0]


def _apply_override(content: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = _split_key(dotted.strip())
    if not equals or not all(keys):
        raise ConfigurationError(f"--set {dotted}: write it as --set a.b=c, for example --set recommend.k=20")
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(
            f"--set {dotted}: its value is not YAML: {_yaml_problem(error)}; put it in quotes"
        ) from None
    section = content
    for depth, key in enumerate(keys[:-1], start=1):
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise ConfigurationError(f"--set {dotted}: {'.'.join(keys[:depth])} is a single value without keys")
    section[keys[-1]] = value


def _split_key(dotted: str) -> list[str]:
    """Split a key at its dots, but not inside the names of Spark settings and reader options."""
    keys = dotted.split(".")
    is_option = keys[0] in ("inputs", "sources") and keys[2:3] == ["options"]
    levels = 1 if keys[0] == "spark" else 3 if is_option else len(keys)
    return keys[:levels] + ([".".join(keys[levels:])] if keys[levels:] else [])


def _explain(detail: ErrorDetails) -> str:
    """Describe one mistake in one line: key, problem, remedy. Values are left out: they may be passwords."""
    location = [_shorten(str(part)) for part in detail["loc"] if part != "[key]"]
    key = ".".join(location)
    kind = detail["type"]
    if kind == "extra_forbidden":
        section = _section_at(location[:-1])
        keys = [field.alias or name for name, field in section.model_fields.items()]
        return f"{key} is not a key; {did_you_mean(location[-1], keys)}"
    if kind == "missing":
        section = _section_at(location[:-1])
        return f"{key} is missing: {section.model_fields[location[-1]].description or 'add it'}"
    if kind == "invalid_key":
        return f"{key}: a key must be text; put it in quotes"
    if kind in _EXPECTED:
        return f"{key} must be {_EXPECTED[kind]}, it is {_type_in_words(detail['input'])}"
    message = (
        detail["msg"]
        .removeprefix("Value error, ")
        .replace("Input should", "it should")
        .replace("String should", "it should")
    )
    return f"{key}: {message}" if key and not message.startswith(key) else message


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _type_in_words(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return "empty" if value is None else names.get(type(value), "a mapping of keys" if value else "an empty mapping")


def _section_at(location: Sequence[str]) -> type[BaseModel]:
    """Return the section that contains a key path; `inputs.<table>` and `sources.<name>` are one step of it."""
    section: type[BaseModel] = Config
    if location and location[0] in _SECTIONS_BY_NAME:
        section, location = _SECTIONS_BY_NAME[location[0]], location[2:]
    for part in location:
        if part in section.model_fields:
            annotation = section.model_fields[part].annotation
            for one in get_args(annotation) or (annotation,):
                if isinstance(one, type) and issubclass(one, Section):
                    section = one
    return section


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    inputs = {table: _with_absolute_path(source, folder) for table, source in config.inputs.items()}
    sources = {name: _with_absolute_path(source, folder) for name, source in config.sources.items()}
    models = {task: name and _model_path(name, folder) for task, name in config.models.model_dump().items()}
    training = {
        task: section.model_copy(update={"init": _model_path(section.init, folder)})
        for task, section in (
            ("recommend", config.train.recommend),
            ("sentiment", config.train.sentiment),
            ("answers", config.train.answers),
        )
        if section.init is not None
    }
    changed: dict[str, Any] = {
        "store": _absolute_path(config.store, folder),
        "inputs": inputs,
        "sources": sources,
        "models": config.models.model_copy(update=models),
        "train": config.train.model_copy(update=training),
        "publish": config.publish.model_copy(
            update={"to": config.publish.to and _absolute_path(config.publish.to, folder)}
        ),
    }
    local = {name: getattr(config.report, name) for name in ("prometheus", "openlineage")}
    files = {name: str(folder / path) for name, path in local.items() if path is not None}
    changed |= {"report": config.report.model_copy(update=files)}
    if config.privacy.key_file is not None:
        key_file = _absolute_path(config.privacy.key_file, folder)
        changed = {**changed, "privacy": config.privacy.model_copy(update={"key_file": key_file})}
    return config.model_copy(update=changed)


def _with_absolute_path(source: _Source, folder: Path) -> _Source:
    """Make the paths of a source absolute. They are globs, so special characters of the folder are escaped."""
    if source.path is None:
        return source
    base = Path(escaped(str(folder)))
    paths = [_absolute_path(path, base) for path in source.paths]
    return source.model_copy(update={"path": paths[0] if isinstance(source.path, str) else paths})


def _absolute_path(path: str, folder: Path) -> str:
    """Make a path absolute; a URI such as hdfs://host/x or file:/x stays as it is."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path):
        return path
    try:
        return str(folder / Path(path).expanduser())
    except RuntimeError:
        raise ConfigurationError(f"{path}: there is no such home folder. Write the whole path") from None


def _model_path(name: str, folder: Path) -> str:
    """Resolve the name of a model: gpt2 is a hub id unless such a folder exists, hf://org/name always is one."""
    if name.startswith("hf://"):
        return name.removeprefix("hf://")
    if re.fullmatch(r"\w[\w.-]*", name) and not (folder / name).exists():
        return name
    return _absolute_path(name, folder)
