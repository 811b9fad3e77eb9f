"""The checks of notebook 01: the byte alphabet, one merge, merges learned, and what tokens cost."""

import copy
from itertools import groupby, pairwise
from numbers import Integral

from encoder import PIECES, bytes_to_unicode
from tools.judging import NotYet, check, choose, estimate, short

SENTENCES = {  # the same one in several languages
    "English": "The wolf looked at the moon.",
    "German": "Der Wolf sah den Mond an.",
    "Polish": "Wilk spojrzał na księżyc.",
    "Greek": "Ο λύκος κοίταξε το φεγγάρι.",
    "Russian": "Волк посмотрел на луну.",
    "Hindi": "भेड़िये ने चाँद को देखा।",
    "Chinese": "狼看着月亮。",
}
LONGEST = 12  # characters in a text that is to cost much


def spell(text, alphabet=None):  # str -> list of lists of tokens
    """Each piece of a text as its bytes, spelled in the byte alphabet: what the first merge starts from."""
    alphabet = alphabet or bytes_to_unicode()
    return [[alphabet[byte] for byte in piece.encode()] for piece in PIECES.findall(text)]


def cost(text, encoder):  # -> tokens a character
    return len(encoder.encode(text)) / len(text)


# ---- the byte alphabet -------------------------------------------------------------------------------------


@check
def byte_alphabet(f):
    """f() -> {byte: character}, the one of GPT-2."""
    found = f()
    if not isinstance(found, dict):
        raise NotYet(f"It should return a dict, {{byte: character}}, but it returned {short(found)}.")
    if found and all(isinstance(key, str) for key in found):
        raise NotYet("The dict is the wrong way round: its keys should be the bytes, 0 to 255.")
    for key in found:
        if not isinstance(key, Integral):
            raise NotYet(f"The keys should be whole numbers, 0 to 255, but {short(key)} is one.")
    missing = [byte for byte in range(256) if byte not in found]
    if missing:
        some = f"{len(missing)} of the 256 bytes {'has' if len(missing) == 1 else 'have'} no character"
        raise NotYet(f"{some}; {named(missing[0])} is the first.")
    if len(found) > 256:
        extra = [key for key in found if key not in range(256)]
        raise NotYet(f"There are 256 bytes, 0 to 255, but {short(extra[0])} is a key too.")
    for byte, character in found.items():
        if not isinstance(character, str) or len(character) != 1:
            raise NotYet(f"{named(byte)} should have one character, but it has {short(character)}.")
    expected = bytes_to_unicode()
    wrong = [byte for byte in range(256) if found[byte] != expected[byte]]
    if wrong:
        byte = min(wrong, key=lambda byte: (not invisible(found[byte]), byte))
        lines = {"byte": f"{byte} (0x{byte:02x})", "expected": spelled(expected[byte])}
        lines["got"] = spelled(found[byte])
        raise NotYet(why_not_this_character(byte, found, expected) + listed(lines))
    if f() != expected:
        raise NotYet("Right, but only once: called again it returns another dict. Begin each time anew.")


def named(byte):
    return f"byte {byte} (0x{byte:02x})"


def spelled(character):  # -> str
    """A character that can be seen as it is, and its number."""
    seen = character if not invisible(character) else ascii(character)
    return f"{seen}  U+{ord(character):04X}"


def invisible(character):
    return character.isspace() or not character.isprintable()


def why_not_this_character(byte, found, expected):  # -> str
    """The likely cause of a wrong character."""
    character = found[byte]
    if byte == 173 and character == "\xad":
        return "Byte 173 is the soft hyphen, which is not printed: it has to move, too."
    if byte == ord(" ") and character == " ":
        return "The space has to move: in a file of merges, spaces separate the tokens."
    if invisible(character):
        return f"The character for byte {byte} cannot be seen: a token with it could not be printed."
    first = {}
    for other, its in found.items():
        if its in first:
            return f"Bytes {first[its]} and {other} have the same character: which of the two would it mean?"
        first[its] = other
    if expected[byte] == chr(byte):
        return f"Byte {byte} is a visible character in Latin-1, {chr(byte)!r}, so it keeps it."
    if character == chr(256 + byte):
        return "The bytes that move are numbered 256, 257, ... without gaps, not 256 + byte."
    if ord(character) == ord(expected[byte]) + 1:
        return "One too far: the first byte that moves becomes chr(256)."
    return "That is one character a byte, but not GPT-2's: those that move become chr(256), chr(257), ..."


