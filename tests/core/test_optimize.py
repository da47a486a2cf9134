"""Discrete optimisation and its baselines: never worse than the start, always real codes, each face on its own."""

import dataclasses

import formula
import pytest
import torch
from networks import make_network

import iqpbfr_core
from iqpbfr_core import load_metric, load_restorer, optimize_codes
from iqpbfr_core.config import RestorerConfig
from iqpbfr_core.errors import InputError, MetricError
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.optimize import WeightedMean, WorstOf, ascend_latent, sample_codes
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY

CONFIGS = {
    "dual": TINY,
    "single": dataclasses.replace(TINY, conditioning="none", num_hq_codes=0),
    "add": dataclasses.replace(TINY, conditioning="add", score_bins=(10,)),
}
# CodeFormer's family with every layer narrower, so that its formula-filled weights fit a test.
SMALL_CODEFORMER = RestorerConfig(
    resolution=64,
    widths=(32, 32, 64),
    encoder_depths=(1, 1, 1),
    generator_depths=(1, 1, 1),
    code_dim=32,
    num_codes=64,
    lookup_dim=64,
    lookup_layers=2,
    lookup_mlp_dim=64,
    fusion=(32,),
)


def contrast(images):
    """A metric that costs nothing: local contrast, (B,)."""
    return images.diff(dim=3).abs().mean((1, 2, 3))


def brightness(images):
    return images.mean((1, 2, 3))


@pytest.fixture
def start(tiny, faces):
    features = tiny.encode(faces)
    return tiny, tiny.lookup(features, 0.9), features


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("method", [optimize_codes, sample_codes, ascend_latent])
def test_never_below_the_start_and_the_score_is_that_of_the_image(method, config, faces):
    restorer = Restorer(make_network(CONFIGS[config]))
    features = restorer.encode(faces)
    codes = restorer.lookup(features, 0.9)
    result = method(restorer, codes, features, contrast, 6, fidelity=0.3)
    assert (result.scores >= result.start_scores).all()
    assert (result.scores > result.start_scores).any()
    torch.testing.assert_close(contrast(result.images), result.scores)
    torch.testing.assert_close(contrast(restorer.decode(codes, features, 0.3)), result.start_scores)
    assert torch.equal(result.trace.scores[0], result.start_scores)
    assert torch.equal(result.trace.scores.nan_to_num(-1).amax(0), result.scores)
    assert result.trace.scores.shape == result.trace.changed.shape == (7, 3)
    assert (result.trace.changed[0] == 0).all()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("method", [optimize_codes, sample_codes])
def test_a_kept_result_is_decoded_from_its_indices_bit_exactly(method, config, faces):
    restorer = Restorer(make_network(CONFIGS[config]))
    features = restorer.encode(faces)
    result = method(restorer, restorer.lookup(features, 0.9), features, contrast, 6, fidelity=0.3, adain=False)
    assert torch.equal(restorer.decode(result.codes, features, 0.3, adain=False), result.images)


def test_the_gradient_beats_sampling_at_equal_cost(start):
    climbed = optimize_codes(*start, contrast, 10)
    sampled = sample_codes(*start, contrast, 30)
    assert climbed.scores.mean() > sampled.scores.mean()


def test_a_formula_filled_codeformer_improves_and_stays_decodable(faces):
    network = CodeRestorer(SMALL_CODEFORMER)
    network.load_state_dict({key: formula.fill(key, list(v.shape)) for key, v in network.state_dict().items()})
    restorer = Restorer(network)
    features = restorer.encode(faces)
    codes = restorer.lookup(features)
    assert codes.indices.ndim == 2
    result = optimize_codes(restorer, codes, features, load_metric(), 10)
    assert (result.scores > result.start_scores).all()
    assert torch.equal(restorer.decode(result.codes, features), result.images)


