"use strict";

// The sections of the page, in its order. `render` draws what depends on the chosen token; `renderAll` also what
// depends on colours only.

const [firstLayer, firstHead] = data.head;
const state = { position: opening, layer: firstLayer, head: firstHead, ...AS_IT_IS, drawn: null };

// ---- the frame: intro, overview, bar, code -------------------------------------------------------------------

function drawFrame() {
  sayIntro();
  drawOverview();
  Object.entries(data.code).forEach(([id, quoted]) => find(id).append(quote(quoted)));
  find("previous").addEventListener("click", () => choose(state.position - 1));
  find("following").addEventListener("click", () => choose(state.position + 1));
  document.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[pressed(event)];
    const owner = event.target.closest("input, [role=radiogroup], .scroll, pre"); // has a use of its own for them
    const isFree = !owner || (owner.matches(".scroll, pre") && owner.scrollWidth <= owner.clientWidth);
    if (step && isFree) choose(state.position + step);
  });
}

function sayIntro() {
  const { n_parameters } = data.hparams;
  const millions = (n_parameters / 1e6).toFixed(n_parameters < 1e7 ? 1 : 0);
  const size = n_parameters < 1e6 ? grouped(n_parameters) : `${millions} million`;
  say("model", el("strong", {}, data.model),
    ` (${counted(n_layer, "layer")} of ${counted(n_head, "head")}, ${size} parameters)`);
  if (data.first) say("earlier", `The model read all ${counted(data.first + n_shown, "token")} of the text; the `,
    `page shows the last ${n_shown}, and in section 3 one column, …, for all earlier ones together.`);
  say("twin", twin
    ? "As a control, the page also gives numbers of a random twin: a model of the same size that has learned " +
      "nothing."
    : "There is no control here: for a model this large, a random twin would need too much memory.");
}

function drawOverview() {
  const steps = [["text", counted(n_shown, "token")], ["vectors", `${n_shown} × ${grouped(n_embd)} numbers`],
    ["attention", `${n_layer} × (attention`], ["stream", "+ MLP)"], ["next", `${grouped(n_vocab)} scores`],
    ["next", "the next token"]];
  find("overview").replaceChildren(...steps.map(([id, words]) => el("li", {}, el("a", { href: `#${id}` }, words))));
}

function quote({ line, place, functions }) { // the line of code that did it; unfolded, the functions
  const sources = functions.flatMap(([where, source]) =>
    [el("p", { class: "quiet" }, where), el("pre", { tabindex: 0 }, source)]);
  const summary = el("summary", {}, code(line), el("span", { class: "place" }, place));
  return el("details", { class: "code" }, summary, ...sources);
}

function drawBar() {
  const { position } = state;
  find("previous").setAttribute("aria-disabled", position === 0);
  find("following").setAttribute("aria-disabled", position === last);
  say("now", `Token ${data.first + position + 1} of ${data.first + n_shown}: `, token(data.ids[position]),
    position < last ? ". Next came " : ". Likeliest next: ", token(nextId(position)),
    ` (${percent(nextLikelihood(position))})`);
}

// ---- 1 the text ----------------------------------------------------------------------------------------------

function chips() {
  return [...find("chips").children];
}

function drawChips() {
  find("chips").replaceChildren(...indices(n_shown).map(chip));
  const hasBytes = data.ids.some(id => label(id).includes("\\x"));
  const bytes = hasBytes ? "What looks like \\xc3 is one byte, part of a character. " : "";
  const control = twin ? ` and ${percent(averageLikelihood(twin.nats, opening))} from the random twin` : "";
  const average = opening ? percent(averageLikelihood(arrays.nats, opening)) : ""; // the first has none
  const rated = `a token of the prompt${data.first ? " shown here" : ""}`;
  say("text-says", bytes, average && `On average (geometric mean), ${rated} got ${average} from the model${control}.`);
}

