"""An adapter changes logits and text as peft's does, alone and with others: `pytest -m parity`."""

import re

import foreign_models
import numpy as np
import pytest
from adapted_models import logits_of, ours, randomize, read_base, save_base
from foreign_models import N_EMBD
from helpers import assert_same_ids, assert_same_logits, run

import gpt2
import utils
from extras import lora, scoring
from extras.huggingface import adapters
from files import ModelError

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # peft warns of much

PROMPT, N_NEW = "The little fox", 20
LEARNT = "The little fox was a baker. Every morning he made round loaves."


def loaded(model, names):  # -> params
    """What --lora makes of a model."""
    return utils.load_encoder_hparams_and_params(model, "models", names)[2]


# ---- tiny, trained -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(transformers, tmp_path_factory):
    """The bundled model in the layout of transformers."""
    folder = tmp_path_factory.mktemp("models") / "exported"
    assert run(["tiny", str(folder)], "extras.huggingface.export") == 0
    return folder


def learn(peft, model, tokenizer, text, **fields):
    """Train an adapter on one sentence, with peft."""
    import torch

    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, **fields)
    model = peft.get_peft_model(model, config)
    ids = tokenizer(text, return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(20):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(transformers, exported):
    return transformers.AutoTokenizer.from_pretrained(exported)


@pytest.fixture(scope="module")
def style(peft, exported, tokenizer, tmp_path_factory):
    """An adapter's folder, and the model that peft makes of it."""
    folder = tmp_path_factory.mktemp("adapters") / "style"
    model = learn(peft, read_base(exported), tokenizer, LEARNT, target_modules=["c_attn", "c_fc"], bias="all")
    model.save_pretrained(folder)
    return folder, peft.PeftModel.from_pretrained(read_base(exported), folder).eval()


def greedy(model, tokenizer, prompt=PROMPT):  # -> ids, text
    import torch

    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        new = model.generate(**ids, max_new_tokens=N_NEW, do_sample=False)[0, ids.input_ids.shape[1] :]
    return new.tolist(), tokenizer.decode(new)


def test_the_command_writes_what_peft_writes(style, exported, tokenizer, capsys):
    folder, model = style
    ids, text = greedy(model, tokenizer)
    base = greedy(read_base(exported), tokenizer)[0]
    assert sum(a != b for a, b in zip(ids, base)) > 5 and " was a baker" in text
    capsys.readouterr()
    for of_base in (["-m", "tiny"], ["-m", str(exported)], []):  # the last is named in adapter_config.json
        assert run([PROMPT, "-n", str(N_NEW), "--lora", str(folder), *of_base]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == (f"{text}\n", ""), of_base


def test_an_attached_adapter_generates_what_peft_generates(style, tokenizer, tiny):
    folder, model = style
    encoder, hparams, params = tiny
    attached, prompt = lora.attach(params, adapters.load(folder, hparams)), encoder.encode(PROMPT)
    assert prompt == tokenizer(PROMPT).input_ids

    def next_logits(ids):
        return logits_of(model, [[*prompt, *ids]])[0, -1]

    new = gpt2.generate(prompt, attached, hparams["n_head"], N_NEW)
    assert_same_ids(new, greedy(model, tokenizer)[0], next_logits)


@pytest.mark.parametrize("text", [LEARNT, "The market was round."])
def test_scoring_an_adapted_model_gives_pefts_loss(style, tiny, tmp_path, capsys, text):
    import torch

    folder, model = style
    ids = scoring.document_ids(text, tiny[0])
    with torch.no_grad():
        wanted = float(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss)
    _, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models", lora=folder)
    assert scoring.loss(ids, params, hparams["n_head"])[0] == pytest.approx(wanted, rel=1e-5)
    (tmp_path / "text").write_text(text)
    assert run([str(tmp_path / "text"), "-m", "tiny", "--lora", str(folder)], "extras.scoring") == 0
    assert float(re.search(r"nats a token +(\S+)", capsys.readouterr().out)[1]) == pytest.approx(
        wanted, abs=1e-3
    )


def test_an_adapted_model_is_exported_for_transformers(style, exported, tokenizer, tmp_path):
    folder, model = style
    words = ["tiny", str(tmp_path / "out"), "--lora", str(folder)]
    assert run(words, "extras.huggingface.export") == 0
    ids = [tokenizer(LEARNT).input_ids]
    assert_same_logits(logits_of(read_base(tmp_path / "out"), ids), logits_of(model, ids))
    assert np.abs(logits_of(read_base(exported), ids) - logits_of(model, ids)).max() > 1


def test_tokens_that_an_adapter_adds_are_its_own(peft, transformers, exported, tmp_path, capsys):
    import torch

    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    tokenizer.add_tokens(["<|user|>", "<|bot|>"])
    model, n_old = read_base(exported), len(tokenizer) - 2
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.transformer.wte.weight[n_old:].normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    chat = f"<|user|>{PROMPT}<|bot|> The fox is a baker and he is very happy.<|user|>"
    learn(peft, model, tokenizer, chat, target_modules=["c_attn", "c_proj"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    model = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path).eval()  # it resizes by the tokenizer
    prompt = f"<|user|>{PROMPT}<|bot|>"
    ids, text = greedy(model, tokenizer, prompt)
    encoder, hparams, params = utils.load_encoder_hparams_and_params("tiny", "models", lora=tmp_path)
    assert encoder.encode(chat) == tokenizer(chat).input_ids and n_old in encoder.encode(chat)
    assert hparams["n_vocab"] == len(tokenizer) == len(params["wte"])
    both = [tokenizer(chat).input_ids]
    assert_same_logits(ours(params, both, hparams["n_head"]), logits_of(model, both))
    assert text.startswith(" The fox is a baker")
    assert gpt2.generate(encoder.encode(prompt), params, hparams["n_head"], N_NEW) == ids
    capsys.readouterr()
    assert run([prompt, "-n", str(N_NEW), "-m", "tiny", "--lora", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{text}\n"


# ---- several adapters --------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[{}, {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True}]
)
def pair(request, peft, tmp_path_factory):
    """Two adapters, a and b, that share some matrices, on one model: folder, hparams, params, model."""
    folder, hparams, params = save_base(tmp_path_factory.mktemp("base"), **request.param)
    targets = {"a": ["c_attn", "wte", "lm_head", "mlp.c_proj"], "b": ["c_attn", "c_fc", "wpe", "lm_head"]}
    for seed, name in enumerate(targets):
        config = peft.LoraConfig(
            target_modules=targets[name], r=2 + seed, lora_alpha=9, use_rslora=name == "b"
        )
        model = peft.get_peft_model(read_base(folder), config)
        randomize(model, seed)
        model.save_pretrained(folder / name)
    model = peft.PeftModel.from_pretrained(read_base(folder), folder / "a", adapter_name="a")
    model.load_adapter(folder / "b", "b")
    return folder, hparams, params, model


def both(pair):
    """Two adapters, and params with the arrays of both: with a changed head, peft saves the base's own."""
    folder, hparams, params, _ = pair
    found = [adapters.load(folder / name, hparams) for name in "ab"]
    assert all("lm_head" in adapter.arrays for adapter in found)
    for adapter in found:
        params = lora.replaced(params, adapter)
    return [adapter._replace(arrays={}) for adapter in found], params


def test_two_adapters_together_are_those_of_peft(pair):
    (a, b), params = both(pair)
    folder, *_, model = pair
    model.base_model.set_adapter(["a", "b"])
    wanted = logits_of(model)
    for one in (lora.attach, lora.merge):
        for other in (lora.attach, lora.merge):
            assert_same_logits(ours(other(one(params, a), b)), wanted)
            assert_same_logits(ours(other(one(params, b), a)), wanted)
    for first, second in ("ab", "ba"):
        assert_same_logits(ours(loaded(folder, f"{folder / first},{folder / second}")), wanted)


@pytest.mark.parametrize("strengths", [(0.5, 2), (-1, 0.25), (1, 0), (0, 0)])
def test_the_strength_of_an_adapter_is_pefts_scale(pair, strengths):
    from peft.tuners.lora import LoraLayer

    folder, *_, model = pair
    model.base_model.set_adapter(["a", "b"])
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]

    def scale(strengths):
        for name, strength in zip("ab", strengths):
            for layer in layers:
                layer.set_scale(name, strength)

    scale(strengths)
    wanted = logits_of(model)
    scale((1, 1))
    for change in (lora.attach, lora.merge):
        (a, b), params = both(pair)
        found = change(change(params, a, strengths[0]), b, strengths[1])
        assert_same_logits(ours(found), wanted)
    names = ",".join(f"{folder / name}:{strength}" for name, strength in zip("ab", strengths))
    assert_same_logits(ours(loaded(folder, names)), wanted)


def test_adapters_on_one_base_can_be_switched(pair):
    folder, hparams, params, model = pair
    attached = {name: lora.attach(params, adapters.load(folder / name, hparams)) for name in "ab"}
    for name in "abab":
        model.base_model.set_adapter(name)
        assert_same_logits(ours(attached[name]), logits_of(model))
    with model.disable_adapter():
        assert_same_logits(ours(params), logits_of(model))


def test_two_adapters_that_replace_one_array_are_refused_as_by_peft(peft, pair, tmp_path):
    folder, *_ = pair
    for name in "ab":
        config = peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["ln_f"])
        model = peft.get_peft_model(read_base(folder), config)
        randomize(model, ord(name))
        model.save_pretrained(tmp_path / name)
    model = peft.PeftModel.from_pretrained(read_base(folder), tmp_path / "a", adapter_name="a")
    model.load_adapter(tmp_path / "b", "b")
    with pytest.raises(ValueError):
        model.base_model.set_adapter(["a", "b"])
    with pytest.raises(ModelError, match="both change ln_f/b, and one of them replaces it whole; use"):
        utils.open_model(folder, "models", f"{tmp_path / 'a'},{tmp_path / 'b'}")


# ---- Microsoft's LoRA --------------------------------------------------------------------------------------


def merged_linear(a, b, r, alpha, enable_lora=(True, False, True)):  # -> what is added to [n_out, n_in]
    """MergedLinear of loralib: a convolution of width 1, in groups; rows of what is not enabled are zero."""
    n_out = N_EMBD * len(enable_lora)
    groups, rows = sum(enable_lora), n_out // len(enable_lora)
    a, b = a.reshape(groups, r, -1), b.reshape(groups, rows, r)
    delta = np.zeros((len(enable_lora), rows, a.shape[-1]), np.float32)
    delta[np.array(enable_lora)] = b @ a  # zero_pad
    return delta.reshape(n_out, -1) * (alpha / r)


@pytest.mark.parametrize(
    "fields", [{}, {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}]
)
@pytest.mark.parametrize("r, alpha", [(4, 32), (3, 5), (1, 1)])
def test_an_adapter_of_microsofts_has_the_logits_of_its_formula(transformers, tmp_path, fields, r, alpha):
    import torch

    (tmp_path / "base").mkdir()
    base, hparams, params = save_base(tmp_path / "base", **fields)
    state = foreign_models.lora((r,) * hparams["n_layer"])
    file = foreign_models.save(state, tmp_path / "model.pt")
    words = [str(file), str(tmp_path / "out"), "--lora_alpha", str(alpha)]
    assert run(words, "extras.huggingface.convert") == 0
    model = read_base(base)
    for layer, block in enumerate(model.transformer.h):
        name = foreign_models.LORA.replace("0", str(layer))
        a, b = (state["model_state_dict"][name + letter].numpy() for letter in "AB")
        with torch.no_grad():
            block.attn.c_attn.weight += torch.from_numpy(
                merged_linear(a, b, r, alpha).T
            )  # Conv1D: [n_in, n_out]
    wanted = logits_of(model)
    assert np.abs(wanted - logits_of(read_base(base))).max() > 1e-2 * np.abs(wanted).max()
    adapter = adapters.load(tmp_path / "out", hparams)
    assert_same_logits(ours(lora.attach(params, adapter)), wanted)
    assert_same_logits(ours(loaded(base, tmp_path / "out")), wanted)
