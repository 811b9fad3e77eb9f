"""Many texts at once: a token costs one pass over the weights, and one pass serves a token of every text.

All texts begin at position 0 and advance side by side, so there is no padding and no extra mask: a text that
is still inside its prompt takes the prompt's next id, any other an id picked from its logits. Text i gets the
ids that it would get on its own, except for ties within rounding error.
"""

from collections import deque

import numpy as np

import gpt2


def stream(prompts, params, n_head, n_tokens_to_generate, picks=None):  # [n_batch][n_seq] -> (i, id) ...
    """Yield pairs (i, new id) as they come, n_tokens_to_generate for each prompt i.

    n_tokens_to_generate: a number, or a list with one for each prompt. picks: one for each prompt; None is
    greedy. The prefix that all prompts share is read once, so [prompt] * 8 makes eight samples cheaply.
    Raises what `gpt2.stream` raises, and ValueError if there are not as many picks or numbers as prompts.
    """
    is_list = isinstance(n_tokens_to_generate, list)
    n_new = n_tokens_to_generate if is_list else [n_tokens_to_generate] * len(prompts)
    for prompt, n in zip(prompts, n_new, strict=True):
        gpt2.check_inputs(prompt, n, n_vocab=len(params["wte"]), n_ctx=len(params["wpe"]))
    picks = [np.argmax] * len(prompts) if picks is None else picks
    if len(picks) != len(prompts):
        raise ValueError(f"{len(picks)} picks for {len(prompts)} prompts: give one for each, or none")
    order = [i for i in range(len(prompts)) if n_new[i] > 0]
    if not order:
        return
    order.sort(key=lambda i: -len(prompts[i]) - n_new[i])  # the longest first: it ends last
    texts = [[int(token) for token in prompts[i]] for i in order]
    n_whole = [len(prompts[i]) + int(n_new[i]) for i in order]
    kv_cache = gpt2.new_kv_cache(params, n_head, max(n_whole), n_batch=len(texts))

    n_past = n_shared(texts)
    if n_past:
        gpt2.prefill(texts[0][:n_past], params, n_head, kv_cache[:, :, 0])
        kv_cache[:, :, 1:, :, :n_past] = kv_cache[:, :, :1, :, :n_past]

    n_going = len(texts)
    while n_going:
        n_known = min(len(text) for text in texts[:n_going])
        new = [text[n_past:n_known] for text in texts[:n_going]]
        hidden = gpt2.prefill(new, params, n_head, kv_cache[:, :, :n_going], n_past)
        n_past = n_known
        picking = [k for k in range(n_going) if len(texts[k]) == n_past]  # past their prompts
        rows = gpt2.next_logits(hidden[picking, -1], params)
        for k, logits in zip(picking, rows):
            new_id = int(picks[order[k]](logits))
            texts[k].append(new_id)
            yield order[k], new_id
        while n_going and len(texts[n_going - 1]) == n_whole[n_going - 1]:
            n_going -= 1  # the shortest is complete


def n_shared(texts):  # -> int
    """How many ids at the beginning all texts share, not counting the last of the shortest text.

    The logits of that one are needed in the batch.
    """
    n = 0
    for ids in zip(*texts):
        if len(set(ids)) > 1:
            break
        n += 1
    return min(n, min(map(len, texts)) - 1)


def generate(prompts, params, n_head, n_tokens_to_generate, picks=None):  # [n_batch][n_seq] -> [n_batch][n]
    """The new ids of every prompt, in the order of the prompts; see `stream`."""
    new_ids = [[] for _ in prompts]
    for i, new_id in stream(prompts, params, n_head, n_tokens_to_generate, picks):
        new_ids[i].append(new_id)
    return new_ids


def samples(inputs, params, n_head, n_tokens_to_generate, picks):  # [n_seq] -> a stream of ids for each pick
    """Several continuations of one prompt, made together: while one is read, the ids of the others wait."""
    pairs = stream([inputs] * len(picks), params, n_head, n_tokens_to_generate, picks)
    waiting = [deque() for _ in picks]

    def sample(i):
        while True:
            while not waiting[i]:
                pair = next(pairs, None)
                if pair is None:
                    return
                waiting[pair[0]].append(pair[1])
            yield waiting[i].popleft()

    return [sample(i) for i in range(len(picks))]
