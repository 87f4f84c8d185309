"""The backend tests of the package onnx: what we run we run right, the rest we refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx_cases
from onnx_cases import DATA, PAGE, PROMISED, Case, compare, graph_of, node_cases, own_cases, refusal, stored_cases
from stridenet.errors import UnsupportedModelError
from stridenet.nn import functional as F

# The classes of the node tests that are not core: which inputs or outputs make them special.
TRAINING_NORM = {"batchnorm_example_training_mode", "batchnorm_epsilon_training_mode"}
TRAINING_DROPOUT = {
    "training_dropout_default", "training_dropout_default_mask", "training_dropout", "training_dropout_mask",
    "training_dropout_zero_ratio", "training_dropout_zero_ratio_mask",
}  # fmt: skip
INTEGERS = {"add_int8", "add_int16", "add_uint8", "add_uint16", "add_uint32", "add_uint64", "maxpool_2d_uint8"}
PLACES = {"maxpool_with_argmax_2d_precomputed_pads", "maxpool_with_argmax_2d_precomputed_strides"}
OTHER_RANKS = {
    "maxpool_1d_default", "maxpool_3d_default", "maxpool_3d_dilations", "maxpool_3d_dilations_use_ref_impl",
    "maxpool_3d_dilations_use_ref_impl_large", "averagepool_1d_default", "averagepool_3d_default",
    "averagepool_3d_dilations_small",
    *(
        f"averagepool_3d_dilations_large_count_include_pad_is_{pad}_ceil_mode_is_{ceil}"
        for pad in (0, 1) for ceil in (True, False)
    ),
}  # fmt: skip
CLASSES = {"C": TRAINING_NORM, "D": TRAINING_DROPOUT, "E": INTEGERS, "F": PLACES, "B": OTHER_RANKS}
COUNTS = {"A": 103 + PROMISED["LeakyRelu"], "B": 12, "C": 2, "D": 6, "E": 7, "F": 2}

CONVERTED_2D = {
    "Conv2d", "Conv2d_depthwise", "Conv2d_depthwise_padded", "Conv2d_depthwise_strided",
    "Conv2d_depthwise_with_multiplier", "Conv2d_dilated", "Conv2d_groups", "Conv2d_groups_thnn", "Conv2d_no_bias",
    "Conv2d_padding", "Conv2d_strided", "AvgPool2d", "AvgPool2d_stride", "BatchNorm2d_eval",
    "BatchNorm2d_momentum_eval", "MaxPool2d", "MaxPool2d_stride_padding_dilation", "Linear", "ReLU", "Sigmoid", "Tanh",
    "Softmax", "LogSoftmax", "log_softmax_dim3", "log_softmax_lastdim", "softmax_functional_dim3", "softmax_lastdim",
}  # fmt: skip
OF_OPERATORS = {
    "add_broadcast", "add_size1_broadcast", "add_size1_right_broadcast", "add_size1_singleton_broadcast",
    "addconstant", "addmm", "concat2", "conv", "flatten", "maxpool", "mm", "view",
}  # fmt: skip


def promised() -> dict[str, Case]:
    """The node tests of the promised operators by name."""
    return {case.name.removeprefix("test_"): case for op in PROMISED for case in own_cases()[op]}


def core() -> dict[str, Case]:
    special = set().union(*CLASSES.values())
    return {name: case for name, case in promised().items() if name not in special}


def test_there_are_as_many_node_tests_as_were_promised() -> None:
    assert {op: len(own_cases()[op]) for op in PROMISED} == PROMISED
    assert {"A": len(core()), **{name: len(names) for name, names in CLASSES.items()}} == COUNTS
    assert all(names <= promised().keys() for names in CLASSES.values())


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.promise("O12")
def test_the_node_tests_of_each_class_pass(name: str) -> None:
    known = promised()
    cases = core() if name == "A" else {case: known[case] for case in CLASSES[name]}
    assert {case: message for case in cases if (message := refusal(cases[case]))} == {}


@pytest.mark.slow
@pytest.mark.promise("O12")
def test_every_other_node_test_passes_or_is_refused() -> None:
    """Those of operators that are not promised, of operators that we do not have, and all expansions."""
    known = promised()
    outcomes = {name: refusal(case) for name, case in node_cases().items() if name not in known}
    passed = [name for name, message in outcomes.items() if not message]
    assert len(outcomes) > 1700
    assert len(passed) > 150


@pytest.mark.big
@pytest.mark.promise("O12")
def test_models_that_pytorch_wrote_pass_or_are_refused() -> None:
    converted, operators, simple = (
        {name: refusal(case) for name, case in stored_cases(kind).items()}
        for kind in ("pytorch-converted", "pytorch-operator", "simple")
    )
    assert len(CONVERTED_2D) == 27
    assert {name: converted[name] for name in CONVERTED_2D} == dict.fromkeys(CONVERTED_2D, "")
    assert len(OF_OPERATORS) == 12
    assert {name: operators[name] for name in OF_OPERATORS} == dict.fromkeys(OF_OPERATORS, "")
    assert simple["single_relu_model"] == ""
    assert all("expected an operator" in message for message in converted.values() if message)


@pytest.mark.big
def test_a_wrong_number_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node tests of Conv have one channel; those of PyTorch see that channels are exchanged."""
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, w, *a, **k: convolve(x, w[:, ::-1], *a, **k))
    assert all(refusal(case) == "" for case in own_cases()["Conv"])
    with pytest.raises(AssertionError):
        refusal(stored_cases("pytorch-converted")["Conv2d"])


