"""The kernels of some PTX files, found by the names that g++ gives the same functions."""
import pathlib
import re
import subprocess

import machine
import memory
import parser

# nvcc and g++ name what stands in an anonymous namespace differently.
ANONYMOUS = re.compile(r"\(anonymous namespace\)::|_GLOBAL__N_\w+::|_INTERNAL_\w+?::")


def demangled(names):
    names = list(names)
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return {name: ANONYMOUS.sub("", line) for name, line in zip(names, done.stdout.splitlines())}


def short(name):
    """As a person writes it: no namespace, no parameters."""
    name = re.sub(r"cairn::kernels::|cairn::|^void ", "", name)
    name = re.sub(r"\((?:int|bool)\)", "", name).replace("__nv_bfloat16", "bf16").replace("__half", "fp16")
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


class Library:
    """The PTX of all files for one target. A kernel is translated when it is first asked for."""

    def __init__(self, files):
        self.by_place, self.by_name, self.programs, self.data = {}, {}, {}, {}
        self.modules = {}
        found = []
        for path in files:
            path = pathlib.Path(path)
            module = parser.parse(path.read_text())
            file = path.name.removesuffix(".ptx")  # "pool.cu"
            self.modules[file] = module
            self.data[file] = memory.lay_out_module(module)
            found += [(file, name) for name in module.kernels]
        names = demangled([name for _, name in found])
        for file, name in found:
            # Without parameters: the compilers mangle types that depend on templates' differently.
            plain = short(names[name])
            if (file, plain) in self.by_place:
                raise parser.PtxError(f"{file}: two kernels are called {plain}")
            self.by_place[file, plain] = (file, name)
            self.by_name.setdefault(plain, []).append((file, name))

    def find(self, plain, file):
        """(file, mangled) of a kernel by its short name and, if that is known, its file."""
        if (file, plain) in self.by_place:
            return self.by_place[file, plain]
        places = self.by_name.get(plain, [])
        if len(places) != 1:
            raise parser.PtxError(f"{'no' if not places else 'more than one'} kernel in the PTX is called {plain}")
        return places[0]

    def program(self, place):
        if place not in self.programs:
            file, name = place
            module = self.modules[file]
            try:
                self.programs[place] = machine.Program(module.kernels[name], module, self.data[file])
            except parser.PtxError as error:
                raise parser.PtxError(f"{file}: {error}") from None
        return self.programs[place]

    def set_variable(self, plain, file, offset, data):
        for name, module in self.modules.items():
            for variable, at in self.data[name][1].items():
                if demangled([variable])[variable] == plain and file in ("", name):
                    self.data[name][0][at + offset:at + offset + len(data)] = list(data)
                    return
        raise parser.PtxError(f"no variable in the PTX is called {plain}")

    def places(self):
        return sorted((file, name, plain) for (file, plain), (_, name) in self.by_place.items())
