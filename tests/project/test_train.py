"""training/train.py: a text becomes a model that the program runs."""

import inspect
import itertools
import os
import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import helpers
import numpy as np
import pytest
from helpers import ROOT, SMALL, command, run_python

import checkpoint
import utils
import weights
from encoder import END_OF_TEXT, PIECES, bytes_to_unicode, get_encoder
from extras import gradients, scoring

STORIES = ROOT / "tests" / "stories.txt"
SIZES = ["--n_vocab=400", "--n_ctx=32", "--n_embd=24", "--n_head=3", "--n_layer=2", "--n_windows=4"]


def run(train, argv):  # -> exit status
    return helpers.run(argv, "training.train")


def arrays_in(folder):
    return checkpoint.read_checkpoint(folder / "model.ckpt")


@pytest.fixture(scope="module")
def train():
    pytest.importorskip("tokenizers", reason="the library tokenizers, which learns merges, is not installed")
    from training import train

    return train


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    assert run(train, [str(STORIES), str(folder), *SIZES, "--n_steps=200", "--repeats=0"]) == 0
    return folder


def test_the_model_runs_by_folder_and_has_learned(trained):
    done = command("The little fox", "--n_tokens_to_generate=10", f"--model_size={trained}")
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout) > 10
    encoder, hparams, params = utils.load_encoder_hparams_and_params(trained, None)
    texts = scoring.split_documents(STORIES.read_text(encoding="utf-8"))

    def loss(params):
        ids = scoring.document_ids("".join(texts), encoder)
        return scoring.nats(ids, params, hparams["n_head"]).mean()

    assert loss(params) < loss(weights.random_params(hparams, np.random.default_rng(0))) - 1


def test_tensorflow_reads_the_same_arrays_from_the_checkpoint(tf, trained):
    theirs, ours = tf.train.load_checkpoint(str(trained / "model.ckpt")), arrays_in(trained)
    assert theirs.get_variable_to_shape_map().keys() == ours.keys()
    for name, array in ours.items():
        assert array.dtype == np.float16 and np.array_equal(theirs.get_tensor(name), array), name


def test_a_model_read_while_it_is_saved_is_the_old_or_the_new_one(trained, tmp_path, monkeypatch):
    folder, replace, seen = tmp_path / "model", os.replace, []
    shutil.copytree(trained, folder)
    old = {name: array.copy() for name, array in arrays_in(trained).items()}
    new = {name: -array for name, array in old.items()}

    def read():
        found = arrays_in(folder)
        seen.append([name for name in found if np.array_equal(found[name], new[name])])
        assert all(np.array_equal(found[name], old[name]) for name in found.keys() - set(seen[-1]))

    def replace_and_read(*paths):
        read()
        replace(*paths)
        read()

    monkeypatch.setattr(os, "replace", replace_and_read)
    checkpoint.write_checkpoint(folder / "model.ckpt", new)
    assert len(seen) == 4 and {len(names) for names in seen} == {0, len(old)}
    assert seen[0] == [] and len(seen[-1]) == len(old)
    assert {path.name for path in folder.iterdir()} == {path.name for path in trained.iterdir()}


def test_the_vocabulary_is_learned_from_the_text_in_openais_order(trained):
    encoder = get_encoder(trained, "")
    assert len(encoder.encoder) == 400 and list(encoder.encoder.values()) == list(range(400))
    assert "Ġthe" in encoder.encoder and encoder.decode(encoder.encode("日本 fox")) == "日本 fox"


def test_each_merge_joins_the_pair_that_is_then_the_most_frequent(trained):
    letters = bytes_to_unicode()
    pieces = PIECES.findall(STORIES.read_text(encoding="utf-8").replace(END_OF_TEXT + "\n", ""))
    words = [[letters[byte] for byte in piece.encode()] for piece in pieces]
    for merge in [*get_encoder(trained, "").bpe_ranks][:20]:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        assert counts[merge] == max(counts.values())
        for word in words:
            for i in reversed(range(len(word) - 1)):
                if tuple(word[i : i + 2]) == merge:
                    word[i : i + 2] = ["".join(merge)]


