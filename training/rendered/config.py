"""The settings of rendered pictures."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class PictureConfig(Section):
    """Single rendered pictures with random content."""

    longer_side: int = Field(320, ge=128, le=4096, description="Longer side of a picture in pixels.")
    per_backdrop: int = Field(4, ge=1, le=100, description="Pictures per backdrop.")
    max_people: int = Field(14, ge=1, le=200, description="Maximum number of people in a picture.")
    empty: float = Field(0.08, ge=0, le=1, description="Share of pictures without people.")
    clutter: float = Field(
        0.25, ge=0, le=1, description="Share of backdrops that are random shapes instead of a scene."
    )
    min_height: float = Field(
        0.05, gt=0, le=1, description="Minimum body height as a fraction of the picture's height."
    )
    max_height: float = Field(1.1, gt=0, le=2, description="Maximum body height as a fraction of the picture's height.")
    blurred: float = Field(0.3, ge=0, le=1, description="Share of pictures with defocus or motion blur.")
    colourless: float = Field(0.04, ge=0, le=1, description="Share of pictures in black and white.")
    occluded: float = Field(
        0.0, ge=0, le=1, description="Share of pictures with occluders in front of about half of the people."
    )
    distorted: float = Field(0.0, ge=0, le=1, description="Share of pictures with the distortion of a wide-angle lens.")
    dark: float = Field(0.0, ge=0, le=1, description="Share of pictures at night: little light, pale, with noise.")
    photographed: float = Field(
        0.0, ge=0, le=1, description="Share of people cut out of photographs, if photographs are given."
    )
    recoloured: float = Field(0.5, ge=0, le=1, description="Share of photographed people with recoloured clothes.")
    foreshortened: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of photographed people as a high camera shows them: lower, narrower towards the feet.",
    )
    photographed_backdrops: float = Field(
        0.0, ge=0, le=1, description="Share of backdrops that are photographs, if photographs are given."
    )
    max_things: int = Field(
        0,
        ge=0,
        le=100,
        description="Maximum number of objects cut out of photographs in a picture, if photographs are given.",
    )


class RenderedPictures(Section):
    """A data set of rendered pictures with labels."""

    pictures: PictureConfig = Field(PictureConfig(), description="Content of the pictures.")
    train_pictures: int = Field(2000, ge=1, le=1_000_000, description="Training pictures.")
    validation_pictures: int = Field(200, ge=1, le=100_000, description="Validation pictures, of another seed.")
    min_visibility: float = Field(0.2, ge=0, le=1, description="Minimum visibility of a labelled person.")


class RenderedConfig(RenderedPictures):
    """Settings of `python -m training.rendered`."""

    seed: int = Field(0, ge=0, description="Seed of all random numbers.")
