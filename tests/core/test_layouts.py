"""Which folder and which checkpoint a name means; TensorFlow is the judge of the latter."""

import os
import shutil

import numpy as np
import pytest
from helpers import TINY, command, lively_params, write_huggingface, write_model

import layouts
import utils
import weights
from checkpoint import in_openai_layout, write_checkpoint
from extras import available
from extras.check import check
from files import ModelError

HPARAMS = {"n_vocab": 4000, "n_ctx": 8, "n_embd": 4, "n_head": 2, "n_layer": 1}
RUN = "model-1000"


def arrays(seed=0):
    return weights.flatten(lively_params(HPARAMS, seed))


def write_run(folder, *checkpoints, state=None):
    """A folder as gpt-2-simple leaves it, with different checkpoints; state: the content of `checkpoint`."""
    write_model(folder, {}, HPARAMS)
    for name in ("model.ckpt.index", utils.DATA):
        (folder / name).unlink()
    for seed, name in enumerate(checkpoints):
        write_checkpoint(folder / name, in_openai_layout(arrays(seed)))
        (folder / f"{name}.meta").write_bytes(b"a graph")
    if state is not None:
        (folder / "checkpoint").write_text(state, encoding="utf-8")
    (folder / "counter").write_text("1000\n")
    return folder


def state_of(path):
    """The file `checkpoint`, as TensorFlow writes it for one checkpoint."""
    return f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "{path}"\n'


def params_of(folder):
    return weights.flatten(utils.load_encoder_hparams_and_params(str(folder), "models")[2])


def assert_reads(folder, seed):
    """The checkpoint that was written with this seed is the one that is read."""
    read = params_of(folder)
    assert all(np.array_equal(read[name], array) for name, array in arrays(seed).items())


def refusal(model):
    with pytest.raises(ModelError) as caught:
        utils.load_encoder_hparams_and_params(str(model), "models")
    assert str(caught.value).isprintable()
    return str(caught.value)


# ---- a file of a model means its folder --------------------------------------------------------------------


@pytest.mark.parametrize("name", [*utils.FILES, "model.ckpt"])
def test_a_file_of_a_model_in_openais_layout_means_its_folder(tmp_path, monkeypatch, name):
    folder = write_model(tmp_path / "model", in_openai_layout(arrays()), HPARAMS)
    assert utils.find_model(str(folder / name), "models") == ("openai", folder)
    assert utils.find_model(folder / name, "models") == ("openai", folder)
    monkeypatch.chdir(folder)
    assert utils.find_model(name, "models") == ("openai", utils.Path("."))
    assert len(params_of(name)) == len(arrays())


@pytest.mark.parametrize("name", ["README.md", "notes.txt", "LICENSE", "pytorch_model.bin", "optimizer.pt"])
def test_a_file_that_lies_beside_a_model_means_its_folder(tmp_path, name):
    write_model(tmp_path / "model", in_openai_layout(arrays()), HPARAMS)
    for folder in ("model", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    assert utils.find_model(tmp_path / "model" / name, "models") == ("openai", tmp_path / "model")
    assert layouts.folder_of(str(tmp_path / "other" / name)) is None


def test_an_index_that_is_not_a_checkpoint_s_makes_no_model(tmp_path):
    (tmp_path / "run").mkdir()
    folder = write_huggingface(tmp_path / "run" / "checkpoint-2", {}, HPARAMS)
    for place in (tmp_path / "run", folder):
        (place / "faiss.index").touch()
    assert layouts.layout_of(tmp_path / "run") is None and layouts.layout_of(folder) == "huggingface"
    with pytest.raises(ValueError, match="a file, but a model is a folder"):
        utils.find_model(folder / "faiss.index", "models")


@pytest.mark.parametrize("text", ['\\"' * 500_000, "model_checkpoint_path:" * 47_000, "'" * 10**6])
def test_a_strange_note_takes_no_time(text):
    assert layouts.text_field(text, "model_checkpoint_path") == ""


@pytest.mark.parametrize("name", ["checkpoint", "counter", f"{RUN}.meta", f"{RUN}.index", RUN])
def test_a_file_of_a_fine_tune_means_its_folder(tmp_path, name):
    folder = write_run(tmp_path / "run1", RUN, state=state_of(RUN))
    assert utils.find_model(str(folder / name), "models") == ("openai", folder)


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    + ["generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
    + ["added_tokens.json", "special_tokens_map.json", "chat_template.jinja"],
)
def test_a_file_of_a_model_of_transformers_means_its_folder(tmp_path, name):
    folder = write_huggingface(tmp_path / "model", {}, HPARAMS)
    (folder / name).touch()
    assert utils.find_model(str(folder / name), "models") == ("huggingface", folder)


def test_the_command_reads_a_model_by_the_name_of_any_of_its_files():
    wanted = command("The little fox", "3", str(TINY))
    for name in ("model.ckpt.index", "model.ckpt", "vocab.bpe"):
        done = command("The little fox", "3", str(TINY / name))
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted.stdout, b"") and done.stdout


