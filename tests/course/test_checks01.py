"""The checks of notebook 01: the byte alphabet, one merge, merges learned, and what tokens cost."""

import numpy as np
import pytest
from checking import but, written
from helpers import ROOT

from encoder import PIECES, Encoder, bytes_to_unicode, read_merges, vocabulary
from tools import checks01

pytestmark = pytest.mark.filterwarnings("error")
STORIES = (ROOT / "tests" / "stories.txt").read_text(encoding="utf-8")
PAGE = STORIES.partition("<|endoftext|>")[0]


def given_to_checks(prompt, encoder, hparams, params):  # -> {name: arguments}
    """What the notebook gives to a check besides the answer."""
    return {
        "learn_merges": (PAGE,),
        "tokens_in_100_words": (encoder, STORIES),
        "costly_text": (encoder,),
    }


# ---- right answers, written in other ways ------------------------------------------------------------------

COUNT = """
            merges = []
            while len(merges) < n_merges:
                counts = {}
                for piece in pieces:
                    for pair in zip(piece, piece[1:]):
                        counts[pair] = counts.get(pair, 0) + 1
                if not counts:
                    break
                best = max(counts, key=counts.get)
                merges.append(best)
                merged = []
                for piece in pieces:
                    tokens, i = [], 0
                    while i < len(piece):
                        n = 2 if tuple(piece[i:i + 2]) == best else 1
                        tokens.append("".join(piece[i:i + n]))
                        i += n
                    merged.append(tokens)
                pieces = merged
            return merges
"""

MERGING = """
                    tokens, i = [], 0
                    while i < len(piece):
                        n = 2 if tuple(piece[i:i + 2]) == best else 1
                        tokens.append("".join(piece[i:i + n]))
                        i += n
"""
REPLACING = """
                    tokens = " ".join(piece).replace(" ".join(best), "".join(best)).split(" ")
"""

RIGHT = {
    "byte_alphabet": {
        "two lists": """
            visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
            moved = [byte for byte in range(256) if byte not in visible]
            return dict(zip(visible + moved, map(chr, visible + list(range(256, 324)))))
            """,
        "in steps": """
            alphabet = {byte: chr(byte) for byte in range(256)}
            for i, byte in enumerate([*range(33), *range(127, 161), 173]):
                alphabet[byte] = chr(256 + i)
            return alphabet
            """,
    },
    "why_bytes": {"a capital": "return 'C'", "with its bracket": "return ' c) '"},
    "merge_pair": {
        "onto the last token": """
            merged, free = [], False
            for token in tokens:
                if free and (merged[-1], token) == tuple(pair):
                    merged[-1] += token
                    free = False
                else:
                    merged.append(token)
                    free = True
            return merged
            """,
        "with an iterator": """
            a, b = pair
            merged, rest = [], list(tokens)
            while rest:
                token = rest.pop(0)
                if token == a and rest and rest[0] == b:
                    token += rest.pop(0)
                merged.append(token)
            return merged
            """,
        "in a text with spaces around, again and again": """
            text, (a, b) = " " + " ".join(tokens) + " ", pair
            while f" {a} {b} " in text:
                text = text.replace(f" {a} {b} ", f" {a + b} ", 1)
            return text.split()
            """,
        "in a text with two kinds of marks": """
            import re
            if not tokens: return []
            text = " " + "  ".join(tokens) + " "
            a, b = (" " + re.escape(token) + " " for token in pair)
            return re.sub(a + b, lambda found: " " + "".join(pair) + " ", text)[1:-1].split("  ")
            """,
    },
    "learn_merges": {
        "by a loop": COUNT,
        "with a Counter": but(COUNT, "counts = {}", "from collections import Counter; counts = Counter()"),
        "most_common": but(
            COUNT, "counts = {}", "from collections import Counter; counts = Counter()"
        ).replace("max(counts, key=counts.get)", "counts.most_common(1)[0][0]"),
        "each piece once, with its number": but(
            COUNT,
            "for piece in pieces:\n                    for pair",
            "from collections import Counter\n"
            "                for piece, n in Counter(map(tuple, pieces)).items():\n"
            "                    for pair",
        ).replace("counts.get(pair, 0) + 1", "counts.get(pair, 0) + n"),
        "as a tuple": but(COUNT, "return merges", "return tuple(merges)"),
    },
    "tokens_in_100_words": {"a little less": "return 112", "a little more": "return 151.0"},
    "costly_text": {
        "one character": "return chr(0x12000)",
        "another kind": "return chr(0x20000) + chr(0x13000)",
        "a wolf": "return '🐺'",
    },
}

