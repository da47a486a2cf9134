"""Score adapters: nothing before training, a quality afterwards, and the restorer below is as it was."""

import copy
import dataclasses
import json
import pickle
import threading

import formula
import pytest
import torch
from networks import FAMILIES, PLAIN, make_network
from safetensors.torch import load_file, save_file

from iqpbfr_core import load_restorer
from iqpbfr_core.adapters import AdapterCard, ScoreAdapter, load_adapter, new_adapter
from iqpbfr_core.adapters.card import FORMAT
from iqpbfr_core.adapters.modulation import EMBEDDING_DIM, sites_of
from iqpbfr_core.checkpoint import build_network, infer_config, load_network, save_network
from iqpbfr_core.errors import CheckpointError, InputError
from iqpbfr_core.optimize import optimize_codes
from iqpbfr_core.restorer import Restorer

BASES = {
    **{name: config for name, config in FAMILIES.items() if name != "stage_one"},
    "ours": PLAIN,
    "iqpir": dataclasses.replace(FAMILIES["codeformer"], family="iqpir", num_hq_codes=32),
}
every = pytest.mark.parametrize("name", BASES)
with_codes = pytest.mark.parametrize("name", [name for name in BASES if name != "gfpgan"])


def base(name="codeformer"):
    return Restorer(make_network(BASES[name]))


def trained(restorer, seed=0):
    """An adapter that does something everywhere."""
    adapter = new_adapter(restorer, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        adapter.network.values.weight.normal_(0, 0.5, generator=generator)
    return adapter


def num_hooks(restorer):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in restorer.network.modules())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_fresh_adapter_changes_no_bit(name, dtype, faces):
    r = base(name).to(dtype=dtype)
    weights = {key: value.clone() for key, value in r.network.state_dict().items()}
    q = new_adapter(r).attach(r)
    features = r.encode(faces[:1])
    z_q, fidelity = features.z, 1.0 if r.has_fidelity else 0.0
    if r.supports.codes:
        alone, mine = r.lookup(features, temperature=2.0), q.lookup(features, 0.3, temperature=2.0)
        assert torch.equal(mine.logits, alone.logits)
        assert torch.equal(mine.indices, alone.indices)
        assert torch.equal(q.lookup(features, 0.2, guidance=3.0).logits, alone.logits)
        z_q = r.quantise(alone, features)
    picture = q.generate(z_q, features, torch.tensor([0.3]), fidelity, None)
    assert torch.equal(picture, r.generate(z_q, features, None, fidelity, None))
    assert q.detach() is r
    assert not r.has_quality
    assert all(torch.equal(value, weights[key]) for key, value in r.network.state_dict().items())
    assert num_hooks(r) == 0


@every
@torch.no_grad()
def test_restoring_with_a_fresh_adapter_is_restoring_without(name, faces):
    r = base(name)
    q = new_adapter(r).attach(r)
    alone = r.restore(faces)
    for quality in (0.0, 1.0, None, torch.tensor([0.0, 0.3, 1.0])):
        assert torch.equal(q.restore(faces, quality), alone)


@with_codes
@torch.no_grad()
def test_a_trained_one_steers_the_lookup_and_no_score_is_the_base(name, faces):
    r = base(name)
    q = trained(r).attach(r)
    features = r.encode(faces)
    low, high, alone = q.lookup(features, 0.0), q.lookup(features, 1.0), r.lookup(features)
    assert not torch.equal(low.indices, high.indices)
    assert not torch.equal(high.indices, alone.indices)
    assert torch.equal(q.lookup(features, None).logits, alone.logits)
    assert torch.equal(q.restore(faces, None), r.restore(faces))
    torch.testing.assert_close(q.lookup(features, 1.0, guidance=0.0).logits, alone.logits)
    assert not torch.equal(q.lookup(features, 1.0, guidance=2.0).logits, high.logits)
    assert q.supports.quality == (0.0, 1.0)
    assert q.codebook_id == r.codebook_id


