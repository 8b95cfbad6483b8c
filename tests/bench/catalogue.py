"""A catalogue of a million titles: seconds to build, write and map it again, and the most memory of the process.

    python -m tests.bench.catalogue [--titles 1000000] [--quick] [--json]

Titles are real ones (Amazon Beauty in `--data`, else the sample shop's), each with a number behind it that makes it
another product; the tokenizer is the engine's benchmarks' own.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

from lm.recommend.catalogue import Catalogue
from lm.text.prompt import PromptEncoder
from tests.bench import material
from tests.bench.measure import arguments, report


def main() -> None:
    options = arguments(__doc__ or "", titles=1_000_000)
    names = material.titles(options.data)
    titles = [f"{names[n % len(names)]} {n}" for n in range(options.titles)]
    ids = [f"{n:07d}" for n in range(options.titles)]
    with tempfile.TemporaryDirectory() as folder:
        encoder = PromptEncoder.load(material.save_tokenizer(Path(folder) / "model", options.data))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.perf_counter()
        Catalogue.build(ids, titles, encoder).save(Path(folder) / "catalogue")
        built = time.perf_counter() - started
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.perf_counter()
        Catalogue.load(Path(folder) / "catalogue")
        mapped = time.perf_counter() - started
        size = sum(file.stat().st_size for file in (Path(folder) / "catalogue").iterdir())
    figures = {
        "titles": options.titles,
        "build_seconds": built,
        "map_seconds": mapped,
        "peak_bytes": most,
        "bytes_before": before,
        "bytes_on_disk": size,
    }
    row = {
        "build and write": f"{built:.1f} s",
        "map": f"{mapped:.2f} s",
        "peak memory": f"{most / 2**30:.2f} GiB, of it {before / 2**30:.2f} before",
        "on disk": f"{size / 2**20:.0f} MiB",
    }
    report(f"A catalogue of {options.titles:,} titles", {"trie": row}, figures, options.json)


if __name__ == "__main__":
    main()
