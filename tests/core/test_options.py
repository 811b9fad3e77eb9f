"""What options mean: picks, and the streams of ids that they make; a draft changes no letter."""

import inspect
import json
from unittest import mock

import pytest
from helpers import SMALL, lively_params, run
from learning import write_vocabulary

import cli
import gpt2
import options
from extras.scoring import nats

GIVEN = {name: parameter.default for name, parameter in inspect.signature(cli.command).parameters.items()}
PROMPT = "Once upon a time there was a little fox"


def given(**changed):
    return GIVEN | changed


def small_params(seed, **sizes):
    return lively_params(SMALL | sizes, seed)


def texts(asked, params, prompt, n, draft=None):  # -> [n_samples][n]
    """The ids that options make, as the command puts them together."""
    picks = (options.pick_maker(asked)(prompt, i) for i in range(asked["n_samples"]))
    streams = options.stream_maker(asked, (), draft)
    return [list(new_ids) for new_ids in streams(prompt, params, SMALL["n_head"], n, picks)]


# ---- picks -------------------------------------------------------------------------------------------------


def test_nothing_given_is_the_plain_loop_with_the_likeliest():
    params, prompt = small_params(0), [1, 2, 3]
    assert texts(given(), params, prompt, 9) == [gpt2.generate(prompt, params, SMALL["n_head"], 9)]


def test_a_seed_or_a_filter_draws_and_a_temperature_of_0_does_not():
    assert not options.draws(given()) and not options.draws(given(repetition_penalty=1.5, no_repeat_ngram=3))
    for name, value in {"seed": 0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}.items():
        assert options.draws(given(**{name: value})), name
    assert not options.draws(given(temperature=0.0, seed=3, top_k=9))


def test_zero_is_given_but_none_false_and_one_sample_are_not():
    assert options.is_given({"temperature": 0.0}, "temperature") and options.is_given({"seed": 0}, "seed")
    for name, value in {"seed": None, "lookup": False, "n_samples": 1}.items():
        assert not options.is_given({name: value}, name)
    assert options.is_given({"n_samples": 2}, "n_samples") and options.is_given({"beams": 1}, "beams")


def test_one_beam_is_the_plain_loop_and_filters_change_logits_as_there():
    for settings in ({}, {"repetition_penalty": 1.7}, {"no_repeat_ngram": 2}):
        wanted = texts(given(**settings), small_params(0), [1, 2, 3], 20)
        assert texts(given(beams=1, **settings), small_params(0), [1, 2, 3], 20) == wanted


def surprise(prompt, new_ids, params):
    return nats([*prompt, *new_ids], params, SMALL["n_head"])[len(prompt) - 1 :].sum()


def test_beams_find_texts_that_are_likelier_as_a_whole_than_those_of_the_plain_loop():
    params, gains = small_params(0), []
    for token in range(12):
        found = [texts(given(beams=n), params, [token], 8)[0] for n in (None, 5)]
        plain, best = (surprise([token], new_ids, params) for new_ids in found)
        gains.append(plain - best)
    assert min(gains) > -1e-5 and max(gains) > 0.1


def test_beams_end_where_a_text_ends():
    params, prompt = small_params(0), [1, 2, 3]
    [best] = texts(given(beams=5), params, prompt, 8)
    streams = options.stream_maker(given(beams=5, length_penalty=-9.0), [best[0]])
    assert [*map(list, streams(prompt, params, SMALL["n_head"], 8, ()))] == [best[:1]]


# ---- a draft -----------------------------------------------------------------------------------------------

DRAFTS = {
    "itself": small_params(0),
    "another model": small_params(1),
    "one that sees less": small_params(2, n_ctx=12),
    "one with rows to spare": small_params(3, n_vocab=SMALL["n_vocab"] + 40),
}


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("settings", [{}, {"seed": 3}, {"seed": 4, "top_k": 5}, {"repetition_penalty": 1.3}])
def test_a_draft_changes_no_id(draft, settings):
    params, asked = small_params(0), given(draft="a model", **settings)
    for prompt in ([5], [*range(1, 11)]):
        wanted = texts(given(**settings), params, prompt, 20)
        assert texts(asked, params, prompt, 20, (DRAFTS[draft], SMALL["n_head"])) == wanted


def test_guesses_of_a_good_draft_save_passes():
    params, prompt, passes = small_params(0), [1, 2, 3], []
    plain = gpt2.prefill

    def counted(inputs, own, *arguments):
        passes.append(own is params)
        return plain(inputs, own, *arguments)

    same = small_params(0)
    with mock.patch.object(gpt2, "prefill", counted):
        texts(given(draft="a model"), params, prompt, 25, (same, SMALL["n_head"]))
    assert sum(passes) == 5  # each reads four guesses that are right, and yields one id more


def test_the_command_writes_the_same_text_with_a_draft(capsys):
    for words in ([], ["--seed=3"], ["--seed=3", "--top_p=0.8", "--explain"]):
        assert run([PROMPT, "20", "tiny", *words]) == 0
        plain = capsys.readouterr()
        assert run([PROMPT, "20", "tiny", *words, "--draft=tiny"]) == 0
        assert capsys.readouterr() == plain


def test_a_draft_of_other_tokens_is_refused_before_weights_are_read(capsys, tmp_path, monkeypatch):
    folder = write_vocabulary(tmp_path, n_vocab=257)
    (folder / "hparams.json").write_text(json.dumps(SMALL | {"n_vocab": 257}))
    (folder / "model.ckpt.index").write_bytes(b"")
    monkeypatch.setattr("utils.load_gpt2_params_from_tf_ckpt", None)
    assert run([PROMPT, "20", "tiny", f"--draft={folder}"]) == 2
    out, err = capsys.readouterr()
    wanted = "its vocabulary is not that of the model: give a smaller model with the same tokens\n"
    assert out == "" and err == f"gpt2.py: draft is {str(folder)!r}: {wanted}"


def test_a_draft_that_is_no_model_is_one_line(capsys):
    assert run([PROMPT, "20", "tiny", "--draft=tinny"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "tinny" in err
