"""Adapters as we write them: read back bit for bit, found with their base, never a mix of two."""

import json
import os
import shutil

import numpy as np
import pytest
from adapter_files import CONFIG, WEIGHTS, matrices, queries_and_values, random_adapter
from helpers import ROOT, SMALL, assert_same_logits, run, run_python

import gpt2
from extras import lora
from extras.huggingface import adapter_export, adapters, export
from files import ModelError
from weights import PRESETS, flatten

TINY = PRESETS["tiny"]
C_ATTN, C_FC, PROJECTIONS = "h0/attn/c_attn/w", "h1/mlp/c_fc/w", ["h0/attn/c_proj/w", "h1/mlp/c_proj/w"]
IDS = np.random.default_rng(0).integers(0, SMALL["n_vocab"], 20)


def fields_of(folder):
    return json.loads((folder / CONFIG).read_text())


def is_same(found, wanted):
    """Whether two adapters are equal, bit for bit."""
    pairs = [(found.updates.get(name), update) for name, update in wanted.updates.items()]
    return found.updates.keys() == wanted.updates.keys() and all(
        mine.scale == theirs.scale
        and np.array_equal(mine.a, theirs.a)
        and np.array_equal(mine.b, theirs.b)
        and mine.a.dtype == mine.b.dtype == np.float32
        for mine, theirs in pairs
    )


def reads_back(folder, adapter, hparams=SMALL, **options):
    adapter_export.save(folder, adapter, hparams, **options)
    return is_same(adapters.load(folder, hparams), adapter)


# ---- what is read back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hparams", [SMALL, TINY, SMALL | {"n_inner": 40}])
def test_every_number_is_read_back_bit_for_bit(tmp_path, hparams):
    assert reads_back(tmp_path / "a" / "b", random_adapter(hparams), hparams)
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("names", [[C_ATTN], [C_FC], PROJECTIONS, PROJECTIONS[:1], [C_ATTN, *PROJECTIONS]])
def test_some_matrices_of_some_layers_are_read_back(tmp_path, names):
    assert reads_back(tmp_path, random_adapter(SMALL, names))


@pytest.mark.parametrize("seed", range(20))
def test_each_matrix_may_have_a_rank_and_a_scale_of_its_own(tmp_path, seed):
    rng, hparams = np.random.default_rng(seed), SMALL | {"n_layer": 12}
    names = rng.choice(matrices(hparams), rng.integers(1, 49), replace=False)
    updates = {}
    for name in names:
        r = int(rng.integers(1, 5))
        updates |= random_adapter(hparams, [name], rng, r, int(rng.integers(1, 9)) / r).updates
    assert reads_back(tmp_path, lora.Adapter(updates, {}), hparams)


def test_a_name_in_layer_1_does_not_mean_layer_11(tmp_path):
    hparams = SMALL | {"n_layer": 12}
    assert reads_back(tmp_path, random_adapter(hparams, ["h1/attn/c_attn/w", "h1/mlp/c_fc/w"]), hparams)
    assert fields_of(tmp_path)["target_modules"] == [
        "transformer.h.1.attn.c_attn",
        "transformer.h.1.mlp.c_fc",
    ]


def test_what_every_layer_has_is_named_once(tmp_path):
    adapter_export.save(tmp_path, random_adapter(TINY), TINY)
    fields = fields_of(tmp_path)
    assert fields["target_modules"] == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert fields["rank_pattern"] == fields["alpha_pattern"] == {}


def test_the_scale_is_that_of_a_whole_alpha_where_one_was_given():
    for r in range(1, 129):
        a = np.zeros((4, r), np.float32)
        for alpha in (1, 2, 3, 7, 16, 32, 100, 0, -4, 0.1, 1.2, 3.14159, 1e-5):
            found = adapter_export.rank_and_alpha(C_ATTN, lora.Update(a, None, alpha / r))
            assert found[1] / r == alpha / r and (found == (r, alpha) or alpha % 1)
            assert type(found[1]) is type(alpha)


def test_queries_and_values_alone_are_read_back_and_keys_are_the_bases_own(tmp_path, params):
    adapter = queries_and_values(SMALL)
    assert reads_back(tmp_path, adapter)
    assert (fields_of(tmp_path)["r"], fields_of(tmp_path)["lora_alpha"]) == (4, 8)
    merged = flatten(lora.merge(params, adapters.load(tmp_path, SMALL)))
    for layer in range(2):
        name = f"h{layer}/attn/c_attn/w"
        same = (merged[name] == flatten(params)[name]).all(axis=0)
        assert list(same) == [False] * 24 + [True] * 24 + [False] * 24


