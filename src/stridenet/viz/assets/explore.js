// The explorer's page: what is looked at, and who is told when it changes.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const MANY = 12; // classes in their order; of more the likeliest are shown
  const data = JSON.parse($("data").textContent), net = Stride.build(data);
  const names = net.classes.map(Words.visible), labels = net.samples.map(({ label }) => Words.visible(label));

  const state = { image: null, outputs: null, shares: null, best: 0, chosen: null, source: null, wrong: null };
  const pad = Pad.create($("pad"), $("pen"), () => later(fromPad), tell);
  const layers = Layers.create($("layers"), net, choose);
  const number = OneNumber.create(net, choose);
  const why = Why.create(net, names);
  let waiting = null;

  // Says `word` to readers of the screen.
  function tell(word, values) {
    $("status").textContent = Words.say(word, values);
  }

  // Does `work` before the next picture of the screen; what came before in the same one is left out.
  function later(work) {
    if (!waiting) {
      requestAnimationFrame(() => {
        const last = waiting;
        waiting = null;
        last();
      });
    }
    waiting = work;
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

  // A file of the user.
  async function fromFile(file) {
    let pixels = null;
    try {
      pixels = await Sources.ofFile(file);
    } catch {
      state.wrong = file.name;
      return showWrong();
    }
    pad.wipe();
    return setImage(Stride.fit(net, pixels), { file: file.name });
  }

  // Another image: all is computed and shown anew.
  function setImage(image, source) {
    Object.assign(state, { image, source, wrong: null, outputs: Stride.forward(net, image) });
    state.shares = Stride.probabilities(net, state.outputs);
    state.best = state.shares.reduce((best, share, k) => (share > state.shares[best] ? k : best), 0);
    state.chosen = state.chosen || first();
    showImage();
    showChosen();
    why.fresh(state);
  }

  // What is looked at first: the largest number of the first layer.
  function first() {
    const step = net.steps.findIndex(({ transform }) => !transform), values = state.outputs[step];
    return { step, index: values.indexOf(Paint.largest(values)) };
  }

  // Another number is chosen.
  function choose(step, index) {
    state.chosen = { step, index };
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
    const [channels, height, width] = net.imageShape, { source, shares, best } = state;
    Paint.image($("given"), state.image, net.imageShape);
    $("given").setAttribute("aria-label", Words.say("given.label"));
    const words = { rows: height, columns: width, channels };
    const lines = [Words.say("given.size", words)];
    if (source.drawn && net.framing) lines.push(Words.say("given.framed"));
    if (source.empty) lines.push(Words.say("given.empty"));
    if (source.file) lines.push(Words.visible(source.file));
    if ("sample" in source) lines.push(Words.say("given.sample", { label: labels[source.sample] }));
    $("given-text").textContent = lines.join(" ");
    [...$("samples").children].forEach((button, i) => {
      button.setAttribute("aria-pressed", source.sample === i);
      button.setAttribute("aria-label", Words.say("samples.one", { number: i + 1, label: labels[i] }));
    });
    showWrong();
    showVerdict(names[best], shares[best]);
    showClasses();
  }

  // The likeliest class and its share.
  function showVerdict(name, share) {
    const text = Words.percent(share), verdict = $("verdict");
    if (verdict.textContent === Words.say("verdict") + name + text) return;
    const parts = ["span", "bdi", "span"].map((kind) => document.createElement(kind));
    [Words.say("verdict"), name, text].forEach((words, i) => (parts[i].textContent = words));
    parts[1].className = name.length > 8 ? "long" : "";
    verdict.replaceChildren(...parts);
  }

  // A row for each class; of many classes the likeliest first.
  function showClasses() {
    const { shares, best } = state, order = names.map((_, k) => k);
    if (order.length > MANY) order.sort((a, b) => shares[b] - shares[a]).splice(MANY);
    const body = $("classes").tBodies[0];
    while (body.rows.length < order.length) body.append(classRow());
    order.forEach((k, i) => {
      const row = body.rows[i];
      row.className = k === best ? "best" : "";
      row.querySelector("bdi").textContent = names[k];
      row.querySelector(".bar").style.width = `${100 * shares[k]}%`;
      row.querySelector(".share").textContent = Words.percent(shares[k]);
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

  // A file that is no picture.
  function showWrong() {
    $("wrong").textContent = state.wrong ? Words.say("picture.wrong", { name: Words.visible(state.wrong) }) : "";
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
    const weights = Words.grouped(data.parameters);
    $("about").textContent = Words.say("about", { classes: names.length, rows: height, columns: width, weights });
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
    $("language").addEventListener("click", () => {
      Words.turn();
      showAll();
    });
    Paint.watch(showAll);
    addEventListener("resize", () => layers.paint(state));
    dress();
    if (net.samples.length) fromSample(0);
    else if (net.imageShape[0] === 1) drawn();
    else setImage(new Float32Array(net.imageShape.reduce((a, b) => a * b)), { empty: true });
  }

  start();
})();
