"""We read what transformers writes, and it reads what we write, with the same results: `pytest -m parity`."""

import json
from functools import partial

import numpy as np
import pytest
from helpers import TINY, assert_same_ids, assert_same_logits

import gpt2
from extras import huggingface
from extras.huggingface import export, task_heads, tensors
from files import ModelError

pytestmark = pytest.mark.parity

SIZES = {"vocab_size": 4003, "n_positions": 64, "n_embd": 48, "n_head": 4, "n_layer": 3}
SIZES |= {"bos_token_id": 3999, "eos_token_id": 3999, "pad_token_id": 4002}
IDS = np.random.default_rng(0).integers(0, 3999, (3, 64))
VARIANTS = {
    "exact gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "tanh": {"activation_function": "tanh"},
    "eps": {"layer_norm_epsilon": 1e-3},
    "attention not scaled": {"scale_attn_weights": False},
    "attention scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "attention scaled by layer only": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "narrow ffn": {"n_inner": 40},
    "head of its own": {"tie_word_embeddings": False},
}


@pytest.fixture(scope="module")
def tokenizer(transformers):
    """The bundled vocabulary with three more tokens."""
    tokenizer = transformers.GPT2TokenizerFast(str(TINY / "encoder.json"), str(TINY / "vocab.bpe"))
    tokenizer.add_tokens(["<|user|>", "two words"])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer


