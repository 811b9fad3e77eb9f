"""The four task heads of GPT-2 in Hugging Face transformers: sequence classification, token classification,
question answering, multiple choice.

Each is a linear map of the final hidden states, in place of a language model's wteᵀ. It gives logits, which
`gpt2.softmax` turns into probabilities:

    encoder, hparams, params, head = task_heads.load("folder")
    scores = task_heads.score_text(encoder.encode("What a fine evening!"), params, hparams["n_head"], head)
    print(head["labels"][scores.argmax()])

In a batch, shorter texts are padded at the end: no token looks at what comes after it.

(modeling_gpt2.py of transformers; Radford et al. 2018, "Improving Language Understanding by Generative
Pre-Training", 3.2 and 3.3)
"""

import math

import numpy as np

import gpt2
from extras.huggingface import loading
from extras.huggingface.config import kind_of, read_config, to_hparams
from extras.huggingface.hub import how_again
from extras.huggingface.tensors import read_tensors
from files import AGAIN, ModelError, fresh_copy, shown
from weights import to_float32

HEADS = {  # class in transformers: the name of its head's matrix
    "GPT2ForSequenceClassification": "score.weight",
    "GPT2ForTokenClassification": "classifier.weight",
    "GPT2ForQuestionAnswering": "qa_outputs.weight",
    "GPT2DoubleHeadsModel": "multiple_choice_head.summary.weight",
}
SUMMARY = {  # how a GPT2DoubleHeadsModel scores a choice, unless config.json says otherwise
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "summary_proj_to_labels": True,
    "summary_activation": None,
}


def load(model):  # -> Encoder, hparams, params, head
    """A model with a task head, from the hub or a folder; raises what `huggingface.load` raises.

    head: {"w": [n_embd, n_labels], "b": [n_labels], "labels": their names, "pad_id": padding id, or None}.
    The params of a GPT2DoubleHeadsModel also make a language model.
    """
    with fresh_copy(how_again(model)):
        config = read_config(model)
        params, head = load_with_head(model, config)
        return loading.load_encoder(model, config), to_hparams(config), params, head


def load_with_head(model, config):  # -> params, head
    """The weights of a model with a task head."""
    kind = kind_of(config)
    if kind not in HEADS:
        advice = f"supported: {', '.join(HEADS)}; extras.huggingface.load reads a language model"
        raise ModelError(model, f"it is a {shown(kind)}", advice)
    if kind == "GPT2DoubleHeadsModel":
        for field, usual in SUMMARY.items():
            if config.get(field, usual) != usual:
                raise ModelError(model, f"{field} is {shown(repr(config[field]))}", f"supported: {usual!r}")
    tensors = read_tensors(model)
    head = pop_head(tensors, kind, config, model)
    return loading.from_tensors(tensors, config, model, kind == "GPT2DoubleHeadsModel"), head


def pop_head(tensors, kind, config, source):  # -> head
    """Remove the head's tensors from the others and return them.

    Raises ModelError if they do not fit config.json.
    """
    weight = HEADS[kind]
    bias = weight.replace("weight", "bias")
    labels = {"GPT2ForQuestionAnswering": ["start", "end"], "GPT2DoubleHeadsModel": ["choice"]}.get(kind)
    labels = labels or label_names(config, source)
    shapes = {weight: (len(labels), config["n_embd"]), bias: (len(labels),)}
    if kind == "GPT2ForSequenceClassification":
        del shapes[bias]
    arrays = {bias: np.zeros(len(labels), dtype=np.float32)}
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelError(source, f"it has no {name}, the head of a {kind}", AGAIN)
        arrays[name] = to_float32(tensors.pop(name), shape, name, source, "config.json")
    w = np.ascontiguousarray(arrays[weight].T)
    return {"w": w, "b": arrays[bias], "labels": labels, "pad_id": config["pad_token_id"]}


def label_names(config, source):  # -> list of str
    """The labels in order: from id2label, such as {"0": "negative", "1": "positive"}, or LABEL_0, LABEL_1."""
    n_labels = config.get("num_labels", 2)
    if type(n_labels) is not int or not 0 < n_labels <= 10**6:
        found = f"num_labels is {shown(repr(n_labels))}"
        raise ModelError(source, f"{found}, expected a whole number, 1 or more")
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(n_labels)}
    if not isinstance(names, dict) or names.keys() != {str(i) for i in range(len(names))}:
        found = f"id2label is {shown(repr(names))}"
        raise ModelError(source, f"{found}, expected names for the keys 0, 1, ...")
    return [str(names[str(i)]) for i in range(len(names))]


def score_tokens(inputs, params, n_head, head):  # [n_seq] -> [n_seq, n_labels]
    """hidden w + b: for each token, a score for every label.

    Raises what `gpt2.check_inputs` raises.
    """
    texts = [inputs] if np.ndim(inputs) == 1 else np.reshape(inputs, (-1, np.shape(inputs)[-1]))
    for ids in texts:
        gpt2.check_inputs(ids, 0, n_vocab=len(params["wte"]), n_ctx=len(params["wpe"]))
    return gpt2.linear(gpt2.transformer(inputs, **params, n_head=n_head), head["w"], head["b"])


def score_text(inputs, params, n_head, head):  # [n_seq] -> [n_labels]
    """The scores at the last token that is not padding, the only one that sees the whole text.

    Raises ValueError for several texts without a padding id: head["pad_id"] is None.
    """
    n_texts = math.prod(np.shape(inputs)[:-1])
    if n_texts > 1 and head["pad_id"] is None:
        raise ValueError("this model has no padding id: score one text at a time, or set head['pad_id']")
    return at_positions(score_tokens(inputs, params, n_head, head), last_token(inputs, head["pad_id"]))


def score_spans(inputs, params, n_head, head):  # [n_seq] -> [n_seq], [n_seq]
    """For each token, its score as the answer's first token and as its last."""
    scores = score_tokens(inputs, params, n_head, head)
    return scores[..., 0], scores[..., 1]


def best_span(starts, ends, n_most=30):  # [n_seq], [n_seq] -> first, last
    """The answer of at most n_most tokens whose two scores have the largest sum: ids[first : last + 1]."""
    first, last = np.indices((len(starts), len(ends)))
    possible = (first <= last) & (last < first + n_most)
    sums = np.where(possible, starts[:, None] + ends, -np.inf)
    return tuple(int(i) for i in np.unravel_index(sums.argmax(), sums.shape))


def score_choices(inputs, params, n_head, head, ends):  # [n_choices, n_seq] -> [n_choices]
    """A score for each choice. ends: the position of its last token, [n_choices]."""
    return at_positions(score_tokens(inputs, params, n_head, head), np.asarray(ends))[..., 0]


def last_token(inputs, pad_id):  # [n_seq] -> position
    """The last position whose id is not pad_id; if pad_id is None, the last position."""
    inputs = np.asarray(inputs)
    if pad_id is None:
        return np.full(inputs.shape[:-1], inputs.shape[-1] - 1)
    return np.max(np.where(inputs == pad_id, 0, np.arange(inputs.shape[-1])), axis=-1)


def at_positions(rows, positions):  # [n_seq, n], position -> [n]
    """One row of each text."""
    return np.take_along_axis(rows, positions[..., None, None], axis=-2)[..., 0, :]
