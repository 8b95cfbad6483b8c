"""Redaction against Presidio's recognisers of patterns: recall, clean texts that change, time, share of the prompts.

    python -m tests.bench.redaction --data FOLDER [--presidio PYTHON] [--quick] [--json]
    python -m tests.bench.redaction --data FOLDER --vocabulary    # the price of n-grams that five customers wrote

The planted and the clean texts are those of tests/lm/redaction. presidio-synth (`--data`) has marked spans: a span is
found if all its digits, or all its letters where it has none, are covered. PYTHON is an interpreter with
presidio-analyzer 2.2.366, in an environment of its own; its English model of names is not used. Without it our column
stands alone. The share is that of redaction in the
processor's time of rendering prompts; a night also reads files and joins tables there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm.redaction.redact import personal_spans, redact
from tests.bench import material
from tests.bench.measure import arguments, console, report
from tests.lm.redaction.plant import DATA
from tests.lm.redaction.reader import is_readable

Spans = list[tuple[int, int]]
LEAST_SCORES = (0.4, 0.0)
#: What patterns can find: places, professions and names in the middle of prose are left to models.
SYNTH_KINDS = (
    "CREDIT_CARD EMAIL_ADDRESS IBAN_CODE PHONE_NUMBER US_SSN IP_ADDRESS STREET_ADDRESS US_DRIVER_LICENSE PERSON"
)
#: Runs in the interpreter with Presidio: texts in, the spans and scores of all recognisers of patterns out.
PRESIDIO = """
import inspect, json, sys, time
from presidio_analyzer import PatternRecognizer, predefined_recognizers as known
from presidio_analyzer.predefined_recognizers import PhoneRecognizer
classes = [c for _, c in inspect.getmembers(known, inspect.isclass) if issubclass(c, PatternRecognizer)]
recognizers = [PhoneRecognizer(supported_regions=["GB", "US", "CN", "DE", "FR", "ES", "PT", "JP"])]
for of in classes:
    try:
        recognizers.append(of())
    except TypeError:
        pass
