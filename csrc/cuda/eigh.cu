// Batched symmetric eigenproblems: a block per matrix for the eigenvalues of small ones (the
// algorithm is in ../tridiagonal.h, where the processor runs it too), cuSOLVER for the others.

#include <algorithm>
#include <limits>
#include <vector>

#include "../tridiagonal.h"
#include "eigh.h"
#include "load.cuh"
#include "reduce.cuh"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kMostSide = 128;
constexpr double kAsymmetry = 1e-5;  // of the largest element, as on the processor

// The threads of a block as a team; see ../tridiagonal.h.
class BlockTeam {
  public:
    __host__ __device__ BlockTeam(double* slots, int own_rank, int team_size)
        : rank(own_rank), size(team_size), slots_(slots) {}

    __host__ __device__ void sync() {
#if defined(__CUDA_ARCH__)
        __syncthreads();
#endif
    }

    __host__ __device__ double sum(double x) {
#if defined(__CUDA_ARCH__)
        double* const slots = slots_ + 32 * turn_;
        turn_ ^= 1;  // a slow warp may still read the other half
        x = group_sum(x);
        if (rank % 32 == 0) slots[rank / 32] = x;
        __syncthreads();
        x = 0.0;
        for (int i = 0; i < size / 32; ++i) x += slots[i];
#endif
        return x;
    }

    const int rank, size;

  private:
    double* slots_;
    int turn_ = 0;
};

// Shared memory of a block, in doubles, for matrices of up to n rows.
struct Layout {
    int lda, diagonal, square, reflector, update, partial, counts, slots, total;
};

__host__ __device__ constexpr Layout layout_of(int n, int threads) {
    const int lda = n | 1;
    const int partial = threads > n ? threads : n;
    Layout at{};
    at.lda = lda;
    at.diagonal = n * lda;
    at.square = at.diagonal + n;
    at.reflector = at.square + n;
    at.update = at.reflector + n;
    at.partial = at.update + n;
    at.counts = at.partial + partial;
    at.slots = at.counts + (threads + 1) / 2;
    at.total = at.slots + 64;
    return at;
}

// What is wrong with a matrix of which a thread has seen its share: the largest |a| and
// |a - a^T|, the sum of 0 * a. All threads get the flags and the largest element.
__device__ int judge(BlockTeam& team, double largest, double difference, double zero, double* slots,
                     double* largest_of_all) {
    largest = warp_max(largest);
    difference = warp_max(difference);
    zero = team.sum(zero);  // NaN if any element is infinite or NaN, which fmax would hide
    __syncthreads();        // slots are free again
    if (team.rank % 32 == 0) {
        slots[team.rank / 32] = largest;
        slots[32 + team.rank / 32] = difference;
    }
    __syncthreads();
    for (int i = 0; i < team.size / 32; ++i) {
        largest = fmax(largest, slots[i]);
        difference = fmax(difference, slots[32 + i]);
    }
    __syncthreads();
    *largest_of_all = largest;
    if (!(zero == 0.0)) return kNotFinite;
    return difference > kAsymmetry * largest ? kNotSymmetric : 0;
}

// values[value_at[i] ..] of matrix i. Block i; the whole matrix in shared memory, float64.
template <class T>
__global__ void eigenvalues_kernel(const T* const* __restrict__ matrices,
                                   const int* __restrict__ sizes,
                                   const std::int64_t* __restrict__ value_at,
                                   double* __restrict__ values, int* __restrict__ flags) {
    extern __shared__ __align__(16) double shared[];
    const int n = sizes[blockIdx.x];
    const int threads = blockDim.x;
    const Layout at = layout_of(n, threads);
    double* const slots = shared + at.slots;
    BlockTeam team(slots, threadIdx.x, threads);
    const T* const matrix = matrices[blockIdx.x];
    double largest = 0.0, difference = 0.0, zero = 0.0;
    for (int cell = threadIdx.x; cell < n * n; cell += threads) {
        const int i = cell / n, j = cell % n;
        const double own = to_double(matrix[cell]);
        largest = fmax(largest, fabs(own));
        zero += 0.0 * own;
        if (i > j) continue;
        difference = fmax(difference, fabs(own - to_double(matrix[j * n + i])));
        shared[i * at.lda + j] = own;
        shared[j * at.lda + i] = own;
    }
    const int flag = judge(team, largest, difference, zero, slots, &largest);
    if (team.rank == 0) flags[blockIdx.x] = flag;
    if (flag != 0) return;  // the whole block
    const TridiagonalScratch scratch{shared,
                                     at.lda,
                                     shared + at.diagonal,
                                     shared + at.square,
                                     shared + at.reflector,
                                     shared + at.update,
                                     shared + at.partial,
                                     reinterpret_cast<int*>(shared + at.counts)};
    symmetric_eigenvalues(team, n, largest, scratch, values + value_at[blockIdx.x]);
}

