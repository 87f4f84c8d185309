// What a number is made of, item by item: the products of a window as a grid, those of a long sum as a list.
"use strict";

const Products = (() => {
  const TOP = 10, MOST = 1000; // items of a list: until all are wanted, and of all
  const GRID = 64; // pixels of the largest window of a sum that is shown as a grid
  const WRITTEN = 30, SHORT = 5; // products that a sentence writes out at most, and if there are more
  const n = (value) => Words.number(value);

  // Whether the terms lie in a window that is shown as a grid: of several pixels, but no sum over a whole large map.
  function windowed({ kind, window }) {
    const area = window ? window.kernel[0] * window.kernel[1] : 0;
    return kind === "MaxPool2d" || (1 < area && area <= GRID);
  }

  // The items in the order in which they are shown: terms, what is left of them, and the bias.
  function items(told, step, all) {
    if (["normalize", "function", "copy"].includes(told.rule)) return [];
    let terms = told.terms.map((term) => ({ term, amount: term.product })), rest = [];
    if (!windowed(step) && told.rule !== "add") {
      terms.sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
      const top = all ? MOST : TOP;
      if (terms.length > top + 1) [terms, rest] = [terms.slice(0, top), terms.slice(top)];
    }
    const total = (part) => part.reduce((sum, { amount }) => sum + amount, 0);
    const tail = rest.length ? [{ rest: rest.length, amount: total(rest) }] : [];
    if (told.rule === "sum" && step.weights.some(({ name }) => /bias$/.test(name))) {
      tail.push({ bias: true, amount: told.bias });
    }
    return [...terms, ...tail];
  }

  // What the items come to, one after the other: a sum, or the largest.
  function totals({ rule }, list) {
    let sum = 0, largest = -Infinity;
    return list.map(({ term, amount }) => {
      if (rule !== "max") return (sum += amount);
      return (largest = term.at < 0 ? largest : Math.max(largest, term.x));
    });
  }

  // How many numbers a mean is of: padding may or may not count.
  function size({ terms }) {
    return Math.round(1 / Paint.largest(terms.map(({ weight }) => weight)));
  }

  // The largest number of the input.
  function peak({ terms }) {
    return Paint.largest(terms.map(({ x }) => x));
  }

  // One product in signs; softmax takes the largest number off all, which changes no share.
  function product(told, { x, weight, product: amount, at }) {
    const is = (left, right = [[amount]]) => `${Exact.sign(left, right)} ${n(amount)}`;
    if (told.rule === "max") return at < 0 ? "—" : n(x);
    if (told.rule === "mean") return `${n(x)} ÷ ${n(size(told))} ${is([[x]], [[amount, size(told)]])}`;
    if (told.rule === "softmax") return power(x, peak(told), amount);
    if (told.rule === "distance") return `−(${n(x)} − ${inner(weight)})² ${is(square(x, weight))}`;
    if (told.rule === "add") return n(x);
    return `${inner(x)} × ${inner(weight)} ${is([[x, weight]])}`;
  }

  // −(x − w)² as a sum of products.
  function square(x, w) {
    return [[-1, x, x], [2, x, w], [-1, w, w]];
  }

  // e^(x − most): 1 where both are shown as the same number; no other decimal number is a power of e.
  function power(x, most, amount) {
    const same = Exact.sign([[x]], [[most]]) === "=" ? Exact.sign([[1]], [[amount]]) : "≈";
    return `e^(${n(x)} − ${inner(most)}) ${same} ${n(amount)}`;
  }

  // A number behind a sign: in brackets if it has one itself.
  function inner(value) {
    return value < 0 ? `(${n(value)})` : n(value);
  }

  // What is said when `count` items are done.
  function running(told, list, count) {
    if (count === 0) return Words.say(told.rule === "max" ? "running.nothing.max" : "running.nothing");
    const item = list[count - 1], so = { sum: n(totals(told, list)[count - 1]) };
    if (item.bias) return Words.say("running.bias", { bias: n(item.amount), ...so });
    if (item.rest) return Words.say("running.rest", { count: item.rest, part: n(item.amount), ...so });
    const text = product(told, item.term);
    if (told.rule !== "max") return Words.say("running.product", { product: text, ...so });
    return Words.say(item.term.at < 0 ? "running.padding" : "running.max", { product: text, ...so });
  }

  // The terms as a sum in signs; of many those of the largest products, and how many are left out.
  function joined(terms, written) {
    if (terms.length <= WRITTEN) return terms.map(written).join(" + ");
    const largest = [...terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, SHORT);
    return [...largest.map(written), Words.say("sentence.more", { count: terms.length - SHORT })].join(" + ");
  }

  // How functions of one number are written.
  const FUNCTIONS = {
    ReLU: (x) => `max(0, ${n(x)})`,
    LeakyReLU: (x, { negative_slope: slope }) => (x > 0 ? n(x) : `${n(slope)} × ${inner(x)}`),
    Tanh: (x) => `tanh(${n(x)})`,
    ScaledTanh: (x) => `1.7159 tanh(⅔ × ${inner(x)})`,
    Sigmoid: (x) => `1 / (1 + e^(${n(-x)}))`,
  };

  // How the number comes about, in one line of signs.
  function sentence(told, step) {
    const { rule, terms, value, bias } = told, [first] = terms, end = n(value);
    const sum = (written) => joined(terms, written);
    const is = (products, right = [[value]]) => { // products: those of one term
      const left = terms.length > WRITTEN ? [[NaN]] : terms.flatMap(products); // what is not written is not added up
      return `${Exact.sign([...left, [bias]], right)} ${end}`;
    };
    switch (rule) {
      case "max": return `max(${terms.filter(({ at }) => at >= 0).map(({ x }) => n(x)).join(", ")}) = ${end}`;
      case "mean": {
        const many = size(told);
        return `(${sum(({ x }) => inner(x))}) ÷ ${many} ${is(({ x }) => [[x]], [[value, many]])}`;
      }
      case "add": return `${sum(({ x }) => inner(x))} ${is(({ x }) => [[x]])}`;
      case "copy": return Words.say(first.at < 0 ? "sentence.padding" : "sentence.copy", { value: end });
      case "function": return activation(told, step);
      case "normalize": {
        const written = `(${n(first.x)} − ${inner(told.mean)}) × ${inner(first.weight)}${biased(told)}`;
        return `${written} ${is(({ x, weight }) => [[x, weight], [-1, told.mean, weight]])}`;
      }
      case "softmax": return softmax(told, step);
      case "distance": {
        const written = sum(({ x, weight }) => `(${n(x)} − ${inner(weight)})²`);
        return `−(${written}) ${is(({ x, weight }) => square(x, weight))}`;
      }
      default: {
        const written = sum(({ x, weight }) => `${inner(x)} × ${inner(weight)}`);
        return `${written}${biased(told)} ${is(({ x, weight }) => [[x, weight]])}`;
      }
    }
  }

  // A function of one number; the curved ones are exact at zero alone.
  function activation({ terms: [{ x }], value }, { kind, settings }) {
    const slope = x > 0 ? 1 : settings.negative_slope, straight = { ReLU: [[value]], LeakyReLU: [[slope, x]] }[kind];
    const same = straight ? Exact.sign(straight, [[value]]) : x === 0 ? "=" : "≈";
    return `${FUNCTIONS[kind](x, settings)} ${same} ${n(value)}`;
  }

  // The bias as the end of a sum; nothing where there is none.
  function biased({ bias }) {
    if (!bias) return "";
    return bias < 0 ? ` − ${n(-bias)}` : ` + ${n(bias)}`;
  }

  // The share of one class among the powers of all. Its logarithm, which is never above 0, is exact at ln(1) = 0.
  function softmax({ sum, value }, { kind }) {
    const logarithm = kind === "LogSoftmax", own = sum * (logarithm ? Math.exp(value) : value);
    const share = `${n(own)} ÷ ${n(sum)}`, same = logarithm ? [[own], [value]] : [[own]];
    return `${logarithm ? `ln(${share})` : share} ${Exact.sign(same, [logarithm ? [sum] : [sum, value]])} ${n(value)}`;
  }

  return { TOP, MOST, windowed, items, totals, size, product, running, sentence };
})();
