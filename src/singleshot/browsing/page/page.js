// The page: filters, the grid of images, the list of likely mistakes. The viewer is in viewer.js.

import { badge, chip, counted, make, number, overlay, picture } from "./drawing.js";
import { Viewer } from "./viewer.js";

const PAGE = 60;
const at = (id) => document.getElementById(id);
const state = { summary: null, ids: [], page: 0, view: "images", suspects: [], show: { labels: true, found: true, score: 0.3 } };

export async function ask(place, query = {}) {
  return answer(await fetch(`ask/${place}?${new URLSearchParams(query)}`));
}

async function decide(verdict) {
  try {
    const body = JSON.stringify(verdict);
    const done = await answer(await fetch("decide", { method: "POST", headers: { "Content-Type": "application/json" }, body }));
    showState(done);
    return done.item;
  } catch (error) {
    complain(error);
    return null;
  }
}

async function answer(response) {
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

let silence;
function complain(error) {
  at("toast").textContent = error instanceof TypeError ? "The server does not answer: has it ended?" : error.message;
  at("toast").hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => { at("toast").hidden = true; }, 8000);
}

const viewer = new Viewer(at("viewer"), state, { ask, decide, complain, closed: refresh });

function showState({ decisions, model, file }) {
  const parts = Object.entries(decisions).flatMap(([action, count], place) => {
    const figure = make("b");
    figure.textContent = number(count);
    return [place ? " · " : "", figure, ` ${action}`];
  });
  at("decided").replaceChildren(...parts);
  at("decided").title = file;
  at("help-file").textContent = file;
  at("model").hidden = !model;
  if (!model) return;
  const all = state.summary.images;
  at("model").classList.toggle("failed", Boolean(model.error));
  const unread = model.unreadable ? `, ${model.unreadable} unreadable` : "";
  at("model-text").textContent = model.error || `${model.name}: ${number(model.done)} of ${number(all)} images${unread}`;
  at("model-bar").max = all;
  at("model-bar").value = model.done;
  at("model-bar").hidden = model.done >= all || Boolean(model.error);
  if (model.done < all && !model.error) watch();
}

let watching;
function watch() {
  clearTimeout(watching);
  watching = setTimeout(async () => {
    try {
      const before = at("model-bar").value;
      const now = await ask("state");
      showState(now);
      const first = state.view === "suspects" && !state.suspects.length && now.model.done > before;
      if (now.model.done >= state.summary.images || first) refresh();
      else if (state.view === "images" && state.blank && viewer.root.hidden && !at("grid").contains(document.activeElement)) draw();
    } catch (error) { complain(error); }
  }, 1500);
}

function options(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => make("option", { value }, text)));
}

function fillFilters({ classes, sizes, splits, kinds, empty, elsewhere, more_elsewhere, model }) {
  const form = at("form");
  const byCount = classes.map((row, index) => [index, row]).sort((a, b) => b[1].objects - a[1].objects);
  const none = empty ? [["-1", `no object at all (${number(empty)} images)`]] : [];
  options(form.elements.class, [["", "any"], ...none, ...byCount.map(([index, row]) => [index, `${row.name} (${number(row.objects)})`])]);
  options(form.elements.size, [["", "any"], ...sizes.map((name, index) => [index, name])]);
  options(form.elements.split, [["", "any"], ...splits.map((row, index) => [index, `${row.name} (${number(row.images)})`])]);
  const some = kinds.length ? [["-1", "any problem"]] : [];
  options(form.elements.kind, [["", kinds.length ? "with or without" : "none found"], ...some, ...kinds.map((row, index) => [index, `${row.name} (${number(row.images)})`])]);
  form.elements.order.querySelector("[value=doubt]").hidden = !model;
  at("show-found-line").hidden = !model;
  at("score").parentElement.hidden = !model;
  at("tab-suspects").hidden = !model;
  at("elsewhere").hidden = !elsewhere.length;
  at("elsewhere-title").textContent = `${counted(elsewhere.length + more_elsewhere, "problem")} of no image here`;
  at("elsewhere-list").replaceChildren(...elsewhere.map((text) => make("li", {}, text)));
}