// stack[i] (n, n) = matrix i, of all matrices of one size n, with the upper triangle mirrored;
// flags[i]. Block i.
template <class T>
__global__ void pack_kernel(const T* const* __restrict__ matrices, std::int64_t n,
                            double* __restrict__ stack, int* __restrict__ flags) {
    __shared__ double slots[64];
    BlockTeam team(slots, threadIdx.x, blockDim.x);
    const T* const matrix = matrices[blockIdx.x];
    double* const out = stack + blockIdx.x * n * n;
    double largest = 0.0, difference = 0.0, zero = 0.0;
    for (std::int64_t cell = threadIdx.x; cell < n * n; cell += blockDim.x) {
        const std::int64_t i = cell / n, j = cell % n;
        const double own = to_double(matrix[cell]), twin = to_double(matrix[j * n + i]);
        largest = fmax(largest, fabs(own));
        difference = fmax(difference, fabs(own - twin));
        zero += 0.0 * own;
        // cuSOLVER is spared what is not finite; the caller discards the result.
        const double upper = i <= j ? own : twin;
        out[cell] = isfinite(upper) ? upper : 0.0;
    }
    const int flag = judge(team, largest, difference, zero, slots, &largest);
    if (team.rank == 0) flags[blockIdx.x] = flag;
}

// flags[i] gets kNoConvergence where info[i] is not 0. Thread i.
__global__ void convergence_kernel(const int* __restrict__ info, std::int64_t count,
                                   int* __restrict__ flags) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count && info[i] != 0) flags[i] |= kNoConvergence;
}

// What keeps V orthogonal: cuSOLVER 12.0.4 returns vectors of a multiple eigenvalue that are far
// from orthogonal for some matrices (ones(97, 97): by 5e-3).
constexpr double kSkew =
    4.0 * 2.220446049250313e-16;  // |V^T V - I| of n rows that is left alone, / n
constexpr int kRounds = 8;        // each squares what is wrong
constexpr std::int64_t kRepairBytes = std::int64_t{256} << 20;

// Of gram (n, n) = V^T V of each matrix: skew = the largest |V^T V - I|, and gram becomes the
// factor of a Newton-Schulz step to the nearest orthogonal matrix, or I where none is needed, so
// that no matrix changes for its neighbours' sake. Block i.
__global__ void skew_kernel(double* __restrict__ gram, std::int64_t n, double limit,
                            double* __restrict__ skew) {
    __shared__ double warps[32];
    double* const g = gram + blockIdx.x * n * n;
    double worst = 0.0;
    for (std::int64_t cell = threadIdx.x; cell < n * n; cell += blockDim.x) {
        const double error = fabs(g[cell] - (cell / n == cell % n ? 1.0 : 0.0));
        worst = error > worst || isnan(error) ? error : worst;
    }
    for (int step = 16; step > 0; step /= 2) {
        const double other = __shfl_xor_sync(kAllLanes, worst, step);
        worst = other > worst || isnan(other) ? other : worst;
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = worst;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x / 32; ++i) {
        worst = warps[i] > worst || isnan(warps[i]) ? warps[i] : worst;
    }
    if (threadIdx.x == 0) skew[blockIdx.x] = worst;
    for (std::int64_t cell = threadIdx.x; cell < n * n; cell += blockDim.x) {
        const double one = cell / n == cell % n ? 1.0 : 0.0;
        g[cell] = worst <= limit ? one : 1.5 * one - 0.5 * g[cell];
    }
}

