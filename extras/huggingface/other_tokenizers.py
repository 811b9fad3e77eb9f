"""Tokenizers of other kinds than GPT-2's: WordPiece, Unigram, sentencepiece, whole words, characters.

The library that made a tokenizer makes the ids and the texts here too: tokenizers, from a tokenizer.json, or
sentencepiece, from a spiece.model. A token is a piece of text, not of bytes. What it adds to a text depends
on its place: most kinds leave out the space before the first word. Some texts do not come back as they were:
letters may be lower-cased, spaces dropped, characters unknown.

(https://huggingface.co/docs/tokenizers, "Components"; Kudo and Richardson 2018, "SentencePiece")
"""

import functools
import operator
import re

from encoder import allowed, token_of, without_surrogates
from extras.huggingface.prepared import errors_of_library, library_tokenizer

A_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a token for one byte of a character that has no token
LOST = "\ufffd"  # how libraries write bytes that are not a character, or not yet
# each loses the space before it, in the order of transformers
CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
UNSETTLED = re.compile(r"(?: [ 'nvr]*)?\Z")  # an end of a text that may be the beginning of one of these
PARTS = ("normalizer", "pre_tokenizer", "decoder", "model")  # the parts of a tokenizer.json that matter here


class OtherEncoder:
    """A tokenizer with the methods of `encoder.Encoder`.

    library: `Tokenizers`, or `sentencepiece_files.SentencePiece`. encoder: {token: id} for each row of the
    embedding. special_tokens: those that are not text. cleans_up: whether texts lose the spaces before
    punctuation, as in transformers if clean_up_tokenization_spaces is set. For `export`, files: {name: path},
    those that it was read from; tokenizer_class: its class in transformers.
    """

    is_exact = False  # see the top of this file

    def __init__(
        self,
        library,
        encoder,
        special_tokens,
        stop_tokens=(),
        begin_token=None,
        cleans_up=False,
        files=None,
        tokenizer_class=None,
    ):
        self.library, self.encoder, self.special_tokens = library, encoder, set(special_tokens)
        self.decoder = {token_id: token for token, token_id in encoder.items()}
        self.stop_ids = {encoder[token] for token in stop_tokens if token in encoder}
        self.begin_id = encoder.get(begin_token)
        self.cleans_up, self.files, self.tokenizer_class = cleans_up, files or {}, tokenizer_class

    def encode(self, text, allowed_special=(), n_most=None):  # str -> list of ids
        """The ids of a text. Raises what `Encoder.encode` does.

        n_most makes no difference: some kinds leave out most of a text, so its length proves nothing.
        """
        text, special = without_surrogates(text), allowed(allowed_special, self.special_tokens)
        return self.library.encode(text, frozenset(special))

    def decode(self, ids):  # list of ids -> str
        """The text of some ids, without special tokens."""
        text = self.raw_text(ids)
        return cleaned(text) if self.cleans_up else text

    def raw_text(self, ids):  # list of ids -> str
        """The text of some ids as the library has it. Raises ValueError for anything that is not an id."""
        return self.library.decode([operator.index(i) for i in ids if not self.is_hidden(i)])

    def is_hidden(self, token_id):  # -> bool
        """Whether a token is special, and so not in the text. Raises ValueError for what is not an id."""
        return token_of(token_id, self.decoder) in self.special_tokens

    def token_bytes(self, token_id):  # id -> bytes
        """The bytes that a token adds to a text after a token of its own kind; of a special token, its name.

        At the beginning of a text it may add fewer: these bytes, joined, need not be the text.
        """
        token = token_of(token_id, self.decoder)
        byte = A_BYTE.fullmatch(token)
        if byte or token in self.special_tokens:
            return bytes.fromhex(byte[1]) if byte else token.encode()
        return self.raw_text([token_id] * 2)[len(self.raw_text([token_id])) :].encode()

    def decode_stream(self, ids, before=()):  # ids, one at a time -> pieces of text
        """The text of ids as they come: one piece for each id and one for the end.

        before: the ids that these continue, so that the first word keeps its space.
        """
        unsettled = ""
        for piece, is_last in self.raw_pieces(ids, before):
            text = unsettled + piece
            n_settled = UNSETTLED.search(text).start() if self.cleans_up and not is_last else len(text)
            unsettled = text[n_settled:]
            yield cleaned(text[:n_settled]) if self.cleans_up else text[:n_settled]

    def raw_pieces(self, ids, before):  # yields pieces of text, each with whether it is the last
        """What each id adds to the text, and then what is left at the end.

        What an id adds depends on those before it, back to the last word: only these are decoded again. A
        part of a character waits for the rest: some libraries write a whole row of bytes as lost if one is.
        """
        context, new = [*before], []
        of_context = self.raw_text(context)
        n_written = len(of_context)
        for token_id in ids:
            new.append(token_id)
            waits = self.is_hidden(token_id) or A_BYTE.fullmatch(self.decoder[token_id])
            text = "" if waits else self.raw_text(context + new)
            if waits or text.endswith(LOST):
                yield "", False
                continue
            piece = text[n_written:]
            yield piece, False
            if piece.strip():  # it has a word: these ids are all the context that the next one needs
                context, of_context = new, self.raw_text(new)
            has_word = bool(of_context.strip())  # then what follows a blank is the same without the blank
            new, n_written = ([], len(of_context)) if has_word else (new, len(text))
        yield self.raw_text(context + new)[n_written:], True


def cleaned(text):  # -> str
    """The text without the spaces that transformers takes out where clean_up_tokenization_spaces is set."""
    for pattern in CLEANED:
        text = text.replace(pattern, pattern.strip())
    return text


class Tokenizers:
    """What the tokenizers library makes of a tokenizer.json. Raises ValueError for what it does not accept.

    settings: the content of that file; added_tokens: in place of its own, in the order of their ids.
    """

    def __init__(self, settings, added_tokens):
        self.settings = {part: settings.get(part) for part in PARTS}
        self.added_tokens = added_tokens
        self.that_reads = functools.lru_cache(maxsize=8)(self.that_reads)  # each is made once
        self.tokenizer = self.that_reads(frozenset())

    def __reduce__(self):
        return type(self), (self.settings, self.added_tokens)

    def that_reads(self, special):  # set of tokens -> tokenizers.Tokenizer
        """The library's tokenizer that finds these special tokens in a text, and takes others for plain text.

        The library can only find all special tokens or none: so these are declared not to be special.
        """
        added = [
            token | {"special": token["special"] and token["content"] not in special}
            for token in self.added_tokens
        ]
        tokenizer = library_tokenizer(self.settings | {"version": "1.0", "added_tokens": added})
        tokenizer.encode_special_tokens = True  # as plain text
        return tokenizer

    def encode(self, text, special):  # str, set of tokens -> list of ids
        with errors_of_library():
            return self.that_reads(special).encode(text, add_special_tokens=False).ids

    def decode(self, ids):  # -> str
        with errors_of_library():
            return self.tokenizer.decode(ids)
