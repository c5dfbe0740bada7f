"""The notebooks and grids lie at the root of the repository and travel in the wheel as atlab/notebooks."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithNotebooks(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # a checkout has them where they are
            target = Path(self.build_lib) / "atlab" / "notebooks"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("notebooks", target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithNotebooks})
