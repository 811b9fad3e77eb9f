"""A model is loaded once in a process, and has a fingerprint that other weights would change."""

import sys

import numpy as np
import pytest
from adapter_files import write_adapter
from helpers import SMALL, lively_params, run_python, without_unbuffered, write_model
from learning import HPARAMS, save_model

import utils
from checkpoint import in_openai_layout
from extras.corpus import models
from extras.corpus.models import Model
from extras.corpus.rows import CLOSE
from weights import flatten


def write(folder, arrays, vocabulary):
    return write_model(folder, in_openai_layout(arrays), HPARAMS, vocabulary)


@pytest.mark.parametrize(
    "model, name",
    [
        (Model(), "124M"),
        (Model("tiny"), "tiny"),
        (Model("tiny", "models"), "tiny"),
        (Model(lora="a:0.5,b"), "--lora a:0.5,b"),
        (Model("tiny", "models", "a", "int8"), "tiny --lora a int8"),
        (Model(weights="nf4"), "124M nf4"),
    ],
)
def test_the_name_of_a_model_says_what_was_given(model, name):
    assert model.name == name


def test_a_model_is_opened_and_loaded_once_however_often_it_is_asked_for(small, monkeypatch):
    asked, open_model = [], utils.open_model

    def counted(*words):
        asked.append("opened")
        encoder, hparams, load_params = open_model(*words)
        return encoder, hparams, lambda: asked.append("loaded") or load_params()

    monkeypatch.setattr(models, "open_model", counted)
    for _ in range(3):
        encoder, _, _ = models.opened(Model(str(small)))
        assert models.loaded(Model(str(small))) is models.loaded(Model(str(small)))
        assert encoder is models.opened(Model(str(small)))[0]
    assert asked == ["opened", "loaded"]


def test_a_model_and_its_draft_stay_loaded_together(small):
    both = [models.loaded(Model("tiny")), models.loaded(Model(str(small)))]
    assert all(models.loaded(Model(name)) is one for name, one in zip(("tiny", str(small)), both))


def test_a_fingerprint_is_the_same_for_the_same_weights(small, tmp_path):
    found = models.loaded(Model(str(small))).fingerprint
    again = models.loaded(Model(str(save_model(tmp_path / "again")))).fingerprint
    assert isinstance(found, float) and again == found > 0


@pytest.mark.parametrize("name", ["wte", "wpe", "h0/attn/c_attn/w", "h1/mlp/c_proj/b", "h1/ln_2/g", "ln_f/b"])
def test_a_fingerprint_changes_with_any_array_of_the_weights(small, tmp_path, name):
    arrays, rng = flatten(lively_params(HPARAMS, seed=0)), np.random.default_rng(0)
    found = models.loaded(Model(str(write(tmp_path / "one", arrays, small)))).fingerprint
    arrays[name] = arrays[name] + rng.normal(0, 0.1, arrays[name].shape).astype(np.float32)
    other = models.loaded(Model(str(write(tmp_path / "other", arrays, small)))).fingerprint
    assert abs(other - found) > CLOSE * found


def test_a_fingerprint_changes_with_an_adapter(small, tmp_path):
    write_adapter(tmp_path / "adapter", HPARAMS)
    with_it = models.loaded(Model(str(small), lora=str(tmp_path / "adapter"))).fingerprint
    without = models.loaded(Model(str(small))).fingerprint
    assert abs(with_it - without) > CLOSE * without


@pytest.mark.parametrize("sizes", [{"n_ctx": 1}, {"n_ctx": 2}, {"n_ctx": 15}])
def test_a_model_that_sees_few_tokens_has_a_fingerprint_too(tmp_path, sizes):
    found = models.loaded(Model(str(save_model(tmp_path / "short", **sizes))))
    assert found.n_head == SMALL["n_head"] and np.isfinite(found.fingerprint)


FAULTS = """
import resource, sys
import numpy as np
from extras.corpus import models

if sys.argv[1] == "kept":
    models.keep_freed_memory()
np.ones(2**21)  # 16 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**20)  # 8 MB are 2,048 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc is set with mallopt, on Linux")
def test_freed_memory_is_used_again_though_the_environment_tells_malloc_to_return_it():
    environ = without_unbuffered() | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    kept, returned = (int(run_python("-c", FAULTS, how, env=environ).stdout) for how in ("kept", "returned"))
    assert returned > 5000 > 10 * (kept - 2048)  # the first time, all pages are new
