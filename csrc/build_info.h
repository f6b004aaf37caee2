// Facts about this build and this process.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lead_fast {

struct BuildInfo {
    std::string version, compiler, flags, build_type, instruction_set, cuda_reason;
    std::vector<std::string> instruction_sets_compiled, processor_features;
    std::string cuda_version;                     // of the toolkit, or empty
    std::vector<std::string> cuda_architectures;  // 90-real is code, 120-virtual PTX
    bool cuda = false;
    int openmp_version = 0;  // the date of the specification, as _OPENMP has it
    int openmp_threads = 0;
};

BuildInfo build_info();

// Threads that a parallel region may use now: OpenMP's setting, or 1 in a child made by fork(),
// whose OpenMP runtime has lost its threads.
int max_threads();

}  // namespace lead_fast
