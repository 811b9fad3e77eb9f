"""What only notebook 02 measures and draws: rows of numbers as directions, and maps of them."""

import numpy as np

from extras import style

# ---- measured ----------------------------------------------------------------------------------------------


def one_token(word, encoder):  # -> id
    """The id of a word; of a word of several tokens the first, and a line says so."""
    token_id, n = encoder.encode(word or " ")[0], len(encoder.encode(word))
    if n != 1:
        print(f"{word!r} has {n} tokens, not one: this is about {encoder.decode([token_id])!r}.")
    return token_id


def directions(vectors):  # [..., n] -> [..., n]
    """Each vector divided by its norm; one of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms == 0, np.float32(1), norms)


def cosines(a, b):  # [n_a, n], [n_b, n] -> [n_a, n_b]
    """The cosine of each vector of a with each of b."""
    return directions(a) @ directions(b).T


def neighbours(token_id, table, n, by=cosines):  # -> n ids, n numbers
    """The n other rows that score highest with this token's, best first, and their scores."""
    scores = by(table[[token_id]], table)[0]
    best = [i for i in np.argsort(-scores, kind="stable") if i != token_id][:n]
    return best, scores[best]


def closest(token_ids, table, by):  # n ids -> n ids
    """For each token, the other row that scores highest with it."""
    scores = by(table[token_ids], table)
    scores[range(len(token_ids)), token_ids] = -np.inf
    return scores.argmax(axis=-1)


def dots(a, b):  # [n_a, n], [n_b, n] -> [n_a, n_b]
    """As `cosines`, but not divided by the norms."""
    return a @ b.T


def flat_map(vectors):  # [n, n_embd] -> points [n, 2], the share of the variance that they keep
    """The two directions in which vectors differ most, by SVD, and where each vector lies along them."""
    centred = vectors - vectors.mean(axis=0)
    _, stretch, axes = np.linalg.svd(centred, full_matrices=False)
    first = np.abs(axes[:2]).argmax(axis=-1)
    axes = axes[:2] * np.sign(axes[range(2), first])[:, None]  # SVD leaves the sign open
    return centred @ axes.T, float(np.sum(stretch[:2] ** 2) / np.sum(stretch**2))


def at_home(points, groups):  # [n, any], n names -> share
    """How many points have one of their own group as the nearest other point."""
    far = np.square(points[:, None] - points).sum(axis=-1)
    np.fill_diagonal(far, np.inf)
    groups = np.asarray(groups)
    return float(np.mean(groups[far.argmin(axis=-1)] == groups))


# ---- drawn -------------------------------------------------------------------------------------------------


def arrows(vectors):  # {name: two numbers} -> figure, alt
    """Rows of two numbers as arrows from 0: as they are, and each divided by its norm."""
    figure, panels = style.new_figure(style.WIDTH, 2.4, 1, 2)
    rows = np.array([*vectors.values()], dtype=float)
    kinds = {"as they are": rows, "norm 1, drawn larger": directions(rows)}
    for axes, (title, drawn) in zip(panels, kinds.items()):
        low, high = np.minimum(drawn.min(axis=0), 0), np.maximum(drawn.max(axis=0), 0)
        room = 0.3 * max(high - low)  # for the names
        left = room if low[0] < 0 else room / 3
        axes.set(xlim=(low[0] - left, high[0] + room), ylim=(low[1] - room / 3, high[1] + room / 2))
        axes.set(aspect="equal", xticks=[], yticks=[])
        style.above(axes, title)
        axes.axhline(0, color=style.RULE, linewidth=1)
        axes.axvline(0, color=style.RULE, linewidth=1)
        for i, (name, tip) in enumerate(zip(vectors, drawn)):
            last = i == len(drawn) - 1
            colour = style.ORANGE if last else style.BLUE
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", tip, (0, 0), arrowprops=arrow)
            away = np.where(np.abs(tip) < 1e-9, 0, np.sign(tip))  # the name stands beyond the tip
            end = {"textcoords": "offset points", "xytext": (5, 3 if i else 7), "family": style.MONO}
            if away[0] < 0 or away[1] < 0:
                end |= {"xytext": 6 * away, "ha": "right" if away[0] < 0 else "left", "va": "center"}
            axes.annotate(
                style.spelled(name), tip, color=style.letters(colour), size=0.75 * style.TEXT, **end
            )
    norms = np.linalg.norm(rows, axis=-1)
    words = ", ".join(f"{name} {list(row)}, norm {n:g}" for (name, row), n in zip(vectors.items(), norms))
    found = zip(vectors, cosines(rows[:1], rows)[0])
    alike = ", ".join(f"{name} {cosine:.2f}" for name, cosine in found)
    return figure, (
        f"Two panels of arrows from 0: {words}. On the right each is divided by its norm, drawn larger; "
        f"the cosines with {next(iter(vectors))} are {alike}."
    )