# ---- a sentence --------------------------------------------------------------------------------------------


@check
def why_bytes(f):
    """f() -> the letter of the sentence that says why tokens are made of bytes."""
    return choose(
        f,
        "c",
        {
            "a": "A character is one byte at least, and up to four: no text has fewer bytes than characters.",
            "b": "ord(character) is a number too. The model needs ids in either case, and would get them.",
            "d": "The opposite: where no merge joins the bytes of a character, each of them is a token.",
        },
    )


# ---- one merge ---------------------------------------------------------------------------------------------


def slow_merge(tokens, pair):  # list of tokens, (token, token) -> list of tokens
    """Merge a pair of neighbours, from left to right, each token at most once."""
    merged, i = [], 0
    while i < len(tokens):
        n = 2 if tuple(tokens[i : i + 2]) == tuple(pair) else 1
        merged.append("".join(tokens[i : i + n]))
        i += n
    return merged


MERGES = (  # tokens, pair: the smallest first
    ("ab", "ab"),
    ("abc", "ab"),
    ("cab", "ab"),
    ("abab", "ab"),
    ("ba", "ab"),
    ("aaa", "aa"),
    ("aaaaa", "aa"),
    (("he", "he", "he"), ("he", "he")),
    ("aab", "ab"),
    ("bca", "ab"),
    ("bbab", "ab"),
    (("t", "he", "r", "e"), ("t", "he")),
    (("t", "h", "e"), ("t", "he")),
    (("a", "bc"), "ab"),
    (("ca", "b"), "ab"),
    (("ab", "c"), ("a", "bc")),  # the same letters, other tokens
    ("xa", ".a"),
    (",|_-/ab", "ab"),  # what may be written between tokens can be one
    (("Ġt", "he", "Ġt", "he"), ("Ġt", "he")),
    ("a", "ab"),
    ("", "ab"),
)


@check
def merge_pair(f):
    """f(tokens, pair) -> the tokens, with each pair of such neighbours merged into one."""
    for tokens, pair in MERGES:
        tokens, pair = list(tokens), tuple(pair)
        given = list(tokens)
        found = f(given, pair)
        if given != tokens:
            raise NotYet("Your function changes the list that it was given: build a new one.")
        expected = slow_merge(tokens, pair)
        why = why_not_tokens(found)
        if why or found != expected:
            lines = {"tokens": tokens, "pair": pair, "expected": expected, "got": short(found)}
            raise NotYet((why or why_not_merged(found, tokens, pair)) + listed(lines))


def is_list_of(value, kind, lists=(list, tuple)):
    return isinstance(value, lists) and all(isinstance(item, kind) for item in value)


def why_not_tokens(found):  # -> str
    """Why this is not a list of tokens, if it is not."""
    if found is None:
        return "It returned None: is a return missing?"
    if isinstance(found, list) and any(isinstance(token, (list, tuple)) for token in found):
        return "There is a pair in the list: join it into one token, a + b."
    return "" if is_list_of(found, str, list) else f"It should return a list of tokens: it is {short(found)}."


def why_not_merged(found, tokens, pair):  # -> str
    """The likely cause of a wrong list of tokens."""
    if "|" in tokens:
        return "What you write between tokens can be a token too: a space cannot, but compare whole tokens."
    for why, mistakes in WRONG_MERGES.items():
        if any(mistake(tokens, pair) == found for mistake in mistakes):
            return why
    return "The tokens differ."


def merged_once(tokens, pair):
    for i in range(len(tokens) - 1):
        if tuple(tokens[i : i + 2]) == pair:
            return [*tokens[:i], "".join(pair), *tokens[i + 2 :]]
    return tokens


def merged_from_the_right(tokens, pair):
    merged = slow_merge(tokens[::-1], pair[::-1])
    return ["".join(pair) if token == "".join(pair[::-1]) else token for token in merged[::-1]]


