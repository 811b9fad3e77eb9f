"""Say what you expect before you see it: `predicted(guess, truth)` puts the two side by side."""

from numbers import Integral, Real


def predicted(guess, truth, unit=""):
    """Print what was predicted, what is true, and how far apart they are.

    truth: a number, a word or a list, which is an order; guess: the same, or None for no prediction.
    """
    unit = f" {unit}".rstrip()
    print(f"{'you predicted':14} {spelled(guess, unit)}")
    print(f"{'it is':14} {spelled(truth, unit)}")
    if guess is not None:
        print(f"{'':14} {how_near(guess, truth)}")


def spelled(value, unit):  # -> str
    """A number to three digits, a word in quotes, the items of a list in their order."""
    if value is None:
        return "nothing yet: write it after `guess =`, and run the cell again"
    if isinstance(value, (list, tuple)):
        return ", ".join(spelled(item, unit="") for item in value)
    if isinstance(value, Real):
        return (f"{value:,}" if isinstance(value, Integral) else f"{value:,.3g}") + unit
    return repr(str(value))


def how_near(guess, truth):  # -> str
    """How far off a prediction is: a factor, or how many items are in the right place."""
    if isinstance(truth, (list, tuple)):
        if not isinstance(guess, (list, tuple)) or len(guess) != len(truth):
            return f"a list of {len(truth)} was asked for"
        n_right = sum(same_word(a, b) for a, b in zip(guess, truth))
        return f"{n_right} of {len(truth)} in the right place"
    if not isinstance(truth, Real):
        return "right" if same_word(guess, truth) else "not this time"
    if not isinstance(guess, Real):
        return "a number was asked for"
    if guess == truth:
        return "right"
    distance, direction = abs(guess - truth), "high" if guess > truth else "low"
    if isinstance(truth, Integral) or guess <= 0 or truth <= 0:
        return f"{distance:,.3g} too {direction}"
    factor = max(guess / truth, truth / guess)
    return "right, or nearly" if factor < 1.05 else f"too {direction}, by a factor of {factor:,.2g}"


def same_word(guess, truth):  # -> bool
    """Whether two words are the same; case does not count, nor do spaces around them, drawn as ␣ or not."""
    words = (str(word).lower().strip(" ␣") for word in (guess, truth))
    return next(words) == next(words)