// Makes the columns of the matrices in `stack` (batch, n, n) orthonormal where they are not. The
// nearest orthogonal matrix differs from V by mixing columns that are not orthogonal, which are
// those of one eigenvalue. flags[i] gets kNoConvergence where that does not succeed.
void orthogonalise(const Call& call, std::int64_t n, std::int64_t batch, double* stack,
                   int* flags) {
    const Blas blas(call);
    const std::int64_t cells = n * n;
    const std::int64_t most = std::max<std::int64_t>(1, kRepairBytes / (16 * cells));
    const std::int64_t piece = std::min(batch, most);
    const Buffer<double> gram(call, piece * cells), moved(call, piece * cells), skew(call, piece);
    std::vector<double> found(static_cast<std::size_t>(piece));
    const double limit = kSkew * static_cast<double>(n), one = 1.0, zero = 0.0;
    const int side = static_cast<int>(n);
    for (std::int64_t first = 0; first < batch; first += piece) {
        const std::int64_t count = std::min(piece, batch - first);
        double* const v = stack + first * cells;
        for (int round = 0;; ++round) {
            LEAD_FAST_CHECK(cublasDgemmStridedBatched(
                blas.get(), CUBLAS_OP_T, CUBLAS_OP_N, side, side, side, &one, v, side, cells, v,
                side, cells, &zero, gram.data(), side, cells, static_cast<int>(count)));
            skew_kernel<<<static_cast<unsigned>(count), 256, 0, call.stream()>>>(
                gram.data(), n, limit, skew.data());
            LEAD_FAST_LAUNCHED(skew_kernel, call.stream());
            skew.download(found.data(), count);
            call.synchronize();
            const auto good = [limit](double s) { return s <= limit; };
            if (std::all_of(found.begin(), found.begin() + count, good)) break;
            if (round == kRounds) {
                std::vector<int> bad(static_cast<std::size_t>(count));
                for (std::int64_t i = 0; i < count; ++i) bad[i] = good(found[i]) ? 0 : 1;
                const Buffer<int> info(call, count);
                info.upload(bad.data(), count);
                convergence_kernel<<<static_cast<unsigned>((count + 255) / 256), 256, 0,
                                     call.stream()>>>(info.data(), count, flags + first);
                LEAD_FAST_LAUNCHED(convergence_kernel, call.stream());
                break;
            }
            LEAD_FAST_CHECK(cublasDgemmStridedBatched(blas.get(), CUBLAS_OP_N, CUBLAS_OP_N, side,
                                                      side, side, &one, v, side, cells, gram.data(),
                                                      side, cells, &zero, moved.data(), side, cells,
                                                      static_cast<int>(count)));
            LEAD_FAST_CHECK(cudaMemcpyAsync(
                v, moved.data(), static_cast<std::size_t>(count * cells) * sizeof(double),
                cudaMemcpyDeviceToDevice, call.stream()));
        }
    }
    call.synchronize();  // before another thread may borrow the handle for another stream
}

// stack (batch, n, n) symmetric, becomes eigenvectors where wanted; values (batch, n).
void solve(const Call& call, const Solver& solver, std::int64_t n, std::int64_t batch, bool vectors,
           double* stack, double* values, int* info) {
    const cusolverEigMode_t mode = vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
    const cublasFillMode_t half = CUBLAS_FILL_MODE_LOWER;
#if CUSOLVER_VERSION >= 11701
    cusolverDnParams_t parameters;
    LEAD_FAST_CHECK(cusolverDnCreateParams(&parameters));
    struct Owner {
        cusolverDnParams_t held;
        ~Owner() { cusolverDnDestroyParams(held); }
    } owner{parameters};
    std::size_t device_bytes = 0, host_bytes = 0;
    LEAD_FAST_CHECK(cusolverDnXsyevBatched_bufferSize(
        solver.get(), parameters, mode, half, n, CUDA_R_64F, stack, n, CUDA_R_64F, values,
        CUDA_R_64F, &device_bytes, &host_bytes, batch));
    const Buffer<char> work(call, static_cast<std::int64_t>(device_bytes));
    work.zero();  // cuSOLVER 11.7.1.2 returns wrong vectors with recycled memory
    std::vector<char> host(host_bytes);
    LEAD_FAST_CHECK(cusolverDnXsyevBatched(solver.get(), parameters, mode, half, n, CUDA_R_64F,
                                           stack, n, CUDA_R_64F, values, CUDA_R_64F, work.data(),
                                           device_bytes, host.data(), host_bytes, info, batch));
    if (host_bytes > 0) call.synchronize();  // `host` must outlive its use
#else
    syevjInfo_t parameters;
    LEAD_FAST_CHECK(cusolverDnCreateSyevjInfo(&parameters));
    struct Owner {
        syevjInfo_t held;
        ~Owner() { cusolverDnDestroySyevjInfo(held); }
    } owner{parameters};
    const int side = static_cast<int>(n), many = static_cast<int>(batch);
    int size = 0;
    LEAD_FAST_CHECK(cusolverDnDsyevjBatched_bufferSize(solver.get(), mode, half, side, stack, side,
                                                       values, &size, parameters, many));
    const Buffer<double> work(call, size);
    work.zero();
    LEAD_FAST_CHECK(cusolverDnDsyevjBatched(solver.get(), mode, half, side, stack, side, values,
                                            work.data(), size, info, parameters, many));
#endif
}

int threads_for(std::int64_t n) { return n <= 32 ? 64 : n <= 64 ? 128 : 256; }

// Shared memory that the kernel asks for, beside less than 1024 bytes that it has anyway.
std::size_t own_bytes(std::int64_t n) {
    const Layout layout = layout_of(static_cast<int>(n), threads_for(n));
    return sizeof(double) * static_cast<std::size_t>(layout.total);
}

