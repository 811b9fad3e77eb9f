"""The tokenizer of a model in Hugging Face's layout: from tokenizer.json, or vocab.json and merges.txt.

Any byte-level BPE will do. The ids of a text are those that transformers gives, but without the special
tokens that it may add at either end. A tokenizer that prepares a text as GPT-2's does becomes an `Encoder`;
for others see other_tokenizers.py. Any other kind is refused by name, and so is a vocabulary whose parts do
not belong together: it would give the wrong ids.

(tokenization_utils_base.py, tokenization_utils_tokenizers.py and tokenization_gpt2.py of transformers)
"""

import re

from encoder import END_OF_TEXT, Encoder, bytes_to_unicode, is_utf8, read_merges
from extras.huggingface.added_tokens import PADDING, added_tokens, as_token, is_normalized, read_settings
from extras.huggingface.hub import find_file
from extras.huggingface.other_tokenizers import BYTE_LEVEL, GPT2, PreparedEncoder, as_gpt2s
from files import ModelError, read_json, say, shown

GPT2_CLASSES = ["GPT2Tokenizer", "GPT2TokenizerFast", "CodeGenTokenizer", "CodeGenTokenizerFast"]
PLAIN_CLASSES = ["PreTrainedTokenizerFast", "TokenizersBackend"]  # they do what tokenizer.json says
PLAIN_CLASSES += ["PreTrainedTokenizer", "LlamaTokenizer", "LlamaTokenizerFast"]  # if it is a byte-level BPE
WEIGHTS_ALONE = "extras.huggingface.loading.load_params reads its weights"
# fields that take tokens from elsewhere
OTHER_TOKENS = ["vocab", "merges", "init_inputs", "fast_tokenizer_files"]
# what tokens look like that need no merge: <|endoftext|>, <pad>, [MASK]
SPECIAL = re.compile(r"<.+>|\[.+\]")


def load_encoder(model, n_vocab, stop_ids, tokenizer_class=None, begin_id=None):  # -> Encoder
    """The tokenizer of a model. Added tokens are decoded; those that are special are encoded on request.

    n_vocab: rows of the embedding. A row without a token gets one, such as <|unused50300|>; an added token
    without a row is left out. stop_ids: ids that end a text; if there are some, but none is a token's,
    <|endoftext|> ends it. begin_id: the id that begins a text. tokenizer_class: that of config.json, for a
    tokenizer_config.json without one. Raises ModelError for anything that is not supported.
    """
    path = find_file(model, "tokenizer.json")
    source = f"the vocabulary of {model} ({'tokenizer.json' if path else 'vocab.json, merges.txt'})"
    try:
        settings, encoder, merges, added = read(model, path, n_vocab, tokenizer_class)
        groups, special, stripping = flags_of(added, settings)
        stops, begin = ends_of_text(encoder, special, stop_ids, begin_id)
        options = {"stop_tokens": stops, "begin_token": begin}
        options |= {"added_groups": groups, "special_tokens": special}
        if is_gpt2s(settings, encoder) and not any(stripping.values()):
            return Encoder(encoder, merges, **options)
        return PreparedEncoder(settings, stripping, encoder, merges, **options)
    except ModelError:  # its message is complete
        raise
    except ValueError as error:
        raise ModelError(source, f"not supported: {error}") from None
    except (LookupError, TypeError, AttributeError) as error:
        found = f"something in it is missing or of the wrong type ({type(error).__name__}: {shown(error)})"
        raise ModelError(source, f"not supported: {found}") from None


def read(model, path, n_vocab, tokenizer_class):  # -> settings, {token: id}, merges, {content: added token}
    """The whole vocabulary. path: tokenizer.json, or None. settings: see `other_tokenizers.tokenizer_json`.

    Raises ValueError; also LookupError, TypeError or AttributeError if the JSON has another structure.
    """
    config = read_settings(model, "tokenizer_config.json")
    if config.get("tokenizer_class") is not None:
        tokenizer_class = config["tokenizer_class"]
    is_gpt2 = tokenizer_class not in PLAIN_CLASSES
    check_config(config, tokenizer_class, GPT2_CLASSES + PLAIN_CLASSES if path else GPT2_CLASSES)
    tokenizer = read_json(path) if path else read_vocabulary(model)
    settings = prepared_by(tokenizer)
    settings = as_class_does(settings, config) if is_gpt2 else settings
    say_what_is_left_out(model, tokenizer, config if path is None else {})  # as in transformers 5
    tokens, merges = tokenizer["model"]["vocab"], merges_of(tokenizer)
    padding = {PADDING: (tokenizer.get("padding") or {}).get("pad_token")}
    listed = list(tokenizer.get("added_tokens", []))
    added = added_tokens(model, config | padding, listed, tokens, n_vocab, is_gpt2)
    check_merges(tokens, merges, added)
    encoder = assign_rows(tokens, {content: token["id"] for content, token in added.items()}, n_vocab)
    return settings, encoder, merges, {token: added[token] for token in added.keys() & encoder.keys()}


