"""The way of a new shop from its files to its first lists: commands, minutes, and what had to be answered.

    python -m tests.bench.newcomer [--customers 500] [--quick] [--json]

The shop has orders and products as CSV with semicolons, times like 31.12.2025 14:05, prices like 1.299,00 and German
column names, and reviews as JSON lines. The newcomer runs `init`, `doctor --rows`, `train` and `nightly`, and
confirms the guesses as they are.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import pandas as pd

from jobs.sample import write_sample
from tests.bench.measure import arguments, console, report

PRODUCTS, DAYS = 200, 60
ZONE = "Europe/London"


def main() -> None:
    options = arguments(__doc__ or "", customers=500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        last_day = write_exports(folder, max(options.customers, 100))
        files = ["bestellungen.csv", "artikel.csv", "bewertungen.jsonl"]
        commands = [
            ["init", *files, "--timezone", ZONE],
            ["doctor", "--rows", "1000"],
            ["train", "--as-of", str(last_day)],
            ["nightly", "--run-date", str(last_day)],
        ]
        begun, rows, failed = time.perf_counter(), {}, []
        for command in commands:
            started, used = time.perf_counter(), processor_seconds()
            done = subprocess.run(
                [sys.executable, "-c", "from jobs.cli import main; main()", *command],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            console.print(done.stdout[-2500:], markup=False, highlight=False)
            seconds = time.perf_counter() - started
            rows[f"regulars {command[0]}"] = {
                "seconds": f"{seconds:.0f}",
                "processor seconds": f"{processor_seconds() - used:.0f}",
                "exit code": str(done.returncode),
            }
            if done.returncode:
                failed.append(command[0])
                console.print(done.stderr[-2500:], markup=False, highlight=False)
        minutes = (time.perf_counter() - begun) / 60
        asked = re.findall(r"\(\?\) (?!are guesses)", (folder / "regulars.yaml").read_text(encoding="utf-8"))
        lists = len(pd.read_parquet(folder / "store/tables/recommendations")) if not failed else 0
    figures = {"commands": len(commands), "minutes": round(minutes, 1), "questions": len(asked), "rows": lists}
    report(f"{len(commands)} commands, {minutes:.1f} minutes, {lists:,} rows of lists", rows, figures, options.json)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def processor_seconds() -> float:
    """Return the processor time of the commands so far: on a busy machine their minutes say little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_exports(folder: Path, customers: int) -> date:
    """Write the shop's three files into the folder; return its last day."""
    shop = folder / "shop"
    info = write_sample(shop, customers=customers, products=PRODUCTS, days=DAYS, seed=0)
    bought = pd.read_parquet(shop / "data/purchases")
    items = pd.read_parquet(shop / "data/items")
    reviews = pd.read_parquet(shop / "data/reviews")
    pd.DataFrame(
        {
            "Kundennummer": bought["user_id"],
            "Artikelnr": bought["item_id"],
            "Bestelldatum": written_times(bought["purchased_at"]),
            "Menge": bought["quantity"],
            "Einzelpreis": bought["unit_price"].map(german),
        }
    ).to_csv(folder / "bestellungen.csv", sep=";", index=False, encoding="cp1252", errors="replace")
    pd.DataFrame(
        {
            "Artikelnr": items["item_id"],
            "Bezeichnung": items["title"],
            "Warengruppe": items["category"],
            "Verkaufspreis": items["price"].map(german),
            "lieferbar": items["available"].map({True: "ja", False: "nein"}),
        }
    ).to_csv(folder / "artikel.csv", sep=";", index=False, encoding="cp1252", errors="replace")
    pd.DataFrame(
        {
            "bewertung_id": reviews["review_id"],
            "kunde": reviews["user_id"],
            "artikel": reviews["item_id"],
            "sterne": reviews["rating"],
            "text": reviews["text"],
            "datum": written_times(reviews["reviewed_at"]),
        }
    ).to_json(folder / "bewertungen.jsonl", orient="records", lines=True, force_ascii=False)
    return info.last_day


def written_times(times: pd.Series) -> pd.Series:
    return pd.to_datetime(times, utc=True).dt.tz_convert(ZONE).dt.strftime("%d.%m.%Y %H:%M")


def german(price: object) -> str:
    return "" if pd.isna(price) else f"{float(str(price)):,.2f}".translate(str.maketrans(",.", ".,"))


if __name__ == "__main__":
    main()
