"""Bring your own: labels from a CSV or from paths, and every way in which a folder of files can be untidy."""

from __future__ import annotations

import tarfile
import unicodedata

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import folder
from tests.recipes import corpora_images
from tests.recipes.corpora import announcing, damage, snapshot, sound, write


def table(path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_csv_of_factors_in_full(tmp_path):
    raw = tmp_path / "raw"
    waves = {name: sound(0.5, seed) for seed, name in enumerate(("a/x.wav", "b/x.wav", "b/y.flac", "c.wav"))}
    for name, wave in waves.items():
        write(raw / name, wave)
    table(
        raw / "factors.csv",
        "file,word,speaker",
        "b/y.flac,stop,ann",
        "a/x.wav,go,ann",
        "b/x.wav,go,bob",
        "c.wav,stop,bob",
    )
    before = snapshot(raw)
    fs = folder.prepare(raw, tmp_path / "out", workers=0)
    assert fs.factors["id"].tolist() == ["a/x.wav", "b/x.wav", "b/y.flac", "c.wav"]  # two files named x.wav
    assert fs.factors["word"].tolist() == ["go", "go", "stop", "stop"]
    assert fs.factors["speaker"].tolist() == ["ann", "bob", "ann", "bob"]
    assert fs.factors["source"].tolist() == fs.factors["id"].tolist() and (fs.factors["duration"] == 0.5).all()
    assert fs.factor_names == ["word", "speaker"] and fs.inputs.shape == (4, 8000) and fs.sample_rate == 16_000
    for row, wave in enumerate(waves.values()):
        np.testing.assert_allclose(fs.read([row])[0] / 32767, wave, atol=1e-4)
    assert fs.card["dropped"] == {} and snapshot(raw) == before


def test_rows_without_file_files_without_row_and_empty_cells_are_counted(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a.wav", "b.wav", "c.wav", "d.wav", "e.wav"):
        write(raw / name, sound(0.1))
    (raw / ".hidden.wav").write_bytes(b"")
    (raw / "notes.txt").write_text("not a sound")
    table(tmp_path / "labels.csv", "file,word", "a.wav,go", "gone.wav,go", "b.wav,stop", "c.wav,")
    fs = folder.prepare(raw, tmp_path / "out", labels=tmp_path / "labels.csv", workers=0)
    assert fs.factors["id"].tolist() == ["a.wav", "b.wav"]
    assert fs.card["dropped"] == {"row without file": 1, "no word": 1, "file without row": 2}


def test_a_pattern_in_full(tmp_path):
    raw = tmp_path / "raw"
    for name in (
        "ann/go_1.wav",
        "ann/stop_left_2.wav",
        "bob/go_1.wav",
        "bob/deep/go_1.wav",
        "readme_1.wav",
        "bob/go.wav",
    ):
        write(raw / name, sound(0.25))
    fs = folder.prepare(raw, tmp_path / "out", pattern="{speaker}/{word}_*.wav", workers=0)
    assert fs.factors["id"].tolist() == ["ann/go_1.wav", "ann/stop_left_2.wav", "bob/go_1.wav"]
    assert fs.factors["speaker"].tolist() == ["ann", "ann", "bob"]
    assert fs.factors["word"].tolist() == ["go", "stop", "go"]
    assert fs.card["dropped"] == {"pattern does not match": 3} and fs.factor_names == ["speaker", "word"]


@pytest.mark.parametrize(
    ("pattern", "path", "labels"),
    [
        ("{word}/*", "go/a.wav", {"word": "go"}),
        ("{word}/*", "go/b/a.wav", None),
        ("{a}-{b}-*.wav", "x-y-z-1.wav", {"a": "x", "b": "y"}),
        ("{a}?.wav", "x1.wav", {"a": "x"}),
        ("{a}/{a}_*.wav", "ann/ann_1.wav", {"a": "ann"}),
        ("{a}/{a}_*.wav", "ann/bob_1.wav", None),
        ("{a}(1).wav", "x(1).wav", {"a": "x"}),
        ("{a}.wav", "x_wav", None),
        ("{größe}.wav", "klein.wav", {"größe": "klein"}),
    ],
)
def test_patterns_against_paths(pattern, path, labels):
    match = folder.compile_pattern(pattern).fullmatch(path)
    assert (match and match.groupdict()) == labels


def test_clips_of_one_source_stay_on_one_side(tmp_path):
    raw = tmp_path / "raw"
    lines = ["file,source,word"]
    for n in range(24):
        write(raw / f"{n:02d}.wav", sound(0.05, n))
        lines.append(f"{n:02d}.wav,take {n // 4},{'go' if n % 2 else 'stop'}")
    table(raw / "factors.csv", *lines)
    fs = folder.prepare(raw, tmp_path / "out", workers=0)
    assert fs.factors["source"].nunique() == 6 and fs.factor_names == ["word"]
    for seed in range(5):
        split = splits.random(fs, seed=seed)
        sides = [set(fs.factors["source"].iloc[part]) for part in (split.train, split.validation, split.test)]
        assert sum(map(len, sides)) == 6 and len(set().union(*sides)) == 6
    named = folder.prepare(raw, tmp_path / "named", pattern="{source}{word}.wav", workers=0)
    assert named.factors["source"].tolist() == [f"{n:02d}"[0] for n in range(24)]


def test_non_ascii_paths_in_either_unicode_form(tmp_path):
    raw = tmp_path / "raw"
    write(raw / unicodedata.normalize("NFD", "Müller") / "été 1.wav", sound(0.1))
    write(raw / "小林" / "ж_2.wav", sound(0.1))
    table(raw / "factors.csv", "file,speaker", "Müller/été 1.wav,Müller", "小林/ж_2.wav,小林")
    fs = folder.prepare(raw, tmp_path / "out", workers=0)
    assert sorted(fs.factors["speaker"]) == ["Müller", "小林"]
    by_path = folder.prepare(raw, tmp_path / "out2", pattern="{speaker}/*.wav", workers=0)
    assert sorted(by_path.factors["speaker"]) == ["Müller", "小林"]


def test_stereo_24_bit_and_other_rates(tmp_path):
    raw = tmp_path / "raw"
    wave = sound(0.5, 3, peak=0.4)
    write(raw / "mono.wav", wave)
    write(raw / "stereo.wav", np.stack([1.5 * wave, 0.5 * wave], axis=1))
    write(raw / "deep.wav", wave, subtype="PCM_24")
    time = np.arange(22_050) / 44_100
    write(raw / "rate.wav", 0.4 * np.sin(2 * np.pi * 440 * time), rate=44_100)
    fs = folder.prepare(raw, tmp_path / "out", pattern="{name}.wav", workers=0)
    clips = dict(zip(fs.factors["name"], fs.read(np.arange(4)) / 32767, strict=False))
    np.testing.assert_allclose(clips["stereo"], clips["mono"], atol=1e-4)
    np.testing.assert_allclose(clips["deep"], clips["mono"], atol=1e-4)
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    np.testing.assert_allclose(clips["rate"][400:-400], expected[400:-400], atol=1e-3)


def test_length_is_that_of_the_longest_file_or_as_asked(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "a.wav", sound(0.5))
    write(raw / "b.wav", sound(0.3))
    longest = folder.prepare(raw, tmp_path / "out", pattern="{name}.wav", workers=0)
    assert longest.inputs.shape == (2, 8000) and longest.factors["duration"].tolist() == [0.5, 0.3]
    assert not longest.read([1])[0, 4800:].any() and longest.read([1])[0, 4700:4800].any()
    short = folder.prepare(raw, tmp_path / "short", pattern="{name}.wav", seconds=0.2, sample_rate=8000, workers=0)
    assert short.inputs.shape == (2, 1600) and short.sample_rate == 8000 and short.card["parameters"]["seconds"] == 0.2
    for seconds in (0, -1, 4000):
        with pytest.raises(AtlabError, match="allowed: above 0, up to 3600"):
            folder.prepare(raw, tmp_path / "no", pattern="{name}.wav", seconds=seconds)
    with pytest.raises(AtlabError, match="sample_rate is 0; allowed: 1000 to 384000"):
        folder.prepare(raw, tmp_path / "no", pattern="{name}.wav", sample_rate=0)


@pytest.mark.parametrize("how", ["truncated", "zero-length", "text", "no samples"])
def test_an_unreadable_file_is_skipped_and_counted(tmp_path, how):
    raw = tmp_path / "raw"
    for n in range(100):
        write(raw / f"w{n % 2}_{n}.wav", sound(0.01, n))
    damage(raw / "w0_4.wav", how)
    fs = folder.prepare(raw, tmp_path / "out", pattern="{word}_*.wav", workers=0)
    assert len(fs) == 99 and fs.card["dropped"]["broken"] == 1 and "w0_4.wav" not in set(fs.factors["id"])


def test_more_than_one_broken_file_in_a_hundred_fails(tmp_path):
    raw = tmp_path / "raw"
    for n in range(20):
        write(raw / f"{n}.wav", sound(0.01, n))
    damage(raw / "3.wav", "truncated")
    with pytest.raises(AtlabError, match="1 of 20 items are broken, more than 1 %; the first: .*3.wav"):
        folder.prepare(raw, tmp_path / "out", pattern="{n}.wav", workers=0)
    assert not (tmp_path / "out").exists()


def test_workers_and_resumption_do_not_change_the_result(tmp_path):
    raw = tmp_path / "raw"
    for n in range(8):
        write(raw / f"w{n % 2}_{n}.wav", sound(0.01, n))
    one = folder.prepare(raw, tmp_path / "one", pattern="{word}_*.wav", workers=0)
    two = folder.prepare(raw, tmp_path / "two", pattern="{word}_*.wav", workers=2)
    assert one.content_hash == two.content_hash


def test_pictures_of_one_size_and_of_several(tmp_path):
    raw = tmp_path / "raw"
    written = [corpora_images.picture(raw / name / "1.png", 20, 12, seed=seed) for seed, name in enumerate("ab")]
    fs = folder.prepare(raw, tmp_path / "out", pattern="{kind}/*.png", workers=0)
    assert fs.kind == "image" and fs.sample_rate is None and fs.factors["kind"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(fs.read([0, 1]), np.stack(written).transpose(0, 3, 1, 2))
    corpora_images.picture(raw / "b" / "2.jpg", 30, 30)
    with pytest.raises(AtlabError, match="the pictures differ in size .*20 x 12.*30 x 30.*: give size, e.g. size=64"):
        folder.prepare(raw, tmp_path / "out2", pattern="{kind}/*.*", workers=0)
    sized = folder.prepare(raw, tmp_path / "out3", pattern="{kind}/*.*", size=8, workers=0)
    assert sized.inputs.shape == (3, 3, 8, 8)


def test_grey_pictures_have_one_channel(tmp_path):
    raw = tmp_path / "raw"
    grey = corpora_images.picture(raw / "a" / "1.png", 10, 10, mode="L")
    corpora_images.picture(raw / "b" / "1.png", 10, 10, mode="L", seed=1)
    fs = folder.prepare(raw, tmp_path / "out", pattern="{kind}/*", workers=0)
    np.testing.assert_array_equal(fs.read([0])[0], grey[None])
    corpora_images.picture(raw / "b" / "2.png", 10, 10)
    mixed = folder.prepare(raw, tmp_path / "mixed", pattern="{kind}/*", workers=0)
    assert mixed.inputs.shape == (3, 3, 10, 10)


def test_some_columns_as_factors_and_a_name(tmp_path):
    raw = tmp_path / "raw"
    for name in "ab":
        write(raw / f"{name}.wav", sound(0.05))
    table(raw / "factors.csv", "\ufefffile, word ,note", "a.wav,go,x", "./b.wav,stop,")
    fs = folder.prepare(raw, tmp_path / "out", factors="word", name="mine", workers=0)
    assert fs.factor_names == ["word"] and fs.card["name"] == "mine" and len(fs) == 2
    with pytest.raises(AtlabError, match="unknown factor 'wrd'; nearest: 'word'; allowed: word, note"):
        folder.prepare(raw, tmp_path / "no", factors=["wrd"])


def test_an_archive_is_unpacked_beside_the_result(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a/1.wav", "b/1.wav"):
        write(raw / name, sound(0.05))
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as file:
        file.add(raw, "mine")
    packed = folder.prepare(tmp_path / "mine.tar.gz", tmp_path / "out", pattern="{kind}/*.wav", workers=0)
    plain = folder.prepare(raw, tmp_path / "plain", pattern="{kind}/*.wav", workers=0)
    assert packed.content_hash == plain.content_hash and not list(tmp_path.glob("*unpacked*"))
    assert not list(tmp_path.glob(".*unpacked*"))


def test_what_cannot_be_read_as_labels(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a.wav", "b.wav"):
        write(raw / name, sound(0.05))
    labels = tmp_path / "labels.csv"
    for lines, message in (
        (["fil,word", "a.wav,go"], "unknown column of .*labels.csv 'file'; nearest: 'fil'; allowed: fil, word"),
        (["file,source", "a.wav,1"], "has no column of factors besides file, source"),
        (["file,word", "a.wav,go", "b.wav,go", "./a.wav,stop"], "lists 'a.wav' twice, in lines 2 and 4"),
        (["file,word", "../labels.wav,go"], "line 2: '../labels.wav' is not a path below"),
        (["file,word", "/etc/a.wav,go"], "line 2: '/etc/a.wav' is not a path below"),
        (["file,word", "x.wav,go"], "labels none of 2 files in .*'row without file': 1"),
        (["file,word", 'a.wav,"go'], "is no CSV in UTF-8"),
    ):
        table(labels, *lines)
        with pytest.raises(AtlabError, match=message):
            folder.prepare(raw, tmp_path / "out", labels=labels)
    for content in (b"", "file,wört\na.wav,ü".encode("latin-1")):
        labels.write_bytes(content)
        with pytest.raises(AtlabError, match="is no CSV in UTF-8"):
            folder.prepare(raw, tmp_path / "out", labels=labels)
    with pytest.raises(AtlabError, match="no table of labels at none.csv"):
        folder.prepare(raw, tmp_path / "out", labels="none.csv")
    with pytest.raises(AtlabError, match="no labels for .*: give labels .* or a pattern"):
        folder.prepare(raw, tmp_path / "out")
    with pytest.raises(AtlabError, match="labels and pattern are both given"):
        folder.prepare(raw, tmp_path / "out", labels=labels, pattern="{a}.wav")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_a_pattern_or_a_folder(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "a.wav", sound(0.05))
    for pattern, message in (
        ("{speaker}/{word}.wav", "matches none of 1 files, e.g. 'a.wav'"),
        ("*.wav", "names no factor"),
        ("{source}.wav", "names no factor"),
        ("{a b}.wav", "has the placeholder '{a b}'; allowed"),
        ("{}.wav", "has the placeholder '{}'"),
        ("{id}.wav", "has the placeholder '{id}'"),
    ):
        with pytest.raises(AtlabError, match=message):
            folder.prepare(raw, tmp_path / "out", pattern=pattern)
    corpora_images.picture(raw / "b.png")
    with pytest.raises(AtlabError, match="sounds and pictures at once, e.g. 'a.wav' and 'b.png'"):
        folder.prepare(raw, tmp_path / "out", pattern="{name}.*")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtlabError, match="no sound file or picture in .*empty; allowed: "):
        folder.prepare(tmp_path / "empty", tmp_path / "out", pattern="{a}.wav")
    with pytest.raises(AtlabError, match="raw data not found: .*none is no folder and no archive"):
        folder.prepare(tmp_path / "none", tmp_path / "out", pattern="{a}.wav")


def test_files_of_other_kinds_are_counted_and_named(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a.mp3", "b.MP3", "c.xyz", "notes.txt"):
        raw.mkdir(exist_ok=True)
        (raw / name).write_bytes(b"something")
    with pytest.raises(AtlabError, match=r"in .*raw, but 2 times a file of another kind \(.mp3\), but 1 times"):
        folder.prepare(raw, tmp_path / "out", pattern="{a}.wav")
    write(raw / "d.wav", sound(0.05))
    fs = folder.prepare(raw, tmp_path / "out", pattern="{a}.wav", workers=0)
    assert fs.card["dropped"] == {"file of another kind (.mp3)": 2, "file of another kind (.xyz)": 1}


def test_folders_of_classes_may_be_links(tmp_path):
    write(tmp_path / "elsewhere" / "ann" / "x.wav", sound(0.05))
    write(tmp_path / "raw" / "bob" / "x.wav", sound(0.05, 1))
    (tmp_path / "raw" / "ann").symlink_to(tmp_path / "elsewhere" / "ann")
    (tmp_path / "raw" / "bob" / "above").symlink_to(tmp_path / "raw")  # a circle ends where it began
    fs = folder.prepare(tmp_path / "raw", tmp_path / "out", pattern="{speaker}/x.wav", workers=0)
    assert fs.factors["speaker"].tolist() == ["ann", "bob"]


@pytest.mark.parametrize("rate", [0, 999, 10**9, "fast"])
def test_rates_are_bounded(tmp_path, rate):
    write(tmp_path / "raw" / "a.wav", sound(0.05))
    with pytest.raises(AtlabError, match=f"sample_rate is {rate!r}; allowed: 1000 to 384000"):
        folder.prepare(tmp_path / "raw", tmp_path / "out", pattern="{a}.wav", sample_rate=rate)


def test_a_header_that_lies_about_its_length_costs_one_file(tmp_path):
    raw = tmp_path / "raw"
    for number in range(100):
        write(raw / f"w_{number}.flac", sound(0.05, number))
    announcing(raw / "w_7.flac", 2**36 - 1)
    fs = folder.prepare(raw, tmp_path / "out", pattern="{word}_*.flac", workers=0)
    assert len(fs) == 99 and fs.inputs.shape[1] == 800 and fs.card["dropped"]["broken"] == 1


def test_a_file_whose_suffix_lies_is_read_by_its_content(tmp_path):
    write(tmp_path / "raw" / "a.flac", sound(0.05))
    (tmp_path / "raw" / "a.flac").rename(tmp_path / "raw" / "a.wav")
    fs = folder.prepare(tmp_path / "raw", tmp_path / "out", pattern="{name}.wav", workers=0)
    assert len(fs) == 1 and soundfile.info(tmp_path / "raw" / "a.wav").format == "FLAC"
