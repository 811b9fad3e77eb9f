"""The way from a prompt to the next token as a diagram, with the shapes of the model at hand."""

from matplotlib.figure import Figure


def flow(hparams, n_seq, prompt, next_token):  # -> figure, alt
    """Boxes for what the numbers are, arrows for what makes the next; below, the inside of a block."""
    n_embd, n_head, n_layer, n_vocab = (hparams[name] for name in ("n_embd", "n_head", "n_layer", "n_vocab"))
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 50))
    axes.axis("off")
    top = [
        (8, "text", prompt if len(prompt) < 11 else f"…{prompt[-9:]}"),
        (25, "ids", f"[{n_seq}]"),
        (43, "vectors", f"[{n_seq}, {n_embd}]"),
        (61, "vectors", f"[{n_seq}, {n_embd}]"),
        (79, "logits", f"[{n_seq}, {n_vocab}]"),
        (94, "next", next_token),
    ]
    names = ["encode", "wte + wpe", f"{n_layer} blocks", "ln_f, @ wte.T", "argmax"]
    chain(axes, 40, top, names, below=5.5)
    axes.plot([94, 94, 25], [43.5, 47, 47], color="black", linewidth=1)
    axes.annotate("", (25, 43), (25, 47.2), arrowprops={"arrowstyle": "->"})
    axes.text(60, 48, "append its id, start again", ha="center", size=9)
    draw_block(axes, n_seq, n_embd, n_head, n_layer)
    alt = (
        f"From {prompt!r} to {next_token!r}: {n_seq} ids; {n_seq} vectors of {n_embd} numbers; {n_layer} "
        f"blocks that keep this shape; logits [{n_seq}, {n_vocab}]; the next token, whose id is appended "
        f"before it starts again. In each block two branches add to the vectors: ln_1 and attention with "
        f"{n_head} heads of {n_embd // n_head} numbers; ln_2 and an MLP of {4 * n_embd} numbers."
    )
    return figure, alt


def draw_block(axes, n_seq, n_embd, n_head, n_layer):
    """The residual stream, and below it the two branches that read it and add to it."""
    axes.text(2, 29, f"each of the {n_layer} blocks:", weight="bold")
    stream = {"arrowstyle": "-|>", "linewidth": 3, "color": "black"}
    axes.annotate("", (99, 22), (1, 22), arrowprops=stream)
    axes.text(1, 24, f"x [{n_seq}, {n_embd}]")
    attention = [
        (16, "ln_1", f"[{n_seq}, {n_embd}]"),
        (35, f"{n_head} heads", f"[{n_head}, {n_seq}, {n_embd // n_head}]"),
    ]
    mlp = [(63, "ln_2", f"[{n_seq}, {n_embd}]"), (81, "gelu", f"[{n_seq}, {4 * n_embd}]")]
    for boxes, step, out, name in ((attention, "c_attn", 48, "attention"), (mlp, "c_fc", 94, "MLP")):
        chain(axes, 8, boxes, [step], below=-2)
        axes.annotate("", (boxes[0][0], 12), (boxes[0][0], 22), arrowprops={"arrowstyle": "->"})
        axes.annotate(
            "",
            (out, 21),
            (boxes[1][0] + 6.5, 8),
            arrowprops={"arrowstyle": "->", "connectionstyle": "angle,angleA=0,angleB=90"},
        )
        axes.text(out, 22, "+", ha="center", va="center", size=14, bbox={"boxstyle": "circle", "fc": "white"})
        axes.text(out - 1, 14, "c_proj", ha="right", va="center", size=9)
        axes.text((boxes[0][0] + boxes[1][0]) / 2, 1.5, name, ha="center", style="italic")


def chain(axes, y, boxes, names, below):  # boxes: (x, title, shape)
    """Boxes in a row, and between them arrows with names."""
    for x, title, shape in boxes:
        text = f"{title}\n{shape}".replace("$", r"\$")
        axes.text(
            x, y, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.4", "fc": "#eef3f7"}, size=10
        )
    for (left, *_), (right, *_), name in zip(boxes, boxes[1:], names):
        axes.annotate("", (right - 5.6, y), (left + 5.6, y), arrowprops={"arrowstyle": "->"})
        axes.text((left + right) / 2, y - below, name, ha="center", va="center", size=9)
