"""The added tokens of a model in Hugging Face's layout: which they are, and what ids and flags they have.

tokenizer.json, added_tokens_decoder in tokenizer_config.json, added_tokens.json, special_tokens_map.json, and
fields such as pad_token may declare them. Which of these replaces which is transformers' own order.

(tokenization_utils_base.py and tokenization_utils_tokenizers.py of transformers)
"""

import itertools
import re

from extras.huggingface.hub import find_file
from files import read_json, shown

NAMED = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
PADDING = "padding.pad_token"  # in tokenizer.json; vocabulary.py hands it on like a field of the config
EXTRA = ["extra_special_tokens", "additional_special_tokens"]


def read_settings(model, filename):  # -> dict
    """The fields of an optional file."""
    path = find_file(model, filename)
    return read_json(path) if path else {}


def added_tokens(model, settings, listed, tokens, n_vocab, usual, extra=None):  # -> {content: token}
    """The added tokens as transformers finds them, each a dict with its id and flags.

    settings: the fields of tokenizer_config.json, and PADDING; listed: the added tokens of tokenizer.json;
    tokens: {token: id} of the vocabulary; n_vocab: rows of the embedding; usual: {field: token}, what fields
    such as pad_token name where no file says it, or None for a class that does what tokenizer.json says;
    extra: the other special tokens, where a class knows them. A token without an id gets the next one.
    Raises ValueError for tokens that contradict each other, or that differ between versions of transformers.
    """
    replaces = "added_tokens_decoder" in settings  # all that other files say
    others = {} if replaces else read_settings(model, "special_tokens_map.json")
    declared = listed + (read_decoder(settings) if replaces else read_added(model, listed, settings, others))
    if replaces and usual is not None:
        check_replaced(listed, declared[len(listed) :])
    known = {token["content"]: token["id"] for token in declared}
    named = named_tokens(settings | others, usual)
    extra = extra_tokens(settings, others) if extra is None else extra
    declared += with_ids([*named, *map(as_token, extra)], tokens, known)
    check_added(declared, tokens)
    nested = settings.get("model_specific_special_tokens") or {}
    fields = [*settings.items(), *others.items(), *nested.items()]
    ids = tokens | {token["content"]: token["id"] for token in declared}
    check_doubtful(fields, known, ids, n_vocab - len(tokens | known))
    fields = settings | others | ({} if usual is None else {PADDING: None})
    names = contents_named(named, [*fields.items(), *nested.items()])
    kept = listed if replaces and usual is None else []  # to these it does not matter what a field names
    later = [resolved(token, token["content"] in names) for token in declared[len(kept) :]]
    return united(kept, later, always_special=listed if usual is None else [])


def with_ids(named, tokens, known):  # tokens without ids -> those that are not known, with ids
    """The tokens that no file declares: one of the vocabulary keeps its id, another gets the next one."""
    ids = tokens | known
    new = [token for token in named if token["content"] not in known]
    new = {repr(token): token for token in new}.values()  # each once
    return [token | {"id": ids.setdefault(token["content"], len(ids))} for token in new]


def united(kept, later, always_special):  # three lists of tokens -> {content: token}
    """The last declaration of a token counts; but one that is special in `always_special` stays special."""
    added = {token["content"]: dict(token) for token in [*kept, *later]}
    for token in always_special:
        added[token["content"]]["special"] |= token.get("special", False)
    return added


def resolved(token, is_named):  # -> token
    """A token with both flags: special if a field names it, by default normalized if it is not special."""
    token = token | {"special": is_named or token.get("special", False)}
    return token | {"normalized": is_normalized(token)}


def contents_named(named, fields):  # tokens, pairs of a field and its value -> set of str
    """The tokens that some field names, such as audio_token, or a dict of fields."""
    values = [value for field, value in fields if field.endswith("_token")]
    for field, value in fields:
        values += value.values() if field in EXTRA and isinstance(value, dict) else []
    also = [as_token(value) for value in values if value and isinstance(value, (str, dict))]
    return {token["content"] for token in [*named, *also]}


def check_replaced(listed, decoder):
    """Raise ValueError for a token of tokenizer.json that added_tokens_decoder lacks."""
    lost = {token["content"] for token in listed} - {token["content"] for token in decoder}
    if lost:
        found = f"tokenizer.json has the added token {shown(repr(min(lost)))}, which tokenizer_config.json's"
        raise ValueError(f"{found} added_tokens_decoder lacks: versions of transformers differ there")


