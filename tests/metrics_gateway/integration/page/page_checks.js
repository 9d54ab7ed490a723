// Checks of a rendered page. Each check returns a list of problems, empty when there are none.

function rgba(text) {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return { red, green, blue, alpha };
}

function over(front, back) {
  const mix = (channel) => front[channel] * front.alpha + back[channel] * (1 - front.alpha);
  return { red: mix("red"), green: mix("green"), blue: mix("blue"), alpha: 1 };
}

// https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
function luminance(colour) {
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
}

function contrast(one, other) {
  const [darker, lighter] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

function backgroundOf(element) {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    layers.push(rgba(getComputedStyle(each).backgroundColor));
    if (layers.at(-1).alpha === 1) break;
  }
  return layers.reverse().reduce((back, front) => over(front, back), { red: 255, green: 255, blue: 255, alpha: 1 });
}

// Content for screen readers only is clipped, and does not count as seen.
function isSeen(element) {
  for (let each = element; each; each = each.parentElement) {
    if (getComputedStyle(each).clipPath !== "none") return false;
  }
  return element.checkVisibility();
}

function seenTexts() {
  document.querySelectorAll("details").forEach((each) => (each.open = true));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() && range.getClientRects().length && isSeen(element)) {
      found.push({ text: walker.currentNode.data.trim(), element });
    }
  }
  return found;
}

// WCAG AA: 4.5, and 3 for large text.
function faintTexts() {
  return seenTexts().flatMap(({ text, element }) => {
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = contrast(over(rgba(style.color), backgroundOf(element)), backgroundOf(element));
    return ratio < needed ? [`${text}: ${ratio.toFixed(2)} of ${needed}`] : [];
  });
}

// WCAG AA for graphics: 3.
function faintShapes() {
  return [...document.querySelectorAll("rect[class^=s], .mark")].flatMap((shape) => {
    const ratio = contrast(rgba(getComputedStyle(shape).fill), backgroundOf(shape.closest("section, header")));
    return ratio < 3 ? [`${shape.outerHTML}: ${ratio.toFixed(2)}`] : [];
  });
}

function numberOfSeenTexts() {
  return seenTexts().length;
}

function numberOfShapes() {
  return document.querySelectorAll("rect[class^=s], .mark").length;
}

// Elements beyond the sides of the screen.
function overflowing() {
  document.querySelectorAll("details").forEach((each) => (each.open = true));
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return isSeen(element) && box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
  });
  const problems = wide.map((element) => element.outerHTML.slice(0, 120));
  if (document.documentElement.scrollWidth > innerWidth) problems.push("the page scrolls sideways");
  return problems;
}

// Texts that overflow their box where the box does not clip them.
function spilling() {
  return [...document.querySelectorAll("th, td, dd, dt, h1, h2, p, li")].flatMap((element) =>
    isSeen(element) && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline"
      ? [element.outerHTML.slice(0, 120)]
      : [],
  );
}
