"""Every mistake ends with one message that names what to mend, and with the documented exit code."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from jobs import cli
from jobs.sample import write_sample
from tests.models import save_causal, save_classifier


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A tiny shop that could run a night."""
    out = tmp_path_factory.mktemp("cli")
    write_sample(out, customers=30, products=20, days=6, seed=3)
    save_causal(out / "models/recommend", item_ids=sorted(pd.read_parquet(out / "data/items").item_id.unique()))
    save_classifier(out / "models/sentiment")
    return out


@pytest.fixture
def broken(shop, tmp_path) -> Path:
    """A copy of the shop to break."""
    return shutil.copytree(shop, tmp_path / "shop")


def run(capfd, *arguments: str) -> tuple[int, str]:
    """Run the command line in this process: its exit code and all that it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["regulars", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    captured = capfd.readouterr()
    output = captured.out + captured.err
    assert "Traceback" not in output
    return int(ended.value.code or 0), re.sub(r"\s+", " ", output)


def nightly(capfd, shop: Path, *more: str, day: str = "2026-01-06") -> tuple[int, str]:
    return run(capfd, "nightly", "--config", str(shop / "regulars.yaml"), "--run-date", day, *more)


def test_help_is_the_manual(capfd):
    code, output = run(capfd, "--help")
    assert code == 0
    verbs = (
        "sample",
        "train",
        "nightly",
        "backfill",
        "evaluate",
        "doctor",
        "plan",
        "status",
        "rollback",
        "gc",
        "unpublish",
    )
    for verb in verbs:
        assert verb in output
    assert cli.EXIT_CODES in output


def test_the_version_is_that_of_the_package(capfd):
    assert run(capfd, "--version") == (0, f"regulars {importlib.metadata.version('regulars')} ")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nightly", "--run-date", "2026-13-01"], ["--run-date", "2026-13-01", "no such day"]),
        (["nightly", "--run-date", "1.3.2026"], ["--run-date", "1.3.2026", "YYYY-MM-DD"]),
        (["nightly", "--run-date", "tomorrow"], ["tomorrow"]),
        (["nightly"], ["--run-date"]),
        (["nightlyy"], ["nightlyy"]),
        (["train", "--as-of", "2026-01-01", "--task", "answer"], ["--task", "answer"]),
        (["sample", "--out", "x", "--customers", "0"], ["customers"]),
        (["nightly", "--run-date", "2026-01-05", "--deadline", "25:00"], ["--deadline", "25:00", "HH:MM"]),
        (["backfill", "--from", "2026-01-05", "--to", "soon"], ["--to", "soon", "YYYY-MM-DD"]),
        (["backfill", "--from", "2026-01-05", "--to", "2026-01-06", "--reprocess", "some"], ["reprocess", "stale"]),
        (["evaluate", "--task", "answer", "--as-of", "2026-01-05"], ["--task", "answers"]),
        (["evaluate", "--task", "answers", "--run-date", "2026-01-05"], ["--run-date", "--as-of"]),
        (["evaluate", "--task", "answers", "--as-of", "2026-01-05"], ["models.answers"]),
        (["plan"], ["--run-date", "--from"]),
        (["plan", "--run-date", "2026-01-05", "--from", "2026-01-05", "--to", "2026-01-06"], ["--run-date", "--from"]),
        (["status", "--from", "yesterday"], ["--from", "yesterday"]),
        (["rollback"], ["--run-date"]),
        (["unpublish"], ["--run-date"]),
        (["nightly", "--run-date", "2962-03-01"], ["--run-date", "2962-03-01", "--future"]),
        (["backfill", "--from", "2026-01-05", "--to", "2962-03-01"], ["--to", "2962-03-01", "--future"]),
    ],
)
def test_wrong_usage_is_2(capfd, shop, arguments, names):
    config = [] if arguments[0] in ("sample", "nightlyy") else ["--config", str(shop / "regulars.yaml")]
    code, output = run(capfd, *arguments, *config)
    assert code == 2
    for name in names:
        assert name in output


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("timezone: Europe/London", "timezome: Europe/London", ["timezome", "timezone", "regulars.yaml"]),
        ("timezone: Europe/London", "timezone: Europe/Londn", ["timezone", "Londn"]),
        ("recommend: {k: 10,", "recommend: {k: ten,", ["recommend.k", "whole number"]),
        ("recommend: {k: 10,", "recommend: {k: 10, kk: 1,", ["recommend.kk"]),
        ("inputs:", "inputs: [", ["regulars.yaml"]),
    ],
)
def test_wrong_configuration_is_2(capfd, broken, old, new, names):
    file = broken / "regulars.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    code, output = nightly(capfd, broken)
    assert code == 2
    for name in names:
        assert name in output


def test_an_edited_sample_is_replaced_only_with_force(capfd, tmp_path):
    config = tmp_path / "regulars.yaml"
    command = ("sample", "--out", str(tmp_path), "--customers", "20", "--products", "20", "--days", "6")
    assert run(capfd, *command)[0] == 0
    config.write_text(config.read_text(encoding="utf-8") + "# my own edit\n", encoding="utf-8")
    code, output = run(capfd, *command)
    assert code == 2
    assert "--force" in output
    assert "my own edit" in config.read_text(encoding="utf-8")
    assert run(capfd, *command, "--force")[0] == 0
    assert "my own edit" not in config.read_text(encoding="utf-8")


def test_no_configuration_file_is_2(capfd, tmp_path):
    code, output = nightly(capfd, tmp_path)
    assert code == 2
    assert "regulars sample" in output


def test_a_missing_model_is_2_and_says_how_to_train_one(capfd, broken):
    shutil.rmtree(broken / "models/recommend")
    code, output = nightly(capfd, broken)
    assert code == 2
    assert "models.recommend" in output
    assert "regulars train" in output


@pytest.mark.usefixtures("spark")
class TestInputs:
    """Broken input tables end a night with exit code 5."""

    def test_a_missing_folder(self, capfd, broken):
        shutil.rmtree(broken / "data/purchases")
        code, output = nightly(capfd, broken)
        assert code in (2, 5)
        assert "purchases" in output

    def test_a_missing_column(self, capfd, broken):
        self.rewrite(broken, "purchases", lambda frame: frame.drop(columns="item_id"))
        code, output = nightly(capfd, broken)
        assert code == 5
        assert "purchases" in output
        assert "item_id" in output

    def test_a_column_of_a_wrong_type(self, capfd, broken):
        self.rewrite(broken, "purchases", lambda frame: frame.assign(purchased_at=[[1, 2]] * len(frame)))
        code, output = nightly(capfd, broken)
        assert code == 5
        assert "purchased_at" in output

    def test_an_empty_table(self, capfd, broken):
        self.rewrite(broken, "purchases", lambda frame: frame.head(0))
        code, output = nightly(capfd, broken)
        assert code == 5
        assert "purchases" in output

    @pytest.mark.parametrize("size", [0, 4, 3000])
    def test_a_truncated_file(self, capfd, broken, size):
        (file,) = (broken / "data/purchases").glob("*.parquet")
        file.write_bytes(file.read_bytes()[:size])
        code, output = nightly(capfd, broken)
        assert code == 5
        assert "purchases" in output
        assert (file.name if size else "zero bytes") in output  # Spark passes over files without a byte

    def test_a_file_that_is_not_parquet(self, capfd, broken):
        (file,) = (broken / "data/reviews").glob("*.parquet")
        file.write_text("review_id,text\n1,hello\n", encoding="utf-8")
        code, output = nightly(capfd, broken)
        assert code == 5
        assert file.name in output

    def test_nothing_was_published_by_a_night_that_failed(self, capfd, broken):
        self.rewrite(broken, "purchases", lambda frame: frame.head(0))
        nightly(capfd, broken)
        assert not (broken / "store/tables").exists()
        assert not (broken / "store/ledger").exists()

    def test_a_night_before_the_first_purchase(self, capfd, shop):
        code, output = nightly(capfd, shop, day="2020-01-01")
        assert code == 5
        assert "2020-01-01" in output

    @pytest.mark.slow
    def test_backfill_runs_each_date_in_order_and_as_of_its_end(self, capfd, broken):
        dates = ["2026-01-05", "2026-01-06"]
        command = ["backfill", "--config", str(broken / "regulars.yaml"), "--from", dates[0], "--to", dates[1]]
        code, output = run(capfd, *command)
        assert code == 0, output
        assert output.index(dates[0]) < output.index(dates[1])
        prompts = pd.read_parquet(broken / "store/tables/prompts")
        assert sorted(prompts.run_date.astype(str).unique()) == dates
        for day, rows in prompts.groupby(prompts.run_date.astype(str)):
            end = pd.Timestamp(day, tz="Europe/London") + pd.Timedelta(days=1)
            assert pd.to_datetime(rows.last_event_at, utc=True).max() < end
        code, output = run(capfd, *command[:-4], "--from", dates[1], "--to", dates[0])
        assert code == 2
        assert "--from" in output

    @staticmethod
    def rewrite(shop: Path, table: str, change) -> None:
        (file,) = (shop / "data" / table).glob("*.parquet")
        change(pd.read_parquet(file)).to_parquet(file)


def test_doctor_finds_a_healthy_shop_and_names_what_is_missing(capfd, broken):
    command = ["doctor", "--config", str(broken / "regulars.yaml")]
    code, output = run(capfd, *command)
    assert code == 0, output
    for check in ("Java", "Python", "memory", "store", "models.recommend", "inputs.purchases"):
        assert check in output
    (broken / "models/sentiment/ngrams.safetensors").write_bytes(b"cut short")
    code, output = run(capfd, *command)
    assert code == 2
    assert "not usable" in output
    shutil.rmtree(broken / "models/sentiment")
    shutil.rmtree(broken / "data/searches")
    code, output = run(capfd, *command)
    assert code == 2
    assert "regulars train" in output
    assert "inputs.searches" in output


def test_doctor_says_what_reviews_alone_are_good_for(capfd, broken, tmp_path):
    (tmp_path / "regulars.yaml").write_text(
        f"{{store: {tmp_path}/store, timezone: UTC, inputs: {{reviews: {{path: {broken}/data/reviews}}}}}}"
    )
    code, output = run(capfd, "doctor", "--config", str(tmp_path / "regulars.yaml"))
    assert code == 0, output
    assert "inputs.purchases" in output
    assert "with reviews alone a night writes labels and no lists" in " ".join(output.split())


def test_doctor_hints_at_libraries_compiled_in_every_process_and_calls_the_shop_healthy(capfd, broken, monkeypatch):
    command = ["doctor", "--config", str(broken / "regulars.yaml")]
    for kept, hinted in ((__file__, False), (f"{__file__}.absent", True)):
        monkeypatch.setattr("importlib.util.cache_from_source", lambda _, kept=kept: kept)
        code, output = run(capfd, *command)
        assert code == 0, output
        assert ("compileall" in output) == hinted


@pytest.mark.parametrize(
    ("option", "file", "said"),
    [
        ("--sheet", "there", "is a folder"),
        ("--sheet", "nowhere/sheet.html", "does not exist"),
        ("--sheet", "regulars.yaml", "does not end with .html"),
        ("--json", "nowhere/figures.json", "does not exist"),
        ("--picture", "there", "is a folder"),
    ],
)
def test_files_that_cannot_be_written_are_2_before_anything_runs(capfd, tmp_path, option, file, said):
    (tmp_path / "there").mkdir()
    code, output = run(capfd, "evaluate", option, str(tmp_path / file))
    assert code == 2
    assert f"{option}: " in output
    assert said in output


def cancelled_by_an_interrupt() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise RuntimeError("job 49 cancelled")  # noqa: B904 - Spark's error names no cause either


def test_an_error_that_came_of_an_interrupt_is_no_defect():
    with pytest.raises(RuntimeError) as raised:
        cancelled_by_an_interrupt()
    assert cli._usage_error(raised.value) == 130
    with pytest.raises(RuntimeError, match="a defect"):
        cli._usage_error(RuntimeError("a defect"))
