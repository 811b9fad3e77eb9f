"""models/tiny/train.py: a text becomes a model that the program runs."""

import itertools
from collections import Counter

import numpy as np
import pytest
from helpers import ROOT, SMALL, command, run_python

import checkpoint
import gpt2
import utils
from encoder import END_OF_TEXT, PIECES, bytes_to_unicode, get_encoder
from models.tiny import measure

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
    texts = measure.documents(STORIES.read_text(encoding="utf-8"))

    def loss(params):
        ids = measure.document_ids("".join(texts), encoder)
        return measure.nats(ids, params, hparams["n_head"]).mean()

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
    assert theirs.item() == pytest.approx(measure.cross_entropy(logits, windows[:, 1:]).mean(), rel=1e-6)


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
    assert any((whole[name] != early[name]).any() for name in whole)
    for name, array in whole.items():
        np.testing.assert_allclose(in_two[name], array, rtol=1e-2, atol=1e-3, err_msg=name)


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
    texts = measure.documents(STORIES.read_text(encoding="utf-8"))
    ids = [i for text in texts for i in measure.document_ids(text, encoder)]
    assert counts["unigrams"].tolist() == [ids.count(i) for i in range(400)]
    pairs = [*itertools.pairwise(ids)]
    assert {tuple(pair): n for pair, n in zip(counts["bigrams"].tolist(), counts["bigram_counts"])} == {
        pair: pairs.count(pair) for pair in set(pairs)
    }


@pytest.mark.parametrize(
    "argv, message",
    [
        (["nowhere.txt", "new"], "nowhere.txt"),
        ([str(STORIES), "full"], "full is not empty, and no training that could go on"),
        ([str(STORIES), "new", "--n_embd=25"], "n_embd 25 is not a multiple of n_head 6"),
        ([str(STORIES), "new", "--n_ctx=4000"], "too short"),
        ([str(STORIES), "new", "--n_vocab=70000"], "n_vocab"),
        ([str(STORIES), "new", "--n_layer=0"], "n_layer"),
        (["empty.txt", "new"], "too short"),
        (["latin.txt", "new"], "latin.txt is not UTF-8 text"),
        ([str(STORIES), "begun"], "begun was begun with {"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(trained, tmp_path, argv, message):
    (tmp_path / "begun").mkdir()
    for name in ("hparams.json", "encoder.json", "vocab.bpe", "training.pt"):
        (tmp_path / "begun" / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.ckpt.index").write_text("precious")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    done = run_python(str(ROOT / "models" / "tiny" / "train.py"), *argv, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr.decode() and b"Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "model.ckpt.index").read_text() == "precious"


def test_two_ways_to_the_same_token_leave_one(train, monkeypatch):
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]
    monkeypatch.setattr(train.json, "loads", lambda text: {"model": {"merges": merges}})
    encoder = train.learn_vocabulary(["abc"], 300)
    assert [*encoder.bpe_ranks] == [("a", "b"), ("b", "c"), ("ab", "c")]
    assert encoder.decode(encoder.encode("abc")) == "abc"
