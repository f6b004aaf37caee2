// Gram products of many classes and layers at once. A class of 64 samples gives one tile of 64 x
// 64, too few to fill a device, so every product is cut along its width as well: gram_kernel writes
// one partial tile per (tile, chunk), combine_kernel adds the chunks in float64 and in order,
// multiplies the layers' pairs and adds them up.

#include <algorithm>

#include "gram.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kTile = 64;
constexpr int kStep = 16;  // of the width, at a time in shared memory
constexpr int kThreads = 256;
constexpr int kCells = kTile * kTile;
constexpr int kShortest = 256, kLongest = 1024;  // chunks; float32 sums are no longer than that
constexpr std::int64_t kPartialBytes = std::int64_t{256} << 20;

// A tile of rows u0 .. and columns v0 <= u0 of the kernel of m samples that start at `row`.
struct Tile {
    std::int64_t row, phi;
    int m, u0, v0;
};

// Columns first .. last of one operand.
struct Chunk {
    const float* data;
    std::int64_t width, first, last;
};

// The four numbers of row r (if below m) at columns k .. k + 3 below `last`, else 0.
__device__ __forceinline__ float4 fetch(const Chunk& c, std::int64_t row, bool inside,
                                        std::int64_t k, bool vector) {
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (!inside || k >= c.last) return x;
    const float* const from = c.data + row * c.width + k;
    if (vector) return *reinterpret_cast<const float4*>(from);
    x.x = from[0];
    if (k + 1 < c.last) x.y = from[1];
    if (k + 2 < c.last) x.z = from[2];
    if (k + 3 < c.last) x.w = from[3];
    return x;
}

// partial[tile, chunk] (64, 64) = A[u, chunk] A[v, chunk]^T, float32. Block (chunk, tile); thread
// (i, j) of 16 x 16 holds rows u0 + 4 i .. and columns v0 + 4 j ... `vector`: width is a multiple
// of four, then so are all chunks and addresses are aligned.
__global__ void __launch_bounds__(kThreads)
    gram_kernel(const Tile* __restrict__ tiles, const Chunk* __restrict__ chunks,
                float* __restrict__ partial) {
    // Columns beyond 64 keep the four stores of a fetch in different banks.
    __shared__ __align__(16) float left[kStep][kTile + 4], right[kStep][kTile + 4];
    const Tile tile = tiles[blockIdx.y];
    const Chunk chunk = chunks[blockIdx.x];
    const bool vector = chunk.width % 4 == 0;
    const bool same = tile.u0 == tile.v0;
    const int i = threadIdx.x / 16, j = threadIdx.x % 16;
    // What this thread brings: row `line` of the tile, columns `at` .. of each step.
    const int line = threadIdx.x / 4, at = threadIdx.x % 4 * 4;
    const bool in_u = tile.u0 + line < tile.m, in_v = tile.v0 + line < tile.m;
    const std::int64_t row_u = tile.row + tile.u0 + line, row_v = tile.row + tile.v0 + line;
    const float (*other)[kTile + 4] = same ? left : right;

    float sum[4][4] = {};
    float4 u = fetch(chunk, row_u, in_u, chunk.first + at, vector);
    float4 v = same ? u : fetch(chunk, row_v, in_v, chunk.first + at, vector);
    for (std::int64_t k = chunk.first; k < chunk.last; k += kStep) {
        left[at + 0][line] = u.x;
        left[at + 1][line] = u.y;
        left[at + 2][line] = u.z;
        left[at + 3][line] = u.w;
        if (!same) {
            right[at + 0][line] = v.x;
            right[at + 1][line] = v.y;
            right[at + 2][line] = v.z;
            right[at + 3][line] = v.w;
        }
        __syncthreads();
        u = fetch(chunk, row_u, in_u, k + kStep + at, vector);
        if (!same) v = fetch(chunk, row_v, in_v, k + kStep + at, vector);
#pragma unroll
        for (int step = 0; step < kStep; ++step) {
            const float4 a = *reinterpret_cast<const float4*>(&left[step][4 * i]);
            const float4 b = *reinterpret_cast<const float4*>(&other[step][4 * j]);
            const float x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int p = 0; p < 4; ++p) {
#pragma unroll
                for (int q = 0; q < 4; ++q) sum[p][q] += x[p] * y[q];
            }
        }
        __syncthreads();
    }
    float* const out =
        partial + (static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kCells;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
        *reinterpret_cast<float4*>(out + (4 * i + p) * kTile + 4 * j) =
            make_float4(sum[p][0], sum[p][1], sum[p][2], sum[p][3]);
    }
}

