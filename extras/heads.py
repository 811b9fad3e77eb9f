"""The four heads of GPT-2 in Hugging Face transformers: labels of a text or of its tokens, answers, choices.

Each is a linear map of the last hidden states, where a language model's is wteᵀ. It gives logits, of which
`gpt2.softmax` makes probabilities:

    encoder, hparams, params, head = heads.load("folder")
    scores = heads.score_text(encoder.encode("What a fine evening!"), params, hparams["n_head"], head)
    print(head["labels"][scores.argmax()])

In a batch, shorter texts are padded at the end: no token looks at what comes after it.

(modeling_gpt2.py of transformers; Radford et al. 2018, "Improving Language Understanding by Generative
Pre-Training", 3.2 and 3.3)
"""

import numpy as np

import gpt2
from checkpoint import ModelError, to_float32
from extras import huggingface
from extras.tensors import read_tensors

HEADS = {  # class: the name of its matrix
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


def load(name_or_folder):  # -> Encoder, hparams, params, head
    """A model with one of the heads, from the hub or a folder, as `huggingface.load`; errors are the same.

    head: {"w": [n_embd, n_labels], "b": [n_labels], "labels": their names, "pad_id": id of padding, or None}.
    The params of a GPT2DoubleHeadsModel are a language model, too.
    """
    config = huggingface.read_config(name_or_folder)
    kind = (config["architectures"] or [None])[0]
    if kind not in HEADS:
        found = f"{name_or_folder} is a {kind}, here are read {', '.join(HEADS)}"
        raise ModelError(f"{found}; a language model is read by extras.huggingface.load")
    if kind == "GPT2DoubleHeadsModel":
        config = SUMMARY | config
        for field, usual in SUMMARY.items():
            if config[field] != usual:
                raise ModelError(f"{name_or_folder}: {field} is {config[field]!r}, read here is {usual!r}")
    tensors = read_tensors(name_or_folder)
    head = pop_head(tensors, kind, config, name_or_folder)
    params = huggingface.to_params(tensors, config, name_or_folder, kind == "GPT2DoubleHeadsModel")
    return huggingface.load_encoder(name_or_folder), huggingface.to_hparams(config), params, head


def pop_head(tensors, kind, config, source):  # -> head
    """Take the tensors of a head out of the others. Raises ModelError if they do not fit config.json."""
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
            raise ModelError(f"{source} lacks {name}, the head of a {kind}: get it again")
        arrays[name] = to_float32(tensors.pop(name), shape, name, source, "config.json")
    w = np.ascontiguousarray(arrays[weight].T)
    return {"w": w, "b": arrays[bias], "labels": labels, "pad_id": config["pad_token_id"]}


def label_names(config, source):  # -> list of str
    """The labels in their order: id2label is {"0": "negative", "1": "positive"}, say. The default is two."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        return [str(names[str(i)]) for i in range(len(names))]
    except (KeyError, TypeError):
        found = f"id2label in config.json has not the keys 0 to {len(names) - 1}"
        raise ModelError(f"{source}: {found}") from None


def score_tokens(inputs, params, n_head, head):  # [n_seq] -> [n_seq, n_labels]
    """hidden w + b: for each token, a score of every label. Raises ValueError for what is no id."""
    texts = [inputs] if np.ndim(inputs) == 1 else np.reshape(inputs, (-1, np.shape(inputs)[-1]))
    for ids in texts:
        gpt2.check_inputs(ids, 0, n_vocab=len(params["wte"]), n_ctx=len(params["wpe"]))
    return gpt2.linear(gpt2.transformer(inputs, **params, n_head=n_head), head["w"], head["b"])


def score_text(inputs, params, n_head, head):  # [n_seq] -> [n_labels]
    """The scores at the last token that is not padding, the only one that has seen the whole text."""
    return at(score_tokens(inputs, params, n_head, head), last_token(inputs, head["pad_id"]))


def score_spans(inputs, params, n_head, head):  # [n_seq] -> [n_seq], [n_seq]
    """For each token, a score of being the first one of the answer, and one of being its last."""
    scores = score_tokens(inputs, params, n_head, head)
    return scores[..., 0], scores[..., 1]


def best_span(starts, ends, n_most=30):  # [n_seq], [n_seq] -> first, last
    """The answer of at most n_most tokens whose two scores have the largest sum: ids[first : last + 1]."""
    first, last = np.indices((len(starts), len(ends)))
    possible = (first <= last) & (last < first + n_most)
    sums = np.where(possible, starts[:, None] + ends, -np.inf)
    return tuple(int(i) for i in np.unravel_index(sums.argmax(), sums.shape))


def score_choices(inputs, params, n_head, head, ends=None):  # [n_choices, n_seq] -> [n_choices]
    """A score of each way to go on, at its last token, or at the position that `ends` gives: [n_choices]."""
    ends = last_token(inputs, head["pad_id"]) if ends is None else np.asarray(ends)
    return at(score_tokens(inputs, params, n_head, head), ends)[..., 0]


def last_token(inputs, pad_id):  # [n_seq] -> position
    """The last position whose id is not pad_id; if that is None, the last."""
    inputs = np.asarray(inputs)
    if pad_id is None:
        return np.full(inputs.shape[:-1], inputs.shape[-1] - 1)
    return np.max(np.where(inputs == pad_id, 0, np.arange(inputs.shape[-1])), axis=-1)


def at(rows, positions):  # [n_seq, n], position -> [n]
    """One row of each text."""
    return np.take_along_axis(rows, positions[..., None, None], axis=-2)[..., 0, :]
