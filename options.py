"""The options that change a text: each replaces the pick of the next id, or the stream of ids.

Options are a dict, {name: value}, named as for `python gpt2.py`. The command has one such dict, extras/corpus
has one for each text.
"""

import math
import secrets
from functools import partial
from itertools import islice

from files import shown

DRAWING = ("temperature", "top_k", "top_p", "min_p")  # with any of them, or a seed, tokens are drawn
FILTERS = (*DRAWING, "repetition_penalty", "no_repeat_ngram")
AT_ONCE = 32  # texts in a batch: each takes up to 75 MB of memory, for 124M
APART = (  # of each group, at most one may be given
    ("beams", "draft", "past_context", "lookup"),
    ("n_samples", "beams"),
    ("n_samples", "draft"),
    ("n_samples", "lookup"),
    ("n_samples", "explain"),
    ("beams", "explain"),
    ("beams", "stats"),
)

# ---- what is given -----------------------------------------------------------------------------------------


def is_given(options, name):  # -> bool
    """Whether the value of an option is not its default."""
    value = options.get(name)
    return value is not None and value is not False and (name, value) != ("n_samples", 1)


def draws(options):  # -> bool
    """Whether tokens are drawn at random; without that, the likeliest is taken."""
    return options["temperature"] != 0 and any(is_given(options, name) for name in ("seed", *DRAWING))


def check(options):
    """Raise ValueError for a number out of range, and for options that cannot be used together."""
    for group in APART:
        given = [name for name in group if is_given(options, name)]
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]} cannot be used together: leave one out")
    n_samples = options["n_samples"]
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}: it must be 1 or more")
    if n_samples > 1 and not draws(options):
        advice = "give --seed, or another option that draws, and no --temperature 0"
        raise ValueError(f"n_samples is {n_samples}: all texts would be the same: {advice}")
    check_beams(options)
    pick_maker(options)  # checks the filters


def check_beams(options):
    """Raise ValueError for wrong beams or a wrong length_penalty, and for beams with an option that draws."""
    n_beams, penalty = options["beams"], options["length_penalty"]
    if n_beams is None and penalty is not None:
        raise ValueError("length_penalty compares the texts of --beams: give --beams too, or leave it out")
    if penalty is not None and not math.isfinite(penalty):
        raise ValueError(f"length_penalty is {penalty}: it must be a finite number")
    if n_beams is None:
        return
    if n_beams < 1:
        raise ValueError(f"beams is {n_beams}: it must be 1 or more")
    if draws(options):
        drawing = next(name for name in ("seed", *DRAWING) if is_given(options, name))
        raise ValueError(f"--beams draws nothing, so --{drawing} has no meaning: leave one out")


# ---- picks -------------------------------------------------------------------------------------------------


def pick_maker(options):  # -> function (ids of a text, number of the sample) -> pick
    """The pick for each text: the likeliest token, or one drawn at random.

    Without a seed, every run draws a new text. Raises ValueError for a number out of range.
    """
    settings = filter_settings(options)
    if not settings and not draws(options):
        return greedy_pick
    from extras import sampling

    seed = options["seed"]
    seed = secrets.randbits(32) if seed is None else seed
    return sampling.pick_maker(seed if draws(options) else None, **settings)


def filter_settings(options):  # -> {name: number}
    """The settings of `sampling.filters` that are given."""
    return {name: options[name] for name in FILTERS if options[name] is not None}


def greedy_pick(ids, i):  # ids of a text, number of the sample -> pick
    """Always the likeliest token."""
    from numpy import argmax

    return argmax


# ---- streams -----------------------------------------------------------------------------------------------


def open_draft(options, encoder):  # -> function () -> params, n_head; or None without --draft
    """A function that loads the smaller model, which guesses.

    encoder: that of the larger model. Raises what `check_draft` and `utils.open_model` raise.
    """
    name = options["draft"]
    if name is None:
        return lambda: None
    from utils import open_model

    draft_encoder, hparams, load_params = open_model(name, options["models_dir"], weights=options["weights"])
    check_draft(name, draft_encoder, encoder)
    return lambda: (load_params(), hparams["n_head"])


def check_draft(name, draft_encoder, encoder):
    """Raise ValueError unless the draft model, of this name, has the same tokens as the larger model."""
    if draft_encoder.encoder != encoder.encoder:
        advice = "give a smaller model with the same tokens"
        raise ValueError(f"draft is {shown(name)!r}: its vocabulary is not that of the model: {advice}")


def stream_maker(options, stop_ids, draft=None):
    """The function (ids, params, n_head, n, picks) below that yields streams of n new ids, as options say.

    stop_ids: those that end a text. draft: params and n_head of the smaller model, for --draft.
    """
    if options["beams"] and options["beams"] > 1:
        return partial(with_beams, options, stop_ids)
    if draft:
        return partial(with_draft, *draft)
    if options["past_context"]:
        return forgetting
    if options["lookup"]:
        return with_lookup
    return batched if options["n_samples"] > 1 else plain


def plain(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """One text after another, from the plain loop."""
    import gpt2

    for pick in picks:
        yield gpt2.stream(ids, params, n_head, n, pick)


def with_lookup(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """The same ids, faster where a text repeats itself."""
    from extras import speculative

    for pick in picks:
        yield speculative.stream(ids, params, n_head, n, pick)


def with_draft(draft_params, draft_n_head, ids, params, n_head, n, picks):  # yields a stream of ids for each
    """The same ids, faster where a smaller model guesses them."""
    from numpy import argmax

    from extras import speculative

    def likeliest(logits):
        return argmax(logits[: len(params["wte"])])  # the smaller model may have more

    for pick in picks:
        guess = speculative.draft_model(draft_params, draft_n_head, likeliest)
        yield speculative.stream(ids, params, n_head, n, pick, guess)


def batched(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """The same ids, faster where there are several texts: AT_ONCE of them in a batch."""
    from extras import batching

    while group := list(islice(picks, AT_ONCE)):
        yield from batching.samples(ids, params, n_head, n, group)


def forgetting(ids, params, n_head, n, picks):  # yields a stream of ids for each pick
    """The same ids until the context is full; then the first half is forgotten, and the text continues."""
    from extras.chat import Conversation

    for pick in picks:
        text = Conversation(params, n_head)
        text.add(ids)
        yield text.generate(n, pick)


def with_beams(options, stop_ids, ids, params, n_head, n, picks):  # yields one stream of ids
    """The likeliest text that beam search finds; it needs no picks."""
    from extras import beam, sampling

    filters = sampling.filters(**filter_settings(options)).values()
    penalty = 1.0 if options["length_penalty"] is None else options["length_penalty"]
    yield beam.stream(ids, params, n_head, n, options["beams"], penalty, stop_ids, [*filters])
