"""The training loop: numbers against numpy and scikit-learn, early stopping, exact resume after kills."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.torch
import sklearn.metrics
import torch
import torch.nn.functional as nnf
from torch import nn

import atlab
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.training import checkpoint as checkpoints
from atlab.training import evaluate, fit
from atlab.training import sums as sums_of_epochs


class Net(nn.Module):
    def __init__(self, classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(36, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


class Plain(nn.Module):
    """No batch norm and no dropout, so that training and evaluation give the same numbers."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, classes)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))))


class Term:
    """A loss term that records its calls."""

    def __init__(self, name: str = "extra", value=lambda x, call: 0.1 * x.mean()) -> None:
        self.name, self.value, self.calls, self.rows, self.autocast = name, value, 0, [], []

    def __call__(self, x, index=None):
        self.calls += 1
        self.rows.append(index.tolist())
        self.autocast.append(torch.is_autocast_enabled(x.device.type))
        return self.value(x, self.calls)


def net(cls=Net, seed: int = 0, **kwargs) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(**kwargs)


def clips(
    n: int = 20, classes: int = 2, batch_size: int = 6, shuffle: bool = False, seed: int = 0, shift: float = 1.0
) -> InMemory:
    """Classes that differ by the mean of one half of the image; the last batch is short."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    x = torch.randn(n, 1, 8, 8, generator=generator)
    x[:, :, :4] += shift * y.reshape(-1, 1, 1, 1)
    return InMemory(x, y, batch_size=batch_size, shuffle=shuffle, rows=torch.arange(n) + 100)


def quick(model, train=None, validation=None, **kwargs):
    options = {"epochs": 3, "precision": "fp32", "device": "cpu", "progress": False} | kwargs
    return fit(model, train or clips(shuffle=True), validation or clips(9, seed=1), **options)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_time(history) -> list[dict]:
    return history.drop(columns="seconds").to_dict("records")


# ---------------------------------------------------------------- numbers


def test_history_holds_means_over_clips_and_not_over_batches():
    model, train, validation = net(Plain), clips(20, 3), clips(11, 3, seed=1)
    reference = {}
    for part, batches in (("train", train), ("validation", validation)):
        logits = model(batches.x).detach().numpy().astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        reference[f"{part}_loss"] = -np.mean([logs[i, code] for i, code in enumerate(batches.y.tolist())])
        reference[f"{part}_accuracy"] = np.mean(logits.argmax(1) == batches.y.numpy())
        # The term's own mean of a batch, weighted by its clips, is the mean over all pixels.
        reference[f"{part}_extra"] = 0.1 * batches.x.double().mean().item()
    history = quick(model, train, validation, loss_terms=[Term()], epochs=1, learning_rate=1e-30)
    assert list(history.columns) == [
        "epoch",
        "seconds",
        "train_loss",
        "train_accuracy",
        "train_extra",
        "validation_loss",
        "validation_accuracy",
        "validation_extra",
    ]
    row = history.iloc[0]
    assert row["epoch"] == 1 and row["seconds"] > 0
    for name, value in reference.items():
        assert row[name] == pytest.approx(value, rel=1e-6), name


def test_one_epoch_equals_a_plain_adam_loop():
    model, reference, train = net(Plain, classes=2), net(Plain, classes=2), clips()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    for x, y, _ in train.epoch(0):
        optimizer.zero_grad()
        (nnf.cross_entropy(reference(x), y) + 0.1 * reference.first.weight.square().sum()).backward()
        optimizer.step()
    quick(
        model,
        train,
        epochs=1,
        learning_rate=0.01,
        loss_terms=[Term(value=lambda x, call: 0.1 * model.first.weight.square().sum())],
    )
    for got, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_separable_problem_is_learned_in_both_precisions(precision):
    model, train = net(), clips(60, shuffle=True, shift=3.0)
    history = quick(model, train, clips(40, seed=1, shift=3.0), epochs=12, learning_rate=0.01, precision=precision)
    assert history["train_loss"].iloc[-1] < 0.5 * history["train_loss"].iloc[0]
    assert evaluate(model, clips(100, seed=2, shift=3.0), precision=precision).accuracy >= 0.95
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_terms_are_called_after_the_forward_with_the_rows_and_under_the_same_autocast():
    model, term = net(), Term()
    order = []
    model.register_forward_hook(lambda *_: order.append("forward"))
    term.value = lambda x, call: order.append("term") or x.mean()
    quick(model, clips(), clips(4, seed=1), loss_terms=[term], epochs=1, precision="bf16")
    assert order == ["forward", "term"] * 5
    assert term.rows == [[*range(100, 106)], [*range(106, 112)], [*range(112, 118)], [118, 119], [*range(100, 104)]]
    assert all(term.autocast)


def test_anti_transfer_learning_runs_inside_fit():
    student, orthogonal = (net(lambda n=n: atlab.models.vgg16(n, width=1 / 32), seed=n) for n in (2, 3))
    x = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    train = InMemory(x, torch.arange(8) % 2, batch_size=4, shuffle=True)
    with atlab.AntiTransferLoss(student, atlab.Teacher(orthogonal, ["conv2", "conv5"]), beta=2.0) as at:
        history = quick(student, train, train, loss_terms=[at], epochs=2, precision="auto")
    values = history[["train_at", "validation_at"]].to_numpy()
    assert ((values > 0) & (values < 4)).all()
    assert history["train_loss"].iloc[0] == pytest.approx(np.log(2), abs=0.1)  # the target's alone


def test_evaluate_agrees_with_scikit_learn_on_unbalanced_clips():
    model, batches = net(Plain, classes=4), clips(41, 3, batch_size=7)
    model.train()
    found = evaluate(model, batches, precision="fp32", progress=False)
    assert model.training
    assert found.codes.tolist() == batches.y.tolist() and found.rows.tolist() == batches.rows.tolist()
    logits = model(batches.x).detach().double()
    assert np.allclose(found.probabilities, torch.softmax(logits, 1).numpy(), atol=1e-6)
    assert found.predictions.tolist() == logits.argmax(1).tolist()
    codes, predictions = found.codes, found.predictions
    assert found.loss == pytest.approx(sklearn.metrics.log_loss(codes, found.probabilities, labels=range(4)))
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(codes, predictions))
    recall = sklearn.metrics.recall_score(codes, predictions, average="macro", labels=np.unique(codes))
    assert found.unweighted_average_recall == pytest.approx(recall)
    assert 0 < recall != found.accuracy


def test_evaluate_is_what_early_stopping_saw():
    model = net()
    history = quick(model, epochs=4)
    best = history.loc[history["validation_loss"].idxmin()]
    found = evaluate(model, clips(9, seed=1), precision="fp32")
    assert not model.training
    assert (
        found.loss == pytest.approx(best["validation_loss"], rel=1e-6) and found.accuracy == best["validation_accuracy"]
    )


# ---------------------------------------------------------------- what stops, what stays


def overfitting() -> dict:
    """Few clips with noise: the validation loss has its minimum early."""
    return {
        "train": clips(20, batch_size=5, shift=0.7),
        "validation": clips(60, seed=3, shift=0.7),
        "learning_rate": 0.02,
    }


def test_early_stopping_ends_patience_epochs_after_the_best_and_restores_its_weights():
    model = net()
    history = quick(model, **overfitting(), epochs=40, patience=3)
    best = int(history["validation_loss"].argmin())
    assert best >= 1 and len(history) == best + 1 + 3 < 40
    shorter = net()
    again = quick(shorter, **overfitting(), epochs=best + 1, patience=3)
    assert without_time(again) == without_time(history)[: best + 1]
    assert equal(weights(model), weights(shorter))


def test_frozen_parameters_do_not_move_and_are_not_given_to_the_optimiser():
    model = net()
    model.features[0].requires_grad_(False)
    before = weights(model)
    quick(model)
    after = weights(model)
    assert torch.equal(before["features.0.weight"], after["features.0.weight"])
    assert not torch.equal(before["classifier.2.weight"], after["classifier.2.weight"])
    with pytest.raises(AtlabError, match="no parameter to train: all are frozen"):
        quick(net().requires_grad_(False))


def test_batch_norms_whose_weights_are_frozen_keep_their_statistics():
    model = net()
    model.features.requires_grad_(False)
    before = weights(model)
    quick(model, epochs=2, schedule="one_cycle")
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("features."))
    assert not torch.equal(before["classifier.2.weight"], after["classifier.2.weight"])
    free = net()
    quick(free, epochs=2)
    assert not torch.equal(before["features.1.running_mean"], weights(free)["features.1.running_mean"])


def test_one_cycle_is_pytorchs_and_keeps_the_last_weights():
    """Against an independent loop with PyTorch's scheduler; validation gets worse and worse, and nothing stops."""
    model, reference, train = net(Plain, classes=2), net(Plain, classes=2), clips()
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=24, cycle_momentum=False)
    for _ in range(6):
        for x, y, _ in train.epoch(0):
            optimizer.zero_grad()
            nnf.cross_entropy(reference(x), y).backward()
            optimizer.step()
            scheduler.step()
    contrary = InMemory(train.x, 1 - train.y, batch_size=6)
    history = quick(model, train, contrary, epochs=6, patience=1, learning_rate=0.01, schedule="one_cycle")
    assert len(history) == 6 and history["validation_loss"].is_monotonic_increasing
    for got, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def test_the_seed_decides_and_the_callers_random_state_stays():
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    found = []
    for seed in (1, 1, 2):
        model = net()
        quick(model, seed=seed)
        found.append(weights(model))
    assert torch.equal(torch.rand(3), expected)
    assert equal(found[0], found[1]) and not equal(found[0], found[2])


