"""Byte-level byte-pair encoding: text to token ids and back, for any text at all.

Text is cut into pieces (words, numbers, punctuation), each piece becomes its UTF-8 bytes, and neighbouring
bytes are merged, pair by pair, in the order in which the merges were learned (Sennrich et al. 2016, "Neural
Machine Translation of Rare Words with Subword Units"; on bytes: Radford et al. 2019, 2.2).
"""

import codecs
import functools
import heapq
import itertools
import json
import math
import operator
from pathlib import Path

import regex

from files import AGAIN, MIXED_UP, ModelError, read_json, read_small, shown

END_OF_TEXT = "<|endoftext|>"
LONGEST_CACHED = 64  # characters in a piece; longer ones seldom recur, and would fill memory
LONGEST_PLAIN = 12  # bytes in a piece; beyond, merge_long is faster than merge
PIECES = regex.compile(
    r"""'(?:s|t|re|ve|m|ll|d)   # the end of a contraction: it's, don't, we're
      | [ ]?\p{L}+              # letters of any alphabet, with the space before them
      | [ ]?\p{N}+              # digits and other numbers (½, Ⅳ), with the space before them
      | [ ]?[^\s\p{L}\p{N}]+    # punctuation and other symbols, with the space before them
      | \s+(?!\S)               # white space; if text follows, all but its last character
      | \s+                     # any remaining white space""",
    regex.VERBOSE,
)


