"""A whole night on a small dirty sample shop with tiny random models: what readers find, and what a second run does."""

from __future__ import annotations

import hashlib
import io
import json
import re
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.commands.explain import explain
from jobs.commands.summary import show_summary
from jobs.config.config import load
from jobs.nightly import Night, run_night
from jobs.report.facts import NightFacts
from jobs.report.write import rewrite
from jobs.sample import write_sample
from jobs.sample.personal import draw_personal_data
from jobs.sample.random import Dice
from jobs.spark.errors import ConfigurationError, GateRefused, UsageError
from lm.checkpoint.manifest import read_manifest, write_manifest
from tests.models import save_causal, save_classifier

K = 10


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop of 150 customers with item-token and sentiment models of random weights."""
    out = tmp_path_factory.mktemp("shop")
    info = write_sample(out, customers=150, products=60, days=20, seed=1)
    items = pd.read_parquet(out / "data/items")
    # A tenth of the products is new to the model: they have no token and cannot be listed by item tokens alone.
    known = sorted(items.item_id.dropna().unique())
    save_causal(out / "models/recommend", item_ids=known)
    save_classifier(out / "models/sentiment")
    note_training_day(out / "models/recommend", info.run_date)
    note_training_day(out / "models/sentiment", info.run_date + timedelta(days=1))
    plant_personal_data(out)
    return info


def note_training_day(model: Path, day: date) -> None:
    """Write the last day of the training's events into a model's manifest."""
    notes = {"window": {"as_of": day.isoformat()}}
    write_manifest(model, read_manifest(model).model_copy(update={"training": notes}))


def plant_personal_data(shop: Path, count: int = 120) -> None:
    """A shop so small has a handful of it: as many reviews and searches more, each with one such sentence."""
    planted = [draw_personal_data(Dice(seed), seed % 4 == 0) for seed in range(count)]
    sentences = [one.sentence for one in planted]
    for name, text in (("reviews", "text"), ("searches", "query")):
        folder = shop / "data" / name
        rows = pq.read_table(folder).slice(0, count)
        again = rows.set_column(rows.schema.get_field_index(text), text, pa.array(sentences[: len(rows)]))
        if name == "reviews":
            ids = pa.array([f"planted-{number}" for number in range(len(rows))])
            again = again.set_column(again.schema.get_field_index("review_id"), "review_id", ids)
        pq.write_table(again, folder / "planted.parquet")
    truth = pd.DataFrame({"value": [one.value for one in planted]})
    truth.to_parquet(shop / "truth" / "planted.parquet")


def night_of(spark, info, day: date, *overrides: str) -> tuple[Night, str]:
    """Run a night and return it with everything that it printed."""
    log = io.StringIO()
    console = Console(file=log, width=200)
    config = load(info.config, ["sentiment.lookback_days=30", *overrides])
    night = run_night(spark, config, day, console, str(info.config))
    show_summary(spark, night, console, config.options())
    return night, log.getvalue()


def experiment(info) -> list[str]:
    """What makes three customers in ten a control group from the first night on."""
    return ["loyalty.control_share=0.3", f"loyalty.starts_on={info.run_date}", "loyalty.min_repeat_customers=10"]


@pytest.fixture(scope="module")
def first(spark, shop):
    return night_of(spark, shop, shop.run_date, *experiment(shop))


def table(info, name: str) -> pd.DataFrame:
    return pd.read_parquet(Path(info.out) / "store/tables" / name)


def left_to_buy(info) -> pd.Series:
    """Of each customer with a prompt: how many sellable products they have not bought before."""
    items = pd.read_parquet(info.out / "data/items")
    sellable = set(items[items.available.fillna(True)].item_id)
    bought = bought_before(info).groupby("user_id").item_id.agg(set).to_dict()
    users = table(info, "prompts").user_id
    return pd.Series({user: len(sellable - bought.get(user, set())) for user in users})


def bought_before(info) -> pd.DataFrame:
    """The purchases up to the end of the night's date in the shop's time zone."""
    purchases = pd.read_parquet(info.out / "data/purchases").query("not (quantity <= 0)")  # a return is no purchase
    day_after = pd.Timestamp(info.run_date, tz="Europe/London") + pd.Timedelta(days=1)
    return purchases[pd.to_datetime(purchases.purchased_at, utc=True) < day_after]


def test_every_customer_has_k_real_sellable_products_not_bought_before(first, shop):
    lists, items = table(shop, "recommendations"), pd.read_parquet(shop.out / "data/items")
    sellable = set(items[items.available.fillna(True)].item_id)
    assert set(lists.item_id) <= sellable
    past = bought_before(shop)
    bought = set(zip(past.user_id, past.item_id, strict=True))
    assert not set(zip(lists.user_id, lists.item_id, strict=True)) & bought
    optouts = set(pd.read_parquet(shop.out / "data/optouts").user_id)
    assert optouts
    assert not optouts & set(lists.user_id)
    per_customer = lists.sort_values(["user_id", "rank"]).groupby("user_id")
    assert (per_customer["rank"].apply(list).map(lambda ranks: ranks == list(range(1, len(ranks) + 1)))).all()
    assert per_customer.score.apply(lambda s: s.is_monotonic_decreasing).all()
    left = left_to_buy(shop)
    expected = left[lists.user_id.unique()].clip(upper=K)  # short for one reason: no more of the catalogue is left
    pd.testing.assert_series_equal(
        per_customer.size().sort_index(), expected.sort_index(), check_names=False, check_index_type=False
    )
    metrics = table(shop, "metrics")  # they are of all lists, the control group's among them
    assert metrics[metrics.metric == "short_lists"].n.sum() == left.lt(K).sum()


def test_models_that_know_later_events_are_told(first, shop):
    _, printed = first
    day, next_day = shop.run_date, shop.run_date + timedelta(days=1)
    versions = dict(table(shop, "runs").versions[0])
    assert versions["recommend.trained_as_of"] == day.isoformat()
    assert versions["sentiment.trained_as_of"] == next_day.isoformat()
    assert f"models.sentiment was trained on events up to {next_day}, after the run date {day}" in printed
    assert re.search(rf"regulars train --config .*--set [^-]*--task\s+sentiment\s+--as-of\s+{day}", printed, re.S)
    assert "models.recommend was trained" not in printed


def test_one_sentiment_per_valid_review(first, shop):
    night, _ = first
    labels = table(shop, "sentiments")
    assert labels.review_id.is_unique
    assert len(labels) == night.accounts["reviews"].used
    assert len(labels) > 50
    total = labels[["p_negative", "p_neutral", "p_positive"]].sum(axis=1)
    assert (total.sub(1).abs() < 1e-9).all()
    best = labels[["p_negative", "p_neutral", "p_positive"]].idxmax(axis=1).str.removeprefix("p_")
    assert (best == labels.label).all()


def test_every_input_row_is_accounted_for(first, shop):
    night, _ = first
    for name, account in night.accounts.items():
        assert account.read == sum(len(pq.read_table(p)) for p in (shop.out / "data" / name).glob("*.parquet"))
        left = account.quarantined + account.opted_out + account.duplicates + account.outside_window + account.returned
        assert account.read == account.used + left, name
    rejected = table(shop, "quarantine")
    assert len(rejected) == sum(account.quarantined for account in night.accounts.values())
    assert {"purchases", "reviews"} <= set(rejected.table)


def test_no_personal_data_comes_out(first, shop):
    _, printed = first
    truth = [pd.read_parquet(shop.out / f"truth/{name}.parquet").value for name in ("personal", "planted")]
    planted = set(pd.concat(truth))
    assert len(planted) > 100
    store = Path(shop.out) / "store"
    files = [p for p in store.rglob("*.parquet") if "/work/" not in str(p)]
    assert any("ledger" in str(p) for p in files)
    texts = [printed]
    for path in files:
        frame = pq.read_table(path).to_pandas()
        texts += [frame[c].astype(str).str.cat(sep="\n") for c in frame.columns]
    reports = [path.read_text() for path in (store / "reports").rglob("*.*")]
    assert len(reports) >= 2
    users = set(pd.read_parquet(shop.out / "data/purchases").user_id.dropna()) - {""}
    assert not [user for user in users if any(user in text for text in reports)]
    everything = "\n".join([*texts, *reports])
    assert not [value for value in planted if value in everything]


def test_the_end_shows_a_list_and_the_ways_on(first, shop):
    night, printed = first
    lists = table(shop, "recommendations")
    shown = printed.split("One customer's list")[1].split("A review of each label")[0]
    assert not any(user in shown for user in set(lists.user_id))
    first_ranks = [line for line in shown.splitlines() if line.startswith("│ ")]
    assert len(first_ranks) == 5
    titles = set(lists.title)
    assert all(any(title in line for title in titles) for line in first_ranks)
    assert "Bought before, newest last: " in shown
    assert "<|item" not in shown
    assert "Because you " in shown
    ways = " ".join(printed.split("Done in ")[1].split())  # the console of the test breaks long lines
    assert f"{len(lists):,} products in lists" in ways
    assert f"{night.store.report(shop.run_date)}/index.html" in ways
    assert f"regulars status --config {shop.config} --set sentiment.lookback_days=30" in ways
    again = f"--config {shop.config} .*--set loyalty.control_share=0.3 .*--run-date {shop.run_date}"
    assert re.search(f"Once more: regulars nightly {again}", ways)
    assert "regulars init FILES" in ways


def test_purchases_used_are_the_dates_own_valid_purchases(first, shop):
    rows, items = table(shop, "purchases_used"), set(pd.read_parquet(shop.out / "data/items").item_id)
    optouts = set(pd.read_parquet(shop.out / "data/optouts").user_id)
    made = pd.to_datetime(rows.purchased_at, utc=True).dt.tz_convert("Europe/London").dt.date
    assert set(made) == {shop.run_date}
    assert len(rows) > 5
    assert (rows.quantity > 0).all()
    assert not rows.duplicated(["user_id", "item_id", "purchased_at", "order_id"]).any()
    assert set(rows.item_id) <= items
    assert not set(rows.user_id) & optouts


def test_the_figures_of_a_run_say_what_it_did(first, shop):
    night, _ = first
    (run,) = table(shop, "runs").to_dict("records")
    prompts, metrics = table(shop, "prompts"), table(shop, "metrics").set_index(["metric", "slice"])
    # Equal prompts are one request. Lists and reasons each compute a prompt, and reasons what follows each event again.
    computed, whole = dict(run["rows"])["recommend.tokens"], prompts.drop_duplicates("prompt_hash").tokens.sum()
    assert 2 * whole < computed < 2 * whole + (prompts.tokens * prompts.events_used).sum()
    assert run["tokens"] == sum(night.tokens.values()) > prompts.tokens.sum() * 0.5
    assert dict(run["seconds"])["publishing"] == night.seconds["publishing"] > 0
    quarantine = table(shop, "quarantine").groupby(["table", "rule"]).size()
    for (name, rule), rows in quarantine.items():
        assert metrics.loc[("quarantine", f"{name}.{rule}")].n == rows
    newest = pd.to_datetime(table(shop, "purchases_used").purchased_at, utc=True).max()
    midnight = pd.Timestamp(shop.run_date, tz="Europe/London") + pd.Timedelta(days=1)
    age = metrics.loc[("input_age_hours", "purchases")].value
    assert age == pytest.approx((midnight - newest).total_seconds() / 3600, abs=1e-6)
    assert metrics.loc[("lists", "first")].value == 1.0


def report_of(info) -> NightFacts:
    path = Path(info.out) / f"store/reports/run_date={info.run_date}/run.json"
    return NightFacts.model_validate_json(path.read_text())


def test_each_figure_of_the_report_is_that_of_the_tables(first, shop):
    night, printed = first
    facts, (run,) = report_of(shop), table(shop, "runs").to_dict("records")
    assert (facts.outcome, facts.run_id, facts.exit_code) == ("published", run["run_id"], 0)
    assert (facts.started_at, facts.finished_at) == (run["started_at"], run["finished_at"])
    assert facts.seconds == dict(run["seconds"])
    assert facts.versions == dict(run["versions"])
    rows = dict(run["rows"])
    assert {one.table for one in facts.inputs} == set(night.accounts)
    for one in facts.inputs:
        assert {"read": one.read} | one.outcomes == {
            name.partition(".")[2]: n for name, n in rows.items() if name.startswith(f"{one.table}.")
        }
        assert one.read == sum(one.outcomes.values())
    rejected = table(shop, "quarantine").groupby(["table", "rule"]).size()
    assert {(one.table, one.rule): one.rows for one in facts.rejected} == rejected.to_dict()
    (recommend, _) = facts.tasks
    assert (recommend.scored, recommend.reused, recommend.late) == (night.scored["recommend"], 0, 0)
    assert facts.tokens == run["tokens"]
    labels = table(shop, "sentiments")
    assert facts.opinions.reviews == len(labels)
    assert facts.opinions.labels == pytest.approx((labels.label.value_counts() / len(labels)).to_dict())
    items = pd.read_parquet(shop.out / "data/items").drop_duplicates("item_id")
    by_category = labels.merge(items[["item_id", "category"]].dropna(), on="item_id").groupby("category").label
    negative = by_category.apply(lambda of: (of == "negative").mean()).to_dict()
    assert len(facts.opinions.categories) + facts.opinions.categories_left_out == len(negative) > 1
    for one in facts.opinions.categories:
        assert one.negative == pytest.approx(negative[one.category])
    surest = labels[labels.label == "negative"].p_negative.sort_values(ascending=False)
    assert [one.p_negative for one in facts.opinions.complaints] == surest.head(10).tolist()
    metrics = table(shop, "metrics").set_index(["metric", "slice"])
    for age in facts.input_ages:
        assert (age.hours, age.rows) == tuple(metrics.loc[("input_age_hours", age.table), ["value", "n"]])
    lists = table(shop, "recommendations")
    assert (facts.changes.customers, facts.changes.rows) == (lists.user_id.nunique(), len(lists))
    assert facts.changes.first == 1.0
    assert facts.days[-1].labels == facts.opinions.labels
    assert facts.days[-1].segments == pytest.approx(
        (table(shop, "loyalty").segment.value_counts(normalize=True)).to_dict()
    )
    assert f"PUBLISHED {shop.run_date} | " in printed
    assert f"store/reports/run_date={shop.run_date}/index.html" in printed.replace("\n", "")


def test_the_report_is_written_again_from_the_tables(first, shop, spark):
    before = report_of(shop)
    config = load(shop.config, ["sentiment.lookback_days=30", *experiment(shop)])
    facts, _ = rewrite(spark, config, str(shop.config), shop.run_date)
    assert facts == before == report_of(shop)


def test_plain_readers_agree(first, shop, spark):
    folder = Path(shop.out) / "store/tables/recommendations"
    pandas_rows = len(pd.read_parquet(folder))
    assert pandas_rows == first[0].rows["recommendations"]
    assert ds.dataset(folder, partitioning="hive").count_rows() == pandas_rows
    glob = f"{folder}/**/*.parquet"
    duck = duckdb.sql(f"SELECT count(*), min(run_date) FROM read_parquet('{glob}', hive_partitioning=true)").fetchone()
    assert duck == (pandas_rows, shop.run_date)
    read = spark.read.parquet(str(folder))
    assert read.count() == pandas_rows
    assert [r.run_date for r in read.select("run_date").distinct().collect()] == [shop.run_date]


def test_again_scores_nothing_and_writes_the_same_bytes(first, shop, spark):
    def digests():
        found = sorted((Path(shop.out) / "store/tables").rglob("*.parquet"))
        return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in found if "/runs/" not in str(p)}

    before = digests()
    night, _ = night_of(spark, shop, shop.run_date, *experiment(shop))
    assert night.scored == night.tokens == {"recommend": 0, "sentiment": 0}
    assert digests() == before
    assert len(before) >= 5


def test_a_night_of_stale_inputs_is_refused_whole(first, shop, spark, tmp_path):
    """Ten days after the last export the night ends before any request, and the earlier date stays as it is."""
    day = shop.run_date + timedelta(days=10)
    store = Path(shop.out, "store")
    tables, ledger = (sorted(path for path in Path(store, room).rglob("*.parquet")) for room in ("tables", "ledger"))
    with pytest.raises(GateRefused, match="newest used row of purchases") as refused:
        night_of(spark, shop, day, *experiment(shop), "report.write=true")
    assert refused.value.exit_code == 4
    assert f"bring it up to {day}" in str(refused.value).lower()
    assert tables == sorted(Path(store, "tables").rglob("*.parquet"))
    assert ledger == sorted(Path(store, "ledger").rglob("*.parquet"))
    facts = json.loads(Path(store, f"reports/run_date={day}/run.json").read_text(encoding="utf-8"))
    assert (facts["outcome"], facts["exit_code"]) == ("kept", 4)
    repeated = f"--set loyalty.starts_on={shop.run_date}"
    assert facts["command"].startswith("regulars nightly --config ")
    assert repeated in facts["command"]  # without its settings the same command would be another one


def test_the_control_group_is_computed_but_not_published(first, shop, spark):
    night, _ = first
    prompts, lists, loyalty, metrics = (
        table(shop, name) for name in ("prompts", "recommendations", "loyalty", "metrics")
    )
    control = set(loyalty[loyalty.group == "control"].user_id)
    assert 0.15 * len(loyalty) < len(control) < 0.45 * len(loyalty)
    assert not control & set(lists.user_id)
    assert control < set(prompts.user_id)
    # Their lists went through the model and are in the ledger; that they are not published makes no list short.
    assert night.scored["recommend"] + night.reused["recommend"] == night.customers == len(prompts)
    without = set(prompts.user_id) - set(lists.user_id)
    assert control <= without
    assert len(without) < 0.5 * len(prompts)
    assert loyalty.p_alive[loyalty.frequency > 0].between(0, 1).all()
    assert set(metrics.metric) >= {"bgnbd", "segment_share"}
    # Another key would move customers between the groups: refused before anything is read.
    with pytest.raises(ConfigurationError, match="would switch group"):
        night_of(spark, shop, shop.run_date, *experiment(shop), "loyalty.key=another")


def test_lists_say_why_and_explain_repeats_them(first, shop, spark, monkeypatch):
    lists = table(shop, "recommendations")
    parts = pd.DataFrame(list(lists.parts))
    assert (parts.sum(axis=1) - lists.score).abs().max() < 1e-4
    explained = lists[lists.reasons.notna()]
    assert set(explained["rank"]) == {1}
    assert lists.because.notna().sum() > 0.3 * len(explained)
    assert all(list(one) == sorted(one, key=lambda event: -event["weight"]) for one in explained.reasons)
    row = explained[explained.because.notna()].iloc[0]
    log = io.StringIO()
    config = load(shop.config, experiment(shop))
    found = explain(spark, config, row.user_id, shop.run_date, 1, Console(file=log, width=200), str(shop.config))
    own = lists[lists.user_id == row.user_id].sort_values("rank")
    assert [one["item_id"] for one in found.products] == list(own.item_id)
    assert [one["score"] for one in found.products] == pytest.approx(list(own.score), abs=1e-4)
    heaviest = sorted((event.weight for event in found.events), reverse=True)[: len(row.reasons)]
    assert heaviest == pytest.approx([event["weight"] for event in row.reasons], abs=1e-4)
    assert found.is_published
    assert found.is_verified == (found.without is not None)
    assert f"What the model read, up to {shop.run_date}" in log.getvalue()
    with monkeypatch.context() as patched:
        patched.delattr("jobs.commands.explain.read_inputs")  # told before
        with pytest.raises(UsageError, match="no customer with this id"):
            explain(spark, config, "nobody", shop.run_date, 1, Console(file=log), str(shop.config))
    with pytest.raises(UsageError, match="has no rank 99"):
        explain(spark, config, row.user_id, shop.run_date, 99, Console(file=log), str(shop.config))


@pytest.mark.slow
def test_a_stock_gpt2_works_with_titles_and_lists_all_that_is_left(spark, shop, first, tmp_path):
    # No training and k as large as the catalogue: every list is short, each for the stated reason.
    model = save_causal(tmp_path / "gpt2", stock=True)
    assert not (model / "regulars.json").exists()
    night, _ = night_of(
        spark,
        shop,
        shop.run_date,
        f"store={tmp_path / 'store'}",
        f"models.recommend={model}",
        "recommend.k=60",
        "recommend.spares=0",
        "recommend.prompt_tokens=96",
        "recommend.same_title=false",
    )
    assert night.scored["recommend"] == night.customers
    tables = tmp_path / "store/tables"
    listed = pd.read_parquet(tables / "recommendations").groupby("user_id").item_id.nunique()
    left = left_to_buy(shop)
    assert (listed <= left[listed.index]).all()
    assert (listed / left[listed.index]).mean() == 1
    metrics = pd.read_parquet(tables / "metrics")
    short = metrics[metrics.metric == "short_lists"].set_index("slice").n
    assert set(short.index) <= {"catalogue_smaller_than_k", "fewer_than_k_not_bought_before"}
    assert short.sum() == night.customers
