"""From a model's name to its files and arrays: every layout, downloads, files that do not belong together."""

import hashlib
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, TINY, run_python, save_with_tensorflow, serve, write_model

import checkpoint
import gpt2
import names
import utils
import weights
from checkpoint import in_openai_layout, write_checkpoint
from files import ModelError, shown_size

HPARAMS = {
    "n_vocab": 4000,
    "n_ctx": 16,
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 2,
}  # tiny's vocabulary, fewer of the rest


@pytest.fixture
def arrays():
    return weights.flatten(weights.random_params(HPARAMS, np.random.default_rng(0)))


@pytest.fixture
def folder(tmp_path, arrays):
    return write_model(tmp_path / "model", in_openai_layout(arrays), HPARAMS)


def assert_same_params(params, arrays):
    ours = weights.flatten(params)
    assert sorted(ours) == sorted(arrays)
    for name, array in arrays.items():
        assert np.array_equal(ours[name], array), name


# ---- kinds of models ---------------------------------------------------------------------------------------


def test_the_bundled_model_is_found_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder, hparams, params = utils.load_encoder_hparams_and_params("tiny", "nowhere")
    assert len(encoder.encoder) == hparams["n_vocab"] == len(params["wte"])
    assert len(params["blocks"]) == hparams["n_layer"]
    assert all(array.dtype == np.float32 for array in weights.flatten(params).values())


def test_a_folder_is_a_model(folder, arrays):
    encoder, hparams, params = utils.load_encoder_hparams_and_params(str(folder), "models")
    assert hparams == HPARAMS and encoder.decode(encoder.encode("Once")) == "Once"
    assert_same_params(params, arrays)
    assert len(gpt2.generate(encoder.encode("Once"), params, hparams["n_head"], 3)) == 3


def test_an_unknown_name_is_refused_with_the_known_ones():
    for name in ("125M", "gpt3", "", "../x", "a/b/c", "a b/c", "/a"):
        known = "expected tiny, 124M, 355M, 774M, 1558M, an existing folder or .gguf file, or a name on"
        with pytest.raises(ValueError, match=known) as caught:
            utils.load_encoder_hparams_and_params(name, "models")
        assert not isinstance(caught.value, ModelError)
    with pytest.raises(ValueError, match="OpenAI's models are 124M"):
        utils.download_gpt2_files("tiny", "models")


def test_a_file_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ckpt.pt").touch()
    with pytest.raises(
        ValueError,
        match="'out/ckpt.pt', a file, but a model is a folder: to convert a PyTorch checkpoint, "
        "run python .*/extras/huggingface/convert.py out/ckpt.pt OUT_FOLDER",  # from another folder
    ):
        utils.load_encoder_hparams_and_params("out/ckpt.pt", "models")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl@v1", "distilgpt2", "me/mine", "me/mine@refs/pr/2"])
def test_a_name_on_the_hub_is_recognised(name):
    assert utils.find_model(name, "models") == ("huggingface", name)


def test_a_released_name_is_not_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "124M").mkdir()
    assert utils.find_model("124M", "elsewhere") == ("released", utils.Path("elsewhere/124M"))


@pytest.mark.parametrize("name", utils.FILES)
def test_a_file_that_a_folder_lacks_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(
        ModelError, match=rf"{name}: missing: a model is a folder with hparams\.json, encoder\.json"
    ):
        utils.load_encoder_hparams_and_params(str(folder), "models")


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "Expecting value"),
        ("<html>", "Expecting value"),
        ("[1, 2]", r"expected a JSON object, not \[1, 2\]"),
        ("[" * 100_000, "recursion|nested|depth"),
        (json.dumps({**HPARAMS, "n_head": 3}), "n_embd 8 is not a multiple of n_head 3"),
        (json.dumps({**HPARAMS, "n_head": 0}), "n_head is 0, expected a whole number from 1 to 1,000"),
        (json.dumps({**HPARAMS, "n_layer": 10**9}), "n_layer is 1000000000"),
        (json.dumps({**HPARAMS, "n_ctx": 16.0}), r"n_ctx is 16\.0"),
        (json.dumps({**HPARAMS, "n_ctx": True}), "n_ctx is True"),
        (json.dumps({**HPARAMS, "n_embd": None}), "n_embd is None"),
        (json.dumps({**HPARAMS, "n_vocab": float("nan")}), "n_vocab is nan"),
        (json.dumps(HPARAMS)[:-1] + ', "n_head": 4}', "n_head is given twice"),
    ],
)
def test_hparams_that_cannot_be_those_of_a_gpt2_are_refused(folder, text, message):
    (folder / "hparams.json").write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        utils.open_model(str(folder), "models")
    assert str(caught.value).startswith(str(folder / "hparams.json")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"n_layer": 3}, {"n_layer": 1}, {"n_ctx": 17}, {"n_embd": 10}])
