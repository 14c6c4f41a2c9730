"""The base class of all sections of the configuration, and field types that several sections use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from motserve.config.paths import expand_names


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), expand_names]
"""Names of weights or paths to them; a single name is a list of one."""

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]

Backend = Literal["auto", "torch", "openvino"]
"""Libraries that run networks on the CPU."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

Role = Literal["detector", "reid"]
"""Roles of models; each is the name of the section that lists its weights."""


class Section(BaseModel):
    """Base of all sections: immutable; every field has a description, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