function chip(i) {
  const id = data.ids[i], p = likelihood(i), whole = data.characters[i], isWritten = i > opening;
  const spoken = [label(id), whole && `part of ${whole}`, p === null ? "the first token shown" : percent(p),
    isWritten && "written by the model"].filter(Boolean).join(", ");
  const attributes = { type: "button", class: isWritten ? "chip written" : "chip", role: "radio", title: `id ${id}` };
  const button = el("button", { ...attributes, "aria-label": spoken, on: { click: () => choose(i) } },
    token(id), whole ? el("bdi", { class: "whole" }, whole) : "", el("small", {}, p === null ? "" : percent(p)));
  if (p !== null) shade(button, theme.orange, 0.06 + 0.9 * Math.min(-Math.log(Math.max(p, 1e-9)) / 7, 1));
  return choosable(button, chips, i, 1);
}

function markChips() {
  check(chips(), state.position);
  chips().forEach((button, i) => button.classList.toggle("goal", i === state.position + 1));
}

// ---- 2 vectors -----------------------------------------------------------------------------------------------

function drawVectors() {
  const { position } = state, id = data.ids[position], place = data.first + position;
  const whole = data.characters[position];
  say("vectors-says", token(id), whole ? ` is part of ${whole}. It` : "", ` has the id ${id}, one of `,
    `${grouped(n_vocab)}. Its vector, ${counted(n_embd, "number")}, is row ${id} of the table `, code("wte"),
    `. Row ${place} of `, code("wpe"), " is added, for its position, counted from 0.");
  const ofToken = part(arrays.wte, position), ofPosition = part(arrays.wpe, position);
  const sum = ofToken.map((number, i) => number + ofPosition[i]);
  const most = Math.max(...[ofToken, ofPosition, sum].flatMap(row => Array.from(row, Math.abs)));
  find("strips").replaceChildren(strip(`wte[${id}]`, "token", ofToken, most),
    strip(`+ wpe[${place}]`, "position", ofPosition, most), strip("= x", "sum", sum, most));
}

function drawNearest() {
  const { position } = state, cosines = part(arrays.cosines, position);
  const near = Array.from(part(arrays.nearest, position), (other, i) =>
    el("li", { class: "chip" }, token(other), el("small", {}, rounded(cosines[i]))));
  find("nearest").replaceChildren(...near);
  if (!twin) return;
  say("nearest-control", `In the random twin, the most similar row has ${rounded(part(twin.cosines, position)[0])}.`);
}

function strip(name, meaning, numbers, most) { // a bar for each number, up or down from the middle
  const bar = (number, i) => `M${i} 50V${(50 - 49 * number / most).toFixed(1)}h1V50z`;
  const bars = keep => Array.from(numbers, (number, i) => keep(number) ? bar(number, i) : "").join("");
  const range = `${rounded(Math.min(...numbers))} to ${rounded(Math.max(...numbers))}`;
  const picture = drawing(numbers.length, 100, `${name}: ${numbers.length} numbers, ${range}`,
    svg("path", { class: "positive", d: bars(x => x > 0) }), svg("path", { class: "negative", d: bars(x => x < 0) }));
  picture.setAttribute("preserveAspectRatio", "none");
  return el("div", { class: "strip" }, el("div", {}, code(name), el("small", {}, `${meaning}: ${range}`)), picture);
}

// ---- 3 attention ---------------------------------------------------------------------------------------------

function drawAttention() {
  const { layer, head, position } = state, weights = attentionRow(layer, head, position);
  sayAttention(layer, head, position, weights);
  sayCut(layer, head);
  check(heads(), layer * n_head + head);
  drawArcs(weights);
  drawMap(layer, head);
  drawNumbers(layer, head, position, weights);
}