def test_the_bar_counts_all_steps_and_shows_the_losses(capsys):
    quick(net(), epochs=2, progress=True, description="at, seed 3", loss_terms=[Term()])
    shown = capsys.readouterr().err
    assert "at, seed 3: 100%" in shown and "8/8" in shown
    assert "loss=" in shown and "extra=" in shown and "validation=" in shown


# ---------------------------------------------------------------- errors


def test_a_loss_that_is_not_finite_is_named_with_epoch_and_step(tmp_path):
    bad = clips()
    bad.x[13] = float("nan")
    with pytest.raises(AtlabError, match=r"the target loss became nan in epoch 1, step 3;"):
        quick(net(), bad, checkpoint=tmp_path / "c", checkpoint_every=0)
    assert not list(tmp_path.iterdir())

    def infinite(x, call):
        return x.mean() / (0 if call == 8 else 1)  # 4 training steps, 2 of validation, then the second of epoch 2

    with pytest.raises(AtlabError, match=r"the loss term 'wild' became -?inf in epoch 2, step 2;"):
        quick(net(), loss_terms=[Term(), Term("wild", infinite)])
    with pytest.raises(AtlabError, match=r"the target loss became nan in the validation of epoch 1, step 3;"):
        quick(net(), validation=bad)


def test_on_an_accelerator_losses_are_fetched_together_and_the_step_is_still_named():
    sums = sums_of_epochs.Sums(["at"], "epoch 4", torch.device("cuda"))
    values = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    looked = [sums.add(i, i + 1, [values[i, 0], values[i, 1]], (values[i, 2] * 10).long()) for i in range(30)]
    assert [i for i, look in enumerate(looked) if look] == [sums_of_epochs.LOOK_EVERY - 1]
    n, v = np.arange(1, 31), values.double().numpy()
    right = np.floor(values[:, 2].numpy() * np.float32(10))
    means = sums.means()
    assert means["loss"] == pytest.approx((n * v[:, 0]).sum() / n.sum()) and means["at"] == pytest.approx(
        (n * v[:, 1]).sum() / n.sum()
    )
    assert means["accuracy"] == pytest.approx(right.sum() / n.sum())
    sums.add(30, 5, [torch.tensor(1.0), torch.tensor(float("inf"))], torch.tensor(1))
    sums.add(31, 5, [torch.tensor(float("nan")), torch.tensor(0.0)], torch.tensor(1))
    with pytest.raises(AtlabError, match="the loss term 'at' became inf in epoch 4, step 31;"):
        sums.fetch()