# ---- wrong answers: what a learner writes, and what must be said about it ----------------------------------

VISIBLE = "visible = [b for b in range(256) if chr(b).isprintable() and b != 32]; "

SKIP = """
            merged, i = [], 0
            while i < len(tokens):
                if tuple(tokens[i:i + 2]) == tuple(pair):
                    merged.append("".join(pair)); i += 2
                else:
                    merged.append(tokens[i]); i += 1
            return merged
"""

WRONG = {
    "byte_alphabet": {
        "as they are": (
            "return {b: chr(b) for b in range(256)}",
            "The character for byte 0 cannot be seen",
        ),
        "the space stays": (
            "d = {b: chr(b) for b in range(33, 256)}; others = [*range(32), *range(127, 161), 173]\n"
            "d |= {b: chr(256 + i) for i, b in enumerate(others)}\nd[32] = ' '\nreturn d",
            "The space has to move: in a file of merges, spaces separate the tokens",
        ),
        "the soft hyphen": (
            "v = [*range(33, 127), *range(161, 256)]; d = {b: chr(b) for b in v}\n"
            "return d | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in v)}",
            "Byte 173 is the soft hyphen",
        ),
        "256 + byte": (
            VISIBLE + "return {b: chr(b) if b in visible else chr(256 + b) for b in range(256)}",
            "without gaps, not 256 + byte",
        ),
        "one too far": (
            VISIBLE + "others = [b for b in range(256) if b not in visible]\n"
            "return {b: chr(b) for b in visible} | {b: chr(257 + i) for i, b in enumerate(others)}",
            "One too far: the first byte that moves becomes chr(256)",
        ),
        "all moved": ("return {b: chr(256 + b) for b in range(256)}", "Byte 33 is a visible character"),
        "only ASCII stays": (
            "v = [*range(33, 127)]; d = {b: chr(b) for b in v}\n"
            "return d | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in v)}",
            "Byte 161 is a visible character in Latin-1, '¡', so it keeps it",
        ),
        "from the end": (
            VISIBLE + "others = [b for b in range(255, -1, -1) if b not in visible]\n"
            "return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(others)}",
            "one character a byte, but not GPT-2's",
        ),
        "a dot for the others": (
            VISIBLE + "return {b: chr(b) if b in visible else '·' for b in range(256)}",
            "Bytes 0 and 1 have the same character",
        ),
        "the visible ones only": (
            VISIBLE + "return {b: chr(b) for b in visible}",
            "68 of the 256 bytes have no character; byte 0 (0x00) is the first",
        ),
        "255 bytes": (
            "return {b: chr(256 + b) for b in range(255)}",
            "1 of the 256 bytes has no character; byte 255",
        ),
        "bytes as keys": (
            "return {bytes([b]): chr(b) for b in range(256)}",
            "The keys should be whole numbers, 0 to 255, but b'\\x00' is one",
        ),
        "right only once": (
            """
            global n
            n, alphabet = globals().get("n", 256), {}
            for byte in range(256):
                if chr(byte).isprintable() and byte != 32:
                    alphabet[byte] = chr(byte)
                else:
                    alphabet[byte] = chr(n)
                    n += 1
            return alphabet
            """,
            "Right, but only once: called again",
        ),
        "257 bytes": (
            "return {b: chr(256 + b) for b in range(257)}",
            "There are 256 bytes, 0 to 255, but 256 is a key too",
        ),
        "the wrong way round": (
            "return {chr(256 + b): b for b in range(256)}",
            "the wrong way round: its keys should be the bytes",
        ),
        "a list": ("return [chr(256 + b) for b in range(256)]", "It should return a dict"),
        "numbers": ("return {b: 256 + b for b in range(256)}", "should have one character, but it has 256"),
        "bytes": ("return {b: bytes([b]) for b in range(256)}", "byte 0 (0x00) should have one character"),
        "two characters": (
            "return {b: f'{b:02x}' for b in range(256)}",
            "byte 0 (0x00) should have one character, but it has '00'",
        ),
        "nothing returned": ("alphabet = {}", "it returned None"),
    },
    "why_bytes": {
        "shorter": ("return 'a'", "no text has fewer bytes than characters"),
        "numbers": ("return 'b'", "ord(character) is a number too"),
        "whole characters": ("return 'd'", "The opposite"),
        "all": ("return 'abcd'", "Return one of the letters a, b, c, d"),
        "a number": ("return 3", "Return one of the letters"),
        "nothing": ("pass", "Return one of the letters"),
        "a set": ("return {'c'}", "Return one of the letters"),
    },
    "merge_pair": {
        "unchanged": ("return list(tokens)", "The pair is not merged"),
        "the first only": (
            """
            for i in range(len(tokens) - 1):
                if (tokens[i], tokens[i + 1]) == pair:
                    return tokens[:i] + [tokens[i] + tokens[i + 1]] + tokens[i + 2:]
            return list(tokens)
            """,
            "Only the first pair is merged",
        ),
        "the second stays": (
            "return [a + b if (a, b) == pair else a for a, b in zip(tokens, tokens[1:] + [''])]",
            "The second token of the pair is still there",
        ),
        "the second stays, and the last is lost": (
            "return [a + b if (a, b) == pair else a for a, b in zip(tokens, tokens[1:])]",
            "The last token is lost, and one is used twice",
        ),
        "the last is lost": (
            but(SKIP, "i < len(tokens)", "i < len(tokens) - 1"),
            "The last token is lost",
        ),
        "used twice": (
            """
            merged, last = [], False
            for a, b in zip(tokens, tokens[1:] + [None]):
                if (a, b) == pair:
                    merged.append(a + b)
                elif not last:
                    merged.append(a)
                last = (a, b) == pair
            return merged
            """,
            "A token is used twice",
        ),
        "from the right": (
            """
            merged, i = [], len(tokens)
            while i > 0:
                n = 2 if tuple(tokens[max(i - 2, 0):i]) == pair else 1
                merged.insert(0, "".join(tokens[i - n:i]))
                i -= n
            return merged
            """,
            "of overlapping pairs the left one is merged",
        ),
        "either way": (
            but(SKIP, "== tuple(pair)", "in (pair, pair[::-1])").replace(
                '"".join(pair)', '"".join(tokens[i:i + 2])'
            ),
            "(a, b) is a followed by b, not b by a",
        ),
        "in a text with spaces": (
            'return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" ")',
            "The pair is found inside longer tokens",
        ),
        "in a text with spaces, split": (
            'return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split()',
            "The pair is found inside longer tokens",
        ),
        "in a text": (
            """
            first, *others = "".join(tokens).split("".join(pair))
            merged = list(first)
            for part in others:
                merged += ["".join(pair), *part]
            return merged
            """,
            "The pair is found inside longer tokens",
        ),
        "at the first that could begin it": (
            """
            merged, rest = [], list(tokens)
            while pair[0] in rest:
                i = rest.index(pair[0])
                if rest[i:i + 2] != list(pair):
                    break
                merged += [*rest[:i], "".join(pair)]
                rest = rest[i + 2:]
            return merged + rest
            """,
            "The pair is not merged: each place",
        ),
        "by the letters of two tokens": (
            but(SKIP, "tuple(tokens[i:i + 2]) == tuple(pair)", "''.join(tokens[i:i + 2]) == ''.join(pair)"),
            "The pair is found inside longer tokens",
        ),
        "in a text, with spaces around": (
            """
            text = " " + " ".join(tokens) + " "
            return text.replace(" " + " ".join(pair) + " ", " " + "".join(pair) + " ").split()
            """,
            "Only the first pair is merged: continue right behind it. (In a text, pairs in a row share",
        ),
        "by a pattern": (
            """
            import re
            pattern = r"(?<!\\S)" + " ".join(pair) + r"(?!\\S)"
            return re.sub(pattern, lambda found: found[0].replace(" ", ""), " ".join(tokens)).split()
            """,
            "Each token is a text, not a pattern",
        ),
        "in a text with bars": (
            """
            text, (a, b) = "|" + "|".join(tokens) + "|", pair
            while f"|{a}|{b}|" in text:
                text = text.replace(f"|{a}|{b}|", f"|{a + b}|", 1)
            return text[1:-1].split("|") if tokens else []
            """,
            "What you write between tokens can be a token too",
        ),
        "taken out": (
            but(SKIP, 'merged.append("".join(pair)); i += 2', "i += 2"),
            "The pair is gone",
        ),
        "a pair in the list": (
            but(SKIP, 'merged.append("".join(pair))', "merged.append(pair)"),
            "There is a pair in the list: join it",
        ),
        "one text": ('return "".join(tokens)', "It should return a list of tokens: it is 'ab'"),
        "a tuple": (
            but(SKIP, "return merged", "return tuple(merged)"),
            "It should return a list of tokens",
        ),
        "not for one token": (
            but(SKIP, "merged, i = [], 0", "merged, i = [], 0 if len(tokens) > 1 else 2"),
            "Without two tokens there is nothing to merge",
        ),
        "in place": (
            """
            i = 0
            while i < len(tokens) - 1:
                if (tokens[i], tokens[i + 1]) == pair:
                    tokens[i:i + 2] = [tokens[i] + tokens[i + 1]]
                i += 1
            return tokens
            """,
            "changes the list that it was given",
        ),
        "nothing returned": ("merged = list(tokens)", "It returned None"),
        "a token too far": (
            but(SKIP, "tuple(tokens[i:i + 2])", "(tokens[i], tokens[i + 1])"),
            "raised IndexError",
        ),
    },
    "learn_merges": {
        "across pieces": (
            but(
                COUNT,
                "for piece in pieces:\n                    for pair in zip(piece, piece[1:]):",
                "text = [token for piece in pieces for token in piece]\n"
                "                if text:\n                    for pair in zip(text, text[1:]):",
            ),
            "That counts pairs across pieces",
        ),
        "each piece once": (
            but(
                COUNT,
                "for piece in pieces:\n                    for pair",
                "for piece in dict.fromkeys(map(tuple, pieces)):\n                    for pair",
            ),
            "That counts each different piece once",
        ),
        "overlaps not counted": (
            but(
                COUNT,
                "for pair in zip(piece, piece[1:]):\n"
                "                        counts[pair] = counts.get(pair, 0) + 1",
                "i = 0\n                    while i < len(piece) - 1:\n"
                "                        pair = piece[i], piece[i + 1]\n"
                "                        counts[pair] = counts.get(pair, 0) + 1\n"
                "                        i += 2 if piece[i:i + 3] == [pair[0]] * 3 else 1",
            ),
            "Overlaps count: aaaa has the pair (a, a) three times",
        ),
        "once a piece": (
            but(COUNT, "in zip(piece, piece[1:])", "in dict.fromkeys(zip(piece, piece[1:]))"),
            "That counts a pair once a piece",
        ),
        "merged in a text": (
            but(COUNT, MERGING, REPLACING),
            "The pair is found inside longer tokens",
        ),
        "merged in a text with bars": (
            but(
                COUNT,
                MERGING,
                """
                    text, old = "|" + "|".join(piece) + "|", "|" + "|".join(best) + "|"
                    while old in text:
                        text = text.replace(old, "|" + "".join(best) + "|", 1)
                    tokens = text[1:-1].split("|")
""",
            ),
            "The merges differ",
        ),
        "merged by a pattern": (
            but(
                COUNT,
                MERGING,
                """
                    import re
                    pattern = r"(?<!\\S)" + " ".join(best) + r"(?!\\S)"
                    tokens = re.sub(pattern, "".join(best), " ".join(piece)).split()
""",
            ),
            "The merges differ",
        ),
        "merged by the letters": (
            but(COUNT, "tuple(piece[i:i + 2]) == best", "''.join(piece[i:i + 2]) == ''.join(best)"),
            "The same letters are not the same tokens",
        ),
        "lists of two": (
            but(COUNT, "return merges", "return [list(pair) for pair in merges]"),
            "Make each pair a tuple, (a, b)",
        ),
        "of ties the last": (
            but(COUNT, "max(counts, key=counts.get)", "sorted(counts, key=counts.get)[-1]"),
            "neither the last nor one chosen by the alphabet",
        ),
        "of ties the first of the alphabet": (
            but(COUNT, "max(counts, key=counts.get)", "min(counts, key=lambda p: (-counts[p], p))"),
            "neither the last nor one chosen by the alphabet",
        ),
        "of ties the last of the alphabet": (
            but(COUNT, "max(counts, key=counts.get)", "max((n, p) for p, n in counts.items())[1]"),
            "neither the last nor one chosen by the alphabet",
        ),
        "counted once": (
            """
            counts = {}
            for piece in pieces:
                for pair in zip(piece, piece[1:]):
                    counts[pair] = counts.get(pair, 0) + 1
            return sorted(counts, key=counts.get, reverse=True)[:n_merges]
            """,
            "Count again after each merge",
        ),
        "not merged": (
            but(COUNT, "pieces = merged", "pass"),
            "The same pair is learned again and again",
        ),
        "the rarest": (
            but(COUNT, "max(counts", "min(counts"),
            "That is the rarest pair",
        ),
        "turned around": (
            but(COUNT, "return merges", "return [pair[::-1] for pair in merges]"),
            "The pairs are the wrong way round",
        ),
        "the last first": (
            but(COUNT, "return merges", "return merges[::-1]"),
            "in the wrong order: the first learned comes first",
        ),
        "the tokens": (
            but(COUNT, "return merges", "return [a + b for a, b in merges]"),
            "Return pairs, (a, b), not tokens",
        ),
        "ranks": (
            but(COUNT, "return merges", "return {pair: i for i, pair in enumerate(merges)}"),
            "but it returned a dict",
        ),
        "with counts": (
            but(COUNT, "return merges", "return [(pair, 1) for pair in merges]"),
            "Each merge should be a pair of tokens",
        ),
        "not if it occurs once": (
            but(COUNT, "if not counts:", "if max(counts.values(), default=0) < 2:"),
            "That is 0 of 1 merges",
        ),
        "merged from the right": (
            but(
                COUNT,
                MERGING,
                """
                    tokens, i = [], len(piece)
                    while i > 0:
                        n = 2 if tuple(piece[max(i - 2, 0):i]) == best else 1
                        tokens.insert(0, "".join(piece[i - n:i]))
                        i -= n
""",
            ),
            "That merges from the right",
        ),
        "one too few": (but(COUNT, "< n_merges", "< n_merges - 1"), "That is 0 of 1 merges"),
        "one too many": (but(COUNT, "< n_merges", "< n_merges + 1"), "That is 2 merges"),
        "without an end": (
            but(COUNT, "if not counts:\n                    break", ""),
            "raised ValueError: max() ",
        ),
        "the pieces": (but(COUNT, "return merges", "return pieces"), "should be a pair of tokens"),
        "in place": (
            but(COUNT, "pieces = merged", "pieces[:] = merged"),
            "changes the pieces that it was given",
        ),
        "in the pieces": (
            but(COUNT, "merged.append(tokens)", "piece[:] = tokens; merged.append(piece)"),
            "changes the pieces that it was given",
        ),
        "nothing returned": (but(COUNT, "return merges", ""), "It returned None"),
    },
    "tokens_in_100_words": {
        "a token a word": ("return 100", "too low, by more than a factor of 1.2. Punctuation"),
        "fewer": ("return 75", "too low"),
        "letters": ("return 500", "too high, by more than a factor of 1.2. Most words"),
        "two a word": ("return 200", "too high"),
        "a share": ("return 1.3", "too low"),
        "a word": ("return '130'", "Return a positive number of tokens"),
        "nothing": ("pass", "Return a positive number of tokens"),
    },
    "costly_text": {
        "letters": ("return 'x' * 12", "Each of these characters is one byte"),
        "digits": ("return '123456789012'", "no byte is more than one token"),
        "accents": ("return 'éèêëàâäùûüôö'", "Most of these characters are one or two bytes"),
        "Chinese": ("return '狼看着月亮'", "Characters of three bytes cost three tokens at most"),
        "thirteen": ("return '🐺' * 13", "The text has 13 characters; it may have 1 to 12"),
        "empty": ("return ''", "The text has 0 characters"),
        "a surrogate": ("return chr(0xD83D) * 12", "a lone surrogate is half a character"),
        "bytes": ("return b'\\xf0\\x9f'", "It should return a text"),
        "nothing": ("pass", "It should return a text, but it returned None"),
    },
}