@pytest.mark.parametrize("max_changed", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_trust_region_is_obeyed(start, max_changed, noise):
    result = optimize_codes(*start, contrast, 6, max_changed=max_changed, noise=noise, learning_rate=3.0)
    assert (result.trace.changed <= max_changed).all()
    changed = (result.codes.indices != start[1].indices).any(-1).float().mean(1)
    assert (changed <= max_changed).all()
    if max_changed == 0:
        assert torch.equal(result.images, start[0].decode(start[1], start[2]))


@pytest.mark.parametrize(("books", "still"), [("hq", 1), ("common", 0)])
def test_only_the_wanted_codebook_changes(start, books, still):
    result = optimize_codes(*start, contrast, 5, books=books, noise=0.5)
    changed = (result.codes.indices != start[1].indices).any(1).any(0)
    assert not changed[still]
    assert changed[1 - still]


def test_a_start_against_the_odds_is_kept_as_start(start):
    restorer, codes, features = start
    unlikely = codes.with_indices(codes.logits.argmin(2))
    result = optimize_codes(restorer, unlikely, features, contrast, 1, candidates=3)
    torch.testing.assert_close(result.start_scores, contrast(restorer.decode(unlikely, features)))
    assert result.trace.changed[1].max() < 1


def test_same_seed_same_result_other_seed_other_result(start):
    first, again, other = (optimize_codes(*start, contrast, 4, noise=1.0, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.codes.indices, again.codes.indices)
    assert torch.equal(first.trace.scores, again.trace.scores)
    assert not torch.equal(first.trace.scores, other.trace.scores)


@pytest.mark.parametrize("method", [optimize_codes, sample_codes, ascend_latent])
def test_a_batch_equals_its_chunks(method, start):
    options = {"patience": 3, "target": torch.tensor([0.03, 0.9, 0.9])} if method is not sample_codes else {}
    whole = method(*start, contrast, 5, chunk=16, **options)
    parts = method(*start, contrast, 5, chunk=2 if method is not sample_codes else 1, **options)
    torch.testing.assert_close(whole.scores, parts.scores, atol=1e-4, rtol=0)
    assert whole.stop_reasons == parts.stop_reasons


@pytest.mark.parametrize("how", ["false", "keyboard"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_an_interruption_keeps_the_best_so_far(start, how, chunk):
    seen = []

    def callback(progress):
        seen.append(progress)
        if len(seen) == 4:
            if how == "keyboard":
                raise KeyboardInterrupt
            return False
        return True

    result = optimize_codes(*start, contrast, 20, chunk=chunk, callback=callback)
    assert len(seen) == 4
    assert seen[-1].done == 4
    assert seen[-1].total == (21 if chunk is None else 42)
    assert set(result.stop_reasons) == {"interrupted"}
    assert result.images.shape[0] == 3
    reached = seen[-1].faces
    assert torch.equal(result.scores[reached], seen[-1].scores)
    assert (result.scores[reached] > result.start_scores[reached]).any()


@pytest.mark.parametrize("chunk", [None, 2])
def test_an_interrupted_search_goes_on_from_what_it_had_found(start, chunk):
    stopped = optimize_codes(*start, contrast, 4, max_changed=0.2, callback=lambda p: p.done < 5)
    going = optimize_codes(*start, contrast, 1, max_changed=0.2, go_on_from=stopped.codes, chunk=chunk)
    assert (going.scores >= stopped.scores - 1e-6).all()
    torch.testing.assert_close(going.start_scores, stopped.start_scores)
    assert (going.trace.changed <= 0.2 + 1e-6).all()


def test_a_search_does_not_go_on_from_codes_of_other_faces(start):
    with pytest.raises(InputError, match="same faces"):
        optimize_codes(*start, contrast, 1, go_on_from=start[1][:2])


def test_other_exceptions_of_a_callback_pass_through(start):
    def callback(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimize_codes(*start, contrast, 3, callback=callback)


def test_patience_and_target_stop_each_face(start):
    result = optimize_codes(*start, contrast, 30, learning_rate=0.0, patience=2)
    assert result.stop_reasons == ("patience",) * 3
    assert len(result.trace.scores) == 3
    goal = result.start_scores + torch.tensor([-0.01, 0.002, 0.0])
    goal[2] = 1.0
    result = optimize_codes(*start, contrast, 8, target=goal)
    assert result.stop_reasons == ("target", "target", "steps")
    assert (result.scores >= goal)[:2].all()
    assert torch.isnan(result.trace.scores[1:, 0]).all()
    assert not torch.isnan(result.trace.scores[:, 2]).any()


@pytest.mark.parametrize("method", [optimize_codes, ascend_latent])
def test_it_works_inside_inference_mode_even_with_weights_made_there(method, faces):
    expected_restorer = Restorer(make_network())
    features = expected_restorer.encode(faces)
    expected = method(expected_restorer, expected_restorer.lookup(features), features, load_metric(), 2, lq=faces)
    with torch.inference_mode():
        restorer = Restorer(make_network())
        features = restorer.encode(faces)
        codes = restorer.lookup(features)
        result = method(restorer, codes, features, load_metric(), 2, lq=faces.clone())
        assert torch.is_inference_mode_enabled()
    assert torch.equal(result.scores, expected.scores)
    with torch.no_grad():
        again = method(expected_restorer, codes, features, load_metric(), 2, lq=faces)
    assert torch.equal(again.scores, expected.scores)


def test_the_restorer_is_left_as_it_was(start):
    restorer = start[0]
    before = {key: value.clone() for key, value in restorer.network.state_dict().items()}
    optimize_codes(*start, contrast, 2, checkpointing=True)
    assert all(torch.equal(value, before[key]) for key, value in restorer.network.state_dict().items())
    assert not restorer.network.generator.is_checkpointed
    assert all(p.grad is None and not p.requires_grad for p in restorer.network.parameters())


def test_checkpointing_changes_nothing_but_memory(start):
    plain, checkpointed = (optimize_codes(*start, contrast, 3, fidelity=0.5, checkpointing=on) for on in (False, True))
    torch.testing.assert_close(plain.trace.scores, checkpointed.trace.scores, atol=1e-5, rtol=0)


def test_the_input_holds_the_result_back(start, faces):
    free = optimize_codes(*start, contrast, 10, max_changed=1.0)
    held = optimize_codes(*start, contrast, 10, max_changed=1.0, lq=faces, lq_weight=100.0)
    tied = optimize_codes(*start, contrast, 10, max_changed=1.0, prior_weight=100.0)
    assert held.scores.mean() < free.scores.mean()
    assert tied.trace.changed[-1].mean() < free.trace.changed[-1].mean()


def test_several_metrics_are_averaged_or_the_worst_counts(start):
    images = start[0].decode(start[1], start[2])
    torch.testing.assert_close(
        WeightedMean([contrast, brightness], [3, 1])(images), 0.75 * contrast(images) + 0.25 * brightness(images)
    )
    torch.testing.assert_close(WorstOf([contrast, brightness])(images), contrast(images))
    both = optimize_codes(*start, [contrast, brightness], 3)
    torch.testing.assert_close(both.scores, (contrast(both.images) + brightness(both.images)) / 2)
    assert (optimize_codes(*start, WorstOf([contrast, brightness]), 3).scores >= contrast(images)).all()


def test_half_precision_climbs_too(faces):
    restorer = Restorer(make_network()).to(dtype=torch.bfloat16)
    features = restorer.encode(faces)
    result = optimize_codes(restorer, restorer.lookup(features), features, contrast, 6)
    assert (result.scores > result.start_scores).all()


@pytest.mark.slow
def test_the_builtin_model_and_metric_improve():
    restorer = load_restorer()
    faces = torch.rand(1, 3, 256, 256)
    features = restorer.encode(faces)
    result = optimize_codes(restorer, restorer.lookup(features), features, load_metric(), 4)
    assert result.scores > result.start_scores


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"candidates": 0}, "candidates"),
        ({"chunk": 0}, "chunk"),
        ({"patience": 0}, "patience"),
        ({"books": "left"}, "books"),
        ({"max_changed": 1.1}, "max_changed"),
        ({"max_changed": float("nan")}, "max_changed"),
        ({"prior_weight": -1.0}, "prior_weight"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"noise": -0.1}, "noise"),
        ({"target": 1.5}, "target"),
        ({"target": float("nan")}, "target"),
        ({"target": torch.tensor([0.5])}, "target"),
        ({"fidelity": 2.0}, "fidelity"),
        ({"fidelity": torch.tensor([0.5])}, "fidelity"),
        ({"lq": torch.zeros(1, 3, 64, 64)}, "lq"),
        ({"lq": torch.full((3, 3, 64, 64), float("nan"))}, "NaN"),
        ({"lq": torch.zeros(3, 3, 64, 64), "lq_weight": -1.0}, "lq_weight"),
        ({"metric": "builtin"}, "load_metric"),
        ({"metric": []}, "at least one"),
        ({"metric": [contrast, 3]}, "load_metric"),
        ({"metric": lambda images: images.sum()}, "one score per face"),
        ({"metric": lambda images: contrast(images) * float("nan")}, "finite"),
    ],
)
def test_bad_arguments_are_refused(start, arguments, words):
    options = {"metric": contrast, "steps": 2, **arguments}
    with pytest.raises((InputError, MetricError), match=words):
        optimize_codes(*start, **options)


def test_weights_and_metrics_must_fit():
    for weights in ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(InputError, match="weights"):
            WeightedMean([contrast, brightness], weights)


def test_a_metric_without_gradient_is_refused_but_can_be_sampled(start):
    def stepwise(images):
        return contrast(images).detach()

    with pytest.raises(MetricError, match="sample_codes"):
        optimize_codes(*start, stepwise, 2)
    assert (sample_codes(*start, stepwise, 3).scores >= contrast(start[0].decode(start[1], start[2])) - 1e-6).all()


def test_foreign_codes_are_refused(start):
    restorer, codes, features = start
    with pytest.raises(InputError, match="another model or another batch"):
        optimize_codes(restorer, codes[slice(0, 2)], features, contrast, 2)


def test_it_is_public():
    assert "optimize_codes" in iqpbfr_core.__all__
