// The maps of a layer's output as tiles: where a number stands, its colour, and choosing it by pointer or keys.
"use strict";

const Maps = (() => {
  const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  // How the numbers of `shape` lie on tiles: maps (C, H, W) one each; a vector, of any length, in rows on one.
  function grid(shape) {
    const [maps, height, width] = shape.length === 3 ? shape : [shape[0], 1, 1];
    if (height * width > 1) return { vector: false, maps, height, width, count: height * width };
    const columns = maps <= 20 ? maps : Math.max(20, Math.ceil(Math.sqrt(4 * maps)));
    return { vector: true, maps: 1, height: Math.ceil(maps / columns), width: columns, count: maps };
  }

  // The tile, row and column of number `index`.
  function place({ count, width }, index) {
    const on = index % count;
    return { map: (index - on) / count, row: Math.floor(on / width), column: on % width };
  }

  // The number at a place; the last of its tile where a vector has ended.
  function index({ count, width }, { map, row, column }) {
    return map * count + Math.min(row * width + column, count - 1);
  }

  // CSS pixels of a tile's side that show each number as a square, at most `wanted` pixels wide.
  function side({ vector, width }, wanted) {
    return vector ? Math.min(24 * width, 3 * wanted) : width * Math.max(1, Math.floor(wanted / width));
  }

  // A canvas with a frame over it; `choose(place)` is called with what is pointed at or reached by the arrow keys.
  function tile(choose) {
    const element = document.createElement("div"), canvas = document.createElement("canvas");
    const frame = document.createElement("span"), pixel = document.createElement("span");
    element.className = "over";
    frame.className = pixel.className = "frame";
    frame.hidden = pixel.hidden = true;
    element.append(canvas, frame, pixel);
    const own = { element, canvas, frame, pixel, grid: null, at: null };
    if (choose) listen(own, choose);
    else canvas.setAttribute("role", "img");
    return own;
  }

  // Pointer and arrow keys on a tile.
  function listen(own, choose) {
    const { canvas } = own;
    canvas.className = "choose";
    canvas.setAttribute("role", "application");
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      const to = (part, size) => Math.max(0, Math.min(size - 1, Math.floor(part * size)));
      const row = to((event.clientY - box.top) / box.height, own.grid.height);
      choose({ row, column: to((event.clientX - box.left) / box.width, own.grid.width) });
    };
    canvas.addEventListener("click", point);
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && event.buttons === 1) point(event);
    });
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in MOVES)) return;
      event.preventDefault();
      const [down, across] = MOVES[event.key], { row, column } = own.at || { row: 0, column: 0 };
      const within = (value, size) => Math.max(0, Math.min(size - 1, value));
      own.at = { row: within(row + down, own.grid.height), column: within(column + across, own.grid.width) };
      choose(own.at);
    });
  }

  // Paints map `map` of `values` on a tile, at most `wanted` CSS pixels wide, thrice that for a vector.
  function paint(own, geometry, values, map, scale, wanted) {
    const { count, width, height } = (own.grid = geometry);
    Paint.signed(own.canvas, values, map * count, count, width, height, scale);
    own.canvas.style.width = `${side(geometry, wanted)}px`;
  }

  // Lays a frame over rows top..bottom and columns left..right of a tile of height x width numbers.
  function lay(frame, { height, width }, { top, left, bottom, right }) {
    frame.hidden = false;
    const share = (part, whole) => `${(100 * part) / whole}%`;
    Object.assign(frame.style, { top: share(top, height), height: share(bottom - top, height) });
    Object.assign(frame.style, { left: share(left, width), width: share(right - left, width) });
  }

  // Marks one number of a tile, or none.
  function mark(own, at) {
    own.at = at;
    own.pixel.hidden = !at;
    if (!at) return;
    lay(own.pixel, own.grid, { top: at.row, left: at.column, bottom: at.row + 1, right: at.column + 1 });
  }

  return { grid, place, index, tile, paint, lay, mark };
})();
