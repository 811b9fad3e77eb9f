"""The tokenizer of a model in Hugging Face's layout, from the files that its class in transformers reads.

The ids of a text are those that transformers gives, but without the special tokens that it may add at either
end. On the way,

    tokenizer_classes   finds the class, reads its files, and writes what it does as tokenizer.json would
    added_tokens        finds the tokens that are not in the vocabulary, or that are special
    this module         checks that all these belong together, and makes one of three encoders:
        Encoder           a byte-level BPE that prepares a text as GPT-2's does (encoder.py)
        PreparedEncoder   one that prepares it in another way (prepared.py)
        OtherEncoder      any other kind (other_tokenizers.py)

A class that is not known is refused by name, and so is a vocabulary whose parts do not belong together: it
would give the wrong ids.

(tokenization_utils_base.py and tokenization_utils_tokenizers.py of transformers)
"""

import re

from encoder import END_OF_TEXT, Encoder, bytes_to_unicode, is_utf8
from extras.huggingface.added_tokens import PADDING, added_tokens, as_token, is_normalized, read_settings
from extras.huggingface.hub import find_file
from extras.huggingface.other_tokenizers import OtherEncoder, Tokenizers
from extras.huggingface.prepared import PreparedEncoder, is_byte_level, is_gpt2s, prepared_by, steps_of
from extras.huggingface.sentencepiece_files import SentencePiece
from extras.huggingface.tokenizer_classes import (
    FILES,
    as_class_does,
    class_of,
    extra_tokens,
    files_for,
    read_files,
)
from files import ModelError, say_once, shown
from layouts import OF_TOKENIZER

# fields that take tokens from elsewhere
OTHER_TOKENS = ["vocab", "merges", "init_inputs", "fast_tokenizer_files"]
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
# what tokens look like that need no merge: <|endoftext|>, <pad>, [MASK]
SPECIAL = re.compile(r"<.+>|\[.+\]")


def load_encoder(model, n_vocab, stop_ids, tokenizer_class=None, begin_id=None):  # -> one of three encoders
    """The tokenizer of a model. Added tokens are decoded; those that are special are encoded on request.

    n_vocab: rows of the embedding. A row without a token gets one, such as <|unused50300|>; an added token
    without a row is left out. stop_ids: ids that end a text; if there are some, but none is a token's,
    <|endoftext|> ends it. begin_id: the id that begins a text. tokenizer_class: that of config.json, for a
    tokenizer_config.json without one. Raises ModelError for anything that is not supported.
    """
    config = read_settings(model, "tokenizer_config.json")
    kind = class_of(config, tokenizer_class)
    names = files_for(model, kind)
    source = f"the vocabulary of {model} ({', '.join(names)})"
    try:
        tokenizer, encoder, added = read(model, names, config, kind, n_vocab)
        special = {content for content, token in added.items() if token.get("special")}
        stops, begin = ends_of_text(encoder, special, stop_ids, begin_id, tokens_around(tokenizer)[0])
        options = {"stop_tokens": stops, "begin_token": begin, "special_tokens": special}
        if is_byte_level(tokenizer):
            return byte_level(tokenizer, encoder, added, options)
        return other(model, tokenizer, encoder, added, config, kind, options)
    except ModelError:  # its message is complete
        raise
    except ValueError as error:
        raise ModelError(source, f"not supported: {error}") from None
    except (LookupError, TypeError, AttributeError) as error:
        found = f"something in it is missing or of the wrong type ({type(error).__name__}: {shown(error)})"
        raise ModelError(source, f"not supported: {found}") from None


