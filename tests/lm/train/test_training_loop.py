"""The training loop and its files, on a model of one matrix."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from lm.train import training_loop
from lm.train.learning_rate import Schedule
from lm.train.training_loop import TrainingProgress, TrainingTask, fit, length_batches, pad
from lm.train.training_state import (
    FolderTaken,
    TrainingError,
    TrainingState,
    load_state,
    refuse_foreign_files,
    replace_folder,
    save_state,
    training_key,
    work_folder,
    write_json_lines,
)
from tests import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


def parabola(target=3.0, validate=None, monitor="score"):
    """A task whose one weight should become `target`."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)

    def loss(batch):
        return (model.weight - target).pow(2).sum(), float(len(batch))

    return TrainingTask(model, lambda epoch: [[0], [1]], loss, validate, monitor)


def test_learns_and_writes_a_line_per_epoch(tmp_path):
    task = parabola()
    outcome = fit(task, Schedule("finetune", 40, learning_rate=0.5, weight_decay=0), tmp_path)
    assert task.model.weight.item() == pytest.approx(3, abs=0.05)
    lines = [json.loads(line) for line in (tmp_path / "finetune.jsonl").read_text().splitlines()]
    assert lines == outcome.lines
    assert [line["epoch"] for line in lines] == list(range(40))
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_stops_early_and_keeps_the_best_weights(tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.2, 0.9])
    seen = []
    task = parabola(validate=lambda: seen.append(task.model.weight.item()) or {"score": next(scores)})
    outcome = fit(task, Schedule("finetune", 30, learning_rate=0.1, patience=3), tmp_path)
    # .3 in the second epoch is best, and the .3 two later is not better: three epochs without a better one.
    assert (outcome.best_epoch, len(outcome.lines), outcome.best["score"]) == (1, 5, 0.3)
    assert task.model.weight.item() == seen[1] != seen[-1]


