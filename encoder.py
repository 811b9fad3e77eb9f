"""Byte-level byte-pair encoding: text to token ids and back, for any text at all.

Text is cut into pieces (words, numbers, punctuation), a piece into its UTF-8 bytes, and the bytes are
merged, two neighbours at a time, in the order in which the merges were learned (Sennrich et al. 2016, "Neural
Machine Translation of Rare Words with Subword Units"; on bytes: Radford et al. 2019, 2.2).
"""

import codecs
import functools
import heapq
import json
import operator

import regex

from checkpoint import ModelError

END_OF_TEXT = "<|endoftext|>"
PIECES = regex.compile(
    r"""'(?:s|t|re|ve|m|ll|d)   # the end of a contraction: it's, don't, we're
      | [ ]?\p{L}+              # letters of any alphabet, with the space before them
      | [ ]?\p{N}+              # digits and other numbers (½, Ⅳ), with the space before them
      | [ ]?[^\s\p{L}\p{N}]+    # punctuation and other symbols, with the space before them
      | \s+(?!\S)               # white space; if text follows, all but its last character
      | \s+                     # white space that is left""",
    regex.VERBOSE,
)


def bytes_to_unicode():  # -> {byte: character}
    """A visible character for each of the 256 bytes, so that tokens can be printed and kept in files.

    A byte that is a visible character of Latin-1 stands for itself; the other 68 take those from U+0100 on,
    so the space is "Ġ". The order is that of the first 256 ids of OpenAI's vocabulary.
    """
    visible = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class Encoder:
    """A tokenizer: `encode` turns text into ids, `decode` turns ids back into text.

    encoder: {token: id}, tokens spelled in the characters of `bytes_to_unicode`; bpe_merges: pairs of tokens,
    first learned first; errors: what to make of bytes that are not UTF-8, as in `bytes.decode`. A
    token that is not a byte and that no merge makes is special, like <|endoftext|>; so are special_tokens.
    stop_tokens: those that end a text, as far as encoder has them; their ids are the attribute stop_ids.
    """

    def __init__(self, encoder, bpe_merges, errors="replace", special_tokens=(), stop_tokens=(END_OF_TEXT,)):
        bpe_merges = [tuple(merge) for merge in bpe_merges]
        self.encoder = encoder
        self.decoder = {token_id: token for token, token_id in encoder.items()}
        self.errors = errors
        self.stop_ids = {encoder[token] for token in stop_tokens if token in encoder}
        self.byte_encoder = bytes_to_unicode()
        self.byte_decoder = {character: byte for byte, character in self.byte_encoder.items()}
        self.bpe_ranks = {merge: rank for rank, merge in enumerate(bpe_merges)}
        self.literal_tokens = encoder.keys() - self.byte_decoder.keys() - set(map("".join, bpe_merges))
        self.special_tokens = self.literal_tokens | set(special_tokens)
        self.cached_bpe = functools.lru_cache(maxsize=2**15)(self.bpe)  # words recur; safe under threads

    def encode(self, text, allowed_special=()):  # str -> list of ids
        """The ids of a text: "Hello, world" is [15496, 11, 995] in OpenAI's vocabulary.

        A special token in the text is plain text, unless it is in allowed_special, a set of them or "all".
        A lone surrogate, which is no character, counts as U+FFFD. Raises TypeError for what is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"the text to encode is of type {type(text).__name__}, not str")
        special = self.special_tokens if allowed_special == "all" else set(allowed_special)
        if not special <= self.special_tokens:
            raise ValueError(f"allowed_special is {allowed_special!r}, not of {sorted(self.special_tokens)}")
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if not special:
            return self.encode_plain(text)
        longest_first = "|".join(map(regex.escape, sorted(special, key=len, reverse=True)))
        parts = regex.split(f"({longest_first})", text)
        ids = []
        for part in parts:
            ids += [self.encoder[part]] if part in special else self.encode_plain(part)
        return ids

    def encode_plain(self, text):  # str -> list of ids
        """The ids of a text without special tokens."""
        ids = []
        for piece in PIECES.findall(text):
            # a long piece is not cached: it seldom recurs, and would fill memory
            ids += self.cached_bpe(piece) if len(piece) <= 64 else self.bpe(piece)
        return ids

    def bpe(self, piece):  # str -> list of ids
        """Merge the bytes of a piece: always the pair of neighbours learned first, leftmost first.

        Pairs wait in a heap and tokens stand in a linked list, so that n bytes take n log n steps.
        """
        tokens = [self.byte_encoder[byte] for byte in piece.encode()]
        n = len(tokens)
        tokens.append(None)  # no token: the neighbour of the first, at -1, and of the last, at n
        before, after = [*range(-1, n)], [*range(1, n + 1), n]

        def rank(i):  # of the pair that begins at i
            return self.bpe_ranks.get((tokens[i], tokens[after[i]]))

        pairs = [(rank(i), i) for i in range(n) if rank(i) is not None]
        heapq.heapify(pairs)
        while pairs:
            rank_then, i = heapq.heappop(pairs)
            if rank(i) != rank_then:
                continue  # one of the two was merged with another neighbour meanwhile
            merged = after[i]
            tokens[i], tokens[merged] = tokens[i] + tokens[merged], None
            after[i] = after[merged]
            before[after[i]] = i
            for j in (before[i], i):
                if rank(j) is not None:
                    heapq.heappush(pairs, (rank(j), j))
        return [self.encoder[token] for token in tokens if token is not None]

    def token_bytes(self, token_id):  # id -> bytes
        """The bytes of a token, not always whole characters. Raises ValueError for what is no id."""
        try:
            token = self.decoder[operator.index(token_id)]
        except (KeyError, TypeError):
            raise ValueError(f"{token_id!r} is not an id: ids are 0 to {len(self.decoder) - 1}") from None
        if token in self.literal_tokens:
            return token.encode()
        return bytes(self.byte_decoder[character] for character in token)

    def decode(self, ids):  # list of ids -> str
        """The text of some ids: [15496, 11, 995] is "Hello, world" in OpenAI's vocabulary."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", self.errors)

    def decode_stream(self, ids):  # ids, one at a time -> pieces of text
        """The text of ids as they come: a piece for each and one for the end, empty while a character waits
        for its last id. The pieces, joined, are what `decode` returns for all."""
        decoder = codecs.getincrementaldecoder("utf-8")(self.errors)
        for token_id in ids:
            yield decoder.decode(self.token_bytes(token_id))
        yield decoder.decode(b"", final=True)


