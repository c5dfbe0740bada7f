"""The audit's small reconstructions: each against a computation of its own."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats
from sklearn import metrics

from atlab import functional, models
from atlab.errors import AtlabError
from atlab.paper.audit import corpora, evaluation, losses, networks, rows, sizes


@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(3)
    return torch.rand(3, 5, 4, 6, dtype=torch.float64), torch.rand(3, 5, 4, 6, dtype=torch.float64)


@pytest.fixture(scope="module")
def networks_and_clips():
    torch.manual_seed(1)
    pair = [models.vgg16(4, 1 / 16).eval() for _ in "ab"]
    return *pair, torch.randn(4, 1, 62, 129)


def test_both_losses_are_those_of_naive_loops(maps):
    student, teacher = maps
    numbers = losses.gram(student, teacher)
    paper = [_cosine(_gram(s), _gram(t)) ** 2 for s, t in zip(student, teacher, strict=True)]
    assert numbers["paper"] == pytest.approx(np.mean(paper), rel=1e-12)
    assert numbers["paper_again"] == pytest.approx(numbers["paper"], rel=1e-12)
    grams = [_gram(x.reshape(15, 4, 6)) for x in maps]
    published = np.mean([abs(_cosine(s, t)) for s, t in zip(*grams, strict=True)]) ** 2
    assert numbers["published"] == pytest.approx(published, rel=1e-5)
    assert numbers["published_again"] == pytest.approx(published, rel=1e-12)
    assert numbers["between_clips"] == pytest.approx((15**2 - 3 * 5**2) / 15**2)


def _gram(x):
    flat = x.reshape(len(x), -1).numpy()
    return np.array([[float(np.sum(one * other)) for other in flat] for one in flat])


def _cosine(a, b):
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def test_beta_taken_twice_cannot_encourage(maps):
    changes = losses.beta(*maps)
    assert changes["once"] > 0 > changes["twice"]
    assert changes["twice"] == changes["twice_positive"]


def test_the_two_sigmoid_forms_differ_by_one_at_beta_one_only():
    for mse in (0.0, 0.5, 3.0):
        one = losses.sigmoid_variants(mse)
        assert one["second"] - one["first"] == pytest.approx(1) and one["first_slope"] == pytest.approx(
            one["second_slope"]
        )
    step = 1e-6
    numeric = (losses.sigmoid_variants(1 + step, 20)["first"] - losses.sigmoid_variants(1 - step, 20)["first"]) / (
        2 * step
    )
    assert losses.sigmoid_variants(1, 20)["first_slope"] == pytest.approx(numeric, rel=1e-6)


def test_the_sigmoid_of_raw_gram_matrices_is_saturated():
    torch.manual_seed(0)
    numbers = losses.vanishing(torch.rand(2, 4, 20, 20), torch.rand(2, 4, 20, 20))
    assert numbers["loss_1"] == pytest.approx(-1) and 0 < numbers["gradient_1"] < 1e-3 * numbers["gradient_001"]


def test_compressed_multiplication_counts_dead_channels():
    torch.manual_seed(0)
    student, teacher = (torch.relu(torch.randn(2, 16, 10, 10)) for _ in "ab")
    numbers = losses.dead_channels(student, teacher)
    assert numbers["correlation"] < -0.98 and numbers["similarity"] > 0.9


def test_published_layers_are_the_ones_before(networks_and_clips):
    first, second, x = networks_and_clips
    names = networks.layer_names(first, x)
    assert names[1] == "input" and names[2] == "conv1" and names[5] == "conv4, pooled" and names[13] == "conv12"
    numbers = networks.first_layer(first, second, x)
    assert numbers["layer_1_loss"] == pytest.approx(1, abs=1e-5) and numbers["layer_1_gradient"] == 0
    assert 0 < numbers["conv1_loss"] < 1 and numbers["conv1_gradient"] > 0


def test_a_whole_state_dict_matches_nothing_of_features(networks_and_clips):
    first, second, _ = networks_and_clips
    own, other = first.features.state_dict(), second.features.state_dict()
    changed = sum(not torch.equal(own[name], other[name]) for name in own)  # without the biases, which start at 0
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    numbers, names = networks.weight_initialisation(first, second)
    assert (numbers["matched"], numbers["changed"], numbers["changed_by_prefix"]) == (0, 0, changed) and len(names) == 4
    assert all(torch.equal(before[name], tensor) for name, tensor in first.state_dict().items())


def test_a_permuted_copy_answers_alike_and_only_the_gram_takes_it_for_a_stranger(networks_and_clips):
    first, second, x = networks_and_clips
    twin = networks.permuted_copy(first)
    assert torch.allclose(first(x), twin(x), atol=1e-6) and not torch.equal(
        first.features[0].weight, twin.features[0].weight
    )
    numbers, table = networks.permutation(first, second, x, ["conv5", "conv9"])
    assert numbers["gram"] < 0.5 and numbers["position_gram"] > 1 - 1e-5 and numbers["clip_kernel"] > 1 - 1e-5
    assert len(table) == 4 and set(table["layer"]) == {"conv5", "conv9"}


def test_the_floor_is_the_mean_over_pairs_of_random_networks():
    x = torch.randn(2, 1, 62, 129)
    state = torch.get_rng_state()
    assert networks.floor(1 / 16, x, ["conv5"], pairs=2) == networks.floor(1 / 16, x, ["conv5"], pairs=2)
    assert torch.equal(state, torch.get_rng_state())
    one = networks.floor(1 / 16, x, ["conv5"], pairs=1)["conv5"]
    torch.manual_seed(0)
    pair = [models.vgg16(2, 1 / 16).eval() for _ in "ab"]
    want = functional.anti_transfer_loss(*(model.features[:12](x) for model in pair))
    assert one == pytest.approx(float(want.detach()), rel=1e-5)


def test_another_normalisation_changes_features(networks_and_clips):
    first, _, x = networks_and_clips
    same = networks.normalisation(first, x, float(first.input_mean), float(first.input_std), "conv5")
    assert same["difference"] == 0 and same["answers_changed"] == 0 and same["similarity"] == pytest.approx(1)
    assert networks.normalisation(first, x, 0.5, 2.0, "conv5")["difference"] > 0.1


def test_the_rules_of_stopping_follow_their_definitions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        history = pd.DataFrame({"validation_loss": rng.random(15), "validation_at": rng.random(15)})
        chosen = networks.chosen_epoch(history, beta=2.0)
        summed = history["validation_loss"] + 2 * history["validation_at"]
        for name, values, patience in (("paper", history["validation_loss"], 5), ("published", summed, 3)):
            last = next((e for e in range(15) if e - int(np.argmin(values[: e + 1])) >= patience), 14)
            assert chosen[f"{name}_last"] == last + 1 and chosen[name] == int(np.argmin(values[: last + 1])) + 1


def test_noise_levels_are_halved_and_ours_are_not():
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=4000), rng.normal(size=4000) * 3
    for asked, true in corpora.snr(clean, noise).items():
        assert true == pytest.approx(float(asked) / 2, abs=1e-9)


def test_twins_leak_as_often_as_the_hypergeometric_law_says():
    numbers = [corpora.noise_leak(pairs=1000, seed=seed) for seed in range(200)]
    want = 1 - scipy_stats.hypergeom(5000 - 1, 4, 3500).pmf(0)
    found = np.array([one["with_twin"] for one in numbers])
    assert numbers[0]["expected"] == pytest.approx(want) and numbers[0]["test_files"] == 500
    assert abs(found.mean() - want) < 4 * found.std() / np.sqrt(len(found))


def test_speakers_of_iemocap_come_from_the_utterances_letter():
    names = [f"Ses0{s}{d}_impro01_{l}00{i}" for s, d, l, i in itertools.product((1, 2), "FM", "FM", (0, 1))]
    assert corpora.iemocap_speakers(names) == {
        "speakers": 4,
        "sessions": 2,
        "dialog_prefixes": 4,
        "wrong_by_prefix": 0.5,
    }


def test_labels_tags_silence_and_time():
    assert corpora.instrument_labels(np.arange(12).repeat(3)) == {
        "classes": 12,
        "published_classes": 1,
        "constant_on_published": 1.0,
        "constant_on_true": pytest.approx(1 / 12),
    }
    assert corpora.silent_clips(np.array([[0.01, 0.05], [0.0, 0.051]])) == {"clips": 2, "dropped": 1}
    rising = np.eye(10)
    assert corpora.direction(rising) == {"atlab": pytest.approx(1), "published": pytest.approx(-1)}


def test_swapped_names_against_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    numbers = evaluation.precision_recall(true, predicted, positive=1)
    assert (
        numbers["precision"] == numbers["published_recall"] == pytest.approx(metrics.precision_score(true, predicted))
    )
    assert numbers["recall"] == numbers["published_precision"] == pytest.approx(metrics.recall_score(true, predicted))


def test_the_best_of_equal_runs_gains_what_is_expected():
    gains = evaluation.selection(0.03, 500).set_index("tries")
    assert abs(gains.loc[1, "simulated"]) < 0.001 and gains["simulated"].is_monotonic_increasing
    assert np.abs(gains["simulated"] - gains["expected"]).max() < 0.002 and gains.loc[13, "expected"] > 0.03


def test_sizes_of_equation_four():
    numbers = sizes.first_and_last()
    assert numbers["conv1"] == pytest.approx((64**2 + 64 * 126 * 129) * 4 / 1e6, rel=0.01)
    assert numbers["conv13_code"] > numbers["conv1_code"] and numbers["conv13"] < numbers["conv1"]


def test_rows_say_their_numbers_and_refuse_gaps():
    assert rows.row("tags", {"tags": 3, "found": 2}).shown == "2 of 3 spellings are found"
    assert rows.markdown("tags", {"tags": 3, "found": 2}).startswith("#### Good-Sounds goodness")
    with pytest.raises(AtlabError, match="row 'tags' of the audit lacks the number 'found'"):
        rows.row("tags", {"tags": 3})
    with pytest.raises(AtlabError, match="tag"):
        rows.row("tag", {})
