"""Scores agree with slow loops, and the loss with that of transformers (`pytest -m parity`)."""

import math
import re

import numpy as np
import pytest
from helpers import SMALL, assert_same_logits, lively_params, passes, run_python

import gpt2
from encoder import END_OF_TEXT, Encoder
from extras import scoring
from extras.huggingface import export

N_HEAD, N_CTX = SMALL["n_head"], SMALL["n_ctx"]
STORY = "The little fox ran away, and hid himself in the bushes. Nobody saw him: it was dark."


def ids_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, SMALL["n_vocab"], n)


def slowly(ids, params, n_seen):
    """Surprise and rank of each token except the first, given n_seen(i) tokens before token i."""
    found = []
    for i in range(1, len(ids)):
        logits = gpt2.gpt2(ids[i - n_seen(i) : i], **params, n_head=N_HEAD)[-1].astype(float)
        total = sum(math.exp(logit - logits.max()) for logit in logits)
        rank = 1 + sum(logit > logits[ids[i]] for logit in logits)
        found.append((math.log(total) - (logits[ids[i]] - logits.max()), rank))
    return np.array(found).reshape(-1, 2).T


@pytest.mark.parametrize("n", [2, 3, N_CTX, N_CTX + 1])
def test_a_text_that_fits_is_scored_token_by_token_given_all_before(params, n):
    surprises, ranks = scoring.score(ids_of(n), params, N_HEAD)
    wanted = slowly(ids_of(n), params, lambda i: i)
    assert surprises.dtype == np.float32 and np.allclose(surprises, wanted[0], rtol=1e-4, atol=1e-5)
    assert ranks.tolist() == wanted[1].tolist()


@pytest.mark.parametrize("stride", [1, 5, 16, N_CTX - 1, N_CTX])
@pytest.mark.parametrize("n", [N_CTX + 2, 2 * N_CTX + 1, 3 * N_CTX + 7])
def test_a_longer_text_is_scored_in_windows_of_stride_new_tokens(params, n, stride):
    ids = ids_of(n, seed=1)

    def n_seen(i):  # in the first window that reaches token i; the last one slides back until it is full
        end = next(min(end, n) for end in range(N_CTX + 1, n + stride, stride) if end > i)
        return i - (end - 1 - N_CTX)

    surprises, ranks = scoring.score(ids, params, N_HEAD, stride)
    wanted = slowly(ids, params, n_seen)
    assert len(surprises) == len(ranks) == n - 1
    assert np.allclose(surprises, wanted[0], rtol=1e-4, atol=1e-5) and ranks.tolist() == wanted[1].tolist()


def test_perplexity_is_one_over_the_geometric_mean_of_the_probabilities(params):
    ids = ids_of(3 * N_CTX, seed=2)
    p = np.exp(-scoring.nats(ids, params, N_HEAD, 9).astype(float))
    assert scoring.perplexity(ids, params, N_HEAD, 9) == pytest.approx(np.prod(1 / p ** (1 / len(p))))


def test_a_text_of_one_token_has_no_scores(params):
    surprises, ranks = scoring.score([3], params, N_HEAD)
    assert surprises.shape == ranks.shape == (0,) and surprises.dtype == np.float32


@pytest.mark.parametrize("stride", [0, -1, N_CTX + 1])
def test_a_stride_that_is_not_from_1_to_n_ctx_is_refused(params, stride):
    with pytest.raises(ValueError, match=f"stride is {stride}: it must be from 1 to the {N_CTX} tokens"):
        scoring.score(ids_of(9), params, N_HEAD, stride)