def merged_overlapping(tokens, pair):
    merged, last = [], False
    for a, b in pairwise([*tokens, None]):
        if (a, b) == pair:
            merged.append(a + b)
        elif not last:
            merged.append(a)
        last = (a, b) == pair
    return merged


def merged_without_skip(tokens, pair):
    return [a + b if (a, b) == pair else a for a, b in pairwise([*tokens, None])]


def merged_either_way(tokens, pair):
    merged, i = [], 0
    while i < len(tokens):
        n = 2 if tuple(tokens[i : i + 2]) in (pair, pair[::-1]) else 1
        merged.append("".join(tokens[i : i + n]))
        i += n
    return merged


def merged_in_text(tokens, pair):
    """As by replacing in one text with spaces, where other tokens may end or begin like those of the pair."""
    return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" ") if tokens else [""]


def merged_in_letters(tokens, pair):
    """As by searching in the text without spaces: it finds the pair wherever the letters are."""
    parts = "".join(tokens).split("".join(pair))
    return [*parts[0], *(token for part in parts[1:] for token in ["".join(pair), *part])]


def merged_by_letters(tokens, pair):
    merged, i = [], 0
    while i < len(tokens):
        n = 2 if "".join(tokens[i : i + 2]) == "".join(pair) else 1
        merged.append("".join(tokens[i : i + n]))
        i += n
    return merged


WRONG_MERGES = {  # {why: what wrong functions do}
    "Without two tokens there is nothing to merge: return the tokens as they are.": [
        lambda tokens, _: [] if len(tokens) < 2 else None,
        lambda tokens, _: [""] if len(tokens) < 2 else None,
    ],
    "The pair is not merged: each place where it occurs should become one token.": [lambda tokens, _: tokens],
    "Only the first pair is merged: continue right behind it. (In a text, pairs in a row share a space.)": [
        merged_once
    ],
    "A token is used twice: after a merge, continue after both of its tokens.": [merged_overlapping],
    "The second token of the pair is still there: skip it.": [merged_without_skip],
    "That merges from the right: of overlapping pairs the left one is merged.": [merged_from_the_right],
    "The order counts: (a, b) is a followed by b, not b by a.": [merged_either_way],
    "The pair is found inside longer tokens: compare whole tokens, not their letters.": [
        merged_in_text,
        merged_in_letters,
        merged_by_letters,
    ],
    "Each token is a text, not a pattern: . is a dot, not any character.": [
        lambda tokens, pair: ["".join(tokens)] if "." in pair else None
    ],
    "The pair is gone: its place should have the merged token.": [
        lambda tokens, pair: [token for token in slow_merge(tokens, pair) if token != "".join(pair)]
    ],
    "The last token is lost: a loop over pairs ends one token early.": [
        lambda tokens, pair: slow_merge(tokens, pair)[:-1]
    ],
    "The last token is lost, and one is used twice: a loop over pairs ends early, and skips none.": [
        lambda tokens, pair: merged_without_skip(tokens, pair)[:-1]
    ],
}

# ---- merges learned ----------------------------------------------------------------------------------------


def slow_merges(
    pieces,
    n_merges,
    overlaps=True,
    across=False,
    once=False,
    single=False,
    last=False,
    sort=None,
    least=False,
    keep=False,
    merge=slow_merge,
):  # list of lists of tokens, number -> list of (token, token)
    """Learn merges: the most frequent pair of neighbours, of several the first in the text, n_merges times.

    The other arguments make the mistakes that learners make: pairs counted without overlaps, across pieces,
    once for each different piece, or at most once in a piece; of ties the last, or one chosen by `sort`; the
    rarest pair; pieces that are not merged, or in another way.
    """
    merges = []
    while len(merges) < n_merges:
        counts = {}
        read = [[token for piece in pieces for token in piece]] if across else pieces
        for piece in {tuple(piece): piece for piece in read}.values() if once else read:
            for pair, n in pairs_of(piece, overlaps).items():
                counts[pair] = counts.get(pair, 0) + (1 if single else n)
        if keep:
            counts = {pair: n for pair, n in counts.items() if pair not in merges}
        if not counts:
            break
        most = min(counts.values()) if least else max(counts.values())
        best = [pair for pair, n in counts.items() if n == most]
        if sort:
            best = [sort(best)]
        merges.append(best[-1 if last else 0])
        if not keep:
            pieces = [merge(piece, merges[-1]) for piece in pieces]
    return merges