FIRST_SHOWN = [
    ("byte_alphabet", "the soft hyphen", "byte      173 (0xad)"),
    ("merge_pair", "the first only", "tokens    ['a', 'b', 'a', 'b']"),
    ("merge_pair", "from the right", "tokens    ['a', 'a', 'a']"),
    ("merge_pair", "in a text with spaces", "tokens    ['a', 'bc']"),
    ("learn_merges", "of ties the last", "pieces    'xy ab'"),
    ("learn_merges", "across pieces", "pieces    'a b a b cd'"),
    ("learn_merges", "counted once", "pieces    'the hen the she'"),
    ("costly_text", "Chinese", "text      '狼看着月亮': 3.00 tokens a character"),
]

# ---- what the checks rely on -------------------------------------------------------------------------------


def test_the_slow_merge_and_the_packages_give_the_same_tokens(tiny):
    encoder = tiny[0]
    for tokens in checks01.spell(PAGE[:300]):
        merged = tokens
        for pair in encoder.bpe_ranks:
            merged = checks01.slow_merge(merged, pair)
        assert merged == encoder.merge(tokens)


def test_the_slow_merges_make_a_vocabulary_that_encodes_the_page():
    merges = checks01.slow_merges(checks01.spell(PAGE), 20)
    encoder = Encoder(vocabulary(merges), merges)
    assert len(merges) == len(set(merges)) == 20
    assert encoder.decode(encoder.encode(PAGE)) == PAGE
    assert len(encoder.encode(PAGE)) < 0.8 * len(PAGE)