def heaps(samples, label):  # {name: [n]}, what is counted -> figure, alt
    """How often each value occurs, as a curve for each sample, with its name above its top."""
    figure, axes = style.new_figure(style.WIDTH, 2.8)
    everything = np.concatenate([*samples.values()])
    edges = np.linspace(*np.quantile(everything, [0.0005, 0.9995]), 50)
    middles, highest, words = (edges[1:] + edges[:-1]) / 2, {}, []
    for (name, values), (colour, dash, _) in zip(samples.items(), style.LINES):
        heights = np.histogram(values, edges)[0] / len(values)
        heights = np.convolve(heights, [0.25, 0.5, 0.25], "same")  # smooth the steps
        axes.fill_between(middles, heights, color=colour, alpha=0.12, linewidth=0)
        axes.plot(middles, heights, dash, color=colour, linewidth=1.6)
        highest[name] = middles[heights.argmax()], heights.max(), colour
        words.append(f"{name}: mean {round(float(values.mean()), 2) + 0:.2f}, std {values.std():.2f}")
    top = max(height for _, height, _ in highest.values())
    for name, (x, height, colour) in highest.items():
        look = {"color": style.letters(colour), "size": 0.75 * style.TEXT}
        nearer = [other for other in highest.values() if abs(other[0] - x) < 0.15 and other[1] > height]
        offset, side = ((-34, -4), "right") if nearer else ((0, 5), "center")
        style.beside(axes, name, (x, height), offset, ha=side, **look)
    axes.set(yticks=[], ylim=(0, 1.15 * top))
    style.name_axes(axes, label)
    return figure, f"Curves of how often each value occurs: {label}. {'; '.join(words)}."


def position_maps(maps):  # {name: [n, n] cosines} -> figure, alt
    """The cosine of every position with every other, side by side for several models: blue 1, orange -1."""
    figure, panels = style.new_figure(style.WIDTH, 3.9, 1, len(maps), sharey=True)
    words = []
    for axes, (name, alike) in zip(panels, maps.items()):
        n = len(alike)
        step = -(-n // 64)  # as many cells as can be seen
        seen = alike[::step, ::step]
        axes.imshow(seen, cmap=style.SIGNED, vmin=-1, vmax=1, extent=(0, n, n, 0), interpolation="nearest")
        places = [*range(0, n, max(n // 4, 1))]
        axes.set(xticks=places, yticks=places)
        style.above(axes, name)
        style.name_axes(axes, "position")
        far = {d: float(np.diagonal(alike, d).mean()) for d in (1, n // 8, n // 4, n // 2)}
        said = [f"{round(cosine, 2) + 0:.2f} at distance {d}" for d, cosine in far.items()]
        words.append(f"{name}: {', '.join(said)}")
    style.name_axes(panels[0], "position", "position")
    alt = "Maps of the cosine of every position with every other, in words its mean by distance."
    return figure, f"{alt} {'; '.join(words)}."
