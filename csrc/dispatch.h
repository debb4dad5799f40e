// Which instruction set the kernels use: chosen at run time from what the processor and the operating system offer.
//
// A kernel x is declared in x.h and implemented in up to four files, whose names CMakeLists.txt turns into compiler
// flags: x.cpp (portable, and the choice), x_avx2.cpp, x_avx512.cpp, x_armv8.cpp. The choice in x.cpp reads
//
//     void x(...) {
//     #if AERO_X86
//       if (level() >= Level::avx512) return x_avx512(...);
//       if (level() >= Level::avx2) return x_avx2(...);
//     #endif
//       x_portable(...);
//     }
//
// and a kernel without a variant for some level simply has no such line: the next lower one serves.
// Every level gives the same bytes.
//
// Rule for the files with special flags: use no template and no inline function of external linkage, the standard
// library's included, and put every helper into an anonymous namespace. What such a file shares with others could be
// the copy that the linker keeps for everybody, and would crash older processors. The build checks it.
#pragma once

#if defined(__x86_64__)
#define AERO_X86 1
#else
#define AERO_X86 0
#endif

#if defined(__aarch64__)
#define AERO_ARM64 1
#else
#define AERO_ARM64 0
#endif

namespace aero {

// Ordered within one architecture: x86-64 has portable < avx2 < avx512, arm64 has portable < armv8.
enum class Level : int {
  portable = 0,
  armv8 = 1,   // AES instructions, PMULL
  avx2 = 2,    // AVX2, FMA, BMI2, AES-NI, PCLMULQDQ
  avx512 = 3,  // AVX-512 F, DQ, BW, VL, IFMA, VBMI, VBMI2, and VAES, VPCLMULQDQ, GFNI
};

// True where this processor and operating system can run that level.
bool available(Level level);

// The level in use: the best available one until `set_level` says otherwise.
Level level();

// Uses a level from now on, in every thread. The caller has checked that it is available.
void set_level(Level level);

}  // namespace aero
