"""models/tiny/train.py: a text becomes a model that the program runs."""

import itertools
import shutil
from collections import Counter

import numpy as np
import pytest
from helpers import ROOT, SMALL, command, run_python

import checkpoint
import gpt2
import utils
from encoder import END_OF_TEXT, PIECES, bytes_to_unicode, get_encoder
from extras import scoring

pytestmark = pytest.mark.parity
STORIES = ROOT / "tests" / "stories.txt"
SIZES = ["--n_vocab=400", "--n_ctx=32", "--n_embd=24", "--n_head=3", "--n_layer=2", "--n_windows=4"]


def weights(folder):
    return checkpoint.read_checkpoint(folder / "model.ckpt")


@pytest.fixture(scope="module")
def train():
    pytest.importorskip("torch", reason="PyTorch, which trains, is not installed")
    pytest.importorskip("tokenizers", reason="the library tokenizers, which learns merges, is not installed")
    pytest.importorskip("tensorflow", reason="TensorFlow, which writes the checkpoint, is not installed")
    from models.tiny import train

    return train


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    train.main([str(STORIES), str(folder), *SIZES, "--n_steps=200", "--repeats=0"])
    return folder


def test_the_model_runs_by_folder_and_has_learned(trained):
    done = command("The little fox", "--n_tokens_to_generate=10", f"--model_size={trained}")
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout) > 10
    encoder, hparams, params = utils.load_encoder_hparams_and_params(trained, None)
    texts = scoring.documents(STORIES.read_text(encoding="utf-8"))

    def loss(params):
        ids = scoring.document_ids("".join(texts), encoder)
        return scoring.nats(ids, params, hparams["n_head"]).mean()

    assert loss(params) < loss(checkpoint.random_params(hparams, np.random.default_rng(0))) - 1


def test_its_vocabulary_is_learned_from_the_text_in_openais_order(trained):
    encoder = get_encoder(trained, None)
    assert len(encoder.encoder) == 400 and list(encoder.encoder.values()) == list(range(400))
    assert "Ġthe" in encoder.encoder and encoder.decode(encoder.encode("日本 fox")) == "日本 fox"


def test_every_merge_is_of_the_pair_most_frequent_at_its_turn(trained):
    letters = bytes_to_unicode()
    pieces = PIECES.findall(STORIES.read_text(encoding="utf-8").replace(END_OF_TEXT + "\n", ""))
    words = [[letters[byte] for byte in piece.encode()] for piece in pieces]
    for merge in [*get_encoder(trained, None).bpe_ranks][:20]:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        assert counts[merge] == max(counts.values())
        for word in words:
            for i in reversed(range(len(word) - 1)):
                if tuple(word[i : i + 2]) == merge:
                    word[i : i + 2] = ["".join(merge)]


def test_the_loss_in_pytorch_is_that_of_the_model(train):
    params = checkpoint.random_params(SMALL, np.random.default_rng(0))
    windows = np.random.default_rng(1).integers(SMALL["n_vocab"], size=(5, SMALL["n_ctx"] + 1))
    leaves = checkpoint.nest(train.to_leaves(checkpoint.flatten(params)))
    theirs = train.loss(leaves, train.torch.from_numpy(windows), SMALL["n_head"])
    logits = gpt2.gpt2(windows[:, :-1], **params, n_head=SMALL["n_head"])
    assert theirs.item() == pytest.approx(scoring.cross_entropy(logits, windows[:, 1:]).mean(), rel=1e-6)


