"""Random adapters of peft have the logits that peft gives them, or are refused: `pytest -m parity`."""

import contextlib
import json
import re
from collections import Counter

import numpy as np
import pytest
from adapted_models import N_VOCAB, compare, logits_of, ours, randomize, read_base, save_base
from helpers import assert_same_logits

from extras import lora
from extras.huggingface import adapters
from extras.huggingface.adapter_config import ALLOWED, FIELDS, IGNORED, is_target, read_adapter_config
from files import ModelError

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # peft warns of much

LEAST = 60  # configurations that every run compares
BASES = {
    "plain": {},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "not scaled": {"scale_attn_weights": False, "activation_function": "gelu"},
    "untied": {"tie_word_embeddings": False},
    "all": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "n_inner": 20}
    | {"tie_word_embeddings": False, "activation_function": "silu"},
}
TARGETS = ("c_attn", "attn.c_proj", "mlp.c_proj", "c_proj", "c_fc", "wte", "wpe", "lm_head")
EXACT = ("transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc", "h.1.attn.c_proj", "0.attn.c_attn")
PATTERNS = (
    "all-linear",
    "ALL-linear",
    r".*\.c_attn",
    r".*(attn|mlp)\.c_proj",
    r"transformer\.h\.[12]\.mlp\.c_.*",
)
PATTERNS += (
    r".*h\.0\..*c_.*",
    r"transformer\.w.e",
    r"(.*\.)?(lm_head|c_fc|wte)",
    "lm_head",
    r".*\.h\.\d\.mlp.*",
)
EXCLUDED = (
    ["c_proj"],
    ["mlp.c_proj", "wte"],
    r".*h\.0\..*",
    "lm_head",
    ["h.1.attn.c_attn"],
    r".*\.1\..*c_attn",
)
OF_PATTERN = (
    "c_attn",
    "h.1.attn.c_attn",
    "^transformer.h.0.mlp.c_fc",
    r"\d+.attn.c_proj",
    "mlp.c_proj|c_fc",
    "wte",
)
OF_PATTERN += ("lm_head", "transformer.h.2.attn.c_attn", "c_.*", "attn")
WHOLE = ("ln_f", "ln_1", "ln_2", "mlp", "wte", "wpe", "lm_head", "c_fc", "c_attn", "h.1", "n_1")
LAYERS = (0, 1, 2, [0], [0, 2], [2, 1], [])


@pytest.fixture(scope="module")
def bases(transformers, tmp_path_factory):
    """Small models that transformers saved: {name: (folder, hparams, params)}."""
    return {name: save_base(tmp_path_factory.mktemp("base"), **fields) for name, fields in BASES.items()}


# ---- random adapters ---------------------------------------------------------------------------------------


def draw(rng, values):
    return values[rng.integers(len(values))]


def some(rng, values):  # -> list of one to four of them
    return [str(value) for value in rng.choice(values, rng.integers(1, 5), replace=False)]


def random_fields(rng):  # -> {field of LoraConfig: value}
    """What changes which matrices, and how much; peft refuses some of it."""

    def maybe(p, value):
        return value() if rng.random() < p else None

    def alpha():
        return int(rng.integers(1, 33)) if rng.random() < 0.7 else float(np.round(rng.uniform(0.3, 20), 2))

    targets = draw(rng, PATTERNS) if rng.random() < 0.3 else some(rng, TARGETS)
    if rng.random() < 0.2 and isinstance(targets, list):
        targets += some(rng, EXACT)
    layers = maybe(0.35, lambda: draw(rng, LAYERS))
    return {
        "target_modules": targets,
        "layers_to_transform": layers,
        "layers_pattern": None if layers is None else draw(rng, [None, "h", ["h"], ["x", "h"], ""]),
        "exclude_modules": maybe(0.25, lambda: draw(rng, EXCLUDED)),
        "r": int(rng.integers(1, 10)),
        "lora_alpha": alpha(),
        "rank_pattern": {draw(rng, OF_PATTERN): int(rng.integers(1, 10)) for _ in range(rng.integers(3))},
        "alpha_pattern": {draw(rng, OF_PATTERN): alpha() for _ in range(rng.integers(3))},
        "use_rslora": rng.random() < 0.3,
        "fan_in_fan_out": rng.random() < 0.5,
        "bias": draw(rng, ["none", "none", "all", "lora_only"]),
        "modules_to_save": maybe(0.35, lambda: some(rng, WHOLE)),
        "ensure_weight_tying": rng.random() < 0.15,
        "task_type": draw(rng, ["CAUSAL_LM", "CAUSAL_LM", None]),
    }


