// The colour of a class: the same as in pictures that `singleshot predict` draws (images/draw.py).

const GOLDEN_TURN = 0.6180339887;
const SATURATION = 0.85;

/** [r, g, b] in 0..255. */
export function classColour(label) {
  const hue = (0.08 + label * GOLDEN_TURN) % 1;
  const lightness = [0.5, 0.62, 0.42][label % 3];
  const top = lightness <= 0.5 ? lightness * (1 + SATURATION) : lightness + SATURATION - lightness * SATURATION;
  const bottom = 2 * lightness - top;
  return [hue + 1 / 3, hue, hue - 1 / 3].map((turn) => Math.round(255 * channel(bottom, top, ((turn % 1) + 1) % 1)));
}

function channel(bottom, top, turn) {
  if (turn < 1 / 6) return bottom + (top - bottom) * 6 * turn;
  if (turn < 1 / 2) return top;
  if (turn < 2 / 3) return bottom + (top - bottom) * 6 * (2 / 3 - turn);
  return bottom;
}

export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Black or white, whichever reads better on a colour (WCAG's relative luminance). */
export function inkOn(colour) {
  const linear = colour.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}
