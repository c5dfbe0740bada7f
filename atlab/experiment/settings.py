"""What decides the numbers of a training run, and which other runs it needs first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from atlab.errors import AtlabError, unknown

SPLITS = ("random", "disjoint", "confounded")
NOISE = {"none": None, "low": (20.0, 40.0), "high": (0.0, 10.0), "all": (0.0, 40.0)}
STARTS = ("random", "orthogonal")
NETWORKS = "networks"


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run; the defaults are the paper's where it states one (section 4.2).

    Attributes:
        data: a data set's folder, or the name of an embedded one ("synthetic_speech").
        target, orthogonal: the factor that is learned and those that should not matter, separated by commas.
            "noise" stands for the kind of noise added to the same clips, where the data has no such factor.
        split: "random" by source file, "disjoint" in the factor `split_by`, or "confounded" with it.
        split_by: the first orthogonal factor if empty.
        noise: added to the target's clips: "none", "low" (20 to 40 dB SNR), "high" (0 to 10 dB) or "all".
        pairing: share of training clips whose value of `split_by` is the one paired with their class (confounded).
        held_out: values of `split_by` kept for the test, separated by commas (disjoint).
        clips: at most so many training clips, validation in proportion, at most as many for the test; 0 for all.
        strategy: a name in `strategies.STRATEGIES`.
        layers: anti-transfer layers, separated by commas; aggregation, similarity, beta, published: the loss.
        warm_up: epochs over which beta grows from 0.
        start: "random", or "orthogonal" for convolutions of the (first) orthogonal network (at, inverse_at).
        residual: compare with the teacher's features minus their mean over the clip's target class.
        width: of VGG16; 1.0 is the paper's.
        teacher_seed: seed of the orthogonal network, shared by all student seeds.
        teacher_clips: clips for training and testing it, drawn from those outside the target's test; 0 for all.
        cached: read the teacher's targets from a cache instead of running it.
        role: "student", or "teacher" for a network of the orthogonal factor, trained on no test clip.
    """

    data: str = "synthetic_speech"
    target: str = "word"
    orthogonal: str = "speaker"
    split: str = "confounded"
    split_by: str = ""
    noise: str = "none"
    pairing: float = 0.9
    held_out: str = ""
    split_seed: int = 0
    clips: int = 0
    strategy: str = "at"
    layers: str = "conv5"
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    published: bool = False
    warm_up: int = 0
    start: str = "random"
    residual: bool = False
    width: float = 1.0
    epochs: int = 50
    patience: int = 5
    batch_size: int = 13
    learning_rate: float = 5e-4
    seed: int = 0
    teacher_seed: int = 0
    teacher_clips: int = 0
    cached: bool = True
    precision: str = "auto"
    role: str = "student"

    def layer_names(self) -> list[str]:
        """The anti-transfer layers one by one."""
        return _listed(self.layers)

    def factors(self) -> list[str]:
        """The orthogonal factors one by one."""
        return _listed(self.orthogonal)

    def split_factor(self) -> str:
        """The factor that a disjoint or confounded split goes by."""
        if self.split_by or self.split == "random":
            return self.split_by
        if not self.factors():
            raise AtlabError(f"a {self.split} split goes by a factor: name it with split_by, or an orthogonal one")
        return self.factors()[0]

    def teacher(self, factor: str = "") -> Settings:
        """The settings of the network of an orthogonal factor (the first): equal for all students that can share it.

        What does not bear on the split is left at its default, so that tasks and studies share networks too; batch size
        and learning rate are the paper's, whatever the students' are.
        """
        factor = factor or self.factors()[0]
        shared = ("data", "split", "split_seed", "width", "epochs", "patience", "teacher_clips", "precision")
        by_split = {"random": (), "disjoint": ("held_out",), "confounded": ("target", "pairing")}[self.split]
        return replace(
            Settings(target=""),
            **{name: getattr(self, name) for name in (*shared, *by_split)},
            orthogonal=factor,
            split_by=self.split_factor(),
            noise="all" if factor == "noise" else "none",
            role="teacher",
            strategy="baseline",
            seed=self.teacher_seed,
        )

    def required(self) -> list[Settings]:
        """The runs whose networks the strategy takes, in its order; they may require others."""
        if self.role == "teacher" or self.strategy in ("baseline", "gradient_reversal"):
            return []
        if self.strategy == "dual_at":
            first, second = _two(self.factors())
            pinned = replace(self, split_by=self.split_factor())
            return [replace(pinned, strategy="at", orthogonal=first), self.teacher(second)]
        return [self.teacher(factor) for factor in self.factors()]

    def check(self) -> None:
        """AtlabError for a value that is not allowed, or one that the other settings would ignore."""
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        if self.noise not in NOISE:
            raise unknown("noise", self.noise, NOISE)
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        if self.held_out and self.split != "disjoint":
            raise AtlabError(
                f"held_out is {self.held_out!r}, but only a disjoint split holds values out; split is {self.split!r}"
            )
        if self.split != "confounded" and self.pairing != Settings.pairing:
            raise AtlabError(
                f"pairing is {self.pairing}, but only a confounded split pairs factors; split is {self.split!r}"
            )
        if self.clips < 0 or self.warm_up < 0:
            raise AtlabError(f"clips and warm_up are at least 0, found {self.clips} and {self.warm_up}")
        if self.strategy == "dual_at":
            _two(self.factors())


def from_parameters(parameters: Mapping) -> Settings:
    """The settings among a notebook's parameters; others (device, run_dir) are left aside.

    >>> from_parameters({"strategy": "wi", "seed": 3, "device": "cpu"}).strategy
    'wi'
    """
    known = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in parameters.items() if name in known})


def _two(factors: list[str]) -> list[str]:
    if len(factors) != 2:
        raise AtlabError(f"strategy 'dual_at' takes two orthogonal factors in order (speaker,emotion), found {factors}")
    return factors


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