def test_a_file_in_a_folder_with_two_layouts_is_refused_like_the_folder(tmp_path):
    folder = write_huggingface(tmp_path / "model", {}, HPARAMS)
    (folder / "hparams.json").write_text("{}")
    for name in ("hparams.json", "config.json", ""):
        assert refusal(folder / name).startswith(
            f"{folder}: it has hparams.json, from OpenAI's layout, and con"
        )


@pytest.mark.parametrize("name", ["ckpt.pt", "other.safetensors", "index"])
def test_any_other_file_means_no_folder(tmp_path, name):
    write_model(tmp_path / "model", in_openai_layout(arrays()), HPARAMS)
    (tmp_path / "model" / name).touch()
    assert layouts.folder_of(str(tmp_path / "model" / name)) is None
    with pytest.raises(ValueError, match=", a (file|text), but a model is a folder: "):
        utils.find_model(str(tmp_path / "model" / name), "models")


def test_a_file_of_llama_cpp_is_named_by_its_path_or_its_folder(tmp_path):
    file = tmp_path / "model" / "x.Q8_0.GGUF"
    assert layouts.gguf_of(str(file)) is None
    file.parent.mkdir()
    file.touch()
    (file.parent / "README.md").touch()
    for name in (file, file.parent):
        assert layouts.gguf_of(str(name)) == file and utils.find_model(str(name), "models") == ("gguf", file)
    assert layouts.gguf_of(str(file.parent / "README.md")) is None
    for other in ("y.gguf", "model.safetensors", "ckpt.pt"):
        (file.parent / other).touch()
        assert layouts.gguf_of(str(file.parent)) is None and layouts.gguf_of(str(file)) == file, other
        (file.parent / other).unlink()
    write_model(tmp_path / "model", in_openai_layout(arrays()), HPARAMS)
    assert utils.find_model(str(file.parent), "models") == ("openai", file.parent)
    assert utils.find_model(str(file), "models") == ("gguf", file)


# ---- which checkpoint is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "checkpoints, state, seed",
    [
        ([RUN], state_of(RUN), 0),
        (["model-500", RUN], state_of(RUN), 1),
        (["model-500", RUN], state_of("model-500"), 0),  # not the highest number: the one that is named
        (["model.ckpt", RUN], state_of(RUN), 1),
        (["model.ckpt", RUN], state_of("model.ckpt"), 0),
        (["model.ckpt", RUN], None, 0),
        (["model.ckpt", RUN], "", 0),
        (["model.ckpt", RUN], "a note of mine", 0),
        ([RUN], None, 0),
        ([RUN], "", 0),
        ([RUN], state_of(f"/content/checkpoint/run1/{RUN}"), 0),  # of the machine that trained it
        ([RUN], state_of(rf"C:\\run1\\{RUN}"), 0),
        (["model.ckpt"], state_of(RUN), 0),  # renamed by hand
        (["été"], 'model_checkpoint_path: "\\303\\251t\\303\\251"', 0),
    ],
)
def test_the_checkpoint_that_the_folder_names_is_read(tmp_path, checkpoints, state, seed):
    folder = write_run(tmp_path / "run1", *checkpoints, state=state)
    assert_reads(folder, seed)
    assert len(list(check(str(folder), "models"))) == 5
    assert available.open_here(folder, "models")[1] == folder


def test_what_is_checked_and_listed_is_the_checkpoint_that_is_read(tmp_path):
    folder = write_run(tmp_path / "run1", "model.ckpt", RUN, state=state_of(RUN))
    found = list(check(str(folder), "models"))
    assert any(line.startswith(f"{folder / RUN}.data-00000-of-00001: ") for line in found)
    (folder / f"{RUN}.data-00000-of-00001").write_bytes(b"cut")
    for use in (lambda: list(check(str(folder), "models")), lambda: available.open_here(folder, "models")):
        with pytest.raises(ModelError, match=f"{RUN}.data-00000-of-00001: 3 bytes"):
            use()