def read_vocabulary(model):  # -> dict, as in tokenizer.json
    """What vocab.json and merges.txt say."""
    paths = {file: find_file(model, file) for file in ("vocab.json", "merges.txt")}
    if not all(paths.values()):
        there = next((f"{file} alone" for file, path in paths.items() if path), "no tokenizer")
        advice = "copy tokenizer.json, or both vocab.json and merges.txt, from the model that was trained"
        raise ModelError(model, f"it has {there}", advice)
    return as_gpt2s(read_json(paths["vocab.json"]), read_merges(paths["merges.txt"]))


def merges_of(tokenizer):  # content of tokenizer.json -> [(token, token), ...]
    """The merges, which are written as texts, or as pairs."""
    merges = tokenizer["model"]["merges"]
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]


def check_config(config, tokenizer_class, classes):
    """Raise ValueError for settings of tokenizer_config.json that change the ids of a text."""
    for field in OTHER_TOKENS:
        if config.get(field):
            found = f"tokenizer_config.json sets {field}"
            raise ValueError(f"{found}: its tokens may differ from those in the files")
    if tokenizer_class not in (None, *classes):
        found = shown(repr(tokenizer_class))
        raise ValueError(f"its tokenizer_class is {found}, expected 'GPT2Tokenizer'; {WEIGHTS_ALONE}")


# ---- how a text is prepared --------------------------------------------------------------------------------


def prepared_by(tokenizer):  # -> settings, as for other_tokenizers.tokenizer_json
    """How tokenizer.json prepares a text. Raises ValueError unless it is a byte-level BPE."""
    bpe, first = tokenizer["model"], steps_of(tokenizer, "normalizer")
    later = steps_of(tokenizer, "pre_tokenizer")
    check_byte_level(bpe, [step["type"] for step in first + later])
    vocabulary = {"vocab": bpe["vocab"], "merges": bpe["merges"]}
    model = {field: bpe.get(field) or usual for field, usual in GPT2["model"].items()}
    settings = {"normalizer": tokenizer.get("normalizer") if first else None}
    return settings | {"pre_tokenizer": tokenizer.get("pre_tokenizer"), "model": model | vocabulary}


def as_class_does(settings, config):  # -> settings
    """How a GPT2Tokenizer of transformers 5 prepares a text: add_prefix_space counts, but not tokenizer.json.

    config: the fields of tokenizer_config.json.
    """
    model, steps = settings["model"], steps_of(settings, "pre_tokenizer")
    if settings["normalizer"] or model["ignore_merges"] or not is_usual(steps):
        found = "tokenizer.json does not prepare a text as its tokenizer_class, GPT2Tokenizer, does"
        say(f"{found}: the class counts, as in transformers 5")
    space = {"add_prefix_space": bool(config.get("add_prefix_space"))}
    vocabulary = {"vocab": model["vocab"], "merges": model["merges"]}
    return GPT2 | {"pre_tokenizer": BYTE_LEVEL | space, "model": GPT2["model"] | vocabulary}


def steps_of(tokenizer, part):  # -> list of dict
    """The steps of a normalizer, pre_tokenizer or post_processor: those of a Sequence, or itself."""

    def flat(step):
        for kind in ("normalizers", "pretokenizers", "processors"):
            if step and step.get("type") == "Sequence" and kind in step:
                return [inner for each in step[kind] for inner in flat(each)]
        return [step] if step else []

    return flat(tokenizer.get(part))


def check_byte_level(bpe, steps):
    """Raise ValueError for another kind of tokenizer than a byte-level BPE. steps: kinds of preparation."""
    for field, found, usual in (
        ("model.type", bpe.get("type", "BPE"), "BPE"),
        ("model.dropout", bpe.get("dropout") or None, None),
        ("model.continuing_subword_prefix", bpe.get("continuing_subword_prefix") or "", ""),
        ("model.end_of_word_suffix", bpe.get("end_of_word_suffix") or "", ""),
    ):
        if found != usual:
            raise ValueError(f"{field} is {shown(repr(found))}, expected {usual!r} as in GPT-2")
    if steps.count("ByteLevel") != 1 or "Metaspace" in steps:
        found = f"it prepares a text by {', '.join(map(str, steps)) or 'nothing'}"
        raise ValueError(f"{shown(found)}: expected ByteLevel, once, as in GPT-2")


def is_usual(steps):  # -> bool
    """Whether a text is cut as GPT-2 cuts it, apart from the space that may come first."""
    return [(step["type"], step.get("use_regex", True)) for step in steps] == [("ByteLevel", True)]


def is_gpt2s(settings, encoder):  # -> bool
    """Whether these settings do what `Encoder` does."""
    model, steps = settings["model"], steps_of(settings, "pre_tokenizer")
    has_all = encoder.keys() >= {*bytes_to_unicode().values()}
    is_plain = has_all or not (model["unk_token"] or model["byte_fallback"])
    is_plain = is_plain and not model["ignore_merges"] and settings["normalizer"] is None
    return is_plain and is_usual(steps) and steps[0]["add_prefix_space"] is False