template <class T>
void launch_own(const Call& call, const T* const* matrices, const int* sizes,
                const std::int64_t* value_at, std::int64_t largest, std::int64_t count,
                double* values, int* flags) {
    const int threads = threads_for(largest);
    const std::size_t bytes = own_bytes(largest);
    // Always the same, as other threads may be about to launch the same kernel.
    LEAD_FAST_CHECK(cudaFuncSetAttribute(eigenvalues_kernel<T>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(own_bytes(own_limit(call.facts())))));
    eigenvalues_kernel<T><<<static_cast<unsigned>(count), threads, bytes, call.stream()>>>(
        matrices, sizes, value_at, values, flags);
    LEAD_FAST_LAUNCHED(eigenvalues_kernel, call.stream());
}

template <class T>
void run(const Call& call, const void* const* matrices, const std::int64_t* sizes,
         std::int64_t count, bool own, double* values, double* vectors, int* flags) {
    std::vector<std::int64_t> value_at(count), vector_at(count);
    std::vector<int> small_sizes(count);
    std::int64_t value_end = 0, vector_end = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        value_at[i] = value_end;
        vector_at[i] = vector_end;
        value_end += sizes[i];
        vector_end += sizes[i] * sizes[i];
        small_sizes[i] = static_cast<int>(std::min<std::int64_t>(sizes[i], kMostSide + 1));
    }
    const Buffer<const T*> device_matrices(call, count);
    const Buffer<std::int64_t> device_value_at(call, count);
    const Buffer<int> device_sizes(call, count), device_flags(call, count), info(call, count);
    device_matrices.upload(reinterpret_cast<const T* const*>(matrices), count);
    device_value_at.upload(value_at.data(), count);
    device_sizes.upload(small_sizes.data(), count);

    // Sizes ascend: first the ones for the own kernel, in launches of about one size, so that small
    // ones do not ask for the shared memory of large ones.
    const std::int64_t limit = own && vectors == nullptr ? own_limit(call.facts()) : 0;
    std::int64_t first = 0;
    for (std::int64_t bound : {std::int64_t{32}, std::int64_t{64}, std::int64_t{96}, limit}) {
        bound = std::min(bound, limit);
        const std::int64_t last = std::upper_bound(sizes, sizes + count, bound) - sizes;
        if (last <= first) continue;
        launch_own<T>(call, device_matrices.data() + first, device_sizes.data() + first,
                      device_value_at.data() + first, sizes[last - 1], last - first, values,
                      device_flags.data() + first);
        first = last;
    }

    if (first < count) {
        const Solver solver(call);
        while (first < count) {
            const std::int64_t n = sizes[first];
            // cuSOLVER counts elements of the batch in 32 bits.
            const std::int64_t most =
                std::max<std::int64_t>(1, std::numeric_limits<std::int32_t>::max() / (n * n));
            const std::int64_t last = std::min<std::int64_t>(
                std::upper_bound(sizes, sizes + count, n) - sizes, first + most);
            const std::int64_t batch = last - first;
            const Buffer<double> scratch(call, vectors == nullptr ? batch * n * n : 0);
            double* const stack = vectors == nullptr ? scratch.data() : vectors + vector_at[first];
            pack_kernel<T><<<static_cast<unsigned>(batch), 256, 0, call.stream()>>>(
                device_matrices.data() + first, n, stack, device_flags.data() + first);
            LEAD_FAST_LAUNCHED(pack_kernel, call.stream());
            solve(call, solver, n, batch, vectors != nullptr, stack, values + value_at[first],
                  info.data() + first);
            convergence_kernel<<<static_cast<unsigned>((batch + 255) / 256), 256, 0,
                                 call.stream()>>>(info.data() + first, batch,
                                                  device_flags.data() + first);
            LEAD_FAST_LAUNCHED(convergence_kernel, call.stream());
            if (vectors != nullptr) {
                orthogonalise(call, n, batch, stack, device_flags.data() + first);
            }
            first = last;
        }
        call.synchronize();  // before another thread may borrow the solver for another stream
    }
    device_flags.download(flags, count);
    call.synchronize();
}

}  // namespace

std::int64_t own_limit(const DeviceFacts& facts) {
    std::int64_t n = kMostSide;
    while (own_bytes(n) + 1024 > facts.block_memory) --n;
    return n;
}

void eigh_batched(const Call& call, const void* const* matrices, DType dtype,
                  const std::int64_t* sizes, std::int64_t count, bool own, double* values,
                  double* vectors, int* flags) {
    if (count == 0) return;
    if (dtype == DType::float32) {
        run<float>(call, matrices, sizes, count, own, values, vectors, flags);
    } else {
        run<double>(call, matrices, sizes, count, own, values, vectors, flags);
    }
}

}  // namespace cuda
}  // namespace lead_fast