def get_encoder(model_name, models_dir):  # -> Encoder
    """The tokenizer of a model, from its encoder.json and vocab.bpe; `utils.find_model` lists the models.

    Raises ModelError unless the two belong together: cut short, they would give other ids for the same text.
    """
    from utils import huggingface, model_file  # here, because utils imports this module

    if extra := huggingface(model_name):
        return extra.load_encoder(model_name)
    encoder_path = model_file(model_name, models_dir, "encoder.json")
    merges_path = model_file(model_name, models_dir, "vocab.bpe")
    try:
        lines = merges_path.read_text(encoding="utf-8").splitlines()
        bpe_merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        encoder = vocabulary(bpe_merges)
        if json.loads(encoder_path.read_text(encoding="utf-8")) != encoder:
            raise ValueError(f"the ids of the first are not those that the {len(bpe_merges):,} merges make")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{encoder_path}, {merges_path}: {error}; delete both and get them again") from None
    return Encoder(encoder, bpe_merges)


def vocabulary(bpe_merges):  # -> {token: id}
    """OpenAI's order of ids: the 256 bytes, what each merge makes, <|endoftext|>. Raises ValueError."""
    tokens = dict.fromkeys(bytes_to_unicode().values())  # a set that keeps its order
    for number, merge in enumerate(bpe_merges, 1):
        token = "".join(merge)
        if len(merge) != 2 or not tokens.keys() >= {*merge} or token in tokens:
            raise ValueError(f"merge {number} is {' '.join(merge)!r}, not a new pair of earlier tokens")
        tokens[token] = None
    return {token: token_id for token_id, token in enumerate([*tokens, END_OF_TEXT])}