@pytest.mark.big
@pytest.mark.promise("O12")
def test_the_page_is_what_the_tests_give() -> None:
    text = PAGE.read_text("utf-8")
    if f"onnx {onnx.__version__} " in text:  # another version has other tests
        assert text == onnx_cases.render(), "run python tests/onnx_cases.py"


# Light networks


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions that round once.

    Constant weights make scores of 2e9, all equal. The rounding of a matrix product, whose rows need not all be summed
    in one order, is a hundred there, and a softmax sees a difference of one.
    """
    convolve = F.conv2d

    def exactly(*arrays: Any, **options: Any) -> Any:
        doubles = [None if a is None else a.astype(np.float64) for a in arrays]
        return convolve(*doubles, **options)[0].astype(np.float32), None

    monkeypatch.setattr(F, "conv2d", exactly)


LARGE = ("vgg19", "resnet50", "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "shufflenet", "zfnet512")
LIGHT = ["squeezenet", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


@pytest.mark.big
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.promise("O12")
def test_a_light_network_gives_what_is_expected(name: str) -> None:
    file = DATA / "light" / f"light_{name}.onnx"
    graph, expected = graph_of(file.read_bytes()), onnx.TensorProto()
    expected.ParseFromString(file.with_name(f"light_{name}_output_0.pb").read_bytes())
    size = int(np.prod(graph.inputs[0].shape))
    image = (np.arange(size).reshape(graph.inputs[0].shape) / size).astype(np.float32)
    compare(graph.run(image), [numpy_helper.to_array(expected)], rtol=2e-3 if name == "densenet121" else 1e-3)


# The core cases in older opsets

OPSETS = (7, 9, 11, 13, 15, 18, 21)


def variants() -> Iterator[tuple[str, onnx.ModelProto, Case]]:
    """The core cases as older opsets write them, where these can say the same."""
    for name, case in core().items():
        for opset in OPSETS:
            model = onnx.load_from_string(case.data)
            (made,) = model.graph.node
            del model.opset_import[:]
            model.opset_import.append(helper.make_opsetid("", opset))
            model.ir_version = 8
            axis = next((a.i for a in made.attribute if a.name == "axis"), -1)
            rank = len(model.graph.input[0].type.tensor_type.shape.dim)
            if made.op_type in ("Softmax", "LogSoftmax") and opset < 13:
                if axis not in (-1, rank - 1):
                    continue  # over several axes there
                del made.attribute[:]
                made.attribute.append(helper.make_attribute("axis", rank - 1))
            if made.op_type in ("Flatten", "Concat") and axis < 0 and opset < 11:
                continue
            if made.op_type == "Dropout" and (len(made.input) > 1) == (opset < 12):
                continue
            if made.op_type == "Dropout" and opset < 10 and len(made.output) > 1:
                continue
            try:
                onnx.checker.check_model(model)
            except onnx.checker.ValidationError:  # an attribute that is younger
                continue
            yield f"{name} at opset {opset}", model, case


@pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.big
@pytest.mark.promise("O12")
def test_the_core_cases_in_older_opsets_are_as_the_reference_computes(share: int) -> None:
    """Every tenth of about five hundred; slow: all."""
    found = list(variants())
    assert len(found) > 450
    for name, model, case in found[::share]:
        inputs = case.sets[0][0]
        names = [value.name for value in model.graph.input]
        wanted = case.sets[0][1]
        if model.graph.node[0].op_type != "BatchNormalization":  # the reference trains there before opset 14
            with np.errstate(all="ignore"):
                wanted = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
        try:
            compare(graph_of(model.SerializeToString()).run(*inputs), wanted)
        except (AssertionError, UnsupportedModelError) as error:
            raise AssertionError(name) from error
