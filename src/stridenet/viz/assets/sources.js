// Images that nobody drew here: samples of the data, and files of the user.
"use strict";

const Sources = (() => {
  const MOST = 1024; // pixels of the longer side; a larger picture is made smaller first

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

  // The picture in a file: {width, height, data} as RGBA.
  async function ofFile(file) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(scale * bitmap.width));
    canvas.height = Math.max(1, Math.round(scale * bitmap.height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return context.getImageData(0, 0, canvas.width, canvas.height);
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

  return { buttons, ofFile, files };
})();
