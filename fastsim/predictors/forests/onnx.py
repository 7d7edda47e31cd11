"""A forest as ONNX: one TreeEnsemble (ai.onnx.ml 5) whose output has one column per tree.

skl2onnx writes another node type, three times as large, whose output is the mean over the trees and so loses their
spread; the export is checked against it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastsim.predictors.chip import Features

from .fit import Fitted
from .forest import runtime


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 not above each threshold: float32 features then take the same branch as in scikit-learn."""
    out = thresholds.astype(np.float32)
    return np.where(out > thresholds, np.nextafter(out, np.float32(-np.inf)), out)


def _attributes(trees: Sequence[Any]) -> dict[str, Any]:
    from onnx import numpy_helper

    feature, left, left_leaf, right, right_leaf, roots, of_tree = ([] for _ in range(7))  # type: ignore[var-annotated]
    thresholds, weights = [], []
    for index, estimator in enumerate(trees):
        tree = estimator.tree_
        inner = tree.children_left >= 0
        if not inner[0]:  # a root must be a node: one whose two ends are the same leaf
            roots.append(len(feature))
            feature.append(0)
            thresholds.append(np.zeros(1, dtype=np.float32))
            for ends, kinds in ((left, left_leaf), (right, right_leaf)):
                ends.append(len(of_tree))
                kinds.append(1)
        else:
            number = np.where(inner, np.cumsum(inner) - 1 + len(feature), np.cumsum(~inner) - 1 + len(of_tree))
            roots.append(len(feature))
            feature += tree.feature[inner].tolist()
            thresholds.append(_rounded_down(tree.threshold[inner]))
            for children, ends, kinds in (
                (tree.children_left[inner], left, left_leaf),
                (tree.children_right[inner], right, right_leaf),
            ):
                ends += number[children].tolist()
                kinds += (~inner[children]).astype(int).tolist()
        leaves = tree.value[~inner, 0, 0].astype(np.float32)
        weights.append(leaves)
        of_tree += [index] * leaves.size
    return {
        "n_targets": len(trees),
        "aggregate_function": 1,  # sum: one leaf per target
        "post_transform": 0,
        "tree_roots": roots,
        "nodes_featureids": feature,
        "nodes_splits": numpy_helper.from_array(np.concatenate(thresholds)),
        "nodes_modes": numpy_helper.from_array(np.zeros(len(feature), dtype=np.uint8)),  # <=
        "nodes_truenodeids": left,
        "nodes_trueleafs": left_leaf,
        "nodes_falsenodeids": right,
        "nodes_falseleafs": right_leaf,
        "leaf_targetids": of_tree,
        "leaf_weights": numpy_helper.from_array(np.concatenate(weights)),
    }


def to_onnx(fitted: Fitted, num_features: int, name: str) -> bytes:
    """The trees as ONNX, float32[rows, features] -> float32[rows, trees]; the same forest gives the same bytes."""
    from onnx import TensorProto, checker, helper

    node = helper.make_node("TreeEnsemble", ["features"], ["trees"], domain="ai.onnx.ml", **_attributes(fitted.trees))
    graph = helper.make_graph(
        [node],
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, num_features])],
        [helper.make_tensor_value_info("trees", TensorProto.FLOAT, [None, len(fitted.trees)])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="fastsim")
    checker.check_model(model)
    return bytes(model.SerializeToString())


def disagreement(content: bytes, fitted: Fitted, inputs: Features) -> float:
    """Largest difference in the mean over trees, in log time, between ``content`` and skl2onnx's export of the same
    trees.

    ``inputs``: float32[rows, features], on which onnxruntime runs both.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestRegressor

    onnxruntime = runtime()
    forest = RandomForestRegressor(len(fitted.trees))
    forest.estimators_, forest.n_outputs_, forest.n_features_in_ = fitted.trees, 1, inputs.shape[1]
    theirs = skl2onnx.to_onnx(forest, initial_types=[("features", FloatTensorType([None, inputs.shape[1]]))])
    ours, reference = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"features": inputs})[0]
        for model in (content, theirs.SerializeToString())
    )
    return float(np.abs(ours.mean(axis=1) - reference[:, 0]).max())
