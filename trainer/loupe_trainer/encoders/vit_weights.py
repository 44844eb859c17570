"""Open a published vision transformer: a Hugging Face folder, or a checkpoint as DINO's.

Read are numbers only: config.json, safetensors, and PyTorch files without running anything in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loupe_models.manifest import Backbone
from loupe_trainer.backbones.hugging_face import (
    CONFIG,
    PREPROCESSING,
    WEIGHTS,
    check_files,
    read_normalisation,
    whose_folder,
)
from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_layouts import at_input_size, to_our_names
from loupe_trainer.encoders.vit_published import fetch_vit, whose_file
from loupe_trainer.encoders.vit_spec import Channels, Sides, VitSpec
from loupe_trainer.errors import RecipeError, WeightsError
from loupe_trainer.published_weights import Whose
from loupe_trainer.recipe import first_reason
from loupe_trainer.torch_file import fill, read_state_dict

INPUT_PX: Final = 224
HEAD: Final = 64  # channels of a head in every ViT that DINO's authors published
CHECKPOINT_OF: Final = ("teacher", "student", "model", "state_dict")  # the teacher is the better
OTHER_HEADS: Final = ("dino_head.", "ibot_head.", "fc.")  # of a training's checkpoint
WHAT: Final = "the vision transformer that it should be"


def _one_side(given: object) -> object:
    """Take [14, 14] for 14, which is how some of the hub's files say it."""
    if isinstance(given, list | tuple) and len(set(given)) == 1:
        return given[0]
    return given


