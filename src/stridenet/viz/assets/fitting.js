"use strict";

/* A drawing or a picture as an image like those of the training: data/images.py in JavaScript, which resizes as Pillow.
   A plane is {rows, columns, values}, row by row; the values are a Uint8Array of bytes or a Float32Array. */

Object.assign(Stride, (() => {
  // RGBA pixels of width x height as the image of `net`, a Float32Array (C, H, W) in 0..1, as Model.read makes it.
  function fit(net, { width, height, data }) {
    const [C, H, W] = net.imageShape;
    if (C !== 1 && (C !== 3 || net.framing)) throw new RangeError(`expected a network of 1 or 3 channels, got ${C}`);
    const colours = onWhite(data), bytes = C === 1 ? [grey(colours)] : colours;
    const planes = bytes.map((values) => plane(height, width, values));
    const fitted = net.framing ? [reframe(planes[0], [H, W], net.framing)] : planes.map((one) => middle(one, [H, W]));
    const image = new Float32Array(C * H * W);
    fitted.forEach((one, c) => image.set(one.values, c * H * W));
    return image;
  }

  const plane = (rows, columns, values) => ({ rows, columns, values });
  const map = ({ rows, columns, values }, f) => plane(rows, columns, new Float32Array(values).map(f));
  const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // Half to even, as Python rounds.
  function round(value) {
    const down = Math.floor(value), rest = value - down;
    return rest < 0.5 || (rest === 0.5 && down % 2 === 0) ? down : down + 1;
  }

  // Red, green and blue, three planes of bytes, in front of white where the picture is transparent.
  function onWhite(data) {
    return [0, 1, 2].map((c) => {
      const values = new Uint8Array(data.length / 4);
      for (let i = 0; i < values.length; i++) { // a photo has millions
        const opaque = data[4 * i + 3], both = data[4 * i + c] * opaque + 255 * (255 - opaque);
        values[i] = Math.floor((2 * both + 255) / 510);
      }
      return values;
    });
  }

  // By the weights of ITU-R 601.
  function grey([red, green, blue]) {
    return red.map((value, i) => (19595 * value + 38470 * green[i] + 7471 * blue[i] + 32768) >> 16);
  }

  // The shorter side scaled to size, the middle kept.
  function middle(picture, size) {
    const scale = Math.min(picture.rows / size[0], picture.columns / size[1]);  // pixels for one of the result
    const height = scale * size[0], width = scale * size[1];
    const top = (picture.rows - height) / 2, left = (picture.columns - width) / 2;
    return map(shrink(picture, size, [left, top, left + width, top + height]), (value) => value / 255);
  }

  // The box (left, top, right, bottom) of a plane at a new size, as Pillow's BILINEAR does it: bytes stay bytes.
  function shrink(picture, [rows, columns], box) {
    const [left, top, right, bottom] = box.map(Math.fround);
    const passes = [[1, left, right, columns], [0, top, bottom, rows]];
    const fewerRows = picture.rows - rows, fewerColumns = picture.columns - columns;
    if (fewerRows > Math.max(0, 2 * fewerColumns)) passes.reverse();
    for (const [axis, start, stop, target] of passes) {
      const length = axis ? picture.columns : picture.rows;
      if (start === 0 && stop === length && length === target) continue;
      picture = shrinkAxis(picture, axis, triangles(length, target, start, start + Math.fround(stop - start)));
    }
    return picture;
  }

  // Each of the new rows (axis 0) or columns (axis 1) as a weighted sum of old ones; bytes are rounded to bytes.
  function shrinkAxis({ rows, columns, values }, axis, weights) {
    const whole = values instanceof Uint8Array, target = weights.length;
    const [P, Q] = axis ? [rows, target] : [target, columns];
    const y = new values.constructor(P * Q), step = axis ? 1 : columns;
    const rounded = weights.map(({ shares }) => (
      whole ? shares.map((share) => Math.floor(share * 2 ** 22 + 0.5)) : shares));
    for (let p = 0; p < P; p++) {
      for (let q = 0; q < Q; q++) {
        const line = axis ? q : p, { first } = weights[line], shares = rounded[line];
        const start = axis ? p * columns + first : first * columns + q;
        let sum = 0;
        for (let i = 0; i < shares.length; i++) sum += shares[i] * values[start + i * step];
        y[p * Q + q] = whole ? Math.min(Math.floor((sum + 2 ** 21) / 2 ** 22), 255) : sum;
      }
    }
    return plane(P, Q, y);
  }

  // For each of `target` pixels that divide start..stop evenly, the weights of the pixels of `size` from `first` on.
  function triangles(size, target, start, stop) {
    const scale = (stop - start) / target, reach = Math.max(scale, 1);
    return Array.from({ length: target }, (_, i) => {
      const centre = start + (i + 0.5) * scale, shares = [];
      const first = clamp(Math.floor(centre - reach), 0, size - 1);
      const last = clamp(Math.ceil(centre + reach), first + 1, size);
      for (let j = first; j < last; j++) shares.push(Math.max(1 - Math.abs(j + 0.5 - centre) / reach, 0));
      const total = shares.reduce((a, b) => a + b, 0);
      return { first, shares: shares.map((share) => share / total) };
    });
  }

  // Light and dark swapped if the ink says so, the ink cut out, scaled to the extent, its centre of mass in the middle.
  function reframe(picture, size, { background, extent }) {
    const scale = Math.min(1, 512 / Math.max(picture.rows, picture.columns));
    const small = [picture.rows, picture.columns].map((length) => Math.max(1, round(length * scale)));
    const work = scale === 1 ? picture : shrink(picture, small, [0, 0, picture.columns, picture.rows]);
    const contrast = contrastOf(map(work, (value) => value / 255));
    const darkInk = -smallest(contrast.values) > largest(contrast.values), lightBackground = background > 0.5;
    const strength = map(contrast, (value) => (darkInk ? -value : value)), strongest = largest(strength.values);
    if (strongest < 0.1) return plane(...size, new Float32Array(size[0] * size[1]).fill(background));  // all is paper
    if (picture.rows === size[0] && picture.columns === size[1]) {
      return map(picture, (value) => (darkInk === lightBackground ? value : 255 - value) / 255);
    }
    const full = lightBackground ? 0 : 1;
    const ink = centred(scaledInk(strength, strongest, size, extent), size);
    return map(ink, (value) => background + value * (full - background));
  }

  // The ink at the size that `extent` asks for, its strength stretched to 0..1.
  function scaledInk(strength, strongest, size, extent) {
    const ink = map(strength, (value) => (value >= 0.3 * strongest ? value : 0));
    const [top, bottom] = span(sums(ink, 0)), [left, right] = span(sums(ink, 1));
    const scale = extent * Math.min(size[0] / (bottom - top), size[1] / (right - left));
    const target = [bottom - top, right - left].map((length) => Math.max(1, round(length * scale)));
    const clear = map(strength, (value) => Math.max(value - 0.1 * strongest, 0));
    const scaled = shrink(clear, target, [left, top, right, bottom]), most = largest(scaled.values);
    return map(scaled, (value) => value / most);
  }

  // How much lighter (> 0) or darker (< 0) than the paper each pixel is. The paper is a linear gradient through the
  // border pixels, by least squares; ink that touches the border is left out on the second and third pass.
  function contrastOf(picture) {
    const { rows, columns, values } = picture, border = ring(rows, columns);
    const [down, across] = [rows, columns].map((length) => (
      Float64Array.from({ length }, (_, i) => (length > 1 ? -1 + 2 * i / (length - 1) : -1))));
    const terms = (at) => [1, down[Math.floor(at / columns)], across[at % columns]];
    const paper = ([level, slope, tilt], at) => (
      level + slope * down[Math.floor(at / columns)] + tilt * across[at % columns]);
    const typical = median(border.map((at) => values[at]));
    let near = border.filter((at) => Math.abs(values[at] - typical) <= 0.5), gradient = [0, 0, 0];
    for (let pass = 0; pass < 3; pass++) {
      gradient = leastSquares(near.map(terms), near.map((at) => values[at]));
      const off = border.map((at) => Math.abs(values[at] - paper(gradient, at)));
      const limit = 3 * median(off) + 0.01;
      near = border.filter((_, i) => off[i] <= limit);
    }
    return map(picture, (value, at) => value - paper(gradient, at));
  }

  // The places of the border pixels.
  function ring(rows, columns) {
    const places = new Set();
    for (let j = 0; j < columns; j++) places.add(j).add((rows - 1) * columns + j);
    for (let i = 0; i < rows; i++) places.add(i * columns).add((i + 1) * columns - 1);
    return [...places];
  }

  function median(values) {
    const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // The b with the least sum of (terms b - wanted)^2: the normal equations, by elimination.
  function leastSquares(terms, wanted) {
    const dot = (f, g) => terms.reduce((sum, _, i) => sum + f(i) * g(i), 0);
    const table = [0, 1, 2].map((a) => [
      ...[0, 1, 2].map((b) => dot((i) => terms[i][a], (i) => terms[i][b])), dot((i) => terms[i][a], (i) => wanted[i]),
    ]);
    for (let a = 0; a < 3; a++) {
      if (table[a][a] < 1e-9 * terms.length) continue;  // a direction that no pixel tells of
      for (let b = 0; b < 3; b++) {
        const share = table[b][a] / table[a][a];
        if (b !== a) table[b] = table[b].map((value, j) => value - share * table[a][j]);
      }
    }
    return table.map((row, a) => (row[a] < 1e-9 * terms.length ? 0 : row[3] / row[a]));
  }

  // The sum of each row (axis 0) or column (axis 1).
  function sums({ rows, columns, values }, axis) {
    const found = new Float64Array(axis ? columns : rows);
    values.forEach((value, at) => { found[axis ? at % columns : Math.floor(at / columns)] += value; });
    return found;
  }

  // Where the ink begins and ends, but for 0.2 % at each side: specks.
  function span(mass) {
    const total = mass.reduce((a, b) => a + b, 0);
    let seen = 0;
    const share = Array.from(mass, (value) => (seen += value) / total);
    return [share.findIndex((value) => value >= 0.002), share.findIndex((value) => value >= 0.998) + 1];
  }

  // Ink on an empty plane of `size`, its centre of mass on pixel size / 2 (14 in MNIST) as far as it fits.
  function centred(ink, size) {
    const [top, left] = [0, 1].map((axis) => {
      const mass = sums(ink, axis), total = mass.reduce((a, b) => a + b, 0);
      const centre = mass.reduce((sum, value, i) => sum + i * value, 0) / total;
      return clamp(round(size[axis] / 2 - centre), 0, size[axis] - mass.length);
    });
    const values = new Float32Array(size[0] * size[1]);
    for (let i = 0; i < ink.rows; i++) {
      values.set(ink.values.subarray(i * ink.columns, (i + 1) * ink.columns), (top + i) * size[1] + left);
    }
    return plane(...size, values);
  }

  return { fit };
})());
