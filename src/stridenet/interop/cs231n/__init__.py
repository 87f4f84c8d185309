"""The names of the CS231n coursework, calling stridenet's own operations and optimisers.

A network class written for the coursework, with `params` and `loss(X, y)`, runs with one changed import:

    from stridenet.interop.cs231n import *

What is not as it was there, and why, stands in docs/coursework.md.
"""

from __future__ import annotations

from stridenet.interop.cs231n.layers import (
    affine_backward as affine_backward,
    affine_forward as affine_forward,
    affine_relu_backward as affine_relu_backward,
    affine_relu_forward as affine_relu_forward,
    batchnorm_backward as batchnorm_backward,
    batchnorm_forward as batchnorm_forward,
    conv_backward_fast as conv_backward_fast,
    conv_backward_naive as conv_backward_naive,
    conv_bn_relu_backward as conv_bn_relu_backward,
    conv_bn_relu_forward as conv_bn_relu_forward,
    conv_forward_fast as conv_forward_fast,
    conv_forward_naive as conv_forward_naive,
    conv_relu_backward as conv_relu_backward,
    conv_relu_forward as conv_relu_forward,
    conv_relu_pool_backward as conv_relu_pool_backward,
    conv_relu_pool_forward as conv_relu_pool_forward,
    dropout_backward as dropout_backward,
    dropout_forward as dropout_forward,
    max_pool_backward_fast as max_pool_backward_fast,
    max_pool_backward_naive as max_pool_backward_naive,
    max_pool_forward_fast as max_pool_forward_fast,
    max_pool_forward_naive as max_pool_forward_naive,
    relu_backward as relu_backward,
    relu_forward as relu_forward,
    softmax_loss as softmax_loss,
    spatial_batchnorm_backward as spatial_batchnorm_backward,
    spatial_batchnorm_forward as spatial_batchnorm_forward,
    svm_loss as svm_loss,
)
from stridenet.interop.cs231n.solver import Solver as Solver

# fmt: off
__all__ = [
    "Solver", "affine_backward", "affine_forward", "affine_relu_backward", "affine_relu_forward", "batchnorm_backward",
    "batchnorm_forward", "conv_backward_fast", "conv_backward_naive", "conv_bn_relu_backward", "conv_bn_relu_forward",
    "conv_forward_fast", "conv_forward_naive", "conv_relu_backward", "conv_relu_forward", "conv_relu_pool_backward",
    "conv_relu_pool_forward", "dropout_backward", "dropout_forward", "max_pool_backward_fast",
    "max_pool_backward_naive", "max_pool_forward_fast", "max_pool_forward_naive", "relu_backward", "relu_forward",
    "softmax_loss", "spatial_batchnorm_backward", "spatial_batchnorm_forward", "svm_loss",
]
# fmt: on