def save_random(rng, peft, base, folder):  # -> how many rows it adds to the embedding
    """Let peft make an adapter and save it; raises what peft raises."""
    import torch
    from safetensors.torch import load_file, save_file

    model, fields = read_base(base), random_fields(rng)
    n_more = int(rng.integers(1, 9)) if rng.random() < 0.2 else 0
    if n_more:
        model.resize_token_embeddings(N_VOCAB + n_more, mean_resizing=False)
    model = peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=False, **fields))
    randomize(model, int(rng.integers(1000)))
    save_embedding = draw(rng, ["auto", "auto", True] if n_more else ["auto", True, False])
    model.save_pretrained(folder, save_embedding_layers=save_embedding)
    path = folder / "adapter_config.json"
    fields = json.loads(path.read_text())
    fields["fan_in_fan_out"] ^= rng.random() < 0.5  # peft corrects it
    path.write_text(json.dumps(fields))
    dtype = draw(rng, [torch.float32, torch.float32, torch.float16, torch.bfloat16])
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return n_more if any(len(tensor) == N_VOCAB + n_more for tensor in tensors.values()) else 0


# ---- the claim ---------------------------------------------------------------------------------------------


def test_a_random_adapter_has_the_logits_that_peft_gives_it(peft, bases, tmp_path, n_fuzz):
    counts, reasons = Counter(), Counter()
    for seed in range(max(3 * LEAST // 2, n_fuzz // 2)):
        rng, folder = np.random.default_rng(seed), tmp_path / f"{seed}"
        base, hparams, params = bases[draw(rng, sorted(bases))]
        try:
            n_more = save_random(rng, peft, base, folder)
            model = peft.PeftModel.from_pretrained(read_base(base, n_more), folder)
        except Exception as error:  # whatever peft says
            counts["refused by peft"] += 1
            reasons[f"{type(error).__name__}: {error}"[:40]] += 1
            if folder.exists():  # it was written, but peft does not read it
                with contextlib.suppress(ModelError):
                    adapters.load(folder, hparams)
            continue
        try:
            adapter = adapters.load(folder, hparams)
        except ModelError as error:  # rightly: see the next test
            fields = json.loads((folder / "adapter_config.json").read_text())
            tied = fields["ensure_weight_tying"] and "lm_head.lora_A.weight" in error.problem
            assert tied or (n_more and "rows, but the base has" in error.problem), f"{seed}: {error}"
            counts["refused by us only"] += 1
            continue
        try:
            compare(model, params, adapter)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        counts["equal"] += 1
    print(dict(counts), dict(reasons), sep="\n")
    assert counts["equal"] >= LEAST and counts["refused by us only"] < 0.1 * counts["equal"]


def test_every_field_of_peft_is_known_and_a_missing_one_means_the_same(peft):
    fields = peft.LoraConfig().to_dict()
    for field, (usual, *_) in FIELDS.items():
        assert (fields.pop(field) or None) == (usual or None) or field == "target_modules", field
    for field, (usual, *_) in ALLOWED.items():
        assert fields.pop(field, usual) == usual, field
    refused = {field for field in fields if field not in IGNORED}
    assert not any(
        fields[field] for field in refused
    )  # so that no adapter is refused for what it does not use
    variants = {"use_dora", "lora_bias", "use_qalora", "target_parameters", "trainable_token_indices"}
    assert refused >= variants | {"layer_replication", "alora_invocation_tokens", "kasa_config"}


def test_the_matrices_are_those_that_peft_finds(peft, bases, tmp_path):
    from peft.tuners.tuners_utils import check_target_module_exists

    names = [
        name for name, module in read_base(bases["plain"][0]).named_modules() if hasattr(module, "weight")
    ]
    modules = [name for name in names if ".ln_" not in name]
    for seed in range(300):
        fields = random_fields(np.random.default_rng(seed))
        try:
            theirs = peft.LoraConfig(**fields)
        except ValueError:  # layers_to_transform beside a pattern
            continue
        theirs.save_pretrained(tmp_path)
        config = read_adapter_config(tmp_path)
        if str(fields["target_modules"]).lower() == "all-linear":  # peft lists them when it makes a model
            theirs.target_modules = {name for name in modules if "c_" in name}
        for module in modules:
            found = bool(check_target_module_exists(theirs, module))
            assert is_target(module, config) == found, (seed, module)


REFUSED = {  # what peft saves, and we refuse: the fields of LoraConfig, and what the refusal says
    # other formulas
    "weights by magnitude and direction": ({"use_dora": True}, "use_dora is True, and only plain LoRA"),
    "a bias of b": ({"lora_bias": True}, "lora_bias is True, and only plain LoRA"),
    "rows of an embedding": ({"trainable_token_indices": {"wte": [1, 2]}}, "trainable_token_indices is"),
    "only after a phrase": ({"alora_invocation_tokens": [3, 4]}, "alora_invocation_tokens is"),
    "another base": (
        {"init_lora_weights": "pissa"},
        "init_lora_weights is 'pissa'; it changed its base",
    ),
    # peft itself reads back something else than what was trained
    "a head tied by peft": (
        {"target_modules": ["lm_head", "c_attn"], "ensure_weight_tying": True},
        "lm_head.lora_A.weight is unknown",
    ),
    # peft does not follow its own rank_pattern
    "a tied head of another rank": (
        {"target_modules": "lm_head", "ensure_weight_tying": True, "rank_pattern": {"lm_head": 3}},
        "lm_head.lora_A.weight has shape [8, 48], but [3, 48] according to",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_lora_or_peft_itself_does_not_read_back_is_refused(peft, bases, tmp_path, name):
    fields, message = REFUSED[name]
    base, hparams, _ = bases["plain"]
    fields = {"target_modules": ["c_attn"], "init_lora_weights": False} | fields
    model = peft.get_peft_model(read_base(base), peft.LoraConfig(task_type="CAUSAL_LM", **fields))
    randomize(model, 0)
    model.save_pretrained(tmp_path)
    if name == "a head tied by peft":
        again = peft.PeftModel.from_pretrained(read_base(base), tmp_path)
        assert np.abs(logits_of(again) - logits_of(model)).max() > 1e-3
    with pytest.raises(ModelError, match=re.escape(message)):
        adapters.load(tmp_path, hparams)


def test_what_peft_makes_of_an_adapter_that_changed_its_base_is_read(peft, bases, tmp_path):
    base, hparams, params = bases["plain"]
    config = peft.LoraConfig(target_modules="all-linear", init_lora_weights="pissa", task_type="CAUSAL_LM")
    model = peft.get_peft_model(read_base(base), config)
    model.peft_config["default"].init_lora_weights = True  # as peft's documentation has it
    model.save_pretrained(tmp_path / "begin")
    model.peft_config["default"].init_lora_weights = "pissa"
    randomize(model, 0)
    model.save_pretrained(tmp_path / "end", path_initial_model_for_weight_conversion=tmp_path / "begin")
    adapter = adapters.load(tmp_path / "end", hparams)
    assert_same_logits(ours(lora.merge(params, adapter)), logits_of(model))
