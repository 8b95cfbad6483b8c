"""Lists against later purchases: figures that a reader derives by hand, and the commands end to end."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, date, datetime, timedelta

import pytest
import yaml
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands.evaluate_dates import evaluate_published, evaluate_retrained
from jobs.config.config import load
from jobs.evaluation import leave_one_out
from jobs.evaluation.leave_one_out import evaluate_leave_one_out
from jobs.evaluation.ranking_figures import JudgedCustomer, compare_with_baselines
from jobs.evaluation.sentiment_figures import evaluate_sentiment_holdout
from jobs.evaluation.time_split import evaluate_time_split, purchases_around
from jobs.sample import write_sample
from jobs.spark.errors import ConfigurationError, InputError, ModelChanged
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest, write_manifest
from tests.models import save_causal, save_classifier
from tests.rows import frame

KNOWN = [["tea", "jam"], ["tea", "ink"], ["tea", "jam", "mug"]]
SELLABLE = ["tea", "jam", "ink", "mug", "pen"]
JUDGED = [
    JudgedCustomer(listed=["jam", "pen"], before=["tea"], after=["ink", "jam", "tea"]),
    JudgedCustomer(listed=["mug", "jam"], before=["tea", "ink"], after=["ink"]),
]


def test_new_items_only():
    found = compare_with_baselines(JUDGED, KNOWN, SELLABLE, [2], new_only=True)
    assert found["customers"] == 1  # the second bought nothing new
    assert set(found) == {"customers", "model", "co-purchase", "popularity", "slices"}
    assert found["slices"]["0-2 purchases"]["recall@2"] == 1 / 2
    ours = {name: figure["value"] for name, figure in found["model"].items()}
    # Of ink and jam the list has jam, at rank 1.
    assert ours["hit@2"] == 1
    assert ours["recall@2"] == 1 / 2
    assert ours["mrr@2"] == 1
    assert ours["ndcg@2"] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert ours["coverage@2"] == 2 / 5
    assert ours["mean_popularity@2"] == (2 + 0) / 2
    # Popularity without tea: jam (2), then ink before mug (1 each): both.
    assert found["popularity"]["recall@2"]["value"] == 1
    assert found["popularity"]["model_more_ndcg@2"]["value"] == pytest.approx(ours["ndcg@2"] - 1)
    assert found["popularity"]["model_more_hit@2"]["value"] == 0


def test_slots_of_bought_items_are_judged_for_nobody():
    """Popularity without tea is jam, then ink: it finds ink only with a second slot, which tea fills in the list."""
    judged = [JudgedCustomer(listed=["tea", "pen"], before=["tea"], after=["ink"])]
    found = compare_with_baselines(judged, KNOWN, SELLABLE, [2], new_only=True)
    assert (found["customers"], found["popularity"]["hit@2"]["value"]) == (1, 0)
    free = [JudgedCustomer(listed=["mug", "pen"], before=["tea"], after=["ink"])]
    assert compare_with_baselines(free, KNOWN, SELLABLE, [2], new_only=True)["popularity"]["hit@2"]["value"] == 1
    full = [JudgedCustomer(listed=["tea", "jam"], before=["tea", "jam"], after=["ink"])]
    assert compare_with_baselines(full, KNOWN, SELLABLE, [2], new_only=True) == {"customers": 0}
    short = [JudgedCustomer(listed=["pen"], before=["tea"], after=["ink"])]
    assert compare_with_baselines(short, KNOWN, SELLABLE, [2], new_only=True)["popularity"]["hit@2"]["value"] == 1


def test_each_slice_is_compared_with_the_baseline_that_is_best_in_it():
    """Tea and jam are popular; the light customer buys the popular item, the heavy one what goes with mugs: a pen."""
    known = [["tea", "jam"]] * 3 + [["mug", "pen"]] * 2
    judged = [
        JudgedCustomer(listed=["ink"], before=["jam"], after=["tea"]),
        JudgedCustomer(listed=["pen"], before=["mug"] * 30, after=["pen"]),
    ]
    found = compare_with_baselines(judged, known, ["ink", "jam", "mug", "pen", "tea"], [1], new_only=True)["slices"]
    assert list(found) == ["0-2 purchases", "30 or more purchases"]
    light, heavy = found.values()
    assert (light["lead_ndcg@1"], light["lead_recall@1"], light["lead_ndcg@1_high"]) == (-1, -1, -1)
    assert (heavy["best_baseline"], heavy["lead_ndcg@1"]) == ("co-purchase", 0)


def test_all_items():
    found = compare_with_baselines(JUDGED, KNOWN, SELLABLE, [1, 2], new_only=False)
    assert found["customers"] == 2
    assert found["model"]["hit@1"]["value"] == 1 / 2
    assert found["model"]["recall@2"]["value"] == pytest.approx((1 / 3 + 0) / 2)
    # Buy again: tea for the first; ink (newest) and tea for the second.
    assert found["buy again"]["hit@1"]["value"] == 1
    assert found["buy again"]["hit@1"]["low"] == found["buy again"]["hit@1"]["high"] == 1


def test_what_cannot_be_sold_is_in_no_baseline():
    found = compare_with_baselines(JUDGED, KNOWN, ["pen"], [2], new_only=False)
    assert found["popularity"]["hit@2"]["value"] == 0


def test_nobody_to_judge():
    assert compare_with_baselines(JUDGED[1:], KNOWN, SELLABLE, [2], new_only=True) == {"customers": 0}


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def test_purchases_are_split_at_the_end_of_the_date(spark):
    rows = [("u", "b", at(1, 9)), ("u", "a", at(1, 8)), ("u", "d", at(3)), ("u", "c", at(2)), ("u", "a", at(4))]
    purchases = frame(
        spark, "purchases", [dict(zip(("user_id", "item_id", "purchased_at"), r, strict=True)) for r in rows]
    )
    (row,) = purchases_around(purchases, F.col("purchased_at") < F.lit(at(3, 0))).collect()
    assert (row["before"], row["after"], sorted(row["ever"])) == (["a", "b", "c"], ["d", "a"], ["a", "b", "c"])
    (row,) = purchases_around(purchases, F.lit(False)).collect()
    assert (row["before"], len(row["after"]), row["ever"]) == ([], 5, [])


@pytest.fixture
def shop(spark, tmp_path):
    """Two customers with lists of 2 March, of whom one buys afterwards, and a third without a list."""
    rows = [("u", "tea", at(1)), ("u", "jam", at(3)), ("u", "mug", at(20)), ("v", "tea", at(2)), ("w", "ink", at(3))]
    purchases = [dict(zip(("user_id", "item_id", "purchased_at"), row, strict=True)) for row in rows]
    frame(spark, "purchases", purchases).write.parquet(str(tmp_path / "purchases"))
    items = [{"item_id": item, "title": item} for item in SELLABLE]
    frame(spark, "items", items).write.parquet(str(tmp_path / "items"))
    lists = [("u", 2, "jam"), ("u", 1, "pen"), ("v", 1, "jam")]
    published = [dict(zip(("user_id", "rank", "item_id"), row, strict=True)) for row in lists]
    folder = tmp_path / "store/tables/recommendations/run_date=2026-03-02"
    frame(spark, "recommendations", published).write.parquet(str(folder))
    content = {
        "store": "./store",
        "timezone": "Europe/London",
        "inputs": {table: {"path": table} for table in ("purchases", "items")},
    }
    (tmp_path / "regulars.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_time_split_end_to_end(spark, shop):
    log = io.StringIO()
    config, file = load(shop / "regulars.yaml"), shop / "figures.json"
    found = evaluate_time_split(spark, config, date(2026, 3, 2), 7, Console(file=log, width=200), file, ks=(1, 2))
    assert json.loads(file.read_text()) == found
    new = found["new_items"]
    assert new["customers"] == 1  # v bought nothing after, w has no list; the mug is after the 7 days
    assert (new["model"]["hit@1"]["value"], new["model"]["hit@2"]["value"]) == (0, 1)
    assert new["model"]["ndcg@2"]["value"] == pytest.approx(1 / math.log2(3))
    # Up to 2 March only tea was ever bought, and u has it: the baselines know nothing new.
    assert new["popularity"]["hit@2"]["value"] == 0
    told = " ".join(log.getvalue().split())
    assert "new items, 7 days after 2026-03-02: 1 customer ┏" in told
    assert "the table of new items says how good the lists are" in told
    assert "up to 2026-03-09 is of 2026-03-03: 1 of the 7 days are judged" in log.getvalue()
    assert not list((shop / "store/scratch").iterdir())


def test_lists_of_many_dates(spark, shop):
    lists = spark.read.parquet(str(shop / "store/tables/recommendations/run_date=2026-03-02"))
    lists.write.parquet(str(shop / "store/tables/recommendations/run_date=2026-03-03"))
    config, log = load(shop / "regulars.yaml", ["recommend.k=2"]), io.StringIO()
    days = [date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)]
    found = evaluate_published(spark, config, days, 30, Console(file=log, width=200))
    # After 2 March u buys jam, which is listed, and mug; after 3 March mug only. Of 4 March no lists are published.
    recall = {day: figures["model"]["recall@2"]["value"] for day, figures in found["dates"].items()}
    assert recall == {"2026-03-02": 1 / 2, "2026-03-03": 0}
    assert "2026-03-04 is left out: no recommendations of 2026-03-04 are published" in log.getvalue()
    assert not list((shop / "store/scratch").iterdir())


@pytest.mark.slow
def test_one_new_model_a_date(spark, tmp_path):
    info = write_sample(tmp_path, customers=60, products=40, days=30, seed=1)
    quick = ["train.recommend.max_epochs=1", "train.recommend.n_embd=32", "spark={}"]
    config, log = load(info.config, quick), io.StringIO()
    days = [info.last_day - timedelta(days=n) for n in (14, 7)]
    found = evaluate_retrained(spark, config, days, 7, Console(file=log, width=200), str(info.config))
    assert list(found["dates"]) == [day.isoformat() for day in days]
    assert all(0 <= figures["model"]["ndcg@10"]["value"] <= 1 for figures in found["dates"].values())
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "store/tables").exists()
    assert not list((tmp_path / "store/scratch").iterdir())


def add_customer_with_three_purchases(spark, shop) -> None:
    rows = [("x", item, at(day)) for day, item in enumerate(("tea", "mug", "ink"), start=1)]
    more = [dict(zip(("user_id", "item_id", "purchased_at"), row, strict=True)) for row in rows]
    frame(spark, "purchases", more).write.mode("append").parquet(str(shop / "purchases"))


def test_leave_one_out_end_to_end(spark, shop):
    # u bought tea, jam and mug, each on its own: the mug is asked for, given tea and jam; nobody else bought three.
    save_causal(shop / "models/recommend", item_ids=SELLABLE)
    log, file = io.StringIO(), shop / "loo.json"
    add_customer_with_three_purchases(spark, shop)
    config = load(shop / "regulars.yaml", ["recommend.k=3"])
    found = evaluate_leave_one_out(spark, config, date(2026, 4, 1), Console(file=log, width=200), file)
    assert json.loads(file.read_text()) == found
    assert found["new_items"]["customers"] == 2
    # Three of five products are not bought yet, so a list of three has whatever comes next.
    assert (found["recall@3"], found["recall@3_low"]) == (1.0, 1.0)
    assert 0 < found["ndcg@3"] <= 1
    assert found["new_items"]["slices"]["0-2 purchases"]["customers"] == 2
    assert "has no notes of a training" in log.getvalue()
    assert not list((shop / "store/scratch").iterdir())


def test_what_is_missing_is_said(spark, shop):
    config, console = load(shop / "regulars.yaml"), Console(file=io.StringIO())
    with pytest.raises(InputError, match=r"no recommendations of 2026-03-05.*regulars nightly .*--run-date 2026-03-05"):
        evaluate_time_split(spark, config, date(2026, 3, 5), 7, console)
    with pytest.raises(ConfigurationError, match=r"models\.recommend: .*models/recommend"):
        evaluate_leave_one_out(spark, config, date(2026, 3, 5), console)
    with pytest.raises(ConfigurationError, match=r"inputs\.reviews is missing"):
        evaluate_sentiment_holdout(spark, config, date(2026, 3, 5), console)


def note_training(shop, task: str, as_of: date, **settings: object) -> None:
    """Write into a model's manifest what a training notes."""
    folder = shop / "models" / task
    notes = {"window": {"as_of": as_of.isoformat()}, "settings": settings}
    write_manifest(folder, read_manifest(folder).model_copy(update={"training": notes}))