texts = json.load(sys.stdin)
started = time.perf_counter()
found = [
    [(r.start, r.end, r.score) for one in recognizers for r in one.analyze(text, one.supported_entities, None) or []]
    for text in texts
]
json.dump({"spans": found, "seconds": time.perf_counter() - started, "recognizers": len(recognizers)}, sys.stdout)
"""


def main() -> None:
    options = _options()
    if options.vocabulary:
        return _vocabulary(options)
    planted, clean = ([json.loads(line) for line in (DATA / f"{name}.jsonl").open()] for name in ("planted", "clean"))
    synth = list(_synth(options.data)) if options.data else []
    texts = [row["text"] for row in (*planted, *clean, *synth)]
    contenders: dict[str, tuple[list[Spans], float]] = {"ours": _ours(texts)}
    if options.presidio:
        contenders |= _presidio(options.presidio, texts)
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    figures: dict[str, Any] = {}
    for name, (spans, seconds) in contenders.items():
        parts = np.split(np.arange(len(texts)), [len(planted), len(planted) + len(clean)])
        of_planted, of_clean, of_synth = ([spans[i] for i in part] for part in parts)
        found = _planted_recall(planted, of_planted)
        found["clean texts changed"] = float(np.mean([bool(one) for one in of_clean]))
        found |= _synth_recall(synth, of_synth)
        found["microseconds a text"] = seconds / len(texts) * 1e6
        for row, value in found.items():
            rows[row][name] = f"{value:,.0f}" if row.startswith("micro") else f"{value:.3f}"
            figures[f"{name}: {row}"] = value
    if options.data:
        figures["share of the prompts"] = share = _share(options.data, 300 if options.quick else 1000)
        rows["share of redaction in rendering prompts"]["ours"] = f"{share:.1%}"
    report(f"Redaction on {len(texts):,} texts", rows, figures, options.json)


def _options() -> Any:
    """The shared options, and the interpreter with Presidio."""
    vocabulary = "--vocabulary" in sys.argv
    if vocabulary:
        sys.argv.remove("--vocabulary")
    place = sys.argv.index("--presidio") if "--presidio" in sys.argv else None
    presidio = None
    if place is not None:
        presidio = sys.argv[place + 1]
        del sys.argv[place : place + 2]
    options = arguments(__doc__ or "")
    options.vocabulary = vocabulary
    options.presidio = presidio and shutil.which(presidio)
    if presidio and not options.presidio:
        console.print(f"--presidio: {presidio} is not there; Presidio is left out")
    return options


def _vocabulary(options: Any) -> None:
    """Accuracy and macro-F1 of the n-grams alone: those of two customers, and those of five."""
    from sklearn.metrics import f1_score

    from lm.sentiment.fit_ngrams import fit_ngrams

    rows, figures = {}, {}
    for name, (texts, stars, writers) in _reviews(options.data).items():
        labels = np.array([0 if star <= 2 else 1 if star == 3 else 2 for star in stars])
        order = np.random.default_rng(0).permutation(len(texts))
        train, test = np.split(order, [len(texts) * 4 // 5])
        for least in (2, 5):
            wrote = [writers[i] for i in train]
            model = fit_ngrams([texts[i] for i in train], labels[train], 3, writers=wrote, min_writers=least)
            found = model.logits([texts[i] for i in test]).argmax(axis=1)
            figures[f"{name}, {least} customers: accuracy"] = accuracy = float((found == labels[test]).mean())
            figures[f"{name}, {least} customers: macro-F1"] = f1 = float(f1_score(labels[test], found, average="macro"))
            shown = {"reviews": f"{len(test):,}", "accuracy": f"{accuracy:.4f}", "macro-F1": f"{f1:.4f}"}
            rows[f"{name}, n-grams of {least} customers"] = shown
    report("N-grams that several customers wrote", rows, figures, options.json)


def _reviews(data: Path) -> dict[str, tuple[list[str], list[float], list[str]]]:
    """Texts, stars and writers of three sets; Flipkart's does not say who wrote a review."""
    csv.field_size_limit(10**7)
    flipkart, devices = (
        list(csv.DictReader(io.StringIO(gzip.decompress((data / file).read_bytes()).decode(), newline="")))
        for file in ("flipkart/flipkart_reviews.csv.gz", "device-reviews/1429_1.csv.gz")
    )
    packed = (data / "gift-cards/reviews.json.gz").read_bytes()
    gifts = [json.loads(line) for line in gzip.decompress(packed).decode().split("\n") if line]
    gifts = [row for row in gifts if row.get("reviewText")]
    devices = [row for row in devices if row["reviews.rating"] and row["reviews.text"]][::5]
    return {
        "Flipkart": (
            [row["Review"] for row in flipkart],
            [float(row["Rating"]) for row in flipkart],
            [str(number) for number in range(len(flipkart))],
        ),
        "gift cards": (
            [row["reviewText"] for row in gifts],
            [float(row["overall"]) for row in gifts],
            [row["reviewerID"] for row in gifts],
        ),
        "a fifth of the device reviews": (
            [row["reviews.text"] for row in devices],
            [float(row["reviews.rating"]) for row in devices],
            [row["reviews.username"] for row in devices],
        ),
    }


def _ours(texts: Sequence[str]) -> tuple[list[Spans], float]:
    started = time.perf_counter()
    found = [[(start, end) for start, end, _ in personal_spans(text)] if redact(text) != text else [] for text in texts]
    return found, (time.perf_counter() - started) / 2  # the spans are found twice


def _presidio(python: str, texts: Sequence[str]) -> dict[str, tuple[list[Spans], float]]:
    command = [python, "-c", PRESIDIO]
    ran = subprocess.run(command, input=json.dumps(list(texts)), capture_output=True, text=True, check=False)
    if ran.returncode:
        console.print(f"Presidio failed and is left out: {ran.stderr.strip().splitlines()[-1:]}")
        return {}
    answer = json.loads(ran.stdout)
    return {
        f"Presidio, score from {least}": (
            [[(start, end) for start, end, score in spans if score >= least] for spans in answer["spans"]],
            answer["seconds"],
        )
        for least in LEAST_SCORES
    }


