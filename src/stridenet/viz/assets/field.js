// The receptive field: the box of pixels that a number can depend on, found by going back from window to window.
"use strict";

const Field = (() => {
  // The box {top, left, bottom, right} of the image that number `index` of step `step` can see.
  function of(net, state, step, index) {
    const parts = new Map([[step, [index, index]]]); // of each step the first and the last number that counts
    for (let i = step; i >= 0; i--) {
      if (!parts.has(i)) continue;
      const { inputs } = net.steps[i], corners = [...new Set(parts.get(i))];
      const terms = corners.flatMap((at) => Stride.explain(net, state.image, state.outputs, i, at).terms);
      inputs.forEach((source, input) => {
        const seen = terms.filter((term) => term.input === input);
        if (seen.length) parts.set(source, union(net, source, seen, parts.get(source)));
      });
    }
    const [first, last] = parts.get(-1), grid = Maps.grid(net.imageShape);
    const [from, to] = [Maps.place(grid, first), Maps.place(grid, last)];
    return { top: from.row, left: from.column, bottom: to.row + 1, right: to.column + 1 };
  }

  // The corners of the smallest box of a source that holds `terms` and the corners `known`: on all maps of an image,
  // and the stretch of a vector.
  function union(net, source, terms, known) {
    const grid = Maps.grid(source < 0 ? net.imageShape : net.steps[source].shape);
    const within = (value, size) => Math.max(0, Math.min(size - 1, value));
    if (grid.vector) {
      const places = [...terms.map(({ at, c }) => (at < 0 ? within(c, grid.count) : at)), ...(known || [])];
      return ends(places);
    }
    const places = [...terms, ...(known || []).map((at) => Maps.place(grid, at))];
    const [top, bottom] = ends(places.map(({ row }) => within(row, grid.height)));
    const [left, right] = ends(places.map(({ column }) => within(column, grid.width)));
    const last = Maps.index(grid, { map: grid.maps - 1, row: bottom, column: right });
    return [Maps.index(grid, { map: 0, row: top, column: left }), last];
  }

  // The smallest and the largest of many values.
  function ends(values) {
    return [Math.min, Math.max].map((choose) => values.reduce((a, b) => choose(a, b)));
  }

  return { of };
})();