def test_hparams_of_another_model_are_refused(folder, change):
    (folder / "hparams.json").write_text(json.dumps(HPARAMS | change))
    with pytest.raises(
        ModelError, match=r"model\.ckpt: .*according to hparams\.json.*use complete files of one model"
    ):
        utils.load_encoder_hparams_and_params(str(folder), "models")[2]


def test_a_vocabulary_of_another_model_is_refused(folder):
    (folder / "hparams.json").write_text(json.dumps(HPARAMS | {"n_vocab": 50257}))
    with pytest.raises(
        ModelError, match=r"4000 tokens in encoder\.json, but n_vocab is 50257 in hparams\.json"
    ):
        utils.load_encoder_hparams_and_params(str(folder), "models")


def test_weights_are_mapped_not_copied_and_editing_them_leaves_the_file(folder, arrays):
    params = utils.load_encoder_hparams_and_params(str(folder), "models")[2]
    for array in weights.flatten(params).values():
        assert type(array) is np.ndarray and array.dtype == np.float32
        root = array
        while isinstance(root, np.ndarray):
            root = root.base
        assert isinstance(root, mmap.mmap)
        array *= 0
    assert_same_params(utils.load_encoder_hparams_and_params(str(folder), "models")[2], arrays)


def test_only_the_leading_one_of_a_matrix_is_dropped(tmp_path):
    hparams = HPARAMS | {"n_embd": 1, "n_head": 1, "n_ctx": 1}  # every other axis is one as well
    arrays = weights.flatten(weights.random_params(hparams, np.random.default_rng(0)))
    write_checkpoint(tmp_path / "model.ckpt", in_openai_layout(arrays))
    params = utils.load_gpt2_params_from_tf_ckpt(str(tmp_path / "model.ckpt"), hparams)
    assert_same_params(params, arrays)
    assert params["wpe"].shape == (1, 1) and params["blocks"][0]["attn"]["c_proj"]["w"].shape == (1, 1)


def test_a_matrix_of_two_slices_is_refused(tmp_path, arrays):
    variables = in_openai_layout(arrays)
    variables["model/h0/attn/c_attn/w"] = np.repeat(variables["model/h0/attn/c_attn/w"], 2, axis=0)
    write_checkpoint(tmp_path / "model.ckpt", variables)
    with pytest.raises(
        ModelError, match=r"h0/attn/c_attn/w has shape \[2, 8, 24\], but \[8, 24\] according to hparams\.json"
    ):
        utils.load_gpt2_params_from_tf_ckpt(tmp_path / "model.ckpt", HPARAMS)


def test_what_training_leaves_is_passed_over(tmp_path, arrays):
    variables = in_openai_layout(arrays)
    slots = {f"{name}/Adam{suffix}": array * 0 for name, array in variables.items() for suffix in ("", "_1")}
    others = {
        "global_step": np.array(7),
        "beta1_power": np.float32(0.9).reshape(()),
        "opt/model/wte/m": arrays["wte"],
    }
    write_checkpoint(tmp_path / "model.ckpt", variables | slots | others)
    assert_same_params(utils.load_gpt2_params_from_tf_ckpt(tmp_path / "model.ckpt", HPARAMS), arrays)


@pytest.mark.parametrize(
    "name", ["model/h2/ln_1/g", "model/head/w", "model/wte/lora_A", "model/h0/attn/c_attn/w2", "model/x"]
)
def test_anything_else_under_model_is_an_error(tmp_path, arrays, name):
    write_checkpoint(tmp_path / "model.ckpt", in_openai_layout(arrays) | {name: np.ones((2, 8), np.float32)})
    with pytest.raises(ModelError, match=f"{name.removeprefix('model/')} is unknown "):
        utils.load_gpt2_params_from_tf_ckpt(tmp_path / "model.ckpt", HPARAMS)


