"""All metadata is in setup.cfg; this file only adds `basicsr_nriqa.pth` to what is installed.

setuptools has no option for a start-up file beside the packages. `basicsr_nriqa_startup.py` says what it is for.
"""
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PTH = Path(__file__).with_name('basicsr_nriqa.pth')


class BuildWithPth(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file(str(PTH), str(Path(self.build_lib, PTH.name)))

    def get_outputs(self, *args, **kwargs):
        return [*super().get_outputs(*args, **kwargs), str(Path(self.build_lib, PTH.name))]


class EditableWithPth(editable_wheel):
    def _select_strategy(self, *args, **kwargs):
        strategy = super()._select_strategy(*args, **kwargs)

        class WithPth(type(strategy)):
            def __call__(self, wheel, files, mapping):
                super().__call__(wheel, files, mapping)
                # after the project's own path file in alphabetical order, so that the module is found
                wheel.writestr(f'__editable___{PTH.name}', PTH.read_text())

        strategy.__class__ = WithPth
        return strategy


setup(cmdclass={'build_py': BuildWithPth, 'editable_wheel': EditableWithPth})
