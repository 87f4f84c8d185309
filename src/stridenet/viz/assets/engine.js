"use strict";

/* A network of stridenet in the browser: the layers on top of loops.js, the transforms of images, and the network that
   a page describes. A layer takes and gives one array (C, H, W) or (D); see loops.js for how it lies. */

const Stride = (() => {
  const { taps, eachWindow, windowOver, pixelCounts } = Loops;

  // The layers that need no kernel

  // Activations: y = f(x), dx = dy * slope(x, y).
  const FUNCTIONS = {
    ReLU: { f: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
    LeakyReLU: {
      f: (x, { negative_slope: slope }) => (x > 0 ? x : slope * x),
      slope: (x, y, { negative_slope: slope }) => (x > 0 ? 1 : slope),
    },
    Tanh: { f: Math.tanh, slope: (x, y) => 1 - y * y },
    Sigmoid: { f: (x) => 0.5 + 0.5 * Math.tanh(0.5 * x), slope: (x, y) => y * (1 - y) },
    ScaledTanh: {  // LeCun et al. 1998
      f: (x) => 1.7159 * Math.tanh((2 / 3) * x),
      slope: (x, y) => (2 / 3) * (1.7159 - y * y / 1.7159),
    },
  };

  // exp(x - the largest of the classes) for class k of K at one pixel, and the sum over the classes.
  function exponentials(x, K, pixel) {
    const pixels = x.length / K, at = (k) => x[k * pixels + pixel];
    let largest = -Infinity, sum = 0;
    for (let k = 0; k < K; k++) largest = Math.max(largest, at(k));
    const powers = Array.from({ length: K }, (_, k) => Math.exp(at(k) - largest));
    for (const power of powers) sum += power;
    return { largest, powers, sum };
  }

  // y[k] = exp(x[k]) / sum of exp(x), or its logarithm, over the K classes at each pixel.
  function softmax(x, K, logarithm) {
    const y = new Float32Array(x.length), pixels = x.length / K;
    for (let pixel = 0; pixel < pixels; pixel++) {
      const { largest, powers, sum } = exponentials(x, K, pixel);
      for (let k = 0; k < K; k++) {
        const i = k * pixels + pixel;
        y[i] = logarithm ? x[i] - largest - Math.log(sum) : powers[k] / sum;
      }
    }
    return y;
  }

  // dx = y (dy - sum(dy y)); of the logarithm dx = dy - exp(y) sum(dy).
  function softmax_backward(dy, y, K, logarithm) {
    const dx = new Float32Array(y.length), pixels = y.length / K;
    for (let pixel = 0; pixel < pixels; pixel++) {
      let sum = 0;
      for (let i = pixel; i < y.length; i += pixels) sum += logarithm ? dy[i] : dy[i] * y[i];
      for (let i = pixel; i < y.length; i += pixels) {
        dx[i] = logarithm ? dy[i] - Math.exp(y[i]) * sum : y[i] * (dy[i] - sum);
      }
    }
    return dx;
  }

  // y[c, p, q] = coefficient[c] times the sum of its window, plus bias[c]: the pooling of 1998.
  function subsampling2d(x, coefficient, bias, window) {
    return eachWindow(x, window, (c, p, q) => {
      const at = taps(window, p, q), plane = c * window.size[0] * window.size[1];
      let sum = 0;
      for (let i = 0; i < at.length; i += 2) sum += coefficient[c] * x[plane + at[i + 1]];
      return sum + bias[c];
    });
  }

  // y[k] = minus the squared distance of x from code k.
  function rbf(x, codes) {
    const y = new Float32Array(codes.length / x.length);
    for (let k = 0; k < y.length; k++) {
      let sum = 0;
      for (let d = 0; d < x.length; d++) sum -= (x[d] - codes[k * x.length + d]) ** 2;
      y[k] = sum;
    }
    return y;
  }

  // dx[d] = 2 sum over k of dy[k] (codes[k, d] - x[d]).
  function rbf_backward(dy, x, codes) {
    const dx = new Float64Array(x.length);
    for (let k = 0; k < dy.length; k++) {
      for (let d = 0; d < x.length; d++) dx[d] += 2 * dy[k] * (codes[k * x.length + d] - x[d]);
    }
    return Float32Array.from(dx);
  }

  // For each of `target` pixels the pixels of `size` that it is the mean of, with their weights: triangles.
  function triangles(size, target) {
    const scale = size / target, reach = Math.max(scale, 1);
    return Array.from({ length: target }, (_, i) => {
      const found = [];
      for (let j = 0; j < size; j++) {
        const weight = Math.max(1 - Math.abs(j + 0.5 - (i + 0.5) * scale) / reach, 0);
        if (weight > 0) found.push({ j, weight });
      }
      const total = found.reduce((sum, { weight }) => sum + weight, 0);
      return found.map(({ j, weight }) => ({ j, weight: Math.fround(weight / total) }));
    });
  }

  // The kinds of steps. `place` gets the shape of the input, works out what the step needs, and gives that of the
  // output; `forward` gives y, `backward` the gradient of every input, for an Add has two.

  const none = [[0, 0], [0, 0]];  // no padding
  const count = (shape) => shape.reduce((a, b) => a * b, 1);
  const values = (step, i) => step.weights[i] && step.weights[i].values;

  // The window of a step over images (C, H, W), and the shape of what it gives.
  function slide(step, [C, H, W], kernel, settings) {
    step.window = windowOver([H, W], kernel, settings);
    return [C, ...step.window.output];
  }

  const CONVOLUTION = {
    place: (step, [, H, W]) => {
      const [K, , R, S] = step.weights[0].shape;
      return slide(step, [K, H, W], [R, S], step.settings);
    },
    forward: (step, x) => Loops.conv2d(x, values(step, 0), values(step, 1), step.window, step.settings.groups),
    backward: (step, dy, x) => Loops.conv2d_backward(dy, x, values(step, 0), step.window, step.settings.groups),
  };

  const MAXIMUM = {
    place: (step, shape) => slide(step, shape, step.settings.kernel, step.settings),
    forward: (step, x) => Loops.max_pool2d(x, step.window),
    backward: (step, dy, x) => Loops.max_pool2d_backward(dy, x, step.window),
  };

  const MEAN = {
    place: (step, shape) => {
      const whole = { kernel: shape.slice(1), stride: [1, 1], padding: none };  // a global mean has one window
      const settings = step.kind === "AvgPool2d" ? step.settings : whole;
      const output = slide(step, shape, settings.kernel, settings);
      step.counts = pixelCounts(step.window, settings.count_include_pad);
      return output;
    },
    forward: (step, x) => Loops.avg_pool2d(x, step.window, step.counts),
    backward: (step, dy, x) => Loops.avg_pool2d_backward(dy, x, step.window, step.counts),
  };

  const SUBSAMPLING = {
    place: (step, shape) => {
      const { kernel } = step.settings;
      return slide(step, shape, kernel, { stride: kernel, padding: none });
    },
    forward: (step, x) => subsampling2d(x, values(step, 0), values(step, 1), step.window),
    backward: (step, dy, x) => {
      const counts = new Float32Array(dy.length).fill(1);
      return Loops.avg_pool2d_backward(Loops.batch_norm_backward(dy, values(step, 0)), x, step.window, counts);
    },
  };

  const FULL = {
    place: (step) => [step.weights[0].shape[0]],
    forward: (step, x) => Loops.linear(x, values(step, 0), values(step, 1)),
    backward: (step, dy, x) => Loops.linear_backward(dy, x, values(step, 0)),
  };

  const DISTANCE = {
    place: (step) => [step.weights[0].shape[0]],
    forward: (step, x) => rbf(x, values(step, 0)),
    backward: (step, dy, x) => rbf_backward(dy, x, values(step, 0)),
  };

  // (x - mean) scale + bias, with constants for each channel, or for each pixel in SubtractMean.
  const NORMALISATION = {
    place: (step, shape) => {
      const { settings: { mean, std, eps } } = step;
      if (step.kind === "BatchNorm2d") {
        const [weight, bias, average, variance] = step.weights.map((entry) => entry.values);
        Object.assign(step, { mean: average, bias, scale: weight.map((w, c) => w / Math.sqrt(variance[c] + eps)) });
      } else {
        step.mean = mean ? Float32Array.from(mean) : values(step, 0);
        step.scale = Float64Array.from(step.mean, (_, c) => (std ? 1 / Math.fround(std[c]) : 1));
        step.bias = new Float32Array(step.mean.length);
      }
      return shape;
    },
    forward: (step, x) => Loops.batch_norm(x, step.mean, step.scale, step.bias),
    backward: (step, dy) => Loops.batch_norm_backward(dy, step.scale),
  };

  const ACTIVATION = {
    place: (step, shape) => shape,
    forward: ({ kind, settings }, x) => x.map((value) => FUNCTIONS[kind].f(value, settings)),
    backward: ({ kind, settings }, dy, x, y) => dy.map((d, i) => d * FUNCTIONS[kind].slope(x[i], y[i], settings)),
  };

  const SOFTMAX = {
    place: (step, shape) => shape,
    forward: ({ kind, shape }, x) => softmax(x, shape[0], kind === "LogSoftmax"),
    backward: ({ kind, shape }, dy, x, y) => softmax_backward(dy, y, shape[0], kind === "LogSoftmax"),
  };

  // What only moves numbers: output i is input from[i], or `fill` where that is -1. `source` is where it would be from,
  // channel, row and column, outside the input too.
  const COPY = {
    place: (step, [C, H = 1, W = 1]) => {
      const { shape, source } = MOVES[step.kind]([C, H, W], step.settings), [, P = 1, Q = 1] = shape;
      step.source = (i) => source(Math.floor(i / (P * Q)), Math.floor(i / Q) % P, i % Q);
      step.from = Int32Array.from({ length: count(shape) }, (_, i) => {
        const [c, h, w] = step.source(i);
        return c < C && 0 <= h && h < H && 0 <= w && w < W ? (c * H + h) * W + w : -1;
      });
      step.fill = step.settings.value || 0;
      return shape;
    },
    forward: ({ from, fill }, x) => Float32Array.from(from, (at) => (at < 0 ? fill : x[at])),
    backward: ({ from }, dy, x) => {
      const dx = new Float32Array(x.length);
      from.forEach((at, i) => { if (at >= 0) dx[at] += dy[i]; });
      return dx;
    },
  };

  const MOVES = {
    Flatten: ([C, H, W]) => (
      { shape: [C * H * W], source: (d) => [Math.floor(d / (H * W)), Math.floor(d / W) % H, d % W] }),
    Pad: ([C, H, W], { padding: [[top, bottom], [left, right]] }) => (
      { shape: [C, top + H + bottom, left + W + right], source: (c, p, q) => [c, p - top, q - left] }),
    ZeroPadShortcut: ([, H, W], { out_channels: K, stride: [down, across] }) => (
      { shape: [K, Math.ceil(H / down), Math.ceil(W / across)], source: (k, p, q) => [k, p * down, q * across] }),
  };

  const RESIZING = {
    place: (step, [C, H, W]) => {
      const [P, Q] = step.settings.size;
      Object.assign(step, { size: [H, W], rows: triangles(H, P), columns: triangles(W, Q) });
      return [C, P, Q];
    },
    forward: (step, x) => {
      const y = new Float32Array(count(step.shape));
      return y.map((_, i) => shares(step, i).reduce((sum, { at, weight }) => sum + weight * x[at], 0));
    },
    backward: (step, dy, x) => {
      const dx = new Float32Array(x.length);
      dy.forEach((d, i) => shares(step, i).forEach(({ at, weight }) => { dx[at] += weight * d; }));
      return dx;
    },
  };

  // The pixels that pixel i of a resized image is made of, with their weights.
  function shares({ shape: [, P, Q], size: [H, W], rows, columns }, i) {
    const c = Math.floor(i / (P * Q));
    return rows[Math.floor(i / Q) % P].flatMap((row) => columns[i % Q].map((column) => (
      { at: (c * H + row.j) * W + column.j, weight: row.weight * column.weight })));
  }

  // Both ways of a Residual.
  const SUM = {
    place: (step, shape) => shape,
    forward: (step, x, aside) => x.map((value, i) => value + aside[i]),
    backward: (step, dy) => dy,
  };

  const KINDS = {
    Resize: RESIZING, Pad: COPY, Normalize: NORMALISATION, SubtractMean: NORMALISATION,
    Conv2d: CONVOLUTION, MaxPool2d: MAXIMUM, AvgPool2d: MEAN, GlobalAvgPool2d: MEAN,
    TrainableSubsampling2d: SUBSAMPLING, BatchNorm2d: NORMALISATION, Linear: FULL, RBF: DISTANCE, Flatten: COPY,
    ReLU: ACTIVATION, LeakyReLU: ACTIVATION, Tanh: ACTIVATION, Sigmoid: ACTIVATION, ScaledTanh: ACTIVATION,
    Softmax: SOFTMAX, LogSoftmax: SOFTMAX, ZeroPadShortcut: COPY, Add: SUM,
  };

  // The network

  // The bytes of a text in base64.
  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  // The network that the data of a page describe. A Residual becomes the steps of its body, those of its shortcut and
  // an Add of both ends.
  function build(data) {
    const floats = new Float32Array(bytes(data.floats).buffer);  // little-endian, as every browser's machine
    const { classes, imageShape, framing } = data, steps = [];
    const weight = (name) => {
      const { shape, at } = data.weights[name];
      return { name, shape, values: floats.subarray(at, at + count(shape)) };
    };
    const push = (layer, kind, inputs) => {
      const { name, title, settings } = layer, transform = name.startsWith("transform.");
      const step = { kind, name, title, settings, inputs, transform, weights: layer.weights.map(weight) };
      step.shape = KINDS[kind].place(step, inputs[0] < 0 ? imageShape : steps[inputs[0]].shape);
      return steps.push(step) - 1;
    };
    const add = (layers, from) => layers.reduce((at, layer) => {
      if (layer.kind !== "Residual") return push(layer, layer.kind, [at]);
      const ways = [add(layer.settings.body, at), add(layer.settings.shortcut, at)];
      return push({ ...layer, settings: {} }, "Add", ways);
    }, from);
    add(data.layers, -1);
    const samples = data.samples.map(({ pixels, label }) => (
      { image: Float32Array.from(bytes(pixels), (value) => value / 255), label }));
    return { steps, classes, imageShape, framing, samples };
  }

  // The arrays that step i takes.
  function inputs(net, image, outputs, i) {
    return net.steps[i].inputs.map((from) => (from < 0 ? image : outputs[from]));
  }

  // The output of every step for an image (C, H, W) in 0..1; the last are the scores.
  function forward(net, image) {
    const outputs = [];
    net.steps.forEach((step, i) => outputs.push(KINDS[step.kind].forward(step, ...inputs(net, image, outputs, i))));
    return outputs;
  }

  // The probability of each class: the softmax of the scores, as Model.predict_proba.
  function probabilities(net, outputs) {
    return softmax(outputs[outputs.length - 1], net.classes.length, false);
  }

  // The derivative of outputs[step][index] by each pixel of the image, by a backward through all steps before.
  function gradient(net, image, outputs, step, index) {
    const found = [image, ...outputs.slice(0, step + 1)].map((x) => new Float32Array(x.length));  // the image first
    found[step + 1][index] = 1;
    for (let i = step; i >= 0; i--) {
      const { kind, inputs: from } = net.steps[i], x = inputs(net, image, outputs, i)[0];
      const dx = KINDS[kind].backward(net.steps[i], found[i + 1], x, outputs[i]);
      for (const at of from) dx.forEach((d, j) => { found[at + 1][j] += d; });
    }
    return found[0];
  }

  return { build, forward, probabilities, gradient, inputs, exponentials, shares, FUNCTIONS };
})();
