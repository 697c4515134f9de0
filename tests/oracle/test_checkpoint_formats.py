"""What a quantization_config says about the layout of `qweight` tensors."""

from __future__ import annotations

import pytest

import checkpoint_formats
from checkpoint_formats import layout_from_config


@pytest.mark.parametrize("config, layout, symmetric", [
    ({"quant_method": "gptq", "checkpoint_format": "gptq", "sym": True}, "gptq_v1", True),
    ({"quant_method": "gptq", "checkpoint_format": "gptq_v2", "sym": False}, "gptq_v2", False),
    ({"method": "gptq", "format": "gptq_v2"}, "gptq_v2", True),
    ({"quant_method": "gptq", "provider": "auto-round"}, "gptq_v1", True),
    ({"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq"}, "gptq_v1", True),
    ({"quant_method": "auto-round", "packing_format": "auto_round:gptqmodel"}, "gptq_v2", True),
    ({"quant_method": "auto-round", "packing_format": "auto_round", "sym": False}, "gptq_v2",
     False),
    ({"quant_method": "auto-round", "packing_format": "auto_round:auto_awq"}, "awq", True),
    ({"quant_method": "awq", "zero_point": True}, "awq", False),
    (None, "gptq_v1", True),
])
def test_layout_from_config(config: dict | None, layout: str, symmetric: bool) -> None:
    assert layout_from_config(config) == (layout, symmetric)


def test_unknown_packing_format_is_named() -> None:
    with pytest.raises(ValueError, match="auto_round:nvfp4"):
        layout_from_config({"quant_method": "auto-round", "packing_format": "auto_round:nvfp4"})


@pytest.mark.parametrize("name", [n for n, f in checkpoint_formats.FORMATS.items()
                                  if f.layout in ("gptq_v1", "gptq_v2", "awq")])
def test_generated_configs_lead_back_to_the_layout(name: str) -> None:
    spec = checkpoint_formats.FORMATS[name]
    config = checkpoint_formats.quantization_config(name, 128, [], [])
    layout, symmetric = layout_from_config(config)
    assert layout == spec.layout
    assert symmetric == spec.symmetric or layout == "awq"
