"""Free Spoken Digit Dataset (FSDD): 10 digits x 6 speakers x 50 takes, 8 kHz; word against speaker.

Raw layout: `recordings/<digit>_<speaker>_<take>.wav`; `raw` is the repository's folder or `recordings`
itself. Each recording is resampled to 16 kHz and zero-padded at its end to 1 s; of longer ones the first
second is kept, and how many they are is counted. Version 1.0.10 has 3,000 recordings; the card says what
differs.

Splits: column official (takes 0-4 are the corpus's test set, takes 5-9 validate here),
`atlab.data.splits.random`, `atlab.data.splits.disjoint(fs, by="speaker")`, `atlab.data.splits.confounded(fs,
"word", "speaker")`.

Access: with raw=None the archive of the tag v1.0.10 is downloaded. Its hash is not fixed, because the host
packs the archive on demand; what is checked is its content: exactly the 3,000 expected file names, and the
SHA-256 of the 2,000 recordings of george, jackson, nicolas and theo (MANIFEST). The digests of the other two
speakers are not known here.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import re
import shutil
import tarfile
import urllib.request
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from atlab.data.build import Clip, build
from atlab.errors import AtlabError
from atlab.system.files import new_folder
from atlab.system.hashing import sha256_file
from data_recipes.audio import fit_length, read_audio, to_int16
from data_recipes.corpus import compare, sounds

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "fsdd"
LICENCE = "CC BY-SA 4.0"
CITATION = "Jackson et al. 2018, Free Spoken Digit Dataset v1.0.10, doi:10.5281/zenodo.1342401"
ACCESS = "downloaded and checked if no folder is given; else one with recordings/<digit>_<speaker>_<take>.wav"
SIZE = "3,000 recordings, 22 minutes, 16 MB; prepared 96 MB"
FACTORS = {
    "word": "the digit spoken, zero to nine (10)",
    "speaker": "who speaks, by first name (6)",
    "take": "number of the recording, 0 to 49; takes 0-4 are the official test set",
}
CROSSED = ("word", "speaker", "take")

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
PUBLISHED = {"recordings": 3000, **dict.fromkeys(SPEAKERS, 500)}
SAMPLE_RATE = SAMPLES = 16_000
FILE_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
LARGEST_DOWNLOAD = 200 << 20
# SHA-256 of the lines "<sha256 of file>  <file name>\n" of a speaker's recordings, sorted by file name.
MANIFEST = {
    "george": "7543fea03052e8492c445f376230a4b080e882d238532002bc974a6e69577f3d",
    "jackson": "422e32a8d1b20006e18ea0bcdcce21860ec13781d91f1786b18ba266c9d6de01",
    "nicolas": "fc6e8ed1b1b7280008c3cb0ac9568e16309aa37d9f4956493e5a00e34bdba3c8",
    "theo": "035698b2fc6b549ea4647cf6740dba8b57a7c6604383cffe2288b54cac6eca1c",
}


def prepare(raw: str | Path | None, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """Write the FactorSet `out`: int16 [recordings, 16000] at 16 kHz; the raw folder is only read.

    Raises:
        AtlabError: no recording in `raw`; more than 1 % of them broken; a download that fails or that is not
            version 1.0.10.
    """
    from atlab.data.factorset import FactorSet

    if raw is not None:
        return _from_folder(Path(raw), out, workers)
    out = Path(out)
    if (out / "card.json").is_file():
        return FactorSet.open(out)
    downloaded = out.with_name(f".{out.name}.download")
    if not downloaded.exists():
        download(downloaded)
    fs = _from_folder(downloaded, out, workers)
    shutil.rmtree(downloaded)
    return fs


def download(folder: Path, url: str | None = None) -> None:
    """Download the corpus into the new folder `folder` and check it; if anything is wrong, nothing stays."""
    with new_folder(folder) as new:
        archive = new / "archive.tar.gz"
        try:
            _fetch(url or URL, archive)
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            raise AtlabError(
                f"the download of {url or URL} failed ({error}); get the corpus by hand and give its folder as raw"
            ) from None
        unpack(archive, new / "recordings")
        archive.unlink()
        _check_download(new / "recordings")


def unpack(archive: Path, folder: Path) -> None:
    """Take the recordings out of an archive; AtlabError if it is corrupt or a member would leave `folder`."""
    folder.mkdir()
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise AtlabError(
                        f"{archive.name} holds {member.name!r}, which would be written outside its folder; "
                        "nothing was kept"
                    )
                if member.isfile() and path.parent.name == "recordings" and FILE_NAME.fullmatch(path.name):
                    with tar.extractfile(member) as source, open(folder / path.name, "wb") as target:
                        shutil.copyfileobj(source, target)
            while stream.read(1 << 20):  # to its very end, where the checksum of all of it is compared
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise AtlabError(f"{archive.name} is not a whole tar.gz archive: {error}") from None


def _from_folder(raw: Path, out: str | Path, workers: int | None) -> FactorSet:
    if not raw.is_dir():
        raise AtlabError(f"FSDD folder not found: expected {raw}")
    folder = raw / "recordings" if (raw / "recordings").is_dir() else raw
    names = [path.name for path in sounds(folder, ".wav")]
    recordings = [match for match in map(FILE_NAME.fullmatch, names) if match]
    if not recordings:
        raise AtlabError(f"no recording <digit>_<speaker>_<take>.wav in {folder} ({len(names)} other wav files)")
    found = {"recordings": len(recordings)}
    for match in recordings:
        found[match[2]] = found.get(match[2], 0) + 1
    other = {"other_wav_files": len(names) - len(recordings)}
    card = {
        **{"name": NAME, "kind": "audio", "licence": LICENCE, "citation": CITATION},
        **{"recipe": NAME, "recipe_version": 2, "parameters": {"seconds": SAMPLES / SAMPLE_RATE}, "seed": 0},
        **{"sample_rate": SAMPLE_RATE, "published_clips": compare(NAME, found, PUBLISHED) | other},
    }
    items = [match[0] for match in recordings]
    return build(
        out, items, partial(_convert, folder=folder), card=card, factors=list(FACTORS), workers=workers, title="FSDD"
    )


def _convert(name: str, folder: Path) -> tuple[list[Clip], dict[str, int]]:
    digit, speaker, take = FILE_NAME.fullmatch(name).groups()
    wave = read_audio(folder / name, SAMPLE_RATE)
    row = {
        **{"id": name.removesuffix(".wav"), "source": f"recordings/{name}", "duration": len(wave) / SAMPLE_RATE},
        **{"word": WORDS[int(digit)], "speaker": speaker, "take": int(take)},
        "official": "test" if int(take) < 5 else "validation" if int(take) < 10 else "train",
    }
    return [Clip(to_int16(fit_length(wave, SAMPLES)), row)], {"end beyond 1 s (clip kept)": 1} if len(
        wave
    ) > SAMPLES else {}


def _fetch(url: str, target: Path) -> None:
    """Stream a file to disk under a progress bar; OSError if it ends early or is much too large."""
    with urllib.request.urlopen(url, timeout=60) as response, open(target, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, desc="downloading FSDD", unit="B", unit_scale=True) as bar:
            while block := response.read(1 << 16):
                file.write(block)
                bar.update(len(block))
                if bar.n > LARGEST_DOWNLOAD:
                    raise OSError(f"more than {LARGEST_DOWNLOAD >> 20} MB arrived")
        if total and bar.n != total:
            raise OSError(f"{bar.n} of {total} bytes arrived")


def _check_download(folder: Path) -> None:
    expected = {f"{digit}_{speaker}_{take}.wav" for digit in range(10) for speaker in SPEAKERS for take in range(TAKES)}
    found = {path.name for path in folder.iterdir()}
    if found != expected:
        wrong = sorted(expected ^ found)
        raise AtlabError(
            f"the download is not FSDD v1.0.10: {len(found)} of {len(expected)} recordings, differing in {wrong[:3]}"
        )
    for speaker, digest in MANIFEST.items():
        if digest_of(folder, speaker) != digest:
            raise AtlabError(
                f"the download is not FSDD v1.0.10: the recordings of {speaker} have another SHA-256 than "
                "the published ones"
            )


def digest_of(folder: Path, speaker: str) -> str:
    """SHA-256 over the names and hashes of a speaker's recordings, as in MANIFEST."""
    paths = sorted(folder.glob(f"?_{speaker}_*.wav"), key=lambda path: path.name)
    return hashlib.sha256("".join(f"{sha256_file(path)}  {path.name}\n" for path in paths).encode()).hexdigest()
