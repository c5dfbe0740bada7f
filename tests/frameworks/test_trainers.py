"""Lightning, the Trainer of transformers, and accelerate: one step has the loss and the gradient of a naive float64 loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import atlab
from tests.frameworks.naive import LAYERS, Small, agree, batch, gradients, whole_loss


def steps(student: nn.Module, before: dict[str, torch.Tensor], rate: float) -> dict[str, torch.Tensor]:
    """The gradient that one step of SGD took, from the change of the weights."""
    return {name: (before[name] - p.detach()) / rate for name, p in student.named_parameters()}


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.student = Small(0)
            self.at = atlab.AntiTransferLoss(self.student, atlab.Teacher(Small(1), LAYERS), warm_up=1)

        def on_train_epoch_start(self):
            self.at.set_epoch(self.current_epoch + 1)

        def training_step(self, batch, _):
            x, y = batch
            loss = nn.functional.cross_entropy(self.student(x), y) + self.at(x)
            self.log_dict({f"at_{layer}": value for layer, value in self.at.values.items()})
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module, (x, y) = Module(), batch()
    before = {name: p.detach().clone() for name, p in module.student.named_parameters()}
    expected = gradients(Small(0), Small(1), x, y)
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=8))
    assert agree(steps(module.student, before, 0.1), expected, atol=1e-5)
    assert set(module.state_dict()) == {f"student.{name}" for name in before}
    assert {f"at_{layer}" for layer in LAYERS} <= set(trainer.logged_metrics)


def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator, (x, y) = accelerate.Accelerator(cpu=True), batch()
    student, speaker = Small(0), Small(1)
    model, optimizer, loader = accelerator.prepare(
        student, torch.optim.SGD(student.parameters(), lr=0.1), DataLoader(TensorDataset(x, y), batch_size=8)
    )
    at = atlab.AntiTransferLoss(model, atlab.Teacher(speaker, LAYERS))
    for given, classes in loader:
        accelerator.backward(nn.functional.cross_entropy(model(given), classes) + at(given))
        found = {name: p.grad.clone() for name, p in student.named_parameters()}
        assert agree(found, gradients(student, speaker, x, y))
        optimizer.step()


def test_the_trainer_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate, which the Trainer needs, is not installed")

    class Classifier(Small):
        def forward(self, x, labels=None):
            logits = super().forward(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    class Trainer(transformers.Trainer):
        at: atlab.AntiTransferLoss

        def compute_loss(self, model, inputs, return_outputs=False, **_):
            outputs = model(**inputs)
            loss = outputs["loss"] + self.at(inputs["x"])
            return (loss, outputs) if return_outputs else loss

    (x, y), student = batch(), Classifier(0)
    expected, value = gradients(Small(0), Small(1), x, y), float(whole_loss(Small(0), Small(1), x, y).detach())
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    arguments = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=8, max_steps=1, logging_steps=1, learning_rate=0.1, optim="sgd", max_grad_norm=0.0,
        lr_scheduler_type="constant", report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    clips = [{"x": clip, "labels": label} for clip, label in zip(x, y, strict=True)]
    trainer = Trainer(student, arguments, train_dataset=clips)
    trainer.at = atlab.AntiTransferLoss(student, atlab.Teacher(Small(1), LAYERS))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(value, abs=1e-3)
    assert agree(steps(student, before, 0.1), expected, atol=1e-5)
