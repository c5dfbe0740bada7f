"""The clips that a strategy's loss acts on, and what it compares them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlab.errors import AtlabError, unknown
from atlab.labels import WITHOUT_NETWORK

if TYPE_CHECKING:
    import numpy as np

CLIPS_FROM = ("target", "orthogonal")
AGAINST = ("features", "predictions", "class_means", "labels")
STREAM_STATISTICS = ("shared", "apart")
COMPARING = ("at", "inverse_at", "dual_at")
STREAMED = ("at", "inverse_at", "gradient_reversal", "second_stream")  # strategies that may act on the orthogonal clips
LABELS = ("class_means", "labels")  # what needs the orthogonal class of every clip
GROUPED = ("reweighting", "group_dro", "last_layer_retraining")  # strategies that weigh groups of the target's clips
LABELLED = ("gradient_reversal", *GROUPED)
FROM_BASELINE = ("just_train_twice", "last_layer_retraining")  # strategies that begin with a trained baseline

# What the anti-transfer losses read, and of that what a strategy reads that has another loss or none.
LOSS = ("layers", "aggregation", "similarity", "beta", "published", "warm_up", "start", "residual", "against")
_READ = {
    "baseline": (),
    "wi": (),
    "frozen_wi": ("layers",),
    "dual_at": tuple(name for name in LOSS if name != "start"),
    "gradient_reversal": ("layers", "beta", "warm_up"),
    "second_stream": (),
    "reweighting": (),
    "group_dro": (),
    "just_train_twice": ("beta",),
    "product_of_experts": ("layers",),
    "last_layer_retraining": (),
}


# What tells arms of a study apart; all else agrees between a run and the baseline that it is compared with.
_NETWORKS = ("teacher_seed", "teacher_clips", "teacher_batch_size", "teacher_learning_rate")
ARM = ("strategy", "orthogonal", *LOSS, "clips_from", "stream_statistics", *_NETWORKS, "cached")


def read_by(strategy: str) -> tuple[str, ...]:
    """The settings in `LOSS` that a strategy reads; all of them for one that is not atlab's."""
    return _READ.get(strategy, LOSS)


def arm_of(strategy: str) -> tuple[str, ...]:
    """The settings in `ARM` that a strategy reads; all of them for one that is not atlab's.

    >>> arm_of("baseline"), arm_of("just_train_twice")
    (('strategy',), ('strategy', 'orthogonal', 'beta'))
    """
    if strategy not in _READ and strategy not in COMPARING:
        return ARM
    streamed, networks = strategy in STREAMED, strategy not in (*WITHOUT_NETWORK, *FROM_BASELINE)
    unread = {"orthogonal"} if strategy == "baseline" else set()
    unread |= set(LOSS) - set(read_by(strategy))
    unread |= set() if streamed else {"clips_from"}
    unread |= set() if streamed and strategy != "second_stream" else {"stream_statistics"}
    unread |= set() if streamed or networks else set(_NETWORKS)
    unread |= set() if strategy in COMPARING else {"cached"}
    return tuple(name for name in ARM if name not in unread)


@dataclass(frozen=True)
class Clips:
    """Batches of the clips that the loss acts on, in parts, and the orthogonal class of every clip of their data set.

    `codes` [N] int64 is -1 for a class that the first part lacks, and None where the data set does not say.
    """

    parts: list[Any]
    codes: np.ndarray | None


def check_clips(s: Any) -> None:
    """AtlabError for `experiment.Settings` whose clips, or what they are compared with, do not fit their strategy."""
    for name, allowed in (("clips_from", CLIPS_FROM), ("against", AGAINST), ("stream_statistics", STREAM_STATISTICS)):
        if getattr(s, name) not in allowed:
            raise unknown(name, getattr(s, name), allowed)
    if s.clips_from == "orthogonal":
        _check_stream(s)
    elif s.strategy == "second_stream":
        raise AtlabError("strategy 'second_stream' uses only the orthogonal clips: expected clips_from='orthogonal'")
    elif s.stream_statistics != "shared":
        raise AtlabError("stream_statistics is 'apart', but clips_from is 'target': there is no second stream")
    if s.against != "features":
        _check_against(s)
    labelled = s.clips_from == "target" and s.strategy in LABELLED
    if labelled and s.own_factors()[:1] != list(s.orthogonal[:1]):
        raise AtlabError(
            f"strategy {s.strategy!r} needs orthogonal labels of the student's own clips: expected a factor of its data set, "
            f"got {', '.join(s.orthogonal)!r}"
        )