def test_a_learned_merge_is_the_most_frequent_pair_of_neighbours_in_a_piece():
    pieces = checks01.spell(PAGE)
    for pair in checks01.slow_merges(pieces, 5):
        counts = {}
        for piece in pieces:
            for a, b in zip(piece, piece[1:]):
                counts[a, b] = counts.get((a, b), 0) + 1
        assert counts[pair] == max(counts.values())
        pieces = [checks01.slow_merge(piece, pair) for piece in pieces]


def test_pieces_are_spelled_as_the_package_spells_them():
    text = "Dón't 🐺 x"
    spelled = ["".join(tokens) for tokens in checks01.spell(text)]
    byte = {character: byte for byte, character in bytes_to_unicode().items()}
    assert b"".join(bytes(byte[c] for c in piece) for piece in spelled).decode() == text
    assert len(spelled) == len(PIECES.findall(text))


def test_a_rare_character_costs_more_than_the_sentences_in_openais_vocabulary_too(capsys):
    folder = ROOT / "models" / "124M"
    if not (folder / "vocab.bpe").exists():
        pytest.skip("models/124M/vocab.bpe is not here")
    merges = read_merges(folder / "vocab.bpe")
    encoder = Encoder(vocabulary(merges), merges)
    for body, words in (("return chr(0x12000)", "passes."), ("return '狼'", "not yet.")):
        checks01.costly_text(written("costly_text", body), encoder)
        assert f"costly_text: {words}" in capsys.readouterr().out
    checks01.tokens_in_100_words(written("tokens_in_100_words", "return 130"), encoder, STORIES)
    assert "passes." in capsys.readouterr().out


def test_odd_members_of_what_is_returned_are_reported(verdict):
    assert "a list of tokens" in verdict("merge_pair", lambda tokens, pair: [np.zeros(2)])
    assert "a pair of tokens" in verdict("learn_merges", lambda pieces, n_merges: [np.zeros(2), None])
    assert "a dict" in verdict("byte_alphabet", lambda: [("a", 1)])
