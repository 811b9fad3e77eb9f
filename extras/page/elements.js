"use strict";

// Words, elements and colours. Every text that comes from the model or the prompt is set as text, never as markup.

// ---- words ---------------------------------------------------------------------------------------------------

function percent(p) {
  if (p >= 0.001) return `${(100 * p).toFixed(1)}\u00a0%`;
  return p < 1e-6 ? "<\u202f0.0001\u00a0%" : `${Number((100 * p).toPrecision(1))}\u00a0%`;
}

function rounded(x) { // -1.5 -> "−1.50"
  return x.toFixed(2).replace("-0.00", "0.00").replace("-", "−");
}

function signed(x) { // 1.5 -> "+1.50"
  const text = rounded(x);
  return x < 0 || text === "0.00" ? text : `+${text}`;
}

function grouped(n) { // 4000 -> "4,000"
  return n.toLocaleString("en");
}

function counted(n, noun) {
  return `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
}

function label(id) {
  return data.labels[id];
}

const LARGE = 0.05; // weights above it are shown as numbers

function keyLabel(key) { // of a token that is looked at
  return key < n_earlier ? "…" : label(data.ids[key - n_earlier]);
}

function largestInWords(weights) {
  const words = weights.map((weight, key) => weight > LARGE ? `${keyLabel(key)} ${rounded(weight)}` : "");
  return `${words.filter(Boolean).join(", ") || "none"} (weights above ${LARGE})`;
}

// ---- elements ------------------------------------------------------------------------------------------------

function find(id) {
  return document.getElementById(id);
}

function say(id, ...pieces) { // a sentence of words and elements
  find(id).replaceChildren(...pieces);
}

function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) { // attributes.on: {event: listener}
  const { on = {}, ...others } = attributes;
  Object.entries(on).forEach(([event, listener]) => element.addEventListener(event, listener));
  Object.entries(others).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

function drawing(width, height, spoken, ...shapes) { // spoken: what it shows, in words
  const attributes = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken };
  return svg("svg", attributes, ...shapes);
}

function token(id) {
  return tokenOf(label(id));
}

function tokenOf(text) {
  return el("code", { class: "token" }, text);
}

function code(text) {
  return el("code", {}, text);
}

function track(from, share, tick = null) { // a bar on a track, from a place to the right, or left if below 0
  const bar = el("i", { class: share < 0 ? "negative" : "positive" });
  bar.style.left = `${100 * (from + Math.min(share, 0))}%`;
  bar.style.width = `${100 * Math.abs(share)}%`;
  const mark = tick === null ? "" : el("b");
  if (mark) mark.style.left = `${100 * tick}%`;
  return el("div", { class: from ? "track signed" : "track", "aria-hidden": "true" }, bar, mark);
}

// Of several buttons one is chosen: the arrow keys move among them, and the tab key stops only there.
function choosable(button, among, index, columns) {
  button.addEventListener("keydown", event => {
    const buttons = among();
    const key = pressed(event), step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const goal = { Home: 0, End: buttons.length - 1 }[key] ?? index + step;
    if (!(goal >= 0 && goal < buttons.length)) return;
    event.preventDefault();
    buttons[goal].click();
    among()[goal].focus();
  });
  return button;
}

function pressed(event) { // the key, if it is pressed alone: with others, it is the browser's
  return event.altKey || event.ctrlKey || event.metaKey || event.shiftKey ? "" : event.key;
}

function check(buttons, index) {
  buttons.forEach((button, i) => {
    button.setAttribute("aria-checked", i === index);
    button.tabIndex = i === index ? 0 : -1;
  });
}

const ruler = document.createElement("canvas").getContext("2d");

function widthOf(text, size) { // in pixels, in the monospace of tokens
  ruler.font = `${size}px ${getComputedStyle(document.documentElement).getPropertyValue("--mono")}`;
  return ruler.measureText(text).width;
}

// ---- colours -------------------------------------------------------------------------------------------------

let theme;

function readTheme() { // {name: [red, green, blue]}
  const style = getComputedStyle(document.documentElement);
  const rgb = name => [1, 3, 5].map(i => parseInt(style.getPropertyValue(`--${name}`).trim().slice(i, i + 2), 16));
  theme = Object.fromEntries(["ground", "ink", "blue", "orange"].map(name => [name, rgb(name)]));
}

function mixed(colour, share) { // a share of the colour over the ground
  return theme.ground.map((ground, i) => ground + share * (colour[i] - ground));
}

function css(rgb) {
  return `rgb(${rgb.map(Math.round).join(" ")})`;
}

function luminance(rgb) { // relative luminance, as WCAG 2.2 defines it
  const linear = rgb.map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function inkOn(ground) { // the softest ink that stands out
  const inks = [theme.ink, [255, 255, 255], [0, 0, 0]];
  return css(inks.find(ink => contrast(ink, ground) >= 4.5) ?? inks[2]);
}

function shade(element, colour, share) {
  const ground = mixed(colour, share);
  element.style.background = css(ground);
  element.style.color = inkOn(ground);
}