def test_leaves_become_the_arrays_that_they_were(train):
    arrays = checkpoint.flatten(checkpoint.random_params(SMALL, np.random.default_rng(0)))
    again = train.to_arrays(train.to_leaves(arrays), SMALL)
    assert again.keys() == checkpoint.shapes(SMALL).keys()
    for name, array in again.items():
        assert array.dtype == np.float16 and (array == arrays[name].astype(np.float16)).all()


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(train, tmp_path, monkeypatch):
    argv = [str(STORIES), str(tmp_path / "a"), *SIZES, "--n_steps=8", "--repeats=0.3"]
    train.main(argv)
    rate = train.learning_rate

    def stop(step, n_steps):
        if step == 5:
            raise KeyboardInterrupt
        return rate(step, n_steps)

    argv[1] = str(tmp_path / "b")
    monkeypatch.setattr(train, "SAVE_EVERY", 4)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(train, "learning_rate", stop)
        train.main(argv)
    assert stopped.value.code == 130
    early = {name: array.copy() for name, array in weights(tmp_path / "b").items()}
    train.main(argv)
    whole, in_two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert max(np.abs(whole[name] - early[name]).max() for name in whole) > 1e-3
    for name, array in whole.items():
        np.testing.assert_allclose(in_two[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_pass_takes_every_part_of_the_text_once(train):
    class Options:
        n_windows, repeats, seed = 4, 0, 0

    ids = np.arange(1000)
    n_steps = (1000 // 32 - 1) // 4
    windows = np.concatenate([train.batch(ids, step, 50, 32, Options) for step in range(n_steps)])
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
    encoder, counts = get_encoder(trained, None), np.load(trained / "counts.npz")
    texts = scoring.documents(STORIES.read_text(encoding="utf-8"))
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
        (["stories.txt", "full"], 2, "full holds model.ckpt.index: name an empty folder"),
        (["stories.txt", "stories.txt"], 1, "stories.txt"),
        (["stories.txt", "new", "--n_embd=25"], 2, "n_embd 25 is not a multiple of n_head 6"),
        (["stories.txt", "new", "--n_ctx=4000"], 2, "stories.txt is too short"),
        (["stories.txt", "new", "--n_vocab=70000"], 2, "n_vocab is 70000, it may be 257 to 65536"),
        (["stories.txt", "new", "--n_layer=0"], 2, "n_layer is 0"),
        (["stories.txt", "new", "--held_out=empty.txt"], 2, "empty.txt is empty"),
        (["empty.txt", "new"], 2, "empty.txt is empty"),
        (["latin.txt", "new"], 2, "latin.txt is not UTF-8 text"),
        (["stories.txt", "begun"], 2, "begun was begun with {"),
        (["stories.txt", "begun", *SIZES, "--n_steps=9", "--seed=1"], 2, "begun was begun with {"),
        (["stories.txt", "broken", *SIZES], 1, "training.pt is damaged"),
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
    (tmp_path / "broken" / "training.pt").write_bytes(b"broken")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.ckpt.index").write_text("precious")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        train.main(argv)
    said = capsys.readouterr().err.splitlines()
    assert stopped.value.code == status and said[-1].startswith("train.py: ") and message in said[-1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_the_command_itself_refuses_without_a_traceback(train, tmp_path):
    done = run_python(str(ROOT / "models" / "tiny" / "train.py"), "nowhere.txt", "new", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.splitlines()[-1].startswith(b"train.py: ") and b"Traceback" not in done.stderr


def test_a_start_that_ended_before_its_first_save_begins_anew(train, trained, tmp_path):
    folder = tmp_path / "begun"
    shutil.copytree(trained, folder, ignore=lambda *_: ["training.pt", "model.ckpt.index", utils.DATA])
    train.main([str(STORIES), str(folder), *SIZES, "--n_steps=1"])
    assert (folder / "model.ckpt.index").exists()


def test_the_rate_rises_stays_and_falls_to_nothing(train):
    rates = [train.learning_rate(step, 3000) for step in range(3000)]
    assert rates[0] == 0.01 and rates[99] == rates[1000] == 1 and rates[2000] == 0.5
    assert 0 < rates[-1] < 0.001 and max(train.learning_rate(step, 30) for step in range(30)) == 1


def test_two_ways_to_the_same_token_leave_one(train, monkeypatch):
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]
    monkeypatch.setattr(train.json, "loads", lambda text: {"model": {"merges": merges}})
    encoder = train.learn_vocabulary(["abc"], 300)
    assert [*encoder.bpe_ranks] == [("a", "b"), ("b", "c"), ("ab", "c")]
    assert encoder.decode(encoder.encode("abc")) == "abc"
