"""The two uses of wte, told apart: its rows are the embedding, its transpose is the head.

In OpenAI's models, one matrix serves as both. Where they differ, `wte` in params is an object that answers
`wte[ids]` with one matrix and `wte.T` with another; the model's code stays the same.
"""

from weights import flatten, nest


class UntiedEmbedding:
    """A wte with a head of its own: `wte[ids]` takes rows of one matrix, `wte.T` transposes another."""

    def __init__(self, embedding, head):  # two of [n_vocab, n_embd]
        self.embedding, self.head = embedding, head

    def __len__(self):
        return len(self.embedding)

    def __getitem__(self, ids):
        return self.embedding[ids]

    @property
    def T(self):
        return self.head.T


def is_tied(params):  # -> bool
    """Whether one matrix serves as embedding and as head."""
    return not isinstance(params.get("wte"), UntiedEmbedding)


def apart(params):  # -> {name: array}
    """The arrays of a model by OpenAI's names; "wte" is the embedding, "lm_head" the head, [n_vocab, n_embd].

    Where the two are tied, both are the same object.
    """
    wte = params.get("wte")
    embedding, head = (wte.embedding, wte.head) if isinstance(wte, UntiedEmbedding) else (wte, wte)
    return flatten(params) | {"wte": embedding, "lm_head": head}


def together(leaves):  # {name: array} -> params
    """The inverse of `apart`."""
    head = leaves["lm_head"]
    params = nest({name: array for name, array in leaves.items() if name != "lm_head"})
    return params if head is params["wte"] else params | {"wte": UntiedEmbedding(params["wte"], head)}
