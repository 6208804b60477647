"""What this installation is, from the command line."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from kit.errors import said

PACKAGES = (
    "small-teacher-kit", "torch", "torchvision", "jupyterlab", "ipykernel", "ipywidgets", "anywidget", "voila",
    "distributed", "papermill", "matplotlib", "grad-cam",
)  # fmt: skip


def doctor() -> None:
    """What this installation is and can do."""
    import torch

    from kit.data.roles import ROLES
    from kit.files import cache_folder
    from kit.paper.plan import Plan
    from kit.runtime.machine import cores

    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores()} cores")
    wrong = False
    for name in PACKAGES:
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            wrong = True
            print(f"{name}: not installed")
    print(f"instructions: {torch.backends.cpu.get_cpu_capability()}")
    gpu = "none (presets smoke and quick need none)"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()} (of preset paper, and --device cuda)"
    print(f"GPU: {gpu}")
    print(f"cache: {cache_folder()}")
    for role in ROLES:
        try:
            spec = Plan.of("smoke").data(role)
        except Exception as error:  # whatever it is: who asks wants to know of the other roles, too
            wrong, says = True, said(error)
        else:
            says = f"{spec.name} ({spec.source})"
        print(f"{role}: {says}")
    if wrong:
        raise typer.Exit(2)
