"use strict";

/* kernels/loops.py in JavaScript: function by function, in its order and under its names, to be read side by side. A
   backward gives dx alone, for nothing is trained in a page.

   There is one image at a time. An array is a Float32Array, channel by channel, row by row: x[c, h, w] of C x H x W
   numbers is x[(c * H + h) * W + w]. Sums are carried in float64, as JavaScript does, and stored as float32. Letters:
   C H W input channels, rows, columns; K output channels; R S kernel rows, columns; P Q output rows, columns. */

const Loops = (() => {
  // For each tap of output (p, q): its place r * S + s in the kernel, its place h * W + w in the image; no padding.
  function taps(window, p, q) {
    const { size: [H, W], kernel: [R, S], padding: [[top], [left]], stride, dilation } = window;
    const known = window.known, key = p * window.output[1] + q;  // they are asked for again and again
    if (known[key]) return known[key];
    const found = [];
    for (let r = 0; r < R; r++) {
      for (let s = 0; s < S; s++) {
        const h = p * stride[0] + r * dilation[0] - top;
        const w = q * stride[1] + s * dilation[1] - left;
        if (0 <= h && h < H && 0 <= w && w < W) found.push(r * S + s, h * W + w);
      }
    }
    return known[key] = Int32Array.from(found);
  }

  // y[k, p, q] = bias[k] + sum over c, r, s of x[c, h, w] * weight[k, c, r, s] (a cross-correlation).
  function conv2d(x, weight, bias, window, groups) {
    const { size: [H, W], kernel: [R, S], output: [P, Q] } = window;
    const depth = x.length / (H * W * groups);  // the channels of one group
    const K = weight.length / (depth * R * S);
    const y = new Float32Array(K * P * Q);
    for (let k = 0; k < K; k++) {
      const first = Math.floor(k / (K / groups)) * depth;  // the first channel of k's group
      for (let p = 0; p < P; p++) {
        for (let q = 0; q < Q; q++) {
          const at = taps(window, p, q);
          let sum = 0;
          for (let c = 0; c < depth; c++) {
            const plane = (first + c) * H * W, kernel = (k * depth + c) * R * S;
            for (let i = 0; i < at.length; i += 2) sum += x[plane + at[i + 1]] * weight[kernel + at[i]];
          }
          y[(k * P + p) * Q + q] = bias ? sum + bias[k] : sum;
        }
      }
    }
    return y;
  }

  // Each product of the forward passes its gradient to its pixel.
  function conv2d_backward(dy, x, weight, window, groups) {
    const { size: [H, W], kernel: [R, S], output: [P, Q] } = window;
    const depth = x.length / (H * W * groups);
    const K = weight.length / (depth * R * S);
    const dx = new Float64Array(x.length);
    for (let k = 0; k < K; k++) {
      const first = Math.floor(k / (K / groups)) * depth;
      for (let p = 0; p < P; p++) {
        for (let q = 0; q < Q; q++) {
          const d = dy[(k * P + p) * Q + q];
          if (d === 0) continue;  // most are, behind a single output
          const at = taps(window, p, q);
          for (let c = 0; c < depth; c++) {
            const plane = (first + c) * H * W, kernel = (k * depth + c) * R * S;
            for (let i = 0; i < at.length; i += 2) dx[plane + at[i + 1]] += d * weight[kernel + at[i]];
          }
        }
      }
    }
    return Float32Array.from(dx);
  }

  // Where the window (p, q) has its first maximum, row by row; a NaN is greater than every number.
  function first_maximum(x, c, window, p, q) {
    const at = taps(window, p, q), plane = c * window.size[0] * window.size[1];
    let best = plane + at[1];
    for (let i = 2; i < at.length; i += 2) {
      const value = x[plane + at[i + 1]], record = x[best];
      if (value > record || (Number.isNaN(value) && !Number.isNaN(record))) best = plane + at[i + 1];
    }
    return best;
  }

  // y[c, p, q] = the maximum of its window; padding never wins.
  function max_pool2d(x, window) {
    return eachWindow(x, window, (c, p, q) => x[first_maximum(x, c, window, p, q)]);
  }

  // The whole gradient of a window goes to its first maximum; overlapping windows add up.
  function max_pool2d_backward(dy, x, window) {
    const dx = new Float32Array(x.length);
    eachWindow(x, window, (c, p, q, out) => { dx[first_maximum(x, c, window, p, q)] += dy[out]; });
    return dx;
  }

  // y[c, p, q] = the sum of its window / counts[p, q]; padding adds nothing to the sum.
  function avg_pool2d(x, window, counts) {
    return eachWindow(x, window, (c, p, q) => {
      const at = taps(window, p, q), plane = c * window.size[0] * window.size[1];
      let sum = 0;
      for (let i = 0; i < at.length; i += 2) sum += x[plane + at[i + 1]] / counts[p * window.output[1] + q];
      return sum;
    });
  }

  // Each pixel of a window gets an equal share; overlapping windows add up.
  function avg_pool2d_backward(dy, x, window, counts) {
    const dx = new Float32Array(x.length);
    eachWindow(x, window, (c, p, q, out) => {
      const at = taps(window, p, q), plane = c * window.size[0] * window.size[1];
      for (let i = 0; i < at.length; i += 2) dx[plane + at[i + 1]] += dy[out] / counts[p * window.output[1] + q];
    });
    return dx;
  }

  // y[c, h, w] = (x[c, h, w] - mean[c]) scale[c] + bias[c].
  function batch_norm(x, mean, scale, bias) {
    const pixels = x.length / mean.length;
    return x.map((value, i) => {
      const c = Math.floor(i / pixels);
      return (value - mean[c]) * scale[c] + bias[c];
    });
  }

  // dx[c, h, w] = scale[c] dy[c, h, w]: mean and variance are those of the training, not of this image.
  function batch_norm_backward(dy, scale) {
    const pixels = dy.length / scale.length;
    return dy.map((value, i) => scale[Math.floor(i / pixels)] * value);
  }

  // y[k] = bias[k] + sum over d of x[d] * weight[k, d].
  function linear(x, weight, bias) {
    const D = x.length, y = new Float32Array(weight.length / D);
    for (let k = 0; k < y.length; k++) {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += x[d] * weight[k * D + d];
      y[k] = bias ? sum + bias[k] : sum;
    }
    return y;
  }

  // Each product of the forward passes its gradient to its feature.
  function linear_backward(dy, x, weight) {
    const D = x.length, dx = new Float64Array(D);
    for (let k = 0; k < dy.length; k++) {
      for (let d = 0; d < D; d++) dx[d] += dy[k] * weight[k * D + d];
    }
    return Float32Array.from(dx);
  }

  // What loops.py takes from NumPy and from shapes.py

  // An array (C, P, Q) of what `value` gives for each window of each channel; `out` is the place there.
  function eachWindow(x, window, value) {
    const { size: [H, W], output: [P, Q] } = window, C = x.length / (H * W);
    const y = new Float32Array(C * P * Q);
    let out = 0;
    for (let c = 0; c < C; c++) {
      for (let p = 0; p < P; p++) {
        for (let q = 0; q < Q; q++, out++) y[out] = value(c, p, q, out);
      }
    }
    return y;
  }

  // The window of these settings over an image of `size`; what hangs over the padding belongs to no count.
  function windowOver(size, kernel, { stride, padding, dilation = [1, 1], overhang = [[0, 0], [0, 0]] }) {
    const output = [0, 1].map((axis) => {
      const around = padding[axis][0] + padding[axis][1] + overhang[axis][1];
      return Math.floor((size[axis] + around - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis]) + 1;
    });
    return { size, kernel, stride, padding, dilation, output, known: [] };
  }

  // How many pixels each window averages; padding counts with `includePad`, what hangs over it never.
  function pixelCounts(window, includePad) {
    const [rows, columns] = [0, 1].map((axis) => {
      const [before, after] = window.padding[axis], length = window.size[axis];
      const [low, high] = includePad ? [-before, length + after] : [0, length];
      return Array.from({ length: window.output[axis] }, (_, i) => {
        const start = i * window.stride[axis] - before;
        return Math.min(start + window.kernel[axis], high) - Math.max(start, low);
      });
    });
    return Float32Array.from(rows.flatMap((row) => columns.map((column) => row * column)));  // (P, Q)
  }

  return {
    taps, conv2d, conv2d_backward, first_maximum, max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward,
    batch_norm, batch_norm_backward, linear, linear_backward, eachWindow, windowOver, pixelCounts,
  };
})();