async function refresh() {
  try {
    if (state.view === "suspects") {
      const found = await ask("suspects");
      const kind = at("suspect-kind").value;
      state.suspects = found.suspects.filter((suspect) => !kind || suspect.kind === kind);
      state.all = kind ? state.suspects.length : found.total;
    } else {
      const fields = [...new FormData(at("form"))].filter(([, value]) => value !== "");
      state.ids = (await ask("ids", fields)).ids;
    }
    await draw();
  } catch (error) { complain(error); }
}

async function draw() {
  const list = state.view === "suspects" ? state.suspects : state.ids;
  const pages = Math.max(Math.ceil(list.length / PAGE), 1);
  state.page = Math.min(state.page, pages - 1);
  const shown = list.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const grid = at("grid");
  grid.classList.toggle("wide", state.view === "suspects");
  if (state.view === "suspects") {
    at("count").textContent = list.length ? `${counted(state.all, "likely mistake")}, the likeliest first` : "";
    grid.replaceChildren(...shown.map(suspectCard));
  } else {
    at("count").textContent = counted(list.length, "image");
    const { items } = shown.length ? await ask("items", { ids: shown.join(",") }) : { items: [] };
    state.blank = items.some((item) => !item.found);
    grid.replaceChildren(...items.map((item, place) => tile(item, state.page * PAGE + place)));
  }
  if (!shown.length) grid.append(make("li", { class: "empty" }, emptyText()));
  at("where").textContent = `${number(state.page + 1)} of ${number(pages)}`;
  at("back").disabled = state.page === 0;
  at("on").disabled = state.page + 1 >= pages;
}

function emptyText() {
  if (state.view === "images") return "No image is left by these filters.";
  return at("model-bar").hidden ? "No contradiction between labels and predictions is left." : "The model is looking …";
}

function tile(item, place) {
  const decided = item.boxes.filter((box) => box[5]).length;
  const names = new Map();
  for (const box of item.boxes) names.set(box[4], (names.get(box[4]) ?? 0) + 1);
  const what = [...names].map(([id, count]) => `${count} ${state.summary.classes[id].name}`).join(", ");
  return make("li", {}, make(
    "button", { type: "button", class: `tile ${item.action === "drop" ? "dropped" : ""}`, onclick: () => viewer.open(place) },
    picture(`picture/${item.id}`, overlay(item, state.summary.classes, state.show), "span", {}, what),
    make("span", { class: "caption" },
      make("span", { class: "name", title: item.name }, item.name),
      make("span", { class: "more" }, counted(item.objects, "object")),
      item.action ? badge(item.action, `image: ${item.action}`) : null,
      decided ? badge("keep", `${decided} decided`) : null,
      item.problem_count ? badge("problem", counted(item.problem_count, "problem")) : null),
  ));
}

