"""The section of the configuration that describes what is drawn into annotated video."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motserve.config.base import Section

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right", "none"]


class AnnotationConfig(Section):
    """Lines, labels and marks. Their sizes grow with the picture: a line has 2 pixels at 480p and 10 at 2160p."""

    line_scale: float = Field(
        1.0, ge=0.25, le=4, description="Factor of the widths of lines. Raised, boxes are thicker and cover more."
    )
    text_scale: float = Field(
        1.0, ge=0.25, le=4, description="Factor of the height of letters. Raised, fewer labels of a crowd find a place."
    )
    trail_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Length in seconds of the line behind each person that joins the recent foot points; 0 draws none.",
    )
    returned_s: float = Field(
        3.0,
        ge=0,
        le=3600,
        description="Seconds for which a person who got a previous identity again has a second border and an arrow in "
        "the label; 0 marks no person.",
    )
    status_corner: Corner = Field(
        "top-left", description="Corner that shows the time of the frame and the number of people in it; none for none."
    )
    show_confidence: bool = Field(False, description="Whether labels show the confidence of the detection.")
