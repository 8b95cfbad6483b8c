"""`regulars train`: what it reads, as of when, what it writes, and how it says no."""

from __future__ import annotations

import io
import math
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from jobs.config.config import load
from jobs.evaluation.sentiment_figures import evaluate_sentiment_holdout
from jobs.sample import write_sample
from jobs.spark.errors import ConfigurationError, InputError, StoreBusy
from jobs.spark.progress import ProgressBars
from jobs.training import train_answers, train_recommend, train_sentiment, training_data
from jobs.training.further_customers import joined_window, write_further_customers
from jobs.training.train import _explained, _show, _table, left_out, train
from jobs.training.trainer import FiguresTable, TrainingContext, TrainingOptions
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import Manifest, read_manifest, write_manifest
from lm.text.prompt import Event
from lm.train.canaries import Audit, CanaryResult, membership
from lm.train.training_loop import TrainingProgress
from lm.train.training_state import TooFewExamples
from tests.jobs.spark.test_files import NO_SPARK
from tests.models import save_causal
from tests.rows import frame

QUICK = [
    *(
        f"train.{task}.{key}"
        for task in ("recommend", "sentiment")
        for key in ("n_embd=16", "n_layer=1", "max_epochs=1")
    ),
    *(f"train.{task}.vocab_size=400" for task in ("recommend", "sentiment")),
    "train.sentiment.min_steps=0",
]


@pytest.fixture(scope="module")
def trained(spark, tmp_path_factory):
    """Both models of a small sample shop, trained as of ten days before its end."""
    out = tmp_path_factory.mktemp("shop")
    info = write_sample(out, customers=200, products=40, days=40, seed=3)
    as_of = info.last_day - timedelta(days=10)
    log = io.StringIO()
    config = load(info.config, QUICK)
    figures = train(spark, config, as_of, ("recommend", "sentiment"), Console(file=log, width=160))
    return out, as_of, figures, log.getvalue()


def test_writes_both_models_and_says_how_good_they_are(trained):
    out, as_of, figures, printed = trained
    for task in ("recommend", "sentiment"):
        manifest = read_manifest(out / "models" / task)
        assert manifest.task == task
        assert manifest.metrics == figures[task]
        assert manifest.training["window"]["as_of"] == as_of.isoformat()
    for text in ("co-purchase", "popularity", "majority class", "models/recommend"):
        assert text in printed
    days = figures["recommend"]["held_out_days"]
    assert 0 < days < 10
    period = "last day" if days == 1 else f"last {days:.0f} days"
    assert f"in the {period}, held out for everybody (time split)" in " ".join(printed.split())
    assert len(read_manifest(out / "models/recommend").item_ids) == 40


def test_a_stage_without_epochs_shows_how_much_of_it_is_done():
    log = io.StringIO()
    for step, left in ((0, math.nan), (7, 60)):
        bars = ProgressBars(Console(file=log, width=160))
        _show(bars, "sentiment", TrainingProgress("n-grams", 0, 1, step, 14, math.nan, left, {}))
    first, second = log.getvalue().splitlines()
    assert first.endswith("   sentiment n-grams: 0/14")
    assert re.search(r"   sentiment n-grams: 7/14, at most until [\d-]*\s?\d\d:\d\d$", second)


def test_a_sampled_validation_says_so():
    log = io.StringIO()
    metrics = {"ndcg@10": 0.25, "customers": 1073.0}
    _show(
        ProgressBars(Console(file=log, width=160)), "recommend", TrainingProgress("finetune", 1, 9, 0, 4, 5, 6, metrics)
    )
    assert "ndcg@10 0.250 on a sample of 1,073 customers" in log.getvalue()


def test_no_event_after_the_date_is_read(trained):
    out, as_of, _, _ = trained
    window = read_manifest(out / "models/recommend").training["window"]
    assert window["last_event_on"] == as_of.isoformat()  # the sample has events on every day
    assert window["first_event_on"] == "2026-01-01"


def test_nothing_of_the_inputs_is_left_behind(trained):
    out, *_ = trained
    assert not list((out / "store").rglob("*.parquet"))
    assert sorted(path.name for path in (out / "models").iterdir()) == ["recommend", "sentiment"]


def test_reviews_alone_train_and_judge_the_same_sentiment_model(spark, trained, tmp_path):
    out, as_of, figures, _ = trained
    config = load(out / "regulars.yaml", [*QUICK, f"models.sentiment={tmp_path}/sentiment"])
    alone = config.model_copy(update={"inputs": {table: config.inputs[table] for table in ("items", "reviews")}})
    assert train(spark, alone, as_of, ("sentiment",), Console(file=io.StringIO()))["sentiment"] == figures["sentiment"]
    judged = evaluate_sentiment_holdout(spark, alone, as_of, Console(file=io.StringIO()))
    assert judged["accuracy"] == figures["sentiment"]["accuracy"]
    with pytest.raises(ConfigurationError, match=r"inputs\.purchases is missing.*--task sentiment"):
        train(spark, alone, as_of, ("recommend", "sentiment"), Console(file=io.StringIO()))


