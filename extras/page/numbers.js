"use strict";

// The numbers of the page, and what is computed from them here: the softmax of attention, and the probabilities
// after temperature, top-k, top-p and min-p. What the arrays hold is told in arrays.py.

const data = JSON.parse(document.getElementById("data").textContent);
const arrays = unpacked(data.arrays), twin = unpacked(data.twin), cuts = unpacked(data.cuts);
const { n_layer, n_head, n_embd, n_vocab } = data.hparams;
const n_shown = data.ids.length, last = n_shown - 1;
const n_earlier = data.first ? 1 : 0; // keys before those of the shown tokens: all earlier tokens are one
const opening = data.n_prompt - data.first - 1; // where the page opens: the last token of the prompt

function unpacked(packed) { // {name: {shape, type, base64}} -> {name: {shape, values}}
  if (!packed) return null;
  const entries = Object.entries(packed).map(([name, { shape, type, base64 }]) => {
    const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
    const values = type === "u4" ? new Uint32Array(bytes.buffer) : new Float32Array(bytes.buffer);
    return [name, { shape, values }];
  });
  return Object.fromEntries(entries);
}

function part(array, ...places) { // array[places]: a number, or the values of a part
  let size = array.values.length, start = 0;
  places.forEach((place, axis) => {
    size /= array.shape[axis];
    start += place * size;
  });
  const isNumber = places.length === array.shape.length;
  return isNumber ? array.values[start] : array.values.subarray(start, start + size);
}

function indices(n) {
  return Array.from({ length: n }, (_, i) => i);
}

function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

function indexOfLargest(values) {
  return values.indexOf(values.reduce((one, other) => Math.max(one, other)));
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), half = values.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

function averageLikelihood(nats, n) { // of the first n tokens: the geometric mean of their probabilities
  return Math.exp(-total(nats.values.subarray(0, n)) / n);
}

function nextId(position) { // of the token that came next, or, after the last, of the likeliest
  return part(arrays.pairs, position, 0);
}

function nextLikelihood(position) {
  return part(arrays.pair_likely, position, 0);
}

function likelihood(position) { // of the token there, given those before; the first has none
  return position === 0 ? null : Math.exp(-part(arrays.nats, position - 1));
}

// ---- attention -----------------------------------------------------------------------------------------------

function attentionRow(layer, head, position) { // softmax(scores + mask), of the keys that may be looked at
  const scores = part(arrays.scores, layer, head, position).subarray(0, position + 1 + n_earlier);
  const largest = Math.max(...scores);
  const exp = Array.from(scores, score => Math.exp(score - largest));
  const sum = total(exp);
  return exp.map(x => x / sum);
}

// ---- the next token ------------------------------------------------------------------------------------------

const AS_IT_IS = { temperature: 1, top_k: Infinity, top_p: 1, min_p: 0 }; // filters that change nothing

// The tokens after a position in groups, the likeliest first: each of the likeliest alone, all others in bins.
function tokenGroups(position) { // -> [{n, mean, variance}], of their logits
  const alone = Array.from(part(arrays.logits, position), logit => ({ n: 1, mean: logit, variance: 0 }));
  const [n, mean, variance] = indices(3).map(i => part(arrays.bins, position, i));
  return [...alone, ...indices(n.length).map(i => ({ n: n[i], mean: mean[i], variance: variance[i] }))];
}

// The shares of the likeliest tokens, one by one, and of all others together, after the filters, which come in the
// order of extras/sampling.py. isExact: whether no cut falls among the others.
function shares(position, { temperature, top_k, top_p, min_p }) {
  const groups = tokenGroups(position), n_likeliest = part(arrays.likeliest, position).length;
  const t = temperature || 1, n_kept = temperature === 0 ? 1 : top_k, largest = groups[0].mean;
  const weights = groups.map(({ n, mean, variance }) =>
    n * Math.exp((mean - largest) / t) * (1 + variance / (2 * t * t)));
  let kept = weights.map((weight, i) => i < n_kept ? weight : 0);
  if (top_p < 1) kept = afterTopP(kept, groups, top_p);
  if (min_p > 0) kept = afterMinP(kept, groups, largest + t * Math.log(min_p));
  const likeliest = kept.slice(0, n_likeliest);
  const others = likeliest.at(-1) > 0 ? kept.slice(n_likeliest) : []; // where a likelier token is out, they are
  const sum = total(likeliest) + total(others);
  const isExact = total(others) === 0 || others.every((weight, i) => weight === weights[n_likeliest + i]);
  return { likeliest: likeliest.map(weight => weight / sum), others: total(others) / sum, isExact };
}

function afterTopP(weights, groups, p) { // keeps groups while those before them have less than p; a bin in part
  const enough = p * total(weights);
  let before = 0;
  return weights.map((weight, i) => {
    const left = Math.max(enough - before, 0);
    before += weight;
    return groups[i].n === 1 && left > 0 ? weight : Math.min(weight, left);
  });
}

function afterMinP(weights, groups, least) { // keeps logits from `least` on, as if those of a bin were spread evenly
  return weights.map((weight, i) => {
    const width = Math.sqrt(12 * groups[i].variance) + 1e-6;
    return weight * Math.min(Math.max(0.5 + (groups[i].mean - least) / width, 0), 1);
  });
}

function randomFrom(seed) { // -> a function that returns numbers from 0 to 1 (mulberry32)
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