def test_a_fine_tune_by_tensorflow_is_read_with_its_optimizer_passed_over(tf, tmp_path, arrays):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        places = {
            name: v1.get_variable(name, initializer=array, use_resource=False)
            for name, array in in_openai_layout(arrays).items()
        }
        loss = tf.add_n([tf.reduce_sum(tf.square(place)) for place in places.values()])
        step = v1.train.AdamOptimizer().minimize(loss, global_step=v1.train.get_or_create_global_step())
        session.run(v1.global_variables_initializer())
        session.run(step)
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
        wanted = {name: session.run(place) for name, place in places.items()}
    assert len(checkpoint.read_index(tmp_path / "model.ckpt.index")) == 3 * len(arrays) + 3
    params = utils.load_gpt2_params_from_tf_ckpt(tf.train.latest_checkpoint(str(tmp_path)), HPARAMS)
    assert_same_params(params, {name: wanted[f"model/{name}"].reshape(arrays[name].shape) for name in arrays})
    assert not np.array_equal(params["wte"], arrays["wte"])  # one step was taken


def test_what_tensorflow_saves_in_openais_layout_is_loaded(tf, tmp_path, arrays):
    save_with_tensorflow(tf, tmp_path / "model.ckpt", in_openai_layout(arrays))
    assert_same_params(utils.load_gpt2_params_from_tf_ckpt(tmp_path / "model.ckpt", HPARAMS), arrays)


