// Images that nobody drew here: samples of the data, and files of the user.
"use strict";

const Sources = (() => {
  const MOST = 64e6; // pixels of a picture, as for Model.read
  const STRIP = 512; // rows that are read at once

  // A button for each sample, which `choose(number)` is told.
  function buttons(place, samples, shape, choose) {
    samples.forEach((sample, i) => {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      button.type = "button";
      button.append(canvas);
      Paint.image(canvas, sample.image, shape);
      button.addEventListener("click", () => choose(i));
      place.append(button);
    });
  }

  // The picture in a file, all pixels of it: {width, height, data} as RGBA. A RangeError if there are too many.
  async function ofFile(file) {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }), { width, height } = bitmap;
    if (width * height > MOST) throw new RangeError("too many pixels");
    const canvas = document.createElement("canvas"), data = new Uint8ClampedArray(4 * width * height);
    [canvas.width, canvas.height] = [width, Math.min(height, STRIP)];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < height; top += STRIP) { // some browsers have no canvas for a whole photo
      const rows = Math.min(STRIP, height - top);
      context.clearRect(0, 0, width, rows);
      context.drawImage(bitmap, 0, -top);
      data.set(context.getImageData(0, 0, width, rows).data, 4 * width * top);
    }
    bitmap.close();
    return { width, height, data };
  }

  // Files that are chosen, or dropped anywhere on the page, go to `take(file)`.
  function files(input, take) {
    input.addEventListener("change", () => {
      if (input.files.length) take(input.files[0]);
      input.value = "";
    });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    });
  }

  return { MOST, buttons, ofFile, files };
})();
