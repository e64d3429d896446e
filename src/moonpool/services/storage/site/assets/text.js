// A model's text as nodes: fenced code, inline code and bold; all else as it is. Never through innerHTML.

const FENCE = /\n*```([^\n`]*)\n([\s\S]*?)(?:```\n*|$)/g; // with the blank lines around it
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*/g;

/** A DocumentFragment; an open fence at the end of a growing answer is code already. */
export function renderText(text) {
  const fragment = document.createDocumentFragment();
  each(text, FENCE, (plain) => fragment.append(inline(plain)), ([, , code]) => {
    const block = document.createElement("pre");
    block.tabIndex = 0; // so that the keyboard can scroll it
    block.append(element("code", code.replace(/\n$/, "")));
    fragment.append(block);
  });
  return fragment;
}

function inline(text) {
  const fragment = document.createDocumentFragment();
  each(text, INLINE, (plain) => fragment.append(plain), ([, code, strong]) => {
    fragment.append(code === undefined ? element("strong", strong) : element("code", code));
  });
  return fragment;
}

function each(text, pattern, onPlain, onMatch) {
  let position = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > position) onPlain(text.slice(position, match.index));
    onMatch(match);
    position = match.index + match[0].length;
  }
  if (position < text.length) onPlain(text.slice(position));
}

function element(name, text) {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}