@pytest.mark.parametrize(
    ("scores", "epochs"),
    [
        ([1, 2, 3, 4], 8),  # still rises, then the second round brings nothing
        ([1, 2, 3, 4, 3, 3, 5, 4, 4, 4, 4, 5.1], 16),  # the third raises 5 to 5.1, the fourth brings nothing
        ([1, 4, 4.01, 4.03], 4),  # by less than 1% in the last two epochs
        ([4, 3, 2], 3),  # patience
        ([-4, -3, -2, -1.5, -1.4], 12),  # log-likelihoods, too
    ],
)
def test_another_round_follows_while_the_validation_rises(scores, epochs, tmp_path):
    coming = itertools.chain(scores, itertools.repeat(scores[-1]))
    task = parabola(validate=lambda: {"score": float(next(coming))})
    schedule = Schedule("finetune", 30, learning_rate=0.08, patience=2, round_epochs=4)
    outcome = fit(task, schedule, tmp_path)
    assert len(outcome.lines) == epochs
    assert outcome.best_epoch == scores.index(max(scores))
    rates = [line["learning_rate"] for line in outcome.lines]
    assert [start for start, _ in rates[:4]] == pytest.approx([0.08, 0.06, 0.04, 0.02][:epochs])
    assert [start for start, _ in rates[4:]] == pytest.approx([0.04, 0.03, 0.02, 0.01] * (epochs // 4 - 1))
    assert [list(one) for one in outcome.rates] == rates[: outcome.best_epoch + 1]


def test_the_rates_of_another_training_are_repeated(tmp_path):
    whole = fit(parabola(), Schedule("a", 10, learning_rate=0.1), tmp_path)
    again = fit(parabola(), Schedule("b", 99, learning_rate=1.0, rates=whole.rates[:1]), tmp_path)
    assert [line["loss"] for line in again.lines] == [line["loss"] for line in whole.lines[:1]]
    mixed = fit(parabola(), Schedule("c", 99, learning_rate=1.0, rates=((0.1, 0.1), (0.0, 0.0))), tmp_path)
    assert [line["learning_rate"] for line in mixed.lines] == [[0.1, 0.1], [0.0, 0.0]]


def test_time_ends_a_training_within_an_epoch_and_keeps_the_best(tmp_path, monkeypatch):
    clock = itertools.count(step=1.0)  # every look at the clock takes a second
    monkeypatch.setattr(training_loop.time, "monotonic", lambda: next(clock))
    scores = itertools.count()
    task = parabola(validate=lambda: {"score": float(next(scores))})
    long = TrainingTask(task.model, lambda epoch: [[0]] * 40, task.loss, task.validate, "score")
    schedule = Schedule("finetune", 99, learning_rate=0.08, patience=3, round_epochs=99, max_seconds=300.0)
    outcome = fit(long, schedule, tmp_path)
    rates = [line["learning_rate"][-1] for line in outcome.lines]
    assert outcome.out_of_time
    assert 1 < len(rates) < 8
    assert rates[0] > 0.07
    assert rates[-1] < 0.02
    assert outcome.best_epoch == len(rates) - 1
    assert not fit(long, replace(schedule, stage="whole", max_epochs=2), tmp_path).out_of_time


def test_progress_counts_down(tmp_path):
    heard: list[TrainingProgress] = []
    fit(parabola(), Schedule("finetune", 3, learning_rate=0.1), tmp_path, heard.append)
    assert [(p.epoch, p.step, p.steps, p.epochs) for p in heard] == [(e, s, 2, 3) for e in range(3) for s in (1, 2)]
    assert heard[-1].seconds_left == 0
    assert all(math.isfinite(p.loss) for p in heard)


@pytest.mark.parametrize(
    ("first", "each", "unknown"),
    [
        (100.0, 3.0, 5),  # ten seconds are over after the first step, five more steps are needed
        (1.0, 1.0, 9),  # ten seconds
    ],
)
def test_the_end_is_told_once_the_speed_is_known_and_the_first_step_does_not_count(
    first, each, unknown, tmp_path, monkeypatch
):
    now, durations = [0.0], itertools.chain([first], itertools.repeat(each))
    monkeypatch.setattr(training_loop.time, "monotonic", lambda: now[0])
    task = parabola()

    def slow(batch):
        now[0] += next(durations)
        return task.loss(batch)

    heard: list[TrainingProgress] = []
    fit(replace(task, loss=slow), Schedule("finetune", 10, learning_rate=0.1), tmp_path, heard.append)
    left = [one.seconds_left for one in heard]
    assert all(map(math.isnan, left[:unknown]))
    assert left[unknown:] == [each * steps for steps in range(19 - unknown, -1, -1)]


def test_the_time_limit_bounds_the_expected_end(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training_loop.time, "monotonic", lambda: now[0])
    task = parabola()

    def slow(batch):
        now[0] += 4.0
        return task.loss(batch)

    heard: list[TrainingProgress] = []
    schedule = Schedule("finetune", 99, learning_rate=0.1, max_seconds=80.0)
    fit(replace(task, loss=slow), schedule, tmp_path, heard.append)
    assert heard[5].seconds_left == 80.0 - 5 * 4.0  # as it was before the sixth step


def test_a_loss_that_is_not_finite_ends_with_the_mend(tmp_path):
    task = parabola(target=math.nan)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        fit(task, Schedule("finetune", 3, learning_rate=0.1), tmp_path)


def test_nothing_to_train_on_is_said(tmp_path):
    task = parabola()
    empty = TrainingTask(task.model, lambda epoch: [], task.loss)
    with pytest.raises(TrainingError, match="no training examples"):
        fit(empty, Schedule("finetune", 3, learning_rate=0.1), tmp_path)


def noisy_training(folder: str, kill_after: int) -> bytes:
    """Train with dropout and drawn batches, a state after every step; killed after so many steps (0: never)."""
    training_loop._SAVE_SECONDS = training_loop._SAVE_COSTS = 0.0
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    inputs = torch.randn(64, 4)
    lengths = torch.randint(1, 9, (64,)).numpy()
    left = kill_after

    def error(rows):
        return (model(inputs[rows]) - inputs[rows].sum(1, keepdim=True)).pow(2)

    def report(_: TrainingProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    task = TrainingTask(
        model,
        lambda epoch: length_batches(lengths, 40, 0, epoch),
        lambda rows: (error(rows).sum(), float(len(rows))),
        lambda: {"score": -float(error(slice(None)).mean())},
        "score",
    )
    fit(task, Schedule("finetune", 8, 0.03, round_epochs=4), Path(folder), report)
    return save(model.state_dict())


@pytest.mark.faults
def test_kill_9_and_resume_end_with_the_same_bytes(tmp_path, monkeypatch):
    for name in ("_SAVE_SECONDS", "_SAVE_COSTS"):
        monkeypatch.setattr(training_loop, name, 0.0)
    folders = [tmp_path / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
    for kill_after in (3, 50):
        code = f"from {__name__} import noisy_training as t; t({str(folders[1])!r}, {kill_after})"
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        assert ended.returncode == -signal.SIGKILL
    cut = noisy_training(str(folders[1]), 0)
    assert cut == noisy_training(str(folders[0]), 0)
    lines = [
        [json.loads(line) | {"seconds": 0} for line in (folder / "finetune.jsonl").read_text().splitlines()]
        for folder in folders
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 8  # two rounds; the second kill is in the second one


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200), st.integers(0, 3))
def test_length_batches_hold_everything_once_within_the_budget(lengths, budget, epoch):
    array = np.array(lengths, dtype=np.int64)
    batches = length_batches(array, budget, 7, epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * array[batch].max() <= budget for batch in batches)
    again = length_batches(array, budget, 7, epoch)
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]


def test_epochs_are_batched_differently():
    lengths = np.full(40, 5)
    first, second = (length_batches(lengths, 50, 0, epoch) for epoch in (0, 1))
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}


def test_pad():
    rows = [np.array([1, 2, 3], np.int32), np.array([4], np.int32)]
    assert pad(rows, torch.device("cpu")).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_a_state_of_other_data_or_settings_is_not_resumed(tmp_path):
    out = tmp_path / "model"

    def cut(of: str) -> bool:
        """Start a training, save a state, be interrupted, and return whether there was a state before."""
        with suppress(KeyboardInterrupt), work_folder(out, of) as work:
            found = (work / "finetune.safetensors").exists()
            (work / "finetune.safetensors").write_bytes(b"state")
            raise KeyboardInterrupt
        return found

    assert [cut(of) for of in "aab"] == [False, True, False]
    with work_folder(out, "b") as work:
        assert (work / "finetune.safetensors").exists()
    assert not work.exists()


def test_two_trainings_of_one_model_do_not_mix(tmp_path):
    with (
        work_folder(tmp_path / "model", "a"),
        pytest.raises(TrainingError, match="another training"),
        work_folder(tmp_path / "model", "a"),
    ):
        pass


def test_training_key_tells_settings_and_data_apart():
    base = training_key({"seed": 0}, [b"ab", b"c"])
    assert base == training_key({"seed": 0}, [b"ab", b"c"])
    assert len({base, training_key({"seed": 1}, [b"ab", b"c"]), training_key({"seed": 0}, [b"a", b"bc"])}) == 3


def test_training_key_is_the_same_in_every_release():
    """A key that changes would throw away the state of a training that was cut by an update."""
    assert training_key({"seed": 0, "path": Path("a")}, [b"ab", b"c"]) == "3276f0b9892da012"
    assert training_key({"path": Path("a"), "seed": 0}, iter([b"ab", b"c"])) == "3276f0b9892da012"


def test_a_state_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "finetune.safetensors"
    assert load_state(path) is None
    for step in (1, 2):
        save_state(path, TrainingState({"w": torch.full((2, 3), step).T}, {"epoch": step, "best": None}))
    state = load_state(path)
    assert state.counters == {"epoch": 2, "best": None}
    assert torch.equal(state.tensors["w"], torch.full((3, 2), 2))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_lines_are_replaced_as_a_whole(tmp_path):
    path = tmp_path / "finetune.jsonl"
    for lines in ([{"epoch": 0}], [{"epoch": 0}, {"epoch": 1}]):
        write_json_lines(path, lines)
    assert path.read_text() == '{"epoch": 0}\n{"epoch": 1}\n'
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_trainings_files_go_and_the_end_leaves_nothing(tmp_path):
    out = tmp_path / "model"
    with suppress(KeyboardInterrupt), work_folder(out, "a") as work:
        (work / "epochs").mkdir()
        (work / "epochs" / "1").touch()
        (work / "link").symlink_to(tmp_path / "kept", target_is_directory=True)
        (tmp_path / "kept").mkdir()
        raise KeyboardInterrupt
    assert {file.name for file in work.iterdir()} == {"lock", "fingerprint", "epochs", "link"}
    with work_folder(out, "b") as work:
        assert {file.name for file in work.iterdir()} == {"lock", "fingerprint"}
        assert (work / "fingerprint").read_text() == "b"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def our_folder(path: Path, name: str) -> Path:
    path.mkdir(parents=True)
    for file in ("regulars.json", name):
        (path / file).touch()
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_a_finished_folder_takes_the_old_ones_place(tmp_path, monkeypatch, exchange):
    if not exchange:  # a file system without an atomic exchange
        monkeypatch.setattr("lm.train.training_state.exchange_folders", lambda new, out: False)
    for name in ("config.json", "generation_config.json"):
        replace_folder(our_folder(tmp_path / "model.new", name), tmp_path / "model")
        assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
            "model",
            "model/regulars.json",
            f"model/{name}",
        }


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["thesis.docx"], "thesis.docx but no regulars.json.*an empty or a new one"),
        (["config.json", "model.safetensors"], "config.json but no regulars.json"),  # somebody's Hugging Face model
        (["regulars.json", "notes.md"], "notes.md, which is no part of a model.*move notes.md"),
        (["regulars.json", "my-notes.json"], "my-notes.json, which is no part of a model"),
        (["regulars.json", "sentiment/regulars.json"], "sentiment, which is no part"),
    ],
)
def test_a_training_never_deletes_foreign_files(tmp_path, names, says):
    out = tmp_path / "model"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    with pytest.raises(FolderTaken, match=says), work_folder(out, "key"):
        pass
    new = our_folder(tmp_path / "new", "config.json")
    with pytest.raises(FolderTaken, match=says):
        replace_folder(new, out)
    assert all((out / name).exists() for name in names)


