// What of the candidates is shown: the rules of singleshot's core/postprocess, from rule 7 on, in float32 as there.

const f = Math.fround;

/** Width or height that two ranges share. */
const common = (low, high) => f(Math.max(0, f(high - low)));

const area = ([x1, y1, x2, y2]) => f(common(x1, x2) * common(y1, y2));

/** Intersection over union of two boxes [x1, y1, x2, y2]. */
export function overlap(a, b, unionEps = 0) {
  const width = common(Math.max(a[0], b[0]), Math.min(a[2], b[2]));
  const height = common(Math.max(a[1], b[1]), Math.min(a[3], b[3]));
  const shared = f(width * height);
  const union = f(f(f(area(a) + area(b)) - shared) + f(unionEps));
  return f(shared / Math.max(union, 1.1754943508222875e-38));
}

const clipped = ([x1, y1, x2, y2], width, height) => {
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  return [within(x1, width), within(y1, height), within(x2, width), within(y2, height)];
};

/**
 * The candidates that a score, an overlap and a choice of classes leave, best first.
 *
 * candidates: [{box_xyxy: [x1, y1, x2, y2], score, class_id, class_name}], none suppressed yet, as `/detect` gives them.
 * rules: of the model, as `/models` gives them: {nms_compare, class_agnostic, nms_union_eps, max_per_class,
 *   max_detections}; what is missing limits nothing.
 * size_hw: of the picture in pixels.
 * settings: {score, overlap, hidden}: least score (exclusive), overlap that suppresses, a Set of class names; overlap
 *   may be null: nothing more is suppressed.
 */
export function suppress(candidates, rules, size_hw, settings) {
  const [height, width] = size_hw;
  const eps = (rules.nms_union_eps ?? 0) * height * width;
  const rounded = (candidate) => ({ ...candidate, box_xyxy: candidate.box_xyxy.map(f) });
  const iou = settings.overlap === null ? Infinity : f(settings.overlap);
  const order = candidates.map(rounded).filter((one) => f(one.score) > f(settings.score));
  order.sort((a, b) => b.score - a.score); // stable: equal scores stay in the server's order
  const groups = new Map();
  const kept = [];
  for (const one of order) {
    const key = rules.class_agnostic ? "" : one.class_id;
    if (!groups.has(key)) groups.set(key, []);
    const boxes = groups.get(key);
    if (boxes.length >= (rules.max_per_class ?? Infinity)) continue;
    const strikes = (box) => {
      const value = overlap(box, one.box_xyxy, eps);
      return rules.nms_compare === ">=" ? value >= iou : value > iou;
    };
    if (boxes.some(strikes)) continue;
    boxes.push(one.box_xyxy);
    kept.push(one);
  }
  const shown = kept.filter((one) => !settings.hidden.has(one.class_name)).slice(0, rules.max_detections ?? Infinity);
  return shown.map((one) => ({ ...one, box_xyxy: clipped(one.box_xyxy, width, height) }));
}