function sayAttention(layer, head, position, weights) {
  const from = token(data.ids[position]);
  const where = `Each layer has ${counted(n_head, "head")}. In head ${head} of layer ${layer}, `;
  if (weights.length === 1) return say("attention-says", where, from, ", the first token, can look only at itself.");
  const best = indexOfLargest(weights);
  const earlier = best < n_earlier ? "all earlier tokens together (…)" : token(data.ids[best - n_earlier]);
  const control = twin ? " In the same head of the random twin, the largest weight on one token is " +
    `${rounded(part(twin.largest_weights, layer, head, position))}.` : "";
  say("attention-says", where, from, " looks most at ", best === weights.length - 1 ? "itself" : earlier,
    `, with the weight ${rounded(weights[best])}.${control}`);
}

function sayCut(layer, head) {
  find("cuts-says").classList.toggle("quiet", state.position !== opening);
  if (!cuts) return say("cuts-says", "Whether this head matters was not computed (--no_cuts).");
  const p = nextLikelihood(opening), without = part(cuts.likely, layer, head), all = cuts.likely.values;
  const [least, second = 0] = Float32Array.from(all).sort();
  const isLowest = without === least && without < Math.min(second, p);
  const change = percent(p) === percent(without) ? ` stays at ${percent(p)}` :
    ` ${without < p ? "falls" : "rises"} from ${percent(p)} to ${percent(without)}`;
  const compared = all.length > 1 ? `; the median over all ${all.length} heads is ${percent(median(all))}` : "";
  const isFirst = layer === firstLayer && head === firstHead; // the twin was tried without this one only
  const control = cuts.twin && isFirst ? ` For the random twin, it is ` +
    `${percent(part(twin.pair_likely, opening, 0))} with and ${percent(cuts.twin.values[0])} without this head.` : "";
  say("cuts-says", "If the output of this head is set to 0, the probability of ", token(nextId(opening)),
    ` after the prompt${change}`, isLowest ? ", lower than without any other head" : "", `${compared}.${control}`);
}

// arcs: from the chosen token back to each token that it may look at

function drawArcs(weights) {
  const keys = indices(weights.length), end = keys.length - 1, best = indexOfLargest(weights);
  const widths = keys.map(key => Math.max(widthOf(keyLabel(key), 13), 26));
  const { places, isUpright, width } = sideBySide(widths, find("arcs").clientWidth - 40);
  const top = end === 0 ? 60 : 112, depth = isUpright ? Math.max(...widths) : 13;
  const texts = keys.flatMap(key => {
    const strong = key === best || key === end ? "bold" : "";
    const name = under(places[key], top + 6, keyLabel(key), strong, isUpright);
    const number = under(places[key], top + 12 + depth, rounded(weights[key]), `number ${strong}`, isUpright);
    return weights[key] > LARGE ? [name, number] : [name];
  });
  const height = top + depth + (isUpright ? 46 : 28);
  const spoken = `From ${keyLabel(end)} back to: ${largestInWords(weights)}`;
  const arcs = keys.map(key => arc(places[key], places[end], top, (end - key) / Math.max(end, 1), weights[key]));
  find("arcs").replaceChildren(drawing(width, height, spoken, ...arcs, ...texts));
  find("arcs").scrollLeft = Math.min(places[best] - 40, width); // the thickest arc is in view
}

function sideBySide(widths, room) { // the middle of each name; where there is no room, they stand upright
  const n = widths.length, isUpright = total(widths) + 8 * (n - 1) > room;
  const gap = isUpright ? 0 : Math.min((room - total(widths)) / Math.max(n - 1, 1), 44);
  const lengths = isUpright ? widths.map(() => Math.max(17, Math.min(40, room / n))) : widths;
  const places = lengths.map((length, i) => 12 + total(lengths.slice(0, i)) + i * gap + length / 2);
  return { places, isUpright, width: places[n - 1] + lengths[n - 1] / 2 + 36 };
}

