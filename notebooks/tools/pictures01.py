"""Pictures of notebook 01: a text shaded by its tokens, and tokens as text or as bytes."""

from extras import style

CELL, LINE, LONGEST = 0.1, 0.3, 32  # inches for a character, inches for a line, characters in a line
SHADES = [style.on_ground(style.BLUE, 0.25), style.on_ground(style.ORANGE, 0.25)]  # of tokens, in turn


def readable(token):  # bytes -> str
    """A token as its text, or as its bytes, such as \\xc3, where it is only a part of a character."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)


def shaded_text(axes, tokens):  # list of str -> str
    """Draw a text in lines, its tokens in two shades in turn; return the tokens in words."""
    across, down = (size / axes.figure.dpi for size in axes.get_window_extent().size)
    at, n_columns = 0, min(int(across / CELL), LONGEST)
    for i, token in enumerate(tokens):
        for character in style.spelled(token).replace(r"\$", "$"):
            row, column = divmod(at, n_columns)
            axes.fill_between([column, column + 1], row, row + 0.92, color=SHADES[i % 2], linewidth=0)
            look = {"ha": "center", "va": "center", "family": style.MONO, "size": 8.5}
            axes.text(column + 0.5, row + 0.46, character.replace("$", r"\$"), **look)
            at += 1
    axes.set(xlim=(0, int(across / CELL)), ylim=(max(-(-at // n_columns), down / LINE), 0))
    axes.axis("off")
    return f"{len(tokens)} tokens: {' | '.join(tokens)}."
