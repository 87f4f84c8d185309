// The explorer's page: what is looked at, and who is told when it changes.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const MANY = 12; // classes in their order; of more the likeliest are shown
  const data = JSON.parse($("data").textContent), net = Stride.build(data);
  const names = net.classes.map(Words.visible), labels = net.samples.map(({ label }) => Words.visible(label));

  const state = { image: null, outputs: null, shares: null, best: null, chosen: null, source: null, wrong: null };
  const pad = Pad.create($("pad"), $("pen"), () => later(fromPad), tell);
  const layers = Layers.create($("layers"), net, choose);
  const number = OneNumber.create(net, choose);
  const why = Why.create(net, names);
  const waiting = new Set();
  let turn = 0; // counts the images, and the files that are to be one

  // Says `word` to readers of the screen.
  function tell(word, values) {
    $("status").textContent = Words.say(word, values);
  }

  // Does `work` before the next picture of the screen, once however often it is asked for.
  function later(work) {
    if (!waiting.size) {
      requestAnimationFrame(() => {
        const all = [...waiting];
        waiting.clear();
        for (const one of all) one();
      });
    }
    waiting.add(work);
  }

  // The drawing as the network gets it.
  function fromPad() {
    setImage(Stride.fit(net, pad.picture()), { drawn: true, empty: pad.empty() });
  }

  // The stroke that needs no hand.
  function drawn() {
    pad.start();
    fromPad();
  }

  // A sample of the data.
  function fromSample(i) {
    pad.wipe();
    setImage(net.samples[i].image, { sample: i });
  }

  // A file of the user, unless another image came while it was read.
  async function fromFile(file) {
    const own = ++turn;
    const [pixels, error] = await Sources.ofFile(file).then((found) => [found], (wrong) => [null, wrong]);
    if (own !== turn) return;
    if (error) {
      state.wrong = { name: file.name, word: error instanceof RangeError ? "picture.large" : "picture.wrong" };
      return showWrong();
    }
    pad.wipe();
    setImage(Stride.fit(net, pixels), { file: file.name });
  }

  // Another image: all is computed and shown anew. One of a single tone has no class.
  function setImage(image, source) {
    const { source: before } = state;
    turn += 1;
    Object.assign(state, { image, source, wrong: null, outputs: Stride.forward(net, image) });
    const { shares } = Object.assign(state, { shares: Stride.probabilities(net, state.outputs) });
    const nothing = image.every((value) => value === image[0]);
    state.best = nothing ? null : shares.reduce((best, share, k) => (share > shares[best] ? k : best), 0);
    if (!before || before.none) state.chosen = first();
    showImage();
    showChosen();
    why.fresh(state);
  }

  // What is looked at first: the largest number of the first layer.
  function first() {
    const step = net.steps.findIndex(({ transform }) => !transform), values = state.outputs[step];
    return { step, index: values.indexOf(Paint.largest(values)) };
  }

  // Another number is chosen, and shown with the next picture of the screen.
  function choose(step, index) {
    state.chosen = { step, index };
    later(showChoice);
  }

  // The chosen number, shown and told.
  function showChoice() {
    const { step, index } = state.chosen;
    showChosen();
    const grid = Maps.grid(net.steps[step].shape), place = Words.place(grid, Maps.place(grid, index), true);
    tell("status", { place, value: Words.number(state.outputs[step][index]) });
  }

  // All that depends on the chosen number.
  function showChosen() {
    layers.paint(state);
    number.show(state);
    why.reach(state);
  }

  // The image, where it comes from, and what it is taken for.
  function showImage() {
    const { source } = state;
    Paint.image($("given"), state.image, net.imageShape);
    $("given").hidden = source.none === true;
    $("given").setAttribute("aria-label", Words.say("given.label"));
    $("given-text").textContent = Words.join(aboutImage(source));
    [...$("samples").children].forEach((button, i) => {
      button.setAttribute("aria-pressed", source.sample === i);
      button.setAttribute("aria-label", Words.say("samples.one", { number: i + 1, label: labels[i] }));
    });
    showWrong();
    showVerdict();
    showClasses();
  }

  // What the network gets, where it comes from, and what is missing: a list of sentences.
  function aboutImage({ drawn: byHand, empty, none, file, sample }) {
    const [channels, rows, columns] = net.imageShape, lines = [Words.say("given.size", { channels, rows, columns })];
    if (none) lines.push(Words.say($("file-part").hidden ? "given.none" : "given.choose"));
    else if (empty) lines.push(Words.say("given.empty"));
    else if (byHand && net.framing) lines.push(Words.say("given.framed"));
    if (file) lines.push(Words.say("given.file", { name: Words.visible(file) }));
    if (sample !== undefined) lines.push(Words.say("given.sample", { label: labels[sample] }));
    if (state.best === null && !empty && !none) lines.push(Words.say("given.tone"));
    return lines;
  }

  // The likeliest class and its share, or that there is nothing to have one.
  function showVerdict() {
    const { best, shares } = state, verdict = $("verdict"), name = best === null ? "" : names[best];
    const texts = best === null
      ? [Words.say("verdict.nothing")]
      : [Words.say("verdict"), name, Words.percent(shares[best])];
    if (verdict.textContent === texts.join("")) return;
    const make = (text, i) => Object.assign(document.createElement(i === 1 ? "bdi" : "span"), { textContent: text });
    verdict.replaceChildren(...texts.map(make));
    if (name.length > 8) verdict.children[1].className = "long";
  }

  // A row for each class; of many classes the likeliest first. All are empty where there is nothing to have one.
  function showClasses() {
    const { shares, best } = state, order = names.map((_, k) => k), nothing = best === null;
    if (order.length > MANY) order.sort((a, b) => (nothing ? a - b : shares[b] - shares[a])).splice(MANY);
    const body = $("classes").tBodies[0];
    while (body.rows.length < order.length) body.append(classRow());
    order.forEach((k, i) => {
      const row = body.rows[i];
      row.className = k === best ? "best" : "";
      row.querySelector("bdi").textContent = names[k];
      row.querySelector(".bar").style.width = nothing ? "0" : `${100 * shares[k]}%`;
      row.querySelector(".share").textContent = nothing ? "–" : Words.percent(shares[k]);
    });
  }

  // An empty row of the table of classes.
  function classRow() {
    const make = (kind, name = "") => Object.assign(document.createElement(kind), { className: name });
    const row = make("tr"), head = make("th"), cell = make("td"), room = make("span", "room");
    head.scope = "row";
    head.append(make("bdi"));
    room.append(make("span", "bar"));
    cell.append(room, make("span", "share"));
    row.append(head, cell);
    return row;
  }

  // A file that is no picture, or too large a one.
  function showWrong() {
    const { wrong } = state, most = Sources.MOST / 1e6;
    $("wrong").textContent = wrong ? Words.say(wrong.word, { name: Words.visible(wrong.name), most }) : "";
  }

  // Everything again: in another language, or in other colours.
  function showAll() {
    dress();
    showImage();
    showChosen();
    why.class();
  }

  // The words that stand still, and the colours of the pad.
  function dress() {
    Words.apply();
    const [, height, width] = net.imageShape;
    const [weights, fixed] = [data.parameters, data.fixed].map(Words.grouped);
    const about = [Words.say("about", { classes: names.length, rows: height, columns: width, weights })];
    if (data.fixed) about.push(Words.say("about.fixed", { fixed }));
    $("about").textContent = about.join(" · ");
    pad.repaint();
  }

  // Drawing is for images of one channel; where no picture has so many, only the samples are left.
  function arrange() {
    const [channels] = net.imageShape;
    $("title").textContent = Words.visible(data.title);
    $("pad-part").hidden = channels !== 1;
    if (channels !== 1) $("draw-title").dataset.word = "image.title";
    $("samples-part").hidden = net.samples.length === 0;
    $("file-part").hidden = channels !== 1 && channels !== 3;
    if (!$("file-part").hidden) Sources.files($("file"), fromFile);
  }

  // Listens to the controls, and begins with an image.
  function start() {
    arrange();
    Sources.buttons($("samples"), net.samples, net.imageShape, fromSample);
    $("undo").addEventListener("click", pad.undo);
    $("clear").addEventListener("click", pad.clear);
    $("open-all").addEventListener("click", () => layers.open(true));
    $("close-all").addEventListener("click", () => layers.open(false));
    $("inspector").addEventListener("keydown", (event) => event.key === "Escape" && layers.focus());
    $("to-map").addEventListener("click", layers.focus);
    $("language").addEventListener("click", () => {
      Words.turn();
      showAll();
    });
    Paint.watch(showAll);
    addEventListener("resize", () => layers.paint(state));
    dress();
    if (net.samples.length) fromSample(0);
    else if (net.imageShape[0] === 1) drawn();
    else setImage(new Float32Array(net.imageShape.reduce((a, b) => a * b)), { none: true });
  }

  start();
})();
