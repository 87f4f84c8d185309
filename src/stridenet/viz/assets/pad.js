// The pad: strokes by mouse, finger or keys.
"use strict";

const Pad = (() => {
  const SIZE = 280, PEN = 22, STEP = 10, FINE = 2; // units of the pad: its side, the pen's width, a key's way
  const TURNS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  // A stroke that needs no hand: a two.
  const TWO = [
    [84, 100], [88, 78], [102, 60], [124, 50], [148, 49], [172, 58], [187, 76], [188, 100], [178, 124],
    [158, 148], [132, 174], [106, 200], [88, 222], [120, 222], [160, 222], [200, 221],
  ];

  // A pad on a canvas; `changed()` is called when the strokes are others, `told(word)` when keys lift or lower the pen.
  function create(canvas, ring, changed, told) {
    const pad = { canvas, ring, changed, told, strokes: [], pen: [SIZE / 2, SIZE / 2], down: false };
    canvas.width = canvas.height = 2 * SIZE;
    pointers(pad);
    keys(pad);
    return {
      undo: () => change(pad, () => pad.strokes.pop()),
      clear: () => change(pad, () => (pad.strokes = [])),
      start: () => replace(pad, [TWO.slice()]),
      wipe: () => replace(pad, []),
      empty: () => pad.strokes.length === 0,
      picture: () => picture(pad),
      repaint: () => repaint(pad),
    };
  }

  // Changes the strokes, shows them and says so.
  function change(pad, how) {
    how();
    pad.down = false;
    repaint(pad);
    pad.changed();
  }

  // Other strokes, without a word: who calls knows it.
  function replace(pad, strokes) {
    Object.assign(pad, { strokes, down: false });
    repaint(pad);
  }

  // Strokes by mouse, pen or finger.
  function pointers(pad) {
    const { canvas } = pad;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(SIZE * (event.clientX - box.left)) / box.width, (SIZE * (event.clientY - box.top)) / box.height];
    };
    let drawing = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || drawing !== null) return;
      drawing = event.pointerId;
      canvas.setPointerCapture(drawing);
      pad.ring.hidden = true;
      change(pad, () => pad.strokes.push([at(event)]));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId === drawing) extend(pad, at(event));
    });
    const end = (event) => {
      if (event.pointerId === drawing) drawing = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  // The last stroke goes on to `point`.
  function extend(pad, point) {
    pad.strokes[pad.strokes.length - 1].push(point);
    repaint(pad);
    pad.changed();
  }

  // Strokes by keys: arrows move the pen, the space bar lowers and lifts it.
  function keys(pad) {
    const { canvas, ring } = pad;
    ring.hidden = true;
    canvas.addEventListener("focus", () => showPen(pad, canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => {
      pad.down = false;
      showPen(pad, false);
    });
    canvas.addEventListener("keydown", (event) => {
      if (event.key === " ") togglePen(pad);
      else if (event.key in TURNS) movePen(pad, TURNS[event.key], event.shiftKey ? FINE : STEP);
      else return;
      event.preventDefault();
      showPen(pad, true);
    });
  }

  // Lowers the pen, which begins a stroke, or lifts it.
  function togglePen(pad) {
    const down = !pad.down;
    if (down) change(pad, () => pad.strokes.push([pad.pen.slice()]));
    pad.down = down;
    pad.told(down ? "draw.down" : "draw.up");
  }

  // Moves the pen; it draws where it is down.
  function movePen(pad, turn, way) {
    pad.pen = pad.pen.map((value, i) => Math.max(0, Math.min(SIZE, value + way * turn[i])));
    if (pad.down) extend(pad, pad.pen.slice());
  }

  // Shows where the pen of the keys is, and whether it is down.
  function showPen(pad, shown) {
    pad.ring.hidden = !shown;
    pad.ring.className = pad.down ? "down" : "";
    pad.ring.style.left = `${(100 * pad.pen[0]) / SIZE}%`;
    pad.ring.style.top = `${(100 * pad.pen[1]) / SIZE}%`;
  }

  // The strokes in the page's colours.
  function repaint(pad) {
    document.getElementById("here").hidden = pad.strokes.length > 0;
    const style = getComputedStyle(pad.canvas);
    draw(pad, pad.canvas.getContext("2d"), 2, style.backgroundColor, style.color);
  }

  // The strokes in `ink` on `paper`, at `scale` times the pad's units.
  function draw(pad, context, scale, paper, ink) {
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = paper;
    context.fillRect(0, 0, SIZE, SIZE);
    Object.assign(context, { strokeStyle: ink, lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    for (const [first, ...others] of pad.strokes) {
      context.beginPath();
      context.moveTo(...first);
      others.forEach((point, i) => context.quadraticCurveTo(...point, ...middle(point, others[i + 1] || point)));
      if (!others.length) context.lineTo(...first);
      context.stroke();
    }
  }

  // The point between two: strokes are round where they turn.
  function middle([x, y], [u, v]) {
    return [(x + u) / 2, (y + v) / 2];
  }

  // What is drawn, white on black as MNIST is: {width, height, data} as RGBA, at half the pad's units.
  function picture(pad) {
    const canvas = document.createElement("canvas"), side = SIZE / 2;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    draw(pad, context, 0.5, "#000", "#fff");
    return context.getImageData(0, 0, side, side);
  }

  return { create };
})();
