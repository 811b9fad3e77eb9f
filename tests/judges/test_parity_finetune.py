"""A fine-tune learns what peft and PyTorch learn, and they read what it writes: `pytest -m parity`."""

import numpy as np
import pytest
from adapted_models import logits_of, ours, read_base, save_base
from foreign_models import N_HEAD
from helpers import assert_same_logits
from learning import finetune, story

import utils
from extras import gradients, optimizers
from extras.huggingface.loading import huggingface_name
from extras.learners import AllWeights, LowRankAdapter, adapted
from extras.untied import apart
from weights import flatten, nest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # peft warns of much

TARGETS = {"c_attn": ["c_attn"], "c_fc": ["c_fc"], "c_proj": ["c_proj"], "all": ["c_attn", "c_proj", "c_fc"]}
N_STEPS, RATE, RANK, ALPHA = 5, 0.01, 4, 10
PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def base(transformers, tmp_path_factory):
    """A model that transformers saved: folder, hparams, params."""
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text(story(120))
    return path


def batches():
    """A batch of other texts for each step."""
    for step in range(N_STEPS):
        ids = np.random.default_rng(step).integers(0, 257, (3, 13))
        yield ids[:, :-1], ids[:, 1:]


# ---- steps -------------------------------------------------------------------------------------------------


def our_steps(learner):
    """Steps of finetune.Run, without its schedule."""
    memory = {name: array.astype(float) for name, array in optimizers.adamw_memory(learner.leaves).items()}
    for step, (inputs, targets) in enumerate(batches(), 1):
        params = learner.params(np.random.default_rng(0))
        found = gradients.loss_and_gradients(inputs, targets, params, N_HEAD, trainable=learner.trainable)[1]
        found = learner.gradients(found)
        optimizers.clip(found, 1.0)
        optimizers.adamw(learner.leaves, found, memory, step, RATE)


def their_steps(model):
    """The same by PyTorch: autograd, clip_grad_norm_, and torch.optim.AdamW."""
    import torch

    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for inputs, targets in batches():
        logits = model(torch.from_numpy(inputs)).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()


def in_float64(params):  # -> params
    """AdamW divides a gradient that is nearly 0 by its own size: float32 would show rounding errors alone."""
    return nest({name: array.astype(float) for name, array in flatten(params).items()})


def assert_same_changes(found, wanted, before):
    """Equal to 1e-5 of the largest change of any array; each array has changed."""
    assert found.keys() == wanted.keys() == before.keys()
    largest = max(np.abs(wanted[name] - before[name]).max() for name in wanted)
    for name, array in wanted.items():
        assert np.abs(array - before[name]).max() > 0.1 * RATE, name
        assert np.abs(found[name] - array).max() <= 1e-5 * largest, name


@pytest.mark.parametrize("matrices", TARGETS)
def test_five_steps_change_a_and_b_as_those_of_peft_and_pytorch_do(peft, base, matrices):
    folder, hparams, params = base
    learner = LowRankAdapter(in_float64(params), hparams, matrices, RANK, ALPHA, 0.0, seed=0)
    learner.leaves = {name: array.astype(float) for name, array in learner.leaves.items()}
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS[matrices])
    model = peft.get_peft_model(read_base(folder), config).eval().double()
    theirs = {name: p for name, p in model.named_parameters() if p.requires_grad}
    names = {}
    for name in adapted(hparams, matrices):
        module = f"{PREFIX}transformer.{huggingface_name(name)}".removesuffix(".weight")
        names[f"{name}/a"], names[f"{name}/b"] = (
            f"{module}.lora_A.default.weight",
            f"{module}.lora_B.default.weight",
        )
    assert sorted(names.values()) == sorted(theirs)
    import torch

    rng = np.random.default_rng(2)
    for name, array in learner.leaves.items():
        if name.endswith("/b"):  # at 0, the first step would leave a as it is
            array[...] = rng.normal(0, 0.05, array.shape)
        with torch.no_grad():
            theirs[names[name]].copy_(torch.from_numpy(array.T.copy()))
    before = {name: array.copy() for name, array in learner.leaves.items()}
    our_steps(learner)
    their_steps(model)
    wanted = {name: theirs[names[name]].detach().numpy().T for name in names}
    assert_same_changes(learner.leaves, wanted, before)


def test_five_steps_change_all_weights_as_those_of_pytorch_do(base):
    folder, _, params = base
    learner, model = AllWeights(in_float64(params)), read_base(folder).double()
    names = {name: f"transformer.{huggingface_name(name)}" for name in learner.leaves}
    theirs = dict(model.named_parameters())
    assert sorted(names.values()) == sorted(theirs)
    before = {name: array.copy() for name, array in learner.leaves.items()}
    our_steps(learner)
    their_steps(model)
    wanted = {name: theirs[names[name]].detach().numpy() for name in names}
    for arrays in (learner.leaves, wanted, before):  # a bias of keys has no gradient but rounding errors
        for name in arrays:
            if name.endswith("c_attn/b"):
                queries, _, values = np.split(arrays[name], 3)
                arrays[name] = np.concatenate([queries, values])
    assert_same_changes(learner.leaves, wanted, before)


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrices", ["c_attn", "all", "qv"])
def test_peft_reads_what_the_program_writes_and_has_our_logits(peft, base, text, tmp_path, matrices):
    folder, _, params = base
    options = ["--n_steps=20", "--learning_rate=0.02", "--matrices", matrices]
    assert finetune(text, tmp_path / "out", "-m", folder, *options) == 0
    model = peft.PeftModel.from_pretrained(read_base(folder), tmp_path / "out").eval()
    read = utils.load_encoder_hparams_and_params(str(folder), None, str(tmp_path / "out"))[2]
    assert_same_logits(ours(read), logits_of(model))
    assert np.abs(ours(read) - ours(params)).max() > 1e-3 * np.abs(ours(params)).max()
    assert model.peft_config["default"].base_model_name_or_path == str(folder)


def test_transformers_loads_a_model_of_which_all_weights_have_learned(transformers, base, text, tmp_path):
    folder, _, params = base
    assert (
        finetune(text, tmp_path / "out", "-m", folder, "--full", "--n_steps=20", "--learning_rate=0.02") == 0
    )
    encoder, _, read = utils.load_encoder_hparams_and_params(str(tmp_path / "out"), None)
    assert_same_logits(ours(read), logits_of(read_base(tmp_path / "out")))
    before = apart(params)
    for name, array in apart(read).items():
        if isinstance(array, np.ndarray):
            assert not np.array_equal(array, before[name]), name
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("The fox met a hen.")["input_ids"] == encoder.encode("The fox met a hen.")
