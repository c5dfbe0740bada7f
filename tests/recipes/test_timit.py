from __future__ import annotations

import numpy as np
import pytest

from atlab.data import alphabet, mel, splits
from atlab.errors import AtlabError
from data_recipes import timit
from tests.recipes import corpora


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return corpora.timit(tmp_path_factory.mktemp("raw") / "TIMIT")


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = timit.prepare(raw, tmp_path_factory.mktemp("out") / "timit", workers=0)
    assert corpora.snapshot(raw) == before
    return result


def test_every_utterance_and_drop_is_accounted_for(fs):
    table = fs.factors
    assert len(fs) == 7 * 3 and fs.factor_names == ["speaker", "gender", "dialect", "sentence", "official"]
    dropped = {k: v for k, v in fs.card["dropped"].items() if v}
    assert dropped == {"SA sentence": 16, "test speaker outside the development and core sets": 3}
    assert table.official.value_counts().to_dict() == {"train": 9, "validation": 6, "test": 6}
    assert fs.card["published_clips"]["found"] == {
        "train speakers": 3,
        "validation speakers": 2,
        "test speakers": 2,
        "train utterances": 9,
        "validation utterances": 6,
        "test utterances": 6,
    }
    assert set(table.sentence) == {"SI", "SX"} and set(table.dialect) == {"DR1", "DR2"}
    assert (table.gender == table.speaker.str[0]).all()
    assert sorted(set(table.duration)) == pytest.approx([1.2, 1.3, 1.4])
    assert fs.read([0]).shape == (1, 128_000) and fs.sample_rate == 16_000


def test_sphere_samples_are_exact(fs, raw):
    for row in (0, len(fs) - 1):
        content = (raw / fs.factors.source[row]).read_bytes()
        samples = np.frombuffer(content[1024:], "<i2")
        clip = fs.read([row])[0]
        assert np.abs(clip[: len(samples)].astype(int) - samples).max() <= 1 and not clip[len(samples) :].any()


def test_lower_case_copy_is_the_same(fs, tmp_path):
    lower = corpora.timit(tmp_path / "timit", lower=True)
    again = timit.prepare(tmp_path, tmp_path / "out", workers=0)  # the folder around TIMIT works, too
    assert lower.name == "timit" and list(again.factors.id) == list(fs.factors.id)
    assert (again.factors.phones == fs.factors.phones).all()
    np.testing.assert_array_equal(again.read(np.arange(len(fs))), fs.read(np.arange(len(fs))))


def test_converted_copies_are_left_out(fs, tmp_path):
    raw = corpora.timit(tmp_path / "raw")
    corpora.write(raw / "TRAIN/DR1/FCJF0/SX10.WAV.wav", corpora.sound(1.0))
    again = timit.prepare(raw, tmp_path / "out", workers=0)
    assert again.content_hash == fs.content_hash
    assert again.card["dropped"]["converted copy of an utterance"] == 1


def test_the_official_parts_are_by_speaker(fs):
    parts = fs.factors.groupby("official")["speaker"].agg(set)
    assert parts["train"] == {"FCJF0", "MCPM0", "FAEM0"}
    assert parts["validation"] == {"FAKS0", "FJEM0"} and parts["test"] == {"MDAB0", "FPAS0"}
    split = splits.official(fs)
    speakers = [{*fs.labels("speaker", rows)} for rows in (split.train, split.validation, split.test)]
    assert speakers == [parts["train"], parts["validation"], parts["test"]]


def test_speaker_lists():
    assert len(set(timit.CORE_TEST)) == 24 and len(set(timit.DEVELOPMENT)) == 50
    assert not set(timit.CORE_TEST) & set(timit.DEVELOPMENT)
    assert sum(name[0] == "M" for name in timit.CORE_TEST) == 16  # two men and a woman of each dialect region


def test_foldings_of_lee_and_hon():
    assert [len(alphabet.PHONES[n]) for n in (61, 48, 39)] == [61, 48, 39]
    assert "q" not in alphabet.FOLDING[48] and "q" not in alphabet.FOLDING[39]
    groups = (
        {"aa", "ao"},
        {"ah", "ax", "ax-h"},
        {"er", "axr"},
        {"hh", "hv"},
        {"ih", "ix"},
        {"l", "el"},
        {"m", "em"},
        {"n", "en", "nx"},
        {"ng", "eng"},
        {"sh", "zh"},
        {"uw", "ux"},
        {"pcl", "tcl", "kcl", "bcl", "dcl", "gcl", "h#", "pau", "epi"},
    )
    for group in groups:
        assert len({alphabet.FOLDING[39][phone] for phone in group}) == 1
    folded = {phone for group in groups for phone in group}
    assert all(alphabet.FOLDING[39][phone] == phone for phone in alphabet.FOLDING[39] if phone not in folded)
    for phone, name in alphabet.FOLDING[48].items():  # 39 is a coarsening of 48
        same = {alphabet.FOLDING[39][p] for p, n in alphabet.FOLDING[48].items() if n == name}
        assert len(same) == 1, phone


def test_filterbank_against_librosa(fs):
    librosa = pytest.importorskip("librosa")
    wave = fs.read([3])[0][:19_000]
    # librosa centres the 400-sample window in its 512-sample frame: 56 zeros in front align the two
    energies = librosa.feature.melspectrogram(
        y=np.pad(wave / 32768.0, (56, 56)),
        sr=16_000,
        n_fft=512,
        hop_length=160,
        win_length=400,
        window=np.hamming(400),
        center=False,
        power=2.0,
        n_mels=40,
        fmin=0,
        fmax=8000,
        htk=True,
        norm=None,
    )
    expected = np.log(np.maximum(energies, 1e-10)).T
    found = mel.filterbank(wave)
    assert tuple(found.shape) == (1 + (19_000 - 400) // 160, 40) and str(found.dtype) == "torch.float32"
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(mel.filterbank(wave / np.float32(32768)).numpy(), found.numpy(), atol=1e-6)
    with pytest.raises(AtlabError, match="a wave of 399 samples; a frame needs at least 400"):
        mel.filterbank(wave[:399])


def test_an_unusable_phone_file_counts_as_broken(tmp_path):
    raw = corpora.timit(tmp_path / "raw")
    path = raw / "TRAIN/DR1/FCJF0/SX10.PHN"
    path.write_text("0 2000 h#\n2000 1000 sh\n")
    with pytest.raises(AtlabError, match="SX10.PHN"):
        timit.prepare(raw, tmp_path / "out", workers=0)  # one of 21: above one per cent


@pytest.mark.parametrize("text", ["", "0 100 zz\n", "0 100\n", "200 100 sh\n", "a b sh\n"])
def test_parse_phones_refuses(text):
    with pytest.raises(ValueError):
        timit.parse_phones(text)


def test_errors_name_what_is_missing(fs, tmp_path):
    with pytest.raises(AtlabError, match="TIMIT folder not found: expected .*nowhere"):
        timit.prepare(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtlabError, match="TIMIT folders not found: expected .*TRAIN and .*TEST"):
        timit.prepare(tmp_path / "empty", tmp_path / "out")
    raw = corpora.timit(tmp_path / "raw")
    (raw / "TRAIN/DR1/FCJF0/SX10.PHN").unlink()
    with pytest.raises(AtlabError, match="phone labels not found: expected .*SX10.PHN"):
        timit.prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