def test_openais_own_models_are_always_read_from_model_ckpt(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    folder = write_run(tmp_path / "models" / "124M", "model.ckpt", RUN, state=state_of(RUN))
    monkeypatch.setattr(utils, "KNOWN", {})
    monkeypatch.setitem(weights.PRESETS, "124M", HPARAMS)
    read = utils.load_encoder_hparams_and_params("124M", tmp_path / "models")[2]
    assert np.array_equal(read["wte"], arrays(0)["wte"])
    assert any("model.ckpt.index: " in line for line in check("124M", tmp_path / "models"))
    assert_reads(folder, 1)  # by its path it is a folder like any other


@pytest.mark.parametrize(
    "checkpoints, state, message, advised",
    [
        (
            ["model-9", RUN],
            None,
            "it has several checkpoints, model-9, model-1000, and no file says which",
            RUN,
        ),
        (
            [RUN],
            state_of("model-2000"),
            "its file checkpoint names model-2000, which is missing; there is only",
            RUN,
        ),
        (
            ["model-9", "model.ckpt"],
            state_of("x"),
            "names x, which is missing; there is only model-9, model.ckpt",
            None,
        ),
    ],
)
def test_where_a_choice_is_left_it_is_said_how_to_choose(tmp_path, checkpoints, state, message, advised):
    folder = write_run(tmp_path / "run1", *checkpoints, state=state)
    said, advised = refusal(folder), advised or checkpoints[-1]
    line = f'model_checkpoint_path: "{advised}"'
    assert message in said and said.endswith(
        f"; to read {advised}, write {line} into {folder / 'checkpoint'}"
    )
    (folder / "checkpoint").write_text(line)  # as advised
    assert_reads(folder, checkpoints.index(advised))


def test_another_checkpoint_than_the_one_that_is_named_is_not_read_by_mistake(tmp_path):
    folder = write_run(tmp_path / "run1", "model-500", RUN, state=state_of(RUN))
    for name in ("model-500", "model-500.index", "model-500.meta", "model-500.data-00000-of-00001"):
        said = refusal(folder / name)
        assert said.startswith(f"{folder / name}: not the checkpoint that is read in its folder, {RUN}; ")
    assert said.endswith(
        f'to read this one, write model_checkpoint_path: "model-500" into {folder}/checkpoint'
    )
    assert_reads(folder / f"{RUN}.index", 1)


def test_a_checkpoint_that_is_named_but_not_there_is_said_to_be_missing(tmp_path):
    folder = write_run(tmp_path / "run1", state=state_of(RUN))
    assert f"{RUN}.index: missing" in refusal(folder)
    folder = write_run(tmp_path / "run2")
    assert "model.ckpt.index: missing" in refusal(folder)


def test_a_checkpoint_without_sizes_lacks_its_sizes(tmp_path):
    folder = write_run(tmp_path / "run1", RUN, state=state_of(RUN))
    (folder / "hparams.json").unlink()
    assert "hparams.json: missing: a model is a folder with hparams.json" in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\0", b"PK\3\4" + bytes(50), b'model_checkpoint_path: "\xff"', b""]
)
def test_a_file_named_checkpoint_that_says_nothing_is_passed_over(tmp_path, content):
    folder = write_run(tmp_path / "run1", RUN)
    (folder / "checkpoint").write_bytes(content)
    assert_reads(folder, 0)
    (folder / "checkpoint").unlink()
    (folder / "checkpoint").mkdir()
    assert_reads(folder, 0)


@pytest.mark.parametrize("path", ["a" * 300, "a\\000b", "..", "/", ".", "\\n", "x\\\\"])
def test_an_odd_name_of_a_checkpoint_is_refused_in_one_line(tmp_path, path):
    folder = write_run(tmp_path / "run1", state=state_of(path))
    assert "missing" in refusal(folder)
    assert len(refusal(folder)) < 1500


# ---- beside TensorFlow -------------------------------------------------------------------------------------


def train(tf, folder, steps):
    """Train a model for some steps with Adam, and let TensorFlow save it after each, as gpt-2-simple does.

    Returns what each step left in its variables.
    """
    v1, left = tf.compat.v1, {}
    with tf.Graph().as_default(), v1.Session() as session:
        places = {
            name: v1.get_variable(name, initializer=array, use_resource=False)
            for name, array in in_openai_layout(arrays()).items()
        }
        loss = tf.add_n([tf.reduce_sum(tf.square(place)) for place in places.values()])
        step = v1.train.AdamOptimizer(0.1).minimize(loss)
        saver = v1.train.Saver([v for v in v1.global_variables() if "model" in v.name], max_to_keep=2)
        session.run(v1.global_variables_initializer())
        for n in steps:
            session.run(step)
            saver.save(session, str(folder / "model"), global_step=n)
            left[n] = {name: session.run(place) for name, place in places.items()}
    return left


