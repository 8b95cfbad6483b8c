"""What every benchmark shares: this machine's ceilings, contenders run in turn, medians, one table and one JSON line.

A contender is a function that does a fixed amount of work once; contenders run one after another in one process,
round by round, so that drift of the machine meets all of them alike. Figures are ratios first, seconds second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
BUSY = 0.05
_shares_elsewhere: list[float] = []
_counts_processor_seconds = False


def arguments(description: str, **sizes: int) -> argparse.Namespace:
    """Parse the options that every benchmark has; `--data` names the folder of real data where one is used.

    `sizes` become options of their own with these defaults; --quick does a hundredth of each unless it is given.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: shows that it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument(
        "--processor-seconds",
        action="store_true",
        help="count seconds of this process alone, with one thread: for a machine that does other work",
    )
    parser.add_argument("--rounds", type=int, help="rounds in turn (default 3, quick 1)")
    parser.add_argument("--data", type=Path, help="folder with the real data sets, where the benchmark uses them")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {size:,}, quick {max(1, size // 100):,}")
    options = parser.parse_args()
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, max(1, size // 100) if options.quick else size)
    global _counts_processor_seconds
    _counts_processor_seconds = options.processor_seconds
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def now() -> float:
    """Seconds by the clock, or with --processor-seconds those that this process's threads have computed."""
    return time.process_time() if _counts_processor_seconds else time.perf_counter()


def in_turn(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over `rounds`, all contenders once per round.

    Says which share of the processors other processes took meanwhile: figures of a busy machine are none.
    """
    begun = _busy()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, work in contenders.items():
            started = now()
            work()
            seconds[name].append(now() - started)
            console.print(f"[dim]round {number + 1}/{rounds} {name}: {seconds[name][-1]:.2f} s[/dim]", highlight=False)
    elsewhere = _elsewhere(begun)
    _shares_elsewhere.append(elsewhere)
    if elsewhere > BUSY:
        console.print(f"[yellow]other processes took {elsewhere:.0%} of the processors meanwhile[/yellow]")
    return {name: statistics.median(values) for name, values in seconds.items()}


def _busy() -> tuple[float, float, float]:
    """Seconds of the clock, of all processors at work, and of them for this process and its children."""
    times, usage = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    own = usage.ru_utime + usage.ru_stime
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            own += sum(process.cpu_times()[:2])
    return time.perf_counter(), sum(times) - times.idle - times.iowait, own


def _elsewhere(begun: tuple[float, float, float]) -> float:
    wall, busy, own = (now - then for now, then in zip(_busy(), begun, strict=True))
    return max(0.0, busy - own) / (wall * (os.cpu_count() or 1))


def matrix_ceiling(dtype: torch.dtype, rows: int = 4096, width: int = 768, seconds: float = 2.0) -> float:
    """Best FLOP/s of the MLP-shaped product (rows, width) x (width, 4 width) seen within `seconds`."""
    left, right = torch.randn(rows, width).to(dtype), torch.randn(4 * width, width).to(dtype)
    flops, best, end = 2 * rows * width * 4 * width, 0.0, now() + seconds
    with torch.inference_mode():
        while True:
            started = now()
            torch.nn.functional.linear(left, right)
            best = max(best, flops / (now() - started))
            if now() > end:
                return best


def gpt2_flops(tokens: int, context: float, *, n_embd: int = 768, n_layer: int = 12) -> float:
    """Multiply-adds x 2 of a GPT-2 forward without the logits: 24 d^2 a token and layer, and 4 d per attended key."""
    return tokens * n_layer * (24 * n_embd**2 + 4 * n_embd * context)


def machine() -> str:
    """Name the processor and how many threads torch uses."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    support = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX512-BF16": torch.cpu._is_avx512_bf16_supported()}
    matrices = next((name for name, has in support.items() if has), "no bfloat16")
    return f"{name}, {torch.get_num_threads()} threads, {matrices}, torch {torch.__version__}"


def report(title: str, rows: Mapping[str, Mapping[str, str]], figures: Mapping[str, Any], as_json: bool) -> None:
    """Print a table (one line a contender) and, for machines, the figures as the last line of standard output."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table("", *columns, title=f"{title}\n{machine()}")
    for name, row in rows.items():
        table.add_row(name, *(row.get(column, "") for column in columns))
    console.print(table)
    if as_json:
        about = {"machine": machine(), "busy_elsewhere": max(_shares_elsewhere, default=0.0)}
        print(json.dumps({**figures, **about}))
