"""Writes the software bill of materials (SBOM) of motserve: CycloneDX 1.6, as JSON.

python deploy/release/sbom.py --output dist/motserve.cdx.json

It lists all Python packages of the images, those of `motserve[all]`, in the versions of
deploy/docker/constraints.txt, with their dependencies and the licences of docs/licences.md, and the bundled weights
with their checksums. Packages for development and for the extras `detectors` and `bench` are not included.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import distribution
from pathlib import Path

from constrain import PRODUCT, closure
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from licences import Unknown, licence_of, parts_of, pinned
from packageurl import PackageURL

from motserve.models.checksums import checksum

ROOT = Path(__file__).parent.parent.parent
WEIGHTS = {
    **dict.fromkeys(("detector", "embedder", "aflink"), "AGPL-3.0-only AND CC-BY-NC-SA-3.0"),
    **dict.fromkeys(("detector-free", "embedder-free"), "Apache-2.0"),
}
"""Licence of each file of bundled weights, including that of the training data; see docs/licences.md."""


def bill(version: str) -> Bom:
    """Return the bill of materials of a release.

    Args:
        version: The release.

    Raises:
        Unknown: An installed version differs from constraints.txt, or a licence is not known.
    """
    versions = pinned()
    packages = closure(PRODUCT)
    components = {name: _package(name, pinned_version) for name, pinned_version in versions.items()}
    itself = Component(
        type=ComponentType.APPLICATION,
        name="motserve",
        version=version,
        bom_ref=f"motserve@{version}",
        purl=PackageURL("pypi", name="motserve", version=version),
        licenses=[_licence("AGPL-3.0-only")],
    )
    weights = [_weights(role, licence, version) for role, licence in WEIGHTS.items()]
    bom = Bom(components=[*components.values(), *weights])
    bom.metadata.component = itself
    for name, component in components.items():
        if name not in packages or packages[name].version != versions[name]:
            raise Unknown(f"{name} is not installed in version {versions[name]} of constraints.txt")
        bom.register_dependency(component, [components[needed] for needed in sorted(packages[name].needs)])
    direct = [components[needed] for needed in sorted(packages["motserve"].needs)]
    bom.register_dependency(itself, [*direct, *weights])
    return bom


def write(bom: Bom) -> str:
    """Return a bill of materials as JSON, checked against the published schema.

    Raises:
        ValueError: It does not match the schema.
    """
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill does not match the CycloneDX schema: {fault}")
    return text


def _package(name: str, version: str) -> Component:
    package = distribution(name)
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        bom_ref=str(purl),
        purl=purl,
        description=next(iter(package.metadata.get_all("Summary") or ()), None),
        licenses=[_licence(licence_of(package).expression)],
    )


def _weights(role: str, licence: str, version: str) -> Component:
    file = ROOT / "motserve" / "models" / "bundled" / f"{role}.safetensors"
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=f"motserve/models/bundled/{file.name}",
        version=version,
        bom_ref=f"bundled/{file.name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum(file))],
        licenses=[_licence(licence)],
    )


def _licence(expression: str) -> LicenseExpression | DisjunctiveLicense:
    if parts_of(expression) != [expression] or " WITH " in expression:
        return LicenseExpression(expression)
    if expression.startswith("LicenseRef-"):
        return DisjunctiveLicense(name=expression)
    return DisjunctiveLicense(id=expression)


def main() -> None:
    """Parse the command line and write the bill of materials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--version", default=distribution("motserve").version, help="the release")
    options = parser.parse_args()
    try:
        bom = bill(options.version)
    except Unknown as error:
        sys.exit(f"error: {error}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(write(bom))
    print(f"{options.output}: {len(bom.components)} components of motserve {options.version}")


if __name__ == "__main__":
    main()