def read(model, names, config, kind, n_vocab):  # -> tokenizer, {token: id}, {content: added token}
    """The whole vocabulary. tokenizer: the content of tokenizer.json, changed as its class does it.

    Raises ValueError; also LookupError, TypeError or AttributeError if the JSON has another structure.
    """
    check_config(config)
    tokenizer = read_files(model, names, kind)
    others = {} if "added_tokens_decoder" in config else read_settings(model, "special_tokens_map.json")
    dropout = tokenizer["model"].get("dropout")
    if dropout:
        raise ValueError(f"model.dropout is {shown(dropout)}: the same text would have other ids each time")
    tokenizer, usual = as_class_does(tokenizer, config | others, kind, n_vocab)
    # beside a tokenizer.json, transformers 5 ignores fields such as add_bos_token
    say_what_is_left_out(model, tokenizer, {} if names == ["tokenizer.json"] else config)
    tokens = tokens_of(tokenizer)
    padding = {PADDING: (tokenizer.get("padding") or {}).get("pad_token")}
    listed, extra = list(tokenizer.get("added_tokens", [])), extra_tokens(config, tokenizer, kind)
    added = added_tokens(model, config | padding, listed, tokens, n_vocab, usual, extra)
    if kind == "GPTSw3Tokenizer":  # to this class alone, a list in special_tokens_map.json is enough
        listed = map(as_token, others.get("additional_special_tokens") or [])
        added |= {token["content"]: added[token["content"]] | {"special": True} for token in listed}
    if is_byte_level(tokenizer):
        check_merges(tokens, merges_of(tokenizer), added)
    ids = {content: token["id"] for content, token in added.items()}
    encoder = assign_rows(tokens, ids, n_vocab, is_byte_level(tokenizer))
    return tokenizer, encoder, {token: added[token] for token in added.keys() & encoder.keys()}


def tokens_of(tokenizer):  # content of tokenizer.json -> {token: id}
    """The tokens; Unigram's are a list in the order of their ids, each with its log-probability."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {token: token_id for token_id, (token, _) in enumerate(vocabulary)}
    return vocabulary


def check_config(config):
    """Raise ValueError for settings of tokenizer_config.json that change the ids of a text."""
    for field in OTHER_TOKENS:
        if config.get(field):
            found = f"tokenizer_config.json sets {field}"
            raise ValueError(f"{found}: its tokens may differ from those in the files")


def byte_level(tokenizer, encoder, added, options):  # -> Encoder
    """A byte-level BPE: GPT-2's own encoder, if it prepares a text as GPT-2 does."""
    settings, merges = prepared_by(tokenizer), merges_of(tokenizer)
    groups, stripping = flags_of(added, settings)
    options = options | {"added_groups": groups}
    if is_gpt2s(settings, encoder) and not any(stripping.values()):
        return Encoder(encoder, merges, **options)
    return PreparedEncoder(settings, stripping, encoder, merges, **options)


def other(model, tokenizer, encoder, added, config, kind, options):  # -> OtherEncoder
    """A tokenizer of another kind. config: the fields of tokenizer_config.json; kind: its class."""
    if kind == "GPTSw3Tokenizer":
        if config.get("sp_model_kwargs"):
            raise ValueError(f"sp_model_kwargs is {shown(config['sp_model_kwargs'])}: it may change the ids")
        ids = {token: encoder[token] for token in added}
        _, stripping = flags_of(added, {"normalizer": None})
        library = SentencePiece(tokenizer["content"], ids, options["special_tokens"], stripping)
    else:
        listed = sorted(added.values(), key=lambda token: token["id"])
        library = Tokenizers(tokenizer, [FLAGS | token for token in listed])
    say_if_unused(model, len(encoder), tokens_of(tokenizer).keys() | added.keys())
    is_bpe = "merges" in tokenizer["model"]  # the texts of a BPE, transformers does not clean up
    options = options | {
        "cleans_up": config.get("clean_up_tokenization_spaces", False) and not is_bpe,
        "files": {name: path for name in OF_TOKENIZER if (path := find_file(model, name))},
        "tokenizer_class": kind if kind in FILES else "PreTrainedTokenizerFast",
    }
    return OtherEncoder(library, encoder, **options)


def say_if_unused(model, n_vocab, tokens):
    """Say on stderr if rows have no token: nothing else would show that a part of the file is missing."""
    n_unused = n_vocab - len(tokens)
    if n_unused > 0:
        say_once(f"{model}: rows of its embedding without a token: {n_unused:,} of {n_vocab:,}")


def merges_of(tokenizer):  # content of tokenizer.json -> [(token, token), ...]
    """The merges, which are written as texts, or as pairs."""
    merges = tokenizer["model"]["merges"]
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]


# ---- what transformers puts around a text ------------------------------------------------------------------


