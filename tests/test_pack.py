"""A packed weight: the numbers of a plain linear, whatever a CPU makes of the weight as it loads it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from towerspec.emit import torchscript
from towerspec.emit.helpers import Packed, gains

ROWS, WIDTH, OUT = 5, 70, 33
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.05}


@pytest.fixture(params=list(CLOSE), ids=["float32", "bfloat16"])
def packed(request: pytest.FixtureRequest) -> Packed:
    module = Packed(OUT, WIDTH, request.param)
    module.weight.copy_(torch.randn(OUT, WIDTH, generator=torch.Generator().manual_seed(0)))
    return module.eval()


def loaded(module: Packed) -> torch.jit.ScriptModule:
    return torchscript.from_bytes(torchscript.to_bytes(torchscript.script(module)))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", ["none", "one", "a row", "the request's"])
@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_it_computes_a_linear(packed: Packed, rows: int, bias: str, relu: bool) -> None:
    random = torch.Generator().manual_seed(rows)
    x, b = torch.randn(rows, WIDTH, generator=random), torch.randn(max(rows, 1), OUT, generator=random)
    biases = {"none": None, "one": b[0], "a row": b[:rows], "the request's": b[:1].expand(rows, OUT)}
    dtype = packed.weight.dtype
    given = None if biases[bias] is None else biases[bias].to(dtype)
    added = 0.0 if given is None else given.double().numpy()
    wanted = x.to(dtype).double().numpy() @ packed.weight.double().numpy().T + added
    wanted = np.maximum(wanted, 0) if relu else wanted
    for module in (packed, loaded(packed)):
        with torch.inference_mode():
            found = module(x.to(dtype), given, relu)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.double().numpy(), wanted, rtol=CLOSE[dtype], atol=CLOSE[dtype])
    assert given is None or torch.equal(given, biases[bias].to(dtype))  # the bias is not written over


def test_it_is_laid_out_where_that_gains(packed: Packed) -> None:
    again = loaded(packed)
    assert again.weight.is_mkldnn == gains(packed.weight)
    plain = again.weight.to_dense() if again.weight.is_mkldnn else again.weight
    assert torch.equal(plain, packed.weight)


def test_a_file_that_is_saved_again_holds_the_weight_as_it_is(packed: Packed) -> None:
    first = torchscript.to_bytes(torchscript.script(packed))
    buffer = io.BytesIO()
    with torchscript.quiet():
        torch.jit.save(torchscript.from_bytes(first), buffer)
    x = torch.randn(ROWS, WIDTH).to(packed.weight.dtype)
    assert torch.equal(torchscript.from_bytes(buffer.getvalue())(x, None, False), loaded(packed)(x, None, False))
