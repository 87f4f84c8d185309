// The layers from top to bottom, each with its maps.
"use strict";

const Layers = (() => {
  const FIRST = 16, DEEP = 24; // maps that are shown of a wide layer; steps of a network that starts closed
  const CORNER = { row: 0, column: 0 };
  const WIDE = () => (innerWidth < 576 ? 72 : 84); // CSS pixels of a map, on a phone and on a desk

  // The rows of all steps in `place`; `choose(step, index)` is called for the number that is chosen.
  function create(place, net, choose) {
    const open = net.steps.length <= DEEP;
    const rows = net.steps.map((step, i) => row(step, i, choose, open || i < 3 || i > net.steps.length - 3));
    const own = { rows, state: null };
    const longest = Math.max(...net.steps.map(({ name, transform }) => (transform ? 0 : name.length)));
    place.style.setProperty("--ordinal", `${longest + 1}ch`);
    for (const one of rows) {
      place.append(one.element);
      one.element.addEventListener("toggle", () => own.state && paintRow(one, own.state));
    }
    return {
      paint: (state) => paint(own, state),
      open: (wanted) => rows.forEach((one) => (one.element.open = wanted)),
      focus: () => focus(own),
    };
  }

  // One step: a summary, and the maps under it.
  function row(step, i, choose, open) {
    const make = (kind, className, more) => Object.assign(document.createElement(kind), { className, ...more });
    const texts = [step.transform ? "" : step.name, step.title, step.shape.join(" × "), ""];
    const parts = ["ordinal", "name", "shape", "range"].map((name, j) => make("span", name, { textContent: texts[j] }));
    const element = make("details", "", { open }), summary = make("summary", ""), maps = make("div", "maps");
    const more = make("button", "", { type: "button" }), link = make("a", "see", { href: "#number-title" });
    maps.setAttribute("role", "group");
    summary.append(...parts);
    element.append(summary, maps, more, link);
    const own = { element, maps, more, link, step, i, grid: Maps.grid(step.shape), tiles: [] };
    [own.title, own.range] = [parts[1], parts[3]];
    own.limit = Math.min(FIRST, own.grid.maps);
    own.choose = (map, at) => choose(i, Maps.index(own.grid, { map, ...at }));
    more.addEventListener("click", () => {
      own.limit = own.limit === FIRST ? own.grid.maps : FIRST;
      paintRow(own, own.state);
    });
    maps.addEventListener("keydown", (event) => turnPage(own, event));
    return own;
  }

  // Page Up and Page Down choose the same pixel of the map before or behind; Enter goes to how it comes about.
  function turnPage(own, event) {
    const by = { PageUp: -1, PageDown: 1, Enter: 0 }[event.key];
    const from = own.tiles.findIndex((tile) => tile.canvas === event.target);
    if (by === undefined || from < 0) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(own.limit - 1, from + by)), { row, column } = own.tiles[from].at || CORNER;
    own.tiles[to].at = { row, column };
    own.choose(to, { row, column });
    (by ? own.tiles[to].canvas : document.getElementById("number-title")).focus();
  }

  // Back to the map of the chosen number, which is shown for it.
  function focus(own) {
    const { step, index } = own.state.chosen, one = own.rows[step], { map } = Maps.place(one.grid, index);
    one.element.open = true;
    if (map >= one.limit) one.limit = one.grid.maps;
    paintRow(one, own.state);
    one.tiles[map].canvas.focus();
  }

  // Paints what is open, and says the range of each step.
  function paint(own, state) {
    own.state = state;
    for (const one of own.rows) paintRow(one, state);
  }

  // The range and, where it is open, the maps of one step.
  function paintRow(own, state) {
    own.state = state;
    const values = state.outputs[own.i];
    let low = values[0], high = values[0];
    for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    own.title.textContent = own.step.transform ? Words.step(own.step) : own.step.title;
    own.range.textContent = Words.say("layers.range", { low: Words.number(low), high: Words.number(high) });
    own.maps.setAttribute("aria-label", Words.say("layers.maps", { step: Words.step(own.step) }));
    const wide = own.grid.maps > FIRST;
    own.more.hidden = !wide;
    const all = own.limit === FIRST ? "layers.all" : "layers.fewer";
    own.more.textContent = Words.say(all, { count: own.grid.maps, first: FIRST });
    const chosen = state.chosen.step === own.i ? Maps.place(own.grid, state.chosen.index) : null;
    own.element.classList.toggle("chosen", chosen !== null);
    showLink(own, state, chosen);
    if (own.element.open) paintTiles(own, values, Math.max(-low, high) || 1, chosen);
  }

  // On a small screen, the way from the chosen number to how it comes about.
  function showLink(own, state, chosen) {
    own.link.hidden = !chosen;
    if (!chosen) return;
    own.link.textContent = Words.say("layers.see", { value: Words.number(state.outputs[own.i][state.chosen.index]) });
  }

  // The tiles of one step: as many as are wanted, one of them in the order of the Tab key.
  function paintTiles(own, values, scale, chosen) {
    while (own.tiles.length < own.limit) {
      const map = own.tiles.length, tile = Maps.tile((at) => own.choose(map, at));
      own.tiles.push(tile);
      own.maps.append(tile.element);
    }
    const current = chosen && chosen.map < own.limit ? chosen.map : 0;
    own.tiles.forEach((tile, map) => {
      tile.element.hidden = map >= own.limit;
      if (tile.element.hidden) return;
      Maps.paint(tile, own.grid, values, map, scale, WIDE());
      Maps.mark(tile, chosen && chosen.map === map ? chosen : null);
      tile.canvas.tabIndex = map === current ? 0 : -1;
      tile.canvas.setAttribute("aria-label", Words.place(own.grid, { map, ...tile.at }, tile.at !== null));
    });
  }

  return { create };
})();
