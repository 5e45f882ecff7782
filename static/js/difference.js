// Which words two completions do not share, marked by highlights, so that what is shown is not touched.

const NAME = "differs";
const SLOW_MS = 400; // two texts that have nothing in common are not worth waiting for

// Words, and each character of scripts that set no words apart, with the ranges in which they stand.
function wordsOf(element) {
  const words = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const found of segments(node.data)) {
      const range = new Range();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found.segment.length);
      words.push({ text: found.segment, range });
    }
  }
  return words;
}

const segmenter = "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

function segments(text) {
  if (segmenter) return [...segmenter.segment(text)].filter((each) => each.segment.trim());
  return [...text.matchAll(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu)].map((each) => ({ segment: each[0], index: each.index }));
}

export const isShown = () => CSS.highlights?.has(NAME) ?? false;

export function hide() {
  CSS.highlights?.delete(NAME);
}

// Mark in both what the other lacks. Returns how many words differ; null where that cannot be told.
export async function show(one, other, library) {
  if (!CSS.highlights) return null;
  await import(library);
  const [left, right] = [wordsOf(one), wordsOf(other)];
  const parts = window.Diff.diffArrays(left.map((each) => each.text), right.map((each) => each.text), { timeout: SLOW_MS });
  if (!parts) return null;
  const differing = [];
  const at = { left: 0, right: 0 };
  for (const part of parts) {
    const count = part.value.length;
    if (part.removed) differing.push(...left.slice(at.left, at.left + count));
    if (part.added) differing.push(...right.slice(at.right, at.right + count));
    if (!part.added) at.left += count;
    if (!part.removed) at.right += count;
  }
  CSS.highlights.set(NAME, new Highlight(...differing.map((each) => each.range)));
  return differing.length;
}
