"""What all sections of the configuration share: their base class and the types of fields that several have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from motserve.config.paths import expand_names


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), expand_names]
"""A list of names of weights, or paths to them; a single name stands for a list of one."""

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

Role = Literal["detector", "reid"]
"""The sections that name weights."""


class Section(BaseModel):
    """A part of the tree: immutable, every field described, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