def test_a_work_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "model.training").mkdir()
    (tmp_path / "model.training" / "thesis.docx").touch()
    with (
        pytest.raises(FolderTaken, match=r"thesis.docx, which no training wrote"),
        work_folder(tmp_path / "model", "a"),
    ):
        pass
    assert (tmp_path / "model.training" / "thesis.docx").exists()


@pytest.mark.parametrize("case", ["link", "file", "folder as lock", "link as lock", "binary key", "folder as key"])
def test_a_work_folder_that_no_training_made_is_refused_and_kept(tmp_path, case):
    work, victim = tmp_path / "model.training", tmp_path / "victim"
    victim.mkdir()
    for name, text in (("keep", "mine"), ("fingerprint", "0" * 16)):
        (victim / name).write_text(text)
    if case == "link":
        work.symlink_to(victim)
    elif case == "file":
        work.touch()
    elif case == "link as lock":
        work.mkdir()
        (work / "lock").symlink_to(victim / "keep")
    elif case == "binary key":
        work.mkdir()
        (work / "fingerprint").write_bytes(b"\xff\xfe")
    else:
        (work / {"folder as lock": "lock", "folder as key": "fingerprint"}[case]).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FolderTaken, match=r"model\.training.*elsewhere"), work_folder(tmp_path / "model", "a"):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    assert (victim / "keep").read_text() == "mine"


def test_a_link_or_a_file_as_the_models_folder_is_refused(tmp_path):
    our_folder(tmp_path / "elsewhere", "config.json")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(FolderTaken, match=f"is a {name}"):
            refuse_foreign_files(tmp_path / name)