function arc(from, to, y, distance, weight) { // distance: from 0, a loop, to 1, the highest
  const height = distance ? 130 * distance ** 0.6 : 60, loop = distance ? 0 : 30;
  const d = `M${from} ${y}C${from - loop} ${y - height} ${to + loop} ${y - height} ${to} ${y}`;
  const thick = Math.max((distance ? 9 : 5) * weight, 0.3);
  return svg("path", { class: "arc", d, "data-weight": weight.toFixed(6), "stroke-width": thick });
}

function under(x, y, text, style, isUpright) { // a text below a point
  const turned = { x: x + 4, y, "text-anchor": "end", transform: `rotate(-90 ${x + 4} ${y})` };
  return svg("text", { class: style, ...(isUpright ? turned : { x, y: y + 11, "text-anchor": "middle" }) }, text);
}

// all heads, as small maps

function heads() {
  return [...find("heads").querySelectorAll(".head")];
}

function drawHeads() {
  const rows = indices(n_layer).map(layer => [
    el("span", { class: "name", "aria-hidden": "true" }, `layer ${layer}`),
    ...indices(n_head).map(head => headButton(layer, head)),
  ]);
  find("heads").style.setProperty("--n-head", n_head);
  find("heads").replaceChildren(...rows.flat());
  if (cuts) say("heads-says", "The number under a head: the probability of ", token(nextId(opening)), " after the ",
    `prompt without that head, in percent; it is ${percent(nextLikelihood(opening))} with all of them.`);
}

function headButton(layer, head) {
  const without = cuts ? `: without it, ${percent(part(cuts.likely, layer, head))}` : "";
  const spoken = `head ${head} of layer ${layer}${without}`;
  const attributes = { type: "button", role: "radio", class: "head", "aria-label": spoken, title: spoken };
  const on = { click: () => openHead(layer, head) };
  const button = el("button", { ...attributes, on }, thumbnail(layer, head), cuts ? withoutHead(layer, head) : "");
  return choosable(button, heads, layer * n_head + head, n_head);
}

function withoutHead(layer, head) { // the probability in percent, the stronger the orange, the lower
  const p = part(cuts.likely, layer, head);
  const small = el("small", {}, p >= 0.1 ? (100 * p).toFixed(1) : p > 1e-6 ? (100 * p).toPrecision(2) : "0");
  shade(small, theme.orange, 0.9 * Math.max(1 - p / nextLikelihood(opening), 0));
  return small;
}

