"""BG/NBD: our fit against the libraries' on CDNOW and Online Retail, and 5 million customers scored in Spark.

    pip install --editable ".[bench]"
    python -m tests.bench.bgnbd --data FOLDER [--quick] [--json]

FOLDER/online-retail/online_retail.csv.gz is the UCI data set. Customers are fitted on the purchase days up to
2011-06-09, half of the 12 months, and judged on those of the 183 days after it. Libraries that are not installed are
left out and said so; without --data Online Retail is.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.tables import bgnbd
from jobs.tables.bgnbd import Parameters

CUT = pd.Timestamp("2011-06-09")
HOLDOUT_DAYS = 183
CUSTOMERS = 5_000_000


def online_retail(data: Path) -> pd.DataFrame:
    """Per customer who bought by CUT: `frequency`, `recency`, `age` in days, and purchase days of the holdout."""
    columns = ["CustomerID", "Quantity", "InvoiceDate"]
    rows = pd.read_csv(data / "online-retail/online_retail.csv.gz", usecols=columns)
    rows = rows[rows.CustomerID.notna() & (rows.Quantity > 0)]
    days = pd.DataFrame({"user": rows.CustomerID.astype(int), "day": pd.to_datetime(rows.InvoiceDate).dt.normalize()})
    days = days.drop_duplicates()
    seen, after = days[days.day <= CUT].groupby("user").day, days[days.day > CUT].groupby("user").day
    first, last = seen.min(), seen.max()
    return pd.DataFrame(
        {
            "frequency": (seen.size() - 1).astype(float),
            "recency": (last - first).dt.days.astype(float),
            "age": (CUT - first).dt.days.astype(float),
            "bought": after.size().reindex(first.index, fill_value=0).astype(float),
        }
    )


def cdnow() -> pd.DataFrame:
    """The customers of the paper, in weeks; no holdout beside these counts, so its errors are left empty."""
    rows = pd.read_csv(Path(__file__).parent.parent / "cdnow.csv")
    rows = rows.loc[rows.index.repeat(rows.customers)].reset_index(drop=True)
    recency, age = rows.recency_days / 7, rows.age_days / 7
    return pd.DataFrame({"frequency": rows.frequency.astype(float), "recency": recency, "age": age})


def ours(rows: pd.DataFrame) -> Parameters:
    return bgnbd.fit_bgnbd(*counts(rows)).parameters


def with_lifetimes(rows: pd.DataFrame) -> Parameters:
    from lifetimes import BetaGeoFitter

    found = BetaGeoFitter().fit(*counts(rows)).params_
    return Parameters(*(float(found[name]) for name in ("r", "alpha", "a", "b")))


def with_pymc_marketing(rows: pd.DataFrame) -> Parameters:
    """Flat priors make the largest posterior that of the likelihood alone."""
    from pymc_extras.prior import Prior
    from pymc_marketing.clv import BetaGeoModel

    data = rows.reset_index(names="customer_id").rename(columns={"age": "T"})
    model = BetaGeoModel(data=data, model_config={name: Prior("HalfFlat") for name in ("r", "alpha", "a", "b")})
    model.fit(method="map", progressbar=False)
    found = model.fit_result  # not its summary, which is rounded
    return Parameters(*(float(found[name].mean()) for name in ("r", "alpha", "a", "b")))


def counts(rows: pd.DataFrame) -> list[np.ndarray]:
    return [rows[name].to_numpy() for name in ("frequency", "recency", "age")]


def judged(rows: pd.DataFrame, fit: Callable[[pd.DataFrame], Parameters]) -> dict[str, float]:
    """Parameters, log-likelihood and errors on the holdout of one fit."""
    started = time.perf_counter()
    parameters = fit(rows)
    seconds = time.perf_counter() - started
    likelihood = float(bgnbd.log_likelihood(parameters, *counts(rows)).sum())
    found = vars(parameters) | {"log_likelihood": likelihood, "seconds": seconds}
    if "bought" not in rows:
        return found
    expected = bgnbd.expected_purchases(parameters, HOLDOUT_DAYS, *counts(rows))
    wrong = expected - rows.bought.to_numpy()
    return found | {
        "mean_absolute_error": float(np.abs(wrong).mean()),
        "root_mean_square_error": math.sqrt(float((wrong**2).mean())),
        "expected_to_bought": float(expected.sum() / rows.bought.sum()),
    }


def fits(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    found = {"jobs.tables.bgnbd": judged(rows, ours)}
    for package, fit in (("lifetimes", with_lifetimes), ("pymc-marketing", with_pymc_marketing)):
        try:
            name = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed: left out")
            continue
        try:
            found[name] = judged(rows, fit)
        except Exception as error:  # a library's own failure is a result of this comparison
            print(f"{name} failed: {type(error).__name__} {str(error).strip().splitlines()[0]}")
    return found


def scoring_seconds(customers: int) -> float:
    """Seconds in which Spark scores so many different customers on this machine, without writing them."""
    from pyspark.sql import functions as F

    from jobs.config.settings import LoyaltySettings
    from jobs.spark.session import create_session
    from jobs.tables import loyalty

    spark = create_session("bench", conf={"spark.master": "local[2]"})
    spread = F.abs(F.xxhash64("id"))
    measured = (
        spark.range(customers)
        .withColumn("age_days", (30 + spread % 700).cast("int"))
        .withColumn("frequency", F.least(F.floor(-3 * F.log((1 + spread % 9973) / 9974)), "age_days").cast("int"))
        .withColumn("recency", F.when(F.col("frequency") > 0, F.col("age_days") * (spread % 101) / 100).otherwise(0.0))
        .withColumn("days_since_purchase", (F.col("age_days") - F.col("recency")).cast("int"))
        .withColumn("days_between_purchases", F.col("recency") / F.nullif("frequency", F.lit(0)))
        .withColumn("monetary_value", (spread % 5000) / 100)
        .withColumns({"sentiment": F.lit(0.0), "sentiment_trend": F.lit(0.0), "reviews": F.lit(1)})
        .select(F.col("id").cast("string").alias("user_id"), "*")
    )
    model = loyalty.LoyaltyModel(
        Parameters(0.6, 60.0, 0.4, 3.0),
        {
            "days_since_purchase": [7.0, 30.0, 90.0, 200.0],
            "frequency": [0.0, 1.0, 2.0, 5.0],
            "monetary_value": [10.0, 20.0, 30.0, 40.0],
        },
    )
    scored = loyalty.score_customers(measured, model, LoyaltySettings())
    scored.limit(1000).collect()  # starts the Python workers
    started = time.perf_counter()
    scored.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


def main() -> None:
    from tests.bench.measure import arguments, report

    options = arguments(__doc__ or "")
    rows: dict[str, dict[str, str]] = {}
    figures: dict[str, Any] = {}
    shops = {"CDNOW": cdnow()} | ({"Online Retail": online_retail(options.data)} if options.data else {})
    for shop, counted in shops.items():
        figures[shop] = fits(counted)
        for name, one in figures[shop].items():
            shown = {key: f"{value:.4g}" for key, value in one.items()}
            rows[f"{shop}: {name}"] = shown | {"log_likelihood": f"{one['log_likelihood']:.2f}"}
    customers = CUSTOMERS // 10 if options.quick else CUSTOMERS
    seconds = scoring_seconds(customers)
    figures["scoring"] = {"customers": customers, "seconds": seconds}
    rows[f"Spark, {customers:,} customers scored"] = {"seconds": f"{seconds:.0f}"}
    report("BG/NBD", rows, figures, options.json)


if __name__ == "__main__":
    main()