// phi[u, v] = sum_l (a_l . a_l + 1) (s_l . s_l), each dot product the sum of its chunks; float64.
// begin (operands + 1): the chunks of each operand. Block (part, tile), thread: one cell.
__global__ void combine_kernel(const Tile* __restrict__ tiles, const int* __restrict__ begin,
                               int operands, int chunks, double outputs,
                               const float* __restrict__ partial, double* __restrict__ phi,
                               int* overflow) {
    const Tile tile = tiles[blockIdx.y];
    const int cell = blockIdx.x * kThreads + threadIdx.x;
    const int u = tile.u0 + cell / kTile, v = tile.v0 + cell % kTile;
    if (u >= tile.m || v >= tile.m) return;
    const float* const from = partial + static_cast<std::int64_t>(blockIdx.y) * chunks * kCells;
    const auto dot = [&](int operand) {
        double sum = 0.0;
        for (int c = begin[operand]; c < begin[operand + 1]; ++c) {
            sum += from[static_cast<std::int64_t>(c) * kCells + cell];
        }
        return sum;
    };
    double total = 0.0;
    for (int o = 0; o < operands; o += 2) {
        const double activity = dot(o) + 1.0;
        total += activity * (o + 1 < operands ? dot(o + 1) : outputs);
    }
    if (!isfinite(total)) atomicOr(overflow, 1);
    double* const out = phi + tile.phi;
    const std::int64_t m = tile.m;
    out[u * m + v] = total;
    if (tile.u0 != tile.v0) out[v * m + u] = total;
}

}  // namespace

void gram(const Call& call, const std::vector<GramOperand>& operands, double outputs,
          const std::int64_t* class_begin, int classes, double* phi, int* overflow) {
    std::vector<Tile> tiles;
    std::int64_t offset = 0;
    for (int c = 0; c < classes; ++c) {
        const std::int64_t m = class_begin[c + 1] - class_begin[c];
        for (std::int64_t u = 0; u < m; u += kTile) {
            for (std::int64_t v = 0; v <= u; v += kTile) {
                tiles.push_back({class_begin[c] - class_begin[0], offset, static_cast<int>(m),
                                 static_cast<int>(u), static_cast<int>(v)});
            }
        }
        offset += m * m;
    }
    if (tiles.empty()) return;

    // Enough blocks for every processor to have some, not more.
    std::int64_t total = 0;
    for (const GramOperand& o : operands) total += o.width;
    const std::int64_t wanted = 4 * call.facts().processors;
    const std::int64_t even = total * static_cast<std::int64_t>(tiles.size()) / wanted;
    const std::int64_t length =
        std::clamp<std::int64_t>((even + kStep - 1) / kStep * kStep, kShortest, kLongest);
    std::vector<Chunk> chunks;
    std::vector<int> begin = {0};
    for (const GramOperand& o : operands) {
        for (std::int64_t k = 0; k < o.width; k += length) {
            chunks.push_back({o.data, o.width, k, std::min(o.width, k + length)});
        }
        begin.push_back(static_cast<int>(chunks.size()));
    }

    const Buffer<Tile> device_tiles(call, static_cast<std::int64_t>(tiles.size()));
    const Buffer<Chunk> device_chunks(call, static_cast<std::int64_t>(chunks.size()));
    const Buffer<int> device_begin(call, static_cast<std::int64_t>(begin.size()));
    device_tiles.upload(tiles.data(), static_cast<std::int64_t>(tiles.size()));
    device_chunks.upload(chunks.data(), static_cast<std::int64_t>(chunks.size()));
    device_begin.upload(begin.data(), static_cast<std::int64_t>(begin.size()));

    // So many tiles at a time that their partial sums fit; a grid has at most 65535 of them.
    const std::int64_t per_tile = static_cast<std::int64_t>(chunks.size()) * kCells;
    const std::int64_t slab =
        std::clamp<std::int64_t>(std::min<std::int64_t>(kPartialBytes / (4 * per_tile), 65535), 1,
                                 static_cast<std::int64_t>(tiles.size()));
    const Buffer<float> partial(call, slab * per_tile);
    const cudaStream_t stream = call.stream();
    for (std::int64_t first = 0; first < static_cast<std::int64_t>(tiles.size()); first += slab) {
        const auto count = static_cast<unsigned>(
            std::min<std::int64_t>(slab, static_cast<std::int64_t>(tiles.size()) - first));
        gram_kernel<<<dim3(static_cast<unsigned>(chunks.size()), count), kThreads, 0, stream>>>(
            device_tiles.data() + first, device_chunks.data(), partial.data());
        LEAD_FAST_LAUNCHED(gram_kernel, stream);
        combine_kernel<<<dim3(kCells / kThreads, count), kThreads, 0, stream>>>(
            device_tiles.data() + first, device_begin.data(), static_cast<int>(operands.size()),
            static_cast<int>(chunks.size()), outputs, partial.data(), phi, overflow);
        LEAD_FAST_LAUNCHED(combine_kernel, stream);
    }
}

}  // namespace cuda
}  // namespace lead_fast