def test_where_a_model_scales_its_queries_the_file_has_them_unscaled(tmp_path, params):
    adapter, plain = random_adapter(SMALL), random_adapter(SMALL)
    for scales in ([1, 0.5], [0.25, 4.0]):  # powers of two, so that nothing is rounded
        hparams = SMALL | {"query_scales": scales}
        folder = tmp_path / str(scales[0])
        assert reads_back(folder, adapter, hparams)
        assert is_same(adapter, plain)  # in memory it is as it was
        found = adapters.load(folder, SMALL)
        for layer, scale in enumerate(scales):
            b, wanted = (each.updates[f"h{layer}/attn/c_attn/w"].b for each in (found, plain))
            np.testing.assert_array_equal(b[:, :24] * np.float32(scale), wanted[:, :24])
            np.testing.assert_array_equal(b[:, 24:], wanted[:, 24:])
    hparams = SMALL | {"query_scales": [8**0.5, 8**0.5 / 2]}
    adapter_export.save(tmp_path, adapter, hparams)
    found = lora.merge(params, adapters.load(tmp_path, hparams))
    wanted = lora.merge(params, adapter)
    assert_same_logits(*(gpt2.gpt2(IDS, **each, n_head=SMALL["n_head"]) for each in (found, wanted)))


def test_float16_is_widened(tmp_path):
    a, b, scale = random_adapter(SMALL, [C_ATTN]).updates[C_ATTN]
    half = lora.Update(a.astype(np.float16), b.astype(np.float16), scale)
    adapter_export.save(tmp_path, lora.Adapter({C_ATTN: half}, {}), SMALL)
    whole = lora.Update(half.a.astype(np.float32), half.b.astype(np.float32), scale)
    assert is_same(adapters.load(tmp_path, SMALL), lora.Adapter({C_ATTN: whole}, {}))


def test_dropout_is_noted(tmp_path):
    adapter_export.save(tmp_path, random_adapter(SMALL), SMALL, dropout=0.1)
    assert fields_of(tmp_path)["lora_dropout"] == 0.1


# ---- its base ----------------------------------------------------------------------------------------------


def text_of(capsys, *words):
    capsys.readouterr()
    assert run(["The little fox", "-n", "8", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["tiny", "openai", "huggingface", "a file in it", "gguf"])
def test_with_its_base_an_adapter_runs_from_any_folder(tmp_path, tiny, monkeypatch, capsys, kind):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    base = {"tiny": "tiny", "gguf": "base.gguf", "a file in it": "base/config.json"}.get(kind, "base")
    if kind == "openai":
        shutil.copytree(ROOT / "models" / "tiny", "base")
    elif kind == "gguf":
        pytest.importorskip("gguf", reason="gguf, which writes files of llama.cpp, is not installed")
        from extras.huggingface import gguf_files

        gguf_files.save(base, *tiny)
    elif kind != "tiny":
        export.save("base", *tiny)
    adapter_export.save("style", random_adapter(TINY), TINY, base)
    wanted = text_of(capsys, "-m", "tiny", "--lora", "style")
    assert wanted != text_of(capsys, "-m", "tiny")
    monkeypatch.chdir(tmp_path / "there")
    assert text_of(capsys, "--lora", "../here/style") == wanted


@pytest.mark.parametrize(
    "base, name, revision",
    [
        ("", None, None),
        ("tiny", "tiny", None),
        ("124M", "gpt2", None),
        ("1558M", "gpt2-xl", None),
        ("gpt2-medium", "gpt2-medium", None),
        ("distilgpt2", "distilgpt2", None),
        ("owner/name", "owner/name", None),
        ("owner/name@v1", "owner/name", "v1"),
    ],
)
def test_a_base_on_the_hub_is_named_as_peft_names_it(tmp_path, capsys, base, name, revision):
    adapter_export.save(tmp_path, random_adapter(TINY), TINY, base)
    fields = fields_of(tmp_path)
    assert (fields["base_model_name_or_path"], fields["revision"]) == (name, revision)
    chosen = adapters.choose(tmp_path)
    assert adapters.own_base(chosen[0].config) == (name or "") + (f"@{revision}" if revision else "")
    if base:
        found = adapters.base_of(chosen)
        capsys.readouterr()
        adapters.say_if_another("style", adapters.own_base(chosen[0].config), base)
        assert found in (name, base) and capsys.readouterr().err == ""


def test_a_folder_counts_before_the_hub_but_not_before_our_own_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "124M", "gpt2"):
        (tmp_path / name).mkdir()
    found = [adapter_export.fields_of_base(name) for name in ("tiny", "124M", "gpt2", "./tiny")]
    wanted = ["tiny", "gpt2", str(tmp_path / "gpt2"), str(tmp_path / "tiny")]
    assert [fields["base_model_name_or_path"] for fields in found] == wanted