def with_nan(row: int) -> InMemory:
    bad = clips()
    bad.x[row, 0, 3, 3] = float("nan")
    return bad


def weighted(beta: float) -> Term:
    term = Term("weighted")
    term.beta = beta
    return term


def test_a_batch_size_of_zero_is_refused_before_anything_is_divided_by_it():
    empty = clips()
    empty.batch_size = 0
    with pytest.raises(AtlabError, match="the training part has batch_size 0; expected at least 1"):
        fit(net(), empty, clips(), device="cpu", progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"patience": 0}, "patience must be at least 1, found 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, found 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, found nan"),
        ({"schedule": "one-cycle"}, "unknown schedule 'one-cycle'; nearest: 'one_cycle'"),
        ({"train": clips(25)}, "batch norm cannot learn from a batch of one clip: 25 training clips in batches of 6"),
        ({"train": clips(batch_size=1)}, "batch norm cannot learn from a batch of one clip: 20 training clips"),
        ({"train": with_nan(0)}, "the inputs of the first training batch hold NaN or infinite values"),
        ({"loss_terms": [weighted(float("nan"))]}, "beta is nan; expected a finite number"),
        ({"loss_terms": [weighted(-1e30)]}, r"beta is -1e\+30; expected a finite number of at most 1e\+06 in size"),
        ({"precision": "fp61"}, "unknown precision 'fp61'; nearest: 'fp32', 'bf16'; allowed: auto, fp32, bf16"),
        ({"loss_terms": [Term("at"), Term("at")]}, "expected loss terms with different names"),
        ({"loss_terms": [Term("loss")]}, "none of them 'loss' or 'accuracy', got \\['loss'\\]"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    model = net()
    before = weights(model)
    with pytest.raises(AtlabError, match=message):
        quick(model, **arguments)
    assert equal(weights(model), before)


def test_validation_inputs_that_are_no_numbers_are_said_when_they_are_first_read():
    with pytest.raises(AtlabError, match="the inputs of the first validation batch hold NaN or infinite values"):
        quick(net(), validation=with_nan(3))


class Nothing:
    clips = 0

    def __len__(self):
        return 0

    def epoch(self, number, start=0):
        return iter(())


def test_empty_parts_and_unknown_classes():
    for kwargs, name in (({"train": Nothing()}, "training"), ({"validation": Nothing()}, "validation")):
        with pytest.raises(AtlabError, match=f"the {name} part is empty"):
            fit(net(), **({"train": clips(), "validation": clips()} | kwargs), device="cpu", progress=False)
    with pytest.raises(AtlabError, match="nothing to evaluate"):
        evaluate(net(), Nothing())
    for use in (lambda b: quick(net(), b), lambda b: evaluate(net(), b)):
        with pytest.raises(AtlabError, match="class number 2 in the data; the network has 2 classes, 0 to 1"):
            use(clips(20, 3))
    batches = clips()
    batches.y[2] = -1
    with pytest.raises(AtlabError, match="class number -1 in the data"):
        evaluate(net(), batches)


# ---------------------------------------------------------------- checkpoints

# One process imports PyTorch; each scenario's trainings are its forks, killed from inside where the scenario says.
KILLED = """
    import json, os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import torch
    import torch._dynamo  # PyTorch's optimisers import it at their first use: here, once, and not in every fork
    from safetensors.torch import save_file
    from atlab.training import checkpoint as checkpoints
    from test_loop import Net, Term, clips, fit, net

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def killing(call, at):
        if call == at:
            die()

    def child(name, scenario):
        term = Term("draw", lambda x, call: killing(call, scenario.get("call")) or 0.01 * x.mean() * torch.rand(()))
        replace, writes = os.replace, [0]

        def counted(source, target):
            writes[0] += 1
            killing(writes[0], scenario.get("before_write"))
            replace(source, target)
            killing(writes[0], scenario.get("after_write"))

        checkpoints.os.replace = counted
        model = net()
        history = fit(
            model, clips(shuffle=True), clips(9, seed=1), loss_terms=[term], epochs=4, device="cpu", progress=False,
            precision=scenario.get("precision", "fp32"), schedule=scenario.get("schedule", "constant"), optimizer=scenario.get("optimizer", "adam"), checkpoint=folder / name / "checkpoint.safetensors", checkpoint_every=0,
        )
        if scenario.get("at_end"):
            die()
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / name / "weights.safetensors")
        rows = history.drop(columns="seconds").to_dict("records")
        (folder / name / "history.json").write_text(json.dumps({"rows": rows, "calls": term.calls}))

    for name, scenarios in json.loads(sys.argv[3]).items():
        (folder / name).mkdir()
        for scenario in scenarios:
            pid = os.fork()
            if pid == 0:
                try:
                    child(name, scenario)
                    os._exit(0)
                except BaseException as error:
                    print(name, scenario, repr(error), flush=True)
                    os._exit(1)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            wanted = -signal.SIGKILL if set(scenario) - {"precision", "schedule", "optimizer"} else 0
            assert code == wanted, (name, scenario, code)
"""

# An epoch has 4 training steps and 2 of validation, the term is called in both; a checkpoint is written after each
# training step and at the epoch's end.
SCENARIOS = {
    "undisturbed": [{}],
    "first_step": [{"call": 1}, {}],
    "second_step": [{"call": 2}, {}],
    "in_validation": [{"call": 6}, {}],
    "first_of_second_epoch": [{"call": 7}, {}],
    "in_last_epoch": [{"call": 22}, {}],
    "twice": [{"call": 4}, {"call": 5}, {}],
    "five_times": [{"call": 3}] * 5 + [{}],
    "before_the_first_write": [{"before_write": 1}, {}],
    "while_writing": [{"before_write": 7}, {}],
    "after_writing_an_epoch": [{"after_write": 5}, {}],
    "finished": [{"at_end": True}, {}],
    "bf16": [{"precision": "bf16"}],
    "bf16_killed": [{"precision": "bf16", "call": 9}, {"precision": "bf16", "before_write": 3}, {"precision": "bf16"}],
    "one_cycle": [{"schedule": "one_cycle"}],
    "one_cycle_killed": [
        {"schedule": "one_cycle", "call": 9},
        {"schedule": "one_cycle", "call": 8},
        {"schedule": "one_cycle"},
    ],
    "densenet": [{"optimizer": "densenet"}],
    "densenet_killed": [
        {"optimizer": "densenet", "call": 9},
        {"optimizer": "densenet", "call": 8},
        {"optimizer": "densenet"},
    ],
}
OTHERS = ("bf16", "one_cycle", "densenet")


def test_a_training_killed_anywhere_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(KILLED),
        str(tmp_path),
        os.path.dirname(__file__),
        json.dumps(SCENARIOS),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in SCENARIOS}
    histories = {name: json.loads((tmp_path / name / "history.json").read_text()) for name in SCENARIOS}
    others = [found[name] for name in ("undisturbed", *OTHERS)]
    assert (
        not any(equal(a, b) for a, b in itertools.combinations(others, 2))
        and len(histories["undisturbed"]["rows"]) == 4
    )
    for name in SCENARIOS:
        reference = next((other for other in OTHERS if name.startswith(other)), "undisturbed")
        assert equal(found[name], found[reference]), name
        assert histories[name]["rows"] == histories[reference]["rows"], name
        left = sorted(path.name for path in (tmp_path / name).iterdir())
        assert left == ["checkpoint.safetensors", "history.json", "weights.safetensors"], name
        if name not in ("undisturbed", *OTHERS, "first_step", "before_the_first_write"):
            # It went on, and did not start again; a training that was finished is not trained again at all.
            assert histories[name]["calls"] < histories[reference]["calls"], name
    assert histories["finished"]["calls"] == 0


