"""The checkpoint formats that the generators write: which Linears are quantized how, which dtypes
the rest has, and the quantization_config that the real tool would put into config.json.

Each `Format` imitates one real tool; `layout_from_config` is the reader's side: which layout the
`qweight` tensors of a checkpoint with this quantization_config have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

Json = dict[str, Any]


@dataclass(frozen=True)
class Format:
    layout: str | None  # of quantized_formats, or fp8_SCALING of fp8_formats; None = plain
    plain_dtype: str = "BF16"  # embeddings, norms, gate, lm_head, unquantized Linears
    bias_dtype: str = "F16"
    scale_dtype: str = "F16"
    symmetric: bool = True
    negative_scales: bool = False
    zero_dtype: str = "I32"  # compressed-tensors' zero points: words, or I8
    g_idx: str = "none"  # none | sequential | permuted
    plain_linears: tuple[str, ...] = ()  # kinds (see linear_kind) that are left unquantized
    method: str = ""  # gptq | auto-round | auto-round-export | compressed-tensors | awq | fp8
    packing_format: str = ""  # auto-round
    quant_format: str = "gptq"  # GPTQ's checkpoint_format
    bits: int = 4  # of a code
    channel: bool = False  # one scale a row
    activation_bits: int = 16  # that the config asks for: W8A8 files have the weights of W8A16 ones


FORMATS: dict[str, Format] = {
    "bf16": Format(None, "BF16", "BF16"),
    "f16": Format(None, "F16", "F16"),
    "f32": Format(None, "F32", "F32"),
    "gptq": Format("gptq_v1", g_idx="sequential", method="gptq"),
    "gptq_v2": Format("gptq_v2", g_idx="sequential", method="gptq", quant_format="gptq_v2"),
    "gptq_desc_act": Format("gptq_v1", g_idx="permuted", method="gptq"),
    "gptq_asym": Format("gptq_v1", g_idx="sequential", symmetric=False, method="gptq"),
    "gptq_v2_asym": Format("gptq_v2", g_idx="sequential", symmetric=False, method="gptq",
                           quant_format="gptq_v2"),
    "autoround": Format("gptq_v1", negative_scales=True, plain_linears=("indexer",),
                        method="auto-round", packing_format="auto_round:auto_gptq"),
    "autoround_gptqmodel": Format("gptq_v2", negative_scales=True, g_idx="sequential",
                                  method="auto-round", packing_format="auto_round:gptqmodel"),
    "autoround_plain": Format("gptq_v2", symmetric=False, method="auto-round",
                              packing_format="auto_round"),
    "autoround_awq": Format("awq", negative_scales=True, method="auto-round",
                            packing_format="auto_round:auto_awq"),
    "autoround_export": Format("gptq_v1", negative_scales=True, g_idx="sequential",
                               plain_linears=("dense",), method="auto-round-export"),
    "ct": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16",
                 plain_linears=("attention0", "indexer0", "dense", "shared"),
                 method="compressed-tensors"),
    "ct_asym": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16", symmetric=False,
                      method="compressed-tensors"),
    "ct_asym_i8": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16", symmetric=False,
                         zero_dtype="I8", method="compressed-tensors"),
    "ct_g_idx": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16", g_idx="permuted",
                       method="compressed-tensors"),
    "awq": Format("awq", symmetric=False, method="awq"),
    "fp8_block": Format("fp8_block", bias_dtype="BF16", method="fp8"),
    "fp8_channel": Format("fp8_channel", bias_dtype="BF16", method="compressed-tensors"),
    "gptq_w8": Format("gptq_v1", g_idx="sequential", method="gptq", bits=8),
    "gptq_w8_asym": Format("gptq_v1", g_idx="sequential", symmetric=False, method="gptq", bits=8),
    "gptq_w8_desc_act": Format("gptq_v1", g_idx="permuted", method="gptq", bits=8),
    "autoround_w8": Format("gptq_v1", negative_scales=True, method="auto-round",
                           packing_format="auto_round:auto_gptq", bits=8),
    "ct_w8": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16", channel=True,
                    method="compressed-tensors", bits=8),
    "ct_w8_asym": Format("pack_quantized", bias_dtype="BF16", scale_dtype="BF16", symmetric=False,
                         method="compressed-tensors", bits=8),
    "ct_int8": Format("int_quantized", bias_dtype="BF16", scale_dtype="BF16", channel=True,
                      method="compressed-tensors", bits=8, activation_bits=8),
}
# "mixed" takes one of these for each Linear; its config says GPTQ, which is true of a part only.
MIXED = "mixed"
# FP8 but for the routed experts, which are 4-bit: the formats of both, and who wrote the config.
FP8_MIXES: dict[str, tuple[str, str]] = {"fp8_mixed": ("fp8_block", "gptq"),
                                         "ct_fp8_mixed": ("fp8_channel", "ct")}
# 4-bit experts, the rest of 8 bits, lm_head with it; every fourth expert has an 8-bit down_proj.
MIXED48 = "mixed48"
FORMAT_NAMES = (*FORMATS, MIXED, MIXED48, *FP8_MIXES)


def linear_kind(module: str) -> str:
    """attention0 | attention | indexer0 | indexer | weights_proj | dense | shared | expert |
    lm_head, from a Linear's module name; those with 0 are layer 0's."""
    if module == "lm_head":
        return "lm_head"
    if module.endswith(".indexer.weights_proj"):
        return "weights_proj"
    if ".self_attn." in module:
        part = "indexer" if ".indexer." in module else "attention"
        return f"{part}0" if module.startswith("model.layers.0.") else part
    if ".mlp.experts." in module:
        return "expert"
    return "shared" if ".mlp.shared_experts." in module else "dense"


def format_of_linear(name: str, module: str) -> Format:
    """The Format of one Linear of a checkpoint of the named format."""
    kind = linear_kind(module)
    if name == MIXED:
        parts = module.split(".")
        if kind == "expert":
            return FORMATS[("gptq", "ct_g_idx", "bf16", "gptq_desc_act")[int(parts[5]) % 4]]
        if kind in ("dense", "weights_proj", "lm_head"):
            return FORMATS["f32"]
        if kind == "shared":
            return FORMATS["f16"]
        return FORMATS[("gptq", "bf16", "ct_g_idx")[int(parts[2]) % 3]]
    if name in FP8_MIXES:
        name = FP8_MIXES[name][kind == "expert"]
    if name == MIXED48:
        if kind == "weights_proj":
            return Format(None)
        down8 = module.endswith(".down_proj") and kind == "expert" and int(module.split(".")[5]) % 4 == 3
        return FORMATS["gptq" if kind == "expert" and not down8 else "gptq_w8"]
    spec = FORMATS[name]
    if kind in (*spec.plain_linears, "weights_proj", "lm_head"):  # no tool quantizes the last two
        return Format(None, spec.plain_dtype, spec.bias_dtype)
    return spec


def base_format(name: str) -> Format:
    """What holds for the tensors that are no Linears, and for the config."""
    if name in FP8_MIXES:
        return FORMATS[FP8_MIXES[name][1]]
    return FORMATS["gptq"] if name in (MIXED, MIXED48) else FORMATS[name]


def _gptq_config(spec: Format, group: int) -> Json:
    return {
        "bits": spec.bits, "group_size": group, "desc_act": spec.g_idx == "permuted",
        "sym": spec.symmetric, "lm_head": False, "quant_method": "gptq",
        "checkpoint_format": spec.quant_format, "format": spec.quant_format, "pack_dtype": "int32",
        "pack_impl": "cpu",
        "meta": {"quantizer": ["gptqmodel:5.2.0"], "damp_percent": 0.05, "static_groups": False,
                 "true_sequential": True, "mse": 0.0, "act_group_aware": True},
    }


def _auto_round_config(spec: Format, group: int, plain_modules: list[str]) -> Json:
    return {
        "autoround_version": "0.9.0", "bits": spec.bits, "block_name_to_quantize": "model.layers",
        "data_type": "int", "group_size": group, "packing_format": spec.packing_format,
        "quant_method": "auto-round", "sym": spec.symmetric,
        "extra_config": {module: {"bits": 16, "data_type": "fp"} for module in plain_modules
                         if module.startswith("model.layers.")},
    }


def _auto_round_export_config(group: int, plain_modules: list[str],
                              quantized_modules: list[str]) -> Json:
    """Names no checkpoint_format, and lists the quantized modules of the first block only."""
    dense = sorted({m.split(".")[2] for m in plain_modules if linear_kind(m) == "dense"
                    and m.endswith("_proj")}, key=int)
    skipped = [rf"-:.*layers\.{layer}\.mlp.*" for layer in dense] + [r"-:.*mlp\.gate$"]
    if any(linear_kind(m) == "weights_proj" for m in plain_modules):
        skipped.append("-:.*weights_proj.*")
    block = "model.layers.0."
    return {
        "bits": 4, "group_size": group, "sym": True, "desc_act": False, "true_sequential": False,
        "damp_percent": 0.01, "lm_head": False, "quant_method": "gptq", "provider": "auto-round",
        "autoround_version": "0.12.2", "dynamic": {pattern: {} for pattern in skipped},
        "modules_in_block_to_quantize": [[m.removeprefix(block) for m in quantized_modules
                                          if m.startswith(block)]],
    }


def _compressed_tensors_config(spec: Format, group: int, ignore: list[str]) -> Json:
    weights = {
        "num_bits": spec.bits, "type": "int", "symmetric": spec.symmetric,
        "strategy": "channel" if spec.channel else "group",
        "group_size": None if spec.channel else group, "block_structure": None, "dynamic": False,
        "actorder": "group" if spec.g_idx == "permuted" else None, "observer": "minmax",
        "observer_kwargs": {}, "scale_dtype": None, "zp_dtype": None,
    }
    file_format = "int-quantized" if spec.layout == "int_quantized" else "pack-quantized"
    activations = None
    if spec.activation_bits != 16:
        activations = {"num_bits": spec.activation_bits, "type": "int", "symmetric": True,
                       "strategy": "token", "dynamic": True}
    return {
        "quant_method": "compressed-tensors", "format": file_format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": weights, "input_activations": activations,
            "output_activations": None, "format": file_format}},
        "ignore": ignore, "kv_cache_scheme": None, "global_compression_ratio": None,
        "sparsity_config": {}, "transform_config": {}, "version": "0.12.2",
    }


def _fp8_block_config(block: int, plain_modules: list[str]) -> Json:
    return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
            "weight_block_size": [block, block], "modules_to_not_convert": plain_modules}


def _float_quantized_config(ignore: list[str]) -> Json:
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel",
               "group_size": None, "block_structure": None, "dynamic": False, "actorder": None,
               "observer": "minmax", "observer_kwargs": {}}
    inputs = {**weights, "strategy": "token", "dynamic": True, "observer": None}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": weights, "input_activations": inputs,
            "output_activations": None, "format": "float-quantized"}},
        "ignore": ignore, "kv_cache_scheme": None, "global_compression_ratio": None,
        "sparsity_config": {}, "transform_config": {}, "version": "0.12.2",
    }


def _mixed_compressed_tensors_config(spec: Format, group: int, ignore: list[str]) -> Json:
    """FP8 and 4-bit Linears in two groups that name their targets."""
    floats, integers = _float_quantized_config(ignore), _compressed_tensors_config(spec, group, [])
    floats["format"] = "mixed-precision"
    groups = floats["config_groups"]
    groups["group_0"]["targets"] = [r"re:.*self_attn\..*", r"re:.*shared_experts\..*",
                                    r"re:.*layers\.0\.mlp\..*"]
    groups["group_1"] = {**integers["config_groups"]["group_0"],
                         "targets": [r"re:.*mlp\.experts\..*"]}
    return floats


def quantization_config(name: str, group: int, plain_modules: list[str],
                        quantized_modules: list[str]) -> Json | None:
    """The object for config.json. `plain_modules`: unquantized Linears, the gates included."""
    spec = base_format(name)
    if name == "ct_fp8_mixed":
        return _mixed_compressed_tensors_config(spec, group, plain_modules)
    if spec.method == "fp8":
        return _fp8_block_config(group, plain_modules)
    if spec.layout == "fp8_channel":
        return _float_quantized_config(plain_modules)
    if name == MIXED48:
        dynamic = {rf"+:.*{part}.*": {"bits": 8} for part in
                   ("self_attn", "shared_experts", r"layers\.0\.mlp", "lm_head")}
        dynamic |= {rf"+:.*{m.replace('.', chr(92) + '.')}$": {"bits": 8} for m in quantized_modules
                    if linear_kind(m) == "expert" and format_of_linear(name, m).bits == 8}
        return {**_gptq_config(spec, group), "lm_head": True,
                "dynamic": {"-:.*weights_proj.*": {}, r"-:.*mlp\.gate$": {}, **dynamic}}
    if spec.method == "gptq":
        return _gptq_config(spec, group)
    if spec.method == "auto-round":
        return _auto_round_config(spec, group, plain_modules)
    if spec.method == "auto-round-export":
        return _auto_round_export_config(group, plain_modules, quantized_modules)
    if spec.method == "compressed-tensors":
        return _compressed_tensors_config(spec, group, plain_modules)
    if spec.method == "awq":
        plain_names = sorted({m.rpartition(".")[2] for m in plain_modules})
        return {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True,
                "version": "gemm", "modules_to_not_convert": plain_names}
    return None


def quantization_file_name(name: str) -> str | None:
    """The side file in which the tool repeats the object, if it writes one."""
    return {"gptq": "quantize_config.json", "auto-round": "quantization_config.json",
            "auto-round-export": "quantization_config.json"}.get(base_format(name).method)


def layout_from_config(quantization: Mapping[str, Any] | None) -> tuple[str, bool]:
    """(layout of the `qweight` tensors, symmetric), from a checkpoint's quantization_config."""
    config = quantization or {}
    method = config.get("quant_method", config.get("method", "gptq"))
    symmetric = bool(config.get("sym", True))
    if method == "awq":
        return "awq", False
    if method == "auto-round":
        packing = config.get("packing_format", "auto_round:auto_gptq")
        layouts = {"auto_round:auto_gptq": "gptq_v1", "auto_round:gptqmodel": "gptq_v2",
                   "auto_round": "gptq_v2", "auto_round:auto_awq": "awq"}
        if packing not in layouts:
            raise ValueError(f"unknown packing_format {packing!r}: want one of {list(layouts)}")
        return layouts[packing], symmetric
    kind = config.get("checkpoint_format", config.get("format", "gptq"))
    return ("gptq_v2" if kind == "gptq_v2" else "gptq_v1"), symmetric
