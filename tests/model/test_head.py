"""Moving to other classes changes nothing about those that stay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nets import lively_net

from napari_unet.errors import AnnotationError, ConfigError
from napari_unet.model.head import NEW_CLASS_MARGIN, adapt_head, renamed_classes

OLD = ("a", "b", "c")


def image_of(net: torch.nn.Module, level: float = 1.0) -> torch.Tensor:
    return level * torch.randn(1, 1, 76, 76, generator=torch.Generator().manual_seed(5))


def test_the_same_classes_give_the_same_answers() -> None:
    net = lively_net(0, num_classes=3)
    adapted = adapt_head(net, OLD, OLD)
    assert torch.equal(net(image_of(net)), adapted(image_of(net)))


@settings(max_examples=25)
@given(
    order=st.permutations(OLD),
    new=st.integers(1, 3),
    shift=st.floats(-50, 50),
    spread=st.floats(0.1, 30),
)
def test_new_classes_leave_old_answers_as_they_were(
    order: list[str], new: int, shift: float, spread: float
) -> None:
    net = lively_net(1, num_classes=3)
    with torch.no_grad():
        net.head.weight *= spread
        net.head.bias += shift
    names = [*order, *(f"new {k}" for k in range(new))]
    with torch.no_grad():
        before = torch.softmax(net(image_of(net)), dim=1)
        after = torch.softmax(adapt_head(net, OLD, names)(image_of(net)), dim=1)
    moved = after[:, [names.index(name) for name in OLD]]
    assert torch.equal(moved.argmax(dim=1), before.argmax(dim=1))
    assert int(after.argmax(dim=1).max()) < len(OLD)
    assert float(after[:, 3:].sum(dim=1).max()) <= new * math.exp(-NEW_CLASS_MARGIN) / 3 + 1e-6
    assert float((moved - before).abs().max()) < 0.011


def test_rows_move_with_their_names_and_dropped_ones_vanish() -> None:
    net = lively_net(2, num_classes=3)
    adapted = adapt_head(net, OLD, ("c", "renamed"), {"a": "renamed"})
    logits, expected = adapted(image_of(net)), net(image_of(net))[:, [2, 0]]
    torch.testing.assert_close(logits, expected)
    assert adapted.architecture.num_classes == 2


def test_the_body_and_the_old_network_are_untouched() -> None:
    net = lively_net(3, num_classes=3, norm="batch")
    before = {name: t.clone() for name, t in net.state_dict().items()}
    adapted = adapt_head(net, OLD, ("b", "x"))
    with torch.no_grad():
        adapted.head.weight.zero_()
        adapted.down[0].first.weight.zero_()
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    body = adapt_head(net, OLD, ("b", "x")).state_dict()
    assert all(torch.equal(body[n], t) for n, t in before.items() if not n.startswith("head"))


def test_mode_follows_and_with_no_known_class_the_head_is_new() -> None:
    net = lively_net(4, num_classes=3).train()
    adapted = adapt_head(net, OLD, ("x", "y"))
    assert adapted.training
    assert float(adapted.head.weight.detach().std()) > 0


def test_wrong_names_are_refused() -> None:
    net = lively_net(5, num_classes=3)
    with pytest.raises(ConfigError, match="do not name the 3 outputs"):
        adapt_head(net, ("a", "b"), OLD)
    with pytest.raises(ConfigError, match="'d' cannot be renamed: the model has a, b, c"):
        renamed_classes(OLD, {"d": "e"})
    with pytest.raises(ConfigError, match="after renaming, the classes would be b, b, c"):
        renamed_classes(OLD, {"a": "b"})
    with pytest.raises(AnnotationError, match="named twice"):
        adapt_head(net, OLD, ("a", "a"))