def test_a_folder_of_gpt_2_simple_is_read_as_tensorflow_reads_it(tf, tmp_path):
    folder = write_run(tmp_path / "run1")
    left = train(tf, folder, (1, 2, 1000))
    names = {path.name for path in folder.iterdir()}
    assert {
        "checkpoint",
        f"{RUN}.meta",
        f"{RUN}.index",
        "model-2.index",
    } <= names
    assert f"{folder / RUN}" == tf.train.latest_checkpoint(str(folder))
    read = params_of(folder)
    for name, array in left[1000].items():
        assert np.array_equal(read[name.removeprefix("model/")], array.reshape(read[name[6:]].shape)), name
    variables = [name for name, _ in tf.train.list_variables(str(folder))]
    assert len(variables) == 3 * len(read)  # each with two memories of the optimizer
    assert len(list(check(str(folder), "models"))) == 5
    moved = shutil.move(folder, tmp_path / "moved")
    assert params_of(moved).keys() == read.keys()


def test_an_earlier_checkpoint_is_read_once_it_is_named_also_by_tensorflow(tf, tmp_path):
    folder = write_run(tmp_path / "run1")
    left = train(tf, folder, (9, 10))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model-9"')
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "model-9")
    assert np.array_equal(params_of(folder)["wte"], left[9]["model/wte"])
    assert not np.array_equal(left[9]["model/wte"], left[10]["model/wte"])


def test_random_states_name_the_checkpoint_that_tensorflow_finds(tf, tmp_path, n_fuzz):
    from google.protobuf import text_format
    from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

    letters = [*"abc-10. '\"\\#:;é日🦊\t\n[]{}", "model_checkpoint_path", "/"]

    def word(rng):
        return "".join(rng.choice(letters, size=rng.integers(1, 9)))

    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        others = [word(rng) for _ in range(rng.integers(3))]
        state = CheckpointState(model_checkpoint_path=word(rng), all_model_checkpoint_paths=others)
        state.last_preserved_timestamp = 1.5
        as_utf8, as_one_line = rng.random(2) < 0.5
        text = text_format.MessageToString(state, as_utf8=as_utf8, as_one_line=as_one_line)
        if rng.random() < 0.5:
            text = f"# model_checkpoint_path: 'x'\n{text}"
        assert layouts.text_field(text, "model_checkpoint_path") == state.model_checkpoint_path, seed
        (tmp_path / "checkpoint").write_text(text, encoding="utf-8", newline="")
        theirs = tf.train.get_checkpoint_state(str(tmp_path)).model_checkpoint_path
        last = layouts.named_checkpoint(tmp_path)
        assert last == (theirs.replace("\\", "/").rpartition("/")[2] or None), seed


@pytest.mark.parametrize(
    "text, value",
    [
        ("a: 'x'", "x"),
        ('a:"x"', "x"),
        ("a: \"x\" 'y'", "xy"),
        ("a: 'x' a: 'y'", "y"),
        ("b: 'a: \"z\"' a: 'x'", "x"),
        ("a 'x'", ""),
        ("a: 5", ""),
        ("a: 'x", ""),
        ("aa: 'x'", ""),
        (r"a: '\x41\101\n\'\"\\'", "AA\n'\"\\"),
        ("", ""),
    ],
)
def test_a_string_of_a_protocol_buffer_is_read(text, value):
    assert layouts.text_field(text, "a") == value


# ---- large folders -----------------------------------------------------------------------------------------


def test_of_a_large_folder_only_some_entries_are_looked_at(tmp_path, monkeypatch):
    for i in range(40):
        (tmp_path / f"{i}.txt").touch()
    monkeypatch.setattr(layouts, "LIMIT", 15)
    assert len(layouts.entries_in(tmp_path)) == 15
    monkeypatch.setattr(layouts, "LIMIT", 1000)
    assert [entry.name for entry in layouts.entries_in(tmp_path)] == [f"{i}.txt" for i in range(40)]


def test_a_model_among_many_files_is_recognised_without_a_list_of_them(tmp_path, monkeypatch):
    folders = [write_model(tmp_path / "a", in_openai_layout(arrays()), HPARAMS)]
    folders += [write_huggingface(tmp_path / "b", {}, HPARAMS)]
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"{path} was listed"))
    assert [layouts.layout_of(folder) for folder in folders] == ["openai", "huggingface"]
    assert layouts.latest_checkpoint(folders[0]) == folders[0] / "model.ckpt"
