"""The prompt that a notebook follows: any text of yours, as long as the pictures have room for it."""

from extras.style import counted


def ids_of(text, encoder, at_least=2, at_most=40):  # -> ids
    """The text's ids. Raises ValueError if there are too few of them to look at, or too many to draw."""
    ids = encoder.encode(text)
    if at_least <= len(ids) <= at_most:
        return ids
    change = "write a longer one" if len(ids) < at_least else "shorten it"
    size = f"this text has {counted(len(ids), 'token')}, but {at_least} to {at_most} are needed here"
    raise ValueError(f"{size}: {change}")


def came_before(ids, encoder):  # -> query, key
    """Two positions: that of a repeated token, and that of the token after its last occurrence before.

    The query is the last token of the prompt if it is a repeated one, else the last that is, which a sentence
    says. If none is, a sentence says so, and the query is the last token, the key the first.
    """
    for query in range(len(ids) - 1, 1, -1):
        earlier = [i for i in range(query - 1) if ids[i] == ids[query]]
        if earlier:
            if query < len(ids) - 1:
                token = repr(encoder.decode([ids[query]]))
                print(f"The prompt's last token is new. The last repeated one is {token}, token {query}.")
            return query, earlier[-1] + 1
    print("No token of this prompt is repeated: the last one has only new tokens to look back at.")
    return len(ids) - 1, 0
