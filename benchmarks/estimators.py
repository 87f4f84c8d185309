"""The 1 797 digits by three scikit-learn classifiers with their default parameters: accuracy and time of a fit.

ConvNetClassifier sees the images (8, 8), SVC(gamma=0.001) and MLPClassifier the 64 columns, in the same five shuffled,
stratified folds, one after another on the same machine, by one thread each. A short fit beforehand loads what a first
fit loads.

    python benchmarks/estimators.py
    python benchmarks/estimators.py --folds 1 --out x.json   a short look
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import record
import sklearn
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from stridenet.interop.estimator import ConvNetClassifier

CLASSIFIERS: dict[str, Any] = {
    "ConvNetClassifier(random_state=0)": ConvNetClassifier(random_state=0),
    "SVC(gamma=0.001)": SVC(gamma=0.001),
    "MLPClassifier(random_state=0)": MLPClassifier(random_state=0),
}


def measure(folds: int) -> dict[str, dict[str, list[float]]]:
    """Accuracy and seconds of a fit, for each classifier and each of the first `folds` folds."""
    digits: Any = load_digits()
    found: dict[str, dict[str, list[float]]] = {name: {"accuracy": [], "seconds": []} for name in CLASSIFIERS}
    ConvNetClassifier(epochs=1).fit(digits.images[:100], digits.target[:100])
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(digits.data, digits.target))
    for train, test in splits[:folds]:
        for name, classifier in CLASSIFIERS.items():
            X = digits.images if isinstance(classifier, ConvNetClassifier) else digits.data
            fitted, begin = sklearn.clone(classifier), time.perf_counter()
            fitted.fit(X[train], digits.target[train])
            found[name]["seconds"].append(round(time.perf_counter() - begin, 3))
            found[name]["accuracy"].append(fitted.score(X[test], digits.target[test]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5, help="how many of the five")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "estimators.json")
    options = parser.parse_args()
    with threadpool_limits(1):  # as ConvNetClassifier; products as small as the MLP's gain nothing from more
        found = measure(options.folds)
    classifiers = {
        name: {
            "mean_accuracy": mean(values["accuracy"]),
            "median_seconds": median(values["seconds"]),
            **values,
        }
        for name, values in found.items()
    }
    for name, values in classifiers.items():
        print(f"{name:36} {100 * values['mean_accuracy']:.2f} %   {values['median_seconds']:.2f} s")
    settings = {
        "folds": options.folds,
        "threads": 1,
        "split": "StratifiedKFold(5, shuffle=True, random_state=0)",
        "load": os.getloadavg()[0],
    }
    record.write(options.out, {"settings": settings, "sklearn": sklearn.__version__, "classifiers": classifiers})


if __name__ == "__main__":
    main()
