"""Compiles CUDA sources for the processor; :func:`build` makes ``lead_fast._cuda`` of csrc/."""

import concurrent.futures
import hashlib
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
OWN = [HERE / f"{name}.cpp" for name in ("emulator", "runtime_api", "libraries")]

# Instructions of the machine, and what stands for them. Each must be found.
ASSEMBLY = {
    "evolve_terms.cuh": {
        'asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));': "y = ::emulated::power_of_two(x);"
    },
    "evolve_staged.cuh": {'asm volatile("" : "+l"(from), "+l"(to));': ""},
    "async_copy.cuh": {
        "const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));": "",
        'asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : '
        '"memory");': "::emulated::copy_async(shared, global);",
        'asm volatile("cp.async.commit_group;" ::: "memory");': "::emulated::commit_copies();",
        'asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");': (
            "::emulated::wait_for_copies(kPending);"
        ),
    },
}
LAUNCH = re.compile(r"(\w+(?:<[\w(), ]+>)?)\s*<<<(.*?)>>>\(", re.DOTALL)
DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];")
SANITIZERS = {
    "none": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover"],
    "thread": ["-fsanitize=thread"],
}


def compiler():
    """The C++ compiler's command."""
    return shlex.split(os.environ.get("CXX", "c++"))


def missing():
    """Why nothing can be emulated here, or None."""
    if platform.machine() not in ("x86_64", "AMD64") or os.name != "posix":
        return "the emulator switches between threads of x86-64 processors under Linux alone"
    return None


def rewritten(path):
    """The source in C++: launches, dynamic shared memory and instructions are what differs."""
    text = path.read_text()
    for asm, instead in ASSEMBLY.get(path.name, {}).items():
        assert asm in text, f"{path.name}: {asm} is not there any more"
        text = text.replace(asm, instead)
    text = LAUNCH.sub(r"::emulated::Launch(\2).of(\1, ", text)
    text = DYNAMIC.sub(
        r"\1* const \2 = reinterpret_cast<\1*>(::emulated::now.dynamic_shared);", text
    )
    if path.suffix in (".cu", ".cuh"):
        left = [word for word in ("<<<", "asm", "extern __shared__") if word in text]
        assert not left, f"{path.name}: {left} must be rewritten"
    return f'#line 1 "{path.name}"\n{text}'


def build_from(sources, headers, flags, name, folder, sanitize="none"):
    """Compile and link what is not there yet; the path of the result.

    Parameters
    ----------
    sources, headers : dict
        Where each file goes in the folder of rewritten ones, and where it comes from.
    flags : list of str
        Of the compiler, beside the sanitizer's.
    name : str
        Of the result.
    folder : path-like
        For all that is made; a folder in it is named after the inputs' digest.
    sanitize : {"none", "address", "thread"}
    """
    flags = [*flags, "-O3", "-g1", "-w", "-pthread", "-fno-omit-frame-pointer"]
    flags += SANITIZERS[sanitize]
    digest = hashlib.sha256(" ".join([*compiler(), *flags, name]).encode())
    own = [path for path in HERE.rglob("*") if path.suffix in (".cpp", ".h", ".cuh", ".py")]
    for path in [*sources.values(), *headers.values(), *sorted(own)]:
        digest.update(path.read_bytes())
    place = pathlib.Path(folder).resolve() / digest.hexdigest()[:16]
    result = place / name
    if result.exists():
        return result
    for target, path in {**sources, **headers}.items():
        copy = place / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(rewritten(path))
    includes = [f"-I{path}" for path in (HERE / "include", HERE, place / "csrc")]

    def compiled(source):
        out = place / f"{source.stem}.o"
        command = [*compiler(), "-std=c++17", *flags, *includes, "-include", "cuda_runtime.h"]
        subprocess.run([*command, "-x", "c++", "-c", str(source), "-o", str(out)], check=True)
        return str(out)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, [*OWN, *(place / target for target in sources)]))
    unfinished = place / f"{name}.{os.getpid()}"
    subprocess.run([*compiler(), *flags, *objects, "-o", str(unfinished)], check=True)
    unfinished.rename(result)
    return result


def build(folder, sanitize="none"):
    """Build ``lead_fast._cuda``; the path of the module."""
    import pybind11

    headers = {f"csrc/{path.name}": path for path in sorted(CSRC.glob("*.h"))}
    sources = {}
    for path in sorted((CSRC / "cuda").iterdir()):
        if path.suffix in (".cu", ".cpp"):
            sources[f"csrc/cuda/{path.name}"] = path
        elif path.suffix in (".h", ".cuh"):
            headers[f"csrc/cuda/{path.name}"] = path
    flags = [
        "-shared", "-fPIC", "-fvisibility=hidden", '-DLEAD_FAST_CUDA_VERSION="13.0"',
        '-DLEAD_FAST_CUDA_ARCHITECTURES="emulated"', f"-I{pybind11.get_include()}",
        f"-I{sysconfig.get_path('include')}",
    ]  # fmt: skip
    name = f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    return build_from(sources, headers, flags, name, folder, sanitize)


def build_program(path, folder, sanitize="none"):
    """Build a program of one CUDA source; its path."""
    headers = {"csrc/half.h": CSRC / "half.h"}
    return build_from({path.name: path}, headers, [], path.stem, folder, sanitize)
