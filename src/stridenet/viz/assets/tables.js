// The tables of one number: a grid of products for each map of the input, or a list.
"use strict";

const Tables = (() => {
  const MANY = 24; // maps of the input whose buttons are in a box of their own

  // An element with a class and a text.
  function make(kind, name, text) {
    const element = document.createElement(kind);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // The class of item `i` when `at` items are done.
  function state(i, at, count) {
    if (i >= at) return "later";
    return i === at - 1 && at < count ? "now" : "done";
  }

  // Tints a cell by its share of the largest product: blue below zero, orange above.
  function tint(cell, amount, most) {
    cell.style.setProperty("--share", `${Math.round((30 * Math.abs(amount)) / most)}%`);
    cell.classList.add(amount < 0 ? "below" : "above");
  }

  // The products on the map of `shown` as rows and columns of the kernel.
  function grid(own, shown) {
    const [height, width] = own.net.steps[own.step].window.kernel, { told, at, list } = own;
    const most = Paint.extent(told.terms.map(({ product }) => product));
    const table = make("table", "kernel");
    const about = make("p", "small quiet", Words.say(`grid.${told.rule}`, { map: shown.c }));
    table.setAttribute("aria-label", about.textContent);
    const body = table.appendChild(make("tbody"));
    const cells = list.map((item, i) => ({ item, i })).filter(({ item }) => item.term && item.term.c === shown.c);
    for (let r = 0; r < height; r++) {
      const row = body.appendChild(make("tr"));
      for (const { item, i } of cells.slice(r * width, (r + 1) * width)) {
        const mark = state(i, at, list.length);
        row.append(cell(told, item.term, mark, most, own.net.steps[own.step]));
      }
    }
    chips(own, shown);
    document.getElementById("products").replaceChildren(about, table);
  }

  // One cell of the grid: the number of the input, what it is multiplied by, and the product.
  function cell(told, term, mark, most) {
    const { x, weight, product, at } = term, box = make("td", mark), padding = at < 0;
    if (padding) box.classList.add("padding");
    if (told.rule === "max") {
      box.append(make(mark === "later" ? "span" : "b", "", padding ? "—" : Words.number(x)));
      if (mark !== "later" && weight === 1) box.classList.add("winner");
      return box;
    }
    box.append(make("span", "", Words.number(x)));
    if (told.rule !== "mean") box.append(make("span", "", Words.number(weight)));
    box.append(make("b", "", Words.number(product)));
    if (mark !== "later") tint(box, product, most);
    return box;
  }

  // A button for each map of the input with what it has added so far, where there are several.
  function chips(own, shown) {
    const sums = new Map(), place = document.getElementById("chips");
    own.list.forEach(({ term, amount }, i) => {
      if (term) sums.set(term.c, (sums.get(term.c) || 0) + (i < own.at ? amount : 0));
    });
    place.hidden = sums.size < 2;
    place.className = sums.size > MANY ? "many" : "";
    const focused = [...place.children].indexOf(document.activeElement);
    place.replaceChildren(...[...sums].map(([map, sum]) => {
      const button = make("button", "chip", Words.say("number.chip", { map, sum: Words.number(sum) }));
      button.type = "button";
      button.setAttribute("aria-pressed", map === shown.c);
      button.addEventListener("click", () => OneNumber.look(own, map));
      return button;
    }));
    if (focused >= 0) place.children[focused].focus();
  }

  // The products of a long sum, the largest first.
  function list(own) {
    const { told, at, list: items } = own, place = document.getElementById("products");
    document.getElementById("chips").hidden = true;
    const most = Paint.extent(told.terms.map(({ product }) => product));
    const table = make("table", "list"), head = table.createTHead().insertRow();
    for (const word of ["list.from", told.rule === "sum" ? "list.product" : "list.added", "list.sum"]) {
      head.append(Object.assign(make("th", "", Words.say(word)), { scope: "col" }));
    }
    const body = table.createTBody(), sums = Products.totals(told, items);
    items.forEach((item, i) => {
      const row = body.insertRow(), mark = state(i, at, items.length);
      row.className = mark;
      row.append(Object.assign(make("th", "", name(own, item)), { scope: "row" }));
      const cell = make("td", "", item.term ? Products.product(told, item.term) : Words.number(item.amount));
      tint(cell, mark === "later" ? 0 : item.amount, most);
      row.append(cell, make("td", "", mark === "later" ? "" : Words.number(sums[i])));
    });
    place.replaceChildren(table, ...more(own));
  }

  // What a row of the list is about.
  function name(own, { term, rest, bias }) {
    if (bias) return Words.say("list.bias");
    if (rest) return Words.say("list.rest", { count: rest });
    const source = own.net.steps[own.step].inputs[term.input];
    const grid = Maps.grid(source < 0 ? own.net.imageShape : own.net.steps[source].shape);
    if (own.told.rule === "add") return OneNumber.title(own, source);
    return Words.place(grid, grid.vector ? Maps.place(grid, term.at) : { map: term.c, ...term }, true);
  }

  // The button that shows all of a long list, or its largest.
  function more(own) {
    const { terms } = own.told;
    if (terms.length <= Products.TOP + 1) return [];
    const count = own.all ? Products.TOP : Math.min(Products.MOST, terms.length);
    const button = make("button", "", Words.say(count < terms.length ? "list.fewer" : "list.all", { count }));
    button.type = "button";
    button.addEventListener("click", () => {
      OneNumber.toggleAll(own);
      document.querySelector("#products > button").focus();
    });
    return [button];
  }

  return { grid, list };
})();
