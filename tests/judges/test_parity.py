"""The same numbers as Hugging Face transformers, from the same weights: `pytest -m parity`."""

import numpy as np
import pytest
from helpers import as_transformers, assert_same_ids, assert_same_logits, command, save_with_tensorflow

import checkpoint
import gpt2
import weights
from checkpoint import in_openai_layout
from encoder import get_encoder

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("transformers")]

HPARAMS = {
    "small": {"n_vocab": 301, "n_ctx": 256, "n_embd": 48, "n_head": 4, "n_layer": 3},
    "124M": {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
}


@pytest.fixture(scope="module", params=HPARAMS)
def models(request, transformers):
    """hparams, our params, and the same weights in a GPT2LMHeadModel."""
    hparams = HPARAMS[request.param]
    arrays = weights.flatten(weights.random_params(hparams, np.random.default_rng(0)))
    rng = np.random.default_rng(1)
    for name, array in arrays.items():  # no bias is zero, no scale one
        arrays[name] = (array + rng.normal(0, 0.02, array.shape)).astype(np.float32)
    return hparams, weights.nest(arrays), as_transformers(arrays, hparams)


def ids_of(hparams, *shape):
    return np.random.default_rng(7).integers(0, hparams["n_vocab"], shape)


def theirs_on(model, ids):
    """Logits and every hidden state, the last one after the final norm."""
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(np.atleast_2d(ids)), output_hidden_states=True)
    shape = np.shape(ids)
    return out.logits.numpy().reshape(*shape, -1), [h.numpy().reshape(*shape, -1) for h in out.hidden_states]


def hidden_states(ids, wte, wpe, blocks, ln_f, n_head):
    """The residual stream before every block, and the final hidden state."""
    x = wte[ids] + wpe[range(np.shape(ids)[-1])]
    states = [x]
    for block in blocks:
        states.append(gpt2.transformer_block(states[-1], **block, n_head=n_head))
    return [*states[:-1], gpt2.layer_norm(states[-1], **ln_f)]


def cached(ids, params, n_head, sizes):
    """Logits at every position, fed through a cache in chunks of these sizes."""
    cache = gpt2.new_kv_cache(params, n_head, ids.shape[-1], *ids.shape[:-1])
    ends = np.cumsum(sizes)
    return np.concatenate(
        [
            gpt2.gpt2(ids[..., end - size : end], **params, n_head=n_head, kv_cache=cache, n_past=end - size)
            for size, end in zip(sizes, ends)
        ],
        axis=-2,
    )


def test_logits_and_hidden_states_are_the_same_at_every_position(models):
    hparams, params, model = models
    ids = ids_of(hparams, hparams["n_ctx"])
    logits, states = theirs_on(model, ids)
    assert_same_logits(gpt2.gpt2(ids, **params, n_head=hparams["n_head"]), logits)
    ours = hidden_states(ids, **params, n_head=hparams["n_head"])
    assert len(ours) == len(states) == hparams["n_layer"] + 1
    for state, wanted in zip(ours, states):
        assert_same_logits(state, wanted)


def test_a_batch_gives_the_same_logits(models):
    hparams, params, model = models
    ids = ids_of(hparams, 3, 20)
    assert_same_logits(gpt2.gpt2(ids, **params, n_head=hparams["n_head"]), theirs_on(model, ids)[0])


@pytest.mark.parametrize("sizes", [[1] * 60, [20, *[1] * 40], [33, 27], [59, 1]])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_cache_gives_the_same_logits_whatever_the_chunks(models, sizes, batch):
    hparams, params, model = models
    ids = ids_of(hparams, *batch, 60)
    assert_same_logits(cached(ids, params, hparams["n_head"], sizes), theirs_on(model, ids)[0])


def assert_same_greedy_ids(ours, theirs, prompt, model):
    assert_same_ids(ours, theirs, lambda ids: theirs_on(model, np.array([*prompt, *ids]))[0][-1])


def greedy(model, prompt, n):
    import torch

    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_greedy_ids_are_the_same(models, share):
    hparams, params, model = models
    n = min(100, hparams["n_ctx"] // 2)
    prompt = ids_of(hparams, max(2, int(share * hparams["n_ctx"]))).tolist()
    ours = gpt2.generate(prompt, params, hparams["n_head"], n)
    assert_same_greedy_ids(ours, greedy(model, prompt, n), prompt, model)


def test_the_bundled_model_gives_the_same_logits_and_ids(tiny):
    encoder, hparams, params = tiny
    model = as_transformers(weights.flatten(params), hparams)
    ids = np.array(encoder.encode("Once upon a time there was a fox who lived in the wood."))
    assert_same_logits(gpt2.gpt2(ids, **params, n_head=hparams["n_head"]), theirs_on(model, ids)[0])
    ours = gpt2.generate(ids, params, hparams["n_head"], 100)
    assert_same_greedy_ids(ours, greedy(model, ids.tolist(), 100), ids, model)


def test_the_command_gives_the_same_text_from_a_checkpoint_that_tensorflow_wrote(tf, released, tmp_path):
    hparams = HPARAMS["124M"]
    arrays = weights.flatten(weights.random_params(hparams, np.random.default_rng(3)))
    save_with_tensorflow(tf, tmp_path / "model.ckpt", in_openai_layout(arrays))
    written, theirs = (
        {name: entry[:4] for name, entry in checkpoint.read_index(folder / "model.ckpt.index").items()}
        for folder in (tmp_path, released)
    )
    assert written == theirs  # but for the checksums
    for name in ("hparams.json", "encoder.json", "vocab.bpe"):
        (tmp_path / name).symlink_to(released / name)
    text = "Alan Turing theorized that computers would one day become"
    done = command(text, "--model_size", str(tmp_path))
    encoder = get_encoder(str(tmp_path), "models")
    prompt, model = encoder.encode(text), as_transformers(arrays, hparams)
    ours = gpt2.generate(prompt, weights.nest(arrays), hparams["n_head"], 40)
    assert_same_greedy_ids(ours, greedy(model, prompt, 40), prompt, model)
    assert done.returncode == 0 and done.stdout.decode() == encoder.decode(ours) + "\n"
