"""Model files: what comes back, what is refused, what a kill leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from atlab.errors import AtlabError
from atlab.models import copy_weights, load, save, vgg16, weights_hash


def small(num_classes: int = 3, width: float = 1 / 64, **kwargs) -> nn.Module:
    return vgg16(num_classes=num_classes, width=width, **kwargs)


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def written(path, tensors: dict, card: dict | str | None):
    """A safetensors file with this text as atlab's card."""
    text = card if isinstance(card, str) else json.dumps(card)
    safetensors.torch.save_file(tensors, path, metadata=None if card is None else {"atlab": text})
    return path


def card_of(model: nn.Module, **changes) -> dict:
    whole = {"format": "atlab-model-1", "architecture": "vgg16", "arguments": model.arguments}
    return whole | {"weights_hash": weights_hash(model)} | changes


@pytest.mark.parametrize("form", [{}, {"batch_norm": True, "head": "pool"}])
def test_a_model_comes_back_whole_with_its_card(tmp_path, form):
    model = small(dropout=0.25, **form).to(memory_format=torch.channels_last)
    model.set_normalisation(0.5, 3.0)
    path = save(
        model,
        tmp_path / "a" / "model.safetensors",
        classes=["no", "so", "yes"],
        task="answer",
        data="5e",
        width_note=np.float64(0.5),
    )
    state = torch.get_rng_state()
    found = load(path)
    assert torch.equal(state, torch.get_rng_state())
    assert not found.training and found.arguments == model.arguments
    for name, tensor in stored(model).items():
        assert torch.equal(found.state_dict()[name], tensor), name
    x = torch.randn(2, 1, 40, 50)
    assert torch.allclose(found(x), model.eval()(x), atol=1e-6)
    assert found.card["classes"] == ["no", "so", "yes"] and found.card["width_note"] == 0.5
    assert found.card["architecture"] == "vgg16" and found.card["weights_hash"] == weights_hash(model)
    assert json.loads(path.with_suffix(".json").read_text()) == found.card
    assert all(p.requires_grad and p.is_leaf for p in found.parameters())
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def test_the_card_in_the_model_file_counts_and_not_its_copy(tmp_path):
    path = save(small(), tmp_path / "model.safetensors", task="answer")
    path.with_suffix(".json").unlink()
    assert load(path).card["task"] == "answer"