def read_decoder(settings):  # -> added tokens
    """What added_tokens_decoder says, in the order of the ids."""
    tokens = settings["added_tokens_decoder"].items()
    return sorted((token | {"id": int(i)} for i, token in tokens), key=lambda token: token["id"])


def read_added(model, listed, settings, others):  # -> added tokens
    """What added_tokens.json says, in the order of the ids, with the flags that tokenizer.json gives them.

    A token that only added_tokens.json has is special if some field names it, and otherwise normalized.
    """
    flags = {token["content"]: token for token in listed}
    names = names_in(settings, others)
    pairs = sorted(read_settings(model, "added_tokens.json").items(), key=lambda pair: pair[1])
    return [
        flags.get(content, {"normalized": content not in names, "special": content in names})
        | {"content": content, "id": token_id}
        for content, token_id in pairs
    ]


def names_in(settings, others):  # -> set of str
    """The tokens that fields name; not every field counts, as in transformers."""
    fields = settings | others
    values = [fields[field] for field in NAMED if field in others or isinstance(fields.get(field), str)]
    lists = [value for value in map(settings.get, EXTRA) if isinstance(value, list)]
    values += [value for value in itertools.chain(*lists) if isinstance(value, str)]
    values += others[EXTRA[0]] if isinstance(others.get(EXTRA[0]), list) else []
    return {as_token(value)["content"] for value in values if value}


def named_tokens(fields, usual):  # -> tokens without ids
    """The tokens that are special because a field names them, in the order in which they get ids."""
    fields = (usual or {}) | fields
    return [as_token(fields[field]) for field in NAMED if fields.get(field)]


def as_token(value):  # "<pad>" or {"content": "<pad>", ...} -> dict
    """A token that a field names, as a dict; one with "__type" says itself whether it is special."""
    value = value if isinstance(value, dict) else {"content": value}
    return {"special": "__type" not in value} | value


def extra_tokens(*files):  # settings of files -> list of tokens
    """The list of further special tokens. Raises ValueError if two fields have different ones."""
    given = []
    for settings in files:
        lists = [settings[field] or [] for field in EXTRA if field in settings]
        lists = [[*(value.values() if isinstance(value, dict) else value)] for value in lists]
        given += [value for value in lists if value] or lists[:1]
    for value in given:
        if value != given[0]:
            raise ValueError(f"two lists of its special tokens differ: {shown(given[0])} and {shown(value)}")
    return given[0] if given else []


def is_normalized(token):  # -> bool
    """Whether a token is looked for after the others, in normalized text; by default unless special."""
    return token.get("normalized", not token.get("special", False))


def check_added(added, tokens):
    """Raise ValueError for an added token that is no text, or has a wrong id."""
    ids = {}
    for token in added:
        content = token["content"]
        if not isinstance(content, str) or not content or re.search("[\ud800-\udfff]", content):
            raise ValueError(f"an added token is {shown(repr(content))}, expected a text")
        for known in (ids, tokens):
            if known.get(content, token["id"]) != token["id"]:
                raise ValueError(f"the added token {shown(repr(content))} has two ids")
        ids[content] = token["id"]
    check_ids(ids, tokens)


def check_ids(ids, tokens):
    """Raise ValueError unless the ids of the tokens run from 0, and those of new added tokens after them."""
    new = [token_id for token, token_id in ids.items() if token not in tokens]
    if new != [*range(len(tokens), len(tokens) + len(new))]:
        found = f"the ids of its added tokens are {shown(new)}"
        raise ValueError(f"{found}, expected {len(tokens)} and up, without a gap")
    if new and {*tokens.values()} != {*range(len(tokens))}:
        found = f"its {len(tokens):,} tokens lack some of the ids from 0 to {len(tokens) - 1:,}"
        raise ValueError(f"{found}, so which ids its added tokens have is uncertain")


def check_doubtful(fields, known, ids, n_rows):
    """Raise ValueError for a token that is special only to some versions of transformers.

    fields: pairs of a field and its value; known: tokens that a file declares with their ids, so that it does
    not matter whether a field names them; n_rows: how many tokens without an id could get one.
    """
    for field, value in fields:
        if field.endswith("_token") and field not in NAMED and isinstance(value, (str, dict)):
            content = as_token(value)["content"]
            if content not in known and (content in ids or n_rows > 0):
                found = f"{field} is {shown(repr(content))}"
                raise ValueError(f"{found}, which is special only to some versions of transformers")
