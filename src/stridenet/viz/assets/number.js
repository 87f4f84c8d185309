// One number of one layer: where it stands, the window it comes from, and its products one by one.
"use strict";

const OneNumber = (() => {
  const $ = (id) => document.getElementById(id);
  const WIDE = 144, SLOWEST = 500, FASTEST = 60, WHOLE = 12000; // CSS pixels; milliseconds an item, and for all

  // The section of the page; `choose(step, index)` is called for the number that is chosen.
  function create(net, choose) {
    const own = { net, choose, state: null, told: null, list: [], at: 0, all: false, map: null, timer: 0 };
    own.grids = net.steps.map((step) => Maps.grid(step.shape));
    own.to = Maps.tile((at) => choose(own.step, Maps.index(own.grids[own.step], { map: own.place.map, ...at })));
    own.from = Maps.tile(null);
    $("to").append(own.to.element);
    $("from").append(own.from.element);
    fields(own);
    buttons(own);
    return { show: (state) => show(own, state) };
  }

  // The fields that name a number: step, map, row and column.
  function fields(own) {
    own.net.steps.forEach((_, i) => $("at-step").add(new Option("", i)));
    $("at-step").addEventListener("change", (event) => {
      const values = own.state.outputs[event.target.value];
      own.choose(Number(event.target.value), values.indexOf(Paint.largest(values)));
    });
    const within = (id, most) => Math.max(0, Math.min(most, Math.round(Number($(id).value)) || 0));
    const changed = () => {
      const grid = own.grids[own.step];
      if (grid.vector) return own.choose(own.step, within("at-map", grid.count - 1));
      const row = within("at-row", grid.height - 1), column = within("at-column", grid.width - 1);
      own.choose(own.step, Maps.index(grid, { map: within("at-map", grid.maps - 1), row, column }));
    };
    for (const id of ["at-map", "at-row", "at-column"]) $(id).addEventListener("change", changed);
  }

  // The buttons that go through the items.
  function buttons(own) {
    const total = () => own.list.length;
    $("forward").addEventListener("click", () => go(own, own.at < total() ? own.at + 1 : 1));
    $("back").addEventListener("click", () => go(own, Math.max(0, own.at - 1)));
    $("all").addEventListener("click", () => go(own, total()));
    $("play").addEventListener("click", () => (own.timer ? go(own, own.at) : play(own)));
  }

  // Goes to item `at` and stops there.
  function go(own, at) {
    stop(own);
    own.at = at;
    own.map = null;
    showItems(own);
  }

  // Goes on by itself, from the start if all is done.
  function play(own) {
    if (own.at >= own.list.length) own.at = 0;
    own.map = null;
    own.timer = setInterval(() => {
      own.at += 1;
      if (own.at >= own.list.length) stop(own);
      showItems(own);
    }, Math.max(FASTEST, Math.min(SLOWEST, WHOLE / own.list.length)));
    showItems(own);
  }

  // Stops playing.
  function stop(own) {
    clearInterval(own.timer);
    own.timer = 0;
  }

  // The chosen number of `state`; another one is shown with all its items done.
  function show(own, state) {
    const { step, index } = state.chosen, same = own.step === step && own.index === index;
    Object.assign(own, { state, step, index });
    own.place = Maps.place(own.grids[step], index);
    own.told = Stride.explain(own.net, state.image, state.outputs, step, index);
    if (!same) {
      stop(own);
      Object.assign(own, { all: false, map: null, at: Infinity });
    }
    list(own);
    showFields(own);
    $("kind").textContent = Words.say(`kind.${own.net.steps[step].kind}`);
    $("formula").textContent = own.told.formula;
    showOutput(own);
    showItems(own);
  }

  // The items of the number, at the same place as before where that is still one.
  function list(own) {
    own.list = Products.items(own.told, own.net.steps[own.step], own.all);
    own.at = Math.min(own.at, own.list.length);
  }

  // The fields as the chosen number has them.
  function showFields(own) {
    const grid = own.grids[own.step], { map, row, column } = own.place;
    [...$("at-step").options].forEach((option, i) => put(option, title(own, i)));
    $("at-step").value = own.step;
    for (const id of ["at-row", "at-column"]) $(id).parentElement.hidden = grid.vector;
    const name = $("at-map").previousElementSibling;
    name.dataset.word = grid.vector ? "number.unit" : "number.map";
    name.textContent = Words.say(name.dataset.word);
    const set = (id, value, count) => Object.assign($(id), { value, max: count - 1 });
    set("at-map", grid.vector ? own.index : map, grid.vector ? grid.count : grid.maps);
    set("at-row", row, grid.height);
    set("at-column", column, grid.width);
  }

  // The map with the chosen number, large.
  function showOutput(own) {
    const values = own.state.outputs[own.step], grid = own.grids[own.step];
    Maps.paint(own.to, grid, values, own.place.map, Paint.extent(values), WIDE);
    Maps.mark(own.to, own.place);
    own.to.canvas.tabIndex = 0;
    const value = Words.number(own.told.value);
    own.to.canvas.setAttribute("aria-label", Words.place(grid, own.place, true));
    $("to-text").textContent = Words.say("number.output", { place: Words.place(grid, own.place, true), value });
  }

  // What is shown of the items: the controls, the sum so far, the input, the products, the sentence.
  function showItems(own) {
    const { told, at } = own, step = own.net.steps[own.step], count = own.list.length;
    for (const id of ["steps", "running", "chips", "products"]) $(id).hidden = count === 0;
    $("play").textContent = Words.say(own.timer ? "step.pause" : "step.play");
    $("progress").textContent = Words.say("step.progress", { at, count });
    if (count) put($("running"), Products.running(told, own.list, at));
    const now = at < count && own.list[Math.max(0, at - 1)], term = (now && now.term) || told.terms[0];
    const shown = own.map === null ? term : told.terms.find((one) => one.input === 0 && one.c === own.map) || term;
    showInput(own, shown, at > 0 && now ? now.term : null);
    if (count && Products.windowed(step)) Tables.grid(own, shown);
    else if (count) Tables.list(own);
    $("sentence").hidden = at < count;
    put($("sentence"), Products.sentence(told, step));
  }

  // Text, only where it is another: readers of the screen say what changes.
  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // The map of the input that `shown` is on, its window framed and the term `now` marked.
  function showInput(own, shown, now) {
    const { net, state, told, from } = own, source = net.steps[own.step].inputs[shown.input || 0];
    const grid = source < 0 ? Maps.grid(net.imageShape) : own.grids[source];
    const values = source < 0 ? state.image : state.outputs[source];
    const map = grid.vector ? 0 : Math.max(0, Math.min(grid.maps - 1, shown.c)), real = grid.vector || map === shown.c;
    Maps.paint(from, grid, values, map, Paint.extent(values), WIDE);
    if (source < 0) {
      Paint.image(from.canvas, values.subarray(map * grid.count, (map + 1) * grid.count), [1, grid.height, grid.width]);
    }
    const box = real ? windowOf(told, grid, shown) : null; // a map that a shortcut adds is no map of the input
    if (box) Maps.lay(from.frame, grid, box);
    from.frame.hidden = !box;
    const seen = now && now.at >= 0 && (grid.vector || now.c === map);
    Maps.mark(from, seen ? Maps.place(grid, now.at) : null);
    const words = { title: title(own, source), map, count: grid.maps };
    const text = Words.say(real && !grid.vector ? "number.input" : "number.vector", words);
    from.canvas.setAttribute("aria-label", text);
    put($("from-text"), text);
  }

  // What a step is called where something comes from it; -1 is the image.
  function title({ net }, source) {
    return source < 0 ? Words.say("number.image") : Words.step(net.steps[source]);
  }

  // The rows and columns of the terms on the map of `shown`; none on a vector that is used as a whole.
  function windowOf(told, grid, shown) {
    if (grid.vector) {
      if (told.terms.length > 1 || shown.at < 0) return null;
      const { row, column } = Maps.place(grid, shown.at);
      return { top: row, left: column, bottom: row + 1, right: column + 1 };
    }
    const own = told.terms.filter(({ c, input }) => c === shown.c && input === shown.input);
    const rows = own.map(({ row }) => row), columns = own.map(({ column }) => column);
    const span = (values) => [Math.min(...values), Math.max(...values) + 1];
    const [top, bottom] = span(rows), [left, right] = span(columns);
    return { top, left, bottom, right };
  }

  // A map of the input that is looked at while no step is taken.
  function look(own, map) {
    own.map = map;
    showItems(own);
  }

  // All items of a list, or the largest.
  function toggleAll(own) {
    const ended = own.at === own.list.length;
    own.all = !own.all;
    list(own);
    if (ended) own.at = own.list.length;
    showItems(own);
  }

  return { create, look, title, toggleAll };
})();