def _replaced(text: str, spans: Spans) -> str:
    pieces, done = [], 0
    for start, end in sorted(spans):
        if end > done:
            pieces += [text[done : max(start, done)], "[X]"]
            done = end
    return "".join(pieces) + text[done:]


def _planted_recall(planted: Sequence[Mapping[str, Any]], spans: Sequence[Spans]) -> dict[str, float]:
    """The share of planted values that the independent reader cannot read any more, by kind and twist."""
    hidden: dict[str, list[bool]] = defaultdict(list)
    for row, found in zip(planted, spans, strict=True):
        is_hidden = not is_readable(_replaced(row["text"], found), row["hidden"])
        kind = "address" if row["kind"].startswith("address") else row["kind"]
        for group in (kind, "all with a twist" if row["twist"] else "all plain"):
            hidden[group].append(is_hidden)
    return {group: float(np.mean(values)) for group, values in sorted(hidden.items())}


def _synth(data: Path) -> Iterator[dict[str, Any]]:
    file = data / "presidio-synth" / "synth_dataset_v2.json.gz"
    if not file.exists():
        console.print(f"{file} is not there; presidio-synth is left out")
        return
    for row in json.loads(gzip.decompress(file.read_bytes())):
        yield {"text": row["full_text"], "spans": row["spans"]}


def _synth_recall(synth: Sequence[Mapping[str, Any]], spans: Sequence[Spans]) -> dict[str, float]:
    covered: dict[str, list[bool]] = defaultdict(list)
    for row, found in zip(synth, spans, strict=True):
        taken = {place for start, end in found for place in range(start, end)}
        for span in row["spans"]:
            if span["entity_type"] in SYNTH_KINDS.split():
                places = range(span["start_position"], span["end_position"])
                deciding = [p for p in places if row["text"][p].isdigit()] or [
                    p for p in places if row["text"][p].isalpha()
                ]
                covered[span["entity_type"]].append(taken.issuperset(deciding))
    return {f"synth {kind} ({len(values)})": float(np.mean(values)) for kind, values in sorted(covered.items())}


def _share(data: Path, customers: int) -> float:
    """The share of redaction in the seconds of rendering prompts of searches, reviews and purchases."""
    from lm.checkpoint.checkpoint import load_tokenizer
    from lm.checkpoint.manifest import Manifest
    from lm.text import template
    from lm.text.prompt import Event, PromptEncoder

    rng = np.random.default_rng(0)
    reviews = material.reviews(data, 20_000)
    titles = material.titles(data)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = load_tokenizer(material.save_tokenizer(Path(scratch) / "model", data))

    def events() -> list[Event]:
        bought = [Event("bought", str(i), titles[i]) for i in rng.integers(len(titles), size=14)]
        searched = [Event("searched", text=" ".join(titles[i].split()[:3])) for i in rng.integers(len(titles), size=4)]
        reviewed = [
            Event("reviewed", str(i), titles[i], reviews[int(rng.integers(len(reviews)))], 4)
            for i in rng.integers(len(titles), size=2)
        ]
        return [*bought, *searched, *reviewed]

    histories = [events() for _ in range(customers)]

    def seconds(how: Callable[..., str]) -> float:
        kept, template.redact = template.redact, how
        encoder = PromptEncoder(tokenizer, Manifest())
        started = time.process_time()
        encoder.render_many(histories, 256)
        template.redact = kept
        return time.process_time() - started

    def leave(text: str, *, limit: int | None = None) -> str:
        return text[:limit]

    seconds(redact)
    with_it = min(seconds(redact) for _ in range(3))
    without = min(seconds(leave) for _ in range(3))
    return (with_it - without) / with_it


if __name__ == "__main__":
    main()
