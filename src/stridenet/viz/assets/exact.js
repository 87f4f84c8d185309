// Numbers as the page shows them, computed with whole numbers alone: whether an equation is true of them.
"use strict";

const Exact = (() => {
  // What is shown of a value: [digits, places] is digits / 10^places.
  function decimal(value) {
    const [number, power = 0] = String(Words.rounded(value)).split("e"), [whole, part = ""] = number.split(".");
    return [BigInt(whole + part), part.length - power];
  }

  // The product of what is shown of `values`.
  function product(values) {
    return values.map(decimal).reduce(([a, p], [b, q]) => [a * b, p + q]);
  }

  // "=" if two sums of products are the same, digit by digit, else "≈": x × w = y is sign([[x, w]], [[y]]).
  function sign(left, right) {
    if (![...left, ...right].flat().every(Number.isFinite)) return "≈";
    const sides = [left, right].map((side) => side.map(product));
    const most = Math.max(...sides.flat().map(([, places]) => places));
    const [one, other] = sides.map((side) => (
      side.reduce((sum, [digits, places]) => sum + digits * 10n ** BigInt(most - places), 0n)));
    return one === other ? "=" : "≈";
  }

  return { sign };
})();