def test_a_loaded_model_does_not_depend_on_its_file_any_more(tmp_path):
    path = save(small(), tmp_path / "model.safetensors")
    model = load(path)
    before = weights_hash(model)
    path.write_bytes(b"\xff" * path.stat().st_size)  # in place, as cp does
    assert weights_hash(model) == before


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path):
    for name in ("model.pt", "model"):
        with pytest.raises(AtlabError, match=f"a model file's name ends in .safetensors, found '{name}'"):
            save(small(), tmp_path / name)
    with pytest.raises(AtlabError, match="Linear cannot be saved: only networks of atlab.models"):
        save(nn.Linear(2, 2), tmp_path / "model.safetensors")
    with pytest.raises(AtlabError, match="the model card's arguments, format cannot be passed"):
        save(small(), tmp_path / "model.safetensors", arguments=1, format=2)
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(AtlabError, match="the model card's entry 'thing' cannot be written as JSON"):
            save(small(), tmp_path / "model.safetensors", thing=value)
    assert not list(tmp_path.iterdir())


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_is_refused_by_name_and_by_content_and_never_run(tmp_path):
    trap = Trap(str(tmp_path / "sprung"))
    buffer = io.BytesIO()
    torch.save(trap, buffer)
    contents = [buffer.getvalue(), *(pickle.dumps(trap, protocol) for protocol in (2, 3, 4, 5))]
    for i, content in enumerate(contents):
        for name in (f"{i}.safetensors", f"{i}.pt", f"{i}.pth", f"{i}.pkl"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(
                AtlabError, match="is a pickle .* can run any code .*weights_only=True.*atlab.models.save"
            ):
                load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(contents[1])
    assert (tmp_path / "sprung").exists()  # the trap works


def test_a_header_whose_length_looks_like_a_pickle_is_still_a_model(tmp_path):
    model = small()
    text = json.dumps(card_of(model))
    length = int.from_bytes(safetensors.torch.save(stored(model), metadata={"atlab": text})[:8], "little")
    data = safetensors.torch.save(stored(model), metadata={"atlab": text + " " * (0x10280 - length)})
    assert data[:2] == b"\x80\x02" == pickle.dumps(1, protocol=2)[:2]
    (tmp_path / "model.safetensors").write_bytes(data)
    assert torch.equal(load(tmp_path / "model.safetensors").features[0].weight, model.features[0].weight)


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = save(small(), tmp_path / "model.safetensors")
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(AtlabError, match="model.safetensors is truncated or not a safetensors file"):
            load(path)
    for card in (None, "no json", "[]", "{}"):
        with pytest.raises(AtlabError, match="holds no model card: it was not written by atlab.models.save"):
            load(written(path, stored(small()), card))
    with pytest.raises(AtlabError, match="has format 'atlab-model-9'; this version of atlab reads 'atlab-model-1'"):
        load(written(path, stored(small()), card_of(small(), format="atlab-model-9")))
    with pytest.raises(AtlabError, match="no model file at '.*absent.safetensors'"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(AtlabError, match="no model file at"):
        load(tmp_path)


def test_an_unknown_architecture_and_arguments_that_do_not_fit_are_refused(tmp_path):
    model, path = small(), tmp_path / "model.safetensors"
    with pytest.raises(
        AtlabError, match="unknown architecture in model.safetensors: 'vgg61'; nearest: 'vgg16'; allowed: .*vgg16"
    ):
        load(written(path, stored(model), card_of(model, architecture="vgg61")))
    for arguments in ({"classes": 3}, 7):
        with pytest.raises(AtlabError, match="the model card's arguments do not fit vgg16"):
            load(written(path, stored(model), card_of(model, arguments=arguments)))
    with pytest.raises(AtlabError, match="width must be above 0"):
        load(written(path, stored(model), card_of(model, arguments={"num_classes": 3, "width": -1})))


@pytest.mark.parametrize(
    "changes",
    [{"architecture": value} for value in ([], {}, None, 3, ["vgg16"])]
    + [{"arguments": value} for value in ([], None, "x", [1, 2], {"num_classes": "3"}, {"num_classes": 3, "width": "a"})]
    + [{"arguments": {"num_classes": value}} for value in (None, 2.5, [3], {}, 10**30, -1, 0, True)]
    + [{"arguments": {"num_classes": 3, key: value}} for key in ("width", "in_channels", "dropout") for value in (None, [], "x", 1e308, -5)]
    + [{"format": value} for value in (None, 1, [], {})]
    + [{"weights_hash": value} for value in (None, 3, [], {}, "x", "0" * 64)],
    ids=str,
)  # fmt: skip
def test_cards_of_odd_types_are_refused_in_one_line(tmp_path, changes):
    model = small()
    with pytest.raises(AtlabError) as error:
        load(written(tmp_path / "model.safetensors", stored(model), card_of(model, **changes)))
    assert "\n" not in str(error.value) and "model.safetensors" in str(error.value)


def test_a_card_that_is_nested_without_end_is_no_card(tmp_path):
    with pytest.raises(AtlabError, match="holds no model card"):
        load(written(tmp_path / "model.safetensors", stored(small()), "[" * 100_000))


def test_a_flipped_bit_anywhere_in_the_weights_is_found(tmp_path):
    path = save(small(), tmp_path / "model.safetensors")
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in np.random.default_rng(0).integers(start, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(AtlabError, match="model.safetensors is damaged: its weights have the hash"):
            load(path)
    path.write_bytes(whole)
    load(path)


def test_weights_of_another_type_or_not_finite_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16"), (torch.float64, "float64")):
        other = small().to(dtype)
        with pytest.raises(AtlabError, match=f"of another type: .*features.0.weight {name} instead of float32"):
            load(written(path, stored(other), card_of(other)))
        with pytest.raises(AtlabError, match=f"expected float32 weights to save, got features.0.weight {name}"):
            save(other, path)
    for value in (float("nan"), float("inf")):
        model = small()
        with torch.no_grad():
            model.features[2].bias[0] = value
        with pytest.raises(AtlabError, match="infinite or not a number, in features.2.bias"):
            load(written(path, stored(model), card_of(model)))


def test_tensors_that_do_not_match_are_all_listed(tmp_path):
    model, path = small(), tmp_path / "model.safetensors"
    tensors = stored(model)
    del tensors["features.0.bias"], tensors["input_std"]
    tensors["classifier.9.weight"] = torch.zeros(2)
    tensors["classifier.6.bias"] = torch.zeros(8)
    with pytest.raises(AtlabError) as error:
        load(written(path, tensors, card_of(model)))
    text = str(error.value)
    assert "missing: features.0.bias, input_std" in text.replace(
        "input_std, features.0.bias", "features.0.bias, input_std"
    )
    assert "unexpected: classifier.9.weight" in text and "mis-shaped: classifier.6.bias [8] instead of [3]" in text


def test_the_hash_is_of_names_shapes_and_values_only():
    torch.manual_seed(0)
    model = small()
    digest = hashlib.sha256()
    for name in sorted(model.state_dict()):
        array = model.state_dict()[name].numpy()
        digest.update(f"{name} torch.float32 {list(array.shape)}\n".encode() + array.tobytes())
    assert weights_hash(model) == digest.hexdigest()
    same = small()
    same.load_state_dict(model.state_dict())
    assert weights_hash(same.to(memory_format=torch.channels_last).eval()) == weights_hash(model)
    with torch.no_grad():
        same.features[0].bias[0] += 1e-7
    assert weights_hash(same) != weights_hash(model)
    same.load_state_dict(model.state_dict())
    same.set_normalisation(0.0, 2.0)
    assert weights_hash(same) != weights_hash(model)


def test_copied_weights_are_those_under_the_prefix_and_no_others():
    source, target = small(), small(num_classes=5)
    before = stored(target)
    names = copy_weights(source, target)
    assert names == [name for name in before if name.startswith("features.")] and len(names) == 26
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name] if name in names else before[name]), name
    assert target.features[0].weight is not source.features[0].weight and target.features[0].weight.requires_grad
    with torch.no_grad():
        source.features[0].weight.zero_()
    assert not torch.equal(target.features[0].weight, source.features[0].weight)


def test_weights_that_do_not_fit_are_listed_and_nothing_is_copied():
    target = small()
    before = stored(target)
    with pytest.raises(
        AtlabError, match=r"mis-shaped: features.0.weight \[2, 1, 3, 3\] instead of \[1, 1, 3, 3\], .* and 6 more"
    ):
        copy_weights(small(width=1 / 32), target)
    other = small()
    other.features[0] = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    other.features.add_module("99", nn.Linear(1, 2))
    with pytest.raises(
        AtlabError,
        match="under 'features.' .*missing: features.0.bias; unexpected: features.99.weight, features.99.bias",
    ):
        copy_weights(other, target)
    with pytest.raises(AtlabError, match="unknown prefix of parameter names 'feature5.'; nearest: 'features.'"):
        copy_weights(small(), target, prefix="feature5.")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


# One process imports PyTorch; each save is a fork of it, killed at a moment of its own: inside by the number of the
# system call that opens, writes, removes or renames a file, and from outside after a while.
KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    import torch
    from atlab.models import io, load, save, vgg16

    torch.set_num_threads(1)
    path = Path(sys.argv[1]) / "model.safetensors"
    models = {}
    for number in (0, 1):
        torch.manual_seed(number)
        models[number] = vgg16(num_classes=2 + number, width=1 / 16)

    def put_old():
        for file in path.parent.iterdir():
            file.unlink()
        save(models[0], path, task="old")

    def check():
        card = load(path).card
        number = {"old": 0, "new": 1}[card["task"]]
        assert load(path).card["arguments"]["num_classes"] == 2 + number
        assert io.weights_hash(load(path)) == io.weights_hash(models[number]) == card["weights_hash"]
        copy = path.with_suffix(".json")
        if copy.exists():
            assert io.json.loads(copy.read_text()) == card
        return number

    def killed_save(prepare, delay=None):
        put_old()
        pid = os.fork()
        if pid == 0:
            prepare()
            save(models[1], path, task="new")
            os._exit(0)
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return check(), path.with_suffix(".json").exists()

    def after(count):
        def prepare():
            seen = [0]
            def audit(event, arguments):
                if event in ("open", "os.rename", "os.remove") and "model." in str(arguments[0]):
                    seen[0] += 1
                    if seen[0] == count:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(audit)
        return prepare

    found = [killed_save(after(count)) for count in range(1, 13)]
    print("at", found)
    start = time.monotonic()
    put_old()
    whole = time.monotonic() - start
    print("timed", [killed_save(lambda: None, whole * i / 20)[0] for i in range(30)])
"""


def test_a_kill_while_saving_leaves_the_old_model_or_the_new_one(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    at = done.stdout.splitlines()[0]
    # The copy of the card goes, the model file is written, synced, renamed; then the copy; then there are no more moments.
    assert "(0, True)" in at and "(0, False)" in at and "(1, False)" in at and "(1, True)" in at
