"""The program: python -m extras.page PROMPT --out page.html."""

import os

import numpy as np

import gpt2
from extras import inside
from extras.page import arrays
from extras.page.assemble import contents, page
from extras.untied import apart
from files import printable, say, shown, shown_size, write_whole
from names import MODELS_DIR
from text import announce_reading, check_something_left, encoded, read_prompt, say_if_plain, to_the_end
from utils import open_model
from weights import count, random_params

HELP = """\
python -m extras.page PROMPT [N [MODEL]] [--option value]    a page that follows
                     a prompt through the model: one file, for any browser

PROMPT               the text to continue; - reads what is piped in
--out page.html      the file to write, a new one; by default page.html
-m, --model_size 124M
                     the model, as for gpt2.py; tiny needs no download
--lora FOLDER        an adapter for it, as for gpt2.py
--weights int8       int8, int4 or nf4, as for gpt2.py
--models_dir FOLDER  for downloaded models, as for gpt2.py
-n, --n_tokens_to_generate 8
                     how many tokens the model adds, at most; 0 to 59
--special            read special tokens in the prompt as tokens, as in gpt2.py
--no_cuts            faster: leave out how likely the next token is without
                     each head
"""
LONG_CUTS = 2 * 10**12  # products of weights and tokens: more may take minutes
LARGEST_TWIN = 5 * 10**8  # parameters: a larger one would take more than 2 GB


def command(
    prompt: str = None,
    n_tokens_to_generate: int = 8,
    model_size: str = None,
    *,
    out: str = "page.html",
    lora: str = None,
    weights: str = None,
    models_dir: str = MODELS_DIR,
    special: bool = False,
    no_cuts: bool = False,
):
    """Write the page of a prompt and its continuation to a file."""
    prompt = read_prompt(prompt)
    check_options(out, n_tokens_to_generate)
    encoder, hparams, load_params = open_model(model_size, models_dir, lora, weights)
    ids = encoded(prompt, encoder, special, n_most=hparams["n_ctx"])
    check_something_left(ids)
    gpt2.check_inputs(ids, n_tokens_to_generate, hparams["n_vocab"], hparams["n_ctx"])
    say_if_plain([prompt], encoder, special)
    announce_reading(len(ids), hparams)
    if not no_cuts:
        announce_cuts(len(ids), hparams)
    parts = (model_size or ("" if lora else "124M"), lora and f"adapter {lora}", weights)
    name = ", ".join(filter(None, parts))
    data = computed(ids, load_params(), encoder, hparams, name, n_tokens_to_generate, not no_cuts)
    content = page(data).encode()
    write_whole(out, content)
    print(printable(f"{out}: {shown_size(len(content))}; open it in a browser"))


def check_options(out, n_tokens_to_generate):
    """Raises ValueError for a file that exists or cannot be one, or more new tokens than the page shows."""
    if not os.path.basename(out):
        raise ValueError(f"out is '{shown(out)}': give the name of a new file")
    if os.path.lexists(out):
        raise ValueError(f"{out} exists: name a new file with --out")
    if n_tokens_to_generate >= arrays.N_SHOWN:
        allowed = f"the page shows {arrays.N_SHOWN} tokens, the prompt's last among them, so at most "
        raise ValueError(f"n_tokens_to_generate is {n_tokens_to_generate}: {allowed}{arrays.N_SHOWN - 1}")


def announce_cuts(n_ids, hparams):
    """Say that trying each head may take minutes; on average, half of the layers are run again for it."""
    if count(hparams) * n_ids * hparams["n_layer"] * hparams["n_head"] / 2 > LONG_CUTS:
        say("trying the prompt without each head may take minutes; --no_cuts leaves it out")


def computed(ids, params, encoder, hparams, name, n_tokens_to_generate=8, with_cuts=True):  # -> dict
    """What the page of a prompt shows: see `arrays` and `assemble.contents`. name: the model's."""
    n_head = hparams["n_head"]
    new_ids = gpt2.generate(ids, params, n_head, n_tokens_to_generate)
    all_ids = [*ids, *to_the_end(new_ids, encoder.stop_ids)]
    found = arrays.of_text(all_ids, params, n_head)
    opening = len(found["wte"]) - (len(all_ids) - len(ids)) - 1  # the last token of the prompt
    next_id = found["pairs"][opening, 0]
    cuts = {"likely": inside.probability_without_heads(next_id, ids, params, n_head)} if with_cuts else None
    head = arrays.telling_head(found["scores"], opening, cuts and cuts["likely"])
    twin = None
    if count(hparams) > LARGEST_TWIN:
        say("the page has no random twin as a control: for a model this large it would need too much memory")
    else:
        twin_params = random_params(hparams, np.random.default_rng(0))
        twin = arrays.of_twin(all_ids, twin_params, n_head, found["pairs"])
        if with_cuts:
            cut = inside.without_head(twin_params, n_head, *head)
            cuts["twin"] = [inside.probability(next_id, ids, cut, n_head)]
    is_tied = apart(params)["lm_head"] is apart(params)["wte"]
    return contents(all_ids, len(ids), encoder, hparams, name, is_tied, head, found, twin, cuts)
