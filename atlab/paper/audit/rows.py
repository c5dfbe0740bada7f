"""The rows of the audit: what the paper says, what the published code does, what is shown, what that means.

Numbers come from the other modules of this room; `{name}` in a row's text stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from atlab.errors import AtlabError, unknown


class Row(NamedTuple):
    """One difference, with the shown numbers as a format string."""

    topic: str
    paper: str
    code: str
    shown: str
    result: str


ROWS = {
    "gram": Row(
        "Gram matrix and similarity",
        "one C x C Gram matrix per clip (eq. 1); squared cosine of the two matrices (eq. 2)",
        "one (B C) x (B C) matrix over the batch; cosine of each row, absolute values averaged, the mean squared",
        "paper {paper:.3f}, published {published:.3f} for the same two random networks; the cosine of their gradients is "
        "{gradients:.2f}",
        "{between_clips:.0%} of the published matrix compares different clips; its loss is {factor:.1f} times the paper's for "
        "unrelated networks, so 0 is farther away and beta weighs more",
    ),
    "beta": Row(
        "beta",
        "multiplies the loss",
        "HEAD multiplies the cosine by it twice",
        "a step with beta = -1 changes the similarity by {once:+.5f} (once) and {twice:+.5f} (twice); with +1 by {twice_positive:+.5f}",
        "at HEAD beta = -1 is beta = 1: inverse AT is not possible, and beta = 0.1 weighs 0.01",
    ),
    "sigmoid": Row(
        "sigmoid MSE",
        "negative MSE under a sigmoid",
        "-beta sigmoid(MSE), and a second form sigmoid(-beta MSE)",
        "at beta = 1 both slopes are {slope_1:.4f} for MSE 1; at beta = 20 {first_slope_20:.2f} and {second_slope_20:.1e}",
        "with the second form a larger beta switches the loss off instead of strengthening it",
    ),
    "vanishing": Row(
        "sigmoid MSE of Gram matrices",
        "avoids excessive loss values",
        "the same, on a Gram matrix divided by its size",
        "maps scaled by 0.01: MSE {mse_001:.2g}, gradient {gradient_001:.1e}; unscaled: MSE {mse_1:.2g}, loss {loss_1:.3f}, "
        "gradient {gradient_1:.1e}",
        "not scale-invariant: on raw Gram matrices the loss is saturated and trains nothing",
    ),
    "layer": Row(
        "layer n",
        "feature map of the n-th convolution",
        "features[:i] ends before convolution n",
        "published layer 5 is {layer_5}, 13 is {layer_13}, 1 is {layer_1}: loss {layer_1_loss:.3f}, gradient "
        "{layer_1_gradient:.0f} (at conv1: {conv1_gradient:.2g})",
        'results are those of the layer before: the recommended 5 is {layer_5}; "layer 1" is plain training, conv13 is never used',
    ),
    "wi": Row(
        "weight initialisation",
        "all convolutions start from the orthogonal network",
        "a whole network's state dict goes into model.features with strict=False",
        "{matched} of {wanted} tensors match, {changed} weights change (with the prefix removed: {changed_by_prefix})",
        "WI and the start of dual AT are random initialisation, unless the files were converted by hand",
    ),
    "normalisation": Row(
        "input normalisation",
        "train mean and standard deviation",
        "the target's scalars for both networks",
        "feature maps at conv5 differ by {difference:.0%}, similarity to themselves {similarity:.3f}; {answers_changed:.0%} of "
        "answers change",
        "the orthogonal network sees inputs that it was not trained on",
    ),
    "epoch": Row(
        "early stopping",
        "validation loss, patience 5",
        "cross-entropy + beta AT, stops after 3 epochs without improvement",
        "on one history the paper keeps epoch {paper} of {paper_last}, the code epoch {published} of {published_last}",
        "training ends earlier, and the AT loss has a say in which weights are kept",
    ),
    "permutation": Row(
        "what the loss can see",
        'Gram matrices are essential "where permutations can occur along the channel dimension"',
        "the same",
        "a network against its own copy with permuted channels: {gram:.3f} (an unrelated network: {gram_unrelated:.3f}), though "
        "the outputs differ by {outputs_differ_by:.0e}; position Gram {position_gram:.3f}, clip kernel {clip_kernel:.3f}",
        "features grown in another channel order are not penalised",
    ),
    "floor": Row(
        "floor of the loss",
        "not mentioned",
        "not mentioned",
        "two random networks on standardised noise: {conv1:.2f} at conv1, {conv5:.3f} at conv5, {conv13:.3f} at conv13 (on tones "
        "{tones_conv1:.2f}, {tones_conv5:.3f}, {tones_conv13:.3f})",
        "after the first layers the loss of a random student is near its minimum: there is little left to reduce",
    ),
    "dead": Row(
        "compressed multiplication",
        "product over channels of activations to the power 0.001",
        "the same",
        "conv1 on noise: correlation with the number of dead channels {correlation:.3f}; two random networks score {similarity:.3f}",
        "it compares where channels are dead, not what they hold",
    ),
    "instruments": Row(
        "Good-Sounds instruments (table 2)",
        "12 classes, 100 % test accuracy",
        "the label function returns a number, and an argmax of it makes every label 0",
        "{classes} classes become {published_classes}; a constant answer scores {constant_on_published:.0%} (on the true labels "
        "{constant_on_true:.0%})",
        "the orthogonal network of table 5 was trained on one class: it knows no instrument",
    ),
    "tags": Row(
        "Good-Sounds goodness",
        "5 rates",
        'a substring match on "bad-dynamics"',
        "{found} of {tags} spellings are found",
        "clips tagged bad-dynamic-stability are left out",
    ),
    "snr": Row(
        "noise levels",
        "-40..-20 dBFS low, -10..0 dBFS high",
        "these are signal-to-noise ratios, and one square root too many halves them",
        "40 dB asked for is {snr_40:.1f} dB, 20 is {snr_20:.1f} dB, 10 is {snr_10:.1f} dB",
        '"low noise" is 10 to 20 dB, "high noise" 0 to 5 dB: harder than stated',
    ),
    "speakers": Row(
        "IEMOCAP speakers",
        "5",
        "the session; torchaudio takes the dialog's prefix",
        "{speakers} speakers, {sessions} labels by session; the dialog's prefix is wrong for {wrong_by_prefix:.0%} of utterances",
        'a "speaker" is a pair of actors: table 4\'s orthogonal task is the session',
    ),
    "leak": Row(
        "noise data",
        "11 types of noise",
        "a speech and noise pair at 5 levels is 5 files, split independently",
        "{with_twin:.1%} of test files have a twin in training (expected {expected:.1%})",
        "the orthogonal network's test accuracy is a training accuracy",
    ),
    "random": Row(
        "GSC split",
        "random",
        "random by file",
        "{same:.0%} of test clips are of a speaker in training (split by speaker: {disjoint:.0%})",
        "table 3 does not measure unseen speakers",
    ),
    "overlap": Row(
        "orthogonal network's data",
        "not stated",
        "its own random split of the same corpus",
        "it is trained on {own:.0%} of the target's test clips (with atlab's split for teachers: {held_out:.0%})",
        "the teacher of AT and WI has seen the test clips",
    ),
    "silence": Row(
        "silence",
        "not mentioned",
        "clips whose maximum is at most 0.05 are dropped without a word",
        "{dropped} of {clips} clips of rising loudness are dropped",
        "quiet clips are missing from training and test",
    ),
    "time": Row(
        "spectrogram",
        "16 ms windows, 50 % overlap",
        "the same, with time reversed",
        "correlation of time and pitch for a rising tone: {atlab:+.2f}, published {published:+.2f}",
        "harmless alone, not with networks trained on forward time",
    ),
    "batches": Row(
        "accuracy",
        "accuracy",
        "unweighted mean of the batches' accuracies",
        "27 clips, the last one wrong: {clips:.1%} of clips, {batches:.1%} by batches of 13",
        "a short last batch weighs as much as a full one",
    ),
    "recall": Row(
        "precision and recall",
        "not reported",
        "the names are swapped",
        "precision {precision:.2f} and recall {recall:.2f} become {published_precision:.2f} and {published_recall:.2f}",
        "each is the other one",
    ),
    "selection": Row(
        "repeats",
        "not stated",
        "baseline 20 runs, WI 3, AT one per layer and the best of 13 by validation accuracy",
        "choosing among 13 equal runs gains {simulated_13:.1%} of test clips (expected {expected_13:.1%}) at a spread of seeds of "
        "{seed_sd:.0%}",
        "this much of an improvement is not due to anti-transfer",
    ),
    "memory": Row(
        "eq. 4 (section 5.7)",
        "62 MB for the first layer, 714 MB for the last, one clip",
        "a Gram matrix of (B C)² entries",
        "eq. 4 gives {conv1:.1f} and {conv13:.1f} MB for one clip; the code's matrix {conv1_code:.0f} and {conv13_code:.0f} MB at batch 13",
        "the printed growth with the layer is the published matrix's, not the equation's",
    ),
}


def row(key: str, numbers: Mapping[str, object]) -> Row:
    """The row `key` of `ROWS` with its numbers put in. AtlabError for an unknown row or one whose numbers are incomplete.

    >>> row("tags", {"tags": 2, "found": 1}).shown
    '1 of 2 spellings are found'
    """
    if key not in ROWS:
        raise unknown("row of the audit", key, ROWS)
    try:
        return Row(*(text.format(**numbers) for text in ROWS[key]))
    except KeyError as missing:
        raise AtlabError(f"row {key!r} of the audit lacks the number {missing}; given: {', '.join(numbers)}") from None


def markdown(key: str, numbers: Mapping[str, object]) -> str:
    """One row as a heading and a short list."""
    filled = row(key, numbers)
    labels = {"Paper": filled.paper, "Code": filled.code, "Shown": filled.shown, "What it does": filled.result}
    return "\n".join([f"#### {filled.topic}", "", *(f"- **{label}:** {text}" for label, text in labels.items())])


def table(shown: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """All rows shown, in order: topic, paper, code, shown, result."""
    return pd.DataFrame([row(key, numbers)._asdict() for key, numbers in shown.items()], index=list(shown))


def styled(rows: pd.DataFrame):
    """The table for a notebook: long texts wrapped, topics first, no index."""
    left = {"text-align": "left", "white-space": "normal", "vertical-align": "top"}
    heads = [{"selector": "th", "props": [("text-align", "left")]}]
    return rows.style.hide(axis="index").set_properties(**left).set_table_styles(heads)