def test_a_smaller_stride_gives_more_context_and_less_surprise(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode(STORY * 20)
    surprises = [scoring.nats(ids, params, hparams["n_head"], stride).mean() for stride in (256, 128, 32)]
    assert surprises[0] > surprises[1] > surprises[2]


def test_the_last_window_is_full_whatever_is_left_to_score(params, monkeypatch):
    sizes = passes(monkeypatch)
    for n in range(N_CTX + 2, 3 * N_CTX):
        assert len(scoring.nats(ids_of(n), params, N_HEAD)) == n - 1
    assert {*sizes} == {(N_CTX,)}


@pytest.mark.parametrize("ids", [[5, -1], [5, SMALL["n_vocab"]], [1.5, 2], [-100, 5]])
def test_what_is_not_an_id_is_refused_by_every_score(params, ids):
    for score in (scoring.score, scoring.perplexity, scoring.loss):
        with pytest.raises(ValueError, match="is not an id of this model: its ids run from 0 to 96"):
            score(ids, params, N_HEAD)
    for context, choices in ((ids, [[3]]), ([3], [ids]), ([3], [[4], ids])):
        with pytest.raises(ValueError, match="is not an id of this model"):
            scoring.choose(context, choices, params, N_HEAD)


def test_a_perplexity_of_one_token_is_refused(params):
    with pytest.raises(ValueError, match="a perplexity needs two or more"):
        scoring.perplexity([3], params, N_HEAD)


def test_weights_that_make_nan_give_no_number(params):
    params["wte"][:] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        scoring.score([3, 4], params, N_HEAD)


def test_a_greedy_pick_has_rank_one(tiny):
    encoder, hparams, params = tiny
    prompt = encoder.encode("The little fox")
    new_ids = gpt2.generate(prompt, params, hparams["n_head"], 15)
    assert (
        scoring.score([*prompt, *new_ids], params, hparams["n_head"])[1][len(prompt) - 1 :].tolist()
        == [1] * 15
    )


def test_the_surprise_of_a_nearly_impossible_token_is_finite():
    logits = np.float32([[0, 500, 0]])
    assert scoring.cross_entropy(logits, np.array([0])).tolist() == [500]


# ---- loss --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_loss_is_the_mean_of_a_slow_loop_over_the_tokens_that_count(params, smoothing):
    ids, mask = ids_of(12).reshape(2, 6), np.ones((2, 6), bool)
    mask[0, 3:], mask[1, 0] = False, False
    surprises, right = [], []
    for row, counts in zip(ids, mask):
        logits = gpt2.gpt2(row, **params, n_head=N_HEAD).astype(float)
        for i in range(1, 6):
            log_p = [logit - math.log(sum(map(math.exp, logits[i - 1]))) for logit in logits[i - 1]]
            if counts[i]:
                surprises.append(-(1 - smoothing) * log_p[row[i]] - smoothing * sum(log_p) / len(log_p))
                right.append(log_p[row[i]] == max(log_p))
    loss, accuracy = scoring.loss(ids, params, N_HEAD, mask, smoothing)
    assert loss == pytest.approx(np.mean(surprises), rel=1e-5)
    assert accuracy == np.mean(right) and len(surprises) == 7


def test_the_loss_is_the_mean_surprise_and_the_accuracy_the_share_of_rank_one(tiny):
    encoder, hparams, params = tiny
    ids = encoder.encode(STORY)
    surprises, ranks = scoring.score(ids, params, hparams["n_head"])
    loss, accuracy = scoring.loss(ids, params, hparams["n_head"])
    assert loss == pytest.approx(surprises.mean(), rel=1e-5) and accuracy == np.mean(ranks == 1) > 0.2


def test_a_loss_over_no_tokens_is_refused(params):
    with pytest.raises(ValueError, match="no token counts: the mask leaves none"):
        scoring.loss([5, 6], params, N_HEAD, [True, False])


def test_choices_are_scored_after_their_context(params):
    context, choices = [1, 2, 3], [[4], [5, 6], [7, 8, 9]]
    wanted = []
    for choice in choices:
        surprises, _ = slowly(np.array([*context, *choice]), params, lambda i: i)
        wanted.append(-surprises[2:].sum())
    assert np.allclose(scoring.choose(context, choices, params, N_HEAD), wanted, rtol=1e-4)


def test_an_empty_choice_is_certain(params):
    assert scoring.choose([1, 2], [[], [3]], params, N_HEAD)[0] == 0
    scores = scoring.choose([1, 2], [[3], []], params, N_HEAD)
    assert scores.dtype == np.float32 and scores[1] == 0 > scores[0]


def test_the_id_that_begins_a_text_stands_in_for_an_empty_context(params):
    choices = [[5, 6], [6]]
    wanted = scoring.choose([96], choices, params, N_HEAD)
    assert scoring.choose([], choices, params, N_HEAD, begin=96).tolist() == wanted.tolist()
    assert scoring.choose([], choices, params, N_HEAD, begin=0).tolist() != wanted.tolist()
    assert scoring.choose([96], choices, params, N_HEAD, begin=0).tolist() == wanted.tolist()
    with pytest.raises(ValueError, match="the context is empty: give begin, the id that begins a text"):
        scoring.choose([], choices, params, N_HEAD)


@pytest.mark.parametrize("n_choice", [1, 5, N_CTX])
@pytest.mark.parametrize("n_context", [1, N_CTX - 4, N_CTX + 1, 3 * N_CTX])
def test_a_context_that_is_too_long_is_cut_at_its_beginning(params, n_context, n_choice):
    ids = ids_of(n_context + n_choice, seed=3)
    in_view = ids[-N_CTX - 1 :]
    wanted = -slowly(in_view, params, lambda i: i)[0][-n_choice:].sum()
    (score,) = scoring.choose(ids[:n_context], [ids[n_context:]], params, N_HEAD)
    assert score == pytest.approx(wanted, rel=1e-4)


def test_a_choice_that_is_longer_than_the_context_of_the_model_is_refused(params):
    with pytest.raises(ValueError, match=f"a choice has {N_CTX + 1} tokens, but the model sees {N_CTX}"):
        scoring.choose([1], [[2], ids_of(N_CTX + 1)], params, N_HEAD)


# ---- the command -------------------------------------------------------------------------------------------


def run(*words, **options):
    return run_python("-m", "extras.scoring", *words, **options)


def test_the_command_prints_what_the_functions_give(tiny, tmp_path):
    encoder, hparams, params = tiny
    (tmp_path / "story").write_text(f"{STORY}\n<|endoftext|>\nAnother.\n")
    texts = [f"{STORY}\n", "Another.\n"]
    found = [scoring.nats(scoring.document_ids(text, encoder), params, hparams["n_head"]) for text in texts]
    surprises = np.concatenate(found).astype(float)
    n_bytes = len(STORY) + 1 + len("Another.\n")
    wanted = f"""\
tokens         {len(surprises)}
nats a token   {surprises.mean():.3f}
perplexity     {math.exp(surprises.mean()):.2f}
bits per byte  {surprises.sum() / math.log(2) / n_bytes:.3f}
"""
    done = run(str(tmp_path / "story"), "--model_size", "tiny")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, wanted, b"")
    piped = run("-", "--model_size=tiny", input=(tmp_path / "story").read_bytes())
    assert piped.stdout == done.stdout