@every
@torch.no_grad()
def test_a_batch_equals_its_singles_at_a_quality_each(name, faces):
    r = base(name)
    q = trained(r).attach(r)
    batch = q.restore(faces, torch.tensor([0.0, 0.5, 1.0]))
    for index, quality in enumerate((0.0, 0.5, 1.0)):
        single = q.restore(faces[index : index + 1], quality)
        torch.testing.assert_close(batch[index : index + 1], single, atol=0.5 / 255, rtol=0)
    assert torch.equal(batch, q.restore(faces, torch.tensor([0.0, 0.5, 1.0])))


@pytest.mark.parametrize("name", ["restoreformer", "restoreformer_plus_plus", "vqfr_v1", "vqfr_v2", "gfpgan"])
@torch.no_grad()
def test_generators_that_see_the_input_are_told_as_well(name, faces):
    r = base(name)
    q = trained(r).attach(r)
    features = r.encode(faces)
    fidelity = 1.0 if q.has_fidelity else 0.0
    z_q = features.z if name == "gfpgan" else r.quantise(r.lookup(features), features)
    scores = [torch.full((3,), value) for value in (0.0, 1.0)]
    low, high = (q.generate(z_q, features, score, fidelity, None) for score in scores)
    assert (low - high).abs().max() > 1e-3


@with_codes
def test_codes_of_an_attached_restorer_can_be_optimised(name, faces):
    bright = lambda images: images.mean((1, 2, 3))  # noqa: E731
    with torch.inference_mode():
        with torch.inference_mode(False):
            r = base(name)
            q = trained(r).attach(r)
        features = q.encode(faces)
        codes = q.lookup(features, 0.4)
        result = optimize_codes(q, codes, features, bright, steps=2, checkpointing=True)
        start = bright(q.decode(codes, features, 0.0, True))
    torch.testing.assert_close(result.start_scores, start, atol=1e-4, rtol=0)
    assert (result.scores >= result.start_scores).all()
    assert num_hooks(r) == 0


@torch.no_grad()
def test_restorers_of_one_base_do_not_meet_in_threads(faces):
    """All of them are inside the first layer of the shared Transformer at the same time."""
    r = base()
    features = r.encode(faces)
    one, two, same = (trained(r, seed).attach(r) for seed in (1, 2, 2))  # not in the threads, which share the seed
    lookups = [
        lambda: r.lookup(features),
        lambda: one.lookup(features, 0.1),
        lambda: two.lookup(features, 0.1),
        lambda: same.lookup(features, 0.9),
    ]
    expected = [lookup().logits for lookup in lookups]
    together = threading.Barrier(len(lookups))

    def meet(*_):
        together.wait(timeout=30)

    meeting = r.network.ft_layers[0].register_forward_pre_hook(meet)
    found = {}

    @torch.no_grad()
    def run(number):
        found[number] = lookups[number]().logits

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(lookups))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meeting.remove()
    assert [torch.equal(found[n], expected[n]) for n in range(len(lookups))] == [True] * len(lookups)
    assert num_hooks(r) == 0


@torch.no_grad()
def test_a_failure_in_the_middle_leaves_no_trace(faces):
    r = base()
    alone = r.lookup(r.encode(faces)).logits
    q = trained(r).attach(r)
    broken = r.network.idx_pred_layer.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        q.restore(faces)
    broken.remove()
    assert num_hooks(r) == 0
    assert torch.equal(r.lookup(r.encode(faces)).logits, alone)


@torch.no_grad()
def test_copies_are_restorers_of_their_own(faces):
    r = base()
    q = trained(r).attach(r)
    restored = q.restore(faces, 0.2)
    copies = [copy.deepcopy(q), pickle.loads(pickle.dumps(q))]
    r.network.feat_emb.weight.zero_()
    for other in copies:
        assert torch.equal(other.restore(faces, 0.2), restored)