def test_leave_one_out_refuses_models_that_saw_the_last_purchases(spark, shop):
    save_causal(shop / "models/recommend", item_ids=SELLABLE)
    add_customer_with_three_purchases(spark, shop)
    config, console, day = load(shop / "regulars.yaml"), Console(file=io.StringIO()), date(2026, 4, 1)
    right = {"protocol": "leave-one-out", "exclude_purchased": True}
    command = r"regulars train .*--task recommend --protocol leave-one-out --as-of 2026-04-01"
    for as_of, settings, said in (
        (day, right | {"protocol": "time-split"}, "with the protocol time-split"),
        (day, right | {"exclude_purchased": False}, "with recommend.exclude_purchased=False, which is True here"),
        (date(2026, 4, 2), right, "as of 2026-04-02, after 2026-04-01"),
    ):
        note_training(shop, "recommend", as_of, **settings)
        with pytest.raises(ConfigurationError, match=f"{said}.*{command}"):
            evaluate_leave_one_out(spark, config, day, console)
    note_training(shop, "recommend", date(2026, 3, 15), **right)
    assert evaluate_leave_one_out(spark, config, day, console)["trained_with"] == "leave-one-out"


def test_leave_one_out_refuses_a_model_that_is_replaced_meanwhile(spark, shop, monkeypatch):
    path = save_causal(shop / "models/recommend", item_ids=SELLABLE)
    add_customer_with_three_purchases(spark, shop)
    recommend = leave_one_out._recommend

    def replaced_meanwhile(*arguments):
        lists = recommend(*arguments)
        save_causal(path, item_ids=SELLABLE, seed=1)
        return lists

    monkeypatch.setattr(leave_one_out, "_recommend", replaced_meanwhile)
    with pytest.raises(ModelChanged, match=r"models\.recommend .* was replaced during its evaluation"):
        evaluate_leave_one_out(spark, load(shop / "regulars.yaml"), date(2026, 4, 1), Console(file=io.StringIO()))