def test_without_colour_the_text_is_shown_with_numbers(tiny, tmp_path):
    (tmp_path / "story").write_text(STORY)
    legend, shown, _ = run(str(tmp_path / "story"), "-m=tiny", "--show").stdout.decode().split("\n\n")
    assert legend == "after each token, its surprise in nats"
    assert re.sub(r"\[\d+\.\d\]", "", shown) == STORY
    assert len(re.findall(r"\[\d+\.\d\]", shown)) == len(tiny[0].encode(STORY))


def test_the_legend_has_each_shade_with_its_nats():
    legend = scoring.legend(in_colour=True)
    assert (
        re.sub(r"\033\[[\d;]*m", "", legend)
        == "surprise in nats: no shade up to 1,  to 3   to 5   to 7   more \n"
    )
    shades = [int(code) for code in re.findall(r"48;5;(\d+)m", legend)]
    assert shades == [shade for _, shade in scoring.SHADES if shade]


def test_a_text_that_is_piped_in_is_scored_without_a_dash(tmp_path):
    wanted = run("-", "-m=tiny", input=STORY.encode()).stdout
    assert run("--model_size=tiny", input=STORY.encode()).stdout == wanted and b"perplexity" in wanted


def test_with_colour_the_shade_of_each_token_follows_its_surprise(tiny):
    encoder = tiny[0]
    ids = encoder.encode("one two\n\nthree é")
    shown = scoring.show_surprise(ids, np.linspace(0.5, 9, len(ids)), encoder, in_colour=True)
    assert re.sub(r"\033\[[\d;]*m", "", shown) == "one two\n\nthree é"
    shades = [int(code) for code in re.findall(r"48;5;(\d+)m", shown)]
    assert shades == sorted(shades, reverse=True) and {*shades} <= {229, 221, 215, 203} and len({*shades}) > 2
    assert shown.startswith(encoder.decode(ids[:1])) and not re.search(r"m\n", shown.replace("0m\n", ""))