def test_muon_changes_the_matrices_in_the_blocks_and_adamw_the_rest(train):
    """Without a gradient, all that changes is what Muon's weight decay shrinks."""
    arrays = gradients.leaves(weights.random_params(SMALL, np.random.default_rng(0)))
    before = {name: array.copy() for name, array in arrays.items()}
    nothing = {name: np.zeros_like(array) for name, array in arrays.items()}
    with ThreadPoolExecutor() as pool:
        train.learn(arrays, nothing, train.new_memory(arrays), step=500, n_steps=3000, pool=pool)
    matrices = {name for name in weights.shapes(SMALL) if re.fullmatch(r"h\d/(attn|mlp)/c_\w+/w", name)}
    assert len(matrices) == 8 and arrays.keys() == weights.shapes(SMALL).keys()
    for name, array in arrays.items():
        kept = 1 - 6e-3 * 0.1 if name in matrices else 1
        np.testing.assert_allclose(array, kept * before[name], rtol=1e-6, err_msg=name)


def test_every_array_learns(train):
    params = weights.random_params(SMALL, np.random.default_rng(0))
    arrays = gradients.leaves(params)
    memory, windows = train.new_memory(arrays), np.random.default_rng(1).integers(97, size=(4, 33))
    losses = []
    with ThreadPoolExecutor() as pool:
        for step in range(60):
            surprise, found = gradients.loss_and_gradients(windows[:, :-1], windows[:, 1:], params, 3)
            before = {name: array.copy() for name, array in arrays.items()}
            train.learn(arrays, found, memory, step, 60, pool)
            assert all((array != before[name]).any() for name, array in arrays.items())
            losses.append(surprise)
    assert losses[0] == pytest.approx(np.log(97), abs=0.1) and losses[-1] < 3


def test_a_stopped_run_equals_one_that_did_not_stop_to_the_last_bit(train, tmp_path, monkeypatch):
    argv = [str(STORIES), str(tmp_path / "a"), *SIZES, "--n_steps=8", "--repeats=0.3"]
    assert run(train, argv) == 0
    rate = train.warmup_and_decay

    def stop(step, n_steps):
        if step == 5:
            raise KeyboardInterrupt
        return rate(step, n_steps)

    argv[1] = str(tmp_path / "b")
    monkeypatch.setattr(train, "SAVE_EVERY", 4)
    with monkeypatch.context() as patch:
        patch.setattr(train, "warmup_and_decay", stop)
        assert run(train, argv) == 130
    early = {name: array.copy() for name, array in arrays_in(tmp_path / "b").items()}
    assert run(train, argv) == 0
    whole, in_two = arrays_in(tmp_path / "a"), arrays_in(tmp_path / "b")
    for name, array in whole.items():
        assert np.array_equal(in_two[name], array) and (early[name] != array).any(), name
    with np.load(tmp_path / "a" / train.STATE) as whole, np.load(tmp_path / "b" / train.STATE) as in_two:
        assert {*whole.files} == {*in_two.files} > {"run.json", "wte", "mean/wte", "momentum/h1/mlp/c_fc/w"}
        assert all(np.array_equal(whole[name], in_two[name]) for name in whole.files)


def test_a_run_of_an_older_version_is_told_to_start_again(train, trained, tmp_path, capsys):
    folder = tmp_path / "old"
    shutil.copytree(trained, folder, ignore=lambda *_: [train.STATE])
    (folder / "training.pt").write_bytes(b"PK")
    assert run(train, [str(STORIES), str(folder), *SIZES]) == 1
    problem = "the state of a run of an older version, which cannot continue; start again, with a new folder"
    assert capsys.readouterr().err == f"training.train: {folder / 'training.pt'}: {problem}\n"


