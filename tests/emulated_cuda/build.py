"""Compiles CUDA sources for the processor; :func:`build` makes ``lead_fast._cuda`` of csrc/."""

import concurrent.futures
import hashlib
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

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
STATIC = re.compile(r"(?<!extern )__shared__ (?:__align__\(\d+\) )?[^;]*;")
ARRAY = re.compile(r"(\w+)(?:\[[^\]]*\])+")
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
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return "the emulator switches between threads of x86-64 processors under Linux alone"
    if shutil.which(compiler()[0]) is None:
        return f"there is no compiler {compiler()[0]}"
    return None


def sanitizer_missing(sanitize):
    """Why the compiler cannot do with a sanitizer what is needed, or None."""
    if sanitize == "none":
        return None
    macro = f"__SANITIZE_{sanitize.upper()}__"
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "probe.cpp"
        source.write_text(f"#ifndef {macro}\n#error\n#endif\nint main() {{ return 0; }}\n")
        command = [*compiler(), *SANITIZERS[sanitize], str(source), "-o", f"{folder}/probe"]
        works = subprocess.run(command, capture_output=True, check=False).returncode == 0
        works = works and subprocess.run([f"{folder}/probe"], check=False).returncode == 0
    if works:
        return None
    return f"{compiler()[0]} has no sanitizer {sanitize} that runs here (GCC has)"


def rewritten(path):
    """The source in C++: launches, shared memory and instructions are what differs."""
    text = path.read_text()
    for asm, instead in ASSEMBLY.get(path.name, {}).items():
        assert asm in text, f"{path.name}: {asm} is not there any more"
        text = text.replace(asm, instead)
    text = LAUNCH.sub(r"::emulated::Launch(\2).of(\1, ", text)
    text = DYNAMIC.sub(
        r"\1* const \2 = reinterpret_cast<\1*>(::emulated::now.dynamic_shared);", text
    )
    if path.suffix in (".cu", ".cuh"):
        text = STATIC.sub(_filled, text)
        # Variables of templates that other files may share have no red zones.
        text = re.sub(r"(?<!static )__global__", "static __global__", text)
        left = [word for word in ("<<<", "asm", "extern __shared__") if word in text]
        assert not left, f"{path.name}: {left} must be rewritten"
    return f'#line 1 "{path.name}"\n{text}'


def _filled(declaration):
    names = ARRAY.findall(declaration.group())
    assert names, declaration.group()
    return declaration.group() + "".join(f" ::emulated::fresh({n}, sizeof {n});" for n in names)


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
    version = subprocess.run(
        [*compiler(), "--version"], check=True, capture_output=True, text=True
    ).stdout
    digest = hashlib.sha256(" ".join([*compiler(), version, *flags, name]).encode())
    own = [path for path in HERE.rglob("*") if path.suffix in (".cpp", ".h", ".cuh")]
    for path in [*sources.values(), *headers.values(), *sorted(own), HERE / "build.py"]:
        digest.update(path.read_bytes())
    built = pathlib.Path(folder).resolve() / digest.hexdigest()[:16]
    if built.exists():
        return built / name
    place = built.with_name(f"{built.name}.{os.getpid()}")  # another process may be at it too
    assert len({path.stem for path in [*OWN, *sources.values()]}) == len(OWN) + len(sources)
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
    subprocess.run([*compiler(), *flags, *objects, "-o", str(place / name)], check=True)
    try:
        place.rename(built)
    except OSError:  # it has been built meanwhile
        shutil.rmtree(place)
    return built / name


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
        f"-DLEAD_FAST_PYBIND11={pybind11.__version__}",  # for the digest
        f"-I{sysconfig.get_path('include')}",
    ]  # fmt: skip
    name = f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    return build_from(sources, headers, flags, name, folder, sanitize)


def build_program(path, folder, sanitize="none"):
    """Build a program of one CUDA source; its path."""
    headers = {f"csrc/{name}": CSRC / name for name in ("half.h", "cuda/async_copy.cuh")}
    return build_from({path.name: path}, headers, [], path.stem, folder, sanitize)
