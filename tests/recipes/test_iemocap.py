from __future__ import annotations

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import iemocap
from tests.recipes import corpora


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return corpora.iemocap(tmp_path_factory.mktemp("raw") / "IEMOCAP_full_release")


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = iemocap.prepare(raw, tmp_path_factory.mktemp("out") / "iemocap", workers=0)
    assert corpora.snapshot(raw) == before
    return result


def test_every_segment_and_drop_is_accounted_for(fs):
    # a dialog at 4 s: neu 1, ang (5 s) 2, hap (9 s) 4, sad 1, neu (0.5 s) 1; ten dialogs; one sad is silent
    table = fs.factors
    assert table.emotion.value_counts().to_dict() == {"hap": 40, "ang": 20, "neu": 20, "sad": 9}
    assert fs.card["dropped"] == {
        "emotion exc": 10,
        "emotion fru": 10,
        "emotion xxx": 10,
        "no emotion label": 10,
        "silent": 1,
    }
    assert fs.factor_names == ["emotion", "speaker", "session", "gender", "scripted"]
    assert fs.card["published_clips"]["found"] == {
        "neu": 20,
        "ang": 10,
        "hap": 10,
        "sad": 10,
        "exc": 10,
        "fru": 10,
        "xxx": 10,
        "sur": 0,
        "fea": 0,
        "dis": 0,
        "oth": 0,
    }
    assert fs.read([0]).shape == (1, 64_000)


def test_the_speaker_is_the_turn_not_the_prefix(fs):
    table = fs.factors
    assert fs.classes("speaker") == sorted(iemocap.SPEAKERS) and len(fs.classes("session")) == 5
    for name, speaker, session, gender, scripted in zip(
        table.id, table.speaker, table.session, table.gender, table.scripted, strict=True
    ):
        turn = name.split("-")[0].rsplit("_", 1)[1]
        assert speaker == session + turn[0] and gender == turn[0] and session == name[:5]
        assert scripted == ("script" if "script" in name else "impro")
    other = table[(table.id.str[5] == "F") & (table.gender == "M")]
    assert len(other) > 0  # men speak in the dialogs of the woman with markers


def test_segments_are_the_utterance_in_halves(fs, raw):
    table = fs.factors
    rows = table.index[table.id.str.startswith("Ses02F_impro01_F001-")]
    wave, _ = soundfile.read(raw / table.source[rows[0]], dtype="int16")
    assert list(table.duration[rows]) == [4.0, 4.0, 4.0, 3.0]
    for k, clip in enumerate(fs.read(rows.to_numpy())):
        expected = wave[32_000 * k : 32_000 * k + 64_000]
        sounding = clip[clip != 0]
        assert np.abs(sounding.astype(int) - expected[expected != 0]).max() <= 1
    short = table.index[table.id == "Ses02F_impro01_M003-00"][0]
    assert table.duration[short] == 0.5


def test_one_second_segments_and_merged_excitement(raw, tmp_path):
    fs = iemocap.prepare(raw, tmp_path / "out", seconds=1, excitement="merge", workers=0)
    # seconds: neu 4 -> 7, 0.5 -> 1; ang 5 -> 9; hap 9 -> 17 and exc 3 -> 5; sad 2 -> 3; one silent utterance
    assert fs.factors.emotion.value_counts().to_dict() == {"hap": 220, "ang": 90, "neu": 80, "sad": 27}
    assert "emotion exc" not in fs.card["dropped"] and fs.card["dropped"]["silent"] == 3
    assert fs.read([0]).shape == (1, 16_000)


def test_the_official_split_is_by_session(fs):
    split = splits.official(fs)
    session = fs.labels("session")
    assert set(session[split.train]) == {"Ses01", "Ses02", "Ses03"}
    assert set(session[split.validation]) == {"Ses04"} and set(session[split.test]) == {"Ses05"}
    assert len(split.train) + len(split.validation) + len(split.test) == len(fs)


def test_segments_of_an_utterance_stay_on_one_side(fs):
    for by, split in (
        ("source", splits.random(fs, seed=0)),
        ("speaker", splits.disjoint(fs, by="speaker", seed=0)),
        ("speaker", splits.official(fs)),
        ("source", splits.official(fs)),
    ):
        values = fs.factors[by].to_numpy()
        parts = [set(values[rows]) for rows in (split.train, split.validation, split.test)]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_teacher_never_sees_the_test_clips(fs):
    split = splits.official(fs)
    teacher = splits.for_teacher(fs, split)
    source = fs.factors.source.to_numpy()
    used = np.concatenate([teacher.train, teacher.validation, teacher.test])
    assert len(used) and not set(source[used]) & set(source[split.test])


def test_a_label_without_sound_is_counted(tmp_path):
    raw = corpora.iemocap(tmp_path / "raw")
    (raw / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    fs = iemocap.prepare(raw, tmp_path / "out", workers=0)
    assert fs.card["dropped"]["label without sound file"] == 1


def test_errors_name_what_is_missing(raw, tmp_path):
    with pytest.raises(AtlabError, match="IEMOCAP folder not found: expected .*nowhere"):
        iemocap.prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(AtlabError, match="unknown treatment of excitement 'merg'; nearest: 'merge'"):
        iemocap.prepare(raw, tmp_path / "out", excitement="merg")
    with pytest.raises(AtlabError, match="seconds is 0"):
        iemocap.prepare(raw, tmp_path / "out", seconds=0)
    part = corpora.iemocap(tmp_path / "part", sessions=(1, 2))
    with pytest.raises(AtlabError, match="IEMOCAP session not found: expected .*Session3"):
        iemocap.prepare(part, tmp_path / "out")
    labels = part / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    text = labels.read_text()
    labels.write_text("nothing here\n")
    with pytest.raises(AtlabError, match="no label line in .*Ses01F_impro01.txt"):
        iemocap.prepare(part, tmp_path / "out")
    labels.write_text(text.replace("Ses01F_impro01_F000", "Ses01F_talk_F000"))
    with pytest.raises(AtlabError, match="utterance name 'Ses01F_talk_F000'"):
        iemocap.prepare(part, tmp_path / "out")
    labels.unlink()
    with pytest.raises(AtlabError, match="label file not found: expected .*Ses01F_impro01.txt"):
        iemocap.prepare(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_published_counts_add_up():
    assert sum(iemocap.PUBLISHED.values()) == 10_039
    assert sum(iemocap.PUBLISHED[e] for e in ("neu", "ang", "hap", "sad", "exc")) == 5_531
