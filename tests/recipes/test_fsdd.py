"""FSDD: its layout, its odd files, its download; on real recordings where there are some."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from data_recipes import fsdd

from . import corpora


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """360 recordings: one truncated, one stereo, one of 24 bit, one over 1 s; other files too."""
    root = corpora.fsdd(tmp_path_factory.mktemp("raw") / "spoken digits – été" / "recordings")
    recordings = root / "recordings"
    broken = recordings / "7_jackson_3.wav"
    broken.write_bytes(broken.read_bytes()[:1000])
    wave = corpora.sound(0.5, seed=1, rate=8000)
    corpora.write(recordings / "0_george_0.wav", np.stack([wave, 0.5 * wave], axis=1), 8000)
    corpora.write(recordings / "0_george_1.wav", wave, 8000, subtype="PCM_24")
    corpora.write(recordings / "9_théo_11.wav", corpora.sound(1.5, seed=2, rate=8000), 8000)
    (recordings / "._0_george_0.wav").write_bytes(b"\0" * 120)
    corpora.write(recordings / "noise.wav", wave, 8000)
    (root / "README.md").write_text("spoken digits")
    return root


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = fsdd.prepare(raw, tmp_path_factory.mktemp("out") / "fsdd", workers=1)
    assert corpora.snapshot(raw) == before
    return result


def row_of(fs, name: str) -> int:
    return int(fs.factors.index[fs.factors["id"] == name][0])


def test_every_recording_is_accounted_for(fs):
    assert len(fs) == 359 and "7_jackson_3" not in set(fs.factors["id"])
    assert fs.card["dropped"] == {"broken": 1, "end beyond 1 s (clip kept)": 1}
    published = fs.card["published_clips"]
    assert published["found"] == {
        "recordings": 360,
        "george": 120,
        "jackson": 120,
        "lucas": 0,
        "nicolas": 0,
        "theo": 0,
        "yweweler": 0,
    }
    assert published["published"]["recordings"] == 3000 and published["other_wav_files"] == 1
    assert fs.factor_names == ["word", "speaker", "take"] and fs.sample_rate == 16_000
    assert fs.read([0]).shape == (1, 16_000) and fs.read([0]).dtype == np.int16
    assert fs.factors["source"].is_unique and not fs.factors.isna().any().any()
    assert (fs.card["licence"], fs.card["recipe"]) == ("CC BY-SA 4.0", "fsdd")


def test_names_become_factors(fs):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for row in fs.factors.itertuples():
        digit, speaker, take = row.id.split("_")
        assert (row.word, row.speaker, row.take) == (words[int(digit)], speaker, int(take))
        assert row.source == f"recordings/{row.id}.wav"
    assert fs.factors.groupby(["word", "speaker"]).size().min() == corpora.FSDD_TAKES - 1


def test_clips_are_the_recordings_resampled_and_padded(fs, raw):
    for name in ("3_george_5", "9_jackson_10"):
        wave, rate = soundfile.read(raw / "recordings" / f"{name}.wav")
        row, n = row_of(fs, name), len(wave)
        clip = fs.read([row])[0] / 32768
        assert rate == 8000 and fs.factors["duration"][row] == pytest.approx(n / 8000)
        assert not clip[2 * n :].any()
        # At every other sample an interpolation to twice the rate passes through the samples themselves.
        np.testing.assert_allclose(clip[: 2 * n : 2][100:-100], wave[100:-100], atol=2e-3)


def test_stereo_24_bit_and_long_recordings(fs):
    wave = corpora.sound(0.5, seed=1, rate=8000)
    stereo, deep = (fs.read([row_of(fs, f"0_george_{take}")])[0, :8000:2] / 32768 for take in (0, 1))
    np.testing.assert_allclose(deep[100:-100], wave[100:-100], atol=2e-3)
    np.testing.assert_allclose(stereo[100:-100], 0.75 * wave[100:-100], atol=2e-3)
    long = row_of(fs, "9_théo_11")
    assert fs.factors["duration"][long] == pytest.approx(1.5) and fs.read([long])[0, -800:].any()


def test_the_folder_of_recordings_does_as_well(fs, raw, tmp_path):
    again = fsdd.prepare(raw / "recordings", tmp_path / "again", workers=2)
    assert again.content_hash == fs.content_hash
    assert [sha256_file(again.path / name) for name in ("inputs.npy", "factors.parquet", "card.json")] == [
        sha256_file(fs.path / name) for name in ("inputs.npy", "factors.parquet", "card.json")
    ]


def test_splits_do_not_leak(fs):
    takes = fs.factors.groupby("official")["take"].agg(set)
    assert takes.to_dict() == {"test": set(range(5)), "validation": set(range(5, 10)), "train": {10, 11}}
    for split, by in (
        (splits.random(fs), "source"),
        (splits.disjoint(fs, "speaker"), "speaker"),
        (splits.confounded(fs, "word", "speaker", p=0.8), "source"),
    ):
        values = fs.factors[by].to_numpy()
        train, validation, test = (set(values[rows]) for rows in (split.train, split.validation, split.test))
        assert train and validation and test and not (train & validation or train & test or validation & test)
        split.check(fs, "word")
        teacher = splits.for_teacher(fs, split)
        trained = np.concatenate([teacher.train, teacher.validation, teacher.test])
        source = fs.factors["source"].to_numpy()
        assert not set(source[trained]) & set(source[split.test])


def test_differences_from_the_published_corpus_are_said(raw, tmp_path, capsys):
    fsdd.prepare(raw, tmp_path / "set", workers=1)
    assert "fsdd: differs from the published corpus: recordings 360 instead of 3,000" in capsys.readouterr().out


def test_folders_without_recordings_are_named(tmp_path):
    with pytest.raises(AtlabError, match="FSDD folder not found: expected .*nowhere"):
        fsdd.prepare(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    corpora.write(tmp_path / "empty" / "hello.wav", corpora.sound(0.1))
    with pytest.raises(AtlabError, match=r"no recording <digit>_<speaker>_<take>.wav in .*empty \(1 other wav files\)"):
        fsdd.prepare(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_than_one_percent_broken_is_refused(tmp_path):
    root = corpora.fsdd(tmp_path / "raw" / "recordings", digits=range(2), takes=10)
    corpora.damage(root / "recordings" / "1_george_1.wav", "zero-length")
    with pytest.raises(AtlabError, match="1 of 60 items are broken, more than 1 %.*1_george_1.wav"):
        fsdd.prepare(root, tmp_path / "out", workers=1)


# --- the download: from local archives, in a world where the corpus has 2 speakers and 3 takes


@pytest.fixture
def small(monkeypatch, tmp_path) -> Path:
    """The folder free-spoken-digit-dataset-1.0.10 of a small published corpus."""
    root = corpora.fsdd(
        tmp_path / "free-spoken-digit-dataset-1.0.10" / "recordings", speakers=("george", "lucas"), takes=3
    )
    monkeypatch.setattr(fsdd, "SPEAKERS", ("george", "lucas"))
    monkeypatch.setattr(fsdd, "TAKES", 3)
    monkeypatch.setattr(fsdd, "MANIFEST", {"george": fsdd.digest_of(root / "recordings", "george")})
    return root


def archive_of(root: Path, *further: tuple[str, bytes]) -> Path:
    path = root.parent / "v1.0.10.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root, root.name)
        for name, content in further:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def prepare_from(archive: Path, out: Path, monkeypatch) -> object:
    monkeypatch.setattr(fsdd, "URL", archive.as_uri())
    return fsdd.prepare(None, out, workers=1)


def left_beside(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir() if path.name.startswith((".", out.name))} - {f".{out.name}.lock"}


def test_manifest_is_the_hash_of_names_and_hashes(small):
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in sorted((small / "recordings").glob("*_george_*"))
    ]
    assert len(lines) == 30
    assert {"george": hashlib.sha256("".join(lines).encode()).hexdigest()} == fsdd.MANIFEST


def test_download_is_checked_prepared_and_cleared(small, tmp_path, monkeypatch):
    out = tmp_path / "set"
    fs = prepare_from(archive_of(small), out, monkeypatch)
    assert len(fs) == 60 and left_beside(out) == {"set"}
    assert fs.content_hash == fsdd.prepare(small, tmp_path / "local", workers=1).content_hash
    monkeypatch.setattr(fsdd, "URL", "file:///gone")  # a prepared set is opened without another download
    assert fsdd.prepare(None, out, workers=1).content_hash == fs.content_hash


def test_a_download_outlives_a_failed_preparation(small, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fsdd, "URL", archive_of(small).as_uri())
    with monkeypatch.context() as inner, pytest.raises(KeyboardInterrupt):
        inner.setattr(fsdd, "_convert", fail)
        fsdd.prepare(None, tmp_path / "set", workers=1)
    monkeypatch.setattr(fsdd, "URL", "file:///gone")
    assert len(fsdd.prepare(None, tmp_path / "set", workers=1)) == 60
    assert left_beside(tmp_path / "set") == {"set"}


def change_one(root: Path) -> Path:
    path = root / "recordings" / "4_george_1.wav"
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x01")
    return archive_of(root)


def drop_one(root: Path) -> Path:
    (root / "recordings" / "5_lucas_2.wav").unlink()
    return archive_of(root)


def cut_short(root: Path) -> Path:
    path = archive_of(root)
    path.write_bytes(path.read_bytes()[:-20_000])
    return path


def no_archive(root: Path) -> Path:
    path = archive_of(root)
    path.write_text("<html>404</html>")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (change_one, "is not FSDD v1.0.10: the recordings of george have another SHA-256"),
        (drop_one, r"is not FSDD v1.0.10: 59 of 60 recordings, differing in \['5_lucas_2.wav'\]"),
        (
            lambda root: archive_of(root, ("x/recordings/1_zoe_0.wav", b"RIFF")),
            r"61 of 60 recordings, differing in \['1_zoe_0.wav'\]",
        ),
        (cut_short, "archive.tar.gz is not a whole tar.gz archive"),
        (no_archive, "archive.tar.gz is not a whole tar.gz archive"),
        (
            lambda root: archive_of(root, ("../../escaped.wav", b"RIFF")),
            r"holds '../../escaped.wav', which would be written outside its folder",
        ),
        (
            lambda root: archive_of(root, ("x/../recordings/1_zoe_0.wav", b"RIFF")),
            "which would be written outside its folder",
        ),
        (
            lambda root: archive_of(root, ("/tmp/recordings/1_zoe_0.wav", b"RIFF")),
            "which would be written outside its folder",
        ),
        (
            lambda root: root.parent / "nowhere.tar.gz",
            "the download of file:.*nowhere.tar.gz failed .*give its folder as raw",
        ),
    ],
)
def test_downloads_that_are_not_the_corpus_leave_nothing(small, tmp_path, monkeypatch, make, message):
    with pytest.raises(AtlabError, match=message):
        prepare_from(make(small), tmp_path / "set", monkeypatch)
    assert left_beside(tmp_path / "set") == set()
    assert not list(tmp_path.rglob("escaped.wav")) and not list(tmp_path.parent.rglob("escaped.wav"))


def test_links_in_an_archive_are_not_followed(small, tmp_path, monkeypatch):
    path = archive_of(small)
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("x/recordings/0_george_0.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        tar.add(small, small.name, filter=lambda member: None if member.name.endswith("/0_george_0.wav") else member)
    with pytest.raises(AtlabError, match=r"59 of 60 recordings, differing in \['0_george_0.wav'\]"):
        prepare_from(path, tmp_path / "set", monkeypatch)


def test_an_archive_spoiled_in_any_place_is_named(small, tmp_path):
    """Thirty bytes changed at a time, or one: the checksum sees what the layout does not show."""
    whole, rng = archive_of(small).read_bytes(), np.random.default_rng(0)
    spoiled = tmp_path / "spoiled.tar.gz"
    for number in range(60):
        content, count = np.frombuffer(whole, np.uint8).copy(), 30 if number % 2 else 1
        place = rng.integers(100, len(whole) - 40)  # behind the header with the time and the name
        content[place : place + count] ^= rng.integers(1, 256, count, dtype=np.uint8)
        spoiled.write_bytes(content.tobytes())
        with pytest.raises(AtlabError, match="spoiled.tar.gz is not a whole tar.gz archive|outside its folder"):
            fsdd.unpack(spoiled, tmp_path / f"unpacked{number}")


class Short(http.server.BaseHTTPRequestHandler):
    """Announces more than it sends, as a whole or for its only chunk."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, content: bytes, chunked: bool, **kwargs: object) -> None:
        self.content, self.chunked = content, chunked
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        announced = len(self.content) + 1000
        self.send_response(200)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(f"{announced:x}\r\n".encode() * self.chunked + self.content)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_that_ends_early_is_noticed(small, tmp_path, chunked):
    content = archive_of(small).read_bytes()
    message = "IncompleteRead" if chunked else f"{len(content)} of {len(content) + 1000} bytes arrived"
    handler = partial(Short, content=content, chunked=chunked)
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(AtlabError, match=rf"failed \({message}"):
            fsdd.download(tmp_path / "new", f"http://127.0.0.1:{server.server_port}/v1.0.10.tar.gz")
        server.shutdown()
    assert not (tmp_path / "new").exists()


