"""A diagram of the way from a prompt to the next token, with the model's true shapes."""

from extras import style
from extras.style import BLUE, INK, QUIET, spelled

SIZES = "n_embd", "n_head", "n_layer", "n_vocab"
NOTE = {"size": 0.75 * style.NUMBER, "color": QUIET, "family": style.MONO}


def flow(hparams, n_seq, prompt, next_token):  # -> figure, alt
    """Boxes say what the numbers are, arrows how one box becomes the next; below, the inside of a block."""
    n_embd, n_head, n_layer, n_vocab = (hparams[name] for name in SIZES)
    figure, axes = style.new_figure(style.WIDTH, 4)
    axes.set(xlim=(0, 100), ylim=(0, 48))
    axes.axis("off")
    end = prompt if len(prompt) < 11 else f"…{prompt[-9:]}"
    token = next_token if len(next_token) < 11 else f"{next_token[:9]}…"
    top = {
        8: f"text\n{spelled(end)}",
        26: f"ids\n[{n_seq}]",
        43: f"vectors\n[{n_seq}, {n_embd}]",
        61: f"vectors\n[{n_seq}, {n_embd}]",
        79: f"logits\n[{n_seq}, {n_vocab}]",
        94: f"next\n{spelled(token)}",
    }
    names = ["encode", "wte + wpe", f"{n_layer} blocks", "ln_f, @ wte.T", "argmax"]
    frames = chain(axes, 38, top, names)
    arrow(axes, frames[-1], frames[1], "bar,fraction=0.1")
    axes.text(60, 45.5, "append its id, start again", ha="center", **NOTE)
    draw_block(axes, n_seq, n_embd, n_head, n_layer)
    return figure, in_words(hparams, n_seq, prompt, next_token)


def in_words(hparams, n_seq, prompt, next_token):  # -> str
    n_embd, n_head, n_layer, n_vocab = (hparams[name] for name in SIZES)
    return (
        f"Diagram of the way from {prompt!r} to {next_token!r}: {n_seq} ids; {n_seq} vectors of {n_embd} "
        f"numbers; {n_layer} blocks that keep this shape; logits [{n_seq}, {n_vocab}]; the next token, whose "
        f"id is appended to the others before all starts again. In each block two branches add to the "
        f"vectors: ln_1 and attention with {n_head} heads of {n_embd // n_head} numbers; ln_2 and an MLP of "
        f"{4 * n_embd} numbers."
    )


def draw_block(axes, n_seq, n_embd, n_head, n_layer):
    """The residual stream, and below it the two branches that read it and add to it."""
    axes.text(1, 26.5, f"each of the {n_layer} blocks:", weight="bold", size=0.75 * style.TEXT, color=INK)
    stream = {"arrowstyle": "-|>", "linewidth": 3, "color": BLUE}
    axes.annotate("", (99, 21), (1, 21), arrowprops=stream)
    axes.text(1, 22.5, f"x [{n_seq}, {n_embd}]", size=0.75 * style.TEXT, family=style.MONO, color=INK)
    attention = {
        16: f"ln_1\n[{n_seq}, {n_embd}]",
        36: f"{n_head} heads\n[{n_head}, {n_seq}, {n_embd // n_head}]",
    }
    mlp = {63: f"ln_2\n[{n_seq}, {n_embd}]", 82: f"gelu\n[{n_seq}, {4 * n_embd}]"}
    for boxes, step, out, name in ((attention, "c_attn", 49, "attention"), (mlp, "c_fc", 94, "MLP")):
        first, last = chain(axes, 9, boxes, [step])
        plus = frame(axes, out, 21, "+", {"boxstyle": "circle", "fc": style.GROUND, "ec": BLUE})
        arrow(axes, axes.text(first.get_position()[0], 21, ""), first)  # "" has a position but no frame
        arrow(axes, last, plus, "angle,angleA=0,angleB=90")
        axes.text(out - 1, 14, "c_proj", ha="right", va="center", **NOTE)
        axes.text(sum(boxes) / 2, 1, name, ha="center", style="italic", size=0.75 * style.TEXT, color=INK)


def chain(axes, y, boxes, names):  # {x: text}, names of the arrows between -> frames
    """Frames in a row, with an arrow from each to the next."""
    frames = [
        frame(axes, x, y, text, {"boxstyle": "round,pad=0.45", "fc": style.PANEL, "ec": "none"})
        for x, text in boxes.items()
    ]
    for left, right, name in zip(frames, frames[1:], names):
        arrow(axes, left, right)
        x = (left.get_position()[0] + right.get_position()[0]) / 2
        axes.text(x, y - 3.3, name, ha="center", va="top", **NOTE)
    return frames


def frame(axes, x, y, text, box):  # -> Text
    look = {"size": 0.75 * style.SMALL, "family": style.MONO, "color": INK}
    return axes.text(x, y, text, ha="center", va="center", bbox=box, linespacing=1.35, **look)


def arrow(axes, start, end, way="arc3"):
    """An arrow from the edge of one text's frame to the edge of another's."""
    look = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 1, "connectionstyle": way, "color": QUIET}
    edges = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
    axes.annotate("", end.get_position(), start.get_position(), arrowprops=look | edges)
