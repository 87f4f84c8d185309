// Numbers as colours: blue below zero, the ground at zero, orange above; images as they are.
"use strict";

const Paint = (() => {
  let palette = null;

  // The colour #rrggbb of a CSS variable as three numbers.
  function variable(name) {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  }

  // The three colours of the scale, by day or by night.
  function colours() {
    palette = palette || { zero: variable("--ground"), below: variable("--blue"), above: variable("--orange") };
    return palette;
  }

  // Calls `repaint` when day becomes night, or night day, and before and after the page is printed.
  function watch(repaint) {
    for (const query of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(query).addEventListener("change", () => {
        palette = null;
        repaint();
      });
    }
  }

  // The largest magnitude in `values`; 1 where all are zero.
  function extent(values) {
    let most = 0;
    for (const value of values) most = Math.max(most, Math.abs(value));
    return most || 1;
  }

  // The largest of `values`.
  function largest(values) {
    return values.reduce((most, value) => Math.max(most, value), -Infinity);
  }

  // Mixes `colour` over `base` by `share` into the pixel `at` of `pixels`.
  function mix(pixels, at, base, colour, share) {
    for (let i = 0; i < 3; i++) pixels[4 * at + i] = base[i] + share * (colour[i] - base[i]);
    pixels[4 * at + 3] = 255;
  }

  // `count` values from `start` on as pixels of a canvas, `scale` in full colour; what is left over stays clear.
  function signed(canvas, values, start, count, width, height, scale) {
    const { zero, below, above } = colours();
    const picture = new ImageData(width, height);
    for (let i = 0; i < count; i++) {
      const value = values[start + i];
      mix(picture.data, i, zero, value < 0 ? below : above, Math.min(1, Math.abs(value) / scale));
    }
    put(canvas, picture);
  }

  // The grey or the three colours, 0 to 255, of pixel `at` of an image (C, H, W) of 0..1.
  function colourAt(image, channels, area, at) {
    return [0, 1, 2].map((c) => 255 * image[(channels === 3 ? c * area : 0) + at]);
  }

  // An image (C, H, W) of 0..1 on a canvas.
  function image(canvas, values, [channels, height, width]) {
    const picture = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      mix(picture.data, i, colourAt(values, channels, height * width, i), [0, 0, 0], 0);
    }
    put(canvas, picture);
  }

  // The image faint, and `over` (H, W) on it in the colours of the scale.
  function over(canvas, values, [channels, height, width], overlay) {
    const { zero, below, above } = colours();
    const scale = extent(overlay), picture = new ImageData(width, height);
    const darkGround = zero[0] < 128;
    for (let i = 0; i < height * width; i++) {
      const light = colourAt(values, channels, height * width, i).reduce((sum, one) => sum + one / 3, 0);
      const faint = zero.map((one) => one + 0.3 * ((darkGround ? 255 : 0) - one) * (light / 255));
      mix(picture.data, i, faint, overlay[i] < 0 ? below : above, Math.min(1, Math.abs(overlay[i]) / scale));
    }
    put(canvas, picture);
  }

  // Puts a picture on a canvas of its size.
  function put(canvas, picture) {
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      [canvas.width, canvas.height] = [picture.width, picture.height];
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  return { watch, extent, largest, signed, image, over };
})();
