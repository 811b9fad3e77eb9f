"""Any GPT-2 in the layout of Hugging Face transformers, from the hub or a folder.

loading.py does the work. It is imported only when a model is asked for, so that the programs of this folder
can say in one line which library they miss.
"""


def load(model):  # -> Encoder, hparams, params
    """Load a language model; see `loading.load`."""
    from extras.huggingface import loading

    return loading.load(model)


def open_model(model):  # -> Encoder, hparams, () -> params
    """What is needed to check a prompt, and a function that reads the weights; see `loading.open_model`."""
    from extras.huggingface import loading

    return loading.open_model(model)