def interrupted(path, **kwargs) -> None:
    """Leave a checkpoint of the third step, as Ctrl-C does."""

    def value(x, call):
        if call == 4:
            raise KeyboardInterrupt
        return x.mean()

    with pytest.raises(KeyboardInterrupt):
        quick(net(), checkpoint=path, checkpoint_every=0, loss_terms=[Term(value=value)], **kwargs)


CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_ctrl_c_leaves_a_checkpoint_that_is_taken_up(tmp_path, device):
    path, options = tmp_path / "checkpoint.safetensors", {"device": device, "precision": "auto"}
    interrupted(path, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    model, term = (net(seed=5), Term(value=lambda x, call: x.mean()))  # other initial weights: those of the file count
    history = quick(model, checkpoint=path, loss_terms=[term], **options)
    assert term.calls == 3 * 6 - 3
    reference = net()
    assert without_time(quick(reference, loss_terms=[Term(value=lambda x, call: x.mean())], **options)) == without_time(
        history
    )
    assert equal(weights(model), weights(reference)) and path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.25}, "learning_rate 0.0005 instead of 0.25"),
        ({"epochs": 7}, "epochs 3 instead of 7"),
        ({"seed": 9}, "seed 0 instead of 9"),
        ({"precision": "bf16"}, "precision 'fp32' instead of 'bf16'"),
        ({"loss_terms": []}, "loss_terms .* instead of \\[\\]"),
        ({"train": clips(20, seed=8)}, "train .* instead of"),
        ({"validation": clips(9, seed=8)}, "validation .* instead of"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_kept(tmp_path, change, message):
    path = tmp_path / "checkpoint.safetensors"
    interrupted(path)
    before = path.read_bytes()
    with pytest.raises(AtlabError, match=f"belongs to another training: {message}.*Delete it to train from the start"):
        quick(net(), checkpoint=path, **({"loss_terms": [Term()]} | change))
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_network_or_with_other_frozen_parts_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    interrupted(path)
    frozen = net()
    frozen.features[0].requires_grad_(False)
    for model in (frozen, net(classes=3)):
        with pytest.raises(AtlabError, match="parameters '[0-9a-f]{16}' instead of '[0-9a-f]{16}'"):
            quick(model, checkpoint=path, loss_terms=[Term()])


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    interrupted(path)
    whole = path.read_bytes()
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    for content in (b"", b"text", whole[: len(whole) // 2], (tmp_path / "foreign").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(AtlabError, match="checkpoint.safetensors is not a training checkpoint of atlab"):
            quick(net(), checkpoint=path, loss_terms=[Term()])
        assert path.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AtlabError, match="the checkpoint .*file/checkpoint.safetensors could not be written"):
        quick(net(), checkpoint=tmp_path / "file" / "checkpoint.safetensors", checkpoint_every=0)
    (tmp_path / "taken").mkdir()
    saver = checkpoints.Checkpoint(tmp_path / "taken", {}, 0)
    with pytest.raises(AtlabError, match="taken could not be written"):
        saver.write(checkpoints.State(net(), torch.optim.Adam(net().parameters()), torch.device("cpu")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_tied_weights_survive_a_checkpoint(tmp_path):
    def tied():
        model = net(Plain)
        model.last = nn.Linear(16, 16)
        model.again = nn.Linear(16, 16)
        model.again.weight = model.last.weight
        return model

    model = tied()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model.last(torch.ones(2, 16)).sum().backward()
    optimizer.step()
    state = checkpoints.State(model, optimizer, torch.device("cpu"))
    state.remember_best()
    saver = checkpoints.Checkpoint(tmp_path / "c", {}, 0)
    saver.write(state)
    other = tied()
    restored = checkpoints.State(other, torch.optim.Adam(other.parameters(), fused=True), torch.device("cpu"))
    assert saver.restore(restored)
    assert equal(weights(model), weights(other)) and other.again.weight is other.last.weight
    assert equal(restored.best, state.best)
    moments = optimizer.state[model.last.weight]
    assert set(moments) == {"step", "exp_avg", "exp_avg_sq"} and moments["exp_avg"].abs().sum() > 0
    assert equal(moments, restored.optimizer.state[other.last.weight])
    assert len(optimizer.state) == len(restored.optimizer.state) == 2


def test_checkpoints_are_due_by_time_and_at_the_end_of_an_epoch_where_they_are_cheap(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    saver = checkpoints.Checkpoint("unused", {}, every=60.0)
    assert not saver.due() and saver.due(epoch_ended=True)
    now[0] = 59.0
    assert not saver.due()
    now[0] = 60.0
    assert saver.due()
    saver._last, saver._cost = 60.0, 2.0  # writing took 2 s: once in 40 s, and once in 60 s in any case
    now[0] = 99.0
    assert not saver.due(epoch_ended=True)
    now[0] = 100.0
    assert saver.due(epoch_ended=True) and not saver.due()
    assert not checkpoints.Checkpoint(None, {}, every=0).due(epoch_ended=True)
