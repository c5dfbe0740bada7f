"""Orthogonal tasks as text, and the form that data sets must share."""

from __future__ import annotations

import pytest

import atlab
from atlab.data import toy
from atlab.data.orthogonal import OrthogonalTask, check_forms, content_hash, form
from atlab.errors import AtlabError


@pytest.mark.parametrize("text", ["", "@ravdess", "emotion@", "file:"])
def test_a_text_that_is_no_task_is_refused(text):
    with pytest.raises(AtlabError, match="expected an orthogonal task as FACTOR, FACTOR@DATA or file:PATH, got"):
        OrthogonalTask.parse(text)


def test_the_first_at_sign_parts_factor_and_data():
    assert OrthogonalTask.parse("noise@data/ms_snsd") == ("noise", "data/ms_snsd", "")
    assert OrthogonalTask.parse("file:a@b.safetensors") == ("", "", "a@b.safetensors")


def test_items_of_another_form_are_refused_with_both(tmp_path):
    ours, theirs = toy(tmp_path / "ours"), toy(tmp_path / "theirs", samples=8000)
    check_forms([f"speaker@{toy(tmp_path / 'alike', seed=1).path}", "speaker"], ours)
    with pytest.raises(
        AtlabError, match=r"another shape of an item than the target's data: \[8000\] instead of \[4000\]"
    ):
        check_forms([f"speaker@{theirs.path}"], ours)


def test_a_model_file_says_what_it_was_trained_on(tmp_path):
    fs, net = toy(tmp_path / "set"), atlab.models.vgg16(2, width=1 / 64)
    other = form(fs) | {"sample_rate": 8000}
    atlab.models.save(net, tmp_path / "a.safetensors", input=form(fs))
    atlab.models.save(net, tmp_path / "b.safetensors", input=other)
    check_forms([f"file:{tmp_path}/a.safetensors"], fs)
    with pytest.raises(AtlabError, match="another sample rate than the target's data: 8000 instead of 16000"):
        check_forms([f"file:{tmp_path}/b.safetensors"], fs)
    with pytest.raises(AtlabError, match="is not there: expected a model file"):
        check_forms([f"file:{tmp_path}/c.safetensors"], fs)


def test_the_content_hash_changes_with_what_a_task_names(tmp_path):
    fs, net = toy(tmp_path / "set"), atlab.models.vgg16(2, width=1 / 64)
    others = [toy(tmp_path / f"other{seed}", seed=seed) for seed in (1, 2)]
    atlab.models.save(net, tmp_path / "a.safetensors")
    hashes = {
        content_hash(fs, [text]) for text in (*(f"speaker@{o.path}" for o in others), f"file:{tmp_path}/a.safetensors")
    }
    assert len(hashes) == 3 and fs.content_hash not in hashes
    assert content_hash(fs, ["speaker", "word"]) == fs.content_hash
