"""Solutions to the exercises of notebook 01."""


def byte_alphabet():
    alphabet, moved = {}, 256
    for byte in range(256):
        if chr(byte).isprintable() and chr(byte) != " ":
            alphabet[byte] = chr(byte)
        else:
            alphabet[byte] = chr(moved)
            moved += 1
    return alphabet


def why_bytes():
    # UTF-8 writes every character as bytes, and there are only 256
    return "c"


def merge_pair(tokens, pair):
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(tokens[i] + tokens[i + 1])
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def learn_merges(pieces, n_merges):
    merges = []
    for _ in range(n_merges):
        counts = {}  # a dict keeps the order in which its keys were added
        for piece in pieces:
            for pair in zip(piece, piece[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(counts, key=counts.get)  # of several, the first that was added
        merges.append(best)
        pieces = [merge_pair(piece, best) for piece in pieces]
    return merges


def tokens_in_100_words():
    # a hundred words, most of them one token, some twenty commas, quotes and full stops, a few rare words
    return 130


def costly_text():
    # cuneiform: four bytes a character, and so rare that no merge joins them
    return "𒀀" * 12
