"""The four heads: read, refused, and computed by slow loops; the parity lane asks transformers."""

import json

import numpy as np
import pytest
from helpers import assert_same_logits, lively_params, write_huggingface

import gpt2
import weights
from extras import huggingface
from extras.huggingface import loading, task_heads
from files import ModelError

HPARAMS = {"n_vocab": 4000, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
IDS = np.random.default_rng(0).integers(0, HPARAMS["n_vocab"] - 1, (4, 12))
PAD = 3999
LABELS = ["bad", "fair", "good"]


def write(folder, kind, lacking=(), more=None, **config):
    """A model with random weights and one of the heads; 3 labels where it has labels."""
    rng = np.random.default_rng(1)
    arrays = weights.flatten(lively_params(HPARAMS, seed=2, std=0.3))
    tensors = {f"transformer.{loading.huggingface_name(name)}": array for name, array in arrays.items()}
    n_labels = {"GPT2ForQuestionAnswering": 2, "GPT2DoubleHeadsModel": 1}.get(kind, 3)
    weight = task_heads.HEADS[kind]
    tensors[weight] = rng.normal(size=(n_labels, 24)).astype(np.float32)
    if kind != "GPT2ForSequenceClassification":
        tensors[weight.replace("weight", "bias")] = rng.normal(size=n_labels).astype(np.float32)
    tensors = {name: array for name, array in (tensors | (more or {})).items() if name not in lacking}
    config = {"architectures": [kind], "id2label": dict(enumerate(LABELS)), "pad_token_id": PAD} | config
    return write_huggingface(folder, tensors, HPARAMS, **config)


def loaded(folder, kind, **config):
    """What the functions take after the ids: params, n_head, head."""
    _, hparams, params, head = task_heads.load(write(folder, kind, **config))
    assert hparams == HPARAMS
    return params, hparams["n_head"], head


def slowly(ids, params, n_head, head):
    """Scores of every label for every token of one text, by one product at a time."""
    hidden = gpt2.transformer(ids, **params, n_head=n_head).astype(float)
    return np.array([[row @ head["w"][:, i] + head["b"][i] for i in range(len(head["b"]))] for row in hidden])


def test_tokens_get_a_score_for_each_label(tmp_path):
    model = loaded(tmp_path, "GPT2ForTokenClassification")
    assert model[-1]["labels"] == LABELS and np.ptp(model[-1]["b"]) > 0
    assert_same_logits(task_heads.score_tokens(IDS, *model), np.array([slowly(ids, *model) for ids in IDS]))
    assert_same_logits(task_heads.score_tokens(IDS[0], *model), slowly(IDS[0], *model))


@pytest.mark.parametrize("lengths", [[12, 12, 12, 12], [12, 7, 1, 11]])
def test_a_text_is_scored_at_its_last_token_that_is_no_padding(tmp_path, lengths):
    model = loaded(tmp_path, "GPT2ForSequenceClassification")
    padded = np.where(np.arange(12) < np.array(lengths)[:, None], IDS, PAD)
    alone = [task_heads.score_text(ids[:n], *model) for ids, n in zip(IDS, lengths)]
    wanted = np.array([slowly(ids[:n], *model)[-1] for ids, n in zip(IDS, lengths)])
    assert_same_logits(np.array(alone), wanted)
    assert_same_logits(task_heads.score_text(padded, *model), wanted)
    assert np.array_equal(model[-1]["b"], np.zeros(3))


def test_without_an_id_of_padding_there_is_no_batch(tmp_path):
    model = loaded(tmp_path, "GPT2ForSequenceClassification", pad_token_id=None)
    with pytest.raises(ValueError, match="no padding id: score one text at a time"):
        task_heads.score_text(IDS, *model)
    wanted = task_heads.score_tokens(IDS[0], *model)[-1]
    assert_same_logits(task_heads.score_text(IDS[0], *model), wanted)
    assert_same_logits(task_heads.score_text(IDS[:1], *model), wanted[None])  # one text needs no padding
    assert_same_logits(task_heads.score_text(IDS[None, :1], *model), wanted[None, None])


def test_an_answer_has_scores_of_its_first_and_its_last_token(tmp_path):
    model = loaded(tmp_path, "GPT2ForQuestionAnswering", id2label=None)
    starts, ends = task_heads.score_spans(IDS[0], *model)
    wanted = slowly(IDS[0], *model)
    assert model[-1]["labels"] == ["start", "end"]
    assert_same_logits(starts, wanted[:, 0])
    assert_same_logits(ends, wanted[:, 1])


@pytest.mark.parametrize("n_most", [1, 3, 30])
def test_the_best_span_is_that_of_a_search_through_all(n_most):
    rng = np.random.default_rng(6)
    for _ in range(20):
        starts, ends = rng.normal(size=(2, 9))
        spans = [(i, j) for i in range(9) for j in range(i, min(i + n_most, 9))]
        assert task_heads.best_span(starts, ends, n_most) == max(
            spans, key=lambda s: starts[s[0]] + ends[s[1]]
        )


def test_choices_are_scored_where_they_end(tmp_path):
    model = loaded(tmp_path, "GPT2DoubleHeadsModel")
    padded = np.where(np.arange(12) < np.array([12, 7, 1, 11])[:, None], IDS, PAD)
    ends = [11, 6, 0, 10]
    wanted = np.array([slowly(ids, *model)[end, 0] for ids, end in zip(IDS, ends)])
    assert_same_logits(task_heads.score_choices(padded, *model, ends), wanted)
    assert_same_logits(task_heads.score_choices(np.array([padded, padded]), *model, [ends, ends])[1], wanted)
    params, n_head, _ = model
    assert gpt2.gpt2(IDS, **params, n_head=n_head).shape == (4, 12, 4000)  # and it is a language model


def test_a_head_of_its_own_is_honoured_in_a_model_with_two(tmp_path):
    head = np.random.default_rng(5).normal(size=(4000, 24)).astype(np.float32)
    folder = write(tmp_path, "GPT2DoubleHeadsModel", more={"lm_head.weight": head})
    _, _, params, _ = task_heads.load(folder)
    assert np.array_equal(params["wte"].T, head.T)


@pytest.mark.parametrize("ids", [[4000], [-1], [], list(range(33)), [1.5]])
def test_what_is_no_text_of_the_model_is_refused(tmp_path, ids):
    model = loaded(tmp_path, "GPT2ForTokenClassification")
    with pytest.raises(ValueError, match="not an id|empty|but the model sees 32"):
        task_heads.score_tokens(ids, *model)


@pytest.mark.parametrize(
    "kind, change, message",
    [
        ("GPT2ForSequenceClassification", {"lacking": ["score.weight"]}, "it has no score.weight"),
        ("GPT2ForTokenClassification", {"lacking": ["classifier.bias"]}, "it has no classifier.bias"),
        ("GPT2ForQuestionAnswering", {"lacking": ["qa_outputs.bias"]}, "it has no qa_outputs.bias"),
        (
            "GPT2DoubleHeadsModel",
            {"lacking": ["multiple_choice_head.summary.weight"]},
            "it has no multiple_choice_head.summary.weight, the head of a GPT2DoubleHeadsModel",
        ),
        (
            "GPT2ForTokenClassification",
            {"lacking": ["transformer.ln_f.bias"]},
            "transformer.ln_f.bias is missing",
        ),
        (
            "GPT2ForSequenceClassification",
            {"more": {"score.bias": np.zeros(3, np.float32)}},
            "score.bias is unknown",
        ),
        (
            "GPT2ForSequenceClassification",
            {"more": {"lm_head.weight": np.zeros((4000, 24), np.float32)}},
            "lm_head.weight is unknown",
        ),
        (
            "GPT2ForSequenceClassification",
            {"id2label": {"0": "a", "1": "b"}},
            r"score.weight has shape \[3, 24\], but \[2, 24\] according to config.json",
        ),
        ("GPT2ForSequenceClassification", {"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label is .*'3'"),
        (
            "GPT2ForSequenceClassification",
            {"id2label": ["a", "b", "c"]},
            r"id2label is \['a', .*expected names for the keys 0, 1",
        ),
        ("GPT2ForSequenceClassification", {"architectures": ["GPT2LMHeadModel"]}, "extras.huggingface.load"),
        ("GPT2ForSequenceClassification", {"architectures": None}, "is a GPT2LMHeadModel"),
        (
            "GPT2DoubleHeadsModel",
            {"summary_type": "mean"},
            "summary_type is 'mean'; supported: 'cls_index'",
        ),
        ("GPT2DoubleHeadsModel", {"summary_activation": "tanh"}, "summary_activation is 'tanh'"),
        ("GPT2DoubleHeadsModel", {"summary_use_proj": False}, "summary_use_proj is False"),
        ("GPT2DoubleHeadsModel", {"summary_proj_to_labels": False}, "summary_proj_to_labels is False"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, kind, change, message):
    with pytest.raises(ModelError, match=message) as caught:
        task_heads.load(write(tmp_path, kind, **change))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_labels_without_names_are_numbered(tmp_path, n_labels):
    weight = {"score.weight": np.ones((n_labels, 24), np.float32)}
    config = {"id2label": None, "num_labels": n_labels}
    _, _, _, head = task_heads.load(write(tmp_path, "GPT2ForSequenceClassification", more=weight, **config))
    assert head["labels"] == [f"LABEL_{i}" for i in range(n_labels)]


def test_a_language_model_says_which_function_reads_it(tmp_path):
    folder = write(tmp_path, "GPT2ForSequenceClassification")
    with pytest.raises(
        ModelError, match="is a GPT2ForSequenceClassification.*extras.huggingface.task_heads.load"
    ):
        huggingface.load(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "GPT2ForSequenceClassification"
    ]