function suspectCard(suspect) {
  const { classes } = state.summary;
  const name = (id) => make("span", {}, chip(classes[id].colour), classes[id].name);
  const seen = suspect.seen ? ` (${Math.round(100 * suspect.seen[5])}\u202f%)` : "";
  const words = {
    "wrong-class": () => ["labelled ", name(suspect.label[4]), "; the model sees ", name(suspect.likely), seen],
    "missing-label": () => ["no label; the model sees ", name(suspect.seen[4]), seen],
    "no-object": () => ["labelled ", name(suspect.label[4]), "; the model sees nothing there"],
    "misplaced-box": () => ["the box of ", name(suspect.label[4]), " fits badly; the model's is dashed", seen],
  };
  const [x0, y0, x1, y1] = suspect.part;
  const item = { width: x1, height: y1, boxes: suspect.label ? [[...suspect.label, null, -1, 0]] : [], found: suspect.seen ? [suspect.seen] : [] };
  const layer = overlay(item, classes, { labels: true, found: true, score: 0 }, { part: suspect.part });
  const card = make("li", { class: "suspect" });
  const settle = (verdict) => async () => {
    if (await decide({ image: suspect.image, row: suspect.row, ...verdict })) {
      card.classList.add("done");
      card.querySelectorAll(".acts button").forEach((button) => button.setAttribute("aria-pressed", "false"));
    }
  };
  const act = (text, verdict) => make("button", {
    type: "button",
    onclick: async (event) => { await settle(verdict)(); if (card.classList.contains("done")) event.target.setAttribute("aria-pressed", "true"); },
  }, text);
  const acts = suspect.row === null
    ? [act("Nothing is missing", { action: "keep" }), act("Drop the image", { action: "drop" })]
    : [
      suspect.likely === null ? null : act(`Relabel: ${classes[suspect.likely].name}`, { action: "relabel", to: suspect.likely }),
      act("Keep", { action: "keep" }), act("Drop", { action: "drop" }),
    ];
  card.append(
    picture(`picture/${suspect.image}?part=${suspect.part.join(",")}`, layer, "button", {
      type: "button", "aria-label": `Open ${suspect.name}`, onclick: () => openImage(suspect),
    }),
    make("div", { class: "text" }, make("p", {}, ...words[suspect.kind]()), make("p", { class: "name" }, suspect.name)),
    make("div", { class: "acts" }, ...acts.filter(Boolean)),
  );
  return card;
}

function openImage({ image, row }) {
  viewer.open(0, [image], row ?? 0);
}

function setView(view) {
  state.view = view;
  state.page = 0;
  at("tab-images").setAttribute("aria-pressed", view === "images");
  at("tab-suspects").setAttribute("aria-pressed", view === "suspects");
  at("form").hidden = at("show").hidden = view === "suspects";
  at("suspect-form").hidden = view !== "suspects";
  refresh();
}

function turn(by) {
  state.page += by;
  draw().catch(complain);
  at("main").focus();
  scrollTo(0, 0);
}

let typing;
at("form").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { state.page = 0; refresh(); }, 150);
});
at("form").addEventListener("reset", () => setTimeout(() => { state.page = 0; refresh(); }));
at("form").addEventListener("submit", (event) => event.preventDefault());
at("tab-images").addEventListener("click", () => setView("images"));
at("tab-suspects").addEventListener("click", () => setView("suspects"));
at("suspect-kind").addEventListener("change", () => { state.page = 0; refresh(); });
at("back").addEventListener("click", () => turn(-1));
at("on").addEventListener("click", () => turn(1));
at("help-open").addEventListener("click", () => at("help").showModal());
at("show-labels").addEventListener("change", (event) => { state.show.labels = event.target.checked; draw().catch(complain); });
at("show-found").addEventListener("change", (event) => { state.show.found = event.target.checked; draw().catch(complain); });
at("score").addEventListener("input", (event) => {
  state.show.score = Number(event.target.value);
  at("score-out").textContent = state.show.score.toFixed(2);
  draw().catch(complain);
});
at("grid").addEventListener("keydown", (event) => {
  const tiles = [...at("grid").querySelectorAll(".tile")];
  const here = tiles.indexOf(document.activeElement);
  if (here < 0) return;
  const across = tiles.filter((one) => one.offsetTop === tiles[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  if (step && tiles[here + step]) { event.preventDefault(); tiles[here + step].focus(); }
});
addEventListener("keydown", (event) => {
  const typingNow = event.target.matches("input, select, textarea");
  if (event.key === "?" && !typingNow && !at("help").open) at("help").showModal();
});
if (matchMedia("(max-width: 46rem)").matches) at("filters").open = false;

try {
  state.summary = await ask("summary");
  document.title = `${state.summary.name} · singleshot browse`;
  at("title").title = state.summary.path;
  at("title").textContent = `${state.summary.name} · ${state.summary.format} · ${counted(state.summary.images, "image")}, ${counted(state.summary.objects, "object")}`;
  fillFilters(state.summary);
  showState(state.summary);
  await refresh();
} catch (error) { complain(error); }