def test_a_run_continues_with_another_held_out_text_and_line_ends_of_windows(train, trained, tmp_path):
    text, held_out, folder = tmp_path / "dos.txt", tmp_path / "other.txt", tmp_path / "begun"
    text.write_bytes(STORIES.read_text(encoding="utf-8").replace("\n", "\r\n").encode())
    held_out.write_text("The little fox ran home.")
    shutil.copytree(trained, folder)
    argv = [str(text), str(folder), *SIZES, "--n_steps=200", "--repeats=0", f"--held_out={held_out}"]
    assert run(train, argv) == 0
    again, before = arrays_in(folder), arrays_in(trained)
    assert all(np.array_equal(again[name], before[name]) for name in before)


def test_a_pass_takes_every_part_of_the_text_once(train):
    settings = {"n_ctx": 32, "n_windows": 4, "repeats": 0, "seed": 0}
    ids = np.arange(1000)
    n_steps = (1000 // 32 - 1) // 4
    windows = np.concatenate([train.batch(ids, step, 50, settings) for step in range(n_steps)])
    assert (np.diff(windows, axis=1) == 1).all()
    begins = windows[:, 0]
    assert len(set(begins)) == len(begins) and len(set(begins % 32)) == 1 and (np.diff(begins) < 0).any()


def test_repeated_spans_occur_two_to_sixteen_times(train):
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(300):
        ids = train.repeated_span(257, 4000, rng)
        assert ids.shape == (257,) and 0 <= ids.min() and ids.max() < 3999
        lengths.add(next(n for n in range(8, 257) if (ids[:-n] == ids[n:]).all()))
    assert lengths == {257 // n for n in range(2, 17)}


def test_counts_are_those_of_the_text(trained):
    encoder, counts = get_encoder(trained, ""), np.load(trained / "counts.npz")
    texts = scoring.split_documents(STORIES.read_text(encoding="utf-8"))
    ids = [i for text in texts for i in scoring.document_ids(text, encoder)]
    assert counts["unigrams"].tolist() == [ids.count(i) for i in range(400)]
    pairs = [*itertools.pairwise(ids)]
    assert {tuple(pair): n for pair, n in zip(counts["bigrams"].tolist(), counts["bigram_counts"])} == {
        pair: pairs.count(pair) for pair in set(pairs)
    }


@pytest.mark.parametrize(
    "argv, status, message",
    [
        (["nowhere.txt", "new"], 1, "nowhere.txt"),
        (["stories.txt", "full"], 2, "full holds model.ckpt.index: give an empty folder"),
        (["stories.txt", "stories.txt"], 1, "stories.txt"),
        (["stories.txt", "new", "--n_embd=25"], 2, "n_embd 25 is not a multiple of n_head 6"),
        (["stories.txt", "new", "--n_ctx=4000"], 2, "stories.txt is too short"),
        (["stories.txt", "new", "--n_vocab=70000"], 2, "n_vocab is 70000: it must be from 257 to 65536"),
        (["stories.txt", "new", "--n_layer=0"], 2, "n_layer is 0, expected a whole number from 1"),
        (["stories.txt", "new", "--n_ctx=15"], 2, "n_ctx is 15: it must be from 16"),
        (["stories.txt", "new", "--n_steps=0"], 2, "n_steps is 0: it must be from 1"),
        (
            ["stories.txt", "new", "--n_steps=many"],
            2,
            "n_steps is 'many': it must be a whole number",
        ),
        (["stories.txt", "new", "--repeats=1.5"], 2, "repeats is 1.5: it must be from 0 to 1"),
        (["stories.txt", "new", "--repeats=nan"], 2, "repeats is 'nan': it must be a number"),
        (["stories.txt", "new", "--n_step=9"], 2, "there is no option '--n_step': did you mean --n_steps"),
        (["stories.txt"], 2, "give a text and a folder"),
        ([], 2, "give a text and a folder"),
        (["stories.txt", "new", "--held_out=empty.txt"], 2, "empty.txt is empty"),
        (["empty.txt", "new"], 2, "empty.txt is empty"),
        (["latin.txt", "new"], 2, "latin.txt is not UTF-8 text"),
        (["stories.txt", "begun"], 2, "hparams.json has {'n_vocab': 400, 'n_ctx': 32, "),
        (["stories.txt", "begun", *SIZES, "--n_steps=9", "--seed=1"], 2, "begun was begun with {"),
        (["other.txt", "begun", *SIZES, "--repeats=0"], 2, "begun was begun with another text or vocabulary"),
        (["stories.txt", "mixed", *SIZES, "--repeats=0"], 2, "mixed was begun with another text or vocab"),
        (["stories.txt", "grown", *SIZES], 2, "grown/hparams.json has {'n_vocab': 400, 'n_ctx': 64, "),
        (["stories.txt", "broken", *SIZES], 1, "training.npz: damaged, or not the state of a run"),
        (["stories.txt", "hollow", *SIZES], 1, "hollow/hparams.json: "),
        (["stories.txt", "nested", *SIZES], 1, "training.npz'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    train, trained, tmp_path, monkeypatch, capsys, argv, status, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories.txt").write_bytes(STORIES.read_bytes())
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    shutil.copytree(trained, "begun")
    shutil.copytree(trained, "broken")
    (tmp_path / "broken" / "training.npz").write_bytes(b"broken")
    (tmp_path / "other.txt").write_text(STORIES.read_text().replace("fox", "cat"))
    shutil.copytree(trained, "grown")
    sizes = (trained / "hparams.json").read_text()
    (tmp_path / "grown" / "hparams.json").write_text(sizes.replace('"n_ctx": 32', '"n_ctx": 64'))
    shutil.copytree(trained, "mixed")
    train.write_encoder(tmp_path / "mixed", train.learn_vocabulary([STORIES.read_text().upper()], 400))
    shutil.copytree(trained, "hollow")
    (tmp_path / "hollow" / "hparams.json").write_text("{")
    shutil.copytree(trained, "nested", ignore=lambda *_: ["training.npz"])
    (tmp_path / "nested" / "training.npz").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.ckpt.index").write_text("precious")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run(train, argv) == status
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("training.train: ") and message.replace("/", os.sep) in said[-1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_the_command_itself_refuses_without_a_traceback(train, tmp_path):
    done = run_python("-m", "training.train", "nowhere.txt", str(tmp_path / "new"))
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.splitlines()[-1].startswith(b"training.train: ") and b"Traceback" not in done.stderr


def test_the_help_gives_the_true_defaults(train):
    parameters = inspect.signature(train.command).parameters.values()
    defaults = {p.name: str(p.default) for p in parameters if type(p.default) in (int, float)}
    assert defaults == dict(re.findall(r"(?m)^--(\w+) ([\d.]+) ", train.HELP))


def test_a_run_stopped_before_its_first_save_starts_again(train, trained, tmp_path):
    folder = tmp_path / "begun"
    shutil.copytree(trained, folder, ignore=lambda *_: ["training.npz", "model.ckpt.index", utils.DATA])
    assert run(train, [str(STORIES), str(folder), *SIZES, "--n_steps=1"]) == 0
    assert (folder / "model.ckpt.index").exists()


def test_of_two_pairs_that_make_the_same_token_the_first_is_kept(train, monkeypatch):
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]
    monkeypatch.setattr(train.json, "loads", lambda text: {"model": {"merges": merges}})
    encoder = train.learn_vocabulary(["abc"], 300)
    assert [*encoder.bpe_ranks] == [("a", "b"), ("b", "c"), ("ab", "c")]
    assert encoder.decode(encoder.encode("abc")) == "abc"
