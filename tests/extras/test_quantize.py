"""A whole model of few bits: which arrays change; it writes what its float32 twin writes; what it costs."""

import json

import numpy as np
import pytest
from helpers import ROOT, SMALL, assert_same_ids, assert_same_logits, lively_params, run_python

import gpt2
from extras import batching, inside, lora, scoring, speculative
from extras.huggingface import export
from extras.huggingface.variants import exact_gelu
from extras.quantize import quantize
from extras.quantized import KINDS, Float32, Rows, Transposed, kind_of_weights
from extras.untied import UntiedEmbedding, apart, together
from weights import flatten

N_HEAD, N_VOCAB = SMALL["n_head"], SMALL["n_vocab"]
IDS = np.random.default_rng(0).integers(0, N_VOCAB, 20)


@pytest.fixture
def untied(params):
    """The same model, with a head of its own."""
    return params | {"wte": UntiedEmbedding(params["wte"], lively_params(SMALL, seed=1)["wte"])}


@pytest.fixture
def adapter():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((24, 2), (2, 72)))
    return lora.Adapter({"h1/attn/c_attn/w": lora.Update(a, b, 2.0)}, {})


def widened(params):
    """The float32 model that a quantized one stands for."""
    leaves = apart(params)
    is_tied = leaves["wte"] is leaves["lm_head"]
    arrays = {
        name: leaf[:] if isinstance(leaf, (Rows, Transposed)) else leaf for name, leaf in leaves.items()
    }
    return together(arrays | ({"lm_head": arrays["wte"]} if is_tied else {}))


def logits_of(params, ids=IDS):
    return gpt2.gpt2(ids, **params, n_head=N_HEAD)