def _check_stream(s: Any) -> None:
    if s.strategy not in STREAMED:
        raise AtlabError(
            f"clips_from='orthogonal' gives the loss other clips: expected a strategy of {', '.join(STREAMED)}, got {s.strategy!r}"
        )
    tasks = s.tasks()
    if len(tasks) != 1 or tasks[0].file:
        raise AtlabError(
            "clips_from='orthogonal' takes the training clips of one orthogonal network: expected FACTOR or FACTOR@DATA, got "
            f"{', '.join(s.orthogonal)!r}"
        )
    if s.residual:
        raise AtlabError(
            "residual=True needs the target's classes, which the orthogonal clips do not have: use clips_from='target'"
        )
    if s.stream_statistics == "apart" and not s.batch_norm:
        raise AtlabError("stream_statistics is 'apart', but the network has no batch norm: it would have no effect")
    if s.strategy == "second_stream" and (s.stream_statistics == "apart" or not s.batch_norm):
        raise AtlabError(
            "strategy 'second_stream' acts through the statistics of batch norm alone: expected batch_norm=True and "
            "stream_statistics='shared'"
        )


def _check_against(s: Any) -> None:
    if s.strategy not in COMPARING:
        raise AtlabError(
            f"against is {s.against!r}, but strategy {s.strategy!r} compares with no network: expected one of {', '.join(COMPARING)}"
        )
    if s.residual or s.published:
        name = "residual" if s.residual else "published"
        raise AtlabError(
            f"{name}=True is a form of the comparison with features: expected against='features', got {s.against!r}"
        )
    if s.against in ("predictions", "labels") and s.aggregation != "clip_kernel":
        raise AtlabError(
            f"the teacher's {s.against} have neither channels nor positions: expected aggregation='clip_kernel', got {s.aggregation!r}"
        )
    if s.against in LABELS and s.clips_from == "target" and (len(s.orthogonal) != 1 or len(s.own_factors()) != 1):
        raise AtlabError(
            f"against={s.against!r} needs the orthogonal labels of the target's clips: expected one factor of their data set, got "
            f"{', '.join(s.orthogonal)!r}"
        )


def needs_labels(s: Any) -> bool:
    """Whether the loss takes the orthogonal class of every clip it acts on."""
    return s.strategy in LABELLED or s.against in LABELS


def uses(s: Any) -> str:
    """What a student is given besides the clips and classes of its target, in words; rivals are fair where this is alike."""
    if s.role == "teacher":
        return ""
    whose = "the target's" if s.clips_from == "target" else "the orthogonal"
    parts = ["an orthogonal network"] * any(getattr(need, "role", "teacher") == "teacher" for need in s.sources())
    parts += ["orthogonal clips"] * (s.clips_from == "orthogonal")
    parts += [f"orthogonal labels of {whose} clips"] * needs_labels(s)
    return ", ".join(parts)


def orthogonal_clips(s: Any) -> tuple[Any, np.ndarray]:
    """The training clips of the orthogonal network: -> its data set and their row numbers; AtlabError for less than a batch."""
    need = s.teacher()
    fs = need.data_set()
    rows = need.make_split(fs).train
    if len(rows) < s.batch_size:
        raise AtlabError(
            f"the orthogonal network has {len(rows)} training clips: expected at least one batch of {s.batch_size}"
        )
    return fs, rows


def acted_on(s: Any, fs: Any, train: np.ndarray, parts: list[Any], device: Any) -> Clips:
    """The clips that the loss of `experiment.Settings` acts on.

    Args:
        fs, train, parts: the target's data set, the row numbers of its training clips, batches of its training and validation part.
    """
    from atlab.data import Batches

    if s.clips_from == "target":
        return Clips(parts, _codes(fs, s.orthogonal[0], train) if needs_labels(s) else None)
    other, rows = orthogonal_clips(s)
    codes = _codes(other, s.tasks()[0].factor, rows)
    options = {"batch_size": s.batch_size, "least": s.least_batch(), "seed": s.seed}
    batches = Batches(other, rows, codes, device=device, shuffle=True, **options)
    return Clips([batches], codes)


def _codes(fs: Any, factor: str, rows: np.ndarray) -> np.ndarray:
    """The class numbers of a factor [N] by the classes that these rows have, -1 for any other."""
    return fs.codes(factor, sorted(set(fs.labels(factor, rows))))