@torch.no_grad()
def test_the_adapter_follows_where_the_base_goes(faces):
    r = base()
    adapter = trained(r)
    q = adapter.attach(r)
    full = q.lookup(q.encode(faces), 0.3).logits
    r.to(dtype=torch.bfloat16)  # through the other one, so the adapter's own weights stay
    assert q.dtype == torch.bfloat16
    half = q.lookup(q.encode(faces), 0.3).logits
    assert adapter.network.values.weight.dtype == torch.float32
    assert (half - full).abs().mean() < 0.1 * full.std()


def test_making_one_leaves_the_random_numbers_alone():
    r = base()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = new_adapter(r, seed=1)
    assert torch.equal(torch.rand(3), expected)
    second = new_adapter(r, seed=2)
    weight = "embedding.mlp.0.weight"
    assert not torch.equal(first.network.state_dict()[weight], second.network.state_dict()[weight])


@every
@torch.no_grad()
def test_a_file_gives_the_same_adapter(name, faces, tmp_path):
    r = base(name)
    adapter = trained(r)
    card = dataclasses.replace(adapter.card, metric="musiq", score_range=(0.2, 0.7), recipe="10 steps")
    adapter = ScoreAdapter(card, adapter.network.half().float())  # what the file holds
    adapter.save(tmp_path / "a.safetensors")
    again = load_adapter(tmp_path / "a.safetensors", r)
    assert again.card == card
    q = again.attach(r)
    assert torch.equal(q.restore(faces, 0.3), adapter.attach(r).restore(faces, 0.3))
    assert (q.config.metric, q.supports.scores) == ("musiq", ((0.2, 0.7),))
    if q.supports.codes:
        assert q.lookup(q.encode(faces), 1.0).quality.tolist() == pytest.approx([0.7] * 3)


@pytest.mark.parametrize("name", ["codeformer", "restoreformer", "daefr", "vqfr_v1", "vqfr_v2", "gfpgan_clean"])
def test_files_of_published_restorers_stay_below_six_megabytes(name):
    manifest = json.loads((formula.REFERENCES / f"manifest_{name}.json").read_text())
    config = infer_config({key: torch.empty(shape, device="meta") for key, shape in manifest.items()})
    with torch.device("meta"):
        count = sum(site.num_values for site in sites_of(build_network(config)))
    assert 2 * (EMBEDDING_DIM + 1) * count < 5.9e6


def test_another_base_is_refused_by_name(tmp_path):
    trained(base()).save(tmp_path / "a.safetensors")
    own, other = base(), base()
    with torch.no_grad():
        other.network.quantize.embedding.weight.neg_()
    with pytest.raises(InputError, match=f"codebook {own.codebook_id}.*codebook {other.codebook_id}"):
        load_adapter(tmp_path / "a.safetensors", other)
    with pytest.raises(InputError, match=r"belongs to a codeformer .* the model is a vqfr_v1"):
        load_adapter(tmp_path / "a.safetensors").attach(base("vqfr_v1"))
    deeper = Restorer(make_network(dataclasses.replace(BASES["codeformer"], lookup_layers=3)))
    with torch.no_grad():
        deeper.network.quantize.embedding.weight.copy_(own.network.quantize.embedding.weight)
    with pytest.raises(InputError, match="of another size"):
        load_adapter(tmp_path / "a.safetensors", deeper)
    gfpgan, changed = base("gfpgan"), base("gfpgan")
    trained(gfpgan).save(tmp_path / "g.safetensors")
    load_adapter(tmp_path / "g.safetensors", gfpgan)
    with torch.no_grad():
        changed.network.final_linear.weight.neg_()
    with pytest.raises(InputError, match="belongs to a gfpgan"):
        load_adapter(tmp_path / "g.safetensors", changed)


