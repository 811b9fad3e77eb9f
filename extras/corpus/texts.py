"""Continuations of many prompts: for each line, the text that `python gpt2.py` writes with its options.

A line is a JSON object: a prompt, options of the command by name, and, if you like, an id of your own. It
becomes one piece of work, (ids, options). Prompts share a batch if their options only say how ids are picked.
"""

import inspect
import json
import math
import secrets
from functools import partial
from itertools import groupby, islice
from typing import NamedTuple

import cli
from extras import batching
from extras.corpus.models import Model, Result, loaded, opened
from extras.corpus.reading import lines
from files import say_once, shown, similar, unique
from options import AT_ONCE, check, check_draft, draws, is_given, pick_maker, stream_maker
from program import SHORT
from text import check_stop, continuation, fitting_ids, plain_note

OF_NO_LINE = ("prompt", "explain", "stats", "models", "check", "version")
PARAMETERS = {  # those of the command that are options of a line
    name: parameter
    for name, parameter in inspect.signature(cli.command).parameters.items()
    if name not in OF_NO_LINE
}
KNOWN = {"prompt", *PARAMETERS}
RESULTS = {"line", "text", "texts"}  # what a row has in addition to its line

# ---- a line ------------------------------------------------------------------------------------------------


def read_object(line):  # str -> dict
    """The JSON object in a line. Raises ValueError for anything else."""
    try:
        value = json.loads(line, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
    except json.JSONDecodeError as error:
        example = 'a line is like {"prompt": "Once"}'
        raise ValueError(f"not JSON at character {error.pos + 1}: {error.msg}; {example}") from None
    except RecursionError:
        raise ValueError("too many brackets") from None
    if not isinstance(value, dict):
        raise ValueError(f'{shown(line.strip(), 50)!r} is not an object, such as {{"prompt": "Once"}}')
    return value


def finite(number):  # str -> float
    """A number in a line. Raises ValueError for NaN and Infinity, which JSON does not have, and for 1e999."""
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is not a finite number")
    return float(number)


def without(given, names):  # -> {name: value}
    """What is left of an object without these names."""
    return {name: value for name, value in given.items() if name not in names}


def with_full_names(given):  # {name: JSON value} -> {name: JSON value}
    """Options as the command spells them: n_tokens_to_generate for n, and top_k for top-k.

    An option that is null is left out. Raises ValueError for an option that is given twice.
    """
    full = [(SHORT.get(name, name.replace("-", "_")), value) for name, value in given.items()]
    return unique((name, value) for name, value in full if value is not None or name not in KNOWN)


def read_options(given):  # {name: JSON value} -> {name: value}, all options of a line
    """The options in an object, with the command's defaults. Raises ValueError for a wrong one."""
    options = {name: parameter.default for name, parameter in PARAMETERS.items()}
    options["models_dir"] = None  # where a worker has its models
    for name, value in given.items():
        if name not in PARAMETERS:
            found = similar(name, KNOWN - {name})
            question = f": did you mean {found[0]}?" if found else "; data of your own can be its id"
            raise ValueError(f"there is no option {shown(name, 50)!r} for a text{question}")
        kind = PARAMETERS[name].annotation
        if not is_allowed(value, kind):
            raise ValueError(f"{name} is {shown(json.dumps(value), 50)}: it must be {ALLOWED[kind]}")
        options[name] = kind(value)
    return options


ALLOWED = {bool: "true or false", int: "a whole number, 0 or more", float: "a number", str: "a text"}


def is_allowed(value, kind):  # -> bool
    """Whether an option of this kind can have a JSON value: numbers are finite, whole ones below 10**18."""
    if kind in (bool, str):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    is_finite = abs(value) < 10**18 if isinstance(value, int) else math.isfinite(value)
    return is_finite and (kind is float or 0 <= value == int(value) < 10**18)


# ---- from a line to its row --------------------------------------------------------------------------------


class Continuations:
    """The job of `generate`: a row for each line (see command.py)."""

    key = "line"
    task_size = 8192  # tokens: some hundred texts, so that those of a batch can have like lengths

    def __init__(self, model, paths, stride, special, defaults):
        if stride is not None or special:
            name = "special" if special else "stride"
            raise ValueError(f"--{name} is for score; here, options are in lines, or in --defaults")
        if len(paths) > 1:
            raise ValueError(f"generate reads one file, but {len(paths)} are given: give - and pipe them in")
        self.defaults = {name: value for name, value in model._asdict().items() if value is not None}
        self.n_texts = self.n_skipped = 0
        try:
            self.defaults |= {} if defaults is None else with_full_names(read_object(defaults))
            options = read_options(self.defaults)
        except ValueError as error:
            raise ValueError(f"--defaults: {error}") from None
        default_model, _ = models_of(options)
        opened(default_model)  # now: if it cannot be, no line is to blame
        self.function = partial(texts_of, default_model)

    def settings(self):  # -> {name: JSON value}
        """What must be the same when a run is continued."""
        return {"action": "generate", "defaults": self.defaults}

    def texts(self, paths):  # yields Texts
        """The lines in a file."""
        return lines(paths)

    def name(self, text):  # -> int
        """What the row of a line calls it."""
        return text.number

    def label(self, text):  # -> str
        """What an error calls it."""
        return f"line {text.number}"

    def prepare(self, text):  # -> Prompt
        """The ids and the options of a line. Raises ValueError for one that cannot be used."""
        given = read_object(text.text)
        named = with_full_names(without(given, {"id"}))
        prompt = named.pop("prompt", None)
        options = read_options(self.defaults | named)
        check(options)
        if draws(options) and options["seed"] is None:
            options["seed"] = given["seed"] = secrets.randbits(32)  # with it, the text can be made again
        ids = ids_of(prompt, options)
        n_tokens = options["n_samples"] * (len(ids) + options["n_tokens_to_generate"])
        return Prompt(given, [(ids, options)], [n_tokens])

    def check_same(self, row, text):
        """Raise ValueError if an earlier row is not of this line."""
        try:
            given = read_object(text.text)
        except ValueError:
            given = None
        added = {"seed"} if given and given.get("seed") is None else set()  # see prepare
        if given is None or without(row, RESULTS | added) != without(given, added):
            raise ValueError(f"{self.label(text)} has changed since its row was written: give another --out")

    def count(self, row):
        """Count a row."""
        self.n_texts += 1

    def summary(self):  # -> str
        """How many texts there are. Raises ValueError if no line could be used."""
        if self.n_skipped and not self.n_texts:
            raise ValueError(f"none of {self.n_skipped:,} lines could be used")
        skipped = f", {self.n_skipped:,} skipped" if self.n_skipped else ""
        return f"{self.n_texts:,} text{'' if self.n_texts == 1 else 's'}{skipped}"


class Prompt(NamedTuple):
    """A line, and its one piece, (ids, options)."""

    given: dict  # the object in the line
    pieces: list
    sizes: list  # tokens of the piece

    def row(self, name, values):  # int, the texts of the piece -> dict
        """The row of a line: the object, and its text; or texts, if there are several samples."""
        (texts,) = values
        result = {"text": texts[0]} if len(texts) == 1 else {"texts": texts}
        return {"line": name} | self.given | result


def ids_of(prompt, options):  # -> ids
    """The ids of a prompt. Raises ValueError for one that is missing, or does not fit."""
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("it has no prompt: give a text to continue")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("the prompt has half a character, which is no text") from None
    if options["stop"] == "":
        raise ValueError("stop is empty: give the text to stop at")
    model, draft = models_of(options)
    encoder, hparams, _ = opened(model)
    if draft:
        check_draft(draft.name, opened(draft)[0], encoder)
    check_stop(options["stop"], encoder)
    special = options["special"]
    n_new = 0 if options["past_context"] else options["n_tokens_to_generate"]
    ids, _ = fitting_ids(prompt, n_new, options["keep_last"], special, encoder, hparams)
    if note := plain_note(prompt, encoder, special, "a prompt"):
        say_once(note)
    return ids


def models_of(options):  # -> Model, Model or None
    """The model that writes a text, and the one that drafts for it."""
    model = Model(*(options[name] for name in Model._fields))
    draft = options["draft"]
    return model, None if draft is None else Model(draft, model.models_dir, weights=model.weights)


# ---- in a worker -------------------------------------------------------------------------------------------


def texts_of(default_model, pieces):  # -> list of Results, each with texts; or ValueErrors
    """The texts that continue each piece; those of similar length are written side by side.

    default_model: that of lines that name none. Raises ModelError if its weights cannot be used.
    """
    if any(models_of(options)[0] == default_model for _, options in pieces):
        loaded(default_model)  # if this fails, no line is to blame
    results = [None] * len(pieces)
    for batch in batches(pieces):
        for i, result in zip(batch, written([pieces[i] for i in batch])):
            results[i] = result
    return results


def batches(pieces):  # yields lists of indices
    """Batches of pieces of one model and similar length, each of AT_ONCE texts at most, or of one piece.

    What needs a stream of its own is alone.
    """

    def kind(i):
        _, options = pieces[i]
        model, _ = models_of(options)
        return needs_its_own_stream(options), repr(model)

    order = sorted(range(len(pieces)), key=lambda i: (kind(i), len(pieces[i][0])))
    for (is_alone, _), group in groupby(order, kind):
        batch, n_texts = [], 0
        for i in group:
            n_samples = pieces[i][1]["n_samples"]
            if batch and (is_alone or n_texts + n_samples > AT_ONCE):
                yield batch
                batch, n_texts = [], 0
            batch.append(i)
            n_texts += n_samples
        yield batch


def needs_its_own_stream(options):  # -> bool
    """Whether options say more than how the next id is picked."""
    return any(is_given(options, name) for name in ("beams", "draft", "lookup", "past_context"))


def written(pieces):  # -> list of Results or ValueErrors
    """The texts that continue the pieces of a batch; if that fails, each is tried on its own."""
    try:
        pairs = [alone(*pieces[0])] if len(pieces) == 1 else together(pieces)
    except ValueError as error:
        return [error] if len(pieces) == 1 else [written([piece])[0] for piece in pieces]
    model, _ = models_of(pieces[0][1])
    return [Result(texts, n_tokens, model.name, loaded(model).fingerprint) for texts, n_tokens in pairs]


def alone(ids, options):  # -> texts, n_tokens
    """The texts that continue one prompt, written as the command writes them."""
    model, draft = models_of(options)
    encoder, _, _ = opened(model)
    params, n_head, _ = loaded(model)
    new_pick, n = pick_maker(options), options["n_tokens_to_generate"]
    picks = (new_pick(ids, i) for i in range(options["n_samples"]))
    streams = stream_maker(options, encoder.stop_ids, draft and loaded(draft)[:2])
    texts, seen = [], []
    for new_ids in streams(ids, params, n_head, n, picks):
        texts.append("".join(continuation(noted(new_ids, seen), encoder, options["stop"], ids)))
    return texts, len(seen)


def noted(new_ids, seen):  # yields the same ids
    """Append each id to those that are seen, as soon as it is asked for."""
    for new_id in new_ids:
        seen.append(new_id)
        yield new_id


def together(pieces):  # -> [(texts, n_tokens), ...]
    """The texts that continue several prompts of one model, written side by side."""
    model, _ = models_of(pieces[0][1])
    encoder, _, _ = opened(model)
    prompts, n_new, picks = [], [], []
    for ids, options in pieces:
        new_pick, n_samples = pick_maker(options), options["n_samples"]
        prompts += [ids] * n_samples
        n_new += [options["n_tokens_to_generate"]] * n_samples
        picks += [new_pick(ids, i) for i in range(n_samples)]
    all_new_ids = iter(until_all_end(prompts, loaded(model), n_new, picks, encoder.stop_ids))
    pairs = []
    for ids, options in pieces:
        samples = list(islice(all_new_ids, options["n_samples"]))
        texts = ["".join(continuation(new_ids, encoder, options["stop"], ids)) for new_ids in samples]
        pairs.append((texts, sum(map(len, samples))))
    return pairs


def until_all_end(prompts, weights, n_new, picks, stop_ids):  # [n_batch][n_seq] -> [n_batch][n]
    """The new ids of each prompt, up to the first of stop_ids. weights: a Loaded model."""
    new_ids, going = [[] for _ in prompts], {*range(len(prompts))}
    for i, new_id in batching.stream(prompts, weights.params, weights.n_head, n_new, picks):
        if i in going:
            new_ids[i].append(new_id)
            if new_id in stop_ids:
                going.remove(i)
        if not going:
            break
    return new_ids