def say_what_is_left_out(model, tokenizer, config):
    """Say on stderr which special tokens transformers would put around a text: here a user writes them."""
    around = dict(zip(("before", "after"), tokens_around(tokenizer)))
    for place, end in {"before": "bos", "after": "eos"}.items():
        token = config.get(f"{end}_token", END_OF_TEXT) if config.get(f"add_{end}_token") else None
        around[place] += [as_token(token)["content"]] if token else []
    places = [f"{shown(' '.join(tokens))} {place} a text" for place, tokens in around.items() if tokens]
    if places:
        left_out = " and ".join(places)
        say_once(f"{model}: transformers puts {left_out}; here, write it where it is needed, with --special")


def tokens_around(tokenizer):  # -> list of str, list of str
    """The special tokens that a post-processor puts before a text, and after it.

    Raises ValueError if it repeats the text itself, or leaves it out.
    """
    before, after = [], []
    for step in steps_of(tokenizer, "post_processor"):
        if step.get("type") == "TemplateProcessing":
            tokens = [
                each["SpecialToken"]["id"] if "SpecialToken" in each else None for each in step["single"]
            ]
            if tokens.count(None) != 1:
                raise ValueError("its post_processor does not have the text once, as GPT-2's does")
            place = tokens.index(None)
            before, after = before + tokens[:place], after + tokens[place + 1 :]
        before += [step["cls"][0]] if "cls" in step else []
        after += [step["sep"][0]] if "sep" in step else []
    return before, after


# ---- tokens and merges -------------------------------------------------------------------------------------


def flags_of(added, settings):  # -> groups, {"lstrip": tokens, "rstrip": tokens}
    """What the flags of the added tokens mean for an Encoder."""
    single = [content for content, token in added.items() if token.get("single_word")]
    if single:
        found = f"the added token {shown(repr(min(single)))} has single_word"
        raise ValueError(f"{found}, which no token of GPT-2 has")
    normalized = {content for content, token in added.items() if is_normalized(token)}
    if normalized and settings["normalizer"]:
        found = f"the added token {shown(repr(min(normalized)))} is looked for in normalized text"
        raise ValueError(f"{found}, and the tokenizer has a normalizer")
    flags = ("lstrip", "rstrip")
    stripping = {flag: {content for content, token in added.items() if token.get(flag)} for flag in flags}
    return [added.keys() - normalized, normalized], stripping


def ends_of_text(encoder, special, stop_ids, begin_id, first=()):  # -> stop tokens, begin token
    """The tokens that end a text, and the one that begins it. first: what transformers puts before a text.

    begin_id may be left over from GPT-2's config.json, so it counts only if it is that of a special token.
    Otherwise a text begins with <|endoftext|>, with the first special token that ends one, or with `first`.
    """
    of_id = {token_id: token for token, token_id in encoder.items()}
    stops = [of_id[stop_id] for stop_id in dict.fromkeys(stop_ids) if stop_id in of_id]
    beginnings = [of_id.get(begin_id), END_OF_TEXT, *stops, *first]
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


def assign_rows(tokens, added, n_vocab, are_bytes=True):  # -> {token: id}
    """All tokens, one for each row of the embedding; a row without one gets a name such as <|unused50300|>.

    Where tokens are bytes, parts of characters that only merges use need no row. Raises ValueError for any
    other id without one.
    """
    beyond = [token for token, i in tokens.items() if are_bytes and type(i) is int and i >= n_vocab]
    parts = {*filter(is_part, beyond)}
    tokens = {token: i for token, i in tokens.items() if token not in parts}
    encoder = tokens | {token: i for token, i in added.items() if token in tokens or i < n_vocab}
    ids = set(encoder.values())
    if len(encoder) > n_vocab:
        found = f"it has {len(encoder):,} tokens, but its model has {n_vocab:,} rows for them"
        raise ValueError(f"{found}: one of the two is of another model")
    if len(ids) < len(encoder) or {*map(type, ids)} != {int} or not ids <= set(range(n_vocab)):
        raise ValueError(f"its {len(encoder):,} tokens do not all have different ids below {n_vocab:,}")
    for row in sorted(set(range(n_vocab)) - ids):
        name = f"<|unused{row}|>"
        while name in encoder:
            name = f"<{name}>"
        encoder[name] = row
    return encoder