def test_a_download_larger_than_the_corpus_can_be_is_stopped(small, tmp_path, monkeypatch):
    monkeypatch.setattr(fsdd, "LARGEST_DOWNLOAD", 1000)
    with pytest.raises(AtlabError, match="failed .more than 0 MB arrived"):
        fsdd.download(tmp_path / "new", archive_of(small).as_uri())


@pytest.mark.real_data
def test_real_recordings(real_data, tmp_path):
    recordings = real_data / "fsdd" / "recordings"
    fs = fsdd.prepare(recordings, tmp_path / "set")
    speakers = fs.classes("speaker")
    assert len(fs) == 500 * len(speakers) and fs.factors.groupby(["word", "speaker"]).size().unique().tolist() == [50]
    for speaker in fsdd.MANIFEST.keys() & set(speakers):
        assert fsdd.digest_of(recordings, speaker) == fsdd.MANIFEST[speaker]
    assert fs.factors["duration"].between(0.1, 3).all()
    assert np.abs(fs.read(range(len(fs)))).max(axis=1).min() > 300  # no silent clip
    counts = np.bincount(fs.labels("take")[fs.factors["official"] == "test"])
    assert counts.tolist() == [len(speakers) * 10] * 5
    splits.disjoint(fs, "speaker", test=speakers[:1]).check(fs, "word")