def bytes_to_unicode():  # -> {byte: character}
    """A visible character for each of the 256 bytes, for printing tokens and for files.

    A byte that is a visible character in Latin-1 keeps it; the other 68 are given the
    characters from U+0100 up, so the space is "Ġ". The order is that of the first 256 ids
    in OpenAI's vocabulary.
    """
    visible = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in visible]
    moved = {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {byte: chr(byte) for byte in visible} | moved


class Encoder:
    """A tokenizer: `encode` turns text into ids, `decode` turns ids back into text.

    encoder: {token: id}, tokens spelled in the characters of `bytes_to_unicode`; bpe_merges: pairs of tokens,
    in the order learned; errors: what to do with bytes that are not UTF-8, as in `bytes.decode`;
    stop_tokens: tokens that end a text; begin_token: the one that begins a text. Their ids are the attributes
    stop_ids and begin_id; a token that is not in encoder has none.
    added_groups: sets of tokens that are looked for in a text before it is cut into pieces, each set only in
    what the earlier ones leave; by default one set: all that are neither a byte nor made by a merge.
    special_tokens: the added tokens that are not text, such as <|endoftext|>; by default all of them.
    """

    is_exact = True  # the text of a text's ids is the text itself

    def __init__(
        self,
        encoder,
        bpe_merges,
        errors="replace",
        stop_tokens=(END_OF_TEXT,),
        begin_token=END_OF_TEXT,
        added_groups=None,
        special_tokens=None,
    ):
        bpe_merges = [tuple(merge) for merge in bpe_merges]
        self.encoder = encoder
        self.decoder = {token_id: token for token, token_id in encoder.items()}
        self.errors = errors
        self.stop_ids = {encoder[token] for token in stop_tokens if token in encoder}
        self.begin_id = encoder.get(begin_token)
        self.byte_encoder = bytes_to_unicode()
        self.byte_decoder = {character: byte for byte, character in self.byte_encoder.items()}
        self.bpe_ranks = {merge: rank for rank, merge in enumerate(bpe_merges)}
        self.literal_tokens = encoder.keys() - self.byte_decoder.keys() - set(map("".join, bpe_merges))
        self.added_groups = [self.literal_tokens] if added_groups is None else added_groups
        self.added_tokens = set().union(*self.added_groups)
        self.special_tokens = self.added_tokens if special_tokens is None else set(special_tokens)
        self.cached_bpe = functools.lru_cache(maxsize=2**15)(self.bpe)  # words recur; thread-safe

    def encode(self, text, allowed_special=(), n_most=None):  # str -> list of ids
        """The ids of a text: "Hello, world" becomes [15496, 11, 995] in OpenAI's vocabulary.

        A special token in the text is read as plain text, unless it is in allowed_special, a set of them or
        "all". A lone surrogate, which is not a character, becomes U+FFFD. Raises TypeError if text is not a
        str, UnicodeError for a character that the vocabulary lacks, ValueError if allowed_special has a token
        that is not special, and, without tokenizing, for a text that cannot fit in n_most ids whatever its
        tokens are.
        """
        text, special = without_surrogates(text), allowed(allowed_special, self.special_tokens)
        if n_most is not None and len(text) > n_most:
            self.check_length(text, n_most)
        wanted, ids = (self.added_tokens - self.special_tokens) | special, []
        for part in self.cut(text, wanted):
            ids += [self.encoder[part]] if part in wanted else self.encode_plain(part)
        return ids

    def check_length(self, text, n_most):
        """Raise ValueError for a text with more characters than n_most of the longest token."""
        longest = max(map(len, self.encoder))  # a token is at least as long as the text that it stands for
        if len(text) > n_most * longest:
            sees = f"the model sees {n_most:,} tokens of at most {longest:,} characters"
            raise ValueError(f"the text has {len(text):,} characters, but {sees}: shorten it")

    def cut(self, text, wanted):  # str, set of tokens -> list of str
        """Cut a text around the wanted tokens: group by group, in each the leftmost first, there the longest.

        The result alternates: a text, perhaps empty, a token, a text, ..., a text.
        """
        parts, found = [text], set()
        for group in self.added_groups:
            there = [token for token in group if token in text]  # of thousands, few are
            if not wanted.isdisjoint(there):
                pattern = regex.compile("|".join(map(regex.escape, sorted(there, key=len, reverse=True))))
                cuts = [[part] if part in found else self.cut_out(part, pattern, wanted) for part in parts]
                parts = [part for cut in cuts for part in cut]
                found |= wanted.intersection(there)
        return parts

    def cut_out(self, text, pattern, wanted):  # -> text, token, text, ..., text
        """Cut a text around the wanted matches of a pattern; a token inside another match stays text."""
        parts, start = [], 0
        for match in pattern.finditer(text):
            if match[0] in wanted:
                parts += [text[start : match.start()], match[0]]
                start = match.end()
        return [*parts, text[start:]]

    def encode_plain(self, text):  # str -> list of ids
        """The ids of a text without added tokens."""
        ids = []
        for piece in PIECES.findall(text):
            ids += self.cached_bpe(piece) if len(piece) <= LONGEST_CACHED else self.bpe(piece)
        return ids

    def bpe(self, piece):  # str -> list of ids
        """The ids of a piece: its bytes, merged pair by pair, the pair learned first at each step."""
        tokens = [self.byte_encoder[byte] for byte in piece.encode()]
        tokens = self.merge(tokens) if len(tokens) <= LONGEST_PLAIN else self.merge_long(tokens)
        try:
            return [self.encoder[token] for token in tokens]
        except KeyError as error:  # a vocabulary that was trained on little text may lack bytes
            raise UnicodeError(self.no_token_for(error.args[0], piece)) from None

    def no_token_for(self, token, piece):  # -> str
        """The message for a token that the vocabulary lacks; it names a character that needs it."""

        def needs_it(character):
            spelled = "".join(self.byte_encoder[byte] for byte in character.encode())
            return token in spelled and spelled not in self.encoder

        lacking, byte = filter(needs_it, piece), self.byte_decoder[token[0]]
        found = f"the model's vocabulary has no token for {next(lacking, piece)!r}"
        return f"{found} (byte 0x{byte:02x}): leave it out"

    def merge(self, tokens):  # list of tokens -> list of tokens
        """Merge the pair learned first, the leftmost of several, until none is left."""
        tokens = list(tokens)
        rank = self.bpe_ranks.get
        while len(tokens) > 1:
            ranks = [rank(pair, math.inf) for pair in itertools.pairwise(tokens)]
            first = min(ranks)
            if first == math.inf:
                break
            i = ranks.index(first)
            tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
        return tokens

    def merge_long(self, tokens):  # list of tokens -> list of tokens
        """The same result as `merge`, in n log n steps for n tokens instead of n²: for very long words.

        The pairs are kept in a heap and the tokens in a linked list, so no step has to search through them.
        """
        n = len(tokens)
        tokens = [*tokens, None]  # None is the neighbour of the first token, at -1, and of the last, at n
        before, after = [*range(-1, n)], [*range(1, n + 1), n]

        def rank(i):  # of the pair that starts at i
            return self.bpe_ranks.get((tokens[i], tokens[after[i]]))

        pairs = [(rank(i), i) for i in range(n) if rank(i) is not None]
        heapq.heapify(pairs)
        while pairs:
            rank_then, i = heapq.heappop(pairs)
            if rank(i) != rank_then:
                continue  # in the meantime one of the two has merged with its other neighbour
            merged = after[i]
            tokens[i], tokens[merged] = tokens[i] + tokens[merged], None
            after[i] = after[merged]
            before[after[i]] = i
            for j in (before[i], i):
                if rank(j) is not None:
                    heapq.heappush(pairs, (rank(j), j))
        return [token for token in tokens if token is not None]

    def __reduce__(self):  # for pickle: the arguments, not the tables and the cache, which cannot be pickled
        tokens = [self.decoder[token_id] for token_id in self.stop_ids], self.decoder.get(self.begin_id)
        groups = self.added_groups, self.special_tokens
        return type(self), (self.encoder, [*self.bpe_ranks], self.errors, *tokens, *groups)

    def token_bytes(self, token_id):  # id -> bytes
        """The bytes of a token, which may be only part of a character.

        A token that is neither a byte nor made by a merge is its own text, unless that is the spelling of
        a text's bytes: "Ġq" is " q". Raises ValueError for anything that is not an id.
        """
        token = token_of(token_id, self.decoder)
        spelled = [self.byte_decoder.get(character) for character in token]
        if token in self.literal_tokens and not is_utf8(spelled):
            return token.encode()
        return bytes(spelled)

    def decode(self, ids):  # list of ids -> str
        """The text of some ids: [15496, 11, 995] is "Hello, world" in OpenAI's vocabulary."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", self.errors)

    def decode_stream(self, ids, before=()):  # ids, one at a time -> pieces of text
        """The text of ids as they come: one piece for each id and one for the end.

        A piece is empty while a character is incomplete. Joined, the pieces are what `decode` returns.
        before: the ids that these continue. To a byte-level tokenizer they make no difference.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(self.errors)
        for token_id in ids:
            yield decoder.decode(self.token_bytes(token_id))
        yield decoder.decode(b"", final=True)


def allowed(allowed_special, special_tokens):  # -> set of tokens
    """The special tokens that are to be read as such. Raises ValueError for one that is not special."""
    chosen = special_tokens if allowed_special == "all" else set(allowed_special)
    if not chosen <= special_tokens:
        expected = f"expected 'all' or some of {sorted(special_tokens)}"
        raise ValueError(f"allowed_special is {allowed_special!r}, {expected}")
    return chosen


def without_surrogates(text):  # -> str
    """The text with U+FFFD for each lone surrogate. Raises TypeError for what is not a str."""
    if not isinstance(text, str):
        raise TypeError(f"the text to encode is of type {type(text).__name__}, not str")
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def token_of(token_id, decoder):  # id, {id: token} -> token
    """The token that has an id. Raises ValueError for anything that is not an id."""
    try:
        return decoder[operator.index(token_id)]
    except (KeyError, TypeError):
        raise ValueError(f"{token_id!r} is not an id: ids run from 0 to {len(decoder) - 1}") from None


def is_utf8(numbers):  # list of byte or None -> bool
    """Whether all are bytes, and together the UTF-8 of a text."""
    try:
        bytes(numbers).decode()
    except (TypeError, UnicodeDecodeError):
        return False
    return True


def get_encoder(model_name, models_dir):  # -> Encoder
    """The tokenizer in the folder models_dir/model_name, from its encoder.json and vocab.bpe.

    Raises ModelError unless the two belong together: a truncated file would give wrong ids.
    """
    folder = Path(models_dir) / model_name
    encoder_path, merges_path = folder / "encoder.json", folder / "vocab.bpe"
    bpe_merges = read_merges(merges_path)
    try:
        encoder = vocabulary(bpe_merges)
    except ValueError as error:
        raise ModelError(merges_path, error, AGAIN) from None
    if read_json(encoder_path) != encoder:
        found = f"its ids are not those made by the {len(bpe_merges):,} merges in {merges_path.name}"
        raise ModelError(encoder_path, found, MIXED_UP)
    return Encoder(encoder, bpe_merges)


def write_encoder(folder, encoder):
    """Write encoder.json and vocab.bpe into a folder, so that `get_encoder` can read them."""
    (folder / "encoder.json").write_text(json.dumps(encoder.encoder), encoding="utf-8")
    write_merges(folder / "vocab.bpe", encoder.bpe_ranks)


def vocabulary(bpe_merges):  # -> {token: id}
    """Number the tokens in OpenAI's order: the 256 bytes, what each merge makes, <|endoftext|>.

    Raises ValueError for a merge that is not a new pair of earlier tokens.
    """
    tokens = dict.fromkeys(bytes_to_unicode().values())  # an ordered set
    for number, merge in enumerate(bpe_merges, 1):
        token = "".join(merge)
        if len(merge) != 2 or not tokens.keys() >= {*merge} or token in tokens:
            found = f"merge {number} is {shown(repr(' '.join(merge)))}"
            raise ValueError(f"{found}, not a new pair of earlier tokens")
        tokens[token] = None
    return {token: token_id for token_id, token in enumerate([*tokens, END_OF_TEXT])}


def read_merges(path):  # "vocab.bpe" or "merges.txt" -> list of (token, token)
    """The merges in a file, one per line, in the order learned. Raises ModelError if it is not UTF-8."""
    try:
        lines = read_small(path).splitlines()
    except UnicodeDecodeError as error:
        raise ModelError(path, error, AGAIN) from None
    return [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]


def write_merges(path, bpe_merges):
    """Write merges so that `read_merges` can read them."""
    lines = ["#version: 0.2", *(" ".join(merge) for merge in bpe_merges), ""]
    Path(path).write_bytes("\n".join(lines).encode())
