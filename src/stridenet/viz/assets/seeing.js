"use strict";

/* What a network saw: the numbers that one output is made of, and what a covered square costs. */

Object.assign(Stride, (() => {
  const { FUNCTIONS, exponentials, forward, inputs, probabilities, shares } = Stride;

  // What one number, outputs[step][index], is made of: {rule, terms, bias, sum, value, formula}.
  //
  // A term is {input, at, c, row, column, x, weight, product}: number x at place `at` of an input of the step, there in
  // channel c, row and column; of padding at is -1, x is 0, and the place may lie outside. The terms stand in the order
  // in which the layer takes them, `sum` is that of the products.
  function explain(net, image, outputs, step, index) {
    const entry = net.steps[step], xs = inputs(net, image, outputs, step), from = entry.inputs[0];
    const [, P, Q] = [...entry.shape, 1, 1];
    const out = { k: Math.floor(index / (P * Q)), p: Math.floor(index / Q) % P, q: index % Q, index };
    const found = RULES[entry.kind](entry, xs, out, from < 0 ? net.imageShape : net.steps[from].shape);
    const { bias = 0, value = (sum) => sum + bias, ...rest } = found;
    const sum = rest.terms.reduce((total, { product }) => total + product, 0);
    return { ...rest, bias, sum, value: Math.fround(value(sum)) };
  }

  // The term of number `at` of an array x of `shape`.
  function term(x, shape, at, weight, product, input = 0) {
    const [, H, W] = [...shape, 1, 1];
    const c = Math.floor(at / (H * W)), row = Math.floor(at / W) % H, column = at % W;
    return { input, at, c, row, column, x: x[at], weight, product };
  }

  // Every tap of the window (p, q) in channel c, row by row, those on padding too: `tap(place in the kernel, term)`
  // gives weight and product.
  function windowTerms({ window }, x, c, { p, q }, tap) {
    const { size: [H, W], kernel: [R, S], padding: [[top], [left]], stride, dilation } = window;
    return Array.from({ length: R * S }, (_, i) => {
      const row = p * stride[0] + Math.floor(i / S) * dilation[0] - top;
      const column = q * stride[1] + (i % S) * dilation[1] - left;
      const inside = 0 <= row && row < H && 0 <= column && column < W;
      const at = inside ? (c * H + row) * W + column : -1;
      const found = { input: 0, at, c, row, column, x: inside ? x[at] : 0 };
      return { ...found, ...tap(i, found) };
    });
  }

  // A weight and its product with the number of a term; padding adds nothing.
  const times = (weight, { at, x }) => ({ weight, product: at < 0 ? 0 : x * weight });

  // A weighted sum with the bias of output k, if the layer has one.
  function weighted({ weights: [, bias] }, terms, k) {
    return bias
      ? { rule: "sum", terms, bias: bias.values[k], formula: "y = Σ x·w + b" }
      : { rule: "sum", terms, formula: "y = Σ x·w" };
  }

  function convolution(step, [x], out) {
    const [K, depth, R, S] = step.weights[0].shape, weight = step.weights[0].values;
    const first = Math.floor(out.k / (K / step.settings.groups)) * depth;
    const terms = Array.from({ length: depth }, (_, c) => windowTerms(step, x, first + c, out, (i, found) => (
      times(weight[(out.k * depth + c) * R * S + i], found)))).flat();
    return weighted(step, terms, out.k);
  }

  function full(step, [x], { k }, shape) {
    const weight = step.weights[0].values;
    const terms = Array.from(x, (value, d) => {
      const w = weight[k * x.length + d];
      return term(x, shape, d, w, value * w);
    });
    return weighted(step, terms, k);
  }

  function subsampling(step, [x], out) {
    const coefficient = step.weights[0].values[out.k];
    return weighted(step, windowTerms(step, x, out.k, out, (i, found) => times(coefficient, found)), out.k);
  }

  function resized(step, [x], { index }, shape) {
    const terms = shares(step, index).map(({ at, weight }) => term(x, shape, at, weight, weight * x[at]));
    return { rule: "sum", terms, formula: "y = Σ x·w" };
  }

  function maximum(step, [x], out) {
    const winner = Loops.first_maximum(x, out.k, step.window, out.p, out.q);
    const terms = windowTerms(step, x, out.k, out, (i, { at, x: value }) => (
      at === winner ? { weight: 1, product: value } : { weight: 0, product: 0 }));
    return { rule: "max", terms, formula: "y = max x" };
  }

  function mean(step, [x], out) {
    const { size, padding } = step.window, count = step.counts[out.p * step.window.output[1] + out.q];
    const counted = (place, axis) => -padding[axis][0] <= place && place < size[axis] + padding[axis][1];
    const terms = windowTerms(step, x, out.k, out, (i, { at, row, column, x: value }) => {
      const padded = step.settings.count_include_pad && counted(row, 0) && counted(column, 1);
      return { weight: at >= 0 || padded ? 1 / count : 0, product: value / count };
    });
    return { rule: "mean", terms, formula: `y = Σ x / ${count}` };
  }

  function normalisation(step, [x], { index }, shape) {
    const c = Math.floor(index / (x.length / step.mean.length));
    const centre = step.mean[c], weight = step.scale[c];
    const formulas = { BatchNorm2d: "(x − m)·w + b", Normalize: "(x − m)·w", SubtractMean: "x − m" };
    const terms = [term(x, shape, index, weight, (x[index] - centre) * weight)];
    return { rule: "normalize", terms, bias: step.bias[c], mean: centre, formula: `y = ${formulas[step.kind]}` };
  }

  function distance(step, [x], { k }, shape) {
    const codes = step.weights[0].values;
    const terms = Array.from(x, (value, d) => {
      const code = codes[k * x.length + d];
      return term(x, shape, d, code, -((value - code) ** 2));
    });
    return { rule: "distance", terms, formula: "y = −Σ (x − w)²" };
  }

  function activation({ kind, settings }, [x], { index }, shape) {
    const formulas = {
      ReLU: "max(0, x)",
      LeakyReLU: `x > 0 ? x : ${settings.negative_slope}·x`,
      Tanh: "tanh x",
      Sigmoid: "1 / (1 + e⁻ˣ)",
      ScaledTanh: "1.7159·tanh(⅔·x)",
    };
    const terms = [term(x, shape, index, null, FUNCTIONS[kind].f(x[index], settings))];
    return { rule: "function", terms, formula: `y = ${formulas[kind]}` };
  }

  function shareOfAll({ kind }, [x], { k, index }, shape) {
    const pixels = x.length / shape[0], pixel = index % pixels;
    const { largest, powers } = exponentials(x, shape[0], pixel);
    const terms = powers.map((power, i) => term(x, shape, i * pixels + pixel, null, power));
    const found = kind === "Softmax"
      ? { value: (sum) => powers[k] / sum, formula: "y = eˣ / Σ eˣ" }
      : { value: (sum) => x[index] - largest - Math.log(sum), formula: "y = x − ln Σ eˣ" };
    return { rule: "softmax", terms, ...found };
  }

  function copy(step, [x], { index }, shape) {
    const at = step.from[index], [c, row, column] = step.source(index);
    const padding = { input: 0, at, c, row, column, x: step.fill, weight: 1, product: step.fill };
    return { rule: "copy", terms: [at < 0 ? padding : term(x, shape, at, 1, x[at])], formula: "y = x" };
  }

  function addition(step, xs, { index }, shape) {
    const terms = xs.map((x, input) => term(x, shape, index, 1, x[index], input));
    return { rule: "add", terms, formula: "y = x + x" };
  }

  const RULES = {
    Resize: resized, Pad: copy, Normalize: normalisation, SubtractMean: normalisation,
    Conv2d: convolution, MaxPool2d: maximum, AvgPool2d: mean, GlobalAvgPool2d: mean,
    TrainableSubsampling2d: subsampling, BatchNorm2d: normalisation, Linear: full, RBF: distance, Flatten: copy,
    ReLU: activation, LeakyReLU: activation, Tanh: activation, Sigmoid: activation, ScaledTanh: activation,
    Softmax: shareOfAll, LogSoftmax: shareOfAll, ZeroPadShortcut: copy, Add: addition,
  };

  // How much the probability of class k falls when a square is covered: {rows, columns, drop}, row by row, of squares
  // whose upper left corner is at (row * stride, column * stride). Yields the share that is done (Zeiler, Fergus 2014).
  function* occlusion(net, image, outputs, k, options = {}) {
    const [C, H, W] = net.imageShape, size = options.size || Math.ceil(Math.min(H, W) / 6);
    const stride = options.stride || Math.ceil(size / 2), whole = probabilities(net, outputs)[k];
    const fill = options.fill === undefined ? (net.framing ? net.framing.background : 0.5) : options.fill;
    const [rows, columns] = [H, W].map((length) => Math.ceil(Math.max(length - size, 0) / stride) + 1);
    const drop = new Float32Array(rows * columns);
    for (let i = 0; i < drop.length; i++) {
      const top = Math.floor(i / columns) * stride, left = (i % columns) * stride, covered = image.slice();
      for (let c = 0; c < C; c++) {
        for (let h = top; h < Math.min(top + size, H); h++) {
          covered.fill(fill, (c * H + h) * W + left, (c * H + h) * W + Math.min(left + size, W));
        }
      }
      drop[i] = whole - probabilities(net, forward(net, covered))[k];
      yield (i + 1) / drop.length;
    }
    return { rows, columns, size, stride, drop };
  }

  return { explain, occlusion };
})());