function thumbnail(layer, head) {
  const n_keys = n_shown + n_earlier, image = new ImageData(n_keys, n_shown);
  indices(n_shown).forEach(row => attentionRow(layer, head, row).forEach((weight, column) =>
    image.data.set([...theme.blue, 255 * weight ** 0.8], 4 * (row * n_keys + column))));
  const canvas = el("canvas", { width: n_keys, height: n_shown });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function openHead(layer, head) {
  Object.assign(state, { layer, head });
  drawAttention();
}

// the map of the open head

function drawMap(layer, head) {
  const box = find("map"), n_keys = n_shown + n_earlier;
  box.classList.toggle("wide", n_shown > 28 || n_head > 8);
  const left = Math.max(...data.ids.map(id => widthOf(label(id), 12))) + 10;
  const cell = Math.max(Math.min(26, (box.clientWidth - 12 - left) / n_keys), 12);
  const rows = indices(n_shown).map(row => mapRow(row, attentionRow(layer, head, row), left, cell));
  const { position } = state, width = left + n_keys * cell + 4, height = n_shown * cell + 4;
  const frame = svg("rect", { class: "frame", x: left - 1, y: position * cell - 0.5, rx: 3,
    width: (position + 1 + n_earlier) * cell + 2, height: cell + 1 });
  const spoken = `Map of head ${head} of layer ${layer}: ${counted(n_shown, "row")}, each adds up to 1. ` +
    `Row ${label(data.ids[position])}: ${largestInWords(attentionRow(layer, head, position))}`;
  box.replaceChildren(drawing(width, height, spoken, ...rows, frame));
}

function mapRow(row, weights, left, cell) {
  const name = label(data.ids[row]), middle = (row + 0.5) * cell;
  const style = row === state.position ? "bold" : "";
  const text = svg("text", { class: style, x: left - 6, y: middle + 4, "text-anchor": "end" }, name);
  text.style.fontSize = `${Math.min(12, 0.8 * cell)}px`;
  const squares = weights.flatMap((weight, key) => {
    const ground = mixed(theme.blue, 0.04 + 0.96 * weight), x = left + key * cell;
    const square = svg("rect", { x: x + 0.5, y: row * cell + 0.5, width: cell - 1, height: cell - 1, rx: 2 },
      svg("title", {}, `${name} looks at ${keyLabel(key)}: ${rounded(weight)}`));
    square.style.fill = css(ground);
    if (weight <= LARGE || cell < 18) return [square];
    const short = rounded(weight).replace("0.", ".").replace("1.00", "1.0");
    const at = { x: x + 0.5 * cell, y: middle + 3.5, "text-anchor": "middle" };
    const number = svg("text", { class: "number", ...at }, short);
    number.style.fill = inkOn(ground);
    return [square, number];
  });
  return svg("g", { "data-row": row, on: { click: () => choose(row) } }, text, ...squares);
}

// the numbers of the chosen row, step by step

function drawNumbers(layer, head, position, weights) {
  const scores = part(arrays.scores, layer, head, position), root = Math.sqrt(n_embd / n_head);
  const rows = Array.from(scores, (score, key) => {
    const isSeen = key < weights.length;
    const steps = [key < n_earlier ? "" : rounded(score * root), rounded(score), isSeen ? rounded(score) : "−∞",
      isSeen ? weights[key].toFixed(4) : "0"];
    return el("tr", { class: key === position + n_earlier ? "chosen" : "" },
      el("th", { scope: "row" }, tokenOf(keyLabel(key))), ...steps.map(step => el("td", {}, step)));
  });
  say("d-head", `d = ${counted(n_embd / n_head, "number")}`);
  find("number-rows").replaceChildren(...rows);
}

// ---- 4 the residual stream -----------------------------------------------------------------------------------

const n_parts = 2 * n_layer + 2; // the embedding, an attention and an MLP in each layer, the bias of the last norm

function partName(i) {
  if (i === 0) return "embedding";
  return i === n_parts - 1 ? "bias of the last norm" : `layer ${(i - 1) >> 1} ${i % 2 ? "attention" : "MLP"}`;
}

function difference([one, other]) { // how much is added for the one token more than for the other
  return one - other;
}

function differences(array, position) { // of each part
  return indices(n_parts).map(i => difference(part(array, i, position)));
}

function drawStream() {
  const { position } = state, [id, rival] = part(arrays.pairs, position);
  const pushes = differences(arrays.attribution, position);
  sayStream(position, id, rival, pushes);
  const column = (name, ...pieces) => el("th", { scope: "col", class: name }, ...pieces);
  find("part-names").replaceChildren(column("", "part"), el("td", { class: "length wide" }),
    column("value", "length of x after it"), column("value each", "for ", token(id)),
    column("value each", "for ", token(rival)),
    el("th", { scope: "colgroup", colspan: 2 }, "difference: right favours ", token(id), ", left ", token(rival)));
  const most = Math.max(...pushes.map(Math.abs), 1e-9);
  const lengths = indices(n_parts - 1).map(i => part(arrays.lengths, i, position)), longest = Math.max(...lengths);
  const rows = pushes.map((push, i) => {
    const [one, other] = part(arrays.attribution, i, position), hasLength = i < lengths.length;
    return partRow(i % 2 ? "layer" : "", partName(i), hasLength ? track(0, lengths[i] / longest) : "",
      hasLength ? lengths[i].toFixed(1) : "", signed(one), signed(other), track(0.5, push / most / 2), signed(push));
  });
  const logits = Array.from(part(arrays.pair_logits, position), signed);
  const sum = partRow("sum", "sum", "", "", ...logits, "", signed(total(pushes)));
  find("part-rows").replaceChildren(...rows, sum);
}

function partRow(kind, name, ...cells) {
  const columns = ["length wide", "value", "value each", "value each", "wide", "value"];
  return el("tr", { class: kind }, el("th", { scope: "row" }, name),
    ...cells.map((cell, i) => el("td", { class: columns[i] }, cell)));
}

function sayStream(position, id, rival, pushes) {
  const sum = total(pushes), [ahead, behind] = sum >= 0 ? [id, rival] : [rival, id];
  say("stream-says", "What did each part add for ", token(id),
    position < last ? ", which came, and for " : ", the likeliest token, and for ", token(rival),
    `, the likeliest other one? The sums are their logits; the difference, ${signed(sum)}, makes `, token(ahead),
    ` ${timesAsLikely(sum)} `, token(behind), ". ", ...strongest(position, id, pushes));
  if (!twin) return;
  const theirs = Math.ceil(100 * Math.max(...differences(twin.attribution, position).map(Math.abs))) / 100;
  const length = i => part(twin.lengths, i, position).toFixed(1);
  say("stream-control", `In the random twin, no part changes this difference by more than ${rounded(theirs)}; its x `,
    `has the length ${length(0)} at first and ${length(n_parts - 2)} in the end.`);
}

function timesAsLikely(difference) { // of logits -> words
  const times = Math.exp(Math.abs(difference));
  if (times < 1.05) return "about as likely as";
  if (times > 1e6) return "more than a million times as likely as";
  const shown = times < 10 ? times.toFixed(1) : grouped(Math.round(times));
  return `e^${rounded(Math.abs(difference))} = ${shown} times as likely as`;
}

function strongest(position, id, pushes) { // -> a sentence: the part, and the head, that favour the token most
  const i = indexOfLargest(pushes), isInLayer = i > 0 && i < n_parts - 1;
  if (pushes[i] < 0.005) return ["No part clearly favours ", token(id), "."];
  const sentence = [token(id), ` gains most from ${isInLayer ? "" : "the "}${partName(i)}: ${signed(pushes[i])}`];
  if (!isInLayer || i % 2 === 0) return [...sentence, "."];
  const ofHeads = indices(n_head).map(j => difference(part(arrays.head_attribution, (i - 1) >> 1, position, j)));
  const head = indexOfLargest(ofHeads);
  return [...sentence, ` (its head ${head} alone: ${signed(ofHeads[head])}).`];
}

// ---- 5 the lens ----------------------------------------------------------------------------------------------

function lensName(row) {
  return row === 0 ? "embedding" : `after layer ${row - 1}`;
}

function drawLens() {
  const column = i => el("th", { scope: "col", "data-column": i }, token(data.ids[i]));
  const head = el("tr", {}, el("th", { scope: "col" }, "from"), ...indices(n_shown).map(column));
  const rows = indices(n_layer + 1).map(row =>
    el("tr", {}, el("th", { scope: "row" }, lensName(row)), ...indices(n_shown).map(i => lensCell(row, i))));
  find("lens-table").replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
  say("lens-head", data.is_tied ? code("wte") : "the head");
  if (twin) sayLensControl();
}

function lensCell(row, i) {
  const id = part(arrays.lens, row, i), p = part(arrays.lens_likely, row, i);
  const isFinal = id === part(arrays.lens, n_layer, i);
  const title = `${lensName(row)}, from ${label(data.ids[i])}: ${label(id)}, ${percent(p)}`;
  const cell = el("td", { class: isFinal ? "final" : "", "data-column": i, title, on: { click: () => choose(i) } },
    token(id), el("small", {}, percent(p)));
  shade(cell, theme.blue, 0.04 + 0.86 * p);
  return cell;
}

function markLens() {
  const { position } = state, table = find("lens-table"), box = find("lens-scroll");
  table.querySelectorAll("[data-column]").forEach(cell => {
    const distance = cell.dataset.column - position;
    cell.classList.toggle("chosen", distance === 0);
    cell.setAttribute("aria-current", distance === 0);
    cell.classList.toggle("far", distance < -4 || distance > 2); // left out when printed
  });
  const column = table.querySelector(`thead [data-column="${position}"]`);
  box.style.scrollPaddingLeft = `${table.querySelector("tbody th").offsetWidth}px`;
  box.scrollLeft = column.offsetLeft + column.offsetWidth - box.clientWidth + 40;
  sayLens(position);
}

function sayLens(position) {
  const final = part(arrays.lens, n_layer, position);
  let since = n_layer;
  while (since > 0 && part(arrays.lens, since - 1, position) === final) since--;
  const when = since === 0 ? "at the embedding, before any layer" : lensName(since);
  say("lens-says", "From ", token(data.ids[position]), ", the model settles on ", token(final), ` ${when}.`);
}

function sayLensControl() {
  const half = n_layer >> 1, where = half === 0 ? "At the embedding" : `After layer ${half - 1}`;
  const settled = lens => indices(n_shown).filter(i => part(lens, half, i) === part(lens, n_layer, i)).length;
  const same = lens => indices(n_shown).filter(i => part(lens, n_layer, i) === data.ids[i]).length;
  say("lens-control", `${where}, the model already has its final answer at ${settled(arrays.lens)} of `,
    `${counted(n_shown, "position")}; the random twin, at ${settled(twin.lens)}. The final answer of the twin `,
    `repeats the token just read at ${same(twin.lens)} of them, that of the model at ${same(arrays.lens)}.`);
}

// ---- 6 the next token ----------------------------------------------------------------------------------------

const N_BARS = 20;
const TOP_K = [1, 2, 3, 5, 10, 20, 40, 80, 160, 256, Infinity];
const SLIDERS = { // words: how a setting is shown; read: the setting at a place of the slider
  temperature: { min: 0, max: 2, step: 0.05, value: 1, words: x => x.toFixed(2) },
  top_k: { min: 0, max: TOP_K.length - 1, step: 1, value: TOP_K.length - 1,
    words: k => k === Infinity ? "off" : k, read: place => TOP_K[place] },
  top_p: { min: 0.05, max: 1, step: 0.01, value: 1, words: p => p === 1 ? "off" : p.toFixed(2) },
  min_p: { min: 0, max: 0.5, step: 0.01, value: 0, words: p => p === 0 ? "off" : p.toFixed(2) },
};
let random = randomFrom(0);

function drawSliders() {
  const seed = el("input", { type: "number", id: "seed", min: 0, step: 1, value: 0, on: { input: forget } });
  const draw = el("button", { type: "submit", id: "draw" }, "draw");
  const again = el("button", { type: "button", class: "plain", id: "again", on: { click: forget } }, "clear");
  find("sliders").replaceChildren(...Object.keys(SLIDERS).map(slider), el("label", {}, "seed", seed),
    el("div", { class: "buttons" }, draw, again),
    el("div", { id: "drawn", role: "log", "aria-label": "drawn tokens", tabindex: 0 }));
  find("sliders").addEventListener("submit", event => {
    event.preventDefault();
    drawOne();
  });
}

function slider(setting) {
  const { words, read = Number, ...range } = SLIDERS[setting], id = `slider-${setting}`;
  const output = el("output", { for: id });
  const input = el("input", { type: "range", id, ...range, on: { input: () => {
    state[setting] = read(input.value);
    tell();
    forget();
  } } });
  const tell = () => {
    output.textContent = words(state[setting]);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  tell();
  return el("label", {}, setting.replace("_", "-"), input, output);
}

function forget() { // what was drawn; the next draw begins with the seed
  random = randomFrom(Number(find("seed").value));
  state.drawn = null;
  say("drawn");
  drawNext();
}

function drawOne() {
  const { likeliest } = shares(state.position, state), ids = part(arrays.likeliest, state.position);
  let left = random(), i = 0;
  while (i < likeliest.length && left >= likeliest[i]) left -= likeliest[i++];
  state.drawn = i < ids.length ? ids[i] : null;
  const name = state.drawn === null ? el("em", {}, `a token beyond the ${ids.length} likeliest`) : token(state.drawn);
  find("drawn").append(name, " ");
  find("drawn").scrollTop = find("drawn").scrollHeight;
  drawNext();
}

function drawNext() {
  const { position, drawn } = state, ids = part(arrays.likeliest, position), n_bars = Math.min(N_BARS, ids.length);
  const { likeliest, others, isExact } = shares(position, state), before = shares(position, AS_IT_IS).likeliest;
  const isChanged = likeliest[0] !== before[0];
  sayNext(position, ids);
  find("bars").replaceChildren(...indices(n_bars).map(i => {
    const p = likeliest[i], bar = el("li", { "data-p": p.toFixed(9), "data-id": ids[i] }, token(ids[i]),
      track(0, p, isChanged ? before[i] : null), el("span", { class: "share" }, p ? percent(p) : "out"));
    bar.classList.toggle("came", position < last && ids[i] === nextId(position));
    bar.classList.toggle("drawn", ids[i] === drawn);
    return bar;
  }));
  const rest = total(likeliest.slice(n_bars)) + others;
  say("exact", `All other tokens together: ${rest ? percent(rest) : "0\u00a0%"}. `, isExact ? "" :
    `The cut falls beyond the ${ids.length} likeliest tokens, which the page has only in groups: these numbers are ` +
    "accurate to 0.2\u00a0%.");
}

function sayNext(position, ids) {
  const id = nextId(position), p = percent(nextLikelihood(position)), rank = ids.indexOf(id);
  const place = rank < 0 ? `at least ${ids.length} tokens were likelier` :
    rank === 0 ? "the model’s first choice" : `number ${rank + 1} on the model’s list`;
  const underlined = rank >= 0 && rank < N_BARS ? " (underlined)" : "";
  const came = position === last ? ["The text ends here. The likeliest next token is ", token(id), `, with ${p}.`] :
    ["After ", token(data.ids[position]), " came ", token(id), `${underlined}, with ${p}: ${place}.`];
  const control = twin ? ` The random twin gives it ${percent(part(twin.pair_likely, position, 0))}, and no token ` +
    `more than ${percent(part(twin.lens_likely, n_layer, position))}.` : "";
  say("next-says", ...came, control);
}

// ---- all of it -----------------------------------------------------------------------------------------------

function choose(position) {
  if (position < 0 || position > last) return;
  state.position = position;
  render();
}

function render() {
  drawBar();
  markChips();
  drawVectors();
  drawNearest();
  drawAttention();
  drawStream();
  markLens();
  forget();
}

function renderAll() {
  const focused = document.activeElement.closest("#chips, #heads");
  readTheme();
  drawChips();
  drawHeads();
  drawLens();
  render();
  if (focused) focused.querySelector("[aria-checked=true]").focus();
}

function setPrinted(isPrinted) { // on paper, in light colours
  document.documentElement.toggleAttribute("data-print", isPrinted);
  renderAll();
}

let width = innerWidth;

readTheme();
drawFrame();
drawSliders();
renderAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renderAll);
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's height changes as it scrolls
  width = innerWidth;
  drawAttention();
});
addEventListener("beforeprint", () => setPrinted(true));
addEventListener("afterprint", () => setPrinted(false));