# ---- which arrays change -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_change_and_all_other_arrays_are_shared(params, kind):
    found, matrices = quantize(params, kind), set()
    assert apart(found).keys() == apart(params).keys()
    for name, leaf in apart(found).items():
        if name.endswith("/w"):
            matrices.add(name)
            assert type(leaf) is Transposed and type(leaf.T) is KINDS[kind]
            assert leaf.shape == flatten(params)[name].shape
        elif name not in ("wte", "lm_head"):
            assert leaf is flatten(params)[name], name
    assert len(matrices) == 4 * SMALL["n_layer"]
    if kind == "nf4":
        assert type(found["wte"]) is Float32 and found["wte"].matrix is params["wte"]
    else:
        assert type(found["wte"]) is KINDS[kind]
    assert kind_of_weights(found) == kind and kind_of_weights(params) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_params_given_stay_as_they_are(params, untied, kind):
    for given in (params, untied):
        before = {name: (array, array.copy()) for name, array in apart(given).items()}
        quantize(given, kind)
        for name, array in apart(given).items():
            assert array is before[name][0] and np.array_equal(array, before[name][1]), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_tied_stays_tied_and_a_head_of_its_own_is_quantized_on_its_own(params, untied, kind):
    tied = apart(quantize(params, kind))
    assert tied["wte"] is tied["lm_head"]
    leaves, given = apart(quantize(untied, kind)), apart(untied)
    assert isinstance(quantize(untied, kind)["wte"], UntiedEmbedding)
    for name in ("wte", "lm_head"):
        alone = (Float32 if kind == "nf4" else KINDS[kind]).of(given[name])
        np.testing.assert_array_equal(leaves[name][:], alone[:])
    assert not np.array_equal(leaves["wte"][:], leaves["lm_head"][:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_kind_again_changes_nothing(params, untied, kind):
    for given in (params, untied):
        once = quantize(given, kind)
        again = apart(quantize(once, kind))
        for name, leaf in apart(once).items():
            assert again[name] is leaf, name


def test_a_matrix_stands_for_weights_near_its_own(params):
    for kind, least in (("int8", 0.9999), ("int4", 0.99), ("nf4", 0.99)):
        leaves = apart(quantize(params, kind))
        for name, array in apart(params).items():
            found = np.asarray(leaves[name][:])
            alike = np.vdot(found, array) / (np.linalg.norm(found) * np.linalg.norm(array))
            assert least < alike and (found.shape, found.dtype) == (array.shape, np.float32)


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_and_an_unknown_one_are_refused_in_one_line(params, kind):
    for other in {*KINDS} - {kind}:
        line = f"weights is '{other}', but the model's are {kind} already: start from its float32 weights"
        with pytest.raises(ValueError, match=line):
            quantize(quantize(params, kind), other)
    with pytest.raises(ValueError, match="^weights is 'int5', expected int8, int4, nf4; did you mean int"):
        quantize(params, "int5")
    for wrong in ("", "float16", None, 4, "a\nb"):
        with pytest.raises(ValueError, match=r"^weights is '.*', expected int8, int4, nf4.*$"):
            quantize(params, wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_is_attached_is_refused_and_one_that_is_merged_is_quantized(params, adapter, kind):
    for attached in (lora.attach(params, adapter), lora.attach(quantize(params, kind), adapter)):
        with pytest.raises(ValueError, match="h1/attn/c_attn/w has an adapter beside it: quantize the base"):
            quantize(attached, kind)
    merged = lora.merge(params, adapter)
    found = quantize(merged, kind)["blocks"][1]["attn"]["c_attn"]["w"]
    wanted = KINDS[kind].of(merged["blocks"][1]["attn"]["c_attn"]["w"].T)
    np.testing.assert_array_equal(found.T.codes, wanted.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_on_a_quantized_base_is_attached_and_adds_its_product(params, adapter, kind):
    base = quantize(params, kind)
    float_base = widened(base)
    for way in (lora.attach, lora.merge):  # which leaves what is no array as it is
        found = way(base, adapter)
        w = found["blocks"][1]["attn"]["c_attn"]["w"]
        assert type(w) is lora.LowRank and w.w is base["blocks"][1]["attn"]["c_attn"]["w"]
        assert_same_logits(logits_of(found), logits_of(lora.merge(float_base, adapter)))
    assert np.abs(logits_of(found) - logits_of(base)).max() > 0.1


# ---- the model's code stays the same -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_its_logits_are_those_of_the_float32_matrices_it_stands_for(params, untied, kind):
    for given in (params, untied):
        found = quantize(given, kind)
        for ids in (IDS[:1], IDS[:5], IDS, np.stack([IDS, IDS[::-1]])):
            assert_same_logits(logits_of(found, ids), logits_of(widened(found), ids))


def test_variants_are_kept(params):
    for block in params["blocks"]:
        block["mlp"]["act"], block["ln_1"]["eps"] = exact_gelu, 1e-3
    found = quantize(params, "int8")
    assert_same_logits(logits_of(found), logits_of(widened(found)))
    assert found["blocks"][0]["mlp"]["act"] is exact_gelu and found["blocks"][1]["ln_1"]["eps"] == 1e-3


def plain_loop(params, ids, n):
    """The likeliest ids, from all positions each time, with no cache."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(np.argmax(logits_of(params, ids)[-1])))
    return ids[-n:]


@pytest.mark.parametrize("kind", KINDS)
def test_cache_batches_and_speculation_give_the_ids_of_the_plain_loop(params, untied, kind):
    prompts = [list(IDS[:1]), list(IDS[3:8]), list(IDS[:12])]
    for given in (params, untied):
        found = quantize(given, kind)
        batch = batching.generate(prompts, found, N_HEAD, 12)
        for prompt, of_batch in zip(prompts, batch):
            wanted = plain_loop(found, prompt, 12)
            drafts = speculative.draft_model(quantize(lively_params(SMALL, seed=2), kind), N_HEAD)
            for ids in (
                gpt2.generate(prompt, found, N_HEAD, 12),
                of_batch,
                list(speculative.stream(prompt, found, N_HEAD, 12)),
                list(speculative.stream(prompt, found, N_HEAD, 12, guess=drafts)),
            ):
                assert_same_ids(ids, wanted, lambda new, p=prompt, m=found: logits_of(m, [*p, *new])[-1])


def test_a_head_can_be_cut_and_a_forward_pass_looked_into(params):
    found = quantize(params, "int4")
    twin = widened(found)
    maps = (inside.attention_maps(IDS, **model, n_head=N_HEAD) for model in (found, twin))
    for ours, wanted in zip(*maps):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)
    cut = inside.without_head(found, N_HEAD, 1, 2)
    assert_same_logits(logits_of(cut), logits_of(inside.without_head(twin, N_HEAD, 1, 2)))
    assert isinstance(found["blocks"][1]["attn"]["c_proj"]["w"], Transposed)


# ---- what it costs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, most", [("int8", 0.003), ("int4", 0.04), ("nf4", 0.04)])
def test_the_bundled_model_predicts_stories_nearly_as_well(tiny, kind, most):
    encoder, hparams, params = tiny
    stories = scoring.read_documents(ROOT / "tests" / "stories.txt")
    found = {}
    for name, model in (("float32", params), (kind, quantize(params, kind))):
        found[name] = scoring.bits_per_byte(
            stories, encoder, lambda ids, model=model: scoring.nats(ids, model, hparams["n_head"])
        )
    assert 0 < found[kind] - found["float32"] < most


NO_NUMBA = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path("gpt2.py", run_name="__main__")
except SystemExit as end:
    assert not end.code
print("numba" in sys.modules)
"""


def imports_numba(*words):
    done = run_python("-c", NO_NUMBA, "gpt2.py", *words, check=True)
    return json.loads(done.stdout.split()[-1].lower())


def test_numba_is_not_imported_until_weights_of_few_bits_are_asked_for(tmp_path, tiny):
    """It takes longer than all other imports together."""
    export.save(tmp_path / "out", *tiny)
    words = ("The fox", "2")
    assert not imports_numba(*words, "tiny")
    assert not imports_numba(*words, str(tmp_path / "out"))
    assert not imports_numba("--models")
    assert not imports_numba("--check", "--model_size", str(tmp_path / "out"))
    assert imports_numba(*words, "tiny", "--weights", "int8")


def test_matrices_of_two_kinds_are_refused(params):
    mixed = quantize(params, "int8")
    mixed["blocks"][0]["attn"]["c_attn"]["w"] = params["blocks"][0]["attn"]["c_attn"]["w"]
    with pytest.raises(ValueError, match="weights is 'int4', but .* is Int8: start from float32 weights"):
        quantize(mixed, "int4")