def used(spark, purchases, **tables):
    items = [{"item_id": item, "title": f"Title {item}"} for item in "ab"]
    rows = {"purchases": purchases, "items": items, **tables}
    return {table: frame(spark, table, of_table) for table, of_table in rows.items()}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_customers_are_in_order_with_the_shops_days(spark):
    found = training_data.collect_customers(
        used(
            spark,
            [
                {"user_id": "z", "item_id": "a", "purchased_at": at("2026-03-01T12:00")},
                # Midnight in London is 23:00 UTC in summer: this is 1 July there.
                {"user_id": "b", "item_id": "b", "purchased_at": at("2026-06-30T23:30")},
                {"user_id": "b", "item_id": "a", "purchased_at": at("2026-06-30T22:30")},
            ],
            searches=[
                {"user_id": "b", "query": "ink", "searched_at": at("2026-06-30T23:00")},
                {"user_id": "only looks", "query": "tea", "searched_at": at("2026-06-30T23:00")},
            ],
        )
    )
    first, second = found.customers
    assert first.events == [
        Event("bought", "a", "Title a"),
        Event("searched", None, None, "ink"),
        Event("bought", "b", "Title b"),
    ]
    assert [day - first.days[0] for day in first.days] == [0, 1, 1]
    assert second.events == [Event("bought", "a", "Title a")]
    assert found.window == {
        "customers": 2,
        "events": 4,
        "browsed_events": 0,
        "first_event_on": "2026-03-01",
        "last_event_on": "2026-07-01",
    }


def test_a_sample_of_customers_does_not_depend_on_their_order(spark, monkeypatch):
    monkeypatch.setattr(training_data, "CUSTOMERS_AT_ONCE", 3)
    rows = [{"user_id": f"u{i}", "item_id": "ab"[i % 2]} for i in range(8)]
    one, other = (training_data.collect_customers(used(spark, purchases)) for purchases in (rows, rows[::-1]))
    assert one == other
    assert len(one.customers) == 3


def test_further_customers_are_written_in_parts_and_all_their_purchases_are_counted(spark, monkeypatch, tmp_path):
    monkeypatch.setattr(training_data, "CUSTOMERS_AT_ONCE", 3)
    midnight = at("2026-03-01T00:00")
    rows = [
        {"user_id": f"u{i}", "item_id": "ab"[j % 2], "purchased_at": midnight + timedelta(days=j)}
        for i in range(8)
        for j in range(i + 1)
    ]
    tables = used(spark, rows, searches=[{"user_id": "u7", "query": "ink", "searched_at": at("2026-02-01T00:00")}])
    first = training_data.collect_customers(tables, 6)
    written = write_further_customers(tables, 6, f"{tmp_path}/further")
    further = written.customers
    assert (further.parts, further.customers) == (2, 5)
    learned = [*first.customers, *further.part(1)]
    assert len(learned) == 6
    window = joined_window(first.window, written.window)
    assert window["customers"] == 6
    assert window["events"] == sum(len(customer.events) for customer in learned)
    baskets, purchases = further.counts({"a": 0, "b": 1})
    in_memory = [event.item_id for customer in first.customers for event in customer.events if event.kind == "bought"]
    assert purchases[0].sum() + len(in_memory) == len(rows)
    assert len(baskets.offsets) == 6
    later = further.upto(int((midnight.date() - date(1970, 1, 1)).days))
    assert later.counts({"a": 0, "b": 1}).purchases[0].tolist() == [5, 0]  # everybody's first purchase
    assert {len(customer.events) for customer in later.part(1)} <= {1, 2}
    assert write_further_customers(tables, 2, f"{tmp_path}/other").customers.version != further.version
    monkeypatch.setattr(training_data, "CUSTOMERS_AT_ONCE", 8)
    assert write_further_customers(tables, 8, f"{tmp_path}/none") is None


def test_reviews_are_labelled_by_stars(spark):
    reviews = [
        {"review_id": f"r{i}", "text": f"text {i}" if i < 6 else None, "rating": rating, "item_id": f"i{i}"}
        for i, rating in enumerate([5, None, 1, 3, 2, 4, 5])
    ]
    items = [{"item_id": "i1", "category": "lamps"}, {"item_id": "i2", "category": None}]
    tables = {"reviews": frame(spark, "reviews", reviews), "items": frame(spark, "items", items)}
    found = training_data.collect_reviews(tables, negative=[1], positive=[5])
    assert found.categories == ["", "lamps", "", "", "", ""]
    assert found.texts == [f"text {i}" for i in range(6)]
    assert found.labels == [2, -1, 0, 1, 1, 1]