# ---- what is refused ---------------------------------------------------------------------------------------


def with_change(**change):
    """An adapter in which one update is another."""
    adapter = random_adapter(SMALL)
    return adapter._replace(updates=adapter.updates | {C_FC: adapter.updates[C_FC]._replace(**change)})


def draw(*shape):
    return np.full(shape, 0.1, np.float32)


ALONE = "an adapter is written if it changes matrices of blocks alone: this one changes "
CANNOT = "an adapter cannot be written: the {} of h1/mlp/c_fc/w "
BY = "according to hparams and its rank"
SCALE = "h1/mlp/c_fc/w has a change of scale {}, too large for its rank, 3"
REFUSED = {
    "nothing": (lora.Adapter({}, {}), f"{ALONE}nothing"),
    "the embedding": (random_adapter(SMALL, ["wte", C_FC]), f"{ALONE}wte"),
    "positions": (random_adapter(SMALL, ["wpe"]), f"{ALONE}wpe"),
    "the head": (lora.Adapter({"lm_head": lora.Update(draw(97, 3), draw(3, 24), 1)}, {}), f"{ALONE}lm_head"),
    "a bias": (
        lora.Adapter({"h0/mlp/c_fc/b": lora.Update(draw(96, 3), draw(3, 1), 1)}, {}),
        f"{ALONE}h0/mlp/c_fc/b",
    ),
    "an array": (random_adapter(SMALL)._replace(arrays={"ln_f/b": draw(24)}), f"{ALONE}ln_f/b"),
    "a layer too many": (random_adapter(SMALL | {"n_layer": 3}, ["h2/mlp/c_fc/w"]), f"{ALONE}h2/mlp/c_fc/w"),
    "another width": (with_change(a=draw(48, 3)), f"{CANNOT.format('a')}has shape [48, 3], but [24, 3] {BY}"),
    "two ranks": (with_change(b=draw(2, 96)), f"{CANNOT.format('b')}has shape [2, 96], but [3, 96] {BY}"),
    "no columns": (
        with_change(a=draw(24, 0)),
        "h1/mlp/c_fc/w has a change of rank 0, expected from 1 to 100,000",
    ),
    "not a number": (with_change(b=draw(3, 96) * np.nan), f"{CANNOT.format('b')}holds NaN or infinity"),
    "infinity": (with_change(a=draw(24, 3) * np.inf), f"{CANNOT.format('a')}holds NaN or infinity"),
    "too much": (
        with_change(a=draw(24, 3) * 1e6),
        f"{CANNOT.format('a')}holds 1e+05, but no trained weight is above 10,000",
    ),
    "float64": (
        with_change(a=draw(24, 3).astype(float)),
        f"{CANNOT.format('a')}is float64, not float32 or float16",
    ),
    "no scale": (with_change(scale=float("nan")), SCALE.format("nan")),
    "a large scale": (with_change(scale=1e6), SCALE.format("1000000.0")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_read_back_is_refused_in_one_line_and_the_older_adapter_stays(tmp_path, name):
    adapter, said = REFUSED[name]
    before = random_adapter(SMALL)
    adapter_export.save(tmp_path, before, SMALL)
    with pytest.raises(ValueError) as caught:
        adapter_export.save(tmp_path, adapter, SMALL)
    assert str(caught.value) == said and not isinstance(caught.value, ModelError)
    assert is_same(adapters.load(tmp_path, SMALL), before) and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("dropout", [-0.1, 1, float("nan")])
def test_a_dropout_that_cannot_be_is_refused(tmp_path, dropout):
    with pytest.raises(ValueError, match="dropout is .*, expected at least 0 and less than 1"):
        adapter_export.save(tmp_path, random_adapter(SMALL), SMALL, dropout=dropout)


def test_the_folder_of_a_model_is_left_as_it_is(tmp_path, tiny):
    export.save(tmp_path / "model", *tiny)
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    with pytest.raises(ValueError, match="model holds a model: give the adapter a folder of its own"):
        adapter_export.save(tmp_path / "model", random_adapter(TINY), TINY)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == names


# ---- an older adapter in its place -------------------------------------------------------------------------

OLD, NEW = random_adapter(SMALL), random_adapter(SMALL, rng=np.random.default_rng(1))
OTHER = lora.Adapter(
    {name: update._replace(scale=0.5) for name, update in NEW.updates.items()}, {}
)  # same shapes


def what_is_there(folder, **adapters_by_name):
    """Which of these adapters is read, or "none" if the folder is refused."""
    try:
        found = adapters.load(folder, SMALL)
    except ModelError as error:
        assert error.problem == "it has no adapter_config.json, so it is not an adapter of peft"
        return "none"
    return next((name for name, adapter in adapters_by_name.items() if is_same(found, adapter)), "a mix")


@pytest.fixture
def folder(tmp_path):
    """A folder with an adapter, and another file."""
    adapter_export.save(tmp_path, OLD, SMALL, base="tiny")
    (tmp_path / "state.npz").write_bytes(b"a run's own")
    return tmp_path


def assert_tidy(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "state.npz"]
    assert (folder / "state.npz").read_bytes() == b"a run's own"


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is mapped: it is an OSError there")
def test_what_was_read_from_the_older_one_stays_as_it_was(folder):
    earlier = adapters.load(folder, SMALL)
    adapter_export.save(folder, OTHER, SMALL)
    assert what_is_there(folder, other=OTHER) == "other" and is_same(earlier, OLD)


def test_the_older_one_is_replaced_and_other_files_stay(folder):
    adapter_export.save(folder, OTHER, SMALL)
    assert what_is_there(folder, old=OLD, other=OTHER) == "other"
    adapter_export.save(folder, random_adapter(SMALL, [C_FC]), SMALL)
    assert what_is_there(folder, one=random_adapter(SMALL, [C_FC])) == "one"
    assert_tidy(folder)


def test_while_the_settings_stay_an_adapter_can_be_read_at_any_time(folder, monkeypatch):
    replace, seen = os.replace, []

    def watched(source, target):
        replace(source, target)
        seen.append(what_is_there(folder, old=OLD, new=NEW))

    monkeypatch.setattr(os, "replace", watched)
    adapter_export.save(folder, NEW, SMALL, base="tiny")
    assert seen and set(seen) == {"new"}


SAVE_AND_DIE = """
import os, sys
from extras.huggingface import adapter_export, adapters
folder, new, n_left, hparams = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
adapter, replace = adapters.load(new, hparams), os.replace

def counted(source, target):
    global n_left
    n_left -= 1
    if n_left < 0:
        os._exit(9)
    replace(source, target)

os.replace = counted
adapter_export.save(folder, adapter, hparams)
"""


@pytest.mark.parametrize("n_renamed, left", [(0, "old"), (1, "none"), (2, "none"), (3, "other")])
def test_a_crash_never_leaves_the_weights_of_one_beside_the_scale_of_another(
    folder, tmp_path_factory, n_renamed, left
):
    new = tmp_path_factory.mktemp("new")
    adapter_export.save(new, OTHER, SMALL)
    done = run_python("-c", SAVE_AND_DIE, str(folder), str(new), str(n_renamed), str(SMALL))
    assert done.returncode == (0 if left == "other" else 9), done.stderr
    assert what_is_there(folder, old=OLD, other=OTHER) == left
    adapter_export.save(folder, NEW, SMALL)  # and the next save is like any other
    assert what_is_there(folder, new=NEW) == "new"
    assert_tidy(folder)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    "n, is_done, left",
    [(0, False, "old"), (0, True, "old"), (1, False, "old"), (1, True, "other"), (2, True, "other")],
)
def test_an_interrupted_save_leaves_one_of_the_two(folder, monkeypatch, n, is_done, left, error):
    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) - 1 != n or is_done:
            replace(source, target)
        if len(calls) - 1 == n:
            raise error("here")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(error):
        adapter_export.save(folder, OTHER, SMALL)
    assert what_is_there(folder, old=OLD, other=OTHER) == left
    assert_tidy(folder)


SAVE_LITTLE = """
import resource, signal, sys
from extras.huggingface import adapter_export, adapters
adapter = adapters.load(sys.argv[1], eval(sys.argv[2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that what is too much is an error
resource.setrlimit(resource.RLIMIT_FSIZE, (10**4, 10**4))
try:
    adapter_export.save(sys.argv[1], adapter, eval(sys.argv[2]), dropout=0.5)
except OSError as error:
    sys.exit(str(error))
"""


def test_a_disk_without_room_is_one_clear_line_and_the_older_adapter_stays(folder):
    pytest.importorskip("resource", reason="this system has no limit on the size of files")
    done = run_python("-c", SAVE_LITTLE, str(folder), str(SMALL))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"adapter_model.safetensors cannot be written: ")
    assert what_is_there(folder, old=OLD) == "old" and fields_of(folder)["lora_dropout"] == 0
    assert_tidy(folder)


def test_a_file_in_place_of_the_folder_is_an_error_of_the_system(tmp_path):
    (tmp_path / "style").touch()
    with pytest.raises(OSError):
        adapter_export.save(tmp_path / "style", random_adapter(SMALL), SMALL)
    assert (tmp_path / "style").read_bytes() == b""
