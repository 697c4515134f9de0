#include "kernels/machine/machine_limits_bench.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sheaf::kernels {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Where results go that nobody reads, so that the loops are not optimised away.
std::atomic<uint64_t> sink{0};

constexpr size_t kChunk = size_t{1} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) uint64_t FirstWord(__m512i v) {
  uint64_t words[8];
  _mm512_storeu_si512(words, v);
  return words[0];
}

__attribute__((target("avx512f"))) uint64_t SumWide(const uint8_t* p, size_t bytes) {
  __m512i sums[4] = {};
  for (size_t i = 0; i < bytes; i += 256) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm512_add_epi64(sums[j], _mm512_loadu_si512(p + i + 64 * j));
    }
  }
  return FirstWord(
      _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3])));
}

__attribute__((target("avx512f,avx512vnni"))) uint64_t DotLoop(int64_t rounds) {
  __m512i sums[20];
#pragma GCC unroll 20
  for (int j = 0; j < 20; ++j) sums[j] = _mm512_set1_epi32(j);
  const __m512i w = _mm512_set1_epi8(3);
  const __m512i x = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 20
    for (int j = 0; j < 20; ++j) {
      sums[j] = _mm512_dpbusd_epi32(sums[j], w, x);
      // Otherwise the compiler sees through the loop.
      asm volatile("" : "+v"(sums[j]));
    }
  }
#pragma GCC unroll 20
  for (int j = 1; j < 20; ++j) sums[0] = _mm512_add_epi32(sums[0], sums[j]);
  return FirstWord(sums[0]);
}

__attribute__((target("avx512f"))) uint64_t FmaLoop(int64_t rounds) {
  __m512 sums[20];
#pragma GCC unroll 20
  for (int j = 0; j < 20; ++j) sums[j] = _mm512_set1_ps(static_cast<float>(j));
  const __m512 w = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 20
    for (int j = 0; j < 20; ++j) {
      sums[j] = _mm512_fmadd_ps(sums[j], w, w);
      asm volatile("" : "+v"(sums[j]));
    }
  }
#pragma GCC unroll 20
  for (int j = 1; j < 20; ++j) sums[0] = _mm512_add_ps(sums[0], sums[j]);
  return FirstWord(_mm512_castps_si512(sums[0]));
}

// What AVX2 has for the product: 16-bit pairs, multiplied and added, then added up.
__attribute__((target("avx2"))) uint64_t PairLoop(int64_t rounds) {
  __m256i sums[12];
#pragma GCC unroll 12
  for (int j = 0; j < 12; ++j) sums[j] = _mm256_set1_epi32(j);
  const __m256i w = _mm256_set1_epi16(3);
  const __m256i x = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      // From intrinsics the compiler multiplies once for all, or keeps sums in memory.
      __m256i product;
      asm volatile(
          "vpmaddwd %[x], %[w], %[product]\n\t"
          "vpaddd %[product], %[sum], %[sum]"
          : [sum] "+x"(sums[j]), [product] "=&x"(product)
          : [x] "x"(x), [w] "x"(w));
    }
  }
#pragma GCC unroll 12
  for (int j = 1; j < 12; ++j) sums[0] = _mm256_add_epi32(sums[0], sums[j]);
  return static_cast<uint64_t>(_mm256_extract_epi64(sums[0], 0));
}

__attribute__((target("avx2,fma"))) uint64_t FmaLoopNarrow(int64_t rounds) {
  __m256 sums[12];
#pragma GCC unroll 12
  for (int j = 0; j < 12; ++j) sums[j] = _mm256_set1_ps(static_cast<float>(j));
  const __m256 w = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      sums[j] = _mm256_fmadd_ps(sums[j], w, w);
      asm volatile("" : "+x"(sums[j]));
    }
  }
#pragma GCC unroll 12
  for (int j = 1; j < 12; ++j) sums[0] = _mm256_add_ps(sums[0], sums[j]);
  return static_cast<uint64_t>(_mm256_extract_epi64(_mm256_castps_si256(sums[0]), 0));
}

// Reads a third more a second on a Zen 3 than what the compiler makes of SumNarrow.
__attribute__((target("avx2"))) uint64_t SumPairs(const uint8_t* p, size_t bytes) {
  __m256i sums[4] = {};
  for (size_t i = 0; i < bytes; i += 128) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm256_add_epi64(
          sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
    }
  }
  const __m256i sum =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0) + _mm256_extract_epi64(sum, 1));
}
#endif

uint64_t SumNarrow(const uint8_t* p, size_t bytes) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i < bytes; i += 64) {
    uint64_t words[8];
    std::memcpy(words, p + i, 64);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

uint64_t Sum(const uint8_t* p, size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return SumWide(p, bytes);
  if (__builtin_cpu_supports("avx2")) return SumPairs(p, bytes);
#endif
  return SumNarrow(p, bytes);
}

#if defined(__x86_64__)
// Best of five, operations per second.
double Peak(ThreadPool& pool, uint64_t (*loop)(int64_t), double operations_per_round) {
  constexpr int64_t kRounds = 1 << 18;
  double best = 0;
  for (int trial = 0; trial < 5; ++trial) {
    const double start = Now();
    pool.ParallelFor(8 * pool.num_threads(), [&](int64_t, int) { sink += loop(kRounds); });
    const double seconds = Now() - start;
    best = std::max(best, 8.0 * pool.num_threads() * kRounds * operations_per_round / seconds);
  }
  return best;
}
#endif

}  // namespace

BenchMemory::BenchMemory(size_t bytes) : bytes_((bytes + kChunk - 1) / kChunk * kChunk) {
  data_ = static_cast<uint8_t*>(
      std::aligned_alloc(kHugePage, (bytes_ + kHugePage - 1) / kHugePage * kHugePage));
  madvise(data_, bytes_, MADV_HUGEPAGE);
  uint64_t state = 88172645463325252u;
  for (size_t i = 0; i < bytes_; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const uint64_t words = (state & 0x80ff80ff80ff80ffu) | 0x3c003c003c003c00u;
    std::memcpy(data_ + i, &words, 8);
  }
}

BenchMemory::~BenchMemory() { std::free(data_); }

double ReadBandwidth(ThreadPool& pool, const BenchMemory& memory) {
  const double start = Now();
  pool.ParallelFor(static_cast<int64_t>(memory.size() / kChunk), [&](int64_t chunk, int) {
    sink += Sum(memory.data() + chunk * kChunk, kChunk);
  });
  return memory.size() / (Now() - start) * 1e-9;
}

double TwoPlanePeak(ThreadPool& pool) {
#if defined(__x86_64__)
  // 64 byte products an instruction, two for one multiply-add.
  if (__builtin_cpu_supports("avx512vnni")) return Peak(pool, DotLoop, 20 * 64 / 2) * 1e-9;
  if (__builtin_cpu_supports("avx2")) return Peak(pool, PairLoop, 12 * 16) * 1e-9;
#endif
  (void)pool;
  return 0;
}

double FloatPeak(ThreadPool& pool) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return Peak(pool, FmaLoop, 20 * 16) * 1e-9;
  if (__builtin_cpu_supports("fma")) return Peak(pool, FmaLoopNarrow, 12 * 8) * 1e-9;
#endif
  (void)pool;
  return 0;
}

double MedianSeconds(const std::function<void(int)>& run, double budget_s) {
  std::vector<double> seconds;
  const double start = Now();
  for (int repetition = 0; repetition < 3 || Now() - start < budget_s; ++repetition) {
    const double before = Now();
    run(repetition);
    seconds.push_back(Now() - before);
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace sheaf::kernels