def lively(model, factor=8):
    """Weights so large that every term matters; biases and scales are random too."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.mul_(factor)
            else:
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def build(transformers, kind="GPT2LMHeadModel", **config):
    """A transformers model with random weights, the same for the same shapes."""
    import torch

    torch.manual_seed(0)
    return lively(getattr(transformers, kind)(transformers.GPT2Config(**SIZES | config)))


def logits_of(model, ids=IDS, **options):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(ids), **options).logits.numpy()


def ours(hparams, params, ids=IDS):
    return gpt2.gpt2(ids, **params, n_head=hparams["n_head"])


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture
def read_back(transformers, tokenizer, tmp_path):
    """A model that transformers saved, as we load it; and that, saved by us, as transformers loads it."""

    def read_back(model, **options):
        model.save_pretrained(tmp_path / "theirs", **options)
        tokenizer.save_pretrained(tmp_path / "theirs")
        loaded = huggingface.load(tmp_path / "theirs")
        export.save(tmp_path / "ours", *loaded)
        again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
        return loaded, again

    return read_back


@pytest.mark.parametrize("variant", ["plain", *VARIANTS])
def test_each_variant_has_the_same_logits_read_and_written(transformers, read_back, variant):
    model = build(transformers, **VARIANTS.get(variant, {}))
    (encoder, hparams, params), again = read_back(model)
    wanted = logits_of(model)
    assert_same_logits(ours(hparams, params), wanted)
    assert_same_logits(logits_of(again), wanted)
    plain = build(transformers)
    if variant in ("plain", "narrow ffn"):
        return
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    plain.tie_weights()
    assert difference(logits_of(plain), wanted) > 1e-4  # ten times what parity allows


def test_attention_computed_in_another_order_has_the_same_logits(transformers, read_back):
    model = build(transformers, reorder_and_upcast_attn=True, attn_implementation="eager")
    (_, hparams, params), _ = read_back(model)
    assert_same_logits(ours(hparams, params), logits_of(model))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "100KB"}])
def test_half_precision_and_shards_have_the_same_logits(transformers, read_back, tmp_path, dtype, shards):
    import torch

    model = build(transformers).to(getattr(torch, dtype))
    (_, hparams, params), _ = read_back(model, **shards)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) == (3 if shards else 1)
    assert_same_logits(ours(hparams, params), logits_of(model.float()))


def test_a_model_without_a_head_or_with_masks_has_the_same_logits(transformers, tokenizer, tmp_path):
    from safetensors.numpy import load_file, save_file

    model = build(transformers)
    model.transformer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert_same_logits(ours(*huggingface.load(tmp_path)[1:]), logits_of(model))
    tensors = load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in tensors
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), dtype=np.uint8))
        tensors[f"h.{layer}.attn.masked_bias"] = np.array(-1e4, dtype=np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_logits(ours(*huggingface.load(tmp_path)[1:]), logits_of(model))


HEADS = {
    "v_head.summary.weight": (1, 48),
    "v_head.summary.bias": (1,),
    "score.weight": (2, 48),
    "classifier.bias": (5,),
}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architectures": ["GPT2DoubleHeadsModel"]},
        {"architectures": ["AutoModelForCausalLMWithValueHead"]},
        {"auto_map": {"AutoConfig": "configuration.Mine", "AutoModelForCausalLM": "modeling.Mine"}},
        {"attention_head_type": "multihead", "tokenizer_class": "BertTokenizer"},
    ],
)
def test_what_lies_beside_a_language_model_changes_neither_our_logits_nor_theirs(
    transformers, tokenizer, tmp_path, config
):
    from safetensors.numpy import load_file, save_file

    model = build(transformers)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    heads = {name: np.ones(shape, dtype=np.float32) for name, shape in HEADS.items()}
    save_file(load_file(path) | heads, path, metadata={"format": "pt"})
    fields = json.loads((tmp_path / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(fields))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    wanted = logits_of(model)
    assert_same_logits(logits_of(theirs), wanted)
    assert_same_logits(ours(*huggingface.load(tmp_path)[1:]), wanted)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "pretrained_model."])
def test_names_with_a_prefix_are_refused_where_transformers_would_make_up_every_weight(
    transformers, tmp_path, prefix
):
    from safetensors.numpy import load_file, save_file

    model = build(transformers)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({prefix + name: array for name, array in load_file(path).items()}, path, {"format": "pt"})
    load = transformers.AutoModelForCausalLM.from_pretrained
    _, found = load(tmp_path, output_loading_info=True)
    assert {"transformer.wte.weight", "transformer.h.2.mlp.c_fc.weight"} <= {*found["missing_keys"]}
    with pytest.raises(ModelError, match=f"the names of its tensors begin with {prefix}, which"):
        tensors.read_tensors(tmp_path)


def test_greedy_ids_are_the_same_with_every_variant_at_once(transformers, read_back):
    every = {name: value for variant in VARIANTS.values() for name, value in variant.items()}
    model = build(transformers, **every | {"activation_function": "gelu"})
    (_, hparams, params), again = read_back(model)
    for prompt in IDS[:, :10]:
        mine = gpt2.generate(prompt, params, hparams["n_head"], 20)
        for theirs in (model, again):
            assert_same_ids(mine, greedy(theirs, prompt, 20), partial(next_logits, model, prompt))


def greedy(model, prompt, n):
    import torch

    with torch.no_grad():
        ids = model.generate(
            torch.from_numpy(prompt[None]), max_new_tokens=n, min_new_tokens=n, do_sample=False
        )
    return ids[0, len(prompt) :].tolist()


def next_logits(model, prompt, ids):
    return logits_of(model, np.array([[*prompt, *ids]]))[0, -1]


# ---- task heads --------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(transformers, tokenizer, tmp_path):
    """A transformers model with one of the task heads, and what task_heads.load returns for it."""

    def loaded(kind, **config):
        model = build(transformers, kind, **config)
        model.save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        _, hparams, params, head = task_heads.load(tmp_path / kind)
        return model, (params, hparams["n_head"], head)

    return loaded


def padded():
    """Three texts of 64, 5 and 40 tokens."""
    return np.where(np.arange(64) < np.array([64, 5, 40])[:, None], IDS, 4002)


def test_labels_of_a_text_have_the_same_scores(loaded):
    names = {0: "bad", 1: "fair", 2: "good"}
    model, ours = loaded("GPT2ForSequenceClassification", id2label=names)
    assert_same_logits(task_heads.score_text(padded(), *ours), logits_of(model, padded()))
    assert ours[-1]["labels"] == list(names.values())


@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_any_number_of_labels_is_read(loaded, n_labels):
    model, ours = loaded("GPT2ForSequenceClassification", num_labels=n_labels)
    assert len(ours[-1]["labels"]) == n_labels
    assert_same_logits(task_heads.score_text(padded(), *ours), logits_of(model, padded()))


def test_labels_of_tokens_have_the_same_scores(loaded):
    model, ours = loaded("GPT2ForTokenClassification", num_labels=5)
    assert_same_logits(task_heads.score_tokens(IDS, *ours), logits_of(model))


def test_answer_spans_have_the_same_scores(loaded):
    import torch

    model, ours = loaded("GPT2ForQuestionAnswering", activation_function="gelu")
    with torch.no_grad():
        wanted = model(torch.from_numpy(IDS))
    starts, ends = task_heads.score_spans(IDS, *ours)
    assert_same_logits(starts, wanted.start_logits.numpy())
    assert_same_logits(ends, wanted.end_logits.numpy())
    assert difference(starts, ends) > 0.1


@pytest.mark.parametrize("tied", [True, False])
def test_choices_have_the_same_scores(loaded, tied):
    import torch

    model, ours = loaded("GPT2DoubleHeadsModel", tie_word_embeddings=tied)
    ends = [63, 4, 39]
    with torch.no_grad():
        wanted = model(torch.from_numpy(padded()[None]), mc_token_ids=torch.tensor([ends]))
    assert_same_logits(task_heads.score_choices(padded(), *ours, ends), wanted.mc_logits[0].numpy())
    params, n_head, _ = ours
    assert_same_logits(gpt2.gpt2(padded(), **params, n_head=n_head), wanted.logits[0].numpy())
