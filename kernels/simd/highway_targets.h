#pragma once
// Which Highway targets a kernel file is compiled for. Include it before any Highway header.
//
// Only targets with fused multiply-add can give the same bits, so the baseline on x86-64 is AVX2
// (the code is never entered on a lesser machine: kernels/simd/reference_switch.h) and SSE is not
// generated at all. AVX3_DL is the level that has VNNI. SVE is left out: its vectors have no
// constant number of lanes.
//
// Trap: Highway 1.0.3 compiles AVX3_DL with "avxvnni" but without "avx512vnni". Code that uses
// _mm512_dpbusd_epi32 has to add the latter to its own target attributes.

#ifdef HIGHWAY_HWY_DETECT_TARGETS_H_
#error "kernels/simd/highway_targets.h must come before every Highway header"
#endif

#define HWY_WANT_AVX3_DL
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_AVX2
#endif
#if defined(__aarch64__)
// NEON is part of every aarch64 machine: without this, Highway puts its code under
// target("+crypto"), which the compiler's own constructors of structs of vectors lack.
#define TOOLCHAIN_MISS_SYS_AUXV_H
#endif
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