def test_where_an_adapter_has_no_place_it_says_why(tiny, faces):
    r = base()
    adapter = new_adapter(r)
    for restorer, words in (
        (tiny, "iqpbfr model is told a quality already"),
        (adapter.attach(r), "codeformer model is told a quality already"),
        (Restorer(make_network(FAMILIES["stage_one"])), "restores nothing"),
    ):
        for attempt in (lambda restorer=restorer: new_adapter(restorer), lambda r=restorer: adapter.attach(r)):
            with pytest.raises(InputError, match=words):
                attempt()
    (note,) = r.settings(0.5).notes
    assert "without a score adapter" in note
    assert adapter.attach(r).settings(0.5).notes == ()
    with pytest.raises(InputError, match="quality must lie in"):
        adapter.attach(r).restore(faces, 1.5)


def test_a_file_that_is_no_adapter_is_refused_in_a_line(tmp_path):
    r = base()
    file, bad = tmp_path / "a.safetensors", tmp_path / "bad.safetensors"
    trained(r).save(file)
    weights, metadata = load_file(file), new_adapter(r).card.to_metadata()
    card = json.loads(metadata[FORMAT])

    def write(tensors=weights, text=metadata[FORMAT]):
        save_file(tensors, bad, {FORMAT: text})

    def with_card(**change):
        write(text=json.dumps({**card, **change}))

    cases = {
        "not a readable safetensors": lambda: bad.write_bytes(file.read_bytes()[:-10]),
        "does not call itself": lambda: save_file(weights, bad, {"format": "pt"}),
        "1 missing .values.bias": lambda: write({k: v for k, v in weights.items() if k != "values.bias"}),
        "1 unexpected .more": lambda: write({**weights, "more": torch.zeros(1)}),
        "NaN or infinity": lambda: write({**weights, "values.bias": weights["values.bias"] / 0}),
        "card cannot be read": lambda: write(text="{" * 10_000),
        "another shape": lambda: write({**weights, "values.bias": torch.zeros(10**6).half()}),
        "score_range must rise": lambda: with_card(score_range=[0.9, 0.1]),
        "cannot be read": lambda: with_card(score_range=None),
        "cannot be read .*[0-9,]+ characters": lambda: with_card(recipe="x" * 10**5),
        "lines of text": lambda: with_card(family=["codeformer"]),
        "lines of text of": lambda: with_card(metric="a\x1b[31m"),
        "an adapter's card": lambda: with_card(score_range=[0, 1], recipe=7),
        "score_range": lambda: with_card(score_range=[float("nan"), 1]),
    }
    for words, damage in cases.items():
        damage()
        with pytest.raises(CheckpointError, match=words) as caught:
            load_adapter(bad, r)
        assert "\n" not in str(caught.value)
        assert str(bad) in str(caught.value)
    with pytest.raises(CheckpointError, match="this is a score adapter"):
        load_network(file)
    save_network(r.network, bad)
    with pytest.raises(CheckpointError, match="no score adapter"):
        load_adapter(bad)
    with pytest.raises(CheckpointError, match="safetensors"):
        trained(r).save(tmp_path / "a.pth")


def test_a_card_survives_its_file():
    card = AdapterCard("daefr", "0123", "musiq", (0.1, 0.9), "x")
    assert AdapterCard.from_metadata(card.to_metadata()) == card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["codeformer", "restoreformer"])  # chosen by a transformer, and the nearest codes
@torch.no_grad()
def test_published_restorers_are_the_same_with_a_fresh_adapter(name, tmp_path):
    torch.save({"params_ema": formula.filled_weights(name)}, tmp_path / "file.pth")
    r = load_restorer(tmp_path / "file.pth")
    q = new_adapter(r).attach(r)
    features = r.encode((formula.filled_image() + 1) / 2)
    mine, theirs = q.lookup(features, 0.3), r.lookup(features)
    assert torch.equal(mine.logits, theirs.logits)
    assert torch.equal(q.decode(mine, features), r.decode(theirs, features))
    r.to(dtype=torch.bfloat16)
    features = dataclasses.replace(features, z=features.z.bfloat16())
    assert torch.equal(q.lookup(features, 0.3).logits, r.lookup(features).logits)