def test_a_document_needs_a_vocabulary_with_an_end_of_text(tiny):
    tokens = {token: i for token, i in tiny[0].encoder.items() if token != END_OF_TEXT}
    with pytest.raises(ValueError, match=r"no token that begins a document, such as <\|endoftext\|>"):
        scoring.document_ids("Once", Encoder(tokens, tiny[0].bpe_ranks))
    other = Encoder(tokens | {"</s>": 3999}, tiny[0].bpe_ranks, stop_tokens=["</s>"], begin_token="</s>")
    assert scoring.document_ids("Once", other) == [3999, *tiny[0].encode("Once")]


TWO = f"Once.{END_OF_TEXT}The little fox ran away."


def two(encoder, special):  # -> ids
    middle = [encoder.encoder[END_OF_TEXT]] if special else encoder.encode(END_OF_TEXT)
    return [*encoder.encode("Once."), *middle, *encoder.encode("The little fox ran away.")]


@pytest.mark.parametrize("special", [True, False])
def test_a_special_token_in_a_document_is_one_token_with_special_and_plain_text_without(tiny, special):
    encoder, end = tiny[0], tiny[0].encoder[END_OF_TEXT]
    assert scoring.document_ids(TWO, encoder, special) == [end, *two(encoder, special)]
    assert scoring.document_ids(TWO, encoder) == [end, *two(encoder, False)]
    done = run("--model_size=tiny", "--show", *["--special"] * special, input=TWO.encode())
    surprises = scoring.nats([end, *two(encoder, special)], tiny[2], tiny[1]["n_head"])
    pieces = [encoder.decode([i]) for i in two(encoder, special)]
    shown = "".join(f"{piece}[{nats:.1f}]" for piece, nats in zip(pieces, surprises))
    numbers = f"tokens         {len(surprises)}\nnats a token   {surprises.mean(dtype=float):.3f}\n"
    assert f"\n{shown}\n\n{numbers}" in done.stdout.decode()
    n_bytes = len(TWO) - len(END_OF_TEXT) * special  # the token itself is no text
    bits = surprises.sum(dtype=float) / math.log(2) / n_bytes
    assert done.stdout.decode().endswith(f"bits per byte  {bits:.3f}\n")
    line = b"'<|endoftext|>' in a document is read as plain text; --special makes it the token\n"
    assert done.stderr == (b"" if special else line)


def test_lines_that_split_documents_get_no_line_and_a_token_inside_several_gets_one(tmp_path):
    lines = f"One.\n{END_OF_TEXT}\nTwo.\n"
    for words in ([], ["--special"]):
        done = run("--model_size=tiny", *words, input=lines.encode())
        assert done.stderr == b"" and done.stdout.startswith(b"tokens ")
    done = run("--model_size=tiny", input=f"{TWO}\n{END_OF_TEXT}\n{TWO}\n".encode())
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"'<|endoftext|>' in a document")


def test_where_no_token_begins_a_text_its_first_token_is_not_scored(tmp_path):
    hparams = SMALL | {"n_vocab": 8}
    encoder, params = Encoder({c: i for i, c in enumerate("ĠĊabcdef")}, []), lively_params(hparams, seed=0)
    export.save(tmp_path / "out", encoder, hparams, params)
    done = run(f"--model_size={tmp_path / 'out'}", input=b"a cab\nfed")
    surprises = scoring.nats(encoder.encode("a cab\nfed"), params, N_HEAD).astype(float)
    said = "the model has no token that begins a text: the first token of each document is not scored\n"
    assert (done.returncode, done.stderr.decode()) == (0, said)
    bits = surprises.sum() / math.log(2) / 8
    assert f"tokens         8\nnats a token   {surprises.mean():.3f}\n" in done.stdout.decode()
    assert f"bits per byte  {bits:.3f}\n" in done.stdout.decode()
    done = run(f"--model_size={tmp_path / 'out'}", input=b"a")
    assert (done.returncode, done.stdout) == (2, b"") and b"no token is left to score" in done.stderr


def test_a_document_that_begins_with_the_token_that_begins_each_gets_no_second_one(tiny):
    encoder, end = tiny[0], tiny[0].encoder[END_OF_TEXT]
    once = encoder.encode("Once")
    assert scoring.document_ids(f"{END_OF_TEXT}Once", encoder, special=True) == [end, *once]
    assert scoring.document_ids(f"{2 * END_OF_TEXT}Once", encoder, special=True) == [end, end, *once]
    assert scoring.document_ids(END_OF_TEXT, encoder, special=True) == [end, end]  # else none to predict
    plain = scoring.document_ids(f"{END_OF_TEXT}Once", encoder)
    assert plain == [end, *encoder.encode(f"{END_OF_TEXT}Once")] and plain[1] != end