def configuration(tmp_path: Path, **changes) -> Path:
    content = {
        "store": "./store",
        "timezone": "Europe/London",
        "inputs": {"purchases": {"path": "purchases"}, "items": {"path": "items"}},
    }
    path = tmp_path / "regulars.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def test_a_hub_id_is_no_place_to_write_to(spark, tmp_path):
    config = load(configuration(tmp_path, models={"recommend": "gpt2"}))
    with pytest.raises(ConfigurationError, match=r"models.recommend is 'gpt2'.*train.recommend.init"):
        train(spark, config, date(2026, 3, 1), ("recommend",), Console(file=io.StringIO()))


def test_a_folder_with_foreign_files_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.docx").touch()
    config = load(configuration(tmp_path, models={"recommend": "documents"}))
    with pytest.raises(ConfigurationError, match=r"models\.recommend: .*thesis\.docx.*name an empty or a new one"):
        train(NO_SPARK, config, date(2026, 3, 1), ("recommend",), Console(file=io.StringIO()))
    assert (tmp_path / "documents" / "thesis.docx").exists()


def test_a_link_as_the_work_folder_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model.training").symlink_to("disk")
    config = load(configuration(tmp_path, models={"recommend": "./model"}))
    with pytest.raises(ConfigurationError, match=r"models\.recommend: .*model\.training is a link"):
        train(NO_SPARK, config, date(2026, 3, 1), ("recommend",), Console(file=io.StringIO()))


def test_sentiment_needs_reviews(spark, tmp_path):
    config = load(configuration(tmp_path))
    with pytest.raises(ConfigurationError, match=r"inputs.reviews is missing"):
        train(spark, config, date(2026, 3, 1), ("sentiment",), Console(file=io.StringIO()))


def test_a_model_knows_what_its_checkpoint_knew(tmp_path):
    start = save_causal(tmp_path / "start")
    notes = {"window": {"as_of": "2026-03-05"}}
    write_manifest(start, read_manifest(start).model_copy(update={"training": notes}))
    contexts = {
        day: TrainingContext({}, None, date(2026, 3, day), tmp_path, None, TrainingOptions(), Console(), "")
        for day in (1, 9)
    }
    assert [contexts[day].last_day_known(str(start)) for day in (1, 9)] == ["2026-03-05", "2026-03-09"]
    assert contexts[1].last_day_known(None) == "2026-03-01"


def test_what_lm_raises_names_the_key_and_has_its_exit_code():
    from lm.train.training_state import TrainingBusy, TrainingError

    for raised, wanted, text in (
        (TrainingError("too few"), InputError, "train recommend: too few"),
        (TrainingBusy("another"), StoreBusy, "another"),
        (CheckpointError("no such"), ConfigurationError, "train.recommend.init: no such"),
    ):
        with pytest.raises(wanted, match=text), _explained("recommend"):
            raise raised


def test_the_title_says_what_is_held_out():
    last_days = train_recommend.figures_table({"customers": 1200.0}).title
    assert "training reached later days of other customers" in last_days
    time_split = train_recommend.figures_table({"customers": 1200.0, "held_out_days": 7.0}).title
    assert time_split == "Purchases of 1,200 customers in the last 7 days, held out for everybody (time split)"
    for title in (
        train_sentiment.figures_table({"reviews": 5.0}).title,
        train_answers.figures_table({"questions": 5.0}).title,
    ):
        assert "5 held-out" in title
        assert "a tenth of the texts, from all days" in title


def test_the_table_shows_intervals():
    figures = {"reviews": 400.0, "accuracy": 0.93, "accuracy_low": 0.9, "accuracy_high": 0.95}
    figures |= {"macro_f1": 0.9, "majority_accuracy": 0.7, "majority_macro_f1": 0.27}
    log = io.StringIO()
    Console(file=log, width=120).print(_table(train_sentiment.figures_table(figures), figures))
    assert "0.930 (0.900–0.950)" in log.getvalue()