def test_time_split_refuses_lists_of_a_model_that_saw_later_purchases(spark, shop):
    config, day, log = load(shop / "regulars.yaml"), date(2026, 3, 2), io.StringIO()
    runs = shop / "store/tables/runs/run_date=2026-03-02"

    def published(**versions: str) -> None:
        row = {"run_id": "r", "versions": {name.replace("__", "."): value for name, value in versions.items()}}
        frame(spark, "runs", [row]).write.mode("overwrite").parquet(str(runs))

    wrong = r"lists of 2026-03-02 come from .* up to 2026-03-03.*regulars train .*--task recommend --as-of 2026-03-02"
    published(recommend="another", recommend__trained_as_of="2026-03-03")
    with pytest.raises(InputError, match=wrong):
        evaluate_time_split(spark, config, day, 7, Console(file=log))
    save_causal(shop / "models/recommend", item_ids=SELLABLE)
    note_training(shop, "recommend", date(2026, 3, 3))
    published(recommend=model_fingerprint(shop / "models/recommend"))  # as nights wrote it before they noted the day
    with pytest.raises(InputError, match=wrong):
        evaluate_time_split(spark, config, day, 7, Console(file=log))
    published(recommend="another", recommend__trained_as_of="2026-03-02")
    assert evaluate_time_split(spark, config, day, 7, Console(file=log))["new_items"]["customers"] == 1
    assert "unknown up to which day" not in log.getvalue()
    published(recommend="another")
    evaluate_time_split(spark, config, day, 7, Console(file=log, width=200))
    assert "unknown up to which day the model of the lists of 2026-03-02 was trained" in log.getvalue()


def test_sentiment_refuses_a_model_that_saw_later_reviews(spark, shop):
    save_classifier(shop / "models/sentiment")
    note_training(shop, "sentiment", date(2026, 3, 3))
    frame(spark, "reviews", [{"review_id": "r", "text": "nice", "rating": 5}]).write.parquet(str(shop / "reviews"))
    config = load(shop / "regulars.yaml", ["inputs.reviews.path=reviews"])
    with pytest.raises(
        ConfigurationError, match=r"up to 2026-03-03.*regulars train .*--task sentiment --as-of 2026-03-02"
    ):
        evaluate_sentiment_holdout(spark, config, date(2026, 3, 2), Console(file=io.StringIO()))