def test_what_a_terminal_would_obey_is_spelled_in_what_is_shown(tiny):
    encoder = tiny[0]
    ids = encoder.encode("a\x1b[2J\x07\tb\n")
    for in_colour in (False, True):
        text = scoring.show_surprise(ids, np.zeros(len(ids)), encoder, in_colour)
        assert "\x1b" not in text and "\x07" not in text and "\\x1b" in text and "\t" in text and "\n" in text


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["--model_size=tiny"], 2, "standard input is empty"),
        (["-", "--model_size=tiny"], 2, "standard input is empty"),
        (["{}/none"], 1, "No such file"),
        (["{}/bytes", "--model_size=tiny"], 2, "is not UTF-8 text: byte 1 is 0xff; save it as UTF-8"),
        (["{}/empty", "--model_size=tiny"], 2, "is empty"),
        (["{}/story", "--model_size=tiny", "--stride=257"], 2, "stride is 257: it must be from 1 to the 256"),
        (
            ["{}/story", "--model_size=tiny", "--stride=x"],
            2,
            "stride is 'x': it must be a whole number, 0 or more",
        ),
        (["{}/story", "--model_size=none"], 2, "model_size is 'none', expected tiny"),
    ],
)
def test_a_text_that_cannot_be_scored_is_refused_in_one_line(tmp_path, words, status, message):
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "empty").touch()
    (tmp_path / "story").write_text(STORY)
    done = run(*[word.format(tmp_path) for word in words], input=b"")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
    assert re.search(message, done.stderr.decode())


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_transformers_computes_the_same_loss(transformers, tiny, tmp_path, smoothing):
    import torch

    from extras.huggingface import export

    encoder, hparams, params = tiny
    export.save(tmp_path / "tiny", *tiny)
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "tiny").eval()
    ids = np.array(encoder.encode(STORY))
    mask = np.arange(len(ids)) % 3 > 0
    labels = torch.from_numpy(np.where(mask, ids, -100)[None])
    with torch.no_grad():
        out = model(torch.from_numpy(ids[None]), labels=labels)
        smoothed = torch.nn.functional.cross_entropy(
            out.logits[0, :-1], labels[0, 1:], label_smoothing=smoothing
        )
    wanted = smoothed.item() if smoothing else out.loss.item()
    ours, _ = scoring.loss(ids, params, hparams["n_head"], mask, smoothing)
    assert_same_logits(np.float32([ours]), np.float32([wanted]))


@pytest.mark.parity
def test_transformers_finds_the_same_surprise_at_special_tokens(transformers, tiny, tmp_path):
    import torch

    from extras.huggingface import export

    export.save(tmp_path / "tiny", *tiny)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tiny")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "tiny").eval()
    ids = tokenizer(END_OF_TEXT + TWO, return_tensors="pt").input_ids
    with torch.no_grad():
        wanted = model(ids, labels=ids).loss.item()
    assert ids.tolist() == [scoring.document_ids(TWO, tiny[0], special=True)]
    (tmp_path / "two").write_text(TWO)
    for model_size in ("tiny", str(tmp_path / "tiny")):
        done = run(str(tmp_path / "two"), "--special", "-m", model_size)
        found = re.search(r"nats a token +([\d.]+)", done.stdout.decode())
        assert float(found[1]) == pytest.approx(wanted, abs=0.0006)  # it has three decimals


@pytest.mark.parametrize("n", [0, 1, 34])
def test_a_loss_of_too_few_or_too_many_tokens_is_refused(params, n):
    with pytest.raises(ValueError, match=f"a text of {n} tokens: it must have from 2 to 33"):
        scoring.loss([1] * n, params, 3)


def test_a_context_is_checked_where_nothing_of_it_is_read(params):
    for context, choice in (
        ([-1, *range(33)], [1]),
        ([97], []),
    ):  # what is cut off, and what no choice follows
        with pytest.raises(ValueError, match="is not an id of this model"):
            scoring.choose(context, [choice], params, 3)