def test_a_model_that_is_there_needs_no_download_library_and_no_writing(folder):
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    code = f"""import sys, utils; utils.load_encoder_hparams_and_params({str(folder)!r}, "models")
print(*sorted({{"requests", "tqdm", "fire", "tensorflow", "torch"}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]} == before


def test_our_names_mean_our_models_whatever_lies_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", *names.RELEASED, "gpt2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert utils.find_model("tiny", "models") == ("openai", TINY)
    for name in names.RELEASED:
        assert utils.find_model(name, "models") == ("released", Path("models") / name)
    for folder in ("./tiny", "./124M", Path("tiny"), Path("124M"), "gpt2"):
        assert utils.find_model(folder, "models") == ("huggingface", Path(folder))
    done = run_python(str(ROOT / "gpt2.py"), "Once upon a time", "3", "tiny", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


# ---- downloads ---------------------------------------------------------------------------------------------


@pytest.fixture
def release(folder, monkeypatch):
    """A server on this machine that has the folder as its 124M; the paths asked of it; where to put it."""
    answers = {f"/124M/{name}": (folder / name).read_bytes() for name in utils.FILES}
    monkeypatch.setattr(
        utils,
        "KNOWN",
        {
            f"124M/{name}": (
                len(answers[f"/124M/{name}"]),
                hashlib.sha256(answers[f"/124M/{name}"]).hexdigest(),
            )
            for name in utils.FILES
        },
    )
    with serve(answers) as (address, asked):
        monkeypatch.setattr(utils, "BASE_URL", address)
        yield answers, asked, folder.parent / "downloaded"


def test_a_released_model_is_downloaded_once_small_files_first(release, arrays):
    _, asked, models_dir = release
    _, hparams, params = utils.load_encoder_hparams_and_params("124M", models_dir)
    assert hparams == HPARAMS
    assert_same_params(params, arrays)
    assert sorted(asked) == sorted(f"/124M/{name}" for name in utils.FILES) and asked[-1].endswith(utils.DATA)
    assert set(os.listdir(models_dir / "124M")) == {*utils.FILES, ".lock"}
    utils.load_encoder_hparams_and_params("124M", models_dir)
    assert len(asked) == 5


def test_what_is_downloaded_is_said_before_the_first_connection(release, monkeypatch, capsys):
    answers, _, models_dir = release
    said, download_file = [], utils.download_file

    def record(url, *arguments):
        said.append(capsys.readouterr().err)
        download_file(url, *arguments)

    monkeypatch.setattr(utils, "download_file", record)
    utils.load_encoder_hparams_and_params("124M", models_dir)
    n_bytes = {name: len(answers[f"/124M/{name}"]) for name in utils.FILES}
    small = shown_size(sum(n_bytes[name] for name in utils.BEFORE_WEIGHTS))
    large = shown_size(sum(n_bytes[name] for name in utils.WEIGHTS))
    place = f"from {utils.BASE_URL.removeprefix('http://')} to {models_dir / '124M'}\n"
    assert said[0] == f"downloading OpenAI's 124M: hparams.json, encoder.json, vocab.bpe ({small}) {place}"
    assert said[3] == f"downloading OpenAI's 124M: model.ckpt.index, {utils.DATA} ({large}) {place}"
    assert said[1:3] + said[4:] == ["", "", ""]
    utils.load_encoder_hparams_and_params("124M", models_dir)
    assert capsys.readouterr().err == ""  # nothing is missing


def test_only_what_is_missing_is_said_and_how_much_of_it_is_there(release, capsys):
    answers, _, models_dir = release
    folder = models_dir / "124M"
    utils.download_gpt2_files("124M", folder)
    (folder / utils.DATA).rename(folder / f"{utils.DATA}.tag.part")
    os.truncate(folder / f"{utils.DATA}.tag.part", 1500)
    capsys.readouterr()
    utils.download_gpt2_files("124M", folder)
    size = shown_size(len(answers[f"/124M/{utils.DATA}"]))
    assert capsys.readouterr().err.startswith(
        f"downloading OpenAI's 124M: {utils.DATA} ({size}, 1.5 KB of it already here) from"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows looks up proxies elsewhere")
def test_without_a_network_the_command_says_at_once_what_it_tries(tmp_path):
    environment = os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9"}  # nothing listens there
    words = [sys.executable, "gpt2.py", "hi", "--models_dir", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        first, second = process.stderr.readline(), process.stderr.readline()
        process.kill()
    host = "openaipublic.blob.core.windows.net"
    files = "hparams.json, encoder.json, vocab.bpe (1.5 MB)"
    assert first == f"downloading OpenAI's 124M: {files} from {host} to {tmp_path / '124M'}\n"
    assert second.startswith("hparams.json: the proxy: ") and second.endswith("; trying again in 1 s\n")


def test_the_vocabulary_comes_without_the_weights(release):
    _, asked, models_dir = release
    utils.open_model("124M", models_dir)
    assert sorted(asked) == ["/124M/encoder.json", "/124M/hparams.json", "/124M/vocab.bpe"]


def test_download_gpt2_files_gets_what_is_missing_and_leaves_what_is_there(release):
    answers, asked, models_dir = release
    (models_dir / "124M").mkdir(parents=True)
    mine = models_dir / "124M" / "model.ckpt.index"
    mine.write_bytes(b"my own fine-tune")
    utils.download_gpt2_files("124M", models_dir / "124M")
    assert mine.read_bytes() == b"my own fine-tune" and "/124M/model.ckpt.index" not in asked
    for name in set(utils.FILES) - {"model.ckpt.index"}:
        assert (models_dir / "124M" / name).read_bytes() == answers[f"/124M/{name}"]


@pytest.fixture
def without_digests(release, monkeypatch):
    """The same, for a program that knows no digest, only the sizes of the 124M."""
    monkeypatch.setattr(utils, "KNOWN", {})
    monkeypatch.setitem(weights.PRESETS, "124M", HPARAMS)
    return release


def test_a_right_download_whose_digest_nobody_knows_is_accepted(without_digests, arrays):
    _, _, models_dir = without_digests
    assert_same_params(utils.load_encoder_hparams_and_params("124M", models_dir)[2], arrays)


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        (utils.DATA, lambda data: bytes([data[0] ^ 1]) + data[1:], "do not match their checksum"),
        (utils.DATA, lambda data: data[:-1] + bytes([data[-1] ^ 128]), "do not match their checksum"),
        (
            "model.ckpt.index",
            lambda index: index[:9] + bytes([index[9] ^ 1]) + index[10:],
            "damaged: a block",
        ),
        (
            "hparams.json",
            lambda text: text.replace(b'"n_head": 2', b'"n_head": 4'),
            "not those of OpenAI's 124M",
        ),
    ],
)
def test_a_wrong_download_whose_digest_nobody_knows_is_refused(without_digests, name, wrong, message):
    answers, asked, models_dir = without_digests
    right = answers[f"/124M/{name}"]
    answers[f"/124M/{name}"] = wrong(right)
    assert answers[f"/124M/{name}"] != right
    with pytest.raises(
        ModelError, match=rf"124M/{name}: .*{message}.*: not the released file; try again, or"
    ):
        utils.load_encoder_hparams_and_params("124M", models_dir)
    assert not list((models_dir / "124M").glob(f"{name}*"))
    answers[f"/124M/{name}"] = right
    utils.load_encoder_hparams_and_params("124M", models_dir)


def test_an_index_that_does_not_fit_is_refused_before_the_data_is_asked_for(without_digests, arrays):
    """Whether it arrives wrong or is there already; the data of the right one would never match it."""
    answers, asked, models_dir = without_digests
    right, path = answers["/124M/model.ckpt.index"], models_dir / "124M" / "model.ckpt.index"
    others = {name: array[:1] for name, array in in_openai_layout(arrays).items()}
    write_checkpoint(models_dir.parent / "other", others)
    other = (models_dir.parent / "other.index").read_bytes()
    answers["/124M/model.ckpt.index"] = other
    with pytest.raises(ModelError, match="it does not list the variables of OpenAI's 124M"):
        utils.download_gpt2_files("124M", models_dir / "124M")
    assert not path.exists()

    path.write_bytes(other)
    with pytest.raises(ModelError, match="model.ckpt.index: it does not list .*; move it away, and it"):
        utils.download_gpt2_files("124M", models_dir / "124M")
    assert path.read_bytes() == other and f"/124M/{utils.DATA}" not in asked
    path.unlink()
    answers["/124M/model.ckpt.index"] = right
    utils.download_gpt2_files("124M", models_dir / "124M")


def test_what_cannot_be_downloaded_names_the_model_that_needs_no_network(release):
    answers, _, models_dir = release
    del answers["/124M/vocab.bpe"]
    with pytest.raises(
        ModelError,
        match=r"124M/vocab\.bpe: 404 .*; try again, or use tiny, a model that needs no network",
    ):
        utils.load_encoder_hparams_and_params("124M", models_dir)


def test_where_nothing_can_be_written_the_option_is_named(release, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="use --models_dir to choose another folder.*taken"):
        utils.load_encoder_hparams_and_params("124M", tmp_path / "taken")


def test_a_complete_model_needs_no_network_and_no_right_to_write(release, arrays, monkeypatch):
    _, _, models_dir = release
    utils.download_gpt2_files("124M", models_dir / "124M")
    (models_dir / "124M" / ".lock").unlink()
    before = {
        path: path.stat().st_mtime_ns for path in [models_dir / "124M", *(models_dir / "124M").iterdir()]
    }
    monkeypatch.setattr("socket.socket", lambda *args, **options: pytest.fail("asked the network"))
    (models_dir / "124M").chmod(0o555)
    try:
        assert_same_params(utils.load_encoder_hparams_and_params("124M", models_dir)[2], arrays)
    finally:
        (models_dir / "124M").chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(
        list(models_dir.rglob("*"))
    ) == 6


def test_known_lengths_are_four_bytes_a_parameter():
    from test_weights import SIZES

    assert set(SIZES) == set(names.RELEASED)
    for size, (*_, n_parameters) in SIZES.items():
        assert utils.KNOWN[f"{size}/{utils.DATA}"][0] == 4 * n_parameters


def test_known_digests_are_those_of_the_released_files(released):
    for path in released.iterdir():
        n_bytes, sha256 = utils.KNOWN.get(f"124M/{path.name}") or utils.KNOWN.get(path.name, (None, None))
        if sha256 and path.stat().st_size < 2**24:
            assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (
                n_bytes,
                sha256,
            ), path


def test_the_folder_of_the_bundled_model_is_complete():
    assert {path.name for path in TINY.iterdir()} >= set(utils.FILES)
