// What a number or a class owes to the pixels of the image: gradients, and what happens when a part is covered.
"use strict";

const Why = (() => {
  const $ = (id) => document.getElementById(id);
  const SLICE = 12; // milliseconds of work before the page may be drawn again

  // The sections "what reaches it" and "why this class".
  function create(net, names) {
    const own = { net, state: null, class: null, job: 0, found: null, share: null };
    names.forEach((name, k) => $("why-class").add(new Option(name, k)));
    $("why-class").addEventListener("change", (event) => {
      own.class = Number(event.target.value);
      forget(own);
      showClass(own);
    });
    $("cover").addEventListener("click", () => (own.share === null ? cover(own) : forget(own)));
    return {
      reach: (state) => showReach(own, state),
      class: () => showClass(own),
      fresh: (state) => begin(own, state),
    };
  }

  // Another image: its own class is asked about, none if there is nothing on it, and nothing has been covered.
  function begin(own, state) {
    Object.assign(own, { state, class: null });
    forget(own);
    showClass(own);
  }

  // The gradient of each pixel (H, W): of several colours the one that counts most.
  function strongest(gradient, [channels, height, width]) {
    const area = height * width, found = gradient.slice(0, area);
    for (let i = area; i < channels * area; i++) {
      if (Math.abs(gradient[i]) > Math.abs(found[i % area])) found[i % area] = gradient[i];
    }
    return found;
  }

  // The pixels that reach the chosen number, and how much each changes it.
  function showReach({ net }, state) {
    const { step, index } = state.chosen, [, height, width] = net.imageShape;
    const pixels = strongest(Stride.gradient(net, state.image, state.outputs, step, index), net.imageShape);
    const box = Field.of(net, state, step, index), count = pixels.filter((value) => value !== 0).length;
    Paint.over($("reach"), state.image, net.imageShape, pixels);
    Maps.lay($("field"), { height, width }, box);
    const words = { rows: box.bottom - box.top, columns: box.right - box.left, count };
    const frame = words.rows * words.columns > 1 ? "reach.frame" : "reach.pixel";
    const reached = ["reach.none", "reach.one"][count] || "reach.some";
    const text = Words.join([Words.say(frame, words), Words.say(reached, words)]);
    $("reach-text").textContent = text;
    $("reach").setAttribute("aria-label", text);
  }

  // The step whose numbers are the scores: before a softmax at the end.
  function scores({ steps }) {
    const last = steps.length - 1;
    return /softmax/i.test(steps[last].kind) ? steps[last].inputs[0] : last;
  }

  // The saliency of the class in question, and what was found by covering.
  function showClass(own) {
    const { net, state } = own, k = own.class === null ? state.best : own.class;
    $("why-class").value = k === null ? "" : k;
    $("cover").disabled = k === null;
    const gradient = k === null
      ? new Float32Array(state.image.length)
      : Stride.gradient(net, state.image, state.outputs, scores(net), k);
    Paint.over($("saliency"), state.image, net.imageShape, strongest(gradient, net.imageShape));
    showCovered(own);
  }

  // Covers the image part by part, in pieces between which the page stays alive.
  function cover(own) {
    const { net, state } = own, job = ++own.job, k = Number($("why-class").value);
    const work = Stride.occlusion(net, state.image, state.outputs, k);
    own.found = null;
    own.share = 0;
    const piece = () => {
      if (own.job !== job) return;
      const until = performance.now() + SLICE;
      let step = work.next();
      while (!step.done && performance.now() < until) step = work.next();
      own.share = step.done ? null : step.value;
      own.found = step.done ? step.value : null;
      showCovered(own);
      if (!step.done) requestAnimationFrame(piece);
    };
    requestAnimationFrame(piece);
    showCovered(own);
  }

  // What was found by covering belongs to another image or class, or is not wanted.
  function forget(own) {
    own.job += 1;
    own.found = own.share = null;
    showCovered(own);
  }

  // The drop (H, W) of each pixel: the mean over the patches that cover it.
  function spread({ rows, columns, size, stride, drop }, [, height, width]) {
    const sums = new Float32Array(height * width), counts = new Float32Array(height * width);
    for (let i = 0; i < rows * columns; i++) {
      const top = Math.floor(i / columns) * stride, left = (i % columns) * stride;
      for (let h = top; h < Math.min(top + size, height); h++) {
        for (let w = left; w < Math.min(left + size, width); w++) {
          sums[h * width + w] += drop[i];
          counts[h * width + w] += 1;
        }
      }
    }
    return sums.map((sum, i) => sum / Math.max(1, counts[i]));
  }

  // How far the covering is, or what it found.
  function showCovered(own) {
    const { net, state, found, share } = own;
    $("cover").textContent = Words.say(share === null ? "occlusion.start" : "occlusion.cancel");
    $("covered").hidden = share === null;
    $("covered").value = share || 0;
    const [, height, width] = net.imageShape;
    const drops = found ? spread(found, net.imageShape) : new Float32Array(height * width);
    Paint.over($("occlusion"), state.image, net.imageShape, drops);
    const most = found ? Math.max(0, Paint.largest(found.drop)) : 0;
    const text = found ? Words.say("occlusion.found", { drop: Words.percent(most), size: found.size }) : "";
    if ($("occlusion-text").textContent !== text) $("occlusion-text").textContent = text;
  }

  return { create };
})();