class _Config(BaseModel):
    """What config.json says; defaults are transformers', which leaves them out at times."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model_type: Literal["vit", "dinov2", "dinov2_with_registers", "dinov3_vit"]
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: Annotated[int, BeforeValidator(_one_side)]
    num_channels: Literal[3] = 3
    hidden_act: Literal["gelu", "silu"] = "gelu"
    layer_norm_eps: float | None = None
    intermediate_size: int | None = None
    mlp_ratio: float = 4
    use_swiglu_ffn: bool = False
    use_gated_mlp: bool = False
    num_register_tokens: int = Field(default=0, ge=0)
    qkv_bias: bool = True
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: Literal[True] = True
    mlp_bias: Literal[True] = True
    rope_theta: float = 100.0

    @property
    def without_bias(self) -> str:
        """Which of queries, keys and values have none."""
        if self.model_type != "dinov3_vit":
            return "" if self.qkv_bias else "qkv"
        has = {"q": self.query_bias, "k": self.key_bias, "v": self.value_bias}
        return "".join(part for part, bias in has.items() if not bias)

    def spec(self, input_hw_px: Sides, mean_rgb: Channels, std_rgb: Channels) -> VitSpec:
        """Give ours."""
        is_v2 = self.model_type.startswith("dinov2")
        default_epsilon = {"vit": 1e-12, "dinov3_vit": 1e-5}.get(self.model_type, 1e-6)
        swiglu = is_v2 and self.use_swiglu_ffn
        return VitSpec(
            channels=self.hidden_size,
            depth=self.num_hidden_layers,
            n_heads=self.num_attention_heads,
            hidden=self._hidden(),
            patch_px=self.patch_size,
            input_hw_px=input_hw_px,
            n_registers=0 if self.model_type in ("vit", "dinov2") else self.num_register_tokens,
            positions="rotary" if self.model_type == "dinov3_vit" else "learnt",
            layer_scale=self.model_type != "vit",
            gated=swiglu or (not is_v2 and self.use_gated_mlp),
            activation="silu" if swiglu else self.hidden_act,
            epsilon=default_epsilon if self.layer_norm_eps is None else self.layer_norm_eps,
            rope_base=self.rope_theta,
            mean_rgb=mean_rgb,
            std_rgb=std_rgb,
        )

    def _hidden(self) -> int:
        if not self.model_type.startswith("dinov2"):
            return self.intermediate_size or 4 * self.hidden_size
        hidden = int(self.hidden_size * self.mlp_ratio)
        # SwiGLU has three layers where the other has two, and two thirds of the channels.
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.use_swiglu_ffn else hidden


def open_vit(
    place: Path, input_hw_px: Sides = (INPUT_PX, INPUT_PX), licence: str | None = None
) -> Vit:
    """Read a vision transformer, frozen, for pictures of one size.

    Args:
        place: A folder as the Hugging Face hub lays it out, or a file as DINO's authors write it.
        input_hw_px: Multiples of the patch; learnt positions are interpolated to it.
        licence: SPDX name, for weights that do not say theirs.

    Raises:
        RecipeError: Nothing is there; the message says what to fetch.
        WeightsError: Damaged, of another network, not finite, not for that size, or nobody says
            their licence.
    """
    if not place.exists():
        raise RecipeError(f"{place}: not there. To have a vision transformer, {fetch_vit(place)}")
    opened = _open_folder if place.is_dir() else _open_file
    vit = opened(place, input_hw_px, licence)
    vit.requires_grad_(requires_grad=False)
    return vit.eval()


def _open_folder(folder: Path, input_hw_px: Sides, licence: str | None) -> Vit:
    check_files(folder, fetch_vit(folder))
    file = folder / CONFIG
    try:
        config = _Config.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise WeightsError(
            f"{first_reason(error, str(file))}; read are ViT, Dinov2, Dinov2WithRegisters and "
            f"DINOv3ViT. {fetch_vit()}"
        ) from error
    normalise = read_normalisation(folder / PREPROCESSING)
    mean_rgb, std_rgb = (
        (float(v[0]), float(v[1]), float(v[2]))
        for v in ((normalise.mean / 255).flatten(), (normalise.std / 255).flatten())
    )
    try:
        spec = config.spec(input_hw_px, mean_rgb, std_rgb)
    except ValidationError as error:
        raise WeightsError(first_reason(error, str(file))) from error
    state = to_our_names(_read_safetensors(folder / WEIGHTS), config.without_bias)
    return _filled(spec, state, folder / WEIGHTS, whose_folder(folder, licence))


def _open_file(file: Path, input_hw_px: Sides, licence: str | None) -> Vit:
    state = to_our_names(read_state_dict(file, CHECKPOINT_OF))
    state = {key: value for key, value in state.items() if not key.startswith(OTHER_HEADS)}
    try:
        spec = _tell_spec(state, input_hw_px)
    except (KeyError, ValueError) as error:  # pydantic's is a ValueError
        reason = (
            first_reason(error, str(file))
            if isinstance(error, ValidationError)
            else f"{file}: not {WHAT}: it lacks {error.args[0]}"
        )
        raise WeightsError(f"{reason}. {fetch_vit()}") from error
    return _filled(spec, state, file, whose_file(file, licence))


def _tell_spec(state: Mapping[str, Tensor], input_hw_px: Sides) -> VitSpec:
    """Tell from the shapes what DINO's own files do not say."""
    patch, token = state["patch.weight"], state["class_token"]
    blocks = {m[1] for key in state if (m := re.match(r"blocks\.(\d+)\.", key))}
    gated = "blocks.0.mlp.gate.weight" in state
    return VitSpec(
        channels=token.shape[-1],
        depth=len(blocks),
        n_heads=max(token.shape[-1] // HEAD, 1),
        hidden=state["blocks.0.mlp.up.weight"].shape[0],
        patch_px=patch.shape[-1],
        input_hw_px=input_hw_px,
        n_registers=state["registers"].shape[1] if "registers" in state else 0,
        layer_scale="blocks.0.scale1" in state,
        gated=gated,
        activation="silu" if gated else "gelu",
    )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as content:
            names = list(content.keys())
            return {name: content.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{file}: not a whole safetensors file ({error}); fetch it again"
        ) from error


def _filled(spec: VitSpec, state: dict[str, Tensor], file: Path, whose: Whose) -> Vit:
    """Make the network that the weights are for."""
    broken = next((key for key, value in state.items() if not value.isfinite().all()), None)
    if broken is not None:
        raise WeightsError(f"{file}: {broken} holds numbers that are not finite; fetch it again")
    if "positions" in state:
        try:
            state["positions"] = at_input_size(state["positions"], spec)
        except ValueError as error:
            raise WeightsError(f"{file}: not {WHAT}: {error}") from error
    if not spec.n_registers:
        state.setdefault("registers", torch.zeros(1, 0, spec.channels))
    vit = Vit(spec, Backbone(name=whose.name, licence=whose.licence, sha256=whose.sha256 or ""))
    fill(vit, state, file, WHAT)
    return vit