def pairs_of(piece, overlaps):  # -> {pair: how often it occurs}, in the order of the text
    counts = {}
    if overlaps:
        for pair in pairwise(piece):
            counts[pair] = counts.get(pair, 0) + 1
        return counts
    for token, run in groupby(piece):
        if (n := len(list(run)) // 2) > 0:
            counts[token, token] = counts.get((token, token), 0) + n
    for pair in pairwise(piece):
        if pair[0] != pair[1]:
            counts[pair] = counts.get(pair, 0) + 1
    order = list(dict.fromkeys(pairwise(piece)))
    return {pair: counts[pair] for pair in order}


TIES = (
    "Of pairs that occur equally often, the one that comes first in the text is merged, neither the last nor "
    "one chosen by the alphabet."
)
LESSONS = (  # pieces, n_merges: the smallest first; a piece is its letters, or tokens with + between them
    ("ab ab ac", 1),
    ("xy ab", 1),  # a tie
    ("zb ab zc", 1),
    ("ba ba ab", 1),  # the order counts
    ("a b a b cd", 1),  # a, b stands only across pieces
    ("ab ab ab cd cde", 1),  # a piece counts each time
    ("cd cd abab ab", 1),  # a pair counts at each place in a piece
    ("bc bc aaaa", 1),  # overlaps count
    ("the hen the she", 2),  # the second pair is one of the merged
    ("abc abc abd", 3),
    ("aaaa aa", 2),
    ("aaab aaa", 2),
    ("sh sh she he he", 3),  # then h is no longer in "sh e"
    ("a+bc a+bc ab+c", 2),  # the same letters, other tokens
    ("ab ab a|b", 2),  # what may be written between tokens can be one
    ("a. a. a. ab ab cb", 2),  # . is a dot, not any character
    ("ab", 5),  # nothing is left after the first
    ("ab", 0),
    ("", 2),
    ("ab ba cab bac abc cba", 4),
)


@check
def learn_merges(f, page):
    """f(pieces, n_merges) -> the merges in the order learned. page: a text, of which 20 are learned."""
    lessons = [([*map(tokens_of, text.split())], n_merges) for text, n_merges in LESSONS]
    for pieces, n_merges in (*lessons, (spell(page), 20)):
        given = copy.deepcopy(pieces)
        found = f(given, n_merges)
        if found is None:
            raise NotYet("It returned None: is a return missing?")
        if given != pieces:
            raise NotYet("Your function changes the pieces that it was given: make lists of its own.")
        expected = slow_merges(pieces, n_merges)
        got = as_pairs(found)
        if got != expected:
            spaced = " ".join(
                "".join(piece) if max(map(len, piece)) < 2 else "+".join(piece) for piece in pieces
            )
            lines = {"pieces": short(spaced), "n_merges": n_merges}
            lines |= {"expected": in_few(expected, got), "got": in_few(got, expected)}
            raise NotYet(why_not_learned(got, expected, pieces, n_merges) + listed(lines))


def tokens_of(piece):  # str -> list of str
    return piece.split("+") if "+" in piece else list(piece)


def as_pairs(found):  # -> list of pairs
    if isinstance(found, dict):
        raise NotYet(f"It should return a list of pairs, but it returned a dict, {short(found)}.")
    if not isinstance(found, (list, tuple)):
        raise NotYet(f"It should return a list of pairs, but it returned {short(found)}.")
    if found and is_list_of(found, str):
        raise NotYet(f"Return pairs, (a, b), not tokens: a + b does not say where it was cut. {short(found)}")
    for pair in found:
        if not is_list_of(pair, str) or len(pair) != 2:
            raise NotYet(f"Each merge should be a pair of tokens, (a, b), but there is {short(pair)}.")
        if not isinstance(pair, tuple):
            raise NotYet(
                f"Make each pair a tuple, (a, b): a list, such as {short(pair)}, cannot be in a set."
            )
    return list(found)


def in_few(merges, others):  # -> str
    """The merges up to the first that differs from the others."""
    n = next((i for i, (a, b) in enumerate(zip(merges, others)) if a != b), min(len(merges), len(others)))
    start = max(0, n - 1)
    return f"{'... ' if start else ''}{merges[start : n + 2]}{' ...' if n + 2 < len(merges) else ''}"


def why_not_learned(got, expected, pieces, n_merges):  # -> str
    """The likely cause of wrong merges."""
    options = {
        "That counts pairs across pieces: the end of one and the beginning of the next are not neighbours.": (
            {"across": True}
        ),
        "That counts each different piece once: a pair counts as often as it occurs in the text.": (
            {"once": True}
        ),
        "Overlaps count: aaaa has the pair (a, a) three times, at three places.": {"overlaps": False},
        "That counts a pair once a piece: it counts at each place where it stands.": {"single": True},
        TIES: {"last": True},
        "The pair is found inside longer tokens: compare whole tokens, not their letters.": {
            "merge": merged_in_text
        },
        "The same letters are not the same tokens: compare both tokens of the pair.": {
            "merge": merged_by_letters
        },
        "Count again after each merge: the counts of the letters miss the pairs that a merge makes.": (
            {"keep": True}
        ),
        "That merges from the right: of overlapping pairs the left one is merged.": {
            "merge": merged_from_the_right
        },
        "That is the rarest pair: merge the most frequent one.": {"least": True},
    }
    for why, mistake in options.items():
        if got == slow_merges(pieces, n_merges, **mistake):
            return why
    if any(got == slow_merges(pieces, n_merges, sort=by_alphabet) for by_alphabet in (min, max)):
        return TIES
    if got == [pair[::-1] for pair in expected]:
        return "The pairs are the wrong way round: (a, b) for a followed by b."
    if got == expected[::-1]:
        return "The merges stand in the wrong order: the first learned comes first."
    if got[:1] == expected[:1] and len(set(got)) == 1 < len(got):
        return "The same pair is learned again and again: merge it in all pieces before you count again."
    if len(got) > len(expected):
        return f"That is {len(got)} merges, but there are only {len(expected)} to learn here."
    if len(got) < len(expected) and got == expected[: len(got)]:
        return f"That is {len(got)} of {len(expected)} merges."
    return "The merges differ."


# ---- what tokens cost --------------------------------------------------------------------------------------


@check
def tokens_in_100_words(f, encoder, stories):
    """f() -> how many tokens a hundred words of the stories take, on average."""
    text = stories.replace("<|endoftext|>", "")
    return estimate(
        f,
        100 * len(encoder.encode(text)) / len(text.split()),
        1.2,
        unit="tokens",
        low="Punctuation marks are tokens of their own, and a rare word takes several.",
        high="Most words of a story are one token: count those of the prompt above.",
    )


@check
def costly_text(f, encoder):
    """f() -> a text of few characters, whose bar is longer than those of all the sentences."""
    text = f()
    if not isinstance(text, str):
        raise NotYet(f"It should return a text, but it returned {short(text)}.")
    if not 1 <= len(text) <= LONGEST:
        raise NotYet(f"The text has {len(text)} characters; it may have 1 to {LONGEST}.")
    if encoder.decode(encoder.encode(text)) != text:
        raise NotYet("That is not a text: a lone surrogate is half a character, and no file can hold it.")
    costs = {language: cost(sentence, encoder) for language, sentence in SENTENCES.items()}
    longest = max(costs, key=costs.get)
    if cost(text, encoder) <= costs[longest]:
        raise NotYet(
            f"{why_not_costly(text)}"
            f"\n  text      {short(text)}: {cost(text, encoder):.2f} tokens a character"
            f"\n  longest   {longest}: {costs[longest]:.2f}"
        )


def why_not_costly(text):  # -> str
    """What to look for instead."""
    n_bytes = len(text.encode()) / len(text)
    if n_bytes == 1:
        return "Each of these characters is one byte, and no byte is more than one token."
    if n_bytes < 2.5:
        return "Most of these characters are one or two bytes: look for some with more."
    if n_bytes <= 3:
        return "Characters of three bytes cost three tokens at most: look for some with four."
    return "Some of these bytes are merged: look for rarer characters."


def listed(lines):  # {name: value} -> str
    return "".join(f"\n  {name:9} {value}" for name, value in lines.items())