def say_what_is_left_out(model, tokenizer, config):
    """Say on stderr which special tokens transformers would put around a text: here a user writes them."""
    tokens = [token for step in steps_of(tokenizer, "post_processor") for token in tokens_around(step)]
    ends = [
        config.get(f"{end}_token", END_OF_TEXT) for end in ("bos", "eos") if config.get(f"add_{end}_token")
    ]
    tokens += [as_token(end)["content"] for end in ends if end]
    if tokens:
        names = " and ".join(dict.fromkeys(tokens))
        say(f"{model}: transformers adds {shown(names)} to a text; here, add it yourself, with --special")


def tokens_around(processor):  # -> list of str
    """The special tokens that a step of a post-processor puts around a text.

    Raises ValueError if it repeats the text itself, or leaves it out.
    """
    if processor.get("type") == "TemplateProcessing":
        around = [step["SpecialToken"]["id"] for step in processor["single"] if "SpecialToken" in step]
        if len(processor["single"]) - len(around) != 1:
            raise ValueError("its post_processor does not have the text once, as GPT-2's does")
        return around
    return [processor[end][0] for end in ("cls", "sep") if end in processor]


# ---- tokens and merges -------------------------------------------------------------------------------------


def flags_of(added, settings):  # -> groups, special tokens, {"lstrip": tokens, "rstrip": tokens}
    """What the flags of the added tokens mean for an Encoder."""
    normalized = {content for content, token in added.items() if is_normalized(token)}
    if normalized and settings["normalizer"]:
        found = f"the added token {shown(repr(min(normalized)))} is looked for in normalized text"
        raise ValueError(f"{found}, and the tokenizer has a normalizer")
    special = {content for content, token in added.items() if token.get("special")}
    flags = ("lstrip", "rstrip")
    stripping = {flag: {content for content, token in added.items() if token.get(flag)} for flag in flags}
    return [added.keys() - normalized, normalized], special, stripping


def ends_of_text(encoder, special, stop_ids, begin_id):  # -> stop tokens, begin token
    """The tokens that end a text, and the one that begins it.

    begin_id may be left over from GPT-2's config.json, so it counts only if it is that of a special token.
    Otherwise a text begins with <|endoftext|>, or with the first special token that ends one.
    """
    of_id = {token_id: token for token, token_id in encoder.items()}
    stops = [of_id[stop_id] for stop_id in dict.fromkeys(stop_ids) if stop_id in of_id]
    beginnings = [of_id.get(begin_id), END_OF_TEXT, *stops]
    beginnings = [token for token in beginnings if token in encoder]
    begin = next((token for token in beginnings if token in special or SPECIAL.fullmatch(token)), None)
    return stops or ([END_OF_TEXT] if stop_ids else []), begin


def check_merges(tokens, merges, added):
    """Raise ValueError unless every merge makes a token, and every token that needs a merge has one."""
    symbols = set(bytes_to_unicode().values())
    for number, merge in enumerate(merges, 1):
        if len(merge) != 2 or not tokens.keys() >= {*merge, "".join(merge)}:
            found = f"merge {number} is {shown(repr(' '.join(merge)))}"
            raise ValueError(f"{found}, not two tokens that make a third")
    if len(set(merges)) < len(merges):
        raise ValueError("a merge is given twice")
    if not symbols & tokens.keys() or not symbols.issuperset("".join(map("".join, merges))):
        raise ValueError("its tokens are not spelled in bytes, as those of a byte-level BPE are")
    made, first = set(map("".join, merges)), min(tokens[symbol] for symbol in symbols & tokens.keys())
    others = tokens.keys() - made - added.keys()
    stray = [token for token in others if needs_merge(token, tokens[token], first)]
    if stray:
        found = f"no merge makes the token {shown(repr(min(stray)))} ({len(stray)} such)"
        raise ValueError(f"{found}: merges are missing")


def needs_merge(token, token_id, first):  # -> bool
    """Whether only a merge can make this token: not a character, nor what a trainer puts before the bytes."""
    return len(token) > 1 and token_id > first and not SPECIAL.fullmatch(token)


def is_part(token):  # -> bool
    """Whether a token spells only a part of a character."""
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    return byte_of.keys() >= {*token} and not is_utf8([byte_of[character] for character in token])


def assign_rows(tokens, added, n_vocab):  # -> {token: id}
    """All tokens, one for each row of the embedding; a row without one gets a name such as <|unused50300|>.

    Parts of characters that only merges use need no row. Raises ValueError for any other id without one.
    """
    parts = {token for token, i in tokens.items() if type(i) is int and i >= n_vocab and is_part(token)}
    tokens = {token: i for token, i in tokens.items() if token not in parts}
    encoder = tokens | {token: i for token, i in added.items() if token in tokens or i < n_vocab}
    ids = set(encoder.values())
    if len(ids) < len(encoder) or {*map(type, ids)} != {int} or not ids <= set(range(n_vocab)):
        raise ValueError(f"its {len(encoder):,} tokens do not all have different ids below {n_vocab:,}")
    for row in sorted(set(range(n_vocab)) - ids):
        name = f"<|unused{row}|>"
        while name in encoder:
            name = f"<{name}>"
        encoder[name] = row
    return encoder