class FakeTrainer:
    """Writes an empty model; its audit finds one completion by the product, of a canary of four customers."""

    NEEDED, LEARNS_FROM, OPTIONAL = (), "", False

    def tables(self, config):
        return ()

    def train(self, context):
        save_causal(context.out)
        write_manifest(context.out, Manifest(task="answers", metrics={"word_f1": 0.5}))
        return {"word_f1": 0.5}

    def audit(self, context, folder):
        folder.mkdir(parents=True)
        found = [CanaryResult("name", "missed", repeats, 2.0, repeats == 4, free=True) for repeats in (1, 4, 16)]
        return Audit(found, {"its answer": membership([1.0], [2.0], 0)})

    def figures_table(self, figures):
        return FiguresTable("figures", {"model": ""}, {"word F1": "word_f1"})


@pytest.mark.parametrize(("promote", "least", "trained"), [(True, 5, False), (True, 4, True), (False, 5, True)])
def test_an_audited_leak_of_few_customers_keeps_the_model_from_promotion(
    spark, tmp_path, monkeypatch, promote, least, trained
):
    monkeypatch.setattr("jobs.training.train.trainer_of", lambda task: FakeTrainer())
    monkeypatch.setattr("jobs.training.train.read_inputs", lambda *_: SimpleNamespace(notes=(), used={}))
    config = load(configuration(tmp_path, models={"recommend": "./model"}), [f"privacy.min_customers={least}"])
    log = io.StringIO()
    options = TrainingOptions(promote=promote, audit=True)
    figures = train(spark, config, date(2026, 3, 1), ("recommend",), Console(file=log, width=200), options)
    printed = " ".join(log.getvalue().split())
    assert "redaction misses it │ 4 │ name 2.0 │ 1 of 1 │ 1 of 1" in printed
    assert "AUC 1.000" in printed
    assert (tmp_path / "model").exists() == trained
    assert not (tmp_path / "model.audit").exists()
    assert ("Not promoted" in printed) != trained
    assert bool(figures) == trained
    if trained:
        audit = read_manifest(tmp_path / "model").training["audit"]
        assert audit["leaks"] == (1 if least == 5 else 0)
        assert audit["canaries"][1]["product"]


class TooFew(FakeTrainer):
    """Has too few examples."""

    def train(self, context):
        raise TooFewExamples("40 rated reviews are too few; give more days")


class Unjudged(FakeTrainer):
    """Nothing was there to judge its model by."""

    def train(self, context):
        super().train(context)
        write_manifest(context.out, Manifest(task="answers", metrics={"word_f1": math.nan}))
        return {"word_f1": math.nan}


class Worse(FakeTrainer):
    """Its new model is worse, so the present one stays."""

    def train(self, context):
        return {"word_f1": 0.4}


def test_a_model_that_was_not_promoted_is_not_told_as_written(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.training.train.read_inputs", lambda *_: SimpleNamespace(notes=(), used={}))
    config = load(configuration(tmp_path, models={"recommend": "./model"}))
    printed = []
    for trainer in (FakeTrainer(), Unjudged(), Worse()):
        monkeypatch.setattr("jobs.training.train.trainer_of", {"recommend": trainer}.__getitem__)
        log = io.StringIO()
        options = TrainingOptions(promote=True)
        train(NO_SPARK, config, date(2026, 3, 1), ("recommend",), Console(file=log, width=300), options)
        printed.append(f"Wrote {tmp_path / 'model'}" in log.getvalue())
    assert printed == [True, True, False]


def test_lists_alone_are_trained_where_reviews_are_too_few(tmp_path, monkeypatch):
    """The warning and the printed command say how nights go on; a task that is trained alone ends with the error."""
    trainers = {"recommend": FakeTrainer(), "sentiment": TooFew()}
    monkeypatch.setattr("jobs.training.train.trainer_of", trainers.__getitem__)
    monkeypatch.setattr("jobs.training.train.read_inputs", lambda *_: SimpleNamespace(notes=(), used={}))
    models = {"recommend": "./lists", "sentiment": "./labels"}
    config = load(configuration(tmp_path, models=models))
    log = io.StringIO()
    figures = train(NO_SPARK, config, date(2026, 3, 1), ("sentiment", "recommend"), Console(file=log, width=300))
    assert figures == {"recommend": {"word_f1": 0.5}}
    assert (
        "train sentiment: 40 rated reviews are too few; give more days. The other models are trained. Until there are "
        "more, set models.sentiment to null: nights then do without it." in log.getvalue()
    )
    assert left_out(config, ("sentiment", "recommend"), figures) == ["sentiment"]
    with pytest.raises(InputError, match="too few"):
        train(NO_SPARK, config, date(2026, 3, 1), ("sentiment",), Console(file=log))
    save_causal(tmp_path / "labels")
    train(NO_SPARK, config, date(2026, 3, 1), ("sentiment", "recommend"), Console(file=log, width=300))
    assert "give more days. The old model stays." in log.getvalue()
    assert left_out(config, ("sentiment", "recommend"), figures) == []
